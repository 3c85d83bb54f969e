#include "checkpoint_fixture.h"

#include <errno.h>

#include "store/retain.h"

static const int64_t three[] = { 10, 20, 30 };

static void check_all_there(fixture *f, int64_t checkpoints, int64_t objects)
{
	pio_verify_result r;
	check_sound(f->store);
	assert_int_equal(sql_int(f->store, "SELECT count(*) FROM checkpoint"), checkpoints);
	check_ok(pio_store_verify(&r, f->store, NULL, NULL, NULL, &err));
	assert_int_equal(r.objects, objects);
	assert_int_equal(r.bad + r.missing, 0);
}

static void the_last_writer_publishes(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard a[2] = { stage(&f, "a", 1), stage(&f, "b", 2) }, b[1] = { stage(&f, "c", 3) };
	pio_journal_writer *w = journal_up(&f, 1);
	put_checkpoint(w, 1, 40, 2, b, 1);
	check_ok(pio_journal_flush(w, 0, &err));
	assert_int_equal(fold(&f, false).checkpoints, 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint"), 0);
	put_checkpoint(w, 0, 40, 2, a, 2);
	journal_down(w);
	assert_int_equal(fold(&f, false).checkpoints, 1);
	check_all_there(&f, 1, 3);
	char expected[1000], hex[PIO_SHA256_HEX + 1];
	snprintf(expected, sizeof expected, "{\"attempt\":1,\"commit\":null,\"experiment\":\"gpt\",\"files\":["
	         "{\"bytes\":%d,\"rank\":0,\"role\":\"model\",\"sha256\":\"%s\"},"
	         "{\"bytes\":%d,\"rank\":0,\"role\":\"optim.m\",\"sha256\":\"%s\"},"
	         "{\"bytes\":%d,\"rank\":1,\"role\":\"model\",\"sha256\":\"%s\"}],\"from\":null,\"number\":1,"
	         "\"run\":\"" ULID_1 "\",\"step\":40,\"version\":1,\"writers\":2}", (int)a[0].bytes, a[0].sha256,
	         (int)a[1].bytes, a[1].sha256, (int)b[0].bytes, b[0].sha256);
	assert_string_equal(sql_text(f.store, "SELECT manifest FROM checkpoint"), expected);
	check_ok(pio_sha256_bytes(expected, strlen(expected), hex, &err));
	assert_string_equal(sql_text(f.store, "SELECT manifest_sha256 FROM checkpoint"), hex);
	assert_int_equal(sql_int(f.store, "SELECT stall_ns FROM checkpoint"), 1001);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_report"), 0);
	assert_string_equal(sql_text(f.store, "SELECT dtype || shape || bytes FROM tensor LIMIT 1"), "F32[2]8");
	int64_t id, found;
	check_ok(pio_store_checkpoint_newest(&id, f.store, f.run, &err));
	check_ok(pio_store_checkpoint_find(&found, f.store, hex, &err));
	assert_true(id == 1 && found == 1);
	store_down(&f);
}

/* A step saved again: with other bytes it is a second checkpoint, and the newer one
 * is the newest; with the same bytes nothing is added. */
static void a_step_saved_again_is_another_only_if_it_differs(void **unused)
{
	(void)unused;
	int64_t id;
	fixture f = store_up_run();
	shard first = stage(&f, "a", 1), other = stage(&f, "b", 2), same = stage(&f, "c", 2);
	pio_journal_writer *w = journal_up(&f, 1);
	put_checkpoint(w, 0, 10, 1, &first, 1);
	put_checkpoint(w, 0, 10, 1, &other, 1);
	check_ok(pio_journal_flush(w, 0, &err));
	assert_int_equal(fold(&f, false).checkpoints, 2);
	put_checkpoint(w, 0, 10, 1, &same, 1);
	journal_down(w);
	fold(&f, true);
	check_all_there(&f, 2, 2);
	check_ok(pio_store_checkpoint_newest(&id, f.store, f.run, &err));
	assert_int_equal(id, 2);
	assert_string_equal(sql_text(f.store, "SELECT sha256 FROM checkpoint_file WHERE checkpoint_id = 2"),
	                    other.sha256);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	store_down(&f);
}

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
		snprintf(sql, sizeof sql, "SELECT sha256 FROM checkpoint_file WHERE checkpoint_id = 2 AND rank = %d", rank);
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
			put_save(w, (pio_save){ .rank = rank, .writers = 3, .step = 7 }, rank == failing ? NULL : &s[rank]);
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
		assert_non_null(strstr(sql_text(f.store, "SELECT message FROM event"), "could not save its part: No space"));
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

static void what_is_not_a_number_is_kept_as_it_is(void **unused)
{
	(void)unused;
	float nan;
	const uint32_t bits = 0x7fa12345; /* signalling, with a payload */
	pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT;
	fixture f = store_up_run();
	memcpy(&nan, &bits, sizeof nan);
	shard a = stage(&f, "a", nan);
	pio_journal_writer *w = journal_up(&f, 1);
	put_checkpoint(w, 0, 10, 1, &a, 1);
	journal_down(w);
	assert_int_equal(fold(&f, true).checkpoints, 1);
	check_all_there(&f, 1, 1);
	check_ok(pio_store_object_path(&path, f.store, a.sha256, &err));
	check_ok(pio_fs_read(&bytes, path.data, &err));
	assert_memory_equal(bytes.data + bytes.len - 8, &bits, sizeof bits);
	pio_str_fini(&bytes);
	pio_str_fini(&path);
	store_down(&f);
}

static void what_cannot_be_published_is_told(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard lost = stage(&f, "a", 1), outside = stage(&f, "b", 2), plain = stage(&f, "c", 3);
	shard odd = stage(&f, "d", 4);
	pio_journal_writer *w = journal_up(&f, 1);
	check_ok(pio_fs_unlink(lost.path, &err));
	put_checkpoint(w, 0, 1, 1, &lost, 1);
	snprintf(outside.path, sizeof outside.path, "%s/staging/../pioche.db", f.dir);
	put_checkpoint(w, 0, 2, 1, &outside, 1);
	check_ok(pio_fs_write(plain.path, "no tensors", 10, 0666, &err));
	plain.bytes = 10;
	put_checkpoint(w, 0, 3, 1, &plain, 1);
	memset(odd.sha256, 'Z', PIO_SHA256_HEX);
	put_checkpoint(w, 0, 4, 1, &odd, 1);
	put_key(w, 0, 1, "loss");
	put_point(w, 0, 1, 1, 1);
	journal_down(w);
	assert_int_equal(fold(&f, true).points, 1);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint"), 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE message LIKE '%cannot be published%'"),
	                 4);
	assert_int_equal(pio_fs_type(path_in(f.dir, "pioche.db")), PIO_FS_FILE);
	store_down(&f);
}

static void the_index_lists_every_tensor(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_str text = PIO_STR_INIT;
	put_checkpoints(&f, three, 1);
	fold(&f, true);
	check_ok(pio_store_checkpoint_index(f.store, 1, path_in(f.dir, "index"), &err));
	check_ok(pio_fs_read(&text, path_in(f.dir, "index"), &err));
	char sha256[2][PIO_SHA256_HEX + 1], expected[2000];
	snprintf(sha256[0], sizeof sha256[0], "%s", sql_text(f.store, "SELECT sha256 FROM checkpoint_file WHERE"
	                                                     " role = 'model'"));
	snprintf(sha256[1], sizeof sha256[1], "%s", sql_text(f.store, "SELECT sha256 FROM checkpoint_file WHERE"
	                                                     " role = 'optim.m'"));
	int64_t offset = sql_int(f.store, "SELECT offset FROM tensor");
	snprintf(expected, sizeof expected, "pioche-resume 2 10\n"
	         "file\tmodel\t0\t%s/objects/%.2s/%s\ntensor\tw\\t\tF32\t%" PRId64 "\t2\n"
	         "file\toptim.m\t0\t%s/objects/%.2s/%s\ntensor\tw\\t\tF32\t%" PRId64 "\t2\n", f.dir, sha256[0],
	         sha256[0], offset, f.dir, sha256[1], sha256[1], offset);
	assert_string_equal(text.data, expected);
	check_fails(pio_store_checkpoint_index(f.store, 9, path_in(f.dir, "index"), &err), PIO_ENOTFOUND, "9");
	pio_str_fini(&text);
	store_down(&f);
}

static void dropping_keeps_shared_objects(void **unused)
{
	(void)unused;
	int64_t id;
	fixture f = store_up_run();
	put_checkpoints(&f, three, 3);
	assert_int_equal(fold(&f, true).checkpoints, 3);
	check_all_there(&f, 3, 4);
	check_ok(pio_store_checkpoint_drop(f.store, 3, &err));
	check_all_there(&f, 2, 3);
	check_ok(pio_store_checkpoint_newest(&id, f.store, f.run, &err));
	assert_int_equal(sql_int(f.store, "SELECT step FROM checkpoint ORDER BY id DESC"), 20);
	check_ok(pio_store_checkpoint_drop(f.store, 1, &err));
	check_ok(pio_store_checkpoint_drop(f.store, 2, &err));
	check_all_there(&f, 0, 0);
	pio_verify_result r;
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.orphans, 0);
	check_fails(pio_store_checkpoint_drop(f.store, 1, &err), PIO_ENOTFOUND, "1");
	store_down(&f);
}

static void a_checkpoint_with_a_missing_file_is_not_the_newest(void **unused)
{
	(void)unused;
	int64_t id;
	pio_str path = PIO_STR_INIT;
	fixture f = store_up_run();
	put_checkpoints(&f, three, 2);
	fold(&f, true);
	check_ok(pio_store_object_path(&path, f.store, sql_text(f.store, "SELECT sha256 FROM checkpoint_file WHERE"
	                               " checkpoint_id = 2 AND role = 'model'"), &err));
	check_ok(pio_fs_unlink(path.data, &err));
	check_ok(pio_store_checkpoint_newest(&id, f.store, f.run, &err));
	assert_int_equal(id, 1);
	pio_str_fini(&path);
	store_down(&f);
}

static void what_is_passed_over_is_said_once_with_the_reason(void **unused)
{
	(void)unused;
	int64_t id;
	fixture f = store_up_run();
	put_checkpoints(&f, three, 3);
	fold(&f, true);
	check_ok(pio_store_checkpoint_resume(&id, f.store, f.run, &err));
	assert_int_equal(id, 3);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	/* What a reread found wrong counts, though the file has its size. */
	static const char sql[] = "UPDATE object SET verified = 'has other bytes than its name says' WHERE sha256 ="
		" (SELECT sha256 FROM checkpoint_file WHERE checkpoint_id = 3 AND role = 'model')";
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), sql, NULL, NULL, NULL), SQLITE_OK);
	for (int again = 0; again < 2; again++) {
		check_ok(pio_store_checkpoint_resume(&id, f.store, f.run, &err));
		assert_int_equal(id, 2);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'checkpoint.unsound'"), 1);
	}
	const char *said = sql_text(f.store, "SELECT message FROM event");
	assert_non_null(strstr(said, "the checkpoint of step 30 is passed over: rank 0's model (object "));
	assert_non_null(strstr(said, "...) has other bytes than its name says; step 20 is the newest sound one"));
	/* Both files of all. */
	check_ok(pio_fs_remove_tree(path_in(f.dir, "objects"), &err));
	check_ok(pio_store_checkpoint_resume(&id, f.store, f.run, &err));
	assert_int_equal(id, 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE message LIKE"
	                         " '%is missing (and 1 more of its files); none is sound%begins anew'"), 2);
	store_down(&f);
}

/* ---- retention -------------------------------------------------------------------------- */

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

static void a_file_that_no_row_names_can_go(void **unused)
{
	(void)unused;
	int64_t bytes;
	fixture f = store_up_run();
	put_checkpoints(&f, three, 1);
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

/* ---- faults --------------------------------------------------------------------------- */

typedef struct fault {
	const fixture *f;
	uint64_t n;
	bool drop;
} fault;

static void work_until_fault(void *argument)
{
	const fault *x = argument;
	pio_fold_result result;
	pio_store *store;
	if (pio_store_open(&store, x->f->dir, PIO_STORE_WRITE, NULL) != 0)
		_exit(3);
	pio_fs_fault_at("wsru", x->n, 0);
	int rc = x->drop ? pio_store_checkpoint_drop(store, 1, NULL)
	                 : pio_store_fold_attempt(&result, store, x->f->attempt, true, NULL);
	pio_fs_fault_at("", 0, 0);
	_exit(rc ? 4 : 42);
}

/* Killed at the n-th file operation of a publish, for every n: no row, and the
 * next fold publishes. */
static void a_kill_while_publishing_is_made_good(void **unused)
{
	(void)unused;
	for (uint64_t n = 1;; n++) {
		fixture f = store_up_run();
		put_checkpoints(&f, three, 2);
		pio_store_close(&f.store);
		fault x = { &f, n, false };
		int status = in_child(work_until_fault, &x);
		check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_WRITE, &err));
		check_ok(pio_store_checkpoint_recover(f.store, &err));
		if (status != 42)
			check_all_there(&f, 0, 0);
		fold(&f, true);
		check_all_there(&f, 2, 3);
		store_down(&f);
		if (status == 42) {
			assert_true(n > 5);
			break;
		}
		assert_true(n < 100);
	}
}

/* The same with errors of the system instead of a kill. */
static void an_error_while_publishing_is_made_good(void **unused)
{
	(void)unused;
	static const int errors[] = { EIO, ENOSPC };
	for (int e = 0; e < 2; e++) {
		for (uint64_t n = 1;; n++) {
			pio_fold_result result;
			fixture f = store_up_run();
			put_checkpoints(&f, three, 2);
			pio_fs_fault_at("wsru", n, errors[e]);
			int rc = pio_store_fold_attempt(&result, f.store, f.attempt, true, NULL);
			pio_fs_fault_at("", 0, 0);
			if (rc) {
				assert_int_equal(rc, errors[e] == EIO ? -PIO_EIO : -PIO_ENOSPC);
				check_all_there(&f, 0, 0);
				fold(&f, true);
			}
			check_all_there(&f, 2, 3);
			store_down(&f);
			if (!rc)
				break;
			assert_true(n < 100);
		}
	}
}

static void a_kill_while_dropping_is_made_good(void **unused)
{
	(void)unused;
	for (uint64_t n = 1;; n++) {
		fixture f = store_up_run();
		put_checkpoints(&f, three, 2);
		fold(&f, true);
		pio_store_close(&f.store);
		fault x = { &f, n, true };
		int status = in_child(work_until_fault, &x);
		check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_WRITE, &err));
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint WHERE state = 'sealed'"), 1);
		check_ok(pio_store_checkpoint_recover(f.store, &err));
		check_all_there(&f, 1, 2);
		store_down(&f);
		if (status == 42) {
			assert_true(n > 2);
			break;
		}
		assert_true(n < 100);
	}
}

static void staging_of_ended_attempts_is_swept(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	(void)stage(&f, "left", 1);
	check_ok(pio_fs_mkdirs(path_in(f.dir, "staging/notes"), 0777, &err));
	fold(&f, true);
	check_ok(pio_store_checkpoint_recover(f.store, &err));
	assert_int_equal(pio_fs_type(path_in(f.dir, "staging/" ULID_1)), PIO_FS_DIR);
	pio_store_attempt_end end = { .result = "ok", .rank = -1, .exit_code = -1, .signal = -1,
	                              .step = INT64_MIN };
	check_ok(pio_store_attempt_finish(f.store, f.attempt, &end, &err));
	check_ok(pio_store_checkpoint_recover(f.store, &err));
	assert_int_equal(pio_fs_type(path_in(f.dir, "staging/" ULID_1)), PIO_FS_NONE);
	assert_int_equal(pio_fs_type(path_in(f.dir, "staging/notes")), PIO_FS_DIR);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_writer_publishes),
		cmocka_unit_test(a_step_saved_again_is_another_only_if_it_differs),
		cmocka_unit_test(saves_of_one_step_are_never_mixed),
		cmocka_unit_test(a_writer_that_fails_leaves_no_files_of_the_others),
		cmocka_unit_test(what_a_checkpoint_cost_is_its_row),
		cmocka_unit_test(what_is_not_a_number_is_kept_as_it_is),
		cmocka_unit_test(what_cannot_be_published_is_told),
		cmocka_unit_test(the_index_lists_every_tensor),
		cmocka_unit_test(dropping_keeps_shared_objects),
		cmocka_unit_test(a_checkpoint_with_a_missing_file_is_not_the_newest),
		cmocka_unit_test(what_is_passed_over_is_said_once_with_the_reason),
		cmocka_unit_test(retention_keeps_the_last_and_the_best),
		cmocka_unit_test(one_stays_for_every_so_many_steps),
		cmocka_unit_test(what_somebody_needs_stays),
		cmocka_unit_test(nothing_is_dropped_for_a_damaged_one),
		cmocka_unit_test(a_file_that_no_row_names_can_go),
		cmocka_unit_test(a_kill_while_publishing_is_made_good),
		cmocka_unit_test(an_error_while_publishing_is_made_good),
		cmocka_unit_test(a_kill_while_dropping_is_made_good),
		cmocka_unit_test(staging_of_ended_attempts_is_swept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
