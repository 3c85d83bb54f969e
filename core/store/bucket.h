/* bucket.h: a long series in few rows, for charts; exact, from chunk
 * aggregates wherever a chunk falls whole into a bucket. */
#ifndef PIO_STORE_BUCKET_H
#define PIO_STORE_BUCKET_H

#include <stddef.h>
#include <stdint.h>

#include "store/point.h"
#include "store/reader.h"

#define PIO_BUCKETS_MAX 10000000

typedef struct pio_bucket {
	int64_t first_step, last_step, count, finite;
	double min, max, mean;    /* of finite values; NaN when there is none */
} pio_bucket;

/* At most `buckets_max` buckets of equal step width over the visible points
 * with steps in [step_min, step_max]; empty ones are left out. The caller frees
 * *buckets with pio_free. */
int pio_series_buckets(pio_bucket **buckets, size_t *count, pio_reader *reader, int64_t series_id,
                       int64_t step_min, int64_t step_max, size_t buckets_max, pio_err *err);

/* The same for points from elsewhere that come by step. */
typedef struct pio_bucket_row {
	pio_bucket *all;
	double *sums;             /* of finite values */
	size_t count;
	int64_t step_min;
	uint64_t width;           /* steps a bucket */
} pio_bucket_row;
int pio_bucket_row_init(pio_bucket_row *row, int64_t first_step, int64_t last_step,
                        size_t buckets_max, pio_err *err);
void pio_bucket_row_add(pio_bucket_row *row, const pio_point *points, size_t count);
/* Give the buckets away; at least an allocation also when there is none. */
int pio_bucket_row_take(pio_bucket **buckets, size_t *count, pio_bucket_row *row, pio_err *err);
/* Idempotent; fine on a zeroed row. */
void pio_bucket_row_fini(pio_bucket_row *row);

#endif
