#include "sweep/front.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/order.h"

bool pio_front_dominates(const double *a, const double *b, int goals)
{
	bool is_better = false;
	for (int g = 0; g < goals; g++) {
		if (a[g] > b[g])
			return false;
		is_better = is_better || a[g] < b[g];
	}
	return is_better;
}

/* ---- ranks --------------------------------------------------------------------------- */

/* Fronts as lists: newest[f] is the row that joined front f last, and before[row] the one
 * that joined before it. */
typedef struct fronts {
	const double *values;
	int goals;
	uint32_t *newest, *before;
	uint32_t count;
} fronts;

/* Rows come in the order of their values, so a row is dominated only by rows before it. Of
 * two goals the newest row of a front has the lowest second one. */
static bool is_below(const fronts *all, uint32_t front, const double *row)
{
	for (uint32_t other = all->newest[front]; other != UINT32_MAX; other = all->before[other]) {
		if (pio_front_dominates(all->values + (size_t)other * (size_t)all->goals, row, all->goals))
			return true;
		if (all->goals == 2)
			return false;
	}
	return false;
}

/* What dominates a row on front f is dominated itself on all fronts before: so the first
 * front that is free of it is found by halving. */
static uint32_t front_of(const fronts *all, const double *row)
{
	uint32_t low = 0, high = all->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (is_below(all, middle, row))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int by_values(const void *context, uint32_t a, uint32_t b)
{
	const fronts *all = context;
	const double *x = all->values + (size_t)a * (size_t)all->goals;
	const double *y = all->values + (size_t)b * (size_t)all->goals;
	for (int g = 0; g < all->goals; g++)
		if (x[g] != y[g])
			return x[g] < y[g] ? -1 : 1;
	return 0;
}

static int by_violation(const void *context, uint32_t a, uint32_t b)
{
	const double *violations = context;
	return violations[a] < violations[b] ? -1 : violations[a] > violations[b];
}

static void rank_violating(uint32_t *ranks, const uint32_t *rows, size_t count, const double *violations,
                           uint32_t rank)
{
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && violations[rows[i]] > violations[rows[i - 1]])
			rank++;
		ranks[rows[i]] = rank;
	}
}

int pio_front_ranks(uint32_t *ranks, const double *values, const double *violations, size_t count, int goals,
                    pio_err *err)
{
	assert(goals >= 1 && goals <= PIO_FRONT_GOALS_MAX && count < UINT32_MAX);
	uint32_t *scratch = pio_alloc((4 * count + 1) * sizeof *scratch);
	if (!scratch)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the fronts of %zu points", count);
	uint32_t *rows = scratch, *turn = rows + count;
	fronts all = { values, goals, turn + count, turn + 2 * count, 0 };
	size_t fine = 0, bad = 0;
	for (size_t i = 0; i < count; i++)
		if (!violations || !(violations[i] > 0))
			rows[fine++] = (uint32_t)i;
	for (size_t i = 0; i < count; i++)
		if (violations && violations[i] > 0)
			rows[fine + bad++] = (uint32_t)i;
	pio_order_sort(rows, turn, fine, by_values, &all);
	for (size_t i = 0; i < fine; i++) {
		uint32_t front = front_of(&all, values + (size_t)rows[i] * (size_t)goals);
		all.before[rows[i]] = front < all.count ? all.newest[front] : UINT32_MAX;
		all.newest[front] = rows[i];
		all.count += front == all.count;
		ranks[rows[i]] = front;
	}
	pio_order_sort(rows + fine, turn, bad, by_violation, violations);
	rank_violating(ranks, rows + fine, bad, violations, all.count);
	pio_free(scratch);
	return 0;
}

/* ---- crowding ------------------------------------------------------------------------ */

typedef struct column {
	const double *values;
	int goals, goal;
} column;

static double at(const column *c, uint32_t row)
{
	return c->values[(size_t)row * (size_t)c->goals + (size_t)c->goal];
}

static int by_column(const void *context, uint32_t a, uint32_t b)
{
	double x = at(context, a), y = at(context, b);
	return x < y ? -1 : x > y;
}

int pio_front_crowding(double *distances, const double *values, size_t count, int goals, pio_err *err)
{
	uint32_t *order = pio_alloc((2 * count + 1) * sizeof *order);
	if (!order)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu points", count);
	for (size_t i = 0; i < count; i++)
		distances[i] = 0;
	for (int g = 0; g < goals; g++) {
		column c = { values, goals, g };
		for (size_t i = 0; i < count; i++)
			order[i] = (uint32_t)i;
		pio_order_sort(order, order + count, count, by_column, &c);
		double range = count ? at(&c, order[count - 1]) - at(&c, order[0]) : 0;
		if (!(range > 0))
			continue;
		distances[order[0]] = distances[order[count - 1]] = INFINITY;
		for (size_t i = 1; i + 1 < count; i++)
			distances[order[i]] += (at(&c, order[i + 1]) - at(&c, order[i - 1])) / range;
	}
	pio_free(order);
	return 0;
}
