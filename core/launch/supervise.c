#include "launch/supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "launch/local.h"
#include "launch/supervise_job.h"
#include "launch/supervise_parts.h"
#include "store/fold.h"
#include "store/run.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define TICK_MS 250
#define SECOND_NS INT64_C(1000000000)
#define CLOSE_MS 15000
#define LINES_BYTES_MAX (64u << 20)

/* ---- what the loop notes -------------------------------------------------------------- */

static void child_died(uv_signal_t *handle, int signal_number)
{
	pio_supervisor *s = handle->data;
	(void)signal_number;
	for (pio_active *a = s->active; a; a = a->next)
		if (a->agent_pid > 0 && !a->has_died &&
		    waitpid(a->agent_pid, &a->agent_status, WNOHANG) == a->agent_pid) {
			a->has_died = true;
			a->died_ns = pio_clock_mono_ns();
		}
	pio_slurm_desk_reap(&s->jobs->desk);
}

static void interrupted(uv_signal_t *handle, int signal_number)
{
	pio_supervisor *s = handle->data;
	json_array_append_new(s->events, json_pack("{s:s, s:s, s:i}", "event", "interrupt", "signal",
	                                           pio_proc_signal_name(signal_number), "count",
	                                           ++s->interrupts));
}

static void ticked(uv_timer_t *timer)
{
	(void)timer; /* the turn of the loop is what it is for */
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[65536];
	(void)handle;
	(void)suggested;
	*buffer = uv_buf_init(bytes, sizeof bytes);
}

static void events_received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	pio_active *a = stream->data;
	if (n > 0 && a->lines.len < LINES_BYTES_MAX)
		pio_str_append(&a->lines, buffer->base, (size_t)n);
	else if (n != 0) {
		a->out_ended = true;
		uv_read_stop(stream);
	}
}

static void pipe_closed(uv_handle_t *handle)
{
	pio_active *a = handle->data;
	if (--a->handles)
		return;
	pio_str_fini(&a->lines);
	json_decref(a->record);
	pio_job_free(a->job);
	pio_pool_free(a->pool);
	pio_attempt_ref_fini(&a->ref);
	pio_free(a);
}

typedef struct order {
	uv_write_t request;
	pio_str text;
} order;

static void order_written(uv_write_t *request, int status)
{
	order *o = (order *)request;
	(void)status; /* an agent that is gone is noticed by its death */
	pio_str_fini(&o->text);
	pio_free(o);
}

/* Takes the text. */
static int send_order(pio_active *a, pio_str *text, pio_err *err)
{
	order *o = pio_calloc(1, sizeof *o);
	if (!o)
		return pio_fail(err, PIO_ENOMEM, "out of memory for an order");
	o->text = *text;
	*text = (pio_str)PIO_STR_INIT;
	uv_buf_t buffer = uv_buf_init(o->text.data, (unsigned)o->text.len);
	int e = uv_write(&o->request, (uv_stream_t *)&a->orders, &buffer, 1, order_written);
	if (!e)
		return 0;
	pio_str_fini(&o->text);
	pio_free(o);
	return pio_fail_errno(err, -e, "write to the agent of attempt %d", a->ref.number);
}

/* ---- life --------------------------------------------------------------------------------- */

/* nohup says that the end of the terminal is to be ignored. */
static bool hears_hangup(void)
{
	struct sigaction now;
	return sigaction(SIGHUP, NULL, &now) != 0 || now.sa_handler != SIG_IGN;
}

static int start_loop(pio_supervisor *s, pio_err *err)
{
	int e = uv_loop_init(&s->loop);
	if (e)
		return pio_fail_errno(err, -e, "make the loop of the supervisor");
	uv_signal_init(&s->loop, &s->child);
	uv_signal_init(&s->loop, &s->interrupt);
	uv_signal_init(&s->loop, &s->terminate);
	uv_signal_init(&s->loop, &s->hangup);
	uv_timer_init(&s->loop, &s->tick);
	uv_timer_init(&s->loop, &s->alarm);
	s->child.data = s->interrupt.data = s->terminate.data = s->hangup.data = s->tick.data = s->alarm.data = s;
	if ((e = uv_signal_start(&s->child, child_died, SIGCHLD)) ||
	    (e = uv_signal_start(&s->interrupt, interrupted, SIGINT)) ||
	    (e = uv_signal_start(&s->terminate, interrupted, SIGTERM)) ||
	    (hears_hangup() && (e = uv_signal_start(&s->hangup, interrupted, SIGHUP))) ||
	    (e = uv_timer_start(&s->tick, ticked, TICK_MS, TICK_MS)))
		return pio_fail_errno(err, -e, "start the loop of the supervisor");
	return 0;
}

static void close_handle(uv_handle_t *handle, void *context)
{
	(void)context;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void end_loop(pio_supervisor *s)
{
	uv_walk(&s->loop, close_handle, NULL);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	uv_loop_close(&s->loop);
}

int pio_supervisor_new(pio_supervisor **supervisor, pio_store *store, const char *executable,
                       const char *lib_dir, pio_err *err)
{
	*supervisor = NULL;
	pio_supervisor *s = pio_calloc(1, sizeof *s);
	if (!s)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a supervisor");
	s->store = store;
	s->executable = pio_strdup(executable);
	char *absolute = realpath(lib_dir, NULL); /* ranks have another working directory */
	s->lib_dir = absolute ? pio_strdup(absolute) : NULL;
	s->events = json_array();
	int rc = 0;
	if (!absolute)
		rc = pio_fail_errno(err, errno, "library directory \"%s\"", lib_dir);
	else if (!s->executable || !s->lib_dir || !s->events)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a supervisor");
	else if ((rc = pio_jobs_new(s, err)) == 0)
		rc = start_loop(s, err);
	free(absolute);
	if (rc) {
		pio_jobs_free(s);
		json_decref(s->events);
		pio_free(s->executable);
		pio_free(s->lib_dir);
		pio_free(s);
		return rc;
	}
	/* An agent that is gone must not kill its supervisor by a broken pipe. */
	signal(SIGPIPE, SIG_IGN);
	*supervisor = s;
	return 0;
}

int pio_supervisor_active(const pio_supervisor *supervisor)
{
	int n = 0;
	for (const pio_active *a = supervisor->active; a; a = a->next)
		n += !a->pool;
	return n;
}

int pio_active_new(pio_active **active, pio_supervisor *s, pio_err *err)
{
	pio_active *a = *active = pio_calloc(1, sizeof *a);
	if (!a)
		return pio_fail(err, PIO_ENOMEM, "out of memory for an attempt");
	a->supervisor = s;
	a->serial = ++s->serials;
	a->lines = (pio_str)PIO_STR_INIT;
	a->last_step = INT64_MIN;
	uv_pipe_init(&s->loop, &a->orders, 0);
	uv_pipe_init(&s->loop, &a->events, 0);
	a->orders.data = a->events.data = a;
	a->handles = 2;
	a->next = s->active;
	s->active = a;
	return 0;
}

void pio_supervisor_drop(pio_supervisor *s, pio_active *a)
{
	for (pio_active **at = &s->active; *at; at = &(*at)->next)
		if (*at == a) {
			*at = a->next;
			break;
		}
	s->late_ns = 0;
	uv_close((uv_handle_t *)&a->orders, pipe_closed);
	uv_close((uv_handle_t *)&a->events, pipe_closed);
}

/* ---- start ---------------------------------------------------------------------------------- */

/* The agent runs; from here on its death is what ends the attempt. */
static int connect_agent(pio_active *a, pio_local_agent *agent, pio_str *orders, pio_err *err)
{
	int e = uv_pipe_open(&a->orders, agent->orders_fd);
	if (!e) {
		agent->orders_fd = -1;
		e = uv_pipe_open(&a->events, agent->events_fd);
	}
	if (!e) {
		agent->events_fd = -1;
		e = uv_read_start((uv_stream_t *)&a->events, give_buffer, events_received);
	}
	return e ? pio_fail_errno(err, -e, "connect to the agent") : send_order(a, orders, err);
}

static int launch(pio_supervisor *s, pio_active *a, pio_str *orders, pio_err *err)
{
	pio_local_agent agent;
	int rc = pio_local_start(&agent, s->executable, a->ref.dir, err);
	if (rc)
		return rc;
	a->agent_pid = agent.pid;
	rc = connect_agent(a, &agent, orders, err);
	if (agent.orders_fd >= 0)
		close(agent.orders_fd);
	if (agent.events_fd >= 0)
		close(agent.events_fd);
	if (rc) {
		kill(agent.pid, SIGKILL); /* it has no orders yet */
		while (waitpid(agent.pid, NULL, 0) < 0 && errno == EINTR)
			continue;
		a->agent_pid = 0;
	}
	return rc;
}

/* Nothing runs: the attempt ends here, with the reason that the caller gets. */
static void end_unstarted(pio_supervisor *s, const pio_active *a, const pio_err *reason)
{
	pio_store_attempt_end end = { .result = "failed", .rank = -1, .exit_code = -1, .signal = -1,
	                              .step = INT64_MIN, .message = reason->message,
	                              .ended_ns = pio_clock_wall_ns() };
	(void)pio_fs_remove_tree(a->ref.staging, NULL);
	/* Where even this fails, the next supervisor settles the open attempt. */
	if (pio_store_attempt_finish(s->store, a->ref.id, &end, NULL) == 0)
		(void)pio_store_run_set_status(s->store, a->ref.run_id, "failed", reason->message, NULL);
}

int pio_supervisor_start(pio_supervisor *supervisor, int64_t run_id, const json_t *spec,
                         int64_t *attempt_id, pio_err *err)
{
	pio_err own = PIO_ERR_INIT;
	pio_str orders = PIO_STR_INIT;
	*attempt_id = 0;
	if (!err)
		err = &own;
	pio_active *a;
	int rc = pio_active_new(&a, supervisor, err);
	if (rc)
		return rc;
	rc = pio_supervisor_prepare(supervisor, a, run_id, spec, &orders, err);
	if (!rc && a->job)
		pio_jobs_hurry(supervisor); /* submitted at the next turn */
	else if (!rc)
		rc = launch(supervisor, a, &orders, err);
	pio_str_fini(&orders);
	if (rc) {
		if (a->ref.id)
			end_unstarted(supervisor, a, err);
		pio_supervisor_drop(supervisor, a);
		return rc;
	}
	a->fold_ns = pio_clock_mono_ns() + PIO_FOLD_NS;
	*attempt_id = a->ref.id;
	return 0;
}

/* ---- the door -------------------------------------------------------------------------------------- */

int pio_supervisor_wait(pio_supervisor *supervisor, int timeout_ms, json_t **events, pio_err *err)
{
	pio_supervisor *s = supervisor;
	int64_t deadline_ns = pio_clock_mono_ns() + (int64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000;
	*events = NULL;
	int rc = pio_supervisor_turn(s, UV_RUN_NOWAIT, err);
	while (!rc && json_array_size(s->events) == 0) {
		int64_t left_ns = deadline_ns - pio_clock_mono_ns();
		if (left_ns <= 0)
			break;
		uv_update_time(s->alarm.loop); /* what the caller did since takes no time from the wait */
		uv_timer_start(&s->alarm, ticked, (uint64_t)(left_ns / 1000000 + 1), 0);
		rc = pio_supervisor_turn(s, UV_RUN_ONCE, err);
	}
	uv_timer_stop(&s->alarm);
	if (rc)
		return rc; /* the events so far come with the next call */
	json_t *fresh = json_array();
	if (!fresh)
		return pio_fail(err, PIO_ENOMEM, "out of memory for events");
	*events = s->events;
	s->events = fresh;
	return 0;
}

int pio_supervisor_stop(pio_supervisor *supervisor, int64_t run_id, bool now, pio_err *err)
{
	int rc = 0;
	for (pio_active *a = supervisor->active; a; a = a->next) {
		pio_str text = PIO_STR_INIT;
		if (run_id && a->ref.run_id != run_id)
			continue;
		pio_active_set_kill(a, now);
		if (a->job)
			pio_job_stop(supervisor, a, now);
		if (a->job || a->has_died)
			continue;
		pio_str_puts(&text, now ? "kill\n" : "stop\n");
		int one = send_order(a, &text, err);
		rc = rc ? rc : one;
		pio_str_fini(&text);
	}
	return rc;
}

void pio_supervisor_free(pio_supervisor *supervisor)
{
	pio_supervisor *s = supervisor;
	if (!s)
		return;
	int64_t deadline_ns = pio_clock_mono_ns() + CLOSE_MS * INT64_C(1000000);
	for (pio_active *a = s->active, *next; a; a = next) {
		next = a->next;
		if (a->job)
			pio_supervisor_drop(s, a);
	}
	(void)pio_supervisor_stop(s, 0, true, NULL);
	/* What cannot be settled in that time is left to the next supervisor. */
	for (int failures = 0; s->active && failures < 8 && pio_clock_mono_ns() < deadline_ns;)
		if (pio_supervisor_turn(s, UV_RUN_ONCE, NULL) != 0)
			failures++;
	while (s->active)
		pio_supervisor_drop(s, s->active); /* closes the orders: the agent stops by itself */
	pio_slurm_desk_fini(&s->jobs->desk);
	end_loop(s);
	pio_jobs_free(s);
	json_decref(s->events);
	pio_free(s->executable);
	pio_free(s->lib_dir);
	pio_free(s);
}
