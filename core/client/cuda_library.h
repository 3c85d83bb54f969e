/* cuda_library.h: what fetch.c uses of the CUDA driver; private to core/client.
 *
 * Found, not loaded: a process without libcuda.so.1 has no memory on a GPU. As in
 * nccl_library.h no header of NVIDIA's is needed, and `make cuda` holds this against
 * cuda.h (tests/gpu/abi.c). */
#ifndef PIO_CLIENT_CUDA_LIBRARY_H
#define PIO_CLIENT_CUDA_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

/* CUresult: of a process that has not begun with CUDA, or is through with it, and of
 * an address that is not CUDA's. */
enum { PIO_CU_INVALID_VALUE = 1, PIO_CU_NOT_INITIALIZED = 3, PIO_CU_DEINITIALIZED = 4, PIO_CU_NO_DEVICE = 100,
       PIO_CU_INVALID_CONTEXT = 201 };
/* CUpointer_attribute, CUmemorytype and flags. */
enum { PIO_CU_POINTER_CONTEXT = 1, PIO_CU_POINTER_MEMORY_TYPE = 2, PIO_CU_POINTER_DEVICE_ORDINAL = 9 };
enum { PIO_CU_MEMORY_DEVICE = 2 };
enum { PIO_CU_HOST_PORTABLE = 1, PIO_CU_REGISTER_PORTABLE = 1, PIO_CU_STREAM_OWN = 1, PIO_CU_EVENT_NO_TIMING = 2 };

/* The calls under their own names. Contexts, streams and events are void *. */
typedef struct pio_cuda_library {
	int (*cuPointerGetAttributes)(unsigned count, int *attributes, void **values, uintptr_t data);
	int (*cuDevicePrimaryCtxRetain)(void **context, int device);
	int (*cuDevicePrimaryCtxRelease_v2)(int device);
	int (*cuCtxPushCurrent_v2)(void *context);
	int (*cuCtxPopCurrent_v2)(void **context);
	int (*cuCtxSynchronize)(void);
	int (*cuMemHostAlloc)(void **memory, size_t bytes, unsigned flags);
	int (*cuMemFreeHost)(void *memory);
	int (*cuMemHostRegister_v2)(void *memory, size_t bytes, unsigned flags);
	int (*cuMemHostUnregister)(void *memory);
	int (*cuStreamCreate)(void **stream, unsigned flags);
	int (*cuStreamSynchronize)(void *stream);
	int (*cuStreamDestroy_v2)(void *stream);
	int (*cuEventCreate)(void **event, unsigned flags);
	int (*cuEventRecord)(void *event, void *stream);
	int (*cuEventSynchronize)(void *event);
	int (*cuEventDestroy_v2)(void *event);
	int (*cuMemcpyDtoHAsync_v2)(void *to, uintptr_t from, size_t bytes, void *stream);
	int (*cuGetErrorString)(int result, const char **text);
} pio_cuda_library;

/* NULL while the process has none, or one from before CUDA 11. */
const pio_cuda_library *pio_cuda_library_find(void);
/* The driver's words, for base/check.h. */
const char *pio_cuda_library_words(int result);

#endif
