/* reduce.h: all ranks of a metric as one series, a point a step.
 *
 * Of several values that one rank logged at a step the newest counts. A NaN is
 * left out; the mean is over finite values alone, as those of buckets are.
 * Where nothing is left the value is NaN. min and max give back a logged value
 * bit for bit, argmax the rank with the largest one as an integer; of equal
 * values the lowest rank's counts. Time and attempt are the newest of the ranks.
 *
 * Ranks are read one after another within windows of steps, so that memory is
 * that of a window, however many ranks there are. */
#ifndef PIO_STORE_REDUCE_H
#define PIO_STORE_REDUCE_H

#include <stddef.h>
#include <stdint.h>

#include "store/bucket.h"
#include "store/point.h"
#include "store/reader.h"

enum pio_reduce { PIO_REDUCE_MEAN, PIO_REDUCE_MAX, PIO_REDUCE_MIN, PIO_REDUCE_ARGMAX };

/* "mean", "max", "min", "argmax"; anything else is PIO_EINVAL. */
int pio_reduce_parse(enum pio_reduce *how, const char *word, pio_err *err);

typedef struct pio_reduction pio_reduction;

/* PIO_ENOTFOUND: the run has no such metric. */
int pio_reduction_open(pio_reduction **reduction, pio_reader *reader, int64_t run_id, const char *key,
                       enum pio_reduce how, int64_t step_min, int64_t step_max, pio_err *err);
/* 1 and the next points, at least one, by step, and how many ranks logged each
 * step; borrowed until the next call. 0 at the end. */
int pio_reduction_group(const pio_point **points, const int32_t **ranks, size_t *count,
                        pio_reduction *reduction, pio_err *err);
void pio_reduction_close(pio_reduction **reduction);

/* All of it at once; *points and *ranks are the caller's to free with pio_free. */
int pio_reduce_points(pio_point **points, int32_t **ranks, size_t *count, pio_reader *reader,
                      int64_t run_id, const char *key, enum pio_reduce how, int64_t step_min,
                      int64_t step_max, pio_err *err);
/* See pio_series_buckets. */
int pio_reduce_buckets(pio_bucket **buckets, size_t *count, pio_reader *reader, int64_t run_id,
                       const char *key, enum pio_reduce how, int64_t step_min, int64_t step_max,
                       size_t buckets_max, pio_err *err);

#endif
