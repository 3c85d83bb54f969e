/* slurm_desk.h: one call to a program of Slurm at a time, without waiting for it.
 *
 * Slurm's programs take milliseconds, or a quarter of a minute when the
 * controller is down; the supervisor's loop goes on meanwhile. A call that has
 * not ended after a minute is killed and failed. What was started dies with this
 * process, so that a submission which nobody waits for does not come late. */
#ifndef PIO_LAUNCH_SLURM_DESK_H
#define PIO_LAUNCH_SLURM_DESK_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "base/str.h"

typedef struct pio_slurm_desk {
	uv_loop_t *loop;
	pid_t pid;                    /* 0: no call is under way */
	bool has_died, was_killed;
	int status;                   /* wait status once it has died */
	int64_t since_ns;             /* monotonic; when it was started, or died */
	uv_pipe_t pipes[2];           /* its stdout and stderr */
	bool open[2];                 /* has not ended, or has not been closed */
	int handles;                  /* not closed yet */
	pio_str text[2];              /* what it said */
} pio_slurm_desk;

/* Nothing is done until a call; `desk` must outlive the loop. */
void pio_slurm_desk_init(pio_slurm_desk *desk, uv_loop_t *loop);
/* Kills what runs. The loop must turn once more before it is closed. */
void pio_slurm_desk_fini(pio_slurm_desk *desk);

bool pio_slurm_desk_is_free(const pio_slurm_desk *desk);
/* Start argv with that environment; only when it is free. */
int pio_slurm_desk_call(pio_slurm_desk *desk, const char *const *argv, const char *const *envp,
                        pio_err *err);
/* For the supervisor's SIGCHLD: collect it if it is dead. */
void pio_slurm_desk_reap(pio_slurm_desk *desk);
/* Has the call ended, and all been read? Then `text` stays until _clear. Kills
 * it when its time is over. */
bool pio_slurm_desk_has_answer(pio_slurm_desk *desk);
/* It exited with 0. */
bool pio_slurm_desk_is_ok(const pio_slurm_desk *desk);
/* The answer is taken: the desk is free again, once its pipes are closed. */
void pio_slurm_desk_clear(pio_slurm_desk *desk);

#endif
