#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "store/archive.h"
#include "store/fold.h"
#include "store/late.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/journal.h"

#define BEGIN_GRACE_MS 10000  /* between announcing a run and taking its lock */
#define LOOK_RECORDS_MAX 1000 /* RUN is the first record a process writes */

typedef struct stray {
	pio_store *store;
	char ulid[PIO_ULID_CHARS + 1];
	char *dir;              /* of its attempt, absolute */
	char *staging;
	bool dead;
	int lock_fd;            /* held while a dead one is dealt with */
	int64_t begun_ns;       /* when its process began the run */
	int64_t heard_ns;       /* when it last wrote to its journal; 0: never */
	int64_t run_id, attempt_id;
} stray;

static char *in_store(const pio_store *store, const char *format, const char *ulid)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/%s/%s%s", pio_store_path(store), format, ulid,
	               strcmp(format, "runs") == 0 ? "/1" : "");
	char *text = pio_str_take(&path);
	pio_str_fini(&path);
	return text;
}

/* ---- is it alive? ---------------------------------------------------------------------------- */

static int find_pulse(stray *s, pio_err *err)
{
	pio_ulid ulid;
	int64_t made_ms = 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/agent.lock", s->dir);
	int rc = pio_str_check(&path, err);
	pio_ulid_parse(&ulid, s->ulid);
	for (int i = 0; i < 6; i++)
		made_ms = made_ms << 8 | ulid.bytes[i];
	s->begun_ns = made_ms * 1000000;
	s->dead = false;
	if (!rc && pio_fs_type(path.data) == PIO_FS_NONE) {
		s->dead = pio_clock_wall_ns() / 1000000 - made_ms > BEGIN_GRACE_MS;
	} else if (!rc) {
		rc = pio_fs_lock(&s->lock_fd, path.data, err);
		s->dead = rc == 0;
		rc = rc == -PIO_EBUSY ? 0 : rc;
	}
	pio_str_fini(&path);
	return rc;
}

/* ---- its row ------------------------------------------------------------------------------------ */

/* A living process writes at least each second. Asked before rings are drained
 * into the journal. */
static int find_last_word(stray *s, pio_err *err)
{
	struct stat st;
	uint32_t segments = 0;
	pio_str first = PIO_STR_INIT, path = PIO_STR_INIT;
	pio_str_printf(&first, "%s/journal.0", s->dir);
	int rc = pio_str_check(&first, err);
	if (!rc && pio_fs_type(s->dir) == PIO_FS_DIR)
		rc = pio_journal_segments(&segments, first.data, err);
	if (!rc && segments)
		rc = pio_journal_segment_path(&path, first.data, segments - 1, err);
	if (!rc && segments && stat(path.data, &st) == 0)
		s->heard_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	pio_str_fini(&first);
	pio_str_fini(&path);
	return rc;
}

/* The RUN record's JSON, from the first segment, which is archived where the
 * database that knew it is gone; *json empty when there is none (yet). *any: the journal holds
 * anything at all. */
static int find_description(pio_str *json, bool *any, stray *s, pio_err *err)
{
	pio_journal_reader *reader = NULL;
	pio_journal_header header;
	pio_record record;
	pio_str path = PIO_STR_INIT;
	*any = false;
	pio_str_printf(&path, "%s/journal.0", s->dir);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_archive_open(&reader, &header, path.data, err);
	if (!rc && header.created_ns > 0)
		s->begun_ns = header.created_ns;
	for (int i = 0; !rc && i < LOOK_RECORDS_MAX; i++) {
		rc = pio_journal_next(reader, &record, err);
		if (rc <= 0)
			break;
		rc = 0;
		*any = true;
		if (record.type != PIO_RECORD_RUN)
			continue;
		pio_cursor cursor = { record.payload, record.payload + record.size_bytes, 0 };
		size_t n;
		(void)pio_cursor_i64(&cursor);
		const char *text = pio_cursor_str(&cursor, &n);
		if (!cursor.bad)
			pio_str_append(json, text, n);
		rc = pio_str_check(json, err);
		break;
	}
	/* None yet, or a header that is not synced yet, is no reason to stop. */
	if (rc == -PIO_ECORRUPT || rc == -PIO_ENOTFOUND)
		rc = 0;
	pio_journal_reader_close(reader);
	pio_str_fini(&path);
	return rc;
}

/* The run is as old as its process says, however late it is adopted. */
static int backdate(const stray *s, int64_t experiment_id, pio_err *err)
{
	int rc = pio_sql_exec(s->store, err, "UPDATE experiment SET created_ns = min(created_ns, ?2)"
	                      " WHERE id = ?1", "ii", experiment_id, s->begun_ns);
	if (!rc)
		rc = pio_sql_exec(s->store, err, "UPDATE run SET created_ns = min(created_ns, ?2),"
		                  " started_ns = min(started_ns, ?2) WHERE id = ?1", "ii", s->run_id,
		                  s->begun_ns);
	if (!rc)
		rc = pio_sql_exec(s->store, err, "UPDATE attempt SET created_ns = min(created_ns, ?2),"
		                  " started_ns = min(started_ns, ?2) WHERE id = ?1", "ii", s->attempt_id,
		                  s->begun_ns);
	return rc;
}

static int insert_rows(stray *s, const pio_str *description, pio_err *err)
{
	char name[PIO_EXPERIMENT_BYTES];
	json_t *json = NULL;
	int number;
	int64_t experiment_id = 0;
	if (description->len)
		(void)pio_json_parse(&json, description->data, description->len, "RUN record", NULL);
	pio_store_experiment_name(name, pio_json_string_or(json, "experiment", "run"));
	pio_store_run_spec spec = { .ulid = s->ulid, .program = json ? description->data : NULL };
	int rc = pio_store_begin(s->store, err);
	if (rc) {
		json_decref(json);
		return rc;
	}
	/* Somebody else may have adopted it a moment ago. */
	rc = pio_sql_int(&s->run_id, s->store, err, "SELECT id FROM run WHERE ulid = ?1", "t", s->ulid);
	if (!rc && !s->run_id) {
		rc = pio_store_experiment(&experiment_id, s->store, name, NULL, NULL, err);
		spec.experiment_id = experiment_id;
		if (!rc)
			rc = pio_store_run_create(&s->run_id, s->store, &spec, err);
		if (!rc)
			rc = pio_store_attempt_create(&s->attempt_id, &number, s->store, s->run_id, "standalone", 1,
			                              NULL, err);
		if (!rc)
			rc = pio_store_attempt_started(s->store, s->attempt_id, pio_json_int_or(json, "pid", 0),
			                               err);
		if (!rc)
			rc = backdate(s, experiment_id, err);
		if (!rc)
			rc = pio_store_rank_set(s->store, s->attempt_id, 0, pio_json_string_or(json, "host", ""),
			                        -1, -1, NULL, NULL, err);
	}
	json_decref(json);
	if (!rc)
		return pio_store_commit(s->store, err);
	pio_store_rollback(s->store);
	return rc;
}

/* ---- its end -------------------------------------------------------------------------------------- */

/* What fold.c found of an EXIT record; without one, the process fell silent. */
static int find_end(pio_store_attempt_end *ending, const stray *s, pio_err *err)
{
	int64_t started_ns = 0, now_ns = pio_clock_wall_ns();
	sqlite3_stmt *row = pio_sql_query(s->store, err, "SELECT exit_code, ended_ns, started_ns FROM attempt"
	                                  " WHERE id = ?1", "i", s->attempt_id);
	int rc = pio_sql_row(s->store, row, err);
	if (rc <= 0)
		return rc;
	bool said = sqlite3_column_type(row, 0) != SQLITE_NULL, ok = said && !sqlite3_column_int(row, 0);
	ending->result = ok ? "ok" : said ? "failed" : "lost";
	ending->message = ok ? NULL : said ? "the program closed the run as failed"
	                                   : "the process ended without closing its run";
	ending->rank = ok ? -1 : 0;
	ending->ended_ns = said ? sqlite3_column_int64(row, 1) : s->heard_ns ? s->heard_ns : now_ns;
	started_ns = sqlite3_column_int64(row, 2);
	pio_sql_reset(row);
	if (ending->ended_ns > now_ns)
		ending->ended_ns = now_ns;
	if (ending->ended_ns < started_ns)
		ending->ended_ns = started_ns;
	return 0;
}

static int finish(stray *s, int64_t last_step, pio_err *err)
{
	pio_store_attempt_end ending = { .exit_code = -1, .signal = -1, .step = last_step };
	int rc = find_end(&ending, s, err);
	if (!rc)
		rc = pio_store_begin(s->store, err);
	if (rc)
		return rc;
	bool ok = ending.rank < 0;
	rc = pio_store_attempt_finish(s->store, s->attempt_id, &ending, err);
	if (!rc)
		rc = pio_store_run_set_status(s->store, s->run_id, ok ? "finished" : "failed", ending.message,
		                              err);
	if (!rc)
		rc = pio_sql_exec(s->store, err, "UPDATE run SET ended_ns = ?2 WHERE id = ?1", "ii", s->run_id,
		                  ending.ended_ns);
	if (!rc)
		return pio_store_commit(s->store, err);
	pio_store_rollback(s->store);
	return rc;
}

static int fold_and_finish(stray *s, pio_err *err)
{
	pio_fold_result result;
	int64_t open = 0, last_step = INT64_MIN;
	int rc = pio_sql_int(&s->attempt_id, s->store, err, "SELECT id FROM attempt WHERE run_id = ?1 AND"
	                     " launcher = 'standalone'", "i", s->run_id);
	if (rc || !s->attempt_id)
		return rc; /* a launched run: its supervisor's */
	rc = pio_store_fold_attempt(&result, s->store, s->attempt_id, s->dead, err);
	if (rc || !s->dead)
		return rc;
	rc = pio_sql_int(&open, s->store, err, "SELECT state != 'ended' FROM attempt WHERE id = ?1", "i",
	                 s->attempt_id);
	sqlite3_stmt *row = rc || !open ? NULL
		: pio_sql_query(s->store, err, "SELECT max(last_step) FROM series WHERE run_id = ?1", "i",
		                s->run_id);
	if (row && pio_sql_row(s->store, row, err) == 1) {
		if (sqlite3_column_type(row, 0) != SQLITE_NULL)
			last_step = sqlite3_column_int64(row, 0);
		pio_sql_reset(row);
	}
	if (!rc && open)
		rc = finish(s, last_step, err);
	return rc ? rc : pio_fs_remove_tree(s->staging, err);
}

/* Sets s->run_id if the run is known already. *launched: and a supervisor's. */
static int find_run(bool *launched, stray *s, pio_err *err)
{
	int64_t own = 0;
	int rc = pio_sql_int(&s->run_id, s->store, err, "SELECT id FROM run WHERE ulid = ?1", "t", s->ulid);
	if (!rc && s->run_id)
		rc = pio_sql_int(&own, s->store, err, "SELECT EXISTS (SELECT 1 FROM attempt WHERE run_id = ?1"
		                 " AND launcher = 'standalone')", "i", s->run_id);
	*launched = s->run_id && !own;
	return rc;
}

static int adopt_one(stray *s, pio_store_recover_rings *recover_rings, pio_err *err)
{
	pio_str description = PIO_STR_INIT;
	bool launched = false, any = false;
	s->dir = in_store(s->store, "runs", s->ulid);
	s->staging = in_store(s->store, "staging", s->ulid);
	int rc = s->dir && s->staging ? find_run(&launched, s, err)
	                              : pio_fail(err, PIO_ENOMEM, "out of memory");
	if (rc || launched)
		return rc;
	rc = find_pulse(s, err);
	if (!rc)
		rc = find_last_word(s, err);
	if (!rc && s->dead && recover_rings && pio_fs_type(s->dir) == PIO_FS_DIR)
		rc = recover_rings(s->dir, s->ulid, 1, 1, err);
	if (!rc && !s->run_id)
		rc = find_description(&description, &any, s, err);
	if (!rc && !s->run_id && (description.len || (s->dead && any)))
		rc = insert_rows(s, &description, err);
	else if (!rc && !s->run_id && s->dead)
		rc = pio_fs_remove_tree(s->staging, err); /* it died before it said anything */
	if (!rc && s->run_id)
		rc = fold_and_finish(s, err);
	pio_str_fini(&description);
	return rc;
}

int pio_store_adopt(pio_store *store, pio_store_recover_rings *recover_rings, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&path, "%s/staging", pio_store_path(store));
	int first = pio_str_check(&path, err);
	if (!first && pio_fs_type(path.data) == PIO_FS_DIR)
		first = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; i < count; i++) {
		pio_ulid ulid;
		pio_err own = PIO_ERR_INIT;
		if (!pio_ulid_parse(&ulid, names[i]))
			continue;
		stray s = { .store = store, .lock_fd = -1 };
		snprintf(s.ulid, sizeof s.ulid, "%s", names[i]);
		int rc = adopt_one(&s, recover_rings, &own);
		if (rc && !first) {
			first = rc;
			if (err)
				*err = own;
		}
		if (s.lock_fd >= 0)
			close(s.lock_fd);
		pio_free(s.dir);
		pio_free(s.staging);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	int rc = pio_store_fold_late(store, first ? NULL : err);
	return first ? first : rc;
}
