#include "launch/suspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

bool pio_suspects_are_held_up(const pio_suspect *suspects, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (suspects[i].look.state == 'T')
			return true;
	return false;
}

static bool is_stopped(const pio_suspect *suspect)
{
	return suspect->look.state == 'T' || suspect->look.state == 't';
}

static int by_doing(const void *a, const void *b)
{
	const pio_suspect *x = a, *y = b;
	return x->look.state != y->look.state ? x->look.state - y->look.state
	                                      : strcmp(x->look.wait, y->look.wait);
}

/* Most ranks wait for one: who does something else than most is that one. */
static void find_odd(pio_suspect *suspects, size_t count)
{
	qsort(suspects, count, sizeof *suspects, by_doing);
	for (size_t i = 0, end; i < count; i = end) {
		for (end = i + 1; end < count && by_doing(&suspects[i], &suspects[end]) == 0; end++)
			continue;
		for (size_t k = i; k < end; k++)
			suspects[k].is_odd = count > 2 && 2 * (end - i) < count;
	}
}

static void find_behind(pio_suspect *suspects, size_t count)
{
	int64_t newest = INT64_MIN;
	for (size_t i = 0; i < count; i++)
		if (suspects[i].step > newest)
			newest = suspects[i].step;
	for (size_t i = 0; i < count; i++)
		suspects[i].is_behind = suspects[i].step != INT64_MIN && suspects[i].step < newest;
}

static int by_standing(const void *a, const void *b)
{
	const pio_suspect *x = a, *y = b;
	bool x_stopped = is_stopped(x), x_logs = x->step != INT64_MIN;
	bool y_stopped = is_stopped(y), y_logs = y->step != INT64_MIN;
	if (x_stopped != y_stopped)
		return y_stopped - x_stopped;
	if (x->is_behind != y->is_behind)
		return y->is_behind - x->is_behind;
	if (x->is_behind && x->step != y->step)
		return x->step < y->step ? -1 : 1;
	if (x->is_odd != y->is_odd)
		return y->is_odd - x->is_odd;
	if (x_logs != y_logs)
		return y_logs - x_logs;
	if (x->alive_ns != y->alive_ns)
		return x->alive_ns < y->alive_ns ? -1 : 1;
	return x->rank - y->rank;
}

void pio_suspects_line_up(pio_suspect *suspects, size_t count)
{
	if (count == 0)
		return;
	find_odd(suspects, count);
	find_behind(suspects, count);
	qsort(suspects, count, sizeof *suspects, by_standing);
}

json_t *pio_suspect_to_json(const pio_suspect *suspect)
{
	char state[2] = { suspect->look.state, 0 };
	bool logs = suspect->step != INT64_MIN;
	return json_pack("{s:i, s:s, s:s, s:o, s:o}", "rank", suspect->rank, "state", state, "wait",
	                 suspect->look.wait, "step", logs ? json_integer(suspect->step) : json_null(),
	                 "alive_ns", logs ? json_integer(suspect->alive_ns) : json_null());
}

pio_suspect pio_suspect_of_json(const json_t *json, int index)
{
	pio_suspect suspect = { .rank = (int)pio_json_int_or(json, "rank", -1), .index = index,
	                        .step = pio_json_int_or(json, "step", INT64_MIN),
	                        .alive_ns = pio_json_int_or(json, "alive_ns", INT64_MIN) };
	suspect.look.state = pio_json_string_or(json, "state", "?")[0];
	snprintf(suspect.look.wait, sizeof suspect.look.wait, "%s", pio_json_string_or(json, "wait", ""));
	return suspect;
}
