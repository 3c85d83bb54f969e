/* Who failed first, over all nodes, and the record of the attempt. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "launch/blame.h"
#include "launch/head_parts.h"

#define DOUBT_NS INT64_C(20000000)   /* how late an agent hears of a death, and clocks are off */

/* One node's word for what went wrong there. */
typedef struct candidate {
	int place;             /* -1: none */
	bool is_victim, by_signal;
	int64_t clock_ns;      /* monotonic, the head's clock */
} candidate;

bool pio_head_is_failure(const char *result)
{
	static const char *const words[] = { "failed", "signal", "lost", "hang", "oom", "node_fail" };
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(result, words[i]) == 0)
			return true;
	return false;
}

static candidate candidate_of(const pio_head *head, int index)
{
	const pio_place *place = &head->places[index];
	const json_t *first = json_object_get(place->record, "first");
	candidate none = { .place = -1 };
	if (place->state == PIO_PLACE_GONE)
		return (candidate){ index, false, false, place->lost_ns };
	if (!place->record || !pio_head_is_failure(pio_json_string_or(place->record, "result", "lost")))
		return none;
	/* Without a rank that failed, the agent itself did: when it fell silent, or when it says. */
	int64_t otherwise_ns = place->lost_ns ? place->lost_ns
	                                      : pio_json_int_or(place->record, "clock_ns", INT64_MAX);
	return (candidate){ index, json_is_true(json_object_get(first, "victim")),
	                    json_is_integer(json_object_get(first, "signal")),
	                    pio_json_int_or(first, "clock_ns", otherwise_ns) };
}

/* Culprits before victims, earlier before later. */
static bool is_earlier(const candidate *a, const candidate *b)
{
	return a->is_victim != b->is_victim ? b->is_victim : a->clock_ns < b->clock_ns;
}

/* As in an agent: of deaths so close together that their order is doubtful, a
 * signal rather is the cause than an exit status. */
static candidate find_first(const pio_head *head)
{
	candidate first = { .place = -1 }, signalled = { .place = -1 };
	for (int i = 0; i < head->place_count; i++) {
		candidate c = candidate_of(head, i);
		if (c.place < 0)
			continue;
		if (first.place < 0 || is_earlier(&c, &first))
			first = c;
		if (c.by_signal && (signalled.place < 0 || is_earlier(&c, &signalled)))
			signalled = c;
	}
	if (signalled.place >= 0 && signalled.is_victim == first.is_victim &&
	    signalled.clock_ns - first.clock_ns < DOUBT_NS)
		return signalled;
	return first;
}

/* All ranks but those that had ended well before, and when the last one ended;
 * `but`: a place whose ranks went down with their agent, and waited for nobody.
 * -1: none. */
static void put_waited(pio_str *text, const pio_head *head, int64_t first_ns, int64_t first_rank, int but)
{
	int waited = 0;
	int64_t last_ns = first_ns;
	for (int i = 0; i < head->place_count; i++) {
		size_t k;
		json_t *rank;
		json_array_foreach(i == but ? NULL : json_object_get(head->places[i].record, "ranks"), k, rank) {
			int64_t ended_ns = pio_json_int_or(rank, "ended_clock_ns", INT64_MIN);
			waited += pio_json_int_or(rank, "rank", -1) != first_rank &&
			          !json_is_null(json_object_get(rank, "pid")) &&
			          (pio_json_int_or(rank, "exit_code", -1) != 0 || ended_ns > first_ns);
			if (ended_ns > last_ns)
				last_ns = ended_ns;
		}
	}
	pio_blame_waited(text, waited, last_ns - first_ns);
}

static const char *word_of(const pio_place *place)
{
	static const char *const words[] = {
		[PIO_PLACE_ABSENT] = "node_fail", [PIO_PLACE_JOINED] = "cancelled",
		[PIO_PLACE_WORKING] = "lost", [PIO_PLACE_SILENT] = "node_fail", [PIO_PLACE_GONE] = "node_fail",
		[PIO_PLACE_ENDED] = "lost",
	};
	return place->record ? pio_json_string_or(place->record, "result", "lost") : words[place->state];
}

static json_t *first_record(const pio_head *head, const candidate *first)
{
	const pio_place *place = &head->places[first->place];
	const json_t *of_agent = json_object_get(place->record, "first");
	pio_str text = PIO_STR_INIT;
	json_t *record = json_is_object(of_agent) ? json_copy((json_t *)of_agent) : json_object();
	const char *what = pio_json_string_or(of_agent, "what", NULL);
	if (what)
		pio_str_printf(&text, "%s %s", place->host, what);
	else if (place->record)
		pio_str_printf(&text, "%s: %s", place->host, pio_json_string_or(place->record, "message", "failed"));
	else
		pio_str_printf(&text, "%s is gone: its agent fell silent", place->host);
	put_waited(&text, head, first->clock_ns, pio_json_int_or(of_agent, "rank", -1),
	           what ? -1 : first->place);
	if (!json_is_object(of_agent)) {
		json_object_set_new(record, "rank", json_null());
		json_object_set_new(record, "pid", json_null());
		json_object_set_new(record, "step", json_null());
		json_object_set_new(record, "clock_ns", json_integer(first->clock_ns));
	}
	json_object_set_new(record, "node", json_integer(place->node));
	json_object_set_new(record, "host", json_string(place->host));
	json_object_set_new(record, "message", json_stringn(text.data, text.len));
	pio_str_fini(&text);
	return record;
}

static json_t *nodes_record(const pio_head *head)
{
	json_t *list = json_array();
	bool has_begun = false;
	for (int i = 0; i < head->place_count; i++)
		has_begun |= head->places[i].node >= 0;
	for (int i = 0; i < head->place_count; i++) {
		const pio_place *place = &head->places[i];
		pio_str host = PIO_STR_INIT;
		if (has_begun && place->node < 0)
			continue; /* a spare that was not needed */
		pio_head_put_host(&host, head, i);
		json_t *message = json_object_get(place->record, "message");
		json_array_append_new(list, json_pack("{s:o, s:s, s:s, s:O?}", "node",
			place->node < 0 ? json_null() : json_integer(place->node), "host", host.data, "result",
			word_of(place), "message", message));
		pio_str_fini(&host);
	}
	return list;
}

/* Told to end, but all had done what they were to do before that came to pass. */
static bool is_moot(const pio_head *head)
{
	for (int i = 0; i < head->place_count; i++)
		if (head->places[i].node >= 0 && strcmp(word_of(&head->places[i]), "ok") != 0)
			return false;
	return head->stage == PIO_HEAD_ENDING && head->place_of && head->places[head->place_of[0]].record;
}

static const char *result_of(const pio_head *head, const candidate *first)
{
	if (head->verdict)
		return is_moot(head) ? "ok" : head->verdict;
	return first->place < 0 ? "ok" : word_of(&head->places[first->place]);
}

json_t *pio_head_exit_record(pio_head *head)
{
	const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
	candidate found = find_first(head);
	json_t *first = head->verdict || found.place < 0 ? json_null() : first_record(head, &found);
	pio_str why = PIO_STR_INIT;
	pio_str_put_text(&why, head->why, strlen(head->why));
	json_t *message = json_is_object(first) ? json_incref(json_object_get(first, "message"))
	                  : head->verdict && !is_moot(head) ? json_stringn(why.data, why.len)
	                                        : json_null();
	pio_str_fini(&why);
	return json_pack("{s:i, s:s, s:i, s:s?, s:i, s:s, s:o, s:o, s:o, s:I, s:I, s:I}", "version", 1,
	                 "run", head->spec.run, "attempt", head->spec.attempt, "job", job,
	                 "restart", restart ? atoi(restart) : 0, "result", result_of(head, &found),
	                 "message", message, "first", first, "nodes", nodes_record(head),
	                 "refused", (json_int_t)head->refused,
	                 "started_ns", (json_int_t)head->started_ns, "ended_ns", (json_int_t)head->ended_ns);
}
