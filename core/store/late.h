/* late.h: journals that grew after their attempt had ended.
 *
 * What a dead node left (launch/leftover.h) gets into its journal when somebody comes
 * to that node again, and that may be long after the last fold. Who drains it first
 * makes a marker, staging/late.<ulid>.<attempt>.<node>, and holds its lock as long as
 * he writes; a marker that is not locked says that this attempt is to be folded
 * again. It is removed after the commit of that: a death in between leads to a fold
 * that finds nothing new. */
#ifndef PIO_STORE_LATE_H
#define PIO_STORE_LATE_H

#include "base/err.h"
#include "store/store.h"

/* Make the marker, durably, and lock it; *lock_fd is ended by pio_fs_unlock. `store_dir`
 * is the store's directory: no database is needed. PIO_EBUSY: somebody has it. */
int pio_late_begin(int *lock_fd, const char *store_dir, const char *ulid, int attempt, int node, pio_err *err);

/* Fold every attempt that has ended and has a marker, and remove that. One that
 * cannot be folded does not keep others from it: the first error is returned. */
int pio_store_fold_late(pio_store *store, pio_err *err);

#endif
