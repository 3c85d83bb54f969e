/* sql.h: how the files of this room speak SQL in few lines.
 *
 * Statements are cached by the address of their text, so `sql` must be a
 * string literal. `types` has one letter a parameter, the arguments follow:
 *
 *   i  int64_t                      t  const char *, NULL is SQL NULL
 *   o  int64_t, INT64_MIN is NULL   s  const char *, size_t
 *   z  int64_t, 0 is NULL           b  const void *, size_t
 *   m  int, negative is NULL        d  double, NaN is NULL
 *
 * Texts and blobs are borrowed until the statement is reset. A query in use
 * must not be asked for again before it is reset. */
#ifndef PIO_STORE_SQL_H
#define PIO_STORE_SQL_H

#include <stdint.h>

#include "store/store.h"

/* Run a statement that returns no row. */
int pio_sql_exec(pio_store *store, pio_err *err, const char *sql, const char *types, ...);
/* First column of the first row; *value is 0 when there is none or it is NULL. */
int pio_sql_int(int64_t *value, pio_store *store, pio_err *err, const char *sql,
                const char *types, ...);
/* A bound statement for pio_sql_row; NULL on failure, which that reports. */
sqlite3_stmt *pio_sql_query(pio_store *store, pio_err *err, const char *sql,
                            const char *types, ...);
/* 1: a row; 0: no more, and the statement is reset; negative: failed, reset. A
 * NULL statement failed in pio_sql_query, with the same `err`. */
int pio_sql_row(pio_store *store, sqlite3_stmt *statement, pio_err *err);
/* Leave a query before its end. NULL is fine. */
void pio_sql_reset(sqlite3_stmt *statement);
/* A text column copied; NULL for SQL NULL or when memory is out. pio_free. */
char *pio_sql_text_copy(sqlite3_stmt *statement, int column);

#endif
