#include "store/change.h"

#include "base/clock.h"
#include "store/sql.h"

int pio_store_change_add(int64_t *number, pio_store *store, int64_t sweep_id, const char *kind,
                         const char *detail, const char *reason, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_int(number, store, err,
	                 "SELECT 1 + coalesce(max(number), 0) FROM sweep_change WHERE sweep_id = ?", "i",
	                 sweep_id);
	if (!rc)
		rc = pio_sql_exec(store, err,
		                  "INSERT INTO sweep_change (sweep_id, number, proposed, seen, kind, detail,"
		                  " reason, time_ns) VALUES (?1, ?2,"
		                  " (SELECT max(0, coalesce(max(number), 0)) FROM proposal WHERE sweep_id = ?1),"
		                  " (SELECT coalesce(max(observed), 0) FROM proposal WHERE sweep_id = ?1"
		                  " AND observed > 0),"
		                  " ?3, ?4, ?5, ?6)", "iittti", sweep_id, *number, kind, detail, reason,
		                  pio_clock_wall_ns());
	if (rc)
		pio_store_rollback(store);
	else
		rc = pio_store_commit(store, err);
	return rc;
}

int pio_store_prior_add(pio_store *store, int64_t sweep_id, int64_t change, const char *params,
                        const char *observation, pio_err *err)
{
	return pio_sql_exec(store, err,
	                    "INSERT INTO sweep_prior (sweep_id, number, change, params, observation)"
	                    " VALUES (?1, (SELECT 1 + coalesce(max(number), 0) FROM sweep_prior"
	                    " WHERE sweep_id = ?1), ?2, ?3, ?4)", "iitt", sweep_id, change, params,
	                    observation);
}
