/* Logistic regression: the gradient vanishes at what it finds, and a separable case ends. */
#include <math.h>

#include "sweep/draw.h"
#include "sweep/logistic.h"
#include "test.h"

enum { count = 60, width = 4 };

static void fill(double *rows, unsigned char *ends, double noise)
{
	pio_draw draw = pio_draw_init(1, 1, "rows", 4);
	for (int i = 0; i < count; i++) {
		double *row = rows + i * width, at = 0.3;
		row[0] = 1;
		for (int a = 1; a < width; a++) {
			row[a] = 2 * pio_draw_uniform(&draw) - 1;
			at += a * row[a];
		}
		ends[i] = at + noise * (pio_draw_uniform(&draw) - 0.5) > 0;
	}
}

static void at_the_top_there_is_no_slope(void **state)
{
	(void)state;
	double rows[count * width], weights[width];
	unsigned char ends[count];
	const double ridge = 0.1;
	fill(rows, ends, 4);
	check_ok(pio_logistic_fit(weights, rows, ends, count, width, ridge, &err));
	for (int a = 0; a < width; a++) {
		double slope = -ridge * weights[a];
		for (int i = 0; i < count; i++) {
			double chance = pio_logistic_chance(weights, rows + i * width, width);
			slope += (ends[i] - chance) * rows[i * width + a];
		}
		assert_true(fabs(slope) < 1e-4);
	}
	assert_true(weights[3] > weights[1]);
}

static void what_can_be_told_apart_is(void **state)
{
	(void)state;
	double rows[count * width], weights[width];
	unsigned char ends[count];
	fill(rows, ends, 0);
	check_ok(pio_logistic_fit(weights, rows, ends, count, width, 1e-3, &err));
	for (int i = 0; i < count; i++)
		assert_int_equal(pio_logistic_chance(weights, rows + i * width, width) > 0.5, ends[i]);
	for (int i = 0; i < count; i++)
		ends[i] = 1;
	check_ok(pio_logistic_fit(weights, rows, ends, count, width, 1e-3, &err));
	for (int i = 0; i < count; i++)
		assert_true(pio_logistic_chance(weights, rows + i * width, width) > 0.5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_the_top_there_is_no_slope),
		cmocka_unit_test(what_can_be_told_apart_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
