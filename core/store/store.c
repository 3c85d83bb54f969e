#include "store/store_parts.h"

#include "store/chunk.h"

const char *pio_store_path(const pio_store *store)
{
	return store->path;
}

sqlite3 *pio_store_db(pio_store *store)
{
	return store->db;
}

bool pio_store_is_writable(const pio_store *store)
{
	return store->writable;
}

bool pio_store_is_network(const pio_store *store)
{
	return store->network;
}

struct pio_lease **pio_store_lease_slot(pio_store *store)
{
	return &store->lease;
}

bool *pio_store_series_now_slot(pio_store *store)
{
	return &store->series_now;
}

struct pio_fold_names **pio_store_fold_names_slot(pio_store *store)
{
	return &store->fold_names;
}

struct pio_params **pio_store_params_slot(pio_store *store)
{
	return &store->params;
}

struct pio_archiver **pio_store_archiver_slot(pio_store *store)
{
	return &store->archiver;
}

pio_chunk_codec *pio_store_codec(pio_store *store, pio_err *err)
{
	if (!store->codec)
		pio_chunk_codec_new(&store->codec, err);
	return store->codec;
}

pio_reader *pio_store_reader(pio_store *store)
{
	store->reader.db = store->db;
	return &store->reader;
}

/* ---- errors ---------------------------------------------------------------------- */

int pio_store_fail(pio_store *store, pio_err *err, const char *what)
{
	return pio_sqlite_fail(store->db, store->path, err, what);
}

int pio_store_run_sql(pio_store *store, const char *sql, pio_err *err)
{
	int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : pio_store_fail(store, err, sql);
}

/* ---- statements ------------------------------------------------------------------- */

sqlite3_stmt *pio_store_statement(pio_store *store, const char *sql, pio_err *err)
{
	size_t at = ((uintptr_t)sql * 0x9e3779b97f4a7c15u) >> 56;
	while (store->cache[at].sql && store->cache[at].sql != sql)
		at = (at + 1) % PIO_STORE_STATEMENTS;
	if (store->cache[at].sql)
		return store->cache[at].statement;
	if (store->cached >= PIO_STORE_STATEMENTS - 1) {
		pio_fail(err, PIO_EIO, "more than %d kinds of statements", PIO_STORE_STATEMENTS - 1);
		return NULL;
	}
	sqlite3_stmt *statement = NULL;
	if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL)) {
		pio_store_fail(store, err, sql);
		return NULL;
	}
	store->cache[at].sql = sql;
	store->cache[at].statement = statement;
	store->cached++;
	return statement;
}

int pio_store_step_done(pio_store *store, sqlite3_stmt *statement, pio_err *err)
{
	int rc = sqlite3_step(statement);
	int result = rc == SQLITE_DONE || rc == SQLITE_ROW
		? 0 : pio_store_fail(store, err, sqlite3_sql(statement));
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return result;
}

/* ---- transactions ------------------------------------------------------------------ */

/* They surround every fact that is set, so their statements are kept. */
static int step_kept(pio_store *store, const char *sql, pio_err *err)
{
	pio_err own = PIO_ERR_INIT;
	pio_err *e = err ? err : &own;
	sqlite3_stmt *statement = pio_store_statement(store, sql, e);
	return statement ? pio_store_step_done(store, statement, e) : -e->code;
}

int pio_store_begin(pio_store *store, pio_err *err)
{
	if (!store->writable)
		return pio_fail(err, PIO_EINVAL, "store %s is open for reading only", store->path);
	if (store->depth && sqlite3_get_autocommit(store->db))
		return pio_fail(err, PIO_EIO, "store %s: the transaction was undone after an earlier error",
		                store->path);
	int rc = store->roomy ? 0 : pio_store_run_sql(store, "PRAGMA cache_size = -16384", err);
	store->roomy = !rc;
	rc = rc ? rc : step_kept(store, store->depth ? "SAVEPOINT pio" : "BEGIN IMMEDIATE", err);
	if (rc)
		return rc;
	rc = store->depth++ ? 0 : pio_store_lease_check(store, err);
	if (rc)
		pio_store_rollback(store);
	return rc;
}

int pio_store_commit(pio_store *store, pio_err *err)
{
	/* SQLite undoes the whole transaction by itself after some errors; what
	 * was done since must not be taken for committed. */
	if (sqlite3_get_autocommit(store->db)) {
		store->depth--;
		return pio_fail(err, PIO_EIO, "store %s: the transaction was undone after an earlier error",
		                store->path);
	}
	int rc = step_kept(store, store->depth > 1 ? "RELEASE pio" : "COMMIT", err);
	if (rc)
		pio_store_rollback(store);
	else
		store->depth--;
	return rc;
}

void pio_store_rollback(pio_store *store)
{
	store->depth--;
	if (!sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, store->depth ? "ROLLBACK TO pio; RELEASE pio" : "ROLLBACK", NULL,
		             NULL, NULL);
}
