#include "launch/door.h"

#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/sock.h"

#define TICK_MS 50
#define FIRST_WORD_MS 10000      /* silence of a stranger */
#define STRANGERS_MAX 256        /* beside those who are expected */
#define STRANGER_BYTES_MAX 4096u /* of a first frame: nobody unknown makes us allocate more */
#define NS_PER_MS INT64_C(1000000)

struct pio_guest {
	union {                      /* first: the handle is the guest */
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} uv;
	pio_door *door;
	TAILQ_ENTRY(pio_guest) others;
	uint8_t *in;                 /* bytes of frames that are not whole yet */
	size_t in_bytes, in_capacity;
	int index;                   /* -1: a stranger */
	bool is_closing;
	int64_t since_ns;            /* monotonic */
};

TAILQ_HEAD(guests, pio_guest);

struct pio_door {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} listener;
	uv_timer_t tick;
	uv_loop_t *loop;
	struct guests strangers, known;
	int stranger_count, stranger_max;
	uint64_t refused;
	bool is_local, is_closing, has_told_refusal;
	int handles;                 /* of libuv that are not closed yet */
	const char *what;
	pio_door_owner owner;
};

bool pio_token_matches(const char *expected, const char *got)
{
	size_t n = strlen(expected), got_bytes = strlen(got);
	unsigned difference = got_bytes != n;
	for (size_t i = 0; i < n; i++)
		difference |= (unsigned char)expected[i] ^ (unsigned char)(got_bytes == n ? got[i] : 0);
	return difference == 0;
}

/* ---- closing ------------------------------------------------------------------------------ */

static void free_when_closed(pio_door *door)
{
	if (--door->handles == 0 && door->is_closing)
		pio_free(door);
}

static void own_handle_closed(uv_handle_t *handle)
{
	free_when_closed(handle->data);
}

static void guest_closed(uv_handle_t *handle)
{
	pio_guest *guest = (pio_guest *)handle;
	pio_door *door = guest->door;
	pio_free(guest->in);
	pio_free(guest);
	free_when_closed(door);
}

static void leave_list(pio_guest *guest)
{
	pio_door *door = guest->door;
	if (guest->index < 0) {
		TAILQ_REMOVE(&door->strangers, guest, others);
		door->stranger_count--;
	} else {
		TAILQ_REMOVE(&door->known, guest, others);
	}
}

void pio_guest_close(pio_guest *guest)
{
	if (guest->is_closing)
		return;
	guest->is_closing = true;
	leave_list(guest);
	uv_close(&guest->uv.handle, guest_closed);
}

void pio_guest_refuse(pio_guest *guest, const char *why)
{
	pio_door *door = guest->door;
	if (guest->is_closing)
		return;
	door->refused++;
	if (!door->has_told_refusal) { /* a port scanner must not fill the history */
		pio_str message = PIO_STR_INIT;
		pio_str_printf(&message, "refused a connection to %s: %s", door->what, why);
		door->has_told_refusal = true;
		door->owner.tell(door->owner.context, "rendezvous", message.data);
		pio_str_fini(&message);
	}
	pio_guest_close(guest);
}

static void lose(pio_guest *guest)
{
	pio_door *door = guest->door;
	if (guest->is_closing)
		return;
	door->owner.lost(door->owner.context, guest);
	pio_guest_close(guest);
}

void pio_guest_admit(pio_guest *guest, int index)
{
	leave_list(guest);
	guest->index = index;
	TAILQ_INSERT_TAIL(&guest->door->known, guest, others);
}

int pio_guest_index(const pio_guest *guest)
{
	return guest->index;
}

/* ---- sending -------------------------------------------------------------------------------- */

typedef struct outgoing {
	uv_write_t request;          /* first */
	pio_str frames;
} outgoing;

/* Errors are left to the reading side, which sees the same broken connection:
 * closing here would change the owner's tables under those who walk them. */
static void written(uv_write_t *request, int status)
{
	outgoing *out = (outgoing *)request;
	(void)status;
	pio_str_fini(&out->frames);
	pio_free(out);
}

void pio_guest_send(pio_guest *guest, pio_str *frames)
{
	outgoing *out = frames->failed || guest->is_closing ? NULL : pio_calloc(1, sizeof *out);
	if (out) {
		out->frames = *frames;
		*frames = (pio_str)PIO_STR_INIT;
		uv_buf_t buffer = uv_buf_init(out->frames.data, (unsigned)out->frames.len);
		if (uv_write(&out->request, &guest->uv.stream, &buffer, 1, written) == 0)
			return;
		written(&out->request, -1);
	}
	/* No answer can come: cut the connection, and the read side hears of it. */
	pio_str_fini(frames);
	uv_os_fd_t fd;
	if (!guest->is_closing && uv_fileno(&guest->uv.handle, &fd) == 0)
		pio_sock_shut(fd);
}

/* ---- the loop's side --------------------------------------------------------------------------- */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	pio_guest *guest = (pio_guest *)handle;
	(void)suggested;
	if (guest->in_capacity - guest->in_bytes < 1024) {
		size_t capacity = guest->in_capacity ? 2 * guest->in_capacity : 4096;
		uint8_t *in = pio_realloc(guest->in, capacity);
		if (!in) {
			*buffer = uv_buf_init(NULL, 0); /* the read fails with UV_ENOBUFS */
			return;
		}
		guest->in = in;
		guest->in_capacity = capacity;
	}
	*buffer = uv_buf_init((char *)guest->in + guest->in_bytes,
	                      (unsigned)(guest->in_capacity - guest->in_bytes));
}

/* Act on the whole frames of the buffer and take them out of it. */
static void hear(pio_guest *guest)
{
	pio_door *door = guest->door;
	size_t at = 0, used = 0;
	pio_frame frame;
	int rc = 0;
	while (!guest->is_closing &&
	       (rc = pio_frame_next(&frame, &used, guest->in + at, guest->in_bytes - at, NULL)) == 1) {
		door->owner.hear(door->owner.context, guest, &frame);
		at += used;
	}
	if (guest->is_closing)
		return;
	if (rc < 0) {
		if (guest->index < 0)
			pio_guest_refuse(guest, "a frame of an impossible length");
		else
			lose(guest);
		return;
	}
	memmove(guest->in, guest->in + at, guest->in_bytes - at);
	guest->in_bytes -= at;
	if (guest->index < 0 && guest->in_bytes > STRANGER_BYTES_MAX)
		pio_guest_refuse(guest, "a first frame of an impossible length");
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	pio_guest *guest = (pio_guest *)stream;
	(void)buffer;
	if (n > 0) {
		guest->in_bytes += (size_t)n;
		hear(guest);
	} else if (n < 0 && guest->index < 0) {
		pio_guest_refuse(guest, "it left without a word");
	} else if (n < 0) {
		lose(guest);
	}
}

static int open_guest(pio_door *door, pio_guest *guest)
{
	return door->is_local ? uv_pipe_init(door->loop, &guest->uv.pipe, 0)
	                      : uv_tcp_init(door->loop, &guest->uv.tcp);
}

static bool is_same_user(const pio_guest *guest)
{
	uv_os_fd_t fd;
	return uv_fileno(&guest->uv.handle, &fd) == 0 && pio_sock_is_same_user(fd);
}

static void connected(uv_stream_t *listener, int status)
{
	pio_door *door = listener->data;
	if (status < 0)
		return;
	pio_guest *guest = pio_calloc(1, sizeof *guest);
	if (!guest)
		return; /* libuv stops accepting; who waits in the backlog runs into its deadline */
	guest->door = door;
	guest->index = -1;
	guest->since_ns = pio_clock_mono_ns();
	if (open_guest(door, guest) != 0) {
		pio_free(guest);
		return;
	}
	door->handles++;
	door->stranger_count++;
	TAILQ_INSERT_TAIL(&door->strangers, guest, others);
	if (uv_accept(listener, &guest->uv.stream) != 0 ||
	    uv_read_start(&guest->uv.stream, give_buffer, received) != 0) {
		pio_guest_close(guest);
		return;
	}
	if (door->is_local && !is_same_user(guest)) {
		pio_guest_refuse(guest, "a process of another user");
		return;
	}
	if (!door->is_local) {
		uv_tcp_nodelay(&guest->uv.tcp, 1);
		uv_tcp_keepalive(&guest->uv.tcp, 1, 15);
	}
	if (door->stranger_count > door->stranger_max)
		pio_guest_refuse(TAILQ_FIRST(&door->strangers), "too many connections that say nothing");
}

static void ticked(uv_timer_t *timer)
{
	pio_door *door = timer->data;
	int64_t limit_ns = pio_clock_mono_ns() - FIRST_WORD_MS * NS_PER_MS;
	pio_guest *oldest;
	while ((oldest = TAILQ_FIRST(&door->strangers)) && oldest->since_ns < limit_ns)
		pio_guest_refuse(oldest, "no word within 10 s");
	door->owner.tick(door->owner.context);
}

/* ---- the door ------------------------------------------------------------------------------------ */

static bool is_local(int fd)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	return getsockname(fd, (struct sockaddr *)&name, &length) == 0 && name.ss_family == AF_UNIX;
}

static int serve(pio_door *door, int *fd, pio_err *err)
{
	int e;
	if (door->is_local)
		uv_pipe_init(door->loop, &door->listener.pipe, 0);
	else
		uv_tcp_init(door->loop, &door->listener.tcp);
	uv_timer_init(door->loop, &door->tick);
	door->listener.handle.data = door->tick.data = door;
	door->handles = 2;
	e = door->is_local ? uv_pipe_open(&door->listener.pipe, *fd) : uv_tcp_open(&door->listener.tcp, *fd);
	if (!e)
		*fd = -1;
	if (e || (e = uv_listen(&door->listener.stream, 1024, connected)) ||
	    (e = uv_timer_start(&door->tick, ticked, TICK_MS, TICK_MS)))
		return pio_fail_errno(err, -e, "listen for %s", door->what);
	return 0;
}

int pio_door_open(pio_door **door_out, uv_loop_t *loop, int *listen_fd, const char *what, int expected,
                  const pio_door_owner *owner, pio_err *err)
{
	pio_door *door = pio_calloc(1, sizeof *door);
	*door_out = NULL;
	if (!door)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %s", what);
	door->loop = loop;
	door->what = what;
	door->stranger_max = STRANGERS_MAX + expected;
	door->owner = *owner;
	door->is_local = is_local(*listen_fd);
	TAILQ_INIT(&door->strangers);
	TAILQ_INIT(&door->known);
	int rc = serve(door, listen_fd, err);
	*door_out = door;
	if (rc)
		pio_door_close(door_out);
	return rc;
}

uint64_t pio_door_refused(const pio_door *door)
{
	return door->refused;
}

void pio_door_close(pio_door **door_in)
{
	pio_door *door = *door_in;
	*door_in = NULL;
	if (!door)
		return;
	door->is_closing = true;
	while (!TAILQ_EMPTY(&door->strangers))
		pio_guest_close(TAILQ_FIRST(&door->strangers));
	while (!TAILQ_EMPTY(&door->known))
		pio_guest_close(TAILQ_FIRST(&door->known));
	uv_close((uv_handle_t *)&door->tick, own_handle_closed);
	uv_close(&door->listener.handle, own_handle_closed);
}
