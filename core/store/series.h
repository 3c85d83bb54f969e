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

#include "store/bucket.h"
#include "store/point.h"
#include "store/store.h"

/* Ordered by step, then by the order logged. attempt 0: the visible ones.
 * The caller frees *points with pio_free. */
int pio_store_series_read(pio_point **points, size_t *count, pio_store *store, int64_t series_id,
                          int64_t step_min, int64_t step_max, int attempt, pio_err *err);

/* See pio_series_buckets. */
int pio_store_series_buckets(pio_bucket **buckets, size_t *count, pio_store *store,
                             int64_t series_id, int64_t step_min, int64_t step_max,
                             size_t buckets_max, pio_err *err);

/* The newest value at `step`, else at the nearest step before; *found false
 * when there is none. */
int pio_store_series_value_at(double *value, bool *found, pio_store *store, int64_t series_id,
                              int64_t step, pio_err *err);

/* metrics.csv of a run, "key,rank,step,time_ns,value" with %.17g values ordered
 * by key, rank, step; written to an open file. */
int pio_store_export_csv(pio_store *store, int64_t run_id, int fd, const char *path, pio_err *err);

#endif
