/* supervise.h: launching attempts and knowing how they end.
 *
 * One supervisor per store (it needs the lease). It owns a libuv loop, one
 * `pioche agent` child per local attempt, the calls to Slurm, one at a time, for
 * attempts that are jobs there (supervise_job.h), and the order of things: what is to
 * happen is committed to the store before it is done, so that after a crash of
 * anything the next supervisor finds out what did happen (recover) from locks,
 * exit records and journals, and never from a guess.
 *
 * Policy stays outside (lua/pioche/driver.lua): which run next, whether a
 * failure is retried, what a run's status becomes. Running attempts are folded
 * every two seconds and finally when they end. */
#ifndef PIO_LAUNCH_SUPERVISE_H
#define PIO_LAUNCH_SUPERVISE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

typedef struct pio_supervisor pio_supervisor;

/* Borrows the store, whose lease the caller holds. `executable` is this
 * program (its `agent` verb is started), `lib_dir` holds libpioche.so and
 * pioche/pioche.py; jobs of Slurm run a copy of these (own_copy.h). From here on
 * SIGINT and SIGTERM are events. */
int pio_supervisor_new(pio_supervisor **supervisor, pio_store *store, const char *executable,
                       const char *lib_dir, pio_err *err);
/* Stops the agents of this machine at once, waits for them, folds, frees. Jobs of
 * Slurm go on: the next supervisor finds them. */
void pio_supervisor_free(pio_supervisor *supervisor);

/* Settle every attempt that an earlier supervisor left open: wait until its
 * agent is gone (at most 10 s, then it is killed), drain its rings, fold, read
 * its exit record or conclude 'lost', end it. Their runs become 'planned'
 * again, or keep what the exit record says ('finished'). Attempts that are jobs
 * of Slurm are active from here on, and end as others do. */
int pio_supervisor_recover(pio_supervisor *supervisor, pio_err *err);

/* Start one attempt of a run. `spec`, borrowed, is an object:
 *   command   array of strings; the program relative to the code directory if
 *             it names a path with '/', else searched in PATH
 *   env       object of strings, added to the supervisor's environment; empty
 *             tables, objects or arrays, count as absent here and in `wrap`
 *   setup     shell line sourced before each rank, or absent
 *   wrap      array of strings put before the command, or absent
 *   code      directory whose copy becomes <attempt>/code and the working
 *             directory; absent: work in `cwd`
 *   share_code  true: use `code` itself, without a copy
 *   keep_code true: do not remove <attempt>/code when the attempt ends well
 *   cwd       working directory when there is no code
 *   launcher  "local", also when absent, or "slurm"
 *   slurm     with that: an object of options (pio_slurm_job_read), and
 *             `interface`, `spares`, `join_s` for the head (launch/head.h)
 *   pool      with that: id of the pool whose job it is to be part of, and
 *   place     there: an object with `hosts`, an array of a name for each node, and, where
 *             nodes are shared, `slots` and `slots_per_node` (agent_spec.h)
 *   nodes, ranks_per_node   integers, at least 1 (local: nodes is 1)
 *   timeout_s integer or absent: then the result is 'timeout'
 *   grace_s   from SIGTERM to SIGKILL, default 10
 *   hang_s    integer; absent: learned, 0: never: then the result is 'hang' (agent.h)
 *   sample_ms how often nodes and GPUs are measured (launch/agent_meter.c); 0: never
 *   preflight true: nodes are looked at first; an unfit one gives 'node_fail'
 *   resume    id of the checkpoint to start from, or absent
 *   max_restarts  told to the ranks as TORCHELASTIC_MAX_RESTARTS, default 0
 *   mpi_env   true: OpenMPI's rank variables too
 *   bind      auto, gpu, cores or none (agent_bind.h), default auto
 *
 * A wrong spec changes nothing. Where the attempt was begun and nothing could be
 * started (no space for its code, say), it ends as 'failed', and so does the run. */
int pio_supervisor_start(pio_supervisor *supervisor, int64_t run_id, const json_t *spec,
                         int64_t *attempt_id, pio_err *err);

/* Ask Slurm for nodes into which attempts can be packed (launch/pilot.h). `spec`,
 * borrowed, is an object:
 *   spec      string that says what is asked for, kept as it is
 *   slurm     options as above, nodes and time_s among them
 *   idle_s    without work for so long it ends
 *   grace_s, name   as of an attempt; of the job
 * Once it runs an event tells its nodes, and attempts can be started there. */
int pio_supervisor_pool_start(pio_supervisor *supervisor, const json_t *spec, int64_t *pool_id,
                              pio_err *err);
/* No more will come: it ends when nothing runs in it any more. 0 also when it is over. */
int pio_supervisor_pool_end(pio_supervisor *supervisor, int64_t pool_id, pio_err *err);

/* Wait for something to happen, at most timeout_ms. *events is an array the
 * caller owns, maybe empty, of
 *   { "event": "progress", "run": id, "attempt": n, "step": s }
 *   { "event": "ended", "run": id, "attempt": n, "attempt_id": id, "result": word,
 *     "message": one line or null, "step": s or null }
 *   { "event": "queued", "run": id, "attempt": n, "job": id, "where": reason, nodes and job }
 *   { "event": "started", "run": id, "attempt": n, "job": id }   a job that was queued
 *   { "event": "pool", "pool": id, "job": id, "state": "queued", "where": reason }
 *     or "state": "running" or "closing" (no attempt is started any more), with
 *     "nodes": [ name ], "began_ns", "until_ns"; or "state": "ended", "result", "message":
 *     one line or null, "ran": did it ever begin
 *   { "event": "slurm", "run": id or 0, "message": m }   no answer; it is tried again
 *   { "event": "stop", "run": id }          a person asked (pioche stop)
 *   { "event": "interrupt", "signal": name, "count": n }   SIGINT, SIGTERM or SIGHUP, the n-th */
int pio_supervisor_wait(pio_supervisor *supervisor, int timeout_ms, json_t **events,
                        pio_err *err);

/* Stop the run's attempt: SIGTERM, then after grace_s SIGKILL; `now`: SIGKILL.
 * Its result is 'cancelled', unless it ended otherwise before it heard. run_id
 * 0: all of them. 0 also when nothing runs: its end may be among the events. */
int pio_supervisor_stop(pio_supervisor *supervisor, int64_t run_id, bool now, pio_err *err);
/* Attempts that have not ended. */
int pio_supervisor_active(const pio_supervisor *supervisor);

#endif
