/* What a query gave, asked for later. */
#include "base/mem.h"
#include "store/columns.h"
#include "store_fixture.h"

#define ROWS 300

/* Of row n: n, n / 4, a text that grows, a blob with NULs, now and then NULL. */
static sqlite3_stmt *query(pio_store *store)
{
	static const char sql[] = "WITH RECURSIVE t(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM t WHERE n < 299)"
	                          " SELECT n * 30744573456182586 - 4611686018427387904, n / 4.0,"
	                          " substr('abcdefghij', 1, n % 11), x'00ff00', iif(n % 3 = 0, NULL, n) FROM t";
	sqlite3_stmt *statement = NULL;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(store), sql, -1, &statement, NULL), SQLITE_OK);
	return statement;
}

static int read_all(pio_columns **columns, sqlite3_stmt *statement)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_columns_new(columns, sqlite3_column_count(statement), &err);
	while (!rc && sqlite3_step(statement) == SQLITE_ROW)
		rc = pio_columns_add(*columns, statement, &err);
	sqlite3_reset(statement);
	return rc;
}

static void check_rows(const pio_columns *columns, size_t rows)
{
	assert_int_equal(pio_columns_rows(columns), rows);
	for (size_t n = 0; n < rows; n++) {
		pio_column_value whole = pio_columns_get(columns, n, 0), real = pio_columns_get(columns, n, 1),
		                 text = pio_columns_get(columns, n, 2), blob = pio_columns_get(columns, n, 3),
		                 some = pio_columns_get(columns, n, 4);
		assert_int_equal(whole.type, SQLITE_INTEGER);
		assert_true(whole.whole == (int64_t)n * 30744573456182586 - 4611686018427387904);
		assert_true(real.type == SQLITE_FLOAT && real.real == (double)n / 4);
		assert_true(text.type == SQLITE_TEXT && text.bytes == n % 11);
		assert_memory_equal(text.text, "abcdefghij", text.bytes);
		assert_true(blob.type == SQLITE_TEXT && blob.bytes == 3);
		assert_memory_equal(blob.text, "\0\377\0", 3);
		assert_int_equal(some.type, n % 3 ? SQLITE_INTEGER : SQLITE_NULL);
		assert_int_equal(some.whole, n % 3 ? n : 0);
	}
}

static void values_are_those_of_the_rows(void **unused)
{
	(void)unused;
	fixture f = store_up();
	sqlite3_stmt *statement = query(f.store);
	pio_columns *columns = NULL;
	check_ok(read_all(&columns, statement));
	check_rows(columns, ROWS);
	pio_columns_free(columns);
	pio_columns_free(NULL);
	sqlite3_finalize(statement);
	store_down(&f);
}

static void without_memory_the_rows_before_are_whole(void **unused)
{
	(void)unused;
	fixture f = store_up();
	sqlite3_stmt *statement = query(f.store);
	int rc = -PIO_ENOMEM;
	for (uint64_t nth = 1; rc; nth++) {
		int64_t live = pio_mem_live();
		pio_columns *columns = NULL;
		pio_mem_fail_at(nth);
		rc = read_all(&columns, statement);
		pio_mem_fail_at(0);
		assert_true(!rc || rc == -PIO_ENOMEM);
		if (columns)
			check_rows(columns, pio_columns_rows(columns));
		pio_columns_free(columns);
		assert_int_equal(pio_mem_live(), live);
	}
	sqlite3_finalize(statement);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_those_of_the_rows),
		cmocka_unit_test(without_memory_the_rows_before_are_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
