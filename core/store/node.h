/* node.h: the machines that ran something, and what is remembered of them.
 *
 * Facts are kept here: how many attempts a node took part in, how often it was
 * the first to fail, or was left out as it failed a check, episodes of slow steps, what was found on it before ranks
 * started. What follows from them, that it is to be left out for a while, is
 * policy (lua/pioche/nodes.lua), and kept here too, so that it holds for
 * everybody and can be explained.
 *
 * Every function is one transaction, or part of the caller's. */
#ifndef PIO_STORE_NODE_H
#define PIO_STORE_NODE_H

#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

/* Count an attempt that has ended, by its rows: the nodes of its ranks, those that
 * were checked, who failed first or failed a check, its 'straggler' events. For pio_store_attempt_finish, once. */
int pio_store_node_ended(pio_store *store, int64_t attempt_id, pio_err *err);

/* `state`: ok, warning or failed. A check that is there is replaced. */
int pio_store_node_check(pio_store *store, const char *node, int64_t attempt_id, const char *name,
                         const char *state, const char *message, int64_t time_ns, pio_err *err);

/* Leave it out until then. It need not have run anything. */
int pio_store_node_exclude(pio_store *store, const char *name, int64_t until_ns, const char *reason,
                           pio_err *err);
/* Use it again, and forget what it did until now. PIO_ENOTFOUND: nobody knows it. */
int pio_store_node_clear(pio_store *store, const char *name, pio_err *err);

#endif
