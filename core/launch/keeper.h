/* keeper.h: the process that outlives an agent.
 *
 * An agent splits in two before it has threads, files or ranks: the worker, which
 * is the agent, and its parent, the keeper, which does nothing but wait. If the
 * worker ends without having written its record, by whatever signal, the keeper
 * kills what the ranks have become (the kernel gives them to it), drains their
 * rings into the journal, writes the exit record with what it knows and tells
 * it, so that not one point that a rank logged is lost with its agent, on any node:
 *
 *   result "lost", message "the agent died: SIGKILL", or the failure of a rank
 *   that had ended by itself before; per rank its end and its last step.
 *
 * If the keeper dies, the worker is told by SIGTERM and stops its ranks in good
 * order ("lost"). Whoever kills both leaves rings behind: those of the
 * supervisor's own machine are drained when it recovers, those of another node by
 * the next agent there (leftover.h). */
#ifndef PIO_LAUNCH_KEEPER_H
#define PIO_LAUNCH_KEEPER_H

#include <sys/types.h>

#include "launch/agent_parts.h"

/* Split. *worker is 0 in the worker, its pid in the keeper. The ranks of the
 * agent are made here, in memory that both see. */
int pio_keeper_split(pio_agent *agent, pid_t *worker, pio_err *err);
/* Be the worker, and have no keeper: whoever started this is in its place. */
int pio_keeper_none(pio_agent *agent, pio_err *err);
/* The keeper's life: the exit status of the process. */
int pio_keeper_watch(pio_agent *agent, pid_t worker);

#endif
