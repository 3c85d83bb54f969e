/* real.h: exp, log and the normal distribution, whose bits are the same on every machine.
 *
 * libm differs between C libraries and processors in the last bit, and one bit
 * makes another run of a proposal. These use only +, -, *, / of IEEE 754
 * doubles, rounded to nearest, and no fused multiply-add (the tree is built
 * with -ffp-contract=off), and the square root, so they round everywhere alike. */
#ifndef PIO_SWEEP_REAL_H
#define PIO_SWEEP_REAL_H

/* These two are within 2 ulp. */
double pio_real_exp(double x);
/* NaN below zero, -infinity at zero. */
double pio_real_log(double x);

/* exp(x^2) erfc(x), within 1e-15 of itself for x >= 0: it has digits where erfc is 0. */
double pio_real_erfcx(double x);
/* Of the standard normal distribution: the probability below x, whose error is below
 * x^2 1e-16 of itself; its logarithm, right far below where that is 0; and the x of a
 * probability, within 1e-14. */
double pio_real_ndtr(double x);
double pio_real_log_ndtr(double x);
double pio_real_ndtri(double p);

#endif
