/* cuda.h: the GPUs that this process may compute on, as CUDA counts them.
 *
 * Unlike NVML (nvml.h), which sees all that the machine has, CUDA sees what
 * $CUDA_VISIBLE_DEVICES and the node's cgroup leave to the process, and numbers
 * it from 0: it is these numbers that cudaSetDevice takes. */
#ifndef PIO_GPU_CUDA_H
#define PIO_GPU_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_CUDA_NAME_BYTES 96

typedef struct pio_cuda_device {
	int ordinal;
	char name[PIO_CUDA_NAME_BYTES];
	uint64_t memory_bytes;
	int major, minor;               /* compute capability: 9.0 is Hopper */
} pio_cuda_device;

typedef struct pio_cuda_devices {
	pio_cuda_device *devices;       /* freed by pio_cuda_devices_free */
	size_t count;
} pio_cuda_devices;

/* None, without a driver or without a GPU, is not an error. -PIO_EIO names the
 * call that failed. */
int pio_cuda_devices_list(pio_cuda_devices *list, pio_err *err);
void pio_cuda_devices_free(pio_cuda_devices *list);

#endif
