#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/real.h"
#include "sweep/tpe_side.h"

#define NEGLIGIBLE 37.0            /* e^-37 is below half a unit in the last place of 1 */
#define BLOCK 128                  /* kernels whose numbers, and whose logs of all candidates, stay near */

/* ---- drawing ------------------------------------------------------------------------ */

static double draw_choice(const pio_axis *axis, double seen, size_t count, pio_draw *draw)
{
	int64_t choices = (int64_t)axis->last + 1;
	if (seen < 0)
		return (double)pio_draw_integer(draw, 0, choices - 1);
	double share = 1 / (double)(count + 1);
	if (pio_draw_uniform(draw) * (1 + (double)choices * share) < 1)
		return seen;
	return (double)pio_draw_integer(draw, 0, choices - 1);
}

/* A point whose kernel is drawn; for an axis with an order the probability below it. */
static size_t draw_parts(double *point, const pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count,
                         pio_draw *draw)
{
	double left = pio_draw_uniform(draw) * side->weights;
	size_t kernel = 0;
	while (kernel < side->count && left >= side->weight[kernel])
		left -= side->weight[kernel++];
	bool is_broad = kernel == side->count;
	for (int a = 0; a < axes_count; a++) {
		const pio_tpe_track *track = &tracks[a];
		if (track->axis.kind == PIO_AXIS_CHOICE) {
			point[a] = draw_choice(&track->axis, side->mu[a][kernel], side->count, draw);
		} else {
			double below = is_broad ? PIO_TPE_BROAD_BELOW : track->below[side->slot[kernel]];
			double inside = is_broad ? PIO_TPE_BROAD_INSIDE : track->inside[side->slot[kernel]];
			point[a] = below + pio_draw_uniform(draw) * inside;
		}
	}
	return kernel;
}

static void draw_block(double *points, size_t n, const pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, pio_draw *draw)
{
	size_t kernels[BLOCK], d = (size_t)axes_count;
	double z[BLOCK];
	for (size_t i = 0; i < n; i++)
		kernels[i] = draw_parts(points + i * d, side, tracks, axes_count, draw);
	for (size_t a = 0; a < d; a++) {
		const pio_axis *axis = &tracks[a].axis;
		if (axis->kind == PIO_AXIS_CHOICE)
			continue;
		for (size_t i = 0; i < n; i++)
			z[i] = points[i * d + a];
		pio_real_ndtris(z, z, n);
		for (size_t i = 0; i < n; i++) {
			bool is_broad = kernels[i] == side->count;
			double sigma = is_broad ? axis->high - axis->low : tracks[a].sigma[side->slot[kernels[i]]];
			points[i * d + a] = pio_axis_snap(axis, side->mu[a][kernels[i]] + sigma * z[i]);
		}
	}
}

void pio_tpe_side_draw(double *points, int points_count, const pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, pio_draw *draw)
{
	for (int first = 0; first < points_count; first += BLOCK) {
		int n = points_count - first < BLOCK ? points_count - first : BLOCK;
		draw_block(points + (size_t)first * (size_t)axes_count, (size_t)n, side, tracks, axes_count, draw);
	}
}

/* ---- scoring --------------------------------------------------------------------------- */

/* How an axis adds to the logs of a candidate. */
struct pio_tpe_term {
	double x;
	double seen, other;        /* of a choice */
	const double *table;       /* of cells that are wide: by class of kernel; else NULL */
};

typedef struct pio_tpe_term term;

static int fill_terms(term *terms, pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count,
                      const double *points, int points_count, pio_err *err)
{
	for (int a = 0; a < axes_count; a++) {
		const pio_axis *axis = &tracks[a].axis;
		bool is_whole = axis->kind == PIO_AXIS_WHOLE;
		size_t classes = is_whole ? side->classes_count[a] : 0;
		int rc = is_whole ? pio_tpe_cells_reserve(&side->cells[a], (size_t)points_count, classes, err) : 0;
		if (rc)
			return rc;
		term like = { .x = 0 };
		if (axis->kind == PIO_AXIS_CHOICE)
			pio_tpe_choice_logs(&like.seen, &like.other, axis, side->count);
		for (int i = 0; i < points_count; i++) {
			like.x = points[i * axes_count + a];
			if (is_whole)
				like.table = pio_tpe_cells_logs(&side->cells[a], axis, like.x, side->classes[a],
				                                classes);
			terms[i * axes_count + a] = like;
		}
	}
	return 0;
}

/* Add an axis to the logs of n kernels from `first` on. */
PIO_WIDER static void add_term(double *restrict logs, const pio_tpe_side *side, const pio_tpe_track *track,
                               int a, const term *t, size_t first, size_t n)
{
	const double *restrict mu = side->mu[a] + first, *restrict inverse = side->inverse[a] + first;
	if (t->table) {
		const uint32_t *restrict class_of = side->class_of[a] + first;
		for (size_t k = 0; k < n; k++)
			logs[k] += t->table[class_of[k]];
	} else if (track->axis.kind == PIO_AXIS_CHOICE) {
		for (size_t k = 0; k < n; k++)
			logs[k] += mu[k] == t->x ? t->seen : t->other;
	} else {
		double x = t->x;
		for (size_t k = 0; k < n; k++) {
			double z = (x - mu[k]) * inverse[k];
			logs[k] -= z * z;
		}
	}
}

enum { FEW = 4 };

/* Add an axis of densities to the logs of n kernels for a few candidates: what it says of a kernel
 * is read once for all of them. */
PIO_WIDER static void add_densities(double *restrict logs, const double *restrict mu,
                                    const double *restrict inverse, const double x[FEW], size_t n)
{
	double x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
	for (size_t k = 0; k < n; k++) {
		double z0 = (x0 - mu[k]) * inverse[k], z1 = (x1 - mu[k]) * inverse[k];
		double z2 = (x2 - mu[k]) * inverse[k], z3 = (x3 - mu[k]) * inverse[k];
		logs[k] -= z0 * z0;
		logs[BLOCK + k] -= z1 * z1;
		logs[2 * BLOCK + k] -= z2 * z2;
		logs[3 * BLOCK + k] -= z3 * z3;
	}
}

/* The coordinates of a few candidates from this term on; false where some look theirs up. */
static bool get_few(double x[FEW], const term *terms, int axes_count)
{
	for (int i = 0; i < FEW; i++) {
		if (terms[i * axes_count].table)
			return false;
		x[i] = terms[i * axes_count].x;
	}
	return true;
}

static void add_axis(double *logs, const pio_tpe_side *side, const pio_tpe_track *track, int a,
                     int axes_count, const term *terms, int points_count, size_t first, size_t n)
{
	double x[FEW];
	for (int i = 0; i < points_count;) {
		const term *t = &terms[i * axes_count + a];
		double *own = logs + i * BLOCK;
		if (track->axis.kind != PIO_AXIS_CHOICE && i + FEW <= points_count && get_few(x, t, axes_count)) {
			add_densities(own, side->mu[a] + first, side->inverse[a] + first, x, n);
			i += FEW;
		} else {
			add_term(own, side, track, a, t, first, n);
			i++;
		}
	}
}

/* A sum of exponentials that is kept as sum * e^max. */
struct pio_tpe_sum {
	double max, sum;
};

typedef struct pio_tpe_sum log_sum;

PIO_WIDER static double max_of(const double *logs, size_t n)
{
	enum { LANES = 8 };
	double max[LANES], best = -INFINITY;
	for (size_t i = 0; i < LANES; i++)
		max[i] = -INFINITY;
	size_t k = 0;
	for (; k + LANES <= n; k += LANES)
		for (size_t i = 0; i < LANES; i++)
			max[i] = logs[k + i] > max[i] ? logs[k + i] : max[i];
	for (; k < n; k++)
		best = logs[k] > best ? logs[k] : best;
	for (size_t i = 0; i < LANES; i++)
		best = max[i] > best ? max[i] : best;
	return best;
}

/* Those of n logs that count beside the largest, less that, and their weights; how many. Most do
 * not, and are passed over several at a time. */
PIO_WIDER static size_t keep(double *kept, double *of, const double *logs, const double *weight, size_t n,
                             double max)
{
	enum { LANES = 8 };
	double least = max - NEGLIGIBLE;
	size_t count = 0;
	for (size_t first = 0; first < n; first += LANES) {
		size_t end = first + LANES < n ? first + LANES : n;
		int is_any = 0;
		if (end == first + LANES)
			for (size_t i = 0; i < LANES; i++)
				is_any |= logs[first + i] > least;
		if (!is_any && end == first + LANES)
			continue;
		for (size_t k = first; k < end; k++) {
			kept[count] = logs[k] - max;
			of[count] = weight[k];
			count += logs[k] > least;
		}
	}
	return count;
}

static void add_logs(log_sum *total, const double *logs, const double *weight, size_t n)
{
	double max = max_of(logs, n);
	if (max <= total->max - NEGLIGIBLE)
		return;
	max = max > total->max ? max : total->max;
	if (max > total->max)
		total->sum *= pio_real_exp(total->max - max);
	total->max = max;
	double kept[BLOCK], of[BLOCK];
	size_t count = keep(kept, of, logs, weight, n, max);
	pio_real_exps(kept, kept, count);
	for (size_t k = 0; k < count; k++)
		total->sum += of[k] * kept[k];
}

/* The logs of a block of kernels for each candidate, axis by axis, so that what the axis
 * says of the kernels is read once. */
static void add_block(log_sum *totals, double *logs, const pio_tpe_side *side, const pio_tpe_track *tracks,
                      int axes_count, const term *terms, int points_count, size_t first, size_t n)
{
	for (int i = 0; i < points_count; i++)
		memcpy(logs + i * BLOCK, side->base + first, n * sizeof *logs);
	for (int a = 0; a < axes_count; a++)
		add_axis(logs, side, &tracks[a], a, axes_count, terms, points_count, first, n);
	for (int i = 0; i < points_count; i++)
		add_logs(&totals[i], logs + i * BLOCK, side->weight + first, n);
}

static int reserve_scores(pio_tpe_side *side, int axes_count, size_t points, pio_err *err)
{
	if (points <= side->scored_max)
		return 0;
	pio_tpe_side_free_scores(side);
	side->terms = pio_alloc(points * (size_t)axes_count * sizeof *side->terms + 1);
	side->sums = pio_alloc(points * sizeof *side->sums);
	side->logs = pio_alloc(points * BLOCK * sizeof *side->logs);
	if (!side->terms || !side->sums || !side->logs)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu candidates", points);
	side->scored_max = points;
	return 0;
}

int pio_tpe_side_score(double *log_density, pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, const double *points, int points_count, pio_err *err)
{
	size_t kernels = side->count + 1;
	int rc = reserve_scores(side, axes_count, (size_t)points_count, err);
	if (!rc)
		rc = fill_terms(side->terms, side, tracks, axes_count, points, points_count, err);
	if (rc)
		return rc;
	log_sum *sums = side->sums;
	for (int i = 0; i < points_count; i++)
		sums[i] = (log_sum){ -INFINITY, 0 };
	for (size_t first = 0; first < kernels; first += BLOCK)
		add_block(sums, side->logs, side, tracks, axes_count, side->terms, points_count, first,
		          kernels - first < BLOCK ? kernels - first : BLOCK);
	for (int i = 0; i < points_count; i++)
		log_density[i] = sums[i].max + pio_real_log(sums[i].sum / side->weights);
	return 0;
}
