#include "sweep/curve.h"

#include <assert.h>
#include <math.h>

#include "sweep/real.h"
#include "sweep/student.h"

/* Prior variance of c and a, in units of the noise's; and a noise of a hundredth of what
 * the curve has come down, which counts as much as PRIOR_FREEDOM values. */
#define PRIOR_VARIANCE 1e4
#define PRIOR_FREEDOM 2
#define PRIOR_NOISE 0.01
#define NO_WEIGHT 1e-7

/* (1 + k x)^-p for each k and p, with x^-p in place of the first; exp(-r x), exp(-r sqrt x);
 * and the logarithm last. */
static const double early[] = { 0, 5, 20, 80 };
static const double powers[] = { 0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.4, 2, 3 };
static const double rates[] = { 0.7, 1.2, 2, 3, 4.5, 6.5, 9, 12, 17, 25, 40 };
static const double root_rates[] = { 1, 1.7, 2.7, 4, 6, 9, 13, 20 };

#define COUNT(list) (int)(sizeof(list) / sizeof *(list))

/* Shape number k at x. */
static double shape(int k, double x)
{
	int all = COUNT(early) * COUNT(powers);
	if (k < all) {
		double from = early[k / COUNT(powers)], at = from > 0 ? 1 + from * x : x;
		return pio_real_exp(-powers[k % COUNT(powers)] * pio_real_log(at));
	}
	k -= all;
	if (k < COUNT(rates))
		return pio_real_exp(-rates[k] * x);
	k -= COUNT(rates);
	if (k < COUNT(root_rates))
		return pio_real_exp(-root_rates[k] * sqrt(x));
	return -pio_real_log(x);
}

/* Values are seen from the last one, in units of the way they have come. */
typedef struct view {
	const double *x, *values;
	size_t count;
	double origin, unit;
} view;

/* Shape k alone: values = c + a g with g = 1 at the first x and 0 at x = 1, so that c is the
 * end. Returns the logarithm of the evidence, but for what all shapes have in common. */
static double fit_shape(double *center, double *scale, int k, const view *v)
{
	double end = shape(k, 1), span = shape(k, v->x[0]) - end;
	/* of the posterior: precision P, P mean, and the sum of squares; prior mean c = 0, a = 1 */
	double p = 1 / PRIOR_VARIANCE, cc = p, ca = 0, aa = p, rc = 0, ra = p, squares = p;
	for (size_t i = 0; i < v->count; i++) {
		double g = (shape(k, v->x[i]) - end) / span, y = (v->values[i] - v->origin) / v->unit;
		cc += 1;
		ca += g;
		aa += g * g;
		rc += y;
		ra += g * y;
		squares += y * y;
	}
	double determinant = cc * aa - ca * ca;
	double c = (aa * rc - ca * ra) / determinant, a = (cc * ra - ca * rc) / determinant;
	double left = fmax(squares - c * rc - a * ra, 0) + PRIOR_FREEDOM * PRIOR_NOISE * PRIOR_NOISE;
	double freedom = PRIOR_FREEDOM + (double)v->count;
	*center = v->origin + v->unit * c;
	/* of a value at x = 1: what is not known of c, and its own noise */
	*scale = v->unit * sqrt(left / freedom * (1 + aa / determinant));
	return -0.5 * pio_real_log(determinant) - 0.5 * freedom * pio_real_log(left);
}

void pio_curve_fit(pio_curve_end *end, const double *x, const double *values, size_t count)
{
	assert(count >= PIO_CURVE_POINTS_MIN);
	double low = values[0], high = values[0], best = -INFINITY, sum = 0;
	for (size_t i = 0; i < count; i++) {
		low = fmin(low, values[i]);
		high = fmax(high, values[i]);
	}
	double unit = high - low > 0 ? high - low : fmax(fabs(high), 1e-300) * 1e-6;
	view v = { .x = x, .values = values, .count = count, .origin = values[count - 1], .unit = unit };
	end->freedom = PRIOR_FREEDOM + (int)count;
	for (int k = 0; k < PIO_CURVE_SHAPES; k++) {
		end->weight[k] = fit_shape(&end->center[k], &end->scale[k], k, &v);
		best = fmax(best, end->weight[k]);
	}
	for (int k = 0; k < PIO_CURVE_SHAPES; k++)
		sum += end->weight[k] = pio_real_exp(0.5 * (end->weight[k] - best));
	for (int k = 0; k < PIO_CURVE_SHAPES; k++)
		end->weight[k] /= sum;
}

double pio_curve_below(const pio_curve_end *end, double bound, double shift, double spread)
{
	double sum = 0;
	for (int k = 0; k < PIO_CURVE_SHAPES; k++) {
		if (end->weight[k] < NO_WEIGHT)
			continue;
		double scale = sqrt(end->scale[k] * end->scale[k] + spread * spread);
		sum += end->weight[k] * pio_student((bound - shift - end->center[k]) / scale, end->freedom);
	}
	return sum;
}

double pio_curve_quantile(const pio_curve_end *end, double probability, double shift, double spread)
{
	double low = INFINITY, high = -INFINITY;
	for (int k = 0; k < PIO_CURVE_SHAPES; k++) {
		double scale = sqrt(end->scale[k] * end->scale[k] + spread * spread);
		low = fmin(low, end->center[k] + shift - scale);
		high = fmax(high, end->center[k] + shift + scale);
	}
	for (double reach = high - low; pio_curve_below(end, low, shift, spread) > probability; reach *= 2)
		low -= reach;
	for (double reach = high - low; pio_curve_below(end, high, shift, spread) < probability; reach *= 2)
		high += reach;
	for (int halving = 0; halving < 45 && low < high; halving++) {
		double middle = low + 0.5 * (high - low);
		if (pio_curve_below(end, middle, shift, spread) < probability)
			low = middle;
		else
			high = middle;
	}
	return low + 0.5 * (high - low);
}
