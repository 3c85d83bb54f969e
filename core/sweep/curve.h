/* curve.h: where a learning curve will end, from its beginning, and how sure that is.
 *
 * Of each of a few dozen shapes f (powers, the logarithm, exponentials, of the step) the
 * curve is c + a f + noise. With a broad normal prior on c and a, and an inverse gamma one
 * on the noise, all of it has closed forms: what is known of the end is a Student
 * distribution for each shape, and shapes count by the square root of the probability that
 * they give to what was seen (Gelman et al., Bayesian Data Analysis, 14; the root, because no
 * shape is the true one: a power posterior, Bissiri, Holmes, Walker, arXiv:1306.6430; a set of
 * curves, and stopping by the probability of being better: Domhan, Springenberg, Hutter,
 * IJCAI 2015).
 * Least squares are all there is to it: no chain, no draw, and the same bits everywhere. */
#ifndef PIO_SWEEP_CURVE_H
#define PIO_SWEEP_CURVE_H

#include <stddef.h>

#define PIO_CURVE_SHAPES 56
#define PIO_CURVE_POINTS_MIN 3

typedef struct pio_curve_end {
	double weight[PIO_CURVE_SHAPES];   /* their sum is 1 */
	double center[PIO_CURVE_SHAPES], scale[PIO_CURVE_SHAPES];
	int freedom;                       /* of each Student distribution */
} pio_curve_end;

/* x: the part of the way at which each value was, above 0, growing, below 1; at least
 * PIO_CURVE_POINTS_MIN finite values. */
void pio_curve_fit(pio_curve_end *end, const double *x, const double *values, size_t count);
/* The probability that the value at x = 1 is below `bound`, where forecasts of this kind are
 * off by `shift` (what came less what was said) and, beyond what they say, by `spread`. */
double pio_curve_below(const pio_curve_end *end, double bound, double shift, double spread);
/* The value below which it is with this probability, in (0, 1). */
double pio_curve_quantile(const pio_curve_end *end, double probability, double shift, double spread);

#endif
