/* checkpoint.h: one rank's part of a checkpoint as the files of this room see it;
 * private to core/client.
 *
 * pioche.h's functions collect tensors (checkpoint.c); these become files
 * (shard.c), here and now or in a thread of their own (saver.c). */
#ifndef PIO_CLIENT_CHECKPOINT_H
#define PIO_CLIENT_CHECKPOINT_H

#include <stdbool.h>

#include "base/err.h"
#include "base/safetensors.h"
#include "base/str.h"
#include "client/region.h"
#include "client/run.h"
#include "sys/hash.h"

typedef struct pio_own_tensor {
	char *role, *name;
	pio_dtype dtype;
	int ndim;
	int64_t shape[PIO_SAFETENSORS_DIMS_MAX];
	pio_region *part;              /* NULL: it is whole */
	bool own;                      /* whole, as other ranks may have theirs, or a slice of such a one */
	const void *data;
	void *context;                 /* of the GPU whose memory that is (fetch.h); NULL: the host's */
	uint64_t size_bytes;
} pio_own_tensor;

/* A file: tensors of one role, as many as fit. */
typedef struct pio_shard {
	const pio_own_tensor *tensors;
	size_t count;
	uint32_t part;                 /* of the files of its role */
	pio_str header, path;          /* path: empty until the file is there */
	uint64_t size_bytes;
	char sha256[PIO_SHA256_HEX + 1];
} pio_shard;

struct pio_checkpoint {
	pio_run *run;
	int64_t step;
	int writers;
	uint32_t round;
	bool asynchronous;
	int64_t begin_ns;              /* wall time */
	int64_t commit_ns, stall_ns;   /* monotonic; how long the program waited for the commit */
	pio_own_tensor *tensors;
	size_t count, capacity;
	pio_str dir;                   /* of its files */
	pio_shard *shards;
	size_t shard_count;
	uint64_t size_bytes;           /* of all its files */
	char sync;                     /* of them (sys/save.h) */
	uint32_t syncs;
	int64_t hash_ns;
	pio_err failed;                /* an add that failed fails the commit too */
};

/* ---- files (shard.c), in this order ---- */
/* Which tensors, or slices of those that are too large, go into which files, and how large
 * these will be. */
int pio_shards_plan(pio_checkpoint *checkpoint, pio_err *err);
/* Make the files, with the room that they need. PIO_ENOSPC says how much that is, and
 * how much there is. */
int pio_shards_reserve(pio_checkpoint *checkpoint, pio_err *err);
/* Write and hash the tensors' bytes, and make files and names durable. */
int pio_shards_write(pio_checkpoint *checkpoint, pio_err *err);
/* Remove what is there. */
void pio_shards_remove(pio_checkpoint *checkpoint);

/* ---- checkpoint.c ---- */
void pio_own_tensor_fini(pio_own_tensor *tensor);
/* The last step, in whichever thread: write, then report; or report that it failed.
 * The checkpoint is the callee's to free. */
int pio_checkpoint_finish(pio_checkpoint *checkpoint, pio_err *err);
/* Remove its files, report that it failed, and free it. */
void pio_checkpoint_fail(pio_checkpoint *checkpoint, const pio_err *err);

#endif
