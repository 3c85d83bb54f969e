/* lease.h: the right to supervise the runs of a store, one process at a time.
 *
 * On a local disk it is a lock of the kernel, gone with its holder. On a network
 * file system (and with PIOCHE_FS=network) it rests on no lock of the kernel and
 * on no clock of another machine: the holder raises a count in a file, and who
 * wants the lease takes it over when it has seen that count stand still for
 * PIOCHE_LEASE_S seconds (30). A holder that was merely asleep cannot write any
 * more: each of its transactions begins with a look whether the lease is still
 * its own. The protocol stands at the top of lease.c. */
#ifndef PIO_STORE_LEASE_H
#define PIO_STORE_LEASE_H

#include <stdint.h>

#include "store/store.h"

enum pio_lease_state {
	PIO_LEASE_FREE,
	PIO_LEASE_HELD,       /* by a process that lives */
	PIO_LEASE_DEAD,       /* its holder is dead for certain: taking it succeeds at once */
	PIO_LEASE_FAR,        /* held from another machine: only watching tells whether it lives */
};

#define PIO_LEASE_HOLDER_BYTES 512

typedef struct pio_lease_look {
	enum pio_lease_state state;
	char holder[PIO_LEASE_HOLDER_BYTES]; /* "host, pid 12, pioche run x.lua"; empty when free */
	int64_t token;        /* of the newest claim; 0: none */
	int silent_ms;        /* how long FAR is watched before it is taken over */
} pio_lease_look;

/* Who holds it? Takes nothing, disturbs nobody, works without write permission. */
int pio_store_lease_look(pio_lease_look *look, pio_store *store, pio_err *err);

/* Take it. PIO_EBUSY names the holder. May watch a far holder for its silent_ms,
 * and returns as soon as that one shows that it lives. */
int pio_store_lease_take(pio_store *store, pio_err *err);
/* Give it back; nothing when it is not held. */
void pio_store_lease_drop(pio_store *store);

/* For pio_store_begin, inside its transaction: PIO_ETIMEOUT when the store's
 * lease was taken over. 0 when this store never took it. */
int pio_store_lease_check(pio_store *store, pio_err *err);

#endif
