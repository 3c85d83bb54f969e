/* Ranks, the rendezvous of their nodes, and the assembly of all, in one process:
 * what agents and the head say to each other goes by a call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/frame.h"
#include "launch/assembly.h"
#include "launch/rendezvous.h"
#include "sys/sock.h"

#define TOKEN "00112233445566778899aabbccddeeff"
enum { NODES_MAX = 127 };

static uv_loop_t loop;
static pio_assembly *assembly;
static pio_rendezvous *nodes[NODES_MAX];
static int node_count;
static size_t moved_bytes;    /* between nodes and assembly */
static char said[4096];       /* events, one line each */
static int64_t blocks;

typedef struct client {
	int fd;
	uint8_t in[65536];
	size_t in_bytes;
	char text[512];           /* of the last WAITING, ABORT or SHARE */
	pio_frame_address next;
} client;

static void heard(void *context, const char *kind, const char *message)
{
	(void)context;
	size_t n = strlen(said);
	snprintf(said + n, sizeof said - n, "%s: %s\n", kind, message);
}

static void up(void *context, pio_str *frames)
{
	int node = (int)((pio_rendezvous **)context - nodes);
	size_t used = 0;
	pio_frame frame;
	assert_int_equal(pio_frame_next(&frame, &used, frames->data, frames->len, NULL), 1);
	assert_int_equal(used, frames->len);
	moved_bytes += used;
	assert_true(pio_assembly_hear(assembly, node, &frame));
	pio_str_fini(frames);
}

static void down(void *context, int node, pio_str *frames)
{
	size_t used = 0;
	pio_frame frame;
	(void)context;
	assert_int_equal(pio_frame_next(&frame, &used, frames->data, frames->len, NULL), 1);
	moved_bytes += used;
	pio_rendezvous_hear(nodes[node], &frame);
	pio_str_fini(frames);
}

static void put_host(void *context, int node, pio_str *text)
{
	(void)context;
	pio_str_printf(text, "dgx-%03d", node + 1);
}

static int set_up(void **state)
{
	(void)state;
	blocks = pio_mem_live();
	said[0] = 0;
	moved_bytes = 0;
	assert_int_equal(uv_loop_init(&loop), 0);
	return 0;
}

static void open_nodes(int count, int ranks_per_node)
{
	pio_err err = PIO_ERR_INIT;
	pio_assembly_owner above = { NULL, down, put_host, heard };
	node_count = count;
	if (pio_assembly_new(&assembly, count, ranks_per_node, &above, &err) != 0)
		fail_msg("%s", err.message);
	for (int i = 0; i < count; i++) {
		pio_rendezvous_owner owner = { &nodes[i], up, heard };
		if (pio_rendezvous_open(&nodes[i], &loop, TOKEN, count * ranks_per_node, i * ranks_per_node,
		                        ranks_per_node, &owner, &err) != 0)
			fail_msg("%s", err.message);
	}
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < node_count; i++)
		pio_rendezvous_close(&nodes[i]);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	pio_assembly_free(assembly);
	assert_true(pio_mem_live() == blocks);
	return 0;
}

static void pump(int64_t ms)
{
	int64_t end_ns = pio_clock_mono_ns() + ms * 1000000;
	do {
		uv_run(&loop, UV_RUN_NOWAIT);
		pio_assembly_tick(assembly);
		pio_clock_sleep_ms(1);
	} while (pio_clock_mono_ns() < end_ns);
}

static void connect_client(client *c, int node)
{
	pio_err err = PIO_ERR_INIT;
	c->fd = -1;
	c->in_bytes = 0;
	if (pio_sock_connect_local(&c->fd, pio_rendezvous_name(nodes[node]),
	                           pio_clock_mono_ns() + 2000000000, &err) != 0)
		fail_msg("%s", err.message);
}

static void send_bytes(client *c, const void *bytes, size_t n)
{
	assert_int_equal(pio_sock_send(c->fd, bytes, n, pio_clock_mono_ns() + 2000000000, NULL), 0);
}

static void say_hello(client *c, const char *token, uint32_t rank, uint32_t world, uint32_t patience_ms)
{
	pio_str frame = PIO_STR_INIT;
	pio_frame_hello hello = { .rank = rank, .world = world, .patience_ms = patience_ms,
	                          .address = { "10.0.0.1", (uint16_t)(5000 + rank) } };
	snprintf(hello.token, sizeof hello.token, "%s", token);
	pio_frame_put_hello(&frame, &hello);
	send_bytes(c, frame.data, frame.len);
	pio_str_fini(&frame);
}

static client join_node(int node, const char *token, uint32_t rank, uint32_t world, uint32_t patience_ms)
{
	client c;
	connect_client(&c, node);
	say_hello(&c, token, rank, world, patience_ms);
	pump(5);
	return c;
}

static client join(const char *token, uint32_t rank, uint32_t world, uint32_t patience_ms)
{
	return join_node(0, token, rank, world, patience_ms);
}

static void send_frame(client *c, enum pio_frame_type type, const char *text)
{
	pio_str frame = PIO_STR_INIT;
	if (type == PIO_FRAME_SHARE)
		pio_frame_put_bytes(&frame, type, text, strlen(text));
	else if (text)
		pio_frame_put_text(&frame, type, text);
	else
		pio_frame_put_plain(&frame, type);
	send_bytes(c, frame.data, frame.len);
	pio_str_fini(&frame);
	pump(5);
}

static bool take_frame(client *c, pio_frame *frame)
{
	size_t used;
	if (pio_frame_next(frame, &used, c->in, c->in_bytes, NULL) != 1)
		return false;
	if (frame->type == PIO_FRAME_NEXT)
		assert_int_equal(pio_frame_get_next(&c->next, frame, NULL), 0);
	else if (frame->size_bytes)
		assert_int_equal(pio_frame_get_text(c->text, sizeof c->text, frame, NULL), 0);
	memmove(c->in, c->in + used, c->in_bytes - used);
	c->in_bytes -= used;
	return true;
}

/* Type of the next frame within 3 s; 0: the agent closed; -1: it says nothing. */
static int next(client *c, int64_t patience_ms)
{
	int64_t end_ns = pio_clock_mono_ns() + patience_ms * 1000000;
	while (pio_clock_mono_ns() < end_ns) {
		pio_frame frame;
		if (take_frame(c, &frame))
			return (int)frame.type;
		pump(2);
		ssize_t n = recv(c->fd, c->in + c->in_bytes, sizeof c->in - c->in_bytes, MSG_DONTWAIT);
		if (n == 0)
			return 0;
		c->in_bytes += n > 0 ? (size_t)n : 0;
	}
	return -1;
}

static void leave(client *c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pio_sock_close(&c[i].fd);
	pump(5);
}

static void expect_next(client *c, int rank, int world)
{
	assert_int_equal(next(c, 3000), PIO_FRAME_NEXT);
	assert_string_equal(c->next.host, "10.0.0.1");
	assert_int_equal(c->next.port, 5000 + (rank + 1) % world);
}

static void all_are_told_their_neighbour(void **state)
{
	(void)state;
	open_nodes(1, 3);
	client c[3] = { join(TOKEN, 2, 3, 5000), join(TOKEN, 0, 3, 5000) };
	assert_int_equal(next(&c[0], 100), -1); /* not before all are there */
	c[2] = join(TOKEN, 1, 3, 5000);
	for (int i = 0; i < 3; i++)
		expect_next(&c[i], (i + 2) % 3, 3);
	assert_int_equal(pio_rendezvous_connected(nodes[0]), 3);
	/* Leave in good order, and meet again. */
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 3; i++) {
			send_frame(&c[i], PIO_FRAME_BYE, NULL);
			pio_sock_close(&c[i].fd);
			c[i] = join(TOKEN, (uint32_t)(i + 2) % 3, 3, 5000);
		}
	for (int i = 0; i < 3; i++)
		expect_next(&c[i], (i + 2) % 3, 3);
	leave(c, 3);
	assert_string_equal(said, "");
}

static void missing_ranks_are_named(void **state)
{
	(void)state;
	open_nodes(1, 4);
	client c = join(TOKEN, 2, 4, 400);
	assert_int_equal(next(&c, 3000), PIO_FRAME_WAITING);
	assert_string_equal(c.text, "3 of 4 ranks did not come: rank 0, 1, 3");
	leave(&c, 1);
	assert_string_equal(said, ""); /* giving up is no crash */
}

static void missing_nodes_are_named_too(void **state)
{
	(void)state;
	open_nodes(3, 4);
	client c[5];
	for (uint32_t i = 0; i < 4; i++)
		c[i] = join_node(0, TOKEN, i, 12, 600);
	c[4] = join_node(2, TOKEN, 9, 12, 60000);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_WAITING);
		assert_string_equal(c[i].text, "7 of 12 ranks did not come: rank 4-7 (dgx-002), 8, 10-11 (dgx-003)");
	}
	assert_int_equal(next(&c[4], 50), -1); /* it is patient */
	leave(c, 5);
}

static void abort_reaches_everybody(void **state)
{
	(void)state;
	open_nodes(3, 1);
	client c[3];
	for (uint32_t i = 0; i < 3; i++)
		c[i] = join_node((int)i, TOKEN, i, 3, 0);
	for (int i = 0; i < 3; i++)
		expect_next(&c[i], i, 3);
	send_frame(&c[1], PIO_FRAME_ABORT, "loss is NaN at step 7");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_ABORT);
		assert_string_equal(c[i].text, "loss is NaN at step 7");
	}
	pio_assembly_abort(assembly, "later reason");
	assert_int_equal(next(&c[0], 50), -1); /* the first one stays */
	leave(c, 2);
	c[0] = join(TOKEN, 0, 3, 0); /* and who comes late hears it */
	assert_int_equal(next(&c[0], 3000), PIO_FRAME_ABORT);
	assert_string_equal(c[0].text, "loss is NaN at step 7");
	leave(c, 3);
	assert_string_equal(said, "abort: rank 1 aborted: loss is NaN at step 7\n");
}

static void broken_connection_aborts_the_others(void **state)
{
	(void)state;
	open_nodes(3, 1);
	client c[3];
	for (uint32_t i = 0; i < 3; i++)
		c[i] = join_node((int)i, TOKEN, i, 3, 0);
	for (int i = 0; i < 3; i++)
		expect_next(&c[i], i, 3);
	pio_sock_close(&c[2].fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_ABORT);
		assert_string_equal(c[i].text, "rank 2 is gone: its connection to its agent broke");
	}
	leave(c, 2);
}

/* The agent knows why a rank died and says so first. */
static void better_reason_wins(void **state)
{
	(void)state;
	open_nodes(1, 3);
	client c[3] = { join(TOKEN, 0, 3, 0), join(TOKEN, 1, 3, 0), join(TOKEN, 2, 3, 0) };
	for (int i = 0; i < 3; i++)
		expect_next(&c[i], i, 3);
	pio_sock_close(&c[2].fd);
	pump(100);
	pio_rendezvous_abort(nodes[0], "rank 2 died: SIGKILL");
	assert_int_equal(next(&c[0], 3000), PIO_FRAME_ABORT);
	assert_string_equal(c[0].text, "rank 2 died: SIGKILL");
	assert_int_equal(next(&c[0], 700), -1);
	leave(c, 2);
	assert_string_equal(said, "");
}

static void barriers_hold_and_shares_reach_all(void **state)
{
	(void)state;
	open_nodes(2, 2);
	client c[4];
	for (uint32_t i = 0; i < 4; i++)
		c[i] = join_node((int)i / 2, TOKEN, i, 4, 0);
	for (int i = 0; i < 4; i++)
		expect_next(&c[i], i, 4);
	for (int round = 0; round < 2; round++) {
		for (int i = 3; i > 0; i--)
			send_frame(&c[i], PIO_FRAME_MEET, NULL);
		send_frame(&c[3], PIO_FRAME_MEET, NULL); /* twice is once */
		for (int i = 0; i < 4; i++)
			assert_int_equal(next(&c[i], 30), -1);
		send_frame(&c[0], PIO_FRAME_MEET, NULL);
		for (int i = 0; i < 4; i++)
			assert_int_equal(next(&c[i], 3000), PIO_FRAME_MEET);
		send_frame(&c[2], PIO_FRAME_SHARE, round ? "second" : "first");
		for (int i = 0; i < 4; i++) {
			assert_int_equal(next(&c[i], 3000), PIO_FRAME_SHARE);
			assert_string_equal(c[i].text, round ? "second" : "first");
		}
	}
	/* A rank that came to the barrier and left does not count for the next one. */
	send_frame(&c[0], PIO_FRAME_MEET, NULL);
	send_frame(&c[0], PIO_FRAME_BYE, NULL);
	leave(c, 1);
	send_frame(&c[1], PIO_FRAME_MEET, NULL);
	send_frame(&c[2], PIO_FRAME_MEET, NULL);
	send_frame(&c[3], PIO_FRAME_MEET, NULL);
	assert_int_equal(next(&c[1], 50), -1);
	leave(c + 1, 3);
}

/* 1,016 ranks on 127 nodes: what passes between the nodes grows with the ranks,
 * not with their square. */
static void a_pod_assembles(void **state)
{
	(void)state;
	enum { RANKS = 8, WORLD = NODES_MAX * RANKS };
	client *c = calloc(WORLD, sizeof *c);
	open_nodes(NODES_MAX, RANKS);
	for (int i = 0; i < WORLD; i++) {
		connect_client(&c[i], i / RANKS);
		say_hello(&c[i], TOKEN, (uint32_t)i, WORLD, 60000);
	}
	for (int i = 0; i < WORLD; i++)
		expect_next(&c[i], i, WORLD);
	assert_in_range(moved_bytes, 1, WORLD * 64);
	moved_bytes = 0;
	for (int i = 0; i < WORLD; i++)
		send_bytes(&c[i], "\1\0\0\0\6", 5); /* MEET */
	for (int i = 0; i < WORLD; i++)
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_MEET);
	assert_int_equal(moved_bytes, 2 * 5 * NODES_MAX);
	moved_bytes = 0;
	char id[129];
	memset(id, 'n', 128), id[128] = 0;
	send_frame(&c[0], PIO_FRAME_SHARE, id);
	for (int i = 0; i < WORLD; i++) {
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_SHARE);
		assert_string_equal(c[i].text, id);
	}
	assert_int_equal(moved_bytes, (1 + NODES_MAX) * (5 + 4 + 128));
	leave(c, WORLD);
	free(c);
}

/* Whatever strangers do, the three ranks find each other. */
static void strangers_harm_nobody(void **state)
{
	(void)state;
	open_nodes(1, 3);
	client real[3] = { join(TOKEN, 0, 3, 5000) };
	uint64_t refused = 0;
	const struct { const char *token; uint32_t rank, world; } wrong[] = {
		{ "00112233445566778899aabbccddeefe", 1, 3 }, { "", 1, 3 }, { TOKEN "00", 1, 3 },
		{ TOKEN, 3, 3 }, { TOKEN, UINT32_MAX, 3 }, { TOKEN, 1, 4 },
		{ TOKEN, 0, 3 },           /* rank 0 is connected */
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		client c = join(wrong[i].token, wrong[i].rank, wrong[i].world, 5000);
		assert_int_equal(next(&c, 3000), 0);
		assert_int_equal(pio_rendezvous_refused(nodes[0]), ++refused);
		leave(&c, 1);
	}
	static const char *const garbage[] = { "GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\x01", "\1\0\0\0\5",
	                                       "\5\0\0\0\1zzzz" };
	static const size_t sizes[] = { 18, 5, 5, 9 };
	for (size_t i = 0; i < 4; i++) {
		client c;
		connect_client(&c, 0);
		send_bytes(&c, garbage[i], sizes[i]);
		assert_int_equal(next(&c, 3000), 0);
		assert_int_equal(pio_rendezvous_refused(nodes[0]), ++refused);
		leave(&c, 1);
	}
	client big, half, silent, gone;
	connect_client(&big, 0); /* a frame that is allowed, but not from a stranger */
	char *bytes = calloc(1, 16384);
	memcpy(bytes, "\0\0\10\0\1", 5);
	send_bytes(&big, bytes, 16384);
	free(bytes);
	assert_int_equal(next(&big, 3000), 0);
	connect_client(&half, 0); /* says half a HELLO, then nothing */
	send_bytes(&half, "\100\0\0\0\1", 5);
	connect_client(&silent, 0);
	connect_client(&gone, 0);
	leave(&gone, 1);
	real[1] = join(TOKEN, 1, 3, 5000);
	real[2] = join(TOKEN, 2, 3, 5000);
	for (int i = 0; i < 3; i++)
		expect_next(&real[i], i, 3);
	assert_int_equal(pio_rendezvous_connected(nodes[0]), 3);
	assert_string_equal(said, "rendezvous: refused a connection to the rendezvous: a wrong token\n");
	leave(real, 3);
	leave(&half, 1);
	leave(&silent, 1);
	leave(&big, 1);
}

/* Ranks may all come before the agent looks once. */
static void a_full_node_comes_at_once(void **state)
{
	(void)state;
	enum { RANKS = 1000 };
	client *c = calloc(RANKS, sizeof *c);
	open_nodes(1, RANKS);
	for (int i = 0; i < RANKS; i++)
		connect_client(&c[i], 0);
	pump(20);
	for (int i = 0; i < RANKS; i++)
		say_hello(&c[i], TOKEN, (uint32_t)i, RANKS, 60000);
	for (int i = 0; i < RANKS; i++)
		expect_next(&c[i], i, RANKS);
	assert_int_equal(pio_rendezvous_refused(nodes[0]), 0);
	leave(c, RANKS);
	free(c);
}

/* Those who connect and say nothing take no place from those who do. */
static void a_crowd_of_the_silent_pushes_nobody_out(void **state)
{
	(void)state;
	enum { CROWD = 400 };
	client real[2], *crowd = calloc(CROWD, sizeof *crowd);
	open_nodes(1, 2);
	real[0] = join(TOKEN, 0, 2, 5000);
	for (int i = 0; i < CROWD; i++) {
		connect_client(&crowd[i], 0);
		pump(0);
	}
	pump(20);
	assert_int_equal(pio_rendezvous_refused(nodes[0]), CROWD - 258);
	assert_int_equal(next(&crowd[0], 1000), 0);          /* the oldest went */
	assert_int_equal(next(&crowd[CROWD - 1], 50), -1);   /* the newest may still speak */
	real[1] = join(TOKEN, 1, 2, 5000);
	expect_next(&real[0], 0, 2);
	expect_next(&real[1], 1, 2);
	leave(real, 2);
	leave(crowd, CROWD);
	free(crowd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096; /* both ends are here */
	setrlimit(RLIMIT_NOFILE, &files);
	const struct CMUnitTest tests[] = {
		T(all_are_told_their_neighbour), T(missing_ranks_are_named), T(missing_nodes_are_named_too),
		T(abort_reaches_everybody), T(broken_connection_aborts_the_others), T(better_reason_wins),
		T(barriers_hold_and_shares_reach_all), T(a_pod_assembles), T(a_full_node_comes_at_once),
		T(strangers_harm_nobody),
		T(a_crowd_of_the_silent_pushes_nobody_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
