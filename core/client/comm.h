/* comm.h: the members of a pio_comm; private to comm.c (joining, leaving,
 * aborts, groups) and collective.c (what moves the data).
 *
 * Ranks form a ring: each has a connection to the next and one from the
 * previous, and one to its agent (client/frame.h), which every wait watches too:
 * an ABORT there ends the wait with its reason. After a failure the comm is broken:
 * every later call fails at once with the same message. */
#ifndef PIO_CLIENT_COMM_H
#define PIO_CLIENT_COMM_H

#include "base/err.h"
#include "base/str.h"
#include "client/run.h"

#define PIO_COMM_SCRATCH_BYTES (256u << 10)

struct pio_comm {
	pio_run *run;
	int rank, world;
	int head_fd, next_fd, prev_fd;  /* -1 where there is none */
	pio_str inbox;                  /* bytes from the agent that are no whole frame yet */
	pio_str shared;                 /* SHARE frames that nobody has asked for yet */
	int releases;                   /* barriers that all ranks have come to, likewise */
	uint64_t calls;
	uint8_t *scratch;
	pio_err broken;                 /* code 0 while all is well */
};

/* Take what the agent has sent without waiting. Fails with the reason of an
 * ABORT, or when the agent is gone. */
int pio_comm_listen(pio_comm *comm, pio_err *err);
/* The connection to rank `peer` broke: wait for the abort that names the
 * culprit, else name the neighbour. Always fails. */
int pio_comm_lost(pio_comm *comm, int peer, pio_err *err);
/* Remember the first failure, tell the agent that this rank is a victim. */
int pio_comm_break(pio_comm *comm, const pio_err *err);

/* Through the agents, without the ring, for what is small and rare: the latency
 * does not grow with the world. All ranks call them in the same order; on failure
 * the caller decides whether that breaks the comm. */
#define PIO_COMM_SHARE_BYTES_MAX (256u << 10)
/* A barrier. */
int pio_comm_meet(pio_comm *comm, int64_t deadline_ns, pio_err *err);
/* The bytes of `root` reach all: an NCCL id, an address. */
int pio_comm_share(pio_comm *comm, void *data, size_t size_bytes, int root, int64_t deadline_ns,
                   pio_err *err);

/* Rings of some of the ranks: all ranks call it; those with the same color, 0 or more,
 * have a ring of their own, in the order of their ranks; a negative one joins none, and
 * *group is NULL. For pio_comm_allreduce alone, and closed by pio_comm_group_close;
 * while there is one its parent is not used, as both listen to the same agent. A
 * failure breaks the parent too. Needs a world of more than one rank. */
int pio_comm_group(pio_comm **group, pio_comm *parent, int color, int timeout_ms);
void pio_comm_group_close(pio_comm **group);

#endif
