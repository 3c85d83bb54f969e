#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "client/env.h"
#include "launch/head.h"
#include "launch/head_parts.h"
#include "sys/proc.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define KEEPER_NS (15 * NS_PER_S)   /* it kills, drains and writes before it speaks */
#define VICTIM_NS (500 * NS_PER_MS) /* from a victim's failure to the abort it causes */
#define ENDING_NS (60 * NS_PER_S)   /* beyond the grace of the ranks */
#define START_NS (5 * NS_PER_S)     /* agents may join after the command that started them ended */
#define START_END_MS 10000

/* ---- ending ------------------------------------------------------------------------------- */

void pio_head_set_patience(pio_head *head, int64_t ranks_s)
{
	head->end_ns = pio_clock_mono_ns() + (ranks_s + head->spec.grace_s) * NS_PER_S + ENDING_NS;
}

void pio_head_conclude(pio_head *head, const char *verdict, const char *order, const char *why)
{
	if (!head->has_failed && !head->verdict) {
		head->verdict = verdict;
		snprintf(head->why, sizeof head->why, "%s", why);
	}
	bool is_over = head->stage == PIO_HEAD_JOINING;
	head->stage = PIO_HEAD_ENDING;
	head->vote_ns = 0; /* whoever is still asked has been told now */
	pio_head_order(head, order);
	if (is_over) /* nobody has orders yet, so nobody has anything to end */
		uv_stop(&head->loop);
	else if (!head->end_ns || strcmp(order, "kill") == 0)
		pio_head_set_patience(head, 0);
}

void pio_head_check_end(pio_head *head)
{
	if (head->stage == PIO_HEAD_JOINING)
		return;
	for (int i = 0; i < head->place_count; i++)
		if (head->places[i].state == PIO_PLACE_WORKING || head->places[i].state == PIO_PLACE_SILENT)
			return;
	uv_stop(&head->loop);
}

/* ---- signals ------------------------------------------------------------------------------- */

static void told_to_end(uv_signal_t *handle, int signal_number)
{
	if (signal_number == SIGINT)
		pio_head_conclude(handle->data, "cancelled", "kill", "stopped on request");
	else
		pio_head_vote(handle->data, "cancelled", "stop", "stopped on request");
}

static void limit_is_near(uv_signal_t *handle, int signal_number)
{
	(void)signal_number;
	pio_head_vote(handle->data, "timeout", "timeout",
	              "stopped because the time limit of the job was near");
}

static void child_died(uv_signal_t *handle, int signal_number)
{
	pio_head *head = handle->data;
	(void)signal_number;
	if (head->start_pid > 0 &&
	    waitpid(head->start_pid, &head->start_status, WNOHANG) == head->start_pid) {
		head->start_pid = 0;
		head->start_ended_ns = pio_clock_mono_ns();
	}
}

/* ---- time ------------------------------------------------------------------------------------ */

static void start_failed(pio_head *head)
{
	pio_str why = PIO_STR_INIT;
	pio_str_puts(&why, "the command that starts the agents ");
	if (WIFSIGNALED(head->start_status))
		pio_str_printf(&why, "died: %s", pio_proc_signal_name(WTERMSIG(head->start_status)));
	else
		pio_str_printf(&why, "ended with %d", WEXITSTATUS(head->start_status));
	pio_str_puts(&why, " before all had joined: waiting for ");
	pio_head_put_missing(&why, head);
	if (head->last_words[0])
		pio_str_printf(&why, ": %s", head->last_words);
	pio_head_conclude(head, "failed", "stop", why.data);
	pio_str_fini(&why);
}

/* Where spares came, those who did not are not needed. */
static bool has_enough(const pio_head *head)
{
	int joined = 0;
	for (int i = 0; i < head->place_count; i++)
		joined += head->places[i].state == PIO_PLACE_JOINED;
	return joined >= head->spec.nodes;
}

static void watch_joining(pio_head *head, int64_t now_ns)
{
	int64_t join_ns = pio_json_int_or(head->spec.json, "join_s", PIO_JOIN_S_DEFAULT) * NS_PER_S;
	pio_str text = PIO_STR_INIT;
	bool is_late = now_ns - head->begun_ns > join_ns / 10;
	if (is_late && has_enough(head)) {
		pio_str_puts(&text, "spares are here: no longer waiting for ");
		pio_head_put_missing(&text, head);
		pio_head_note(head, "join", text.data);
		pio_head_begin(head);
	} else if (head->start_ended_ns && now_ns - head->start_ended_ns > START_NS) {
		start_failed(head);
	} else if (!head->named_ns && is_late) {
		head->named_ns = now_ns;
		pio_str_puts(&text, "waiting for ");
		pio_head_put_missing(&text, head);
		pio_head_note(head, "join", text.data);
	} else if (now_ns - head->begun_ns > join_ns) {
		pio_str_printf(&text, "gave up after %lld s waiting for ", (long long)(join_ns / NS_PER_S));
		pio_head_put_missing(&text, head);
		pio_head_conclude(head, "node_fail", "stop", text.data);
	}
	pio_str_fini(&text);
}

static void watch_silence(pio_head *head, int64_t now_ns)
{
	for (int i = 0; i < head->place_count; i++) {
		pio_place *place = &head->places[i];
		if (place->state == PIO_PLACE_SILENT && now_ns - place->lost_ns > KEEPER_NS)
			place->state = PIO_PLACE_GONE;
		if (place->state == PIO_PLACE_WORKING && head->end_ns && now_ns > head->end_ns) {
			place->state = PIO_PLACE_GONE;
			place->lost_ns = now_ns;
		}
	}
}

void pio_head_tick(void *context)
{
	pio_head *head = context;
	int64_t now_ns = pio_clock_mono_ns();
	if (head->stage == PIO_HEAD_JOINING) {
		watch_joining(head, now_ns);
		return;
	}
	pio_assembly_tick(head->assembly);
	if (head->victim_ns && now_ns - head->victim_ns > VICTIM_NS)
		pio_head_spread(head, head->victim);
	if (head->has_failed && !head->end_ns)
		pio_head_set_patience(head, 0);
	watch_silence(head, now_ns);
	pio_head_vote_tick(head, now_ns);
	if (head->stage == PIO_HEAD_RUNNING)
		pio_head_watch_tick(head, now_ns);
	pio_head_check_end(head);
}

/* ---- the command that starts the agents ---------------------------------------------------------- */

static void keep_last_words(pio_head *head, const char *bytes, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++) {
		if (bytes[i] == '\n') {
			head->last_bytes = 0; /* the next byte begins a new line */
		} else if (head->last_bytes + 1 < sizeof head->last_words) {
			head->last_words[head->last_bytes++] = bytes[i];
			head->last_words[head->last_bytes] = 0;
		}
	}
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[4096];
	(void)handle;
	(void)suggested;
	*buffer = uv_buf_init(bytes, sizeof bytes);
}

static void start_said(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	if (n > 0) {
		keep_last_words(stream->data, buffer->base, (size_t)n);
		/* Nobody may read it: then it is in no log, but still in exit.json. */
		ssize_t written = write(STDERR_FILENO, buffer->base, (size_t)n);
		(void)written;
	} else if (n < 0) {
		uv_read_stop(stream);
	}
}

/* The environment of the head, and how agents find it: nowhere else is the token told. */
static char **start_environment(const pio_head *head)
{
	size_t n = 0;
	while (environ[n])
		n++;
	const char *const added[][2] = {
		{ PIO_ENV_RENDEZVOUS, head->at }, { PIO_ENV_TOKEN, head->token },
		{ PIO_ENV_DIR, head->dir },
	};
	char **envp = pio_calloc(n + 4, sizeof *envp);
	size_t kept = 0;
	for (size_t i = 0; envp && i < n; i++) {
		bool is_ours = false;
		for (size_t k = 0; k < 3; k++) {
			size_t bytes = strlen(added[k][0]);
			is_ours |= strncmp(environ[i], added[k][0], bytes) == 0 && environ[i][bytes] == '=';
		}
		if (!is_ours && !(envp[kept++] = pio_strdup(environ[i])))
			return envp; /* cut short; noticed by its missing end */
	}
	for (size_t k = 0; envp && k < 3; k++) {
		pio_str entry = PIO_STR_INIT;
		pio_str_printf(&entry, "%s=%s", added[k][0], added[k][1]);
		envp[kept++] = pio_str_take(&entry);
	}
	return envp;
}

static int start_argv(const char ***argv, const json_t *start, pio_err *err)
{
	size_t i;
	json_t *item;
	*argv = NULL;
	if (json_array_size(start) == 0)
		return pio_fail(err, PIO_EINVAL, "orders of the head: \"start\" is no array of strings");
	json_array_foreach(start, i, item)
		if (!json_is_string(item))
			return pio_fail(err, PIO_EINVAL, "orders of the head: \"start\"[%zu] is no string", i);
	*argv = pio_calloc(json_array_size(start) + 1, sizeof **argv);
	if (!*argv)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a command");
	json_array_foreach(start, i, item)
		(*argv)[i] = json_string_value(item);
	return 0;
}

int pio_head_start_agents(pio_head *head, pio_err *err)
{
	int errors[2] = { -1, -1 }, e;
	const char **argv = NULL;
	char **envp = start_environment(head);
	int rc = start_argv(&argv, json_object_get(head->spec.json, "start"), err);
	if (!rc && !envp)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for an environment");
	if (!rc && pipe2(errors, O_CLOEXEC) != 0)
		rc = pio_fail_errno(err, errno, "make a pipe");
	if (!rc) {
		pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)envp, .stdin_fd = -1,
		                       .stdout_fd = STDERR_FILENO, .stderr_fd = errors[1] };
		rc = pio_proc_spawn(&head->start_pid, &spec, err);
		if (rc)
			head->start_pid = 0;
	}
	if (errors[1] >= 0)
		close(errors[1]);
	if (!rc && ((e = uv_pipe_open(&head->start_errors, errors[0])) ||
	            (errors[0] = -1, e = uv_read_start((uv_stream_t *)&head->start_errors, give_buffer, start_said))))
		rc = pio_fail_errno(err, -e, "listen to the command that starts the agents");
	if (errors[0] >= 0)
		close(errors[0]);
	for (char **entry = envp; entry && *entry; entry++)
		pio_free(*entry);
	pio_free(envp);
	pio_free(argv);
	return rc;
}

/* ---- life --------------------------------------------------------------------------------------- */

int pio_head_loop_start(pio_head *head, pio_err *err)
{
	uv_loop_t *loop = &head->loop;
	int e;
	uv_signal_init(loop, &head->child);
	uv_signal_init(loop, &head->term);
	uv_signal_init(loop, &head->interrupt);
	uv_signal_init(loop, &head->near_limit);
	uv_pipe_init(loop, &head->start_errors, 0);
	head->child.data = head->term.data = head->interrupt.data = head->near_limit.data =
		head->start_errors.data = head;
	if ((e = uv_signal_start(&head->child, child_died, SIGCHLD)) ||
	    (e = uv_signal_start(&head->term, told_to_end, SIGTERM)) ||
	    (e = uv_signal_start(&head->interrupt, told_to_end, SIGINT)) ||
	    (e = uv_signal_start(&head->near_limit, limit_is_near, SIGUSR2)))
		return pio_fail_errno(err, -e, "start the loop of the head");
	return 0;
}

/* The agents have ended or were told to: so does what started them. */
static void end_start(pio_head *head)
{
	int64_t deadline_ns = pio_clock_mono_ns() + START_END_MS * NS_PER_MS;
	while (head->start_pid > 0 && pio_clock_mono_ns() < deadline_ns)
		uv_run(&head->loop, UV_RUN_ONCE); /* the tick ends the wait */
	if (head->start_pid > 0) {
		pio_proc_signal_tree(head->start_pid, SIGKILL);
		while (waitpid(head->start_pid, NULL, 0) < 0 && errno == EINTR)
			continue;
		head->start_pid = 0;
	}
}

static void close_handle(uv_handle_t *handle, void *context)
{
	(void)context;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void pio_head_loop_end(pio_head *head)
{
	end_start(head);
	head->refused = head->door ? pio_door_refused(head->door) : 0;
	pio_door_close(&head->door);
	uv_walk(&head->loop, close_handle, NULL);
	do /* a uv_stop from before ends the first run at once */
		uv_run(&head->loop, UV_RUN_DEFAULT);
	while (uv_loop_close(&head->loop) == UV_EBUSY);
}
