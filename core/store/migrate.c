/* Old stores become new ones, and whoever waits for it is told how long it takes:
 * what takes long is to index tables of many rows, so its progress is theirs. */
#include <stdio.h>
#include <string.h>

#include "store/store_parts.h"

#define OPERATIONS_APART 20000         /* of SQLite's machine, between two reports */
#define OPERATIONS_OF_ROW 9            /* and one for each column of the index */

extern const char pio_migrate_2_sql[], pio_migrate_3_sql[], pio_migrate_4_sql[],
                  pio_migrate_5_sql[];

/* migrations[v] brings a store of version v to v + 1; a new store is made at once. */
static const char *const migrations[PIO_STORE_VERSION] = { [1] = pio_migrate_2_sql,
                                                           [2] = pio_migrate_3_sql,
                                                           [3] = pio_migrate_4_sql,
                                                           [4] = pio_migrate_5_sql };

typedef struct watch {
	pio_store *store;
	int64_t done, total;           /* rows, of the statements before this one and of all */
	int64_t rows, operations;      /* of this statement: how many, and done */
	int64_t row_operations;
} watch;

static int64_t first_int(pio_store *store, const char *sql)
{
	sqlite3_stmt *row = NULL;
	bool found = sqlite3_prepare_v2(store->db, sql, -1, &row, NULL) == SQLITE_OK &&
	             sqlite3_step(row) == SQLITE_ROW;
	int64_t value = found ? sqlite3_column_int64(row, 0) : -1;
	sqlite3_finalize(row);
	return value;
}

/* About how many rows a table has, without counting them: a table of facts has no
 * row ids, and as many rows of each run as of the newest. 0: there is none yet. */
static int64_t rows_of(pio_store *store, const char *table)
{
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT max(rowid) FROM %s", table);
	int64_t rows = first_int(store, sql);
	snprintf(sql, sizeof sql, "SELECT (SELECT count(*) FROM run) * (SELECT count(*) FROM %s WHERE run_id ="
	         " (SELECT max(run_id) FROM %s))", table, table);
	rows = rows < 0 ? first_int(store, sql) : rows;
	return rows < 0 ? 0 : rows;
}

/* Rows that the indices in `sql` are made of, and what the last of them costs. */
static int64_t rows_indexed(int64_t *row_operations, pio_store *store, const char *sql, const char *end)
{
	static const char words[] = "CREATE INDEX ";
	int64_t rows = 0;
	*row_operations = OPERATIONS_OF_ROW;
	for (const char *at = sql; (at = strstr(at, words)) && at < end; at += strlen(words)) {
		char table[64];
		int columns_at = 0;
		if (sscanf(at, "CREATE INDEX %*s ON %63[a-z_] (%n", table, &columns_at) != 1 || !columns_at)
			continue;
		rows += rows_of(store, table);
		*row_operations = OPERATIONS_OF_ROW + 1;
		for (const char *p = at + columns_at; *p && *p != ')'; p++)
			*row_operations += *p == ',';
	}
	return rows;
}

static int heard(void *context)
{
	watch *w = context;
	w->operations += OPERATIONS_APART;
	int64_t rows = w->operations / w->row_operations;
	w->store->progress(w->store->progress_context, NULL, w->done + (rows < w->rows ? rows : w->rows),
	                   w->total);
	return 0;
}

static int run(watch *w, const char *sql, pio_err *err)
{
	while (*sql) {
		sqlite3_stmt *statement = NULL;
		const char *rest = NULL;
		int rc = sqlite3_prepare_v2(w->store->db, sql, -1, &statement, &rest);
		if (rc == SQLITE_OK && statement) {
			w->operations = 0;
			w->rows = w->total ? rows_indexed(&w->row_operations, w->store, sql, rest) : 0;
			rc = sqlite3_step(statement);
			w->done += w->rows;
		}
		if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
			pio_store_fail(w->store, err, "bringing it to a newer version");
			sqlite3_finalize(statement);
			return pio_err_code(err);
		}
		sqlite3_finalize(statement);
		sql = rest;
	}
	return 0;
}

int pio_store_migrate(pio_store *store, int64_t version, pio_err *err)
{
	watch w = { .store = store, .row_operations = OPERATIONS_OF_ROW };
	pio_err own = PIO_ERR_INIT;
	pio_err *e = err ? err : &own;
	int64_t unused;
	for (int64_t v = version; store->progress && v < PIO_STORE_VERSION; v++)
		w.total += rows_indexed(&unused, store, migrations[v], migrations[v] + strlen(migrations[v]));
	if (w.total)
		sqlite3_progress_handler(store->db, OPERATIONS_APART, heard, &w);
	int rc = 0;
	for (int64_t v = version; !rc && v < PIO_STORE_VERSION; v++)
		rc = run(&w, migrations[v], e);
	sqlite3_progress_handler(store->db, 0, NULL, NULL);
	return rc;
}
