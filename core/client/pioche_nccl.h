/* pioche_nccl.h: what a CUDA program includes, beside pioche.h, to add up on
 * GPUs: NCCL communicators that are set up over a pio_comm, never hang, and end
 * with the name of who failed.
 *
 * Needs neither a CUDA nor an NCCL header: a stream is a cudaStream_t given as
 * void *, and libnccl.so.2 and libcuda.so.1 are loaded when the first
 * communicator is made. NCCL 2.14.3 or newer; groups need 2.18.1.
 *
 * Communicators are non-blocking. Every wait has a deadline, and meanwhile
 * looks at NCCL's asynchronous errors and at the rendezvous: when that tells of
 * a rank's death, the communicator is aborted and the wait fails with
 * -PIO_EPEER (-13) and the name of the culprit. After a failure the communicator
 * and its pio_comm are broken: every later call fails at once with the same
 * message; close both, with that message as the reason. An argument that is
 * refused here (-1: a root or a type that is none, a timeout of 0) breaks nothing;
 * one that NCCL refuses leaves the communicator broken wherever NCCL does.
 *
 * Threads: a pio_nccl is used by one thread at a time, the one that uses its
 * pio_comm, with the rank's device current. */
#ifndef PIOCHE_NCCL_H
#define PIOCHE_NCCL_H

#include "pioche.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pio_nccl pio_nccl;

/* A communicator of all ranks of `comm`, each on its current device; everyone
 * calls it. Beyond 256 ranks there is one unique id for each 256, where NCCL
 * can (2.23.4), made on ranks that are as far apart. `timeout_ms` is for this
 * call, and for NCCL's own connecting later. `comm` is borrowed until close.
 * -3 (PIO_ENOTFOUND) where there is no NCCL or no driver, -11 (PIO_ETIMEOUT)
 * if not all ranks came. */
PIO_API int pio_nccl_init(pio_nccl **nccl, pio_comm *comm, int timeout_ms);

/* One communicator for each `color`, ranks in the order of `key`, then of their
 * rank; everyone calls it, with nothing of the parent's on a stream. A negative
 * color joins none: *group is NULL. */
PIO_API int pio_nccl_split(pio_nccl **group, pio_nccl *parent, int color, int key, int timeout_ms);

/* Sum over the ranks of n elements, from `from` to `to` (which may be the same),
 * both on the device. Put on the stream, not waited for. */
PIO_API int pio_nccl_allreduce(pio_nccl *nccl, const void *from, void *to, size_t n,
                               pio_dtype dtype, void *stream);
/* Rank `root`'s n elements to everyone, in place. Likewise. */
PIO_API int pio_nccl_broadcast(pio_nccl *nccl, void *data, size_t n, pio_dtype dtype, int root,
                               void *stream);

/* Wait until all that was put on the stream is done. This, never
 * cudaStreamSynchronize, is how to wait for a collective. */
PIO_API int pio_nccl_wait(pio_nccl *nccl, void *stream, int timeout_ms);

/* The ncclComm_t, for any other call of NCCL; NULL when broken. What such a call
 * returned goes to pio_nccl_check, which waits for it to be under way, or fails. */
PIO_API void *pio_nccl_handle(const pio_nccl *nccl);
PIO_API int pio_nccl_check(pio_nccl *nccl, int result, const char *call, const char *file, int line);
#define PIO_NCCL(nccl, call) pio_nccl_check((nccl), (int)(call), #call, __FILE__, __LINE__)

/* Leave: with `abort_reason` NULL in good order (everyone must come), else, and
 * where it or its pio_comm is broken, at once. Groups before their parent, and that before the
 * pio_comm. Sets *nccl to NULL. */
PIO_API void pio_nccl_close(pio_nccl **nccl, const char *abort_reason);

#ifdef __cplusplus
}
#endif
#endif
