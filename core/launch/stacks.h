/* stacks.h: what every thread of some ranks does at this moment, for a person
 * who asks why they make no steps.
 *
 * Of each process: its command; of each thread: name, state, the kernel's
 * function and system call it waits in and, where the kernel lets us (root), its
 * kernel stack. Then what gdb and py-spy say, where they are installed: at most
 * 10 s a process, and none is begun when 30 s have gone. The ranks are stopped
 * by them for moments, never harmed. */
#ifndef PIO_LAUNCH_STACKS_H
#define PIO_LAUNCH_STACKS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

typedef struct pio_stacks_rank {
	int rank;
	pid_t pid;             /* and all below it */
} pio_stacks_rank;

/* Write the file, the ranks in this order. Starts processes and takes its time:
 * for a thread of its own. Whoever reaps all children meanwhile may reap these. */
int pio_stacks_write(const char *path, const pio_stacks_rank *ranks, size_t count, pio_err *err);

#endif
