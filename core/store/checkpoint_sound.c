/* Which checkpoint is one to start from? One whose files are all there, of the
 * right size, and of which `pioche verify` has found none to have other bytes. */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/str.h"
#include "store/checkpoint.h"
#include "store/object_look.h"
#include "store/run.h"
#include "store/sql.h"

/* Verdicts that a look confirms or takes back. */
#define LOOKED_AT \
	"('write', 'quick', 'reread', 'is missing', 'is no file', 'has a wrong size', 'has no anchor any more')"

/* Of a row rank, role, sha256, bytes, verdict: NULL where it is sound. A verdict on
 * the bytes counts until `pioche verify` takes it back; what a look can tell is
 * looked at now. */
static int what_is_wrong(const char **what, pio_store *store, sqlite3_stmt *row, pio_err *err)
{
	pio_object_look look;
	*what = (const char *)sqlite3_column_text(row, 4);
	if (*what)
		return 0;
	int rc = pio_object_look_at(&look, store, (const char *)sqlite3_column_text(row, 2),
	                            sqlite3_column_int64(row, 3), PIO_VERIFY_QUICK, NULL, NULL, err);
	*what = look.what;
	pio_object_look_fini(&look);
	return rc;
}

int pio_store_checkpoint_sound(bool *sound, pio_str *why, pio_store *store, int64_t checkpoint_id,
                               pio_err *err)
{
	int64_t wrong = 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT f.rank, f.role, f.sha256, o.bytes, CASE WHEN"
	                                  " o.verified NOT IN " LOOKED_AT " THEN o.verified WHEN"
	                                  " a.verified NOT IN " LOOKED_AT " THEN 'has a damaged anchor' END"
	                                  " FROM checkpoint_file f JOIN object o ON o.sha256 = f.sha256"
	                                  " LEFT JOIN object a ON a.sha256 = o.anchor WHERE"
	                                  " f.checkpoint_id = ?1 ORDER BY f.rank, f.role", "i", checkpoint_id);
	int rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		const char *what = NULL;
		rc = what_is_wrong(&what, store, row, err);
		if (rc)
			break;
		if (what && !wrong++ && why)
			pio_str_printf(why, "rank %lld's %s (object %.12s...) %s",
			               (long long)sqlite3_column_int64(row, 0),
			               sqlite3_column_text(row, 1), sqlite3_column_text(row, 2), what);
		rc = pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	if (!rc && why && wrong > 1)
		pio_str_printf(why, " (and %" PRId64 " more of its files)", wrong - 1);
	*sound = !rc && !wrong;
	return rc ? rc : why ? pio_str_check(why, err) : 0;
}

/* The next one below `step` and `id`: 1, 0 or failed. */
static int next_older(int64_t *id, int64_t *step, pio_store *store, int64_t run_id, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT id, step FROM checkpoint WHERE run_id = ?1 AND"
	                                  " state = 'sealed' AND (step, id) < (?2, ?3) ORDER BY step DESC,"
	                                  " id DESC LIMIT 1", "iii", run_id, *step, *id);
	int rc = pio_sql_row(store, row, err);
	if (rc == 1) {
		*id = sqlite3_column_int64(row, 0);
		*step = sqlite3_column_int64(row, 1);
		pio_sql_reset(row);
	}
	return rc;
}

static int newest(int64_t *found, int64_t *found_step, pio_store *store, int64_t run_id, pio_err *err)
{
	int64_t id = INT64_MAX, step = INT64_MAX;
	bool sound = false;
	*found = 0;
	while (!sound) {
		int rc = next_older(&id, &step, store, run_id, err);
		if (rc <= 0)
			return rc;
		rc = pio_store_checkpoint_sound(&sound, NULL, store, id, err);
		if (rc)
			return rc;
	}
	*found = id;
	*found_step = step;
	return 0;
}

int pio_store_checkpoint_newest(int64_t *id, pio_store *store, int64_t run_id, pio_err *err)
{
	int64_t step;
	return newest(id, &step, store, run_id, err);
}

/* Said once: a run that is started again and again does not tell it each time. */
static int say_passed_over(pio_store *store, int64_t run_id, int64_t step, const char *why, const char *then,
                           pio_err *err)
{
	int64_t known = 0;
	pio_str message = PIO_STR_INIT;
	pio_str_printf(&message, "the checkpoint of step %" PRId64 " is passed over: %s; %s", step, why, then);
	int rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_sql_int(&known, store, err, "SELECT EXISTS (SELECT 1 FROM event WHERE run_id = ?1 AND"
		                 " kind = 'checkpoint.unsound' AND message = ?2)", "it", run_id, message.data);
	if (!rc && !known)
		rc = pio_store_event_add(store, run_id, 0, -1, step, pio_clock_wall_ns(), "checkpoint.unsound", NULL,
		                         message.data, err);
	pio_str_fini(&message);
	return rc;
}

int pio_store_checkpoint_resume(int64_t *id, pio_store *store, int64_t run_id, pio_err *err)
{
	int64_t passed = INT64_MAX, step = INT64_MAX, resume_step = 0;
	char then[80] = "none is sound, and the run begins anew";
	int rc = newest(id, &resume_step, store, run_id, err);
	if (!rc && *id)
		snprintf(then, sizeof then, "step %" PRId64 " is the newest sound one", resume_step);
	while (!rc) {
		pio_str why = PIO_STR_INIT;
		bool sound;
		rc = next_older(&passed, &step, store, run_id, err);
		if (rc <= 0 || passed == *id)
			return rc < 0 ? rc : 0;
		rc = pio_store_checkpoint_sound(&sound, &why, store, passed, err);
		if (!rc && !sound)
			rc = say_passed_over(store, run_id, step, why.data, then, err);
		pio_str_fini(&why);
	}
	return rc;
}
