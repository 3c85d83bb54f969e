#include "store/intake_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "store/intake_sweep.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"

static int take_text(char **to, pio_str *text, pio_err *err)
{
	pio_free(*to);
	*to = pio_str_take(text);
	return *to ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a run");
}

int pio_intake_run_name(pio_intake *intake, pio_err *err)
{
	const char *name = NULL;
	int64_t number = 0;
	pio_str was = PIO_STR_INIT;
	int rc = pio_json_get_string(json_object_get(intake->records, "experiment"), "name", &name,
	                             "run/records.json", err);
	if (!rc)
		rc = pio_json_get_int(json_object_get(intake->records, "run"), "number", &number, "run/records.json",
		                      err);
	if (!rc && (number < 1 || number > INT32_MAX))
		rc = pio_fail(err, PIO_ECORRUPT, "run/records.json: run %lld, expected 1 or more", (long long)number);
	if (rc)
		return rc;
	pio_str_printf(&was, "%s-%lld", name, (long long)number);
	return take_text(&intake->run->was, &was, err);
}

int pio_intake_run_told(pio_intake *intake, pio_err *err)
{
	pio_str name = PIO_STR_INIT;
	sqlite3_stmt *row = pio_sql_query(intake->store, err, "SELECT e.name || '-' || r.number, r.status FROM"
	                                  " run r JOIN experiment e ON e.id = r.experiment_id WHERE r.id = ?1",
	                                  "i", intake->run->run_id);
	int rc = pio_sql_row(intake->store, row, err);
	if (rc != 1)
		return rc ? rc : pio_fail(err, PIO_ECORRUPT, "a run that was taken in is gone");
	pio_str_puts(&name, (const char *)sqlite3_column_text(row, 0));
	snprintf(intake->run->status, sizeof intake->run->status, "%s", sqlite3_column_text(row, 1));
	pio_sql_reset(row);
	return take_text(&intake->run->name, &name, err);
}

/* ---- experiment ------------------------------------------------------------------------ */

static int take_experiment(pio_intake *intake, pio_err *err)
{
	const json_t *experiment = json_object_get(intake->records, "experiment");
	const char *name = pio_json_string_or(experiment, "name", "");
	int64_t known = 0;
	int rc = pio_sql_int(&known, intake->store, err, "SELECT id FROM experiment WHERE name = ?1", "t", name);
	/* The goal of one that is here is its own recipes' to say. */
	bool has_goal = !known && pio_json_string_or(experiment, "goal", NULL);
	if (!rc)
		rc = pio_store_experiment(&intake->experiment_id, intake->store, name,
		                          has_goal ? pio_json_string_or(experiment, "goal_key", NULL) : NULL,
		                          has_goal ? pio_json_string_or(experiment, "goal", NULL) : NULL, err);
	int64_t created_ns = pio_json_int_or(experiment, "created_ns", 0);
	if (!rc && !known && created_ns > 0)
		rc = pio_sql_exec(intake->store, err, "UPDATE experiment SET created_ns = ?2 WHERE id = ?1", "ii",
		                  intake->experiment_id, created_ns);
	return rc;
}

/* ---- the code --------------------------------------------------------------------------- */

const char *pio_intake_repository(const json_t *snapshot)
{
	bool own = !*pio_json_string_or(snapshot, "parent_id", "") && !*pio_json_string_or(snapshot, "branch", "");
	return own ? "code.git" : "imported.git";
}

static int insert_snapshot(int64_t *id, pio_intake *intake, const json_t *row, pio_err *err)
{
	static const char *const others[] = { "object", "files", "ref" };
	json_t *values = json_copy((json_t *)(uintptr_t)row);
	pio_str repository = PIO_STR_INIT;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		json_object_del(values, others[i]);
	pio_str_printf(&repository, "%s/%s", pio_store_path(intake->store), pio_intake_repository(row));
	int rc = pio_str_check(&repository, err);
	if (!rc)
		rc = pio_intake_row(intake, "snapshot", values, json_pack("{s:s}", "repository", repository.data),
		                    "code.json", err);
	*id = rc ? 0 : sqlite3_last_insert_rowid(pio_store_db(intake->store));
	json_decref(values);
	pio_str_fini(&repository);
	return rc;
}

/* *id 0: its code is not in the bundle, or none is known. */
static int take_snapshot(int64_t *id, pio_intake *intake, pio_err *err)
{
	const char *commit = pio_json_string_or(intake->records, "commit", NULL);
	json_t *list = NULL, *row;
	size_t i;
	*id = 0;
	if (!commit)
		return 0;
	int rc = pio_sql_int(id, intake->store, err, "SELECT id FROM snapshot WHERE commit_id = ?1", "t", commit);
	if (rc || *id || !pio_intake_find(intake->bag, "code.json"))
		return rc;
	rc = pio_intake_parse(&list, intake, "code.json", err);
	json_array_foreach(list, i, row)
		if (!rc && !*id && !strcmp(pio_json_string_or(row, "commit_id", ""), commit))
			rc = insert_snapshot(id, intake, row, err);
	json_decref(list);
	return rc;
}

/* ---- the row ------------------------------------------------------------------------------ */

/* Its own number where that is free. */
static int choose_number(int64_t *number, pio_intake *intake, pio_err *err)
{
	int64_t taken = 0;
	*number = pio_json_int_or(json_object_get(intake->records, "run"), "number", 0);
	int rc = pio_sql_int(&taken, intake->store, err, "SELECT EXISTS (SELECT 1 FROM run WHERE experiment_id = ?1"
	                     " AND number = ?2)", "ii", intake->experiment_id, *number);
	if (!rc && taken)
		rc = pio_sql_int(number, intake->store, err, "SELECT next_number FROM experiment WHERE id = ?1", "i",
		                 intake->experiment_id);
	if (!rc)
		rc = pio_sql_exec(intake->store, err, "UPDATE experiment SET next_number = max(next_number, ?2 + 1)"
		                  " WHERE id = ?1", "ii", intake->experiment_id, *number);
	return rc;
}

static int choose_generation(int64_t *generation, const pio_intake *intake, pio_err *err)
{
	const json_t *run = json_object_get(intake->records, "run");
	const char *identity = pio_json_string_or(run, "identity", NULL);
	int64_t taken = 0;
	*generation = pio_json_int_or(run, "generation", 1);
	if (!identity)
		return 0;
	int rc = pio_sql_int(&taken, intake->store, err, "SELECT EXISTS (SELECT 1 FROM run WHERE identity = ?1 AND"
	                     " generation = ?2)", "ti", identity, *generation);
	if (!rc && taken)
		rc = pio_sql_int(generation, intake->store, err, "SELECT max(generation) + 1 FROM run WHERE"
		                 " identity = ?1", "t", identity);
	return rc;
}

/* What was not over then is over now: nobody here can go on with it. */
static void end_status(json_t **fixed, const json_t *run)
{
	const char *status = pio_json_string_or(run, "status", "");
	bool went_on = !strcmp(status, "running") || !strcmp(status, "queued");
	if (!went_on && strcmp(status, "planned") != 0)
		return;
	pio_intake_put(fixed, "status", json_string(went_on ? "failed" : "cancelled"));
	pio_intake_put(fixed, "reason", json_string(went_on ? "it went on when it was exported"
	                                                    : "it was planned when it was exported"));
}

int pio_intake_run_insert(pio_intake *intake, pio_err *err)
{
	const json_t *run = json_object_get(intake->records, "run");
	int64_t number = 0, generation = 0, sweep_id = 0, snapshot_id = 0;
	int rc = take_experiment(intake, err);
	if (!rc)
		rc = choose_number(&number, intake, err);
	if (!rc)
		rc = choose_generation(&generation, intake, err);
	if (!rc)
		rc = pio_intake_sweep(&sweep_id, intake, err);
	if (!rc)
		rc = take_snapshot(&snapshot_id, intake, err);
	if (rc)
		return rc;
	json_t *fixed = json_pack("{s:I, s:I, s:I}", "experiment_id", (json_int_t)intake->experiment_id, "number",
	                          (json_int_t)number, "generation", (json_int_t)generation);
	if (sweep_id)
		pio_intake_put(&fixed, "sweep_id", json_integer(sweep_id));
	if (snapshot_id)
		pio_intake_put(&fixed, "snapshot_id", json_integer(snapshot_id));
	end_status(&fixed, run);
	rc = pio_intake_row(intake, "run", run, fixed, "run/records.json", err);
	intake->run->run_id = rc ? 0 : sqlite3_last_insert_rowid(pio_store_db(intake->store));
	return rc ? rc : pio_intake_proposals(intake, sweep_id, err);
}

/* ---- one that is here already ------------------------------------------------------------- */

#define SAME_PARAM "SELECT EXISTS (SELECT 1 FROM param WHERE run_id = ?1 AND name = ?2 AND kind = ?3 AND" \
	" coalesce(bits, 0) = ?4 AND value IS ?5)"

/* Does the run have this parameter, bit for bit? */
static int has_param(int64_t *has, pio_store *store, int64_t run_id, const json_t *row, pio_err *err)
{
	const json_t *value = json_object_get(row, "value");
	const char *name = pio_json_string_or(row, "name", ""), *kind = pio_json_string_or(row, "kind", "");
	int64_t bits = pio_json_int_or(row, "bits", 0);
	if (json_is_integer(value))
		return pio_sql_int(has, store, err, SAME_PARAM, "itti" "i", run_id, name, kind, bits,
		                   (int64_t)json_integer_value(value));
	if (json_is_real(value))
		return pio_sql_int(has, store, err, SAME_PARAM, "itti" "d", run_id, name, kind, bits,
		                   json_real_value(value));
	return pio_sql_int(has, store, err, SAME_PARAM, "itti" "t", run_id, name, kind, bits,
	                   json_string_value(value));
}

/* How many parameters of the bundle the run has. */
static int count_same(int64_t *same, const pio_intake *intake, int64_t run_id, pio_err *err)
{
	size_t i;
	json_t *row;
	int rc = 0;
	*same = 0;
	json_array_foreach(json_object_get(intake->records, "params"), i, row) {
		int64_t has = 0;
		rc = rc ? rc : has_param(&has, intake->store, run_id, row, err);
		*same += has;
	}
	return rc;
}

int pio_intake_run_same(pio_intake *intake, int64_t run_id, pio_err *err)
{
	int64_t same = 0, count = 0;
	size_t wanted = json_array_size(json_object_get(intake->records, "params"));
	bool points = false;
	intake->run->run_id = run_id;
	int rc = count_same(&same, intake, run_id, err);
	if (!rc)
		rc = pio_sql_int(&count, intake->store, err, "SELECT count(*) FROM param WHERE run_id = ?1", "i",
		                 run_id);
	if (!rc)
		rc = pio_intake_points_equal(&points, intake, run_id, err);
	if (!rc)
		rc = pio_intake_run_told(intake, err);
	if (rc || (points && count == same && (size_t)count == wanted))
		return rc;
	return pio_fail(err, PIO_EEXIST, "%s of the bundle is %s here (%s), but with other %s: it went on since one"
	                " of the two was exported, or is not what it says; nothing is taken from it",
	                intake->run->was, intake->run->name, intake->run->ulid, points ? "parameters" : "points");
}

/* ---- logs ------------------------------------------------------------------------------------ */

/* "logs/<attempt>/rank-<n>.out" or .err: numbers, and nothing else. */
static bool is_log(const char *path, int64_t *attempt)
{
	char *end = NULL;
	*attempt = strtoll(path, &end, 10);
	if (*path < '1' || *path > '9' || *attempt > INT32_MAX || strncmp(end, "/rank-", 6) != 0)
		return false;
	const char *number = end + 6;
	size_t digits = strspn(number, "0123456789");
	return digits > 0 && digits < 10 && (!strcmp(number + digits, ".out") || !strcmp(number + digits, ".err"));
}

/* A run that is not in the database, but has its directory: another process may have
 * begun it, unless there is nothing but what an intake leaves. */
static int clear_directory(const pio_str *dir, const pio_intake *intake, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	bool used = false;
	pio_str_printf(&path, "%s/1/journal.0", dir->data);
	int rc = pio_str_check(&path, err);
	used = !rc && pio_fs_type(path.data) != PIO_FS_NONE;
	pio_str_clear(&path);
	pio_str_printf(&path, "%s/1/agent.lock", dir->data);
	rc = rc ? rc : pio_str_check(&path, err);
	used = used || (!rc && pio_fs_type(path.data) != PIO_FS_NONE);
	pio_str_fini(&path);
	if (!rc && used)
		rc = pio_fail(err, PIO_EBUSY, "run %s is being begun in this store: %s", intake->run->ulid, dir->data);
	return rc ? rc : pio_fs_remove_tree(dir->data, err);
}

/* A second name, for the same bytes may have to become an object; where there are
 * none, its only one. */
static int link_log(pio_str *dir, const pio_intake_file *file, const char *name, pio_err *err)
{
	size_t len = dir->len;
	const char *slash = strchr(name, '/');
	pio_str_printf(dir, "/%.*s", (int)(slash - name), name);
	int rc = pio_str_check(dir, err);
	if (!rc)
		rc = pio_fs_mkdirs(dir->data, 0777, err);
	pio_str_puts(dir, slash);
	rc = rc ? rc : pio_str_check(dir, err);
	if (!rc)
		rc = pio_fs_link(file->staged, dir->data, NULL) ? pio_fs_rename(file->staged, dir->data, err) : 0;
	dir->len = len;
	dir->data[len] = 0;
	return rc;
}

int pio_intake_logs(pio_intake *intake, pio_err *err)
{
	char prefix[1024];
	pio_str dir = PIO_STR_INIT, runs = PIO_STR_INIT;
	int64_t attempt, id;
	snprintf(prefix, sizeof prefix, "%srun/logs/", intake->prefix);
	size_t n = strlen(prefix);
	pio_str_printf(&runs, "%s/runs", pio_store_path(intake->store));
	pio_str_printf(&dir, "%s/%s", runs.data, intake->run->ulid);
	int rc = pio_str_check(&runs, err);
	if (!rc)
		rc = pio_str_check(&dir, err);
	if (!rc)
		rc = clear_directory(&dir, intake, err);
	intake->run->has_directory = !rc;
	if (!rc)
		rc = pio_fs_mkdirs(dir.data, 0777, err);
	for (size_t i = 0; !rc && i < intake->bag->count; i++) {
		const pio_intake_file *file = &intake->bag->files[i];
		if (strncmp(file->path, prefix, n) != 0 || !is_log(file->path + n, &attempt))
			continue;
		rc = pio_intake_attempt(&id, intake, attempt, err);
		if (!rc)
			rc = link_log(&dir, file, file->path + n, err);
	}
	if (!rc)
		rc = pio_fs_sync_filesystem(runs.data, err);
	pio_str_fini(&dir);
	pio_str_fini(&runs);
	return rc;
}

void pio_intake_logs_undo(pio_store *store, const pio_intake_run *runs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		pio_str dir = PIO_STR_INIT;
		pio_str_printf(&dir, "%s/runs/%s", pio_store_path(store), runs[i].ulid);
		if (runs[i].has_directory && !dir.failed)
			(void)pio_fs_remove_tree(dir.data, NULL);
		pio_str_fini(&dir);
	}
}
