/* Reports of writers, until there is one of each. They are counted as they come:
 * a writer costs the same, however many there are. */
#include "store/checkpoint_publish.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/save.h"

/* ---- a report as JSON ----------------------------------------------------------------- */

/* NULL also for bad UTF-8. */
static json_t *file_json(const pio_save_file *file)
{
	json_t *json = json_pack("{s:s%, s:s%, s:I, s:s%}", "role", file->role, file->role_bytes, "path", file->path,
	                         file->path_bytes, "bytes", (json_int_t)file->size_bytes, "sha256", file->sha256,
	                         file->sha256_bytes);
	if (json && file->part && json_object_set_new(json, "part", json_integer(file->part)) != 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

static int save_text(char **text, const pio_save *save, pio_err *err)
{
	json_t *files = json_array();
	*text = NULL;
	for (uint32_t i = 0; i < save->count; i++)
		if (json_array_append_new(files, file_json(&save->files[i])) != 0) {
			json_decref(files);
			return pio_fail(err, PIO_EINVAL, "file %u of the report of rank %u makes no sense", i,
			                save->rank);
		}
	json_t *json = json_pack("{s:I, s:I, s:o}", "stall_ns", (json_int_t)save->stall_ns, "fsyncs",
	                         (json_int_t)save->fsyncs, "files", files);
	json_t *rest = !save->sync ? json_object()
		: json_pack("{s:I, s:I, s:b, s:s}", "total_ns", (json_int_t)save->total_ns, "hash_ns",
		            (json_int_t)save->hash_ns, "asynchronous", (int)save->asynchronous, "sync",
		            save->sync == PIO_SAVE_FSYNC ? "fsync" : "syncfs");
	if (json && rest && json_object_update(json, rest) == 0)
		*text = pio_json_canonical(json);
	json_decref(rest);
	json_decref(json);
	return *text ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a report");
}

/* ---- what will never be part of a checkpoint --------------------------------------------- */

/* Files of one report. What cannot be removed is swept when the attempt is over. */
static void remove_files(const pio_store *store, const char *report)
{
	json_t *json = NULL, *file;
	pio_str path = PIO_STR_INIT;
	size_t i;
	if (pio_json_parse(&json, report, strlen(report), "checkpoint report", NULL) == 0)
		json_array_foreach(json_object_get(json, "files"), i, file)
			if (pio_checkpoint_staged(&path, store, pio_json_string_or(file, "path", ""), NULL) == 0)
				(void)pio_fs_unlink(path.data, NULL);
	json_decref(json);
	pio_str_fini(&path);
}

/* Those of this save, because it failed. */
static int remove_reported(pio_store *store, int64_t save_id, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT report FROM checkpoint_report WHERE save_id = ?1", "i",
	                                  save_id);
	int rc;
	while ((rc = pio_sql_row(store, row, err)) == 1)
		remove_files(store, (const char *)sqlite3_column_text(row, 0));
	return rc ? rc : pio_sql_exec(store, err, "UPDATE checkpoint_report SET report = '{}' WHERE save_id = ?1",
	                              "i", save_id);
}

/* The newest, of a save that had failed before. */
static int remove_own(pio_store *store, int64_t save_id, const pio_save *save, const char *report, pio_err *err)
{
	remove_files(store, report);
	return pio_sql_exec(store, err, "UPDATE checkpoint_report SET report = '{}' WHERE save_id = ?1 AND rank = ?2",
	                    "ii", save_id, (int64_t)save->rank);
}

/* Of this step, rounds before this one: each writer that goes on to another round is
 * through with them. */
static int remove_superseded(pio_store *store, int64_t attempt_id, const pio_save *save, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT r.report FROM checkpoint_report r JOIN checkpoint_save"
	                                  " s ON s.id = r.save_id WHERE s.attempt_id = ?1 AND s.step = ?2 AND"
	                                  " s.writers = ?3 AND s.round < ?4", "iiii", attempt_id, save->step,
	                                  (int64_t)save->writers, (int64_t)save->round);
	int rc;
	while ((rc = pio_sql_row(store, row, err)) == 1)
		remove_files(store, (const char *)sqlite3_column_text(row, 0));
	return rc ? rc : pio_sql_exec(store, err, "DELETE FROM checkpoint_save WHERE attempt_id = ?1 AND step = ?2"
	                              " AND writers = ?3 AND round <= ?4", "iiii", attempt_id, save->step,
	                              (int64_t)save->writers, (int64_t)save->round);
}

/* ---- counting ------------------------------------------------------------------------- */

typedef struct tally {
	int64_t id, reports, failed;
} tally;

static int find_tally(tally *t, pio_store *store, int64_t attempt_id, const pio_save *save, pio_err *err)
{
	int rc = pio_sql_exec(store, err, "INSERT INTO checkpoint_save (attempt_id, step, writers, round) VALUES (?1,"
	                      " ?2, ?3, ?4) ON CONFLICT DO NOTHING", "iiii", attempt_id, save->step,
	                      (int64_t)save->writers, (int64_t)save->round);
	if (rc)
		return rc;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT id, reports, failed FROM checkpoint_save WHERE"
	                                  " attempt_id = ?1 AND step = ?2 AND writers = ?3 AND round = ?4", "iiii",
	                                  attempt_id, save->step, (int64_t)save->writers, (int64_t)save->round);
	rc = pio_sql_row(store, row, err);
	if (rc == 1)
		*t = (tally){ sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1),
		              sqlite3_column_int64(row, 2) };
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

/* A rank that reports twice (one of before version 5 knows no rounds) takes its word back. */
static int count_report(tally *t, pio_store *store, const pio_save *save, const char *text, pio_err *err)
{
	int rc = pio_sql_exec(store, err, "INSERT INTO checkpoint_report (save_id, rank, report) VALUES (?1, ?2, ?3)"
	                      " ON CONFLICT DO NOTHING", "iit", t->id, (int64_t)save->rank, text);
	if (rc)
		return rc;
	if (sqlite3_changes(pio_store_db(store)) == 0)
		return pio_sql_exec(store, err, "UPDATE checkpoint_report SET report = ?3 WHERE save_id = ?1 AND"
		                    " rank = ?2", "iit", t->id, (int64_t)save->rank, text);
	t->reports++;
	return pio_sql_exec(store, err, "UPDATE checkpoint_save SET reports = reports + 1 WHERE id = ?1", "i", t->id);
}

/* Told once, of the first that says so; the others' files make room. */
static int fail_save(tally *t, pio_store *store, int64_t attempt_id, const pio_save *save, pio_err *err)
{
	int64_t run_id = 0;
	pio_str message = PIO_STR_INIT;
	int rc = remove_reported(store, t->id, err);
	if (rc)
		return rc;
	t->failed = 1;
	pio_str_printf(&message, "no checkpoint of step %lld: rank %u could not save its part: ",
	               (long long)save->step, save->rank);
	pio_str_append(&message, save->failure, save->failure_bytes);
	rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE checkpoint_save SET failed = 1 WHERE id = ?1", "i", t->id);
	if (!rc)
		rc = pio_sql_int(&run_id, store, err, "SELECT run_id FROM attempt WHERE id = ?1", "i", attempt_id);
	if (!rc)
		rc = pio_store_event_add(store, run_id, attempt_id, (int)save->rank, save->step, save->time_ns,
		                         "checkpoint.failed", NULL, message.data, err);
	pio_str_fini(&message);
	return rc;
}

static int take_report(int *published, pio_store *store, int64_t attempt_id, const pio_save *save,
                       const char *text, pio_err *err)
{
	tally t = { 0 };
	int rc = find_tally(&t, store, attempt_id, save, err);
	if (!rc)
		rc = count_report(&t, store, save, text, err);
	if (!rc && t.failed)
		rc = remove_own(store, t.id, save, text, err);
	else if (!rc && !save->count)
		rc = fail_save(&t, store, attempt_id, save, err);
	if (rc || t.reports < save->writers)
		return rc;
	if (!t.failed) {
		pio_checkpoint_writers of = { t.id, attempt_id, save->step, save->writers, save->time_ns };
		rc = pio_checkpoint_publish(store, &of, err);
		*published = rc == 0;
	}
	return rc ? rc : remove_superseded(store, attempt_id, save, err);
}

int pio_checkpoint_report(int *published, pio_store *store, int64_t attempt_id,
                          const uint8_t *payload, size_t size_bytes, pio_err *err)
{
	pio_save save;
	char *text = NULL;
	*published = 0;
	int rc = pio_save_get(&save, payload, size_bytes, err);
	if (!rc)
		rc = save_text(&text, &save, err);
	if (!rc)
		rc = take_report(published, store, attempt_id, &save, text, err);
	free(text);
	pio_free(save.files);
	return rc;
}
