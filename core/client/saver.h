/* saver.h: checkpoints that are written while the program goes on; private to
 * core/client.
 *
 * A save in the background is a copy of the tensors' bytes, for which the program
 * waits, and a thread that does the rest. There is one at a time, for it is one buffer
 * that is kept and used again. What a thread met is told by the next commit or by
 * pio_close, and by the report that it failed. The process does not exit before its
 * thread is through; a forked child has neither buffer nor thread. */
#ifndef PIO_CLIENT_SAVER_H
#define PIO_CLIENT_SAVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "client/pioche.h"

typedef struct pio_saver {
	pthread_mutex_t mutex;
	pthread_t thread;
	bool running;              /* it is to be joined */
	atomic_bool done;          /* and that will not wait */
	int64_t step;              /* of what it writes or wrote */
	pio_checkpoint *checkpoint;
	void *buffer;
	size_t buffer_bytes;
	void *pinned;              /* the context (fetch.h) in which the buffer was; NULL: it is not */
	pio_err failed;            /* the thread's */
	pio_err untold;            /* the joined one's */
	pid_t pid;
	struct pio_saver *next;    /* of those for which an exit waits */
	bool is_listed;
} pio_saver;

void pio_saver_init(pio_saver *saver);
/* Before a save with these flags (pioche.h): wait until nothing is being written, or
 * with PIO_NOWAIT -PIO_EBUSY where something is. On success nobody else enters before
 * pio_saver_leave. */
int pio_saver_enter(pio_saver *saver, int64_t step, int flags, pio_err *err);
/* Copy, and write in the background; by who has entered. Takes the checkpoint, also
 * on failure. */
int pio_saver_start(pio_saver *saver, pio_checkpoint *checkpoint, pio_err *err);
void pio_saver_leave(pio_saver *saver);
/* What the newest thread that is through met and nobody was told. */
int pio_saver_result(pio_saver *saver, pio_err *err);
/* Wait for what is being written, let the buffer go, and tell the result. */
int pio_saver_fini(pio_saver *saver, pio_err *err);

#endif
