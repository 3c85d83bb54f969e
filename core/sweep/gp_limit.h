/* gp_limit.h: how likely a point is to meet constraints, each of which is met where it gives 0 or
 * less, and has a Gaussian process of what it gives.
 *
 * They are taken to be independent: the probability is the product of one normal distribution
 * each (Gardner et al., ICML 2014; Gelbart et al., arXiv:1403.5607), of which the logarithm is
 * told, that has a slope also where there is next to no chance. */
#ifndef PIO_SWEEP_GP_LIMIT_H
#define PIO_SWEEP_GP_LIMIT_H

#include <stdbool.h>

#include "sweep/gp.h"

typedef struct pio_gp_limits {
	pio_gp **all;              /* of the same axes as the goal; their view is plain */
	int count;
	const bool *is_met;        /* of each point that the goal's model knows */
} pio_gp_limits;

/* log of the probability that a point, in units, meets all of them. gradient, unless it is NULL, is
 * added to: one number an axis. */
double pio_gp_log_feasible(double *gradient, const pio_gp_limits *limits, const double *unit);

#endif
