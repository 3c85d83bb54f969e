/* checkpoint_publish.h: the fold's side of checkpoints, for this room alone. */
#ifndef PIO_STORE_CHECKPOINT_PUBLISH_H
#define PIO_STORE_CHECKPOINT_PUBLISH_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "store/store.h"

/* Take one writer's CHECKPOINT record (sys/save.h); with the last writer's,
 * publish, in the caller's transaction. *published: 1 if so. PIO_ENOTFOUND,
 * PIO_EINVAL and PIO_ECORRUPT mean that it can never be published. */
int pio_checkpoint_report(int *published, pio_store *store, int64_t attempt_id,
                          const uint8_t *payload, size_t size_bytes, pio_err *err);

/* A save that all of its writers have reported: a row of checkpoint_save. */
typedef struct pio_checkpoint_writers {
	int64_t save_id, attempt_id, step, writers;
	int64_t time_ns;            /* of the last report */
} pio_checkpoint_writers;
int pio_checkpoint_publish(pio_store *store, const pio_checkpoint_writers *of, pio_err *err);
/* Where a reported file lies: in this store's staging/, wherever that is mounted for
 * the rank. PIO_EINVAL if it does not lie there. */
int pio_checkpoint_staged(pio_str *path, const pio_store *store, const char *reported, pio_err *err);

#endif
