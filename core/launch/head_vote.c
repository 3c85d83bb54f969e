/* At which step all ranks of all nodes end (client/vote.h).
 *
 *   "hold" to all --all have answered--> one beyond the highest that any rank has asked
 *      |    |                             about: "end" to all
 *      |    '--nobody asks--------------> "stop" to all: SIGTERM
 *      '--5 s, or a failure-------------> the same; a failure ends them as any does
 *
 * Nobody is told a step before all rings are held, and nobody is told two. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/agent.h"
#include "launch/head_parts.h"

#define ANSWER_NS INT64_C(5000000000)

static bool is_limit(const pio_head *head)
{
	return head->verdict && strcmp(head->verdict, "timeout") == 0;
}

void pio_head_vote(pio_head *head, const char *verdict, const char *order, const char *why)
{
	bool can = head->stage == PIO_HEAD_RUNNING && !head->has_failed;
	pio_head_conclude(head, verdict, can ? "hold" : order, why);
	if (can)
		head->vote_ns = pio_clock_mono_ns();
}

static void end_by_signal(pio_head *head)
{
	pio_head_order(head, is_limit(head) ? "timeout" : "stop");
	pio_head_set_patience(head, 0);
}

/* The longest step of any rank, as the agents have answered; 0: unknown. */
static int64_t longest_step_ns(const pio_head *head)
{
	int64_t longest_ns = 0;
	for (int i = 0; i < head->place_count; i++) {
		int64_t step_ns = pio_json_int_or(head->places[i].held, "step_ns", 0);
		longest_ns = step_ns > longest_ns ? step_ns : longest_ns;
	}
	return longest_ns;
}

/* The highest step that anybody has asked about; INT64_MIN: none has, or what a node asked
 * is not known any more, as it had ended before. */
static int64_t highest_asked(const pio_head *head)
{
	int64_t asked = INT64_MIN;
	for (int i = 0; i < head->place_count; i++) {
		const pio_place *place = &head->places[i];
		int64_t step = pio_json_int_or(place->held, "asked", INT64_MIN);
		if (place->node >= 0 && !place->held)
			return INT64_MIN;
		asked = step > asked ? step : asked;
	}
	return asked;
}

static void decide(pio_head *head)
{
	int64_t asked = highest_asked(head);
	char order[64], note[64];
	head->vote_ns = 0;
	if (asked == INT64_MIN || asked == INT64_MAX) {
		end_by_signal(head);
		return;
	}
	int64_t patience_s = pio_vote_patience_s(longest_step_ns(head), &head->spec, is_limit(head));
	snprintf(order, sizeof order, "end %lld %lld %s", (long long)asked + 1, (long long)patience_s,
	         is_limit(head) ? "timeout" : "stop");
	pio_head_order(head, order);
	pio_head_set_patience(head, patience_s);
	pio_head_say(head, json_pack("{s:s, s:I}", "event", "vote", "patience_s", (json_int_t)patience_s));
	snprintf(note, sizeof note, PIO_VOTE_NOTE, (long long)asked + 1);
	pio_head_note(head, "vote", note);
}

/* A node that is silent may be held up, or lost: its ranks are not waited for. */
static bool all_have_answered(const pio_head *head)
{
	for (int i = 0; i < head->place_count; i++)
		if (!head->places[i].held && (head->places[i].state == PIO_PLACE_WORKING ||
		                              head->places[i].state == PIO_PLACE_SILENT))
			return false;
	return true;
}

bool pio_head_vote_hear(pio_head *head, int index, json_t *event)
{
	pio_place *place = &head->places[index];
	if (strcmp(pio_json_string_or(event, "event", ""), "hold") != 0)
		return false;
	if (!place->held)
		place->held = json_incref(event);
	pio_head_vote_tick(head, pio_clock_mono_ns());
	return true;
}

void pio_head_vote_tick(pio_head *head, int64_t now_ns)
{
	if (!head->vote_ns)
		return;
	if (head->has_failed) {
		head->vote_ns = 0;
	} else if (now_ns - head->vote_ns > ANSWER_NS) { /* late ourselves: who holds may have given up */
		head->vote_ns = 0;
		end_by_signal(head);
	} else if (all_have_answered(head)) {
		decide(head);
	}
}
