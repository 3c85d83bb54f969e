/* ascent.h: the top of a smooth function in a box, by its gradient: limited-memory BFGS
 * (Nocedal, 1980) whose steps are cut off at the box. For functions of a few dozen
 * numbers; every step is in a fixed order, so its bits are the same everywhere. */
#ifndef PIO_SWEEP_ASCENT_H
#define PIO_SWEEP_ASCENT_H

#include "base/err.h"

/* The value at x, and the gradient there; -INFINITY where there is none. */
typedef double pio_ascent_fn(double *gradient, const double *x, void *context);

#define PIO_ASCENT_MAX 256         /* numbers */

/* From x, which becomes the best point found; returns its value. At most so many calls of
 * `fn`; it stops earlier where a step gains less than `gain`, and where a person wants an end
 * (sys/interrupt.h). */
double pio_ascent(double *x, int count, const double *low, const double *high, pio_ascent_fn *fn,
                  void *context, int calls_max, double gain);

#endif
