/* What SQL is given for queries and for JSON: run_set and json_members. */
#include "store_fixture.h"

static int up(void **state)
{
	fixture *f = calloc(1, sizeof *f);
	if (!f)
		return -1;
	f->dir = scratch_new();
	check_ok(pio_store_open(&f->store, path_in(f->dir, "s"), PIO_STORE_CREATE, &err));
	*state = f;
	return 0;
}

static int down(void **state)
{
	fixture *f = *state;
	pio_store_close(&f->store);
	scratch_remove(f->dir);
	free(f);
	return 0;
}

static void sets_hold_ids_and_are_joined(void **state)
{
	fixture *f = *state;
	static const struct { const char *sql, *text; } known[] = {
		{ "run_set_ids(a, -1)", "70000 9 8 7 0" },
		{ "run_set_ids(a, 2)", "70000 9" },
		{ "run_set_ids(b, -1)", "9 1" },
		{ "run_set_ids(run_set_and(a, b), -1)", "9" },
		{ "run_set_ids(run_set_or(a, b), -1)", "70000 9 8 7 1 0" },
		{ "run_set_ids(run_set_or(b, a), -1)", "70000 9 8 7 1 0" },
		{ "run_set_ids(run_set_minus(a, b), -1)", "70000 8 7 0" },
		{ "run_set_ids(run_set_minus(b, a), -1)", "1" },
		{ "run_set_ids(NULL, -1)", "" },
		{ "run_set_ids(run_set_or(NULL, b), -1)", "9 1" },
		{ "run_set_count(run_set_or(a, b))", "6" },
		{ "run_set_has(a, 70000) || run_set_has(a, 70001) || run_set_has(a, -1)"
		  " || run_set_has(a, 1 << 62) || run_set_has(NULL, 0)", "10000" },
		{ "(SELECT run_set_count(run_set(value)) FROM json_each('[]'))", "0" },
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		char sql[512];
		snprintf(sql, sizeof sql, "SELECT %s FROM (SELECT run_set(value) AS a FROM"
		         " json_each('[9, 0, 7, 8, 8, 70000]')), (SELECT run_set(value) AS b FROM"
		         " json_each('[1, 9]'))", known[i].sql);
		assert_string_equal(sql_text(f->store, sql), known[i].text);
	}
}

static void ids_that_cannot_be_are_refused(void **state)
{
	fixture *f = *state;
	static const char *const wrong[] = { "SELECT run_set(-1)", "SELECT run_set(4294967297)" };
	for (size_t i = 0; i < 2; i++) {
		sqlite3_stmt *row = NULL;
		assert_int_equal(sqlite3_prepare_v2(pio_store_db(f->store), wrong[i], -1, &row, NULL), SQLITE_OK);
		assert_int_equal(sqlite3_step(row), SQLITE_ERROR);
		assert_non_null(strstr(sqlite3_errmsg(pio_store_db(f->store)), "between 0 and 2^32"));
		sqlite3_finalize(row);
	}
}

static void members_are_json(void **state)
{
	fixture *f = *state;
	assert_string_equal(sql_text(f->store, "SELECT json_members(column1, column2, column3, column4) FROM"
	                             " (VALUES ('a', 1, 'int', NULL), ('b\"\n', 0.1, 'real', NULL),"
	                             " ('c', 'x', 'text', NULL), ('d', 1, 'bool', NULL),"
	                             " ('e', '[1,{}]', 'json', NULL), ('f', NULL, 'real', 9221120237041090560),"
	                             " ('g', 0.0, 'real', -9223372036854775808), ('h', 9e999, 'real', NULL),"
	                             " ('i', NULL, NULL, NULL), ('j', -9223372036854775808, 'int', NULL),"
	                             " ('k', CAST(X'ff41' AS TEXT), 'text', NULL))"),
	                    "{\"a\":1,\"b\\\"\\n\":0.1,\"c\":\"x\",\"d\":true,\"e\":[1,{}],\"f\":\"NaN\",\"g\":-0.0,"
	                    "\"h\":\"Infinity\",\"i\":null,\"j\":-9223372036854775808,\"k\":\"\xef\xbf\xbd" "A\"}");
	assert_string_equal(sql_text(f->store, "SELECT json_members(1, 2, 'int', NULL) FROM run"), "{}");
}

static void a_series_is_an_object(void **state)
{
	fixture *f = *state;
	assert_string_equal(sql_text(f->store, "SELECT json_series('k', 3, 1, 9, 0.5, NULL, NULL, 0.25, 2.0,"
	                             " 3.0, 0.0, 3)"),
	                    "{\"k\":{\"count\":3,\"first_step\":1,\"last\":0.5,\"last_step\":9,\"max\":2.0,"
	                    "\"mean\":1.0,\"min\":0.25}}");
	assert_string_equal(sql_text(f->store, "SELECT json_series('k', 1, 1, 1, 9007199254740992.0,"
	                             " 9007199254740993, NULL, NULL, NULL, NULL, NULL, 0)"),
	                    "{\"k\":{\"count\":1,\"first_step\":1,\"last\":9007199254740993,\"last_step\":1,"
	                    "\"max\":null,\"mean\":null,\"min\":null}}");
}

static void lack_of_memory_is_an_error(void **state)
{
	fixture *f = *state;
	static const char *const queries[] = {
		"SELECT run_set_ids(run_set_or(run_set(value), run_set(value)), -1) FROM json_each('[1, 70000]')",
		"SELECT json_series(value, 1, 1, 1, 0.1, NULL, NULL, 1, 1, 1, 1, 1) FROM json_each('[1, 70000]')",
		"SELECT json_members(value, 'text', 'text', NULL) FROM json_each('[1, 70000]')",
	};
	for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
		sqlite3_stmt *row = NULL;
		assert_int_equal(sqlite3_prepare_v2(pio_store_db(f->store), queries[i], -1, &row, NULL), SQLITE_OK);
		int64_t live = pio_mem_live();
		int code = SQLITE_ERROR;
		for (uint64_t nth = 1; code != SQLITE_ROW && nth < 100; nth++) {
			pio_mem_fail_at(nth);
			code = sqlite3_step(row);
			pio_mem_fail_at(0);
			assert_true(code == SQLITE_ROW || code == SQLITE_NOMEM);
			sqlite3_reset(row);
			assert_int_equal(pio_mem_live(), live);
		}
		assert_int_equal(code, SQLITE_ROW);
		sqlite3_finalize(row);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sets_hold_ids_and_are_joined, up, down),
		cmocka_unit_test_setup_teardown(ids_that_cannot_be_are_refused, up, down),
		cmocka_unit_test_setup_teardown(members_are_json, up, down),
		cmocka_unit_test_setup_teardown(a_series_is_an_object, up, down),
		cmocka_unit_test_setup_teardown(lack_of_memory_is_an_error, up, down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
