#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/crc32c.h"
#include "store/chunk.h"
#include "test.h"

static pio_chunk_codec *codec;
static pio_chunk_decoder *decoder;
static pio_chunk_point points[PIO_CHUNK_POINTS_MAX], back[PIO_CHUNK_POINTS_MAX];
static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t bits_of(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, 8);
	return bits;
}

/* Encode, decode, compare every bit; the encoded size. */
static size_t round_trip(size_t count)
{
	const uint8_t *data;
	size_t size, found;
	check_ok(pio_chunk_encode(&data, &size, codec, points, count, &err));
	memset(back, 0x5a, sizeof back);
	check_ok(pio_chunk_decode(back, &found, codec, data, size, &err));
	assert_int_equal(found, count);
	assert_memory_equal(back, points, count * sizeof *points);
	check_ok(pio_chunk_decode_some(back, &found, decoder, data, size, false, &err));
	assert_int_equal(found, count);
	for (size_t i = 0; i < count; i++)
		assert_true(back[i].step == points[i].step && back[i].bits == points[i].bits &&
		            back[i].integer == points[i].integer && !back[i].time_ns);
	return size;
}

static void values_come_back_bit_for_bit(void **unused)
{
	static const uint64_t special[] = {
		0, 0x8000000000000000u, 0x7ff0000000000000u, 0xfff0000000000000u, 0x7ff8000000000000u,
		0x7ff8000000000001u, 0xfff4000000000123u, 0x7ff0000000000001u, 1, 0x000fffffffffffffu,
		0x7fefffffffffffffu, 0x4340000000000000u, 0x4340000000000001u, 0x36a0000000000000u
	};
	enum { N = sizeof special / sizeof special[0] };
	(void)unused;
	for (size_t i = 0; i < N; i++) {
		for (size_t j = 0; j < 40; j++)
			points[j] = (pio_chunk_point){ (int64_t)j, (int64_t)j, j % 3 ? special[i] : bits_of(1.5), 0 };
		round_trip(40);
		points[0] = (pio_chunk_point){ 7, 7, special[i], 0 };
		round_trip(1);
		points[i] = (pio_chunk_point){ (int64_t)i, 0, special[i], 0 };
	}
	for (size_t i = 0; i < N; i++)
		points[i] = (pio_chunk_point){ (int64_t)i, 0, special[i], 0 };
	round_trip(N);
}

static void steps_and_times_of_any_size_come_back(void **unused)
{
	static const int64_t extreme[] = { INT64_MIN, INT64_MAX, 0, -1, 1, 9007199254740993, INT64_MIN + 1,
	                                   INT64_MAX - 1 };
	(void)unused;
	for (size_t count = 1; count <= 600; count += 13) {
		for (size_t i = 0; i < count; i++)
			points[i] = (pio_chunk_point){ extreme[draw() % 8], extreme[draw() % 8], bits_of(0.5), 0 };
		round_trip(count);
	}
	for (unsigned shift = 0; shift < 64; shift++) {
		for (size_t i = 0; i < 100; i++)
			points[i] = (pio_chunk_point){ (int64_t)(draw() >> shift), (int64_t)((draw() >> shift) * 1000),
			                               draw() >> shift, 0 };
		round_trip(100);
	}
}

static void every_count_comes_back(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < PIO_CHUNK_POINTS_MAX; i++)
		points[i] = (pio_chunk_point){ (int64_t)(10 * i), (int64_t)(i * 1000000 + draw() % 1000),
		                               bits_of((double)(float)(draw() % 100000) * 0.125 + 0.1f), 0 };
	for (size_t count = 1; count < 40; count++)
		round_trip(count);
	round_trip(1023);
	round_trip(1024);
	round_trip(PIO_CHUNK_POINTS_MAX);
	const uint8_t *data;
	size_t size;
	check_fails(pio_chunk_encode(&data, &size, codec, points, 0, &err), PIO_EINVAL, "0 points");
	check_fails(pio_chunk_encode(&data, &size, codec, points, PIO_CHUNK_POINTS_MAX + 1, &err),
	            PIO_EINVAL, "4097 points");
}

static void integers_come_back_as_integers(void **unused)
{
	static const int64_t extreme[] = { INT64_MIN, INT64_MAX, 0, -1, 1, 9007199254740993 };
	(void)unused;
	for (size_t count = 1; count <= 200; count += 7) {
		for (size_t i = 0; i < count; i++)
			points[i] = (pio_chunk_point){ (int64_t)i, 0, (uint64_t)extreme[draw() % 6], 1 };
		round_trip(count);
		for (size_t i = 0; i < count; i++) /* 1 is not 1.0, and the bits of one are not the other's */
			points[i] = (pio_chunk_point){ (int64_t)i, 0, draw() % 2 ? 1 : bits_of(1.0), draw() % 2 };
		round_trip(count);
	}
	for (size_t i = 0; i < PIO_CHUNK_POINTS_MAX; i++)
		points[i] = (pio_chunk_point){ (int64_t)i, 0, 9007199254740993u + i * 4096, 1 };
	assert_true(round_trip(PIO_CHUNK_POINTS_MAX) < 100); /* tokens seen */
	for (size_t i = 0; i < PIO_CHUNK_POINTS_MAX; i++)
		points[i] = (pio_chunk_point){ (int64_t)i, (int64_t)draw(), draw(), draw() % 2 };
	round_trip(PIO_CHUNK_POINTS_MAX);
	pio_chunk_stats stats;
	points[0] = (pio_chunk_point){ 1, 0, bits_of(0.5), 0 };
	points[1] = (pio_chunk_point){ 2, 0, (uint64_t)-7, 1 };
	pio_chunk_stats_init(&stats);
	pio_chunk_stats_add(&stats, points, 2);
	assert_true(stats.min == -7 && stats.max == 0.5 && stats.sum == -6.5 && stats.finite == 2);
	assert_true(stats.last_integer == 1 && (int64_t)stats.last_bits == -7);
}

static void easy_series_are_small(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < PIO_CHUNK_POINTS_MAX; i++)
		points[i] = (pio_chunk_point){ (int64_t)i, (int64_t)i * 1000000, bits_of(3e-4), 0 };
	assert_true(round_trip(PIO_CHUNK_POINTS_MAX) < 100); /* a constant: no plane of it is packed */
	for (size_t i = 0; i < PIO_CHUNK_POINTS_MAX; i++)
		points[i].bits = bits_of((double)(i * 512)); /* tokens seen */
	assert_true(round_trip(PIO_CHUNK_POINTS_MAX) < 128);
	for (size_t i = 0; i < PIO_CHUNK_POINTS_MAX; i++)
		points[i].bits = bits_of((double)(2.5f + (float)(draw() % 65536) * 1e-6f));
	assert_true(round_trip(PIO_CHUNK_POINTS_MAX) < 3 * PIO_CHUNK_POINTS_MAX);
}

/* Whatever the bytes are: an error or points, and no step out of bounds (the
 * sanitizers watch). The CRC is made right, so that the parser is reached. */
static void damage_is_an_error(void **unused)
{
	const uint8_t *data;
	size_t size, found;
	static uint8_t copy[200000];
	(void)unused;
	for (size_t i = 0; i < 300; i++)
		points[i] = (pio_chunk_point){ (int64_t)(i * i), (int64_t)(draw() % 100000), draw(), 0 };
	check_ok(pio_chunk_encode(&data, &size, codec, points, 300, &err));
	memcpy(copy, data, size);
	copy[size / 2] ^= 1;
	check_fails(pio_chunk_decode(back, &found, codec, copy, size, &err), PIO_ECORRUPT, "CRC");
	for (size_t length = 0; length < size; length += 7)
		assert_int_not_equal(pio_chunk_decode(back, &found, codec, data, length, NULL), 0);
	for (int round = 0; round < 4000; round++) {
		size_t length = draw() % 4 ? size : 9 + draw() % (size - 9);
		check_ok(pio_chunk_encode(&data, &size, codec, points, 300, &err));
		memcpy(copy, data, size);
		for (uint64_t n = 1 + draw() % 4; n; n--)
			copy[draw() % (draw() % 2 ? 64 : length)] = (uint8_t)draw();
		uint32_t crc = pio_crc32c(0, copy + 8, length - 8);
		memcpy(copy + 4, &crc, 4);
		pio_chunk_decode(back, &found, codec, copy, length, NULL);
	}
	memcpy(copy, data, size);
	copy[0] = 2;
	check_fails(pio_chunk_decode(back, &found, codec, copy, size, &err), PIO_EVERSION, "version 2");
}

static void sums_do_not_depend_on_the_cuts(void **unused)
{
	(void)unused;
	pio_chunk_stats whole;
	enum { N = PIO_CHUNK_POINTS_MAX };
	for (size_t i = 0; i < N; i++) {
		double value = ldexp((double)(int64_t)draw(), (int)(draw() % 60) - 70);
		if (i % 500 == 3)
			value = i % 1000 == 3 ? NAN : INFINITY;
		points[i] = (pio_chunk_point){ (int64_t)(draw() % 1000), (int64_t)draw(), bits_of(value), 0 };
	}
	pio_chunk_stats_init(&whole);
	pio_chunk_stats_add(&whole, points, N);
	assert_int_equal(whole.count, N);
	assert_true(whole.nans > 0 && whole.finite + whole.nans < N);
	for (int round = 0; round < 200; round++) {
		pio_chunk_stats parts;
		pio_chunk_stats_init(&parts);
		for (size_t at = 0; at < N;) {
			size_t n = 1 + draw() % 700;
			n = n < N - at ? n : N - at;
			pio_chunk_stats part;
			pio_chunk_stats_init(&part);
			pio_chunk_stats_add(&part, points + at, n);
			pio_chunk_stats_merge(&parts, &part);
			at += n;
		}
		assert_int_equal(bits_of(parts.sum), bits_of(whole.sum));
		parts.sum_low = whole.sum_low;
		assert_memory_equal(&parts, &whole, sizeof whole);
	}
}

static void sums_that_overflow_do_not_spread_nan(void **unused)
{
	(void)unused;
	pio_chunk_stats stats;
	for (size_t i = 0; i < 3; i++)
		points[i] = (pio_chunk_point){ (int64_t)i, 0, bits_of(1.7e308), 0 };
	pio_chunk_stats_init(&stats);
	pio_chunk_stats_add(&stats, points, 3);
	assert_true(isinf(stats.sum) && stats.sum > 0);
	assert_true(stats.sum_low == 0);
}

static int up(void **unused)
{
	(void)unused;
	return pio_chunk_codec_new(&codec, NULL) || pio_chunk_decoder_new(&decoder, NULL);
}

static int down(void **unused)
{
	(void)unused;
	pio_chunk_codec_free(codec);
	pio_chunk_decoder_free(decoder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_come_back_bit_for_bit),
		cmocka_unit_test(steps_and_times_of_any_size_come_back),
		cmocka_unit_test(every_count_comes_back),
		cmocka_unit_test(integers_come_back_as_integers),
		cmocka_unit_test(easy_series_are_small),
		cmocka_unit_test(damage_is_an_error),
		cmocka_unit_test(sums_do_not_depend_on_the_cuts),
		cmocka_unit_test(sums_that_overflow_do_not_spread_nan),
	};
	return cmocka_run_group_tests(tests, up, down);
}
