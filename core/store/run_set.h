/* run_set.h: sets of runs inside SQL; for this room alone.
 *
 * A query of the command line walks one index for each of its comparisons and
 * joins the results. As IN lists SQLite would keep each in a tree of its own; as
 * bits they cost nothing beside the walk, whatever the query's shape:
 *
 *   run_set(id)            aggregate: the ids as a blob, bit id % 8 of byte id / 8
 *   run_set_and(a, b)  run_set_or(a, b)  run_set_minus(a, b)
 *   run_set_has(a, id)     1 or 0
 *   run_set_count(a)
 *   run_set_ids(a, n)      the n largest ids (-1: all), from the largest on, with spaces between
 *
 * NULL is the empty set. An id beyond 2^32 is an error. */
#ifndef PIO_STORE_RUN_SET_H
#define PIO_STORE_RUN_SET_H

#include "store/store.h"

/* Register the functions on the store's connection. */
int pio_store_run_set_register(pio_store *store, pio_err *err);

#endif
