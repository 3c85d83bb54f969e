/* archiver.h: archives (archive.h) that are made beside the work, by a thread of
 * the store's.
 *
 * A full segment takes a second to compress and compare, and whoever folds has
 * other runs to tend. Small ones are not worth a thread and are made at once.
 * What was asked for is done when the store is closed, and a failure is nobody's
 * trouble: the plain file stays. */
#ifndef PIO_STORE_ARCHIVER_H
#define PIO_STORE_ARCHIVER_H

#include "base/err.h"

#define PIO_ARCHIVER_BYTES_MIN (8 << 20)

typedef struct pio_archiver pio_archiver;

/* Have the segment at `path` compressed. *archiver is NULL at first, and is made
 * when there is something to do. Asking again while it waits changes nothing. */
int pio_archiver_put(pio_archiver **archiver, const char *path, pio_err *err);
/* Waits for all that was put. NULL is fine. */
void pio_archiver_free(pio_archiver *archiver);

#endif
