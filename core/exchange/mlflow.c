/* An mlflow.db holds many runs. The cursor of each:
 *
 *   { "metrics": rows taken, "facts": hash of its status, parameters and tags }
 *
 * Rows are counted, in the order of their rowids: VACUUM gives new rowids but
 * keeps their order. While nobody has written, the next batch goes on behind the
 * last rowid, and need not count again. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "exchange/database.h"
#include "exchange/importer.h"

typedef struct reader {
	const pio_importer *importer;
	pio_database database;
	pio_str source, uuid, name, experiment, status, facts;
	int64_t start_ms, end_ms, taken;
	int64_t counted, rowid;    /* that many rows of the run end at this one, */
	int64_t version;           /* as long as the database is of this version */
	pio_ingest *ingest;
} reader;

/* ---- one run -------------------------------------------------------------------------------- */

/* MLflow keeps every parameter as text: what reads as a JSON number is one, and
 * Python's True and False are truth values. NULL when memory is out. */
static json_t *param_value(const char *text, size_t n)
{
	json_t *value = NULL;
	json_error_t unused;
	if (n && (strchr("-0123456789", text[0]) != NULL) && n < 64 &&
	    pio_json_load(&value, text, n, JSON_DECODE_ANY, &unused) == -PIO_ENOMEM)
		return NULL;
	if (json_is_number(value))
		return value;
	json_decref(value);
	if (n == 4 && memcmp(text, "True", 4) == 0)
		return json_true();
	if (n == 5 && memcmp(text, "False", 5) == 0)
		return json_false();
	pio_str clean = PIO_STR_INIT;
	pio_str_put_text(&clean, text, n);
	value = clean.failed ? NULL : json_stringn(clean.data, clean.len);
	pio_str_fini(&clean);
	return value;
}

static int put_param(reader *r, const char *name, const char *text, size_t n, pio_err *err)
{
	json_t *value = param_value(text, n);
	int rc = value ? pio_ingest_param(r->ingest, name, value, err)
	               : pio_fail(err, PIO_ENOMEM, "out of memory");
	json_decref(value);
	return rc;
}

static uint64_t hash_text(uint64_t hash, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3u;
	return (hash ^ 0xff) * 0x100000001b3u;
}

/* Parameters, or tags: hashed, or put. */
static int walk_facts(reader *r, bool params, uint64_t *hash, bool put, pio_err *err)
{
	sqlite3_stmt *row = NULL;
	int rc = pio_database_query(&row, &r->database, err, params
	                            ? "SELECT \"key\", value FROM params WHERE run_uuid = ?1 ORDER BY 1"
	                            : "SELECT \"key\", value FROM tags WHERE run_uuid = ?1 ORDER BY 1",
	                            r->uuid.data, NULL);
	while (!rc && (rc = pio_database_row(&r->database, row, err)) == 1) {
		size_t name_bytes, n;
		const char *name = pio_database_text(row, 0, &name_bytes);
		const char *text = pio_database_text(row, 1, &n);
		*hash = hash_text(hash_text(*hash, name, name_bytes), text, n);
		rc = !put ? 0 : params ? put_param(r, name, text, n, err)
		                       : pio_ingest_tag(r->ingest, name, text, n, err);
	}
	sqlite3_finalize(row);
	return rc;
}

static int take_facts(reader *r, const char *known, pio_err *err)
{
	uint64_t hash = 0xcbf29ce484222325u, again = 0;
	hash = hash_text(hash, r->status.data, r->status.len);
	hash = hash_text(hash, r->name.data, r->name.len);
	int rc = walk_facts(r, true, &hash, false, err);
	if (!rc)
		rc = walk_facts(r, false, &hash, false, err);
	pio_str_clear(&r->facts);
	pio_str_printf(&r->facts, "%016" PRIx64, hash);
	rc = rc ? rc : pio_str_check(&r->facts, err);
	if (rc || strcmp(r->facts.data, known) == 0)
		return rc;
	if (r->name.len)
		rc = pio_ingest_tag(r->ingest, "name", r->name.data, r->name.len, err);
	if (!rc)
		rc = walk_facts(r, true, &again, true, err);
	if (!rc)
		rc = walk_facts(r, false, &again, true, err);
	pio_ingest_seen(r->ingest, r->start_ms * 1000000);
	pio_ingest_seen(r->ingest, r->end_ms * 1000000);
	return rc;
}

static bool is_time_ms(int64_t ms)
{
	return ms > 0 && ms < INT64_MAX / 1000000;
}

static int take_point(reader *r, sqlite3_stmt *row, pio_err *err)
{
	size_t n;
	const char *key = pio_database_text(row, 0, &n);
	int type = sqlite3_column_type(row, 1);
	int64_t ms = sqlite3_column_int64(row, 2);
	bool number = type == SQLITE_FLOAT || type == SQLITE_INTEGER;
	double value = sqlite3_column_int(row, 4) ? (double)NAN : sqlite3_column_double(row, 1);
	if (!number || sqlite3_column_type(row, 3) != SQLITE_INTEGER) {
		pio_ingest_skip_count(r->ingest, 1, "points whose value or step is no number");
		return 0;
	}
	return pio_ingest_point(r->ingest, key, n, sqlite3_column_int64(row, 3),
	                        is_time_ms(ms) ? ms * 1000000 : 0, value, err);
}

/* *value: what the first row says, if there is one. */
static int run_statement(int64_t *value, const reader *r, const char *sql, pio_err *err)
{
	sqlite3_stmt *row = NULL;
	int rc = pio_database_query(&row, &r->database, err, sql, NULL);
	if (!rc)
		rc = pio_database_row(&r->database, row, err);
	if (rc == 1)
		*value = sqlite3_column_int64(row, 0);
	sqlite3_finalize(row);
	return rc < 0 ? rc : 0;
}

#define POINTS_OF_RUN "SELECT \"key\", value, timestamp, step, is_nan, rowid FROM metrics WHERE run_uuid = ?1"

/* In one transaction of the source, so that `version` is of what was read. */
static int take_points(reader *r, bool *more, pio_err *err)
{
	char from[32];
	int64_t version = 0;
	sqlite3_stmt *row = NULL;
	*more = false;
	int rc = run_statement(&version, r, "BEGIN", err);
	if (!rc) /* the first read is what begins it */
		rc = run_statement(&version, r, "SELECT EXISTS (SELECT 1 FROM metrics)", err);
	if (!rc)
		rc = run_statement(&version, r, "PRAGMA data_version", err);
	bool counted = r->version == version && r->counted == r->taken && r->taken;
	snprintf(from, sizeof from, "%" PRId64, counted ? r->rowid : r->taken);
	if (!rc)
		rc = pio_database_query(&row, &r->database, err, counted
		                        ? POINTS_OF_RUN " AND rowid > CAST(?2 AS INTEGER) ORDER BY rowid"
		                        : POINTS_OF_RUN " ORDER BY rowid LIMIT -1 OFFSET CAST(?2 AS INTEGER)",
		                        r->uuid.data, from, NULL);
	while (!rc && !(*more = pio_ingest_is_full(r->ingest)) &&
	       (rc = pio_database_row(&r->database, row, err)) == 1) {
		rc = take_point(r, row, err);
		r->taken++;
		r->rowid = sqlite3_column_int64(row, 5);
	}
	sqlite3_finalize(row);
	r->counted = r->taken;
	r->version = version;
	int ended = sqlite3_get_autocommit(r->database.db) ? 0
	          : run_statement(&version, r, "COMMIT", rc ? NULL : err);
	return rc ? rc : ended;
}

static pio_ingest_end end_of(const reader *r)
{
	const char *status = r->status.data;
	if (strcmp(status, "FINISHED") == 0)
		return (pio_ingest_end){ "finished", "ok", NULL, -1 };
	if (strcmp(status, "FAILED") == 0)
		return (pio_ingest_end){ "failed", "failed", "its program failed", -1 };
	if (strcmp(status, "KILLED") == 0)
		return (pio_ingest_end){ "cancelled", "cancelled", "MLflow was told to kill it", -1 };
	return (pio_ingest_end){ "failed", "lost", "MLflow never heard of its end: it was killed, or goes on",
	                         -1 };
}

static int read_batches(reader *r, bool *is_new, pio_err *err)
{
	bool more = true, first = true;
	int rc = 0;
	while (!rc && more) {
		rc = pio_ingest_begin(r->ingest, err);
		if (rc)
			return rc;
		const json_t *cursor = pio_ingest_cursor(r->ingest);
		r->taken = pio_json_int_or(cursor, "metrics", 0);
		*is_new = first ? !pio_ingest_is_known(r->ingest) : *is_new;
		first = false;
		rc = take_facts(r, pio_json_string_or(cursor, "facts", ""), err);
		if (!rc)
			rc = take_points(r, &more, err);
		if (!rc)
			rc = pio_database_check(&r->database, err);
		json_t *next = rc ? NULL : json_pack("{s:I,s:s}", "metrics", (json_int_t)r->taken, "facts",
		                                     r->facts.data);
		pio_ingest_end end = end_of(r);
		if (!rc)
			rc = next ? pio_ingest_commit(r->ingest, next, &end, err)
			          : pio_fail(err, PIO_ENOMEM, "out of memory");
		json_decref(next);
	}
	return rc;
}

/* ---- all of them ------------------------------------------------------------------------------- */

static int import_run(reader *r, pio_err *err)
{
	bool is_new = false;
	r->counted = 0;
	int rc = pio_importer_open(&r->ingest, r->importer, r->source.data, r->experiment.data, NULL, err);
	if (!rc) {
		rc = read_batches(r, &is_new, err);
		pio_ingest_end end = end_of(r);
		int told = pio_importer_tell(r->importer, r->ingest, r->source.data, is_new, end.status,
		                             rc ? NULL : err);
		rc = rc ? rc : told;
	}
	pio_ingest_close(r->ingest);
	r->ingest = NULL;
	return rc;
}

static void set_text(pio_str *text, sqlite3_stmt *row, int column)
{
	size_t n;
	const char *found = pio_database_text(row, column, &n);
	pio_str_clear(text);
	pio_str_put_text(text, found, n);
}

static int read_run(reader *r, sqlite3_stmt *row, pio_err *err)
{
	set_text(&r->uuid, row, 0);
	set_text(&r->name, row, 1);
	set_text(&r->status, row, 2);
	r->start_ms = is_time_ms(sqlite3_column_int64(row, 3)) ? sqlite3_column_int64(row, 3) : 0;
	r->end_ms = is_time_ms(sqlite3_column_int64(row, 4)) ? sqlite3_column_int64(row, 4) : 0;
	set_text(&r->experiment, row, 5);
	pio_str_clear(&r->source);
	pio_str_printf(&r->source, "%s#%s", r->database.path, r->uuid.data);
	bool failed = r->uuid.failed || r->name.failed || r->status.failed || r->experiment.failed ||
	              r->source.failed;
	return failed ? pio_fail(err, PIO_ENOMEM, "out of memory") : 0;
}

int pio_import_mlflow(pio_importer *importer, const char *path, pio_err *err)
{
	reader r = { .importer = importer, .source = PIO_STR_INIT, .uuid = PIO_STR_INIT,
	             .name = PIO_STR_INIT, .experiment = PIO_STR_INIT, .status = PIO_STR_INIT,
	             .facts = PIO_STR_INIT };
	int64_t total = 0;
	int rc = pio_database_open(&r.database, path, err);
	if (!rc)
		rc = pio_database_list(&total, &r.database, err, "SELECT r.run_uuid, r.name, r.status,"
		                       " r.start_time, r.end_time, e.name FROM runs r LEFT JOIN experiments e"
		                       " ON e.experiment_id = r.experiment_id WHERE"
		                       " coalesce(r.lifecycle_stage, 'active') = 'active'"
		                       " ORDER BY r.start_time, r.run_uuid");
	for (int64_t done = 1; !rc && done <= total; done++) {
		sqlite3_stmt *row = NULL;
		rc = pio_database_listed(&row, &r.database, done, err);
		if (!rc)
			rc = read_run(&r, row, err);
		sqlite3_finalize(row);
		if (!rc)
			rc = import_run(&r, err);
		pio_importer_progress(importer, done, total);
	}
	pio_database_close(&r.database);
	pio_str *const texts[] = { &r.source, &r.uuid, &r.name, &r.experiment, &r.status, &r.facts };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		pio_str_fini(texts[i]);
	return rc;
}
