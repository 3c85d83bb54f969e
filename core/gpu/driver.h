/* driver.h: what this room uses of the CUDA driver; private to core/gpu.
 *
 * libcuda.so.1 comes with the driver and is loaded at run time; no NVIDIA header
 * is needed. The calls are stable ABI of CUDA 11 and newer (docs.nvidia.com, CUDA
 * Driver API), held against cuda.h by `make cuda` (tests/gpu/abi.c). A stream of
 * the runtime is a stream of the driver. */
#ifndef PIO_GPU_DRIVER_H
#define PIO_GPU_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

#define PIO_CUDA_NO_DEVICE 100
#define PIO_CUDA_MAJOR 75              /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR */
#define PIO_CUDA_MINOR 76
#define PIO_CUDA_EVENT_NO_TIMING 2u
#define PIO_CUDA_STREAM_OWN 1u         /* CU_STREAM_NON_BLOCKING: waits for no other stream */

typedef struct pio_cuda_driver {
	int (*cuInit)(unsigned flags);
	int (*cuDeviceGetCount)(int *count);
	int (*cuDeviceGet)(int *device, int ordinal);
	int (*cuDeviceGetName)(char *name, int bytes, int device);
	int (*cuDeviceTotalMem_v2)(size_t *bytes, int device);
	int (*cuDeviceGetAttribute)(int *value, int attribute, int device);
	int (*cuDevicePrimaryCtxRetain)(void **context, int device);
	int (*cuDevicePrimaryCtxRelease_v2)(int device);
	int (*cuCtxSetCurrent)(void *context);
	int (*cuMemAlloc_v2)(uintptr_t *memory, size_t bytes);
	int (*cuMemFree_v2)(uintptr_t memory);
	int (*cuStreamCreate)(void **stream, unsigned flags);
	int (*cuStreamDestroy_v2)(void *stream);
	int (*cuMemHostAlloc)(void **memory, size_t bytes, unsigned flags);
	int (*cuMemFreeHost)(void *memory);
	int (*cuMemcpyHtoDAsync_v2)(uintptr_t to, const void *from, size_t bytes, void *stream);
	int (*cuEventCreate)(void **event, unsigned flags);
	int (*cuEventRecord)(void *event, void *stream);
	int (*cuEventSynchronize)(void *event);
	int (*cuEventDestroy_v2)(void *event);
	int (*cuGetErrorString)(int result, const char **text);
} pio_cuda_driver;

/* Loaded once and for the life of the process. -PIO_ENOTFOUND without a driver. */
int pio_cuda_driver_get(const pio_cuda_driver **driver, pio_err *err);
/* The driver's words, for base/check.h; "" where there is none. */
const char *pio_cuda_driver_words(int result);

#endif
