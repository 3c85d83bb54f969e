#include "launch/join.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/env.h"
#include "sys/sock.h"

#define NS_PER_MS INT64_C(1000000)
#define CONNECT_MS 60000     /* the head listens before it starts anybody */
#define ORDERS_MS 3600000    /* the head gives up long before */
#define AGAIN_MS 200
#define SPEAK_MS 20000
#define CLOCK_PINGS 3

void pio_head_clock_read(pio_head_clock *clock, int64_t sent_ns, int64_t head_ns, int64_t now_ns)
{
	int64_t doubt_ns = (now_ns - sent_ns) / 2 + 1;
	if (sent_ns > now_ns || (clock->doubt_ns && clock->doubt_ns <= doubt_ns))
		return;
	clock->doubt_ns = doubt_ns;
	clock->offset_ns = head_ns - (sent_ns + (now_ns - sent_ns) / 2);
}

/* ---- who and where ----------------------------------------------------------------------- */

static int read_place(uint32_t *place, pio_err *err)
{
	static const char *const names[] = { PIO_ENV_NODE, "SLURM_NODEID" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *text = getenv(names[i]);
		char *end;
		if (!text)
			continue;
		unsigned long value = strtoul(text, &end, 10);
		if (!*text || *end || value > UINT16_MAX)
			return pio_fail(err, PIO_EINVAL, "%s=\"%s\" in the environment: the number of this node"
			                " expected", names[i], text);
		*place = (uint32_t)value;
		return 0;
	}
	return pio_fail(err, PIO_EINVAL, "neither %s nor SLURM_NODEID in the environment says which node this is",
	                PIO_ENV_NODE);
}

static int read_environment(pio_joined *joined, pio_err *err)
{
	const char *token = getenv(PIO_ENV_TOKEN), *host = getenv("SLURMD_NODENAME");
	int rc = pio_frame_address_parse(&joined->head, getenv(PIO_ENV_RENDEZVOUS), PIO_ENV_RENDEZVOUS, err);
	if (!rc)
		rc = read_place(&joined->self.place, err);
	if (rc)
		return rc;
	if (!token || strlen(token) >= sizeof joined->self.token)
		return pio_fail(err, PIO_EINVAL, "%s is not in the environment: only a head starts agents that join",
		                PIO_ENV_TOKEN);
	memcpy(joined->self.token, token, strlen(token) + 1);
	if (host && strlen(host) < sizeof joined->self.host)
		memcpy(joined->self.host, host, strlen(host) + 1);
	else
		gethostname(joined->self.host, sizeof joined->self.host - 1);
	return 0;
}

/* The network that leads to the head is the one that ranks use. */
static int own_address(pio_joined *joined, pio_err *err)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	char *address = joined->self.address;
	if (getsockname(joined->fd, (struct sockaddr *)&name, &length) != 0)
		return pio_fail_errno(err, errno, "cannot tell the own address");
	int e = getnameinfo((struct sockaddr *)&name, length, address, sizeof joined->self.address, NULL, 0,
	                    NI_NUMERICHOST);
	return e ? pio_fail(err, PIO_EIO, "cannot tell the own address: %s", gai_strerror(e)) : 0;
}

/* Rank 0 may come to run here: a port for it that is surely free. Somebody may take
 * it before the rank binds it again; nothing can hold it for a program it does not know. */
static int hold_port(pio_joined *joined, pio_err *err)
{
	uint16_t port = 0;
	if (joined->self.is_keeper || joined->master_fd >= 0)
		return 0;
	int rc = pio_sock_listen(&joined->master_fd, joined->self.address, &port, err);
	joined->self.port = port;
	return rc;
}

/* ---- talking -------------------------------------------------------------------------------- */

static int send_frames(int fd, pio_str *frames, int64_t deadline_ns, pio_err *err)
{
	int rc = pio_str_check(frames, err);
	if (!rc)
		rc = pio_sock_send(fd, frames->data, frames->len, deadline_ns, err);
	pio_str_fini(frames);
	return rc;
}

static int greet(pio_joined *joined, pio_err *err)
{
	pio_str frames = PIO_STR_INIT;
	int64_t deadline_ns = pio_clock_mono_ns() + CONNECT_MS * NS_PER_MS;
	int rc = pio_sock_connect(&joined->fd, joined->head.host, joined->head.port, deadline_ns, err);
	if (rc) {
		pio_err_context(err, "cannot reach the head");
		return rc;
	}
	rc = own_address(joined, err);
	if (!rc)
		rc = hold_port(joined, err);
	if (rc)
		return rc;
	pio_frame_put_join(&frames, &joined->self);
	if (!joined->self.is_keeper)
		pio_frame_put_ping(&frames, pio_clock_mono_ns());
	return send_frames(joined->fd, &frames, deadline_ns, err);
}

/* Append what comes to the inbox; -PIO_EPEER at the end of the stream. */
static int read_more(pio_joined *joined, int64_t deadline_ns, pio_err *err)
{
	char bytes[4096];
	struct pollfd entry = { .fd = joined->fd, .events = POLLIN };
	for (;;) {
		ssize_t n = recv(joined->fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (n > 0) {
			pio_str_append(&joined->in, bytes, (size_t)n);
			return pio_str_check(&joined->in, err);
		}
		if (n == 0)
			return pio_fail(err, PIO_EPEER, "the head closed the connection");
		if (errno != EAGAIN && errno != EINTR)
			return pio_fail(err, PIO_EPEER, "the connection to the head broke: %s", strerror(errno));
		int64_t left_ms = (deadline_ns - pio_clock_mono_ns()) / NS_PER_MS;
		if (left_ms <= 0)
			return pio_fail(err, PIO_ETIMEOUT, "the head gave no orders within %d minutes",
			                ORDERS_MS / 60000);
		(void)poll(&entry, 1, left_ms > 60000 ? 60000 : (int)left_ms);
	}
}

static int hear_pong(pio_joined *joined, const pio_frame *frame, int *pings, pio_err *err)
{
	int64_t sent_ns, head_ns, now_ns = pio_clock_mono_ns();
	pio_str ping = PIO_STR_INIT;
	int rc = pio_frame_get_pong(&sent_ns, &head_ns, frame, err);
	if (rc)
		return rc;
	pio_head_clock_read(&joined->clock, sent_ns, head_ns, now_ns);
	if (++*pings >= CLOCK_PINGS)
		return 0;
	pio_frame_put_ping(&ping, pio_clock_mono_ns());
	return send_frames(joined->fd, &ping, now_ns + CONNECT_MS * NS_PER_MS, err);
}

/* 1: these are the orders, none where this agent is not needed; 0: go on; or an error. */
static int hear(pio_joined *joined, const pio_frame *frame, int *pings, pio_err *err)
{
	char text[PIO_ERR_MESSAGE_BYTES / 2];
	const char *json;
	size_t json_bytes;
	int rc = 0;
	switch (frame->type) {
	case PIO_FRAME_PONG:
		return hear_pong(joined, frame, pings, err);
	case PIO_FRAME_REFUSED:
		rc = pio_frame_get_text(text, sizeof text, frame, err);
		return rc ? rc : pio_fail(err, PIO_EINVAL, "the head refused this agent: %s", text);
	case PIO_FRAME_ORDERS:
		rc = pio_frame_get_bytes(&json, &json_bytes, frame, err);
		if (!rc)
			pio_str_append(&joined->orders, json, json_bytes);
		rc = rc ? rc : pio_str_check(&joined->orders, err);
		return rc ? rc : 1;
	case PIO_FRAME_ORDER:
		return 1;
	default:
		return 0;
	}
}

static int wait_orders(pio_joined *joined, pio_err *err)
{
	int64_t deadline_ns = pio_clock_mono_ns() + ORDERS_MS * NS_PER_MS;
	int rc = 0, pings = 0;
	while (rc == 0) {
		pio_frame frame;
		size_t used = 0;
		rc = pio_frame_next(&frame, &used, joined->in.data, joined->in.len, err);
		if (rc == 0) {
			rc = read_more(joined, deadline_ns, err);
		} else if (rc == 1) {
			rc = hear(joined, &frame, &pings, err);
			memmove(joined->in.data, joined->in.data + used, joined->in.len - used);
			joined->in.len -= used;
		}
	}
	return rc < 0 ? rc : 0;
}

int pio_join(pio_joined *joined, pio_err *err)
{
	*joined = (pio_joined){ .fd = -1, .master_fd = -1, .orders = PIO_STR_INIT, .in = PIO_STR_INIT };
	int rc = read_environment(joined, err);
	if (rc)
		return rc;
	int64_t deadline_ns = pio_clock_mono_ns() + CONNECT_MS * NS_PER_MS;
	do {
		pio_sock_close(&joined->fd);
		pio_str_clear(&joined->in);
		rc = greet(joined, err);
		if (!rc)
			rc = wait_orders(joined, err);
		if (rc == -PIO_EPEER)
			pio_clock_sleep_ms(AGAIN_MS);
	} while (rc == -PIO_EPEER && pio_clock_mono_ns() < deadline_ns);
	pio_sock_close(&joined->master_fd); /* rank 0 binds it now */
	return rc;
}

int pio_join_speak_for(pio_joined *joined, const char *event, pio_err *err)
{
	int64_t deadline_ns = pio_clock_mono_ns() + SPEAK_MS * NS_PER_MS;
	pio_str frame = PIO_STR_INIT;
	pio_sock_close(&joined->fd);
	pio_str_clear(&joined->in);
	joined->self.is_keeper = 1;
	joined->self.port = 0;
	int rc = greet(joined, err);
	pio_frame_put_bytes(&frame, PIO_FRAME_EVENT, event, strlen(event));
	if (!rc)
		rc = send_frames(joined->fd, &frame, deadline_ns, err);
	pio_str_fini(&frame);
	if (rc)
		return rc;
	shutdown(joined->fd, SHUT_WR);
	while ((rc = read_more(joined, deadline_ns, err)) == 0)
		pio_str_clear(&joined->in);
	return rc == -PIO_EPEER ? 0 : rc; /* the end that was waited for */
}

void pio_join_fini(pio_joined *joined)
{
	pio_sock_close(&joined->fd);
	pio_str_fini(&joined->orders);
	pio_str_fini(&joined->in);
}
