/* rendezvous.h: where the ranks of an attempt find each other.
 *
 * A TCP server in the head agent's loop; what is said is client/frame.h. It
 * knows every rank by name: it hands out the table of addresses once all are
 * there, tells those who wait which ranks are missing shortly before their
 * patience ends, and carries an abort with its reason to everybody.
 *
 * Whoever does not know the token of the attempt, speaks another language, or
 * says nothing for ten seconds is refused and counted, and the attempt goes on
 * unharmed. Ranks may leave (BYE) and join again; a rank whose connection
 * breaks without BYE aborts the others, unless somebody names a better reason
 * within half a second. All calls from the thread of the loop. */
#ifndef PIO_LAUNCH_RENDEZVOUS_H
#define PIO_LAUNCH_RENDEZVOUS_H

#include <stdint.h>
#include <uv.h>

#include "base/err.h"

typedef struct pio_rendezvous pio_rendezvous;

/* Something worth a line in the run's history: the first refusal, an abort. */
typedef void pio_rendezvous_event(void *context, const char *kind, const char *message);

/* Listen on host (NULL: 127.0.0.1) at a port of the kernel's choice, for
 * `world` ranks that know `token`. */
int pio_rendezvous_open(pio_rendezvous **rendezvous, uv_loop_t *loop, const char *host,
                        const char *token, int world, pio_rendezvous_event *event, void *context,
                        pio_err *err);
uint16_t pio_rendezvous_port(const pio_rendezvous *rendezvous);
/* Tell all ranks to give up; those that join later hear it too. The first
 * reason stays. */
void pio_rendezvous_abort(pio_rendezvous *rendezvous, const char *reason);
/* Connections that were refused; ranks that are connected now. */
uint64_t pio_rendezvous_refused(const pio_rendezvous *rendezvous);
int pio_rendezvous_connected(const pio_rendezvous *rendezvous);
/* Close all connections. The memory goes when the loop has run once more.
 * Sets *rendezvous to NULL. */
void pio_rendezvous_close(pio_rendezvous **rendezvous);

#endif
