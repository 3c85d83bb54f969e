/* How much parameters matter, where that is known in closed form. */
#include <math.h>
#include <string.h>

#include "sweep/forest.h"
#include "sweep/pedanova.h"
#include "test.h"

enum { copies = 40, trees = 16 };

static void check_forest(const pio_axis *axes, int axes_count, const double *points, const double *values,
                         size_t count, const double *expected)
{
	double importance[4];
	pio_draw draw = pio_draw_init(1, 0, "test", 4);
	check_ok(pio_forest_importance(importance, axes, axes_count, points, values, count, trees, &draw, &err));
	for (int a = 0; a < axes_count; a++)
		if (fabs(importance[a] - expected[a]) > 1e-9)
			fail_msg("axis %d: %.12g, expected %.12g", a, importance[a], expected[a]);
}

/* All pairs of two choices, so often that each tree has drawn them all: 3 a + b has variances
 * 9 / 4 and 1 / 4, and of a xor b neither alone says anything. */
static void test_forest_of_choices(void **state)
{
	(void)state;
	const pio_axis axes[] = { pio_axis_init(PIO_AXIS_CHOICE, false, 0, 1),
		                  pio_axis_init(PIO_AXIS_CHOICE, false, 0, 1) };
	double points[copies * 4 * 2], sum[copies * 4], both[copies * 4];
	for (int i = 0; i < copies * 4; i++) {
		double a = i & 1, b = i >> 1 & 1;
		points[2 * i] = a;
		points[2 * i + 1] = b;
		sum[i] = 3 * a + b;
		both[i] = a != b;
	}
	check_forest(axes, 2, points, sum, copies * 4, (const double[]){ 0.9, 0.1 });
	check_forest(axes, 2, points, both, copies * 4, (const double[]){ 0, 0 });
	memset(sum, 0, sizeof sum);
	check_forest(axes, 2, points, sum, copies * 4, (const double[]){ 0, 0 });
}

/* A step at 0.01 of a logarithmic range from 1e-4 to 1 is one in its middle, and a step at a
 * fourth of a plain one has the variance 3 / 16; of three choices one is 2 higher: 8 / 9. */
static void test_forest_on_the_scale_of_each_axis(void **state)
{
	(void)state;
	const pio_axis axes[] = { pio_axis_init(PIO_AXIS_REAL, true, 1e-4, 1),
		                  pio_axis_init(PIO_AXIS_REAL, false, 0, 1),
		                  pio_axis_init(PIO_AXIS_CHOICE, false, 0, 2) };
	enum { count = copies * 12 };
	static double points[count * 3], values[count];
	for (int i = 0; i < count; i++) {
		int is_above = i & 1, is_far = i >> 1 & 1, choice = i % 3;
		points[3 * i] = log(1e-2) + (is_above ? 1e-10 : -1e-10);
		points[3 * i + 1] = 0.25 + (is_far ? 1e-10 : -1e-10);
		points[3 * i + 2] = choice;
		values[i] = is_above + is_far + 2 * (choice == 1);
	}
	const double sum = 1.0 / 4 + 3.0 / 16 + 8.0 / 9;
	double importance[3];
	pio_draw draw = pio_draw_init(1, 0, "test", 4);
	check_ok(pio_forest_importance(importance, axes, 3, points, values, count, trees, &draw, &err));
	assert_true(fabs(importance[0] - 1.0 / 4 / sum) < 1e-6);
	assert_true(fabs(importance[1] - 3.0 / 16 / sum) < 1e-6);
	assert_true(fabs(importance[2] - 8.0 / 9 / sum) < 1e-6);
}

static void test_divergence_of_choices(void **state)
{
	(void)state;
	/* Three choices, four points of which the good one is at choice 2. The kernels of the good:
	 * that point, with the prior's half on each, and the broad one, both of weight 1; of all:
	 * two cells of weights 3 and 1 with a third on each, and the broad one. */
	const pio_axis axis = pio_axis_init(PIO_AXIS_CHOICE, false, 0, 2);
	double q[3], p[3], expected = 0, divergence;
	for (int c = 0; c < 3; c++) {
		q[c] = ((0.5 + (c == 2)) / 2.5 + 1.0 / 3) / 2;
		p[c] = (3 * (1.0 / 3 + (c == 0)) / 2 + (1.0 / 3 + (c == 2)) / 2 + 1.0 / 3) / 5;
		expected += p[c] * (q[c] / p[c] - 1) * (q[c] / p[c] - 1);
	}
	check_ok(pio_ped_divergence(&divergence, &axis, (const double[]){ 2 }, 1,
	                            (const double[]){ 0, 2, 0, 0 }, 4, &err));
	assert_true(fabs(divergence - expected) < 1e-10);
}

static void test_divergence(void **state)
{
	(void)state;
	const pio_axis axes[] = { pio_axis_init(PIO_AXIS_REAL, false, -2, 3),
		                  pio_axis_init(PIO_AXIS_REAL, true, 1e-6, 1),
		                  pio_axis_init(PIO_AXIS_WHOLE, false, 1, 7),
		                  pio_axis_init(PIO_AXIS_WHOLE, true, 1, 5000) };
	for (int a = 0; a < 4; a++) {
		double all[100], near[10], same, far;
		for (int i = 0; i < 100; i++)
			all[i] = pio_axis_snap(&axes[a], axes[a].low + (axes[a].high - axes[a].low) * (i + 0.5) / 100);
		for (int i = 0; i < 10; i++)
			near[i] = all[3 + i % 2];
		/* of the same points nothing differs; what is in a corner differs much */
		check_ok(pio_ped_divergence(&same, &axes[a], all, 100, all, 100, &err));
		check_ok(pio_ped_divergence(&far, &axes[a], near, 10, all, 100, &err));
		assert_true(same == 0 && far > 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forest_of_choices),
		cmocka_unit_test(test_forest_on_the_scale_of_each_axis),
		cmocka_unit_test(test_divergence_of_choices),
		cmocka_unit_test(test_divergence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
