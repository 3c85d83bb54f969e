/* store_parts.h: what a store is, for store.c (statements and transactions),
 * open.c (its beginning and end) and migrate.c (old versions) alone. */
#ifndef PIO_STORE_STORE_PARTS_H
#define PIO_STORE_STORE_PARTS_H

#include "store/lease.h"
#include "store/reader.h"
#include "store/store.h"

#define PIO_STORE_STATEMENTS 256 /* slots of the statement cache, a power of two */

struct pio_store {
	char *path, *db_path;
	sqlite3 *db;
	bool writable, network;
	bool roomy;         /* its cache of pages holds what a transaction changes */
	bool series_now;    /* the view of series_now.h is there */
	int depth;          /* of begin */
	pio_store_progress *progress;  /* NULL: nobody asked, or it is open */
	void *progress_context;
	struct pio_lease *lease;   /* NULL: not held */
	struct pio_archiver *archiver;
	struct pio_fold_names *fold_names;
	struct pio_params *params; /* that are being read; NULL: none */
	pio_chunk_codec *codec;
	pio_reader reader;
	struct {
		const char *sql;
		sqlite3_stmt *statement;
	} cache[PIO_STORE_STATEMENTS];
	int cached;
};

/* store.c: execute SQL that returns nothing. */
int pio_store_run_sql(pio_store *store, const char *sql, pio_err *err);

/* migrate.c: bring the tables from `version` to ours, within a transaction. */
int pio_store_migrate(pio_store *store, int64_t version, pio_err *err);

#endif
