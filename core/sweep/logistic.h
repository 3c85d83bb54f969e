/* logistic.h: the chance of one of two ends as a logistic function of a few numbers
 * (Cox, 1958), by Newton's method with a ridge; its bits are the same everywhere. */
#ifndef PIO_SWEEP_LOGISTIC_H
#define PIO_SWEEP_LOGISTIC_H

#include "base/err.h"

#define PIO_LOGISTIC_WIDTH_MAX 256

/* The weights[width] that make the most of  sum log P(end) - ridge/2 |weights|^2, where
 * P(end i) = 1 / (1 + exp(-+ weights . rows[i])), minus where ends[i] is not 0.
 * rows is count by width, ridge > 0; a constant has to be one of the columns. */
int pio_logistic_fit(double *weights, const double *rows, const unsigned char *ends, int count, int width,
                     double ridge, pio_err *err);
/* P(end) of a row. */
double pio_logistic_chance(const double *weights, const double *row, int width);

#endif
