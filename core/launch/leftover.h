/* leftover.h: who is on this node, and what a dead one left there.
 *
 * An agent that has joined a head leaves a note beside its rings,
 * pioche-<ulid>-<attempt>-<node>.node, for whoever comes after it:
 *
 *   {"attempt":1,"count":8,"dir":"/...","first":8,"node":1,"run":"01...","store":"/..."}
 *
 * The note is locked as long as the agent or its keeper lives, and removed when they
 * end and no ring is left. Where both were killed, the note and the rings stay: the
 * next agent on that node, of whatever attempt, or a command that takes in what is
 * new, moves what the rings hold into the journal of their attempt, which may have
 * ended long ago; then it is folded again (store/late.h). Each point comes once,
 * whoever is at it at the same time and whoever dies meanwhile. */
#ifndef PIO_LAUNCH_LEFTOVER_H
#define PIO_LAUNCH_LEFTOVER_H

#include "base/err.h"
#include "base/str.h"
#include "client/drain.h"
#include "launch/agent_spec.h"

/* The ranks of this agent. */
pio_ring_node pio_leftover_rings(const pio_agent_spec *spec);
/* Leave the note. *lock_fd holds its lock, also in a child that is forked later. */
int pio_leftover_announce(int *lock_fd, const pio_agent_spec *spec, pio_err *err);
/* Remove the note, unless a ring is left. */
void pio_leftover_end(const pio_agent_spec *spec);

/* Drain what dead agents of this user left on this node; `store`, where not NULL:
 * those of this store alone. What is locked, has a process that lives or no directory
 * is left for later, and so is what fails: the first error is returned. *told: what was
 * drained, in one line; empty: nothing. May run in a thread. */
int pio_leftover_drain(pio_str *told, const char *store, pio_err *err);

#endif
