/* run.h: experiments, runs and attempts in the store.
 *
 * A run is its content (identity); an attempt is one launch of it. The states
 * and who moves them:
 *
 *   run      planned [-> queued] -> running -> finished | failed | stopped | cancelled
 *            failed, cancelled -> queued or running   by another attempt
 *   attempt  starting -> running -> ended(result)
 *
 * Every function is one transaction, or part of the caller's. */
#ifndef PIO_STORE_RUN_H
#define PIO_STORE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

/* A valid experiment name out of anything: what does not belong becomes '-',
 * nothing becomes "run". */
#define PIO_EXPERIMENT_BYTES 201
void pio_store_experiment_name(char name[PIO_EXPERIMENT_BYTES], const char *wanted);
/* Id of the experiment, made if absent. goal_key may be NULL (unchanged). The
 * name: 1 to 200 bytes of letters, digits, '.', '_', '-', no leading '-' or '.'. */
int pio_store_experiment(int64_t *id, pio_store *store, const char *name, const char *goal_key,
                         const char *goal, pio_err *err);

typedef struct pio_store_run_spec {
	int64_t experiment_id;
	const char *ulid;              /* NULL: a new one */
	const char *identity;          /* NULL: standalone */
	int64_t sweep_id, snapshot_id; /* 0: none */
	const char *from_checkpoint;   /* NULL: none */
	const char *program, *launch;  /* JSON or NULL */
	int64_t seed;
	bool has_seed;
} pio_store_run_spec;

/* A new run in state planned; the next number of its experiment and the next
 * generation of its identity. */
int pio_store_run_create(int64_t *id, pio_store *store, const pio_store_run_spec *spec,
                         pio_err *err);
/* Newest generation of an identity; *id = 0 when there is none. */
int pio_store_run_find(int64_t *id, pio_store *store, const char *identity, pio_err *err);
/* What it takes to go on with it without its recipe, JSON. */
int pio_store_run_set_job(pio_store *store, int64_t run_id, const char *job, pio_err *err);
/* One of the words of run.status; sets started_ns / ended_ns as they apply. A
 * request to stop is forgotten where another attempt begins. */
int pio_store_run_set_status(pio_store *store, int64_t run_id, const char *status,
                             const char *reason, pio_err *err);

/* `json` is one JSON value; an existing fact of that name is replaced. */
int pio_store_param_set(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                        const char *json, size_t json_bytes, pio_err *err);
int pio_store_tag_set(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                      const char *value, size_t value_bytes, pio_err *err);
/* Nothing happens where the run has no such tag. */
int pio_store_tag_remove(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                         pio_err *err);
/* attempt_id 0, rank -1, step INT64_MIN, key NULL: none. */
int pio_store_event_add(pio_store *store, int64_t run_id, int64_t attempt_id, int rank,
                        int64_t step, int64_t time_ns, const char *kind, const char *key,
                        const char *message, pio_err *err);

/* A new attempt in state starting, with the next number of its run; the run
 * becomes running, under slurm queued. `launcher` is local, slurm or standalone. dir becomes
 * runs/<ulid>/<number>. resume_checkpoint: manifest digest or NULL. */
int pio_store_attempt_create(int64_t *id, int *number, pio_store *store, int64_t run_id,
                             const char *launcher, int world_size,
                             const char *resume_checkpoint, pio_err *err);
/* Its nodes, and the scheduler's job: the key by which that is found again, and
 * its id, NULL until it is known. */
int pio_store_attempt_job_set(pio_store *store, int64_t attempt_id, int nodes, const char *key,
                              const char *job, pio_err *err);
int pio_store_attempt_started(pio_store *store, int64_t attempt_id, int64_t agent_pid,
                              pio_err *err);

typedef struct pio_store_attempt_end {
	const char *result;            /* one of attempt.result */
	const char *node;              /* NULL: none; of the first failure */
	int rank, exit_code, signal;   /* -1: none */
	int64_t step;                  /* INT64_MIN: none */
	const char *message;           /* NULL: none */
	int64_t ended_ns;
} pio_store_attempt_end;
/* End it, once, and count that for its nodes (node.h); the run's status is the
 * caller's to set, the ranks are set before. */
int pio_store_attempt_finish(pio_store *store, int64_t attempt_id,
                             const pio_store_attempt_end *end, pio_err *err);
/* How one rank ended; exit_code or signal -1: none. Tails: the last 64 lines. */
int pio_store_rank_set(pio_store *store, int64_t attempt_id, int rank, const char *node,
                       int exit_code, int signal, const char *stdout_tail,
                       const char *stderr_tail, pio_err *err);
/* Where a rank that has a row was bound: JSON, as the exit record has it. */
int pio_store_rank_bind(pio_store *store, int64_t attempt_id, int rank, const char *bind, pio_err *err);

#endif
