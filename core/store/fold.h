/* fold.h: journals become rows.
 *
 * Exactly once: the place in a journal moves in the transaction that inserts
 * what was read up to it. All the memory of a fold, with the cache of SQLite,
 * stays below 64 MiB, whatever the journal. Of a run with very many series that
 * goes on, the few points that a fold brings of each wait for half a minute before
 * they become chunks (recent.h); every reader sees them at once. Media become rows
 * and objects (media.h) and a checkpoint whose last report arrives is published
 * (checkpoint.h) in the same transaction. Times are kept to the microsecond. A
 * record that makes no sense is passed over and told in an event of kind
 * 'journal'; a run of more than 100,000 keys gets one of kind 'keys'. Full
 * chunks are encoded by a few threads where cores are free (encoder.h); the
 * rows do not show it. */
#ifndef PIO_STORE_FOLD_H
#define PIO_STORE_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

typedef struct pio_fold_result {
	int64_t points, records;
	int64_t last_step;        /* newest step folded now; INT64_MIN: none */
	int checkpoints;          /* published now */
	int64_t cpu_ns;           /* processor time that it took; set also on failure */
} pio_fold_result;

/* Fold every journal.<node> in the attempt's directory, then have the segments
 * compressed that are done with (archiver.h). `final`: its writers are dead, so a
 * torn tail is the end, and the journals are done. */
int pio_store_fold_attempt(pio_fold_result *result, pio_store *store, int64_t attempt_id,
                           bool final, pio_err *err);

/* When an attempt that goes on is due again, after a fold that began at
 * begin_ns (monotonic): PIO_FOLD_NS after that. Where folds are much work, as
 * with a thousand ranks, they are further apart, so that they take no more than
 * one part in PIO_FOLD_PART of a core; but never more than PIO_FOLD_NS_MAX. */
#define PIO_FOLD_NS INT64_C(2000000000)
#define PIO_FOLD_NS_MAX INT64_C(20000000000)
#define PIO_FOLD_PART 8
int64_t pio_fold_due(int64_t begin_ns, const pio_fold_result *result);

/* Drain the rings that a dead attempt left into its journal
 * (pio_ring_recover of client/drain.h; this room does not know rings). */
typedef int pio_store_recover_rings(const char *attempt_dir, const char *ulid, int attempt,
                                    int world, pio_err *err);

/* Standalone runs announce themselves by a directory staging/<ulid>/: make
 * their run rows, fold what is there, and end those whose process is gone
 * (finished or failed as their EXIT record says; failed, result lost, without
 * one). A process is alive as long as it holds the lock runs/<ulid>/1/agent.lock.
 * Attempts whose journals grew after their end are folded again (late.h).
 * recover_rings may be NULL. A run that cannot be adopted does not keep others
 * from it; the first such error is returned. */
int pio_store_adopt(pio_store *store, pio_store_recover_rings *recover_rings, pio_err *err);

#endif
