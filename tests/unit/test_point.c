#include "store_fixture.h"

static fixture two_runs(void)
{
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_key(w, 1, 1, "loss");
	put_key(w, 0, 2, "lr");
	for (int i = 0; i < 6000; i++) {
		put_point(w, 0, 1, i, i * 0.5);
		put_point(w, 1, 1, i, i * 0.25);
		if (i < 10)
			put_point(w, 0, 2, i, 0.125);
	}
	put_bits(w, 0, 2, 10, 0, 0x7ff8000000000042u);
	journal_down(w);
	fold(&f, true);
	int64_t run, first = f.attempt;
	pio_store_run_spec spec = { .experiment_id = 1 };
	check_ok(pio_store_run_create(&run, f.store, &spec, &err));
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	w = journal_up(&f, 2);
	put_key(w, 0, 1, "loss");
	for (int i = 3000; i < 3100; i++)
		put_point(w, 0, 1, i, -1);
	journal_down(w);
	fold(&f, true);
	f.attempt = first;
	return f;
}

static void rows_are_what_reads_show(void **unused)
{
	(void)unused;
	fixture f = two_runs();
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point"), 3100 + 6000 + 11);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point WHERE run = 'gpt-1' AND key = 'loss'"
	                         " AND rank = 0"), 3100);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point WHERE run = 'gpt-1' AND key = 'loss'"
	                         " AND rank = 0 AND attempt = 1"), 6000);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point WHERE run = 'gpt-2'"), 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point WHERE run IN ('gpt', 'gpt-x', '', NULL,"
	                         " '-1', 'gpt-01', 'gpt-99999999999999999999')"), 0);
	assert_int_equal(sql_int(f.store, "SELECT sum(step) FROM point WHERE key = 'lr' AND step >= 3 AND"
	                         " step < 6"), 12);
	assert_int_equal(sql_int(f.store, "SELECT sum(step) FROM point WHERE key = 'lr' AND step BETWEEN 8.5"
	                         " AND 9"), 9);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point WHERE step = 5"), 3);
	assert_int_equal(sql_int(f.store, "SELECT value = 0.125 FROM point WHERE key = 'lr' AND step = 4"), 1);
	assert_int_equal(sql_int(f.store, "SELECT value IS NULL AND bits = 0x7ff8000000000042 FROM point WHERE"
	                         " key = 'lr' AND step = 10"), 1);
	store_down(&f);
}

static void order_by_step_needs_no_sorting(void **unused)
{
	(void)unused;
	fixture f = two_runs();
	sqlite3_stmt *row;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f.store), "EXPLAIN QUERY PLAN SELECT value FROM point"
	                                    " WHERE run = 'gpt-1' AND key = 'loss' AND rank = 1 ORDER BY step",
	                                    -1, &row, NULL), SQLITE_OK);
	int lines = 0;
	while (sqlite3_step(row) == SQLITE_ROW)
		lines++;
	sqlite3_finalize(row);
	assert_int_equal(lines, 1); /* the scan alone, no temporary B-tree */
	assert_int_equal(sql_int(f.store, "SELECT step FROM point WHERE run = 'gpt-1' AND key = 'loss' AND"
	                         " rank = 1 ORDER BY step DESC LIMIT 1"), 5999);
	store_down(&f);
}

static void tables_join_with_points(void **unused)
{
	(void)unused;
	fixture f = two_runs();
	assert_int_equal(sql_int(f.store, "SELECT sum(a.value = 2 * b.value) FROM point a JOIN point b ON"
	                         " a.step = b.step AND b.rank = 1 AND b.key = 'loss' WHERE a.rank = 0 AND"
	                         " a.key = 'loss' AND a.run = 'gpt-1' AND b.run = 'gpt-1' AND a.step < 100"), 100);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM series s JOIN point p ON p.key = s.key AND"
	                         " p.rank = s.rank AND p.step = s.last_step WHERE p.run = 'gpt-1'"), 3);
	store_down(&f);
}

static void a_damaged_chunk_is_an_error_not_a_row(void **unused)
{
	(void)unused;
	fixture f = two_runs();
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), "UPDATE chunk SET data = zeroblob(50) WHERE id = 1",
	                              NULL, NULL, NULL), SQLITE_OK);
	assert_int_not_equal(sqlite3_exec(pio_store_db(f.store), "SELECT sum(value) FROM point", NULL, NULL,
	                                  NULL), SQLITE_OK);
	assert_non_null(strstr(sqlite3_errmsg(pio_store_db(f.store)), "chunk"));
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_what_reads_show),
		cmocka_unit_test(order_by_step_needs_no_sorting),
		cmocka_unit_test(tables_join_with_points),
		cmocka_unit_test(a_damaged_chunk_is_an_error_not_a_row),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
