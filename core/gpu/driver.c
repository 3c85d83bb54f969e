#include "gpu/driver.h"

#include <pthread.h>

#include "sys/library.h"

static pio_cuda_driver loaded;
static pio_err failed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
	void *library;
	const pio_symbol symbols[] = {
		{ "cuInit", (void **)&loaded.cuInit, false },
		{ "cuDeviceGetCount", (void **)&loaded.cuDeviceGetCount, false },
		{ "cuDeviceGet", (void **)&loaded.cuDeviceGet, false },
		{ "cuDeviceGetName", (void **)&loaded.cuDeviceGetName, false },
		{ "cuDeviceTotalMem_v2", (void **)&loaded.cuDeviceTotalMem_v2, false },
		{ "cuDeviceGetAttribute", (void **)&loaded.cuDeviceGetAttribute, false },
		{ "cuDevicePrimaryCtxRetain", (void **)&loaded.cuDevicePrimaryCtxRetain, false },
		{ "cuDevicePrimaryCtxRelease_v2", (void **)&loaded.cuDevicePrimaryCtxRelease_v2, false },
		{ "cuCtxSetCurrent", (void **)&loaded.cuCtxSetCurrent, false },
		{ "cuMemAlloc_v2", (void **)&loaded.cuMemAlloc_v2, false },
		{ "cuMemFree_v2", (void **)&loaded.cuMemFree_v2, false },
		{ "cuStreamCreate", (void **)&loaded.cuStreamCreate, false },
		{ "cuStreamDestroy_v2", (void **)&loaded.cuStreamDestroy_v2, false },
		{ "cuMemHostAlloc", (void **)&loaded.cuMemHostAlloc, false },
		{ "cuMemFreeHost", (void **)&loaded.cuMemFreeHost, false },
		{ "cuMemcpyHtoDAsync_v2", (void **)&loaded.cuMemcpyHtoDAsync_v2, false },
		{ "cuEventCreate", (void **)&loaded.cuEventCreate, false },
		{ "cuEventRecord", (void **)&loaded.cuEventRecord, false },
		{ "cuEventSynchronize", (void **)&loaded.cuEventSynchronize, false },
		{ "cuEventDestroy_v2", (void **)&loaded.cuEventDestroy_v2, false },
		{ "cuGetErrorString", (void **)&loaded.cuGetErrorString, false },
	};
	(void)pio_library_open(&library, "libcuda.so.1", symbols, sizeof symbols / sizeof symbols[0],
	                       &failed);
}

int pio_cuda_driver_get(const pio_cuda_driver **driver, pio_err *err)
{
	pthread_once(&once, load);
	*driver = failed.code ? NULL : &loaded;
	if (failed.code && err)
		*err = failed;
	return -failed.code;
}

const char *pio_cuda_driver_words(int result)
{
	const pio_cuda_driver *driver;
	const char *text = "";
	if (pio_cuda_driver_get(&driver, NULL) == 0)
		(void)driver->cuGetErrorString(result, &text);
	return text;
}
