/* A database of trackio is a project of many runs. The cursor of each:
 *
 *   { "metrics", "system_metrics", "alerts": newest id taken of each table,
 *     "samples": how many of the system, "config": its text as a hash }
 *
 * Databases from before trackio 0.24 know runs by their names alone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "exchange/database.h"
#include "exchange/importer.h"

enum table { METRICS, SYSTEM, ALERTS, TABLES };

typedef struct reader {
	const pio_importer *importer;
	pio_database database;
	pio_str source, id, name, project, config;
	const char *id_column;      /* run_id, or run_name in old ones */
	bool has[TABLES];
	int64_t newest[TABLES], samples;
	pio_ingest *ingest;
	int64_t step, time_ns;      /* of the row at hand */
	bool system;
} reader;

static const char *const table_names[TABLES] = { "metrics", "system_metrics", "alerts" };

/* ---- rows ------------------------------------------------------------------------------------ */

static int put_value(void *context, const char *path, json_t *value, pio_err *err)
{
	reader *r = context;
	double number = json_is_true(value);
	pio_str key = PIO_STR_INIT;
	pio_str_printf(&key, "%s%s", r->system ? "system/" : "", path);
	int rc = pio_str_check(&key, err);
	if (rc)
		goto out;
	if (json_is_integer(value))
		rc = pio_ingest_point_int(r->ingest, key.data, key.len, r->step, r->time_ns,
		                          json_integer_value(value), err);
	else if (json_is_boolean(value) || pio_exchange_number(&number, value))
		rc = pio_ingest_point(r->ingest, key.data, key.len, r->step, r->time_ns, number, err);
	else if (json_is_string(value))
		rc = pio_ingest_text(r->ingest, "text", key.data, key.len, r->step, r->time_ns,
		                     json_string_value(value), json_string_length(value), err);
	else if (json_object_get(value, "_type"))
		pio_ingest_skip_count(r->ingest, 1, "values of type '%.60s'",
		                      pio_json_string_or(value, "_type", "?"));
	else
		pio_ingest_skip_count(r->ingest, 1, "values that are %s", json_is_null(value) ? "null"
		                      : "lists");
out:
	pio_str_fini(&key);
	return rc;
}

/* id, timestamp, step, JSON */
static int take_row(reader *r, sqlite3_stmt *row, pio_err *err)
{
	size_t n;
	json_t *values = NULL;
	const char *time = pio_database_text(row, 1, &n);
	r->time_ns = pio_exchange_time_ns(time);
	r->step = r->system ? r->samples++ : sqlite3_column_int64(row, 2);
	const char *text = pio_database_text(row, 3, &n);
	int rc = pio_exchange_json(&values, text, n, err);
	if (rc == -PIO_ECORRUPT || (!rc && !json_is_object(values))) {
		pio_ingest_skip_count(r->ingest, 1, "rows whose values are no JSON object");
		rc = 0;
	} else if (!rc) {
		rc = pio_exchange_flatten(values, "", put_value, r, err);
	}
	json_decref(values);
	return rc;
}

/* id, timestamp, step, title, text */
static int take_alert(reader *r, sqlite3_stmt *row, pio_err *err)
{
	size_t n;
	pio_str message = PIO_STR_INIT;
	int64_t time_ns = pio_exchange_time_ns(pio_database_text(row, 1, &n));
	int64_t step = sqlite3_column_type(row, 2) == SQLITE_INTEGER ? sqlite3_column_int64(row, 2)
	                                                             : INT64_MIN;
	pio_str_puts(&message, pio_database_text(row, 3, &n));
	const char *text = pio_database_text(row, 4, &n);
	pio_str_printf(&message, "%s%s", n ? ": " : "", text);
	int rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_ingest_text(r->ingest, "alert", NULL, 0, step, time_ns, message.data, message.len, err);
	pio_str_fini(&message);
	return rc;
}

static int take_table(reader *r, enum table table, bool *more, pio_err *err)
{
	static const char *const columns[TABLES] = { "step, metrics", "0, metrics", "step, title, text" };
	char newest[32];
	pio_str sql = PIO_STR_INIT;
	sqlite3_stmt *row = NULL;
	*more = false;
	if (!r->has[table])
		return 0;
	snprintf(newest, sizeof newest, "%" PRId64, r->newest[table]);
	pio_str_printf(&sql, "SELECT id, timestamp, %s FROM %s WHERE %s = ?1 AND id > CAST(?2 AS INTEGER)"
	               " ORDER BY id", columns[table], table_names[table], r->id_column);
	int rc = pio_str_check(&sql, err);
	r->system = table == SYSTEM;
	if (!rc)
		rc = pio_database_query(&row, &r->database, err, sql.data, r->id.data, newest, NULL);
	while (!rc && !(*more = pio_ingest_is_full(r->ingest)) &&
	       (rc = pio_database_row(&r->database, row, err)) == 1) {
		r->newest[table] = sqlite3_column_int64(row, 0);
		rc = table == ALERTS ? take_alert(r, row, err) : take_row(r, row, err);
	}
	sqlite3_finalize(row);
	pio_str_fini(&sql);
	return rc;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int put_param(void *context, const char *path, json_t *value, pio_err *err)
{
	reader *r = context;
	static const char *const own[][2] = { { "_Group", "group" }, { "_Username", "user" } };
	if (path[0] != '_')
		return pio_ingest_param(r->ingest, path, value, err);
	for (size_t i = 0; i < 2; i++)
		if (strcmp(path, own[i][0]) == 0 && json_is_string(value))
			return pio_ingest_tag(r->ingest, own[i][1], json_string_value(value),
			                      json_string_length(value), err);
	if (strcmp(path, "_Created") == 0 && json_is_string(value))
		pio_ingest_seen(r->ingest, pio_exchange_time_ns(json_string_value(value)));
	return 0;
}

/* What was set when the run began; put again where it changed. */
static int take_config(reader *r, const char *known, pio_err *err)
{
	pio_str sql = PIO_STR_INIT;
	sqlite3_stmt *row = NULL;
	json_t *config = NULL;
	uint64_t hash = 0xcbf29ce484222325u;
	pio_str_printf(&sql, "SELECT config FROM configs WHERE %s = ?1 ORDER BY id DESC LIMIT 1",
	               r->id_column);
	int rc = pio_str_check(&sql, err);
	if (!rc)
		rc = pio_database_query(&row, &r->database, err, sql.data, r->id.data, NULL);
	if (!rc)
		rc = pio_database_row(&r->database, row, err);
	if (rc == 1) {
		size_t n;
		const char *text = pio_database_text(row, 0, &n);
		for (size_t i = 0; i < n; i++)
			hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3u;
		rc = pio_exchange_json(&config, text, n, err);
	}
	pio_str_clear(&r->config);
	pio_str_printf(&r->config, "%016" PRIx64, hash);
	bool changed = strcmp(r->config.data, known) != 0;
	if (rc == -PIO_ECORRUPT || (!rc && config && !json_is_object(config))) {
		if (changed)
			pio_ingest_skip_count(r->ingest, 1, "configurations that are no JSON object");
		rc = 0;
	} else if (!rc && config && changed) {
		rc = pio_exchange_flatten(config, "", put_param, r, err);
	}
	if (!rc && changed && r->name.len)
		rc = pio_ingest_tag(r->ingest, "name", r->name.data, r->name.len, err);
	json_decref(config);
	sqlite3_finalize(row);
	pio_str_fini(&sql);
	return rc ? rc : pio_str_check(&r->config, err);
}

static int read_batch(reader *r, bool *more, pio_err *err)
{
	int rc = pio_ingest_begin(r->ingest, err);
	*more = false;
	if (rc)
		return rc;
	const json_t *cursor = pio_ingest_cursor(r->ingest);
	for (int t = 0; t < TABLES; t++)
		r->newest[t] = pio_json_int_or(cursor, table_names[t], 0);
	r->samples = pio_json_int_or(cursor, "samples", 0);
	rc = take_config(r, pio_json_string_or(cursor, "config", ""), err);
	for (int t = 0; !rc && !*more && t < TABLES; t++)
		rc = take_table(r, (enum table)t, more, err);
	return rc ? rc : pio_database_check(&r->database, err);
}

/* trackio does not write down how a run ended. */
static const pio_ingest_end the_end = { "finished", "ok", NULL, -1 };

static int read_batches(reader *r, bool *is_new, pio_err *err)
{
	bool more = true, first = true;
	int rc = 0;
	while (!rc && more) {
		rc = read_batch(r, &more, err);
		if (rc)
			break;
		*is_new = first ? !pio_ingest_is_known(r->ingest) : *is_new;
		first = false;
		json_t *cursor = json_pack("{s:I,s:I,s:I,s:I,s:s}", table_names[METRICS],
		                           (json_int_t)r->newest[METRICS], table_names[SYSTEM],
		                           (json_int_t)r->newest[SYSTEM], table_names[ALERTS],
		                           (json_int_t)r->newest[ALERTS], "samples", (json_int_t)r->samples,
		                           "config", r->config.data);
		rc = cursor ? pio_ingest_commit(r->ingest, cursor, &the_end, err)
		            : pio_fail(err, PIO_ENOMEM, "out of memory");
		json_decref(cursor);
	}
	return rc;
}

static int import_run(reader *r, pio_err *err)
{
	bool is_new = false;
	pio_str_clear(&r->source);
	pio_str_printf(&r->source, "%s#%s", r->database.path, r->id.data);
	int rc = pio_str_check(&r->source, err);
	if (!rc)
		rc = pio_importer_open(&r->ingest, r->importer, r->source.data, r->project.data, NULL, err);
	if (!rc) {
		rc = read_batches(r, &is_new, err);
		int told = pio_importer_tell(r->importer, r->ingest, r->source.data, is_new, the_end.status,
		                             rc ? NULL : err);
		rc = rc ? rc : told;
	}
	pio_ingest_close(r->ingest);
	r->ingest = NULL;
	return rc;
}

/* ---- the project ------------------------------------------------------------------------------- */

/* The file's name without ".db". */
static void put_project(pio_str *project, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t n = strlen(name);
	n = n > 3 && strcmp(name + n - 3, ".db") == 0 ? n - 3 : n;
	pio_str_put_text(project, name, n);
}

static int read_run(reader *r, sqlite3_stmt *row, pio_err *err)
{
	size_t n;
	pio_str_clear(&r->id);
	pio_str_clear(&r->name);
	pio_str_puts(&r->id, pio_database_text(row, 0, &n));
	pio_str_puts(&r->name, pio_database_text(row, 1, &n));
	return r->id.failed || r->name.failed ? pio_fail(err, PIO_ENOMEM, "out of memory") : 0;
}

static int import_all(reader *r, pio_err *err)
{
	pio_str sql = PIO_STR_INIT;
	int64_t total = 0;
	const char *id = r->id_column;
	pio_str_printf(&sql, "SELECT id, max(name) FROM (SELECT %s AS id, run_name AS name,"
	               " created_at AS begun FROM configs UNION ALL SELECT %s, max(run_name), min(timestamp)"
	               " FROM metrics GROUP BY 1) WHERE id IS NOT NULL GROUP BY id ORDER BY min(begun), id",
	               id, id);
	int rc = pio_str_check(&sql, err);
	if (!rc)
		rc = pio_database_list(&total, &r->database, err, sql.data);
	for (int64_t done = 1; !rc && done <= total; done++) {
		sqlite3_stmt *row = NULL;
		rc = pio_database_listed(&row, &r->database, done, err);
		if (!rc)
			rc = read_run(r, row, err);
		sqlite3_finalize(row);
		if (!rc)
			rc = import_run(r, err);
		pio_importer_progress(r->importer, done, total);
	}
	pio_str_fini(&sql);
	return rc;
}

int pio_import_trackio(pio_importer *importer, const char *path, pio_err *err)
{
	reader r = { .importer = importer, .source = PIO_STR_INIT, .id = PIO_STR_INIT,
	             .name = PIO_STR_INIT, .project = PIO_STR_INIT, .config = PIO_STR_INIT };
	put_project(&r.project, path);
	int rc = pio_str_check(&r.project, err);
	if (!rc)
		rc = pio_database_open(&r.database, path, err);
	if (!rc) {
		r.id_column = pio_database_has(&r.database, "metrics", "run_id") ? "run_id" : "run_name";
		for (int t = 0; t < TABLES; t++)
			r.has[t] = pio_database_has(&r.database, table_names[t], r.id_column);
		rc = import_all(&r, err);
	}
	pio_database_close(&r.database);
	pio_str *const texts[] = { &r.source, &r.id, &r.name, &r.project, &r.config };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		pio_str_fini(texts[i]);
	return rc;
}
