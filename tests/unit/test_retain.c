/* Which checkpoints of a run stay, and what goes (store/retain.h). */
#include "checkpoint_fixture.h"

#include "store/checkpoint_needed.h"
#include "store/retain.h"

static const char *steps_of(fixture *f, const char *where)
{
	char sql[300];
	snprintf(sql, sizeof sql, "SELECT coalesce(group_concat(step), '') FROM (SELECT step FROM checkpoint c"
	         " WHERE %s ORDER BY step)", where);
	return sql_text(f->store, sql);
}

/* Retain; what has to be reread is. How often that was. */
static int retain(fixture *f, pio_keep keep)
{
	for (int n = 0;; n++) {
		int64_t unread;
		pio_verify_result r;
		check_ok(pio_store_checkpoint_retain(&unread, f->store, f->run, &keep, &err));
		if (!unread)
			return n;
		assert_true(n < 5);
		check_ok(pio_store_verify(&r, f->store, &(pio_verify_options){ .how = PIO_VERIFY_REREAD,
		                          .checkpoint_id = unread }, NULL, NULL, &err));
	}
}

static void run_sql(pio_store *store, const char *sql)
{
	if (sqlite3_exec(pio_store_db(store), sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(pio_store_db(store)));
}

/* Words of the rule, by step: "50 last,40 -". */
static const char *judged(fixture *f, pio_keep keep)
{
	static char text[300];
	pio_retained *list;
	size_t count;
	text[0] = 0;
	check_ok(pio_store_checkpoint_judge(&list, &count, f->store, f->run, &keep, &err));
	for (size_t i = 0; i < count; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%" PRId64 " %s", i ? "," : "",
		         list[i].step, list[i].why ? list[i].why : "-");
	pio_free(list);
	return text;
}

static void retention_keeps_the_last_and_the_best(void **unused)
{
	(void)unused;
	static const int64_t five[] = { 10, 20, 30, 40, 50 };
	static const double losses[] = { 5, 1, 3, 2, 4 };
	const pio_keep none = { 0 };
	int64_t id;
	fixture f = store_up_run();
	put_checkpoints(&f, five, 5);
	pio_journal_writer *w = journal_up(&f, 1);
	put_key(w, 0, 1, "val/loss");
	for (int i = 0; i < 5; i++)
		put_point(w, 0, 1, five[i] - 1, losses[i]);
	journal_down(w);
	fold(&f, true);
	check_ok(pio_store_checkpoint_best(&id, f.store, f.run, "val/loss", "minimize", &err));
	assert_int_equal(id, 2);
	check_ok(pio_store_checkpoint_best(&id, f.store, f.run, "val/loss", "maximize", &err));
	assert_int_equal(id, 1);
	check_ok(pio_store_checkpoint_best(&id, f.store, f.run, "nothing", "maximize", &err));
	assert_int_equal(id, 0);
	pio_keep keep = { .last = 2, .best = 2, .goal_key = "val/loss", .goal = "minimize" };
	assert_string_equal(judged(&f, keep), "50 last,40 last,30 -,20 best,10 -");
	static const char broken[] = "UPDATE object SET verified = '%s' WHERE sha256 = (SELECT sha256 FROM"
		" checkpoint_file WHERE checkpoint_id = 2 AND role = 'model')";
	char sql[300];
	snprintf(sql, sizeof sql, broken, "has other bytes than its name says");
	run_sql(f.store, sql);
	assert_string_equal(judged(&f, keep), "50 last,40 last,30 best,20 damaged,10 -");
	check_ok(pio_store_checkpoint_best(&id, f.store, f.run, "val/loss", "minimize", &err));
	assert_int_equal(id, 4);
	snprintf(sql, sizeof sql, broken, "write");
	run_sql(f.store, sql);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint"), 5);
	assert_int_equal(retain(&f, keep), 1);
	assert_string_equal(steps_of(&f, "true"), "20,40,50");
	keep.last = keep.best = 1;
	assert_int_equal(retain(&f, keep), 0); /* the newest was read again before */
	assert_string_equal(steps_of(&f, "true"), "20,50");
	assert_string_equal(judged(&f, none), "50 only,20 -");
	retain(&f, none);
	assert_string_equal(steps_of(&f, "true"), "50");
	assert_int_equal(retain(&f, none), 0);
	check_fails(pio_store_checkpoint_retain(&id, f.store, f.run, &(pio_keep){ .goal = "best" }, &err),
	            PIO_EINVAL, "minimize or maximize");
	store_down(&f);
}

static void one_stays_for_every_so_many_steps(void **unused)
{
	(void)unused;
	static const int64_t saved[] = { 5, 30, 60, 90, 100, 250, 299, 300 };
	fixture f = store_up_run();
	put_checkpoints(&f, saved, 8);
	fold(&f, true);
	pio_keep keep = { .last = 1, .every = 100 };
	assert_string_equal(judged(&f, keep), "300 last,299 -,250 every,100 every,90 -,60 -,30 -,5 -");
	/* With what is left the same ones stay. */
	retain(&f, keep);
	assert_string_equal(judged(&f, keep), "300 last,250 every,100 every");
	keep.every = 50;
	assert_string_equal(judged(&f, keep), "300 last,250 every,100 every");
	store_down(&f);
}

/* "pinned", and "needed" by an open run that grows from it, and by an attempt that
 * resumed from it and has not saved yet. */
static void what_somebody_needs_stays(void **unused)
{
	(void)unused;
	static const int64_t five[] = { 10, 20, 30, 40, 50 };
	fixture f = store_up_run();
	put_checkpoints(&f, five, 5);
	fold(&f, true);
	pio_keep keep = { .last = 1 };
	check_ok(pio_store_checkpoint_pin(f.store, 1, "paper", &err));
	check_ok(pio_store_checkpoint_pin(f.store, 1, "table 2", &err));
	run_sql(f.store, "INSERT INTO run (ulid, experiment_id, number, status, from_checkpoint, created_ns)"
	        " SELECT 'x', experiment_id, 99, 'planned', (SELECT manifest_sha256 FROM checkpoint WHERE"
	        " step = 20), 1 FROM run LIMIT 1");
	run_sql(f.store, "INSERT INTO attempt (run_id, number, state, launcher, dir, world_size, created_ns,"
	        " resume_checkpoint) SELECT id, 9, 'running', 'local', 'd', 1, 1, (SELECT manifest_sha256 FROM"
	        " checkpoint WHERE step = 30) FROM run WHERE ulid = 'x'");
	assert_string_equal(judged(&f, keep), "50 last,40 -,30 needed,20 needed,10 pinned");
	assert_string_equal(sql_text(f.store, "SELECT reason FROM pin"), "table 2");
	run_sql(f.store, "UPDATE run SET status = 'finished' WHERE ulid = 'x'");
	run_sql(f.store, "UPDATE attempt SET state = 'ended', result = 'ok' WHERE number = 9");
	check_ok(pio_store_checkpoint_unpin(f.store, 1, &err));
	check_ok(pio_store_checkpoint_pin(f.store, 2, NULL, &err));
	retain(&f, keep);
	assert_string_equal(steps_of(&f, "true"), "20,50");
	/* Whoever drops a pinned one by name takes the pin along. */
	check_ok(pio_store_checkpoint_drop(f.store, 2, &err));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM pin"), 0);
	store_down(&f);
}

/* Of 100,000 runs none is looked at that has nothing to do with the checkpoint. */
static void who_needs_it_is_found_by_an_index(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	sqlite3_stmt *row = NULL;
	pio_str plan = PIO_STR_INIT;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f.store), "EXPLAIN QUERY PLAN SELECT " PIO_CHECKPOINT_NEEDED
	                                    " FROM checkpoint c WHERE c.id = 1", -1, &row, NULL), SQLITE_OK);
	while (sqlite3_step(row) == SQLITE_ROW)
		pio_str_printf(&plan, "%s\n", sqlite3_column_text(row, 3));
	sqlite3_finalize(row);
	assert_null(strstr(plan.data, "SCAN r"));
	assert_null(strstr(plan.data, "SCAN a"));
	assert_null(strstr(plan.data, "SCAN own"));
	assert_non_null(strstr(plan.data, "run_by_checkpoint (from_checkpoint=?)"));
	assert_non_null(strstr(plan.data, "attempt_by_checkpoint (resume_checkpoint=?)"));
	assert_non_null(strstr(plan.data, "checkpoint_by_attempt (attempt_id=?)"));
	pio_str_fini(&plan);
	store_down(&f);
}

static void damage(fixture *f, const char *step, bool keep_size)
{
	char sql[200];
	pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT;
	snprintf(sql, sizeof sql, "SELECT sha256 FROM checkpoint_file JOIN checkpoint c ON c.id = checkpoint_id"
	         " WHERE step = %s AND role = 'model'", step);
	check_ok(pio_store_object_path(&path, f->store, sql_text(f->store, sql), &err));
	check_ok(pio_fs_read(&bytes, path.data, &err));
	bytes.data[bytes.len - 1] ^= 1;
	check_ok(pio_fs_write(path.data, bytes.data, bytes.len - !keep_size, 0666, &err));
	pio_str_fini(&path);
	pio_str_fini(&bytes);
}

/* A damaged one protects nothing, is not the best and not what is resumed from. */
static void nothing_is_dropped_for_a_damaged_one(void **unused)
{
	(void)unused;
	static const int64_t four[] = { 10, 20, 30, 40 };
	int64_t id;
	fixture f = store_up_run();
	put_checkpoints(&f, four, 4);
	fold(&f, true);
	pio_keep keep = { .last = 1 };
	damage(&f, "40", true);
	damage(&f, "30", true);
	assert_int_equal(retain(&f, keep), 3);
	assert_string_equal(judged(&f, keep), "40 damaged,30 damaged,20 last");
	check_ok(pio_store_checkpoint_newest(&id, f.store, f.run, &err));
	assert_int_equal(id, 2);
	/* Nothing sound is left: all stays. */
	damage(&f, "20", false);
	pio_verify_result r;
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(retain(&f, (pio_keep){ 0 }), 0);
	assert_string_equal(steps_of(&f, "true"), "20,30,40");
	store_down(&f);
}

/* Each of them would be waited for anew. */
static void a_store_that_is_held_is_told_and_nothing_is_tried_twice(void **unused)
{
	(void)unused;
	static const int64_t three[] = { 10, 20, 30 };
	const pio_keep keep = { .last = 1 };
	fixture f = store_up_run();
	sqlite3 *other;
	int64_t unread;
	put_checkpoints(&f, three, 3);
	fold(&f, true);
	check_ok(pio_store_verify(&(pio_verify_result){ 0 }, f.store, &(pio_verify_options){ .how = PIO_VERIFY_REREAD },
	                          NULL, NULL, &err));
	assert_int_equal(sqlite3_open(path_in(f.dir, "pioche.db"), &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_busy_timeout(pio_store_db(f.store), 0);
	check_fails(pio_store_checkpoint_retain(&unread, f.store, f.run, &keep, &err), PIO_EBUSY,
	            "another process is writing");
	assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	assert_string_equal(steps_of(&f, "true"), "10,20,30");
	assert_int_equal(retain(&f, keep), 0);
	assert_string_equal(steps_of(&f, "true"), "30");
	store_down(&f);
}

static void a_file_that_no_row_names_can_go(void **unused)
{
	(void)unused;
	int64_t bytes;
	fixture f = store_up_run();
	put_checkpoints(&f, (const int64_t[]){ 10 }, 1);
	fold(&f, true);
	char orphan[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", name[100];
	snprintf(name, sizeof name, "objects/01/%s", orphan);
	check_ok(pio_fs_mkdirs(path_in(f.dir, "objects/01"), 0777, &err));
	check_ok(pio_fs_write(path_in(f.dir, name), "left", 4, 0444, &err));
	check_ok(pio_store_orphan_remove(&bytes, f.store, orphan, &err));
	assert_int_equal(bytes, 4);
	assert_int_equal(pio_fs_type(path_in(f.dir, name)), PIO_FS_NONE);
	check_ok(pio_store_orphan_remove(&bytes, f.store, orphan, &err));
	assert_int_equal(bytes, -1);
	check_ok(pio_store_orphan_remove(&bytes, f.store, sql_text(f.store, "SELECT sha256 FROM object"), &err));
	assert_int_equal(bytes, -1);
	check_all_there(&f, 1, 2);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(retention_keeps_the_last_and_the_best),
		cmocka_unit_test(one_stays_for_every_so_many_steps),
		cmocka_unit_test(what_somebody_needs_stays),
		cmocka_unit_test(who_needs_it_is_found_by_an_index),
		cmocka_unit_test(nothing_is_dropped_for_a_damaged_one),
		cmocka_unit_test(a_store_that_is_held_is_told_and_nothing_is_tried_twice),
		cmocka_unit_test(a_file_that_no_row_names_can_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
