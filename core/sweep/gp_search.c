#include "sweep/gp_search.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/ascent.h"
#include "sweep/real.h"
#include "sys/interrupt.h"

#define FAR_DOWN -1e4              /* there h = density / z^2 to all digits that count */

/* ---- what is expected --------------------------------------------------------------- */

/* h(z) = density(z) + z probability(z): its logarithm, and probability and density in
 * parts of it. */
static double log_h(double *probability, double *density, double z)
{
	double phi = pio_real_exp(-0.5 * z * z - PIO_REAL_HALF_LOG_2PI);
	if (z > -1) {
		double below = pio_real_ndtr(z), h = phi + z * below;
		*probability = below / h;
		*density = phi / h;
		return pio_real_log(h);
	}
	double log_phi = -0.5 * z * z - PIO_REAL_HALF_LOG_2PI;
	double ratio = PIO_REAL_SQRT_HALF_PI * pio_real_erfcx(-z * PIO_REAL_SQRT_HALF); /* probability / density */
	double rest = z < FAR_DOWN ? 1 / (z * z) : fmax(1 + z * ratio, 1e-12);
	*probability = ratio / rest;
	*density = 1 / rest;
	return log_phi + pio_real_log(rest);
}

double pio_gp_log_improvement(double mean, double deviation, double best)
{
	double probability, density;
	return pio_real_log(deviation) + log_h(&probability, &density, (best - mean) / deviation);
}

typedef struct search {
	pio_gp *gp;
	const pio_gp_axis *axes;
	int axes_count;
	double best;
	const pio_gp_region *region;       /* or NULL */
	const pio_gp_limits *limits;       /* or NULL */
	bool is_sought;                    /* no known point meets them */
	const double *start;               /* the best point that is known, in units */
	double low[PIO_GP_AXES_MAX], high[PIO_GP_AXES_MAX];
	double unit[PIO_GP_AXES_MAX];      /* where what does not move stands */
	int free[PIO_GP_AXES_MAX];         /* the axes that move */
} search;

static double promise(const search *s, const double *unit)
{
	double feasible = s->limits ? pio_gp_log_feasible(NULL, s->limits, unit) : 0;
	if (s->is_sought)
		return feasible;
	double mean, deviation = 0;
	bool is_bound = s->region && !s->limits, wants_deviation = !is_bound || s->region->care > 0;
	pio_gp_predict(&mean, wants_deviation ? &deviation : NULL, NULL, NULL, s->gp, unit);
	if (is_bound)
		return s->region->care * deviation - mean;
	return pio_gp_log_improvement(mean, deviation, s->best) + feasible;
}

static double uphill(double *gradient, const double *x, void *context)
{
	search *s = context;
	double mean, deviation, probability, density, of_limits[PIO_GP_AXES_MAX] = { 0 };
	double mean_gradient[PIO_GP_AXES_MAX], deviation_gradient[PIO_GP_AXES_MAX];
	int n = 0;
	for (; n < s->axes_count && s->free[n] >= 0; n++)
		s->unit[s->free[n]] = x[n];
	double feasible = s->limits ? pio_gp_log_feasible(of_limits, s->limits, s->unit) : 0;
	for (int i = 0; i < n; i++)
		gradient[i] = of_limits[s->free[i]];
	if (s->is_sought)
		return feasible;
	if (s->region && !s->limits) {
		double care = s->region->care;
		pio_gp_predict(&mean, care > 0 ? &deviation : NULL, mean_gradient, deviation_gradient, s->gp,
		               s->unit);
		for (int i = 0; i < n; i++)
			gradient[i] = (care > 0 ? care * deviation_gradient[s->free[i]] : 0) -
			              mean_gradient[s->free[i]];
		return (care > 0 ? care * deviation : 0) - mean;
	}
	pio_gp_predict(&mean, &deviation, mean_gradient, deviation_gradient, s->gp, s->unit);
	double value = log_h(&probability, &density, (s->best - mean) / deviation);
	for (int i = 0; i < n; i++) {
		int a = s->free[i];
		gradient[i] += (density * deviation_gradient[a] - probability * mean_gradient[a]) / deviation;
	}
	return value + pio_real_log(deviation) + feasible;
}

/* ---- candidates ------------------------------------------------------------------------ */

static double snapped(const search *s, int a, double unit)
{
	const pio_axis *axis = &s->axes[a].axis;
	unit = fmin(fmax(unit, s->low[a]), s->high[a]);
	if (axis->kind != PIO_AXIS_WHOLE)
		return unit;
	double range = axis->high - axis->low;
	return (pio_axis_snap(axis, axis->low + unit * range) - axis->low) / range;
}

static bool is_there(const search *s, const double *unit, int a)
{
	const pio_gp_axis *g = &s->axes[a];
	return g->parent < 0 || unit[g->parent] == g->when;
}

/* A coordinate that is there, at random. */
static double any(const search *s, int a, pio_draw *draw)
{
	if (s->axes[a].axis.kind == PIO_AXIS_CHOICE)
		return s->region && s->region->middle[a] >= 0
		               ? s->region->middle[a]
		               : (double)pio_draw_integer(draw, 0, (int64_t)s->axes[a].axis.last);
	return snapped(s, a, s->low[a] + pio_draw_uniform(draw) * (s->high[a] - s->low[a]));
}

/* What is not there stands in the middle; parents come before what depends on them. */
static void draw_anywhere(double *unit, const search *s, pio_draw *draw)
{
	for (int a = 0; a < s->axes_count; a++) {
		double drawn = any(s, a, draw);
		bool is_choice = s->axes[a].axis.kind == PIO_AXIS_CHOICE;
		unit[a] = is_there(s, unit, a) ? drawn : is_choice ? -1 : 0.5;
	}
}

/* A known point of which some coordinates are moved, by a little or by less. */
static void draw_near(double *unit, const search *s, const double *known, double reach, pio_draw *draw)
{
	double chance = fmax(0.2, 2.0 / s->axes_count);
	for (int a = 0; a < s->axes_count; a++) {
		const pio_gp_axis *g = &s->axes[a];
		bool is_choice = g->axis.kind == PIO_AXIS_CHOICE, moves = pio_draw_uniform(draw) < chance;
		double drawn = any(s, a, draw), u = pio_draw_uniform(draw);
		if (!is_there(s, unit, a))
			unit[a] = is_choice ? -1 : 0.5;
		else if (is_choice)
			unit[a] = known[a] < 0 || (moves && u < 0.5) ? drawn : known[a];
		else
			unit[a] = moves ? snapped(s, a, known[a] + reach * pio_real_ndtri(0.0005 + 0.999 * u))
			                : known[a];
	}
}

/* Keep the best `kept` of what comes by, in order. */
static void keep(double *rows, double *scores, int *count, int kept, int d, const double *unit, double score)
{
	int place = *count;
	while (place > 0 && scores[place - 1] < score)
		place--;
	if (place >= kept)
		return;
	int last = *count < kept ? *count : kept - 1;
	memmove(scores + place + 1, scores + place, (size_t)(last - place) * sizeof *scores);
	memmove(rows + (place + 1) * d, rows + place * d, (size_t)((last - place) * d) * sizeof *rows);
	scores[place] = score;
	memcpy(rows + place * d, unit, (size_t)d * sizeof *unit);
	*count = last + 1;
}

/* ---- uphill ------------------------------------------------------------------------------- */

/* Along what is continuous, whole numbers taken for it and put back into their cells; where
 * that is no gain in the end, unit stays. Returns its score. */
static double climb(search *s, double *unit, double score, int calls)
{
	double x[PIO_GP_AXES_MAX], low[PIO_GP_AXES_MAX], high[PIO_GP_AXES_MAX];
	int n = 0;
	for (int a = 0; a < s->axes_count; a++) {
		if (s->axes[a].axis.kind == PIO_AXIS_CHOICE || !is_there(s, unit, a))
			continue;
		x[n] = unit[a];
		low[n] = s->low[a];
		high[n] = s->high[a];
		s->free[n++] = a;
	}
	if (n < s->axes_count)
		s->free[n] = -1;
	if (!n)
		return score;
	memcpy(s->unit, unit, (size_t)s->axes_count * sizeof *unit);
	pio_ascent(x, n, low, high, uphill, s, calls, 1e-6);
	double top[PIO_GP_AXES_MAX];
	memcpy(top, unit, (size_t)s->axes_count * sizeof *unit);
	for (int i = 0; i < n; i++)
		top[s->free[i]] = snapped(s, s->free[i], x[i]);
	double found = promise(s, top);
	if (!(found > score))
		return score;
	memcpy(unit, top, (size_t)s->axes_count * sizeof *unit);
	return found;
}

static bool is_parent(const search *s, int a)
{
	for (int b = a + 1; b < s->axes_count; b++)
		if (s->axes[b].parent == a)
			return true;
	return false;
}

/* Each other choice, and each neighbour of a whole number; a choice on which others depend
 * stays. */
static double step(search *s, double *unit, double score)
{
	for (int a = 0; a < s->axes_count; a++) {
		const pio_axis *axis = &s->axes[a].axis;
		if (axis->kind == PIO_AXIS_REAL || !is_there(s, unit, a) || is_parent(s, a))
			continue;
		bool is_choice = axis->kind == PIO_AXIS_CHOICE;
		double range = axis->high - axis->low, kept = unit[a];
		double value = is_choice ? 0 : pio_axis_value(axis, axis->low + kept * range);
		double first = is_choice ? 0 : fmax(value - 1, axis->first);
		double last = is_choice ? axis->last : fmin(value + 1, axis->last);
		for (int k = 0; k <= last - first; k++) { /* a number may be so large that 1 more is the same */
			double at = first + k;
			unit[a] = is_choice ? at : (pio_axis_of_value(axis, at) - axis->low) / range;
			double found = promise(s, unit);
			if (found > score) {
				score = found;
				kept = unit[a];
			}
		}
		unit[a] = kept;
	}
	return score;
}

static void put_points(double *points, size_t *found, const search *s, const double *rows, int count)
{
	size_t d = (size_t)s->axes_count;
	*found = 0;
	for (int i = 0; i < count; i++) {
		double *point = points + *found * d;
		pio_gp_point(point, s->gp, rows + (size_t)i * d);
		bool is_new = true;
		for (size_t j = 0; j < *found && is_new; j++)
			is_new = memcmp(points + j * d, point, d * sizeof *point) != 0;
		*found += is_new;
	}
}

/* rows and scores: two lists of effort->starts each. */
static void look(double *rows, double *scores, int *count, search *s, const pio_gp_effort *effort,
                 pio_draw *draw)
{
	double unit[PIO_GP_AXES_MAX];
	int d = s->axes_count, starts = effort->starts, near = 0, anywhere = 0, near_max = starts / 3;
	/* those around the best would take all places: there are places for each kind */
	for (int i = 0; i < effort->candidates && !pio_interrupt_came(); i++) {
		if (i % 4 == 0 && near_max) {
			draw_near(unit, s, s->start, i % 8 ? 0.15 : 0.02, draw);
			keep(rows, scores, &near, near_max, d, unit, promise(s, unit));
		} else {
			draw_anywhere(unit, s, draw);
			keep(rows + near_max * d, scores + near_max, &anywhere, starts - near_max, d, unit,
			     promise(s, unit));
		}
	}
	double *to = rows + starts * d, *to_scores = scores + starts;
	for (int i = 0; i < starts + 1; i++) { /* and from the best that is known */
		bool is_drawn = i < near_max ? i < near : i < near_max + anywhere;
		if (i < starts && !is_drawn)
			continue;
		memcpy(unit, i < starts ? rows + i * d : s->start, (size_t)d * sizeof *unit);
		double score = climb(s, unit, promise(s, unit), effort->calls);
		double stepped = step(s, unit, score);
		if (stepped > score)
			stepped = climb(s, unit, stepped, effort->calls / 2);
		keep(to, to_scores, count, starts, d, unit, stepped);
	}
}

/* The box: all of it, or around the middle of a region, of whole numbers a cell to either
 * side at least. */
static void set_box(search *s)
{
	for (int a = 0; a < s->axes_count; a++) {
		const pio_axis *axis = &s->axes[a].axis;
		s->low[a] = 0;
		s->high[a] = 1;
		if (!s->region || axis->kind == PIO_AXIS_CHOICE)
			continue;
		double middle = s->region->middle[a], low = middle - s->region->half[a];
		double high = middle + s->region->half[a];
		if (axis->kind == PIO_AXIS_WHOLE) {
			double from, to, range = axis->high - axis->low;
			pio_axis_cell(&from, &to, axis, axis->low + middle * range);
			low = fmin(low, middle - 1.2 * (to - from) / range);
			high = fmax(high, middle + 1.2 * (to - from) / range);
		}
		s->low[a] = fmax(low, 0);
		s->high[a] = fmin(high, 1);
	}
}

/* The best known point that meets the limits; while none does the likeliest to. */
static void begin(search *s)
{
	size_t best = pio_gp_best(&s->best, s->gp, s->limits ? s->limits->is_met : NULL);
	double most = -INFINITY;
	s->is_sought = s->limits && !isfinite(s->best);
	for (size_t i = 0; s->is_sought && i < pio_gp_count(s->gp); i++) {
		double feasible = pio_gp_log_feasible(NULL, s->limits, pio_gp_known(s->gp, i));
		if (feasible > most) {
			most = feasible;
			best = i;
		}
	}
	s->start = s->region ? s->region->middle : pio_gp_known(s->gp, best);
}

int pio_gp_search(double *points, size_t *found, pio_gp *gp, const pio_gp_effort *effort,
                  const pio_gp_region *region, const pio_gp_limits *limits, pio_draw *draw, pio_err *err)
{
	search *s = pio_calloc(1, sizeof *s);
	int d = 0, count = 0;
	const pio_gp_axis *axes = pio_gp_axes(&d, gp);
	double *rows = pio_calloc(2 * (size_t)effort->starts * (size_t)d, sizeof *rows);
	double *scores = pio_calloc(2 * (size_t)effort->starts, sizeof *scores);
	*found = 0;
	int rc = s && rows && scores ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for %d starts",
	                                            effort->starts);
	if (!rc) {
		*s = (search){ .gp = gp, .axes = axes, .axes_count = d, .region = region, .limits = limits };
		set_box(s);
		begin(s);
		look(rows, scores, &count, s, effort, draw);
		put_points(points, found, s, rows + effort->starts * d, count);
		rc = pio_interrupt_came() ? pio_fail(err, PIO_ECANCELLED, "interrupted") : 0;
	}
	pio_free(s);
	pio_free(rows);
	pio_free(scores);
	return rc;
}

double pio_gp_probe(double *point, pio_gp *gp, const pio_gp_region *region)
{
	search s = { .gp = gp, .region = region };
	double unit[PIO_GP_AXES_MAX], best[PIO_GP_AXES_MAX], most = -1;
	s.axes = pio_gp_axes(&s.axes_count, gp);
	set_box(&s);
	memcpy(unit, region->middle, (size_t)s.axes_count * sizeof *unit);
	memcpy(best, unit, (size_t)s.axes_count * sizeof *unit);
	for (int a = 0; a < s.axes_count; a++) {
		if (s.axes[a].axis.kind == PIO_AXIS_CHOICE || !is_there(&s, unit, a))
			continue;
		for (int side = 0; side < 2; side++) {
			double mean, deviation;
			unit[a] = snapped(&s, a, side ? s.high[a] : s.low[a]);
			pio_gp_predict(&mean, &deviation, NULL, NULL, gp, unit);
			if (deviation > most * (1 + 1e-9)) {
				most = deviation;
				memcpy(best, unit, (size_t)s.axes_count * sizeof *unit);
			}
		}
		unit[a] = region->middle[a];
	}
	pio_gp_point(point, gp, best);
	return most < 0 ? 0 : most / pio_gp_width(gp);
}
