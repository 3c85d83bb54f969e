/* race.h: which of several configurations is the best, by a few noisy values of each.
 *
 * A value is its configuration's mean and normal noise, whose variance all have in common.
 * With no opinion beforehand on means and variance, what is known of the variance is
 * squares / chi^2 of `freedom` degrees, and of a mean, the variance given, a normal
 * distribution with the variance / repeats (Gelman et al., Bayesian Data Analysis, 3.2). */
#ifndef PIO_SWEEP_RACE_H
#define PIO_SWEEP_RACE_H

#include <stddef.h>

/* chances[i] becomes the probability that the mean of i is the lowest; `parts` is room for as
 * many numbers, to work with. squares: the sum of
 * squares of all values about the means of their configurations, of `freedom` degrees of
 * freedom, at least 1. Where there was no noise at all the lowest share the probability. */
void pio_race_chances(double *chances, double *parts, const double *means, const int *repeats,
                      size_t count, double squares, int freedom);

#endif
