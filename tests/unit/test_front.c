/* Points with several goals: against the definitions, and volumes against a count of cells. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/draw.h"
#include "sweep/front.h"
#include "test.h"

enum { rows_max = 120 };

static pio_draw named(int64_t number)
{
	return pio_draw_init(3, number, "front", 5);
}

/* Whole numbers below `levels`, so that there are ties and equal rows. */
static void fill(double *values, size_t count, int goals, int levels, int64_t number)
{
	pio_draw draw = named(number);
	for (size_t i = 0; i < count * (size_t)goals; i++)
		values[i] = (double)pio_draw_integer(&draw, 0, levels - 1);
}

/* By the definition: front 0 is what no other row dominates; take it away, and so on. */
static void ranks_by_definition(uint32_t *ranks, const double *values, size_t count, int goals)
{
	size_t left = count;
	for (size_t i = 0; i < count; i++)
		ranks[i] = UINT32_MAX;
	for (uint32_t rank = 0; left > 0; rank++) {
		bool on_front[rows_max] = { false };
		for (size_t i = 0; i < count; i++) {
			bool is_dominated = ranks[i] != UINT32_MAX;
			for (size_t k = 0; k < count && !is_dominated; k++)
				is_dominated = ranks[k] == UINT32_MAX &&
				               pio_front_dominates(values + k * (size_t)goals,
				                                   values + i * (size_t)goals, goals);
			on_front[i] = !is_dominated;
		}
		for (size_t i = 0; i < count; i++)
			if (on_front[i]) {
				ranks[i] = rank;
				left--;
			}
	}
}

static void test_ranks(void **state)
{
	(void)state;
	for (int goals = 1; goals <= 4; goals++)
		for (int levels = 2; levels <= 40; levels += 19)
			for (size_t count = 0; count <= rows_max; count += 30) {
				double values[rows_max * 4];
				uint32_t ranks[rows_max], expected[rows_max];
				fill(values, count, goals, levels, goals * 1000 + levels);
				ranks_by_definition(expected, values, count, goals);
				check_ok(pio_front_ranks(ranks, values, NULL, count, goals, &err));
				for (size_t i = 0; i < count; i++)
					assert_int_equal(ranks[i], expected[i]);
			}
}

static void test_what_violates_comes_behind(void **state)
{
	(void)state;
	const double values[] = { 1, 1, 0, 0, 2, 2, -9, -9, -5, -5, 0.5, 3, -1, -1 };
	const double violations[] = { 0, 3, -1, 0.5, INFINITY, 0, 3 };
	uint32_t ranks[7];
	check_ok(pio_front_ranks(ranks, values, violations, 7, 2, &err));
	const uint32_t expected[] = { 0, 3, 1, 2, 4, 0, 3 };
	for (int i = 0; i < 7; i++)
		assert_int_equal(ranks[i], expected[i]);
}

static void test_crowding(void **state)
{
	(void)state;
	/* of a front of two goals: ends are infinite, the others the sides of the box of their
	 * neighbours, in parts of the ranges 10 and 8 */
	const double values[] = { 0, 8, 10, 0, 2, 5, 4, 3, 5, 1 };
	double distances[5];
	check_ok(pio_front_crowding(distances, values, 5, 2, &err));
	assert_true(isinf(distances[0]) && isinf(distances[1]));
	assert_true(fabs(distances[2] - (4.0 / 10 + 5.0 / 8)) < 1e-15);
	assert_true(fabs(distances[3] - (3.0 / 10 + 4.0 / 8)) < 1e-15);
	assert_true(fabs(distances[4] - (6.0 / 10 + 3.0 / 8)) < 1e-15);
	/* of equal rows there are no ranges, and no ends */
	const double equal[] = { 1, 1, 1, 1 };
	check_ok(pio_front_crowding(distances, equal, 2, 2, &err));
	assert_true(distances[0] == 0 && distances[1] == 0);
}

/* Cells of a grid of whole numbers that some row dominates. */
static double cells(const double *values, size_t count, int goals, int side)
{
	int total = 1, covered = 0;
	for (int g = 0; g < goals; g++)
		total *= side;
	for (int cell = 0; cell < total; cell++) {
		bool is_covered = false;
		for (size_t i = 0; i < count && !is_covered; i++) {
			is_covered = true;
			for (int g = 0, rest = cell; g < goals; g++, rest /= side)
				is_covered = is_covered && values[i * (size_t)goals + (size_t)g] <= rest % side;
		}
		covered += is_covered;
	}
	return covered;
}

static void test_hypervolume(void **state)
{
	(void)state;
	for (int goals = 1; goals <= 5; goals++)
		for (size_t count = 0; count <= 40; count += 8) {
			double values[40 * 5], volume = -1, reference[] = { 5, 5, 5, 5, 5 };
			fill(values, count, goals, 7, goals * 100); /* some are beyond the reference */
			check_ok(pio_front_hypervolume(&volume, values, count, goals, reference, &err));
			assert_true(volume == cells(values, count, goals, 5));
		}
	/* in closed form: the 1,000 steps below the line x + y = 1 */
	static double line[2000];
	double volume, sum = 0;
	for (int i = 0; i < 1000; i++) {
		line[2 * i] = i / 1000.0;
		line[2 * i + 1] = 1 - i / 1000.0;
		sum += (1 - line[2 * i + 1]) / 1000;
	}
	check_ok(pio_front_hypervolume(&volume, line, 1000, 2, (const double[]){ 1, 1 }, &err));
	assert_true(fabs(volume - (sum)) < 1e-12);
}

static void test_subset(void **state)
{
	(void)state;
	for (int goals = 2; goals <= 3; goals++) {
		enum { count = 30, wanted = 8 };
		double values[count * 3], chosen_rows[(wanted + 1) * 3], reference[] = { 12, 12, 12 };
		uint32_t chosen[wanted];
		size_t d = (size_t)goals;
		fill(values, count, goals, 12, 7 * goals);
		check_ok(pio_front_subset(chosen, wanted, values, count, goals, reference, &err));
		bool taken[count] = { false };
		for (size_t k = 0; k < wanted; k++) {
			/* each is the first of those with which the volume is largest */
			size_t best = count;
			double most = -1;
			for (size_t i = 0; i < count; i++) {
				double volume;
				memcpy(chosen_rows + k * d, values + i * d, d * sizeof *values);
				check_ok(pio_front_hypervolume(&volume, chosen_rows, k + 1, goals, reference, &err));
				if (!taken[i] && volume > most) {
					most = volume;
					best = i;
				}
			}
			assert_int_equal(chosen[k], best);
			taken[best] = true;
			memcpy(chosen_rows + k * d, values + best * d, d * sizeof *values);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranks),
		cmocka_unit_test(test_what_violates_comes_behind),
		cmocka_unit_test(test_crowding),
		cmocka_unit_test(test_hypervolume),
		cmocka_unit_test(test_subset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
