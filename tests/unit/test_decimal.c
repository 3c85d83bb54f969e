/* Doubles as text: the same as printf's shortest, whatever the double. */
#include "base/decimal.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* What pio_decimal promises, by printf alone. */
static void expected_text(char text[64], double value)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, 60, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	char *exponent = strchr(text, 'e');
	if (exponent) {
		int number = atoi(exponent + 1);
		snprintf(exponent, 8, "e%d", number);
	} else if (!strchr(text, '.')) {
		memcpy(text + strlen(text), ".0", 3);
	}
}

static void check(double value)
{
	char text[PIO_DECIMAL_BYTES], expected[64];
	size_t length = pio_decimal(text, value);
	expected_text(expected, value);
	assert_string_equal(text, expected);
	assert_int_equal(length, strlen(text));
	double back = strtod(text, NULL);
	assert_memory_equal(&back, &value, sizeof back);
}

static void as_written_by_hand(void **unused)
{
	(void)unused;
	static const struct { double value; const char *text; } known[] = {
		{ 0.0, "0.0" }, { -0.0, "-0.0" }, { 1.0, "1.0" }, { -2.5, "-2.5" }, { 0.1, "0.1" },
		{ 1e-7, "1e-7" }, { 1e22, "1e22" }, { 1e15, "1e15" }, { 123456789012345.0, "123456789012345.0" },
		{ 0.0001, "0.0001" }, { 0.00001, "1e-5" }, { 5e-324, "4.94065645841247e-324" },
		{ 1.7976931348623157e308, "1.7976931348623157e308" }, { 0.3, "0.3" }, { 1.0 / 3, "0.3333333333333333" },
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		char text[PIO_DECIMAL_BYTES];
		pio_decimal(text, known[i].value);
		assert_string_equal(text, known[i].text);
	}
}

static void any_bits(void **unused)
{
	(void)unused;
	for (int i = 0; i < 100000; i++) {
		uint64_t bits = draw();
		double value;
		memcpy(&value, &bits, sizeof value);
		if (isfinite(value))
			check(value);
	}
}

static void values_as_they_are_logged(void **unused)
{
	(void)unused;
	for (int i = 0; i < 50000; i++) {
		check((double)(float)(1.0 / (double)(draw() % 99991 + 1)));
		check((double)(draw() % 1000000) / 1000.0);
		check((double)(draw() % 10007) / 10007.0 * pow(10, (double)(draw() % 30) - 10));
		check(ldexp((double)(int64_t)draw(), -50 - (int)(draw() % 40)));
	}
}

static void beside_powers_of_ten(void **unused)
{
	(void)unused;
	for (int exponent = -12; exponent < 26; exponent++) {
		double above = pow(10, exponent), below = above;
		for (int i = 0; i < 8; i++) {
			check(above);
			check(-below);
			above = nextafter(above, INFINITY);
			below = nextafter(below, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_written_by_hand), cmocka_unit_test(any_bits),
		cmocka_unit_test(values_as_they_are_logged), cmocka_unit_test(beside_powers_of_ten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
