/* attempt_fixture.h: the directory of an attempt, and reading what agents and
 * heads left in it. Of agent_fixture.h and head_fixture.h. */
#ifndef PIO_TEST_ATTEMPT_FIXTURE_H
#define PIO_TEST_ATTEMPT_FIXTURE_H

#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "client/drain.h"
#include "sys/journal.h"
#include "sys/proc.h"
#include "test.h"

/* Of one test: the store, the attempt in it, and what the environment of each of
 * its processes has. */
static char *root, *dir, *mark;
static char ulid[PIO_ULID_CHARS + 1];
/* This program, which is also what it tests. */
static char self[4096];

static inline void find_self(void)
{
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		abort();
}

static inline int set_up(void **state)
{
	(void)state;
	pio_ulid id;
	pio_ulid_new(&id);
	pio_ulid_format(&id, ulid);
	root = scratch_new();
	if (asprintf(&dir, "%s/attempt", root) < 0 || asprintf(&mark, "PIOCHE_DIR=%s", dir) < 0)
		abort();
	return pio_fs_mkdirs(dir, 0755, NULL);
}

static inline int tear_down(void **state)
{
	(void)state;
	scratch_remove(root);
	free(dir);
	free(mark);
	return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* ---- files of the attempt ----------------------------------------------------------------- */

/* NULL where there is none. */
static inline json_t *read_json(const char *name)
{
	return json_load_file(path_in(dir, name), 0, NULL);
}

/* Empty where there is none. */
static inline pio_str read_text(const char *name)
{
	pio_str text = PIO_STR_INIT;
	(void)pio_fs_read(&text, path_in(dir, name), NULL);
	return text;
}

static inline void wait_for_text(const char *name, const char *wanted, int times)
{
	for (int i = 0; i < 3000; i++) {
		pio_str text = read_text(name);
		int found = 0;
		for (const char *at = text.data; (at = strstr(at, wanted)); at++)
			found++;
		pio_str_fini(&text);
		if (found >= times)
			return;
		pio_clock_sleep_ms(10);
	}
	fail_msg("%s does not say \"%s\" %d times", name, wanted, times);
}

/* Nothing of the attempt lives any more. */
static inline void wait_gone(void)
{
	for (int i = 0; i < 3000 && pio_proc_signal_marked(mark, 0); i++)
		pio_clock_sleep_ms(10);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 0);
}

/* In order, what `take` is to see of a node's journal. */
static inline void each_record(int node, void (*take)(const pio_record *record, void *context), void *context)
{
	char name[32];
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	snprintf(name, sizeof name, "journal.%d", node);
	check_ok(pio_journal_reader_open(&reader, &header, path_in(dir, name), &err));
	assert_int_equal(header.attempt, 1);
	while (pio_journal_next(reader, &record, NULL) == 1)
		take(&record, context);
	pio_journal_reader_close(reader);
}

typedef struct journal_sum {
	int64_t points;
	bool has_exit;
} journal_sum;

static inline void add_record(const pio_record *record, void *context)
{
	journal_sum *sum = context;
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	assert_false(sum->has_exit); /* it is the last one */
	pio_cursor_u32(&cursor);
	if (record->type == PIO_RECORD_POINTS)
		sum->points += pio_cursor_u32(&cursor);
	sum->has_exit = record->type == PIO_RECORD_EXIT;
}

/* *has_exit, where wanted: its last record is EXIT. */
static inline int64_t points_in_journal(int node, bool *has_exit)
{
	journal_sum sum = { 0, false };
	each_record(node, add_record, &sum);
	if (has_exit)
		*has_exit = sum.has_exit;
	return sum.points;
}

/* Events in a journal; the last one's rank, kind and message. */
typedef struct heard_events {
	int count, rank;
	char kind[64], message[512];
} heard_events;

static inline void add_event(const pio_record *record, void *context)
{
	heard_events *events = context;
	size_t size;
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	if (record->type != PIO_RECORD_EVENT)
		return;
	events->count++;
	events->rank = (int)pio_cursor_u32(&cursor);
	pio_cursor_i64(&cursor);
	const char *text = pio_cursor_str(&cursor, &size);
	snprintf(events->kind, sizeof events->kind, "%.*s", (int)size, text);
	text = pio_cursor_str(&cursor, &size);
	snprintf(events->message, sizeof events->message, "%.*s", (int)size, text);
}

static inline heard_events events_in_journal(int node)
{
	heard_events events = { 0, -1, "", "" };
	each_record(node, add_event, &events);
	return events;
}

static inline void contains(const char *text, const char *part)
{
	if (!strstr(text ? text : "", part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

/* The one event of a node's journal: its rank 1 takes too long for a step. */
static inline heard_events straggler_in_journal(int node, const char *host)
{
	char taken[128];
	heard_events events = events_in_journal(node);
	assert_int_equal(events.count, 1);
	assert_int_equal(events.rank, 1);
	assert_string_equal(events.kind, "straggler");
	snprintf(taken, sizeof taken, "rank 1 (%s) takes 0.", host);
	contains(events.message, taken);
	return events;
}

/* ---- members of a record ------------------------------------------------------------------- */

static inline const char *text_of(const json_t *record, const char *name)
{
	const char *text = json_string_value(json_object_get(record, name));
	return text ? text : "(none)";
}

static inline int64_t int_of(const json_t *record, const char *name)
{
	const json_t *member = json_object_get(record, name);
	return json_is_integer(member) ? json_integer_value(member) : INT64_MIN;
}

#endif
