#include <sys/stat.h>

#include "store/checkpoint.h"
#include "store/media.h"
#include "store/object.h"
#include "store/verify.h"
#include "store_fixture.h"
#include "sys/hash.h"

#define DIR_1 "runs/" ULID_1 "/1"

typedef struct said {
	char kind;
	const char *key, *name, *mime, *sha256, *path, *data;
	uint64_t bytes;
	int64_t step;
} said;

static void put_media(pio_journal_writer *w, const said *m)
{
	pio_str p = PIO_STR_INIT;
	pio_record_put_u32(&p, 3);
	pio_record_put_i64(&p, 77);
	pio_record_put_i64(&p, m->step);
	pio_str_putc(&p, m->kind);
	pio_record_put_str(&p, m->key, strlen(m->key));
	pio_record_put_str(&p, m->name, strlen(m->name));
	pio_record_put_str(&p, m->mime, strlen(m->mime));
	pio_record_put_i64(&p, (int64_t)m->bytes);
	pio_record_put_str(&p, m->sha256, strlen(m->sha256));
	pio_record_put_str(&p, m->path, strlen(m->path));
	pio_record_put_str(&p, m->data, m->sha256[0] ? 0 : strlen(m->data));
	put_record(w, PIO_RECORD_MEDIA, &p);
}

/* A file under the attempt's directory; its digest in `sha256`. */
static void stage(const fixture *f, const char *name, const char *text, char sha256[PIO_SHA256_HEX + 1])
{
	check_ok(pio_fs_mkdirs(path_in(f->dir, DIR_1 "/media"), 0777, &err));
	char path[512];
	snprintf(path, sizeof path, "%s/" DIR_1 "/%s", f->dir, name);
	check_ok(pio_fs_write(path, text, strlen(text), 0644, &err));
	check_ok(pio_sha256_bytes(text, strlen(text), sha256, &err));
}

static void small_bytes_lie_in_the_row(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	put_media(w, &(said){ 'h', "grad", "", "application/json", "", "", "{\"n\":1}", 7, 12 });
	put_media(w, &(said){ 't', "table", "", "text/csv", "", "", "", 0, INT64_MIN });
	journal_down(w);
	fold(&f, true);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	assert_string_equal(sql_text(f.store, "SELECT run_id||rank||kind||key||step||time_ns||mime||bytes||data"
	                             " FROM media WHERE name IS NULL AND kind = 'histogram'"),
	                    "13histogramgrad1277application/json7{\"n\":1}");
	assert_string_equal(sql_text(f.store, "SELECT typeof(step)||typeof(data)||length(data) FROM media"
	                             " WHERE kind = 'table'"), "nullblob0");
	store_down(&f);
}

static void files_become_objects(void **unused)
{
	char sha256[PIO_SHA256_HEX + 1];
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	stage(&f, "media/a.png", "an image", sha256);
	put_media(w, &(said){ 'i', "sample", "a.png", "image/png", sha256, "media/a.png", "", 8, 5 });
	stage(&f, "media/b.png", "an image", sha256); /* the same bytes again */
	put_media(w, &(said){ 'i', "sample", "b.png", "image/png", sha256, "media/b.png", "", 8, 6 });
	journal_down(w);
	uint64_t syncs = pio_fs_counts_get().syncs, dir_syncs = pio_fs_counts_get().dir_syncs;
	fold(&f, false);
	assert_true(pio_fs_counts_get().syncs >= syncs + 1 && pio_fs_counts_get().dir_syncs > dir_syncs);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM media m JOIN object o USING (sha256) WHERE"
	                         " o.bytes = 8 AND m.data IS NULL"), 2);
	pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT;
	struct stat st;
	check_ok(pio_store_object_path(&path, f.store, sha256, &err));
	check_ok(pio_fs_read(&bytes, path.data, &err));
	assert_string_equal(bytes.data, "an image");
	assert_int_equal(stat(path.data, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0444);
	assert_int_equal(pio_fs_type(path_in(f.dir, DIR_1 "/media/a.png")), PIO_FS_NONE);
	assert_int_equal(pio_fs_type(path_in(f.dir, DIR_1 "/media/b.png")), PIO_FS_NONE);
	pio_verify_result found;
	check_ok(pio_store_verify(&found, f.store, NULL, NULL, NULL, &err));
	assert_int_equal(found.objects, 1);
	assert_int_equal(found.bad + found.missing + found.orphans, 0);
	pio_str_fini(&path);
	pio_str_fini(&bytes);
	store_down(&f);
}

static void what_cannot_be_is_told_and_passed_over(void **unused)
{
	char good[PIO_SHA256_HEX + 1], other[PIO_SHA256_HEX + 1];
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	stage(&f, "media/x", "bytes", good);
	check_ok(pio_sha256_bytes("other", 5, other, &err));
	check_ok(pio_fs_write(path_in(f.dir, "secret"), "bytes", 5, 0644, &err));
	assert_int_equal(symlink(path_in(f.dir, "secret"), path_in(f.dir, DIR_1 "/media/link")), 0);
	assert_int_equal(symlink(f.dir, path_in(f.dir, DIR_1 "/out")), 0);
	const said bad[] = {
		{ 'x', "k", "", "a/b", "", "", "abc", 3, 1 },
		{ 'f', "", "", "a/b", "", "", "abc", 3, 1 },
		{ 'f', "k", "", "", "", "", "abc", 3, 1 },
		{ 'f', "k", "", "a/b", "", "", "abc", 4, 1 },
		{ 'f', "k", "", "a/b", other, "media/x", "", 5, 1 },
		{ 'f', "k", "", "a/b", good, "media/gone", "", 5, 1 },
		{ 'f', "k", "", "a/b", good, "../../../secret", "", 5, 1 },
		{ 'f', "k", "", "a/b", good, "media/link", "", 5, 1 },
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		put_media(w, &bad[i]);
	journal_down(w);
	fold(&f, false);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM media"), 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'journal'"), 8);
	w = journal_up(&f, 1);
	put_media(w, &(said){ 'f', "k", "", "a/b", good, "out/secret", "", 5, 1 });
	put_media(w, &(said){ 'f', "k", "", "a/b", "not hex", "media/x", "", 5, 1 });
	check_ok(pio_journal_append(w, PIO_RECORD_MEDIA, "x", 1, NULL, 0, &err));
	put_media(w, &(said){ 'f', "k", "", "a/b", good, "media/x", "", 5, 1 });
	journal_down(w);
	fold(&f, true);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'journal'"), 11);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM media"), 1);
	assert_int_equal(pio_fs_type(path_in(f.dir, "secret")), PIO_FS_FILE);
	store_down(&f);
}

static void fold_and_exit(void *argument)
{
	fixture *f = argument;
	pio_fold_result result;
	_exit(pio_store_fold_attempt(&result, f->store, f->attempt, true, NULL) == 0 ? 0 : 1);
}

/* Die at every operation of the disk: the next fold makes it whole. */
static void a_death_leaves_old_or_new(void **unused)
{
	char sha256[PIO_SHA256_HEX + 1];
	(void)unused;
	int status = 1;
	for (unsigned n = 1; status; n++) {
		fixture f = store_up_run();
		pio_journal_writer *w = journal_up(&f, 1);
		put_key(w, 0, 1, "loss");
		put_point(w, 0, 1, 1, 0.5);
		stage(&f, "media/a", "some bytes", sha256);
		put_media(w, &(said){ 'f', "a", "", "a/b", sha256, "media/a", "", 10, 1 });
		journal_down(w);
		pio_store_close(&f.store);
		check_ok(pio_store_open(&f.store, f.dir, PIO_STORE_WRITE, &err));
		pio_fs_fault_at("wsru", n, 0);
		status = in_child(fold_and_exit, &f);
		pio_fs_fault_at("", 0, 0);
		store_reopen(&f);
		fold(&f, true);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM media JOIN object USING (sha256)"), 1);
		assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 1);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
		pio_verify_result found;
		check_ok(pio_store_verify(&found, f.store, NULL, NULL, NULL, &err));
		assert_int_equal(found.bad + found.missing + found.orphans, 0);
		store_down(&f);
		assert_true(n < 100);
	}
}

/* What was said before a large file is committed before the file is read: to
 * read it takes no transaction that others would wait for. */
static void a_large_file_is_read_outside_of_transactions(void **unused)
{
	(void)unused;
	size_t n = PIO_MEDIA_LARGE_BYTES + 1;
	char sha256[PIO_SHA256_HEX + 1], *text = pio_calloc(n + 1, 1);
	bool seen = false;
	int status = 1;
	for (unsigned at = 1; status; at++) {
		fixture f = store_up_run();
		pio_journal_writer *w = journal_up(&f, 1);
		put_key(w, 0, 1, "loss");
		put_point(w, 0, 1, 1, 0.5);
		memset(text, 'x', n);
		stage(&f, "media/a", text, sha256);
		put_media(w, &(said){ 'f', "a", "", "a/b", sha256, "media/a", "", n, 1 });
		text[0] = 'y';
		stage(&f, "media/b", text, sha256);
		put_media(w, &(said){ 'f', "b", "", "a/b", sha256, "media/b", "", n, 1 });
		put_point(w, 0, 1, 2, 0.5);
		journal_down(w);
		store_reopen(&f);
		pio_fs_fault_at("s", at, 0); /* first of all the file is synced */
		status = in_child(fold_and_exit, &f);
		pio_fs_fault_at("", 0, 0);
		store_reopen(&f);
		if (at == 1)
			seen = sql_int(f.store, "SELECT count FROM series") == 1;
		assert_true(fold(&f, true).points <= 1);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM media JOIN object USING (sha256)"), 2);
		assert_int_equal(sql_int(f.store, "SELECT count FROM series"), 2);
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
		store_down(&f);
		assert_true(at < 100);
	}
	assert_true(seen);
	pio_free(text);
}

/* A large file that is not what was logged, or not there, does not stop a fold. */
static void a_large_file_that_lies_is_told(void **unused)
{
	(void)unused;
	size_t n = PIO_MEDIA_LARGE_BYTES + 1;
	char sha256[PIO_SHA256_HEX + 1], *text = pio_calloc(n + 1, 1);
	memset(text, 'x', n);
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	stage(&f, "media/a", text, sha256);
	text[0] = 'y';
	stage(&f, "media/a", text, (char[PIO_SHA256_HEX + 1]){ 0 });
	put_media(w, &(said){ 'f', "a", "", "a/b", sha256, "media/a", "", n, 1 });
	put_media(w, &(said){ 'f', "b", "", "a/b", sha256, "media/gone", "", n, 1 });
	journal_down(w);
	fold(&f, true);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM media"), 0);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'journal'"), 2);
	assert_int_equal(sql_int(f.store, "SELECT done FROM journal"), 1);
	pio_free(text);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_bytes_lie_in_the_row),
		cmocka_unit_test(files_become_objects),
		cmocka_unit_test(what_cannot_be_is_told_and_passed_over),
		cmocka_unit_test(a_death_leaves_old_or_new),
		cmocka_unit_test(a_large_file_is_read_outside_of_transactions),
		cmocka_unit_test(a_large_file_that_lies_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
