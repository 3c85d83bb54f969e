/* Journals that grow after their attempt has ended. */
#include "store_fixture.h"

#include "store/checkpoint.h"
#include "store/late.h"

static void put_points(const fixture *f, int first, int count)
{
	pio_journal_writer *w = journal_up(f, 1);
	put_key(w, 0, 1, "loss");
	for (int step = first; step < first + count; step++)
		put_point(w, 0, 1, step, step * 0.5);
	journal_down(w);
}

static void set_state(const fixture *f, const char *state)
{
	char sql[128];
	snprintf(sql, sizeof sql, "UPDATE attempt SET %s RETURNING id", state);
	assert_int_equal(sql_int(f->store, sql), f->attempt);
}

/* One that has ended and is folded, with its journal compressed: *marker is made and
 * locked, and more points are in the journal. The caller frees *marker. */
static fixture late_up(char **marker, int *lock_fd)
{
	fixture f = store_up_run();
	put_points(&f, 0, 3000);
	assert_int_equal(fold(&f, true).points, 3000);
	check_ok(pio_fs_mkdirs(path_in(f.dir, "staging"), 0755, &err));
	assert_true(asprintf(marker, "%s/staging/late." ULID_1 ".1.0", f.dir) > 0);
	store_reopen(&f); /* which waits for the archiver */
	assert_int_equal(pio_fs_type(journal_path(&f, 1, 0)), PIO_FS_NONE);
	set_state(&f, "state = 'ended', result = 'node_fail'");
	check_ok(pio_late_begin(lock_fd, f.dir, ULID_1, 1, 0, &err));
	put_points(&f, 3000, 20);
	return f;
}

static void expect_points(const fixture *f, int count)
{
	assert_int_equal(sql_int(f->store, "SELECT count FROM series"), count);
	assert_int_equal(sql_int(f->store, "SELECT sum(count) FROM chunk"), count);
	assert_int_equal(sql_int(f->store, "SELECT count(*) FROM event"), 0);
}

static void what_came_late_is_folded_once(void **unused)
{
	(void)unused;
	char *marker;
	int lock_fd;
	fixture f = late_up(&marker, &lock_fd);
	check_ok(pio_store_adopt(f.store, NULL, &err));
	expect_points(&f, 3000); /* it is still being written */
	assert_int_equal(pio_fs_type(marker), PIO_FS_FILE);
	pio_fs_unlock(&lock_fd);
	check_ok(pio_store_adopt(f.store, NULL, &err));
	expect_points(&f, 3020);
	assert_int_equal(pio_fs_type(marker), PIO_FS_NONE);
	assert_int_equal(sql_int(f.store, "SELECT sum(done) = count(*) FROM journal"), 1);
	/* Killed between the fold and the marker's end. */
	check_ok(pio_late_begin(&lock_fd, f.dir, ULID_1, 1, 0, &err));
	pio_fs_unlock(&lock_fd);
	check_ok(pio_store_adopt(f.store, NULL, &err));
	expect_points(&f, 3020);
	assert_int_equal(pio_fs_type(marker), PIO_FS_NONE);
	free(marker);
	store_down(&f);
}

/* Its last fold is before it, and may have read the journal already. */
static void an_attempt_that_has_not_ended_keeps_its_marker(void **unused)
{
	(void)unused;
	char *marker;
	int lock_fd;
	fixture f = late_up(&marker, &lock_fd);
	pio_fs_unlock(&lock_fd);
	set_state(&f, "state = 'running', result = NULL");
	check_ok(pio_store_adopt(f.store, NULL, &err));
	expect_points(&f, 3000);
	assert_int_equal(pio_fs_type(marker), PIO_FS_FILE);
	set_state(&f, "state = 'ended', result = 'node_fail'");
	check_ok(pio_store_checkpoint_recover(f.store, &err)); /* sweeps staging/ */
	assert_int_equal(pio_fs_type(marker), PIO_FS_FILE);
	check_ok(pio_store_fold_late(f.store, &err));
	expect_points(&f, 3020);
	assert_int_equal(pio_fs_type(marker), PIO_FS_NONE);
	free(marker);
	store_down(&f);
}

/* Whoever drains and whoever folds meet at the same moment. */
static void a_marker_that_was_removed_is_made_anew(void **unused)
{
	(void)unused;
	char *marker;
	int lock_fd, other_fd;
	fixture f = late_up(&marker, &lock_fd);
	check_fails(pio_late_begin(&other_fd, f.dir, ULID_1, 1, 0, &err), PIO_EBUSY, "is locked");
	assert_int_equal(other_fd, -1);
	pio_fs_unlock(&lock_fd);
	check_ok(pio_store_fold_late(f.store, &err));
	check_ok(pio_late_begin(&lock_fd, f.dir, ULID_1, 1, 0, &err));
	assert_int_equal(pio_fs_type(marker), PIO_FS_FILE);
	pio_fs_unlock(&lock_fd);
	/* Of a run that is not on record any more. */
	assert_int_equal(rename(marker, path_in(f.dir, "staging/late.01ARZ3NDEKTSV4RRFFQ69G5FAW.1.0")), 0);
	check_ok(pio_store_fold_late(f.store, &err));
	assert_int_equal(pio_fs_type(path_in(f.dir, "staging/late.01ARZ3NDEKTSV4RRFFQ69G5FAW.1.0")), PIO_FS_NONE);
	free(marker);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_late_is_folded_once),
		cmocka_unit_test(an_attempt_that_has_not_ended_keeps_its_marker),
		cmocka_unit_test(a_marker_that_was_removed_is_made_anew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
