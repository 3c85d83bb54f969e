/* gate_round.h: one round of the gate (gate.h): an attempt in miniature on some nodes,
 * made of what attempts are made of: a head in a process of its own, agents, and as
 * ranks the probes (probe.h), in a directory of its own. Each agent looks at its node
 * before (preflight.h). Its journals and its points are never part of the run. */
#ifndef PIO_LAUNCH_GATE_ROUND_H
#define PIO_LAUNCH_GATE_ROUND_H

#include <jansson.h>
#include <signal.h>
#include <stdint.h>

#include "base/err.h"

typedef struct pio_gate_round {
	const char *dir;         /* made by it */
	const json_t *orders;    /* of the head that needs to know */
	const json_t *hosts;     /* names of the nodes, in order */
	int most;                /* slow nodes that are looked for */
	int64_t join_s;          /* how long agents may take to come */
	int64_t deadline_ns;     /* monotonic */
	/* What came of it: */
	json_t *record;          /* exit.json (head.h); NULL: there is none */
	json_t *checks;          /* by the name of a node, what preflight found there */
	json_t *probe;           /* what rank 0 said; NULL: nothing */
	const char *verdict;     /* "cancelled", "timeout": somebody asked for that; "failed":
	                          * it was not done in time; else NULL */
} pio_gate_round;

/* Fails only where nothing could be started. The caller has blocked SIGCHLD, SIGTERM,
 * SIGINT and SIGUSR2: they are taken here, and passed on. */
int pio_gate_round_run(pio_gate_round *round, pio_err *err);
void pio_gate_round_fini(pio_gate_round *round);

/* The signals that it takes. */
void pio_gate_signals(sigset_t *set);
/* `start_on` of the orders, for these nodes; NULL when memory is out. */
json_t *pio_gate_start(const json_t *start_on, const json_t *hosts);

#endif
