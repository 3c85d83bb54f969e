#include "checkpoint_fixture.h"

#include <errno.h>

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

static void retention_keeps_the_last_and_the_best(void **unused)
{
	(void)unused;
	static const int64_t five[] = { 10, 20, 30, 40, 50 };
	static const double losses[] = { 5, 1, 3, 2, 4 };
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
	check_ok(pio_store_checkpoint_retain(f.store, f.run, -1, 1, "val/loss", "minimize", &err));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint"), 5);
	check_ok(pio_store_checkpoint_retain(f.store, f.run, 2, 2, "val/loss", "minimize", &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(step) FROM (SELECT step FROM checkpoint"
	                             " ORDER BY step)"), "20,40,50");
	check_ok(pio_store_checkpoint_retain(f.store, f.run, 1, 1, "val/loss", "minimize", &err));
	assert_string_equal(sql_text(f.store, "SELECT group_concat(step) FROM (SELECT step FROM checkpoint"
	                             " ORDER BY step)"), "20,50");
	check_ok(pio_store_checkpoint_retain(f.store, f.run, 0, 0, NULL, NULL, &err));
	assert_int_equal(sql_int(f.store, "SELECT step FROM checkpoint"), 50);
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
		cmocka_unit_test(what_cannot_be_published_is_told),
		cmocka_unit_test(the_index_lists_every_tensor),
		cmocka_unit_test(dropping_keeps_shared_objects),
		cmocka_unit_test(a_checkpoint_with_a_missing_file_is_not_the_newest),
		cmocka_unit_test(retention_keeps_the_last_and_the_best),
		cmocka_unit_test(a_kill_while_publishing_is_made_good),
		cmocka_unit_test(an_error_while_publishing_is_made_good),
		cmocka_unit_test(a_kill_while_dropping_is_made_good),
		cmocka_unit_test(staging_of_ended_attempts_is_swept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
