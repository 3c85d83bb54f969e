/* pool.h: allocations of the scheduler that attempts are packed into: their rows.
 * As everything that writes, for the holder of the store. */
#ifndef PIO_STORE_POOL_H
#define PIO_STORE_POOL_H

#include "store/store.h"

/* A new one, starting; its job's key is the caller's to choose, before that exists. */
int pio_store_pool_create(int64_t *id, pio_store *store, const char *ulid, const char *spec, int nodes,
                          const char *key, pio_err *err);
int pio_store_pool_job_set(pio_store *store, int64_t pool_id, const char *job, pio_err *err);
/* Its job runs. */
int pio_store_pool_started(pio_store *store, int64_t pool_id, int64_t started_ns, pio_err *err);
/* It takes nobody any more. */
int pio_store_pool_ending(pio_store *store, int64_t pool_id, pio_err *err);
int pio_store_pool_ended(pio_store *store, int64_t pool_id, const char *message, pio_err *err);
/* An attempt is part of it: this place of its nodes, JSON; and so of its job. */
int pio_store_attempt_place(pio_store *store, int64_t attempt_id, int nodes, int64_t pool_id,
                            const char *place, pio_err *err);

#endif
