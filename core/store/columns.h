/* columns.h: all rows that a query gives, kept until somebody asks for a value of one.
 *
 * For those who look at few values of very many rows: a value is copied out of SQLite
 * once, eight bytes and its text, and is made into nothing else before it is asked for. Rows and
 * columns are counted from 0. Knows nothing of what the values mean. Of one thread. */
#ifndef PIO_STORE_COLUMNS_H
#define PIO_STORE_COLUMNS_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct pio_columns pio_columns;

typedef struct pio_column_value {
	int type;           /* SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_NULL; SQLITE_TEXT also of a blob */
	int64_t whole;
	double real;
	const char *text;   /* borrowed until the next row is added; not NUL-terminated */
	size_t bytes;
} pio_column_value;

/* No rows yet, of `count` columns. */
int pio_columns_new(pio_columns **columns, int count, pio_err *err);
void pio_columns_free(pio_columns *columns);
/* One more row: that on which the statement, of as many columns, stands. -PIO_ENOMEM
 * leaves the rows before it as they are. */
int pio_columns_add(pio_columns *columns, sqlite3_stmt *statement, pio_err *err);
size_t pio_columns_rows(const pio_columns *columns);
/* How much memory they take. */
size_t pio_columns_bytes(const pio_columns *columns);
pio_column_value pio_columns_get(const pio_columns *columns, size_t row, int column);

#endif
