#include "store/ingest.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/ingest_parts.h"
#include "store/run.h"
#include "store/sql.h"

#define POINTS_MAX (512 * 1024)        /* of one batch, as is what follows */
#define ROWS_MAX 50000
#define BYTES_MAX (32u << 20)
#define SERIES_MAX 65536
#define TIME_UNIT_NS 1000

/* ---- open and begin ---------------------------------------------------------------------- */

int pio_ingest_open(pio_ingest **out, pio_store *store, const pio_ingest_source *source, pio_err *err)
{
	pio_ingest *ingest = *out = pio_calloc(1, sizeof *ingest);
	if (!ingest)
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	ingest->store = store;
	ingest->dry = source->dry;
	ingest->format = pio_strdup(source->format);
	ingest->source = pio_strdup(source->source);
	ingest->experiment = pio_strdup(source->experiment);
	ingest->program = source->program ? pio_strdup(source->program) : NULL;
	for (int i = 0; i < 2; i++)
		ingest->console[i] = (pio_str)PIO_STR_INIT;
	if (ingest->format && ingest->source && ingest->experiment && (ingest->program || !source->program))
		return 0;
	pio_ingest_close(ingest);
	*out = NULL;
	return pio_fail(err, PIO_ENOMEM, "out of memory");
}

/* The row of the source, if there is one; else run_id and import_id are 0. */
static int load_import(pio_ingest *ingest, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(ingest->store, err, "SELECT id, run_id, cursor FROM import WHERE"
	                                  " format = ?1 AND source = ?2", "tt", ingest->format,
	                                  ingest->source);
	int rc = pio_sql_row(ingest->store, row, err);
	if (rc <= 0)
		return rc;
	ingest->import_id = sqlite3_column_int64(row, 0);
	ingest->run_id = sqlite3_column_int64(row, 1);
	ingest->is_known = true;
	rc = pio_json_parse(&ingest->cursor, (const char *)sqlite3_column_text(row, 2),
	                    (size_t)sqlite3_column_bytes(row, 2), "cursor of an import", err);
	pio_sql_reset(row);
	if (!rc && !json_is_object(ingest->cursor))
		rc = pio_fail(err, PIO_ECORRUPT, "the cursor of %s is no object", ingest->source);
	return rc;
}

static int make_run(pio_ingest *ingest, pio_err *err)
{
	char name[PIO_EXPERIMENT_BYTES];
	pio_store_experiment_name(name, ingest->experiment);
	pio_store_run_spec spec = { .program = ingest->program };
	int rc = pio_store_experiment(&spec.experiment_id, ingest->store, name, NULL, NULL, err);
	if (!rc)
		rc = pio_store_run_create(&ingest->run_id, ingest->store, &spec, err);
	if (!rc)
		rc = pio_sql_exec(ingest->store, err, "INSERT INTO import (format, source, run_id, cursor,"
		                  " imported_ns) VALUES (?1, ?2, ?3, '{}', ?4)", "ttii", ingest->format,
		                  ingest->source, ingest->run_id, pio_clock_wall_ns());
	ingest->import_id = rc ? 0 : sqlite3_last_insert_rowid(pio_store_db(ingest->store));
	return rc;
}

static void forget_batch(pio_ingest *ingest)
{
	json_decref(ingest->params);
	ingest->params = NULL;
	for (int i = 0; i < 2; i++)
		pio_str_clear(&ingest->console[i]);
	ingest->batch = (pio_ingest_counts){ 0 };
	ingest->batch_bytes = 0;
	ingest->batch_tags = 0;
	ingest->batch_skips.count = 0;
	ingest->summary_changed = false;
	ingest->first_ns = INT64_MAX;
	ingest->last_ns = ingest->last_step = INT64_MIN;
}

int pio_ingest_begin(pio_ingest *ingest, pio_err *err)
{
	int rc = ingest->dry ? 0 : pio_store_begin(ingest->store, err);
	if (rc)
		return rc;
	ingest->in_batch = true;
	ingest->attempt = 1;
	ingest->attempt_id = 0;
	forget_batch(ingest);
	if (!ingest->dry || !ingest->cursor) {
		json_decref(ingest->cursor);
		ingest->cursor = NULL;
		ingest->run_id = ingest->import_id = 0;
		ingest->is_known = false;
		rc = ingest->store ? load_import(ingest, err) : 0;
		if (!rc && !ingest->cursor && !(ingest->cursor = json_object()))
			rc = pio_fail(err, PIO_ENOMEM, "out of memory");
		if (!rc && !ingest->dry && !ingest->run_id)
			rc = make_run(ingest, err);
	}
	if (!rc && !(ingest->params = json_object()))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	return rc;
}

const json_t *pio_ingest_cursor(const pio_ingest *ingest)
{
	return ingest->cursor;
}

bool pio_ingest_is_known(const pio_ingest *ingest)
{
	return ingest->is_known;
}

bool pio_ingest_is_full(const pio_ingest *ingest)
{
	return ingest->batch.points >= POINTS_MAX ||
	       ingest->batch.texts + ingest->batch.media >= ROWS_MAX ||
	       ingest->batch_bytes + ingest->slots.held_bytes >= BYTES_MAX * 2 ||
	       ingest->console[0].len + ingest->console[1].len >= BYTES_MAX ||
	       ingest->slots.count >= SERIES_MAX;
}

/* ---- what was passed over ------------------------------------------------------------------ */

static void skips_add(pio_ingest_skips_list *list, const char *reason, int64_t count)
{
	size_t i = 0;
	while (i < list->count && strcmp(list->all[i].reason, reason) != 0)
		i++;
	if (i == PIO_INGEST_SKIPS_MAX) {
		i--; /* more kinds than anybody reads: the last one stands for the rest */
		snprintf(list->all[i].reason, sizeof list->all[i].reason, "other things");
	} else if (i == list->count) {
		list->count++;
		list->all[i].count = 0;
		snprintf(list->all[i].reason, sizeof list->all[i].reason, "%s", reason);
	}
	list->all[i].count += count;
}

void pio_ingest_skip_count(pio_ingest *ingest, int64_t count, const char *format, ...)
{
	char reason[sizeof ingest->skips.all[0].reason];
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof reason, format, args);
	va_end(args);
	skips_add(&ingest->batch_skips, reason, count);
}

const pio_ingest_skip *pio_ingest_skips(const pio_ingest *ingest, size_t *count)
{
	*count = ingest->skips.count;
	return ingest->skips.all;
}

/* ---- facts and points ------------------------------------------------------------------------ */

static bool is_name(pio_ingest *ingest, const char *what, const char *name, size_t bytes)
{
	bool good = bytes >= 1 && bytes <= PIO_SLOTS_KEY_BYTES_MAX && !memchr(name, 0, bytes);
	if (!good)
		pio_ingest_skip_count(ingest, 1, "%s whose name is empty, longer than %d bytes or holds a NUL",
		                      what, PIO_SLOTS_KEY_BYTES_MAX);
	return good;
}

void pio_ingest_seen(pio_ingest *ingest, int64_t time_ns)
{
	if (time_ns <= 0)
		return;
	ingest->first_ns = time_ns < ingest->first_ns ? time_ns : ingest->first_ns;
	ingest->last_ns = time_ns > ingest->last_ns ? time_ns : ingest->last_ns;
}

static pio_slots_owner owner_of(const pio_ingest *ingest)
{
	return (pio_slots_owner){ ingest->store, ingest->run_id, ingest->attempt };
}

int pio_ingest_attempt(pio_ingest *ingest, int number, pio_err *err)
{
	if (number == ingest->attempt)
		return 0;
	pio_slots_owner owner = owner_of(ingest);
	int rc = ingest->dry ? 0 : pio_ingest_attempt_end(ingest, err);
	if (!rc && !ingest->dry)
		rc = pio_slots_flush(&ingest->slots, &owner, err);
	ingest->attempt = number;
	ingest->attempt_id = 0;
	return rc;
}

static int add_point(pio_ingest *ingest, const char *key, size_t key_bytes, pio_chunk_point point,
                     pio_err *err)
{
	pio_slots_owner owner = owner_of(ingest);
	int rc = ingest->dry ? 0 : pio_slots_add(&ingest->slots, &owner, key, key_bytes, &point, err);
	if (rc == 1) {
		pio_ingest_skip_count(ingest, 1, "points whose name is empty, longer than %d bytes or no UTF-8",
		                      PIO_SLOTS_KEY_BYTES_MAX);
		return 0;
	}
	pio_ingest_seen(ingest, point.time_ns);
	if (point.step > ingest->last_step)
		ingest->last_step = point.step;
	ingest->batch.points++;
	return rc;
}

int pio_ingest_point(pio_ingest *ingest, const char *key, size_t key_bytes, int64_t step,
                     int64_t time_ns, double value, pio_err *err)
{
	pio_chunk_point point = { .step = step, .time_ns = time_ns - time_ns % TIME_UNIT_NS };
	memcpy(&point.bits, &value, 8);
	return add_point(ingest, key, key_bytes, point, err);
}

int pio_ingest_point_int(pio_ingest *ingest, const char *key, size_t key_bytes, int64_t step,
                         int64_t time_ns, int64_t value, pio_err *err)
{
	pio_chunk_point point = { .step = step, .time_ns = time_ns - time_ns % TIME_UNIT_NS,
	                          .bits = (uint64_t)value, .integer = 1 };
	return add_point(ingest, key, key_bytes, point, err);
}

static int hold_param(pio_ingest *ingest, const char *prefix, const char *name, json_t *value,
                      pio_err *err)
{
	pio_str full = PIO_STR_INIT;
	pio_str_puts(&full, prefix);
	pio_str_put_text(&full, name, strlen(name));
	int rc = pio_str_check(&full, err);
	if (!rc && is_name(ingest, "parameters", full.data, *name ? full.len : 0) &&
	    json_object_set(ingest->params, full.data, value) != 0)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a parameter");
	pio_str_fini(&full);
	return rc;
}

int pio_ingest_param(pio_ingest *ingest, const char *name, json_t *value, pio_err *err)
{
	return hold_param(ingest, "", name, value, err);
}

int pio_ingest_summary(pio_ingest *ingest, const char *name, json_t *value, pio_err *err)
{
	ingest->summary_changed = true;
	return hold_param(ingest, "summary/", name, value, err);
}

int pio_ingest_tag(pio_ingest *ingest, const char *name, const char *value, size_t value_bytes,
                   pio_err *err)
{
	pio_str key = PIO_STR_INIT, text = PIO_STR_INIT;
	pio_str_put_text(&key, name, strlen(name));
	pio_str_put_text(&text, value, value_bytes);
	int rc = pio_str_check(&key, err);
	if (!rc)
		rc = pio_str_check(&text, err);
	if (!rc && is_name(ingest, "tags", key.data, key.len)) {
		ingest->batch_tags++;
		if (!ingest->dry)
			rc = pio_store_tag_set(ingest->store, ingest->run_id, key.data, key.len, text.data, text.len,
			                       err);
	}
	pio_str_fini(&key);
	pio_str_fini(&text);
	return rc;
}

int pio_ingest_text(pio_ingest *ingest, const char *kind, const char *key, size_t key_bytes,
                    int64_t step, int64_t time_ns, const char *text, size_t text_bytes, pio_err *err)
{
	pio_ingest_seen(ingest, time_ns);
	ingest->batch.texts++;
	ingest->batch_bytes += text_bytes;
	if (ingest->dry)
		return 0;
	pio_str name = PIO_STR_INIT, message = PIO_STR_INIT;
	pio_str_put_text(&name, key ? key : "", key_bytes);
	pio_str_put_text(&message, text, text_bytes);
	int rc = pio_str_check(&name, err);
	if (!rc)
		rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_ingest_attempt_ensure(ingest, err);
	if (!rc)
		rc = pio_store_event_add(ingest->store, ingest->run_id, ingest->attempt_id, 0, step, time_ns,
		                         kind, key ? name.data : NULL, message.data, err);
	pio_str_fini(&name);
	pio_str_fini(&message);
	return rc;
}

int pio_ingest_media(pio_ingest *ingest, const char *kind, const char *key, size_t key_bytes,
                     int64_t step, int64_t time_ns, const char *name, const char *mime,
                     const void *bytes, size_t size_bytes, pio_err *err)
{
	if (!is_name(ingest, "media", key, key_bytes))
		return 0;
	pio_ingest_seen(ingest, time_ns);
	ingest->batch.media++;
	ingest->batch_bytes += size_bytes;
	if (ingest->dry)
		return 0;
	pio_str label = PIO_STR_INIT;
	pio_str_put_text(&label, key, key_bytes);
	pio_ingest_blob blob = { kind, label.data, name, mime, step, time_ns, bytes, size_bytes };
	int rc = pio_str_check(&label, err);
	if (!rc)
		rc = pio_ingest_attempt_ensure(ingest, err);
	if (!rc)
		rc = pio_ingest_blob_put(ingest, &blob, err);
	pio_str_fini(&label);
	return rc;
}

int pio_ingest_console(pio_ingest *ingest, bool is_stderr, const char *text, size_t text_bytes,
                       pio_err *err)
{
	for (size_t i = 0; i < text_bytes; i++)
		ingest->batch.lines += text[i] == '\n';
	pio_str_append(&ingest->console[is_stderr], text, text_bytes);
	return pio_str_check(&ingest->console[is_stderr], err);
}

/* ---- end ------------------------------------------------------------------------------------------ */

static void count_batch(pio_ingest *ingest)
{
	ingest->counts.points += ingest->batch.points;
	ingest->counts.texts += ingest->batch.texts;
	ingest->counts.media += ingest->batch.media;
	ingest->counts.lines += ingest->batch.lines;
	for (size_t i = 0; i < ingest->batch_skips.count; i++)
		skips_add(&ingest->skips, ingest->batch_skips.all[i].reason, ingest->batch_skips.all[i].count);
}

static bool is_idle(const pio_ingest *ingest, const json_t *cursor)
{
	const pio_ingest_counts *b = &ingest->batch;
	return ingest->is_known && !b->points && !b->texts && !b->media && !ingest->batch_tags &&
	       !ingest->console[0].len && !ingest->console[1].len && !ingest->batch_skips.count &&
	       json_object_size(ingest->params) == 0 && json_equal(ingest->cursor, cursor);
}

static int write_batch(pio_ingest *ingest, json_t *cursor, const pio_ingest_end *end, pio_err *err)
{
	pio_slots_owner owner = owner_of(ingest);
	int rc = pio_ingest_attempt_ensure(ingest, err);
	if (!rc)
		rc = pio_slots_flush(&ingest->slots, &owner, err);
	return rc ? rc : pio_ingest_rows_finish(ingest, cursor, end, err);
}

int pio_ingest_commit(pio_ingest *ingest, json_t *cursor, const pio_ingest_end *end, pio_err *err)
{
	json_t *next = json_copy(cursor);
	int rc = next ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
	const json_t *lengths = json_object_get(ingest->cursor, "console");
	if (!rc && lengths && json_object_set(next, "console", (json_t *)(uintptr_t)lengths) != 0)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	bool idle = !rc && is_idle(ingest, next);
	if (!rc && !ingest->dry && !idle)
		rc = write_batch(ingest, next, end, err);
	if (!rc && !ingest->dry && !idle)
		rc = pio_store_commit(ingest->store, err);
	else if (!ingest->dry)
		pio_store_rollback(ingest->store);
	if (!rc) {
		ingest->is_committed = true;
		count_batch(ingest);
		json_decref(ingest->cursor);
		ingest->cursor = json_incref(next);
	}
	json_decref(next);
	ingest->in_batch = false;
	forget_batch(ingest);
	/* After a failure the series that were made in the batch are no more. */
	if (rc || ingest->slots.held_bytes >= BYTES_MAX || ingest->slots.count >= SERIES_MAX)
		pio_slots_fini(&ingest->slots);
	return rc;
}

bool pio_ingest_is_committed(const pio_ingest *ingest)
{
	return ingest->is_committed;
}

int64_t pio_ingest_run(const pio_ingest *ingest)
{
	return ingest->is_committed ? ingest->run_id : 0;
}

pio_ingest_counts pio_ingest_counted(const pio_ingest *ingest)
{
	return ingest->counts;
}

void pio_ingest_close(pio_ingest *ingest)
{
	if (!ingest)
		return;
	if (ingest->in_batch && !ingest->dry)
		pio_store_rollback(ingest->store);
	forget_batch(ingest);
	for (int i = 0; i < 2; i++)
		pio_str_fini(&ingest->console[i]);
	pio_slots_fini(&ingest->slots);
	json_decref(ingest->cursor);
	pio_free(ingest->format);
	pio_free(ingest->source);
	pio_free(ingest->experiment);
	pio_free(ingest->program);
	pio_free(ingest);
}
