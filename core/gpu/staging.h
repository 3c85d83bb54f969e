/* staging.h: from the host's memory to a GPU's at the speed of the bus.
 *
 * What CUDA copies from ordinary memory goes through a small buffer of its own, at a
 * fraction of that; or, where host and device share page tables, is read by the device
 * itself at a time of its own, after the call. Here two pinned buffers take turns: while
 * the GPU reads one, the other is filled. Pinned memory is dear (it can not be swapped,
 * and takes long to allocate), so it is two buffers that are kept. One thread, with the
 * device current. The other way, into checkpoints, is core/client/fetch.h. */
#ifndef PIO_GPU_STAGING_H
#define PIO_GPU_STAGING_H

#include <stddef.h>

#include "base/err.h"

typedef struct pio_staging pio_staging;

/* Two buffers of `buffer_bytes`. -PIO_ENOTFOUND without a driver; -PIO_EIO names
 * the call that failed. */
int pio_staging_open(pio_staging **staging, size_t buffer_bytes, pio_err *err);

/* Copy `size_bytes` to the device, after what was put on `stream` before and ahead of
 * what will be. `from` may change when it returns, which is before they are there. */
int pio_staging_send(pio_staging *staging, void *device, const void *from, size_t size_bytes,
                     void *stream, pio_err *err);

/* Waits for what is under way; sets *staging to NULL. */
void pio_staging_close(pio_staging **staging);

#endif
