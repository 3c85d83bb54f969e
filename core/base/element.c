#include "base/element.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

static const pio_element elements[] = {
	{ "BOOL", 1, 1, true, false }, { "F4", 1, 0, false, true }, { "F6_E2M3", 1, 0, false, true },
	{ "F6_E3M2", 1, 0, false, true }, { "U8", 1, 1, true, false }, { "I8", 1, 1, true, true },
	{ "F8_E5M2", 1, 1, false, true }, { "F8_E4M3", 1, 1, false, true },
	{ "F8_E8M0", 1, 1, false, false }, { "I16", 2, 1, true, true }, { "U16", 2, 1, true, false },
	{ "F16", 2, 1, false, true }, { "BF16", 2, 1, false, true }, { "I32", 4, 1, true, true },
	{ "U32", 4, 1, true, false }, { "F32", 4, 1, false, true }, { "C64", 4, 2, false, true },
	{ "F64", 8, 1, false, true }, { "I64", 8, 1, true, true }, { "U64", 8, 1, true, false },
};

const pio_element *pio_element_find(const char *dtype)
{
	for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
		if (strcmp(elements[i].dtype, dtype) == 0)
			return &elements[i];
	return NULL;
}

/* ---- small floats ------------------------------------------------------------------- */

static inline float float_of(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* Without a branch and without subnormal operands, for which processors take long. */
static inline float half(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
	float tiny = (float)(h & 0x3ff) * 0x1p-24f, number = float_of(rest + (112u << 23));
	float other = float_of(rest | 0x7f800000);
	uint32_t bits;
	number = (h & 0x7c00) == 0x7c00 ? other : (h & 0x7c00) == 0 ? tiny : number;
	memcpy(&bits, &number, sizeof bits);
	return float_of(bits | sign);
}

/* 4 bits of exponent, 3 of mantissa; no infinities, one NaN of each sign (OCP 8-bit
 * floating point, table 1). */
static double e4m3(uint8_t b)
{
	int exponent = b >> 3 & 15, mantissa = b & 7;
	double size = (b & 0x7f) == 0x7f ? NAN : exponent ? ldexp(8 + mantissa, exponent - 10)
	                                                  : ldexp(mantissa, -9);
	return b & 0x80 ? -size : size;
}

/* A power of two, as MX formats scale by. */
static double e8m0(uint8_t b)
{
	return b == 0xff ? NAN : ldexp(1, b - 127);
}

/* All values of the types of a byte: a loop that looks them up is as quick as the disk. */
static double e5m2_values[256], e4m3_values[256], e8m0_values[256];

static void fill_tables(void)
{
	for (int b = 0; b < 256; b++) {
		e5m2_values[b] = half((uint16_t)(b << 8));
		e4m3_values[b] = e4m3((uint8_t)b);
		e8m0_values[b] = e8m0((uint8_t)b);
	}
}

/* ---- decoding ------------------------------------------------------------------------- */

#define DECODE(type, value) \
	do { \
		for (size_t i = 0; i < count; i++) { \
			type t; \
			memcpy(&t, (const char *)bytes + i * sizeof t, sizeof t); \
			numbers[i] = (double)(value); \
		} \
	} while (0)

static void decode_bytes(double *numbers, const pio_element *element, const void *bytes, size_t count)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	if (element->is_integer && element->is_signed) {
		DECODE(int8_t, t);
	} else if (element->is_integer) {
		DECODE(uint8_t, t);
	} else {
		pthread_once(&once, fill_tables);
		const double *values = strcmp(element->dtype, "F8_E5M2") == 0 ? e5m2_values
			: strcmp(element->dtype, "F8_E4M3") == 0 ? e4m3_values : e8m0_values;
		DECODE(uint8_t, values[t]);
	}
}

void pio_element_decode(double *numbers, const pio_element *element, const void *bytes, size_t count)
{
	bool is_integer = element->is_integer, is_signed = element->is_signed;
	if (element->size_bytes == 1)
		decode_bytes(numbers, element, bytes, count);
	else if (element->size_bytes == 2 && !is_integer && strcmp(element->dtype, "BF16") == 0)
		DECODE(uint16_t, float_of((uint32_t)t << 16));
	else if (element->size_bytes == 2 && !is_integer)
		DECODE(uint16_t, half(t));
	else if (element->size_bytes == 2 && is_signed)
		DECODE(int16_t, t);
	else if (element->size_bytes == 2)
		DECODE(uint16_t, t);
	else if (element->size_bytes == 4 && !is_integer)
		DECODE(float, t);
	else if (element->size_bytes == 4 && is_signed)
		DECODE(int32_t, t);
	else if (element->size_bytes == 4)
		DECODE(uint32_t, t);
	else if (!is_integer)
		DECODE(double, t);
	else if (is_signed)
		DECODE(int64_t, t);
	else
		DECODE(uint64_t, t);
}
