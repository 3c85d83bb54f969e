#include "store/plan.h"

#include <string.h>

#include "base/clock.h"
#include "base/ulid.h"
#include "store/sql.h"

static const char *or_null(const char *text)
{
	return text && *text ? text : NULL;
}

int pio_store_snapshot_add(int64_t *id, pio_store *store, const pio_store_snapshot *snapshot,
                           pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	/* The same commit may be taken once more from another clone of the
	 * repository: the newest place is where it is found. */
	rc = pio_sql_exec(store, err,
	                  "INSERT INTO snapshot (commit_id, tree_id, parent_id, branch, dirty,"
	                  " repository, created_ns, subject) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
	                  " ON CONFLICT (commit_id) DO UPDATE SET repository = ?6", "ttttitit",
	                  snapshot->commit, snapshot->tree, or_null(snapshot->parent),
	                  or_null(snapshot->branch), (int64_t)snapshot->dirty, snapshot->repository,
	                  pio_clock_wall_ns(), or_null(snapshot->subject));
	if (!rc)
		rc = pio_sql_int(id, store, err, "SELECT id FROM snapshot WHERE commit_id = ?1", "t",
		                 snapshot->commit);
	if (rc)
		pio_store_rollback(store);
	else
		rc = pio_store_commit(store, err);
	return rc;
}

int pio_store_sweep_add(int64_t *id, bool *existed, pio_store *store,
                        const pio_store_sweep *sweep, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_int(id, store, err,
	                 "SELECT id FROM sweep WHERE experiment_id = ?1 AND identity = ?2", "it",
	                 sweep->experiment_id, sweep->identity);
	*existed = *id != 0;
	if (!rc && *existed) {
		rc = pio_sql_exec(store, err,
		                  "UPDATE sweep SET state = 'active', ended_ns = NULL, recipe_path = ?2,"
		                  " recipe = ?3 WHERE id = ?1", "itt", *id, sweep->recipe_path,
		                  sweep->recipe);
	} else if (!rc) {
		pio_ulid ulid;
		char text[PIO_ULID_CHARS + 1];
		pio_ulid_new(&ulid);
		pio_ulid_format(&ulid, text);
		rc = pio_sql_exec(store, err,
		                  "INSERT INTO sweep (ulid, experiment_id, identity, spec, recipe_path,"
		                  " recipe, state, created_ns) VALUES (?, ?, ?, ?, ?, ?, 'active', ?)",
		                  "titttti", text, sweep->experiment_id, sweep->identity, sweep->spec,
		                  sweep->recipe_path, sweep->recipe, pio_clock_wall_ns());
		*id = sqlite3_last_insert_rowid(pio_store_db(store));
	}
	if (rc)
		pio_store_rollback(store);
	else
		rc = pio_store_commit(store, err);
	return rc;
}

int pio_store_sweep_state(pio_store *store, int64_t sweep_id, const char *state, pio_err *err)
{
	return pio_sql_exec(store, err,
	                    "UPDATE sweep SET state = ?2, ended_ns ="
	                    " CASE ?2 WHEN 'active' THEN NULL ELSE ?3 END WHERE id = ?1", "iti",
	                    sweep_id, state, pio_clock_wall_ns());
}

int pio_store_sweep_extend(pio_store *store, int64_t sweep_id, int64_t runs, pio_err *err)
{
	return pio_sql_exec(store, err, "UPDATE sweep SET runs = ?2 WHERE id = ?1", "ii", sweep_id, runs);
}

int pio_store_proposal_add(pio_store *store, int64_t sweep_id, int64_t number,
                           const char *params, int64_t seen, pio_err *err)
{
	int64_t other;
	int rc = pio_sql_int(&other, store, err,
	                     "SELECT count(*) FROM proposal WHERE sweep_id = ? AND number = ?"
	                     " AND params != ?", "iit", sweep_id, number, params);
	if (rc)
		return rc;
	if (other)
		return pio_fail(err, PIO_EEXIST,
		                "proposal %lld of the sweep is on record with other parameters",
		                (long long)number);
	return pio_sql_exec(store, err,
	                    "INSERT OR IGNORE INTO proposal (sweep_id, number, params, seen)"
	                    " VALUES (?, ?, ?, ?)", "iiti", sweep_id, number, params, seen);
}

int pio_store_proposal_lineage(pio_store *store, int64_t sweep_id, int64_t number, const char *lineage,
                               pio_err *err)
{
	return pio_sql_exec(store, err, "UPDATE proposal SET lineage = ? WHERE sweep_id = ? AND number = ?", "tii",
	                    lineage, sweep_id, number);
}

int pio_store_proposal_observe(int64_t *ordinal, pio_store *store, int64_t sweep_id, int64_t number,
                               const char *observation, pio_err *err)
{
	int rc = pio_sql_exec(store, err,
	                      "UPDATE proposal SET observation = ?3, observed = 1 + coalesce("
	                      "(SELECT max(observed) FROM proposal WHERE sweep_id = ?1 AND observed > 0), 0)"
	                      " WHERE sweep_id = ?1 AND number = ?2 AND observed IS NULL", "iit", sweep_id,
	                      number, observation);
	if (!rc)
		rc = pio_sql_int(ordinal, store, err,
		                 "SELECT observed FROM proposal WHERE sweep_id = ? AND number = ?", "ii",
		                 sweep_id, number);
	if (!rc && !*ordinal)
		return pio_fail(err, PIO_ENOTFOUND, "the sweep has no proposal %lld", (long long)number);
	return rc;
}

int pio_store_proposal_forecast(pio_store *store, int64_t sweep_id, int64_t number,
                                const char *forecast, pio_err *err)
{
	return pio_sql_exec(store, err, "UPDATE proposal SET forecast = ?3 WHERE sweep_id = ?1 AND number = ?2"
	                    " AND observed IS NULL AND forecast IS NULL", "iit", sweep_id, number, forecast);
}

int pio_store_proposal_run_add(pio_store *store, int64_t sweep_id, int64_t number, int64_t seed,
                               int64_t run_id, pio_err *err)
{
	return pio_sql_exec(store, err,
	                    "INSERT INTO proposal_run (sweep_id, number, seed, run_id)"
	                    " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (sweep_id, number, seed)"
	                    " DO UPDATE SET run_id = ?4", "iiii", sweep_id, number, seed, run_id);
}

int pio_store_stop_request(pio_store *store, int64_t run_id, pio_err *err)
{
	return pio_sql_exec(store, err, "UPDATE run SET stop_requested_ns = ?2 WHERE id = ?1", "ii",
	                    run_id, pio_clock_wall_ns());
}

int pio_store_bundle_add(pio_store *store, int64_t run_id, const char *path, const char *sha256,
                         int64_t size_bytes, pio_err *err)
{
	return pio_sql_exec(store, err,
	                    "INSERT INTO bundle (run_id, path, sha256, bytes, created_ns)"
	                    " VALUES (?, ?, ?, ?, ?)", "ittii", run_id, path, sha256, size_bytes,
	                    pio_clock_wall_ns());
}
