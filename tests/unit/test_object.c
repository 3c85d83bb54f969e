#include "checkpoint_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cached.h"
#include "sys/reread.h"

static void an_object_is_put_once_and_read_only(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard s = stage(&f, "a", 1);
	pio_str path = PIO_STR_INIT;
	struct stat st;
	check_ok(pio_store_object_put(f.store, s.path, s.sha256, (int64_t)s.bytes, &err));
	check_ok(pio_store_object_sync(f.store, s.sha256, &err));
	check_ok(pio_store_object_path(&path, f.store, s.sha256, &err));
	assert_int_equal(stat(path.data, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0444);
	ino_t inode = st.st_ino;
	assert_int_equal(pio_fs_type(s.path), PIO_FS_NONE);
	s = stage(&f, "a", 1);
	check_ok(pio_store_object_put(f.store, s.path, s.sha256, (int64_t)s.bytes, &err));
	assert_int_equal(stat(path.data, &st), 0);
	assert_int_equal(st.st_ino, inode); /* the old file is kept */
	assert_int_equal(pio_fs_type(s.path), PIO_FS_NONE);
	check_ok(pio_store_object_put(f.store, s.path, s.sha256, (int64_t)s.bytes, &err));
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM object"), 1);
	pio_str_fini(&path);
	store_down(&f);
}

static void bad_objects_are_refused(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard s = stage(&f, "a", 1);
	pio_str path = PIO_STR_INIT;
	check_fails(pio_store_object_put(f.store, s.path, "../../etc/passwd", 5, &err), PIO_EINVAL, "64");
	check_fails(pio_store_object_put(f.store, s.path, s.sha256, 5, &err), PIO_ECORRUPT, "5 were reported");
	check_fails(pio_store_object_put(f.store, path_in(f.dir, "staging/none"), s.sha256, 5, &err),
	            PIO_ENOTFOUND, "none");
	check_fails(pio_store_object_path(&path, f.store, "ABC", &err), PIO_EINVAL, "\"ABC\"");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM object"), 0);
	pio_str_fini(&path);
	store_down(&f);
}

static char findings[4096];
static pio_verify_finding last;
static pio_damage_range last_ranges[PIO_DAMAGE_RANGES_MAX];
static char last_object[PIO_SHA256_HEX + 1];

static void note(void *context, const pio_verify_finding *finding, int64_t done, int64_t total)
{
	(void)context;
	assert_true(done <= total);
	if (!finding)
		return;
	snprintf(findings + strlen(findings), sizeof findings - strlen(findings), "%s %s\n", finding->object,
	         finding->what);
	last = *finding;
	for (size_t i = 0; i < finding->ranges_count; i++)
		last_ranges[i] = finding->ranges[i];
	snprintf(last_object, sizeof last_object, "%s", finding->object);
}

static const pio_verify_options quick = { .how = PIO_VERIFY_QUICK };

static char *object_path(const fixture *f, const char *sha256)
{
	static char path[600];
	snprintf(path, sizeof path, "%s/objects/%.2s/%s", f->dir, sha256, sha256);
	return path;
}

static void put(const fixture *f, const shard *s)
{
	check_ok(pio_store_object_put(f->store, s->path, s->sha256, (int64_t)s->bytes, &err));
}

/* As a disk may do it: the file stays, a byte of it is another. */
static void flip(const fixture *f, const char *sha256, off_t at)
{
	uint8_t byte;
	int fd = -1;
	const char *path = object_path(f, sha256);
	assert_int_equal(chmod(path, 0644), 0);
	check_ok(pio_fs_open(&fd, path, O_RDWR, 0, &err));
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	check_ok(pio_fs_close(&fd, path, &err));
	assert_int_equal(chmod(path, 0444), 0);
}

static const char *verdict_of(const fixture *f, const char *sha256)
{
	static char verdict[100];
	sqlite3_stmt *row = NULL;
	assert_int_equal(sqlite3_prepare_v2(pio_store_db(f->store), "SELECT verified FROM object WHERE"
	                                    " sha256 = ?1", -1, &row, NULL), SQLITE_OK);
	sqlite3_bind_text(row, 1, sha256, -1, SQLITE_STATIC);
	assert_int_equal(sqlite3_step(row), SQLITE_ROW);
	snprintf(verdict, sizeof verdict, "%s", sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	return verdict;
}

static void verify_finds_what_is_wrong(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	shard s[3] = { stage(&f, "a", 1), stage(&f, "b", 2), stage(&f, "c", 3) };
	for (int i = 0; i < 3; i++)
		put(&f, &s[i]);
	findings[0] = 0;
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(r.objects, 3);
	assert_int_equal(r.bytes, s[0].bytes * 3);
	assert_int_equal(r.bad + r.missing + r.orphans, 0);
	assert_string_equal(findings, "");
	assert_int_equal(sql_int(f.store, "SELECT sum(verified = 'reread') FROM object"), 3);

	check_ok(pio_fs_rename(object_path(&f, s[0].sha256), path_in(f.dir, "aside"), &err));
	flip(&f, s[1].sha256, (off_t)s[1].bytes - 1);
	check_ok(pio_fs_mkdirs(path_in(f.dir, "objects/00"), 0777, &err));
	check_ok(pio_fs_write(path_in(f.dir, "objects/00/stranger"), "x", 1, 0666, &err));
	check_ok(pio_store_verify(&r, f.store, &quick, note, NULL, &err));
	assert_int_equal(r.bad, 0); /* size and existence alone */
	assert_int_equal(r.missing, 1);
	assert_string_equal(verdict_of(&f, s[0].sha256), "is missing");
	assert_string_equal(verdict_of(&f, s[1].sha256), "reread");
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(r.bad, 1);
	assert_int_equal(r.missing, 1);
	assert_int_equal(r.orphans, 1);
	assert_non_null(strstr(findings, "is missing"));
	assert_non_null(strstr(findings, "other bytes"));
	assert_non_null(strstr(findings, "stranger"));
	assert_string_equal(verdict_of(&f, s[1].sha256), "has other bytes than its name says");

	/* What is there again is there; that its bytes are right, a quick look cannot say. */
	check_ok(pio_fs_rename(path_in(f.dir, "aside"), object_path(&f, s[0].sha256), &err));
	check_ok(pio_store_verify(&r, f.store, &quick, NULL, NULL, &err));
	assert_int_equal(r.missing, 0);
	assert_string_equal(verdict_of(&f, s[0].sha256), "quick");
	assert_string_equal(verdict_of(&f, s[1].sha256), "has other bytes than its name says");
	flip(&f, s[1].sha256, (off_t)s[1].bytes - 1);
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.bad + r.missing, 0);
	assert_int_equal(sql_int(f.store, "SELECT sum(verified = 'reread') FROM object"), 3);
	store_down(&f);
}

static void a_damaged_object_is_replaced_by_the_next_put(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	shard s = stage(&f, "a", 1);
	put(&f, &s);
	flip(&f, s.sha256, (off_t)s.bytes - 1);
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.bad, 1);
	put(&f, &s); /* nothing is staged: what is there stays, and is known to be bad */
	assert_string_equal(verdict_of(&f, s.sha256), "has other bytes than its name says");
	s = stage(&f, "a", 1);
	put(&f, &s);
	assert_string_equal(verdict_of(&f, s.sha256), "write");
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.bad + r.missing + r.orphans, 0);
	/* The same, killed between the rename and the commit, and done again. */
	flip(&f, s.sha256, (off_t)s.bytes - 1);
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	s = stage(&f, "a", 1);
	check_ok(pio_fs_rename(s.path, object_path(&f, s.sha256), &err));
	put(&f, &s);
	assert_string_equal(verdict_of(&f, s.sha256), "write");
	store_down(&f);
}

/* A file of 40 MiB, which is two blocks and a half. */
static shard stage_large(const fixture *f)
{
	shard s = { .bytes = 40 << 20 };
	uint8_t *bytes = pio_calloc(1, s.bytes);
	assert_non_null(bytes);
	for (uint64_t i = 0; i < s.bytes; i += 4096)
		bytes[i] = (uint8_t)(i >> 12);
	check_ok(pio_fs_mkdirs(path_in(f->dir, "staging/" ULID_1), 0777, &err));
	snprintf(s.path, sizeof s.path, "%s/staging/" ULID_1 "/large", f->dir);
	check_ok(pio_fs_write(s.path, bytes, s.bytes, 0666, &err));
	check_ok(pio_sha256_bytes(bytes, s.bytes, s.sha256, &err));
	pio_free(bytes);
	return s;
}

static void damage_is_located(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	const int64_t block = PIO_BLOCK_BYTES;
	shard s = stage_large(&f);
	put(&f, &s);
	/* Nobody has read it yet, so nobody knows what its blocks were. */
	flip(&f, s.sha256, block + 5);
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(r.bad, 1);
	assert_int_equal(last.ranges_count, 0);
	flip(&f, s.sha256, block + 5);
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(r.bad, 0);
	assert_int_equal(sql_int(f.store, "SELECT length(digests) FROM object_block"), 3 * PIO_BLOCK_DIGEST_BYTES);

	flip(&f, s.sha256, block + 5);
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_string_equal(last_object, s.sha256);
	assert_int_equal(last.bytes, s.bytes);
	assert_int_equal(last.ranges_count, 1);
	assert_int_equal(last_ranges[0].begin, block);
	assert_int_equal(last_ranges[0].end, 2 * block);
	flip(&f, s.sha256, (off_t)s.bytes - 1); /* the block behind it: one range */
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(last.ranges_count, 1);
	assert_int_equal(last_ranges[0].end, s.bytes);
	flip(&f, s.sha256, block + 5);
	flip(&f, s.sha256, 0);
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(last.ranges_count, 2);
	assert_int_equal(last_ranges[0].begin, 0);
	assert_int_equal(last_ranges[1].begin, 2 * block);

	assert_int_equal(chmod(object_path(&f, s.sha256), 0644), 0);
	assert_int_equal(truncate(object_path(&f, s.sha256), 1000), 0);
	check_ok(pio_store_verify(&r, f.store, &quick, note, NULL, &err));
	assert_string_equal(last.what, "has a wrong size");
	assert_int_equal(last_ranges[0].begin, 1000);
	assert_int_equal(last_ranges[0].end, s.bytes);
	/* The digests go with their object. */
	check_ok(pio_store_begin(f.store, &err));
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), "DELETE FROM object", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM object_block"), 0);
	check_ok(pio_store_commit(f.store, &err));
	store_down(&f);
}

/* ---- passes -------------------------------------------------------------------------- */

/* Nothing is synced: there are many. */
static void make_objects(const fixture *f, shard *shards, int count)
{
	check_ok(pio_fs_mkdirs(path_in(f->dir, "staging/" ULID_1), 0777, &err));
	check_ok(pio_store_begin(f->store, &err));
	for (int i = 0; i < count; i++) {
		shard *s = &shards[i];
		char text[32];
		int fd = -1;
		*s = (shard){ .bytes = (uint64_t)snprintf(text, sizeof text, "these are the bytes of %03d", i) };
		snprintf(s->path, sizeof s->path, "%s/staging/" ULID_1 "/x", f->dir);
		check_ok(pio_fs_open(&fd, s->path, O_WRONLY | O_CREAT | O_EXCL, 0666, &err));
		check_ok(pio_fs_write_all(fd, text, s->bytes, s->path, &err));
		check_ok(pio_fs_close(&fd, s->path, &err));
		check_ok(pio_sha256_bytes(text, s->bytes, s->sha256, &err));
		put(f, s);
	}
	check_ok(pio_store_commit(f->store, &err));
}

#define MANY 300
#define DIES_AFTER 280

static int seen;

static void die_amid(void *context, const pio_verify_finding *finding, int64_t done, int64_t total)
{
	(void)context;
	(void)total;
	if (!finding && done > 0 && ++seen == DIES_AFTER * 2)
		kill(getpid(), SIGKILL);
}

static int64_t not_verified_since(const fixture *f, int64_t ns)
{
	char sql[100];
	snprintf(sql, sizeof sql, "SELECT count(*) FROM object WHERE verified_ns < %lld", (long long)ns);
	return sql_int(f->store, sql);
}

static void a_pass_that_was_killed_goes_on(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	static shard s[MANY];
	pio_verify_result r;
	make_objects(&f, s, MANY);
	flip(&f, s[7].sha256, 3);
	pio_store_close(&f.store);
	pid_t pid = fork();
	if (pid == 0) {
		pio_store *store;
		seen = 0;
		if (pio_store_open(&store, f.dir, PIO_STORE_WRITE, NULL) == 0)
			pio_store_verify(&r, store, NULL, die_amid, NULL, NULL);
		_exit(1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, SIGKILL);
	check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_WRITE, &err));
	int64_t earlier = sql_int(f.store, "SELECT objects FROM verification WHERE ended_ns IS NULL");
	assert_true(earlier >= 256 && earlier < MANY);

	int64_t bad_earlier = sql_int(f.store, "SELECT count(*) FROM object WHERE verified LIKE 'has other%'");
	int64_t now_ns = pio_clock_wall_ns();
	findings[0] = 0;
	check_ok(pio_store_verify(&r, f.store, NULL, note, NULL, &err));
	assert_int_equal(r.objects, MANY);
	assert_int_equal(r.bytes, MANY * (int64_t)s[0].bytes);
	assert_int_equal(r.earlier_objects, earlier);
	assert_true(r.begun_ns > 0 && r.begun_ns < now_ns);
	assert_int_equal(r.bad, 1); /* also where the earlier part had found it */
	assert_non_null(strstr(findings, s[7].sha256));
	assert_int_equal(not_verified_since(&f, now_ns), earlier - bad_earlier);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM verification WHERE ended_ns IS NOT NULL"), 1);
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.earlier_objects, 0);
	assert_int_equal(r.begun_ns, 0);
	store_down(&f);
}

static void begun_anew_it_reads_all(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard s[3];
	pio_verify_result r;
	const pio_verify_options anew = { .how = PIO_VERIFY_REREAD, .anew = true };
	make_objects(&f, s, 3);
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), "INSERT INTO verification (part, parts, cursor,"
	                              " objects, bytes, begun_ns) VALUES (1, 1, 'ffff', 3, 9, 1)", NULL, NULL,
	                              NULL), SQLITE_OK);
	check_ok(pio_store_verify(&r, f.store, &anew, NULL, NULL, &err));
	assert_int_equal(r.earlier_objects, 0);
	assert_int_equal(sql_int(f.store, "SELECT sum(verified = 'reread') FROM object"), 3);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM verification"), 1);
	store_down(&f);
}

/* All samples together are all objects, each once. */
static void samples_are_parts_of_the_whole(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard s[40];
	int64_t objects = 0, most = 0;
	make_objects(&f, s, 40);
	for (int part = 1; part <= 4; part++) {
		pio_verify_options sample = { .how = PIO_VERIFY_REREAD, .part = part, .parts = 4 };
		pio_verify_result r;
		check_ok(pio_store_verify(&r, f.store, &sample, note, NULL, &err));
		objects += r.objects;
		most = r.objects > most ? r.objects : most;
		assert_int_equal(sql_int(f.store, "SELECT sum(verified = 'reread') FROM object"), objects);
	}
	assert_int_equal(objects, 40);
	assert_true(most < 40);
	pio_verify_result r;
	pio_verify_options wrong = { .how = PIO_VERIFY_REREAD, .part = 5, .parts = 4 };
	check_fails(pio_store_verify(&r, f.store, &wrong, NULL, NULL, &err), PIO_EINVAL, "5 of 4");
	store_down(&f);
}

static void only_a_run_or_what_was_not_read(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	shard other = stage(&f, "other", 77);
	put(&f, &other);
	put_checkpoints(&f, (const int64_t[]){ 10, 20 }, 2);
	pio_fold_result fold;
	check_ok(pio_store_fold_attempt(&fold, f.store, f.attempt, false, &err));
	pio_verify_options of_run = { .how = PIO_VERIFY_REREAD, .run_id = f.run };
	check_ok(pio_store_verify(&r, f.store, &of_run, NULL, NULL, &err));
	assert_int_equal(r.objects, 3); /* two models, and what both share */
	assert_string_equal(verdict_of(&f, other.sha256), "write");
	pio_verify_options unread = { .how = PIO_VERIFY_REREAD, .only_unread = true };
	check_ok(pio_store_verify(&r, f.store, &unread, NULL, NULL, &err));
	assert_int_equal(r.objects, 1);
	pio_verify_options of_one = { .how = PIO_VERIFY_REREAD,
	                              .checkpoint_id = sql_int(f.store, "SELECT max(id) FROM checkpoint") };
	check_ok(pio_store_verify(&r, f.store, &of_one, NULL, NULL, &err));
	assert_int_equal(r.objects, 2);
	store_down(&f);
}

static void what_is_being_dropped_is_no_finding(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	put_checkpoints(&f, (const int64_t[]){ 10 }, 1);
	pio_fold_result fold;
	check_ok(pio_store_fold_attempt(&fold, f.store, f.attempt, false, &err));
	check_ok(pio_fs_remove_tree(path_in(f.dir, "objects"), &err));
	check_ok(pio_store_verify(&r, f.store, &quick, NULL, NULL, &err));
	assert_int_equal(r.missing, 2);
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), "UPDATE checkpoint SET state = 'dropping'", NULL, NULL,
	                              NULL), SQLITE_OK);
	check_ok(pio_store_verify(&r, f.store, &quick, NULL, NULL, &err));
	assert_int_equal(r.missing, 0);
	store_down(&f);
}

static void a_store_that_cannot_be_written_is_verified(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	shard s[2];
	pio_verify_result r;
	pio_store *reading;
	make_objects(&f, s, 2);
	flip(&f, s[0].sha256, 0);
	check_ok(pio_store_open(&reading, f.dir, PIO_STORE_READ, &err));
	check_ok(pio_store_verify(&r, reading, NULL, NULL, NULL, &err));
	assert_int_equal(r.bad, 1);
	pio_store_close(&reading);
	assert_string_equal(verdict_of(&f, s[0].sha256), "write");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM verification"), 0);
	store_down(&f);
}

static void on_a_full_disk_it_verifies_and_says_that_it_forgets(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	static shard s[MANY];
	char sql[60];
	pio_verify_result r;
	make_objects(&f, s, MANY);
	flip(&f, s[3].sha256, 0);
	snprintf(sql, sizeof sql, "PRAGMA max_page_count = %lld", (long long)sql_int(f.store, "PRAGMA page_count"));
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), sql, NULL, NULL, NULL), SQLITE_OK);
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.objects, MANY);
	assert_int_equal(r.bad, 1);
	assert_int_equal(r.forgotten.code, PIO_ENOSPC);
	assert_int_equal(sqlite3_exec(pio_store_db(f.store), "PRAGMA max_page_count = 1000000", NULL, NULL, NULL),
	                 SQLITE_OK);
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.earlier_objects, 0); /* the pass stayed where it was */
	assert_int_equal(r.bad, 1);
	assert_int_equal(r.forgotten.code, 0);
	assert_string_equal(verdict_of(&f, s[3].sha256), "has other bytes than its name says");
	store_down(&f);
}

static void what_is_no_file_is_named(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	shard s = stage(&f, "a", 1);
	put(&f, &s);
	check_ok(pio_fs_unlink(object_path(&f, s.sha256), &err));
	check_ok(pio_fs_mkdirs(object_path(&f, s.sha256), 0777, &err));
	check_ok(pio_store_verify(&r, f.store, &quick, NULL, NULL, &err));
	assert_int_equal(r.bad, 1);
	assert_string_equal(verdict_of(&f, s.sha256), "is no file");
	store_down(&f);
}

static void what_was_verified_does_not_stay_in_memory(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	pio_fs_place place;
	shard s = stage_large(&f);
	put(&f, &s);
	pio_fs_place_get(&place, f.dir);
	bool is_memory = strcmp(place.name, "tmpfs") == 0;
	check_ok(pio_store_verify(&r, f.store, NULL, NULL, NULL, &err));
	int64_t kept = pages_kept(object_path(&f, s.sha256), s.bytes);
	store_down(&f);
	if (is_memory)
		skip(); /* TMPDIR is on tmpfs, where memory is the disk */
	assert_true(kept < (int64_t)(s.bytes / 4096 / 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_object_is_put_once_and_read_only),
		cmocka_unit_test(bad_objects_are_refused),
		cmocka_unit_test(verify_finds_what_is_wrong),
		cmocka_unit_test(a_damaged_object_is_replaced_by_the_next_put),
		cmocka_unit_test(damage_is_located),
		cmocka_unit_test(a_pass_that_was_killed_goes_on),
		cmocka_unit_test(begun_anew_it_reads_all),
		cmocka_unit_test(samples_are_parts_of_the_whole),
		cmocka_unit_test(only_a_run_or_what_was_not_read),
		cmocka_unit_test(what_is_being_dropped_is_no_finding),
		cmocka_unit_test(a_store_that_cannot_be_written_is_verified),
		cmocka_unit_test(on_a_full_disk_it_verifies_and_says_that_it_forgets),
		cmocka_unit_test(what_is_no_file_is_named),
		cmocka_unit_test(what_was_verified_does_not_stay_in_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
