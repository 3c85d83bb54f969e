/* What a supervisor does between two turns of its loop. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/supervise_job.h"
#include "launch/supervise_parts.h"
#include "store/fold.h"
#include "store/late.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/proc.h"

#define SECOND_NS INT64_C(1000000000)
#define POLL_NS SECOND_NS
#define LATE_NS INT64_C(10000000000)
/* From an agent's death to the end of its pipe, should something hold that. */
#define PIPE_NS INT64_C(2000000000)
/* An agent that was told to stop may need this much longer than its ranks. */
#define PATIENCE_NS (5 * SECOND_NS)

void pio_active_take_vote(pio_active *a, const json_t *event)
{
	int64_t patience_ns = pio_json_int_or(event, "patience_s", 0) * SECOND_NS;
	a->vote_end_ns = pio_clock_mono_ns() + patience_ns;
	if (a->must_end_now)
		return;
	if (a->kill_ns)
		a->kill_ns = pio_active_patience_ns(a, PATIENCE_NS);
	if (a->job && a->job->cancels > 0)
		a->job->cancel_ns += patience_ns;
}

int64_t pio_active_patience_ns(const pio_active *a, int64_t beyond_ns)
{
	int64_t now_ns = pio_clock_mono_ns();
	return (a->vote_end_ns > now_ns ? a->vote_end_ns : now_ns) + a->grace_s * SECOND_NS + beyond_ns;
}

void pio_active_set_kill(pio_active *a, bool now)
{
	int64_t now_ns = pio_clock_mono_ns();
	if (!a->kill_ns)
		a->kill_ns = pio_active_patience_ns(a, PATIENCE_NS);
	if (now && now_ns + PATIENCE_NS < a->kill_ns)
		a->kill_ns = now_ns + PATIENCE_NS;
	a->must_end_now |= now;
	a->was_stopped = true;
}

static int take_event(pio_supervisor *s, pio_active *a, json_t *event, pio_err *err)
{
	const char *kind = pio_json_string_or(event, "event", "");
	if (strcmp(kind, "started") == 0 && !a->has_started) {
		a->has_started = true;
		return pio_store_attempt_started(s->store, a->ref.id,
		                                 (pid_t)pio_json_int_or(event, "agent", a->agent_pid), err);
	}
	if (strcmp(kind, "vote") == 0)
		pio_active_take_vote(a, event);
	if (strcmp(kind, "note") == 0)
		return pio_store_event_add(s->store, a->ref.run_id, a->ref.id, -1, INT64_MIN, pio_clock_wall_ns(),
		                           pio_json_string_or(event, "kind", "note"), NULL,
		                           pio_json_string_or(event, "message", ""), err);
	if (strcmp(kind, "ended") == 0 && !a->record)
		a->record = json_incref(event);
	return 0;
}

/* Whole lines out of the buffer. What is no event is passed over. */
static int take_lines(pio_supervisor *s, pio_active *a, pio_err *err)
{
	size_t at = 0;
	int rc = 0;
	char *newline;
	while (!rc && at < a->lines.len && (newline = memchr(a->lines.data + at, '\n', a->lines.len - at))) {
		size_t end = (size_t)(newline - a->lines.data);
		json_t *event = NULL;
		if (pio_json_parse(&event, a->lines.data + at, end - at, "agent", NULL) == 0) {
			rc = take_event(s, a, event, err);
			json_decref(event);
		}
		at = end + 1;
	}
	if (at) {
		pio_str rest = PIO_STR_INIT;
		pio_str_append(&rest, a->lines.data + at, a->lines.len - at);
		pio_str_fini(&a->lines);
		a->lines = rest;
	}
	return rc;
}

static void tell_progress(pio_supervisor *s, pio_active *a, int64_t step)
{
	if (step == INT64_MIN || step == a->last_step)
		return;
	a->last_step = step;
	json_array_append_new(s->events, json_pack("{s:s, s:I, s:i, s:I}", "event", "progress", "run",
	                                           (json_int_t)a->ref.run_id, "attempt", a->ref.number,
	                                           "step", (json_int_t)step));
}

int pio_active_fold(pio_supervisor *s, pio_active *a, int64_t *records, pio_err *err)
{
	pio_fold_result folded = { .last_step = INT64_MIN };
	int64_t begin_ns = pio_clock_mono_ns();
	int rc = pio_store_fold_attempt(&folded, s->store, a->ref.id, false, err);
	a->fold_ns = pio_fold_due(begin_ns, &folded);
	*records = rc ? 0 : folded.records;
	if (rc == -PIO_EBUSY)
		return 0; /* somebody reads: the next fold takes it all */
	if (!rc)
		tell_progress(s, a, folded.last_step);
	return rc;
}

void pio_active_tell_end(pio_supervisor *s, const pio_active *a, const json_t *record)
{
	int64_t step = pio_record_last_step(record, a->last_step);
	json_t *message = json_object_get(record, "message");
	json_array_append_new(s->events, json_pack("{s:s, s:I, s:i, s:I, s:s, s:o, s:o}", "event", "ended",
		"run", (json_int_t)a->ref.run_id, "attempt", a->ref.number,
		"attempt_id", (json_int_t)a->ref.id, "result", pio_json_string_or(record, "result", "lost"),
		"message", json_is_string(message) ? json_incref(message) : json_null(),
		"step", step == INT64_MIN ? json_null() : json_integer(step)));
}

static int end_active(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str how = PIO_STR_INIT;
	json_t *record;
	if (WIFSIGNALED(a->agent_status))
		pio_str_puts(&how, pio_proc_signal_name(WTERMSIG(a->agent_status)));
	else
		pio_str_printf(&how, "it exited with %d", WEXITSTATUS(a->agent_status));
	pio_ending ending = { .heard = a->record, .how = how.data, .was_stopped = a->was_stopped,
	                      .remove_code = a->owns_code && !a->keep_code, .last_step = a->last_step };
	int rc = pio_attempt_settle(&record, s->store, &a->ref, &ending, err);
	pio_str_fini(&how);
	if (rc)
		return rc;
	pio_active_tell_end(s, a, record);
	json_decref(record);
	pio_supervisor_drop(s, a);
	return 0;
}

static int tend(pio_supervisor *s, pio_active *a, pio_err *err)
{
	int64_t now_ns = pio_clock_mono_ns(), records;
	int rc = take_lines(s, a, err);
	if (rc)
		return rc;
	if (a->has_died && (a->out_ended || now_ns - a->died_ns > PIPE_NS)) {
		rc = end_active(s, a, err);
		return rc == -PIO_EBUSY ? 0 : rc; /* somebody reads the store: at the next turn */
	}
	if (!a->has_died && a->kill_ns && now_ns > a->kill_ns)
		pio_proc_signal_tree(a->agent_pid, SIGKILL); /* keeper, agent and ranks */
	if (a->has_started && now_ns > a->fold_ns)
		return pio_active_fold(s, a, &records, err);
	return 0;
}

/* A person wrote stop_requested_ns (pioche stop): tell it once. */
static int poll_stops(pio_supervisor *s, pio_err *err)
{
	int64_t now_ns = pio_clock_mono_ns();
	if (!s->active || now_ns < s->poll_ns)
		return 0;
	s->poll_ns = now_ns + POLL_NS;
	sqlite3_stmt *rows = pio_sql_query(s->store, err, "SELECT id FROM run WHERE status IN ('queued', 'running')"
	                                   " AND stop_requested_ns IS NOT NULL", "");
	int rc = rows ? 0 : pio_err_code(err);
	while (rows && (rc = pio_sql_row(s->store, rows, err)) == 1) {
		int64_t run_id = sqlite3_column_int64(rows, 0);
		for (pio_active *a = s->active; a; a = a->next)
			if (a->ref.run_id == run_id && !a->stop_told) {
				a->stop_told = true;
				json_array_append_new(s->events, json_pack("{s:s, s:I}", "event", "stop", "run",
				                                           (json_int_t)run_id));
			}
	}
	return rc;
}

/* The next attempt's agents drain what a dead one left on their nodes: looked for
 * when an attempt has ended, and now and then. What cannot be folded keeps its
 * marker, and is told by whatever command takes it in. */
static void fold_late(pio_supervisor *s)
{
	int64_t now_ns = pio_clock_mono_ns();
	if (now_ns < s->late_ns)
		return;
	s->late_ns = now_ns + LATE_NS;
	(void)pio_store_fold_late(s->store, NULL);
}

int pio_supervisor_turn(pio_supervisor *s, uv_run_mode mode, pio_err *err)
{
	uv_run(&s->loop, mode);
	int rc = poll_stops(s, err);
	for (pio_active *a = s->active, *next; a && !rc; a = next) {
		bool is_job = a->job != NULL;
		next = a->next;
		if (a->pool)
			rc = pio_pool_tend(s, a, err);
		else if (is_job)
			rc = pio_job_tend(s, a, err);
		else
			rc = tend(s, a, err);
		if (is_job && rc == -PIO_EBUSY)
			rc = 0; /* somebody reads the store: at the next turn */
	}
	if (!rc)
		fold_late(s);
	return rc ? rc : pio_jobs_turn(s, err);
}
