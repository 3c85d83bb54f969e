/* repeat.h: the repeats of a sweep's proposals, with further seeds, that a race asks for.
 *
 * A race decides by the values of runs that it has seen, which are numbered in their order,
 * by its decisions before, and by what a person changed of its sweep (change.h); with each
 * decision is how many values it had seen and how many changes there were. So a sweep that is
 * gone on with decides as it would have, and every decision can be derived again.
 *
 * Every function is one transaction, or part of the caller's. */
#ifndef PIO_STORE_REPEAT_H
#define PIO_STORE_REPEAT_H

#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

/* The decision of this number, one after another from 1 on: a proposal is to run with this
 * seed, too, as this run. PIO_EEXIST where it does already. */
int pio_store_repeat_add(pio_store *store, int64_t sweep_id, int64_t number, int64_t seed,
                         int64_t run_id, int64_t asked, int64_t seen, pio_err *err);
/* The value that the race has seen as number `observed`, one after another from 1 on; NaN where
 * the run failed: of a repeat or of a run that was planned. There is one a run: where it is on
 * record, that stands. */
int pio_store_repeat_observe(pio_store *store, int64_t sweep_id, int64_t number, int64_t seed,
                             int64_t observed, double value, pio_err *err);

#endif
