#include "launch/rendezvous.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "launch/rendezvous_parts.h"
#include "sys/sock.h"

#define TICK_MS 50
#define HELLO_MS 10000           /* silence of a stranger */
#define LOST_MS 500              /* from a broken connection to the abort it causes */
#define STRANGERS_MAX 64         /* beside a world full of ranks that just connect */
#define NS_PER_MS INT64_C(1000000)

void pio_rendezvous_tell(pio_rendezvous *rendezvous, const char *kind, const char *message)
{
	if (rendezvous->event)
		rendezvous->event(rendezvous->context, kind, message);
}

/* ---- closing ------------------------------------------------------------------------------ */

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
	pio_peer *peer = (pio_peer *)handle;
	pio_rendezvous *r = peer->rendezvous;
	pio_free(peer->in);
	pio_free(peer);
	free_when_closed(r);
}

void pio_peer_close(pio_peer *peer)
{
	pio_rendezvous *r = peer->rendezvous;
	if (peer->is_closing)
		return;
	peer->is_closing = true;
	for (pio_peer **at = &r->peers; *at; at = &(*at)->next)
		if (*at == peer) {
			*at = peer->next;
			break;
		}
	if (peer->rank < 0) {
		r->strangers--;
	} else {
		r->connected--;
		r->by_rank[peer->rank] = NULL;
	}
	uv_close((uv_handle_t *)&peer->tcp, peer_closed);
}

void pio_peer_refuse(pio_peer *peer, const char *why)
{
	pio_rendezvous *r = peer->rendezvous;
	r->refused++;
	if (!r->has_told_refusal) { /* a port scanner must not fill the history */
		pio_str message = PIO_STR_INIT;
		pio_str_printf(&message, "refused a connection to the rendezvous: %s", why);
		r->has_told_refusal = true;
		pio_rendezvous_tell(r, "rendezvous", message.data);
		pio_str_fini(&message);
	}
	pio_peer_close(peer);
}

void pio_peer_lose(pio_peer *peer)
{
	pio_rendezvous *r = peer->rendezvous;
	if (peer->is_closing)
		return;
	if (peer->rank >= 0 && peer->has_table && r->lost_rank < 0) {
		r->lost_rank = peer->rank;
		r->lost_ns = pio_clock_mono_ns();
	}
	pio_peer_close(peer);
}

/* ---- sending -------------------------------------------------------------------------------- */

typedef struct outgoing {
	uv_write_t request;          /* first */
	pio_str frames;
} outgoing;

/* Errors are left to the reading side, which sees the same broken connection:
 * closing here would change by_rank under those who walk it. */
static void written(uv_write_t *request, int status)
{
	outgoing *out = (outgoing *)request;
	(void)status;
	pio_str_fini(&out->frames);
	pio_free(out);
}

void pio_peer_send(pio_peer *peer, pio_str *frames)
{
	outgoing *out = frames->failed || peer->is_closing ? NULL : pio_calloc(1, sizeof *out);
	if (out) {
		out->frames = *frames;
		*frames = (pio_str)PIO_STR_INIT;
		uv_buf_t buffer = uv_buf_init(out->frames.data, (unsigned)out->frames.len);
		if (uv_write(&out->request, (uv_stream_t *)&peer->tcp, &buffer, 1, written) == 0)
			return;
		written(&out->request, -1);
	}
	/* No answer can come: cut the connection, and the read side hears of it. */
	pio_str_fini(frames);
	uv_os_fd_t fd;
	if (!peer->is_closing && uv_fileno((uv_handle_t *)&peer->tcp, &fd) == 0)
		pio_sock_shut(fd);
}

/* ---- the loop's side --------------------------------------------------------------------------- */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	pio_peer *peer = (pio_peer *)handle;
	(void)suggested;
	if (peer->in_capacity - peer->in_bytes < 2048) {
		size_t capacity = peer->in_capacity ? 2 * peer->in_capacity : 8192;
		uint8_t *in = pio_realloc(peer->in, capacity);
		if (!in) {
			*buffer = uv_buf_init(NULL, 0); /* the read fails with UV_ENOBUFS */
			return;
		}
		peer->in = in;
		peer->in_capacity = capacity;
	}
	*buffer = uv_buf_init((char *)peer->in + peer->in_bytes,
	                      (unsigned)(peer->in_capacity - peer->in_bytes));
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	pio_peer *peer = (pio_peer *)stream;
	(void)buffer;
	if (n > 0) {
		peer->in_bytes += (size_t)n;
		pio_peer_hear(peer);
	} else if (n < 0 && peer->rank < 0) {
		pio_peer_refuse(peer, "it left without a HELLO");
	} else if (n < 0) {
		pio_peer_lose(peer);
	}
}

static void connected(uv_stream_t *listener, int status)
{
	pio_rendezvous *r = listener->data;
	if (status < 0)
		return;
	pio_peer *peer = pio_calloc(1, sizeof *peer);
	if (!peer)
		return; /* libuv stops accepting; who waits in the backlog runs into its deadline */
	peer->rendezvous = r;
	peer->rank = -1;
	peer->since_ns = pio_clock_mono_ns();
	if (uv_tcp_init(r->loop, &peer->tcp) != 0) {
		pio_free(peer);
		return;
	}
	r->handles++;
	r->strangers++;
	peer->next = r->peers;
	r->peers = peer;
	if (uv_accept(listener, (uv_stream_t *)&peer->tcp) != 0 ||
	    uv_read_start((uv_stream_t *)&peer->tcp, give_buffer, received) != 0) {
		pio_peer_close(peer);
		return;
	}
	uv_tcp_nodelay(&peer->tcp, 1);
	uv_tcp_keepalive(&peer->tcp, 1, 15);
	if (r->strangers > STRANGERS_MAX + r->world)
		pio_peer_refuse(peer, "too many connections without a HELLO");
}

/* Nobody named a better reason in the meantime. */
static void abort_for_lost(pio_rendezvous *r)
{
	pio_str reason = PIO_STR_INIT;
	pio_str_printf(&reason, "rank %d is gone: its connection to the rendezvous broke", r->lost_rank);
	r->lost_rank = -1;
	if (r->connected) {
		pio_rendezvous_tell(r, "abort", reason.data);
		pio_rendezvous_abort_but(r, reason.data, NULL);
	}
	pio_str_fini(&reason);
}

static void ticked(uv_timer_t *timer)
{
	pio_rendezvous *r = timer->data;
	int64_t now_ns = pio_clock_mono_ns();
	for (pio_peer *peer = r->peers, *next; peer; peer = next) {
		next = peer->next;
		if (peer->rank < 0 && now_ns - peer->since_ns > HELLO_MS * NS_PER_MS) {
			pio_peer_refuse(peer, "no HELLO within 10 s");
		} else if (peer->rank >= 0 && !peer->has_table && peer->patience_ns &&
		           now_ns > peer->patience_ns && !r->abort_reason) {
			peer->patience_ns = 0;
			pio_peer_tell_missing(peer);
		}
	}
	if (r->lost_rank >= 0 && !r->abort_reason && now_ns - r->lost_ns > LOST_MS * NS_PER_MS)
		abort_for_lost(r);
}

/* ---- the door ------------------------------------------------------------------------------------ */

static int serve(pio_rendezvous *r, int *fd, pio_err *err)
{
	int e;
	uv_tcp_init(r->loop, &r->listener);
	uv_timer_init(r->loop, &r->tick);
	r->listener.data = r->tick.data = r;
	r->handles = 2;
	if ((e = uv_tcp_open(&r->listener, *fd)) == 0)
		*fd = -1;
	if (e || (e = uv_listen((uv_stream_t *)&r->listener, 1024, connected)) ||
	    (e = uv_timer_start(&r->tick, ticked, TICK_MS, TICK_MS)))
		return pio_fail_errno(err, -e, "listen for the rendezvous");
	return 0;
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
	r->loop = loop;
	r->world = world;
	r->lost_rank = -1;
	r->event = event;
	r->context = context;
	r->token = pio_strdup(token);
	r->by_rank = pio_calloc((size_t)world, sizeof(pio_peer *));
	if (!r->token || !r->by_rank)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a rendezvous of %d ranks", world);
	if (!rc)
		rc = pio_sock_listen(&fd, host, &r->port, err);
	if (rc) {
		pio_free(r->token);
		pio_free(r->by_rank);
		pio_free(r);
		return rc;
	}
	rc = serve(r, &fd, err);
	pio_sock_close(&fd);
	*rendezvous = r;
	if (rc)
		pio_rendezvous_close(rendezvous);
	return rc;
}

uint16_t pio_rendezvous_port(const pio_rendezvous *rendezvous)
{
	return rendezvous->port;
}

void pio_rendezvous_abort(pio_rendezvous *rendezvous, const char *reason)
{
	pio_rendezvous_abort_but(rendezvous, reason, NULL);
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
		pio_peer_close(r->peers);
	uv_close((uv_handle_t *)&r->tick, own_handle_closed);
	uv_close((uv_handle_t *)&r->listener, own_handle_closed);
}
