/* series.h: reading points.
 *
 * Reads show, per step, what the newest attempt logged: an attempt's points
 * are hidden from the first step that a later attempt logged in that series.
 * Nothing is deleted: ask for one attempt to see all of it. */
#ifndef PIO_STORE_SERIES_H
#define PIO_STORE_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

typedef struct pio_point {
	int64_t step, time_ns;
	union {                   /* bit for bit as logged: */
		double value;
		int64_t whole;    /* with `integer` */
	};
	int32_t attempt;
	bool integer;             /* it was logged as an int64 */
} pio_point;

/* The value of a point as a double, the nearest one to an integer. */
static inline double pio_point_real(const pio_point *point)
{
	return point->integer ? (double)point->whole : point->value;
}

/* Ordered by step, then by the order logged. attempt 0: the visible ones.
 * The caller frees *points with pio_free. */
int pio_store_series_read(pio_point **points, size_t *count, pio_store *store, int64_t series_id,
                          int64_t step_min, int64_t step_max, int attempt, pio_err *err);

/* At most `buckets` buckets of equal step width over the visible points, for
 * charts; from chunk aggregates where a chunk falls whole into a bucket. */
typedef struct pio_bucket {
	int64_t first_step, last_step, count, finite;
	double min, max, mean;    /* of finite values; NaN when there is none */
} pio_bucket;
int pio_store_series_buckets(pio_bucket **buckets, size_t *count, pio_store *store,
                             int64_t series_id, int64_t step_min, int64_t step_max,
                             size_t buckets_max, pio_err *err);

/* Register the virtual table point(run, key, rank, attempt, step, time_ns, value)
 * on the store's connection: run is 'gpt-17', filters on run, key, rank and
 * step are pushed down. */
int pio_store_point_register(pio_store *store, pio_err *err);

/* metrics.csv of a run, "key,rank,step,time_ns,value" with %.17g values ordered
 * by key, rank, step; written to an open file. */
int pio_store_export_csv(pio_store *store, int64_t run_id, int fd, const char *path, pio_err *err);

#endif
