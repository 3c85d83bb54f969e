/* What cannot be decoded any more: no fold stops there, whoever reads its points is told,
 * and the journals bring them back. */
#include "recent_fixture.h"

#include "store/mend.h"

static pio_check_result check_points(const fixture *f, bool fix)
{
	pio_check_result result;
	check_ok(pio_store_check_points(&result, f->store, fix, NULL, NULL, &err));
	return result;
}

static void mend(const fixture *f, int rank, int64_t steps)
{
	int64_t points;
	check_ok(pio_mend_points(&points, f->store, f->attempt, rank, &err));
	assert_int_equal(points, steps * KEYS);
	expect(f, 0, "SELECT count(*) FROM event WHERE kind = 'damage'");
	assert_int_equal(check_points(f, false).bad_chunks + check_points(f, false).bad_series, 0);
}

/* Steps 0 .. n-1, undisturbed. */
static void assert_whole(const fixture *f, int64_t n)
{
	pio_journal_writer *w;
	fixture other = up(&w);
	put_steps(w, 0, n);
	fold_as(&other, at_once, false);
	assert_alike(&other, f);
	down(&other, w);
}

/* Whoever reads its points is told; no fold ends there, and what the row held is
 * read again from the journal, while the run goes on and afterwards. */
static void a_damaged_row_keeps_no_other_out(void **unused)
{
	static const char *const damage[] = {
		"x''", "x'00'", "x'ffffffffffffffffffff01'", "x'0102'", "substr(data, 1, length(data) - 1)",
		"CAST(data || x'00' AS BLOB)",
	};
	(void)unused;
	for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
		char sql[200];
		pio_point *points;
		size_t count;
		pio_journal_writer *w;
		fixture f = up_waiting(&w, 2);
		check_ok(pio_store_series_now_show(f.store, &err));
		snprintf(sql, sizeof sql, "UPDATE recent SET data = %s WHERE rank = 1", damage[i]);
		write_sql(&f, sql);
		check_fails(pio_store_series_read(&points, &count, f.store, KEYS + 1, INT64_MIN, INT64_MAX, 0, &err),
		            PIO_ECORRUPT, "recent row 2");
		assert_int_equal(sqlite3_exec(pio_store_db(f.store), "SELECT max(last) FROM series", NULL, NULL, NULL),
		                 SQLITE_ERROR);
		assert_non_null(strstr(sqlite3_errmsg(pio_store_db(f.store)), "recent row 2"));
		assert_int_equal(check_points(&f, false).bad_chunks, 1);
		log_steps(&f, w, 2, 3);
		age(&f);
		log_steps(&f, w, 3, 4);
		expect_rows(&f, RANKS, 4 * RANKS * KEYS - 2 * KEYS);
		expect(&f, 1, "SELECT count(*) FROM event WHERE kind = 'damage' AND rank = 1 AND attempt_id = 1"
		       " AND message LIKE 'recent row 2: _%'");
		mend(&f, 1, 4);
		assert_whole(&f, 4);
		expect(&f, 1, "SELECT count(*) FROM event WHERE kind = 'mended'");
		log_steps(&f, w, 4, 6);
		journal_down(w);
		fold_as(&f, waiting, true);
		assert_whole(&f, 6);
		store_down(&f);
	}
}

/* Texts are many. */
static void damage_is_found_without_reading_all_events(void **unused)
{
	(void)unused;
	pio_str plan = PIO_STR_INIT;
	fixture f = store_up_run();
	put_rows(&plan, f.store, "EXPLAIN QUERY PLAN SELECT attempt_id, rank FROM event WHERE kind = 'damage'");
	if (!strstr(plan.data, "INDEX event_damage"))
		fail_msg("%s", plan.data);
	pio_str_fini(&plan);
	store_down(&f);
}

/* A look that fixes sets it aside, so that all others can be read. */
static void a_damaged_row_is_set_aside(void **unused)
{
	(void)unused;
	pio_journal_writer *w;
	fixture f = up_waiting(&w, 2);
	write_sql(&f, "UPDATE recent SET data = x'00' WHERE rank IN (0, 2)");
	assert_int_equal(check_points(&f, true).bad_chunks, 2);
	expect_rows(&f, RANKS - 2, 2 * KEYS);
	expect(&f, 2, "SELECT count(DISTINCT rank) FROM event WHERE kind = 'damage' AND rank <> 1");
	int64_t points;
	check_ok(pio_mend_points(&points, f.store, f.attempt, 2, &err));
	mend(&f, 0, 2);
	assert_whole(&f, 2);
	down(&f, w);
}

/* Chunks that grow, that are to be merged, and that are full. */
static void damaged_chunks_keep_no_point_out(void **unused)
{
	enum { FOLDS = 70, STEPS = 66 };
	(void)unused;
	pio_journal_writer *w;
	fixture f = up(&w);
	for (int64_t i = 0; i < FOLDS; i++) {
		put_steps(w, i * STEPS, (i + 1) * STEPS);
		fold_as(&f, at_once, false);
		if (i % 9 == 4) /* one of the key's, whatever it is to become */
			write_sql(&f, "UPDATE chunk SET data = x'00' WHERE id = (SELECT max(c.id) FROM chunk c JOIN"
			          " series s ON s.id = c.series_id WHERE s.rank = 1 AND s.key = 'k2')");
	}
	expect(&f, 1, "SELECT count(*) > 3 FROM event WHERE kind = 'damage' AND rank = 1 AND message LIKE 'chunk %'");
	expect(&f, (int64_t)FOLDS * STEPS, "SELECT sum(c.count) FROM chunk c JOIN series s ON s.id = c.series_id"
	       " WHERE s.rank = 1 AND s.key = 'k2'");
	expect(&f, 0, "SELECT count(*) FROM event WHERE kind = 'damage' AND rank <> 1");
	mend(&f, 1, (int64_t)FOLDS * STEPS);
	assert_whole(&f, (int64_t)FOLDS * STEPS);
	/* Also from archives, and of one that is full. */
	journal_down(w);
	fold_as(&f, at_once, true);
	store_reopen(&f);
	assert_int_equal(pio_fs_type(journal_path(&f, 1, 0)), PIO_FS_NONE);
	write_sql(&f, "UPDATE chunk SET data = x'00' WHERE tier = 4");
	assert_int_equal(check_points(&f, true).bad_chunks, RANKS * KEYS);
	assert_int_equal(check_points(&f, true).bad_chunks, RANKS * KEYS);
	expect(&f, RANKS * KEYS, "SELECT count(*) FROM event WHERE kind = 'damage'");
	for (int rank = 0; rank < RANKS; rank++) {
		int64_t points;
		check_ok(pio_mend_points(&points, f.store, f.attempt, rank, &err));
	}
	assert_whole(&f, (int64_t)FOLDS * STEPS);
	store_down(&f);
}

/* A restart hides half of a chunk that cannot be decoded. */
static void a_damaged_chunk_stops_no_later_attempt(void **unused)
{
	(void)unused;
	twin t = { .at_once = store_up_run(), .waiting = store_up_run() };
	fixture *both[2] = { &t.at_once, &t.waiting };
	begin_attempt(&t, 1);
	for (int k = 0; k < 2; k++) {
		put_steps(t.writers[k], 0, 40);
		fold_as(both[k], at_once, false);
	}
	write_sql(&t.waiting, "UPDATE chunk SET data = x'00'");
	begin_attempt(&t, 2);
	for (int k = 0; k < 2; k++) {
		put_steps(t.writers[k], 20, 30);
		fold_as(both[k], at_once, false);
		journal_down(t.writers[k]);
	}
	for (int rank = 0; rank < RANKS; rank++) {
		int64_t points;
		check_ok(pio_mend_points(&points, t.waiting.store, 1, rank, &err));
		assert_int_equal(points, 40 * KEYS);
	}
	assert_alike(&t.at_once, &t.waiting);
	store_down(&t.at_once);
	store_down(&t.waiting);
}

/* What the journals do not have is not taken from the database. */
static void without_its_journal_nothing_is_mended(void **unused)
{
	(void)unused;
	static const char chunks[] = "SELECT group_concat(id || ' ' || count || hex(data)) FROM chunk";
	int64_t points;
	pio_journal_writer *w;
	fixture f = up(&w);
	put_steps(w, 0, 600);
	journal_down(w);
	fold_as(&f, at_once, false);
	write_sql(&f, "UPDATE chunk SET data = x'00' WHERE id = 1");
	assert_int_equal(check_points(&f, true).bad_chunks, 1);
	char *before = strdup(sql_text(f.store, chunks));
	check_fails(pio_mend_points(&points, f.store, f.attempt, 7, &err), PIO_ENOTFOUND, "rank 7");
	check_fails(pio_mend_points(&points, f.store, 99, 0, &err), PIO_ENOTFOUND, "id 99");
	assert_int_equal(truncate(journal_path(&f, 1, 0), 20000), 0);
	check_fails(pio_mend_points(&points, f.store, f.attempt, 0, &err), PIO_ECORRUPT, "of rank 0, and the database");
	check_ok(pio_fs_unlink(journal_path(&f, 1, 0), &err));
	check_fails(pio_mend_points(&points, f.store, f.attempt, 0, &err), PIO_ENOTFOUND, "segment 0 of journal.0");
	assert_string_equal(sql_text(f.store, chunks), before);
	expect(&f, 1, "SELECT count(*) FROM event WHERE kind = 'damage'");
	expect(&f, 600, "SELECT count FROM series WHERE id = 2");
	free(before);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_damaged_row_keeps_no_other_out),
		cmocka_unit_test(damage_is_found_without_reading_all_events),
		cmocka_unit_test(a_damaged_row_is_set_aside),
		cmocka_unit_test(damaged_chunks_keep_no_point_out),
		cmocka_unit_test(a_damaged_chunk_stops_no_later_attempt),
		cmocka_unit_test(without_its_journal_nothing_is_mended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
