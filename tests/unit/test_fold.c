#include <fcntl.h>
#include <sys/stat.h>

#include "store_fixture.h"

#include "store/tail.h"

static void all_points_of(fixture *f, const char *key, pio_point **points, size_t *count, int attempt)
{
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT id FROM series WHERE run_id = 1 AND key = '%s'", key);
	check_ok(pio_store_series_read(points, count, f->store, sql_int(f->store, sql), INT64_MIN, INT64_MAX,
	                               attempt, &err));
}

static void values_survive_from_journal_to_reads(void **unused)
{
	static const int64_t steps[] = { 0, 9007199254740993, INT64_MIN, INT64_MAX, -1, 5 };
	static const uint64_t values[] = { 0x7ff8000000000123u, 0x7ff0000000000000u, 0xfff0000000000000u,
	                                   0x8000000000000000u, 1, 0x3ff8000000000000u };
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 6; i++)
		put_bits(w, 0, 1, steps[i], 1790000000000000000 + i * 1000, values[i]);
	journal_down(w);
	assert_int_equal(fold(&f, true).points, 6);
	pio_point *points;
	size_t count;
	all_points_of(&f, "loss", &points, &count, 0);
	static const int order[] = { 2, 4, 0, 5, 1, 3 };
	assert_int_equal(count, 6);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(points[i].step, steps[order[i]]);
		assert_int_equal(bits_of(points[i].value), values[order[i]]);
		assert_int_equal(points[i].time_ns, 1790000000000000000 + order[i] * 1000);
	}
	assert_int_equal(sql_int(f.store, "SELECT last_bits FROM series"), INT64_MIN); /* -0.0 */
	assert_int_equal(sql_int(f.store, "SELECT first_step FROM series"), INT64_MIN);
	assert_int_equal(sql_int(f.store, "SELECT last_step FROM series"), INT64_MAX);
	assert_int_equal(sql_int(f.store, "SELECT nans || finite FROM series"), 13);
	pio_free(points);
	store_down(&f);
}

/* Integers are integers again, also beside reals, across folds and merges. */
static void integers_survive_from_journal_to_reads(void **unused)
{
	enum { N = 3000 };
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "count");
	put_key(w, 0, 2, "both");
	for (int i = 0; i < N; i++) {
		put_bits(w, 0, 1 | PIO_POINT_INTEGER, i, 0, (uint64_t)(INT64_MAX - i));
		if (i % 3)
			put_bits(w, 0, 2 | PIO_POINT_INTEGER, i, 0, (uint64_t)i);
		else
			put_bits(w, 0, 2, i, 0, bits_of(i));
		if (i % 50 == 0) {
			check_ok(pio_journal_flush(w, 0, &err));
			fold(&f, false);
		}
	}
	put_bits(w, 0, 1 | PIO_POINT_INTEGER, N, 0, (uint64_t)INT64_MIN);
	journal_down(w);
	fold(&f, true);
	pio_point *points;
	size_t count;
	all_points_of(&f, "count", &points, &count, 0);
	assert_int_equal(count, N + 1);
	for (int i = 0; i < N; i++)
		assert_true(points[i].integer && points[i].whole == INT64_MAX - i);
	pio_free(points);
	all_points_of(&f, "both", &points, &count, 0);
	assert_int_equal(count, N);
	for (int i = 0; i < N; i++)
		assert_true(i % 3 ? points[i].integer && points[i].whole == i
		                  : !points[i].integer && points[i].value == i);
	pio_free(points);
	assert_int_equal(sql_int(f.store, "SELECT last_int FROM series WHERE key = 'count'"), INT64_MIN);
	assert_string_equal(sql_text(f.store, "SELECT typeof(last) || typeof(last_bits) FROM series WHERE"
	                             " key = 'count'"), "realnull");
	assert_int_equal(sql_int(f.store, "SELECT last_int FROM series WHERE key = 'both'"), N - 1);
	store_down(&f);
}

static void folding_again_adds_nothing(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 100; i++)
		put_point(w, 0, 1, i, i * 0.5);
	journal_down(w);
	assert_int_equal(fold(&f, false).points, 100);
	assert_int_equal(fold(&f, false).points, 0);
	store_reopen(&f);
	assert_int_equal(fold(&f, true).points, 0);
	assert_int_equal(fold(&f, true).points, 0);
	assert_int_equal(sql_int(f.store, "SELECT sum(count) FROM chunk"), 100);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 100);
	assert_int_equal(sql_int(f.store, "SELECT done FROM journal"), 1);
	store_down(&f);
}

static void a_torn_tail_waits_for_its_rest(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_str whole = PIO_STR_INIT;
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 10; i++)
		put_point(w, 0, 1, i, i);
	journal_down(w);
	const char *path = journal_path(&f, 1, 0);
	check_ok(pio_fs_read(&whole, path, &err));
	assert_int_equal(truncate(path, (off_t)whole.len - 5), 0);
	assert_int_equal(fold(&f, false).points, 9);
	check_ok(pio_fs_write(path, whole.data, whole.len, 0666, &err));
	pio_fold_result r = fold(&f, true);
	assert_int_equal(r.points, 1);
	assert_int_equal(r.last_step, 9);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 10);
	pio_str_fini(&whole);
	store_down(&f);
}

/* A number that was given to another name while another process folded. */
static void names_are_those_of_the_journal(void **unused)
{
	(void)unused;
	fixture f = store_up_run(), other = f;
	pio_journal_writer *w = journal_up(&f, 1);
	check_ok(pio_store_open(&other.store, f.dir, PIO_STORE_WRITE, &err));
	for (int i = 0; i < 6; i++) {
		if (i % 2 == 0)
			put_key(w, 0, 1, i % 4 ? "b" : "a");
		put_point(w, 0, 1, i, i);
		check_ok(pio_journal_flush(w, 0, &err));
		assert_int_equal(fold(i % 3 ? &f : &other, false).points, 1);
	}
	journal_down(w);
	assert_int_equal(fold(&f, true).points, 0);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(key || step) FROM point"), "a0,a1,a4,a5,b2,b3");
	pio_store_close(&other.store);
	store_down(&f);
}

/* However often it is folded, the rows are those of one fold, and chunks merge. */
static void many_small_folds_are_one(void **unused)
{
	(void)unused;
	enum { N = 9000 };
	uint64_t state = 12345;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_key(w, 0, 2, "other");
	int64_t most_open = 0;
	for (int i = 0; i < N; i++) {
		put_point(w, 0, 1, i, (double)(next_random(&state) % 1000000) * 0.1);
		if (next_random(&state) % 20 == 0) {
			check_ok(pio_journal_flush(w, 0, &err));
			fold(&f, false);
			if (i % 16 == 0) {
				int64_t open = sql_int(f.store, "SELECT count(*) FROM chunk WHERE count < 4096");
				most_open = open > most_open ? open : most_open;
			}
		}
	}
	journal_down(w);
	fold(&f, true);
	assert_true(most_open > 0 && most_open < 64);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM chunk WHERE count = 4096"), 2);
	assert_int_equal(sql_int(f.store, "SELECT sum(count) FROM chunk"), N);
	pio_point *points;
	size_t count;
	all_points_of(&f, "loss", &points, &count, 0);
	assert_int_equal(count, N);
	state = 12345;
	pio_chunk_stats stats;
	pio_chunk_stats_init(&stats);
	for (int i = 0; i < N; i++) {
		double value = (double)(next_random(&state) % 1000000) * 0.1;
		next_random(&state);
		pio_chunk_point p = { .step = i, .bits = bits_of(value) };
		assert_int_equal(points[i].step, i);
		assert_int_equal(bits_of(points[i].value), p.bits);
		pio_chunk_stats_add(&stats, &p, 1);
	}
	char sql[300];
	snprintf(sql, sizeof sql, "SELECT count = %d AND sum = %.17g AND min = %.17g AND max = %.17g AND"
	         " min_step = %" PRId64 " AND last = %.17g FROM series WHERE key = 'loss'", N, stats.sum,
	         stats.min, stats.max, stats.min_step, points[N - 1].value);
	assert_int_equal(sql_int(f.store, sql), 1);
	pio_free(points);
	store_down(&f);
}

static void a_later_attempt_hides_from_its_first_step(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 10000; i++)
		put_point(w, 0, 1, i, 1000 - i * 0.01);
	journal_down(w);
	fold(&f, true);
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	assert_int_equal(f.number, 2);
	w = journal_up(&f, 2);
	put_key(w, 0, 1, "loss");
	for (int i = 5000; i < 6000; i++)
		put_point(w, 0, 1, i, i * 2.0);
	journal_down(w);
	fold(&f, true);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 6000);
	assert_int_equal(sql_int(f.store, "SELECT last_step FROM series"), 5999);
	assert_int_equal(sql_int(f.store, "SELECT last FROM series"), 11998);
	assert_int_equal(sql_int(f.store, "SELECT min_step FROM series"), 4999);
	assert_int_equal(sql_int(f.store, "SELECT max FROM series"), 11998);
	pio_point *points;
	size_t count;
	all_points_of(&f, "loss", &points, &count, 0);
	assert_int_equal(count, 6000);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(points[i].step, i);
		assert_int_equal(points[i].attempt, i < 5000 ? 1 : 2);
	}
	pio_free(points);
	all_points_of(&f, "loss", &points, &count, 1);
	assert_int_equal(count, 10000); /* nothing is deleted */
	pio_free(points);

	/* The series row is what the chunks say. */
	pio_chunk_stats stats;
	check_ok(pio_tail_recount(&stats, f.store, 1, &err));
	assert_int_equal(stats.count, 6000);
	char sql[100];
	snprintf(sql, sizeof sql, "SELECT sum = %.17g FROM series", stats.sum);
	assert_int_equal(sql_int(f.store, sql), 1);
	store_down(&f);
}

static void nonsense_is_passed_over_and_told(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key_bytes(w, 0, 1, "a\0b", 3);
	put_point(w, 0, 1, 1, 1);      /* of that key */
	put_key(w, 0, 4000000000u, "far");
	put_key(w, 4000000000u, 1, "far");
	check_ok(pio_journal_append(w, PIO_RECORD_POINTS, "x", 1, NULL, 0, &err));
	check_ok(pio_journal_append(w, PIO_RECORD_TEXT, "x", 1, NULL, 0, &err));
	check_ok(pio_journal_append(w, PIO_RECORD_CHECKPOINT, "x", 1, NULL, 0, &err));
	put_fact(w, 'p', "lr", "{broken");
	put_key(w, 0, 2, "good");
	put_point(w, 0, 2, 1, 4.5);
	journal_down(w);
	assert_int_equal(fold(&f, true).points, 1);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'journal'"), 8);
	assert_non_null(strstr(sql_text(f.store, "SELECT message FROM event ORDER BY id LIMIT 1"), "NUL"));
	assert_int_equal(sql_int(f.store, "SELECT count FROM series WHERE key = 'good'"), 1);
	store_down(&f);
}

static void a_journal_that_is_none_does_not_block(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	check_ok(pio_fs_write(journal_path(&f, 1, 0), "hello, this is certainly not a journal of any kind, "
	                      "but long enough for a header", 80, 0666, &err));
	assert_int_equal(fold(&f, false).points, 0);
	assert_int_equal(fold(&f, true).points, 0);
	assert_int_equal(sql_int(f.store, "SELECT done FROM journal"), 1);
	store_down(&f);
}

static void facts_and_texts_become_rows(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_fact(w, 'p', "lr", "0.001");
	put_fact(w, 't', "phase", "\"ab\\\"lation\"");
	put_fact(w, 's', "best", "17");
	pio_str p = PIO_STR_INIT;
	pio_record_put_u32(&p, 3);
	pio_record_put_i64(&p, 99);
	pio_record_put_i64(&p, 7);
	pio_record_put_str(&p, "sample", 6);
	pio_record_put_str(&p, "In the beginning\n", 17);
	put_record(w, PIO_RECORD_TEXT, &p);
	p = (pio_str)PIO_STR_INIT;
	pio_record_put_u32(&p, 3);
	pio_record_put_i64(&p, 99);
	pio_record_put_i64(&p, 12);
	pio_record_put_i64(&p, 3400);
	put_record(w, PIO_RECORD_LOSS, &p);
	put_time_json(w, PIO_RECORD_EXIT, 1234, "{\"result\":\"ok\"}");
	put_time_json(w, PIO_RECORD_HEARTBEAT, 1, "");
	journal_down(w);
	fold(&f, true);
	assert_string_equal(sql_text(f.store, "SELECT kind || value FROM param WHERE name = 'lr'"), "real0.001");
	assert_string_equal(sql_text(f.store, "SELECT value FROM tag WHERE name = 'phase'"), "ab\"lation");
	assert_int_equal(sql_int(f.store, "SELECT value FROM param WHERE name = 'summary/best'"), 17);
	assert_string_equal(sql_text(f.store, "SELECT rank || key || step || message FROM event WHERE"
	                             " kind = 'text'"), "3sample7In the beginning\n");
	assert_int_equal(sql_int(f.store, "SELECT stalls * 10000 + stalled_ns FROM rank WHERE rank = 3"), 123400);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'stall'"), 1);
	/* What a supervised attempt's end is stands in its exit record, not among the events. */
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind NOT IN ('text', 'stall')"), 0);
	assert_string_equal(sql_text(f.store, "SELECT exit_code FROM attempt"), "(null)");
	assert_int_equal(sql_int(f.store, "SELECT started_ns FROM attempt"), 1); /* the journal's */
	store_down(&f);
}

static void a_fold_without_memory_changes_nothing(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_fact(w, 'p', "lr", "0.5");
	for (int i = 0; i < 5000; i++)
		put_point(w, 0, 1, i, i);
	journal_down(w);
	bool done = false;
	for (uint64_t n = 1; !done; n++) {
		pio_fold_result result;
		int64_t live = pio_mem_live();
		pio_mem_fail_at(n);
		int rc = pio_store_fold_attempt(&result, f.store, f.attempt, true, NULL);
		pio_mem_fail_at(0);
		done = rc == 0;
		if (!done) {
			assert_int_equal(rc, -PIO_ENOMEM);
			assert_true(pio_mem_live() <= live + 2); /* the codec stays with the store */
			assert_int_equal(sql_int(f.store, "SELECT count(*) FROM chunk"), 0);
			check_sound(f.store);
		}
		assert_true(n < 1000);
	}
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 5000);
	store_down(&f);
}

static int die_at_commit(void *countdown)
{
	if (--*(int *)countdown == 0)
		_exit(9);
	return 0;
}

typedef struct killed {
	fixture *f;
	int commit;
} killed;

static void fold_and_die(void *argument)
{
	killed *k = argument;
	pio_fold_result result;
	pio_store *store;
	if (pio_store_open(&store, k->f->dir, PIO_STORE_WRITE, NULL) != 0)
		_exit(3);
	sqlite3_commit_hook(pio_store_db(store), die_at_commit, &k->commit);
	pio_store_fold_attempt(&result, store, k->f->attempt, true, NULL);
}

static void a_fold_that_is_killed_leaves_old_or_new(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 20000; i++)
		put_point(w, 0, 1, i, i);
	journal_down(w);
	pio_store_close(&f.store);
	killed k = { &f, 1 };
	assert_int_equal(in_child(fold_and_die, &k), 9);
	check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_WRITE, &err));
	check_sound(f.store);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM chunk"), 0);
	assert_int_equal(fold(&f, true).points, 20000);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 20000);
	store_down(&f);
}

/* ---- standalone runs -------------------------------------------------------------------- */

static void announce(fixture *f, const char *exit_json)
{
	check_ok(pio_fs_mkdirs(path_in(f->dir, "staging/" ULID_1), 0777, &err));
	pio_journal_writer *w = journal_up(f, 1);
	put_time_json(w, PIO_RECORD_RUN, 5, "{\"experiment\":\"my notebook!\",\"host\":\"h\",\"pid\":12}");
	put_key(w, 0, 1, "loss");
	put_point(w, 0, 1, 3, 1.5);
	if (exit_json)
		put_time_json(w, PIO_RECORD_EXIT, 77, exit_json);
	journal_down(w);
	check_ok(pio_fs_write(path_in(f->dir, "runs/" ULID_1 "/1/agent.lock"), "", 0, 0666, &err));
}

static int recovered;

static int count_recover(const char *dir, const char *ulid, int attempt, int world, pio_err *err)
{
	(void)dir;
	(void)err;
	recovered += strcmp(ulid, ULID_1) == 0 && attempt == 1 && world == 1;
	return 0;
}

static void a_living_stray_run_is_shown_and_left_alone(void **unused)
{
	(void)unused;
	int fd;
	fixture f = store_up();
	announce(&f, NULL);
	check_ok(pio_fs_lock(&fd, path_in(f.dir, "runs/" ULID_1 "/1/agent.lock"), &err));
	recovered = 0;
	check_ok(pio_store_adopt(f.store, count_recover, &err));
	check_ok(pio_store_adopt(f.store, count_recover, &err));
	assert_int_equal(recovered, 0);
	assert_string_equal(sql_text(f.store, "SELECT name || '-' || number || status FROM run JOIN experiment e"
	                             " ON e.id = experiment_id"), "my-notebook-1running");
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 1);
	assert_int_equal(sql_int(f.store, "SELECT max(r.created_ns, a.started_ns) FROM run r, attempt a"), 1);
	const struct timespec heard[2] = { { 1, 5 }, { 1, 5 } };
	assert_int_equal(utimensat(AT_FDCWD, path_in(f.dir, "runs/" ULID_1 "/1/journal.0"), heard, 0), 0);
	close(fd);
	check_ok(pio_store_adopt(f.store, count_recover, &err));
	assert_int_equal(recovered, 1);
	assert_string_equal(sql_text(f.store, "SELECT r.status || a.result FROM run r, attempt a"), "failedlost");
	/* It ended when it was last heard of, not now. */
	assert_string_equal(sql_text(f.store, "SELECT r.ended_ns || ' ' || a.ended_ns FROM run r, attempt a"),
	                    "1000000005 1000000005");
	assert_int_equal(pio_fs_type(path_in(f.dir, "staging/" ULID_1)), PIO_FS_NONE);
	store_down(&f);
}

static void a_dead_stray_run_ends_as_it_said(void **unused)
{
	(void)unused;
	static const char *const ends[][2] = { { "{\"result\":\"ok\"}", "finishedok" },
	                                       { "{\"result\":\"failed\"}", "failedfailed" } };
	for (int i = 0; i < 2; i++) {
		fixture f = store_up();
		announce(&f, ends[i][0]);
		check_ok(pio_store_adopt(f.store, NULL, &err));
		assert_string_equal(sql_text(f.store, "SELECT r.status || a.result FROM run r, attempt a"),
		                    ends[i][1]);
		assert_int_equal(sql_int(f.store, "SELECT step FROM attempt"), 3);
		assert_string_equal(sql_text(f.store, "SELECT r.created_ns || ' ' || r.started_ns || ' ' || r.ended_ns"
		                             " || ' ' || a.created_ns || ' ' || a.started_ns || ' ' || a.ended_ns"
		                             " FROM run r, attempt a"), "1 1 77 1 1 77");
		assert_int_equal(sql_int(f.store, "SELECT created_ns FROM experiment"), 1);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
		assert_string_equal(sql_text(f.store, "SELECT exit_code FROM attempt"), "(null)");
		store_down(&f);
	}
}

/* The exit record may be folded long before the process lets go of its lock, by
 * another command than the one that ends the run. */
static void an_end_that_was_folded_early_is_not_lost(void **unused)
{
	(void)unused;
	int fd;
	fixture f = store_up();
	announce(&f, "{\"result\":\"ok\"}");
	check_ok(pio_fs_lock(&fd, path_in(f.dir, "runs/" ULID_1 "/1/agent.lock"), &err));
	check_ok(pio_store_adopt(f.store, NULL, &err));
	assert_string_equal(sql_text(f.store, "SELECT r.status || a.state || coalesce(r.ended_ns, '-')"
	                             " FROM run r, attempt a"), "runningrunning-");
	store_reopen(&f);
	close(fd);
	check_ok(pio_store_adopt(f.store, NULL, &err));
	assert_string_equal(sql_text(f.store, "SELECT r.status || a.result || r.ended_ns || a.ended_ns"
	                             " FROM run r, attempt a"), "finishedok7777");
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_survive_from_journal_to_reads),
		cmocka_unit_test(integers_survive_from_journal_to_reads),
		cmocka_unit_test(folding_again_adds_nothing),
		cmocka_unit_test(a_torn_tail_waits_for_its_rest),
		cmocka_unit_test(names_are_those_of_the_journal),
		cmocka_unit_test(many_small_folds_are_one),
		cmocka_unit_test(a_later_attempt_hides_from_its_first_step),
		cmocka_unit_test(nonsense_is_passed_over_and_told),
		cmocka_unit_test(a_journal_that_is_none_does_not_block),
		cmocka_unit_test(facts_and_texts_become_rows),
		cmocka_unit_test(a_fold_without_memory_changes_nothing),
		cmocka_unit_test(a_fold_that_is_killed_leaves_old_or_new),
		cmocka_unit_test(a_living_stray_run_is_shown_and_left_alone),
		cmocka_unit_test(a_dead_stray_run_ends_as_it_said),
		cmocka_unit_test(an_end_that_was_folded_early_is_not_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
