#include <string.h>

#include "client/frame.h"
#include "test.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static void frames_come_back_and_cut_ones_are_refused(void **state)
{
	(void)state;
	pio_frame_hello hello = { .token = TOKEN, .rank = 3, .world = 7, .patience_ms = 250,
	                          .address = { .host = "fe80::1%eth0", .port = 65535 } }, back;
	pio_frame_address next = { "b.example", 2 }, next_back;
	pio_str bytes = PIO_STR_INIT;
	pio_frame frame;
	char text[16];
	size_t used = 0, at = 0;
	pio_frame_put_hello(&bytes, &hello);
	pio_frame_put_next(&bytes, &next);
	pio_frame_put_text(&bytes, PIO_FRAME_ABORT, "a reason that is longer than the buffer");
	pio_frame_put_plain(&bytes, PIO_FRAME_BYE);
	check_ok(pio_str_check(&bytes, &err));
	assert_int_equal(pio_frame_next(&frame, &used, bytes.data, bytes.len, NULL), 1);
	check_ok(pio_frame_get_hello(&back, &frame, &err));
	assert_memory_equal(&back, &hello, sizeof hello);
	check_fails(pio_frame_get_next(&next_back, &frame, &err), PIO_ECORRUPT, "no NEXT");
	for (size_t cut = 0; cut < used; cut++)
		assert_int_equal(pio_frame_next(&frame, &used, bytes.data, cut, NULL), 0);
	at += used;
	assert_int_equal(pio_frame_next(&frame, &used, bytes.data + at, bytes.len - at, NULL), 1);
	check_ok(pio_frame_get_next(&next_back, &frame, &err));
	assert_string_equal(next_back.host, "b.example");
	assert_int_equal(next_back.port, 2);
	at += used;
	assert_int_equal(pio_frame_next(&frame, &used, bytes.data + at, bytes.len - at, NULL), 1);
	check_ok(pio_frame_get_text(text, sizeof text, &frame, &err));
	assert_string_equal(text, "a reason that i");
	at += used;
	assert_int_equal(pio_frame_next(&frame, &used, bytes.data + at, bytes.len - at, NULL), 1);
	assert_int_equal(frame.type, PIO_FRAME_BYE);
	assert_int_equal(at + used, bytes.len);
	check_fails(pio_frame_next(&frame, &used, "\0\0\0\0x", 5, &err), PIO_ECORRUPT, "0 bytes");
	check_fails(pio_frame_next(&frame, &used, "\xff\xff\xff\xffx", 5, &err), PIO_ECORRUPT, "4294967295");
	pio_str_fini(&bytes);
}

/* The whole of it, and not one byte more or less. */
#define CHECK_CUTS(read)                                                                   \
	do {                                                                               \
		pio_frame whole = frame;                                                   \
		assert_int_equal(read, 0);                                                 \
		for (frame.size_bytes = 0; frame.size_bytes < whole.size_bytes; frame.size_bytes++) \
			assert_int_equal(read, -PIO_ECORRUPT);                             \
		frame.size_bytes = whole.size_bytes + 1;                                   \
		assert_int_equal(read, -PIO_ECORRUPT);                                     \
		frame = whole;                                                             \
	} while (0)

static void step(pio_frame *frame, const pio_str *bytes, size_t *at)
{
	size_t used;
	assert_int_equal(pio_frame_next(frame, &used, bytes->data + *at, bytes->len - *at, NULL), 1);
	*at += used;
}

static void what_agents_and_the_head_say_comes_back(void **state)
{
	(void)state;
	pio_frame_join join = { .token = TOKEN, .host = "dgx-017", .place = 126, .is_keeper = 1,
	                        .address = "fd00::7", .port = 65535 }, join_back;
	pio_frame_here here = { .rank = 1015, .address = { "10.0.0.1", 77 } }, here_back;
	pio_str bytes = PIO_STR_INIT;
	pio_frame frame;
	const char *text;
	size_t text_bytes, at = 0;
	int64_t agent_ns, head_ns;
	uint32_t rank;
	bool without_bye;
	pio_frame_put_join(&bytes, &join);
	pio_frame_put_here(&bytes, &here);
	pio_frame_put_left(&bytes, 7, true);
	pio_frame_put_ping(&bytes, -5);
	pio_frame_put_pong(&bytes, -5, INT64_MAX);
	pio_frame_put_bytes(&bytes, PIO_FRAME_SHARE, "a\0b", 3);
	pio_str_puts(&bytes, "more");   /* so that one byte too many is no overrun */
	check_ok(pio_str_check(&bytes, &err));
	step(&frame, &bytes, &at);
	CHECK_CUTS(pio_frame_get_join(&join_back, &frame, NULL));
	assert_memory_equal(&join_back, &join, sizeof join);
	step(&frame, &bytes, &at);
	CHECK_CUTS(pio_frame_get_here(&here_back, &frame, NULL));
	assert_int_equal(here_back.rank, 1015);
	assert_string_equal(here_back.address.host, "10.0.0.1");
	step(&frame, &bytes, &at);
	CHECK_CUTS(pio_frame_get_left(&rank, &without_bye, &frame, NULL));
	assert_true(rank == 7 && without_bye);
	step(&frame, &bytes, &at);
	CHECK_CUTS(pio_frame_get_ping(&agent_ns, &frame, NULL));
	assert_int_equal(agent_ns, -5);
	step(&frame, &bytes, &at);
	CHECK_CUTS(pio_frame_get_pong(&agent_ns, &head_ns, &frame, NULL));
	assert_true(agent_ns == -5 && head_ns == INT64_MAX);
	step(&frame, &bytes, &at);
	CHECK_CUTS(pio_frame_get_bytes(&text, &text_bytes, &frame, NULL));
	assert_int_equal(text_bytes, 3);
	assert_memory_equal(text, "a\0b", 3);
	pio_str_clear(&bytes);
	char *long_text = calloc(1, PIO_FRAME_BYTES_MAX);
	pio_frame_put_bytes(&bytes, PIO_FRAME_EVENT, long_text, PIO_FRAME_BYTES_MAX);
	free(long_text);
	check_fails(pio_str_check(&bytes, &err), PIO_ENOMEM, "memory");
	pio_str_fini(&bytes);
}

/* Any bytes at all: an answer, no overrun (the sanitizers look). */
static void no_frame_of_noise_overruns(void **state)
{
	(void)state;
	uint64_t seed = 7;
	for (int round = 0; round < 20000; round++) {
		uint8_t bytes[64];
		pio_frame frame;
		pio_frame_hello hello;
		pio_frame_address next;
		pio_frame_join join;
		pio_frame_here here;
		uint32_t rank;
		bool flag;
		int64_t a, b;
		const char *at;
		char text[8];
		size_t used;
		for (size_t i = 0; i < sizeof bytes; i++) {
			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			bytes[i] = (uint8_t)(i < 4 ? (i == 0 ? seed % 64 : 0) : i % 4 ? 0 : seed % 32);
		}
		bytes[4] = (uint8_t)(seed % 48);
		if (pio_frame_next(&frame, &used, bytes, sizeof bytes, NULL) != 1)
			continue;
		assert_true(used <= sizeof bytes);
		(void)pio_frame_get_hello(&hello, &frame, NULL);
		(void)pio_frame_get_next(&next, &frame, NULL);
		(void)pio_frame_get_join(&join, &frame, NULL);
		(void)pio_frame_get_here(&here, &frame, NULL);
		(void)pio_frame_get_left(&rank, &flag, &frame, NULL);
		(void)pio_frame_get_ping(&a, &frame, NULL);
		(void)pio_frame_get_pong(&a, &b, &frame, NULL);
		(void)pio_frame_get_bytes(&at, &used, &frame, NULL);
		(void)pio_frame_get_text(text, sizeof text, &frame, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_back_and_cut_ones_are_refused),
		cmocka_unit_test(what_agents_and_the_head_say_comes_back),
		cmocka_unit_test(no_frame_of_noise_overruns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
