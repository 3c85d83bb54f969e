/* nccl_library.h: what comm_nccl.c uses of NCCL and of the CUDA driver; private
 * to core/client.
 *
 * Both are loaded at run time, and no header of theirs is needed to build: the
 * few types and numbers below are stable ABI (nccl.h of 2.18, cuda.h of CUDA
 * 11), and `make cuda` holds them against the headers it finds
 * (tests/gpu/abi.c). Streams are the driver's objects whichever runtime, static
 * or shared, a program made them with; so they are asked for by the driver. */
#ifndef PIO_CLIENT_NCCL_LIBRARY_H
#define PIO_CLIENT_NCCL_LIBRARY_H

#include <limits.h>
#include <stddef.h>

#include "base/err.h"

#define PIO_NCCL_ID_BYTES 128
#define PIO_NCCL_MAGIC 0xcafebeefu
#define PIO_NCCL_UNDEFINED INT_MIN
#define PIO_NCCL_NO_COLOR (-1)
#define PIO_CUDA_NOT_READY 600

/* ncclResult_t, ncclRedOp_t and ncclDataType_t, as far as they are used. */
enum { PIO_NCCL_SUCCESS = 0, PIO_NCCL_SYSTEM_ERROR = 2, PIO_NCCL_INVALID_ARGUMENT = 4,
       PIO_NCCL_REMOTE_ERROR = 6, PIO_NCCL_IN_PROGRESS = 7 };
enum { PIO_NCCL_SUM = 0 };
enum { PIO_NCCL_INT8 = 0, PIO_NCCL_UINT8 = 1, PIO_NCCL_INT32 = 2, PIO_NCCL_UINT32 = 3,
       PIO_NCCL_INT64 = 4, PIO_NCCL_UINT64 = 5, PIO_NCCL_FLOAT16 = 6, PIO_NCCL_FLOAT32 = 7,
       PIO_NCCL_FLOAT64 = 8, PIO_NCCL_BFLOAT16 = 9 };

typedef struct pio_nccl_id {
	char bytes[PIO_NCCL_ID_BYTES];
} pio_nccl_id;

/* ncclConfig_t of 2.18: the library reads `size` bytes of it, and takes its own
 * default for what came after `version`. */
typedef struct pio_nccl_config {
	size_t size;
	unsigned magic, version;
	int blocking, cga_cluster_size, ctas_min, ctas_max;
	const char *net_name;
	int split_share;
} pio_nccl_config;

#define PIO_NCCL_CONFIG_VERSION 21801
/* Calls return at once. */
#define PIO_NCCL_CONFIG_INIT                                                                       \
	{ sizeof(pio_nccl_config), PIO_NCCL_MAGIC, PIO_NCCL_CONFIG_VERSION, 0, PIO_NCCL_UNDEFINED, \
	  PIO_NCCL_UNDEFINED, PIO_NCCL_UNDEFINED, NULL, PIO_NCCL_UNDEFINED }

/* The calls under their own names. A communicator is a void *, as is a stream. */
typedef struct pio_nccl_library {
	int (*ncclGetVersion)(int *version);
	int (*ncclGetUniqueId)(pio_nccl_id *id);
	int (*ncclCommInitRankConfig)(void **comm, int world, pio_nccl_id id, int rank,
	                              pio_nccl_config *config);
	int (*ncclCommInitRankScalable)(void **comm, int world, int rank, int id_count,
	                                pio_nccl_id *ids, pio_nccl_config *config); /* or NULL: < 2.23.4 */
	int (*ncclCommSplit)(void *comm, int color, int key, void **group,
	                     pio_nccl_config *config);                          /* or NULL: < 2.18.1 */
	int (*ncclCommCount)(void *comm, int *count);
	int (*ncclCommFinalize)(void *comm);
	int (*ncclCommDestroy)(void *comm);
	int (*ncclCommAbort)(void *comm);
	int (*ncclCommGetAsyncError)(void *comm, int *result);
	const char *(*ncclGetErrorString)(int result);
	const char *(*ncclGetLastError)(void *comm);
	int (*ncclAllReduce)(const void *from, void *to, size_t count, int type, int op, void *comm,
	                     void *stream);
	int (*ncclBroadcast)(const void *from, void *to, size_t count, int type, int root, void *comm,
	                     void *stream);
	int (*cuStreamQuery)(void *stream);
	int (*cuGetErrorString)(int result, const char **text);
	int version;        /* as NCCL counts: 23007 is 2.30.7 */
} pio_nccl_library;

/* Loaded once and for the life of the process. -PIO_ENOTFOUND if libnccl.so.2 or
 * libcuda.so.1 is not there, -PIO_EVERSION if NCCL is older than 2.14.3. */
int pio_nccl_library_get(const pio_nccl_library **library, pio_err *err);

#endif
