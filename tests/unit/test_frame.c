#include <string.h>

#include "client/frame.h"
#include "test.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static void frames_come_back_and_cut_ones_are_refused(void **state)
{
	(void)state;
	pio_frame_hello hello = { .token = TOKEN, .rank = 3, .world = 7, .patience_ms = 250,
	                          .address = { .host = "fe80::1%eth0", .port = 65535 } }, back;
	pio_frame_address table[3] = { { "a", 1 }, { "b.example", 2 }, { "::1", 3 } }, table_back[3];
	pio_str bytes = PIO_STR_INIT;
	pio_frame frame;
	char text[16];
	size_t used = 0, at = 0;
	pio_frame_put_hello(&bytes, &hello);
	pio_frame_put_table(&bytes, table, 3);
	pio_frame_put_text(&bytes, PIO_FRAME_ABORT, "a reason that is longer than the buffer");
	pio_frame_put_bye(&bytes);
	check_ok(pio_str_check(&bytes, &err));
	assert_int_equal(pio_frame_next(&frame, &used, bytes.data, bytes.len, NULL), 1);
	check_ok(pio_frame_get_hello(&back, &frame, &err));
	assert_memory_equal(&back, &hello, sizeof hello);
	check_fails(pio_frame_get_table(table_back, 3, &frame, &err), PIO_ECORRUPT, "no TABLE");
	for (size_t cut = 0; cut < used; cut++)
		assert_int_equal(pio_frame_next(&frame, &used, bytes.data, cut, NULL), 0);
	at += used;
	assert_int_equal(pio_frame_next(&frame, &used, bytes.data + at, bytes.len - at, NULL), 1);
	check_ok(pio_frame_get_table(table_back, 3, &frame, &err));
	assert_string_equal(table_back[1].host, "b.example");
	check_fails(pio_frame_get_table(table_back, 2, &frame, &err), PIO_ECORRUPT, "of 2 ranks");
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

/* Any bytes at all: an answer, no overrun (the sanitizers look). */
static void no_frame_of_noise_overruns(void **state)
{
	(void)state;
	uint64_t seed = 7;
	for (int round = 0; round < 20000; round++) {
		uint8_t bytes[64];
		pio_frame frame;
		pio_frame_hello hello;
		pio_frame_address table[4];
		char text[8];
		size_t used;
		for (size_t i = 0; i < sizeof bytes; i++) {
			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			bytes[i] = (uint8_t)(i < 4 ? (i == 0 ? seed % 64 : 0) : i % 4 ? 0 : seed % 32);
		}
		bytes[4] = (uint8_t)(seed % 6);
		if (pio_frame_next(&frame, &used, bytes, sizeof bytes, NULL) != 1)
			continue;
		assert_true(used <= sizeof bytes);
		(void)pio_frame_get_hello(&hello, &frame, NULL);
		(void)pio_frame_get_table(table, 4, &frame, NULL);
		(void)pio_frame_get_text(text, sizeof text, &frame, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_back_and_cut_ones_are_refused),
		cmocka_unit_test(no_frame_of_noise_overruns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
