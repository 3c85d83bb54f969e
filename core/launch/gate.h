/* gate.h: which of the nodes that an attempt was given shall run it?
 *
 * Before the agents of an attempt on several nodes are started, where it asks for
 * preflight: in rounds (gate_round.h) every node is looked at (preflight.h), then all
 * measure together how fast they add up, and who is slow is found (probe.h). Who is
 * unfit, does not come, fails or hangs is left out, and the others begin anew, until
 * a round is done or too few are left:
 *
 *   a round --somebody unfit, gone, failed, hung--> without these, if enough are left
 *     |--all done--> those that are not slow are fit
 *     |--told to end, out of time, failed for no node's sake--> the verdict
 *
 * A probe that exits by itself is taken for its node's fault once: when it does so on
 * another one too, it is not.
 *
 * On good nodes it takes as long as it takes to start agents, and a second or two; it
 * may take PIO_GATE_S at most, and what agents may take to come (join_s of head.h).
 * DIR/gate.json gets, atomically:
 *
 *   { "version": 1, "result": "ok" or the verdict, "message": why or null,
 *     "by": "nccl", "tcp" or null, "busbw": bytes a second or null, "rounds",
 *     "fit": [host...], "nodes": [ { "host", "why": it is left out, or null, "result": what
 *     an attempt is that cannot do without it, "node_fail" or "failed", or null,
 *     "checks": as in the record of an agent, with "bandwidth", or "probe" where it did
 *     not come, failed or hung } ], "took_ns" }
 *
 * The directories of its rounds, DIR/gate.<k>, stay where something was found. */
#ifndef PIO_LAUNCH_GATE_H
#define PIO_LAUNCH_GATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_GATE_S 300

typedef struct pio_gate {
	const char *dir;         /* of the attempt */
	const json_t *orders;    /* of its head */
	int needed;              /* nodes */
	json_t *fit;             /* names of nodes, in order; first all it was given, then who is left */
	json_t *nodes;           /* as in gate.json */
	const char *verdict;     /* NULL: go on with those that are fit; "node_fail": too few
	                          * are; "failed", "cancelled", "timeout" */
	char why[PIO_ERR_MESSAGE_BYTES];
	const char *by;          /* how it was measured; NULL: it was not */
	double busbw;
	int rounds;
	int exits;               /* nodes left out for a probe that exited by itself */
	int64_t took_ns;
} pio_gate;

/* `hosts`: names of all nodes, taken. End with pio_gate_fini whatever comes back. */
int pio_gate_init(pio_gate *gate, const char *dir, const json_t *orders, int needed, json_t *hosts,
                  pio_err *err);
/* SIGTERM, SIGINT and SIGUSR2 meanwhile end it, as they end a head. Fails only where
 * nothing could be started or written. */
int pio_gate_run(pio_gate *gate, pio_err *err);
void pio_gate_fini(pio_gate *gate);

/* Why a node is left out; NULL: it is not. */
const char *pio_gate_why(const pio_gate *gate, const char *host);

#endif
