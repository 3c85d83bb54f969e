/* Does the attempt still make progress, and who is slow in it?
 *
 * Each agent says when its ranks make their first step, when they fall silent for
 * too long (agent_watch.c), and when they move again. One node waits for another, so
 * that one alone decides nothing:
 *
 *   all nodes that make steps are silent --> every node is asked what its ranks do,
 *       as the one that all wait for may be one that logs nothing
 *   ... and one that logs no steps works --> asked again every 5 s, until the time
 *       that a busy step may take has passed
 *   ... all have answered, or 30 s have passed --> hung; the first to stand (suspect.h)
 *       is to blame, or the node that did not answer
 *
 * A step's usual time is the median over the ranks of all nodes, told to all agents
 * when reports have come, at most every 5 s. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "launch/head_parts.h"
#include "launch/pace.h"
#include "launch/suspect.h"

#define SECOND_NS INT64_C(1000000000)
#define ANSWER_NS (30 * SECOND_NS)
#define AGAIN_NS (5 * SECOND_NS)
#define PACES_NS (5 * SECOND_NS)

static bool is_at_work(const pio_place *place)
{
	return place->state == PIO_PLACE_WORKING && place->guest;
}

void pio_head_watch_forget(pio_place *place)
{
	json_decref(place->silence);
	json_decref(place->look);
	json_decref(place->pace);
	place->silence = place->look = place->pace = NULL;
}

/* ---- hangs -------------------------------------------------------------------------------------- */

/* All that make steps are silent, and there is one. */
static bool is_standing(const pio_head *head)
{
	bool is_any = false;
	for (int i = 0; i < head->place_count; i++) {
		const pio_place *place = &head->places[i];
		if (!is_at_work(place) || !place->has_steps)
			continue;
		if (!place->silence)
			return false;
		is_any = true;
	}
	return is_any;
}

/* The most of a member over the reports of silence. */
static int64_t most(const pio_head *head, const char *name)
{
	int64_t found = INT64_MIN;
	for (int i = 0; i < head->place_count; i++) {
		int64_t value = pio_json_int_or(head->places[i].silence, name, INT64_MIN);
		if (is_at_work(&head->places[i]) && value > found)
			found = value;
	}
	return found;
}

static void forget_looks(pio_head *head)
{
	if (!head->asked_ns && !head->ask_ns)
		return;
	head->asked_ns = head->ask_ns = 0;
	for (int i = 0; i < head->place_count; i++) {
		json_decref(head->places[i].look);
		head->places[i].look = NULL;
	}
}

static void ask(pio_head *head, int64_t now_ns)
{
	forget_looks(head);
	head->asked_ns = now_ns;
	pio_head_order(head, "look");
}

/* A place that does not answer; -1: all have. */
static int find_mute(const pio_head *head)
{
	for (int i = 0; i < head->place_count; i++)
		if (is_at_work(&head->places[i]) && !head->places[i].look)
			return i;
	return -1;
}

/* A long step of a rank that logs none. */
static bool is_any_busy(const pio_head *head)
{
	for (int i = 0; i < head->place_count; i++) {
		const pio_place *place = &head->places[i];
		if (is_at_work(place) && !place->has_steps && json_is_true(json_object_get(place->look, "is_busy")))
			return true;
	}
	return false;
}

/* The caller frees *suspects. How many they are. */
static size_t list_suspects(pio_suspect **suspects, const pio_head *head)
{
	size_t count = 0, capacity = (size_t)head->spec.nodes * (size_t)head->spec.ranks_per_node, k;
	json_t *rank;
	*suspects = pio_calloc(capacity, sizeof **suspects);
	for (int i = 0; *suspects && i < head->place_count; i++)
		json_array_foreach(is_at_work(&head->places[i]) ? json_object_get(head->places[i].look, "ranks")
		                                                : NULL, k, rank)
			if (count < capacity)
				(*suspects)[count++] = pio_suspect_of_json(rank, i);
	return count;
}

/* Stacks are taken on all nodes before anybody is stopped. */
static void end_hung(pio_head *head, int place, int rank, int64_t now_ns)
{
	char word[64];
	snprintf(word, sizeof word, "hang %d %lld %lld", rank,
	         (long long)((now_ns - most(head, "since_ns")) / SECOND_NS),
	         (long long)(most(head, "limit_ns") / SECOND_NS));
	head->has_failed = true;
	head->victim_ns = 0;
	head->stage = PIO_HEAD_ENDING;
	for (int i = 0; i < head->place_count; i++)
		if (is_at_work(&head->places[i]))
			pio_head_order_one(head, i, i == place ? word : "stacks");
}

/* The answers are here, or have had their time. */
static void judge(pio_head *head, int64_t now_ns)
{
	pio_suspect *suspects = NULL;
	int mute = find_mute(head);
	size_t count = list_suspects(&suspects, head);
	bool is_busy = is_any_busy(head) && !pio_suspects_are_held_up(suspects, count) &&
	               now_ns - most(head, "since_ns") < most(head, "busy_ns");
	if (is_busy || (mute < 0 && count == 0)) { /* no suspects: all are ending by themselves */
		forget_looks(head);
		head->ask_ns = now_ns + AGAIN_NS;
	} else if (mute >= 0) {
		end_hung(head, mute, -1, now_ns);
	} else {
		pio_suspects_line_up(suspects, count);
		end_hung(head, suspects[0].index, suspects[0].rank, now_ns);
	}
	pio_free(suspects);
}

static void watch_standing(pio_head *head, int64_t now_ns)
{
	if (!is_standing(head))
		forget_looks(head);
	else if (!head->asked_ns && now_ns >= head->ask_ns)
		ask(head, now_ns);
	else if (head->asked_ns && (find_mute(head) < 0 || now_ns - head->asked_ns > ANSWER_NS))
		judge(head, now_ns);
}

/* ---- stragglers ----------------------------------------------------------------------------------- */

static void tell_median(pio_head *head)
{
	size_t count = 0, k;
	size_t capacity = (size_t)head->spec.nodes * (size_t)head->spec.ranks_per_node;
	json_t *step_ns;
	int64_t *steps_ns = pio_calloc(capacity, sizeof *steps_ns);
	for (int i = 0; steps_ns && i < head->place_count; i++)
		json_array_foreach(is_at_work(&head->places[i]) ? head->places[i].pace : NULL, k, step_ns)
			if (count < capacity)
				steps_ns[count++] = json_integer_value(step_ns);
	int64_t median_ns = steps_ns ? pio_pace_median_ns(steps_ns, &count) : 0;
	if (median_ns > 0) {
		char word[64];
		snprintf(word, sizeof word, "pace %lld %zu", (long long)median_ns, count);
		pio_head_order(head, word);
	}
	pio_free(steps_ns);
}

/* ---- what agents say, and time ---------------------------------------------------------------------- */

/* Keep a report in the place of the last one. */
static void put(json_t **report, json_t *value)
{
	json_decref(*report);
	*report = json_incref(value);
}

bool pio_head_watch_hear(pio_head *head, int index, json_t *event)
{
	pio_place *place = &head->places[index];
	const char *kind = pio_json_string_or(event, "event", "");
	const char *state = pio_json_string_or(event, "state", "");
	if (strcmp(kind, "pace") == 0) {
		put(&place->pace, json_object_get(event, "step_ns"));
		head->has_new_paces = true;
		return true;
	}
	if (strcmp(kind, "watch") != 0)
		return false;
	if (strcmp(state, "looked") == 0) {
		put(&place->look, event);
	} else {
		place->has_steps = true;
		put(&place->silence, strcmp(state, "silent") == 0 ? event : NULL);
	}
	return true;
}

void pio_head_watch_tick(pio_head *head, int64_t now_ns)
{
	if (head->has_new_paces && now_ns - head->paces_ns >= PACES_NS) {
		head->has_new_paces = false;
		head->paces_ns = now_ns;
		tell_median(head);
	}
	watch_standing(head, now_ns);
}
