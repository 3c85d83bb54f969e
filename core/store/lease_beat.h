/* lease_beat.h: the pulse of a lease on a network file system: a thread that
 * raises a count at the beginning of the claim's file. For lease.c alone. */
#ifndef PIO_STORE_LEASE_BEAT_H
#define PIO_STORE_LEASE_BEAT_H

#include "base/err.h"

/* How a record begins: the count has a fixed place and width, so a beat rewrites
 * just that, in one small write. */
#define PIO_LEASE_BEATS_PREFIX "{\"beats\":"
#define PIO_LEASE_BEATS_FORMAT PIO_LEASE_BEATS_PREFIX "%20lld"

typedef struct pio_lease pio_lease;
typedef struct pio_lease_beat pio_lease_beat;

int pio_lease_beat_start(pio_lease_beat **beat, const char *path, int every_ms, pio_err *err);
/* Ends the thread. NULL is fine. */
void pio_lease_beat_stop(pio_lease_beat *beat);

#endif
