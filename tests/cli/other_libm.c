/* other_libm: a preloaded library in whose functions every result that was rounded is off by
 * one in the last place, as those of another machine may be. What is exact stays so. */
#include <math.h>
#include <stdbool.h>

#define ONE(name) \
	double name(double x) \
	{ \
		return other(name##l((long double)x)); \
	}
#define TWO(name) \
	double name(double x, double y) \
	{ \
		return other(name##l((long double)x, (long double)y)); \
	}

static double other(long double right)
{
	double rounded = (double)right;
	bool is_exact = (long double)rounded == right || isnan(rounded) || isinf(rounded);
	return is_exact ? rounded : nextafter(rounded, INFINITY);
}

ONE(exp)
ONE(exp2)
ONE(expm1)
ONE(log)
ONE(log2)
ONE(log10)
ONE(log1p)
ONE(sin)
ONE(cos)
ONE(tan)
ONE(asin)
ONE(acos)
ONE(atan)
ONE(sinh)
ONE(cosh)
ONE(tanh)
ONE(erf)
ONE(erfc)
ONE(cbrt)
ONE(tgamma)
ONE(lgamma)
TWO(pow)
TWO(atan2)
TWO(hypot)
