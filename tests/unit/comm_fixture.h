/* comm_fixture.h: forked ranks that form a communicator through an agent as small as can be,
 * which a thread of the test is. */
#ifndef PIO_TEST_COMM_FIXTURE_H
#define PIO_TEST_COMM_FIXTURE_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "client/comm.h"
#include "client/env.h"
#include "client/frame.h"
#include "client/pioche.h"
#include "client/ring.h"
#include "sys/sock.h"
#include "test.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
enum { WORLD_MAX = 5, RESULT_BYTES = 1 << 20 };

/* ---- an agent as small as can be ---------------------------------------- */

typedef struct head {
	int listen_fd, world;
	char name[32];
	bool mute;               /* never names a culprit */
	atomic_bool stop;
	pthread_t thread;
	int fds[WORLD_MAX];
	pio_frame_address table[WORLD_MAX];
} head;

static inline void tell(int fd, pio_str *frame)
{
	if (fd >= 0)
		(void)pio_sock_send(fd, frame->data, frame->len, pio_clock_mono_ns() + 1000000000, NULL);
}

static inline void tell_all(head *h, enum pio_frame_type type, const char *text)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_put_text(&frame, type, text);
	for (int i = 0; i < h->world; i++)
		tell(h->fds[i], &frame);
	pio_str_fini(&frame);
}

/* One frame, however it is cut; false when the rank is gone. */
static inline bool read_frame(int fd, pio_frame *frame, uint8_t bytes[4096], pio_err *err)
{
	uint32_t length;
	size_t used;
	int64_t deadline_ns = pio_clock_mono_ns() + 2000000000;
	if (pio_sock_recv(fd, bytes, 4, deadline_ns, err) != 0)
		return false;
	memcpy(&length, bytes, 4);
	return length <= 4000 && pio_sock_recv(fd, bytes + 4, length, deadline_ns, err) == 0 &&
	       pio_frame_next(frame, &used, bytes, length + 4, err) == 1;
}

static inline void welcome(head *h)
{
	int fd, here = 0;
	uint8_t bytes[4096];
	pio_frame frame;
	pio_frame_hello hello;
	if (pio_sock_accept(&fd, h->listen_fd, 0, NULL) != 0)
		return;
	if (!read_frame(fd, &frame, bytes, NULL) || pio_frame_get_hello(&hello, &frame, NULL) != 0 ||
	    strcmp(hello.token, TOKEN) != 0 || hello.rank >= (uint32_t)h->world) {
		pio_sock_close(&fd);
		return;
	}
	h->fds[hello.rank] = fd;
	h->table[hello.rank] = hello.address;
	for (int i = 0; i < h->world; i++)
		here += h->fds[i] >= 0;
	for (int i = 0; i < h->world && here == h->world; i++) {
		pio_str next = PIO_STR_INIT;
		pio_frame_put_next(&next, &h->table[(i + 1) % h->world]);
		tell(h->fds[i], &next);
		pio_str_fini(&next);
	}
}

static inline void hear(head *h, int rank)
{
	uint8_t bytes[4096];
	pio_frame frame;
	char text[512];
	if (!read_frame(h->fds[rank], &frame, bytes, NULL)) {
		pio_sock_close(&h->fds[rank]);
		snprintf(text, sizeof text, "rank %d died: SIGKILL", rank);
		if (!h->mute)
			tell_all(h, PIO_FRAME_ABORT, text);
	} else if (frame.type == PIO_FRAME_ABORT && pio_frame_get_text(text, sizeof text, &frame, NULL) == 0) {
		tell_all(h, PIO_FRAME_ABORT, text);
	} else if (frame.type == PIO_FRAME_BYE) {
		pio_sock_close(&h->fds[rank]);
	}
}

static inline void *serve(void *argument)
{
	head *h = argument;
	while (!atomic_load(&h->stop)) {
		struct pollfd fds[WORLD_MAX + 1];
		for (int i = 0; i < h->world; i++)
			fds[i] = (struct pollfd){ .fd = h->fds[i], .events = POLLIN };
		fds[h->world] = (struct pollfd){ .fd = h->listen_fd, .events = POLLIN };
		if (poll(fds, (nfds_t)h->world + 1, 20) <= 0)
			continue;
		if (fds[h->world].revents)
			welcome(h);
		for (int i = 0; i < h->world; i++)
			if (fds[i].revents)
				hear(h, i);
	}
	return NULL;
}

/* ---- a world of forked ranks ------------------------------------------------- */

typedef struct world {
	head head;
	int size;
	char *dir;
	pid_t pids[WORLD_MAX];
	uint8_t *results;        /* shared: RESULT_BYTES a rank */
} world;

typedef int rank_main(pio_run *run, int rank, int size, uint8_t *result);

static inline void world_open(world *w, int size)
{
	memset(w, 0, sizeof *w);
	w->size = w->head.world = size;
	w->dir = scratch_new();
	for (int i = 0; i < WORLD_MAX; i++)
		w->head.fds[i] = -1;
	check_ok(pio_sock_listen_local(&w->head.listen_fd, w->head.name, sizeof w->head.name, &err));
	w->results = mmap(NULL, (size_t)size * RESULT_BYTES, PROT_READ | PROT_WRITE,
	                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(w->results != MAP_FAILED);
}

static inline void set_int(const char *name, int value)
{
	char text[32];
	snprintf(text, sizeof text, "%d", value);
	setenv(name, text, 1);
}

static inline const char *ring_path(const world *w, int rank)
{
	char name[32];
	snprintf(name, sizeof name, "ring-%d", rank);
	return path_in(w->dir, name);
}

static inline void be_rank(world *w, int rank, rank_main *body)
{
	pio_run *run;
	setenv(PIO_ENV_RENDEZVOUS, w->head.name, 1);
	setenv(PIO_ENV_ADDRESS, "127.0.0.1", 1);
	setenv(PIO_ENV_TOKEN, TOKEN, 0);
	setenv(PIO_ENV_RUN, ULID, 1);
	setenv(PIO_ENV_RING, ring_path(w, rank), 1);
	setenv(PIO_ENV_DIR, w->dir, 1);
	setenv(PIO_ENV_STAGING, w->dir, 1);
	set_int("RANK", rank);
	set_int("WORLD_SIZE", w->size);
	if (pio_open(&run, NULL) != 0) {
		fprintf(stderr, "rank %d: %s\n", rank, pio_error());
		_exit(99);
	}
	alarm(30);
	int status = body(run, rank, w->size, w->results + (size_t)rank * RESULT_BYTES);
	pio_close(&run, 0);
	_exit(status);
}

static inline void world_start(world *w, rank_main *body)
{
	for (int i = 0; i < w->size; i++) {
		pio_ring *ring;
		check_ok(pio_ring_create(&ring, ring_path(w, i), (uint32_t)i, 64, 1024, &err));
		pio_ring_close(&ring);
		w->pids[i] = fork();
		if (w->pids[i] == 0)
			be_rank(w, i, body);
	}
	assert_int_equal(pthread_create(&w->head.thread, NULL, serve, &w->head), 0);
}

/* Exit statuses, or -signal. */
static inline void world_wait(world *w, int statuses[WORLD_MAX])
{
	for (int i = 0; i < w->size; i++) {
		int status;
		assert_int_equal(waitpid(w->pids[i], &status, 0), w->pids[i]);
		statuses[i] = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	}
}

static inline void world_close(world *w)
{
	atomic_store(&w->head.stop, true);
	pthread_join(w->head.thread, NULL);
	for (int i = 0; i < w->size; i++)
		pio_sock_close(&w->head.fds[i]);
	pio_sock_close(&w->head.listen_fd);
	munmap(w->results, (size_t)w->size * RESULT_BYTES);
	scratch_remove(w->dir);
}

static inline void run_world(int size, rank_main *body)
{
	world w;
	int statuses[WORLD_MAX];
	world_open(&w, size);
	world_start(&w, body);
	world_wait(&w, statuses);
	for (int i = 0; i < size; i++)
		if (statuses[i] != 0)
			fail_msg("rank %d of %d: status %d", i, size, statuses[i]);
	for (int i = 1; i < size; i++)
		assert_memory_equal(w.results, w.results + (size_t)i * RESULT_BYTES, RESULT_BYTES);
	world_close(&w);
}

#define TRY(call)                                                              \
	do {                                                                   \
		if ((call) != 0) {                                             \
			fprintf(stderr, "%s: %s\n", #call, pio_error());       \
			return 1;                                              \
		}                                                              \
	} while (0)

#endif
