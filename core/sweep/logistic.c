#include "sweep/logistic.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/real.h"

#define STEPS_MAX 40
#define HALVINGS_MAX 20

static double dot(const double *a, const double *b, int width)
{
	double sum = 0;
	for (int i = 0; i < width; i++)
		sum += a[i] * b[i];
	return sum;
}

double pio_logistic_chance(const double *weights, const double *row, int width)
{
	double at = dot(weights, row, width);
	double e = pio_real_exp(-fabs(at));
	return at < 0 ? e / (1 + e) : 1 / (1 + e);
}

static double objective(const double *weights, const double *rows, const unsigned char *ends, int count,
                        int width, double ridge)
{
	double sum = -ridge / 2 * dot(weights, weights, width);
	for (int i = 0; i < count; i++) {
		double at = dot(weights, rows + i * width, width);
		at = ends[i] ? at : -at;
		sum += (at < 0 ? at : 0) - pio_real_log(1 + pio_real_exp(-fabs(at)));
	}
	return sum;
}

/* The gradient, and the negative second derivatives below and on the diagonal. */
static void slopes(double *gradient, double *curvature, const double *weights, const double *rows,
                   const unsigned char *ends, int count, int width, double ridge)
{
	memset(curvature, 0, (size_t)(width * width) * sizeof *curvature);
	for (int a = 0; a < width; a++) {
		gradient[a] = -ridge * weights[a];
		curvature[a * width + a] = ridge;
	}
	for (int i = 0; i < count; i++) {
		const double *row = rows + i * width;
		double chance = pio_logistic_chance(weights, row, width);
		double miss = (ends[i] ? 1 : 0) - chance, weight = chance * (1 - chance);
		for (int a = 0; a < width; a++) {
			gradient[a] += miss * row[a];
			for (int b = 0; b <= a; b++)
				curvature[a * width + b] += weight * row[a] * row[b];
		}
	}
}

/* x = M^-1 x for a positive definite M, of which the lower half is given and used up. */
static void solve(double *x, double *m, int width)
{
	for (int a = 0; a < width; a++)
		for (int b = 0; b <= a; b++) {
			double sum = m[a * width + b] - dot(m + a * width, m + b * width, b);
			m[a * width + b] = a == b ? sqrt(sum) : sum / m[b * width + b];
		}
	for (int a = 0; a < width; a++)
		x[a] = (x[a] - dot(m + a * width, x, a)) / m[a * width + a];
	for (int a = width - 1; a >= 0; a--) {
		for (int b = a + 1; b < width; b++)
			x[a] -= m[b * width + a] * x[b];
		x[a] /= m[a * width + a];
	}
}

int pio_logistic_fit(double *weights, const double *rows, const unsigned char *ends, int count, int width,
                     double ridge, pio_err *err)
{
	double *step = pio_calloc((size_t)(width * (width + 2)), sizeof *step);
	if (!step)
		return pio_fail(err, PIO_ENOMEM, "logistic regression: out of memory");
	double *moved = step + width, *curvature = moved + width;
	memset(weights, 0, (size_t)width * sizeof *weights);
	double best = objective(weights, rows, ends, count, width, ridge);
	for (int i = 0; i < STEPS_MAX; i++) {
		slopes(step, curvature, weights, rows, ends, count, width, ridge);
		solve(step, curvature, width);
		double scale = 1, value = best;
		for (int h = 0; h < HALVINGS_MAX; h++, scale /= 2) {
			for (int a = 0; a < width; a++)
				moved[a] = weights[a] + scale * step[a];
			value = objective(moved, rows, ends, count, width, ridge);
			if (value > best)
				break;
		}
		if (!(value > best))
			break;
		memcpy(weights, moved, (size_t)width * sizeof *weights);
		double gain = value - best;
		best = value;
		if (gain < 1e-9)
			break;
	}
	pio_free(step);
	return 0;
}
