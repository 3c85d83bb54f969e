/* The safetensors header: what the format allows is read exactly, everything
 * else is refused with the tensor's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/safetensors.h"

static int parse(pio_safetensors *header, const char *text, int64_t data_bytes, pio_err *err)
{
	size_t len = strlen(text);
	return pio_safetensors_parse(header, text, len, 8 + (int64_t)len + data_bytes, "f", err);
}

static void test_reads_what_is_there(void **state)
{
	(void)state;
	static const char text[] =
		"{\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]},"
		"\"__metadata__\":{\"step\":\"12\",\"a\":\"\\u00fc\"},"
		"\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
		"\"none\":{\"dtype\":\"I64\",\"shape\":[4,0],\"data_offsets\":[24,24]},"
		"\"packed\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[26,28]}}   ";
	pio_safetensors header;
	pio_err err = PIO_ERR_INIT;
	int64_t start = 8 + (int64_t)strlen(text);
	if (parse(&header, text, 28, &err))
		fail_msg("%s", err.message);
	assert_int_equal(header.count, 4);
	assert_string_equal(header.metadata, "{\"a\":\"\303\274\",\"step\":\"12\"}");
	assert_string_equal(header.tensors[0].name, "a");
	assert_string_equal(header.tensors[0].dtype, "F32");
	assert_int_equal(header.tensors[0].ndim, 2);
	assert_int_equal(header.tensors[0].shape[1], 3);
	assert_int_equal(header.tensors[0].offset, start);
	assert_int_equal(header.tensors[0].size_bytes, 24);
	assert_string_equal(header.tensors[1].name, "none");
	assert_string_equal(header.tensors[2].name, "b");
	assert_int_equal(header.tensors[2].ndim, 0);
	assert_int_equal(header.tensors[3].size_bytes, 2);
	pio_safetensors_fini(&header);
	assert_int_equal(parse(&header, "{}", 0, &err), 0);
	assert_int_equal(header.count, 0);
	assert_null(header.metadata);
	pio_safetensors_fini(&header);
}

static void test_length_of_the_header(void **state)
{
	(void)state;
	static const struct { uint8_t first[8]; int64_t file_bytes; int rc; } cases[] = {
		{ { 2 }, 10, 0 }, { { 0, 1 }, 264, 0 }, { { 0, 1 }, 263, -PIO_ECORRUPT },
		{ { 1 }, 100, -PIO_ECORRUPT }, { { 0 }, 100, -PIO_ECORRUPT }, { { 2 }, 7, -PIO_ECORRUPT },
		{ { 2 }, 0, -PIO_ECORRUPT }, { { 0, 0xe1, 0xf5, 5 }, INT64_MAX, 0 },
		{ { 1, 0xe1, 0xf5, 5 }, INT64_MAX, -PIO_ECORRUPT },
		{ { 255, 255, 255, 255, 255, 255, 255, 255 }, INT64_MAX, -PIO_ECORRUPT },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t header_bytes;
		pio_err err = PIO_ERR_INIT;
		assert_int_equal(pio_safetensors_header_bytes(&header_bytes, cases[i].first,
		                 cases[i].file_bytes, "model.safetensors", &err), cases[i].rc);
		if (cases[i].rc)
			assert_non_null(strstr(err.message, "model.safetensors: "));
	}
}

#define T(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape \
	"],\"data_offsets\":[" from "," to "]}"

static void test_everything_else_is_refused(void **state)
{
	(void)state;
	static const struct { const char *text; int64_t data_bytes; const char *words; } cases[] = {
		{ " {}", 0, "does not start with '{'" },
		{ "{}x", 0, "line 1" },
		{ "{\"a\":", 0, "line 1" },
		{ "{}", 1, "1 bytes after the last tensor" },
		{ "{" T("t", "F32", "1", "0", "4") "," T("t", "F32", "1", "0", "4") "}", 4, "uplicate" },
		{ "{\"t\":3}", 0, "\"t\": its description is no JSON object" },
		{ "{\"t\":{}}", 0, "\"t\": dtype is missing" },
		{ "{" T("t", "F31", "1", "0", "4") "}", 4, "dtype \"F31\" is unknown" },
		{ "{" T("t", "F32", "-1", "0", "4") "}", 4, "\"t\": a dimension is no integer >= 0" },
		{ "{" T("t", "F32", "1.0", "0", "4") "}", 4, "\"t\": a dimension is no integer" },
		{ "{" T("t", "F32", "4294967296,4294967296", "0", "4") "}", 4, "overflows 63 bits" },
		{ "{" T("t", "F64", "1152921504606846976", "0", "4") "}", 4, "overflows 63 bits" },
		{ "{" T("t", "F4", "3", "0", "2") "}", 2, "do not fill whole bytes" },
		{ "{" T("t", "F32", "2", "0", "4") "}", 4, "span 4 bytes, its dtype F32 and shape need 8" },
		{ "{" T("t", "F32", "1", "4", "0") "}", 4, "lie outside of the data of 4 bytes" },
		{ "{" T("t", "F32", "1", "-4", "0") "}", 4, "lie outside" },
		{ "{" T("t", "F32", "2", "0", "8") "}", 4, "lie outside of the data of 4 bytes" },
		{ "{" T("t", "F32", "1", "0", "4.5") "}", 4, "no pair of integers" },
		{ "{" T("t", "F32", "1", "0", "4,8") "}", 8, "no pair of integers" },
		{ "{" T("t", "F32", "1", "1", "5") "}", 5, "\"t\" begins at byte 1 of the data, expected 0" },
		{ "{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "2", "6") "}", 6, "without overlaps" },
		{ "{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "8", "12") "}", 12, "without holes" },
		{ "{\"__metadata__\":[]}", 0, "__metadata__ is no JSON object" },
		{ "{\"__metadata__\":{\"n\":1}}", 0, "\"n\" is no string" },
		{ "{\"t\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
		  "1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "33 dimensions, expected at most 32" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pio_safetensors header;
		pio_err err = PIO_ERR_INIT;
		int64_t live = pio_mem_live();
		assert_int_equal(parse(&header, cases[i].text, cases[i].data_bytes, &err), -PIO_ECORRUPT);
		if (!strstr(err.message, cases[i].words) || strncmp(err.message, "f: ", 3))
			fail_msg("%s: message \"%s\"", cases[i].text, err.message);
		assert_int_equal(pio_mem_live(), live);
		pio_safetensors_fini(&header);
	}
}

static void test_out_of_memory_leaks_nothing(void **state)
{
	(void)state;
	int rc = -1;
	int64_t live = pio_mem_live();
	for (unsigned n = 1; rc; n++) {
		pio_safetensors header;
		pio_mem_fail_at(n);
		rc = parse(&header, "{\"__metadata__\":{}," T("a", "F32", "1", "0", "4") "}", 4, NULL);
		pio_mem_fail_at(0);
		if (rc)
			assert_int_equal(rc, -PIO_ENOMEM);
		else
			pio_safetensors_fini(&header);
		assert_int_equal(pio_mem_live(), live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_is_there),
		cmocka_unit_test(test_length_of_the_header),
		cmocka_unit_test(test_everything_else_is_refused),
		cmocka_unit_test(test_out_of_memory_leaks_nothing),
	};
	return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
