/* standard.h: values of any size as a model takes them: mean 0 and deviation 1, the lower the
 * better. What is above the median is there by its rank alone, so that one bad value does not
 * flatten all others. */
#ifndef PIO_SWEEP_STANDARD_H
#define PIO_SWEEP_STANDARD_H

#include <stdbool.h>
#include <stddef.h>

/* z: of each of the n values; what is not finite is as bad as the worst. work: room for n more.
 * is_plain: ranks count for nothing; then *zero is z of 0, and 1 above or 1 below all values where
 * these are the same. Returns what 1 of z is in values, 0 where all are the same. */
double pio_standard(double *z, double *zero, double *work, const double *values, size_t n, bool is_plain);

#endif
