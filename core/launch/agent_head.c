/* An agent's one connection to its head: orders come, events go. */
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_parts.h"

#define PING_MS 2000
#define FINISH_MS 10000

/* ---- sending -------------------------------------------------------------------------- */

typedef struct outgoing {
	uv_write_t request;          /* first */
	pio_str frames;
} outgoing;

static void written(uv_write_t *request, int status)
{
	outgoing *out = (outgoing *)request;
	(void)status; /* the reading side sees the same broken connection */
	pio_str_fini(&out->frames);
	pio_free(out);
}

void pio_agent_head_send(pio_agent *agent, pio_str *frames)
{
	outgoing *out = frames->failed || !agent->has_head ? NULL : pio_calloc(1, sizeof *out);
	if (!out) {
		pio_str_fini(frames);
		return;
	}
	out->frames = *frames;
	*frames = (pio_str)PIO_STR_INIT;
	uv_buf_t buffer = uv_buf_init(out->frames.data, (unsigned)out->frames.len);
	if (uv_write(&out->request, (uv_stream_t *)&agent->head, &buffer, 1, written) != 0)
		written(&out->request, -1);
}

int64_t pio_agent_head_clock_ns(const pio_agent *agent, int64_t mono_ns)
{
	return agent->joined ? mono_ns + agent->joined->clock.offset_ns : mono_ns;
}

static json_t *failure_event(const pio_agent *agent)
{
	const pio_agent_rank *first = pio_agent_first(agent);
	pio_str what = PIO_STR_INIT;
	if (first && !agent->trouble.code)
		pio_agent_describe(&what, agent, first);
	else
		pio_str_puts(&what, agent->trouble.message);
	json_t *event = json_pack("{s:s, s:b, s:o}", "event", "failed", "victim",
	                          first && !agent->trouble.code && pio_agent_is_victim(first), "what",
	                          pio_agent_json_text(what.data, what.len));
	pio_str_fini(&what);
	return event;
}

void pio_agent_head_tell_failure(pio_agent *agent)
{
	if (!agent->joined || (agent->verdict && agent->stage >= PIO_STAGE_TERM))
		return;
	/* A victim's failure is not the last word: the culprit may be on this node too. */
	json_t *event = failure_event(agent);
	int word = json_is_true(json_object_get(event, "victim")) ? 1 : 2;
	if (word > agent->told_failure)
		pio_agent_say(agent, json_incref(event));
	if (word > agent->told_failure)
		agent->told_failure = word;
	json_decref(event);
}

/* ---- hearing --------------------------------------------------------------------------- */

static void hear_frame(pio_agent *agent, const pio_frame *frame)
{
	char word[64];
	int64_t sent_ns, head_ns;
	if (frame->type == PIO_FRAME_PONG) {
		if (pio_frame_get_pong(&sent_ns, &head_ns, frame, NULL) == 0)
			pio_head_clock_read(&agent->joined->clock, sent_ns, head_ns, pio_clock_mono_ns());
	} else if (frame->type == PIO_FRAME_ORDER) {
		if (pio_frame_get_text(word, sizeof word, frame, NULL) == 0)
			pio_agent_obey(agent, word);
	} else if (agent->rendezvous) {
		pio_rendezvous_hear(agent->rendezvous, frame);
	}
}

static void lost(pio_agent *agent)
{
	if (!agent->has_head)
		return;
	agent->has_head = false;
	uv_timer_stop(&agent->ping);
	uv_read_stop((uv_stream_t *)&agent->head);
	if (!agent->ended_ns)
		pio_agent_orphaned(agent);
}

static void hear(pio_agent *agent)
{
	pio_str *in = &agent->joined->in;
	pio_frame frame;
	size_t at = 0, used;
	int rc;
	while ((rc = pio_frame_next(&frame, &used, in->data + at, in->len - at, NULL)) == 1) {
		hear_frame(agent, &frame);
		at += used;
	}
	if (at) {
		memmove(in->data, in->data + at, in->len - at);
		in->len -= at;
	}
	if (rc < 0)
		lost(agent);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[16384];
	(void)handle;
	(void)suggested;
	*buffer = uv_buf_init(bytes, sizeof bytes);
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	pio_agent *agent = stream->data;
	if (n > 0)
		pio_str_append(&agent->joined->in, buffer->base, (size_t)n);
	if (n < 0 || agent->joined->in.failed)
		lost(agent);
	else
		hear(agent);
}

static void ping_due(uv_timer_t *timer)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_ping(&frame, pio_clock_mono_ns());
	pio_agent_head_send(timer->data, &frame);
}

/* ---- life ------------------------------------------------------------------------------- */

int pio_agent_head_start(pio_agent *agent, pio_err *err)
{
	int e;
	uv_tcp_init(&agent->loop, &agent->head);
	uv_timer_init(&agent->loop, &agent->ping);
	agent->head.data = agent->ping.data = agent;
	if ((e = uv_tcp_open(&agent->head, agent->joined->fd)) != 0)
		return pio_fail_errno(err, -e, "open the connection to the head");
	agent->joined->fd = -1;
	if ((e = uv_read_start((uv_stream_t *)&agent->head, give_buffer, received)) ||
	    (e = uv_timer_start(&agent->ping, ping_due, PING_MS, PING_MS)))
		return pio_fail_errno(err, -e, "listen to the head");
	agent->has_head = true;
	hear(agent);
	return 0;
}

static void finish_late(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

static void half_closed(uv_shutdown_t *request, int status)
{
	(void)request;
	(void)status;
}

void pio_agent_head_finish(pio_agent *agent)
{
	uv_timer_t *const timers[] = { &agent->ping, &agent->drain, &agent->beat, &agent->escalation,
	                               &agent->limit };
	uv_timer_t late;
	bool is_late = false;
	if (!agent->has_head)
		return;
	uv_timer_init(&agent->loop, &late);
	late.data = &is_late;
	uv_timer_start(&late, finish_late, FINISH_MS, 0);
	for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
		uv_timer_stop(timers[i]);
	uv_shutdown(&agent->goodbye, (uv_stream_t *)&agent->head, half_closed);
	/* The head closes its side once it has the last event. */
	while (agent->has_head && !is_late)
		uv_run(&agent->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&late, NULL);
	uv_run(&agent->loop, UV_RUN_NOWAIT);
}
