/* real.h: exp and log whose bits are the same on every machine.
 *
 * libm differs between C libraries and processors in the last bit, and one bit
 * makes another run of a proposal. These use only +, -, *, / of IEEE 754
 * doubles, rounded to nearest, and no fused multiply-add (the tree is built
 * with -ffp-contract=off), so they round everywhere alike. Error below 2 ulp. */
#ifndef PIO_SWEEP_REAL_H
#define PIO_SWEEP_REAL_H

double pio_real_exp(double x);
/* NaN below zero, -infinity at zero. */
double pio_real_log(double x);

#endif
