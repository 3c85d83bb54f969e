#include "client/nccl_library.h"

#include <pthread.h>

#include "base/check.h"
#include "sys/library.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static pio_nccl_library loaded;
static pio_err failed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int load_driver(pio_nccl_library *l, pio_err *err)
{
	void *library;
	const pio_symbol symbols[] = {
		{ "cuStreamQuery", (void **)&l->cuStreamQuery, false },
		{ "cuGetErrorString", (void **)&l->cuGetErrorString, false },
	};
	return pio_library_open(&library, "libcuda.so.1", symbols, COUNT(symbols), err);
}

static int load_nccl(pio_nccl_library *l, pio_err *err)
{
	void *library;
	const pio_symbol symbols[] = {
		{ "ncclGetVersion", (void **)&l->ncclGetVersion, false },
		{ "ncclGetUniqueId", (void **)&l->ncclGetUniqueId, false },
		{ "ncclCommInitRankConfig", (void **)&l->ncclCommInitRankConfig, false },
		{ "ncclCommInitRankScalable", (void **)&l->ncclCommInitRankScalable, true },
		{ "ncclCommSplit", (void **)&l->ncclCommSplit, true },
		{ "ncclCommCount", (void **)&l->ncclCommCount, false },
		{ "ncclCommFinalize", (void **)&l->ncclCommFinalize, false },
		{ "ncclCommDestroy", (void **)&l->ncclCommDestroy, false },
		{ "ncclCommAbort", (void **)&l->ncclCommAbort, false },
		{ "ncclCommGetAsyncError", (void **)&l->ncclCommGetAsyncError, false },
		{ "ncclGetErrorString", (void **)&l->ncclGetErrorString, false },
		{ "ncclGetLastError", (void **)&l->ncclGetLastError, false },
		{ "ncclAllReduce", (void **)&l->ncclAllReduce, false },
		{ "ncclBroadcast", (void **)&l->ncclBroadcast, false },
	};
	int rc = pio_library_open(&library, "libnccl.so.2", symbols, COUNT(symbols), err);
	if (rc)
		return rc;
	PIO_CHECK_RETURN(err, l->ncclGetErrorString, l->ncclGetVersion(&l->version));
	return 0;
}

static void load(void)
{
	if (load_driver(&loaded, &failed) == 0)
		(void)load_nccl(&loaded, &failed);
}

int pio_nccl_library_get(const pio_nccl_library **library, pio_err *err)
{
	pthread_once(&once, load);
	*library = failed.code ? NULL : &loaded;
	if (failed.code && err)
		*err = failed;
	return -failed.code;
}
