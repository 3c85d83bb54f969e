/* Does the attempt still make progress? Each agent says when its ranks make their
 * first step, when they fall silent for too long (agent_watch.c), and when they
 * move again. One node waits for another, so that one alone decides nothing: the
 * attempt hangs when all that make steps are silent. A node whose ranks log no
 * steps is asked nothing. */
#include <string.h>

#include "base/json.h"
#include "launch/head_parts.h"

/* Who came to a stand first: see is_before in agent_watch.c. */
static bool is_before(const json_t *a, const json_t *b)
{
	bool a_stopped = json_is_true(json_object_get(a, "is_stopped"));
	bool a_odd = json_is_true(json_object_get(a, "is_odd"));
	int64_t a_step = pio_json_int_or(a, "step", INT64_MAX), b_step = pio_json_int_or(b, "step", INT64_MAX);
	if (a_stopped != json_is_true(json_object_get(b, "is_stopped")))
		return a_stopped;
	if (a_step != b_step)
		return a_step < b_step;
	if (a_odd != json_is_true(json_object_get(b, "is_odd")))
		return a_odd;
	return pio_json_int_or(a, "clock_ns", INT64_MAX) < pio_json_int_or(b, "clock_ns", INT64_MAX);
}

/* The place to blame; -1: there is one that moves, or nobody makes steps. */
static int find_hang(const pio_head *head)
{
	int first = -1;
	for (int i = 0; i < head->place_count; i++) {
		const pio_place *place = &head->places[i];
		if (!place->has_steps || place->state != PIO_PLACE_WORKING)
			continue;
		if (!place->silence)
			return -1;
		if (first < 0 || is_before(place->silence, head->places[first].silence))
			first = i;
	}
	return first;
}

/* Stacks are taken on all nodes before anybody is stopped. */
static void end_hung(pio_head *head, int first)
{
	head->has_failed = true;
	head->victim_ns = 0;
	head->stage = PIO_HEAD_ENDING;
	for (int i = 0; i < head->place_count; i++)
		if (head->places[i].guest && head->places[i].state == PIO_PLACE_WORKING)
			pio_head_order_one(head, i, i == first ? "hang" : "stacks");
}

bool pio_head_watch_hear(pio_head *head, int index, json_t *event)
{
	pio_place *place = &head->places[index];
	const char *state = pio_json_string_or(event, "state", "");
	if (strcmp(pio_json_string_or(event, "event", ""), "watch") != 0)
		return false;
	place->has_steps = true;
	json_decref(place->silence);
	place->silence = strcmp(state, "silent") == 0 ? json_incref(event) : NULL;
	int first = head->stage == PIO_HEAD_RUNNING ? find_hang(head) : -1;
	if (first >= 0)
		end_hung(head, first);
	return true;
}
