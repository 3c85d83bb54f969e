/* incoming.h: a directory of the store for what comes in, until it is taken or refused.
 *
 * STORE/staging/<ULID>.import, whose `lock` is held while somebody works in it.
 * Whoever ends, the directory is removed; after a death the next staging does it, or
 * what recovers the store. Only objects that were fetched (objects/ab/<sha256> in it)
 * wait until they are inherited, or until the store is recovered a week later; on a
 * network file system, whose locks tell nothing, they do not. */
#ifndef PIO_EXCHANGE_INCOMING_H
#define PIO_EXCHANGE_INCOMING_H

#include <stdbool.h>

#include "store/store.h"

typedef struct pio_incoming {
	char *dir;              /* NULL: none */
	int lock_fd;
	bool keeps;             /* what was fetched */
} pio_incoming;

#define PIO_INCOMING_INIT { NULL, -1, false }

/* Sweep what dead ones left, and make one. Ended by pio_incoming_close, also after a
 * failure. */
int pio_incoming_open(pio_incoming *incoming, const pio_store *store, pio_err *err);
/* What is fetched into this one is for an heir, should it come to nothing; and objects that
 * others left lie in left/ab/<sha256> then. Whether they are whole, their digests tell. */
void pio_incoming_inherit(pio_incoming *incoming, const pio_store *store);
/* Removes it with all that is in it, unless there is something for an heir. Idempotent. */
void pio_incoming_close(pio_incoming *incoming);

#endif
