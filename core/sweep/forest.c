#include "sweep/forest.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/order.h"

enum { depth_max = 64 };

/* What a node is of an axis: from low to high of its coordinates, or a set of its choices. */
typedef struct side {
	double low, high;
	uint64_t choices;
} side;

typedef struct forest {
	const pio_axis *axes;
	int axes_count;
	const double *points, *values;
	size_t count;
	uint32_t *rows, *order, *scratch, *mark; /* of one tree: drawn points, and room to sort them */
	side *box;                 /* of the node that is split */
	side *leaves;              /* rows of axes_count sides */
	double *leaf_value;
	size_t leaf_count;
	double *ends, *steps;      /* ends of leaves along an axis, and what is added there */
} forest;

/* A split: of a range at a coordinate, of choices a set. */
typedef struct cut {
	int axis;                  /* -1: none is worth it */
	double at;
	uint64_t choices;
	double gain;
} cut;

static double coordinate(const forest *f, uint32_t row, int axis)
{
	return f->points[(size_t)row * (size_t)f->axes_count + (size_t)axis];
}

/* ---- growing ----------------------------------------------------------------------------- */

typedef struct column {
	const forest *f;
	int axis;
} column;

static int by_coordinate(const void *context, uint32_t a, uint32_t b)
{
	const column *c = context;
	double x = coordinate(c->f, a, c->axis), y = coordinate(c->f, b, c->axis);
	return x < y ? -1 : x > y;
}

/* What splitting off `n` of `count` rows, whose values sum to `part` of `sum`, takes from the
 * sum of squares. */
static double gain_of(double part, double n, double sum, double count)
{
	double rest = sum - part;
	return part * part / n + rest * rest / (count - n) - sum * sum / count;
}

static void try_range(cut *best, const forest *f, int axis, const uint32_t *rows, size_t count, double sum)
{
	memcpy(f->order, rows, count * sizeof *rows);
	pio_order_sort(f->order, f->scratch, count, by_coordinate, &(column){ f, axis });
	double part = 0;
	for (size_t i = 0; i + 1 < count; i++) {
		part += f->values[f->order[i]];
		double here = coordinate(f, f->order[i], axis), next = coordinate(f, f->order[i + 1], axis);
		double gain = gain_of(part, (double)(i + 1), sum, (double)count);
		if (here < next && gain > best->gain)
			*best = (cut){ axis, here + (next - here) / 2, 0, gain };
	}
}

/* Choices in the order of their means: the best set is a beginning of it (Breiman et al.,
 * Classification and Regression Trees, 1984, section 4.2). */
static void try_choices(cut *best, const forest *f, int axis, const uint32_t *rows, size_t count, double sum)
{
	double sums[PIO_FOREST_CHOICES_MAX] = { 0 }, counts[PIO_FOREST_CHOICES_MAX] = { 0 };
	int order[PIO_FOREST_CHOICES_MAX], known = 0;
	for (size_t i = 0; i < count; i++) {
		int choice = (int)coordinate(f, rows[i], axis);
		sums[choice] += f->values[rows[i]];
		counts[choice] += 1;
	}
	for (int c = 0; c < PIO_FOREST_CHOICES_MAX; c++) {
		if (counts[c] == 0)
			continue;
		int place = known++;
		for (; place > 0 && sums[order[place - 1]] / counts[order[place - 1]] > sums[c] / counts[c]; place--)
			order[place] = order[place - 1];
		order[place] = c;
	}
	double part = 0, n = 0;
	uint64_t choices = 0;
	for (int i = 0; i + 1 < known; i++) {
		part += sums[order[i]];
		n += counts[order[i]];
		choices |= UINT64_C(1) << order[i];
		double gain = gain_of(part, n, sum, (double)count);
		if (gain > best->gain)
			*best = (cut){ axis, 0, choices, gain };
	}
}

static cut best_cut(const forest *f, const uint32_t *rows, size_t count)
{
	double sum = 0, squares = 0;
	bool is_pure = true;
	for (size_t i = 0; i < count; i++) {
		sum += f->values[rows[i]];
		squares += f->values[rows[i]] * f->values[rows[i]];
		is_pure = is_pure && f->values[rows[i]] == f->values[rows[0]];
	}
	cut best = { -1, 0, 0, 1e-12 * (squares - sum * sum / (double)count) };
	if (is_pure || !(best.gain >= 0))
		return (cut){ -1, 0, 0, 0 };
	for (int a = 0; a < f->axes_count; a++) {
		if (f->axes[a].kind == PIO_AXIS_CHOICE)
			try_choices(&best, f, a, rows, count, sum);
		else
			try_range(&best, f, a, rows, count, sum);
	}
	return best;
}

static bool is_left(const forest *f, const cut *c, uint32_t row)
{
	double x = coordinate(f, row, c->axis);
	return f->axes[c->axis].kind == PIO_AXIS_CHOICE ? (c->choices >> (int)x & 1) != 0 : x <= c->at;
}

static void add_leaf(forest *f, const uint32_t *rows, size_t count)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += f->values[rows[i]];
	memcpy(f->leaves + f->leaf_count * (size_t)f->axes_count, f->box, (size_t)f->axes_count * sizeof *f->box);
	f->leaf_value[f->leaf_count++] = sum / (double)count;
}

/* Rows that go left to the front; how many there are. The order within is kept. */
static size_t part_rows(const forest *f, const cut *c, uint32_t *rows, size_t count)
{
	size_t left = 0, right = 0;
	for (size_t i = 0; i < count; i++) {
		if (is_left(f, c, rows[i]))
			rows[left++] = rows[i];
		else
			f->scratch[right++] = rows[i];
	}
	memcpy(rows + left, f->scratch, right * sizeof *rows);
	return left;
}

static void grow(forest *f, uint32_t *rows, size_t count, int depth)
{
	cut c = count > 1 && depth < depth_max ? best_cut(f, rows, count) : (cut){ -1, 0, 0, 0 };
	if (c.axis < 0) {
		add_leaf(f, rows, count);
		return;
	}
	size_t left = part_rows(f, &c, rows, count);
	side was = f->box[c.axis], *now = &f->box[c.axis];
	if (f->axes[c.axis].kind == PIO_AXIS_CHOICE)
		now->choices = was.choices & c.choices;
	else
		now->high = c.at;
	grow(f, rows, left, depth + 1);
	*now = was;
	if (f->axes[c.axis].kind == PIO_AXIS_CHOICE)
		now->choices = was.choices & ~c.choices;
	else
		now->low = c.at;
	grow(f, rows + left, count - left, depth + 1);
	*now = was;
}

static void grow_tree(forest *f, pio_draw *draw)
{
	for (size_t i = 0; i < f->count; i++)
		f->rows[i] = (uint32_t)pio_draw_integer(draw, 0, (int64_t)f->count - 1);
	for (int a = 0; a < f->axes_count; a++) {
		int choices = (int)f->axes[a].last + 1;
		f->box[a] = (side){ f->axes[a].low, f->axes[a].high,
			            f->axes[a].kind != PIO_AXIS_CHOICE ? 0
			            : choices == 64 ? UINT64_MAX : (UINT64_C(1) << choices) - 1 };
	}
	f->leaf_count = 0;
	grow(f, f->rows, f->count, 0);
}

/* ---- weighing ---------------------------------------------------------------------------- */

/* The part of an axis that a side is. */
static double share(const pio_axis *axis, const side *s)
{
	if (axis->kind == PIO_AXIS_CHOICE)
		return (double)__builtin_popcountll(s->choices) / (axis->last + 1);
	return (s->high - s->low) / (axis->high - axis->low);
}

/* Of a leaf the part of the space, without that of one axis. */
static double volume_beside(const forest *f, const side *leaf, int axis)
{
	double volume = 1;
	for (int a = 0; a < f->axes_count; a++)
		if (a != axis)
			volume *= share(&f->axes[a], &leaf[a]);
	return volume;
}

static double variance_of_choices(const forest *f, int axis, double mean)
{
	double marginal[PIO_FOREST_CHOICES_MAX] = { 0 }, sum = 0;
	int choices = (int)f->axes[axis].last + 1;
	for (size_t l = 0; l < f->leaf_count; l++) {
		const side *leaf = f->leaves + l * (size_t)f->axes_count;
		double adds = volume_beside(f, leaf, axis) * f->leaf_value[l];
		for (int c = 0; c < choices; c++)
			marginal[c] += leaf[axis].choices >> c & 1 ? adds : 0;
	}
	for (int c = 0; c < choices; c++)
		sum += (marginal[c] - mean) * (marginal[c] - mean);
	return sum / choices;
}

static int by_end(const void *context, uint32_t a, uint32_t b)
{
	const double *ends = context;
	return ends[a] < ends[b] ? -1 : ends[a] > ends[b];
}

/* Along a range the mean over the others changes only where a leaf begins or ends. */
static double variance_of_range(const forest *f, int axis, double mean)
{
	size_t n = 2 * f->leaf_count;
	for (size_t l = 0; l < f->leaf_count; l++) {
		const side *leaf = f->leaves + l * (size_t)f->axes_count;
		double adds = volume_beside(f, leaf, axis) * f->leaf_value[l];
		f->ends[2 * l] = leaf[axis].low;
		f->steps[2 * l] = adds;
		f->ends[2 * l + 1] = leaf[axis].high;
		f->steps[2 * l + 1] = -adds;
		f->order[2 * l] = (uint32_t)(2 * l);
		f->order[2 * l + 1] = (uint32_t)(2 * l + 1);
	}
	pio_order_sort(f->order, f->mark, n, by_end, f->ends);
	double marginal = 0, sum = 0, range = f->axes[axis].high - f->axes[axis].low;
	for (size_t i = 0; i + 1 < n; i++) {
		marginal += f->steps[f->order[i]];
		double width = f->ends[f->order[i + 1]] - f->ends[f->order[i]];
		sum += (marginal - mean) * (marginal - mean) * width / range;
	}
	return sum;
}

/* Adds the importances of the tree; false where it is constant. */
static bool weigh(double *importance, const forest *f)
{
	double mean = 0, squares = 0;
	for (size_t l = 0; l < f->leaf_count; l++) {
		double volume = volume_beside(f, f->leaves + l * (size_t)f->axes_count, -1);
		mean += volume * f->leaf_value[l];
	}
	for (size_t l = 0; l < f->leaf_count; l++) {
		double volume = volume_beside(f, f->leaves + l * (size_t)f->axes_count, -1);
		squares += volume * (f->leaf_value[l] - mean) * (f->leaf_value[l] - mean);
	}
	if (!(squares > 0))
		return false;
	for (int a = 0; a < f->axes_count; a++)
		importance[a] += (f->axes[a].kind == PIO_AXIS_CHOICE ? variance_of_choices(f, a, mean)
		                                                     : variance_of_range(f, a, mean)) / squares;
	return true;
}

int pio_forest_importance(double *importance, const pio_axis *axes, int axes_count, const double *points,
                          const double *values, size_t count, int trees, pio_draw *draw, pio_err *err)
{
	assert(axes_count > 0 && count > 0 && count < UINT32_MAX / 2 && trees > 0);
	size_t n = count, d = (size_t)axes_count;
	forest f = { .axes = axes, .axes_count = axes_count, .points = points, .values = values, .count = n };
	f.rows = pio_alloc(6 * n * sizeof *f.rows);
	f.leaves = pio_alloc((n + 1) * d * sizeof *f.leaves);
	f.ends = pio_alloc(5 * n * sizeof *f.ends);
	if (!f.rows || !f.leaves || !f.ends) {
		pio_free(f.rows);
		pio_free(f.leaves);
		pio_free(f.ends);
		return pio_fail(err, PIO_ENOMEM, "out of memory for trees of %zu points", n);
	}
	f.order = f.rows + n;
	f.mark = f.order + 2 * n;
	f.scratch = f.mark + 2 * n;
	f.box = f.leaves + n * d;
	f.steps = f.ends + 2 * n;
	f.leaf_value = f.steps + 2 * n;
	int varied = 0;
	for (size_t a = 0; a < d; a++)
		importance[a] = 0;
	for (int tree = 0; tree < trees; tree++) {
		grow_tree(&f, draw);
		varied += weigh(importance, &f);
	}
	for (size_t a = 0; a < d; a++)
		importance[a] = varied ? importance[a] / varied : 0;
	pio_free(f.rows);
	pio_free(f.leaves);
	pio_free(f.ends);
	return 0;
}
