#include "client/comm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/env.h"
#include "client/frame.h"
#include "sys/sock.h"

#define NS_PER_MS 1000000LL
#define CULPRIT_MS 3000      /* how long a lost neighbour may stay unexplained */
#define STRANGER_MS 1000     /* within which a connection must say who it is */
#define SLICE_MS 200
#define BYE_MS 1000

typedef struct joining {
	int64_t deadline_ns;
	int timeout_ms;
	int listen_fd;
	const char *token;
	pio_frame_address next;
} joining;

static int poll_two(int a, int b, int64_t deadline_ns)
{
	struct pollfd fds[2] = { { .fd = a, .events = POLLIN }, { .fd = b, .events = POLLIN } };
	int64_t left_ms = (deadline_ns - pio_clock_mono_ns()) / NS_PER_MS + 1;
	if (left_ms < 0)
		left_ms = 0;
	return poll(fds, 2, left_ms > SLICE_MS ? SLICE_MS : (int)left_ms);
}

/* ---- the head --------------------------------------------------------------- */

static int read_head(pio_comm *comm, pio_err *err)
{
	char bytes[4096];
	for (;;) {
		ssize_t n = recv(comm->head_fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (n > 0) {
			pio_str_append(&comm->inbox, bytes, (size_t)n);
			if (pio_str_check(&comm->inbox, err))
				return -PIO_ENOMEM;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		return pio_fail(err, PIO_EPEER, "the agent is gone: its connection broke");
	}
}

/* The next frame that has come, if any: 1, 0 or an error. *used is what to
 * take out of the inbox afterwards. */
static int next_frame(pio_comm *comm, pio_frame *frame, size_t *used, pio_err *err)
{
	char text[PIO_ERR_MESSAGE_BYTES / 2];
	int rc = pio_frame_next(frame, used, comm->inbox.data, comm->inbox.len, err);
	if (rc != 1 || frame->type != PIO_FRAME_ABORT)
		return rc;
	rc = pio_frame_get_text(text, sizeof text, frame, err);
	return rc ? rc : pio_fail(err, PIO_EPEER, "%s", text);
}

static void drop_frame(pio_comm *comm, size_t used)
{
	memmove(comm->inbox.data, comm->inbox.data + used, comm->inbox.len - used);
	comm->inbox.len -= used;
}

/* What somebody will ask for: others may be ahead of this rank. */
static void keep(pio_comm *comm, const pio_frame *frame, size_t used)
{
	if (frame->type == PIO_FRAME_MEET)
		comm->releases++;
	else if (frame->type == PIO_FRAME_SHARE)
		pio_str_append(&comm->shared, comm->inbox.data, used);
}

int pio_comm_listen(pio_comm *comm, pio_err *err)
{
	pio_frame frame;
	size_t used;
	/* What was sent before the connection broke says more than its breaking. */
	pio_err gone = PIO_ERR_INIT;
	int lost = read_head(comm, &gone), rc;
	while ((rc = next_frame(comm, &frame, &used, err)) == 1) {
		keep(comm, &frame, used);
		drop_frame(comm, used);
	}
	if (rc == 0 && lost && err)
		*err = gone;
	return rc ? rc : lost;
}

int pio_comm_lost(pio_comm *comm, int peer, pio_err *err)
{
	int64_t deadline_ns = pio_clock_mono_ns() + CULPRIT_MS * NS_PER_MS;
	while (pio_clock_mono_ns() < deadline_ns) {
		poll_two(comm->head_fd, -1, deadline_ns);
		int rc = pio_comm_listen(comm, err);
		if (rc)
			return rc;
	}
	return pio_fail(err, PIO_EPEER, "rank %d is gone: its connection to rank %d broke", peer,
	                comm->rank);
}

int pio_comm_break(pio_comm *comm, const pio_err *err)
{
	if (!comm->broken.code) {
		comm->broken = *err;
		if (err->code == PIO_EPEER)
			pio_ring_mark_secondary(comm->run->ring);
	}
	return -comm->broken.code;
}

static int send_frame(int fd, pio_str *frame, int64_t deadline_ns, pio_err *err)
{
	int rc = pio_str_check(frame, err);
	if (!rc)
		rc = pio_sock_send(fd, frame->data, frame->len, deadline_ns, err);
	pio_str_fini(frame);
	return rc;
}

/* ---- through the rendezvous ----------------------------------------------------- */

static int wait_for(pio_comm *comm, bool (*is_there)(const pio_comm *comm), const char *what,
                    int64_t deadline_ns, pio_err *err)
{
	while (!is_there(comm)) {
		if (pio_clock_mono_ns() >= deadline_ns)
			return pio_fail(err, PIO_ETIMEOUT, "rank %d waited in vain for %s", comm->rank, what);
		poll_two(comm->head_fd, -1, deadline_ns);
		int rc = pio_comm_listen(comm, err);
		if (!rc)
			rc = pio_str_check(&comm->shared, err);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_released(const pio_comm *comm)
{
	return comm->releases > 0;
}

static bool has_share(const pio_comm *comm)
{
	return comm->shared.len > 0;
}

int pio_comm_meet(pio_comm *comm, int64_t deadline_ns, pio_err *err)
{
	pio_str frame = PIO_STR_INIT;
	if (comm->world == 1)
		return 0;
	pio_frame_put_plain(&frame, PIO_FRAME_MEET);
	int rc = send_frame(comm->head_fd, &frame, deadline_ns, err);
	if (!rc)
		rc = wait_for(comm, is_released, "the other ranks", deadline_ns, err);
	comm->releases -= rc == 0;
	return rc;
}

/* The oldest share goes out of the queue, and must be what is expected. */
static int take_share(pio_comm *comm, void *data, size_t size_bytes, pio_err *err)
{
	pio_frame frame;
	const char *bytes = NULL;
	size_t used = 0, shared_bytes = 0;
	int rc = pio_frame_next(&frame, &used, comm->shared.data, comm->shared.len, err);
	if (rc == 1)
		rc = pio_frame_get_bytes(&bytes, &shared_bytes, &frame, err);
	if (!rc && shared_bytes != size_bytes)
		rc = pio_fail(err, PIO_EINVAL, "ranks disagree: %zu bytes were shared, rank %d expected %zu",
		              shared_bytes, comm->rank, size_bytes);
	if (!rc)
		memcpy(data, bytes, size_bytes);
	memmove(comm->shared.data, comm->shared.data + used, comm->shared.len - used);
	comm->shared.len -= used;
	return rc;
}

int pio_comm_share(pio_comm *comm, void *data, size_t size_bytes, int root, int64_t deadline_ns,
                   pio_err *err)
{
	pio_str frame = PIO_STR_INIT;
	int rc = 0;
	if (comm->world == 1)
		return 0;
	if (size_bytes > PIO_COMM_SHARE_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "a share of %zu bytes: at most %u expected", size_bytes,
		                PIO_COMM_SHARE_BYTES_MAX);
	if (comm->rank == root) {
		pio_frame_put_bytes(&frame, PIO_FRAME_SHARE, data, size_bytes);
		rc = send_frame(comm->head_fd, &frame, deadline_ns, err);
	}
	if (!rc)
		rc = wait_for(comm, has_share, "what a rank was to share", deadline_ns, err);
	return rc ? rc : take_share(comm, data, size_bytes, err);
}

/* ---- joining ---------------------------------------------------------------- */

static int listen_for_neighbour(joining *j, pio_frame_address *address, pio_err *err)
{
	const char *host = getenv(PIO_ENV_ADDRESS);
	if (!host || !*host || strlen(host) >= sizeof address->host)
		return pio_fail(err, PIO_EINVAL, "%s is not in the environment: only an agent starts programs of"
		                " several ranks", PIO_ENV_ADDRESS);
	memcpy(address->host, host, strlen(host) + 1);
	address->port = 0;
	return pio_sock_listen(&j->listen_fd, host, &address->port, err);
}

static void fill_hello(pio_frame_hello *hello, const pio_comm *comm, const joining *j)
{
	memset(hello, 0, sizeof *hello);
	snprintf(hello->token, sizeof hello->token, "%s", j->token);
	hello->rank = (uint32_t)comm->rank;
	hello->world = (uint32_t)comm->world;
}

static int wait_next(pio_comm *comm, joining *j, pio_err *err)
{
	char text[PIO_ERR_MESSAGE_BYTES / 2];
	while (pio_clock_mono_ns() < j->deadline_ns) {
		pio_frame frame;
		size_t used;
		pio_err gone = PIO_ERR_INIT;
		poll_two(comm->head_fd, -1, j->deadline_ns);
		int lost = read_head(comm, &gone), rc;
		while ((rc = next_frame(comm, &frame, &used, err)) == 1) {
			if (frame.type == PIO_FRAME_NEXT) {
				rc = pio_frame_get_next(&j->next, &frame, err);
				drop_frame(comm, used);
				return rc;
			}
			if (frame.type == PIO_FRAME_WAITING) {
				rc = pio_frame_get_text(text, sizeof text, &frame, err);
				return rc ? rc : pio_fail(err, PIO_ETIMEOUT, "not all ranks came within %d ms: %s",
				                          j->timeout_ms, text);
			}
			drop_frame(comm, used);
		}
		if (rc)
			return rc;
		if (lost)
			return pio_fail(err, PIO_EPEER, "the agent closed the connection: it refused this "
			                "rank's token, or it is gone");
	}
	return pio_fail(err, PIO_ETIMEOUT, "not all ranks came within %d ms", j->timeout_ms);
}

static int meet_head(pio_comm *comm, joining *j, pio_err *err)
{
	pio_frame_hello hello;
	pio_str frame = PIO_STR_INIT;
	const char *name = getenv(PIO_ENV_RENDEZVOUS);
	int rc = pio_sock_connect_local(&comm->head_fd, name ? name : "", j->deadline_ns, err);
	if (rc) {
		pio_err_context(err, "cannot reach the rendezvous that %s names", PIO_ENV_RENDEZVOUS);
		return rc;
	}
	fill_hello(&hello, comm, j);
	rc = listen_for_neighbour(j, &hello.address, err);
	if (rc)
		return rc;
	int64_t left_ms = (j->deadline_ns - pio_clock_mono_ns()) / NS_PER_MS;
	hello.patience_ms = left_ms > 0 ? (uint32_t)left_ms : 1;
	pio_frame_put_hello(&frame, &hello);
	rc = send_frame(comm->head_fd, &frame, j->deadline_ns, err);
	return rc ? rc : wait_next(comm, j, err);
}

static int connect_next(pio_comm *comm, joining *j, pio_err *err)
{
	const pio_frame_address *to = &j->next;
	pio_frame_hello hello;
	pio_str frame = PIO_STR_INIT;
	int rc = -PIO_ETIMEOUT;
	while (rc == -PIO_ETIMEOUT) {
		int64_t now_ns = pio_clock_mono_ns(), slice_ns = now_ns + SLICE_MS * NS_PER_MS;
		rc = pio_sock_connect(&comm->next_fd, to->host, to->port,
		                      slice_ns < j->deadline_ns ? slice_ns : j->deadline_ns, err);
		if (rc == -PIO_ETIMEOUT && now_ns >= j->deadline_ns)
			break;
		int aborted = rc ? pio_comm_listen(comm, err) : 0;
		rc = aborted ? aborted : rc;
	}
	if (rc) {
		if (rc != -PIO_EPEER)
			pio_err_context(err, "cannot reach rank %d", (comm->rank + 1) % comm->world);
		return rc;
	}
	fill_hello(&hello, comm, j);
	pio_frame_put_hello(&frame, &hello);
	return send_frame(comm->next_fd, &frame, j->deadline_ns, err);
}

/* True if the connection's first frame is the HELLO of the previous rank. */
static bool is_previous(const pio_comm *comm, const joining *j, int fd)
{
	uint8_t bytes[512];
	uint32_t length;
	size_t used;
	pio_frame frame;
	pio_frame_hello hello;
	int64_t deadline_ns = pio_clock_mono_ns() + STRANGER_MS * NS_PER_MS;
	if (pio_sock_recv(fd, bytes, sizeof length, deadline_ns, NULL) != 0)
		return false;
	memcpy(&length, bytes, sizeof length);
	if (length > sizeof bytes - sizeof length ||
	    pio_sock_recv(fd, bytes + sizeof length, length, deadline_ns, NULL) != 0 ||
	    pio_frame_next(&frame, &used, bytes, sizeof length + length, NULL) != 1 ||
	    pio_frame_get_hello(&hello, &frame, NULL) != 0)
		return false;
	return strcmp(hello.token, j->token) == 0 && (int)hello.world == comm->world &&
	       (int)hello.rank == (comm->rank + comm->world - 1) % comm->world;
}

static int accept_previous(pio_comm *comm, joining *j, pio_err *err)
{
	while (pio_clock_mono_ns() < j->deadline_ns) {
		int fd;
		poll_two(j->listen_fd, comm->head_fd, j->deadline_ns);
		int rc = pio_comm_listen(comm, err);
		if (rc)
			return rc;
		rc = pio_sock_accept(&fd, j->listen_fd, 0, err);
		if (rc == -PIO_ETIMEOUT)
			continue;
		if (rc)
			return rc;
		if (is_previous(comm, j, fd)) {
			comm->prev_fd = fd;
			return 0;
		}
		pio_sock_close(&fd);
	}
	return pio_fail(err, PIO_ETIMEOUT, "rank %d did not connect within %d ms",
	                (comm->rank + comm->world - 1) % comm->world, j->timeout_ms);
}

static int join(pio_comm *comm, int timeout_ms, pio_err *err)
{
	joining j = { .deadline_ns = pio_clock_mono_ns() + timeout_ms * NS_PER_MS,
	              .timeout_ms = timeout_ms, .listen_fd = -1, .token = getenv(PIO_ENV_TOKEN) };
	if (!j.token || !*j.token || strlen(j.token) >= PIO_FRAME_TOKEN_BYTES)
		return pio_fail(err, PIO_EINVAL, "%s is not in the environment: only an agent starts programs "
		                "of %d ranks", PIO_ENV_TOKEN, comm->world);
	comm->scratch = pio_alloc(PIO_COMM_SCRATCH_BYTES);
	int rc = comm->scratch ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a communicator");
	if (!rc)
		rc = meet_head(comm, &j, err);
	if (!rc)
		rc = connect_next(comm, &j, err);
	if (!rc)
		rc = accept_previous(comm, &j, err);
	pio_sock_close(&j.listen_fd);
	return rc;
}

static void free_comm(pio_comm *comm)
{
	pio_sock_close(&comm->head_fd);
	pio_sock_close(&comm->next_fd);
	pio_sock_close(&comm->prev_fd);
	pio_str_fini(&comm->inbox);
	pio_str_fini(&comm->shared);
	pio_free(comm->scratch);
	pio_free(comm);
}

int pio_comm_init(pio_comm **comm_out, pio_run *run, int timeout_ms)
{
	pio_err *err = pio_last_err();
	if (!comm_out)
		return pio_fail(err, PIO_EINVAL, "pio_comm_init: where to put the communicator is NULL");
	*comm_out = NULL;
	if (timeout_ms < 1)
		return pio_fail(err, PIO_EINVAL, "timeout of %d ms: at least 1 expected", timeout_ms);
	pio_comm *comm = pio_calloc(1, sizeof *comm);
	if (!comm)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a communicator");
	const pio_info *info = pio_info_get(run);
	*comm = (pio_comm){ .run = run, .rank = info->rank, .world = info->world, .head_fd = -1,
	                    .next_fd = -1, .prev_fd = -1, .inbox = PIO_STR_INIT, .shared = PIO_STR_INIT };
	int rc = comm->world > 1 ? join(comm, timeout_ms, err) : 0;
	if (rc) {
		if (err->code == PIO_EPEER)
			pio_ring_mark_secondary(run->ring);
		free_comm(comm);
		return rc;
	}
	*comm_out = comm;
	return 0;
}

/* ---- groups ------------------------------------------------------------------ */

/* What a rank tells all others, as floats: their sum with the zeros of the others
 * is what was told. */
typedef struct member {
	float color, port;
	float host[PIO_FRAME_HOST_BYTES];
} member;

static void fill_member(member *own, int color, const pio_frame_address *address)
{
	own->color = (float)color;
	own->port = (float)address->port;
	for (size_t i = 0; address->host[i]; i++)
		own->host[i] = (float)(uint8_t)address->host[i];
}

/* The ring of those with this rank's color. */
static void line_up(pio_comm *group, joining *j, const member *all, const pio_comm *parent)
{
	const member *own = &all[parent->rank];
	int next = parent->rank;
	for (int i = 0; i < parent->world; i++) {
		group->world += all[i].color == own->color;
		group->rank += all[i].color == own->color && i < parent->rank;
	}
	do
		next = (next + 1) % parent->world;
	while (all[next].color != own->color);
	j->next.port = (uint16_t)all[next].port;
	for (size_t i = 0; i < sizeof j->next.host; i++)
		j->next.host[i] = (char)(uint8_t)all[next].host[i];
}

static int join_group(pio_comm *group, joining *j, pio_comm *parent, int color, pio_err *err)
{
	pio_frame_address address = { .port = 0 };
	member *all = pio_calloc((size_t)parent->world, sizeof *all);
	group->scratch = pio_alloc(PIO_COMM_SCRATCH_BYTES);
	int rc = all && group->scratch ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a group");
	if (!rc)
		rc = listen_for_neighbour(j, &address, err);
	if (!rc) {
		fill_member(&all[parent->rank], color, &address);
		rc = pio_comm_allreduce(parent, (float *)all, sizeof *all / sizeof(float) * (size_t)parent->world);
	}
	if (!rc)
		line_up(group, j, all, parent);
	if (!rc && color >= 0 && group->world > 1)
		rc = connect_next(group, j, err);
	if (!rc && color >= 0 && group->world > 1)
		rc = accept_previous(group, j, err);
	pio_free(all);
	return rc;
}

int pio_comm_group(pio_comm **group, pio_comm *parent, int color, int timeout_ms)
{
	pio_err *err = pio_last_err();
	joining j = { .deadline_ns = pio_clock_mono_ns() + timeout_ms * NS_PER_MS, .timeout_ms = timeout_ms,
	              .listen_fd = -1, .token = getenv(PIO_ENV_TOKEN) };
	pio_comm *made = pio_calloc(1, sizeof *made);
	*group = NULL;
	if (!made)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a group");
	*made = (pio_comm){ .run = parent->run, .head_fd = parent->head_fd, .next_fd = -1, .prev_fd = -1,
	                    .inbox = PIO_STR_INIT, .shared = PIO_STR_INIT };
	int rc = join_group(made, &j, parent, color, err);
	pio_sock_close(&j.listen_fd);
	if (rc || color < 0)
		pio_comm_group_close(&made);
	if (rc)
		(void)pio_comm_break(parent, err);
	*group = made;
	return rc;
}

void pio_comm_group_close(pio_comm **group)
{
	if (*group) {
		(*group)->head_fd = -1; /* the parent's */
		free_comm(*group);
	}
	*group = NULL;
}

void pio_comm_close(pio_comm **comm_in, const char *abort_reason)
{
	pio_comm *comm = comm_in ? *comm_in : NULL;
	pio_str frame = PIO_STR_INIT;
	if (!comm)
		return;
	*comm_in = NULL;
	if (comm->world > 1) {
		if (abort_reason) {
			pio_str text = PIO_STR_INIT;
			pio_str_printf(&text, "rank %d: %s", comm->rank, abort_reason);
			pio_frame_put_text(&frame, PIO_FRAME_ABORT, text.data);
			pio_str_fini(&text);
		} else if (!comm->broken.code) {
			(void)pio_comm_barrier(comm); /* nobody leaves while others still need it */
		}
		pio_frame_put_plain(&frame, PIO_FRAME_BYE);
		(void)send_frame(comm->head_fd, &frame, pio_clock_mono_ns() + BYE_MS * NS_PER_MS, NULL);
	}
	free_comm(comm);
}
