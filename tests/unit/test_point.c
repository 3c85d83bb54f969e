#include "store_fixture.h"

#include "store/reader.h"

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

/* The lines of a query's plan, joined by " | ". */
static const char *plan_of(pio_store *store, const char *sql)
{
	static char text[1024];
	char *query = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
	sqlite3_stmt *row;
	if (sqlite3_prepare_v2(pio_store_db(store), query, -1, &row, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	size_t used = 0;
	text[0] = 0;
	while (sqlite3_step(row) == SQLITE_ROW)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? " | " : "",
		                         (const char *)sqlite3_column_text(row, 3));
	sqlite3_finalize(row);
	sqlite3_free(query);
	return text;
}

static void plans_say_what_is_pushed_down(void **unused)
{
	(void)unused;
	static const struct { const char *where, *plan; } cases[] = {
		{ "", "0:" },
		{ "WHERE run = 'gpt-1'", "0:run =" },
		{ "WHERE run IN ('gpt-1', 'gpt-2') AND key GLOB 'l*'", "0:run IN, key GLOB" },
		{ "WHERE run LIKE 'GPT-%' AND key LIKE 'l_ss'", "0:run LIKE, key LIKE" },
		{ "WHERE key IN ('loss', 'lr') AND rank IN (0, 1)", "0:key IN, rank IN" },
		{ "WHERE run GLOB 'gpt-*' AND rank = 0 AND attempt = 1", "0:run GLOB, rank =, attempt =" },
		{ "WHERE step > 5 AND step <= 7", "0:step >, step <=" },
		{ "WHERE step BETWEEN 5 AND 7 AND step < 6 AND step = 5", "0:step =, step >=, step <=, step <" },
		{ "WHERE value > 0 AND time_ns > 0", "0:" },
		{ "WHERE key = 'LOSS' COLLATE NOCASE", "0:" },
		{ "WHERE run = 'gpt-1' AND key = 'loss' AND rank = 1 ORDER BY step",
		  "0:run =, key =, rank =, by step" },
		{ "WHERE run = 'gpt-1' AND key = 'loss' AND rank = 1 ORDER BY rank, step DESC",
		  "2:run =, key =, rank =, by step DESC" },
		{ "WHERE rank = 0 ORDER BY run, key, step", "1:rank =, by run, key, rank, step" },
		{ "ORDER BY run, key, rank, step", "1:by run, key, rank, step" },
		{ "WHERE run = 'gpt-1' AND key IN ('loss', 'lr') ORDER BY key, rank",
		  "0:run =, key IN, by step" },
	};
	fixture f = two_runs();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char sql[256], plan[128];
		snprintf(sql, sizeof sql, "SELECT value FROM point %s", cases[i].where);
		snprintf(plan, sizeof plan, "SCAN point VIRTUAL TABLE INDEX %s", cases[i].plan);
		assert_string_equal(plan_of(f.store, sql), plan); /* alone: nothing is sorted */
	}
	static const char *const sorted[] = {
		"WHERE run = 'gpt-1' AND key = 'loss' ORDER BY step", "ORDER BY step",
		"WHERE run IN ('gpt-2', 'gpt-1') AND key = 'loss' AND rank = 0 ORDER BY step",
		"WHERE run = 'gpt-1' AND key = 'loss' AND rank = 0 ORDER BY value",
		"ORDER BY run DESC", "ORDER BY run, key, rank, step, time_ns",
	};
	for (size_t i = 0; i < sizeof sorted / sizeof *sorted; i++) {
		char sql[256];
		snprintf(sql, sizeof sql, "SELECT value FROM point %s", sorted[i]);
		assert_non_null(strstr(plan_of(f.store, sql), "USE TEMP B-TREE FOR ORDER BY"));
	}
	store_down(&f);
}

/* Each condition chooses the same rows as when SQLite looks at every point. */
static void pushing_down_changes_no_answer(void **unused)
{
	(void)unused;
	static const char *const conditions[] = {
		"run = 'gpt-1'", "run IN ('gpt-1', 'gpt-2', 'gpt-x')", "run IN ('gpt-1', 'gpt-1')", "run IN ()",
		"run GLOB '*-1'", "run LIKE 'GPT%'", "key = 'loss'", "key IN ('lr', NULL)", "key GLOB 'l[o]*'",
		"key LIKE 'L%'", "key = 'LOSS' COLLATE NOCASE", "key = 5", "rank = '1'", "rank IN (1, 7)",
		"rank = 1.5", "rank = 0 AND rank = 1", "key = 'lr' AND key GLOB 'x*'", "run = x'6770742d31'",
		"run = 1", "run = NULL", "key IN (SELECT key FROM series)", "step = 7", "step IN (5, 5, 9)",
		"step < 3", "step <= 3", "step > 5997", "step >= 5997", "step = 3.0", "step = 3.5", "step > 5997.5",
		"step >= 5996.5 AND step < 5998.5", "step < -1e30", "step < 1e30", "step > 1e30", "step > '5997'",
		"step > 9223372036854775807", "step < -9223372036854775807 - 1", "step = NULL", "attempt = 1",
		"attempt IN (2)", "attempt = 0", "attempt = 1 AND step > 3050", "value < 0",
		"run = 'gpt-1' AND key IN ('loss', 'lr') AND rank IN (0, 1) AND step BETWEEN 2990 AND 3010",
		"run IN (SELECT e.name || '-' || r.number FROM run r JOIN experiment e ON e.id = r.experiment_id)",
	};
	fixture f = two_runs();
	for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++) {
		char sql[2048];
		bool one_attempt = strncmp(conditions[i], "attempt", 7) == 0;
		snprintf(sql, sizeof sql, "WITH every AS MATERIALIZED (SELECT * FROM point%s) SELECT (SELECT"
		         " count(*) || ' ' || ifnull(sum(step * (rank + 1)), 0) FROM point WHERE %s) = (SELECT"
		         " count(*) || ' ' || ifnull(sum(step * (rank + 1)), 0) FROM every WHERE %s)",
		         one_attempt ? " WHERE attempt = 1 UNION ALL SELECT * FROM point WHERE attempt = 2" : "",
		         conditions[i], conditions[i]);
		if (sql_int(f.store, sql) != 1)
			fail_msg("%s", conditions[i]);
	}
	store_down(&f);
}

static void rows_come_in_the_order_asked_for(void **unused)
{
	(void)unused;
	static const char *const orders[] = {
		"run, key, rank, step", "run, key, rank, step DESC", "run", "run, key",
	};
	fixture f = two_runs();
	pio_store_run_spec spec = { .experiment_id = 1 };
	for (int i = 0; i < 9; i++) /* gpt-11 comes before gpt-3, as texts do */
		check_ok(pio_store_run_create(&f.run, f.store, &spec, &err));
	static const char *const more =
		"INSERT INTO series (run_id, key, rank, count, first_step, last_step) SELECT id, 'loss', 0, 1, 5, 5"
		" FROM run WHERE number IN (3, 11); INSERT INTO chunk (series_id, attempt, count, first_step,"
		" last_step, first_ns, last_ns, finite, nans, data) SELECT s.id, 1, 10, 5, 5, 0, 0, 1, 0, c.data"
		" FROM series s, chunk c WHERE s.run_id > 2 AND c.id = 3";
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), more, NULL, NULL, NULL), SQLITE_OK);
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
		char sql[1024];
		snprintf(sql, sizeof sql, "WITH a AS (SELECT row_number() OVER () AS n, * FROM (SELECT * FROM point"
		         " ORDER BY %s)), b AS (SELECT row_number() OVER (ORDER BY %s) AS n, * FROM point) SELECT"
		         " min(a.run = b.run AND a.key = b.key) FROM a JOIN b ON a.n = b.n", orders[i], orders[i]);
		assert_int_equal(sql_int(f.store, sql), 1);
	}
	assert_int_equal(sql_int(f.store, "SELECT min(step <= before) FROM (SELECT step, lag(step, 1, 1e9) OVER () AS"
	                         " before FROM (SELECT step FROM point WHERE run = 'gpt-1' AND key = 'loss' AND"
	                         " rank = 1 ORDER BY step DESC))"), 1);
	assert_int_equal(sql_int(f.store, "SELECT step FROM point WHERE run = 'gpt-1' AND key = 'loss' AND"
	                         " rank = 1 ORDER BY step DESC LIMIT 1"), 5999);
	store_down(&f);
}

static int64_t chunks_read_by(const fixture *f, const char *sql)
{
	int64_t before = pio_reader_chunks_read();
	sql_int(f->store, sql);
	return pio_reader_chunks_read() - before;
}

static void reads_touch_only_the_chunks_they_need(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_key(w, 1, 1, "loss");
	for (int i = 0; i < 10 * 4096; i++) {
		put_point(w, 0, 1, i, i);
		put_point(w, 1, 1, i, i);
	}
	journal_down(w);
	fold(&f, true);
#define OF_ONE " FROM point WHERE run = 'gpt-1' AND key = 'loss' AND rank = 0"
	assert_int_equal(chunks_read_by(&f, "SELECT count(*) FROM point"), 20);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*)" OF_ONE), 10);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*)" OF_ONE " AND step BETWEEN 4096 AND 8191"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*)" OF_ONE " AND step > 4095 AND step < 8192"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*)" OF_ONE " AND step > 4095.5 AND step < 8191.5"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*)" OF_ONE " AND step BETWEEN 4095 AND 4096"), 2);
	assert_int_equal(chunks_read_by(&f, "SELECT value" OF_ONE " AND step = 30000"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT value" OF_ONE " ORDER BY step LIMIT 1"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT value" OF_ONE " ORDER BY step DESC LIMIT 1"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*) FROM point WHERE step > 50000"), 0);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*) FROM point WHERE run = 'gpt-7'"), 0);
	assert_int_equal(chunks_read_by(&f, "SELECT value FROM series s JOIN point p ON p.run = 'gpt-1' AND"
	                                " p.key = s.key AND p.rank = s.rank AND p.step = s.last_step"), 1);
	assert_int_equal(chunks_read_by(&f, "SELECT count(*) FROM series_lod('gpt-1', 'loss', 10)"), 0);
	store_down(&f);
}

static void integers_and_nans_keep_their_types(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "n");
	put_bits(w, 0, 1 | PIO_POINT_INTEGER, 1, 0, (uint64_t)INT64_MAX);
	put_bits(w, 0, 1, 2, 0, bits_of(1.0));
	put_bits(w, 0, 1, 3, 0, 0xfff0000000000001u);
	put_bits(w, 0, 1, 4, 0, bits_of(-0.0));
	journal_down(w);
	fold(&f, true);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(typeof(value) || ' ' || ifnull(value, 'NULL') ||"
	                             " ' ' || typeof(bits) || printf(' %x', bits), ', ') FROM point"),
	                    "integer 9223372036854775807 null 0, real 1.0 integer 3ff0000000000000, "
	                    "null NULL integer fff0000000000001, real 0.0 integer 8000000000000000");
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
		cmocka_unit_test(plans_say_what_is_pushed_down),
		cmocka_unit_test(pushing_down_changes_no_answer),
		cmocka_unit_test(rows_come_in_the_order_asked_for),
		cmocka_unit_test(reads_touch_only_the_chunks_they_need),
		cmocka_unit_test(integers_and_nans_keep_their_types),
		cmocka_unit_test(tables_join_with_points),
		cmocka_unit_test(a_damaged_chunk_is_an_error_not_a_row),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
