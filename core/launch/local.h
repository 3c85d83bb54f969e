/* local.h: an agent on this machine: a child process and a pair of pipes.
 *
 * Everything else of the supervisor is the same whatever starts the agents.
 * The agent may outlive its supervisor by a moment: it notices the end of its
 * stdin and stops its ranks in good order. Its stderr goes to
 * <attempt>/agent.0.err. */
#ifndef PIO_LAUNCH_LOCAL_H
#define PIO_LAUNCH_LOCAL_H

#include <sys/types.h>

#include "base/err.h"

typedef struct pio_local_agent {
	pid_t pid;
	int orders_fd, events_fd;   /* its stdin and stdout; the caller closes them */
} pio_local_agent;

/* Start `executable agent` for the attempt in `dir`. */
int pio_local_start(pio_local_agent *agent, const char *executable, const char *dir, pio_err *err);

#endif
