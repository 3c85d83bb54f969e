/* slurm.h: what pioche says to Slurm, and what it makes of the answers. Pure
 * functions: nothing here runs a program, reads a file or knows the time
 * (slurm_desk.h does).
 *
 * An attempt is one job, never part of an array, or part of a pool's (launch/pilot.h).
 * Its script starts the head in the batch step; the head starts one agent on each
 * node by one srun. That of a pool starts the pilot, which starts heads. The job's
 * comment is a key of the attempt's own, `pioche:<ulid>:<attempt>:<random>`, by
 * which it is found again where its id was lost.
 *
 * Answers are read by position and by whole words, never by prose; what cannot
 * be read says nothing (PIO_SLURM_UNREADABLE), and changes nothing. */
#ifndef PIO_LAUNCH_SLURM_H
#define PIO_LAUNCH_SLURM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_SLURM_ID_BYTES 24
#define PIO_SLURM_KEY_BYTES 80

/* ---- what is asked for (slurm_script.c) ---- */

/* A job to be. Strings are borrowed; NULL, 0: Slurm's default. */
typedef struct pio_slurm_job {
	const char *name, *key;
	const char *dir;              /* of the attempt or the pool, absolute */
	bool is_pool;                 /* its nodes may fail one by one; time_s is known */
	const char *hosts;            /* an attempt's in a pool: names with commas; NULL: all of its job */
	const char *executable;       /* pioche itself, absolute */
	int nodes, ranks_per_node;
	int64_t spares;               /* nodes more than those that work */
	int64_t time_s, warn_s;       /* its limit; how long before that the head is told */
	int64_t gpus_per_node, cpus_per_rank;
	const char *partition, *account, *qos, *gres, *constraint, *exclude, *reservation;
	const json_t *flags;          /* further options of sbatch, "--mem=0" */
} pio_slurm_job;

/* warn_s for ranks with so much grace: Slurm looks at its limits every half a
 * minute, and then some. */
int64_t pio_slurm_warn_s(int64_t grace_s);
/* Fill nodes, ranks_per_node and what follows them from a launch's table of
 * options; the other members are the caller's. PIO_EINVAL names the option. */
int pio_slurm_job_read(pio_slurm_job *job, const json_t *launch, pio_err *err);
/* Options of sbatch, an array of words "--name=value" that the caller owns:
 * those that ask for nodes and time, and with `whole` all that the script has.
 * A line break in a value is PIO_EINVAL. */
int pio_slurm_options(json_t **options, const pio_slurm_job *job, bool whole, pio_err *err);
/* The command by which the head starts an agent on every node; `on_some`: on those it
 * chooses (start_on of launch/head.h). */
int pio_slurm_start(json_t **argv, const pio_slurm_job *job, bool on_some, pio_err *err);
/* The script; appended. */
int pio_slurm_script(pio_str *script, const pio_slurm_job *job, pio_err *err);
/* May a variable of the submitter's environment ("NAME=value") go to sbatch, and
 * so to the job? Those of an allocation in which pioche itself runs, and those
 * that would overrule the script, may not. */
bool pio_slurm_passes(const pio_slurm_job *job, const char *variable);

/* ---- what is answered (slurm_answer.c) ---- */

enum pio_slurm_phase {
	PIO_SLURM_UNREADABLE,         /* not one of Slurm's words: says nothing */
	PIO_SLURM_WAITING,
	PIO_SLURM_RUNNING,            /* also when it is being set up or cleaned up */
	PIO_SLURM_OVER,
};
enum pio_slurm_phase pio_slurm_phase(const char *state);

/* The only line of `sbatch --parsable`: digits, perhaps ";cluster". */
bool pio_slurm_id(char id[PIO_SLURM_ID_BYTES], const char *text);

#define PIO_SLURM_FORMAT "%i|%T|%D|%r|%k"
/* One line of squeue in that format. */
typedef struct pio_slurm_line {
	char id[PIO_SLURM_ID_BYTES], state[24], reason[64], key[PIO_SLURM_KEY_BYTES];
	int nodes;
} pio_slurm_line;
/* Read the line at *at and move there behind it; lines that are none are passed
 * over. False at the end of the text. */
bool pio_slurm_line_next(pio_slurm_line *line, const char **at);

/* How a job ended, by `scontrol -o show job` or a line of
 * `sacct -P -n -X -o State,ExitCode`. */
typedef struct pio_slurm_end {
	char state[24];               /* one word: "CANCELLED" */
	char by[24];                  /* uid of who cancelled it; "": unknown */
	int exit_code, signal;        /* -1: unknown */
} pio_slurm_end;
bool pio_slurm_end_scontrol(pio_slurm_end *end, const char *text);
bool pio_slurm_end_sacct(pio_slurm_end *end, const char *text);
/* The attempt's result where no record of its own says more, one of
 * attempt.result; `message`, appended, says it in one line. */
const char *pio_slurm_result(pio_str *message, const pio_slurm_end *end, const char *id);

/* Why a call failed, by what it wrote to its standard error. */
enum pio_slurm_trouble {
	PIO_SLURM_REFUSED,            /* Slurm understood, and says no */
	PIO_SLURM_ABSENT,             /* it could not be asked, or not now: maybe later */
	PIO_SLURM_NO_SUCH_JOB,
	PIO_SLURM_NO_ACCOUNTING,
};
enum pio_slurm_trouble pio_slurm_trouble(const char *text);
/* The node that an srun could start nothing on, because it is down or cut off: by what
 * it wrote to its standard error. False where it names none. */
bool pio_slurm_dead_node(pio_str *node, const char *text);
/* Slurm's own words on one line, without the names of its programs; appended. */
void pio_slurm_words(pio_str *out, const char *text);

#endif
