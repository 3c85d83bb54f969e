/* What writers report: counted, never mixed, and what it cost. */
#include "checkpoint_fixture.h"

static bool is_there(const shard *s)
{
	return pio_fs_type(s->path) == PIO_FS_FILE;
}

/* Rank 1 is behind: it reports its first save when rank 0 has reported its second. */
static void saves_of_one_step_are_never_mixed(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard a[2] = { stage(&f, "a0", 1), stage(&f, "a1", 2) }, b[2] = { stage(&f, "b0", 3), stage(&f, "b1", 4) };
	shard alone = stage(&f, "c0", 5);
	pio_journal_writer *w = journal_up(&f, 1);
	put_save(w, (pio_save){ .rank = 0, .writers = 2, .step = 7, .round = 0 }, &a[0]);
	put_save(w, (pio_save){ .rank = 0, .writers = 2, .step = 7, .round = 1 }, &b[0]);
	put_save(w, (pio_save){ .rank = 0, .writers = 1, .step = 7, .round = 0 }, &alone);
	check_ok(pio_journal_flush(w, 0, &err));
	assert_int_equal(fold(&f, false).checkpoints, 1); /* of rank 0 alone */
	put_save(w, (pio_save){ .rank = 1, .writers = 2, .step = 7, .round = 1 }, &b[1]);
	check_ok(pio_journal_flush(w, 0, &err));
	assert_int_equal(fold(&f, false).checkpoints, 1);
	/* What is left of the first can be in no checkpoint any more. */
	assert_false(is_there(&a[0]));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_save"), 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_report"), 0);
	journal_down(w);
	check_all_there(&f, 2, 3);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_file WHERE checkpoint_id = 2"), 2);
	for (int rank = 0; rank < 2; rank++) {
		char sql[100];
		snprintf(sql, sizeof sql, "SELECT sha256 FROM checkpoint_file WHERE checkpoint_id = 2 AND"
		         " rank = %d", rank);
		assert_string_equal(sql_text(f.store, sql), b[rank].sha256);
	}
	store_down(&f);
}

/* Whether the writer that fails is the first, the last or in the middle. */
static void a_writer_that_fails_leaves_no_files_of_the_others(void **unused)
{
	(void)unused;
	for (uint32_t failing = 0; failing < 3; failing++) {
		fixture f = store_up_run();
		shard s[3] = { stage(&f, "a", 1), stage(&f, "b", 2), stage(&f, "c", 3) };
		pio_journal_writer *w = journal_up(&f, 1);
		for (uint32_t rank = 0; rank < 3; rank++)
			put_save(w, (pio_save){ .rank = rank, .writers = 3, .step = 7 },
			         rank == failing ? NULL : &s[rank]);
		for (uint32_t rank = 0; rank < 3; rank++)
			assert_true(is_there(&s[rank]));
		put_save(w, (pio_save){ .rank = 0, .writers = 1, .step = 7, .round = 3 }, NULL);
		journal_down(w);
		assert_int_equal(fold(&f, true).checkpoints, 0);
		for (uint32_t rank = 0; rank < 3; rank++)
			assert_true(is_there(&s[rank]) == (rank == failing));
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_save"), 0);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'checkpoint.failed' AND"
		                         " step = 7"), 2);
		assert_int_equal(sql_int(f.store, "SELECT rank FROM event WHERE kind = 'checkpoint.failed'"), failing);
		assert_non_null(strstr(sql_text(f.store, "SELECT message FROM event"),
		                       "could not save its part: No space"));
		store_down(&f);
	}
}

static void what_a_checkpoint_cost_is_its_row(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard a = stage(&f, "a", 1), b = stage(&f, "b", 2), c = stage(&f, "c", 3);
	pio_journal_writer *w = journal_up(&f, 1);
	put_save(w, (pio_save){ .rank = 0, .writers = 2, .step = 1, .stall_ns = 5, .total_ns = 90, .hash_ns = 20,
	                        .asynchronous = true, .fsyncs = 3 }, &a);
	put_save(w, (pio_save){ .rank = 1, .writers = 2, .step = 1, .stall_ns = 7, .total_ns = 80, .hash_ns = 10,
	                        .sync = PIO_SAVE_SYNCFS, .fsyncs = 4 }, &b);
	put_checkpoint(w, 0, 2, 1, &c, 1);
	journal_down(w);
	pio_fs_counts before = pio_fs_counts_get();
	assert_int_equal(fold(&f, true).checkpoints, 2);
	assert_true(sql_int(f.store, "SELECT fsyncs FROM checkpoint WHERE step = 1") >= 7 + 1);
	assert_true(sql_int(f.store, "SELECT sum(fsyncs) FROM checkpoint") <= (int64_t)(7 + 2 +
	            pio_fs_counts_get().dir_syncs - before.dir_syncs));
	assert_string_equal(sql_text(f.store, "SELECT stall_ns || ' ' || total_ns || ' ' || hash_ns || ' ' || sync ||"
	                             " ' ' || asynchronous FROM checkpoint WHERE step = 1"), "7 90 30 both 1");
	/* Of a writer of before, nothing is made up. */
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint WHERE step = 2 AND stall_ns = 1000 AND"
	                         " total_ns IS NULL AND hash_ns IS NULL AND sync IS NULL AND asynchronous IS NULL"), 1);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(saves_of_one_step_are_never_mixed),
		cmocka_unit_test(a_writer_that_fails_leaves_no_files_of_the_others),
		cmocka_unit_test(what_a_checkpoint_cost_is_its_row),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
