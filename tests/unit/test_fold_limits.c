/* Folds at their limits: journals of many segments, very many keys, a fold every
 * 2 s, many threads. */
#include "store_fixture.h"

#include "base/crc32c.h"

static void all_points_of(fixture *f, const char *key, pio_point **points, size_t *count, int attempt)
{
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT id FROM series WHERE run_id = 1 AND key = '%s'", key);
	check_ok(pio_store_series_read(points, count, f->store, sql_int(f->store, sql), INT64_MIN, INT64_MAX,
	                               attempt, &err));
}

static int64_t count_files(const fixture *f, const char *suffix)
{
	char **names;
	size_t count;
	int64_t found = 0;
	check_ok(pio_fs_list(&names, &count, path_in(f->dir, "runs/" ULID_1 "/1"), &err));
	for (size_t i = 0; i < count; i++) {
		size_t n = strlen(names[i]);
		found += strncmp(names[i], "journal.", 8) == 0 && n >= strlen(suffix) &&
		         strcmp(names[i] + n - strlen(suffix), suffix) == 0;
	}
	pio_fs_list_free(names, count);
	return found;
}

/* A journal of many segments, folded while it grows: all its points, with the
 * names of its first segment, and what is folded is compressed. */
static void segments_are_one_journal(void **unused)
{
	enum { N = 4000 };
	(void)unused;
	setenv("PIOCHE_SEGMENT_BYTES", "20000", 1);
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	int64_t points = 0;
	for (int i = 0; i < N; i++) {
		put_point(w, 0, 1, i, i * 0.5);
		if (i % 7 == 0)
			check_ok(pio_journal_flush(w, 0, &err));
		if (i % 100 == 0)
			points += fold(&f, false).points;
	}
	journal_down(w);
	points += fold(&f, false).points;
	assert_int_equal(points, N);
	assert_true(count_files(&f, ".zst") > 5);
	/* The last is open, and the one before it may be needed to recover a ring. */
	assert_int_equal(count_files(&f, ""), count_files(&f, ".zst") + 2);
	assert_int_equal(count_files(&f, ".zst"), sql_int(f.store, "SELECT segment - 1 FROM journal"));
	assert_int_equal(fold(&f, true).points, 0);
	assert_int_equal(fold(&f, true).points, 0);
	assert_int_equal(count_files(&f, ""), count_files(&f, ".zst"));
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), N);
	assert_int_equal(sql_int(f.store, "SELECT sum(count) FROM chunk"), N);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	/* Everything can be folded again from the archives, as after an older copy
	 * of the database was put back. */
	check_ok(pio_store_begin(f.store, &err));
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), "DELETE FROM chunk; DELETE FROM journal_key;"
	                              "DELETE FROM journal; DELETE FROM series", NULL, NULL, NULL), SQLITE_OK);
	check_ok(pio_store_commit(f.store, &err));
	assert_int_equal(fold(&f, true).points, N);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), N);
	unsetenv("PIOCHE_SEGMENT_BYTES");
	store_down(&f);
}

/* What a compression that was killed left behind stands among the segments in
 * the order of names. */
static void a_leftover_among_segments_hides_none(void **unused)
{
	enum { SEGMENTS = 4 };
	(void)unused;
	setenv("PIOCHE_SEGMENT_BYTES", "100", 1);
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < SEGMENTS; i++) {
		for (int k = 0; k < 10; k++)
			put_point(w, 0, 1, 10 * i + k, k);
		check_ok(pio_journal_flush(w, 0, &err));
	}
	journal_down(w);
	unsetenv("PIOCHE_SEGMENT_BYTES");
	assert_int_equal(pio_fs_type(path_in(f.dir, "runs/" ULID_1 "/1/journal.0.3")), PIO_FS_FILE);
	check_ok(pio_fs_write(path_in(f.dir, "runs/" ULID_1 "/1/journal.0.1.zst.part"), "x", 1, 0644, &err));
	assert_int_equal(fold(&f, true).points, 10 * SEGMENTS);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 10 * SEGMENTS);
	store_down(&f);
}

static void a_damaged_segment_is_told(void **unused)
{
	(void)unused;
	pio_str bytes = PIO_STR_INIT;
	setenv("PIOCHE_SEGMENT_BYTES", "1000", 1);
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 100; i++) {
		put_point(w, 0, 1, i, i);
		check_ok(pio_journal_flush(w, 0, &err));
	}
	journal_down(w);
	unsetenv("PIOCHE_SEGMENT_BYTES");
	const char *path = journal_path(&f, 1, 0);
	check_ok(pio_fs_read(&bytes, path, &err));
	bytes.data[bytes.len / 2] ^= 1;
	check_ok(pio_fs_write(path, bytes.data, bytes.len, 0644, &err));
	check_ok(pio_fs_unlink(path_in(f.dir, "runs/" ULID_1 "/1/journal.0.2"), &err));
	int64_t points = fold(&f, true).points;
	assert_true(points > 40 && points < 90); /* the rest of them */
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'journal'"), 2);
	assert_int_equal(sql_int(f.store, "SELECT done FROM journal"), 1);
	pio_str_fini(&bytes);
	store_down(&f);
}

/* Folded every 2 s, a series is one row that grows, until it is worth a chunk. */
static void small_folds_change_one_row(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	for (int i = 0; i < 200; i++) {
		put_point(w, 0, 1, i, i * 0.5);
		if (i % 3 == 2) {
			check_ok(pio_journal_flush(w, 0, &err));
			fold(&f, false);
			assert_int_equal(sql_int(f.store, "SELECT count(*) FROM chunk"), 1 + i / 66);
			assert_int_equal(sql_int(f.store, "SELECT sum(count) FROM chunk"), i + 1);
		}
	}
	/* Another attempt does not grow into it, and it goes on behind itself. */
	check_ok(pio_store_attempt_create(&f.attempt, &f.number, f.store, f.run, "local", 1, NULL, &err));
	pio_journal_writer *w2 = journal_up(&f, 2);
	put_key(w2, 0, 1, "loss");
	for (int i = 150; i < 160; i++)
		put_point(w2, 0, 1, i, -i);
	journal_down(w2);
	fold(&f, true);
	put_point(w, 0, 1, 200, 7);
	journal_down(w);
	f.attempt--;
	fold(&f, true);
	assert_int_equal(sql_int(f.store, "SELECT sum(count) FROM chunk WHERE attempt = 1"), 201);
	assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 160);
	assert_int_equal(sql_int(f.store, "SELECT last FROM series"), -159);
	pio_point *points;
	size_t count;
	all_points_of(&f, "loss", &points, &count, 1);
	assert_int_equal(count, 201);
	for (int i = 0; i < 200; i++)
		assert_true(points[i].step == i && points[i].value == i * 0.5);
	pio_free(points);
	store_down(&f);
}

/* Of every row of `chunk`, in order: all that is in it. */
static uint32_t checksum_of_chunks(const fixture *f)
{
	sqlite3_stmt *row;
	uint32_t crc = 0;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f->store), "SELECT * FROM chunk ORDER BY id", -1,
	                                    &row, NULL), SQLITE_OK);
	while (sqlite3_step(row) == SQLITE_ROW)
		for (int c = 0; c < sqlite3_column_count(row); c++) {
			const void *bytes = sqlite3_column_blob(row, c);
			crc = pio_crc32c(crc, bytes ? bytes : "", (size_t)sqlite3_column_bytes(row, c));
		}
	sqlite3_finalize(row);
	return crc;
}

/* However many threads encode, and where a fold fails among them. */
static void threads_change_no_byte(void **unused)
{
	enum { SERIES = 7, N = 30000 };
	static const char *const threads[] = { "1", "2", "4" };
	uint32_t expected = 0;
	(void)unused;
	for (size_t t = 0; t < 3; t++) {
		setenv("PIOCHE_FOLD_THREADS", threads[t], 1);
		fixture f = store_up_run();
		pio_journal_writer *w = journal_up(&f, 1);
		uint64_t state = 4711;
		for (uint32_t key = 1; key <= SERIES; key++) {
			char name[16];
			snprintf(name, sizeof name, "k%u", key);
			put_key(w, 0, key, name);
		}
		for (int i = 0; i < N; i++)
			for (uint32_t key = 1; key <= SERIES; key++)
				if (key == 1 || next_random(&state) % key)
					put_point(w, 0, key, i, (double)(float)(next_random(&state) % 100000) * 0.1);
		journal_down(w);
		pio_fold_result result;
		int64_t live = pio_mem_live();
		int rc = -PIO_ENOMEM; /* until it does not matter: a thread less does as well */
		for (uint64_t n = 40; n < 160 && rc; n += 30) {
			pio_mem_fail_at(n);
			rc = pio_store_fold_attempt(&result, f.store, f.attempt, false, NULL);
			pio_mem_fail_at(0);
			assert_true(rc == 0 || rc == -PIO_ENOMEM);
			assert_true(pio_mem_live() <= live + 8); /* what the next fold need not ask again */
			assert_true(rc == 0 || sql_int(f.store, "SELECT count(*) FROM chunk") == 0);
		}
		fold(&f, true);
		assert_true(sql_int(f.store, "SELECT count(*) FROM chunk WHERE count = 4096") > 20);
		uint32_t found = checksum_of_chunks(&f);
		assert_true(t == 0 || found == expected);
		expected = found;
		store_down(&f);
	}
	unsetenv("PIOCHE_FOLD_THREADS");
}

/* Kilobytes of a line of /proc/self/status. */
static int64_t status_kib(const char *name)
{
	char line[256];
	long long kib = -1;
	FILE *file = fopen("/proc/self/status", "r");
	while (file && kib < 0 && fgets(line, sizeof line, file))
		if (strncmp(line, name, strlen(name)) == 0)
			kib = atoll(line + strlen(name) + 1);
	if (file)
		fclose(file);
	return kib;
}

/* Exits with what the fold took beyond what was there, in MiB. */
static void fold_and_measure(void *argument)
{
	fixture *f = argument;
	pio_fold_result result;
	pio_store *mine;
	FILE *reset = fopen("/proc/self/clear_refs", "w"); /* the peak, proc(5) */
	int64_t before = status_kib("VmRSS");
	if (!reset || fputs("5", reset) < 0 || fclose(reset) != 0 ||
	    pio_store_open(&mine, f->dir, PIO_STORE_WRITE, NULL) ||
	    pio_store_fold_attempt(&result, mine, f->attempt, true, NULL) || before < 0)
		_exit(255);
	_exit((int)((status_kib("VmHWM") - before) / 1024));
}

/* However long the journal is, and of however many series. */
static void memory_is_bounded(void **unused)
{
	enum { POINTS = 1500000 }; /* 85 MB of journal */
	static const uint32_t series[] = { 1, 5000 };
	(void)unused;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* it keeps what is freed */
#endif
	for (size_t k = 0; k < sizeof series / sizeof *series; k++) {
		fixture f = store_up_run();
		pio_journal_writer *w = journal_up(&f, 1);
		char name[32];
		for (uint32_t i = 1; i <= series[k]; i++) {
			snprintf(name, sizeof name, "layer/%u/norm", i);
			put_key(w, 0, i, name);
		}
		for (uint32_t i = 0; i < POINTS; i++)
			put_point(w, 0, i % series[k] + 1, i / series[k], i * 0.1);
		journal_down(w);
		int mib = in_child(fold_and_measure, &f);
		assert_int_equal(sql_int(f.store, "SELECT sum(count) FROM series"), POINTS);
		assert_in_range(mib, 0, 64);
		store_down(&f);
	}
}

/* Works, and the user is asked once whether it was meant. Ranks are no keys. */
static void very_many_keys_are_told_once(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	char name[32];
	for (uint32_t i = 1; i <= 60000; i++) {
		snprintf(name, sizeof name, "sample/%u", i);
		put_key(w, 0, i, name);
		put_key(w, 1, i, name);
	}
	put_point(w, 1, 60000, 1, 0.5);
	check_ok(pio_journal_flush(w, 0, &err));
	fold(&f, false);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM series"), 120000);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	for (uint32_t i = 60001; i <= 100010; i++) {
		snprintf(name, sizeof name, "sample/%u", i);
		put_key(w, 0, i, name);
		if (i == 100005) {
			check_ok(pio_journal_flush(w, 0, &err));
			fold(&f, false);
		}
	}
	put_point(w, 0, 17, 2, 1.5); /* named in an earlier fold, beyond what is loaded at once */
	put_point(w, 1, 59999, 2, 2.5);
	journal_down(w);
	assert_int_equal(fold(&f, true).points, 2);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'keys'"), 1);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 1);
	assert_int_equal(sql_int(f.store, "SELECT last * 10 FROM series WHERE key = 'sample/59999' AND rank = 1"),
	                 25);
	store_down(&f);
}

/* Every 2 s; where that is much work, as often as a part of a core allows. */
static void heavy_folds_are_further_apart(void **unused)
{
	(void)unused;
	const int64_t second = 1000000000;
	assert_true(pio_fold_due(7, &(pio_fold_result){ .cpu_ns = 0 }) == 7 + 2 * second);
	assert_true(pio_fold_due(7, &(pio_fold_result){ .cpu_ns = second / 10 }) == 7 + 2 * second);
	assert_true(pio_fold_due(7, &(pio_fold_result){ .cpu_ns = second / 2 }) == 7 + 4 * second);
	assert_true(pio_fold_due(7, &(pio_fold_result){ .cpu_ns = 60 * second }) == 7 + PIO_FOLD_NS_MAX);
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "loss");
	put_point(w, 0, 1, 1, 1);
	journal_down(w);
	assert_true(fold(&f, true).cpu_ns > 0);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_are_one_journal),
		cmocka_unit_test(a_leftover_among_segments_hides_none),
		cmocka_unit_test(a_damaged_segment_is_told),
		cmocka_unit_test(small_folds_change_one_row),
		cmocka_unit_test(threads_change_no_byte),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(very_many_keys_are_told_once),
		cmocka_unit_test(heavy_folds_are_further_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
