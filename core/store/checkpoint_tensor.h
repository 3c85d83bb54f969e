/* checkpoint_tensor.h: the rows that say what is inside a checkpoint's files, and
 * the index from which ranks read them. For this room alone. */
#ifndef PIO_STORE_CHECKPOINT_TENSOR_H
#define PIO_STORE_CHECKPOINT_TENSOR_H

#include <stdint.h>

#include "store/store.h"

/* Rows of `tensor` for an object that is in place, unless they are there. The
 * header is read with distrust: PIO_ECORRUPT names the object's path. */
int pio_checkpoint_tensors(pio_store *store, const char *sha256, int64_t size_bytes, pio_err *err);

#endif
