/* The evolution strategy: its eigenvectors, what it finds, what it makes of results in any
 * order, and the margin. That its steps are those of the papers, tests/cli/test_formulas.py
 * says. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/cma.h"
#include "sweep/eigen.h"
#include "test.h"

enum { dimensions = 6, slots_max = 4000 };

static pio_draw named(int64_t number)
{
	return pio_draw_init(1, number, "test", 4);
}

static void eigenvectors_turn_a_matrix_into_its_values(void **state)
{
	(void)state;
	enum { n = 9 };
	double m[n * n], lost[n * n], values[n], vectors[n * n];
	pio_draw draw = named(0);
	for (int i = 0; i < n; i++)
		for (int j = 0; j <= i; j++)
			m[i * n + j] = m[j * n + i] = pio_draw_uniform(&draw) - 0.5;
	memcpy(lost, m, sizeof m);
	pio_eigen(values, vectors, lost, n);
	for (int k = 0; k < n; k++)
		for (int i = 0; i < n; i++) {
			double image = 0, dot = 0;
			for (int j = 0; j < n; j++) {
				image += m[i * n + j] * vectors[j * n + k];
				dot += vectors[j * n + k] * vectors[j * n + i];
			}
			assert_true(fabs(image - values[k] * vectors[i * n + k]) < 1e-14);
			assert_true(fabs(dot - (i == k)) < 1e-14);
		}
}

static pio_cma *of_reals(void)
{
	pio_axis axes[dimensions];
	for (int a = 0; a < dimensions; a++)
		axes[a] = pio_axis_init(PIO_AXIS_REAL, false, -5, 10);
	pio_cma *cma = NULL;
	check_ok(pio_cma_new(&cma, axes, dimensions, 0, &err));
	return cma;
}

/* Narrow, and at an angle to the axes. */
static double valley(const double *x)
{
	double sum = 0;
	for (int i = 0; i < dimensions; i++)
		sum += i + 1 < dimensions ? 100 * (x[i + 1] - x[i]) * (x[i + 1] - x[i]) : 0;
	return sum + (x[0] - 7) * (x[0] - 7);
}

/* The best value of so many results, each of which comes `delay` draws later. */
static double search(pio_cma *cma, int runs, int delay)
{
	static double latents[slots_max][dimensions], values[slots_max];
	static int generations[slots_max];
	double point[dimensions], best = INFINITY;
	for (int n = 0; n < runs; n++) {
		pio_draw draw = named(n + 1);
		generations[n] = pio_cma_generation(cma);
		pio_cma_draw(latents[n], cma, &draw);
		pio_cma_point(point, cma, latents[n]);
		for (int a = 0; a < dimensions; a++)
			assert_true(point[a] >= -5 && point[a] <= 10);
		values[n] = n % 11 == 10 ? NAN : valley(point);
		best = fmin(best, isnan(values[n]) ? best : values[n]);
		int due = n - delay;
		if (due >= 0)
			pio_cma_tell(cma, latents[due], values[due], generations[due]);
	}
	return best;
}

static void a_valley_is_followed_whenever_results_come(void **state)
{
	(void)state;
	for (int delay = 0; delay <= 32; delay += 16) {
		pio_cma *cma = of_reals();
		if (delay)
			check_ok(pio_cma_begin(cma, NULL, 1.0 / 6, delay, &err));
		assert_true(search(cma, 2500, delay) < (delay ? 1e-3 : 1e-10));
		/* all of them count */
		assert_int_equal(pio_cma_generation(cma), (2500 - delay) / pio_cma_population(cma));
		pio_cma_free(cma);
	}
}

static void it_says_when_there_is_no_more_to_find(void **state)
{
	(void)state;
	pio_cma *cma = of_reals();
	double mean[dimensions] = { 0.1, 0.2, 0.3, 0.4, 0.5, 0.6 };
	for (int n = 0; n < 4000 && !pio_cma_is_over(cma); n += 100)
		search(cma, 100, 0);
	assert_true(pio_cma_is_over(cma));
	int before = pio_cma_generation(cma);
	check_ok(pio_cma_begin(cma, mean, 0.2, 24, &err));
	assert_false(pio_cma_is_over(cma));
	assert_int_equal(pio_cma_population(cma), 24);
	assert_memory_equal(pio_cma_mean(cma), mean, sizeof mean);
	/* what was drawn before it began again counts no more */
	for (int i = 0; i < 24; i++)
		pio_cma_tell(cma, mean, 1, before);
	assert_int_equal(pio_cma_generation(cma), before + 1);
	pio_cma_free(cma);
}

static void failures_alone_say_nothing_and_far_points_do_not_carry_it_away(void **state)
{
	(void)state;
	pio_cma *cma = of_reals();
	double far[dimensions] = { 1, 1, 1, 1, 1, 1 }, was[dimensions];
	memcpy(was, pio_cma_mean(cma), sizeof was);
	for (int i = 0; i < pio_cma_population(cma); i++)
		pio_cma_tell(cma, far, NAN, -1);
	assert_memory_equal(pio_cma_mean(cma), was, sizeof was);
	check_ok(pio_cma_begin(cma, NULL, 1e-3, 0, &err));
	for (int i = 0; i < pio_cma_population(cma); i++)
		pio_cma_tell(cma, far, i, -1);
	/* sqrt n + 2n / (n + 2) deviations, a point a generation at most */
	double moved = 0;
	for (int i = 0; i < dimensions; i++)
		moved += (pio_cma_mean(cma)[i] - 0.5) * (pio_cma_mean(cma)[i] - 0.5);
	assert_true(sqrt(moved) > 1e-4 && sqrt(moved) <= 1e-3 * (sqrt(6) + 12.0 / 8) * 1.000001);
	pio_cma_free(cma);
}

/* Were there no margin, the number that is the best in the first generations would be the
 * only one that is drawn in the end. */
static void whole_numbers_and_choices_stay_within_reach(void **state)
{
	(void)state;
	const pio_axis axes[4] = { pio_axis_init(PIO_AXIS_WHOLE, false, 0, 20),
		                   pio_axis_init(PIO_AXIS_WHOLE, true, 1, 2),
		                   pio_axis_init(PIO_AXIS_CHOICE, false, 0, 4),
		                   pio_axis_init(PIO_AXIS_REAL, false, 0, 1) };
	pio_cma *cma = NULL;
	double latent[4], point[4];
	check_ok(pio_cma_new(&cma, axes, 4, 0, &err));
	for (int n = 0; n < 2000; n++) {
		pio_draw draw = named(n);
		int generation = pio_cma_generation(cma);
		pio_cma_draw(latent, cma, &draw);
		pio_cma_point(point, cma, latent);
		double value = fabs(point[0] - 3) + point[1] + (point[2] != 2) + fabs(point[3] - 0.4);
		pio_cma_tell(cma, latent, value, generation);
	}
	int others[3] = { 0 }, same = 0, count = 2000;
	for (int n = 0; n < count; n++) {
		pio_draw draw = named(10000 + n);
		pio_cma_draw(latent, cma, &draw);
		pio_cma_point(point, cma, latent);
		others[0] += point[0] != 3;
		others[1] += point[1] != 0;
		others[2] += point[2] != 2;
		same += point[0] == 3 && point[1] == 0 && point[2] == 2;
	}
	assert_true(same > count / 2);
	/* alpha is 1 / (numbers population) */
	double alpha = 1.0 / (3 * pio_cma_population(cma));
	for (int i = 0; i < 2; i++)
		assert_true(others[i] > 0.6 * alpha * count);
	assert_true(others[2] > 0.1 * count);
	for (int k = 0; k < 5; k++)
		assert_true(pio_cma_probability(cma, 2, k) > 0.06);
	pio_cma_free(cma);
}

static void memory_that_is_out_is_an_error(void **state)
{
	(void)state;
	const pio_axis axes[2] = { pio_axis_init(PIO_AXIS_REAL, false, 0, 1),
		                   pio_axis_init(PIO_AXIS_CHOICE, false, 0, 2) };
	for (uint64_t nth = 1;; nth++) {
		int64_t live = pio_mem_live();
		pio_err err = PIO_ERR_INIT;
		pio_cma *cma = NULL;
		pio_mem_fail_at(nth);
		int rc = pio_cma_new(&cma, axes, 2, 0, &err);
		rc = rc ? rc : pio_cma_begin(cma, NULL, 0.1, 20, &err);
		bool struck = pio_mem_fail_at(0) == 0;
		if (struck && cma) /* as it was */
			assert_int_equal(pio_cma_population(cma), 6);
		pio_cma_free(cma);
		assert_int_equal(pio_mem_live(), live);
		assert_int_equal(rc, struck ? -PIO_ENOMEM : 0);
		if (!struck)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eigenvectors_turn_a_matrix_into_its_values),
		cmocka_unit_test(a_valley_is_followed_whenever_results_come),
		cmocka_unit_test(it_says_when_there_is_no_more_to_find),
		cmocka_unit_test(failures_alone_say_nothing_and_far_points_do_not_carry_it_away),
		cmocka_unit_test(whole_numbers_and_choices_stay_within_reach),
		cmocka_unit_test(memory_that_is_out_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
