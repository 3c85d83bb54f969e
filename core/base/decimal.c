#include "base/decimal.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POWERS 28 /* 10^27 is the largest that 64 bits of mantissa hold exactly */

/* "1e+06" is written "1e6". */
static size_t tidy(char *text)
{
	char *exponent = strchr(text, 'e');
	if (exponent) {
		char *to = exponent + 1, *from = to;
		if (*from == '-')
			to++, from++;
		while (*from == '+' || (*from == '0' && from[1]))
			from++;
		memmove(to, from, strlen(from) + 1);
	} else if (!strchr(text, '.')) {
		memcpy(text + strlen(text), ".0", 3);
	}
	return strlen(text);
}

static size_t by_printf(char text[PIO_DECIMAL_BYTES], double value)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, PIO_DECIMAL_BYTES - 2, "%.*g", digits, value);
		if (digits == 17 || strtod(text, NULL) == value)
			break;
	}
	return tidy(text);
}

#if LDBL_MANT_DIG == 64

static const long double powers[POWERS] = {
	1e0L, 1e1L, 1e2L, 1e3L, 1e4L, 1e5L, 1e6L, 1e7L, 1e8L, 1e9L, 1e10L, 1e11L, 1e12L, 1e13L,
	1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L,
	1e27L,
};

static long double scaled(long double value, int power)
{
	return power >= 0 ? value * powers[power] : value / powers[-power];
}

/* Did rounding to a double decide on which side of the middle between two
 * doubles the value lies? Then its 11 bits below a double's are 100... */
static bool is_halfway(long double value)
{
	uint64_t mantissa;
	memcpy(&mantissa, &value, sizeof mantissa);
	return (mantissa & 0x7ff) == 0x400;
}

/* The integer of `digits` digits nearest to value * 10^power, if it reads back
 * as the value: 1 and *out, 0 if it does not, -1 if that cannot be told here. */
static int try_digits(uint64_t *out, double value, int power)
{
	long double exact = scaled(value, power), nearest = rintl(exact);
	/* Below 10^17 half a unit of the last place, by which `exact` is off, is 2^-8. */
	if (fabsl(fabsl(exact - nearest) - 0.5L) < 0x1p-7L)
		return -1;
	long double back = scaled(nearest, -power);
	if (is_halfway(back))
		return -1;
	*out = (uint64_t)nearest;
	return (double)back == value;
}

/* The exponent of ten of a size between 10^-9 and 10^22; beside a power of ten
 * it may be off by one. */
static int exponent_of(double size)
{
	int e2;
	frexp(size, &e2);
	int e10 = (int)floor((e2 - 1) * 0.30103);
	return scaled(size, -(e10 + 1)) >= 1.0L ? e10 + 1 : e10;
}

/* digits * 10^-power as %g writes it with `count` digits, exponent `e10`. */
static size_t layout(char *text, bool negative, uint64_t digits, int count, int e10)
{
	char reversed[24], *to = text;
	int n = count;
	while (n > 1 && digits % 10 == 0) {
		digits /= 10;
		n--;
	}
	for (int i = n - 1; i >= 0; i--, digits /= 10)
		reversed[i] = (char)('0' + digits % 10);
	if (negative)
		*to++ = '-';
	if (e10 < -4 || e10 >= count) {
		*to++ = reversed[0];
		if (n > 1)
			*to++ = '.';
		memcpy(to, reversed + 1, (size_t)n - 1);
		to += n - 1;
		to += snprintf(to, 8, "e%d", e10);
	} else if (e10 < 0) {
		memcpy(to, "0.0000", (size_t)(1 - e10));
		to += 1 - e10;
		memcpy(to, reversed, (size_t)n);
		to += n;
	} else {
		for (int i = 0; i <= e10 || i < n; i++) {
			if (i == e10 + 1)
				*to++ = '.';
			*to++ = i < n ? reversed[i] : '0';
		}
		if (n <= e10 + 1) {
			memcpy(to, ".0", 2);
			to += 2;
		}
	}
	*to = 0;
	return (size_t)(to - text);
}

size_t pio_decimal(char text[PIO_DECIMAL_BYTES], double value)
{
	double size = fabs(value);
	if (value == 0.0)
		return (size_t)snprintf(text, PIO_DECIMAL_BYTES, signbit(value) ? "-0.0" : "0.0");
	if (!(size >= 1e-9 && size < 1e22))
		return by_printf(text, value);
	int e10 = exponent_of(size);
	for (int count = 15; count <= 17; count++) {
		uint64_t digits;
		int power = count - 1 - e10, good = try_digits(&digits, size, power);
		if (good == 0)
			continue;
		if (good < 0 || (long double)digits >= powers[count] || (long double)digits < powers[count - 1])
			break;
		return layout(text, value < 0, digits, count, e10);
	}
	return by_printf(text, value);
}

#else

size_t pio_decimal(char text[PIO_DECIMAL_BYTES], double value)
{
	return by_printf(text, value);
}

#endif
