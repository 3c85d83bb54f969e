#include "sweep/real.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MANY = 64 };            /* so many at once: what they need in between stays near */

/* ln 2 in two parts: the first has 33 significant bits, so that its product
 * with a whole number below 2^20 is exact (Cody and Waite, 1980). */
static const double ln2_high = 0x1.62e42feep-1;
static const double ln2_low = 0x1.a39ef35793c76p-33;

/* x = n ln 2 + r with |r| <= ln 2 / 2. The even function q = r coth(r / 2) has
 * the series 2 + r^2/6 - r^4/360 + r^6/15120 - ..., 2 B_2k / (2k)! each, and
 * with c = r - (q - 2) it is e^r = 1 + r + r c / (2 - c): what is added to 1
 * and r is small, so its own rounding hardly counts. half is 1/2 with the sign of x,
 * which is -746..710. */
static inline double exp_plain(double x, double half)
{
	int whole = (int)(x * 0x1.71547652b82fep0 + half);
	double n = (double)whole;
	double high = x - n * ln2_high, low = n * ln2_low, r = high - low;
	double t = r * r;
	double tail = t * (1.0 / 6 + t * (-1.0 / 360 + t * (1.0 / 15120 + t * (-1.0 / 604800 +
	              t * (1.0 / 23950080 + t * (-691.0 / 653837184000))))));
	double c = r - tail;
	double value = 1 - ((low - r * c / (2 - c)) - high);
	/* 2^n in two steps, so that neither overflows on the way to a result that does not */
	int part = whole / 2, rest = whole - part;
	int64_t a = (int64_t)(part + 1023) << 52, b = (int64_t)(rest + 1023) << 52;
	double first, second;
	memcpy(&first, &a, sizeof first);
	memcpy(&second, &b, sizeof second);
	return value * first * second;
}

double pio_real_exp(double x)
{
	if (isnan(x))
		return x;
	if (x > 709.782712893384)
		return INFINITY;
	return x < -745.2 ? 0 : exp_plain(x, x < 0 ? -0.5 : 0.5);
}

PIO_WIDER void pio_real_exps(double *out, const double *x, size_t count)
{
	for (size_t i = 0; i < count; i++)
		out[i] = x[i] > -746 ? x[i] : -746;
	for (size_t i = 0; i < count; i++)
		out[i] = exp_plain(out[i], -0.5);
}

/* x = 2^n (1 + f) with sqrt(1/2) < 1 + f <= sqrt(2); with s = f / (2 + f),
 * log(1 + f) = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...), and 2 s = f - s f
 * makes the large part exact. x is normal, and log(2^-shift x) is wanted. */
static inline double log_plain(double x, double shift)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	/* a fraction above sqrt(2) carries into the exponent */
	uint64_t exponent = (bits + (UINT64_C(0xfffffffffffff) - UINT64_C(0x6a09e667f3bcd))) >> 52;
	bits -= (exponent - 1023) << 52;
	exponent |= UINT64_C(1075) << 52; /* as a double: 2^52 more */
	double power;
	memcpy(&x, &bits, sizeof x);
	memcpy(&power, &exponent, sizeof power);
	power = power - 0x1p52 - 1023 - shift;
	double f = x - 1, s = f / (2 + f), z = s * s;
	/* s <= 0.1716: z^11 / 25 is below 2^-60 */
	double sum = z * (2.0 / 3 + z * (2.0 / 5 + z * (2.0 / 7 + z * (2.0 / 9 + z * (2.0 / 11 + z * (2.0 / 13 +
	             z * (2.0 / 15 + z * (2.0 / 17 + z * (2.0 / 19 + z * (2.0 / 21 + z * (2.0 / 23 +
	             z * (2.0 / 25))))))))))));
	/* log(1 + f) = f - f^2/2 + s (f^2/2 + sum') with sum' = sum: the usual
	 * rearrangement of f - s (f - sum), which cancels nothing */
	double half = 0.5 * f * f;
	double high = power * ln2_high, low = power * ln2_low;
	return high - ((half - (s * (half + sum) + low)) - f);
}

double pio_real_log(double x)
{
	if (isnan(x) || x < 0)
		return NAN;
	if (x == 0)
		return -INFINITY;
	if (isinf(x))
		return x;
	return x < 0x1p-1022 ? log_plain(x * 0x1p54, 54) : log_plain(x, 0);
}

/* Copy n numbers, and up to a whole number of registers of them ones; how many that makes. */
static inline size_t fill_up(double *kept, const double *x, size_t n)
{
	memcpy(kept, x, n * sizeof *kept);
	for (; n % 4 > 0; n++)
		kept[n] = 1;
	return n;
}

PIO_WIDER void pio_real_logs(double *out, const double *x, size_t count)
{
	double kept[MANY], logs[MANY];
	for (size_t first = 0; first < count; first += MANY) {
		size_t n = count - first < MANY ? count - first : MANY, filled = fill_up(kept, x + first, n);
		for (size_t i = 0; i < filled; i++)
			logs[i] = log_plain(kept[i], 0);
		for (size_t i = 0; i < n; i++)
			out[first + i] = kept[i] >= DBL_MIN && kept[i] <= DBL_MAX ? logs[i] : pio_real_log(kept[i]);
	}
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

/* Without its cases: x >= 0, and finite. */
static inline double erfcx_plain(double x)
{
	double y = (x - 3.75) / (x + 3.75), second = 0, first = 0; /* Clenshaw's sum */
#pragma GCC unroll 32
	for (int i = (int)(sizeof erfcx_terms / sizeof *erfcx_terms) - 1; i > 0; i--) {
		double sum = 2 * y * first - second + erfcx_terms[i];
		second = first;
		first = sum;
	}
	return (y * first - second + erfcx_terms[0]) / (1 + 2 * x);
}

double pio_real_erfcx(double x)
{
	if (isnan(x))
		return x;
	if (x < 0) /* erfc(x) = 2 - erfc(-x) */
		return 2 * pio_real_exp(x * x) - pio_real_erfcx(-x);
	return isinf(x) ? 0 : erfcx_plain(x);
}


double pio_real_ndtr(double x)
{
	double half = 0.5 * pio_real_erfcx(fabs(x) * PIO_REAL_SQRT_HALF) * pio_real_exp(-0.5 * x * x);
	return x < 0 ? half : 1 - half;
}

/* What is below, of what is beyond: that, or with a sign of 1 what it leaves. Without a branch. */
static inline double lower(double sign, double beyond)
{
	return (0.5 + 0.5 * sign) - sign * beyond;
}

PIO_WIDER void pio_real_ndtrs(double *out, const double *x, size_t count)
{
	double at[MANY], tail[MANY], power[MANY];
	for (size_t first = 0; first < count; first += MANY) {
		size_t n = count - first < MANY ? count - first : MANY, filled = fill_up(at, x + first, n);
		for (size_t i = 0; i < filled; i++)
			tail[i] = 0.5 * erfcx_plain(fabs(at[i]) * PIO_REAL_SQRT_HALF);
		for (size_t i = 0; i < filled; i++)
			power[i] = -0.5 * at[i] * at[i];
		for (size_t i = 0; i < filled; i++)
			power[i] = power[i] > -746 ? power[i] : -746;
		for (size_t i = 0; i < filled; i++)
			tail[i] *= exp_plain(power[i], -0.5);
		for (size_t i = 0; i < n; i++)
			out[first + i] = lower(copysign(1, at[i] + 0.0), tail[i]); /* 0 is not below 0, nor is -0 */
	}
}

double pio_real_log_ndtr(double x)
{
	if (x > 0)
		return pio_real_log(pio_real_ndtr(x));
	return pio_real_log(0.5 * pio_real_erfcx(-x * PIO_REAL_SQRT_HALF)) - 0.5 * x * x;
}

/* A first value within 0.00045 (Hastings, 1955; 26.2.23 of Abramowitz and Stegun), from
 * t = sqrt(-2 log tail). */
static inline double upper_guess(double t)
{
	return t - (2.515517 + t * (0.802853 + t * 0.010328)) /
	                   (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
}

/* A step of Halley's method on f, the logarithm of the tail less that wanted; f' = -h with
 * the hazard h; f'' = -h (h - x). scaled is erfcx(x sqrt(1/2)), log_half the log of half of it. */
static inline double halley(double x, double scaled, double log_half, double log_tail)
{
	double hazard = 0x1.9884533d43651p-1 / scaled; /* sqrt(2 / pi) */
	double f = log_half - 0.5 * x * x - log_tail;
	double newton = f / hazard;
	return x + newton / (1 + 0.5 * newton * (hazard - x));
}

/* Two steps: the logarithm of the tail is nearly a parabola, and each about triples the digits. */
double pio_real_ndtri(double p)
{
	if (isnan(p) || p < 0 || p > 1)
		return NAN;
	if (p == 0 || p == 1)
		return p == 0 ? -INFINITY : INFINITY;
	double log_tail = pio_real_log(p < 0.5 ? p : 1 - p), x = upper_guess(sqrt(-2 * log_tail));
	for (int i = 0; i < 2; i++) {
		double scaled = pio_real_erfcx(x * PIO_REAL_SQRT_HALF);
		x = halley(x, scaled, pio_real_log(0.5 * scaled), log_tail);
	}
	return p < 0.5 ? -x : x;
}

/* Near 1/2 the guess may be below 0, where erfcx has another case. */
#define TAIL_MIN DBL_MIN
#define TAIL_MAX 0.495

PIO_WIDER void pio_real_ndtris(double *out, const double *p, size_t count)
{
	double sign[MANY], tail[MANY], x[MANY], log_tail[MANY], scaled[MANY], log_half[MANY];
	for (size_t first = 0; first < count; first += MANY) {
		size_t n = count - first < MANY ? count - first : MANY;
		for (size_t i = 0; i < n; i++)
			sign[i] = copysign(1, p[first + i] - 0.5);
		for (size_t i = 0; i < n; i++)
			tail[i] = lower(sign[i], p[first + i]);
		for (size_t i = 0; i < n; i++)
			x[i] = tail[i] > TAIL_MIN ? tail[i] : TAIL_MIN;
		for (size_t i = 0; i < n; i++)
			x[i] = x[i] < TAIL_MAX ? x[i] : TAIL_MAX;
		for (size_t i = 0; i < n; i++)
			log_tail[i] = log_plain(x[i], 0);
		for (size_t i = 0; i < n; i++)
			x[i] = sqrt(-2 * log_tail[i]);
		for (size_t i = 0; i < n; i++)
			x[i] = upper_guess(x[i]);
		for (int step = 0; step < 2; step++) {
			for (size_t i = 0; i < n; i++)
				scaled[i] = erfcx_plain(x[i] * PIO_REAL_SQRT_HALF);
			for (size_t i = 0; i < n; i++)
				log_half[i] = log_plain(0.5 * scaled[i], 0);
			for (size_t i = 0; i < n; i++)
				x[i] = halley(x[i], scaled[i], log_half[i], log_tail[i]);
		}
		for (size_t i = 0; i < n; i++)
			out[first + i] = tail[i] >= TAIL_MIN && tail[i] <= TAIL_MAX ? sign[i] * x[i]
			                                                            : pio_real_ndtri(p[first + i]);
	}
}
