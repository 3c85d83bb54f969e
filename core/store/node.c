#include "store/node.h"

#include "base/clock.h"
#include "store/sql.h"

static int end(pio_store *store, int rc, pio_err *err)
{
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}

/* What ends an attempt and may be the fault of a machine. */
#define FAILURES "('failed', 'signal', 'node_fail', 'oom', 'hang', 'lost')"

int pio_store_node_ended(pio_store *store, int64_t attempt_id, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	/* A node that fails before its ranks start has none. */
	rc = pio_sql_exec(store, err, "INSERT INTO node (name, first_seen_ns, last_seen_ns, attempts)"
	                  " SELECT n.node, coalesce(a.started_ns, a.created_ns), a.ended_ns, 1 FROM attempt a,"
	                  " (SELECT node FROM rank WHERE attempt_id = ?1"
	                  "  UNION SELECT node FROM attempt WHERE id = ?1) n"
	                  " WHERE a.id = ?1 AND n.node != ''"
	                  " ON CONFLICT (name) DO UPDATE SET attempts = attempts + 1,"
	                  " last_seen_ns = max(last_seen_ns, excluded.last_seen_ns)", "i", attempt_id);
	/* One that was looked at, and no more, took no part. */
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT INTO node (name, first_seen_ns, last_seen_ns)"
		                  " SELECT node, min(time_ns), max(time_ns) FROM node_check"
		                  " WHERE attempt_id = ?1 AND node != '' GROUP BY node"
		                  " ON CONFLICT (name) DO UPDATE SET last_seen_ns ="
		                  " max(last_seen_ns, excluded.last_seen_ns)", "i", attempt_id);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE node SET failures = failures + 1 WHERE name IN (SELECT node"
		                  " FROM attempt WHERE id = ?1 AND result IN " FAILURES " UNION SELECT node"
		                  " FROM node_check WHERE attempt_id = ?1 AND state = 'failed')", "i", attempt_id);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE node SET slow = slow + s.episodes FROM"
		                  " (SELECT r.node, count(*) AS episodes FROM attempt a"
		                  "  JOIN event e ON e.run_id = a.run_id AND e.attempt_id = a.id"
		                  "  JOIN rank r ON r.attempt_id = a.id AND r.rank = e.rank"
		                  "  WHERE a.id = ?1 AND e.kind = 'straggler' GROUP BY r.node) s"
		                  " WHERE node.name = s.node", "i", attempt_id);
	return end(store, rc, err);
}

int pio_store_node_check(pio_store *store, const char *node, int64_t attempt_id, const char *name,
                         const char *state, const char *message, int64_t time_ns, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT OR REPLACE INTO node_check (node, attempt_id, name, state,"
	                  " message, time_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", "tittti", node, attempt_id, name,
	                  state, message, time_ns);
	return end(store, rc, err);
}

int pio_store_node_exclude(pio_store *store, const char *name, int64_t until_ns, const char *reason,
                           pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	int64_t now_ns = pio_clock_wall_ns();
	rc = pio_sql_exec(store, err, "INSERT INTO node (name, first_seen_ns, last_seen_ns, excluded_until_ns,"
	                  " reason) VALUES (?1, ?2, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET"
	                  " excluded_until_ns = excluded.excluded_until_ns, reason = excluded.reason", "tiit",
	                  name, now_ns, until_ns, reason);
	return end(store, rc, err);
}

int pio_store_node_clear(pio_store *store, const char *name, pio_err *err)
{
	int64_t known = 0;
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_int(&known, store, err, "SELECT count(*) FROM node WHERE name = ?1", "t", name);
	if (!rc && !known)
		rc = pio_fail(err, PIO_ENOTFOUND, "no node '%s' has run anything", name);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE node SET excluded_until_ns = NULL, reason = NULL,"
		                  " cleared_ns = ?2 WHERE name = ?1", "ti", name, pio_clock_wall_ns());
	return end(store, rc, err);
}
