/* supervise_parts.h: what the files of the supervisor share: supervise.c (the
 * door and the loop), supervise_start.c (an attempt's beginning),
 * supervise_tend.c (its life), supervise_end.c (its end), supervise_recover.c
 * (attempts found after a crash), supervise_job*.c (those of Slurm), and
 * supervise_pool.c (allocations that attempts are packed into). For them alone.
 *
 * Callbacks of the loop only note what happened; everything that touches the
 * store is done between two turns of it (pio_supervisor_wait), so that an error
 * has somewhere to go and is tried again at the next call. */
#ifndef PIO_LAUNCH_SUPERVISE_PARTS_H
#define PIO_LAUNCH_SUPERVISE_PARTS_H

#include <sys/types.h>
#include <uv.h>

#include "base/str.h"
#include "base/ulid.h"
#include "launch/supervise.h"

/* What identifies an attempt and where it lies. */
typedef struct pio_attempt_ref {
	int64_t run_id, id;
	int number, world;
	char ulid[PIO_ULID_CHARS + 1];
	char *dir, *staging;          /* absolute; owned */
} pio_attempt_ref;

typedef struct pio_job pio_job;
typedef struct pio_jobs pio_jobs;
typedef struct pio_pool pio_pool;

typedef struct pio_active {
	struct pio_active *next;
	pio_supervisor *supervisor;
	int64_t serial;               /* nobody else's, ever */
	pio_attempt_ref ref;          /* a pool's: its directory and ULID alone */
	pio_job *job;                 /* Slurm's (supervise_job.h), owned; NULL: an agent of ours */
	pio_pool *pool;               /* it is one (supervise_pool.c), owned; NULL: an attempt */
	pid_t agent_pid;
	int agent_status;             /* wait status once has_died */
	bool has_died, out_ended, has_started, stop_told, was_stopped;
	bool must_end_now;            /* a stop that is no polite one */
	bool owns_code, keep_code;
	int64_t grace_s, last_step;
	int64_t died_ns, fold_ns, kill_ns;  /* monotonic; of the next fold; when patience ends, 0: never */
	int64_t vote_end_ns;          /* monotonic; until when its ranks may come to their last step; 0: not told one */
	uv_pipe_t orders, events;
	int handles;                  /* open ones of the two */
	pio_str lines;                /* what the agent said, not yet taken */
	json_t *record;               /* its exit record as heard; NULL: none */
} pio_active;

struct pio_supervisor {
	pio_store *store;
	char *executable, *lib_dir;
	uv_loop_t loop;
	uv_signal_t child, interrupt, terminate, hangup;
	uv_timer_t tick, alarm;
	pio_active *active;
	int64_t serials;              /* given so far */
	pio_jobs *jobs;
	json_t *events;
	int interrupts;
	int64_t poll_ns;              /* of the next look for stop requests */
	int64_t late_ns;              /* of the next one for journals that grew (late.h) */
};

/* ---- supervise.c ---- */
/* A new one, in the list. */
int pio_active_new(pio_active **active, pio_supervisor *supervisor, pio_err *err);
/* Out of the list; freed when its handles are closed. */
void pio_supervisor_drop(pio_supervisor *supervisor, pio_active *active);

/* ---- supervise_tend.c ---- */
/* One turn of the loop, then all that has become due. */
int pio_supervisor_turn(pio_supervisor *supervisor, uv_run_mode mode, pio_err *err);
/* Fold what is there, and tell progress. Nothing happens where somebody reads. */
int pio_active_fold(pio_supervisor *supervisor, pio_active *active, int64_t *records, pio_err *err);
/* Its ranks were told at which step they end (agent.h): for so long nobody is killed. */
void pio_active_take_vote(pio_active *active, const json_t *event);
/* Until when ranks that are stopped politely now may live, and `beyond_ns` longer. */
int64_t pio_active_patience_ns(const pio_active *active, int64_t beyond_ns);
/* It is stopped: when patience with it ends. Only `now` makes that earlier. */
void pio_active_set_kill(pio_active *active, bool now);
/* The event of its end. */
void pio_active_tell_end(pio_supervisor *supervisor, const pio_active *active, const json_t *record);

/* ---- supervise_start.c ---- */
/* Fill a reference; the caller ends it with pio_attempt_ref_fini. */
int pio_attempt_ref_init(pio_attempt_ref *ref, pio_store *store, int64_t run_id, int64_t attempt_id,
                         const char *ulid, int number, int world, pio_err *err);
void pio_attempt_ref_fini(pio_attempt_ref *ref);
/* The attempt's row, directory, code, resume index and orders (one JSON line). */
int pio_supervisor_prepare(pio_supervisor *supervisor, pio_active *active, int64_t run_id,
                           const json_t *spec, pio_str *orders, pio_err *err);

/* ---- supervise_recover.c ---- */
bool pio_attempt_is_ours(const pio_supervisor *supervisor, int64_t attempt_id);
/* The first row of a query (its id is column 0) that is not ours yet becomes so;
 * *adopted is NULL when there is none. */
typedef bool pio_is_ours(const pio_supervisor *supervisor, int64_t id);
typedef int pio_adopt_row(pio_active **adopted, pio_supervisor *supervisor, sqlite3_stmt *row, pio_err *err);
int pio_adopt_next(pio_active **adopted, pio_supervisor *supervisor, const char *sql, pio_is_ours *is_ours,
                   pio_adopt_row *adopt_row, pio_err *err);

/* ---- supervise_end.c ---- */
typedef struct pio_ending {
	const json_t *heard;          /* exit record from the pipe, or NULL */
	const char *how;              /* the agent ended, for a message; NULL: unknown */
	bool was_stopped;             /* on request: 'cancelled' rather than 'lost' */
	bool remove_code;             /* when it ended well */
	int64_t last_step;            /* INT64_MIN: none known */
} pio_ending;

/* Settle an attempt whose agent is dead: what is left of it, rings, exit
 * record, fold, rows. *record is the exit record; the caller owns it. Holds
 * the attempt's lock meanwhile; can be repeated after a failure. */
int pio_attempt_settle(json_t **record, pio_store *store, const pio_attempt_ref *ref,
                       const pio_ending *ending, pio_err *err);
/* Its rows, in one transaction: `record` is the attempt's, `nodes` an array of
 * the agents', whose ranks are written. */
int pio_attempt_write_end(pio_store *store, const pio_attempt_ref *ref, const json_t *record,
                          const json_t *nodes, const pio_ending *ending, pio_err *err);
/* Remove what it needs no more; failing to harms nobody. */
void pio_attempt_tidy(const pio_attempt_ref *ref, const pio_ending *ending, const json_t *record);
/* The last line of a file in its directory, appended as ": line". */
void pio_attempt_last_words(pio_str *message, const pio_attempt_ref *ref, const char *name);
/* Newest step in a record; INT64_MIN: none. */
int64_t pio_record_last_step(const json_t *record, int64_t otherwise);

#endif
