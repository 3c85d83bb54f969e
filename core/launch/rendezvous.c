#include "launch/rendezvous.h"

#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "client/frame.h"
#include "sys/journal.h"
#include "sys/sock.h"

#define TICK_MS 50
#define HELLO_MS 10000           /* silence of a stranger */
#define PATIENCE_MS 30000        /* of a HELLO that names none */
#define LOST_MS 500              /* from a broken connection to the abort it causes */
#define STRANGER_BYTES_MAX 4096u /* of a first frame: nobody unknown makes us allocate more */
#define STRANGERS_MAX 64
#define MISSING_NAMED_MAX 8

typedef struct peer {
	uv_tcp_t tcp;                /* first: the handle is the peer */
	pio_rendezvous *rendezvous;
	struct peer *next;
	uint8_t *in;                 /* bytes of frames that are not whole yet */
	size_t in_bytes, in_capacity;
	int rank;                    /* -1 before HELLO */
	char *host;                  /* where its ring neighbour connects */
	uint16_t port;
	bool has_table, is_closing;
	int64_t since_ns, patience_ns; /* joined (or connected); told who is missing at; 0: told */
} peer;

struct pio_rendezvous {
	uv_tcp_t listener;
	uv_timer_t tick;
	uv_loop_t *loop;
	peer *peers;                 /* connected, refused ones excepted */
	peer **by_rank;              /* world entries; NULL: not here */
	char *token, *abort_reason;
	int world, connected, strangers;
	uint16_t port;
	uint64_t refused;
	int lost_rank;               /* -1: none */
	int64_t lost_ns;
	bool is_closing, has_event;
	int handles;                 /* of libuv that are not closed yet */
	pio_rendezvous_event *event;
	void *context;
};

typedef struct outgoing {
	uv_write_t request;
	pio_str bytes;
} outgoing;

static void settle(pio_rendezvous *r);

static void tell(pio_rendezvous *r, const char *kind, const char *message)
{
	if (r->event)
		r->event(r->context, kind, message);
}

/* ---- closing --------------------------------------------------------------------- */

static void free_when_closed(pio_rendezvous *r)
{
	if (--r->handles || !r->is_closing)
		return;
	pio_free(r->token);
	pio_free(r->abort_reason);
	pio_free(r->by_rank);
	pio_free(r);
}

static void own_handle_closed(uv_handle_t *handle)
{
	free_when_closed(handle->data);
}

static void peer_closed(uv_handle_t *handle)
{
	peer *p = (peer *)handle;
	pio_rendezvous *r = p->rendezvous;
	pio_free(p->in);
	pio_free(p->host);
	pio_free(p);
	free_when_closed(r);
}

static void peer_close(peer *p)
{
	pio_rendezvous *r = p->rendezvous;
	if (p->is_closing)
		return;
	p->is_closing = true;
	for (peer **at = &r->peers; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	if (p->rank < 0) {
		r->strangers--;
	} else {
		r->connected--;
		if (r->by_rank[p->rank] == p)
			r->by_rank[p->rank] = NULL;
	}
	uv_close((uv_handle_t *)&p->tcp, peer_closed);
}

static void refuse(peer *p, const char *why)
{
	pio_rendezvous *r = p->rendezvous;
	r->refused++;
	if (!r->has_event) { /* a port scanner must not fill the history */
		pio_str message = PIO_STR_INIT;
		pio_str_printf(&message, "refused a connection to the rendezvous: %s", why);
		tell(r, "rendezvous", message.data);
		pio_str_fini(&message);
		r->has_event = true;
	}
	peer_close(p);
}

/* A joined rank is gone without BYE. */
static void lose(peer *p)
{
	pio_rendezvous *r = p->rendezvous;
	if (p->is_closing)
		return;
	if (p->rank >= 0 && p->has_table && r->lost_rank < 0) {
		r->lost_rank = p->rank;
		r->lost_ns = pio_clock_mono_ns();
	}
	peer_close(p);
}

/* ---- sending ---------------------------------------------------------------------- */

static void written(uv_write_t *request, int status)
{
	outgoing *out = (outgoing *)request;
	peer *p = request->data;
	pio_str_fini(&out->bytes);
	pio_free(out);
	if (status < 0 && status != UV_ECANCELED)
		lose(p);
}

/* Send one frame. Out of memory counts as a broken connection. */
static void send_frame(peer *p, enum pio_frame_type type, const pio_str *payload)
{
	if (p->is_closing)
		return;
	outgoing *out = pio_calloc(1, sizeof *out);
	if (!out) {
		lose(p);
		return;
	}
	out->bytes = (pio_str)PIO_STR_INIT;
	pio_record_put_u32(&out->bytes, (uint32_t)payload->len + 1);
	pio_str_putc(&out->bytes, (char)type);
	pio_str_append(&out->bytes, payload->data, payload->len);
	uv_buf_t buffer = uv_buf_init(out->bytes.data, (unsigned)out->bytes.len);
	out->request.data = p;
	if (payload->failed || out->bytes.failed ||
	    uv_write(&out->request, (uv_stream_t *)&p->tcp, &buffer, 1, written) != 0) {
		pio_str_fini(&out->bytes);
		pio_free(out);
		lose(p);
	}
}

static void send_text(peer *p, enum pio_frame_type type, const char *text)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_str(&payload, text, strlen(text));
	send_frame(p, type, &payload);
	pio_str_fini(&payload);
}

static void send_tables(pio_rendezvous *r)
{
	pio_str payload = PIO_STR_INIT;
	pio_record_put_u32(&payload, (uint32_t)r->world);
	for (int i = 0; i < r->world; i++) {
		peer *p = r->by_rank[i];
		pio_record_put_str(&payload, p->host, strlen(p->host));
		pio_record_put_u32(&payload, p->port);
	}
	for (int i = 0; i < r->world; i++) {
		peer *p = r->by_rank[i];
		if (p) { /* a failed write to an earlier one may have taken it away */
			p->has_table = true;
			send_frame(p, PIO_FRAME_TABLE, &payload);
		}
	}
	pio_str_fini(&payload);
}

static void send_waiting(pio_rendezvous *r, peer *to)
{
	pio_str text = PIO_STR_INIT;
	int missing = 0;
	for (int i = 0; i < r->world; i++)
		missing += !r->by_rank[i] || r->by_rank[i]->has_table;
	pio_str_printf(&text, "%d of %d ranks did not come: rank", missing, r->world);
	int named = 0;
	for (int i = 0; i < r->world && named < MISSING_NAMED_MAX; i++)
		if (!r->by_rank[i] || r->by_rank[i]->has_table)
			pio_str_printf(&text, "%s %d", named++ ? "," : "", i);
	if (missing > named)
		pio_str_puts(&text, ", ...");
	send_text(to, PIO_FRAME_WAITING, text.failed ? "ranks are missing" : text.data);
	pio_str_fini(&text);
}

/* ---- what ranks say ---------------------------------------------------------------- */

/* The time it takes tells nothing about where the first difference is. */
static bool token_matches(const char *expected, const char *got, size_t got_bytes)
{
	size_t n = strlen(expected);
	unsigned difference = got_bytes != n;
	for (size_t i = 0; i < n; i++)
		difference |= (unsigned char)expected[i] ^ (unsigned char)(got_bytes == n ? got[i] : 0);
	return difference == 0;
}

static void hello(peer *p, pio_cursor *cursor)
{
	pio_rendezvous *r = p->rendezvous;
	size_t token_bytes, host_bytes;
	const char *token = pio_cursor_str(cursor, &token_bytes);
	uint32_t rank = pio_cursor_u32(cursor), world = pio_cursor_u32(cursor);
	const char *host = pio_cursor_str(cursor, &host_bytes);
	uint32_t port = pio_cursor_u32(cursor);
	int64_t patience_ms = cursor->at < cursor->end ? pio_cursor_u32(cursor) : PATIENCE_MS;

	if (cursor->bad || !token_matches(r->token, token, token_bytes)) {
		refuse(p, cursor->bad ? "a broken HELLO" : "a wrong token");
	} else if (p->rank >= 0) {
		refuse(p, "a second HELLO on one connection");
	} else if (rank >= (uint32_t)r->world || world != (uint32_t)r->world) {
		refuse(p, "a HELLO with a rank or world size that this attempt has not");
	} else if (r->by_rank[rank]) {
		refuse(p, "a second HELLO of a rank that is connected");
	} else if (host_bytes == 0 || host_bytes > 255 || memchr(host, 0, host_bytes) || port > 65535) {
		refuse(p, "a HELLO with an address that is none");
	} else if (!(p->host = pio_calloc(1, host_bytes + 1))) {
		refuse(p, "out of memory");
	} else {
		memcpy(p->host, host, host_bytes);
		p->port = (uint16_t)port;
		p->rank = (int)rank;
		p->since_ns = pio_clock_mono_ns();
		p->patience_ns = p->since_ns + patience_ms * 1000000;
		/* The answer must be there before the rank itself gives up. */
		p->patience_ns -= patience_ms < 1000 ? patience_ms * 200000 : 200000000;
		r->by_rank[rank] = p;
		r->strangers--;
		r->connected++;
		if (r->abort_reason)
			send_text(p, PIO_FRAME_ABORT, r->abort_reason);
		else
			settle(r);
	}
}

/* All here and nobody has a table yet: give it to them. */
static void settle(pio_rendezvous *r)
{
	for (int i = 0; i < r->world; i++)
		if (!r->by_rank[i] || r->by_rank[i]->has_table)
			return;
	send_tables(r);
}

static void abort_all(pio_rendezvous *r, const char *reason, const peer *except)
{
	if (r->abort_reason)
		return;
	r->abort_reason = pio_strdup(reason);
	for (int i = 0; i < r->world; i++)
		if (r->by_rank[i] && r->by_rank[i] != except)
			send_text(r->by_rank[i], PIO_FRAME_ABORT, reason);
}

static void abort_from_rank(peer *p, pio_cursor *cursor)
{
	size_t bytes;
	pio_str reason = PIO_STR_INIT;
	const char *text = pio_cursor_str(cursor, &bytes);
	if (cursor->bad) {
		lose(p);
		return;
	}
	pio_str_append(&reason, text, bytes < 1000 ? bytes : 1000);
	if (!p->rendezvous->abort_reason) {
		pio_str message = PIO_STR_INIT;
		pio_str_printf(&message, "rank %d aborted: %s", p->rank, reason.data);
		tell(p->rendezvous, "abort", message.data);
		pio_str_fini(&message);
	}
	abort_all(p->rendezvous, reason.data, p);
	pio_str_fini(&reason);
}

static void handle_frame(peer *p, const uint8_t *payload, size_t size_bytes)
{
	pio_cursor cursor = { payload + 1, payload + size_bytes, 0 };
	if (p->rank < 0 && payload[0] != PIO_FRAME_HELLO)
		refuse(p, "something else than a HELLO");
	else if (payload[0] == PIO_FRAME_HELLO)
		hello(p, &cursor);
	else if (payload[0] == PIO_FRAME_ABORT)
		abort_from_rank(p, &cursor);
	else if (payload[0] == PIO_FRAME_BYE)
		peer_close(p);
	else
		lose(p);
}

/* Take the whole frames out of the buffer; false once the peer is closing. */
static bool take_frames(peer *p)
{
	size_t at = 0;
	while (!p->is_closing && p->in_bytes - at >= 4) {
		pio_cursor cursor = { p->in + at, p->in + p->in_bytes, 0 };
		uint32_t length = pio_cursor_u32(&cursor);
		if (length == 0 || length > (p->rank < 0 ? STRANGER_BYTES_MAX : PIO_FRAME_BYTES_MAX)) {
			refuse(p, "a frame of an impossible length");
			break;
		}
		if (p->in_bytes - at - 4 < length)
			break;
		handle_frame(p, p->in + at + 4, length);
		at += 4 + length;
	}
	if (p->is_closing)
		return false;
	memmove(p->in, p->in + at, p->in_bytes - at);
	p->in_bytes -= at;
	return true;
}

/* ---- the loop's side ------------------------------------------------------------------ */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	peer *p = (peer *)handle;
	(void)suggested;
	if (p->in_capacity - p->in_bytes < 2048) {
		size_t capacity = p->in_capacity ? 2 * p->in_capacity : 8192;
		uint8_t *in = pio_realloc(p->in, capacity);
		if (!in) {
			*buffer = uv_buf_init(NULL, 0); /* the read fails with UV_ENOBUFS */
			return;
		}
		p->in = in;
		p->in_capacity = capacity;
	}
	*buffer = uv_buf_init((char *)p->in + p->in_bytes, (unsigned)(p->in_capacity - p->in_bytes));
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	peer *p = (peer *)stream;
	(void)buffer;
	if (n > 0) {
		p->in_bytes += (size_t)n;
		take_frames(p);
	} else if (n < 0 && p->rank < 0) {
		refuse(p, "it left without a HELLO");
	} else if (n < 0) {
		lose(p);
	}
}

static void connected(uv_stream_t *listener, int status)
{
	pio_rendezvous *r = listener->data;
	if (status < 0)
		return;
	peer *p = pio_calloc(1, sizeof *p);
	if (!p)
		return; /* the connection stays in the backlog: its owner's deadline passes */
	p->rendezvous = r;
	p->rank = -1;
	p->since_ns = pio_clock_mono_ns();
	if (uv_tcp_init(r->loop, &p->tcp) != 0) {
		pio_free(p);
		return;
	}
	r->handles++;
	r->strangers++;
	p->next = r->peers;
	r->peers = p;
	if (uv_accept(listener, (uv_stream_t *)&p->tcp) != 0 ||
	    uv_read_start((uv_stream_t *)&p->tcp, give_buffer, received) != 0) {
		peer_close(p);
		return;
	}
	uv_tcp_nodelay(&p->tcp, 1);
	uv_tcp_keepalive(&p->tcp, 1, 15);
	if (r->strangers > STRANGERS_MAX + r->world)
		refuse(p, "too many connections without a HELLO");
}

static void ticked(uv_timer_t *timer)
{
	pio_rendezvous *r = timer->data;
	int64_t now_ns = pio_clock_mono_ns();
	for (peer *p = r->peers, *next; p; p = next) {
		next = p->next;
		if (p->rank < 0 && now_ns - p->since_ns > HELLO_MS * INT64_C(1000000)) {
			refuse(p, "no HELLO within 10 s");
		} else if (p->rank >= 0 && !p->has_table && p->patience_ns && now_ns > p->patience_ns &&
		           !r->abort_reason) {
			p->patience_ns = 0;
			send_waiting(r, p);
			break; /* a failed send may have closed others too: go on at the next tick */
		}
	}
	if (r->lost_rank >= 0 && !r->abort_reason && now_ns - r->lost_ns > LOST_MS * INT64_C(1000000)) {
		pio_str reason = PIO_STR_INIT;
		pio_str_printf(&reason, "rank %d is gone: its connection to the rendezvous broke", r->lost_rank);
		r->lost_rank = -1;
		if (r->connected) {
			tell(r, "abort", reason.data);
			abort_all(r, reason.data, NULL);
		}
		pio_str_fini(&reason);
	}
}

int pio_rendezvous_open(pio_rendezvous **rendezvous, uv_loop_t *loop, const char *host,
                        const char *token, int world, pio_rendezvous_event *event, void *context,
                        pio_err *err)
{
	int fd = -1, rc = 0;
	*rendezvous = NULL;
	pio_rendezvous *r = pio_calloc(1, sizeof *r);
	if (!r)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the rendezvous");
	*r = (pio_rendezvous){ .loop = loop, .world = world, .lost_rank = -1, .event = event,
	                       .context = context };
	r->token = pio_strdup(token);
	r->by_rank = pio_calloc((size_t)world, sizeof(peer *));
	if (!r->token || !r->by_rank)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a rendezvous of %d ranks", world);
	if (!rc)
		rc = pio_sock_listen(&fd, host, &r->port, err);
	if (rc)
		goto fail;
	uv_tcp_init(loop, &r->listener);
	uv_timer_init(loop, &r->tick);
	r->listener.data = r->tick.data = r;
	r->handles = 2;
	int e = uv_tcp_open(&r->listener, fd);
	if (e == 0)
		fd = -1;
	if (e == 0)
		e = uv_listen((uv_stream_t *)&r->listener, 1024, connected);
	if (e == 0)
		e = uv_timer_start(&r->tick, ticked, TICK_MS, TICK_MS);
	*rendezvous = r;
	if (e) {
		pio_rendezvous_close(rendezvous);
		pio_sock_close(&fd);
		return pio_fail_errno(err, -e, "listen for the rendezvous");
	}
	return 0;
fail:
	pio_free(r->token);
	pio_free(r->by_rank);
	pio_free(r);
	return rc;
}

uint16_t pio_rendezvous_port(const pio_rendezvous *rendezvous)
{
	return rendezvous->port;
}

void pio_rendezvous_abort(pio_rendezvous *rendezvous, const char *reason)
{
	abort_all(rendezvous, reason, NULL);
}

uint64_t pio_rendezvous_refused(const pio_rendezvous *rendezvous)
{
	return rendezvous->refused;
}

int pio_rendezvous_connected(const pio_rendezvous *rendezvous)
{
	return rendezvous->connected;
}

void pio_rendezvous_close(pio_rendezvous **rendezvous)
{
	pio_rendezvous *r = *rendezvous;
	*rendezvous = NULL;
	if (!r)
		return;
	r->is_closing = true;
	r->event = NULL;
	while (r->peers)
		peer_close(r->peers);
	uv_close((uv_handle_t *)&r->tick, own_handle_closed);
	uv_close((uv_handle_t *)&r->listener, own_handle_closed);
}
