/* Bundles: the same bytes twice, verified by tar and sha256sum alone and by
 * pioche; whole or not there; every kind of damage is found and named. */
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "pack/bag.h"
#include "pack/bundle.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define BIG_BYTES 3000017
#define MTIME 1700000000

static char root[512];
static char big_sha256[65];

static char *path_of(const char *name)
{
	static char paths[4][600];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", root, name);
	return path;
}

static bool shell(const char *line)
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		if (chdir(root))
			_exit(126);
		execl("/bin/sh", "sh", "-ec", line, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static int setup(void **state)
{
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/pio-bundle-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(root));
	char *bytes = malloc(BIG_BYTES);
	assert_non_null(bytes);
	for (size_t i = 0; i < BIG_BYTES; i++)
		bytes[i] = (char)(i * 2654435761u >> 13);
	assert_int_equal(pio_fs_write(path_of("big"), bytes, BIG_BYTES, 0644, NULL), 0);
	assert_int_equal(pio_sha256_bytes(bytes, BIG_BYTES, big_sha256, NULL), 0);
	free(bytes);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pio_fs_fault_at("w", 0, 0);
	pio_mem_fail_at(0);
	return pio_fs_remove_tree(root, NULL);
}

/* A bundle of a large file, small ones and an empty one, added out of order. */
static int export_to(const char *name, pio_bundle_result *result, pio_err *err)
{
	pio_bundle *bundle;
	char longest[258];
	int rc = pio_bundle_new(&bundle, path_of(name), "gpt-17", MTIME, err);
	if (rc)
		return rc;
	memset(longest, 'n', sizeof longest);
	memcpy(longest, "z/", 2);
	longest[sizeof longest - 1] = 0;
	rc = pio_bundle_add_file(bundle, "model/model-00001-of-00001.bin", path_of("big"),
	                         big_sha256, BIG_BYTES, err);
	if (!rc)
		rc = pio_bundle_add_bytes(bundle, "run/recipe.lua", "return 1\n", 9, err);
	if (!rc)
		rc = pio_bundle_add_bytes(bundle, longest, "", 0, err);
	if (!rc)
		rc = pio_bundle_add_file(bundle, "copy of big", path_of("big"), NULL, -1, err);
	if (!rc)
		rc = pio_bundle_add_bytes(bundle, "checkpoint.json", "{}", 2, err);
	if (!rc)
		rc = pio_bundle_add_info(bundle, "Contact-Name", "nobody", err);
	if (!rc)
		rc = pio_bundle_write(result, bundle, NULL, NULL, err);
	pio_bundle_free(bundle);
	return rc;
}

static void exported(const char *name)
{
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	if (export_to(name, &result, &err))
		fail_msg("%s", err.message);
}

static void test_a_stranger_verifies_it(void **state)
{
	(void)state;
	exported("x.tar");
	assert_true(shell("tar xf x.tar && cd gpt-17 && sha256sum -c --quiet --strict"
	                  " tagmanifest-sha256.txt manifest-sha256.txt && cmp ../big 'data/copy of big' &&"
	                  " grep -qx 'Payload-Oxum: 6000045.5' bag-info.txt &&"
	                  " test $(wc -l < manifest-sha256.txt) = $(find data -type f | wc -l)"));
	/* And the check is one: a changed byte is noticed. */
	assert_true(shell("cd gpt-17 && chmod u+w data/checkpoint.json && echo x > data/checkpoint.json &&"
	                  " ! sha256sum -c --status tagmanifest-sha256.txt manifest-sha256.txt"));
	assert_true(shell("tar --numeric-owner --full-time -tvf x.tar | head -n 1 |"
	                  " grep -q '^drwxr-xr-x 0/0 .* 20..-..-.. ..:..:.. gpt-17/$'"));
	assert_true(shell("test \"$(tar tf x.tar | head -n 6 | tail -n 5 | xargs)\" = 'gpt-17/bagit.txt"
	                  " gpt-17/bag-info.txt gpt-17/manifest-sha256.txt gpt-17/tagmanifest-sha256.txt"
	                  " gpt-17/VERIFY.txt'"));
	assert_true(shell("chmod -R u+w gpt-17"));
}

static void test_twice_the_same_bytes(void **state)
{
	(void)state;
	exported("x.tar");
	setenv("TZ", "Asia/Kathmandu", 1);
	setlocale(LC_ALL, "C.UTF-8");
	mode_t mask = umask(0077);
	sleep(1);
	exported("y.tar");
	umask(mask);
	setlocale(LC_ALL, "C");
	unsetenv("TZ");
	assert_true(shell("cmp x.tar y.tar && test $(stat -c %a y.tar) = 644"));
}

static void test_result_and_verify_agree(void **state)
{
	(void)state;
	pio_bundle_result made, seen;
	pio_err err = PIO_ERR_INIT;
	char sha256[65];
	int64_t size_bytes;
	assert_int_equal(export_to("x.tar", &made, &err), 0);
	if (pio_bundle_verify(&seen, path_of("x.tar"), NULL, NULL, &err))
		fail_msg("%s", err.message);
	assert_int_equal(pio_sha256_file(path_of("x.tar"), sha256, &size_bytes, NULL), 0);
	assert_string_equal(made.sha256, sha256);
	assert_string_equal(seen.sha256, sha256);
	assert_string_equal(seen.name, "gpt-17");
	assert_int_equal(made.size_bytes, size_bytes);
	assert_int_equal(seen.size_bytes, size_bytes);
	assert_int_equal(made.payload_bytes, 2 * BIG_BYTES + 11);
	assert_int_equal(seen.payload_bytes, made.payload_bytes);
	assert_int_equal(seen.files, 5);
	/* One that was unpacked and packed again by GNU tar is as good. */
	assert_true(shell("tar xf x.tar && tar cf y.tar gpt-17 && chmod -R u+w gpt-17"));
	if (pio_bundle_verify(&seen, path_of("y.tar"), NULL, NULL, &err))
		fail_msg("%s", err.message);
}

static void test_failed_write_leaves_nothing(void **state)
{
	(void)state;
	int rc = -1, faults = 0;
	for (unsigned n = 1; rc && n < 100; n++) {
		pio_bundle_result result;
		pio_err err = PIO_ERR_INIT;
		pio_fs_fault_at("wsr", n, 28);
		rc = export_to("x.tar", &result, &err);
		pio_fs_fault_at("wsr", 0, 0);
		if (!rc)
			break;
		faults++;
		assert_int_equal(rc, -PIO_ENOSPC);
		/* Wherever it was met, on the writing thread too, the message came back. */
		if (!strstr(err.message, root))
			fail_msg("message \"%s\" names no file", err.message);
		assert_true(shell("test ! -e x.tar.part"));
		/* A failed fsync of the directory comes after the rename: then it is whole. */
		if (pio_fs_type(path_of("x.tar")) == PIO_FS_FILE) {
			assert_int_equal(pio_bundle_verify(&result, path_of("x.tar"), NULL, NULL, NULL), 0);
			assert_true(shell("rm x.tar"));
		}
	}
	assert_int_equal(rc, 0);
	assert_true(faults >= 4);
}

static void test_killed_export_leaves_only_part(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		pio_bundle_result result;
		pio_fs_fault_at("w", 3, 0);
		export_to("x.tar", &result, NULL);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(shell("test ! -e x.tar && test -s x.tar.part"));
	exported("x.tar");
	assert_true(shell("test ! -e x.tar.part"));
}

/* A link at OUT.part, planted by somebody else, must not lead to a file of ours. */
static void test_a_planted_link_is_not_followed(void **state)
{
	(void)state;
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	assert_true(shell("echo precious > victim && ln -s victim x.tar.part"));
	assert_int_equal(export_to("x.tar", &result, &err), -PIO_EINVAL);
	assert_non_null(strstr(err.message, "x.tar.part: a symbolic link"));
	assert_true(shell("test $(cat victim) = precious && test -h x.tar.part && test ! -e x.tar"));
}

static void test_out_of_memory_leaks_nothing(void **state)
{
	(void)state;
	int rc = -1;
	int64_t live = pio_mem_live();
	for (unsigned n = 1; rc && n < 500; n++) {
		pio_bundle_result result;
		pio_mem_fail_at(n);
		rc = export_to("x.tar", &result, NULL);
		if (!rc)
			rc = pio_bundle_verify(&result, path_of("x.tar"), NULL, NULL, NULL);
		pio_mem_fail_at(0);
		assert_int_equal(pio_mem_live(), live);
		if (rc)
			assert_int_equal(rc, -PIO_ENOMEM);
	}
	assert_int_equal(rc, 0);
}

static void test_wrong_source_is_named(void **state)
{
	(void)state;
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	assert_true(shell("printf X | dd of=big bs=1 seek=1234567 conv=notrunc status=none"));
	assert_int_equal(export_to("x.tar", &result, &err), -PIO_ECORRUPT);
	assert_non_null(strstr(err.message, "/big: its SHA-256 is "));
	assert_true(shell("printf X >> big"));
	assert_int_equal(export_to("x.tar", &result, &err), -PIO_ECORRUPT);
	assert_non_null(strstr(err.message, "/big: longer than the 3000017 bytes on record"));
	assert_true(shell("truncate -s 100 big"));
	assert_int_equal(export_to("x.tar", &result, &err), -PIO_ECORRUPT);
	assert_non_null(strstr(err.message, "/big: 100 bytes, expected 3000017"));
	assert_true(shell("test ! -e x.tar && test ! -e x.tar.part"));
}

static void test_bad_paths_are_refused(void **state)
{
	(void)state;
	char component[257];
	memset(component, 'n', 256);
	component[256] = 0;
	const char *const bad[] = { component, "", "/etc/passwd", "a/../b", "..", "a//b", "./a", "a/", "a\nb",
		"a%b", "a\\b", "\303\274" };
	pio_bundle *bundle;
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	assert_int_equal(pio_bundle_new(&bundle, path_of("x.tar"), "../x", MTIME, &err), -PIO_EINVAL);
	assert_int_equal(pio_bundle_new(&bundle, path_of("x.tar"), "x", MTIME, &err), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(pio_bundle_add_bytes(bundle, bad[i], "x", 1, &err), -PIO_EINVAL);
	assert_int_equal(pio_bundle_add_bytes(bundle, "a", "x", 1, &err), 0);
	assert_int_equal(pio_bundle_add_bytes(bundle, "a.b", "x", 1, &err), 0);
	assert_int_equal(pio_bundle_add_bytes(bundle, "a/b", "x", 1, &err), 0);
	assert_int_equal(pio_bundle_write(&result, bundle, NULL, NULL, &err), -PIO_EEXIST);
	assert_non_null(strstr(err.message, "data/a is in the bundle as a file and as a directory"));
	pio_bundle_free(bundle);
}

static void count_findings(void *context, const char *finding, int64_t done, int64_t total)
{
	assert_true(done <= total);
	*(int *)context += finding != NULL;
}

static void found(const char *name, const char *words, int findings)
{
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	int count = 0;
	assert_int_equal(pio_bundle_verify(&result, path_of(name), count_findings, &count, &err),
	                 -PIO_ECORRUPT);
	if (!strstr(err.message, words) || !strstr(err.message, name))
		fail_msg("message \"%s\" does not contain \"%s\"", err.message, words);
	assert_int_equal(count, findings);
}

static void test_damage_is_found(void **state)
{
	(void)state;
	exported("x.tar");
	assert_true(shell("cp x.tar flip.tar; printf X | dd of=flip.tar bs=1 seek=2000000 conv=notrunc status=none"));
	found("flip.tar", "data/copy of big: SHA-256 is ", 1);
	assert_true(shell("head -c 4000000 x.tar > cut.tar"));
	found("cut.tar", "cut short", 0);
	assert_true(shell("head -c -1024 x.tar > end.tar"));
	found("end.tar", "cut short", 0);
	assert_true(shell("cp x.tar more.tar; printf more >> more.tar"));
	found("more.tar", "bytes after the end of the archive", 0);
	assert_true(shell(": > empty.tar"));
	found("empty.tar", "cut short", 0);
	assert_true(shell("cp big noise.tar"));
	found("noise.tar", "no tar archive", 0);
	assert_true(shell("tar xf x.tar && cd gpt-17 && chmod -R u+w . && rm data/checkpoint.json &&"
	                  " printf x > data/extra && sed -i s/nobody/someone/ bag-info.txt && cd .. &&"
	                  " tar cf edited.tar gpt-17"));
	found("edited.tar", "", 4);   /* one missing, one unlisted, bag-info.txt, Payload-Oxum */
	pio_err err = PIO_ERR_INIT;
	pio_bundle_result result;
	assert_int_equal(pio_bundle_verify(&result, path_of("none.tar"), NULL, NULL, &err), -PIO_ENOTFOUND);
	assert_int_equal(pio_bundle_verify(&result, root, NULL, NULL, &err), -PIO_EINVAL);
}

/* One entry of a hostile archive. */
static void put(struct archive *archive, const char *path, mode_t type, const char *link,
                const char *text)
{
	struct archive_entry *entry = archive_entry_new();
	archive_entry_copy_pathname(entry, path);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, 0644);
	if (link && type == AE_IFLNK)
		archive_entry_copy_symlink(entry, link);
	else if (link)
		archive_entry_copy_hardlink(entry, link);
	archive_entry_set_size(entry, text ? (la_int64_t)strlen(text) : 0);
	assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
	if (text)
		assert_int_equal(archive_write_data(archive, text, strlen(text)), strlen(text));
	archive_entry_free(entry);
}

static void hostile(const char *path, mode_t type, const char *link, const char *words)
{
	struct archive *archive = archive_write_new();
	archive_write_set_format_pax_restricted(archive);
	assert_int_equal(archive_write_open_filename(archive, path_of("bad.tar")), ARCHIVE_OK);
	put(archive, "b/bagit.txt", AE_IFREG, NULL, PIO_BAG_DECLARATION);
	put(archive, path, type, link, type == AE_IFREG && !link ? "x" : NULL);
	assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
	found("bad.tar", words, 0);
}

static void test_hostile_entries_are_refused(void **state)
{
	(void)state;
	hostile("/etc/passwd", AE_IFREG, NULL, "not in the bag's directory b");
	hostile("b/data/../../x", AE_IFREG, NULL, "has a \"..\" component");
	hostile("c/data/x", AE_IFREG, NULL, "not in the bag's directory b");
	hostile("b", AE_IFLNK, "/", "is a symbolic link");
	hostile("b/data/x", AE_IFLNK, "/etc/passwd", "is a symbolic link");
	hostile("b/data/x", AE_IFREG, "b/bagit.txt", "is a hard link");
	hostile("b/data/x", AE_IFIFO, NULL, "is a FIFO");
	hostile("b/data/x", AE_IFCHR, NULL, "is a character device");
	hostile("b/bagit.txt", AE_IFREG, NULL, "is there twice");
	hostile("b/data//x", AE_IFREG, NULL, "empty or \".\" component");
	hostile("b/manifest-sha256.txt", AE_IFREG, NULL, "manifest-sha256.txt: the last line does not end");
	hostile("b/data/x", AE_IFREG, NULL, "bag-info.txt is missing: not a bundle");
}

static void test_manifests_are_strict(void **state)
{
	(void)state;
	static const char digits[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const struct { const char *format; bool good; } cases[] = {
		{ "%s  data/x\n", true }, { "%s data/x\n", false }, { "%s *data/x\n", false },
		{ "%s  data/x", false }, { "%s  \n", false }, { "%s  /x\n", false }, { "%s  a/../x\n", false },
		{ "%s  data/x\r\n", false }, { "A%s  x\n", false }, { "\n%s  x\n", false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pio_str text = PIO_STR_INIT;
		pio_bag_manifest manifest;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		pio_str_printf(&text, cases[i].format, digits);
#pragma GCC diagnostic pop
		int rc = pio_bag_manifest_parse(&manifest, text.data, text.len, "m", NULL);
		assert_int_equal(rc, cases[i].good ? 0 : -PIO_ECORRUPT);
		pio_bag_manifest_fini(&manifest);
		pio_str_fini(&text);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_stranger_verifies_it),
		TEST(test_twice_the_same_bytes),
		TEST(test_result_and_verify_agree),
		TEST(test_failed_write_leaves_nothing),
		TEST(test_killed_export_leaves_only_part),
		TEST(test_a_planted_link_is_not_followed),
		TEST(test_out_of_memory_leaks_nothing),
		TEST(test_wrong_source_is_named),
		TEST(test_bad_paths_are_refused),
		TEST(test_damage_is_found),
		TEST(test_hostile_entries_are_refused),
		TEST(test_manifests_are_strict),
	};
	return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}
