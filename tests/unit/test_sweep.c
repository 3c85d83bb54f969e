/* Draws and real functions: the same everywhere, and right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "sweep/draw.h"
#include "sweep/real.h"
#include "sweep/sobol.h"

static pio_draw named(int64_t seed, int64_t number, const char *name)
{
	return pio_draw_init(seed, number, name, strlen(name));
}

/* These numbers are a promise to every recipe that was ever planned: a sweep
 * replayed in ten years proposes the same points. */
static void draws_are_for_ever(void **state)
{
	(void)state;
	pio_draw a = named(1, 1, "lr");
	assert_true(pio_draw_next(&a) == UINT64_C(0x6ba0c6a7432efbca));
	assert_true(pio_draw_next(&a) == UINT64_C(0x0969823464471c9d));
	pio_draw b = named(-7, INT64_MAX, "optimizer.beta2");
	assert_true(pio_draw_next(&b) == UINT64_C(0x514161595b8e75ae));
	assert_true(pio_real_exp(1) == 0x1.5bf0a8b14576ap+1);
	assert_true(pio_real_log(10) == 0x1.26bb1bbb55516p+1);
}

static void draws_depend_on_every_part_of_the_key(void **state)
{
	(void)state;
	pio_draw draws[] = { named(1, 2, "a"), named(2, 1, "a"), named(1, 2, "b"), named(1, 2, "aa"),
		named(1, 2, ""), named(0, 2, "a"), named(1, 0, "a") };
	uint64_t values[7];
	for (int i = 0; i < 7; i++) {
		values[i] = pio_draw_next(&draws[i]);
		for (int j = 0; j < i; j++)
			assert_true(values[i] != values[j]);
	}
}

static void uniform_fills_its_range_evenly(void **state)
{
	(void)state;
	enum { n = 200000, bins = 20 };
	int64_t count[bins] = { 0 };
	double sum = 0;
	for (int i = 0; i < n; i++) {
		pio_draw draw = named(3, i, "x");
		double u = pio_draw_uniform(&draw);
		assert_true(u >= 0 && u < 1);
		count[(int)(u * bins)]++;
		sum += u;
	}
	assert_true(fabs(sum / n - 0.5) < 5 / sqrt(12.0 * n));
	double chi2 = 0;
	for (int i = 0; i < bins; i++) {
		double d = (double)count[i] - (double)n / bins;
		chi2 += d * d / ((double)n / bins);
	}
	assert_true(chi2 < 50); /* 19 degrees of freedom: beyond 50 is one in 10,000 */
}

static void integers_have_no_bias(void **state)
{
	(void)state;
	int64_t count[3] = { 0 };
	for (int i = 0; i < 90000; i++) {
		pio_draw draw = named(5, i, "n");
		int64_t value = pio_draw_integer(&draw, -1, 1);
		assert_in_range(value + 1, 0, 2);
		count[value + 1]++;
	}
	for (int i = 0; i < 3; i++)
		assert_in_range(count[i], 29300, 30700);
	/* A range of three quarters of 2^64, where value % range would give the lower
	 * third twice as often. */
	int64_t low = 0, lo = INT64_MIN, hi = INT64_MIN / 2 + INT64_MAX;
	for (int i = 0; i < 30000; i++) {
		pio_draw draw = named(6, i, "n");
		int64_t value = pio_draw_integer(&draw, lo, hi);
		assert_true(value >= lo && value <= hi);
		low += value < INT64_MIN / 2;
	}
	assert_in_range(low, 9700, 10300);
	pio_draw whole = named(7, 1, "n");
	assert_int_equal(pio_draw_integer(&whole, 9, 9), 9);
	pio_draw_integer(&whole, INT64_MIN, INT64_MAX);
}

static void a_shuffle_is_a_permutation(void **state)
{
	(void)state;
	int64_t values[1000];
	int seen[1000] = { 0 };
	pio_draw draw = named(1, 0, "shuffle");
	pio_draw_shuffle(&draw, values, 1000);
	int moved = 0;
	for (int i = 0; i < 1000; i++) {
		assert_in_range(values[i], 0, 999);
		assert_int_equal(seen[values[i]]++, 0);
		moved += values[i] != i;
	}
	assert_true(moved > 950);
	pio_draw_shuffle(&draw, values, 0);
}

/* Distance in units of the last place of the right answer. */
static double ulps(double value, long double right)
{
	double rounded = (double)right;
	double ulp = nextafter(fabs(rounded), INFINITY) - fabs(rounded);
	return (double)(fabsl((long double)value - right) / ulp);
}

static void exp_and_log_are_within_2_ulp(void **state)
{
	(void)state;
	for (int i = 0; i < 400000; i++) {
		pio_draw draw = named(8, i, "x");
		double u = pio_draw_uniform(&draw);
		double x = (u - 0.5) * (i % 2 ? 1400 : 2);
		if (x < 709.7 && x > -708)
			assert_true(ulps(pio_real_exp(x), expl((long double)x)) < 2);
		double y = i % 2 ? exp(x / 2) : 0.5 + u;
		if (y != 1)
			assert_true(ulps(pio_real_log(y), logl((long double)y)) < 2);
	}
}

/* What differs from the right answer, in parts of it. */
static double off(double value, long double right)
{
	return (double)fabsl(((long double)value - right) / right);
}

static void the_normal_distribution_is_right(void **state)
{
	(void)state;
	const long double sqrt2 = 1.4142135623730950488017L;
	for (int i = 0; i < 100000; i++) {
		pio_draw draw = named(9, i, "x");
		double x = (pio_draw_uniform(&draw) - 0.5) * 20;
		long double right = 0.5L * erfcl(-(long double)x / sqrt2);
		assert_true(off(pio_real_ndtr(x), right) < 1e-15 + 2e-16 * x * x);
		assert_true(fabs(pio_real_log_ndtr(x) - (double)logl(right)) < 1e-14 * (1 + x * x));
		double positive = fabs(x);
		assert_true(off(pio_real_erfcx(positive), expl((long double)positive * positive) *
		                                          erfcl((long double)positive)) < 1e-15);
		/* back again; where 1 - p has lost the digits of x there is nothing to compare */
		if (x < 4)
			assert_true(fabs(pio_real_ndtri(pio_real_ndtr(x)) - x) < 1e-13 + 1e-15 / exp(-x * x / 2));
	}
	assert_true(pio_real_ndtr(0) == 0.5);
	assert_true(fabs(pio_real_ndtri(0.5)) < 1e-15);
	assert_true(fabs(pio_real_ndtri(0.975) - 1.959963984540054) < 1e-14);
	assert_true(isinf(pio_real_ndtri(0)) && isinf(pio_real_ndtri(1)) && isnan(pio_real_ndtri(1.5)));
	assert_true(fabs(pio_real_ndtri(1e-300) + 37.0471) < 1e-4);
	assert_true(fabs(pio_real_log_ndtr(-40) + 804.608442) < 1e-5);
	assert_true(fabs(pio_real_erfcx(1e10) - 5.6418958354775629e-11) < 1e-25);
	assert_true(fabs(pio_real_erfcx(-1) - 5.00898008076228) < 1e-13);
	assert_true(isnan(pio_real_ndtr(NAN)) && isnan(pio_real_erfcx(NAN)));
}

static void check_many(void (*many)(double *out, const double *x, size_t count), double (*one)(double x),
                       const double *x, size_t count)
{
	double out[200];
	assert_true(count <= 200);
	many(out, x, count);
	for (size_t i = 0; i < count; i++) {
		double right = one(x[i]);
		if (memcmp(&out[i], &right, sizeof right) != 0 && !(isnan(out[i]) && isnan(right)))
			fail_msg("of many at once: %a gives %a, alone %a", x[i], out[i], right);
	}
	double in_place[200];
	memcpy(in_place, x, count * sizeof *x);
	many(in_place, in_place, count);
	assert_memory_equal(in_place, out, count * sizeof *out);
}

static void many_at_once_are_the_same(void **state)
{
	(void)state;
	double x[200] = { 0, -0.0, 1, -1, INFINITY, -INFINITY, NAN, 5e-324, 0x1p-1022, 1e-310, 1.7e308, 0.5, 0.495,
		          0.505, 0.4999999, 0.5000001, 0x1p-1021, 1 - 0x1p-53, 0x1.6a09e667f3bcdp0,
		          0x1.6a09e667f3bcep0, 0x1.fffffffffffffp-1 };
	check_many(pio_real_logs, pio_real_log, x, 21);
	check_many(pio_real_ndtris, pio_real_ndtri, x, 21);
	for (int i = 0; i < 200; i++)
		x[i] = pow(10, (i - 100) * 3.07);
	check_many(pio_real_logs, pio_real_log, x, 200);
	for (int i = 0; i < 200; i++)
		x[i] = i < 100 ? (i + 0.37) / 100.37 : pow(10, -3.07 * (i - 99));
	check_many(pio_real_ndtris, pio_real_ndtri, x, 200);
	for (int i = 0; i < 200; i++)
		x[i] = i < 150 ? (i - 75) * 0.13 : (i - 175) * 3.1;
	x[75] = -0.0;
	check_many(pio_real_ndtrs, pio_real_ndtr, x, 200);
	check_many(pio_real_ndtrs, pio_real_ndtr, x, 3);
}

static void exp_and_log_at_their_ends(void **state)
{
	(void)state;
	assert_true(pio_real_exp(0) == 1);
	assert_true(pio_real_exp(-0.0) == 1);
	assert_true(isinf(pio_real_exp(710)));
	assert_true(isinf(pio_real_exp(INFINITY)));
	assert_true(pio_real_exp(-746) == 0);
	assert_true(pio_real_exp(-INFINITY) == 0);
	assert_true(pio_real_exp(-740) > 0); /* denormal */
	assert_true(isnan(pio_real_exp(NAN)));
	/* many at once are the same, down to where they are nothing */
	static double x[5003], many[5003];
	for (int i = 0; i < 5003; i++)
		x[i] = i ? -760.0 * i * i * i / 5003 / 5003 / 5003 : -INFINITY;
	x[1] = -0.0;
	pio_real_exps(many, x, 5003);
	for (int i = 0; i < 5003; i++)
		assert_true(many[i] == pio_real_exp(x[i]));
	pio_real_exps(x, x, 5003);
	assert_memory_equal(x, many, sizeof x);
	assert_true(pio_real_log(1) == 0);
	assert_true(isnan(pio_real_log(-1)));
	assert_true(isnan(pio_real_log(NAN)));
	assert_true(isinf(pio_real_log(0)) && pio_real_log(0) < 0);
	assert_true(isinf(pio_real_log(INFINITY)));
	assert_true(fabs(pio_real_log(5e-324) / log(5e-324) - 1) < 1e-15);
	assert_true(fabs(pio_real_log(1.7976931348623157e308) / log(1.7976931348623157e308) - 1) < 1e-15);
}

/* Of 2^bits points, is there one in each of the boxes of 2^k cells along x and 2^(n - k)
 * along y, as often as there are points for it? */
static bool is_even(int x, int y, int bits, int n, bool is_scrambled)
{
	for (int k = 0; k <= n; k++) {
		uint16_t count[1024] = { 0 };
		for (uint32_t i = 0; i < 1u << bits; i++) {
			double u = pio_sobol(i, x, is_scrambled ? 77u + (unsigned)x : 0);
			double v = pio_sobol(i, y, is_scrambled ? 77u + (unsigned)y : 0);
			count[(unsigned)(u * (1 << k)) << (n - k) | (unsigned)(v * (1 << (n - k)))]++;
		}
		for (int cell = 0; cell < 1 << n; cell++)
			if (count[cell] != 1 << (bits - n))
				return false;
	}
	return true;
}

static void sobol_fills_every_dimension_and_every_pair(void **state)
{
	(void)state;
	for (int d = 0; d < PIO_SOBOL_DIMENSIONS; d++)
		assert_true(is_even(d, (d + 1) % PIO_SOBOL_DIMENSIONS, 10, 4, true));
	/* along one dimension alone 2^10 points are in 2^10 cells */
	for (int d = 0; d < PIO_SOBOL_DIMENSIONS; d++)
		for (int scrambled = 0; scrambled < 2; scrambled++) {
			uint8_t seen[1024] = { 0 };
			for (uint32_t i = 0; i < 1024; i++)
				seen[(int)(pio_sobol(i, d, scrambled ? 5u : 0) * 1024)]++;
			for (int cell = 0; cell < 1024; cell++)
				assert_int_equal(seen[cell], 1);
		}
	/* the first dimensions, of which most spaces are, more finely */
	for (int x = 0; x < 12; x++)
		for (int y = 0; y < x; y++)
			assert_true(is_even(x, y, 10, 6, false) && is_even(x, y, 10, 6, true));
}

/* The mean of a smooth function over n points: closer to the truth than chance would be,
 * and not the same error for another seed. */
static void scrambled_points_are_even_and_independent(void **state)
{
	(void)state;
	enum { n = 1024, dimensions = 6, seeds = 16 };
	double squares = 0, errors[seeds], correlation = 0;
	for (int seed = 0; seed < seeds; seed++) {
		double sum = 0;
		for (uint32_t i = 0; i < n; i++) {
			double value = 0;
			for (int d = 0; d < dimensions; d++) {
				double u = pio_sobol(i, d, (uint32_t)(seed * 7919 + d * 104729 + 1));
				value += u * u * (d + 1);
			}
			sum += value;
		}
		errors[seed] = sum / n - 7;
		squares += errors[seed] * errors[seed] / seeds;
	}
	for (int seed = 0; seed + 1 < seeds; seed++)
		correlation += errors[seed] * errors[seed + 1] / squares / (seeds - 1);
	assert_true(sqrt(squares) < 0.01); /* chance: 0.09 */
	assert_true(fabs(correlation) < 0.7);
}

static void sobol_is_for_ever(void **state)
{
	(void)state;
	assert_true(pio_sobol(1, 0, 0) == 0.5 && pio_sobol(2, 0, 0) == 0.25 && pio_sobol(3, 0, 0) == 0.75);
	assert_true(pio_sobol(0, 3, 0) == 0);
	assert_true(pio_sobol(1234, 17, 99) == 0x1.84ac8932p-1);
	assert_true(pio_sobol(4000000000u, 63, 99) == 0x1.3fc94a08p-1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(draws_are_for_ever),
		cmocka_unit_test(draws_depend_on_every_part_of_the_key),
		cmocka_unit_test(uniform_fills_its_range_evenly),
		cmocka_unit_test(integers_have_no_bias),
		cmocka_unit_test(a_shuffle_is_a_permutation),
		cmocka_unit_test(exp_and_log_are_within_2_ulp),
		cmocka_unit_test(exp_and_log_at_their_ends),
		cmocka_unit_test(many_at_once_are_the_same),
		cmocka_unit_test(the_normal_distribution_is_right),
		cmocka_unit_test(sobol_fills_every_dimension_and_every_pair),
		cmocka_unit_test(scrambled_points_are_even_and_independent),
		cmocka_unit_test(sobol_is_for_ever),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
