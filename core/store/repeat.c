#include "store/repeat.h"

#include "store/sql.h"

int pio_store_repeat_add(pio_store *store, int64_t sweep_id, int64_t number, int64_t seed,
                         int64_t run_id, int64_t asked, int64_t seen, pio_err *err)
{
	int64_t known;
	int rc = pio_sql_int(&known, store, err, "SELECT count(*) FROM proposal_run WHERE sweep_id = ?"
	                     " AND number = ? AND seed = ?", "iii", sweep_id, number, seed);
	if (rc)
		return rc;
	if (known)
		return pio_fail(err, PIO_EEXIST, "proposal %lld runs with seed %lld already",
		                (long long)number, (long long)seed);
	return pio_sql_exec(store, err,
	                    "INSERT INTO proposal_run (sweep_id, number, seed, run_id, asked, seen, changed) VALUES"
	                    " (?1, ?2, ?3, ?4, ?5, ?6, (SELECT count(*) FROM sweep_change WHERE sweep_id = ?1))",
	                    "iiiiii", sweep_id, number, seed, run_id, asked, seen);
}

int pio_store_repeat_observe(pio_store *store, int64_t sweep_id, int64_t number, int64_t seed,
                             int64_t observed, double value, pio_err *err)
{
	return pio_sql_exec(store, err,
	                    "UPDATE proposal_run SET value = ?5, observed = ?4"
	                    " WHERE sweep_id = ?1 AND number = ?2 AND seed = ?3 AND observed IS NULL", "iiiid",
	                    sweep_id, number, seed, observed, value);
}
