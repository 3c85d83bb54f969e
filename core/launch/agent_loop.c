#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "launch/agent_parts.h"

#define DRAIN_BUSY_MS 10
#define DRAIN_IDLE_MS 50
#define BEAT_MS 250           /* flush of the journal */
#define BEATS_PER_SYNC 4      /* and what is on the disk is at most a second old */
#define PEERS_MS 3000
#define KILL_AGAIN_MS 200
/* A signal to keeper and agent is heard twice. */
#define AGAIN_NS INT64_C(2000000000)
/* Nothing outlives its supervisor by more than 10 s, whatever grace_s says. */
#define GRACE_LOST_MS 8000

/* ---- stopping ----------------------------------------------------------------------- */

static void escalation_due(uv_timer_t *timer)
{
	pio_agent *agent = timer->data;
	if (agent->stage == PIO_STAGE_KILL) /* fork races: again until nothing is left */
		pio_agent_ranks_signal(SIGKILL);
	else
		pio_agent_escalate(agent, agent->stage < PIO_STAGE_TERM ? PIO_STAGE_TERM : PIO_STAGE_KILL);
}

void pio_agent_escalate(pio_agent *agent, enum pio_agent_stage stage)
{
	if (stage <= agent->stage)
		return;
	agent->stage = stage;
	if (stage == PIO_STAGE_VOTE) {
		uv_timer_start(&agent->escalation, escalation_due, (uint64_t)agent->patience_s * 1000, 0);
		return;
	}
	pio_agent_vote_drop(agent);
	if (stage == PIO_STAGE_PEERS) {
		uv_timer_start(&agent->escalation, escalation_due, PEERS_MS, 0);
	} else if (stage == PIO_STAGE_TERM) {
		int64_t grace_ms = agent->spec.grace_s * 1000;
		if (agent->is_orphan && grace_ms > GRACE_LOST_MS)
			grace_ms = GRACE_LOST_MS;
		pio_agent_ranks_signal(SIGTERM);
		uv_timer_start(&agent->escalation, escalation_due, (uint64_t)grace_ms, 0);
	} else {
		pio_agent_ranks_signal(SIGKILL);
		uv_timer_start(&agent->escalation, escalation_due, KILL_AGAIN_MS, KILL_AGAIN_MS);
	}
}

/* End for a reason that is no rank's failure, unless one came first. */
static void conclude(pio_agent *agent, const char *verdict, enum pio_agent_stage stage)
{
	if (agent->stage == PIO_STAGE_RUNNING && !agent->verdict)
		agent->verdict = verdict;
	pio_agent_escalate(agent, stage);
}

/* The same, in good order where the ranks ask when. */
static void conclude_softly(pio_agent *agent, const char *verdict)
{
	if (!pio_agent_vote(agent, verdict))
		conclude(agent, verdict, PIO_STAGE_TERM);
}

void pio_agent_fail(pio_agent *agent, const pio_err *err)
{
	if (!agent->trouble.code) {
		agent->trouble = *err;
		agent->trouble_mono_ns = pio_clock_mono_ns();
	}
	pio_agent_head_tell_failure(agent);
	if (agent->alive)
		pio_agent_escalate(agent, PIO_STAGE_KILL);
}

void pio_agent_fail_journal(pio_agent *agent, const pio_err *err)
{
	agent->is_journal_broken = true;
	pio_agent_fail(agent, err);
}

/* ---- the loop ------------------------------------------------------------------------- */

void pio_agent_obey(pio_agent *agent, const char *word)
{
	if (strcmp(word, "stop") == 0 && !agent->joined) {
		conclude_softly(agent, "cancelled");
	} else if (strcmp(word, "stop") == 0) {
		conclude(agent, "cancelled", PIO_STAGE_TERM);
	} else if (strcmp(word, "kill") == 0) {
		conclude(agent, "cancelled", PIO_STAGE_KILL);
	} else if (strcmp(word, "timeout") == 0) {
		conclude(agent, "timeout", PIO_STAGE_TERM);
	} else if (strcmp(word, "peers") == 0) {
		agent->failed_elsewhere = true;
		pio_agent_escalate(agent, PIO_STAGE_PEERS);
	} else if (!pio_agent_vote_obey(agent, word)) {
		pio_agent_watch_obey(agent, word);
	}
}

void pio_agent_orphaned(pio_agent *agent)
{
	agent->is_orphan = true;
	if (agent->stage == PIO_STAGE_TERM && uv_timer_get_due_in(&agent->escalation) > GRACE_LOST_MS)
		uv_timer_start(&agent->escalation, escalation_due, GRACE_LOST_MS, 0);
	conclude(agent, "lost", PIO_STAGE_TERM);
}

static void orders_received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	pio_agent *agent = stream->data;
	for (ssize_t i = 0; i < n; i++) {
		if (buffer->base[i] == '\n') {
			agent->line[agent->line_bytes] = 0;
			agent->line_bytes = 0;
			pio_agent_obey(agent, agent->line);
		} else if (agent->line_bytes + 1 < sizeof agent->line) {
			agent->line[agent->line_bytes++] = buffer->base[i];
		}
	}
	if (n < 0) {
		uv_read_stop(stream);
		pio_agent_orphaned(agent);
	}
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[256];
	(void)handle;
	(void)suggested;
	*buffer = uv_buf_init(bytes, sizeof bytes);
}

static void child_died(uv_signal_t *handle, int signal_number)
{
	(void)signal_number;
	pio_agent_ranks_reap(handle->data);
}

/* By somebody, or by the kernel, because the keeper is dead. */
static void told_to_end(uv_signal_t *handle, int signal_number)
{
	pio_agent *agent = handle->data;
	int64_t now_ns = pio_clock_mono_ns();
	bool is_same = agent->signalled_ns && now_ns - agent->signalled_ns < AGAIN_NS;
	(void)signal_number;
	if (getppid() == agent->keeper_pid) {
		agent->signalled_ns = is_same ? agent->signalled_ns : now_ns;
		if (agent->stage == PIO_STAGE_VOTE && !is_same)
			conclude(agent, "cancelled", PIO_STAGE_TERM);
		else
			conclude_softly(agent, "cancelled");
	} else {
		agent->has_lost_keeper = agent->stage == PIO_STAGE_RUNNING;
		pio_agent_orphaned(agent);
	}
}

static void limit_is_near(uv_signal_t *handle, int signal_number)
{
	(void)signal_number;
	conclude_softly(handle->data, "timeout");
}

static void limit_passed(uv_timer_t *timer)
{
	conclude_softly(timer->data, "timeout");
}

static void drain_due(uv_timer_t *timer)
{
	pio_agent *agent = timer->data;
	pio_err err = PIO_ERR_INIT;
	uint64_t moved;
	if (agent->is_journal_broken)
		return; /* the rings keep what they have, for whoever recovers */
	if (pio_agent_drain(agent, false, &moved, &err) != 0)
		pio_agent_fail_journal(agent, &err);
	uv_timer_start(timer, drain_due, moved ? DRAIN_BUSY_MS : DRAIN_IDLE_MS, 0);
}

static void beat_due(uv_timer_t *timer)
{
	pio_agent *agent = timer->data;
	pio_err err = PIO_ERR_INIT;
	bool whole = ++agent->beats % BEATS_PER_SYNC == 0;
	int64_t now_ns = pio_clock_wall_ns();
	int rc = 0;
	if (agent->is_journal_broken)
		return;
	if (whole)
		rc = pio_journal_append(agent->journal, PIO_RECORD_HEARTBEAT, &now_ns, sizeof now_ns, NULL, 0,
		                        &err);
	if (!rc)
		rc = pio_journal_flush(agent->journal, whole, &err);
	if (rc)
		pio_agent_fail_journal(agent, &err);
	else
		pio_agent_watch_beat(agent);
}

void pio_agent_note(void *context, const char *kind, const char *message)
{
	pio_agent_say(context, json_pack("{s:s, s:s, s:o}", "event", "note", "kind", kind, "message",
	                                 pio_agent_json_text(message, strlen(message))));
}

void pio_agent_event(pio_agent *agent, int local_rank, const char *kind, const pio_str *message)
{
	pio_str payload = PIO_STR_INIT;
	pio_err err = PIO_ERR_INIT;
	if (!agent->journal || agent->is_journal_broken)
		return;
	pio_record_put_u32(&payload, (uint32_t)agent->ranks[local_rank].rank);
	pio_record_put_i64(&payload, pio_clock_wall_ns());
	pio_record_put_str(&payload, kind, strlen(kind));
	pio_record_put_str(&payload, message->data, message->len);
	if (!message->failed && !payload.failed &&
	    pio_journal_append(agent->journal, PIO_RECORD_EVENT, payload.data, payload.len, NULL, 0, &err) != 0)
		pio_agent_fail_journal(agent, &err);
	pio_str_fini(&payload);
}

static int start_orders(pio_agent *agent, pio_err *err)
{
	int e;
	uv_pipe_init(&agent->loop, &agent->orders, 0);
	agent->orders.data = agent;
	if ((e = uv_pipe_open(&agent->orders, STDIN_FILENO)) ||
	    (e = uv_read_start((uv_stream_t *)&agent->orders, give_buffer, orders_received)))
		return pio_fail_errno(err, -e, "listen for orders");
	return 0;
}

int pio_agent_loop_start(pio_agent *agent, pio_err *err)
{
	uv_loop_t *loop = &agent->loop;
	int e;
	uv_signal_init(loop, &agent->child);
	uv_signal_init(loop, &agent->term);
	uv_signal_init(loop, &agent->near_limit);
	uv_timer_init(loop, &agent->drain);
	uv_timer_init(loop, &agent->beat);
	uv_timer_init(loop, &agent->escalation);
	uv_timer_init(loop, &agent->limit);
	agent->child.data = agent->term.data = agent->near_limit.data = agent->drain.data = agent->beat.data =
		agent->escalation.data = agent->limit.data = agent;
	if ((e = uv_signal_start(&agent->child, child_died, SIGCHLD)) ||
	    (e = uv_signal_start(&agent->term, told_to_end, SIGTERM)) ||
	    (e = uv_signal_start(&agent->near_limit, limit_is_near, SIGUSR2)) ||
	    (e = uv_timer_start(&agent->drain, drain_due, DRAIN_IDLE_MS, 0)) ||
	    (e = uv_timer_start(&agent->beat, beat_due, BEAT_MS, BEAT_MS)))
		return pio_fail_errno(err, -e, "start the loop of the agent");
	if (agent->spec.timeout_s)
		uv_timer_start(&agent->limit, limit_passed, (uint64_t)agent->spec.timeout_s * 1000, 0);
	return agent->joined ? pio_agent_head_start(agent, err) : start_orders(agent, err);
}

static void close_handle(uv_handle_t *handle, void *context)
{
	(void)context;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void pio_agent_loop_end(pio_agent *agent)
{
	pio_agent_meet_close(agent);
	uv_walk(&agent->loop, close_handle, NULL);
	uv_run(&agent->loop, UV_RUN_DEFAULT);
	uv_loop_close(&agent->loop);
}
