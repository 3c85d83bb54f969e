/* checkpoint_publish.h: the fold's side of checkpoints, for this room alone. */
#ifndef PIO_STORE_CHECKPOINT_PUBLISH_H
#define PIO_STORE_CHECKPOINT_PUBLISH_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* Take one writer's CHECKPOINT record (sys/journal.h); with the last writer's,
 * publish, in the caller's transaction. *published: 1 if so. PIO_ENOTFOUND,
 * PIO_EINVAL and PIO_ECORRUPT mean that it can never be published. */
int pio_checkpoint_report(int *published, pio_store *store, int64_t attempt_id,
                          const uint8_t *payload, size_t size_bytes, pio_err *err);

#endif
