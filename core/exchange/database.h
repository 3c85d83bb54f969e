/* database.h: another program's SQLite file, which may be in use, read without
 * touching it.
 *
 * It is opened read-only: no journal is converted, nothing is checkpointed. A WAL
 * database whose -wal file is absent or empty has all in itself: it is read as
 * immutable, so that no file appears beside it, and pio_database_check says
 * whether that stayed true: ask before what was read is committed. */
#ifndef PIO_EXCHANGE_DATABASE_H
#define PIO_EXCHANGE_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

typedef struct pio_database {
	sqlite3 *db;                /* NULL: closed */
	const char *path;           /* borrowed */
	bool immutable;
	struct stat before;
} pio_database;

int pio_database_open(pio_database *database, const char *path, pio_err *err);
/* PIO_EBUSY if an immutable one was written to since it was opened. */
int pio_database_check(const pio_database *database, pio_err *err);
/* Idempotent. */
void pio_database_close(pio_database *database);

/* "trackio" or "mlflow" by its tables, else NULL. */
const char *pio_database_format(const char *path);

/* A prepared statement with these texts bound (NULL ends them); the caller
 * finalizes it. */
int pio_database_query(sqlite3_stmt **row, const pio_database *database, pio_err *err,
                       const char *sql, ...);
/* Copy the rows of `sql`, which pio_database_listed then gives one by one (from
 * 1), the statement positioned on it: finalize it before anything that takes
 * time, since an open one keeps the source's program from writing. One list at a
 * time. */
int pio_database_list(int64_t *count, const pio_database *database, pio_err *err, const char *sql);
int pio_database_listed(sqlite3_stmt **row, const pio_database *database, int64_t number,
                        pio_err *err);
/* 1: a row; 0: the end; negative: failed. */
int pio_database_row(const pio_database *database, sqlite3_stmt *row, pio_err *err);
bool pio_database_has(const pio_database *database, const char *table, const char *column);
/* A text column, never NULL, and its bytes; borrowed until the next row. */
const char *pio_database_text(sqlite3_stmt *row, int column, size_t *size_bytes);

#endif
