/* recount.h: what the row of a series should say, from its chunks.
 *
 * Newer attempts hide the steps of older ones from their first step on. Chunks
 * are not decoded but where a newer attempt begins in their midst, and for the
 * newest value. One that cannot be decoded then is left out: what is shown of the
 * series is less than it was until its points are read again (mend.h). */
#ifndef PIO_STORE_RECOUNT_H
#define PIO_STORE_RECOUNT_H

#include "store/chunk.h"
#include "store/store.h"

/* `recent`: points of attempt `recent_of`, which is the latest, logged after all
 * that its chunks hold; without points where there are none. */
int pio_recount(pio_chunk_stats *stats, pio_store *store, int64_t series_id, int recent_of,
                const pio_chunk_stats *recent, pio_err *err);

/* From a row, columns from `at`: count, first_step, last_step, first_ns, last_ns,
 * min, min_step, max, max_step, sum, sum_low, finite, nans. */
void pio_stats_read(pio_chunk_stats *stats, sqlite3_stmt *row, int at);

#endif
