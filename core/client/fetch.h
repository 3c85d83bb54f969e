/* fetch.h: a GPU's memory on its way into a checkpoint; private to core/client.
 *
 * What CUDA copies to ordinary memory goes through a small buffer of its own, at a
 * fraction of the bus. So a save goes through two pinned pieces that take turns: while
 * the GPU fills one, the other is hashed and written; and the snapshot of an asynchronous
 * save is pinned as a whole, if that can be.
 *
 * All is done in the context that the memory belongs to, on a stream of its own. Before
 * the first copy, all that was put on any stream of that context is waited for: what the
 * caller's kernels have yet to write is part of the save. One thread, which gets its
 * current context back from pio_fetch_close. */
#ifndef PIO_CLIENT_FETCH_H
#define PIO_CLIENT_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "client/cuda_library.h"

#define PIO_FETCH_PIECES 2
#define PIO_FETCH_PIECE_BYTES ((size_t)1 << 20)

typedef struct pio_fetch {
	const pio_cuda_library *api;
	void *context;                  /* current, and that of stream and events; NULL: none yet */
	void *stream;
	void *filled[PIO_FETCH_PIECES]; /* events */
	void *pieces[PIO_FETCH_PIECES];
} pio_fetch;

#define PIO_FETCH_INIT { .api = NULL }

/* The context whose memory `data` is; NULL for the host's. -PIO_EIO tells CUDA's failure. */
int pio_fetch_context(void **context, const void *data, pio_err *err);

/* Takes bytes in their order; anything but 0 ends the fetch. */
typedef int pio_fetch_fn(void *to, const void *bytes, uint64_t size_bytes, pio_err *err);
/* Give `take` all of `data`, piece after piece. */
int pio_fetch_pieces(pio_fetch *fetch, void *context, const void *data, uint64_t size_bytes, pio_fetch_fn *take,
                     void *to, pio_err *err);
/* Copy to pinned memory, where it is after pio_fetch_wait. */
int pio_fetch_copy(pio_fetch *fetch, void *context, void *to, const void *data, uint64_t size_bytes, pio_err *err);
int pio_fetch_wait(pio_fetch *fetch, pio_err *err);
/* Waits for what is under way. */
void pio_fetch_close(pio_fetch *fetch);

/* Memory of the host; false if that cannot be, and it is as it was. */
bool pio_fetch_pin(void *context, void *memory, size_t size_bytes);
/* Before it is given back. */
void pio_fetch_unpin(void *context, void *memory);

#endif
