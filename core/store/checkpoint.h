/* checkpoint.h: publishing, listing for resume, and dropping checkpoints; which are to
 * be dropped is said by retain.h.
 *
 * Shards are staged, hashed and synced by the ranks (core/client/checkpoint.c)
 * and reported through the journal. When all writers of a step have reported,
 * the fold publishes: manifest, renames into objects/, one fsync a directory,
 * rows in the fold's transaction. The row is the publish: nothing is referred
 * to before it. Dropping goes in reverse: state 'dropping', commit, unlink,
 * delete the row. */
#ifndef PIO_STORE_CHECKPOINT_H
#define PIO_STORE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "store/store.h"

/* Are all its files there, with their sizes, and none known to have other bytes
 * (verify.h)? If not, the first that is not is appended to `why`, which may be
 * NULL. */
int pio_store_checkpoint_sound(bool *sound, pio_str *why, pio_store *store, int64_t checkpoint_id,
                               pio_err *err);
/* Newest sealed checkpoint of a run by step that is sound; *id = 0 when there is
 * none. */
int pio_store_checkpoint_newest(int64_t *id, pio_store *store, int64_t run_id, pio_err *err);
/* The same, to start from: an event of the run says, once, which newer ones were
 * passed over, and why. */
int pio_store_checkpoint_resume(int64_t *id, pio_store *store, int64_t run_id, pio_err *err);
/* By manifest digest; *id = 0 when there is none. */
int pio_store_checkpoint_find(int64_t *id, pio_store *store, const char *manifest_sha256,
                              pio_err *err);
/* Write the resume index (client/resume.h) of a checkpoint. */
int pio_store_checkpoint_index(pio_store *store, int64_t checkpoint_id, const char *path,
                               pio_err *err);
/* Drop one checkpoint and the objects that nothing else refers to. */
int pio_store_checkpoint_drop(pio_store *store, int64_t checkpoint_id, pio_err *err);
/* The best sealed checkpoint by the goal (its value at the checkpoint's step, else
 * at the nearest step before); *id = 0 when there is none. */
int pio_store_checkpoint_best(int64_t *id, pio_store *store, int64_t run_id, const char *goal_key,
                              const char *goal, pio_err *err);
/* Keep what came of a proof (pioche checkpoint prove): 'same', 'differs' or 'failed'. */
int pio_store_proof_add(pio_store *store, int64_t run_id, const char *manifest_sha256, int64_t step,
                        const char *result, int64_t points, const char *message, pio_err *err);
/* Finish interrupted drops and sweep staging/ of owners that are gone. */
int pio_store_checkpoint_recover(pio_store *store, pio_err *err);

#endif
