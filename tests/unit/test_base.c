#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/hex.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "test.h"

static void error_carries_code_errno_and_place(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	assert_int_equal(pio_fail_errno(&err, ENOENT, "cannot open %s", "x"), -PIO_EIO);
	assert_string_equal(err.message, "cannot open x: No such file or directory");
	assert_int_equal(err.sys_errno, ENOENT);
	assert_non_null(strstr(err.file, "test_base.c"));
	pio_err_context(&err, "run %d", 7);
	assert_string_equal(err.message, "run 7: cannot open x: No such file or directory");
}

static void full_disk_has_its_own_code(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	assert_int_equal(pio_fail_errno(&err, ENOSPC, "w"), -PIO_ENOSPC);
	assert_int_equal(pio_fail_errno(&err, EDQUOT, "w"), -PIO_ENOSPC);
	assert_int_equal(pio_fail_errno(&err, ENOMEM, "w"), -PIO_ENOMEM);
}

static void error_may_quote_its_own_message(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	pio_fail(&err, PIO_EINVAL, "inner");
	pio_fail(&err, PIO_EIO, "outer: %s", err.message);
	assert_string_equal(err.message, "outer: inner");
}

static void every_code_has_a_word(void **state)
{
	(void)state;
	assert_string_equal(pio_code_word(-PIO_ENOTFOUND), "not_found");
	assert_string_equal(pio_code_word(PIO_EPEER), "peer");
	assert_string_equal(pio_code_word(-4711), "io");
}

static void an_array_grows_by_doubling(void **state)
{
	(void)state;
	int64_t live = pio_mem_live(), *items = NULL;
	size_t capacity = 0, moves = 0;
	for (size_t n = 0; n < 1000; n++) {
		size_t before = capacity;
		check_ok(pio_grow(&items, &capacity, n, "items", &err));
		assert_true(capacity > n);
		moves += capacity != before;
		items[n] = (int64_t)n;
	}
	assert_int_equal(capacity, 1024);
	assert_int_equal(moves, 7); /* 16, 32, ..., 1024 */
	for (size_t n = 0; n < 1000; n++)
		assert_int_equal(items[n], n);
	assert_int_equal(pio_mem_live(), live + 1);
	pio_free(items);
	items = NULL;
	capacity = 0;
	check_ok(pio_grow(&items, &capacity, 100, "items", &err)); /* many at once */
	assert_true(capacity > 100);
	memset(items, 0, capacity * sizeof *items);
	pio_free(items);
}

/* Counts beyond what can be had wrap around to few bytes. */
static void an_array_that_cannot_grow_stays(void **state)
{
	(void)state;
	static const size_t too_many[] = { SIZE_MAX / 16 + 1, SIZE_MAX / 2 + 1, SIZE_MAX };
	int64_t live = pio_mem_live(), *items = NULL;
	size_t capacity = 0;
	check_ok(pio_grow(&items, &capacity, 0, "items", &err));
	int64_t *before = items;
	for (size_t n = 0; n < capacity; n++)
		items[n] = (int64_t)n;
	pio_mem_fail_at(1);
	check_fails(pio_grow(&items, &capacity, capacity, "items", &err), PIO_ENOMEM,
	            "out of memory for 17 items");
	assert_int_equal(pio_mem_fail_at(0), 0);
	for (size_t i = 0; i < sizeof too_many / sizeof too_many[0]; i++)
		check_fails(pio_grow(&items, &capacity, too_many[i], "items", &err), PIO_ENOMEM, "out of memory");
	assert_ptr_equal(items, before);
	assert_int_equal(capacity, 16);
	check_ok(pio_grow(&items, &capacity, capacity, "items", &err));
	assert_int_equal(capacity, 32);
	for (size_t n = 0; n < 16; n++)
		assert_int_equal(items[n], n);
	pio_free(items);
	assert_int_equal(pio_mem_live(), live);
}

static void string_survives_a_failed_append(void **state)
{
	(void)state;
	int64_t live = pio_mem_live();
	pio_str s = PIO_STR_INIT;
	pio_str_puts(&s, "abc");
	pio_mem_fail_at(1);
	for (int i = 0; i < 100; i++)
		pio_str_puts(&s, "0123456789");
	pio_mem_fail_at(0);
	assert_true(s.failed);
	assert_memory_equal(s.data, "abc", 3);
	check_fails(pio_str_check(&s, &err), PIO_ENOMEM, "out of memory");
	pio_str_fini(&s);
	assert_int_equal(pio_mem_live(), live);
}

static void json_strings_are_escaped(void **state)
{
	(void)state;
	pio_str s = PIO_STR_INIT;
	pio_str_put_json(&s, "a\"\\\n\x01\xc3\xa9\xff\xed\xa0\x80", 11);
	assert_string_equal(s.data, "\"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
	                            "\xef\xbf\xbd\"");
	pio_str_fini(&s);
}

static void ulid_text_and_bytes_agree(void **state)
{
	(void)state;
	pio_ulid a, b;
	char text[PIO_ULID_CHARS + 1], later[PIO_ULID_CHARS + 1];
	pio_ulid_new(&a);
	pio_ulid_format(&a, text);
	assert_true(pio_ulid_parse(&b, text));
	assert_memory_equal(&a, &b, sizeof a);
	pio_clock_sleep_ms(2);
	pio_ulid_new(&b);
	pio_ulid_format(&b, later);
	assert_true(strcmp(text, later) < 0);
	memset(&a, 0xff, sizeof a);
	pio_ulid_format(&a, text);
	assert_string_equal(text, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
	assert_false(pio_ulid_parse(&b, "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"));
	assert_false(pio_ulid_parse(&b, "7ZZZZZZZZZZZZZZZZZZZZZZZZ"));
	assert_false(pio_ulid_parse(&b, "7ZZZZZZZZZZZZZZZZZZZZZZZZU"));
}

static void crc32c_has_the_published_value(void **state)
{
	(void)state;
	assert_int_equal(pio_crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(pio_crc32c(pio_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
	/* Whatever the processor has for it: bit by bit, from any address on, of any length. */
	uint8_t bytes[96];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 151 + i / 7);
	for (size_t from = 0; from < 9; from++)
		for (size_t n = 0; from + n <= sizeof bytes; n++) {
			uint32_t crc = 0xffffffffu;
			for (size_t bit = 0; bit < 8 * n; bit++) {
				crc ^= (uint32_t)bytes[from + bit / 8] >> bit % 8 & 1u;
				crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
			}
			assert_int_equal(pio_crc32c(0, bytes + from, n), ~crc);
		}
}

static void time_text_is_rfc3339(void **state)
{
	(void)state;
	char text[PIO_CLOCK_TEXT_BYTES];
	pio_clock_format(1795404240125000000LL, text);
	assert_string_equal(text, "2026-11-23T03:24:00.125Z");
	pio_clock_format(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void json_is_strict_and_canonical(void **state)
{
	(void)state;
	json_t *value;
	check_fails(pio_json_parse(&value, "{\"a\":1,\"a\":2}", 13, "spec", &err), PIO_ECORRUPT, "spec");
	check_fails(pio_json_parse(&value, "{} x", 4, "spec", &err), PIO_ECORRUPT, "line 1");
	check_ok(pio_json_parse(&value, "{\"b\":[1,2.5],\"a\":\"x\"}", 21, "spec", &err));
	char *text = pio_json_canonical(value);
	assert_string_equal(text, "{\"a\":\"x\",\"b\":[1,2.5]}");
	const char *member;
	check_fails(pio_json_get_string(value, "c", &member, "spec", &err), PIO_ECORRUPT,
	            "member \"c\" is missing");
	free(text);
	json_decref(value);
}

static uint64_t json_left;
static int64_t json_live;

static void *json_alloc(size_t n)
{
	if (json_left && --json_left == 0)
		return NULL;
	json_live++;
	return malloc(n);
}

static void json_free(void *block)
{
	json_live--;
	free(block);
}

/* Whichever allocation fails, jansson's or what is kept of them, a text is
 * refused or read whole: no token of it is cut short. */
static void json_is_whole_or_refused(void **state)
{
	(void)state;
	pio_str text = PIO_STR_INIT;
	pio_str_putc(&text, '{');
	for (int n = 80; n > 12; n--) /* each length of a token; longer keys come first */
		pio_str_printf(&text, "\"%0*d\":[%d,1.%0*d,\"%0*d\"],", n, 1, n, n % 15 + 1, 2, n, 3);
	pio_str_puts(&text, "\"z\":{}}");
	for (int own = 0; own < 2; own++) {
		int64_t live = json_live, blocks = pio_mem_live();
		int rc = -PIO_ENOMEM, refused = 0;
		for (uint64_t n = 1; rc; n++, refused++) {
			json_t *value;
			pio_err err = PIO_ERR_INIT;
			json_left = own ? 0 : n;
			pio_mem_fail_at(own ? n : 0);
			rc = pio_json_parse(&value, text.data, text.len, "spec", &err);
			json_left = 0;
			pio_mem_fail_at(0);
			char *back = rc ? NULL : pio_json_canonical(value);
			if (rc) {
				assert_int_equal(rc, -PIO_ENOMEM);
				assert_string_equal(err.message, "spec: out of memory");
			} else {
				assert_string_equal(back, text.data);
				json_free(back);
			}
			json_decref(value);
			assert_int_equal(json_live, live);
			assert_int_equal(pio_mem_live(), blocks);
		}
		assert_true(refused > (own ? 4 : 68 * 6));
	}
	pio_str_fini(&text);
}

/* Reals are as short as they can be, stay reals, and read back bit for bit;
 * digits inside strings are left alone. */
static void json_reals_are_shortest(void **state)
{
	(void)state;
	static const struct { double value; const char *text; } cases[] = {
		{ 0.1, "[0.1]" }, { 1.0, "[1.0]" }, { 1e300, "[1e300]" }, { -2.5e-7, "[-2.5e-7]" },
		{ 1.0 / 3, "[0.3333333333333333]" }, { 0.1 + 0.2, "[0.30000000000000004]" },
		{ 5e-324, "[4.94065645841247e-324]" }, { -0.0, "[-0.0]" }, { 1e15, "[1e15]" },
		{ 123456789012345680.0, "[1.2345678901234568e17]" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		json_t *array = json_pack("[f]", cases[i].value), *back;
		char *text = pio_json_canonical(array);
		assert_string_equal(text, cases[i].text);
		check_ok(pio_json_parse(&back, text, strlen(text), "reals", &err));
		double value = json_real_value(json_array_get(back, 0));
		assert_memory_equal(&value, &cases[i].value, sizeof value);
		free(text);
		json_decref(array);
		json_decref(back);
	}
	json_t *object = json_pack("{s:s,s:f,s:i}", "a\"0.10000000000000001", "\\\"0.10000000000000001",
	                           "b", 0.1, "c", 12);
	char *text = pio_json_canonical(object);
	assert_string_equal(text, "{\"a\\\"0.10000000000000001\":\"\\\\\\\"0.10000000000000001\","
	                          "\"b\":0.1,\"c\":12}");
	free(text);
	text = pio_json_pretty(object);
	assert_non_null(strstr(text, "\n  \"b\": 0.1,\n"));
	free(text);
	json_decref(object);
}

static void hex_is_lower_case(void **state)
{
	(void)state;
	char text[5];
	pio_hex_format("\xab\x01", 2, text);
	assert_string_equal(text, "ab01");
	assert_true(pio_hex_valid("ab01", 4));
	assert_false(pio_hex_valid("AB01", 4));
	assert_false(pio_hex_valid("ab012", 4));
}

int main(void)
{
	json_set_alloc_funcs(json_alloc, json_free);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_carries_code_errno_and_place),
		cmocka_unit_test(full_disk_has_its_own_code),
		cmocka_unit_test(error_may_quote_its_own_message),
		cmocka_unit_test(every_code_has_a_word),
		cmocka_unit_test(an_array_grows_by_doubling),
		cmocka_unit_test(an_array_that_cannot_grow_stays),
		cmocka_unit_test(string_survives_a_failed_append),
		cmocka_unit_test(json_strings_are_escaped),
		cmocka_unit_test(ulid_text_and_bytes_agree),
		cmocka_unit_test(crc32c_has_the_published_value),
		cmocka_unit_test(time_text_is_rfc3339),
		cmocka_unit_test(json_is_strict_and_canonical),
		cmocka_unit_test(json_is_whole_or_refused),
		cmocka_unit_test(json_reals_are_shortest),
		cmocka_unit_test(hex_is_lower_case),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
