/* direct.h: points of a run that no program logs: what pioche itself worked out.
 *
 * There is no journal and no attempt: the points are in the database when the
 * transaction is, or are not there. They belong to attempt 1, rank 0. */
#ifndef PIO_STORE_DIRECT_H
#define PIO_STORE_DIRECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/chunk.h"
#include "store/store.h"

/* Add `count` points to the series `key` of a run, in the order given; one
 * transaction, or part of the caller's. PIO_EINVAL: such a key cannot be stored. */
int pio_store_log(pio_store *store, int64_t run_id, const char *key, size_t key_bytes,
                  const pio_chunk_point *points, size_t count, pio_err *err);

#endif
