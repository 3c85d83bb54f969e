/* log_values: log every hard value under every hard name, as libpioche takes
 * them, for test_values.py, which knows the same lists. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/pioche.h"

static const uint64_t values[] = {
	0x7ff8000000000000, 0x7ff8000000000123, 0xfff8000000000001, 0x7ff0000000000001,
	0x7ff0000000000000, 0xfff0000000000000, 0x8000000000000000, 0, 1, 0x800fffffffffffff,
	0x3fb999999999999a, 0x7fefffffffffffff,
};
static const int64_t steps[] = {
	INT64_MIN, -1, 0, 1, 2, 3, 4, 5, 6, 4503599627370497, 9007199254740993, INT64_MAX,
};
static const char *const names[] = {
	"plain", "with space", "quote\"s and 'apostrophes'", "line\nbreak", "comma,semicolon;tab\t",
	"\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\xa8", "percent%20 {brace} [1] $(x) `y` \\ /",
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static int failures;

static void expect(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "log_values: %s: %s\n", what, pio_error());
		failures++;
	}
}

static void refused(int refused_it, const char *what, const char *message)
{
	if (!refused_it || !strstr(pio_error(), message)) {
		fprintf(stderr, "log_values: %s: expected \"%s\", got \"%s\"\n", what, message, pio_error());
		failures++;
	}
}

static void log_all(pio_run *run, const char *name)
{
	char json[8192] = "\"";
	pio_key key = pio_key_get(run, name);
	expect(key != 0, name);
	for (size_t i = 0; i < COUNT(values); i++) {
		double value;
		memcpy(&value, &values[i], 8);
		expect(pio_log(run, key, steps[i], value) == 0, "pio_log");
	}
	/* The parameter's value is its own name. */
	size_t n = 1;
	for (const char *p = name; *p; p++)
		n += (size_t)snprintf(json + n, sizeof json - n, strchr("\"\\\n\t", *p) ? "\\u%04x" : "%c", *p);
	snprintf(json + n, sizeof json - n, "\"");
	expect(pio_fact(run, 'p', name, json) == 0, "pio_fact");
}

/* `log_values EXPERIMENT VALUE`: one curve that ends in VALUE. */
static int log_curve(const char *experiment, double last)
{
	pio_run *run;
	expect(pio_open(&run, experiment) == 0, "pio_open");
	pio_key key = pio_key_get(run, "loss");
	for (int64_t step = 1; step <= 20; step++)
		expect(pio_log(run, key, step, last + (double)(20 - step)) == 0, "pio_log");
	expect(pio_fact(run, 's', "best", "17") == 0, "pio_fact");
	expect(pio_fact(run, 'e', "note", "all is well") == 0, "pio_fact");
	expect(pio_close(&run, last > 5) == 0, "pio_close");
	return failures != 0;
}

int main(int argc, char **argv)
{
	pio_run *run;
	if (argc == 3)
		return log_curve(argv[1], atof(argv[2]));
	static char longest[4097], too_long[4098];
	memset(longest, 'k', 4096);
	memset(too_long, 'k', 4097);
	expect(pio_open(&run, "hard") == 0, "pio_open");
	for (size_t i = 0; i < COUNT(names); i++)
		log_all(run, names[i]);
	log_all(run, longest);
	refused(pio_key_get(run, "") == 0, "an empty key", "name is empty");
	refused(pio_key_get(run, "\xff") == 0, "a key that is no UTF-8", "not UTF-8: byte 0xff at position 0");
	refused(pio_key_get(run, too_long) == 0, "a key of 4097 bytes", "4097 bytes");
	refused(pio_fact(run, 'p', "", "1") != 0, "an empty parameter", "name is empty");
	refused(pio_fact(run, 'p', "a\xc3", "1") != 0, "a parameter that is no UTF-8", "not UTF-8");
	expect(pio_fact(run, 'p', "real", "-0.0") == 0, "-0.0");
	expect(pio_fact(run, 'p', "denormal", "5e-324") == 0, "5e-324");
	expect(pio_fact(run, 'p', "large", "9223372036854775807") == 0, "INT64_MAX");
	expect(pio_close(&run, 0) == 0, "pio_close");
	return failures != 0;
}
