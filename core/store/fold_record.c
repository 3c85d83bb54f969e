#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "store/checkpoint_publish.h"
#include "store/environment.h"
#include "store/fold_batch.h"
#include "store/run.h"
#include "store/sql.h"

#define KEY_BYTES_MAX 4096
#define MANY_KEYS 100000

int pio_fold_complain(fold_batch *batch, pio_err *err, const char *format, ...)
{
	char text[300];
	va_list args;
	if (batch->complaints++ >= PIO_FOLD_COMPLAINTS_MAX)
		return 0;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "%s: %s; passed over", batch->path, text);
	int rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_store_event_add(batch->store, batch->run_id, batch->attempt_id, -1, INT64_MIN,
		                         pio_clock_wall_ns(), "journal", NULL, message.data, err);
	pio_str_fini(&message);
	return rc;
}

/* Cheap questions first: most runs have few series. */
int pio_fold_warn_of_keys(fold_batch *batch, pio_err *err)
{
	int64_t found = 0;
	if (!batch->new_series)
		return 0;
	int rc = pio_sql_int(&found, batch->store, err, "SELECT count(*) FROM (SELECT 1 FROM series WHERE"
	                     " run_id = ?1 LIMIT ?2)", "ii", batch->run_id, (int64_t)MANY_KEYS + 1);
	if (rc || found <= MANY_KEYS)
		return rc;
	rc = pio_sql_int(&found, batch->store, err, "SELECT EXISTS (SELECT 1 FROM event WHERE run_id = ?1"
	                 " AND kind = 'keys')", "i", batch->run_id);
	if (rc || found)
		return rc;
	rc = pio_sql_int(&found, batch->store, err, "SELECT count(*) FROM (SELECT DISTINCT key FROM series"
	                 " WHERE run_id = ?1 LIMIT ?2)", "ii", batch->run_id, (int64_t)MANY_KEYS + 1);
	if (rc || found <= MANY_KEYS)
		return rc;
	return pio_store_event_add(batch->store, batch->run_id, batch->attempt_id, -1, INT64_MIN,
	                           pio_clock_wall_ns(), "keys", NULL, "more than 100,000 different keys were"
	                           " logged; each is a series of its own: is a step or an id part of the key?",
	                           err);
}

static int fold_key(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	size_t name_bytes;
	uint32_t rank = pio_cursor_u32(cursor), key = pio_cursor_u32(cursor);
	const char *name = pio_cursor_str(cursor, &name_bytes);
	if (cursor->bad || !name_bytes || name_bytes > KEY_BYTES_MAX || memchr(name, 0, name_bytes))
		return pio_fold_complain(batch, err, "key %u of rank %u has no valid name (%zu bytes; expected "
		                         "1 to %d without a NUL)", key, rank, name_bytes, KEY_BYTES_MAX);
	if (rank >= PIO_FOLD_RANKS_MAX || key >= PIO_FOLD_KEYS_MAX)
		return pio_fold_complain(batch, err, "key %u of rank %u is out of range", key, rank);
	int64_t series_id = 0;
	int rc = pio_sql_exec(batch->store, err, "INSERT INTO main.series (run_id, key, rank) VALUES (?1, ?2, ?3)"
	                      " ON CONFLICT (run_id, key, rank) DO NOTHING", "isi", batch->run_id, name,
	                      name_bytes, (int64_t)rank);
	bool is_new = !rc && sqlite3_changes(pio_store_db(batch->store)) > 0;
	batch->new_series += is_new;
	if (!rc && is_new)
		series_id = sqlite3_last_insert_rowid(pio_store_db(batch->store));
	else if (!rc)
		rc = pio_sql_int(&series_id, batch->store, err, "SELECT id FROM series WHERE run_id = ?1"
		                 " AND key = ?2 AND rank = ?3", "isi", batch->run_id, name, name_bytes,
		                 (int64_t)rank);
	if (!rc)
		rc = pio_sql_exec(batch->store, err, "INSERT OR REPLACE INTO journal_key (journal_id, rank, key,"
		                  " series_id) VALUES (?1, ?2, ?3, ?4)", "iiii", batch->journal_id,
		                  (int64_t)rank, (int64_t)key, series_id);
	return rc ? rc : pio_fold_key(batch, rank, key, series_id, is_new, err);
}

/* A NUL-terminated copy, NULs shown as U+FFFD. */
static void put_text(pio_str *s, const char *bytes, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes;) {
		size_t n = strnlen(bytes + i, size_bytes - i);
		pio_str_append(s, bytes + i, n);
		i += n;
		if (i < size_bytes) {
			pio_str_puts(s, "\xef\xbf\xbd");
			i++;
		}
	}
}

static int add_event(fold_batch *batch, uint32_t rank, int64_t step, int64_t time_ns,
                     const char *kind, size_t kind_bytes, const char *key, size_t key_bytes,
                     const char *message, size_t message_bytes, pio_err *err)
{
	pio_str kind_text = PIO_STR_INIT, key_text = PIO_STR_INIT, text = PIO_STR_INIT;
	put_text(&kind_text, kind, kind_bytes);
	put_text(&key_text, key ? key : "", key ? key_bytes : 0);
	put_text(&text, message, message_bytes);
	int rc = pio_str_check(&kind_text, err);
	if (!rc)
		rc = pio_str_check(&key_text, err);
	if (!rc)
		rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_store_event_add(batch->store, batch->run_id, batch->attempt_id,
		                         rank > INT32_MAX ? -1 : (int)rank, step, time_ns, kind_text.data,
		                         key ? key_text.data : NULL, text.data, err);
	pio_str_fini(&kind_text);
	pio_str_fini(&key_text);
	pio_str_fini(&text);
	return rc;
}

static int fold_text(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	size_t key_bytes, text_bytes;
	uint32_t rank = pio_cursor_u32(cursor);
	int64_t time_ns = pio_cursor_i64(cursor), step = pio_cursor_i64(cursor);
	const char *key = pio_cursor_str(cursor, &key_bytes);
	const char *text = pio_cursor_str(cursor, &text_bytes);
	if (cursor->bad)
		return pio_fold_complain(batch, err, "a record of text is too short");
	return add_event(batch, rank, step, time_ns, "text", 4, key, key_bytes, text, text_bytes, err);
}

static int fold_event(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	size_t kind_bytes, message_bytes;
	uint32_t rank = pio_cursor_u32(cursor);
	int64_t time_ns = pio_cursor_i64(cursor);
	const char *kind = pio_cursor_str(cursor, &kind_bytes);
	const char *message = pio_cursor_str(cursor, &message_bytes);
	if (cursor->bad)
		return pio_fold_complain(batch, err, "a record of an event is too short");
	return add_event(batch, rank, INT64_MIN, time_ns, kind, kind_bytes, NULL, 0, message,
	                 message_bytes, err);
}

/* A tag is text: a JSON string without its quotes, any other value as it is. */
static int set_tag(fold_batch *batch, const char *name, size_t name_bytes, const char *json,
                   size_t json_bytes, pio_err *err)
{
	json_t *value = NULL;
	int rc = pio_json_parse(&value, json, json_bytes, "tag's value", err);
	if (!rc && json_is_string(value))
		rc = pio_store_tag_set(batch->store, batch->run_id, name, name_bytes, json_string_value(value),
		                       json_string_length(value), err);
	else if (!rc)
		rc = pio_store_tag_set(batch->store, batch->run_id, name, name_bytes, json, json_bytes, err);
	json_decref(value);
	return rc;
}

static int set_summary(fold_batch *batch, const char *name, size_t name_bytes, const char *json,
                       size_t json_bytes, pio_err *err)
{
	pio_str full = PIO_STR_INIT;
	pio_str_puts(&full, "summary/");
	pio_str_append(&full, name, name_bytes);
	int rc = pio_str_check(&full, err);
	if (!rc)
		rc = pio_store_param_set(batch->store, batch->run_id, full.data, full.len, json, json_bytes,
		                         err);
	pio_str_fini(&full);
	return rc;
}

static bool is_users_fault(int rc)
{
	return rc == -PIO_EINVAL || rc == -PIO_ECORRUPT || rc == -PIO_ENOTFOUND || rc == -PIO_EVERSION;
}

static int fold_fact(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	size_t name_bytes, json_bytes;
	uint32_t rank = pio_cursor_u32(cursor);
	(void)pio_cursor_i64(cursor);
	uint8_t kind = pio_cursor_u8(cursor);
	const char *name = pio_cursor_str(cursor, &name_bytes);
	const char *json = pio_cursor_str(cursor, &json_bytes);
	if (cursor->bad)
		return pio_fold_complain(batch, err, "a record of a fact is too short");
	pio_err why = PIO_ERR_INIT;
	int rc;
	if (kind == 'p')
		rc = pio_store_param_set(batch->store, batch->run_id, name, name_bytes, json, json_bytes, &why);
	else if (kind == 't')
		rc = set_tag(batch, name, name_bytes, json, json_bytes, &why);
	else if (kind == 's')
		rc = set_summary(batch, name, name_bytes, json, json_bytes, &why);
	else
		rc = pio_fail(&why, PIO_EINVAL, "a fact of kind %d, expected 'p', 't' or 's'", kind);
	if (is_users_fault(rc))
		return pio_fold_complain(batch, err, "rank %u: %s", rank, why.message);
	if (rc && err)
		*err = why;
	return rc;
}

/* Totals of a ring. The first wait of a rank is told in an event. */
static int fold_loss(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	uint32_t rank = pio_cursor_u32(cursor);
	int64_t time_ns = pio_cursor_i64(cursor), before = 0;
	uint64_t stalls = pio_cursor_u64(cursor), stalled_ns = pio_cursor_u64(cursor);
	if (cursor->bad || stalls > INT64_MAX || stalled_ns > INT64_MAX)
		return pio_fold_complain(batch, err, "a record of stalls makes no sense");
	int rc = pio_sql_int(&before, batch->store, err, "SELECT stalls FROM rank WHERE attempt_id = ?1"
	                     " AND rank = ?2", "ii", batch->attempt_id, (int64_t)rank);
	if (!rc)
		rc = pio_sql_exec(batch->store, err, "INSERT INTO rank (attempt_id, rank, node, stalls,"
		                  " stalled_ns) VALUES (?1, ?2, '', ?3, ?4) ON CONFLICT (attempt_id, rank)"
		                  " DO UPDATE SET stalls = excluded.stalls, stalled_ns = excluded.stalled_ns",
		                  "iiii", batch->attempt_id, (int64_t)rank, (int64_t)stalls,
		                  (int64_t)stalled_ns);
	if (!rc && !before && stalls) {
		static const char message[] = "logging waited for a full ring; nothing was lost";
		rc = add_event(batch, rank, INT64_MIN, time_ns, "stall", 5, NULL, 0, message,
		               sizeof message - 1, err);
	}
	return rc;
}

/* How a standalone run was closed waits in its attempt for whoever adopts it,
 * as exit code 0 or 1 and a time of end. A supervisor has the record of its
 * attempts in a file. */
static int fold_exit(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	size_t json_bytes;
	json_t *record = NULL;
	int64_t time_ns = pio_cursor_i64(cursor);
	const char *json = pio_cursor_str(cursor, &json_bytes);
	if (cursor->bad || pio_json_parse(&record, json, json_bytes, "exit record", NULL) != 0)
		return pio_fold_complain(batch, err, "an exit record is too short or no JSON");
	const char *result = pio_json_string_or(record, "result", "");
	bool ok = strcmp(result, "ok") == 0, failed = strcmp(result, "failed") == 0;
	json_decref(record);
	if (!ok && !failed)
		return 0;
	return pio_sql_exec(batch->store, err, "UPDATE attempt SET exit_code = ?2, ended_ns = ?3 WHERE"
	                    " id = ?1 AND launcher = 'standalone' AND state != 'ended'", "iii",
	                    batch->attempt_id, (int64_t)failed, time_ns);
}

static int fold_environment(fold_batch *batch, pio_cursor *cursor, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	pio_str texts[3] = { PIO_STR_INIT, PIO_STR_INIT, PIO_STR_INIT };   /* part, host, cwd */
	pio_store_environment e = { .attempt_id = batch->attempt_id };
	int64_t node = 0;
	uint32_t rank = pio_cursor_u32(cursor);
	(void)pio_cursor_i64(cursor);
	int rc = 0;
	for (int i = 0; i < 3; i++) {
		size_t n;
		const char *text = pio_cursor_str(cursor, &n);
		put_text(&texts[i], cursor->bad ? "" : text, cursor->bad ? 0 : n);
		rc = rc ? rc : pio_str_check(&texts[i], err);
	}
	e.json = pio_cursor_str(cursor, &e.json_bytes);
	e.part = texts[0].data, e.host = texts[1].data, e.cwd = texts[2].data;
	if (!rc && cursor->bad)
		rc = pio_fold_complain(batch, err, "a record of an environment is too short");
	else if (!rc)
		rc = pio_sql_int(&node, batch->store, err, "SELECT node FROM journal WHERE id = ?1", "i",
		                 batch->journal_id);
	e.node = (int)node;
	if (!rc && !cursor->bad) {
		rc = pio_store_environment_set(batch->store, &e, &why);
		if (is_users_fault(rc))
			rc = pio_fold_complain(batch, err, "rank %u: %s", rank, why.message);
		else if (rc && err)
			*err = why;
	}
	for (int i = 0; i < 3; i++)
		pio_str_fini(&texts[i]);
	return rc;
}

static int fold_checkpoint(fold_batch *batch, const pio_record *record, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int published = 0;
	int rc = pio_store_begin(batch->store, err);
	if (rc)
		return rc;
	rc = pio_checkpoint_report(&published, batch->store, batch->attempt_id, record->payload,
	                           record->size_bytes, &why);
	if (!rc) {
		batch->result->checkpoints += published;
		return pio_store_commit(batch->store, err);
	}
	pio_store_rollback(batch->store);
	if (is_users_fault(rc))
		return pio_fold_complain(batch, err, "a checkpoint cannot be published: %s", why.message);
	if (err)
		*err = why;
	return rc;
}

static int fold_media(fold_batch *batch, const pio_record *record, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	pio_media_record media = { batch->run_id, batch->attempt_id, batch->dir, record->payload,
	                           record->size_bytes };
	int rc = pio_store_media_report(batch->store, &media, batch->ready, &why);
	if (is_users_fault(rc))
		return pio_fold_complain(batch, err, "%s", why.message);
	if (rc < 0 && err)
		*err = why;
	if (rc != 1)
		return rc;
	pio_str_clear(batch->ahead);
	pio_str_append(batch->ahead, record->payload, record->size_bytes);
	rc = pio_str_check(batch->ahead, err);
	return rc ? rc : 1;
}

int pio_fold_record(fold_batch *batch, const pio_record *record, pio_err *err)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	switch (record->type) {
	case PIO_RECORD_KEY:
		return fold_key(batch, &cursor, err);
	case PIO_RECORD_TEXT:
		return fold_text(batch, &cursor, err);
	case PIO_RECORD_FACT:
		return fold_fact(batch, &cursor, err);
	case PIO_RECORD_EVENT:
		return fold_event(batch, &cursor, err);
	case PIO_RECORD_CHECKPOINT:
		return fold_checkpoint(batch, record, err);
	case PIO_RECORD_LOSS:
		return fold_loss(batch, &cursor, err);
	case PIO_RECORD_MEDIA:
		return fold_media(batch, record, err);
	case PIO_RECORD_ENVIRONMENT:
		return fold_environment(batch, &cursor, err);
	case PIO_RECORD_EXIT:
		return fold_exit(batch, &cursor, err);
	default: /* HEARTBEAT and RUN are for others; a newer writer's record is skipped */
		return 0;
	}
}
