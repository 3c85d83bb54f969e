/* What pioche adds to SQL besides the table point. */
#include "store_fixture.h"

static void run_sql(pio_store *store, const char *sql)
{
	if (sqlite3_exec(pio_store_db(store), sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
}

static void check_sql_fails(pio_store *store, const char *sql, const char *message)
{
	assert_int_not_equal(sqlite3_exec(pio_store_db(store), sql, NULL, NULL, NULL), SQLITE_OK);
	assert_string_equal(sqlite3_errmsg(pio_store_db(store)), message);
}

static void check_text(pio_store *store, const char *sql, const char *expected)
{
	assert_string_equal(sql_text(store, sql), expected);
}

/* 20,000 points of loss, of rank 1 with a NaN and an infinity, and a second attempt. */
static fixture long_series(void)
{
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_key(w, 1, 1, "loss");
	for (int i = 0; i < 20000; i++) {
		put_point(w, 0, 1, i, (double)((i * 7919) % 1000));
		put_point(w, 1, 1, i, i == 77 ? (double)NAN : i == 5000 ? (double)INFINITY : i);
	}
	journal_down(w);
	fold(&f, true);
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	w = journal_up(&f, 2);
	put_key(w, 0, 1, "loss");
	for (int i = 15000; i < 16000; i++)
		put_point(w, 0, 1, i, -5);
	journal_down(w);
	fold(&f, true);
	return f;
}

static void buckets_are_what_the_points_say(void **unused)
{
	(void)unused;
	fixture f = long_series();
	static const struct { int rank, buckets; } cases[] = { { 0, 1 }, { 0, 7 }, { 0, 300 }, { 1, 1 }, { 1, 64 } };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char sql[1024];
		/* Of finite values, as charts show them; all points are in some bucket. */
		snprintf(sql, sizeof sql, "SELECT min(b.count = p.n AND b.min = p.low AND b.max = p.high AND"
		         " abs(b.mean - p.mean) <= 1e-9 * abs(p.mean)) AND sum(p.n) = (SELECT count(*) FROM point WHERE"
		         " rank = %d) FROM series_lod('gpt-1', 'loss', %d, %d) b JOIN (SELECT l.first_step, count(*) n,"
		         " min(v) low, max(v) high, avg(v) mean FROM (SELECT step, nullif(value, 9e999) v FROM point"
		         " WHERE rank = %d) p JOIN series_lod('gpt-1', 'loss', %d, %d) l ON p.step BETWEEN"
		         " l.first_step AND l.last_step GROUP BY 1) p ON p.first_step = b.first_step", cases[i].rank,
		         cases[i].buckets, cases[i].rank, cases[i].rank, cases[i].buckets, cases[i].rank);
		assert_int_equal(sql_int(f.store, sql), 1);
	}
	check_text(f.store, "SELECT run || key || buckets || rank FROM series_lod('gpt-1', 'loss', 3) LIMIT 1",
	           "gpt-1loss30");
	store_down(&f);
}

static void buckets_join_with_tables(void **unused)
{
	(void)unused;
	fixture f = long_series();
	check_text(f.store, "SELECT group_concat(s.rank || ' ' || l.count, ', ') FROM series s JOIN series_lod("
	           "'gpt-1', s.key, 1, s.rank) l", "0 16000, 1 20000");
	check_text(f.store, "SELECT group_concat(l.count) FROM (SELECT 'gpt-1' AS run UNION SELECT 'gpt-9') r,"
	           " series_lod(r.run, 'loss', 2) l", "8000,8000");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM series_lod('gpt-1', 'none', 3)"), 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM series_lod(NULL, NULL, 3)"), 0);
	store_down(&f);
}

static void wrong_arguments_are_named(void **unused)
{
	(void)unused;
	fixture f = long_series();
	static const struct { const char *sql, *message; } cases[] = {
		{ "SELECT * FROM series_lod('gpt-1')",
		  "series_lod: key is missing, expected series_lod(run, key, buckets [, rank])" },
		{ "SELECT * FROM series_lod('gpt-1', 'loss', 0)",
		  "series_lod: buckets is 0, expected an integer from 1 to 10000000" },
		{ "SELECT * FROM series_lod('gpt-1', 'loss', 'many')",
		  "series_lod: buckets is many, expected an integer from 1 to 10000000" },
		{ "SELECT * FROM series_lod('gpt-1', 'loss', 5, NULL)",
		  "series_lod: rank is NULL, expected an integer from 0 to 2147483647" },
		{ "SELECT area_under('a', 1)", "area_under: x is text, expected a number" },
		{ "SELECT area_under(1, x'00')", "area_under: y is a blob, expected a number" },
		{ "SELECT quantile('a', 0.5)", "quantile: value is text, expected a number" },
		{ "SELECT quantile(1, 1.5)", "quantile: q is 1.5, expected a number from 0 to 1" },
		{ "SELECT quantile(1, NULL)", "quantile: q is NULL, expected a number from 0 to 1" },
		{ "SELECT quantile(1, step / 20000.0) FROM point",
		  "quantile: q is 5.0e-05, expected one number from 0 to 1 in all rows" },
		{ "SELECT smooth(1, 1)", "smooth: alpha is 1, expected a number of at least 0 and less than 1" },
		{ "SELECT smooth(1, 'a')", "smooth: alpha is text, expected a number" },
		{ "SELECT smooth(x'00', 0.5)", "smooth: value is a blob, expected a number" },
		{ "SELECT smooth(value, 0.5) OVER (ROWS 3 PRECEDING) FROM point",
		  "smooth: the window must begin at UNBOUNDED PRECEDING" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check_sql_fails(f.store, cases[i].sql, cases[i].message);
	store_down(&f);
}

static void area_is_that_of_trapezoids(void **unused)
{
	(void)unused;
	fixture f = store_up();
	run_sql(f.store, "CREATE TEMP TABLE t (x, y)");
	assert_int_equal(sql_int(f.store, "SELECT area_under(x, y) IS NULL FROM t"), 1);
	run_sql(f.store, "INSERT INTO t VALUES (4, 10), (0, 2), (1, 4)"); /* not by x */
	check_text(f.store, "SELECT area_under(x, y) FROM t", "24.0");
	run_sql(f.store, "INSERT INTO t VALUES (2, NULL), (NULL, 5), (1, 6)"); /* left out; a jump at 1 */
	check_text(f.store, "SELECT area_under(x, y) FROM t", "27.0");
	check_text(f.store, "SELECT area_under(x, y) FROM t WHERE x = 4", "0.0");
	check_text(f.store, "WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000)"
	           " SELECT area_under(x, 0.1) FROM n", "100000.0");
	store_down(&f);
}

static void quantiles_are_of_type_7(void **unused)
{
	(void)unused;
	fixture f = store_up();
	run_sql(f.store, "CREATE TEMP TABLE t (v)");
	assert_int_equal(sql_int(f.store, "SELECT quantile(v, 0.5) IS NULL FROM t"), 1);
	run_sql(f.store, "INSERT INTO t VALUES (15), (20), (NULL), (50), (35), (40)");
	check_text(f.store, "SELECT quantile(v, 0) || ' ' || quantile(v, 0.05) || ' ' || quantile(v, 0.3) || ' ' ||"
	           " quantile(v, 0.4) || ' ' || quantile(v, 0.5) || ' ' || quantile(v, 1.0) FROM t",
	           "15.0 16.0 23.0 29.0 35.0 50.0");
	run_sql(f.store, "UPDATE t SET v = 9e999 WHERE v = 50");
	check_text(f.store, "SELECT quantile(v, 0.75) || ' ' || quantile(v, 0.8) || ' ' || quantile(v, 1) FROM t",
	           "40.0 Inf Inf");
	store_down(&f);
}

/* m = alpha m + (1 - alpha) x, shown as m / (1 - alpha^n). */
static void smooth_is_the_average_of_adam(void **unused)
{
	(void)unused;
	fixture f = store_up();
	run_sql(f.store, "CREATE TEMP TABLE t (step INTEGER PRIMARY KEY, v)");
	double m = 0, power = 1, alpha = 0.9, expected[30];
	uint64_t state = 88172645463325252u;
	for (int i = 0; i < 30; i++) {
		char sql[128];
		double x = (double)(next_random(&state) % 1000) * 0.25;
		snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, %.17g)", i, x);
		run_sql(f.store, sql);
		m = alpha * m + (1 - alpha) * x;
		power *= alpha;
		expected[i] = m / (1 - power);
	}
	sqlite3_stmt *row;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f.store), "SELECT smooth(v, 0.9) OVER (ORDER BY step) FROM t",
	                                    -1, &row, NULL), SQLITE_OK);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(sqlite3_step(row), SQLITE_ROW);
		double shown = sqlite3_column_double(row, 0);
		assert_true(fabs(shown - expected[i]) <= 1e-12 * fabs(expected[i]));
	}
	sqlite3_finalize(row);
	check_text(f.store, "SELECT group_concat(s) FROM (SELECT smooth(v, 0.5) OVER (ORDER BY n) s FROM (SELECT 1 n,"
	           " NULL v UNION SELECT 2, 3 UNION SELECT 3, NULL UNION SELECT 4, 9e999 UNION SELECT 5, 9))",
	           "3.0,3.0,3.0,7.0");
	check_text(f.store, "SELECT group_concat(s) FROM (SELECT smooth(n, 0) OVER (ORDER BY n) s FROM (SELECT 1 n"
	           " UNION SELECT 2 UNION SELECT 3))", "1.0,2.0,3.0");
	store_down(&f);
}

/* Each allocation fails once: an error or the right answer, and nothing leaks. */
static void memory_that_is_out_is_an_error(void **unused)
{
	(void)unused;
	static const char *const queries[] = {
		"SELECT sum(step) FROM point WHERE run IN ('gpt-1', 'gpt-2') AND key GLOB 'l*' AND rank = 0",
		"SELECT sum(count) FROM series_lod('gpt-1', 'loss', 50)",
		"SELECT area_under(step, value) + quantile(value, 0.5) FROM point WHERE step < 600",
	};
	fixture f = long_series();
	for (size_t q = 0; q < sizeof queries / sizeof *queries; q++) {
		pio_store_close(&f.store);
		check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_READ, &err));
		char right[64];
		snprintf(right, sizeof right, "%s", sql_text(f.store, queries[q]));
		bool failed = true;
		for (uint64_t n = 1; failed; n++) {
			pio_store_close(&f.store);
			int64_t live = pio_mem_live();
			check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_READ, &err));
			sqlite3_stmt *row;
			pio_mem_fail_at(n);
			int rc = sqlite3_prepare_v2(pio_store_db(f.store), queries[q], -1, &row, NULL);
			rc = rc == SQLITE_OK ? sqlite3_step(row) : rc;
			failed = rc != SQLITE_ROW;
			if (!failed)
				assert_string_equal((const char *)sqlite3_column_text(row, 0), right);
			pio_mem_fail_at(0);
			sqlite3_finalize(row);
			pio_store_close(&f.store);
			assert_int_equal(pio_mem_live(), live);
			check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_READ, &err));
			assert_true(n < 1000);
		}
	}
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_are_what_the_points_say),
		cmocka_unit_test(buckets_join_with_tables),
		cmocka_unit_test(wrong_arguments_are_named),
		cmocka_unit_test(area_is_that_of_trapezoids),
		cmocka_unit_test(quantiles_are_of_type_7),
		cmocka_unit_test(smooth_is_the_average_of_adam),
		cmocka_unit_test(memory_that_is_out_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
