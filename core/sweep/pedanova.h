/* pedanova.h: how much the good points differ from all of them in one parameter (PED-ANOVA,
 * Watanabe, Bansal and Hutter, IJCAI 2023; of branches arXiv:2601.20800).
 *
 * Both sets of points become densities over a grid of the parameter's domain, 50 cells of a
 * range: a mixture of truncated normal kernels, one a cell that has points and a broad one, with
 * Scott's bandwidth. How far the two are apart is Pearson's divergence. */
#ifndef PIO_SWEEP_PEDANOVA_H
#define PIO_SWEEP_PEDANOVA_H

#include <stddef.h>

#include "base/err.h"
#include "sweep/axis.h"

/* The sum over the grid of p (q / p - 1)^2, where q is the density of the good ones and p that
 * of all. Both: coordinates of the axis (axis.h), at least one each. */
int pio_ped_divergence(double *divergence, const pio_axis *axis, const double *good, size_t good_count,
                       const double *all, size_t all_count, pio_err *err);

#endif
