#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/element.h"
#include "base/str.h"
#include "store/tensor_diff.h"
#include "sys/fs.h"

static pio_err err = PIO_ERR_INIT;
static char dir[200];

static double number_of(const char *dtype, uint64_t bits)
{
	double number;
	pio_element_decode(&number, pio_element_find(dtype), &bits, 1);
	return number;
}

/* Values that are in the definitions of the formats. */
static void each_type_means_what_its_format_says(void **unused)
{
	(void)unused;
	static const struct { const char *dtype; uint64_t bits; double number; } known[] = {
		{ "BOOL", 1, 1 }, { "U8", 255, 255 }, { "I8", 255, -1 }, { "U16", 65535, 65535 },
		{ "I16", 65535, -1 }, { "U32", 4294967295u, 4294967295.0 }, { "I32", 4294967295u, -1 },
		{ "I64", UINT64_MAX, -1 }, { "U64", 1, 1 }, { "U64", UINT64_MAX, 0x1p64 },
		{ "F16", 0x3c00, 1 }, { "F16", 0xc000, -2 }, { "F16", 0x7bff, 65504 }, { "F16", 0x0001, 0x1p-24 },
		{ "F16", 0x03ff, 0x1p-14 - 0x1p-24 }, { "F16", 0x0400, 0x1p-14 }, { "F16", 0xfc00, -INFINITY },
		{ "BF16", 0x3f80, 1 }, { "BF16", 0xc049, -3.140625 }, { "BF16", 0x7f80, INFINITY },
		{ "BF16", 0x0001, 0x1p-133 },
		{ "F8_E4M3", 0x38, 1 }, { "F8_E4M3", 0x7e, 448 }, { "F8_E4M3", 0x01, 0x1p-9 },
		{ "F8_E4M3", 0x07, 0x7p-9 }, { "F8_E4M3", 0x08, 0x1p-6 }, { "F8_E4M3", 0xfe, -448 },
		{ "F8_E5M2", 0x3c, 1 }, { "F8_E5M2", 0x7b, 57344 }, { "F8_E5M2", 0x01, 0x1p-16 },
		{ "F8_E5M2", 0xfc, -INFINITY }, { "F8_E8M0", 127, 1 }, { "F8_E8M0", 0, 0x1p-127 },
		{ "F8_E8M0", 254, 0x1p127 },
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (number_of(known[i].dtype, known[i].bits) != known[i].number)
			fail_msg("%s 0x%llx is %g, expected %g", known[i].dtype, (unsigned long long)known[i].bits,
			         number_of(known[i].dtype, known[i].bits), known[i].number);
	assert_true(isnan(number_of("F16", 0x7e00)) && isnan(number_of("BF16", 0x7fc0)));
	assert_true(isnan(number_of("F8_E4M3", 0x7f)) && isnan(number_of("F8_E4M3", 0xff)));
	assert_true(isnan(number_of("F8_E5M2", 0x7d)) && isnan(number_of("F8_E8M0", 0xff)));
	assert_true(signbit(number_of("F16", 0x8000)) && signbit(number_of("F8_E4M3", 0x80)));
	assert_null(pio_element_find("F128"));
	assert_int_equal(pio_element_find("F4")->numbers, 0);
	assert_int_equal(pio_element_find("C64")->numbers, 2);
}

/* ---- two files ------------------------------------------------------------------------- */

static pio_tensor_place put(const char *name, const char *dtype, const void *bytes, size_t size_bytes)
{
	static char paths[2][256];
	static int which;
	char *path = paths[which = !which];
	pio_str text = PIO_STR_INIT;
	snprintf(path, sizeof paths[0], "%s/%s", dir, name);
	pio_str_puts(&text, "head"); /* a tensor does not begin where its file does */
	pio_str_append(&text, bytes, size_bytes);
	assert_int_equal(pio_fs_write(path, text.data, text.len, 0666, &err), 0);
	pio_str_fini(&text);
	return (pio_tensor_place){ path, 4, (int64_t)size_bytes, dtype };
}

static pio_tensor_diff diff_of(pio_tensor_place a, pio_tensor_place b)
{
	pio_tensor_diff diff;
	if (pio_tensor_diff_make(&diff, &a, &b, NULL, NULL, &err))
		fail_msg("%s", err.message);
	return diff;
}

static void add_bytes(void *context, int64_t bytes)
{
	*(int64_t *)context += bytes;
}

/* Of more than a block, not a multiple of any size inside, against the plain sums. */
static void measures_are_those_of_the_definitions(void **unused)
{
	(void)unused;
	enum { COUNT = 300007, HIT = 271828 };
	float *a = test_malloc(COUNT * sizeof *a), *b = test_malloc(COUNT * sizeof *b);
	double dd = 0, aa = 0, bb = 0, ab = 0;
	int64_t changed = 0, heard = 0;
	srand(7);
	for (int i = 0; i < COUNT; i++) {
		a[i] = (float)rand() / (float)RAND_MAX - 0.5f;
		b[i] = rand() % 3 ? a[i] : a[i] + 1e-3f * (float)rand() / (float)RAND_MAX;
	}
	b[HIT] = a[HIT] - 2;
	for (int i = 0; i < COUNT; i++) {
		double x = a[i], y = b[i];
		dd += (y - x) * (y - x);
		aa += x * x;
		bb += y * y;
		ab += x * y;
		changed += a[i] != b[i];
	}
	pio_tensor_diff diff;
	pio_tensor_place p = put("a", "F32", a, COUNT * sizeof *a), q = put("b", "F32", b, COUNT * sizeof *b);
	assert_int_equal(pio_tensor_diff_make(&diff, &p, &q, add_bytes, &heard, &err), 0);
	assert_int_equal(heard, 2 * COUNT * sizeof *a);
	assert_int_equal(diff.elements, COUNT);
	assert_int_equal(diff.changed, changed);
	assert_int_equal(diff.unfinite, 0);
	assert_true(diff.measured && diff.max_abs == fabs((double)b[HIT] - (double)a[HIT]));
	assert_int_equal(diff.max_at, HIT);
	assert_true(fabs(diff.rms / sqrt(dd / COUNT) - 1) < 1e-12);
	assert_true(fabs(diff.relative / sqrt(dd / aa) - 1) < 1e-12);
	assert_true(fabs(diff.cosine / (ab / sqrt(aa * bb)) - 1) < 1e-12);
	test_free(a);
	test_free(b);
}

static void what_is_not_finite_is_counted_and_spoils_nothing(void **unused)
{
	(void)unused;
	float a[] = { 1, NAN, 3, 4, -INFINITY, 6 }, b[] = { 1, 2, INFINITY, 5, -INFINITY, 6 };
	pio_tensor_diff diff = diff_of(put("a", "F32", a, sizeof a), put("b", "F32", b, sizeof b));
	assert_int_equal(diff.elements, 6);
	assert_int_equal(diff.changed, 3);
	assert_int_equal(diff.unfinite, 3);
	assert_true(diff.max_abs == 1 && diff.max_at == 3);
	assert_true(fabs(diff.rms - sqrt(1.0 / 3)) < 1e-15);
	/* The same NaN on both sides is no change. */
	assert_int_equal(diff_of(put("a", "F32", a, sizeof a), put("b", "F32", a, sizeof a)).changed, 0);
}

static void a_tensor_of_another_type_is_compared_by_its_values(void **unused)
{
	(void)unused;
	float a[] = { 1, -2, 3.25f, NAN };
	uint16_t half[] = { 0x3c00, 0xc000, 0x4280, 0x7e00 }, brain[] = { 0x3f80, 0xc000, 0x4051, 0x7fc0 };
	pio_tensor_diff diff = diff_of(put("a", "F32", a, sizeof a), put("b", "F16", half, sizeof half));
	assert_int_equal(diff.elements, 4);
	assert_int_equal(diff.changed, 0);
	diff = diff_of(put("a", "F32", a, sizeof a), put("b", "BF16", brain, sizeof brain));
	assert_int_equal(diff.changed, 1);
	assert_true(diff.max_abs == 0.015625 && diff.max_at == 2);
}

static void odd_tensors_are_told_or_refused(void **unused)
{
	(void)unused;
	uint8_t packed[] = { 1, 2, 3 }, other[] = { 1, 9, 3 };
	pio_tensor_diff diff = diff_of(put("a", "F4", packed, 3), put("b", "F4", other, 3));
	assert_true(!diff.measured && diff.elements == 3 && diff.changed == 1);
	diff = diff_of(put("a", "F32", packed, 0), put("b", "F32", packed, 0));
	assert_true(diff.elements == 0 && diff.changed == 0 && diff.rms == 0 && isnan(diff.cosine));
	float parts[] = { 3, 4, 0, 0 };
	diff = diff_of(put("a", "C64", parts, 16), put("b", "C64", parts, 16));
	assert_true(diff.elements == 4 && diff.changed == 0 && fabs(diff.cosine - 1) < 1e-15);
	static const struct { const char *a, *b; size_t a_bytes, b_bytes; const char *says; } bad[] = {
		{ "F32", "F32", 8, 4, "as many elements" }, { "F4", "U8", 2, 2, "types that compare" },
		{ "C64", "F32", 8, 8, "types that compare" }, { "F5", "F32", 4, 4, "\"F5\" is unknown" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		pio_tensor_place p = put("a", bad[i].a, parts, bad[i].a_bytes);
		pio_tensor_place q = put("b", bad[i].b, parts, bad[i].b_bytes);
		assert_int_equal(pio_tensor_diff_make(&diff, &p, &q, NULL, NULL, &err), -PIO_EINVAL);
		if (!strstr(err.message, bad[i].says))
			fail_msg("%s: expected %s", err.message, bad[i].says);
	}
	pio_tensor_place whole = put("a", "F32", parts, 16), cut = put("b", "F32", parts, 12);
	cut.size_bytes = 16;
	assert_true(pio_tensor_diff_make(&diff, &whole, &cut, NULL, NULL, &err) != 0);
	cut.path = "/nowhere/at all";
	assert_int_equal(pio_tensor_diff_make(&diff, &whole, &cut, NULL, NULL, &err), -PIO_ENOTFOUND);
}

static int up(void **unused)
{
	(void)unused;
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/test-tensor-diff-%d", tmp ? tmp : "/tmp", (int)getpid());
	return pio_fs_mkdirs(dir, 0777, &err);
}

static int down(void **unused)
{
	(void)unused;
	return pio_fs_remove_tree(dir, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type_means_what_its_format_says),
		cmocka_unit_test(measures_are_those_of_the_definitions),
		cmocka_unit_test(what_is_not_finite_is_counted_and_spoils_nothing),
		cmocka_unit_test(a_tensor_of_another_type_is_compared_by_its_values),
		cmocka_unit_test(odd_tensors_are_told_or_refused),
	};
	return cmocka_run_group_tests(tests, up, down);
}
