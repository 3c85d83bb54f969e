/* After a crash: what earlier supervisors left open is settled by what is
 * there (locks, exit records, rings, journals), before anything new starts. */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "client/env.h"
#include "launch/supervise_job.h"
#include "launch/supervise_parts.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/proc.h"

/* An agent whose supervisor is gone stops by itself in this time (agent.h). */
#define AGENT_MS 10000
#define KILLED_MS 5000
#define LOOK_MS 50

typedef struct open_list {
	pio_attempt_ref *refs;
	size_t count, capacity;
} open_list;

static int add_row(open_list *list, pio_store *store, sqlite3_stmt *row, pio_err *err)
{
	const char *ulid = (const char *)sqlite3_column_text(row, 2);
	if (!ulid || strlen(ulid) != PIO_ULID_CHARS)
		return pio_fail(err, PIO_ECORRUPT, "run %lld has no ULID",
		                (long long)sqlite3_column_int64(row, 1));
	int rc = pio_grow(&list->refs, &list->capacity, list->count, "open attempts", err);
	if (rc)
		return rc;
	rc = pio_attempt_ref_init(&list->refs[list->count], store, sqlite3_column_int64(row, 1),
	                          sqlite3_column_int64(row, 0), ulid, sqlite3_column_int(row, 3),
	                          sqlite3_column_int(row, 4), err);
	list->count += rc == 0;
	return rc;
}

bool pio_attempt_is_ours(const pio_supervisor *s, int64_t attempt_id)
{
	for (const pio_active *a = s->active; a; a = a->next)
		if (a->ref.id == attempt_id)
			return true;
	return false;
}

int pio_adopt_next(pio_active **adopted, pio_supervisor *s, const char *sql, pio_is_ours *is_ours,
                   pio_adopt_row *adopt_row, pio_err *err)
{
	*adopted = NULL;
	sqlite3_stmt *rows = pio_sql_query(s->store, err, sql, "");
	int rc = rows ? 1 : pio_err_code(err);
	while (rc == 1 && !*adopted && (rc = pio_sql_row(s->store, rows, err)) == 1)
		if (!is_ours(s, sqlite3_column_int64(rows, 0)) && (rc = adopt_row(adopted, s, rows, err)) == 0)
			rc = 1;
	if (rc != 0)
		pio_sql_reset(rows);
	return rc < 0 ? rc : 0;
}

static int find_open(open_list *list, pio_supervisor *s, pio_err *err)
{
	sqlite3_stmt *rows = pio_sql_query(s->store, err, "SELECT a.id, a.run_id, r.ulid, a.number,"
	                                   " a.world_size FROM attempt a JOIN run r ON r.id = a.run_id"
	                                   " WHERE a.state != 'ended' AND a.launcher = 'local'"
	                                   " ORDER BY a.id", "");
	int rc = rows ? 1 : pio_err_code(err);
	while (rc == 1 && (rc = pio_sql_row(s->store, rows, err)) == 1)
		if (!pio_attempt_is_ours(s, sqlite3_column_int64(rows, 0)) &&
		    (rc = add_row(list, s->store, rows, err)) == 0)
			rc = 1;
	if (rc < 0)
		pio_sql_reset(rows);
	return rc;
}

static void kill_marked(const pio_attempt_ref *ref)
{
	pio_str mark = PIO_STR_INIT;
	pio_str_printf(&mark, PIO_ENV_DIR "=%s", ref->dir);
	if (!mark.failed)
		pio_proc_signal_marked(mark.data, SIGKILL);
	pio_str_fini(&mark);
}

/* The lock says whether the agent lives. All wait against one deadline. */
static int settle_one(pio_store *store, const pio_attempt_ref *ref, int64_t deadline_ns, pio_err *err)
{
	pio_ending ending = { .last_step = INT64_MIN };
	json_t *record = NULL;
	bool killed = false;
	int rc;
	while ((rc = pio_attempt_settle(&record, store, ref, &ending, err)) == -PIO_EBUSY) {
		int64_t now_ns = pio_clock_mono_ns();
		if (killed && now_ns > deadline_ns + KILLED_MS * INT64_C(1000000))
			break;
		if (!killed && now_ns > deadline_ns) {
			kill_marked(ref);
			killed = true;
		}
		pio_clock_sleep_ms(LOOK_MS);
	}
	json_decref(record);
	return rc;
}

/* Runs that are 'running' with nothing that runs: the newest attempt decides. */
static int settle_runs(pio_supervisor *s, pio_err *err)
{
	for (;;) {
		sqlite3_stmt *row = pio_sql_query(s->store, err, "SELECT r.id, (SELECT a.result FROM attempt a"
			" WHERE a.run_id = r.id ORDER BY a.number DESC LIMIT 1), r.stop_requested_ns IS NOT NULL"
			" FROM run r WHERE r.status IN ('queued', 'running')"
			" AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.run_id = r.id AND a.state != 'ended')"
			" AND EXISTS (SELECT 1 FROM attempt a WHERE a.run_id = r.id"
			" AND a.launcher != 'standalone') LIMIT 1", "");
		int rc = pio_sql_row(s->store, row, err);
		if (rc <= 0)
			return rc;
		const char *result = (const char *)sqlite3_column_text(row, 1);
		bool ok = result && strcmp(result, "ok") == 0, stop = sqlite3_column_int(row, 2) != 0;
		int64_t run_id = sqlite3_column_int64(row, 0);
		pio_sql_reset(row);
		rc = pio_store_run_set_status(s->store, run_id, ok ? "finished" : stop ? "cancelled" : "planned",
		                              stop && !ok ? "stopped on request" : NULL, err);
		if (rc)
			return rc;
	}
}

int pio_supervisor_recover(pio_supervisor *supervisor, pio_err *err)
{
	open_list list = { NULL, 0, 0 };
	int64_t deadline_ns = pio_clock_mono_ns() + AGENT_MS * INT64_C(1000000);
	int rc = find_open(&list, supervisor, err);
	for (size_t i = 0; i < list.count; i++) {
		if (!rc)
			rc = settle_one(supervisor->store, &list.refs[i], deadline_ns, err);
		pio_attempt_ref_fini(&list.refs[i]);
	}
	pio_free(list.refs);
	if (!rc)
		rc = pio_jobs_adopt(supervisor, err);
	return rc ? rc : settle_runs(supervisor, err);
}
