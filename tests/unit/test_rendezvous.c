#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/frame.h"
#include "launch/rendezvous.h"
#include "sys/sock.h"

#define TOKEN "00112233445566778899aabbccddeeff"

static uv_loop_t loop;
static pio_rendezvous *head;
static char said[4096];       /* events, one line each */
static int64_t blocks;

typedef struct client {
	int fd;
	uint8_t in[65536];
	size_t in_bytes;
	char text[512];           /* of the last WAITING or ABORT */
	pio_frame_address table[8];
} client;

static void heard(void *context, const char *kind, const char *message)
{
	(void)context;
	size_t n = strlen(said);
	snprintf(said + n, sizeof said - n, "%s: %s\n", kind, message);
}

static int set_up(void **state)
{
	(void)state;
	blocks = pio_mem_live();
	said[0] = 0;
	assert_int_equal(uv_loop_init(&loop), 0);
	return 0;
}

static void open_head(int world)
{
	pio_err err = PIO_ERR_INIT;
	if (pio_rendezvous_open(&head, &loop, NULL, TOKEN, world, heard, NULL, &err) != 0)
		fail_msg("%s", err.message);
}

static int tear_down(void **state)
{
	(void)state;
	pio_rendezvous_close(&head);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_true(pio_mem_live() == blocks);
	return 0;
}

static void pump(int64_t ms)
{
	int64_t end_ns = pio_clock_mono_ns() + ms * 1000000;
	do {
		uv_run(&loop, UV_RUN_NOWAIT);
		pio_clock_sleep_ms(1);
	} while (pio_clock_mono_ns() < end_ns);
}

static client connect_client(void)
{
	client c = { .fd = -1 };
	pio_err err = PIO_ERR_INIT;
	if (pio_sock_connect(&c.fd, "127.0.0.1", pio_rendezvous_port(head),
	                     pio_clock_mono_ns() + 2000000000, &err) != 0)
		fail_msg("%s", err.message);
	return c;
}

static void send_bytes(client *c, const void *bytes, size_t n)
{
	assert_int_equal(pio_sock_send(c->fd, bytes, n, pio_clock_mono_ns() + 2000000000, NULL), 0);
}

static client join(const char *token, uint32_t rank, uint32_t world, uint32_t patience_ms)
{
	client c = connect_client();
	pio_str frame = PIO_STR_INIT;
	pio_frame_hello hello = { .rank = rank, .world = world, .patience_ms = patience_ms,
	                          .address = { "10.0.0.1", (uint16_t)(5000 + rank) } };
	snprintf(hello.token, sizeof hello.token, "%s", token);
	pio_frame_put_hello(&frame, &hello);
	send_bytes(&c, frame.data, frame.len);
	pio_str_fini(&frame);
	pump(5);
	return c;
}

static void send_frame(client *c, enum pio_frame_type type, const char *text)
{
	pio_str frame = PIO_STR_INIT;
	if (text)
		pio_frame_put_text(&frame, type, text);
	else
		pio_frame_put_bye(&frame);
	send_bytes(c, frame.data, frame.len);
	pio_str_fini(&frame);
	pump(5);
}

/* Type of the next frame within 3 s; 0: the head closed; -1: it says nothing. */
static int next(client *c, int64_t patience_ms)
{
	int64_t end_ns = pio_clock_mono_ns() + patience_ms * 1000000;
	while (pio_clock_mono_ns() < end_ns) {
		pio_frame frame;
		size_t used;
		if (pio_frame_next(&frame, &used, c->in, c->in_bytes, NULL) == 1) {
			if (frame.type == PIO_FRAME_TABLE)
				assert_int_equal(pio_frame_get_table(c->table, 3, &frame, NULL), 0);
			else
				assert_int_equal(pio_frame_get_text(c->text, sizeof c->text, &frame, NULL), 0);
			memmove(c->in, c->in + used, c->in_bytes - used);
			c->in_bytes -= used;
			return (int)frame.type;
		}
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

static void all_get_the_table(void **state)
{
	(void)state;
	open_head(3);
	client c[3] = { join(TOKEN, 2, 3, 5000), join(TOKEN, 0, 3, 5000) };
	assert_int_equal(next(&c[0], 100), -1); /* not before all are there */
	c[2] = join(TOKEN, 1, 3, 5000);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_TABLE);
		for (int rank = 0; rank < 3; rank++) {
			assert_string_equal(c[i].table[rank].host, "10.0.0.1");
			assert_int_equal(c[i].table[rank].port, 5000 + rank);
		}
	}
	assert_int_equal(pio_rendezvous_connected(head), 3);
	/* Leave in good order, and meet again. */
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 3; i++) {
			send_frame(&c[i], PIO_FRAME_BYE, NULL);
			pio_sock_close(&c[i].fd);
			c[i] = join(TOKEN, (uint32_t)(i + 2) % 3, 3, 5000);
		}
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_TABLE);
	leave(c, 3);
	assert_string_equal(said, "");
}

static void missing_ranks_are_named(void **state)
{
	(void)state;
	open_head(3);
	client c = join(TOKEN, 1, 3, 300);
	int64_t start_ns = pio_clock_mono_ns();
	assert_int_equal(next(&c, 3000), PIO_FRAME_WAITING);
	assert_in_range((pio_clock_mono_ns() - start_ns) / 1000000, 100, 299);
	assert_string_equal(c.text, "2 of 3 ranks did not come: rank 0, 2");
	leave(&c, 1);
	assert_int_equal(pio_rendezvous_connected(head), 0);
	assert_string_equal(said, ""); /* giving up is no crash */
}

static void abort_reaches_everybody(void **state)
{
	(void)state;
	open_head(3);
	client c[3] = { join(TOKEN, 0, 3, 0), join(TOKEN, 1, 3, 0), join(TOKEN, 2, 3, 0) };
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_TABLE);
	send_frame(&c[1], PIO_FRAME_ABORT, "loss is NaN at step 7");
	assert_int_equal(next(&c[0], 3000), PIO_FRAME_ABORT);
	assert_string_equal(c[0].text, "loss is NaN at step 7");
	assert_int_equal(next(&c[2], 3000), PIO_FRAME_ABORT);
	assert_int_equal(next(&c[1], 50), -1); /* it knows */
	pio_rendezvous_abort(head, "later reason");
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
	open_head(3);
	client c[3] = { join(TOKEN, 0, 3, 0), join(TOKEN, 1, 3, 0), join(TOKEN, 2, 3, 0) };
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_TABLE);
	pio_sock_close(&c[2].fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_ABORT);
		assert_string_equal(c[i].text, "rank 2 is gone: its connection to the rendezvous broke");
	}
	leave(c, 2);
}

/* The agent knows why a rank died and says so first. */
static void better_reason_wins(void **state)
{
	(void)state;
	open_head(3);
	client c[3] = { join(TOKEN, 0, 3, 0), join(TOKEN, 1, 3, 0), join(TOKEN, 2, 3, 0) };
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(&c[i], 3000), PIO_FRAME_TABLE);
	pio_sock_close(&c[2].fd);
	pump(100);
	pio_rendezvous_abort(head, "rank 2 died: SIGKILL");
	assert_int_equal(next(&c[0], 3000), PIO_FRAME_ABORT);
	assert_string_equal(c[0].text, "rank 2 died: SIGKILL");
	assert_int_equal(next(&c[0], 700), -1);
	leave(c, 2);
	assert_string_equal(said, "");
}

/* Whatever strangers do, the three ranks find each other. */
static void strangers_harm_nobody(void **state)
{
	(void)state;
	open_head(3);
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
		assert_int_equal(pio_rendezvous_refused(head), ++refused);
		leave(&c, 1);
	}
	static const char *const garbage[] = { "GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\x01", "\1\0\0\0\5",
	                                       "\5\0\0\0\1zzzz" };
	static const size_t sizes[] = { 18, 5, 5, 9 };
	for (size_t i = 0; i < 4; i++) {
		client c = connect_client();
		send_bytes(&c, garbage[i], sizes[i]);
		assert_int_equal(next(&c, 3000), 0);
		assert_int_equal(pio_rendezvous_refused(head), ++refused);
		leave(&c, 1);
	}
	client big = connect_client(); /* a frame that is allowed, but not from a stranger */
	char *bytes = calloc(1, 16384);
	memcpy(bytes, "\0\0\10\0\1", 5);
	send_bytes(&big, bytes, 16384);
	free(bytes);
	assert_int_equal(next(&big, 3000), 0);
	client half = connect_client(); /* says half a HELLO, then nothing */
	send_bytes(&half, "\100\0\0\0\1", 5);
	client silent = connect_client();
	client gone = connect_client();
	leave(&gone, 1);
	real[1] = join(TOKEN, 1, 3, 5000);
	real[2] = join(TOKEN, 2, 3, 5000);
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(&real[i], 3000), PIO_FRAME_TABLE);
	assert_int_equal(pio_rendezvous_connected(head), 3);
	assert_string_equal(said, "rendezvous: refused a connection to the rendezvous: a wrong token\n");
	leave(real, 3);
	leave(&half, 1);
	leave(&silent, 1);
	leave(&big, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(all_get_the_table), T(missing_ranks_are_named), T(abort_reaches_everybody),
		T(broken_connection_aborts_the_others), T(better_reason_wins), T(strangers_harm_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
