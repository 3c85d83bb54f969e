/* checkpoint_cover.h: do the parts that ranks saved make whole tensors? For this
 * room alone. */
#ifndef PIO_STORE_CHECKPOINT_COVER_H
#define PIO_STORE_CHECKPOINT_COVER_H

#include <stdint.h>

#include "store/store.h"

/* Of a checkpoint whose rows are there. PIO_EINVAL names the tensor and the ranks
 * whose parts overlap, leave a hole, or do not belong together. */
int pio_checkpoint_cover(pio_store *store, int64_t checkpoint_id, pio_err *err);

#endif
