#include "store_fixture.h"

#include <fcntl.h>

#include "store/cursor.h"


enum { N = 20000 };

static double value_of(int64_t step)
{
	uint64_t state = (uint64_t)step * 2654435761u + 88172645463325252u;
	next_random(&state);
	return step % 997 == 5 ? NAN : step % 1999 == 7 ? INFINITY : (double)(next_random(&state) % 100000);
}

/* Steps 0 to N, in an order that is not sorted: blocks swapped. */
static fixture shuffled(void)
{
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int64_t i = 0; i < N; i++) {
		int64_t step = i / 1000 % 2 ? i - 1000 : i + 1000;
		put_point(w, 0, 1, step, value_of(step));
	}
	journal_down(w);
	fold(&f, true);
	return f;
}

static void reads_come_by_step(void **unused)
{
	(void)unused;
	fixture f = shuffled();
	pio_point *points;
	size_t count;
	check_ok(pio_store_series_read(&points, &count, f.store, 1, INT64_MIN, INT64_MAX, 0, &err));
	assert_int_equal(count, N);
	for (int64_t i = 0; i < N; i++) {
		assert_int_equal(points[i].step, i);
		assert_int_equal(bits_of(points[i].value), bits_of(value_of(i)));
	}
	pio_free(points);
	check_ok(pio_store_series_read(&points, &count, f.store, 1, 4000, 4100, 0, &err));
	assert_int_equal(count, 101);
	assert_int_equal(points[0].step, 4000);
	pio_free(points);
	check_ok(pio_store_series_read(&points, &count, f.store, 1, 5, 4, 0, &err));
	assert_int_equal(count, 0);
	pio_free(points);
	check_ok(pio_store_series_read(&points, &count, f.store, 1, 0, 10, 2, &err));
	assert_int_equal(count, 0);
	pio_free(points);
	store_down(&f);
}

static void equal_steps_keep_the_order_logged(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 9000; i++)
		put_point(w, 0, 1, i % 3, i);
	journal_down(w);
	fold(&f, true);
	pio_point *points;
	size_t count;
	check_ok(pio_store_series_read(&points, &count, f.store, 1, 2, 2, 0, &err));
	assert_int_equal(count, 3000);
	for (int i = 0; i < 3000; i++)
		assert_true(points[i].value == i * 3 + 2);
	pio_free(points);
	assert_int_equal(sql_int(f.store, "SELECT last FROM series"), 8999);
	store_down(&f);
}

static void check_buckets(fixture *f, int64_t low, int64_t high, size_t most)
{
	pio_bucket *buckets;
	size_t count;
	int64_t seen = 0;
	check_ok(pio_store_series_buckets(&buckets, &count, f->store, 1, low, high, most, &err));
	assert_true(count >= 1 && count <= most);
	for (size_t b = 0; b < count; b++) {
		double min = INFINITY, max = -INFINITY, sum = 0;
		int64_t finite = 0;
		for (int64_t s = buckets[b].first_step; s <= buckets[b].last_step; s++) {
			double value = value_of(s);
			if (!isfinite(value))
				continue;
			min = fmin(min, value);
			max = fmax(max, value);
			sum += value;
			finite++;
		}
		assert_int_equal(buckets[b].count, buckets[b].last_step - buckets[b].first_step + 1);
		assert_int_equal(buckets[b].finite, finite);
		seen += buckets[b].count;
		if (!finite) {
			assert_true(isnan(buckets[b].mean));
			continue;
		}
		assert_true(buckets[b].min == min && buckets[b].max == max);
		assert_true(fabs(buckets[b].mean - sum / (double)finite) <= 1e-6);
	}
	low = low < 0 ? 0 : low;
	high = high >= N ? N - 1 : high;
	assert_int_equal(seen, high - low + 1);
	pio_free(buckets);
}

static void buckets_say_what_the_points_say(void **unused)
{
	(void)unused;
	fixture f = shuffled();
	check_buckets(&f, INT64_MIN, INT64_MAX, 1);
	check_buckets(&f, INT64_MIN, INT64_MAX, 3);
	check_buckets(&f, INT64_MIN, INT64_MAX, 100);
	check_buckets(&f, INT64_MIN, INT64_MAX, 30000);
	check_buckets(&f, 777, 15000, 17);
	pio_bucket *buckets;
	size_t count;
	check_ok(pio_store_series_buckets(&buckets, &count, f.store, 1, 50000, 60000, 10, &err));
	assert_int_equal(count, 0);
	pio_free(buckets);
	store_down(&f);
}

/* Else planning a chart would walk over the blobs. */
static void chunks_are_listed_from_an_index_alone(void **unused)
{
	(void)unused;
	fixture f = store_up();
	char sql[1024];
	snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", sqlite3_sql(pio_reader_statement(
	         pio_store_reader(f.store), PIO_READER_CHUNKS, NULL)));
	sqlite3_stmt *row;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f.store), sql, -1, &row, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(row), SQLITE_ROW);
	assert_string_equal((const char *)sqlite3_column_text(row, 3),
	                    "SEARCH chunk USING COVERING INDEX chunk_by_series (series_id=?)");
	sqlite3_finalize(row);
	store_down(&f);
}

static void buckets_span_all_steps_there_are(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_point(w, 0, 1, INT64_MIN, 1);
	put_point(w, 0, 1, INT64_MAX, 2);
	put_point(w, 0, 1, 0, 3);
	journal_down(w);
	fold(&f, true);
	for (size_t most = 1; most < 5; most++) {
		pio_bucket *buckets;
		size_t count;
		int64_t points = 0;
		check_ok(pio_store_series_buckets(&buckets, &count, f.store, 1, INT64_MIN, INT64_MAX, most, &err));
		assert_true(count >= 1 && count <= most);
		for (size_t i = 0; i < count; i++)
			points += buckets[i].count;
		assert_int_equal(points, 3);
		pio_free(buckets);
	}
	store_down(&f);
}

static void the_value_at_a_step_is_the_nearest_before(void **unused)
{
	(void)unused;
	double value;
	bool found;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 10000; i++)
		put_point(w, 0, 1, i * 10, i);
	journal_down(w);
	fold(&f, true);
	check_ok(pio_store_series_value_at(&value, &found, f.store, 1, 54327, &err));
	assert_true(found && value == 5432);
	check_ok(pio_store_series_value_at(&value, &found, f.store, 1, -1, &err));
	assert_false(found);
	check_ok(pio_store_series_value_at(&value, &found, f.store, 1, INT64_MAX, &err));
	assert_true(found && value == 9999);
	store_down(&f);
}

static void the_csv_brings_values_back(void **unused)
{
	(void)unused;
	int fd;
	pio_str text = PIO_STR_INIT;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "b, \"quoted\"");
	put_key(w, 0, 2, "a");
	put_key(w, 1, 1, "a");
	put_bits(w, 0, 1, 2, 2000, bits_of(0.1));
	put_bits(w, 0, 2, INT64_MIN, 3000, 0x7ff8000000000000u);
	put_bits(w, 0, 2, 1, 4000, 0xfff8000000000007u);
	put_bits(w, 1, 1, 1, 4000, bits_of(-INFINITY));
	put_bits(w, 1, 1, 2, 4000, bits_of(-0.0));
	journal_down(w);
	fold(&f, true);
	const char *path = path_in(f.dir, "metrics.csv");
	check_ok(pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0666, &err));
	check_ok(pio_store_export_csv(f.store, f.run, fd, path, &err));
	check_ok(pio_fs_close(&fd, path, &err));
	check_ok(pio_fs_read(&text, path, &err));
	assert_string_equal(text.data,
	                    "key,rank,step,time_ns,value\n"
	                    "a,0,-9223372036854775808,3000,nan\n"
	                    "a,0,1,4000,-nan(0x8000000000007)\n"
	                    "a,1,1,4000,-inf\n"
	                    "a,1,2,4000,-0\n"
	                    "\"b, \"\"quoted\"\"\",0,2,2000,0.10000000000000001\n");
	pio_str_fini(&text);
	store_down(&f);
}

/* ---- reads while another process folds ------------------------------------------------------ */

/* Sixteen folds of ten points each, of two series alike: the last one merges
 * what is there. */
static void fold_more(void *argument)
{
	fixture *f = argument;
	pio_store *mine;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_open(&mine, f->dir, PIO_STORE_WRITE, &err))
		_exit(2);
	fixture other = { .dir = f->dir, .store = mine, .attempt = f->attempt };
	int64_t at = sql_int(mine, "SELECT count(*) FROM point WHERE key = 'a'");
	pio_journal_writer *w = journal_up(&other, 1);
	for (int64_t i = 0; i < 160; i++) {
		put_point(w, 0, 1, at + i, (double)(at + i));
		put_point(w, 0, 2, at + i, (double)(at + i));
		pio_fold_result result;
		if (i % 10 == 9 && (pio_journal_flush(w, 0, &err) ||
		                    pio_store_fold_attempt(&result, mine, f->attempt, false, &err)))
			_exit(3);
	}
	if (pio_journal_close(&w, &err))
		_exit(4);
	pio_store_close(&mine);
}

static fixture two_alike(void)
{
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "a");
	put_key(w, 0, 2, "b");
	journal_down(w);
	fold(&f, false);
	assert_int_equal(in_child(fold_more, &f), 0);
	return f;
}

/* The writer ends while the reader is amid its points, and the reader goes on
 * with the chunks that it knows, although a merge has taken them away. */
static void a_reader_keeps_its_state_and_stops_no_writer(void **unused)
{
	(void)unused;
	fixture f = two_alike();
	pio_series_cursor cursor;
	const pio_point *point;
	sqlite3_stmt *row;
	check_ok(pio_series_cursor_open(&cursor, pio_store_reader(f.store), 1, INT64_MIN, INT64_MAX, 0, &err));
	assert_int_equal(in_child(fold_more, &f), 0);
	for (int64_t i = 0; i < 160; i++) {
		assert_int_equal(pio_series_cursor_next(&point, &cursor, NULL), 1);
		assert_true(point->step == i && point->value == (double)i);
	}
	assert_int_equal(pio_series_cursor_next(&point, &cursor, NULL), 0);
	pio_series_cursor_close(&cursor);
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f.store), "SELECT step FROM point ORDER BY run, key,"
	                                    " rank, step", -1, &row, NULL), SQLITE_OK);
	for (int64_t i = 0; i < 640; i++) {
		assert_int_equal(sqlite3_step(row), SQLITE_ROW);
		assert_int_equal(sqlite3_column_int64(row, 0), i % 320);
		if (i == 5 || i == 330)
			assert_int_equal(in_child(fold_more, &f), 0);
	}
	assert_int_equal(sqlite3_step(row), SQLITE_DONE);
	sqlite3_finalize(row);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point"), 2 * 640);
	store_down(&f);
}

/* While folds go on, every read shows whole folds of both series. */
static void no_read_sees_half_a_fold(void **unused)
{
	(void)unused;
	fixture f = two_alike();
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < 5; i++)
			fold_more(&f);
		_exit(0);
	}
	int status = 0;
	int64_t seen = 0;
	while (waitpid(child, &status, WNOHANG) == 0) {
		pio_point *points;
		size_t count;
		check_ok(pio_store_series_read(&points, &count, f.store, 1, INT64_MIN, INT64_MAX, 0, &err));
		assert_true(count % 10 == 0 && (int64_t)count >= seen);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(points[i].step, i);
		seen = (int64_t)count;
		pio_free(points);
		assert_int_equal(sql_int(f.store, "SELECT (SELECT count(*) FROM point WHERE key = 'a') - (SELECT"
		                         " count(*) FROM point WHERE key = 'b') + (SELECT sum(count) FROM series_lod("
		                         "'gpt-1', 'a', 9)) - (SELECT count FROM series WHERE key = 'b')"), 0);
	}
	assert_int_equal(status, 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM point"), 2 * 6 * 160);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_come_by_step),
		cmocka_unit_test(equal_steps_keep_the_order_logged),
		cmocka_unit_test(buckets_say_what_the_points_say),
		cmocka_unit_test(chunks_are_listed_from_an_index_alone),
		cmocka_unit_test(buckets_span_all_steps_there_are),
		cmocka_unit_test(the_value_at_a_step_is_the_nearest_before),
		cmocka_unit_test(the_csv_brings_values_back),
		cmocka_unit_test(a_reader_keeps_its_state_and_stops_no_writer),
		cmocka_unit_test(no_read_sees_half_a_fold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
