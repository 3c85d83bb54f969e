/* staging.h: a GPU's memory onto the host at the speed of its bus.
 *
 * What CUDA copies into ordinary memory goes through a small buffer of its own,
 * at a fraction of that. Here two pinned buffers take turns: while the GPU fills
 * one, the other is copied to where it belongs. Pinned memory is dear (it can
 * not be swapped, and takes long to allocate), so it is two buffers that are
 * kept, not a checkpoint. One thread, with the device current. */
#ifndef PIO_GPU_STAGING_H
#define PIO_GPU_STAGING_H

#include <stddef.h>

#include "base/err.h"

typedef struct pio_staging pio_staging;

/* Two buffers of `buffer_bytes`. -PIO_ENOTFOUND without a driver; -PIO_EIO names
 * the call that failed. */
int pio_staging_open(pio_staging **staging, size_t buffer_bytes, pio_err *err);

/* Copy `size_bytes` from the device to `to`, in the order of what was put on
 * `stream` (a cudaStream_t) before. All is there when it returns. */
int pio_staging_fetch(pio_staging *staging, void *to, const void *device, size_t size_bytes,
                      void *stream, pio_err *err);

/* Sets *staging to NULL. */
void pio_staging_close(pio_staging **staging);

#endif
