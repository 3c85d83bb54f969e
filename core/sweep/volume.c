/* The half of front.h that measures volumes. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/front.h"
#include "sweep/order.h"

/* Room for the recursion: a level of `goals` dimensions has its own rows. */
typedef struct room {
	size_t capacity;           /* rows of a level */
	double *rows[PIO_FRONT_GOALS_MAX + 1];
	uint32_t *order, *turn;    /* of a level, capacity each, level by level */
	double *memory;
} room;

static int room_init(room *r, size_t capacity, int goals, pio_err *err)
{
	size_t cells = 0;
	for (int g = 1; g <= goals; g++)
		cells += capacity * (size_t)g;
	*r = (room){ .capacity = capacity };
	r->memory = pio_alloc((2 * cells + 1) * sizeof *r->memory);
	r->order = pio_alloc((2 * capacity * (size_t)(goals + 1) + 1) * sizeof *r->order);
	if (!r->memory || !r->order) {
		pio_free(r->memory);
		pio_free(r->order);
		return pio_fail(err, PIO_ENOMEM, "out of memory for the volume of %zu points", capacity);
	}
	double *next = r->memory;
	for (int g = 1; g <= goals; g++) {
		r->rows[g] = next;
		next += 2 * capacity * (size_t)g;
	}
	r->turn = r->order + capacity * (size_t)(goals + 1);
	return 0;
}

static void room_fini(room *r)
{
	pio_free(r->memory);
	pio_free(r->order);
}

typedef struct level {
	const double *rows;
	int goals, goal;
} level;

static int worst_first(const void *context, uint32_t a, uint32_t b)
{
	const level *l = context;
	double x = l->rows[(size_t)a * (size_t)l->goals + (size_t)l->goal];
	double y = l->rows[(size_t)b * (size_t)l->goals + (size_t)l->goal];
	return x > y ? -1 : x < y;
}

/* Keep of these rows those that no other dominates, of equal ones the first. */
static size_t undominated(double *rows, size_t count, int goals)
{
	size_t d = (size_t)goals, kept = 0;
	for (size_t i = 0; i < count; i++) {
		double row[PIO_FRONT_GOALS_MAX];
		memcpy(row, rows + i * d, d * sizeof *row);
		bool is_in = true;
		size_t stay = 0;
		for (size_t k = 0; k < kept && is_in; k++)
			is_in = !(pio_front_dominates(rows + k * d, row, goals) ||
			          memcmp(rows + k * d, row, d * sizeof *row) == 0);
		if (!is_in)
			continue;
		for (size_t k = 0; k < kept; k++)
			if (!pio_front_dominates(row, rows + k * d, goals))
				memmove(rows + stay++ * d, rows + k * d, d * sizeof *row);
		memcpy(rows + stay * d, row, d * sizeof *row);
		kept = stay + 1;
	}
	return kept;
}

static double box(const double *row, const double *reference, int goals)
{
	double volume = 1;
	for (int g = 0; g < goals; g++)
		volume *= reference[g] - row[g];
	return volume;
}

/* The volume of the rows of level `goals`, which are its first `count` and are disturbed.
 * Each row adds its box without what the rows behind it cover of that; these are no worse in
 * the last goal, so what they cover of it is a volume of one goal less. */
static double volume_of(room *r, size_t count, int goals, const double *reference)
{
	size_t d = (size_t)goals;
	double *rows = r->rows[goals], *sorted = rows + r->capacity * d, sum = 0;
	if (goals == 1) {
		double best = INFINITY;
		for (size_t i = 0; i < count; i++)
			best = rows[i] < best ? rows[i] : best;
		return count ? reference[0] - best : 0;
	}
	count = undominated(rows, count, goals);
	uint32_t *order = r->order + r->capacity * d, *turn = r->turn + r->capacity * d;
	for (size_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
	pio_order_sort(order, turn, count, worst_first, &(level){ rows, goals, goals - 1 });
	for (size_t i = 0; i < count; i++)
		memcpy(sorted + i * d, rows + order[i] * d, d * sizeof *sorted);
	double *inner = r->rows[goals - 1];
	for (size_t i = 0; i < count; i++) {
		const double *row = sorted + i * d;
		size_t behind = 0;
		for (size_t j = i + 1; j < count; j++, behind++)
			for (size_t g = 0; g + 1 < d; g++) {
				double other = sorted[j * d + g];
				inner[behind * (d - 1) + g] = other > row[g] ? other : row[g];
			}
		double own = box(row, reference, goals - 1) - volume_of(r, behind, goals - 1, reference);
		sum += own * (reference[d - 1] - row[d - 1]);
	}
	return sum;
}

/* Rows of which each value is better than the reference, as the rows of level `goals`. */
static size_t inside(double *rows, const double *values, size_t count, int goals, const double *reference)
{
	size_t d = (size_t)goals, kept = 0;
	for (size_t i = 0; i < count; i++) {
		bool is_inside = true;
		for (size_t g = 0; g < d; g++)
			is_inside = is_inside && values[i * d + g] < reference[g];
		if (is_inside)
			memcpy(rows + kept++ * d, values + i * d, d * sizeof *rows);
	}
	return kept;
}

int pio_front_hypervolume(double *volume, const double *values, size_t count, int goals,
                          const double *reference, pio_err *err)
{
	assert(goals >= 1 && goals <= PIO_FRONT_GOALS_MAX);
	room r;
	int rc = room_init(&r, count, goals, err);
	if (rc)
		return rc;
	size_t kept = inside(r.rows[goals], values, count, goals, reference);
	*volume = volume_of(&r, kept, goals, reference);
	room_fini(&r);
	return 0;
}

/* ---- subset --------------------------------------------------------------------------- */

/* What a row adds to the chosen ones: its box, without what they cover of it. */
static double adds(room *r, const double *row, const double *chosen, size_t count, int goals,
                   const double *reference)
{
	size_t d = (size_t)goals;
	for (size_t g = 0; g < d; g++)
		if (!(row[g] < reference[g]))
			return 0;
	double *rows = r->rows[goals];
	for (size_t i = 0; i < count; i++)
		for (size_t g = 0; g < d; g++)
			rows[i * d + g] = chosen[i * d + g] > row[g] ? chosen[i * d + g] : row[g];
	size_t kept = inside(rows, rows, count, goals, reference);
	return box(row, reference, goals) - volume_of(r, kept, goals, reference);
}

/* What a row adds only falls as more are chosen: what it added once is a bound, and is
 * worked out anew only where it is the highest. */
static uint32_t best_of(room *r, double *bound, uint32_t *known, const double *values, size_t count,
                        const double *chosen, size_t chosen_count, int goals, const double *reference)
{
	for (;;) {
		size_t best = count;
		for (size_t i = 0; i < count; i++)
			if (bound[i] >= 0 && (best == count || bound[i] > bound[best]))
				best = i;
		if (known[best] == chosen_count)
			return (uint32_t)best;
		bound[best] = adds(r, values + best * (size_t)goals, chosen, chosen_count, goals, reference);
		bound[best] = bound[best] > 0 ? bound[best] : 0;
		known[best] = (uint32_t)chosen_count;
	}
}

int pio_front_subset(uint32_t *chosen, size_t wanted, const double *values, size_t count, int goals,
                     const double *reference, pio_err *err)
{
	assert(wanted <= count && goals >= 1 && goals <= PIO_FRONT_GOALS_MAX);
	size_t d = (size_t)goals;
	room r;
	int rc = room_init(&r, count, goals, err);
	if (rc)
		return rc;
	double *bound = pio_alloc((count + wanted * d + 1) * sizeof *bound), *rows = bound + count;
	uint32_t *known = pio_alloc((count + 1) * sizeof *known);
	if (!bound || !known) {
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a subset of %zu points", count);
		goto out;
	}
	for (size_t i = 0; i < count; i++) {
		bound[i] = INFINITY;
		known[i] = UINT32_MAX;
	}
	for (size_t k = 0; k < wanted; k++) {
		chosen[k] = best_of(&r, bound, known, values, count, rows, k, goals, reference);
		memcpy(rows + k * d, values + chosen[k] * d, d * sizeof *rows);
		bound[chosen[k]] = -1;
	}
out:
	pio_free(bound);
	pio_free(known);
	room_fini(&r);
	return rc;
}
