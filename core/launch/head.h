/* head.h: the one process of an attempt on many nodes that gives orders to its
 * agents, and says at the end what happened.
 *
 * `pioche agent --head DIR` reads DIR/orders.json: agent_spec.h without token,
 * node and host, and
 *
 *   start      the argv that starts one `pioche agent --join` on each node; its
 *              standard error becomes the head's
 *   start_on   the same for some of the nodes: in its words {hosts} stands for their
 *              names, with commas between, {count} for how many they are. With it, and
 *              with `preflight` on more than one node, the head chooses (gate.h)
 *   bandwidth  bytes a second of bus bandwidth that preflight expects; absent: none
 *   spares     how many agents more than `nodes` it starts, default 0
 *   hosts      names of the nodes in order, for messages; absent: from
 *              SLURM_JOB_NODELIST, else "node 3"
 *   interface  name of a network interface or address range ("10.1.0.0/16") by
 *              which the nodes reach each other; absent: launch/address.h
 *   join_s     how long agents may take to come, default 300
 *
 * The head opens the rendezvous at a port of the kernel's choice, makes the
 * token, and gives both to `start`, in the environment alone. Once all agents
 * have joined, all get their orders. After a tenth of join_s, `nodes` of them are
 * enough; who is missing then is named, and ends the attempt after all of it. The
 * first failure on any node is told to the other agents, which stop their ranks.
 *
 * Signals: SIGTERM stops politely (`cancelled`): ranks that ask when to end are told a
 * step, the others, and all of them at the second one, get SIGTERM; SIGINT kills; SIGUSR2
 * says that the time limit is near (`timeout`). If the head dies its agents stop their
 * ranks in good order.
 *
 * DIR/head.events gets what a local agent says on stdout (launch/agent.h), a
 * JSON line each, with the `host` it came from: {"event":"started","host":h,
 * "node":i,"pids":[...]}, notes of the agents and of the head, "ended". Written
 * last, atomically, is DIR/exit.json:
 *
 *   { "version": 1, "run": ulid, "attempt": n,
 *     "job": SLURM_JOB_ID or null, "restart": SLURM_RESTART_COUNT or 0,
 *     "result": "ok|failed|signal|timeout|node_fail|hang|oom|cancelled|lost",
 *     "message": why, one line, or null where all is well,
 *     "first": null or as in the record of an agent, with "node" and "host";
 *              rank, pid and step are null where a node as a whole is to blame,
 *     "nodes": [ { "node", "host", "result", "message" } ],
 *     "refused": connections of those who do not belong to it,
 *     "started_ns", "ended_ns" }
 *
 * A connection that brings no token, a wrong one or that of another attempt, is
 * refused (launch/door.h) and harms nothing; of the first one there is a note.
 * A node whose agent is gone without a word, and without one of its keeper
 * within 15 s, is `node_fail`. DIR/head.lock is held as long as the head lives. */
#ifndef PIO_LAUNCH_HEAD_H
#define PIO_LAUNCH_HEAD_H

#define PIO_JOIN_S_DEFAULT 300

/* The verb: exit status 0, also when ranks failed (exit.json says so); 3 when
 * the head itself could not work. */
int pio_head_main(const char *dir);

#endif
