/* retain.h: which checkpoints of a run are kept, and the others dropped.
 *
 * Kept are the newest ones, the best by the goal, one for every so many steps, those that
 * are pinned, and those that somebody needs: a run that is to start from it, an attempt
 * that resumed from it and has saved none of its own yet, or another checkpoint, which is
 * decoded with its files (object_code.h). A damaged one counts for none of these and is
 * left where it is, for a person to decide.
 *
 * Promises: nothing is dropped before the newest of those that are kept was read again
 * from the disk (store/verify.h) and found to be what it was; and never the only one. */
#ifndef PIO_STORE_RETAIN_H
#define PIO_STORE_RETAIN_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

typedef struct pio_keep {
	int64_t last;               /* of the newest */
	int64_t best;               /* by the goal; without one: none */
	int64_t every;              /* the first at or after each multiple of so many steps; 0: none */
	const char *goal_key, *goal; /* "minimize" or "maximize"; NULL: there is none */
	int64_t successor;          /* checkpoint of another run, which has taken the place of this one's: nothing
	                             * stays but what is pinned or needed; 0: none */
} pio_keep;

typedef struct pio_retained {
	int64_t id, step;
	const char *why;            /* it is kept, a word; static. NULL: it may go */
} pio_retained;

/* What the rule says of each sealed checkpoint of a run, newest first; nothing is
 * changed. The caller frees *list with pio_free. */
int pio_store_checkpoint_judge(pio_retained **list, size_t *count, pio_store *store, int64_t run_id,
                               const pio_keep *keep, pio_err *err);

/* Drop those that may go; what another one has come to be decoded with stays this time.
 * *unread: 0, or the checkpoint that has to be reread first, and
 * nothing was dropped. */
int pio_store_checkpoint_retain(int64_t *unread, pio_store *store, int64_t run_id, const pio_keep *keep,
                                pio_err *err);

/* Remove a file of objects/ that no row names: an orphan (object.h). *bytes: what
 * it took, -1: it is none (any more), and stays. */
int pio_store_orphan_remove(int64_t *bytes, pio_store *store, const char *name, pio_err *err);

/* Keep a checkpoint whatever the rule says, or no longer; `reason` may be NULL. */
int pio_store_checkpoint_pin(pio_store *store, int64_t checkpoint_id, const char *reason, pio_err *err);
int pio_store_checkpoint_unpin(pio_store *store, int64_t checkpoint_id, pio_err *err);

#endif
