/* The copy of pioche that jobs run: once a version, whole or not at all, whatever fails. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launch/own_copy.h"
#include "test.h"

typedef struct fixture {
	char *dir;
	const char *store, *lib;
	pio_own_copy *own;
} fixture;

static void put(const char *path, const char *text)
{
	check_ok(pio_fs_write(path, text, strlen(text), 0644, &err));
}

static fixture up(void)
{
	static char store[4096], lib[4096];
	fixture f = { .dir = scratch_new(), .store = store, .lib = lib };
	snprintf(store, sizeof store, "%s/a store", f.dir);
	snprintf(lib, sizeof lib, "%s/lib", f.dir);
	check_ok(pio_fs_mkdirs(path_in(lib, "pioche/__pycache__"), 0755, &err));
	put(path_in(f.dir, "program"), "#!/bin/sh\necho version 1\n");
	put(path_in(lib, "libpioche.so"), "library");
	put(path_in(lib, "libother.so"), "another's");
	put(path_in(lib, "pioche/pioche.py"), "module");
	check_ok(pio_own_copy_new(&f.own, path_in(f.dir, "program"), lib, &err));
	return f;
}

static void down(fixture *f)
{
	pio_own_copy_free(f->own);
	scratch_remove(f->dir);
}

static void expect_file(const char *dir, const char *name, const char *text, mode_t mode)
{
	pio_str found = PIO_STR_INIT;
	struct stat st;
	check_ok(pio_fs_read(&found, path_in(dir, name), &err));
	assert_string_equal(found.data, text);
	assert_int_equal(stat(path_in(dir, name), &st), 0);
	assert_int_equal(st.st_mode & 0111, mode);
	pio_str_fini(&found);
}

static void check_whole(const char *dir)
{
	expect_file(dir, "pioche", "#!/bin/sh\necho version 1\n", 0111);
	expect_file(dir, "lib/libpioche.so", "library", 0);
	expect_file(dir, "lib/pioche/pioche.py", "module", 0);
	assert_int_equal(pio_fs_type(path_in(dir, "lib/libother.so")), PIO_FS_NONE);
	assert_int_equal(pio_fs_type(path_in(dir, "lib/pioche/__pycache__")), PIO_FS_NONE);
}

static void test_one_for_each_version(void **state)
{
	(void)state;
	fixture f = up();
	pio_str first = PIO_STR_INIT, again = PIO_STR_INIT, other = PIO_STR_INIT;
	check_ok(pio_own_copy_make(&first, f.own, f.store, &err));
	check_whole(first.data);
	/* What was opened is replaced, or removed. */
	put(path_in(f.dir, "program"), "#!/bin/sh\necho version 2\n");
	put(path_in(f.lib, "pioche/pioche.py"), "another module");
	check_ok(pio_fs_unlink(path_in(f.lib, "libpioche.so"), &err));
	pio_fs_counts before = pio_fs_counts_get();
	check_ok(pio_own_copy_make(&again, f.own, f.store, &err));
	pio_fs_counts after = pio_fs_counts_get();
	assert_memory_equal(&before, &after, sizeof before);
	assert_string_equal(again.data, first.data);
	/* As where a sweeper was at work, which takes what nobody read for long. */
	check_ok(pio_fs_unlink(path_in(first.data, "lib/pioche/pioche.py"), &err));
	check_ok(pio_own_copy_make(&again, f.own, f.store, &err));
	check_whole(first.data);
	put(path_in(f.lib, "libpioche.so"), "library");
	pio_own_copy_free(f.own);
	check_ok(pio_own_copy_new(&f.own, path_in(f.dir, "program"), f.lib, &err));
	check_ok(pio_own_copy_make(&other, f.own, f.store, &err));
	assert_string_not_equal(other.data, first.data);
	check_whole(first.data);
	pio_str_fini(&first);
	pio_str_fini(&again);
	pio_str_fini(&other);
	down(&f);
}

static void test_what_is_missing_is_named(void **state)
{
	(void)state;
	fixture f = up();
	pio_own_copy *own;
	check_ok(pio_fs_unlink(path_in(f.lib, "libpioche.so"), &err));
	check_fails(pio_own_copy_new(&own, path_in(f.dir, "program"), f.lib, &err), PIO_ENOTFOUND, "libpioche.so");
	assert_null(own);
	down(&f);
}

/* Every operation in turn fails, or is the last one that this process does. */
static void test_any_failure_and_any_death(void **state)
{
	(void)state;
	for (int dies = 0; dies < 2; dies++)
		for (uint64_t n = 1;; n++) {
			fixture f = up();
			pio_str dir = PIO_STR_INIT;
			int status = 0;
			pid_t child = fork();
			assert_true(child >= 0);
			if (child == 0) {
				pio_fs_fault_at("wsru", n, dies ? 0 : ENOSPC);
				_exit(pio_own_copy_make(&dir, f.own, f.store, NULL) == 0 ? 42 : 43);
			}
			assert_int_equal(waitpid(child, &status, 0), child);
			bool was_made = WIFEXITED(status) && WEXITSTATUS(status) == 42;
			check_ok(pio_own_copy_make(&dir, f.own, f.store, &err));
			check_whole(dir.data);
			char **names;
			size_t count;
			check_ok(pio_fs_list(&names, &count, path_in(f.store, "cache"), &err));
			assert_int_equal(count, 1); /* nothing half made is left */
			pio_fs_list_free(names, count);
			pio_str_fini(&dir);
			down(&f);
			if (was_made) {
				assert_true(n > 10);
				break;
			}
			assert_true(n < 100);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_for_each_version),
		cmocka_unit_test(test_what_is_missing_is_named),
		cmocka_unit_test(test_any_failure_and_any_death),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
