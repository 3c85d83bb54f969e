#include "sweep/pedanova.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "sweep/real.h"

enum { steps_max = 50 };

static const double prior_weight = 1;
static const double density_least = 1e-12;

/* The grid of an axis: its first and last point in what is spaced evenly. */
typedef struct grid {
	int size;
	double low, high;
	bool is_choice;
} grid;

/* The logarithm to base 2, rounded up. */
static double bits_of(double x)
{
	int exponent;
	double part = frexp(x, &exponent);
	return part > 0.5 ? exponent : exponent - 1;
}

static grid grid_of(const pio_axis *axis)
{
	if (axis->kind == PIO_AXIS_CHOICE)
		return (grid){ (int)axis->last + 1, 0, axis->last, true };
	double low = axis->first, high = axis->last, size = steps_max;
	if (axis->kind == PIO_AXIS_WHOLE)
		size = axis->log ? bits_of(high - low + 1) + 1 : high - low + 1;
	if (axis->log) {
		low = pio_real_log(low);
		high = pio_real_log(high);
	}
	return (grid){ size < steps_max ? (int)size : steps_max, low, high, false };
}

/* The nearest cell; the lower one of two that are as near. */
static int cell_of(const grid *g, const pio_axis *axis, double coordinate)
{
	if (g->is_choice)
		return (int)coordinate;
	double value = pio_axis_value(axis, coordinate);
	value = axis->log ? pio_real_log(value) : value;
	double at = ceil((value - g->low) / ((g->high - g->low) / (g->size - 1)) - 0.5);
	return at < 0 ? 0 : at > g->size - 1 ? g->size - 1 : (int)at;
}

static void count_cells(double *counts, const grid *g, const pio_axis *axis, const double *coordinates,
                        size_t count)
{
	for (int i = 0; i < g->size; i++)
		counts[i] = 0;
	for (size_t i = 0; i < count; i++)
		counts[cell_of(g, axis, coordinates[i])] += 1;
}

/* The n-th cell that has points, from 0 on; the last one where there are not so many. */
static int cell_at(const double *counts, int size, int n)
{
	int last = 0;
	for (int i = 0; i < size; i++)
		if (counts[i] > 0) {
			last = i;
			if (n-- == 0)
				break;
		}
	return last;
}

/* 1.059 min(IQR / 1.34, sigma) n^(-1/5), but at least so much that a kernel has 90 % of itself
 * in its cell. */
static double bandwidth(const double *counts, int size)
{
	double n = 0, mean = 0, squares = 0;
	for (int i = 0; i < size; i++) {
		n += counts[i];
		mean += i * counts[i];
	}
	mean /= n;
	for (int i = 0; i < size; i++)
		squares += counts[i] * (i - mean) * (i - mean);
	/* how many cells come before the quartiles */
	int first = 0, third = 0;
	double sum = 0;
	for (int i = 0; i < size; i++) {
		if (counts[i] == 0)
			continue;
		sum += counts[i];
		first += sum < floor(n / 4);
		third += sum <= floor(n * 3 / 4);
	}
	double between = cell_at(counts, size, third) - cell_at(counts, size, first);
	double sigma = fmin(between / 1.34, sqrt(squares / fmax(1, n - 1)));
	return fmax(1.059 * sigma * pio_real_exp(-0.2 * pio_real_log(n)), 0.5 / 1.64);
}

/* The mass of a normal kernel in a cell, of what it has in all of them. */
static double kernel(double mean, double sigma, int cell, int size)
{
	double all = pio_real_ndtr((size - 0.5 - mean) / sigma) - pio_real_ndtr((-0.5 - mean) / sigma);
	return (pio_real_ndtr((cell + 0.5 - mean) / sigma) - pio_real_ndtr((cell - 0.5 - mean) / sigma)) / all;
}

static void density_of_range(double *density, const double *counts, int size)
{
	double sigma = bandwidth(counts, size), n = 0;
	for (int i = 0; i < size; i++)
		n += counts[i];
	for (int cell = 0; cell < size; cell++) {
		double sum = prior_weight * kernel((size - 1) / 2.0, size, cell, size);
		for (int i = 0; i < size; i++)
			if (counts[i] > 0)
				sum += counts[i] * kernel(i, sigma, cell, size);
		density[cell] = sum / (n + prior_weight);
	}
}

/* A kernel of a choice: all on it, and a part of the prior on each. */
static void density_of_choices(double *density, const double *counts, int size)
{
	double n = 0, kernels = 1;
	for (int i = 0; i < size; i++) {
		n += counts[i];
		kernels += counts[i] > 0;
	}
	double part = prior_weight / kernels, whole = 1 + size * part;
	for (int cell = 0; cell < size; cell++) {
		double sum = prior_weight / size;
		for (int i = 0; i < size; i++)
			sum += counts[i] * ((i == cell) + part) / whole;
		density[cell] = sum / (n + prior_weight);
	}
}

int pio_ped_divergence(double *divergence, const pio_axis *axis, const double *good, size_t good_count,
                       const double *all, size_t all_count, pio_err *err)
{
	assert(good_count > 0 && all_count > 0);
	grid g = grid_of(axis);
	size_t size = (size_t)g.size;
	double *counts = pio_alloc(3 * size * sizeof *counts), *q = counts + size, *p = q + size;
	if (!counts)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu cells", size);
	void (*density)(double *, const double *, int) = g.is_choice ? density_of_choices : density_of_range;
	count_cells(counts, &g, axis, good, good_count);
	density(q, counts, g.size);
	count_cells(counts, &g, axis, all, all_count);
	density(p, counts, g.size);
	*divergence = 0;
	for (size_t i = 0; i < size; i++) {
		double ratio = (q[i] + density_least) / (p[i] + density_least);
		*divergence += (p[i] + density_least) * (ratio - 1) * (ratio - 1);
	}
	pio_free(counts);
	return 0;
}
