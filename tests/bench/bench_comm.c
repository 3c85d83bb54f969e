/* bench_comm.c: how fast two ranks on this machine add up 1 MB of floats, and
 * how long a barrier takes.
 *
 * Two processes and the two loopback connections of a ring of two. The limit
 * is what the sockets alone carry: each side sends and receives as many bytes
 * as an all-reduce does (its data once), and adds nothing; of the barrier: two
 * bytes there and back. Prints one JSON object a line. `bench_comm [ROUNDS]` */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/comm.h"
#include "sys/sock.h"

#define FLOATS (1u << 18)
#define DEADLINE_NS 10000000000LL
#define SMALL 20 /* rounds of a barrier for one of the large ones */

static void fail(const char *what)
{
	fprintf(stderr, "bench_comm: %s: %s\n", what, strerror(errno));
	exit(3);
}

/* A connection over loopback: *near for this process, *far for the other. */
static void connect_pair(int *near, int *far)
{
	pio_err err = PIO_ERR_INIT;
	int listen_fd;
	uint16_t port = 0;
	int64_t deadline_ns = pio_clock_mono_ns() + DEADLINE_NS;
	if (pio_sock_listen(&listen_fd, NULL, &port, &err) ||
	    pio_sock_connect(near, "127.0.0.1", port, deadline_ns, &err) ||
	    pio_sock_accept(far, listen_fd, deadline_ns, &err)) {
		fprintf(stderr, "bench_comm: %s\n", err.message);
		exit(3);
	}
	pio_sock_close(&listen_fd);
}

/* Send and receive `size_bytes` each, at once. */
static void exchange(pio_comm *comm, char *out, char *in, size_t size_bytes)
{
	for (size_t sent = 0, got = 0; sent < size_bytes || got < size_bytes;) {
		ssize_t n = sent < size_bytes ? send(comm->next_fd, out + sent, size_bytes - sent,
		                                     MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
		ssize_t m = got < size_bytes ? recv(comm->prev_fd, in + got, size_bytes - got,
		                                    MSG_DONTWAIT) : 0;
		if ((n < 0 || m < 0) && errno != EAGAIN)
			fail("exchange");
		sent += n > 0 ? (size_t)n : 0;
		got += m > 0 ? (size_t)m : 0;
		if (n > 0 || m > 0)
			continue;
		struct pollfd fds[2] = {
			{ .fd = got < size_bytes ? comm->prev_fd : -1, .events = POLLIN },
			{ .fd = sent < size_bytes ? comm->next_fd : -1, .events = POLLOUT },
		};
		if (poll(fds, 2, 1000) < 0 && errno != EINTR)
			fail("poll");
	}
}

typedef struct times {
	double reduce_s, exchange_s, barrier_s, echo_s; /* the best round of each */
} times;

static void keep_best(double *best, int64_t begin_ns, int rounds)
{
	double seconds = (double)(pio_clock_mono_ns() - begin_ns) * 1e-9 / rounds;
	if (*best == 0 || seconds < *best)
		*best = seconds;
}

static times run(pio_comm *comm, int rounds)
{
	static float data[FLOATS], other[FLOATS];
	times best = { 0, 0, 0, 0 };
	char byte[2] = { 0, 0 }, back[2];
	for (int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < FLOATS; i++)
			data[i] = (float)(i % 1000);
		if (pio_comm_barrier(comm))
			fail(pio_error());
		int64_t begin_ns = pio_clock_mono_ns();
		if (pio_comm_allreduce(comm, data, FLOATS))
			fail(pio_error());
		keep_best(&best.reduce_s, begin_ns, 1);
		if (pio_comm_barrier(comm))
			fail(pio_error());
		begin_ns = pio_clock_mono_ns();
		exchange(comm, (char *)data, (char *)other, sizeof data);
		keep_best(&best.exchange_s, begin_ns, 1);
		begin_ns = pio_clock_mono_ns();
		for (int i = 0; i < SMALL; i++)
			if (pio_comm_barrier(comm))
				fail(pio_error());
		keep_best(&best.barrier_s, begin_ns, SMALL);
		begin_ns = pio_clock_mono_ns();
		for (int i = 0; i < 2 * SMALL; i++)
			exchange(comm, byte, back, 1);
		keep_best(&best.echo_s, begin_ns, SMALL);
	}
	return best;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 200;
	int near[2], far[2], status;
	connect_pair(&near[0], &far[0]);
	connect_pair(&near[1], &far[1]);
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	/* A comm without its rendezvous: what is measured is the moving of data. */
	pio_comm comm = { .rank = child ? 0 : 1, .world = 2, .head_fd = -1, .inbox = PIO_STR_INIT,
	                  .next_fd = child ? near[0] : far[1], .prev_fd = child ? near[1] : far[0],
	                  .scratch = pio_alloc(PIO_COMM_SCRATCH_BYTES) };
	if (!comm.scratch)
		fail("memory");
	for (int i = 0; i < 2; i++)
		close(child ? far[i] : near[i]);
	times best = run(&comm, rounds);
	pio_free(comm.scratch);
	if (!child)
		_exit(0);
	if (waitpid(child, &status, 0) != child || status)
		fail("the other rank");
	double megabytes = FLOATS * sizeof(float) / 1e6;
	printf("{\"name\":\"allreduce, 2 ranks, 1 MB, MB/s\",\"value\":%.0f,\"unit\":\"MB/s\",\"goal\":null,"
	       "\"limit\":%.0f,\"peer\":null}\n", megabytes / best.reduce_s, megabytes / best.exchange_s);
	printf("{\"name\":\"barrier, 2 ranks, us\",\"value\":%.1f,\"unit\":\"us\",\"goal\":null,"
	       "\"limit\":%.1f,\"peer\":null}\n", best.barrier_s * 1e6, best.echo_s * 1e6);
	return 0;
}
