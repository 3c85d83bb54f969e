/* Histograms: buckets that hold what they claim, sums over ranks, bytes that
 * are the same for the same contents, and a decoder that trusts nothing. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "test.h"
/* after its prerequisites */
#include "base/histogram.h"
#include "base/mem.h"

static uint64_t random_state;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static double of_bits(uint64_t bits)
{
	double value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static void add(pio_histogram *h, const double *values, size_t n)
{
	check_ok(pio_histogram_add(h, values, n, &err));
}

static void encode(pio_str *bytes, const pio_histogram *h)
{
	pio_str_clear(bytes);
	pio_histogram_encode(bytes, h);
	assert_false(bytes->failed);
}

/* Same contents by their bytes, and the bytes read back to the same bytes. */
static void check_same(const pio_histogram *a, const pio_histogram *b)
{
	pio_str x = PIO_STR_INIT, y = PIO_STR_INIT;
	pio_histogram back;
	encode(&x, a);
	encode(&y, b);
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.data, y.data, x.len);
	check_ok(pio_histogram_decode(&back, x.data, x.len, &err));
	encode(&y, &back);
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.data, y.data, x.len);
	pio_histogram_fini(&back);
	pio_str_fini(&x);
	pio_str_fini(&y);
}

/* ---- what a bucket holds -------------------------------------------------------- */

static void test_buckets_hold_their_values(void **state)
{
	(void)state;
	enum { N = 20000 };
	double *values = calloc(N, sizeof *values);
	pio_histogram h = PIO_HISTOGRAM_INIT;
	random_state = 20;
	for (size_t i = 0; i < N; i++)
		do
			values[i] = of_bits(random_bits()); /* every magnitude, denormals too */
		while (!isfinite(values[i]));
	values[0] = 0.0, values[1] = -0.0, values[2] = DBL_MAX, values[3] = -DBL_MAX;
	values[4] = 4.9e-324, values[5] = -4.9e-324, values[6] = 1.0, values[7] = DBL_MIN;
	add(&h, values, N);
	assert_int_equal(h.finite, N);
	assert_true(h.min == -DBL_MAX && h.max == DBL_MAX);
	uint64_t total = 0;
	double before = -INFINITY;
	pio_histogram_bucket b;
	for (size_t at = 0; pio_histogram_next(&h, &at, &b); total += b.count) {
		assert_true(b.low >= before && b.low <= b.high && b.count > 0);
		before = b.high;
		uint64_t inside = 0;
		for (size_t i = 0; i < N; i++) {
			double v = values[i];
			bool at_end = (v == b.low && v == h.min) || (v == b.high && v == h.max);
			inside += b.low == b.high ? v == b.low
			        : b.low >= 0 ? at_end || (v >= b.low && v < b.high && v > 0)
			                     : at_end || (v <= b.high && v > b.low && v < 0);
		}
		assert_int_equal(inside, b.count);
		if (b.low > DBL_MIN && b.high < DBL_MAX)
			assert_true(b.high - b.low <= b.low / 16 * (1 + DBL_EPSILON));
	}
	assert_int_equal(total, N);
	pio_histogram_fini(&h);
	free(values);
}

static void test_powers_of_two_are_edges(void **state)
{
	(void)state;
	static const double values[] = { 1.0, 1.0625, 1.99, 2.0, -0.5, 8.0 };
	static const double lows[] = { -0.5, 1.0, 1.0625, 1.9375, 2.0, 8.0 };
	static const double highs[] = { -0.5, 1.0625, 1.125, 2.0, 2.125, 8.0 };
	pio_histogram h = PIO_HISTOGRAM_INIT;
	pio_histogram_bucket b;
	size_t at = 0, n = 0;
	add(&h, values, 6);
	while (pio_histogram_next(&h, &at, &b)) {
		assert_true(n < 6);
		assert_true(b.high == highs[n]); /* the outermost end at min and max */
		assert_true(b.low == lows[n]);
		n++;
	}
	assert_int_equal(n, 6);
	pio_histogram_fini(&h);
}

static void test_what_is_no_number(void **state)
{
	(void)state;
	static const double values[] = { NAN, -NAN, INFINITY, -INFINITY, -INFINITY };
	pio_histogram h = PIO_HISTOGRAM_INIT;
	pio_histogram_bucket b;
	size_t at = 0;
	add(&h, values, 5);
	assert_int_equal(h.nans, 2);
	assert_int_equal(h.infinities, 1);
	assert_int_equal(h.negative_infinities, 2);
	assert_int_equal(h.finite, 0);
	assert_true(h.min == 0 && h.max == 0 && h.sum == 0);
	assert_false(pio_histogram_next(&h, &at, &b));
	check_same(&h, &h);
	assert_int_equal(pio_mem_live(), 0); /* nothing to count needs no memory */
}

/* ---- adding up ------------------------------------------------------------------- */

static void test_ranks_add_up(void **state)
{
	(void)state;
	enum { N = 4096, RANKS = 8 };
	static double values[N];
	pio_histogram whole = PIO_HISTOGRAM_INIT, sum = PIO_HISTOGRAM_INIT;
	random_state = 7;
	for (size_t i = 0; i < N; i++) /* integers: their sums are exact in any order */
		values[i] = (double)(int64_t)(random_bits() % 2001) - 1000;
	add(&whole, values, N);
	for (size_t rank = RANKS; rank-- > 0;) {
		pio_histogram part = PIO_HISTOGRAM_INIT;
		add(&part, values + rank * (N / RANKS), N / RANKS);
		check_ok(pio_histogram_merge(&sum, &part, &err));
		pio_histogram_fini(&part);
	}
	assert_int_equal(sum.finite, N);
	check_same(&sum, &whole);
	pio_histogram_fini(&sum);
	pio_histogram_fini(&whole);
}

static void test_edges(void **state)
{
	(void)state;
	static const double edges[] = { -1, 0, 0.5, 10 }, other_edges[] = { -1, 0, 0.5, 11 };
	static const uint64_t counts[] = { 0, 5, 2 };
	static const double more[] = { -1, -0.25, 0, 10, NAN };
	static const double outside[] = { 0.1, 10.5 };
	pio_histogram h, other, log = PIO_HISTOGRAM_INIT;
	pio_histogram_bucket b;
	check_ok(pio_histogram_init_edges(&h, edges, counts, 3, &err));
	assert_int_equal(h.finite, 7);
	assert_true(h.min == 0 && h.max == 10 && h.sum == 5 * 0.25 + 2 * 5.25);
	add(&h, more, 5);
	check_fails(pio_histogram_add(&h, outside, 2, &err), PIO_EINVAL, "10.5");
	static const uint64_t expected[] = { 2, 7, 3 };
	size_t n = 0;
	for (size_t at = 0; pio_histogram_next(&h, &at, &b); n++) {
		assert_true(b.low == edges[n] && b.high == edges[n + 1]);
		assert_int_equal(b.count, expected[n]);
	}
	assert_int_equal(n, 3);
	assert_int_equal(h.finite, 12);
	check_same(&h, &h);
	check_ok(pio_histogram_init_edges(&other, other_edges, counts, 3, &err));
	check_fails(pio_histogram_merge(&h, &other, &err), PIO_EINVAL, "different");
	check_fails(pio_histogram_merge(&h, &log, &err), PIO_EINVAL, "different");
	check_fails(pio_histogram_merge(&log, &h, &err), PIO_EINVAL, "different");
	check_ok(pio_histogram_merge(&h, &h, &err));
	assert_int_equal(h.finite, 24);
	assert_int_equal(h.nans, 2);
	pio_histogram_fini(&h);
	pio_histogram_fini(&other);
}

static void test_edges_that_cannot_be(void **state)
{
	(void)state;
	static const uint64_t counts[] = { UINT64_MAX, 1 };
	static const double falling[] = { 0, 1, 1 }, nan[] = { 0, NAN, 1 }, fine[] = { 0, 1, 2 };
	pio_histogram h;
	check_fails(pio_histogram_init_edges(&h, falling, counts, 2, &err), PIO_EINVAL, "edge 2");
	check_fails(pio_histogram_init_edges(&h, nan, counts, 2, &err), PIO_EINVAL, "edge 1");
	check_fails(pio_histogram_init_edges(&h, fine, counts, 0, &err), PIO_EINVAL, "1 to 65536");
	check_fails(pio_histogram_init_edges(&h, fine, counts, 2, &err), PIO_EINVAL, "64 bits");
	assert_int_equal(pio_mem_live(), 0);
}

/* ---- bytes ------------------------------------------------------------------------- */

static void test_normal_weights_take_few_bytes(void **state)
{
	(void)state;
	pio_histogram h = PIO_HISTOGRAM_INIT;
	pio_str bytes = PIO_STR_INIT;
	random_state = 3;
	for (int i = 0; i < 100000; i++) { /* nearly normal: a sum of 12 */
		double value = -6;
		for (int k = 0; k < 12; k++)
			value += (double)(random_bits() >> 11) * 0x1p-53;
		value *= 0.02;
		add(&h, &value, 1);
	}
	encode(&bytes, &h);
	assert_true(bytes.len < 1200);
	check_same(&h, &h);
	pio_str_fini(&bytes);
	pio_histogram_fini(&h);
}

static void test_version_and_tail(void **state)
{
	(void)state;
	static const double values[] = { 1, 2, -3 };
	pio_histogram h = PIO_HISTOGRAM_INIT, back;
	pio_str bytes = PIO_STR_INIT;
	add(&h, values, 3);
	encode(&bytes, &h);
	for (size_t n = 0; n < bytes.len; n++)
		assert_int_equal(pio_histogram_decode(&back, bytes.data, n, NULL), -PIO_ECORRUPT);
	pio_str_putc(&bytes, 0);
	check_fails(pio_histogram_decode(&back, bytes.data, bytes.len, &err), PIO_ECORRUPT, "more bytes");
	bytes.data[4] = 2;
	check_fails(pio_histogram_decode(&back, bytes.data, bytes.len, &err), PIO_EVERSION, "version 2");
	pio_str_fini(&bytes);
	pio_histogram_fini(&h);
	assert_int_equal(pio_mem_live(), 0);
}

/* Whatever the bytes: an error, or a histogram whose bytes they are. */
static void check_mutant(const uint8_t *bytes, size_t size_bytes)
{
	pio_histogram back;
	pio_str again = PIO_STR_INIT;
	uint8_t *exact = malloc(size_bytes ? size_bytes : 1); /* a read beyond the end is seen */
	memcpy(exact, bytes, size_bytes);
	if (pio_histogram_decode(&back, exact, size_bytes, NULL) == 0) {
		encode(&again, &back);
		assert_int_equal(again.len, size_bytes);
		assert_memory_equal(again.data, exact, size_bytes);
		pio_histogram_bucket b;
		uint64_t total = 0;
		for (size_t at = 0; pio_histogram_next(&back, &at, &b);)
			total += b.count;
		assert_int_equal(total, back.finite);
		pio_histogram_fini(&back);
	}
	free(exact);
	pio_str_fini(&again);
}

static void test_mutations(void **state)
{
	(void)state;
	static const double edges[] = { -1, 0, 0.5, 10 }, values[] = { -7, 0, 1e-310, 1, 1.03, 5e9, NAN };
	static const uint64_t counts[] = { 1, 0, 300 };
	pio_histogram h[2] = { PIO_HISTOGRAM_INIT };
	add(&h[0], values, 7);
	check_ok(pio_histogram_init_edges(&h[1], edges, counts, 3, &err));
	random_state = 99;
	for (int k = 0; k < 2; k++) {
		pio_str bytes = PIO_STR_INIT;
		encode(&bytes, &h[k]);
		for (size_t i = 0; i < bytes.len; i++)
			for (int v = 0; v < 256; v++) {
				uint8_t mutant[256];
				memcpy(mutant, bytes.data, bytes.len);
				mutant[i] = (uint8_t)v;
				check_mutant(mutant, bytes.len);
			}
		for (int round = 0; round < 20000; round++) {
			uint8_t mutant[256];
			size_t n = 6 + random_bits() % (bytes.len - 5);
			memcpy(mutant, bytes.data, bytes.len);
			for (uint64_t i = random_bits() % 6; i > 0; i--)
				mutant[5 + random_bits() % (n - 5)] = (uint8_t)random_bits();
			check_mutant(mutant, n);
		}
		pio_str_fini(&bytes);
		pio_histogram_fini(&h[k]);
	}
	assert_int_equal(pio_mem_live(), 0);
}

static void test_memory_runs_out(void **state)
{
	(void)state;
	static const double values[] = { -7, 3 };
	static const double edges[] = { 0, 1, 2 };
	static const uint64_t counts[] = { 1, 2 };
	for (uint64_t nth = 1; nth <= 2; nth++) {
		pio_histogram h = PIO_HISTOGRAM_INIT;
		pio_mem_fail_at(nth);
		assert_int_equal(pio_histogram_add(&h, values, 2, NULL), -PIO_ENOMEM);
		assert_int_equal(h.finite, nth - 1);
		add(&h, values + nth - 1, 3 - nth);
		assert_int_equal(h.finite, 2);
		pio_histogram_fini(&h);
		pio_mem_fail_at(nth);
		assert_int_equal(pio_histogram_init_edges(&h, edges, counts, 2, NULL), -PIO_ENOMEM);
	}
	pio_mem_fail_at(0);
	assert_int_equal(pio_mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_hold_their_values),
		cmocka_unit_test(test_powers_of_two_are_edges),
		cmocka_unit_test(test_what_is_no_number),
		cmocka_unit_test(test_ranks_add_up),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_edges_that_cannot_be),
		cmocka_unit_test(test_normal_weights_take_few_bytes),
		cmocka_unit_test(test_version_and_tail),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_memory_runs_out),
	};
	return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
