#include "store/pool.h"

#include "base/clock.h"
#include "store/sql.h"

/* One statement that must find its row. */
static int end(pio_store *store, int rc, const char *what, int64_t id, pio_err *err)
{
	if (!rc && sqlite3_changes(pio_store_db(store)) == 0)
		rc = pio_fail(err, PIO_ENOTFOUND, "there is no %s with id %lld", what, (long long)id);
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}

int pio_store_pool_create(int64_t *id, pio_store *store, const char *ulid, const char *spec, int nodes,
                          const char *key, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT INTO pool (ulid, spec, state, nodes, job_key, created_ns)"
	                  " VALUES (?1, ?2, 'starting', ?3, ?4, ?5)", "ttiti", ulid, spec, (int64_t)nodes, key,
	                  pio_clock_wall_ns());
	*id = rc ? 0 : sqlite3_last_insert_rowid(pio_store_db(store));
	return end(store, rc, "pool", *id, err);
}

int pio_store_pool_job_set(pio_store *store, int64_t pool_id, const char *job, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE pool SET job = ?2 WHERE id = ?1", "it", pool_id, job);
	return end(store, rc, "pool", pool_id, err);
}

int pio_store_pool_started(pio_store *store, int64_t pool_id, int64_t started_ns, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE pool SET state = CASE state WHEN 'starting' THEN 'running'"
	                  " ELSE state END, started_ns = coalesce(started_ns, ?2) WHERE id = ?1", "ii", pool_id,
	                  started_ns);
	return end(store, rc, "pool", pool_id, err);
}

int pio_store_pool_ending(pio_store *store, int64_t pool_id, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE pool SET state = CASE state WHEN 'ended' THEN state"
	                  " ELSE 'ending' END WHERE id = ?1", "i", pool_id);
	return end(store, rc, "pool", pool_id, err);
}

int pio_store_pool_ended(pio_store *store, int64_t pool_id, const char *message, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE pool SET state = 'ended', message = ?2,"
	                  " ended_ns = coalesce(ended_ns, ?3) WHERE id = ?1", "iti", pool_id, message,
	                  pio_clock_wall_ns());
	return end(store, rc, "pool", pool_id, err);
}

int pio_store_attempt_place(pio_store *store, int64_t attempt_id, int nodes, int64_t pool_id,
                            const char *place, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE attempt SET nodes = ?2, pool_id = ?3, place = ?4,"
	                  " job = (SELECT job FROM pool WHERE id = ?3) WHERE id = ?1", "iiit", attempt_id,
	                  (int64_t)nodes, pool_id, place);
	return end(store, rc, "attempt", attempt_id, err);
}
