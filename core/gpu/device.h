/* device.h: a GPU with some memory and a stream, for who measures and has no CUDA
 * runtime. Its primary context, the one that runtimes use too, is current in the
 * thread that opened it. */
#ifndef PIO_GPU_DEVICE_H
#define PIO_GPU_DEVICE_H

#include <stddef.h>

#include "base/err.h"

typedef struct pio_device {
	int device;
	void *memory;           /* on the device; not cleared */
	void *stream;           /* a cudaStream_t */
} pio_device;

/* `ordinal` as in cuda.h. -PIO_ENOTFOUND without a driver; -PIO_EIO names the call that
 * failed. End with pio_device_close whatever comes back. */
int pio_device_open(pio_device *device, int ordinal, size_t memory_bytes, pio_err *err);
void pio_device_close(pio_device *device);

#endif
