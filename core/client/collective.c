/* Collectives as streams around the ring.
 *
 * All-reduce of n floats over W ranks: the data are W chunks. In step t each
 * rank sends chunk (rank - t) mod W to the next and receives chunk
 * (rank - t - 1) mod W from the previous: in the first W - 1 steps it adds what
 * comes to its own, in the W - 1 steps after that it takes it over. The sum of
 * chunk c is therefore (((x[c] + x[c+1]) + x[c+2]) + ...), indices mod W,
 * whatever the timing. What is sent in step t + 1 is what came in step t, so
 * both directions flow at once, limited by nothing but that: a byte may leave
 * as soon as it has been worked in (no deadlock whatever the size: neither
 * side ever waits to send before it receives).
 *
 * Broadcast is the same with one chunk: the root begins at step 0, the others
 * receive in step 0 and pass on in step 1.
 *
 * Socket buffers are left to the kernel, which sizes them better than any fixed
 * number did, and a rank with nothing to do sleeps at once: ranks share their
 * processors. tests/bench/bench_comm.c tells what of the sockets' speed is left.
 *
 * Before the data each call sends a head that says what it is, so that ranks
 * that call different things fail instead of mixing their bytes. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "client/comm.h"

#define ALARM_MS 1000

enum op { OP_ALLREDUCE = 1, OP_BROADCAST, OP_BARRIER };

typedef struct head {
	uint64_t call;         /* number of the call on this comm */
	uint64_t size_bytes;
	uint32_t op, root;
} head;

typedef struct lane {
	int step, end;         /* steps still to go: [step, end) */
	size_t done;           /* bytes of the current step */
	size_t head_done;      /* bytes of the head */
} lane;

typedef struct stream {
	pio_comm *comm;
	uint8_t *data;
	size_t count, element_bytes;
	int chunks, adding_steps;
	head mine, theirs;
	lane out, in;
} stream;

static const char *op_name(uint32_t op)
{
	static const char *const names[] = { "?", "allreduce", "broadcast", "barrier" };
	return names[op < 4 ? op : 0];
}

/* The bytes that a step of the outgoing lane sends; the incoming lane receives
 * in step t what goes out in step t + 1. */
static uint8_t *chunk_of(const stream *s, int out_step, size_t *size_bytes)
{
	int w = s->chunks;
	size_t c = (size_t)(((s->comm->rank - out_step) % w + w) % w);
	size_t each = s->count / (size_t)w, rest = s->count % (size_t)w;
	size_t begin = c * each + (c < rest ? c : rest);
	*size_bytes = (each + (c < rest)) * s->element_bytes;
	return s->data + begin * s->element_bytes;
}

/* to[i] = from[i] + to[i]; -O2 would not use vectors by itself. */
static void add_floats(float *to, const float *from, size_t n)
{
	typedef float four __attribute__((vector_size(16)));
	size_t i = 0;
	for (; i + 4 <= n; i += 4) {
		four a, b;
		memcpy(&a, from + i, sizeof a);
		memcpy(&b, to + i, sizeof b);
		a += b;
		memcpy(to + i, &a, sizeof a);
	}
	for (; i < n; i++)
		to[i] = from[i] + to[i];
}

/* ---- sending ---------------------------------------------------------------- */

/* Bytes of the current outgoing step that may leave now, from *at on. */
static size_t sendable(const stream *s, const uint8_t **at)
{
	size_t size_bytes, ready;
	if (s->out.step >= s->out.end)
		return 0;
	*at = chunk_of(s, s->out.step, &size_bytes) + s->out.done;
	ready = size_bytes;
	if (s->out.step > 0 && s->in.step < s->out.step)
		ready = s->in.step == s->out.step - 1 ? s->in.done : 0;
	if (s->out.step > 0 && s->in.step < s->out.step && s->in.step < s->adding_steps)
		ready -= ready % s->element_bytes; /* half an element is not added yet */
	return ready - s->out.done;
}

static void skip_done(lane *l, const stream *s, int ahead)
{
	size_t size_bytes;
	while (l->step < l->end && (chunk_of(s, l->step + ahead, &size_bytes), l->done == size_bytes)) {
		l->step++;
		l->done = 0;
	}
}

static bool wants_out(const stream *s)
{
	const uint8_t *at;
	return s->out.end > 0 && (s->out.head_done < sizeof s->mine || sendable(s, &at) > 0);
}

/* > 0: progress, 0: none now, -1: the neighbour is gone. */
static int push(stream *s)
{
	const uint8_t *at = (const uint8_t *)&s->mine + s->out.head_done;
	bool is_head = s->out.head_done < sizeof s->mine;
	size_t n = is_head ? sizeof s->mine - s->out.head_done : sendable(s, &at);
	if (n == 0)
		return 0;
	int more = is_head && sendable(s, &(const uint8_t *){ NULL }) > 0 ? MSG_MORE : 0;
	ssize_t sent = send(s->comm->next_fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT | more);
	if (sent < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
	if (is_head)
		s->out.head_done += (size_t)sent;
	else
		s->out.done += (size_t)sent;
	skip_done(&s->out, s, 0);
	return 1;
}

/* ---- receiving -------------------------------------------------------------- */

static int check_head(const stream *s, pio_err *err)
{
	const head *m = &s->mine, *t = &s->theirs;
	if (memcmp(m, t, sizeof *m) == 0)
		return 0;
	return pio_fail(err, PIO_EINVAL, "ranks disagree: call %llu is %s of %llu bytes (root %u) on rank %d, "
	                "but call %llu is %s of %llu bytes (root %u) on rank %d",
	                (unsigned long long)m->call, op_name(m->op), (unsigned long long)m->size_bytes,
	                m->root, s->comm->rank, (unsigned long long)t->call, op_name(t->op),
	                (unsigned long long)t->size_bytes, t->root,
	                (s->comm->rank + s->comm->world - 1) % s->comm->world);
}

/* Received bytes go to the scratch while they are to be added; those of an
 * unfinished float wait there, counted in in.done but not added. */
static ssize_t pull_adding(stream *s, uint8_t *chunk, size_t size_bytes)
{
	size_t part = s->in.done % sizeof(float), whole = s->in.done - part;
	size_t room = PIO_COMM_SCRATCH_BYTES - part, left = size_bytes - s->in.done;
	uint8_t *scratch = s->comm->scratch;
	ssize_t n = recv(s->comm->prev_fd, scratch + part, left < room ? left : room, MSG_DONTWAIT);
	if (n <= 0)
		return n;
	size_t have = part + (size_t)n, floats = have / sizeof(float);
	add_floats((float *)(void *)(chunk + whole), (const float *)(const void *)scratch, floats);
	memmove(scratch, scratch + floats * sizeof(float), have % sizeof(float));
	return n;
}

/* > 0: progress, 0: none now, -1: the neighbour is gone, -2: err is set. */
static int pull(stream *s, pio_err *err)
{
	ssize_t n;
	bool is_head = s->in.head_done < sizeof s->theirs;
	if (!is_head && s->in.step >= s->in.end)
		return 0;
	if (is_head) {
		n = recv(s->comm->prev_fd, (uint8_t *)&s->theirs + s->in.head_done,
		         sizeof s->theirs - s->in.head_done, MSG_DONTWAIT);
	} else {
		size_t size_bytes;
		uint8_t *chunk = chunk_of(s, s->in.step + 1, &size_bytes);
		if (s->in.step < s->adding_steps)
			n = pull_adding(s, chunk, size_bytes);
		else
			n = recv(s->comm->prev_fd, chunk + s->in.done, size_bytes - s->in.done, MSG_DONTWAIT);
	}
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	if (!is_head) {
		s->in.done += (size_t)n;
	} else {
		s->in.head_done += (size_t)n;
		if (s->in.head_done == sizeof s->theirs && check_head(s, err))
			return -2;
	}
	skip_done(&s->in, s, 1);
	return 1;
}

static bool wants_in(const stream *s)
{
	return s->in.end > 0 && (s->in.head_done < sizeof s->theirs || s->in.step < s->in.end);
}

/* ---- the loop --------------------------------------------------------------- */

static int wait_any(stream *s, pio_err *err)
{
	pio_comm *comm = s->comm;
	struct pollfd fds[3] = {
		{ .fd = comm->head_fd, .events = POLLIN },
		{ .fd = wants_in(s) ? comm->prev_fd : -1, .events = POLLIN },
		{ .fd = wants_out(s) ? comm->next_fd : -1, .events = POLLOUT },
	};
	int n = poll(fds, 3, ALARM_MS);
	if (n < 0 && errno != EINTR)
		return pio_fail_errno(err, errno, "cannot wait for the other ranks");
	/* Who left once the call was done has sent all that it owes to it: that comes first. */
	bool is_more = fds[1].revents || fds[2].revents;
	return n > 0 && fds[0].revents && !is_more ? pio_comm_listen(comm, err) : 0;
}

static int run_stream(stream *s, pio_err *err)
{
	pio_comm *comm = s->comm;
	skip_done(&s->out, s, 0);
	skip_done(&s->in, s, 1);
	while (wants_in(s) || s->out.step < s->out.end ||
	       (s->out.end > 0 && s->out.head_done < sizeof s->mine)) {
		int pushed = s->out.end > 0 ? push(s) : 0;
		if (pushed < 0)
			return pio_comm_lost(comm, (comm->rank + 1) % comm->world, err);
		int pulled = wants_in(s) ? pull(s, err) : 0;
		if (pulled == -2)
			return -err->code;
		if (pulled < 0)
			return pio_comm_lost(comm, (comm->rank + comm->world - 1) % comm->world, err);
		int rc = pushed || pulled ? 0 : wait_any(s, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int finish(stream *s, enum op op, int root)
{
	pio_comm *comm = s->comm;
	pio_err *err = pio_last_err();
	if (comm->broken.code) {
		*err = comm->broken;
		return -err->code;
	}
	s->mine = (head){ .call = comm->calls++, .size_bytes = s->count * s->element_bytes,
	                  .op = (uint32_t)op, .root = (uint32_t)root };
	int rc = run_stream(s, err);
	return rc ? pio_comm_break(comm, err) : 0;
}

static int allreduce(pio_comm *comm, enum op op, float *data, size_t n)
{
	int steps = 2 * (comm->world - 1);
	stream s = { .comm = comm, .data = (uint8_t *)data, .count = n, .element_bytes = sizeof *data,
	             .chunks = comm->world, .adding_steps = comm->world - 1,
	             .out = { .end = steps }, .in = { .end = steps } };
	return finish(&s, op, 0);
}

int pio_comm_allreduce(pio_comm *comm, float *data, size_t n)
{
	if (!comm)
		return 0;
	if (!data && n)
		return pio_fail(pio_last_err(), PIO_EINVAL, "allreduce of %zu floats: data is NULL", n);
	if (comm->world == 1)
		return 0;
	/* A sum is known to a rank only when every rank has come. */
	float one[1] = { 0 };
	return n ? allreduce(comm, OP_ALLREDUCE, data, n) : allreduce(comm, OP_BARRIER, one, 1);
}

int pio_comm_broadcast(pio_comm *comm, void *data, size_t size_bytes, int root)
{
	if (!comm)
		return 0;
	if (root < 0 || root >= comm->world)
		return pio_fail(pio_last_err(), PIO_EINVAL, "broadcast from rank %d: 0 to %d expected", root,
		                comm->world - 1);
	if (!data && size_bytes)
		return pio_fail(pio_last_err(), PIO_EINVAL, "broadcast of %zu bytes: data is NULL", size_bytes);
	if (comm->world == 1)
		return 0;
	stream s = { .comm = comm, .data = data, .count = size_bytes, .element_bytes = 1, .chunks = 1 };
	bool is_last = (comm->rank + 1) % comm->world == root;
	if (comm->rank == root)
		s.out = (lane){ .step = 0, .end = 1 };
	else if (!is_last)
		s.out = (lane){ .step = 1, .end = 2 };
	if (comm->rank != root)
		s.in = (lane){ .step = 0, .end = 1 };
	return finish(&s, OP_BROADCAST, root);
}
