#include "store/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/ulid.h"
#include "store/environment.h"
#include "store/intake_parts.h"
#include "store/intake_run.h"
#include "store/intake_sweep.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"

#define RECORDS_BYTES_MAX (256 << 20)
#define RECORDS "run/records.json"

/* ---- files of the bundle ------------------------------------------------------------- */

static int compare_path(const void *key, const void *item)
{
	return strcmp(key, ((const pio_intake_file *)item)->path);
}

const pio_intake_file *pio_intake_find(const pio_intake_bag *bag, const char *path)
{
	return bag->count ? bsearch(path, bag->files, bag->count, sizeof *bag->files, compare_path) : NULL;
}

const pio_intake_file *pio_intake_file_of(const pio_intake *intake, const char *name)
{
	char path[1024];
	snprintf(path, sizeof path, "%s%s", intake->prefix, name);
	return pio_intake_find(intake->bag, path);
}

static int compare_digest(const void *key, const void *item)
{
	return strcmp(key, (*(const pio_intake_file *const *)item)->sha256);
}

static int compare_digests(const void *left, const void *right)
{
	return strcmp((*(const pio_intake_file *const *)left)->sha256,
	              (*(const pio_intake_file *const *)right)->sha256);
}

const pio_intake_file *pio_intake_with_digest(const pio_intake *intake, const char *sha256)
{
	const pio_intake_file *const *found = !intake->bag->count ? NULL :
		bsearch(sha256, intake->by_digest, intake->bag->count, sizeof *intake->by_digest, compare_digest);
	return found ? *found : NULL;
}

static int sort_digests(pio_intake *intake, pio_err *err)
{
	size_t n = intake->bag->count;
	intake->by_digest = pio_alloc((n ? n : 1) * sizeof *intake->by_digest);
	intake->moved = pio_calloc(n ? n : 1, sizeof *intake->moved);
	if (!intake->by_digest || !intake->moved)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu files of a bundle", n);
	for (size_t i = 0; i < n; i++)
		intake->by_digest[i] = &intake->bag->files[i];
	qsort(intake->by_digest, n, sizeof *intake->by_digest, compare_digests);
	return 0;
}

int pio_intake_read(pio_str *text, const pio_intake_file *file, int64_t bytes_max, pio_err *err)
{
	if (file->bytes > bytes_max)
		return pio_fail(err, PIO_ECORRUPT, "%s has %lld bytes, expected at most %lld", file->path,
		                (long long)file->bytes, (long long)bytes_max);
	return pio_fs_read(text, file->staged, err);
}

/* ---- records --------------------------------------------------------------------------- */

static int parse_file(json_t **value, const pio_intake_file *file, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	int rc = pio_intake_read(&text, file, RECORDS_BYTES_MAX, err);
	if (!rc)
		rc = pio_json_parse(value, text.data, text.len, file->path, err);
	pio_str_fini(&text);
	return rc;
}

static int read_records(pio_intake *intake, const pio_intake_file *file, pio_err *err)
{
	const char *format = NULL, *ulid = NULL;
	int64_t schema = 0;
	pio_ulid parsed;
	int rc = parse_file(&intake->records, file, err);
	if (!rc)
		rc = pio_json_get_string(intake->records, "format", &format, file->path, err);
	if (!rc && strcmp(format, "pioche/run/1") != 0)
		return pio_fail(err, PIO_EVERSION, "%s is of format \"%.40s\", expected pioche/run/1: a later pioche"
		                " wrote it", file->path, format);
	if (!rc)
		rc = pio_json_get_int(intake->records, "schema", &schema, file->path, err);
	if (!rc && schema > PIO_STORE_VERSION)
		return pio_fail(err, PIO_EVERSION, "%s is of a store of version %lld, this one is of %d: a later pioche"
		                " wrote it", file->path, (long long)schema, PIO_STORE_VERSION);
	if (!rc)
		rc = pio_json_get_string(json_object_get(intake->records, "run"), "ulid", &ulid, file->path, err);
	if (!rc && (strlen(ulid) != PIO_ULID_CHARS || !pio_ulid_parse(&parsed, ulid)))
		return pio_fail(err, PIO_ECORRUPT, "%s: \"%.40s\" is no ULID of a run", file->path, ulid);
	if (!rc)
		pio_ulid_format(&parsed, intake->run->ulid);
	if (!rc && strcmp(ulid, intake->run->ulid) != 0)
		return pio_fail(err, PIO_ECORRUPT, "%s: \"%.40s\" is not how a ULID is written", file->path, ulid);
	return rc;
}

/* ---- rows around a run ------------------------------------------------------------------- */

static json_t *of_run(const pio_intake *intake)
{
	return json_pack("{s:I}", "run_id", (json_int_t)intake->run->run_id);
}

static int take_list(pio_intake *intake, const char *member, const char *table, pio_err *err)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(intake->records, member), i, row) {
		int rc = pio_intake_row(intake, table, row, of_run(intake), RECORDS, err);
		if (rc)
			return rc;
	}
	return 0;
}

int pio_intake_attempt(int64_t *id, const pio_intake *intake, int64_t number, pio_err *err)
{
	int rc = pio_sql_int(id, intake->store, err, "SELECT id FROM attempt WHERE run_id = ?1 AND number = ?2",
	                     "ii", intake->run->run_id, number);
	if (!rc && !*id)
		rc = pio_fail(err, PIO_ECORRUPT, "%s has no attempt %lld, which something in the bundle is of",
		              intake->run->was, (long long)number);
	return rc;
}

/* What an attempt ran on: a document by the digest of its canonical text. */
static int take_environment(pio_intake *intake, const json_t *row, int64_t attempt_id, pio_err *err)
{
	const char *sha256 = NULL;
	char path[128], *text = NULL;
	json_t *document = NULL;
	int rc = pio_json_get_string(row, "sha256", &sha256, RECORDS, err);
	snprintf(path, sizeof path, "environment/%.64s.json", rc ? "" : sha256);
	const pio_intake_file *file = pio_intake_find(intake->bag, path);
	if (!rc && !file)
		rc = pio_fail(err, PIO_ECORRUPT, "there is no %s, which an attempt ran on", path);
	if (!rc)
		rc = parse_file(&document, file, err);
	if (!rc && !(text = pio_json_canonical(document)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for %s", path);
	pio_store_environment environment = {
		.attempt_id = attempt_id, .node = (int)pio_json_int_or(row, "node", 0),
		.part = pio_json_string_or(row, "part", ""), .host = pio_json_string_or(row, "host", ""),
		.cwd = pio_json_string_or(row, "cwd", ""), .json = text, .json_bytes = text ? strlen(text) : 0,
	};
	if (!rc)
		rc = pio_store_environment_set(intake->store, &environment, err);
	free(text);
	json_decref(document);
	return rc;
}

static int take_attempt(pio_intake *intake, const json_t *row, pio_err *err)
{
	int64_t number = 0, id = 0;
	size_t i;
	json_t *child;
	int rc = pio_json_get_int(row, "number", &number, RECORDS, err);
	if (!rc && (number < 1 || number > INT32_MAX))
		rc = pio_fail(err, PIO_ECORRUPT, "%s: attempt %lld, expected 1 or more", RECORDS, (long long)number);
	json_t *fixed = of_run(intake);
	pio_str dir = PIO_STR_INIT;
	pio_str_printf(&dir, "runs/%s/%lld", intake->run->ulid, (long long)number);
	rc = rc ? rc : pio_str_check(&dir, err);
	pio_intake_put(&fixed, "dir", json_string(dir.data));
	pio_intake_put(&fixed, "state", json_string("ended"));
	if (strcmp(pio_json_string_or(row, "state", ""), "ended") != 0) {
		pio_intake_put(&fixed, "result", json_string("lost"));
		pio_intake_put(&fixed, "message", json_string("it went on when it was exported"));
	}
	pio_str_fini(&dir);
	if (rc)
		json_decref(fixed);
	else
		rc = pio_intake_row(intake, "attempt", row, fixed, RECORDS, err);
	id = sqlite3_last_insert_rowid(pio_store_db(intake->store));
	json_array_foreach(json_object_get(row, "ranks"), i, child) {
		if (!rc)
			rc = pio_intake_row(intake, "rank", child, json_pack("{s:I}", "attempt_id", (json_int_t)id),
			                    RECORDS, err);
	}
	json_array_foreach(json_object_get(row, "checks"), i, child) {
		if (!rc)
			rc = pio_intake_row(intake, "node_check", child,
			                    json_pack("{s:I}", "attempt_id", (json_int_t)id), RECORDS, err);
	}
	json_array_foreach(json_object_get(row, "environment"), i, child) {
		if (!rc)
			rc = take_environment(intake, child, id, err);
	}
	return rc;
}

static int take_attempts(pio_intake *intake, pio_err *err)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(intake->records, "attempts"), i, row) {
		int rc = take_attempt(intake, row, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int take_events(pio_intake *intake, pio_err *err)
{
	const pio_intake_file *file = pio_intake_file_of(intake, "run/events.jsonl");
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int rc = 0;
	FILE *stream = file ? fopen(file->staged, "re") : NULL;
	if (!stream)
		return pio_fail(err, PIO_ECORRUPT, "there is no %srun/events.jsonl", intake->prefix);
	while (!rc && (n = getline(&line, &room, stream)) > 0) {
		json_t *row = NULL;
		rc = pio_json_parse(&row, line, (size_t)n, file->path, err);
		if (!rc)
			rc = pio_intake_row(intake, "event", row, of_run(intake), file->path, err);
		json_decref(row);
		intake->run->events += rc == 0;
	}
	if (!rc && ferror(stream))
		rc = pio_fail(err, PIO_EIO, "%s: cannot be read", file->path);
	free(line);
	fclose(stream);
	return rc;
}

/* ---- one run ---------------------------------------------------------------------------------- */

static int take_origin(pio_intake *intake, pio_err *err)
{
	return pio_sql_exec(intake->store, err, "INSERT INTO origin (run_id, bundle, sha256, name, imported_ns)"
	                    " VALUES (?1, ?2, ?3, ?4, ?5)", "ittti", intake->run->run_id, intake->bag->bundle,
	                    intake->bag->sha256, intake->run->was, pio_clock_wall_ns());
}

static int take_new(pio_intake *intake, pio_err *err)
{
	int rc = pio_intake_run_insert(intake, err);
	if (!rc)
		rc = take_list(intake, "params", "param", err);
	if (!rc)
		rc = take_list(intake, "tags", "tag", err);
	if (!rc)
		rc = take_attempts(intake, err);
	if (!rc)
		rc = take_events(intake, err);
	if (!rc)
		rc = pio_intake_points(intake, err);
	if (!rc)
		rc = take_origin(intake, err);
	if (!rc)
		rc = pio_intake_logs(intake, err);
	return rc ? rc : pio_intake_media(intake, err);
}

static int take_run(pio_intake *intake, const pio_intake_file *file, pio_err *err)
{
	char *prefix = pio_strdup(file->path);
	int64_t known = 0;
	int rc = prefix ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a run");
	if (prefix)
		prefix[strlen(prefix) - strlen(RECORDS)] = 0;
	intake->prefix = prefix;
	if (!rc)
		rc = read_records(intake, file, err);
	if (!rc)
		rc = pio_intake_run_name(intake, err);
	if (!rc)
		rc = pio_sql_int(&known, intake->store, err, "SELECT id FROM run WHERE ulid = ?1", "t",
		                 intake->run->ulid);
	intake->run->is_new = !known;
	if (!rc && known)
		rc = pio_intake_run_same(intake, known, err);
	else if (!rc)
		rc = take_new(intake, err);
	if (!rc)
		rc = pio_intake_checkpoints(intake, err);
	if (!rc)
		rc = pio_intake_run_told(intake, err);
	json_decref(intake->records);
	intake->records = NULL;
	pio_free(prefix);
	return rc;
}

static bool is_records(const char *path)
{
	size_t n = strlen(path), tail = strlen(RECORDS);
	if (!strcmp(path, RECORDS))
		return true;
	const char *slash = strncmp(path, "runs/", 5) ? NULL : strchr(path + 5, '/');
	return slash && n > tail && slash + 1 == path + n - tail && !strcmp(slash + 1, RECORDS);
}

static int take_all(pio_intake *intake, pio_intake_run **runs, size_t *count, pio_err *err)
{
	size_t capacity = 0;
	int rc = pio_intake_sweeps_begin(intake, err);
	for (size_t i = 0; !rc && i < intake->bag->count; i++) {
		if (!is_records(intake->bag->files[i].path))
			continue;
		rc = pio_grow(runs, &capacity, *count, "runs of a bundle", err);
		if (rc)
			break;
		(*runs)[*count] = (pio_intake_run){ .is_new = false };
		intake->run = &(*runs)[(*count)++];
		rc = take_run(intake, &intake->bag->files[i], err);
	}
	if (!rc && !*count)
		rc = pio_fail(err, PIO_ECORRUPT, "it holds no run/records.json: a bundle of an earlier pioche, or of"
		              " another program, which tar opens");
	if (!rc)
		rc = pio_intake_sweeps_end(intake, err);
	if (!rc)
		rc = pio_intake_sync_objects(intake, err);
	return rc ? rc : intake->bag->before_commit(intake->bag->context, intake->bag, err);
}

int pio_store_intake(pio_intake_run **runs, size_t *count, pio_store *store, const pio_intake_bag *bag,
                     pio_err *err)
{
	pio_intake intake = { .store = store, .bag = bag, .sql = PIO_STR_INIT };
	*runs = NULL;
	*count = 0;
	int rc = sort_digests(&intake, err);
	if (!rc)
		rc = pio_store_begin(store, err);
	bool begun = !rc;
	if (!rc)
		rc = take_all(&intake, runs, count, err);
	pio_intake_sweeps_free(&intake);
	sqlite3_finalize(intake.statement);
	pio_str_fini(&intake.sql);
	if (begun && !rc)
		rc = pio_store_commit(store, err);
	else if (begun)
		pio_store_rollback(store);
	if (rc && begun)
		pio_intake_undo_objects(&intake);
	pio_free(intake.by_digest);
	pio_free(intake.moved);
	if (rc) {
		pio_intake_logs_undo(store, *runs, *count);
		pio_intake_free(*runs, *count);
		*runs = NULL;
		*count = 0;
	}
	return rc;
}

void pio_intake_free(pio_intake_run *runs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		pio_free(runs[i].name);
		pio_free(runs[i].was);
	}
	pio_free(runs);
}
