#include "store_fixture.h"

#include "store/check.h"
#include "store/sql.h"

#define POINTS 10000

static fixture with_journal(void)
{
	fixture f = store_up_run();
	pio_journal_writer *journal = journal_up(&f, 1);
	put_key(journal, 0, 1, "loss");
	put_key(journal, 0, 2, "rare");
	for (int step = 0; step < POINTS; step++)
		put_point(journal, 0, 1, step, 1.0 / (step + 1));
	put_point(journal, 0, 2, 5, (double)NAN);
	journal_down(journal);
	return f;
}

static fixture with_points(void)
{
	fixture f = with_journal();
	fold(&f, true);
	return f;
}

static char said[4096];

static void hear(void *context, const char *finding, int64_t done, int64_t total)
{
	(void)context;
	assert_true(done <= total);
	if (finding)
		strncat(said, finding, sizeof said - strlen(said) - 1);
}

static pio_check_result check_now(const fixture *f, bool fix)
{
	pio_check_result result;
	said[0] = 0;
	check_ok(pio_store_check_points(&result, f->store, fix, hear, NULL, &err));
	return result;
}

static void what_is_told_is_what_is_there(void **unused)
{
	(void)unused;
	fixture f = with_points();
	pio_check_result r = check_now(&f, false);
	assert_int_equal(r.series, 2);
	assert_int_equal(r.points, POINTS + 1);
	assert_int_equal(r.bad_chunks + r.bad_series + r.fixed, 0);
	assert_string_equal(said, "");
	store_down(&f);
}

/* Each column of a series is derived: any of them wrong is found, and put right. */
static void a_series_that_says_otherwise_is_counted_anew(void **unused)
{
	(void)unused;
	static const char *const wrong[] = {
		"count = 7", "first_step = -1", "last_step = 5", "min = 5", "max = NULL", "sum = 1", "finite = 0",
		"nans = 3", "last = 9", "last_int = 4",
	};
	fixture f = with_points();
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char sql[100];
		snprintf(sql, sizeof sql, "UPDATE series SET %s WHERE key = 'loss'", wrong[i]);
		assert_int_equal(sqlite3_exec(pio_store_db(f.store), sql, NULL, NULL, NULL), SQLITE_OK);
		assert_int_equal(check_now(&f, false).bad_series, 1);
		assert_int_equal(check_now(&f, true).fixed, 1);
		assert_int_equal(check_now(&f, true).bad_series, 0);
	}
	/* And the next points join as ever. */
	f.attempt = 0;
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	pio_journal_writer *journal = journal_up(&f, 2);
	put_key(journal, 0, 1, "loss");
	put_point(journal, 0, 1, POINTS, 0.5);
	journal_down(journal);
	fold(&f, true);
	assert_int_equal(check_now(&f, false).bad_series, 0);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series WHERE key = 'loss'"), POINTS + 1);
	store_down(&f);
}

static void a_broken_chunk_is_named_and_its_series_left(void **unused)
{
	(void)unused;
	fixture f = with_points();
	int64_t count = sql_int(f.store, "SELECT count(*) FROM chunk");
	check_ok(pio_sql_exec(f.store, &err, "UPDATE chunk SET min = 7 WHERE id = 1", ""));
	assert_int_equal(check_now(&f, true).bad_chunks, 1);
	assert_string_equal(said, "chunk 1: it holds other points than its row says");
	check_ok(pio_sql_exec(f.store, &err, "UPDATE chunk SET data = x'0102' WHERE id = 1", ""));
	pio_check_result r = check_now(&f, true);
	assert_int_equal(r.chunks, count);
	assert_int_equal(r.bad_chunks, 1);
	assert_int_equal(r.fixed, 0);
	assert_string_equal(said, "chunk 1: a chunk of 2 bytes is too short");
	assert_int_equal(sql_int(f.store, "SELECT count FROM series WHERE key = 'loss'"), POINTS);
	store_down(&f);
}

static void lack_of_memory_is_told(void **unused)
{
	(void)unused;
	fixture f = with_points();
	int rc = -1;
	for (uint64_t n = 1; rc != 0 && n < 200; n++) {
		pio_check_result result;
		check_ok(pio_sql_exec(f.store, &err, "UPDATE series SET count = 1", ""));
		pio_mem_fail_at(n);
		rc = pio_store_check_points(&result, f.store, true, NULL, NULL, NULL);
		pio_mem_fail_at(0);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(check_now(&f, false).bad_series, 0);
	store_down(&f);
}

static void a_journal_is_looked_at(void **unused)
{
	(void)unused;
	fixture f = with_journal();
	pio_journal_look look;
	const char *path = journal_path(&f, 1, 0);
	check_ok(pio_journal_look_at(&look, path, 0, &err));
	assert_true(look.readable && !look.standalone);
	assert_string_equal(look.ulid, ULID_1);
	assert_int_equal(look.records, POINTS + 3);
	assert_int_equal(look.end, look.bytes);
	check_ok(pio_journal_look_at(&look, path, look.end, &err));
	assert_int_equal(look.records, 0);
	check_ok(pio_fs_write(path, "too short", 9, 0666, &err));
	check_ok(pio_journal_look_at(&look, path, 0, &err));
	assert_true(look.readable && !look.ulid[0]);
	char garbage[100] = "garbage";
	check_ok(pio_fs_write(path, garbage, sizeof garbage, 0666, &err));
	check_ok(pio_journal_look_at(&look, path, 0, &err));
	assert_false(look.readable);
	assert_non_null(strstr(look.why, "not a journal"));
	check_fails(pio_journal_look_at(&look, path_in(f.dir, "none"), 0, &err), PIO_ENOTFOUND, "none");
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_told_is_what_is_there),
		cmocka_unit_test(a_series_that_says_otherwise_is_counted_anew),
		cmocka_unit_test(a_broken_chunk_is_named_and_its_series_left),
		cmocka_unit_test(lack_of_memory_is_told),
		cmocka_unit_test(a_journal_is_looked_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
