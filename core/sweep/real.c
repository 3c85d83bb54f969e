#include "sweep/real.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts: the first has 33 significant bits, so that its product
 * with a whole number below 2^20 is exact (Cody and Waite, 1980). */
static const double ln2_high = 0x1.62e42feep-1;
static const double ln2_low = 0x1.a39ef35793c76p-33;

/* x * 2^n in two steps, so that neither factor overflows on the way to a
 * result that does not. */
static double scale(double x, int n)
{
	int half = n / 2, rest = n - half;
	uint64_t a = (uint64_t)(half + 1023) << 52, b = (uint64_t)(rest + 1023) << 52;
	double first, second;
	memcpy(&first, &a, sizeof first);
	memcpy(&second, &b, sizeof second);
	return x * first * second;
}

/* x = n ln 2 + r with |r| <= ln 2 / 2. The even function q = r coth(r / 2) has
 * the series 2 + r^2/6 - r^4/360 + r^6/15120 - ..., 2 B_2k / (2k)! each, and
 * with c = r - (q - 2) it is e^r = 1 + r + r c / (2 - c): what is added to 1
 * and r is small, so its own rounding hardly counts. */
double pio_real_exp(double x)
{
	if (isnan(x))
		return x;
	if (x > 709.782712893384)
		return INFINITY;
	if (x < -745.2)
		return 0;
	double n = (double)(int)(x * 0x1.71547652b82fep0 + (x < 0 ? -0.5 : 0.5));
	double high = x - n * ln2_high, low = n * ln2_low, r = high - low;
	double t = r * r;
	double tail = t * (1.0 / 6 + t * (-1.0 / 360 + t * (1.0 / 15120 + t * (-1.0 / 604800 +
	              t * (1.0 / 23950080 + t * (-691.0 / 653837184000))))));
	double c = r - tail;
	double value = 1 - ((low - r * c / (2 - c)) - high);
	return scale(value, (int)n);
}

PIO_WIDER void pio_real_exps(double *out, const double *x, size_t count)
{
	for (size_t i = 0; i < count; i++)
		out[i] = x[i] > -746 ? x[i] : -746;
	for (size_t i = 0; i < count; i++) {
		double bounded = out[i];
		int whole = (int)(bounded * 0x1.71547652b82fep0 - 0.5);
		double n = (double)whole;
		double high = bounded - n * ln2_high, low = n * ln2_low, r = high - low;
		double t = r * r;
		double tail = t * (1.0 / 6 + t * (-1.0 / 360 + t * (1.0 / 15120 + t * (-1.0 / 604800 +
		              t * (1.0 / 23950080 + t * (-691.0 / 653837184000))))));
		double c = r - tail;
		double value = 1 - ((low - r * c / (2 - c)) - high);
		int half = whole / 2, rest = whole - half;
		int64_t a = (int64_t)(half + 1023) << 52, b = (int64_t)(rest + 1023) << 52;
		double first, second;
		memcpy(&first, &a, sizeof first);
		memcpy(&second, &b, sizeof second);
		out[i] = value * first * second;
	}
}

/* x = 2^n (1 + f) with sqrt(1/2) < 1 + f <= sqrt(2); with s = f / (2 + f),
 * log(1 + f) = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...), and 2 s = f - s f
 * makes the large part exact. */
double pio_real_log(double x)
{
	if (isnan(x) || x < 0)
		return NAN;
	if (x == 0)
		return -INFINITY;
	if (isinf(x))
		return x;
	int n = 0;
	if (x < 0x1p-1022) {
		x *= 0x1p54;
		n = -54;
	}
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	n += (int)(bits >> 52) - 1023;
	bits = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
	memcpy(&x, &bits, sizeof x);
	if (x > 0x1.6a09e667f3bcdp0) {
		x *= 0.5;
		n++;
	}
	double f = x - 1, s = f / (2 + f), z = s * s, sum = 0;
	/* 2/25, 2/23, ... 2/3; s <= 0.1716: z^11 / 25 is below 2^-60 */
	static const double terms[] = { 2.0 / 25, 2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15,
		                        2.0 / 13, 2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3 };
	for (size_t k = 0; k < sizeof terms / sizeof *terms; k++)
		sum = z * (terms[k] + sum);
	/* log(1 + f) = f - f^2/2 + s (f^2/2 + sum') with sum' = sum: the usual
	 * rearrangement of f - s (f - sum), which cancels nothing */
	double half = 0.5 * f * f;
	double high = (double)n * ln2_high, low = (double)n * ln2_low;
	return high - ((half - (s * (half + sum) + low)) - f);
}

/* (1 + 2 x) erfcx(x) for x >= 0 as a sum of Chebyshev polynomials in y = (x - 3.75) /
 * (x + 3.75), the variable of Shepherd and Laframboise (Math. Comp. 36, 1981); worked
 * out in 40 digits. What is left out is below 2^-58. */
static const double erfcx_terms[] = {
	0x1.2d75d0246cee8p+0, -0x1.2cd0564f8c1b7p-8, -0x1.59159e8868995p-4, 0x1.e50c3e7c7dccep-5,
	-0x1.b4c68f4569326p-6, 0x1.295e991a7d82dp-7, -0x1.3c4c54f8d419dp-9, 0x1.014ed1572209ap-11,
	-0x1.221e6f70130b5p-14, 0x1.15c3f597f0492p-18, 0x1.9f8f03ca86fc2p-21, -0x1.d601c320c8f98p-23,
	0x1.71e1efca86d32p-27, 0x1.36bf288552530p-28, -0x1.aa4d7b1cdef29p-31, -0x1.15df59ca5f407p-34,
	0x1.f8af0a9aab1c4p-36, 0x1.b61b723b03273p-43, -0x1.0fc16c0089849p-40, 0x1.24f6a776a01c0p-45,
	0x1.2d8b49ad9182ep-45, -0x1.0cb63a78126b2p-49, -0x1.688462adf9717p-50, 0x1.561b0adc496c0p-54,
	0x1.d37436dd23dfdp-55,
};

double pio_real_erfcx(double x)
{
	if (isnan(x))
		return x;
	if (x < 0) /* erfc(x) = 2 - erfc(-x) */
		return 2 * pio_real_exp(x * x) - pio_real_erfcx(-x);
	if (isinf(x))
		return 0;
	double y = (x - 3.75) / (x + 3.75), second = 0, first = 0; /* Clenshaw's sum */
	for (int i = (int)(sizeof erfcx_terms / sizeof *erfcx_terms) - 1; i > 0; i--) {
		double sum = 2 * y * first - second + erfcx_terms[i];
		second = first;
		first = sum;
	}
	return (y * first - second + erfcx_terms[0]) / (1 + 2 * x);
}

#define SQRT_HALF 0x1.6a09e667f3bcdp-1

double pio_real_ndtr(double x)
{
	double half = 0.5 * pio_real_erfcx(fabs(x) * SQRT_HALF) * pio_real_exp(-0.5 * x * x);
	return x < 0 ? half : 1 - half;
}

double pio_real_log_ndtr(double x)
{
	if (x > 0)
		return pio_real_log(pio_real_ndtr(x));
	return pio_real_log(0.5 * pio_real_erfcx(-x * SQRT_HALF)) - 0.5 * x * x;
}

/* A first value within 0.00045 (Hastings, 1955; 26.2.23 of Abramowitz and Stegun), and
 * two steps of Halley's method on the logarithm of the tail, which is nearly a
 * parabola: each about triples the digits. */
double pio_real_ndtri(double p)
{
	if (isnan(p) || p < 0 || p > 1)
		return NAN;
	if (p == 0 || p == 1)
		return p == 0 ? -INFINITY : INFINITY;
	double tail = p < 0.5 ? p : 1 - p, log_tail = pio_real_log(tail), t = sqrt(-2 * log_tail);
	double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) /
	                   (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
	for (int i = 0; i < 2; i++) {
		/* f = log Q(x) - log tail; f' = -h with the hazard h; f'' = -h (h - x) */
		double tail_x = pio_real_erfcx(x * SQRT_HALF);
		double hazard = 0x1.9884533d43651p-1 / tail_x; /* sqrt(2 / pi) */
		double f = pio_real_log(0.5 * tail_x) - 0.5 * x * x - log_tail;
		double newton = f / hazard;
		x += newton / (1 + 0.5 * newton * (hazard - x));
	}
	return p < 0.5 ? -x : x;
}
