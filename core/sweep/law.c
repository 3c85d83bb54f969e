#include "sweep/law.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/ascent.h"
#include "sweep/draw.h"
#include "sweep/real.h"

#define HUBER 1e-3
#define STARTS_KEPT 24
#define CALLS_MAX 400
#define CALLS_LAST 4000
#define NUMBERS_MAX 5              /* e, then log of factor and exponent of each term */

/* The points as the fit sees them: logarithms about their means, so that factors and
 * exponents hardly depend on each other. */
typedef struct view {
	double *x[2], *y;              /* log size, log tokens less their means; log loss */
	double mean[2];
	size_t count;
	int terms[2], terms_count;     /* which of x have a term */
	double low[NUMBERS_MAX], high[NUMBERS_MAX];
	double y_low, y_mean;
} view;

/* The logarithm of the law at point i, and what it gains by each number. */
static double log_law(double *slope, const double *theta, const view *v, size_t i)
{
	double part[3], top = theta[0], sum = 0;
	part[0] = theta[0];
	for (int t = 0; t < v->terms_count; t++) {
		part[t + 1] = theta[2 * t + 1] - theta[2 * t + 2] * v->x[v->terms[t]][i];
		top = fmax(top, part[t + 1]);
	}
	for (int t = 0; t <= v->terms_count; t++)
		sum += part[t] = pio_real_exp(part[t] - top);
	slope[0] = part[0] / sum;
	for (int t = 0; t < v->terms_count; t++) {
		slope[2 * t + 1] = part[t + 1] / sum;
		slope[2 * t + 2] = -slope[2 * t + 1] * v->x[v->terms[t]][i];
	}
	return top + pio_real_log(sum);
}

/* What is to be highest: less the sum of Huber's function of the residuals, in units of
 * the square where it becomes a line. */
static double merit(double *gradient, const double *theta, void *context)
{
	const view *v = context;
	int numbers = 2 * v->terms_count + 1;
	double sum = 0;
	memset(gradient, 0, (size_t)numbers * sizeof *gradient);
	for (size_t i = 0; i < v->count; i++) {
		double slope[NUMBERS_MAX], r = (log_law(slope, theta, v, i) - v->y[i]) / HUBER;
		double pull = fmax(-1, fmin(1, r));
		sum -= fabs(r) <= 1 ? 0.5 * r * r : fabs(r) - 0.5;
		for (int k = 0; k < numbers; k++)
			gradient[k] -= pull * slope[k] / HUBER;
	}
	return sum;
}

static bool varies(const double *x, size_t count)
{
	double low = x[0], high = x[0];
	for (size_t i = 1; i < count; i++) {
		low = fmin(low, x[i]);
		high = fmax(high, x[i]);
	}
	return high - low > 1e-3;
}

/* Of what both say is there something that a line through them does not? */
static bool differ(const double *x, const double *z, size_t count)
{
	double xx = 0, xz = 0, zz = 0;
	for (size_t i = 0; i < count; i++) {
		xx += x[i] * x[i];
		xz += x[i] * z[i];
		zz += z[i] * z[i];
	}
	return zz - xz * xz / xx > 1e-3 * zz;
}

static enum pio_law_terms terms_of(const view *v)
{
	bool sizes = varies(v->x[0], v->count), tokens = varies(v->x[1], v->count);
	if (!sizes)
		return PIO_LAW_TOKENS;
	if (!tokens || v->count < pio_law_points_min(PIO_LAW_BOTH) || !differ(v->x[0], v->x[1], v->count))
		return PIO_LAW_SIZE;
	return PIO_LAW_BOTH;
}

/* The memory of `v` is in *all, for the caller to free. */
static int view_init(view *v, double **all, const pio_law_point *points, size_t count, pio_err *err)
{
	memset(v, 0, sizeof *v);
	for (size_t i = 0; i < count; i++) {
		const pio_law_point *p = &points[i];
		if (!(p->size > 0 && p->tokens > 0 && p->loss > 0) || isinf(p->size + p->tokens + p->loss))
			return pio_fail(err, PIO_EINVAL, "the law needs sizes, tokens and losses above 0, got"
			                " %g, %g and %g", p->size, p->tokens, p->loss);
	}
	*all = pio_calloc(3 * count + 1, sizeof **all);
	if (!*all)
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	v->x[0] = *all;
	v->x[1] = *all + count;
	v->y = *all + 2 * count;
	v->count = count;
	for (size_t i = 0; i < count; i++) {
		v->x[0][i] = pio_real_log(points[i].size);
		v->x[1][i] = pio_real_log(points[i].tokens);
		v->y[i] = pio_real_log(points[i].loss);
		v->mean[0] += v->x[0][i] / (double)count;
		v->mean[1] += v->x[1][i] / (double)count;
		v->y_mean += v->y[i] / (double)count;
		v->y_low = i ? fmin(v->y_low, v->y[i]) : v->y[i];
	}
	for (size_t i = 0; i < count; i++) {
		v->x[0][i] -= v->mean[0];
		v->x[1][i] -= v->mean[1];
	}
	return 0;
}

static void set_terms(view *v, enum pio_law_terms terms)
{
	v->terms_count = 0;
	for (int k = 0; k < 2; k++)
		if (terms & (1 << k))
			v->terms[v->terms_count++] = k;
	for (int k = 0; k < NUMBERS_MAX; k++) { /* first e, then of each term log factor and exponent */
		bool is_exponent = k > 0 && k % 2 == 0;
		v->low[k] = is_exponent ? 0.01 : v->y_low - 12;
		v->high[k] = is_exponent ? 4 : v->y_low + (k ? 6 : 0.1);
	}
}

typedef struct start {
	double merit, theta[NUMBERS_MAX];
} start;

static void keep(start *kept, int *count, const start *one)
{
	int at = *count < STARTS_KEPT ? (*count)++ : STARTS_KEPT;
	if (at == STARTS_KEPT) {
		if (one->merit <= kept[--at].merit)
			return;
	}
	for (; at > 0 && kept[at - 1].merit < one->merit; at--)
		kept[at] = kept[at - 1];
	kept[at] = *one;
}

/* Starts: parts of the lowest loss as E, exponents, and how the rest of a middling loss is
 * shared by the terms. Those that fit best are kept. */
static int starts_of(start *kept, const view *v)
{
	static const double floors[] = { 0.1, 0.4, 0.7, 0.85, 0.95, 0.99 };
	static const double exponents[] = { 0.08, 0.2, 0.35, 0.6, 1, 1.7 };
	static const double shares[] = { 0.1, 0.3, 0.5, 0.7, 0.9 };
	int count = 0, last = v->terms_count > 1 ? 6 : 1, parts = v->terms_count > 1 ? 5 : 1;
	for (int f = 0; f < 6; f++)
		for (int i = 0; i < 6; i++)
			for (int j = 0; j < last; j++)
				for (int s = 0; s < parts; s++) {
					double floor = pio_real_exp(v->y_low) * floors[f], unused[NUMBERS_MAX];
					double rest = fmax(pio_real_exp(v->y_mean) - floor, 1e-300);
					double share = v->terms_count > 1 ? shares[s] : 1;
					start one = { .theta = { pio_real_log(floor), pio_real_log(rest * share),
						exponents[i], pio_real_log(rest * (1 - share) + 1e-300),
						exponents[j] } };
					for (int k = 0; k < NUMBERS_MAX; k++)
						one.theta[k] = fmin(fmax(one.theta[k], v->low[k]), v->high[k]);
					one.merit = merit(unused, one.theta, (void *)v);
					keep(kept, &count, &one);
				}
	return count;
}

static double climb(double *theta, const view *v, int calls_max)
{
	return pio_ascent(theta, 2 * v->terms_count + 1, v->low, v->high, merit, (void *)v, calls_max,
	                  1e-7);
}

static void law_of(pio_law *law, const double *theta, const view *v)
{
	double factor[2] = { 0, 0 }, exponent[2] = { 0, 0 };
	memset(law, 0, sizeof *law);
	for (int t = 0; t < v->terms_count; t++) {
		int k = v->terms[t];
		exponent[k] = theta[2 * t + 2];
		factor[k] = pio_real_exp(theta[2 * t + 1] + exponent[k] * v->mean[k]);
		law->terms |= 1u << k;
	}
	law->e = pio_real_exp(theta[0]);
	law->a = factor[0];
	law->alpha = exponent[0];
	law->b = factor[1];
	law->beta = exponent[1];
}

static void theta_of(double *theta, const pio_law *law, const view *v)
{
	double factor[2] = { law->a, law->b }, exponent[2] = { law->alpha, law->beta };
	theta[0] = pio_real_log(law->e);
	for (int t = 0; t < v->terms_count; t++) {
		int k = v->terms[t];
		theta[2 * t + 2] = exponent[k];
		theta[2 * t + 1] = pio_real_log(factor[k]) - exponent[k] * v->mean[k];
	}
}

/* The same law with another E; the terms give in so much that a middling loss stays. */
static void move_floor(double *theta, const view *v, double floor)
{
	double middle = pio_real_exp(v->y_mean), rest = middle - pio_real_exp(theta[0]);
	theta[0] = fmin(fmax(pio_real_log(floor), v->low[0]), v->high[0]);
	double now = middle - pio_real_exp(theta[0]), least = 1e-3 * middle;
	double change = pio_real_log(fmax(now, least) / fmax(rest, least));
	for (int t = 0; t < v->terms_count; t++)
		theta[2 * t + 1] = fmin(fmax(theta[2 * t + 1] + change, v->low[2 * t + 1]), v->high[2 * t + 1]);
}

size_t pio_law_points_min(enum pio_law_terms terms)
{
	return terms == PIO_LAW_BOTH ? 6 : 4;
}

int pio_law_fit(pio_law *law, const pio_law_point *points, size_t count, pio_err *err)
{
	view v;
	double *all;
	if (count < pio_law_points_min(PIO_LAW_SIZE))
		return pio_fail(err, PIO_EINVAL, "a law needs %zu points, and there are %zu",
		                pio_law_points_min(PIO_LAW_SIZE), count);
	int rc = view_init(&v, &all, points, count, err);
	if (rc)
		return rc;
	set_terms(&v, terms_of(&v));
	start kept[STARTS_KEPT];
	int starts = starts_of(kept, &v), best = 0;
	for (int i = 0; i < starts; i++) {
		kept[i].merit = climb(kept[i].theta, &v, CALLS_MAX);
		best = kept[i].merit > kept[best].merit ? i : best;
	}
	climb(kept[best].theta, &v, CALLS_LAST);
	law_of(law, kept[best].theta, &v);
	pio_free(all);
	return 0;
}

int pio_law_bootstrap(pio_law *laws, size_t samples, const pio_law *law, const pio_law_point *points,
                      size_t count, int64_t seed, pio_err *err)
{
	view v;
	double *all;
	int rc = view_init(&v, &all, points, count, err);
	if (rc)
		return rc;
	set_terms(&v, law->terms);
	double *fitted = pio_calloc(2 * count, sizeof *fitted), *residual = fitted + count;
	if (!fitted) {
		pio_free(all);
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	}
	double first[NUMBERS_MAX], unused[NUMBERS_MAX], mean = 0;
	theta_of(first, law, &v);
	for (size_t i = 0; i < count; i++) {
		fitted[i] = log_law(unused, first, &v, i);
		residual[i] = v.y[i] - fitted[i];
		mean += residual[i] / (double)count;
	}
	/* the fit took its numbers from the residuals, which are too small by that */
	double numbers = 2 * v.terms_count + 1, grow = sqrt((double)count / ((double)count - numbers));
	for (size_t i = 0; i < count; i++)
		residual[i] = (residual[i] - mean) * grow;
	for (size_t k = 0; k < samples; k++) {
		pio_draw draw = pio_draw_init(seed, (int64_t)k, "law", 3);
		for (size_t i = 0; i < count; i++)
			v.y[i] = fitted[i] + residual[pio_draw_integer(&draw, 0, (int64_t)count - 1)];
		double best[NUMBERS_MAX], best_merit = -INFINITY;
		for (int try = 0; try < 3; try++) { /* from the law, and from a lower and a higher E */
			double theta[NUMBERS_MAX], low = pio_real_exp(v.y_low);
			memcpy(theta, first, sizeof theta);
			if (try)
				move_floor(theta, &v, try == 1 ? 0.6 * law->e : law->e + 0.7 * (low - law->e));
			double value = climb(theta, &v, CALLS_MAX);
			if (value > best_merit)
				memcpy(best, theta, sizeof best);
			best_merit = fmax(value, best_merit);
		}
		law_of(&laws[k], best, &v);
		laws[k].noise = residual[pio_draw_integer(&draw, 0, (int64_t)count - 1)];
	}
	pio_free(fitted);
	pio_free(all);
	return 0;
}

double pio_law_at(const pio_law *law, double size, double tokens)
{
	double value = law->e;
	if (law->terms & PIO_LAW_SIZE)
		value += law->a * pio_real_exp(-law->alpha * pio_real_log(size));
	if (law->terms & PIO_LAW_TOKENS)
		value += law->b * pio_real_exp(-law->beta * pio_real_log(tokens));
	return value;
}
