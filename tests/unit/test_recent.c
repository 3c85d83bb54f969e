/* Points that are folded and no chunks yet: whoever reads sees them at once. A
 * store whose points wait is compared with one whose points are chunks at once. */
#include "recent_fixture.h"

/* ---- what is where ---------------------------------------------------------------------------- */

static void few_points_of_many_series_wait(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up(&w);
	for (int64_t step = 0; step < 6; step += 2) {
		put_steps(w, step, step + 2);
		assert_int_equal(fold_as(&f, waiting, false).points, 2 * RANKS * KEYS);
	}
	expect(&f, 0, "SELECT count(*) FROM chunk");
	expect(&f, 3 * RANKS, "SELECT count(*) FROM recent"); /* one a rank and fold */
	expect(&f, 6 * RANKS * KEYS, "SELECT count(*) FROM point");
	journal_down(w);
	assert_int_equal(fold_as(&f, waiting, true).points, 0);
	expect(&f, 0, "SELECT count(*) FROM recent");
	expect(&f, 6 * RANKS * KEYS, "SELECT sum(count) FROM chunk");
	expect(&f, RANKS * KEYS, "SELECT count(*) FROM chunk");
	expect(&f, 1, "SELECT done FROM journal");
	store_down(&f);
}

/* Runs of a usual size never wait, and of a large one the first ranks do not;
 * neither does what is enough for a chunk. */
static void what_is_cheap_does_not_wait(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up(&w);
	put_steps(w, 0, 1);
	fold(&f, false);
	expect(&f, 0, "SELECT count(*) FROM recent");
	expect(&f, RANKS * KEYS, "SELECT count(*) FROM series WHERE count = 1");
	log_steps(&f, w, 1, 33);
	expect(&f, 0, "SELECT count(*) FROM recent");
	log_steps(&f, w, 33, 34);
	expect(&f, RANKS, "SELECT count(*) FROM recent");
	/* What comes now has to stand behind what waits. */
	put_steps(w, 34, 100);
	fold(&f, false);
	expect(&f, 33, "SELECT max(count) FROM chunk");
	journal_down(w);
	fold(&f, true);
	expect(&f, RANKS * KEYS, "SELECT count(*) FROM series WHERE count = 100");
	store_down(&f);
}

/* Half a minute after the oldest of them was folded, or when the clock was set
 * back, points become chunks. */
static void waiting_has_an_end(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up_waiting(&w, 1);
	log_steps(&f, w, 1, 2);
	expect(&f, 2 * RANKS, "SELECT count(*) FROM recent");
	write_sql(&f, "UPDATE recent SET folded_ns = folded_ns - 31000000000 WHERE id <= 3");
	log_steps(&f, w, 2, 3);
	expect(&f, 4, "SELECT min(count) + max(count) FROM chunk");
	expect(&f, RANKS, "SELECT count(*) FROM recent");
	write_sql(&f, "UPDATE recent SET folded_ns = folded_ns + 3600000000000");
	fold_as(&f, waiting, false);
	expect(&f, 6, "SELECT min(count) + max(count) FROM chunk");
	expect(&f, 0, "SELECT count(*) FROM recent");
	down(&f, w);
}

static void those_of_an_older_attempt_go_first(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up_waiting(&w, 4);
	int64_t first = f.attempt;
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	pio_journal_writer *w2 = journal_up(&f, 2);
	put_keys(w2);
	put_steps(w2, 2, 3);
	fold_as(&f, waiting, false);
	expect(&f, 2, "SELECT min(attempt) FROM recent");
	expect(&f, 4 * RANKS * KEYS, "SELECT sum(count) FROM chunk WHERE attempt = 1");
	/* A straggler of the older attempt does not wait. */
	put_steps(w, 4, 5);
	int64_t second = f.attempt;
	f.attempt = first;
	fold_as(&f, waiting, false);
	expect(&f, 5 * RANKS * KEYS, "SELECT sum(count) FROM chunk WHERE attempt = 1");
	expect(&f, 2, "SELECT min(attempt) FROM recent");
	expect(&f, 3, "SELECT count(*) FROM point WHERE key = 'k1' AND rank = 0");
	check_ok(pio_store_series_now_show(f.store, &err));
	expect(&f, 302, "SELECT count * 100 + last_step FROM series WHERE key = 'k1' AND rank = 0");
	journal_down(w);
	journal_down(w2);
	f.attempt = second;
	fold_as(&f, waiting, true);
	expect(&f, 3, "SELECT count FROM main.series WHERE key = 'k1' AND rank = 0");
	store_down(&f);
}

/* What a journal said is kept when the journal itself is gone. */
static void a_journal_that_is_gone_takes_nothing_along(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up(&w);
	put_steps(w, 0, 4);
	journal_down(w);
	fold_as(&f, waiting, false);
	expect(&f, RANKS, "SELECT count(*) FROM recent");
	check_ok(pio_fs_unlink(journal_path(&f, 1, 0), &err));
	fold_as(&f, waiting, true);
	expect(&f, 0, "SELECT count(*) FROM recent");
	expect(&f, 4 * RANKS * KEYS, "SELECT sum(count) FROM chunk");
	store_down(&f);
}

/* ---- the same, whatever waits -------------------------------------------------------------------- */

/* Sums of halves are exact, in whatever order they are added. */
static uint64_t odd_value(uint64_t *state, uint32_t *integer)
{
	static const uint64_t odd[] = { 0x7ff8000000000123u, 0xfff0000000000000u, 0x7ff0000000000000u,
	                                0x8000000000000000u, 0x3ff8000000000000u, 0xfff8000000000001u };
	uint64_t kind = next_random(state) % 16;
	*integer = kind == 0 ? PIO_POINT_INTEGER : 0;
	if (kind == 0)
		return next_random(state) % 1000;
	return kind < 4 ? odd[next_random(state) % 6] : bits_of((double)(next_random(state) % 2000) * 0.5);
}

static void put_odd(twin *t, uint64_t *state, int points)
{
	for (int i = 0; i < points; i++) {
		uint32_t integer, rank = (uint32_t)(next_random(state) % RANKS);
		uint32_t key = 1 + (uint32_t)(next_random(state) % KEYS);
		uint64_t bits = odd_value(state, &integer);
		t->step += (int64_t)(next_random(state) % 3);
		int64_t step = next_random(state) % 10 ? t->step : t->step - (int64_t)(next_random(state) % 12);
		for (int k = 0; k < 2; k++)
			put_bits(t->writers[k], rank, key | integer, step, 1000 * t->step + 1000 * i, bits);
	}
	for (int k = 0; k < 2; k++)
		check_ok(pio_journal_flush(t->writers[k], 0, &err));
}

static void a_story(uint64_t state)
{
	twin t = { .at_once = store_up_run(), .waiting = store_up_run() };
	int attempt = 1;
	begin_attempt(&t, attempt);
	for (int i = 0; i < 25; i++) {
		uint64_t what = next_random(&state) % 12;
		if (what == 0 && attempt < 4) { /* a restart from an earlier step, maybe before all */
			fold_as(&t.at_once, at_once, next_random(&state) % 2);
			fold_as(&t.waiting, waiting, next_random(&state) % 2);
			begin_attempt(&t, ++attempt);
			t.step -= (int64_t)(next_random(&state) % 60);
		} else if (what == 1) {
			age(&t.waiting);
		} else if (what == 2) {
			store_reopen(&t.waiting);
		}
		put_odd(&t, &state, 1 + (int)(next_random(&state) % 60));
		fold_as(&t.at_once, at_once, false);
		fold_as(&t.waiting, next_random(&state) % 4 ? waiting : "5", false);
		assert_alike(&t.at_once, &t.waiting);
	}
	journal_down(t.writers[0]);
	journal_down(t.writers[1]);
	fold_as(&t.at_once, at_once, true);
	fold_as(&t.waiting, waiting, true);
	assert_int_equal(sql_int(t.waiting.store, "SELECT count(*) FROM recent"), 0);
	assert_alike(&t.at_once, &t.waiting);
	pio_check_result checked;
	check_ok(pio_store_check_points(&checked, t.waiting.store, false, NULL, NULL, &err));
	assert_int_equal(checked.bad_chunks + checked.bad_series, 0);
	store_down(&t.at_once);
	store_down(&t.waiting);
}

static void all_reads_show_what_waits(void **unused)
{
	(void)unused;
	for (uint64_t seed = 1; seed <= 6; seed++)
		a_story(seed * 0x9e3779b97f4a7c15u);
}

/* A rank that waits with more points than a row holds. */
static void a_long_wait_is_many_rows(void **unused)
{
	enum { N = 9001 };
	(void)unused;
	pio_journal_writer *w;
	fixture f = up_waiting(&w, 1);
	for (int64_t i = 1; i < N; i++)
		put_point(w, 0, 1, i, (double)(100 * i + 1));
	journal_down(w);
	assert_int_equal(fold_as(&f, waiting, false).points, N - 1);
	expect(&f, RANKS + 3, "SELECT count(*) FROM recent");
	expect(&f, N, "SELECT count(*) FROM point WHERE key = 'k1' AND rank = 0");
	expect(&f, (int64_t)N * (N - 1) / 2 * 100 + N, "SELECT sum(value) FROM point WHERE key = 'k1' AND rank = 0");
	fold_as(&f, waiting, true);
	expect(&f, 2, "SELECT count(*) FROM chunk WHERE count = 4096");
	expect(&f, N, "SELECT count FROM series WHERE key = 'k1' AND rank = 0");
	store_down(&f);
}

/* ---- the view ------------------------------------------------------------------------------------ */

/* What asks the view is planned as if it asked the table. */
static void the_view_is_planned_like_the_table(void **unused)
{
	static const char sql[] = "EXPLAIN QUERY PLAN SELECT s.run_id, avg(coalesce(s.last_int, s.last))"
		" FROM json_each('[1]') i CROSS JOIN series s ON s.key = 'k1' AND s.run_id = i.value AND"
		" (s.rank = 0 OR NOT EXISTS (SELECT 1 FROM series t WHERE t.key = s.key AND t.run_id = s.run_id"
		" AND t.rank < s.rank)) GROUP BY s.run_id";
	(void)unused;
	fixture f = store_up_run();
	pio_str table = PIO_STR_INIT, view = PIO_STR_INIT;
	pio_journal_writer *w = journal_up(&f, 1);
	put_keys(w);
	put_steps(w, 0, 1);
	journal_down(w);
	check_ok(pio_store_series_now_show(f.store, &err));
	expect(&f, 0, "SELECT count(*) FROM temp.sqlite_schema"); /* nothing waits */
	put_rows(&table, f.store, sql);
	fold_as(&f, waiting, false);
	check_ok(pio_store_series_now_show(f.store, &err));
	expect(&f, 1, "SELECT count(*) FROM temp.sqlite_schema");
	put_rows(&view, f.store, sql);
	static const char *const steps[] = { "COVERING INDEX series_by_key (key=? AND run_id=?)",
	                                     "COVERING INDEX sqlite_autoindex_series_1 (run_id=? AND key=? AND" };
	for (int i = 0; i < 2; i++)
		assert_true(strstr(table.data, steps[i]) && strstr(view.data, steps[i]));
	assert_null(strstr(view.data, "MATERIALIZE"));
	pio_str_fini(&table);
	pio_str_fini(&view);
	store_down(&f);
}

/* Its columns are the table's, in the table's order. */
static void the_view_has_the_columns_of_the_table(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up(&w);
	put_steps(w, 0, 1);
	journal_down(w);
	fold_as(&f, waiting, false);
	check_ok(pio_store_series_now_show(f.store, &err));
	assert_int_equal(sql_int(f.store, "SELECT (SELECT group_concat(name) FROM (SELECT name FROM"
	                         " pragma_table_info('series', 'main') ORDER BY cid)) = (SELECT group_concat(name)"
	                         " FROM (SELECT name FROM pragma_table_info('series', 'temp') ORDER BY cid))"), 1);
	store_down(&f);
}

/* A connection that looks again sees what another one has folded meanwhile. */
static void the_view_is_of_now(void **unused)
{
	static const char sql[] = "SELECT sum(last) FROM series WHERE key = 'k1'";
	(void)unused;
	fixture f = store_up_run();
	pio_store *reader;
	pio_journal_writer *w = journal_up(&f, 1);
	put_keys(w);
	log_steps(&f, w, 0, 1);
	check_ok(pio_store_open(&reader, f.dir, PIO_STORE_READ, &err));
	check_ok(pio_store_series_now_show(reader, &err));
	for (int64_t step = 1; step < 4; step++) {
		log_steps(&f, w, step, step + 1);
		assert_int_equal(sql_int(reader, sql), 300 * step + 33);
		if (step == 2)
			age(&f);
	}
	assert_int_equal(sql_int(reader, "SELECT count(*) FROM chunk"), RANKS * KEYS);
	pio_store_close(&reader);
	down(&f, w);
}

/* ---- bad days -------------------------------------------------------------------------------------- */

/* Wherever memory runs out, the fold did all of its work or nothing of it. */
static void memory_may_run_out_anywhere(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up_waiting(&w, 2);
	put_steps(w, 2, 4);
	pio_fold_result result;
	setenv("PIOCHE_FOLD_DIRECT", waiting, 1);
	for (int settles = 0; settles < 2; settles++) {
		int64_t live = pio_mem_live(), there = sql_int(f.store, "SELECT count(*) FROM point");
		int rc = -PIO_ENOMEM;
		for (uint64_t n = 1; rc; n++) {
			pio_mem_fail_at(n);
			rc = pio_store_fold_attempt(&result, f.store, f.attempt, false, NULL);
			pio_mem_fail_at(0);
			assert_true(rc == 0 || rc == -PIO_ENOMEM);
			assert_true(pio_mem_live() <= live + 2); /* codecs stay */
			if (rc)
				expect(&f, there, "SELECT count(*) FROM point");
		}
		age(&f);
	}
	unsetenv("PIOCHE_FOLD_DIRECT");
	expect(&f, 0, "SELECT count(*) FROM recent");
	expect(&f, 4 * RANKS * KEYS, "SELECT count(*) FROM point");
	down(&f, w);
}

/* A view that ran out of memory amid a rank counts none of its points twice. */
static void a_view_may_run_out_of_memory(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up(&w);
	for (int64_t step = 0; step < 4; step++) {
		log_steps(&f, w, step, step + 1);
	}
	check_ok(pio_store_series_now_show(f.store, &err));
	sqlite3_stmt *row;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f.store), "SELECT sum(count) FROM series", -1, &row,
	                                    NULL), SQLITE_OK);
	int step = SQLITE_NOMEM;
	for (uint64_t n = 1; step != SQLITE_ROW; n++) {
		pio_mem_fail_at(n);
		step = sqlite3_step(row);
		pio_mem_fail_at(0);
		assert_true(step == SQLITE_ROW || step == SQLITE_NOMEM);
		if (step == SQLITE_ROW)
			assert_int_equal(sqlite3_column_int64(row, 0), 4 * RANKS * KEYS);
		sqlite3_reset(row);
	}
	sqlite3_finalize(row);
	down(&f, w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_points_of_many_series_wait),
		cmocka_unit_test(what_is_cheap_does_not_wait),
		cmocka_unit_test(waiting_has_an_end),
		cmocka_unit_test(those_of_an_older_attempt_go_first),
		cmocka_unit_test(a_journal_that_is_gone_takes_nothing_along),
		cmocka_unit_test(all_reads_show_what_waits),
		cmocka_unit_test(a_long_wait_is_many_rows),
		cmocka_unit_test(the_view_is_planned_like_the_table),
		cmocka_unit_test(the_view_has_the_columns_of_the_table),
		cmocka_unit_test(the_view_is_of_now),
		cmocka_unit_test(memory_may_run_out_anywhere),
		cmocka_unit_test(a_view_may_run_out_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
