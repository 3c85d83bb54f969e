/* Points that are folded and no chunks yet: whoever reads sees them at once. A
 * store whose points wait is compared with one whose points are chunks at once. */
#include <fcntl.h>

#include "store_fixture.h"

#include "store/check.h"
#include "store/mend.h"
#include "store/read.h"
#include "store/recent.h"
#include "store/reduce.h"
#include "store/series_now.h"

enum { RANKS = 3, KEYS = 4 };

static const char *const waiting = "0", *const at_once = "1000000";

static pio_fold_result fold_as(const fixture *f, const char *direct, bool final)
{
	setenv("PIOCHE_FOLD_DIRECT", direct, 1);
	pio_fold_result result = fold(f, final);
	unsetenv("PIOCHE_FOLD_DIRECT");
	return result;
}

static void write_sql(const fixture *f, const char *sql)
{
	assert_int_equal(sqlite3_exec(pio_store_db(f->store), sql, NULL, NULL, NULL), SQLITE_OK);
}

static void put_keys(pio_journal_writer *w)
{
	char name[16];
	for (uint32_t rank = 0; rank < RANKS; rank++)
		for (uint32_t key = 1; key <= KEYS; key++) {
			snprintf(name, sizeof name, "k%u", key);
			put_key(w, rank, key, name);
		}
}

/* A point of each series at each step. */
static void put_steps(pio_journal_writer *w, int64_t from, int64_t to)
{
	for (int64_t step = from; step < to; step++)
		for (uint32_t rank = 0; rank < RANKS; rank++)
			for (uint32_t key = 1; key <= KEYS; key++)
				put_point(w, rank, key, step, (double)(step * 100 + rank * 10 + key));
	check_ok(pio_journal_flush(w, 0, &err));
}

/* A run, and its journal with all names. */
static fixture up(pio_journal_writer **w)
{
	fixture f = store_up_run();
	*w = journal_up(&f, 1);
	put_keys(*w);
	return f;
}

/* Log steps and fold them, as few points of many series. */
static void log_steps(const fixture *f, pio_journal_writer *w, int64_t from, int64_t to)
{
	put_steps(w, from, to);
	assert_int_equal(fold_as(f, waiting, false).points, (to - from) * RANKS * KEYS);
}

static fixture up_waiting(pio_journal_writer **w, int64_t steps)
{
	fixture f = up(w);
	log_steps(&f, *w, 0, steps);
	return f;
}

static void down(fixture *f, pio_journal_writer *w)
{
	journal_down(w);
	store_down(f);
}

static void expect(const fixture *f, int64_t value, const char *sql)
{
	int64_t found = sql_int(f->store, sql);
	if (found != value)
		fail_msg("%s: %" PRId64 ", expected %" PRId64, sql, found, value);
}

static void expect_rows(const fixture *f, int64_t recent, int64_t points)
{
	expect(f, recent, "SELECT count(*) FROM recent");
	expect(f, points, "SELECT count(*) FROM point");
}

static void age(const fixture *f)
{
	write_sql(f, "UPDATE recent SET folded_ns = 0");
}

/* ---- everything that can be read, as text -------------------------------------------------- */

/* A column of SQL keeps no sign of a zero, and so neither does this. */
static void put_real(pio_str *out, double value)
{
	value = value == 0 ? 0 : value;
	pio_str_printf(out, " %016" PRIx64, bits_of(value));
}

static void put_rows(pio_str *out, pio_store *store, const char *sql)
{
	sqlite3_stmt *row = NULL;
	int step;
	if (sqlite3_prepare_v2(pio_store_db(store), sql, -1, &row, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	while ((step = sqlite3_step(row)) == SQLITE_ROW) {
		for (int i = 0; i < sqlite3_column_count(row); i++)
			if (sqlite3_column_type(row, i) == SQLITE_FLOAT)
				put_real(out, sqlite3_column_double(row, i));
			else
				pio_str_printf(out, " %s", sqlite3_column_type(row, i) == SQLITE_NULL
				               ? "NULL" : (const char *)sqlite3_column_text(row, i));
		pio_str_putc(out, '\n');
	}
	if (step != SQLITE_DONE)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
	sqlite3_finalize(row);
}

static void put_reduced(pio_str *out, const fixture *f, const char *key)
{
	for (int how = PIO_REDUCE_MEAN; how <= PIO_REDUCE_ARGMAX; how++) {
		pio_point *points;
		int32_t *ranks;
		size_t count;
		check_ok(pio_reduce_points(&points, &ranks, &count, pio_store_reader(f->store), f->run, key,
		                           (enum pio_reduce)how, INT64_MIN, INT64_MAX, &err));
		for (size_t i = 0; i < count; i++) {
			pio_str_printf(out, "%" PRId64 " %d", points[i].step, ranks[i]);
			put_real(out, points[i].value);
		}
		pio_free(points);
		pio_free(ranks);
	}
}

/* As another program reads it. */
static void put_read(pio_str *out, const fixture *f, const char *key)
{
	char message[200];
	pio_points points;
	if (pio_points_read(&points, f->dir, "gpt-1", key, 0, 2, message, sizeof message) != 0)
		fail_msg("%s", message);
	pio_str_printf(out, "%" PRId64 " of kind %" PRId64 "\n", points.count, points.kind);
	for (int64_t i = 0; i < points.count; i++)
		pio_str_printf(out, "%" PRId64 " %" PRId64 " %016" PRIx64 " %d\n", points.step[i], points.time_ns[i],
		               ((uint64_t *)points.value)[i], points.integer ? points.integer[i] : 0);
	pio_points_free(&points);
}

static void put_csv(pio_str *out, const fixture *f)
{
	pio_str text = PIO_STR_INIT;
	const char *path = path_in(f->dir, "metrics.csv");
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	check_ok(pio_store_export_csv(f->store, f->run, fd, path, &err));
	close(fd);
	check_ok(pio_fs_read(&text, path, &err));
	pio_str_append(out, text.data, text.len);
	pio_str_fini(&text);
}

static char *all_of(const fixture *f)
{
	pio_str out = PIO_STR_INIT;
	check_ok(pio_store_series_now_show(f->store, &err));
	put_rows(&out, f->store, "SELECT run, key, rank, attempt, step, time_ns, value, bits FROM point");
	put_rows(&out, f->store, "SELECT key, rank, step, value FROM point WHERE attempt = 1");
	put_rows(&out, f->store, "SELECT key, rank, step, value FROM point WHERE attempt = 2 AND rank IN (0, 2)");
	put_rows(&out, f->store, "SELECT step, value FROM point WHERE run = 'gpt-1' AND key = 'k2' AND step"
	         " BETWEEN 5 AND 30 ORDER BY key, rank, step DESC");
	put_rows(&out, f->store, "SELECT * FROM series_lod('gpt-1', 'k1', 7)");
	put_rows(&out, f->store, "SELECT * FROM series_lod('gpt-1', 'k3', 10000, 1)");
	put_rows(&out, f->store, "SELECT key, rank, count, first_step, last_step, last, last_bits, min, min_step,"
	         " max, max_step, sum + sum_low, finite, nans, last_int FROM series ORDER BY id");
	put_reduced(&out, f, "k1");
	put_reduced(&out, f, "k4");
	put_read(&out, f, "k1");
	put_read(&out, f, "k3");
	put_csv(&out, f);
	check_ok(pio_str_check(&out, &err));
	return pio_str_take(&out);
}

static void assert_alike(const fixture *a, const fixture *b)
{
	char *of_a = all_of(a), *of_b = all_of(b);
	size_t at = 0, line = 0;
	for (; of_a[at] && of_a[at] == of_b[at]; at++)
		line = of_a[at] == '\n' ? at + 1 : line;
	if (of_a[at] || of_b[at])
		fail_msg("at once: %.200s\nwaiting: %.200s", of_a + line, of_b + line);
	pio_free(of_a);
	pio_free(of_b);
}

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

typedef struct twin {
	fixture at_once, waiting;
	pio_journal_writer *writers[2];
	int64_t step;
} twin;

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

static void begin_attempt(twin *t, int attempt)
{
	fixture *both[2] = { &t->at_once, &t->waiting };
	for (int k = 0; k < 2; k++) {
		if (attempt > 1) {
			journal_down(t->writers[k]);
			check_ok(pio_store_attempt_create(&both[k]->attempt, &both[k]->number, both[k]->store,
			                                  both[k]->run, "local", 1, NULL, &err));
		}
		t->writers[k] = journal_up(both[k], attempt);
		put_keys(t->writers[k]);
	}
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
	int64_t points;
	pio_journal_writer *w;
	fixture f = up(&w);
	put_steps(w, 0, 600);
	journal_down(w);
	fold_as(&f, at_once, false);
	write_sql(&f, "UPDATE chunk SET data = x'00' WHERE id = 1");
	assert_int_equal(check_points(&f, true).bad_chunks, 1);
	char *before = strdup(sql_text(f.store, "SELECT group_concat(id || ' ' || count || hex(data)) FROM chunk"));
	check_fails(pio_mend_points(&points, f.store, f.attempt, 7, &err), PIO_ENOTFOUND, "rank 7");
	check_fails(pio_mend_points(&points, f.store, 99, 0, &err), PIO_ENOTFOUND, "id 99");
	assert_int_equal(truncate(journal_path(&f, 1, 0), 20000), 0);
	check_fails(pio_mend_points(&points, f.store, f.attempt, 0, &err), PIO_ECORRUPT, "of rank 0, and the database");
	check_ok(pio_fs_unlink(journal_path(&f, 1, 0), &err));
	check_fails(pio_mend_points(&points, f.store, f.attempt, 0, &err), PIO_ENOTFOUND, "segment 0 of journal.0");
	assert_string_equal(sql_text(f.store, "SELECT group_concat(id || ' ' || count || hex(data)) FROM chunk"), before);
	expect(&f, 1, "SELECT count(*) FROM event WHERE kind = 'damage'");
	expect(&f, 600, "SELECT count FROM series WHERE id = 2");
	free(before);
	store_down(&f);
}

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
		cmocka_unit_test(a_damaged_row_keeps_no_other_out),
		cmocka_unit_test(a_damaged_row_is_set_aside),
		cmocka_unit_test(damaged_chunks_keep_no_point_out),
		cmocka_unit_test(a_damaged_chunk_stops_no_later_attempt),
		cmocka_unit_test(without_its_journal_nothing_is_mended),
		cmocka_unit_test(memory_may_run_out_anywhere),
		cmocka_unit_test(a_view_may_run_out_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
