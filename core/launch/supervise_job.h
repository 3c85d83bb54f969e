/* supervise_job.h: attempts whose launcher is Slurm: what supervise_job*.c share
 * with each other and with the supervisor. For them alone.
 *
 * The row of an attempt, with its key, is committed before sbatch is called, its
 * job's id after. In between the job may exist or not:
 *
 *   NEW --sbatch says an id--> KNOWN --Slurm says so, or knows it no more--> GONE
 *    ^ \--no answer--> SEEKING --key in the queue--^  ^                       |
 *    |                    |                           \--it runs after all----|
 *    \--twice not there---/                                                   |
 *                                                     how it ended is known: OVER
 *
 * The attempt ends by its own record (exit.json, launch/head.h), or, where none
 * comes, by what Slurm says of the job. A record that says `cancelled` or `lost`
 * where nobody here asked for it waits for Slurm's word, which knows why: the
 * head of a job that ran out of time was told no more than SIGTERM.
 *
 * An attempt may also be a part of another's job, a pool's (launch/pilot.h): then it
 * is PLACED, with no job of its own to ask for, until its record is there or its
 * pool is OVER, and so is it. The pool itself is active as attempts are, and its
 * job goes the same way as theirs.
 *
 * Jobs outlive their supervisor; the next one finds them here (adopt). */
#ifndef PIO_LAUNCH_SUPERVISE_JOB_H
#define PIO_LAUNCH_SUPERVISE_JOB_H

#include "launch/own_copy.h"
#include "launch/slurm.h"
#include "launch/slurm_desk.h"
#include "launch/supervise_parts.h"

enum pio_job_stage { PIO_JOB_NEW, PIO_JOB_SEEKING, PIO_JOB_KNOWN, PIO_JOB_GONE, PIO_JOB_OVER, PIO_JOB_PLACED };

struct pio_job {
	enum pio_job_stage stage;
	char key[PIO_SLURM_KEY_BYTES], id[PIO_SLURM_ID_BYTES];
	pio_active *pool;             /* whose job it is part of; NULL: it has its own */
	pio_slurm_line seen;          /* of the last answer; its state is "" before that */
	int nodes;
	int64_t due_ns;               /* of its next call (NEW, GONE) */
	int failures;                 /* of its calls in a row */
	int64_t seek_ns;              /* since when it is sought */
	int misses;                   /* readable answers without it since then */
	int64_t found_ns;             /* asked_ns of the answer that was taken for it */
	bool has_run;                 /* its script has begun */
	bool asks_sacct;              /* the controller has forgotten it */
	bool stop_now;
	int cancels;                  /* calls of scancel made; PLACED: orders to stop given */
	int64_t cancel_ns;            /* of the next one */
	int64_t look_ns, over_ns, heard_ns;
	int64_t doubt_ns;             /* PLACED: since when its record is not all there is to say */
	pio_slurm_end end;            /* OVER: how Slurm says it ended */
	int64_t events_at;            /* read so far of head.events */
	json_t *launch;               /* the launch's options */
};

enum pio_job_call { PIO_CALL_QUEUE, PIO_CALL_SUBMIT, PIO_CALL_CANCEL, PIO_CALL_SHOW, PIO_CALL_ACCOUNT };

struct pio_jobs {
	pio_slurm_desk desk;
	enum pio_job_call call;       /* under way */
	int64_t serial;               /* of whose call it is; PIO_CALL_QUEUE: 0, all */
	int64_t asked_ns;             /* when the queue was asked last, monotonic */
	int64_t apart_ns;             /* until it is asked again */
	int64_t pause_ns;             /* no call before that */
	bool is_silent;               /* Slurm does not answer, which was told */
	bool has_no_accounting;
	pio_own_copy *own;            /* NULL: it could not be opened */
	char *executable, *lib_dir;   /* what jobs run and load; NULL: not made yet */
};

/* ---- supervise_job.c ---- */
int pio_jobs_new(pio_supervisor *supervisor, pio_err *err);
void pio_jobs_free(pio_supervisor *supervisor);
/* Take the answer that came, and make the next call that is due. */
int pio_jobs_turn(pio_supervisor *supervisor, pio_err *err);
/* Is sbatch at work for it? Then nobody knows yet whether there is a job. */
bool pio_job_is_on_its_way(const pio_supervisor *supervisor, const pio_active *active);
/* Something happened: ask the queue as soon as may be. */
void pio_jobs_hurry(pio_supervisor *supervisor);

/* ---- supervise_job_start.c ---- */
/* A job with a new key, which names ULID and `what`; NULL when memory or randomness
 * is out. */
pio_job *pio_job_new(const char *ulid, const char *what, int nodes, pio_err *err);
void pio_job_free(pio_job *job);
/* What jobs run, jobs->executable and lib_dir: made with the first of them, and again
 * where somebody removed it. */
int pio_jobs_provide(pio_supervisor *supervisor, pio_err *err);
/* Write orders.json and job.sh, after which it can be submitted; in a pool the order
 * to run. Borrows both. */
int pio_job_write(pio_supervisor *supervisor, pio_active *active, json_t *orders, const json_t *spec,
                  pio_err *err);
/* Attempts of Slurm that are open in the store become active again. */
int pio_jobs_adopt(pio_supervisor *supervisor, pio_err *err);
/* The environment for Slurm's programs, and by sbatch of the job. pio_free. */
const char **pio_job_environment(const pio_job *job);

/* ---- supervise_job_tend.c ---- */
/* Somebody asked for its end, perhaps once more. */
void pio_job_stop(pio_supervisor *supervisor, pio_active *active, bool now);
/* What is due for one: its files, its fold, its end. */
int pio_job_tend(pio_supervisor *supervisor, pio_active *active, pio_err *err);
/* Its script has begun. */
int pio_job_started(pio_supervisor *supervisor, pio_active *active, pio_err *err);
/* The rows of its end: what its records say; where they say less than Slurm, or
 * there are none, this result with that message. Can be repeated. */
int pio_job_settle(pio_supervisor *supervisor, pio_active *active, const char *result,
                   const char *message, pio_err *err);
/* And the event; `active` is gone then. */
int pio_job_finish(pio_supervisor *supervisor, pio_active *active, const char *result,
                   const char *message, pio_err *err);
/* Tell where it waits, in the store and as an event. */
int pio_job_tell(pio_supervisor *supervisor, pio_active *active, pio_err *err);
/* "Resources, 2 nodes, job 17". */
void pio_job_put_where(pio_str *where, const pio_job *job);

/* ---- supervise_pool.c ---- */
void pio_pool_free(pio_pool *pool);
/* Make the attempt a part of it: in its row, in the caller's transaction. `place`:
 * JSON, with the names of "hosts". PIO_EBUSY: the pool is over. */
int pio_pool_place(pio_supervisor *supervisor, pio_active *attempt, int64_t pool_id, const json_t *place,
                   pio_err *err);
/* The attempt's files are all there: the pilot is to start it. */
void pio_pool_order(pio_active *pool);
/* Pools that are open in the store become active again; find one of them. */
int pio_pools_adopt(pio_supervisor *supervisor, pio_err *err);
pio_active *pio_pool_find(const pio_supervisor *supervisor, int64_t pool_id);
int pio_pool_set_id(pio_supervisor *supervisor, pio_active *pool, const char *id, pio_err *err);
int pio_pool_tell(pio_supervisor *supervisor, pio_active *pool, pio_err *err);
/* What is due: its orders, its state, its end, which is that of its attempts too. */
int pio_pool_tend(pio_supervisor *supervisor, pio_active *pool, pio_err *err);
int pio_pool_finish(pio_supervisor *supervisor, pio_active *pool, const char *result, const char *message,
                    pio_err *err);
/* What is due for an attempt in a pool: the order to stop. */
int pio_pool_pass(const pio_active *attempt, pio_err *err);
/* Slurm gives a job nodes that live; in a pool one may have died meanwhile, and nothing
 * can be started on it: then that is what its record is to say. */
void pio_pool_amend(pio_active *attempt);
/* Its record says `cancelled` or `lost`, unasked: is that all, because its pool goes
 * on? Else it waits for the end of that. */
bool pio_pool_goes_on(pio_supervisor *supervisor, pio_active *attempt);
/* What the end of its pool means for an attempt; `message`, appended, says it. */
const char *pio_pool_result(pio_str *message, const pio_active *attempt);

#endif
