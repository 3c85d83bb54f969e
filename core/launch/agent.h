/* agent.h: the one pioche process per node that runs the ranks of an attempt.
 *
 * On one machine, `pioche agent` reads its orders as one JSON line on stdin and then watches
 * that pipe: a line "stop" ends the ranks politely, "kill" at once, and end of
 * file means the supervisor is gone: SIGTERM, and result 'lost'. So
 * no rank outlives its supervisor by more than the grace time, at most 10 s.
 * "stop": where ranks ask when to end (client/vote.h) they are told a step, and that is
 * told on: {"event":"vote","patience_s":n}, and a note; who has not ended after so long,
 * or never asks, gets SIGTERM, and after its grace SIGKILL.
 * It tells on stdout, one JSON line each: {"event":"started","agent":pid,"pids":[...]},
 * {"event":"note","kind":k,"message":m} for the run's history, and
 * {"event":"ended", ...the exit record}.
 *
 * On many, `pioche agent --join` comes to the head that started it (launch/join.h),
 * gets its orders, obeys the words "stop" (SIGTERM), "kill", "timeout" (SIGTERM, as the
 * time limit is near), "hold", which it answers with
 * {"event":"hold","asked":s or null,"step_ns":the longest step, 0: unknown} unless no
 * rank runs yet, "end STEP PATIENCE_S stop|timeout", which after hold_s is as "stop", and
 * "peers" (a failure on another node), and tells the same events over the same
 * connection, of the record without the tails, and {"event":"failed","victim":b,"what":w}
 * as soon as a rank has failed. When the head is gone, that is as the end of file. Of the
 * ranks' progress (head_watch.c):
 *
 *   {"event":"watch","state":s}   s: "steps", a rank has made its first one; "silent",
 *       none makes any, with since_ns, limit_ns, busy_ns: for so long they may make none
 *       while some work; "moving", they do again
 *   {"event":"watch","state":"looked","is_busy":b,"ranks":[...]}   the answer to "look",
 *       2 s later: do the ranks work, and what each does (suspect.h)
 *   {"event":"pace","step_ns":[t...]}   what a step takes, of each rank that logs
 *       them; 0: not known yet
 *
 *   "look"; "hang RANK SILENT_S LIMIT_S": this node is to blame, by that rank; "stacks":
 *   another one is, tell what the ranks do and end them; "pace MEDIAN_NS RANKS": the
 *   median of all, compare
 *
 * It makes the rings, sets every environment contract (client/env.h,
 * torchrun's), starts the ranks in sessions of their own, copies their stdout
 * and stderr into rank-<n>.out and rank-<n>.err, drains the rings into
 * journal.<node> (synced every second), serves the rendezvous when it is the
 * head, and on the first failing rank tells the others through the rendezvous,
 * stops their process trees, and writes exit.<node>.json atomically:
 *
 *   { "version": 1, "run": ulid, "attempt": n, "node": i, "host": name,
 *     "result": "ok|failed|signal|timeout|hang|oom|node_fail|cancelled|lost",
 *     "message": why, one line, or null where all is well,
 *     "first": null or { "rank", "pid", "exit_code" or "signal", "time_ns", "clock_ns",
 *                        "victim": did it fail because a peer had, "step",
 *                        "what": "rank 1 (gpu 1) died: SIGKILL at step 812", "stderr_tail",
 *                        "message": what and "; 1 rank waited 0.2 s" },
 *     "ranks": [ { "rank", "pid", "exit_code" or "signal", "started_ns", "ended_ns",
 *                  "ended_clock_ns", "last_step", "stdout_tail", "stderr_tail",
 *                  "bind": where it was bound (agent_bind.h) or null } ],
 *     "checks": [ what preflight found, preflight.h ] or null,
 *     "clock_ns": when the agent itself came into trouble, or null,
 *     "cwd", "core_limit": in bytes (RLIMIT_CORE), null: none,
 *     "started_ns", "ended_ns" }
 *
 * clock_ns and ended_clock_ns are of the head's monotonic clock, as this agent
 * knows it; without a head, of the machine's. Rank, pid and step are null where
 * they are unknown: exit_code 127 is a program that could not be started.
 * `message` of `first` is the record's.
 *
 * Where no rank makes a step for longer than they ever took (pace.h, or hang_s of
 * the orders), the result is 'hang', `first` is the rank that stands longest and
 * has neither exit_code nor signal, and stacks.<node>.txt shows what each thread
 * did. A rank whose steps take 1.3 times the median over all nodes is told in the
 * journal, as an event 'straggler', once an episode; nothing else happens to it.
 *
 * SIGTERM is as "stop", but while the ranks are on their way to a step it goes to them;
 * SIGUSR2, which says that a time limit is near, is as "stop" with the result 'timeout'.
 * Where all ranks have ended well before they came to the step at which they were to
 * end, the result is 'ok', unless it came by SIGTERM, which they may have got as well.
 *
 * A rank that the kernel killed because memory was out (oom.h) gives 'oom', with
 * figures in the message. What the driver reports of a GPU that errs (gpu/xid.h) is an
 * event 'xid' in the journal, and in the message of a rank that fails, or comes to a
 * stand, with it.
 *
 * The process splits in two (launch/keeper.h), so that all this holds when the
 * agent itself is killed; "agent" in "started" is the half that works, which holds
 * a lock on <attempt>/agent.lock as long as it lives. */
#ifndef PIO_LAUNCH_AGENT_H
#define PIO_LAUNCH_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "launch/agent_spec.h"

/* What ranks may take to end at the step that they were told, where one takes step_ns: the
 * one that they are at, that one, and what they save at it. */
int64_t pio_vote_patience_s(int64_t step_ns, const pio_agent_spec *spec, bool is_limit);
#define PIO_VOTE_NOTE "all ranks end at step %lld"

/* The verb: returns the exit status of the process (0 also when ranks failed:
 * the exit record says so; 3 when the agent itself could not work). */
int pio_agent_main(void);
/* The same without a keeper: who kills this kills all that knows of its ranks. For
 * those who want to see what is left then. */
int pio_agent_main_alone(void);
/* With --join. */
int pio_agent_join_main(void);

#endif
