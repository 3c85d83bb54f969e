/* shm.h: a file mapped by several processes.
 *
 * Rings live in /dev/shm (or $PIOCHE_SHM), never in the store: a store may
 * stand on a network file system, where a shared mapping is not coherent. */
#ifndef PIO_SYS_SHM_H
#define PIO_SYS_SHM_H

#include <stddef.h>

#include "base/err.h"

typedef struct pio_shm {
	void *base;         /* NULL when closed */
	size_t size_bytes;
} pio_shm;

/* Directory for rings: $PIOCHE_SHM, /dev/shm if writable, else $TMPDIR (not where
 * it is on a network file system) or /tmp. */
const char *pio_shm_dir(void);
/* Make a new file of this size (0600, all zeros, its blocks reserved so that a
 * store into it can never raise SIGBUS for lack of space) and map it.
 * PIO_EEXIST if it exists, PIO_EINVAL on a network file system. */
int pio_shm_create(pio_shm *shm, const char *path, size_t size_bytes, pio_err *err);
/* Map an existing file whole, read and write. */
int pio_shm_open(pio_shm *shm, const char *path, pio_err *err);
/* Unmap; the file stays. Idempotent. */
void pio_shm_close(pio_shm *shm);

#endif
