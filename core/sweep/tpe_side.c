#include "sweep/tpe_side.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/real.h"

#define WEIGHT_RECENT 25           /* so many of the newest points count fully */
#define FINEST 100                 /* no kernel is narrower than this part of its range */
#define FAR 8.0                    /* in widths: there a cell's mass is as good as its density */
#define BROAD_BELOW 0.30853753872598689637 /* ndtr(-1/2): the broad kernel is as wide as its range */
#define BROAD_INSIDE (1 - 2 * BROAD_BELOW)
#define HALF_LOG_2PI 0.91893853320467274178
#define SQRT_HALF 0x1.6a09e667f3bcdp-1
#define NEGLIGIBLE 37.0            /* e^-37 is below half a unit in the last place of 1 */
#define BLOCK 128                  /* kernels whose numbers, and whose logs of all candidates, stay near */

int pio_tpe_side_init(pio_tpe_side *side, int axes_count, pio_err *err)
{
	size_t n = (size_t)axes_count;
	*side = (pio_tpe_side){ .mu = pio_calloc(n + 1, sizeof *side->mu),
	                        .inverse = pio_calloc(n + 1, sizeof *side->inverse),
	                        .class_of = pio_calloc(n + 1, sizeof *side->class_of),
	                        .classes = pio_calloc(n + 1, sizeof *side->classes),
	                        .classes_count = pio_calloc(n + 1, sizeof *side->classes_count) };
	if (side->mu && side->inverse && side->class_of && side->classes && side->classes_count)
		return 0;
	pio_tpe_side_fini(side, 0);
	return pio_fail(err, PIO_ENOMEM, "out of memory for %d parameters", axes_count);
}

void pio_tpe_side_fini(pio_tpe_side *side, int axes_count)
{
	for (int a = 0; a < axes_count; a++) {
		pio_free(side->mu[a]);
		pio_free(side->inverse[a]);
		pio_free(side->class_of[a]);
		pio_free(side->classes[a]);
	}
	pio_free(side->mu);
	pio_free(side->inverse);
	pio_free(side->class_of);
	pio_free(side->classes);
	pio_free(side->classes_count);
	pio_free(side->weight);
	pio_free(side->slot);
	pio_free(side->base);
	pio_free(side->tables);
	*side = (pio_tpe_side){ .count = 0 };
}

static bool resize(void *array, size_t count, size_t item_bytes)
{
	void *grown = pio_realloc(*(void **)array, count * item_bytes);
	if (grown)
		*(void **)array = grown;
	return grown != NULL;
}

/* Room for so many kernels. */
static int reserve(pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count, size_t kernels,
                   pio_err *err)
{
	if (kernels <= side->capacity)
		return 0;
	size_t n = kernels + kernels / 2 + 16;
	bool fine = resize(&side->weight, n, sizeof(double)) && resize(&side->base, n, sizeof(double)) &&
	            resize(&side->slot, n, sizeof(uint32_t));
	for (int a = 0; a < axes_count && fine; a++) {
		fine = resize(&side->mu[a], n, sizeof(double)) && resize(&side->inverse[a], n, sizeof(double));
		if (fine && tracks[a].axis.kind == PIO_AXIS_WHOLE)
			fine = resize(&side->class_of[a], n, sizeof(uint32_t)) &&
			       resize(&side->classes[a], n, sizeof(pio_tpe_class));
	}
	if (!fine)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu kernels", n);
	side->capacity = n;
	return 0;
}

/* ---- making it -------------------------------------------------------------------- */

/* Old points count less: a ramp from 1 / count up to 1, and 1 for the newest. */
static void weigh(pio_tpe_side *side)
{
	size_t n = side->count, old = n > WEIGHT_RECENT ? n - WEIGHT_RECENT : 0;
	double sum = 1; /* of the broad kernel */
	for (size_t i = 0; i < n; i++) {
		double first = 1 / (double)n;
		double part = i >= old ? 1 : old == 1 ? first : first + (1 - first) * (double)i / (double)(old - 1);
		side->weight[i] = part;
		sum += part;
	}
	side->weight[n] = 1;
	side->weights = sum;
	for (size_t i = 0; i <= n; i++)
		side->base[i] = 0;
}

/* A kernel is as wide as the larger gap to its neighbours of the same side; the
 * outermost two look inwards alone. */
static double width_of(const pio_axis *axis, double before, double mu, double after, size_t count)
{
	double range = axis->high - axis->low;
	double left = isnan(before) ? (count > 1 ? 0 : mu - axis->low) : mu - before;
	double right = isnan(after) ? (count > 1 ? 0 : axis->high - mu) : after - mu;
	double width = left > right ? left : right;
	double finest = range / (count + 2 < FINEST ? (double)(count + 2) : FINEST);
	return width < finest ? finest : width > range ? range : width;
}

/* The class of a kernel that comes after all others of no larger mu. */
static void put_class(pio_tpe_side *side, int a, size_t kernel, double mu, double sigma)
{
	size_t n = side->classes_count[a];
	/* of one number there are at most three widths, next to each other */
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		pio_tpe_class *known = &side->classes[a][n - back];
		if (known->mu == mu && known->sigma == sigma) {
			side->class_of[a][kernel] = (uint32_t)(n - back);
			return;
		}
	}
	side->classes[a][n] = (pio_tpe_class){ mu, sigma };
	side->class_of[a][kernel] = (uint32_t)n;
	side->classes_count[a] = n + 1;
}

static void put_kernel(pio_tpe_side *side, pio_tpe_track *track, int a, size_t kernel, uint32_t slot,
                       double sigma)
{
	if (track->sigma[slot] != sigma) {
		track->sigma[slot] = sigma;
		track->below[slot] = pio_real_ndtr((track->axis.low - track->x[slot]) / sigma);
		track->inside[slot] = pio_real_ndtr((track->axis.high - track->x[slot]) / sigma) -
		                      track->below[slot];
		track->norm[slot] = pio_real_log(sigma * track->inside[slot]);
	}
	side->mu[a][kernel] = track->x[slot];
	side->inverse[a][kernel] = SQRT_HALF / sigma;
	side->base[kernel] -= track->norm[slot];
	if (track->axis.kind == PIO_AXIS_WHOLE)
		put_class(side, a, kernel, track->x[slot], sigma);
}

static void build_ordered(pio_tpe_side *side, pio_tpe_track *track, int a, const uint32_t *member,
                          size_t slots)
{
	const pio_axis *axis = &track->axis;
	double before = NAN;
	size_t next = 0;
	side->classes_count[a] = 0;
	while (next < slots && member[track->order[next]] == UINT32_MAX)
		next++;
	while (next < slots) {
		uint32_t slot = track->order[next];
		for (next++; next < slots && member[track->order[next]] == UINT32_MAX;)
			next++;
		double after = next < slots ? track->x[track->order[next]] : NAN;
		double sigma = width_of(axis, before, track->x[slot], after, side->count);
		put_kernel(side, track, a, member[slot], slot, sigma);
		before = track->x[slot];
	}
	double middle = 0.5 * (axis->low + axis->high), range = axis->high - axis->low;
	side->mu[a][side->count] = middle;
	side->inverse[a][side->count] = SQRT_HALF / range;
	side->base[side->count] -= pio_real_log(range * BROAD_INSIDE);
	if (axis->kind == PIO_AXIS_WHOLE)
		put_class(side, a, side->count, middle, range);
}

/* log probability of the choice that a kernel has seen, and of each other. */
static void choice_logs(double *seen, double *other, const pio_axis *axis, size_t count)
{
	double share = 1 / (double)(count + 1), sum = 1 + (axis->last + 1) * share;
	*seen = pio_real_log((1 + share) / sum);
	*other = pio_real_log(share / sum);
}

static void build_choice(pio_tpe_side *side, const pio_tpe_track *track, int a, const uint32_t *member,
                         size_t slots)
{
	double seen, other;
	choice_logs(&seen, &other, &track->axis, side->count);
	for (size_t slot = 0; slot < slots; slot++)
		if (member[slot] != UINT32_MAX)
			side->mu[a][member[slot]] = track->x[slot];
	side->mu[a][side->count] = -1;
	/* of the broad kernel all are alike: what the score adds for "other" is undone */
	side->base[side->count] -= pio_real_log(track->axis.last + 1) + other;
}

int pio_tpe_side_build(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count,
                       const uint32_t *member, size_t slots, size_t count, pio_err *err)
{
	int rc = reserve(side, tracks, axes_count, count + 1, err);
	if (rc)
		return rc;
	side->count = count;
	weigh(side);
	for (size_t slot = 0; slot < slots; slot++)
		if (member[slot] != UINT32_MAX)
			side->slot[member[slot]] = (uint32_t)slot;
	for (int a = 0; a < axes_count; a++) {
		if (tracks[a].axis.kind == PIO_AXIS_CHOICE)
			build_choice(side, &tracks[a], a, member, slots);
		else
			build_ordered(side, &tracks[a], a, member, slots);
	}
	return 0;
}

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

static double draw_ordered(const pio_tpe_track *track, const pio_tpe_side *side, size_t kernel,
                           pio_draw *draw)
{
	const pio_axis *axis = &track->axis;
	bool is_broad = kernel == side->count;
	uint32_t slot = is_broad ? 0 : side->slot[kernel];
	double mu = is_broad ? 0.5 * (axis->low + axis->high) : track->x[slot];
	double sigma = is_broad ? axis->high - axis->low : track->sigma[slot];
	double below = is_broad ? BROAD_BELOW : track->below[slot];
	double inside = is_broad ? BROAD_INSIDE : track->inside[slot];
	return pio_axis_snap(axis, mu + sigma * pio_real_ndtri(below + pio_draw_uniform(draw) * inside));
}

void pio_tpe_side_draw(double *point, const pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, pio_draw *draw)
{
	double left = pio_draw_uniform(draw) * side->weights;
	size_t kernel = 0;
	while (kernel < side->count && left >= side->weight[kernel])
		left -= side->weight[kernel++];
	for (int a = 0; a < axes_count; a++) {
		if (tracks[a].axis.kind == PIO_AXIS_CHOICE)
			point[a] = draw_choice(&tracks[a].axis, side->mu[a][kernel], side->count, draw);
		else
			point[a] = draw_ordered(&tracks[a], side, kernel, draw);
	}
}

/* ---- scoring --------------------------------------------------------------------------- */

/* log of sigma times the mass that a kernel has in a cell, before the bounds cut. */
static double cell_log(const pio_tpe_class *kernel, double x, double from, double to, double log_width)
{
	double z = (x - kernel->mu) / kernel->sigma;
	if (fabs(z) > FAR)
		return log_width - HALF_LOG_2PI - 0.5 * z * z;
	double a = (from - kernel->mu) / kernel->sigma, b = (to - kernel->mu) / kernel->sigma;
	/* both far up: their tails, which have digits left */
	double mass = a > 0 ? pio_real_ndtr(-a) - pio_real_ndtr(-b) : pio_real_ndtr(b) - pio_real_ndtr(a);
	return pio_real_log(mass * kernel->sigma);
}

/* How an axis adds to the logs of a candidate. */
typedef struct term {
	double x;
	double seen, other;        /* of a choice */
	const double *table;       /* of cells that are wide: by class of kernel; else NULL */
} term;

/* Where a cell is wide beside the narrowest kernel its mass is looked up, a number that
 * several candidates have once; else the density in its middle will do. */
static size_t fill_table(term *terms, pio_tpe_side *side, const pio_axis *axis, int a, int axes_count,
                         int candidate, size_t used)
{
	term *t = &terms[candidate * axes_count + a];
	double from, to;
	pio_axis_cell(&from, &to, axis, t->x);
	if (to - from <= 0.5 * (axis->high - axis->low) / FINEST)
		return used;
	for (int i = 0; i < candidate && !t->table; i++)
		if (terms[i * axes_count + a].x == t->x)
			t->table = terms[i * axes_count + a].table;
	if (t->table)
		return used;
	double *table = side->tables + used, log_width = pio_real_log(to - from);
	for (size_t i = 0; i < side->classes_count[a]; i++)
		table[i] = cell_log(&side->classes[a][i], t->x, from, to, log_width);
	t->table = table;
	return used + side->classes_count[a];
}

static int fill_terms(term *terms, pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count,
                      const double *points, int points_count, pio_err *err)
{
	size_t room = 0, used = 0;
	for (int a = 0; a < axes_count; a++)
		if (tracks[a].axis.kind == PIO_AXIS_WHOLE)
			room += side->classes_count[a] * (size_t)points_count;
	if (room > side->tables_capacity) {
		if (!resize(&side->tables, room, sizeof(double)))
			return pio_fail(err, PIO_ENOMEM, "out of memory for %zu masses", room);
		side->tables_capacity = room;
	}
	for (int i = 0; i < points_count; i++) {
		for (int a = 0; a < axes_count; a++) {
			term *t = &terms[i * axes_count + a];
			*t = (term){ .x = points[i * axes_count + a] };
			if (tracks[a].axis.kind == PIO_AXIS_CHOICE)
				choice_logs(&t->seen, &t->other, &tracks[a].axis, side->count);
			else if (tracks[a].axis.kind == PIO_AXIS_WHOLE)
				used = fill_table(terms, side, &tracks[a].axis, a, axes_count, i, used);
		}
	}
	assert(used <= room);
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

/* A sum of exponentials that is kept as sum * e^max. */
typedef struct log_sum {
	double max, sum;
} log_sum;

static void add_logs(log_sum *total, const double *logs, const double *weight, size_t n)
{
	double max = total->max;
	for (size_t k = 0; k < n; k++)
		max = logs[k] > max ? logs[k] : max;
	if (max > total->max)
		total->sum *= pio_real_exp(total->max - max);
	total->max = max;
	double kept[BLOCK], of[BLOCK];
	size_t count = 0;
	for (size_t k = 0; k < n; k++) {
		kept[count] = logs[k] - max;
		of[count] = weight[k];
		count += logs[k] > max - NEGLIGIBLE;
	}
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
		for (int i = 0; i < points_count; i++)
			add_term(logs + i * BLOCK, side, &tracks[a], a, &terms[i * axes_count + a], first, n);
	for (int i = 0; i < points_count; i++)
		add_logs(&totals[i], logs + i * BLOCK, side->weight + first, n);
}

int pio_tpe_side_score(double *log_density, pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, const double *points, int points_count, pio_err *err)
{
	size_t kernels = side->count + 1;
	term *terms = pio_alloc((size_t)points_count * (size_t)axes_count * sizeof *terms + 1);
	log_sum *totals = pio_alloc((size_t)points_count * sizeof *totals);
	double *logs = pio_alloc((size_t)points_count * BLOCK * sizeof *logs);
	int rc = terms && totals && logs ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for %d candidates",
	                                                points_count);
	if (!rc)
		rc = fill_terms(terms, side, tracks, axes_count, points, points_count, err);
	for (int i = 0; i < points_count && !rc; i++)
		totals[i] = (log_sum){ -INFINITY, 0 };
	for (size_t first = 0; first < kernels && !rc; first += BLOCK)
		add_block(totals, logs, side, tracks, axes_count, terms, points_count, first,
		          kernels - first < BLOCK ? kernels - first : BLOCK);
	for (int i = 0; i < points_count && !rc; i++)
		log_density[i] = totals[i].max + pio_real_log(totals[i].sum / side->weights);
	pio_free(terms);
	pio_free(totals);
	pio_free(logs);
	return rc;
}
