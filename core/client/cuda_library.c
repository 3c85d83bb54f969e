#include "client/cuda_library.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "sys/library.h"

static pio_cuda_library found;
static atomic_bool is_found;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool find(pio_cuda_library *l)
{
	void *library; /* kept */
	const pio_symbol symbols[] = {
		{ "cuPointerGetAttributes", (void **)&l->cuPointerGetAttributes, false },
		{ "cuDevicePrimaryCtxRetain", (void **)&l->cuDevicePrimaryCtxRetain, false },
		{ "cuDevicePrimaryCtxRelease_v2", (void **)&l->cuDevicePrimaryCtxRelease_v2, false },
		{ "cuCtxPushCurrent_v2", (void **)&l->cuCtxPushCurrent_v2, false },
		{ "cuCtxPopCurrent_v2", (void **)&l->cuCtxPopCurrent_v2, false },
		{ "cuCtxSynchronize", (void **)&l->cuCtxSynchronize, false },
		{ "cuMemHostAlloc", (void **)&l->cuMemHostAlloc, false },
		{ "cuMemFreeHost", (void **)&l->cuMemFreeHost, false },
		{ "cuMemHostRegister_v2", (void **)&l->cuMemHostRegister_v2, false },
		{ "cuMemHostUnregister", (void **)&l->cuMemHostUnregister, false },
		{ "cuStreamCreate", (void **)&l->cuStreamCreate, false },
		{ "cuStreamSynchronize", (void **)&l->cuStreamSynchronize, false },
		{ "cuStreamDestroy_v2", (void **)&l->cuStreamDestroy_v2, false },
		{ "cuEventCreate", (void **)&l->cuEventCreate, false },
		{ "cuEventRecord", (void **)&l->cuEventRecord, false },
		{ "cuEventSynchronize", (void **)&l->cuEventSynchronize, false },
		{ "cuEventDestroy_v2", (void **)&l->cuEventDestroy_v2, false },
		{ "cuMemcpyDtoHAsync_v2", (void **)&l->cuMemcpyDtoHAsync_v2, false },
		{ "cuGetErrorString", (void **)&l->cuGetErrorString, false },
	};
	return pio_library_find(&library, "libcuda.so.1", symbols, sizeof symbols / sizeof symbols[0], NULL) == 0;
}

const pio_cuda_library *pio_cuda_library_find(void)
{
	if (atomic_load(&is_found))
		return &found;
	/* Asked again each time: a program may load it at any time. */
	pthread_mutex_lock(&mutex);
	if (!atomic_load(&is_found))
		atomic_store(&is_found, find(&found));
	pthread_mutex_unlock(&mutex);
	return atomic_load(&is_found) ? &found : NULL;
}

const char *pio_cuda_library_words(int result)
{
	const pio_cuda_library *api = pio_cuda_library_find();
	const char *text = "";
	if (api)
		(void)api->cuGetErrorString(result, &text);
	return text;
}
