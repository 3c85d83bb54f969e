/* real.h: exp, log and the normal distribution, whose bits are the same on every machine.
 *
 * libm differs between C libraries and processors in the last bit, and one bit
 * makes another run of a proposal. These use only +, -, *, / of IEEE 754
 * doubles, rounded to nearest, and no fused multiply-add (the tree is built
 * with -ffp-contract=off), and the square root, so they round everywhere alike. */
#ifndef PIO_SWEEP_REAL_H
#define PIO_SWEEP_REAL_H

#include <stddef.h>

#define PIO_REAL_HALF_LOG_2PI 0.91893853320467274178
#define PIO_REAL_SQRT_HALF_PI 1.2533141373155002512
#define PIO_REAL_SQRT_HALF 0x1.6a09e667f3bcdp-1

/* What is worked out in wider registers where there are some. No step rounds otherwise there,
 * so the bits are those of the plain form. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
	!defined(__SANITIZE_THREAD__)
#define PIO_WIDER __attribute__((target_clones("avx2", "default")))
#else
#define PIO_WIDER
#endif

/* These two are within 2 ulp. */
double pio_real_exp(double x);
/* The same bits of many at once, none above 0: a few times as fast. `out` may be x, here
 * and in the others that take many. */
void pio_real_exps(double *out, const double *x, size_t count);
/* NaN below zero, -infinity at zero. */
double pio_real_log(double x);
/* The same bits of many at once. */
void pio_real_logs(double *out, const double *x, size_t count);

/* exp(x^2) erfc(x), within 1e-15 of itself for x >= 0: it has digits where erfc is 0. */
double pio_real_erfcx(double x);
/* Of the standard normal distribution: the probability below x, whose error is below
 * x^2 1e-16 of itself; its logarithm, right far below where that is 0; and the x of a
 * probability, within 1e-14. */
double pio_real_ndtr(double x);
double pio_real_log_ndtr(double x);
double pio_real_ndtri(double p);
/* The same bits of many at once; of ndtrs x is finite. */
void pio_real_ndtrs(double *out, const double *x, size_t count);
void pio_real_ndtris(double *out, const double *p, size_t count);

#endif
