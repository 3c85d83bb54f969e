#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "room.h"
#include "sys/hash.h"
#include "sys/shm.h"
#include "test.h"

static void assert_content(const char *path, const char *expected)
{
	pio_str text = PIO_STR_INIT;
	check_ok(pio_fs_read(&text, path, &err));
	assert_string_equal(text.data, expected);
	pio_str_fini(&text);
}

static void write_is_whole_and_synced_once_each(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "f");
	check_ok(pio_fs_write(path, "old", 3, 0644, &err));
	pio_fs_counts before = pio_fs_counts_get();
	check_ok(pio_fs_write(path, "new!", 4, 0644, &err));
	pio_fs_counts after = pio_fs_counts_get();
	assert_int_equal(after.syncs - before.syncs, 1);
	assert_int_equal(after.dir_syncs - before.dir_syncs, 1);
	assert_int_equal(after.renames - before.renames, 1);
	assert_content(path, "new!");
	scratch_remove(dir);
}

/* Each operation of a write fails in turn: the old content stays, nothing else
 * is left behind, and the next write works. */
static void failed_write_leaves_the_old_file(void **state)
{
	(void)state;
	static const struct { const char *kinds; int sys_errno; int code; } faults[] = {
		{ "w", ENOSPC, PIO_ENOSPC }, { "w", EDQUOT, PIO_ENOSPC }, { "s", EIO, PIO_EIO },
		{ "r", EIO, PIO_EIO },
	};
	char *dir = scratch_new();
	const char *path = path_in(dir, "f");
	check_ok(pio_fs_write(path, "old", 3, 0644, &err));
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		pio_fs_fault_at(faults[i].kinds, 1, faults[i].sys_errno);
		check_fails(pio_fs_write(path, "new", 3, 0644, &err), faults[i].code, "f");
		pio_fs_fault_at("", 0, 0);
		assert_content(path, "old");
		char **names;
		size_t count;
		check_ok(pio_fs_list(&names, &count, dir, &err));
		assert_int_equal(count, 1);
		pio_fs_list_free(names, count);
	}
	check_ok(pio_fs_write(path, "new", 3, 0644, &err));
	assert_content(path, "new");
	scratch_remove(dir);
}

static void room_is_taken_or_refused_with_its_cause(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "f");
	struct stat st;
	int fd;
	check_ok(pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0644, &err));
	pio_fs_fault_at("w", 1, EDQUOT);
	check_fails(pio_fs_reserve(fd, 5000, path, &err), PIO_ENOSPC, "quota exceeded");
	pio_fs_fault_at("", 0, 0);
	assert_true(fstat(fd, &st) == 0 && st.st_size == 0);
	check_ok(pio_fs_reserve(fd, 5000, path, &err));
	/* Of 5,000 bytes, or of none where the file system takes no room ahead. */
	assert_true(fstat(fd, &st) == 0 && (st.st_size == 0 || (st.st_size == 5000 && st.st_blocks >= 8)));
	check_ok(pio_fs_close(&fd, path, &err));
	scratch_remove(dir);
}

static void ensure_fills_what_is_empty_and_leaves_the_rest(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "f");
	pio_fs_fault_at("w", 1, ENOSPC);
	check_fails(pio_fs_ensure(path, "*\n", 2, 0644, &err), PIO_ENOSPC, "f");
	pio_fs_fault_at("", 0, 0);
	assert_content(path, "");
	check_ok(pio_fs_ensure(path, "*\n", 2, 0644, &err));
	assert_content(path, "*\n");
	check_ok(pio_fs_ensure(path, "other", 5, 0644, &err));
	assert_content(path, "*\n");
	scratch_remove(dir);
}

static void killed_write_leaves_old_or_new(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "f");
	check_ok(pio_fs_write(path, "old", 3, 0644, &err));
	for (uint64_t n = 1; n <= 4; n++) {
		pid_t pid = fork();
		if (pid == 0) {
			pio_fs_fault_at("wsr", n, 0);
			_exit(pio_fs_write(path, "new", 3, 0644, NULL) == 0 ? 0 : 1);
		}
		int status;
		waitpid(pid, &status, 0);
		assert_int_equal(WEXITSTATUS(status), 137);
		/* Gates: write, sync, rename, directory sync; the file changes at the rename. */
		assert_content(path, n <= 3 ? "old" : "new");
	}
	scratch_remove(dir);
}

static void copy_keeps_modes_times_and_links(void **state)
{
	(void)state;
	char *dir = scratch_new();
	char target[64] = "";
	struct stat from, to;
	check_ok(pio_fs_mkdirs(path_in(dir, "a/b/c"), 0755, &err));
	check_ok(pio_fs_write(path_in(dir, "a/b/run.sh"), "#!/bin/sh\n", 10, 0755, &err));
	assert_int_equal(symlink("b/run.sh", path_in(dir, "a/link")), 0);
	check_ok(pio_fs_copy_tree(path_in(dir, "a"), path_in(dir, "z"), &err));
	assert_content(path_in(dir, "z/b/run.sh"), "#!/bin/sh\n");
	assert_int_equal(stat(path_in(dir, "a/b/run.sh"), &from), 0);
	assert_int_equal(stat(path_in(dir, "z/b/run.sh"), &to), 0);
	assert_int_equal(from.st_mode, to.st_mode);
	assert_int_equal(from.st_mtim.tv_nsec, to.st_mtim.tv_nsec);
	assert_int_equal(pio_fs_type(path_in(dir, "z/b/c")), PIO_FS_DIR);
	assert_true(readlink(path_in(dir, "z/link"), target, sizeof target - 1) > 0);
	assert_string_equal(target, "b/run.sh");
	check_fails(pio_fs_copy_tree(path_in(dir, "a"), path_in(dir, "z"), &err), PIO_EEXIST, "z");
	scratch_remove(dir);
}

static void remove_never_follows_links(void **state)
{
	(void)state;
	char *dir = scratch_new();
	check_ok(pio_fs_mkdirs(path_in(dir, "keep"), 0755, &err));
	check_ok(pio_fs_write(path_in(dir, "keep/file"), "x", 1, 0644, &err));
	check_ok(pio_fs_mkdirs(path_in(dir, "gone/locked"), 0755, &err));
	check_ok(pio_fs_write(path_in(dir, "gone/locked/f"), "x", 1, 0444, &err));
	assert_int_equal(symlink("../keep", path_in(dir, "gone/link")), 0);
	assert_int_equal(chmod(path_in(dir, "gone/locked"), 0500), 0);
	check_ok(pio_fs_remove_tree(path_in(dir, "gone"), &err));
	assert_int_equal(pio_fs_type(path_in(dir, "gone")), PIO_FS_NONE);
	assert_content(path_in(dir, "keep/file"), "x");
	check_ok(pio_fs_remove_tree(path_in(dir, "gone"), &err));
	scratch_remove(dir);
}

static void lock_is_exclusive_and_dies_with_its_holder(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "lock");
	int ready[2], go[2], status, fd;
	assert_int_equal(pipe(ready) | pipe(go), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char byte = pio_fs_lock(&fd, path, NULL) == 0 ? 'y' : 'n';
		if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(0);
	}
	char byte = 0;
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	check_fails(pio_fs_lock(&fd, path, &err), PIO_EBUSY, "lock");
	assert_int_equal(write(go[1], "g", 1), 1);
	waitpid(pid, &status, 0);
	check_ok(pio_fs_lock(&fd, path, &err));
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
	scratch_remove(dir);
}

static void a_lock_can_be_asked_for_without_taking_it(void **state)
{
	(void)state;
	char *dir = scratch_new();
	const char *path = path_in(dir, "lock");
	bool locked = true;
	int fd, second;
	check_ok(pio_fs_is_locked(&locked, path, &err));
	assert_false(locked);
	assert_int_equal(pio_fs_type(path), PIO_FS_NONE);
	check_ok(pio_fs_lock(&fd, path, &err));
	assert_int_equal(chmod(path, 0444), 0);
	check_ok(pio_fs_is_locked(&locked, path, &err));
	assert_true(locked);
	second = dup(fd); /* as a forked child has it */
	pio_fs_unlock(&fd);
	assert_int_equal(fd, -1);
	check_ok(pio_fs_is_locked(&locked, path, &err));
	assert_false(locked);
	close(second);
	scratch_remove(dir);
}

static mode_t mode_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* Whatever the umask; and no more than was asked for. */
static void what_is_made_for_a_group_is_the_groups(void **state)
{
	(void)state;
	char *dir = scratch_new();
	int fd;
	mode_t before = umask(077);
	check_ok(pio_fs_write(path_in(dir, "own"), "x", 1, 0666, &err));
	assert_int_equal(mode_of(path_in(dir, "own")), 0600);
	assert_int_equal(chmod(dir, 02770), 0);
	check_ok(pio_fs_write(path_in(dir, "f"), "x", 1, 0666, &err));
	check_ok(pio_fs_mkdirs(path_in(dir, "a/b"), 0777, &err));
	check_ok(pio_fs_ensure(path_in(dir, "a/b/e"), "x", 1, 0666, &err));
	check_ok(pio_fs_lock(&fd, path_in(dir, "a/lock"), &err));
	pio_fs_unlock(&fd);
	check_ok(pio_fs_write(path_in(dir, "object"), "x", 1, 0444, &err));
	assert_int_equal(mode_of(path_in(dir, "f")), 0660);
	assert_int_equal(mode_of(path_in(dir, "a")), 02770);
	assert_int_equal(mode_of(path_in(dir, "a/b")), 02770);
	assert_int_equal(mode_of(path_in(dir, "a/b/e")), 0660);
	assert_int_equal(mode_of(path_in(dir, "a/lock")), 0660);
	assert_int_equal(mode_of(path_in(dir, "object")), 0440);
	/* Everybody may write in /tmp, which makes its files nobody's business. */
	assert_int_equal(chmod(dir, 01777), 0);
	check_ok(pio_fs_write(path_in(dir, "private"), "x", 1, 0666, &err));
	assert_int_equal(mode_of(path_in(dir, "private")), 0600);
	umask(before);
	scratch_remove(dir);
}

static void a_link_never_replaces(void **state)
{
	(void)state;
	char *dir = scratch_new();
	check_ok(pio_fs_write(path_in(dir, "a"), "a", 1, 0666, &err));
	check_ok(pio_fs_write(path_in(dir, "b"), "b", 1, 0666, &err));
	check_ok(pio_fs_link(path_in(dir, "a"), path_in(dir, "name"), &err));
	check_fails(pio_fs_link(path_in(dir, "b"), path_in(dir, "name"), &err), PIO_EEXIST, "name");
	check_fails(pio_fs_link(path_in(dir, "gone"), path_in(dir, "other"), &err), PIO_ENOTFOUND, "gone");
	assert_content(path_in(dir, "name"), "a");
	check_ok(pio_fs_link(path_in(dir, "a"), path_in(dir, "name"), &err)); /* the answer was lost */
	scratch_remove(dir);
}

static void a_place_says_what_it_is_and_why(void **state)
{
	(void)state;
	pio_fs_place place;
	pio_fs_place_get(&place, "/proc");
	assert_string_equal(place.name, "proc");
	assert_false(place.network || place.is_network || place.forced || place.locks_local);
	setenv("PIOCHE_FS", "network", 1);
	pio_fs_place_get(&place, "/proc");
	assert_true(place.forced && place.is_network && pio_fs_is_network("/proc"));
	assert_false(place.network);
	setenv("PIOCHE_FS", "local", 1);
	pio_fs_place_get(&place, "/proc");
	assert_true(place.forced && !place.is_network);
	unsetenv("PIOCHE_FS");
}

static void names_with_newlines_are_listed_in_order(void **state)
{
	(void)state;
	char *dir = scratch_new();
	check_ok(pio_fs_write(path_in(dir, "b\nb"), "", 0, 0644, &err));
	check_ok(pio_fs_write(path_in(dir, "a a"), "", 0, 0644, &err));
	char **names;
	size_t count;
	check_ok(pio_fs_list(&names, &count, dir, &err));
	assert_int_equal(count, 2);
	assert_string_equal(names[0], "a a");
	assert_string_equal(names[1], "b\nb");
	pio_fs_list_free(names, count);
	scratch_remove(dir);
}

static void sha256_has_the_published_value(void **state)
{
	(void)state;
	char *dir = scratch_new();
	char hex[PIO_SHA256_HEX + 1];
	int64_t size_bytes;
	static const char *abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	check_ok(pio_sha256_bytes("abc", 3, hex, &err));
	assert_string_equal(hex, abc);
	check_ok(pio_fs_write(path_in(dir, "f"), "abc", 3, 0644, &err));
	check_ok(pio_sha256_file(path_in(dir, "f"), hex, &size_bytes, &err));
	assert_string_equal(hex, abc);
	assert_int_equal(size_bytes, 3);
	check_fails(pio_sha256_file(path_in(dir, "g"), hex, &size_bytes, &err), PIO_ENOTFOUND, "g");
	scratch_remove(dir);
}

static void mapping_is_shared_and_distrusts_empty_files(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_shm a, b;
	check_ok(pio_shm_create(&a, path_in(dir, "m"), 8192, &err));
	check_fails(pio_shm_create(&b, path_in(dir, "m"), 8192, &err), PIO_EEXIST, "m");
	check_ok(pio_shm_open(&b, path_in(dir, "m"), &err));
	assert_int_equal(b.size_bytes, 8192);
	((char *)a.base)[5000] = 7;
	assert_int_equal(((char *)b.base)[5000], 7);
	pio_shm_close(&a);
	pio_shm_close(&b);
	pio_shm_close(&b);
	check_ok(pio_fs_write(path_in(dir, "e"), "", 0, 0644, &err));
	check_fails(pio_shm_open(&b, path_in(dir, "e"), &err), PIO_ECORRUPT, "0 bytes");
	scratch_remove(dir);
}

/* Some network file systems say that they have 2^64 - 1 bytes, or as many blocks. */
static void a_disk_without_end_has_room(void **state)
{
	(void)state;
	static const unsigned long long blocks[] = { UINT64_MAX, INT64_MAX, UINT64_C(1) << 60 };
	char *dir = scratch_new();
	assert_true(pio_fs_free_bytes(dir) > 0);
	block_bytes = 4096;
	for (size_t i = 0; i < 3; i++) {
		free_blocks = blocks[i];
		assert_int_equal(pio_fs_free_bytes(dir), INT64_MAX);
	}
	free_blocks = 3;
	assert_int_equal(pio_fs_free_bytes(dir), 3 * 4096);
	block_bytes = 0;
	scratch_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(write_is_whole_and_synced_once_each),
		cmocka_unit_test(failed_write_leaves_the_old_file),
		cmocka_unit_test(room_is_taken_or_refused_with_its_cause),
		cmocka_unit_test(ensure_fills_what_is_empty_and_leaves_the_rest),
		cmocka_unit_test(killed_write_leaves_old_or_new),
		cmocka_unit_test(copy_keeps_modes_times_and_links),
		cmocka_unit_test(remove_never_follows_links),
		cmocka_unit_test(lock_is_exclusive_and_dies_with_its_holder),
		cmocka_unit_test(a_lock_can_be_asked_for_without_taking_it),
		cmocka_unit_test(what_is_made_for_a_group_is_the_groups),
		cmocka_unit_test(a_link_never_replaces),
		cmocka_unit_test(a_place_says_what_it_is_and_why),
		cmocka_unit_test(a_disk_without_end_has_room),
		cmocka_unit_test(names_with_newlines_are_listed_in_order),
		cmocka_unit_test(sha256_has_the_published_value),
		cmocka_unit_test(mapping_is_shared_and_distrusts_empty_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
