/* pioche.h: what a training program includes to log, checkpoint and
 * communicate: C11 or C++11. Link with -lpioche (pkg-config pioche).
 *
 * A program started by `pioche run` finds its run in the environment; any
 * other program becomes a run of its own in the nearest store (.pioche/,
 * searched upwards like .git, made where there is none).
 *
 * Promises: pio_log is a store into shared memory, without system call, lock
 * or allocation (a full buffer waits, and the wait is recorded); once it has
 * returned, the point survives SIGKILL of the process. A checkpoint is whole
 * or absent.
 *
 * Threads: every function may be called from any thread, except that one
 * pio_checkpoint or pio_comm is used by one thread at a time. After fork() a
 * child may log on its parent's run, also one that outlives its parent; it must
 * not communicate or save on it, and to close it there does nothing.
 *
 * Errors: functions return 0, or a negative PIO_E... code, and pio_error()
 * tells the calling thread's last message. Logging never fails a training
 * program: with run == NULL every function is a harmless no-op. */
#ifndef PIOCHE_H
#define PIOCHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIOCHE_API_VERSION 4

#if defined(__GNUC__)
#define PIO_API __attribute__((visibility("default")))
#else
#define PIO_API
#endif

typedef struct pio_run pio_run;
typedef struct pio_checkpoint pio_checkpoint;
typedef struct pio_comm pio_comm;
typedef uint32_t pio_key; /* a metric's number within the run; 0 is never valid */

/* ---- life ---------------------------------------------------------------- */

/* Open the run this process belongs to. `experiment` names the experiment of
 * a standalone run (NULL: the program's name) and is ignored under an agent.
 * On failure *run is NULL, so that the program may train on without logging;
 * the reason is in pio_error(). */
PIO_API int pio_open(pio_run **run, const char *experiment);

/* Flush and close. `status` is 0 for success, else the run counts as failed.
 * Idempotent through the pointer: sets *run to NULL. A process that never
 * calls it loses nothing. */
PIO_API int pio_close(pio_run **run, int status);

/* What the launcher knows about this process. */
typedef struct pio_info {
	int rank, world;        /* rank in [0, world): 0 of 1 when standalone */
	int local_rank;         /* rank among the processes of this node */
	int attempt;            /* 1 for the first launch of the run */
	int64_t resume_step;    /* step of the checkpoint to start from, or -1 */
	const char *id;         /* ULID of the run, 26 characters */
	const char *dir;        /* the attempt's directory, absolute */
	const char *staging;    /* for shards of checkpoints, absolute */
	const char *ring;       /* the log buffer, absolute: as $PIOCHE_RING it lets another
	                         * process of this machine log on this run (client/env.h) */
} pio_info;

/* Borrowed until pio_close; never NULL (rank 0 of 1 and id "" without a run). */
PIO_API const pio_info *pio_info_get(const pio_run *run);

/* The calling thread's last error message; never NULL. Borrowed until the
 * next call on this thread. */
PIO_API const char *pio_error(void);

/* ---- metrics ----------------------------------------------------------------- */

/* The key of a metric name (UTF-8, 1 to 4096 bytes, no NUL). Same name, same
 * key. 0 on a bad name; pio_error() says why. Ask once, outside the loop. */
PIO_API pio_key pio_key_get(pio_run *run, const char *name);

/* Log one point. Any int64 step, any order; NaN payloads, infinities and -0.0
 * are kept bit for bit. */
PIO_API int pio_log(pio_run *run, pio_key key, int64_t step, double value);

/* The same for a whole number, which a double would round beyond 2^53: tokens
 * seen, bytes read. One key may have points of both kinds. */
PIO_API int pio_log_int(pio_run *run, pio_key key, int64_t step, int64_t value);

/* Element types, with the names of the safetensors format. */
typedef enum pio_dtype {
	PIO_BOOL, PIO_U8, PIO_I8, PIO_I16, PIO_U16, PIO_F16, PIO_BF16, PIO_I32,
	PIO_U32, PIO_F32, PIO_F64, PIO_I64, PIO_U64, PIO_F8_E4M3, PIO_F8_E5M2, PIO_F8_E8M0
} pio_dtype;

/* How `count` values of type `dtype` are spread (weights, gradients), as a
 * histogram of a few hundred bytes: buckets of 1/16 of a power of two, of which
 * those of several ranks add up. Reads each value once, on the caller's time;
 * `values` is borrowed for the call and may be NULL when count is 0. */
PIO_API int pio_log_histogram(pio_run *run, const char *key, int64_t step, pio_dtype dtype,
                              const void *values, size_t count);

/* ---- texts, images, tables, files ------------------------------------------------ */

/* The step of what belongs to the run as a whole. */
#define PIO_NO_STEP INT64_MIN

typedef enum pio_media {
	PIO_TEXT,   /* UTF-8: a sample, a note */
	PIO_IMAGE,  /* the bytes of a PNG or JPEG file, kept as they are */
	PIO_TABLE,  /* JSON, column by column: {"columns":["x","y"],"data":[[1,2],["a","b"]]};
	             * cells are scalars; "NaN", "Infinity", "-Infinity" stand for such numbers */
	PIO_FILE    /* any bytes, under the SHA-256 of their content */
} pio_media;

/* Log one of these under `key` at `step`, or PIO_NO_STEP. `name` is a file's
 * name (else NULL); a PIO_FILE with `data` NULL is read from the path `name`.
 * Everything is borrowed for the call. A text has at most 500,000 bytes. What is
 * large (a file; another above 64 KiB) is written and synced to the attempt's
 * directory before the call returns: milliseconds on the caller's time, and
 * PIO_ENOSPC (-9) or PIO_EIO (-8) where the disk refuses; the run then says in
 * its history that it is missing. */
PIO_API int pio_log_media(pio_run *run, pio_media kind, const char *key, int64_t step,
                          const char *name, const void *data, size_t size_bytes);

/* ---- facts ----------------------------------------------------------------------- */

/* Something about the run as a whole. `kind` 'p' is a parameter, 't' a tag, 's'
 * a summary: `value` is one JSON scalar ("3", "\"adamw\"", "true"), and the
 * newest of a name counts. 'e' is an event: `name` is what happened, `value` a
 * line of text; it is shown in the run's history. 'v' is what the program runs
 * with: `name` says what tells it ("python"), `value` is a JSON object; one
 * process a node is enough. */
PIO_API int pio_fact(pio_run *run, char kind, const char *name, const char *value);

/* ---- the end ----------------------------------------------------------------- */

/* 1 where the run is to end at `step`: somebody stopped it, its sweep's rule has, or
 * its time is over. Asked at each step, after it, by every rank that takes part in its
 * collectives: then all hear it at one step, and may save a checkpoint together before
 * they return from main with 0. Steps must grow. Costs nanoseconds; once in a run's
 * life it waits for the launcher to hear from all nodes (client/vote.h). A program that
 * never asks gets SIGTERM instead. Always 0 standalone. */
PIO_API int pio_should_stop(pio_run *run, int64_t step);

/* ---- checkpoints ----------------------------------------------------------- */

/* Begin the checkpoint of `step`. Every rank that has something to save calls
 * it; `writers` is how many ranks that is (data parallel: 1, rank 0 alone).
 * The checkpoint exists once all of them have committed. A step may be saved again,
 * by all of them: the n-th save of each is one checkpoint, and where one of them
 * failed there is none. */
PIO_API int pio_checkpoint_begin(pio_checkpoint **checkpoint, pio_run *run,
                                 int64_t step, int writers);

/* Which part of a larger tensor one is, as tensor, data and optimizer parallelism
 * leave them with a rank: a box of it, or (FSDP, ZeRO) a run of its elements. The
 * parts of all ranks together are the tensor: without overlap, without a hole; else
 * there is no checkpoint, and an event of the run names the ranks. */
typedef struct pio_part {
	int ndim;               /* of the whole tensor */
	const int64_t *shape;   /* of the whole tensor */
	const int64_t *offset;  /* where the part begins, in each dimension of the whole */
	int flat;               /* 1: the part has one dimension and is a run of the whole's
	                         * row-major elements, from offset[0] on */
} pio_part;

/* Add a tensor: row-major, `shape` has `ndim` entries (0 for a scalar). `part`
 * NULL: it is whole; then each rank that adds it keeps its own (a generator's
 * state), and one that is the same everywhere need be added by one rank alone. Role
 * is a file of its own: "model", "optim.m", "optim.v", "master", "extra". The
 * bytes are not copied: they must stay unchanged until commit. A file has at most 4 GiB;
 * what is larger is cut into several.
 * `data` may be on a GPU (CUDA), where the commit first waits for all that was put on
 * any stream of its context; a collective whose rank may be gone is waited for by
 * pio_nccl_wait before. With role and name NULL the checkpoint is given up: its commit
 * fails, and no rank waits for it. */
PIO_API int pio_checkpoint_add(pio_checkpoint *checkpoint, const char *role,
                               const char *name, pio_dtype dtype, int ndim,
                               const int64_t *shape, const pio_part *part, const void *data);

/* How to commit; any of these, or 0. */
enum {
	PIO_ASYNC = 1,          /* return when the bytes are copied; a thread does the rest */
	PIO_NOWAIT = 2          /* where such a thread is still writing: fail at once with
	                         * -PIO_EBUSY (-5), instead of waiting for it */
};

/* Write, hash, sync and report. Returns when this rank's files are on disk, or with
 * PIO_ASYNC when their bytes were copied into a buffer that is kept for the next time:
 * as much memory as the tensors have, pinned where some are a GPU's and it can be. Before
 * the first byte is copied or written, room is taken for all of them: -PIO_ENOSPC (-9)
 * says how much is needed and free. What a thread could not write is told by the next
 * commit, which does its own work all the same, or by pio_close, and by an event of the
 * run; pio_close and exit() wait for it. Frees the checkpoint, also on failure, and sets
 * *checkpoint to NULL. */
PIO_API int pio_checkpoint_commit(pio_checkpoint **checkpoint, int flags);

/* Read a tensor of the checkpoint this attempt starts from (see resume_step), or
 * with `part` a part of it, into `data`; arguments as if it were to be added. How
 * many ranks saved it, and in what parts, does not matter. Type and whole shape must
 * be those that were saved. Of one that several ranks saved whole, this rank's, else
 * that of the first. -3 (PIO_ENOTFOUND) if there is no such tensor. */
PIO_API int pio_resume_read(pio_run *run, const char *role, const char *name, pio_dtype dtype,
                            int ndim, const int64_t *shape, const pio_part *part, void *data);

/* ---- collectives ------------------------------------------------------------ */

/* Join all ranks of the attempt. Blocks until everyone is there, at most
 * `timeout_ms`; the message then names the missing ranks. */
PIO_API int pio_comm_init(pio_comm **comm, pio_run *run, int timeout_ms);

/* Sum of n floats over all ranks, in place; of none, it waits until all have come.
 * The order of additions depends on the world size alone: results are bit-identical
 * from run to run and on all ranks. When a rank dies, the others fail with -PIO_EPEER
 * (-13) and a message that names it, in under 5 seconds. */
PIO_API int pio_comm_allreduce(pio_comm *comm, float *data, size_t n);
PIO_API int pio_comm_broadcast(pio_comm *comm, void *data, size_t size_bytes, int root);
static inline int pio_comm_barrier(pio_comm *comm)
{
	return pio_comm_allreduce(comm, NULL, 0);
}

/* Leave. With `abort_reason` NULL in good order (all ranks must come); else the
 * other ranks are told to give up and their pending calls fail with that
 * reason. Sets *comm to NULL. */
PIO_API void pio_comm_close(pio_comm **comm, const char *abort_reason);

#ifdef __cplusplus
}
#endif
#endif
