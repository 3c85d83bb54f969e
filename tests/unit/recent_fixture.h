/* recent_fixture.h: runs of a few ranks and keys, folded so that their points wait or
 * are chunks at once, and all that can be read of two stores, compared. */
#ifndef PIO_TEST_RECENT_FIXTURE_H
#define PIO_TEST_RECENT_FIXTURE_H

#include <fcntl.h>

#include "store_fixture.h"

#include "store/check.h"
#include "store/read.h"
#include "store/reduce.h"
#include "store/series_now.h"

enum { RANKS = 3, KEYS = 4 };

static const char *const waiting = "0", *const at_once = "1000000";

static inline pio_fold_result fold_as(const fixture *f, const char *direct, bool final)
{
	setenv("PIOCHE_FOLD_DIRECT", direct, 1);
	pio_fold_result result = fold(f, final);
	unsetenv("PIOCHE_FOLD_DIRECT");
	return result;
}

static inline void write_sql(const fixture *f, const char *sql)
{
	assert_int_equal(sqlite3_exec(pio_store_db(f->store), sql, NULL, NULL, NULL), SQLITE_OK);
}

static inline void put_keys(pio_journal_writer *w)
{
	char name[16];
	for (uint32_t rank = 0; rank < RANKS; rank++)
		for (uint32_t key = 1; key <= KEYS; key++) {
			snprintf(name, sizeof name, "k%u", key);
			put_key(w, rank, key, name);
		}
}

/* A point of each series at each step. */
static inline void put_steps(pio_journal_writer *w, int64_t from, int64_t to)
{
	for (int64_t step = from; step < to; step++)
		for (uint32_t rank = 0; rank < RANKS; rank++)
			for (uint32_t key = 1; key <= KEYS; key++)
				put_point(w, rank, key, step, (double)(step * 100 + rank * 10 + key));
	check_ok(pio_journal_flush(w, 0, &err));
}

/* A run, and its journal with all names. */
static inline fixture up(pio_journal_writer **w)
{
	fixture f = store_up_run();
	*w = journal_up(&f, 1);
	put_keys(*w);
	return f;
}

/* Log steps and fold them, as few points of many series. */
static inline void log_steps(const fixture *f, pio_journal_writer *w, int64_t from, int64_t to)
{
	put_steps(w, from, to);
	assert_int_equal(fold_as(f, waiting, false).points, (to - from) * RANKS * KEYS);
}

static inline fixture up_waiting(pio_journal_writer **w, int64_t steps)
{
	fixture f = up(w);
	log_steps(&f, *w, 0, steps);
	return f;
}

static inline void down(fixture *f, pio_journal_writer *w)
{
	journal_down(w);
	store_down(f);
}

static inline void expect(const fixture *f, int64_t value, const char *sql)
{
	int64_t found = sql_int(f->store, sql);
	if (found != value)
		fail_msg("%s: %" PRId64 ", expected %" PRId64, sql, found, value);
}

static inline void expect_rows(const fixture *f, int64_t recent, int64_t points)
{
	expect(f, recent, "SELECT count(*) FROM recent");
	expect(f, points, "SELECT count(*) FROM point");
}

static inline void age(const fixture *f)
{
	write_sql(f, "UPDATE recent SET folded_ns = 0");
}

/* ---- everything that can be read, as text -------------------------------------------------- */

/* A column of SQL keeps no sign of a zero, and so neither does this. */
static inline void put_real(pio_str *out, double value)
{
	value = value == 0 ? 0 : value;
	pio_str_printf(out, " %016" PRIx64, bits_of(value));
}

static inline void put_rows(pio_str *out, pio_store *store, const char *sql)
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

static inline void put_reduced(pio_str *out, const fixture *f, const char *key)
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
static inline void put_read(pio_str *out, const fixture *f, const char *key)
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

static inline void put_csv(pio_str *out, const fixture *f)
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

static inline char *all_of(const fixture *f)
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

static inline void assert_alike(const fixture *a, const fixture *b)
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

/* ---- two stores that hear the same ---------------------------------------------------------- */

typedef struct twin {
	fixture at_once, waiting;
	pio_journal_writer *writers[2];
	int64_t step;
} twin;

static inline void begin_attempt(twin *t, int attempt)
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

#endif
