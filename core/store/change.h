/* change.h: what was changed of a sweep while it was under way, by a person or its session, in order.
 *
 * Each change says how many proposals of the search and how many observations came
 * before it. So what a search knew when it made a proposal follows from rows alone,
 * and every proposal can be derived again.
 *
 * Every function is one transaction, or part of the caller's. */
#ifndef PIO_STORE_CHANGE_H
#define PIO_STORE_CHANGE_H

#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

/* The next change of a sweep; *number says which: 1, 2, ... `kind` is one of the
 * table's, `detail` JSON, `reason` one line or NULL. */
int pio_store_change_add(int64_t *number, pio_store *store, int64_t sweep_id, const char *kind,
                         const char *detail, const char *reason, pio_err *err);
/* A point of another sweep that `change` brought, the next one of this sweep. `params` are
 * a point of this sweep's space and `observation` what it came to, both JSON. */
int pio_store_prior_add(pio_store *store, int64_t sweep_id, int64_t change, const char *params,
                        const char *observation, pio_err *err);

#endif
