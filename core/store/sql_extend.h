/* sql_extend.h: what pioche adds to SQL, on any connection to a store.
 *
 * point(run, key, rank, attempt, step, time_ns, value [, bits])
 *     Every point that was logged; run is 'gpt-17'. Per step the points of the
 *     newest attempt show, with attempt = N all of that attempt. An int64 is an
 *     INTEGER, everything else REAL; a NaN shows as NULL, and the hidden column
 *     bits holds its IEEE 754 bits (NULL of an INTEGER). Constraints on run, key
 *     (=, IN, GLOB, LIKE), rank (=, IN), attempt (=) and step (=, bounds) choose
 *     which chunks are read at all; rows come by run, key, rank, step, by
 *     descending step where that is asked for.
 *
 * series_lod(run, key, buckets [, rank])
 *     A series in at most `buckets` rows (first_step, last_step, count, min, max,
 *     mean), of rank 0 unless given.
 *
 * area_under(x, y)
 *     The trapezoid rule over the points sorted by x.
 * quantile(value, q)
 *     Of sorted values v[0] to v[n-1] with h = (n-1) q: v[i] + (h-i) (v[i+1]-v[i]),
 *     i = floor(h) (Hyndman and Fan's type 7).
 * smooth(value, alpha) OVER (ORDER BY ...)
 *     Exponential moving average without the bias of its start, as Adam and
 *     TensorBoard have it: m = alpha m + (1-alpha) value, shown as
 *     m / (1 - alpha^n) after n values. Infinite values do not move it.
 *
 * All three leave out NULL, which is how SQL sees a NaN. */
#ifndef PIO_STORE_SQL_EXTEND_H
#define PIO_STORE_SQL_EXTEND_H

#include "store/sqlite.h"

/* All of it; an SQLite result code. */
int pio_sql_extend(sqlite3 *db);

/* ---- its parts ---- */
int pio_point_table_register(sqlite3 *db);
int pio_lod_table_register(sqlite3 *db);
int pio_sql_functions_register(sqlite3 *db);

#endif
