#include "checkpoint_fixture.h"

#include <sys/stat.h>

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

static char findings[2048];

static void note(void *context, const char *finding, int64_t done, int64_t total)
{
	(void)context;
	assert_true(done <= total);
	if (finding) {
		strncat(findings, finding, sizeof findings - strlen(findings) - 2);
		strcat(findings, "\n");
	}
}

static void verify_finds_what_is_wrong(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_verify_result r;
	pio_str path = PIO_STR_INIT;
	shard s[3] = { stage(&f, "a", 1), stage(&f, "b", 2), stage(&f, "c", 3) };
	for (int i = 0; i < 3; i++)
		check_ok(pio_store_object_put(f.store, s[i].path, s[i].sha256, (int64_t)s[i].bytes, &err));
	check_ok(pio_store_verify(&r, f.store, true, note, NULL, &err));
	assert_int_equal(r.objects, 3);
	assert_int_equal(r.bad + r.missing + r.orphans, 0);
	assert_string_equal(findings, "");
	assert_int_equal(sql_int(f.store, "SELECT sum(verified = 'reread') FROM object"), 3);

	check_ok(pio_store_object_path(&path, f.store, s[0].sha256, &err));
	check_ok(pio_fs_unlink(path.data, &err));
	pio_str_clear(&path);
	check_ok(pio_store_object_path(&path, f.store, s[1].sha256, &err));
	pio_str bytes = PIO_STR_INIT;
	check_ok(pio_fs_read(&bytes, path.data, &err));
	bytes.data[bytes.len - 1] ^= 1;
	check_ok(pio_fs_write(path.data, bytes.data, bytes.len, 0444, &err));
	check_ok(pio_fs_mkdirs(path_in(f.dir, "objects/00"), 0777, &err));
	check_ok(pio_fs_write(path_in(f.dir, "objects/00/stranger"), "x", 1, 0666, &err));
	check_ok(pio_store_verify(&r, f.store, false, note, NULL, &err));
	assert_int_equal(r.bad, 0); /* size and existence alone */
	assert_int_equal(r.missing, 1);
	check_ok(pio_store_verify(&r, f.store, true, note, NULL, &err));
	assert_int_equal(r.bad, 1);
	assert_int_equal(r.missing, 1);
	assert_int_equal(r.orphans, 1);
	assert_non_null(strstr(findings, "is missing"));
	assert_non_null(strstr(findings, "other bytes"));
	assert_non_null(strstr(findings, "stranger"));
	pio_str_fini(&bytes);
	pio_str_fini(&path);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_object_is_put_once_and_read_only),
		cmocka_unit_test(bad_objects_are_refused),
		cmocka_unit_test(verify_finds_what_is_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
