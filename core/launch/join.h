/* join.h: how an agent comes to its head, before it has a loop.
 *
 * Where the head is, and the token that it knows, are in the environment
 * (client/env.h). The orders come once all agents of the attempt have joined,
 * which may take minutes. Blocking; a connection that breaks before the orders
 * are there is made anew, because a crowd of strangers may have pushed it out. */
#ifndef PIO_LAUNCH_JOIN_H
#define PIO_LAUNCH_JOIN_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "client/frame.h"

/* One reading of the head's clock, and how far it can be off. */
typedef struct pio_head_clock {
	int64_t offset_ns;     /* the head's monotonic clock minus this machine's */
	int64_t doubt_ns;      /* 0: never read */
} pio_head_clock;

typedef struct pio_joined {
	int fd;                /* to the head; -1 when closed */
	int master_fd;         /* holds the port for rank 0 until the orders are here; -1: none */
	pio_frame_join self;
	pio_frame_address head;
	pio_head_clock clock;
	pio_str orders;        /* JSON; empty: not needed, be gone */
	pio_str in;            /* bytes behind the orders */
} pio_joined;          /* self.address is that of this machine, as the head sees it */

/* Join and wait for the orders. End with pio_join_fini whatever comes back. */
int pio_join(pio_joined *joined, pio_err *err);
/* As the keeper of an agent that is dead: a new connection, one event, and the
 * end, which waits until the head has taken it. */
int pio_join_speak_for(pio_joined *joined, const char *event, pio_err *err);
void pio_join_fini(pio_joined *joined);
/* A PONG came: keep the better reading. */
void pio_head_clock_read(pio_head_clock *clock, int64_t sent_ns, int64_t head_ns, int64_t now_ns);

#endif
