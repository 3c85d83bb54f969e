/* fold_names.h: what a journal calls its series, from one fold to the next.
 *
 * To read fifty thousand names again every 2 s would cost more than the points
 * that they are for. A journal's names are only ever added by records that a
 * fold has read, so they are right as long as its place is where they were left;
 * another process that folded in between has moved it. For fold.c alone. */
#ifndef PIO_STORE_FOLD_NAMES_H
#define PIO_STORE_FOLD_NAMES_H

#include "store/fold_batch.h"

/* Give the batch what is known of its journal at that place, if that is known.
 * The batch is new. */
bool pio_fold_names_take(fold_batch *batch, uint32_t segment, int64_t offset);
/* Keep what the batch knows, if there is room for it. The batch is written, and
 * has nothing afterwards. */
void pio_fold_names_keep(fold_batch *batch, uint32_t segment, int64_t offset);
/* After a transaction that failed. */
void pio_fold_names_forget(pio_store *store);
/* NULL is fine. */
void pio_fold_names_free(struct pio_fold_names *names);

#endif
