/* Talking with Slurm: one call at a time, the most urgent first. */
#include "launch/supervise_job.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/run.h"

#define SECOND_NS INT64_C(1000000000)
/* The queue is asked for all jobs at once, so often and no oftener. */
#define APART_NS (5 * SECOND_NS)
#define APART_NS_MAX (60 * SECOND_NS)
/* A job that is sought may still be on its way into the queue. */
#define SEEK_NS (10 * SECOND_NS)
/* A running attempt that is silent for so long may have lost its node. */
#define SILENT_NS (15 * SECOND_NS)
#define CANCEL_NS (15 * SECOND_NS)
#define FAILURES_BACKED_OFF 4

int pio_jobs_new(pio_supervisor *s, pio_err *err)
{
	s->jobs = pio_calloc(1, sizeof *s->jobs);
	if (!s->jobs)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a supervisor");
	pio_slurm_desk_init(&s->jobs->desk, &s->loop);
	s->jobs->apart_ns = APART_NS;
	s->jobs->asked_ns = INT64_MIN / 2;
	/* Where that fails, the first job tells. */
	(void)pio_own_copy_new(&s->jobs->own, s->executable, s->lib_dir, NULL);
	return 0;
}

void pio_jobs_free(pio_supervisor *s)
{
	if (!s->jobs)
		return;
	pio_own_copy_free(s->jobs->own);
	pio_free(s->jobs->executable);
	pio_free(s->jobs->lib_dir);
	pio_free(s->jobs);
	s->jobs = NULL;
}

void pio_jobs_hurry(pio_supervisor *s)
{
	s->jobs->apart_ns = APART_NS;
}

/* ---- calls ------------------------------------------------------------------------------ */

/* What Slurm's program said, and that it will be tried again; once a trouble. */
static void tell(pio_supervisor *s, const pio_active *a, const char *message)
{
	if (s->jobs->is_silent)
		return;
	s->jobs->is_silent = true;
	json_array_append_new(s->events, json_pack("{s:s, s:I, s:s}", "event", "slurm", "run",
	                                           a ? (json_int_t)a->ref.run_id : (json_int_t)0, "message",
	                                           message));
}

static void tell_answer(pio_supervisor *s, const pio_active *a, const char *program)
{
	pio_str text = PIO_STR_INIT;
	pio_str_printf(&text, "%s: ", program);
	if (s->jobs->desk.was_killed)
		pio_str_puts(&text, "no answer in a minute");
	else
		pio_slurm_words(&text, s->jobs->desk.text[1].data);
	tell(s, a, text.data);
	pio_str_fini(&text);
}

/* A call that cannot be started is as one that gets no answer. */
static int call(pio_supervisor *s, pio_active *a, enum pio_job_call kind, const char *const *argv,
                pio_err *err)
{
	static const pio_job nobody;
	const char **envp = pio_job_environment(a ? a->job : &nobody);
	if (!envp)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the environment of %s", argv[0]);
	pio_err why = PIO_ERR_INIT;
	s->jobs->call = kind;
	s->jobs->serial = a ? a->serial : 0;
	int rc = pio_slurm_desk_call(&s->jobs->desk, argv, envp, &why);
	pio_free(envp);
	if (rc == -PIO_ENOTFOUND && kind == PIO_CALL_ACCOUNT) {
		s->jobs->has_no_accounting = true;
	} else if (rc) {
		s->jobs->pause_ns = pio_clock_mono_ns() + APART_NS;
		tell(s, a, why.message);
	}
	return 0;
}

/* Whole seconds between two tries, growing. */
static int64_t backed_off(int failures)
{
	int n = failures < FAILURES_BACKED_OFF ? failures : FAILURES_BACKED_OFF;
	return n > 0 ? (APART_NS << (n - 1)) : 0;
}

static int ask_queue(pio_supervisor *s, pio_err *err)
{
	pio_str user = PIO_STR_INIT;
	pio_str_printf(&user, "--user=%u", (unsigned)geteuid());
	const char *argv[] = { "squeue", "--noheader", "--states=all", user.data, "--format=" PIO_SLURM_FORMAT,
	                       NULL };
	int rc = pio_str_check(&user, err);
	if (!rc)
		rc = call(s, NULL, PIO_CALL_QUEUE, argv, err);
	pio_str_fini(&user);
	s->jobs->asked_ns = pio_clock_mono_ns();
	s->jobs->apart_ns += s->jobs->apart_ns / 2; /* unless there is news */
	if (s->jobs->apart_ns > APART_NS_MAX)
		s->jobs->apart_ns = APART_NS_MAX;
	return rc;
}

static int submit(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str script = PIO_STR_INIT;
	pio_str_printf(&script, "%s/job.sh", a->ref.dir);
	const char *argv[] = { "sbatch", "--parsable", script.data, NULL };
	int rc = pio_str_check(&script, err);
	if (!rc)
		rc = call(s, a, PIO_CALL_SUBMIT, argv, err);
	pio_str_fini(&script);
	return rc;
}

/* A job that waits just goes; one that runs is asked by its head first, which
 * lets ranks save what they have, and after their grace it is ended by Slurm. */
static int cancel(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_job *job = a->job;
	/* The queue may have been asked before it began. */
	bool waits = !job->has_run && pio_slurm_phase(job->seen.state) == PIO_SLURM_WAITING;
	bool asks = !waits && job->cancels == 0;
	const char *argv[] = { "scancel", "--batch", job->stop_now ? "--signal=INT" : "--signal=TERM", job->id,
	                       NULL };
	const char *hard[] = { "scancel", job->id, NULL };
	job->cancels++;
	job->cancel_ns = asks && !job->stop_now ? pio_active_patience_ns(a, CANCEL_NS)
	                                        : pio_clock_mono_ns() + CANCEL_NS;
	pio_jobs_hurry(s);
	return call(s, a, PIO_CALL_CANCEL, asks ? argv : hard, err);
}

/* With what is known of its end, or nothing. */
static void over(pio_job *job)
{
	job->stage = PIO_JOB_OVER;
	job->over_ns = pio_clock_mono_ns();
}

static int show(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str job = PIO_STR_INIT;
	const char *scontrol[] = { "scontrol", "-o", "show", "job", a->job->id, NULL };
	pio_str_printf(&job, "--jobs=%s", a->job->id);
	if (a->job->asks_sacct && s->jobs->has_no_accounting) {
		pio_str_fini(&job);
		over(a->job);
		return 0;
	}
	const char *sacct[] = { "sacct", "--parsable2", "--noheader", "--allocations", "--format=State,ExitCode",
	                        job.data, NULL };
	int rc = pio_str_check(&job, err);
	if (!rc && a->job->asks_sacct)
		rc = call(s, a, PIO_CALL_ACCOUNT, sacct, err);
	else if (!rc)
		rc = call(s, a, PIO_CALL_SHOW, scontrol, err);
	pio_str_fini(&job);
	return rc;
}

static bool wants_cancel(const pio_active *a, int64_t now_ns)
{
	const pio_job *job = a->job;
	return a->was_stopped && job->stage == PIO_JOB_KNOWN && now_ns > job->cancel_ns &&
	       pio_slurm_phase(job->seen.state) != PIO_SLURM_UNREADABLE;
}

static bool is_looked_for(const pio_active *a)
{
	return a->job && (a->job->stage == PIO_JOB_SEEKING || a->job->stage == PIO_JOB_KNOWN);
}

static bool wants_queue(const pio_supervisor *s, int64_t now_ns)
{
	bool wanted = false;
	int64_t apart_ns = s->jobs->apart_ns;
	for (const pio_active *a = s->active; a; a = a->next) {
		wanted |= is_looked_for(a);
		if (!is_looked_for(a) && !(a->job && a->job->stage == PIO_JOB_PLACED))
			continue;
		if (a->job->has_run && now_ns - a->job->heard_ns > SILENT_NS)
			apart_ns = APART_NS;
	}
	return wanted && now_ns - s->jobs->asked_ns >= apart_ns;
}

static int call_next(pio_supervisor *s, pio_err *err)
{
	int64_t now_ns = pio_clock_mono_ns();
	for (pio_active *a = s->active; a; a = a->next)
		if (a->job && wants_cancel(a, now_ns))
			return cancel(s, a, err);
	if (wants_queue(s, now_ns))
		return ask_queue(s, err);
	for (pio_active *a = s->active; a; a = a->next)
		if (a->job && a->job->stage == PIO_JOB_GONE && now_ns >= a->job->due_ns)
			return show(s, a, err);
	pio_active *next = NULL; /* first come, first submitted; the list has the newest first */
	for (pio_active *a = s->active; a; a = a->next)
		if (a->job && a->job->stage == PIO_JOB_NEW && !a->was_stopped && now_ns >= a->job->due_ns)
			next = a;
	return next ? submit(s, next, err) : 0;
}

/* ---- answers ------------------------------------------------------------------------------ */

static int set_id(pio_supervisor *s, pio_active *a, const char *id, pio_err *err)
{
	int rc = a->pool ? pio_pool_set_id(s, a, id, err)
	                 : pio_store_attempt_job_set(s->store, a->ref.id, a->job->nodes, a->job->key, id, err);
	if (rc)
		return rc;
	memcpy(a->job->id, id, strlen(id) + 1);
	a->job->stage = PIO_JOB_KNOWN;
	a->job->failures = 0;
	pio_jobs_hurry(s);
	return 0;
}

static void seek(pio_job *job)
{
	job->stage = PIO_JOB_SEEKING;
	job->seek_ns = pio_clock_mono_ns();
	job->misses = 0;
}

static int take_submission(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_slurm_desk *desk = &s->jobs->desk;
	char id[PIO_SLURM_ID_BYTES];
	if (pio_slurm_desk_is_ok(desk) && pio_slurm_id(id, desk->text[0].data))
		return set_id(s, a, id, err);
	a->job->failures++;
	if (!pio_slurm_desk_is_ok(desk) && !desk->was_killed &&
	    pio_slurm_trouble(desk->text[1].data) == PIO_SLURM_REFUSED && desk->text[1].len > 0) {
		pio_str why = PIO_STR_INIT;
		pio_str_puts(&why, "sbatch: ");
		pio_slurm_words(&why, desk->text[1].data);
		int rc = pio_job_finish(s, a, "failed", why.data, err);
		pio_str_fini(&why);
		return rc;
	}
	/* It may have been submitted all the same. */
	tell_answer(s, a, "sbatch");
	seek(a->job);
	pio_jobs_hurry(s);
	return 0;
}

/* One attempt and the line of its job. */
static int take_line(pio_supervisor *s, pio_active *a, const pio_slurm_line *line, pio_err *err)
{
	pio_job *job = a->job;
	enum pio_slurm_phase phase = pio_slurm_phase(line->state);
	int rc = 0;
	if (job->stage == PIO_JOB_SEEKING)
		rc = set_id(s, a, line->id, err);
	if (rc || phase == PIO_SLURM_UNREADABLE)
		return rc;
	bool changed = strcmp(job->seen.state, line->state) != 0 || strcmp(job->seen.reason, line->reason) != 0;
	job->seen = *line;
	if (changed)
		pio_jobs_hurry(s);
	if (phase == PIO_SLURM_OVER) {
		job->stage = PIO_JOB_GONE;
		job->due_ns = 0;
	} else if (phase == PIO_SLURM_RUNNING) {
		rc = pio_job_started(s, a, err);
	} else if (changed) {
		rc = pio_job_tell(s, a, err);
	}
	return rc;
}

/* A readable queue without its job. */
static void take_missing(pio_supervisor *s, pio_active *a)
{
	pio_job *job = a->job;
	int64_t asked_ns = s->jobs->asked_ns;
	if (job->stage == PIO_JOB_KNOWN) {
		job->stage = PIO_JOB_GONE; /* or another user's: scontrol knows */
		job->due_ns = 0;
	} else if (asked_ns <= job->seek_ns || ++job->misses < 2 || asked_ns - job->seek_ns < SEEK_NS) {
		pio_jobs_hurry(s);
	} else if (job->has_run) {
		over(job); /* it was there */
	} else {
		job->stage = PIO_JOB_NEW;
		job->due_ns = pio_clock_mono_ns() + backed_off(job->failures);
	}
}

static int take_queue(pio_supervisor *s, pio_err *err)
{
	pio_slurm_desk *desk = &s->jobs->desk;
	const char *at = desk->text[0].data;
	pio_slurm_line line;
	int rc;
	if (!pio_slurm_desk_is_ok(desk)) {
		tell_answer(s, NULL, "squeue");
		return 0;
	}
	s->jobs->is_silent = false;
	/* An answer that the store was too busy for is taken again: found_ns says how far it was. */
	while (pio_slurm_line_next(&line, &at))
		for (pio_active *a = s->active; a; a = a->next) {
			if (!is_looked_for(a) || a->job->found_ns == s->jobs->asked_ns ||
			    strcmp(a->job->stage == PIO_JOB_KNOWN ? line.id : line.key,
			           a->job->stage == PIO_JOB_KNOWN ? a->job->id : a->job->key) != 0)
				continue;
			if ((rc = take_line(s, a, &line, err)) != 0)
				return rc;
			a->job->found_ns = s->jobs->asked_ns;
		}
	for (pio_active *a = s->active; a; a = a->next)
		if (is_looked_for(a) && a->job->found_ns != s->jobs->asked_ns) {
			take_missing(s, a);
			a->job->found_ns = s->jobs->asked_ns;
		}
	return 0;
}

/* How a job ended, or that it goes on after all. */
static void take_end(pio_supervisor *s, pio_active *a)
{
	pio_slurm_desk *desk = &s->jobs->desk;
	pio_job *job = a->job;
	pio_slurm_end end;
	bool accounts = s->jobs->call == PIO_CALL_ACCOUNT, ok = pio_slurm_desk_is_ok(desk);
	bool read = ok && (accounts ? pio_slurm_end_sacct(&end, desk->text[0].data)
	                            : pio_slurm_end_scontrol(&end, desk->text[0].data));
	enum pio_slurm_trouble trouble = ok ? PIO_SLURM_ABSENT : pio_slurm_trouble(desk->text[1].data);
	if (read && pio_slurm_phase(end.state) != PIO_SLURM_OVER && !accounts) {
		job->stage = PIO_JOB_KNOWN; /* the queue's silence was not its end */
	} else if (read && (accounts || a->was_stopped || strcmp(end.state, "CANCELLED") != 0)) {
		job->end = end;
		over(job);
	} else if (read) {
		job->end = end; /* accounting knows by whom */
		job->asks_sacct = true;
	} else if (!accounts && trouble == PIO_SLURM_NO_SUCH_JOB) {
		job->asks_sacct = true;
	} else if (accounts && (ok || trouble == PIO_SLURM_NO_ACCOUNTING)) {
		s->jobs->has_no_accounting |= !ok;
		over(job);
	} else {
		job->due_ns = pio_clock_mono_ns() + backed_off(++job->failures);
	}
}

static int take_answer(pio_supervisor *s, pio_err *err)
{
	if (s->jobs->call == PIO_CALL_QUEUE)
		return take_queue(s, err);
	pio_active *a = s->active;
	while (a && a->serial != s->jobs->serial)
		a = a->next;
	if (!a)
		return 0; /* it has ended meanwhile */
	if (s->jobs->call == PIO_CALL_SUBMIT)
		return take_submission(s, a, err);
	if (s->jobs->call == PIO_CALL_CANCEL) {
		/* What came of it is seen in the queue. */
		if (!pio_slurm_desk_is_ok(&s->jobs->desk))
			tell_answer(s, a, "scancel");
		return 0;
	}
	take_end(s, a);
	return 0;
}

bool pio_job_is_on_its_way(const pio_supervisor *s, const pio_active *a)
{
	return s->jobs->desk.pid > 0 && s->jobs->call == PIO_CALL_SUBMIT && s->jobs->serial == a->serial;
}

int pio_jobs_turn(pio_supervisor *s, pio_err *err)
{
	pio_jobs *jobs = s->jobs;
	int rc = 0;
	if (pio_slurm_desk_has_answer(&jobs->desk)) {
		/* What the store could not take is taken at the next turn: an id that got
		 * lost would be a job submitted twice. */
		if ((rc = take_answer(s, err)) != 0)
			return rc == -PIO_EBUSY ? 0 : rc;
		pio_slurm_desk_clear(&jobs->desk);
	}
	if (pio_slurm_desk_is_free(&jobs->desk) && pio_clock_mono_ns() >= jobs->pause_ns)
		rc = call_next(s, err);
	return rc;
}
