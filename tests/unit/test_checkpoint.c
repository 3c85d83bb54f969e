#include "checkpoint_fixture.h"

#include <errno.h>

static const int64_t three[] = { 10, 20, 30 };

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
		snprintf(sql, sizeof sql, "SELECT sha256 FROM checkpoint_file WHERE checkpoint_id = 2 AND rank = %d",
		         rank);
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
	static const char *const ways_out[] = { "..", "../pioche.db", ULID_1 "/../../pioche.db", ULID_1 "/.." };
	for (int i = 0; i < 4; i++) {
		snprintf(outside.path, sizeof outside.path, "%s/staging/%s", f.dir, ways_out[i]);
		put_checkpoint(w, 0, 20 + i, 1, &outside, 1);
	}
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
	                 7);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE message LIKE '%does not lie in the"
	                         " store''s staging/%'"), 4);
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

static void run_sql(const fixture *f, const char *sql)
{
	assert_int_equal(sqlite3_exec(pio_store_db(f->store), sql, NULL, NULL, NULL), SQLITE_OK);
}

/* A program may log as a file what it saves as well. */
static void dropping_keeps_what_was_logged(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	put_checkpoints(&f, three, 1);
	fold(&f, true);
	run_sql(&f, "INSERT INTO media (run_id, rank, kind, key, time_ns, mime, bytes, sha256) SELECT 1, 0, 'file',"
	        " 'model', 1, '', 1, sha256 FROM checkpoint_file WHERE role = 'model'");
	check_ok(pio_store_checkpoint_drop(f.store, 1, &err));
	check_all_there(&f, 0, 1);
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

/* ---- faults --------------------------------------------------------------------------- */

typedef struct fault {
	const fixture *f;
	uint64_t n;
	bool drop;
} fault;

/* A fold that takes long (another wants to write, too) has published the first checkpoint by then. */
static void check_so_far(fixture *f)
{
	int64_t there = sql_int(f->store, "SELECT count(*) FROM checkpoint");
	assert_in_range(there, 0, 2);
	check_all_there(f, there, there ? there + 1 : 0);
}

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

/* Killed at the n-th file operation of a publish, for every n: no half checkpoint, and
 * the next fold publishes. */
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
			check_so_far(&f);
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
				check_so_far(&f);
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

/* Of runs that the store does not know; the time is in the name. */
static void staging_of_strangers_is_swept_when_it_is_old(void **unused)
{
	(void)unused;
	static const char *const old[] = { "01BX5ZZKBKACTAV9WEVGEMMVRZ", "01BX5ZZKBKACTAV9WEVGEMMVS0",
		"01BX5ZZKBKACTAV9WEVGEMMVS1" };
	char staged[4][200], young[PIO_ULID_CHARS + 1];
	pio_ulid ulid;
	int fd = -1;
	fixture f = store_up_run();
	pio_ulid_new(&ulid);
	pio_ulid_format(&ulid, young);
	for (int i = 0; i < 4; i++) {
		snprintf(staged[i], sizeof staged[i], "%s/staging/%s", f.dir, i < 3 ? old[i] : young);
		check_ok(pio_fs_mkdirs(staged[i], 0777, &err));
	}
	/* The second is of an import that goes on, the third of a program that nobody adopted yet. */
	check_ok(pio_fs_lock(&fd, path_in(staged[1], "lock"), &err));
	snprintf(staged[0], sizeof staged[0], "%s/runs/%s", f.dir, old[2]);
	check_ok(pio_fs_mkdirs(staged[0], 0777, &err));
	check_ok(pio_store_checkpoint_recover(f.store, &err));
	snprintf(staged[0], sizeof staged[0], "%s/staging/%s", f.dir, old[0]);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pio_fs_type(staged[i]), i ? PIO_FS_DIR : PIO_FS_NONE);
	check_ok(pio_fs_close(&fd, "lock", &err));
	check_ok(pio_store_checkpoint_recover(f.store, &err));
	assert_int_equal(pio_fs_type(staged[1]), PIO_FS_NONE);
	store_down(&f);
}

/* Several that were to go, and a report that the others will never follow. */
static void all_that_was_cut_short_is_finished(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	put_checkpoints(&f, three, 3);
	fold(&f, true);
	run_sql(&f, "UPDATE checkpoint SET state = 'dropping' WHERE step < 30;"
	        " INSERT INTO checkpoint_save (attempt_id, step, writers, round, reports) VALUES (1, 40, 2, 0, 1)");
	check_ok(pio_store_checkpoint_recover(f.store, &err));
	check_all_there(&f, 1, 2);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_save"), 1);
	pio_store_attempt_end end = { .result = "ok", .rank = -1, .exit_code = -1, .signal = -1,
	                              .step = INT64_MIN };
	check_ok(pio_store_attempt_finish(f.store, f.attempt, &end, &err));
	check_ok(pio_store_checkpoint_recover(f.store, &err));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_save"), 0);
	store_down(&f);
}

/* A full disk fails each of the ranks: a report costs the same, however many there were. */
static void many_that_fail_cost_as_much_each(void **unused)
{
	(void)unused;
	enum { WRITERS = 200 };
	fixture f = store_up_run();
	shard late = stage(&f, "late", 1);
	pio_journal_writer *w = journal_up(&f, 1);
	for (uint32_t rank = 0; rank < WRITERS; rank++)
		put_save(w, (pio_save){ .rank = rank, .writers = WRITERS + 1, .step = 7 },
		         rank == WRITERS / 2 ? &late : NULL);
	journal_down(w);
	int before = sqlite3_total_changes(pio_store_db(f.store));
	assert_int_equal(fold(&f, true).checkpoints, 0);
	int changes = sqlite3_total_changes(pio_store_db(f.store)) - before;
	if (changes > 10 * WRITERS)
		fail_msg("%d rows were changed", changes);
	assert_false(is_there(&late));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_report WHERE report = '{}'"), WRITERS);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'checkpoint.failed'"), 1);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_writer_publishes),
		cmocka_unit_test(a_step_saved_again_is_another_only_if_it_differs),
		cmocka_unit_test(saves_of_one_step_are_never_mixed),
		cmocka_unit_test(a_writer_that_fails_leaves_no_files_of_the_others),
		cmocka_unit_test(many_that_fail_cost_as_much_each),
		cmocka_unit_test(what_a_checkpoint_cost_is_its_row),
		cmocka_unit_test(what_is_not_a_number_is_kept_as_it_is),
		cmocka_unit_test(what_cannot_be_published_is_told),
		cmocka_unit_test(the_index_lists_every_tensor),
		cmocka_unit_test(dropping_keeps_shared_objects),
		cmocka_unit_test(dropping_keeps_what_was_logged),
		cmocka_unit_test(a_checkpoint_with_a_missing_file_is_not_the_newest),
		cmocka_unit_test(what_is_passed_over_is_said_once_with_the_reason),
		cmocka_unit_test(a_kill_while_publishing_is_made_good),
		cmocka_unit_test(an_error_while_publishing_is_made_good),
		cmocka_unit_test(a_kill_while_dropping_is_made_good),
		cmocka_unit_test(staging_of_ended_attempts_is_swept),
		cmocka_unit_test(staging_of_strangers_is_swept_when_it_is_old),
		cmocka_unit_test(all_that_was_cut_short_is_finished),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
