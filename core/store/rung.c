#include "store/rung.h"

#include <string.h>

#include "base/clock.h"
#include "store/sql.h"

/* A NaN cannot stand in a column: its bits do. */
static int64_t bits_of_nan(double value)
{
	int64_t bits;
	memcpy(&bits, &value, sizeof bits);
	return value != value ? bits : INT64_MIN;
}

int pio_store_rung_add(pio_store *store, const pio_store_rung *rung, pio_err *err)
{
	int64_t known;
	int rc = pio_sql_int(&known, store, err, "SELECT count(*) FROM rung WHERE sweep_id = ?"
	                     " AND run_id = ? AND step = ?", "iii", rung->sweep_id, rung->run_id,
	                     rung->step);
	if (rc)
		return rc;
	if (known)
		return pio_fail(err, PIO_EEXIST, "the run has passed the rung at step %lld already",
		                (long long)rung->step);
	return pio_sql_exec(store, err,
	                    "INSERT INTO rung (sweep_id, run_id, step, at_step, value, value_bits, best,"
	                    " mean, verdict, reason, time_ns, audited, forecast)"
	                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	                    "iiiidoddttiit", rung->sweep_id, rung->run_id, rung->step, rung->at_step,
	                    rung->value, bits_of_nan(rung->value), rung->best, rung->mean, rung->verdict,
	                    rung->reason, pio_clock_wall_ns(), (int64_t)rung->audited, rung->forecast);
}

int pio_store_rung_promote(pio_store *store, int64_t sweep_id, int64_t run_id, int64_t step,
                           pio_err *err)
{
	return pio_sql_exec(store, err,
	                    "UPDATE rung SET promoted_ns = ?4, promoted_after ="
	                    " (SELECT max(id) FROM rung WHERE sweep_id = ?1) WHERE sweep_id = ?1 AND run_id = ?2"
	                    " AND step = ?3 AND verdict = 'pause' AND promoted_ns IS NULL", "iiii",
	                    sweep_id, run_id, step, pio_clock_wall_ns());
}
