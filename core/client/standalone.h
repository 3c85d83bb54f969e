/* standalone.h: a process that is its own agent.
 *
 * It finds or makes the store, a ring and a journal, announces the run by the
 * directory staging/<ulid>/ and drains by a thread: every 10 ms, durable each
 * second. It holds DIR/agent.lock while it lives, so that others can tell. A
 * process that is killed leaves its ring file; whoever adopts the run drains
 * it (client/drain.h). Libraries: libc alone. */
#ifndef PIO_CLIENT_STANDALONE_H
#define PIO_CLIENT_STANDALONE_H

#include "client/run.h"

/* Fills dir, staging, id, ring and alone of a zeroed run. On failure the
 * caller closes the run with pio_standalone_close as usual. */
int pio_standalone_open(pio_run *run, const char *experiment, pio_err *err);
/* Drain, write the EXIT record, make it durable, unlink the ring. Memory stays
 * until pio_standalone_free, because other threads may still log at exit. */
int pio_standalone_finish(pio_run *run, int status, pio_err *err);
void pio_standalone_free(pio_run *run);

/* Append the directory of the store to use: $PIOCHE_STORE, else the nearest
 * .pioche upwards, else .pioche beside the git root (or in the working
 * directory). Makes it where it is absent. Absolute. */
int pio_standalone_store(pio_str *path, pio_err *err);

#endif
