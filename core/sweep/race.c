#include "sweep/race.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "sweep/real.h"

#define NODES_NOISE 32
#define NODES_MEAN 80
#define FAR 7                      /* standard deviations: what is beyond counts as nothing */

static void share_among_lowest(double *chances, const double *means, size_t count)
{
	size_t lowest = 0, ties = 0;
	for (size_t i = 0; i < count; i++)
		lowest = means[i] < means[lowest] ? i : lowest;
	for (size_t i = 0; i < count; i++)
		ties += means[i] == means[lowest];
	for (size_t i = 0; i < count; i++)
		chances[i] = means[i] == means[lowest] ? 1.0 / (double)ties : 0;
}

/* Add to `parts` what each has of the probability of being the lowest, for a noise of this
 * standard deviation, in units of the sum that is returned. With the density f_i of a mean and
 * S_i the probability above x, that is the integral of (f_i / S_i) prod_j S_j, here by the
 * trapezoid rule. */
static double integrate(double *parts, const double *means, const int *repeats, size_t count, double sigma)
{
	double low = INFINITY, high = INFINITY, sum = 0;
	for (size_t i = 0; i < count; i++) {
		double scale = sigma / sqrt(repeats[i]);
		low = fmin(low, means[i] - FAR * scale);
		high = fmin(high, means[i] + FAR * scale);
	}
	for (int k = 0; k < NODES_MEAN; k++) {
		double x = low + k * (high - low) / (NODES_MEAN - 1), all = 0;
		for (size_t i = 0; i < count && all > -40; i++) {
			double z = (x - means[i]) * sqrt(repeats[i]) / sigma;
			all += z < -FAR ? 0 : pio_real_log_ndtr(-z);
		}
		if (all <= -40)
			continue;
		all = pio_real_exp(all);
		for (size_t i = 0; i < count; i++) {
			double inverse = sqrt(repeats[i]) / sigma, z = (x - means[i]) * inverse;
			if (z < -FAR)
				continue;
			/* f / S, but for a factor that all have */
			double part = all * inverse / pio_real_erfcx(z * 0x1.6a09e667f3bcdp-1);
			parts[i] += part;
			sum += part;
		}
	}
	return sum;
}

void pio_race_chances(double *chances, double *parts, const double *means, const int *repeats,
                      size_t count, double squares, int freedom)
{
	assert(count >= 1 && freedom >= 1);
	if (!(squares > 0)) {
		share_among_lowest(chances, means, count);
		return;
	}
	memset(chances, 0, count * sizeof *chances);
	/* u = log(sigma / s) has a density that goes with exp(-v u - v/2 exp(-2 u)) */
	double v = freedom, width = 5 / sqrt(2 * v), low = -fmin(2, width), high = 14 / v + width;
	double density[NODES_NOISE], total = 0, step = (high - low) / (NODES_NOISE - 1);
	for (int k = 0; k < NODES_NOISE; k++) {
		double u = low + k * step;
		density[k] = pio_real_exp(-v * u - 0.5 * v * (pio_real_exp(-2 * u) - 1));
		total += density[k];
	}
	double s = sqrt(squares / v);
	for (int k = 0; k < NODES_NOISE; k++)
		if (density[k] > 1e-9 * total) {
			double weight = density[k] / total, sum = 0;
			memset(parts, 0, count * sizeof *parts);
			sum = integrate(parts, means, repeats, count, s * pio_real_exp(low + k * step));
			for (size_t i = 0; i < count; i++)
				chances[i] += weight * parts[i] / sum;
		}
}
