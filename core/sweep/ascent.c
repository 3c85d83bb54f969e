#include "sweep/ascent.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "sys/interrupt.h"

#define MEMORY 6                   /* steps that are remembered */
#define ENOUGH 1e-4                /* of the gain that the gradient promises */
#define HALVINGS_MAX 12

typedef struct memory {
	double step[MEMORY][PIO_ASCENT_MAX], change[MEMORY][PIO_ASCENT_MAX], rho[MEMORY];
	int count, next;
} memory;

static double dot(const double *a, const double *b, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* The two-loop recursion: the gradient as the remembered curvature bends it. */
static void direct(double *direction, const double *gradient, const memory *m, int n)
{
	double alpha[MEMORY];
	memcpy(direction, gradient, (size_t)n * sizeof *direction);
	for (int k = 0; k < m->count; k++) {
		int at = (m->next - 1 - k + 2 * MEMORY) % MEMORY;
		alpha[k] = m->rho[at] * dot(m->step[at], direction, n);
		for (int i = 0; i < n; i++)
			direction[i] -= alpha[k] * m->change[at][i];
	}
	if (m->count) {
		int at = (m->next - 1 + MEMORY) % MEMORY;
		double scale = 1 / (m->rho[at] * dot(m->change[at], m->change[at], n));
		for (int i = 0; i < n; i++)
			direction[i] *= scale;
	}
	for (int k = m->count - 1; k >= 0; k--) {
		int at = (m->next - 1 - k + 2 * MEMORY) % MEMORY;
		double beta = m->rho[at] * dot(m->change[at], direction, n);
		for (int i = 0; i < n; i++)
			direction[i] += (alpha[k] - beta) * m->step[at][i];
	}
}

/* Only a step along which the gradient fell tells of a curvature that has a top. */
static void remember(memory *m, const double *x, const double *from, const double *gradient,
                     const double *gradient_from, int n)
{
	double *step = m->step[m->next], *change = m->change[m->next];
	for (int i = 0; i < n; i++) {
		step[i] = x[i] - from[i];
		change[i] = gradient_from[i] - gradient[i];
	}
	double along = dot(step, change, n);
	if (along <= 1e-12 * dot(change, change, n))
		return;
	m->rho[m->next] = 1 / along;
	m->next = (m->next + 1) % MEMORY;
	m->count = m->count < MEMORY ? m->count + 1 : MEMORY;
}

/* The gradient without what points out of the box. */
static double inward(double *inner, const double *x, const double *gradient, const double *low,
                     const double *high, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++) {
		bool is_out = (x[i] <= low[i] && gradient[i] < 0) || (x[i] >= high[i] && gradient[i] > 0);
		inner[i] = is_out ? 0 : gradient[i];
		sum += inner[i] * inner[i];
	}
	return sum;
}

double pio_ascent(double *x, int count, const double *low, const double *high, pio_ascent_fn *fn,
                  void *context, int calls_max, double gain)
{
	assert(count >= 1 && count <= PIO_ASCENT_MAX);
	double gradient[PIO_ASCENT_MAX], inner[PIO_ASCENT_MAX], direction[PIO_ASCENT_MAX];
	double next[PIO_ASCENT_MAX], next_gradient[PIO_ASCENT_MAX];
	memory m = { .count = 0, .next = 0 };
	double value = fn(gradient, x, context);
	int calls = 1;
	while (calls < calls_max && isfinite(value) && !pio_interrupt_came()) {
		double steepness = inward(inner, x, gradient, low, high, count);
		if (steepness == 0)
			break;
		direct(direction, inner, &m, count);
		for (int i = 0; i < count; i++)
			direction[i] = inner[i] == 0 ? 0 : direction[i];
		if (dot(direction, inner, count) <= 0) {
			memcpy(direction, inner, (size_t)count * sizeof *direction);
			m.count = 0;
		}
		/* nothing is known of the scale yet: a tenth of the unit along the steepest way */
		double length = m.count ? 1 : 0.1 / sqrt(steepness), found = -INFINITY;
		for (int halving = 0; halving < HALVINGS_MAX && calls < calls_max; halving++, length *= 0.4) {
			double promised = 0;
			for (int i = 0; i < count; i++) {
				next[i] = fmin(fmax(x[i] + length * direction[i], low[i]), high[i]);
				promised += (next[i] - x[i]) * gradient[i];
			}
			found = fn(next_gradient, next, context);
			calls++;
			if (found >= value + ENOUGH * promised && found > value)
				break;
			found = -INFINITY;
		}
		if (!isfinite(found)) {
			if (!m.count)
				break;
			m.count = 0; /* once more, along the gradient itself */
			continue;
		}
		remember(&m, next, x, next_gradient, gradient, count);
		double gained = found - value;
		memcpy(x, next, (size_t)count * sizeof *x);
		memcpy(gradient, next_gradient, (size_t)count * sizeof *gradient);
		value = found;
		if (gained < gain)
			break;
	}
	return value;
}
