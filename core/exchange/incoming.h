/* incoming.h: a directory of the store for what comes in, until it is taken or refused.
 *
 * STORE/staging/<ULID>.import, whose `lock` is held while somebody works in it.
 * Whoever ends, the directory is removed; after a death the next staging does it, or
 * what recovers the store. */
#ifndef PIO_EXCHANGE_INCOMING_H
#define PIO_EXCHANGE_INCOMING_H

#include "store/store.h"

typedef struct pio_incoming {
	char *dir;              /* NULL: none */
	int lock_fd;
} pio_incoming;

#define PIO_INCOMING_INIT { NULL, -1 }

/* Sweep what dead ones left, and make one. Ended by pio_incoming_close, also after a
 * failure. */
int pio_incoming_open(pio_incoming *incoming, const pio_store *store, pio_err *err);
/* Removes it with all that is in it. Idempotent. */
void pio_incoming_close(pio_incoming *incoming);

#endif
