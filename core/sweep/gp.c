#include "sweep/gp.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/ascent.h"
#include "sweep/real.h"
#include "sweep/standard.h"
#include "sys/interrupt.h"

#define SQRT_5 0x1.1e3779b97f4a8p+1
#define SQRT_2 0x1.6a09e667f3bcdp+0
#define LENGTH_VARIANCE 3.0        /* of the logarithm, by the prior */
#define NOISE_MEAN -9.0            /* the same of the noise */
#define NOISE_VARIANCE 9.0
#define NOISE_MIN 1e-6             /* unless the view says otherwise */
#define LENGTH_MIN 5e-3
#define LENGTH_MAX 1e3
#define DOUBT_MAX 1e3              /* standardized: it tells nothing then */

struct pio_gp {
	int axes_count;
	pio_gp_view view;
	pio_gp_axis axes[PIO_GP_AXES_MAX];
	double theta[PIO_GP_AXES_MAX + 1]; /* logarithms of the lengths, and of the noise */
	double weight[PIO_GP_AXES_MAX];    /* 1 / length^2 */
	size_t count, known, capacity;     /* rows; those that are not under way */
	double *rows;                      /* in units, row by row */
	double *columns;                   /* the same, axis by axis */
	double *z, *alpha, *work;          /* values; solutions; of one row each */
	double *doubt;                     /* the variance of each value, in parts of that of all */
	double *fitted;                    /* what the model thinks of what is known */
	double *matrix, *inverse, *slope;  /* count x count */
	double noise, mean, variance;
	double unit;                       /* a standardized value in values of the better half */
	double zero;                       /* 0, standardized */
	double evidence, log_det;
};

int pio_gp_new(pio_gp **out, const pio_gp_axis *axes, int axes_count, pio_err *err)
{
	assert(axes_count >= 1 && axes_count <= PIO_GP_AXES_MAX);
	pio_gp *gp = pio_calloc(1, sizeof *gp);
	if (!gp)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a model");
	gp->axes_count = axes_count;
	gp->view.noise_min = NOISE_MIN;
	memcpy(gp->axes, axes, (size_t)axes_count * sizeof *axes);
	for (int a = 0; a < axes_count; a++)
		gp->theta[a] = SQRT_2 + 0.5 * pio_real_log(axes_count);
	gp->theta[axes_count] = NOISE_MEAN;
	*out = gp;
	return 0;
}

void pio_gp_look(pio_gp *gp, const pio_gp_view *view)
{
	gp->view = *view;
}

static void drop_rows(pio_gp *gp)
{
	pio_free(gp->rows);
	pio_free(gp->columns);
	pio_free(gp->z);
	pio_free(gp->doubt);
	pio_free(gp->alpha);
	pio_free(gp->fitted);
	pio_free(gp->work);
	pio_free(gp->matrix);
	pio_free(gp->inverse);
	pio_free(gp->slope);
	gp->rows = gp->columns = gp->z = gp->doubt = gp->alpha = gp->fitted = gp->work = NULL;
	gp->matrix = gp->inverse = gp->slope = NULL;
	gp->capacity = gp->count = gp->known = 0;
}

void pio_gp_free(pio_gp *gp)
{
	if (!gp)
		return;
	drop_rows(gp);
	pio_free(gp);
}

static int reserve(pio_gp *gp, size_t count, pio_err *err)
{
	if (count <= gp->capacity)
		return 0;
	size_t n = count + count / 4 + 8, d = (size_t)gp->axes_count;
	drop_rows(gp);
	gp->rows = pio_alloc(n * d * sizeof(double));
	gp->columns = pio_alloc(n * d * sizeof(double));
	gp->z = pio_alloc(n * sizeof(double));
	gp->doubt = pio_alloc(n * sizeof(double));
	gp->alpha = pio_alloc(n * sizeof(double));
	gp->fitted = pio_alloc(n * sizeof(double));
	gp->work = pio_alloc(2 * n * sizeof(double));
	gp->matrix = pio_alloc(n * n * sizeof(double));
	gp->inverse = pio_alloc(n * n * sizeof(double));
	gp->slope = pio_alloc(n * n * sizeof(double));
	if (!gp->rows || !gp->columns || !gp->z || !gp->doubt || !gp->alpha || !gp->fitted || !gp->work ||
	    !gp->matrix || !gp->inverse || !gp->slope) {
		drop_rows(gp);
		return pio_fail(err, PIO_ENOMEM, "out of memory for a model of %zu points", n);
	}
	gp->capacity = n;
	return 0;
}

/* ---- points and values ---------------------------------------------------------------- */

void pio_gp_unit(double *unit, const pio_gp *gp, const double *point)
{
	for (int a = 0; a < gp->axes_count; a++) {
		const pio_axis *axis = &gp->axes[a].axis;
		bool is_choice = axis->kind == PIO_AXIS_CHOICE;
		if (isnan(point[a]))
			unit[a] = is_choice ? -1 : 0.5;
		else
			unit[a] = is_choice ? point[a] : (point[a] - axis->low) / (axis->high - axis->low);
	}
}

void pio_gp_point(double *point, const pio_gp *gp, const double *unit)
{
	for (int a = 0; a < gp->axes_count; a++) {
		const pio_gp_axis *g = &gp->axes[a];
		const pio_axis *axis = &g->axis;
		bool is_there = g->parent < 0 || (!isnan(point[g->parent]) && point[g->parent] == g->when);
		if (!is_there)
			point[a] = NAN;
		else if (axis->kind == PIO_AXIS_CHOICE)
			point[a] = unit[a] < 0 ? 0 : unit[a];
		else
			point[a] = pio_axis_snap(axis, axis->low + unit[a] * (axis->high - axis->low));
	}
}

static void put_row(pio_gp *gp, size_t row, const double *point)
{
	double *unit = gp->rows + row * (size_t)gp->axes_count;
	pio_gp_unit(unit, gp, point);
	for (int a = 0; a < gp->axes_count; a++)
		gp->columns[(size_t)a * gp->capacity + row] = unit[a];
}

/* Points, and values standardized, of which doubts are in parts of the variance then. */
static void put_rows(pio_gp *gp, const double *points, const double *values, const double *doubts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		put_row(gp, i, points + i * (size_t)gp->axes_count);
	gp->unit = pio_standard(gp->z, &gp->zero, gp->work, values, count, gp->view.is_plain);
	for (size_t i = 0; i < count; i++) {
		double doubt = doubts && gp->unit > 0 ? fmin(doubts[i] / gp->unit, DOUBT_MAX) : 0;
		gp->doubt[i] = doubt * doubt;
	}
}

/* ---- covariance ------------------------------------------------------------------------- */

static bool is_choice(const pio_gp *gp, int a)
{
	return gp->axes[a].axis.kind == PIO_AXIS_CHOICE;
}

static void set_weights(pio_gp *gp, const double *theta)
{
	for (int a = 0; a < gp->axes_count; a++)
		gp->weight[a] = pio_real_exp(-2 * theta[a]);
}

/* r[j] = squared distance of `unit` to row j, for j in [first, count). */
PIO_WIDER static void distances(double *restrict r, const pio_gp *gp, const double *unit, size_t first,
                                size_t count)
{
	for (size_t j = first; j < count; j++)
		r[j] = 0;
	for (int a = 0; a < gp->axes_count; a++) {
		const double *restrict x = gp->columns + (size_t)a * gp->capacity;
		double u = unit[a], w = gp->weight[a];
		if (is_choice(gp, a)) {
			for (size_t j = first; j < count; j++)
				r[j] += x[j] == u ? 0 : w;
		} else {
			for (size_t j = first; j < count; j++)
				r[j] += w * (x[j] - u) * (x[j] - u);
		}
	}
}

/* Squared distances become covariances, and slope[j] -2 the derivative of each by its own. */
PIO_WIDER static void covariances(double *restrict k, double *restrict slope, size_t n, bool is_smooth)
{
	if (is_smooth) {
		for (size_t j = 0; j < n; j++)
			slope[j] = -0.5 * k[j];
		pio_real_exps(slope, slope, n);
		memcpy(k, slope, n * sizeof *k);
		return;
	}
	for (size_t j = 0; j < n; j++)
		k[j] = -SQRT_5 * sqrt(k[j]);
	pio_real_exps(slope, k, n);
	for (size_t j = 0; j < n; j++) {
		double r = -k[j], e = slope[j];
		slope[j] = (5.0 / 3) * (1 + r) * e;
		k[j] = (1 + r + r * r / 3) * e;
	}
}

/* gp->matrix of the rows, and gp->slope. */
static void fill(pio_gp *gp, double noise)
{
	size_t n = gp->count;
	for (size_t i = 0; i < n; i++) {
		double *row = gp->matrix + i * n, *slope = gp->slope + i * n;
		distances(row, gp, gp->rows + i * (size_t)gp->axes_count, i + 1, n);
		row[i] = 1 + noise + gp->doubt[i];
		slope[i] = 0;
		covariances(row + i + 1, slope + i + 1, n - i - 1, gp->view.is_smooth);
	}
}

/* The upper triangle of gp->matrix into U, where U'U was it; -INFINITY where it is not
 * positive definite, else log |U'U|. */
PIO_WIDER static double factorize(pio_gp *gp)
{
	size_t n = gp->count;
	double log_det = 0;
	for (size_t k = 0; k < n; k++) {
		double *row = gp->matrix + k * n;
		if (!(row[k] > 0))
			return -INFINITY;
		double pivot = sqrt(row[k]), inverse = 1 / pivot;
		log_det += 2 * pio_real_log(pivot);
		row[k] = pivot;
		for (size_t j = k + 1; j < n; j++)
			row[j] *= inverse;
		for (size_t i = k + 1; i < n; i++) {
			double *restrict other = gp->matrix + i * n, factor = row[i];
			const double *restrict from = row;
			for (size_t j = i; j < n; j++)
				other[j] -= factor * from[j];
		}
	}
	return log_det;
}

/* gp->inverse from U: the rows of inv(U') first, in the lower triangle of gp->matrix, whose
 * diagonal is kept by U. */
PIO_WIDER static void invert(pio_gp *gp)
{
	size_t n = gp->count;
	double *m = gp->matrix;
	for (size_t i = 0; i < n; i++) {
		double *restrict row = m + i * n;
		double scale = 1 / row[i];
		for (size_t j = 0; j < i; j++)
			row[j] = 0;
		for (size_t k = 0; k < i; k++) {
			const double *restrict from = m + k * n;
			double factor = m[k * n + i] * scale;
			for (size_t j = 0; j < k; j++)
				row[j] -= factor * from[j];
			row[k] -= factor / from[k];
		}
	}
	memset(gp->inverse, 0, n * n * sizeof *gp->inverse);
	for (size_t i = 0; i < n; i++) {
		const double *row = m + i * n;
		double last = 1 / row[i];
		for (size_t a = 0; a <= i; a++) {
			double *restrict into = gp->inverse + a * n, factor = a == i ? last : row[a];
			for (size_t b = 0; b < i && b <= a; b++)
				into[b] += factor * row[b];
			if (a == i)
				into[i] += factor * last;
		}
	}
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++)
			gp->inverse[i * n + j] = gp->inverse[j * n + i];
}

static double dot(const double *a, const double *b, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* out = inverse v */
PIO_WIDER static void multiply(double *restrict out, const pio_gp *gp, const double *v)
{
	size_t n = gp->count;
	for (size_t j = 0; j < n; j++)
		out[j] = 0;
	for (size_t i = 0; i < n; i++) {
		const double *restrict row = gp->inverse + i * n;
		double factor = v[i];
		for (size_t j = 0; j < n; j++)
			out[j] += factor * row[j];
	}
}

/* Mean, alpha and variance from inverse and z: the most likely ones. */
static void solve(pio_gp *gp)
{
	size_t n = gp->count;
	double ones = 0, of_z = 0;
	multiply(gp->alpha, gp, gp->z);
	for (size_t i = 0; i < n; i++) {
		of_z += gp->alpha[i];
		for (size_t j = 0; j < n; j++)
			ones += gp->inverse[i * n + j];
	}
	gp->mean = of_z / ones;
	for (size_t i = 0; i < n; i++)
		gp->work[i] = gp->z[i] - gp->mean;
	multiply(gp->alpha, gp, gp->work);
	gp->variance = fmax(dot(gp->alpha, gp->work, n) / (double)n, 1e-12);
}

/* ---- learning ---------------------------------------------------------------------------- */

/* log of the prior of theta, and its gradient added. */
static double prior(double *gradient, const pio_gp *gp, const double *theta)
{
	double center = SQRT_2 + 0.5 * pio_real_log(gp->axes_count), sum = 0;
	for (int a = 0; a <= gp->axes_count; a++) {
		bool is_noise = a == gp->axes_count;
		double off = theta[a] - (is_noise ? NOISE_MEAN : center);
		double variance = is_noise ? NOISE_VARIANCE : LENGTH_VARIANCE;
		sum -= 0.5 * off * off / variance;
		gradient[a] -= off / variance;
	}
	return sum;
}

static double likelihood(double *gradient, const double *theta, void *context)
{
	pio_gp *gp = context;
	size_t n = gp->count;
	double noise = pio_real_exp(theta[gp->axes_count]);
	for (int a = 0; a <= gp->axes_count; a++)
		gradient[a] = 0;
	set_weights(gp, theta);
	fill(gp, noise);
	double log_det = factorize(gp);
	if (!isfinite(log_det))
		return -INFINITY;
	invert(gp);
	solve(gp);
	for (size_t i = 0; i < n; i++) {
		gradient[gp->axes_count] += 0.5 * noise * (gp->alpha[i] * gp->alpha[i] / gp->variance -
		                                           gp->inverse[i * n + i]);
		double *slope = gp->slope + i * n;
		for (size_t j = i + 1; j < n; j++)
			slope[j] *= gp->alpha[i] * gp->alpha[j] / gp->variance - gp->inverse[i * n + j];
		for (int a = 0; a < gp->axes_count; a++) {
			const double *x = gp->columns + (size_t)a * gp->capacity;
			double sum = 0;
			if (is_choice(gp, a)) {
				for (size_t j = i + 1; j < n; j++)
					sum += x[j] == x[i] ? 0 : slope[j];
			} else {
				for (size_t j = i + 1; j < n; j++)
					sum += slope[j] * (x[j] - x[i]) * (x[j] - x[i]);
			}
			gradient[a] += gp->weight[a] * sum;
		}
	}
	return -0.5 * (double)n * pio_real_log(gp->variance) - 0.5 * log_det + prior(gradient, gp, theta);
}

int pio_gp_learn(pio_gp *gp, const double *points, const double *values, const double *doubts, size_t count,
                 int calls, pio_err *err)
{
	int rc = reserve(gp, count, err), d = gp->axes_count;
	if (rc)
		return rc;
	double low[PIO_GP_AXES_MAX + 1], high[PIO_GP_AXES_MAX + 1], best_theta[PIO_GP_AXES_MAX + 1];
	double best = -INFINITY;
	gp->count = gp->known = count;
	put_rows(gp, points, values, doubts, count);
	for (int a = 0; a <= d; a++) {
		low[a] = pio_real_log(a < d ? LENGTH_MIN : gp->view.noise_min);
		high[a] = a < d ? pio_real_log(LENGTH_MAX) : 0;
	}
	/* from where all is smooth, and from where it is not */
	for (int start = 0; start < 2; start++) {
		double theta[PIO_GP_AXES_MAX + 1];
		for (int a = 0; a <= d; a++)
			theta[a] = a == d ? (start ? -3 : NOISE_MEAN)
			                  : 0.5 * pio_real_log(d) - (start ? 1.2 : 0);
		double value = pio_ascent(theta, d + 1, low, high, likelihood, gp, calls / 2, 1e-3);
		if (value > best) {
			best = value;
			memcpy(best_theta, theta, sizeof theta);
		}
	}
	if (pio_interrupt_came())
		return pio_fail(err, PIO_ECANCELLED, "interrupted");
	if (isfinite(best))
		memcpy(gp->theta, best_theta, ((size_t)d + 1) * sizeof *best_theta);
	return 0;
}

void pio_gp_set(pio_gp *gp, const double *lengths, double noise)
{
	for (int a = 0; a < gp->axes_count; a++)
		gp->theta[a] = pio_real_log(lengths[a]);
	gp->theta[gp->axes_count] = pio_real_log(noise);
}

/* ---- knowing ------------------------------------------------------------------------------ */

static int settle(pio_gp *gp, pio_err *err)
{
	set_weights(gp, gp->theta);
	/* rounding may want more of it than was learned */
	for (gp->noise = pio_real_exp(gp->theta[gp->axes_count]); gp->noise < 100; gp->noise *= 10) {
		fill(gp, gp->noise);
		gp->log_det = factorize(gp);
		if (isfinite(gp->log_det)) {
			invert(gp);
			return 0;
		}
	}
	return pio_fail(err, PIO_EINVAL, "no Gaussian process goes through %zu points: expected ranges of a finite"
	                " width, and goals that are finite numbers", gp->count);
}

/* What the model thinks of each known point. */
static void fit(pio_gp *gp)
{
	for (size_t i = 0; i < gp->known; i++) /* R alpha = z - mean, with noise on R's diagonal */
		gp->fitted[i] = gp->z[i] - (gp->noise + gp->doubt[i]) * gp->alpha[i];
}

int pio_gp_know(pio_gp *gp, const double *points, const double *values, const double *doubts, size_t count,
                const double *pending, size_t pending_count, pio_err *err)
{
	size_t d = (size_t)gp->axes_count;
	int rc = reserve(gp, count + pending_count, err);
	if (rc)
		return rc;
	put_rows(gp, points, values, doubts, count);
	gp->count = gp->known = count;
	rc = settle(gp, err);
	if (rc)
		return rc;
	solve(gp);
	fit(gp);
	gp->evidence = -0.5 * ((double)count * pio_real_log(gp->variance) + gp->log_det);
	if (!pending_count)
		return 0;
	double variance = gp->variance;
	for (size_t i = 0; i < pending_count; i++) {
		double mean, deviation;
		put_row(gp, count + i, pending + i * d);
		pio_gp_predict(&mean, &deviation, NULL, NULL, gp, gp->rows + (count + i) * d);
		gp->z[count + i] = mean;
		gp->doubt[count + i] = 0;
	}
	gp->count = count + pending_count;
	rc = settle(gp, err);
	if (rc)
		return rc;
	solve(gp);
	gp->variance = variance; /* what is only believed says nothing of that */
	return 0;
}

/* Of the mean along an axis, in parts of its weight. */
static double mean_slope(const pio_gp *gp, const double *slope, const double *unit, int a)
{
	const double *x = gp->columns + (size_t)a * gp->capacity;
	double sum = 0;
	for (size_t j = 0; j < gp->count && !is_choice(gp, a); j++)
		sum += slope[j] * (x[j] - unit[a]) * gp->alpha[j];
	return sum;
}

void pio_gp_predict(double *mean, double *deviation, double *mean_gradient, double *deviation_gradient,
                    pio_gp *gp, const double *unit)
{
	size_t n = gp->count;
	double *k = gp->work, *v = gp->work + gp->capacity, *slope = gp->slope;
	distances(k, gp, unit, 0, n);
	covariances(k, slope, n, gp->view.is_smooth);
	*mean = gp->mean + dot(k, gp->alpha, n);
	if (!deviation) {
		for (int a = 0; a < gp->axes_count && mean_gradient; a++)
			mean_gradient[a] = gp->weight[a] * mean_slope(gp, slope, unit, a);
		return;
	}
	multiply(v, gp, k);
	double left = fmax(1 - dot(k, v, n), 1e-10);
	*deviation = sqrt(gp->variance * left);
	if (!mean_gradient)
		return;
	for (int a = 0; a < gp->axes_count; a++) {
		const double *x = gp->columns + (size_t)a * gp->capacity;
		double of_left = 0;
		for (size_t j = 0; j < n && !is_choice(gp, a); j++)
			of_left -= 2 * slope[j] * (x[j] - unit[a]) * v[j];
		mean_gradient[a] = gp->weight[a] * mean_slope(gp, slope, unit, a);
		deviation_gradient[a] = 0.5 * gp->variance / *deviation * gp->weight[a] * of_left;
	}
}

size_t pio_gp_best(double *mean, const pio_gp *gp, const bool *counts)
{
	size_t best = 0;
	*mean = INFINITY;
	for (size_t i = 0; i < gp->known; i++)
		if ((!counts || counts[i]) && gp->fitted[i] < *mean) {
			*mean = gp->fitted[i];
			best = i;
		}
	return best;
}

double pio_gp_zero(const pio_gp *gp)
{
	return gp->unit > 0 ? gp->zero : gp->zero * pio_gp_width(gp);
}

size_t pio_gp_count(const pio_gp *gp)
{
	return gp->known;
}

const double *pio_gp_known(const pio_gp *gp, size_t row)
{
	return gp->rows + row * (size_t)gp->axes_count;
}

const pio_gp_axis *pio_gp_axes(int *count, const pio_gp *gp)
{
	*count = gp->axes_count;
	return gp->axes;
}

double pio_gp_width(const pio_gp *gp)
{
	return sqrt(gp->variance);
}

double pio_gp_evidence(const pio_gp *gp)
{
	return gp->evidence;
}

double pio_gp_length(const pio_gp *gp, int axis)
{
	return pio_real_exp(gp->theta[axis]);
}

double pio_gp_scale(const pio_gp *gp)
{
	return gp->unit;
}

double pio_gp_noise(const pio_gp *gp)
{
	return pio_real_exp(gp->theta[gp->axes_count]);
}
