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
	/* s <= 0.1716: z^11 / 25 is below 2^-60 */
	for (int k = 25; k >= 3; k -= 2)
		sum = z * (1.0 / k * 2 + sum);
	/* log(1 + f) = f - f^2/2 + s (f^2/2 + sum') with sum' = sum: the usual
	 * rearrangement of f - s (f - sum), which cancels nothing */
	double half = 0.5 * f * f;
	double high = (double)n * ln2_high, low = (double)n * ln2_low;
	return high - ((half - (s * (half + sum) + low)) - f);
}
