#include "sweep/cma_choice.h"

#include <math.h>
#include <string.h>

#include "sweep/real.h"

#define STEP_MAX 1e3
#define ALPHA 1.5                  /* how long the path of noise alone may become, beside 1 */

size_t pio_cma_choice_room(const int *counts, int axes_count)
{
	size_t room = 0;
	for (int a = 0; a < axes_count; a++)
		room += (size_t)counts[a];
	return room;
}

void pio_cma_choice_begin(pio_cma_choice *choice)
{
	size_t at = 0;
	for (int a = 0; a < choice->axes_count; a++)
		for (int k = 0; k < choice->counts[a]; k++)
			choice->q[at++] = 1.0 / choice->counts[a];
	memset(choice->path, 0, at * sizeof *choice->path);
	choice->gamma = 0;
	choice->step = choice->divisor = 1;
	choice->least = 1 - pio_real_exp(pio_real_log(0.73) / choice->axes_count);
}

/* No choice below its least, and the sum of each axis 1. */
static void keep_margin(double *q, int count, double least)
{
	double sum = 0, over = 0;
	for (int k = 0; k < count; k++) {
		q[k] = fmax(q[k], least);
		sum += q[k];
		over += q[k] - least;
	}
	for (int k = 0; k < count && over > 0; k++)
		q[k] += (1 - sum) / over * (q[k] - least);
}

/* The gradient of each probability; returns its squared length, in the metric of Fisher. */
static double fill_gradient(pio_cma_choice *choice, const double *weights, int count,
                            int (*at)(const void *context, int point, int axis), const void *context)
{
	double squares = 0;
	size_t begin = 0;
	for (int a = 0; a < choice->axes_count; begin += (size_t)choice->counts[a++]) {
		double *g = choice->gradient + begin, *q = choice->q + begin;
		memset(g, 0, (size_t)choice->counts[a] * sizeof *g);
		for (int i = 0; i < count; i++) {
			int k = at(context, i, a);
			for (int other = 0; k >= 0 && other < choice->counts[a]; other++)
				g[other] += weights[i] * ((other == k) - q[other]);
		}
		for (int k = 0; k < choice->counts[a]; k++)
			squares += g[k] * g[k] / q[k];
	}
	return squares;
}

/* The path with the newest gradient, by the root of Fisher's matrix (appendix B of the
 * paper), of which the last choice of an axis follows from the others; returns its squared
 * length. */
static double follow_path(pio_cma_choice *choice, double length, double beta)
{
	double squares = 0, mix = sqrt(beta * (2 - beta));
	size_t begin = 0;
	for (int a = 0; a < choice->axes_count; begin += (size_t)choice->counts[a++]) {
		const double *g = choice->gradient + begin, *q = choice->q + begin;
		double *path = choice->path + begin;
		int last = choice->counts[a] - 1;
		double shared = -g[last] / (q[last] + sqrt(q[last]));
		for (int k = 0; k < last; k++) {
			double step = (g[k] / sqrt(q[k]) + sqrt(q[k]) * shared) / length;
			path[k] = (1 - beta) * path[k] + mix * step;
			squares += path[k] * path[k];
		}
	}
	return squares;
}

void pio_cma_choice_update(pio_cma_choice *choice, const double *weights, int count,
                           int (*at)(const void *context, int point, int axis), const void *context)
{
	double length = sqrt(fill_gradient(choice, weights, count, at, context));
	if (!(length > 0))
		return;
	size_t room = pio_cma_choice_room(choice->counts, choice->axes_count), begin = 0;
	double step = choice->step / length;
	choice->step = fmin(1 / choice->divisor, STEP_MAX);
	double beta = fmin(choice->step / sqrt((double)(room - (size_t)choice->axes_count)), 1);
	double squares = follow_path(choice, length, beta);
	choice->gamma = (1 - beta) * (1 - beta) * choice->gamma + beta * (2 - beta);
	choice->divisor *= pio_real_exp(beta * (choice->gamma - squares / ALPHA));
	for (size_t k = 0; k < room; k++)
		choice->q[k] += step * choice->gradient[k];
	for (int a = 0; a < choice->axes_count; begin += (size_t)choice->counts[a++])
		keep_margin(choice->q + begin, choice->counts[a], choice->least / (choice->counts[a] - 1));
}
