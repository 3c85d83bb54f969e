#include "launch/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_parts.h"
#include "launch/keeper.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define ORDERS_BYTES_MAX (16u << 20)

void pio_agent_say(pio_agent *agent, json_t *message)
{
	char *text = message ? pio_json_canonical(message) : NULL;
	json_decref(message);
	if (!text)
		return;
	pio_str line = PIO_STR_INIT;
	if (agent->joined) {
		pio_frame_put_bytes(&line, PIO_FRAME_EVENT, text, strlen(text));
		pio_agent_head_send(agent, &line);
	} else {
		pio_str_printf(&line, "%s\n", text);
		/* Nobody listens when the supervisor is gone: the exit record tells. */
		if (!line.failed)
			(void)pio_fs_write_all(STDOUT_FILENO, line.data, line.len, "standard output", NULL);
	}
	free(text);
	pio_str_fini(&line);
}

/* ---- life ------------------------------------------------------------------------------- */

/* The first line of stdin, byte by byte: what follows belongs to the loop. */
static int read_orders(pio_str *text, pio_err *err)
{
	for (;;) {
		char c;
		ssize_t n = read(STDIN_FILENO, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pio_fail_errno(err, errno, "read the orders of the agent");
		if (n == 0)
			return pio_fail(err, PIO_EPEER, "read the orders of the agent: standard input ended first");
		if (c == '\n')
			return pio_str_check(text, err);
		if (text->len >= ORDERS_BYTES_MAX)
			return pio_fail(err, PIO_EINVAL, "orders of the agent: longer than %u bytes", ORDERS_BYTES_MAX);
		pio_str_putc(text, c);
	}
}

static int in_dir(pio_str *path, const pio_agent *agent, pio_err *err, const char *format, int number)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/", agent->spec.dir);
	pio_str_printf(path, format, number);
	return pio_str_check(path, err);
}

/* One that has an exit record is over, and an agent that comes late (its
 * supervisor died meanwhile) must not touch it. */
int pio_agent_take_attempt(pio_agent *agent, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = in_dir(&path, agent, err, agent->spec.node ? "agent.%d.lock" : "agent.lock",
	                agent->spec.node);
	if (!rc)
		rc = pio_fs_lock(&agent->lock_fd, path.data, err);
	if (!rc)
		rc = in_dir(&path, agent, err, "exit.%d.json", agent->spec.node);
	if (!rc && pio_fs_type(path.data) != PIO_FS_NONE)
		rc = pio_fail(err, PIO_EEXIST, "attempt %d has ended already: there is %s", agent->spec.attempt,
		              path.data);
	pio_str_fini(&path);
	return rc;
}

static int open_journal(pio_agent *agent, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_journal_header header = { .run = agent->spec.ulid, .attempt = (uint32_t)agent->spec.attempt,
	                              .node = (uint32_t)agent->spec.node,
	                              .created_ns = agent->started_ns };
	int rc = in_dir(&path, agent, err, "journal.%d", agent->spec.node);
	if (!rc)
		rc = pio_journal_open(&agent->journal, path.data, &header, err);
	if (!rc)
		rc = pio_fs_sync_dir(agent->spec.dir, err);
	pio_str_fini(&path);
	return rc;
}

static int prepare(pio_agent *agent, pio_err *err)
{
	int rc = pio_agent_watch_open(agent, err);
	if (!rc)
		rc = pio_proc_adopt_orphans(err);
	if (!rc)
		rc = pio_agent_loop_start(agent, err);
	if (!rc)
		rc = open_journal(agent, err);
	if (!rc)
		rc = pio_agent_meet_open(agent, err);
	return rc;
}

/* The record goes into the journal too; then that is whole and on the disk. */
static int close_journal(pio_agent *agent, const char *record, pio_err *err)
{
	if (!agent->journal)
		return 0;
	pio_str payload = PIO_STR_INIT;
	pio_record_put_i64(&payload, agent->ended_ns);
	pio_record_put_str(&payload, record, strlen(record));
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = pio_journal_append(agent->journal, PIO_RECORD_EXIT, payload.data, payload.len, NULL, 0, err);
	pio_str_fini(&payload);
	int close_rc = pio_journal_close(&agent->journal, rc ? NULL : err);
	return rc ? rc : close_rc;
}

static void drain_last(pio_agent *agent)
{
	uint64_t moved;
	pio_err err = PIO_ERR_INIT;
	if (agent->journal && !agent->is_journal_broken &&
	    (pio_agent_drain(agent, true, &moved, &err) || pio_journal_flush(agent->journal, 1, &err)))
		pio_agent_fail_journal(agent, &err);
}

void pio_agent_slim(json_t *record)
{
	size_t i;
	json_t *rank;
	json_array_foreach(json_object_get(record, "ranks"), i, rank) {
		json_object_del(rank, "stdout_tail");
		json_object_del(rank, "stderr_tail");
	}
}

int pio_agent_write_record(pio_agent *agent, json_t **record, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	if (!*record)
		*record = pio_agent_exit_record(agent);
	char *text = *record ? pio_json_canonical(*record) : NULL;
	int rc = text ? in_dir(&path, agent, err, "exit.%d.json", agent->spec.node)
	              : pio_fail(err, PIO_ENOMEM, "out of memory for the exit record");
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), 0666, err);
	pio_str_fini(&path);
	free(text);
	return rc;
}

static void tell_end(pio_agent *agent, json_t *record)
{
	if (agent->joined)
		pio_agent_slim(record);
	json_object_set_new(record, "event", json_string("ended"));
	pio_agent_say(agent, json_incref(record));
	if (agent->joined)
		pio_agent_head_finish(agent);
}

/* Everybody is dead: the last words of the rings, the record, the end. A
 * journal in trouble does not keep the record from being written. */
static int finish(pio_agent *agent, pio_err *err)
{
	int rc = 0;
	pio_agent_xids_end(agent);
	pio_agent_meter_end(agent);
	int killed = pio_agent_leftovers_kill();
	if (killed)
		pio_agent_say(agent, json_pack("{s:s, s:s, s:o}", "event", "note", "kind", "leftover", "message",
		                               json_sprintf("killed %d process%s that the ranks left behind",
		                                            killed, killed == 1 ? "" : "es")));
	drain_last(agent);
	agent->ended_ns = pio_clock_wall_ns();
	json_t *record = pio_agent_exit_record(agent);
	char *text = record ? pio_json_canonical(record) : NULL;
	if (!text)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the exit record");
	if (!rc)
		rc = close_journal(agent, text, err);
	/* Rings whose end is not in the journal stay for whoever recovers. */
	pio_agent_rings_close(agent, rc == 0 && !agent->is_journal_broken);
	if (agent->is_journal_broken && text)
		rc = 0;
	if (!rc)
		rc = pio_agent_write_record(agent, &record, err);
	if (!rc)
		tell_end(agent, record);
	free(text);
	json_decref(record);
	return rc;
}

static int work(pio_agent *agent, pio_err *err)
{
	int rc = pio_agent_take_attempt(agent, err);
	if (rc)
		return rc;
	rc = prepare(agent, err);
	if (!rc)
		rc = pio_agent_preflight(agent, err);
	if (!rc && agent->stage == PIO_STAGE_RUNNING) /* else it was told to end already */
		rc = pio_agent_ranks_start(agent, err);
	if (rc)
		pio_agent_fail(agent, err);
	else
		pio_agent_leftover_start(agent);
	if (agent->alive)
		uv_run(&agent->loop, UV_RUN_DEFAULT);
	rc = finish(agent, err);
	return rc;
}

/* From its orders to its end. */
static int run(pio_agent *agent, pio_err *err)
{
	int rc = uv_loop_init(&agent->loop) == 0 ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a loop");
	if (rc)
		return rc;
	rc = work(agent, err);
	if (!rc && agent->trouble.code)
		fprintf(stderr, "pioche agent: %s\n", agent->trouble.message);
	pio_agent_loop_end(agent);
	pio_agent_rings_close(agent, false);
	pio_agent_place_end(agent);
	(void)pio_journal_close(&agent->journal, NULL);
	pio_agent_watch_close(agent);
	json_decref(agent->checks);
	if (agent->lock_fd >= 0)
		(void)pio_fs_close(&agent->lock_fd, "agent.lock", NULL);
	return rc;
}

/* ---- under a head ---------------------------------------------------------------------------- */

/* From here on this node has a file of its own for what goes wrong. */
static int open_errors(const pio_agent *agent, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int fd = -1, rc = in_dir(&path, agent, err, "agent.%d.err", agent->spec.node);
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (!rc && dup2(fd, STDERR_FILENO) < 0)
		rc = pio_fail_errno(err, errno, "use %s as standard error", path.data);
	if (fd >= 0)
		(void)pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	return rc;
}

/* An agent that could not work: the head hears why. */
static void tell_trouble(pio_joined *joined, const char *why)
{
	json_t *event = json_pack("{s:s, s:s, s:n, s:o, s:[]}", "event", "ended", "result", "failed", "first",
	                          "message", pio_agent_json_text(why, strlen(why)), "ranks");
	char *text = event ? pio_json_canonical(event) : NULL;
	if (text)
		(void)pio_join_speak_for(joined, text, NULL);
	free(text);
	json_decref(event);
}

/* ---- the verbs ------------------------------------------------------------------------------- */

/* Split, then work or watch. */
static int live(pio_agent *agent, bool is_kept, int rc, pio_err *err)
{
	pid_t worker = 0;
	bool is_ready = rc == 0;
	if (!rc)
		rc = is_kept ? pio_keeper_split(agent, &worker, err) : pio_keeper_none(agent, err);
	if (!rc && worker)
		return pio_keeper_watch(agent, worker);
	if (!rc)
		rc = run(agent, err);
	if (rc)
		fprintf(stderr, "pioche agent: %s\n", err->message);
	if (rc && is_ready && agent->joined)
		tell_trouble(agent->joined, err->message);
	return rc ? 3 : 0;
}

static int obey_standard_input(bool is_kept)
{
	pio_agent agent = { .lock_fd = -1, .trouble_rank = -1 };
	pio_err err = PIO_ERR_INIT;
	pio_str orders = PIO_STR_INIT;

	signal(SIGPIPE, SIG_IGN);
	int rc = read_orders(&orders, &err);
	if (!rc)
		rc = pio_agent_spec_parse(&agent.spec, orders.data, orders.len, NULL, &err);
	pio_str_fini(&orders);
	int status = live(&agent, is_kept, rc, &err);
	pio_agent_spec_fini(&agent.spec);
	return status;
}

int pio_agent_main(void)
{
	return obey_standard_input(true);
}

int pio_agent_main_alone(void)
{
	return obey_standard_input(false);
}

int pio_agent_join_main(void)
{
	pio_joined joined;
	pio_agent agent = { .lock_fd = -1, .trouble_rank = -1, .joined = &joined };
	pio_err err = PIO_ERR_INIT;
	int status = 0;

	signal(SIGPIPE, SIG_IGN);
	int rc = pio_join(&joined, &err);
	bool is_needed = rc || joined.orders.len;
	if (!rc && is_needed)
		rc = pio_agent_spec_parse(&agent.spec, joined.orders.data, joined.orders.len,
		                          json_pack("{s:s, s:s}", "token", joined.self.token, "host",
		                                    joined.self.host), &err);
	if (!rc && is_needed)
		rc = open_errors(&agent, &err);
	if (is_needed)
		status = live(&agent, true, rc, &err);
	pio_agent_spec_fini(&agent.spec);
	pio_join_fini(&joined);
	return status;
}
