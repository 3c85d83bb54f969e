#include "sweep/student.h"

#include <assert.h>
#include <math.h>

#include "sweep/real.h"

#define NORMAL_FROM 100000
#define ROUNDS_MAX 2000

/* The continued fraction of the incomplete beta function (8.17.22 of the NIST Handbook of
 * Mathematical Functions), by Lentz's method; it converges fast for x < (a + 1) / (a + b + 2). */
static double fraction(double x, double a, double b)
{
	double c = 1, d = 1 - (a + b) * x / (a + 1);
	d = 1 / d;
	double value = d;
	for (int m = 1; m < ROUNDS_MAX; m++) {
		double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
		double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
		d = 1 / (1 + even * d);
		c = 1 + even / c;
		value *= d * c;
		d = 1 / (1 + odd * d);
		c = 1 + odd / c;
		value *= d * c;
		if (fabs(d * c - 1) < 1e-16)
			break;
	}
	return value;
}

/* B(freedom / 2, 1 / 2), from B(1/2, 1/2) = pi or B(1, 1/2) = 2 upwards. */
static double beta(int freedom)
{
	double value = freedom % 2 ? 0x1.921fb54442d18p+1 : 2;
	for (double a = freedom % 2 ? 0.5 : 1; a < 0.5 * freedom; a++)
		value *= a / (a + 0.5);
	return value;
}

double pio_student(double t, int freedom)
{
	assert(freedom >= 1);
	if (isnan(t) || freedom >= NORMAL_FROM || isinf(t))
		return pio_real_ndtr(t);
	/* x = v / (v + t^2): the tail beyond |t| is half of I_x(v / 2, 1 / 2) */
	double square = t * t, a = 0.5 * freedom, x = freedom / (freedom + square);
	double rest = square / (freedom + square);
	double front = pio_real_exp(a * pio_real_log(x)) * sqrt(rest) / beta(freedom);
	double both = x < (a + 1) / (a + 2.5) ? front * fraction(x, a, 0.5) / a
	                                       : 1 - front * fraction(rest, 0.5, a) / 0.5;
	return t < 0 ? 0.5 * both : 1 - 0.5 * both;
}
