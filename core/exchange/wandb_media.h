/* wandb_media.h: histograms, images and other files that W&B's history names. */
#ifndef PIO_EXCHANGE_WANDB_MEDIA_H
#define PIO_EXCHANGE_WANDB_MEDIA_H

#include <jansson.h>

#include "store/ingest.h"

/* `object` is as pio_wandb_typed makes it; `dir` holds the log, and files/ with
 * what was logged. What cannot be taken is counted. */
int pio_wandb_media_take(pio_ingest *ingest, const char *dir, const char *key, const json_t *object,
                         int64_t step, int64_t time_ns, pio_err *err);

#endif
