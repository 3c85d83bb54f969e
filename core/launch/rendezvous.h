/* rendezvous.h: where the ranks of one node find their agent, and through it
 * each other.
 *
 * A unix socket in the agent's loop, of a name that the kernel makes up and no
 * file stands for, open to processes of the same user that know the token of the
 * attempt (door.h: all others are refused and counted). What is said is
 * client/frame.h. What concerns other nodes goes up to the head, or on one
 * machine straight to the assembly, once for all ranks of the node.
 *
 * Ranks may leave (BYE) and join again. Those who wait are told who is missing
 * shortly before their patience ends. All calls from the thread of the loop. */
#ifndef PIO_LAUNCH_RENDEZVOUS_H
#define PIO_LAUNCH_RENDEZVOUS_H

#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/str.h"
#include "client/frame.h"

#define PIO_RENDEZVOUS_NAME_BYTES 32

typedef struct pio_rendezvous pio_rendezvous;

typedef struct pio_rendezvous_owner {
	void *context;
	/* To the assembly; takes the frames. It may answer before this returns. */
	void (*up)(void *context, pio_str *frames);
	/* Something worth a line in the run's history: the first refusal, an abort. */
	void (*tell)(void *context, const char *kind, const char *message);
} pio_rendezvous_owner;

/* For ranks [first_rank, first_rank + ranks) of `world` that know `token`. */
int pio_rendezvous_open(pio_rendezvous **rendezvous, uv_loop_t *loop, const char *token, int world,
                        int first_rank, int ranks, const pio_rendezvous_owner *owner, pio_err *err);
/* What ranks find in PIOCHE_RENDEZVOUS. */
const char *pio_rendezvous_name(const pio_rendezvous *rendezvous);
/* NEXT, WAITING, MEET, SHARE or ABORT of the assembly; others change nothing. */
void pio_rendezvous_hear(pio_rendezvous *rendezvous, const pio_frame *frame);
/* Tell all ranks of all nodes to give up. */
void pio_rendezvous_abort(pio_rendezvous *rendezvous, const char *reason);
/* Connections that were refused; ranks that are connected now. */
uint64_t pio_rendezvous_refused(const pio_rendezvous *rendezvous);
int pio_rendezvous_connected(const pio_rendezvous *rendezvous);
/* Close all connections; the loop must run once more. Sets *rendezvous to NULL. */
void pio_rendezvous_close(pio_rendezvous **rendezvous);

#endif
