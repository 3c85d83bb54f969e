/* Snapshots: what is taken, what is left alone, what is refused. git itself is
 * the judge: every tree is compared with what its own commands make. */
#include <errno.h>
#include <fcntl.h>
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

#include <cmocka.h>

#include "git/snapshot.h"
#include "sys/fs.h"

static char root[512];

/* Run a shell line in the test's directory; true on exit status 0. */
static bool shell_at(const char *dir, const char *line)
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		if (chdir(dir))
			_exit(126);
		execl("/bin/sh", "sh", "-ec", line, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static void shell(const char *line)
{
	if (!shell_at(root, line))
		fail_msg("shell: %s", line);
}

static char *path_of(const char *name)
{
	static char paths[4][600];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", root, name);
	return path;
}

static int setup(void **state)
{
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/pio-snapshot-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(root));
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	setenv("HOME", root, 1);
	setenv("GIT_AUTHOR_NAME", "t", 1);
	setenv("GIT_AUTHOR_EMAIL", "t@t", 1);
	setenv("GIT_COMMITTER_NAME", "t", 1);
	setenv("GIT_COMMITTER_EMAIL", "t@t", 1);
	assert_int_equal(pio_git_init(NULL), 0);
	shell("mkdir w w/.pioche && echo '*' > w/.pioche/.gitignore && touch w/.pioche/pioche.db");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pio_git_shutdown();
	return pio_fs_remove_tree(root, NULL);
}

static void make_repository(void)
{
	shell("cd w && git init -q -b main && printf '*.o\\nout/\\n/data/*\\n!/data/keep.txt\\n' > .gitignore"
	      " && mkdir -p src/deep a.b a && echo 1 > src/one.c && echo 2 > src/deep/two.c"
	      " && echo x > a.b/f && echo y > a/f && echo z > a-b && ln -s src/one.c link"
	      " && echo '#!/bin/sh' > run.sh && chmod +x run.sh && git add . && git commit -qm first"
	      " && touch -d '2 hours ago' src/one.c && sleep 0.02 && git update-index -q --refresh");
}

static void take(pio_snapshot *snapshot)
{
	pio_err err = PIO_ERR_INIT;
	if (pio_snapshot_take(snapshot, path_of("w"), path_of("w/.pioche"), NULL, &err))
		fail_msg("%s", err.message);
}

static void refused(int code, const char *name, const char *words, const pio_snapshot_options *options)
{
	pio_err err = PIO_ERR_INIT;
	pio_snapshot snapshot;
	assert_int_equal(pio_snapshot_take(&snapshot, path_of(name), path_of("w/.pioche"), options, &err),
	                 -code);
	if (!strstr(err.message, words))
		fail_msg("message \"%s\" does not contain \"%s\"", err.message, words);
	pio_snapshot_fini(&snapshot);
}

/* The tree is what `git add -A` into another index would make. */
static void assert_as_git(const pio_snapshot *snapshot, const char *dir)
{
	char line[1200];
	snprintf(line, sizeof line, "export GIT_INDEX_FILE=%s/judge; rm -f $GIT_INDEX_FILE; cd %s;"
	         " git read-tree HEAD 2>/dev/null || true; git add -A; test \"$(git write-tree)\" = %s",
	         root, dir, snapshot->tree);
	shell(line);
	shell("rm -f judge");
}

static void test_dirty_tree_is_what_git_would_add(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	make_repository();
	shell("cd w && echo changed > src/one.c && git rm -q --cached a-b && rm src/deep/two.c"
	      " && mkdir new out data && echo n > new/n.txt && echo o > out/o && echo p > x.o"
	      " && echo d > data/d && echo k > data/keep.txt && printf 'nl' > 'a\nb' && echo u > '\303\274 x'"
	      " && chmod -x run.sh && mkfifo pipe && mkdir empty && git add new/n.txt && echo N >> new/n.txt");
	take(&snapshot);
	assert_true(snapshot.dirty);
	assert_false(snapshot.own);
	assert_string_equal(snapshot.branch, "main");
	assert_as_git(&snapshot, "w");
	pio_snapshot_fini(&snapshot);
}

static void test_nothing_of_the_user_is_touched(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	make_repository();
	shell("cd w && echo changed > src/one.c && echo new > new.c && touch run.sh");
	const char *list = "cd w && { find . -path ./.git/objects -prune -o -path ./.git/refs/pioche -prune -o"
	                   " ! -path ./.git ! -path ./.git/refs -printf '%p %T@ %C@ %m %s %i\\n' | sort;"
	                   " sha256sum .git/index .git/HEAD .git/refs/heads/main; }";
	char line[1200];
	snprintf(line, sizeof line, "(%s) > before", list);
	shell(line);
	take(&snapshot);
	snprintf(line, sizeof line, "(%s) > after && cmp before after", list);
	shell(line);
	snprintf(line, sizeof line, "cd w && test $(git rev-parse %s^) = $(git rev-parse HEAD) &&"
	         " test \"$(git log -1 --format='%%an %%ae' %s)\" = 'pioche pioche@localhost' &&"
	         " git for-each-ref refs/pioche | grep -q %s && git fsck --full --strict --no-progress",
	         snapshot.commit, snapshot.commit, snapshot.commit);
	shell(line);
	pio_snapshot_fini(&snapshot);
}

static void test_same_tree_same_commit(void **state)
{
	(void)state;
	pio_snapshot first, second, third;
	make_repository();
	shell("cd w && echo changed > src/one.c");
	take(&first);
	sleep(1);   /* another second would be another commit */
	take(&second);
	assert_string_equal(first.commit, second.commit);
	shell("cd w && echo again > src/one.c");
	take(&third);
	assert_string_not_equal(first.commit, third.commit);
	pio_snapshot_fini(&first);
	pio_snapshot_fini(&second);
	pio_snapshot_fini(&third);
}

static void test_clean_tree_is_head(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	char line[400];
	make_repository();
	take(&snapshot);
	assert_false(snapshot.dirty);
	assert_string_equal(snapshot.commit, snapshot.parent);
	/* Only what the index cannot vouch for was read: no file here. */
	assert_int_equal(snapshot.files_hashed, 0);
	assert_int_equal(snapshot.files, 8);
	snprintf(line, sizeof line, "cd w && test $(git rev-parse HEAD) = %s &&"
	         " test $(git rev-parse refs/pioche/%s) = %s", snapshot.commit, snapshot.commit,
	         snapshot.commit);
	shell(line);
	pio_snapshot_fini(&snapshot);
}

/* The racy-git problem: same size, same second, changed after `git add`. */
static void test_edit_right_after_add_is_seen(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	make_repository();
	for (int i = 0; i < 5; i++) {
		shell("cd w && echo A > src/one.c && git add src/one.c && echo B > src/one.c");
		take(&snapshot);
		assert_as_git(&snapshot, "w");
		pio_snapshot_fini(&snapshot);
	}
}

static void test_unborn_head(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	shell("cd w && git init -q -b trunk && echo a > a.c");
	take(&snapshot);
	assert_string_equal(snapshot.parent, "");
	assert_string_equal(snapshot.branch, "trunk");
	assert_true(snapshot.dirty);
	assert_as_git(&snapshot, "w");
	pio_snapshot_fini(&snapshot);
}

static void test_without_git(void **state)
{
	(void)state;
	pio_snapshot snapshot, again;
	char line[600];
	shell("cd w && mkdir d && echo a > a.c && echo b > d/b.c && echo o > a.o && echo '*.o' > .gitignore");
	take(&snapshot);
	assert_true(snapshot.own);
	assert_string_equal(snapshot.repository, path_of("w/.pioche/code.git"));
	assert_string_equal(snapshot.workdir, path_of("w"));
	assert_int_equal(snapshot.files, 3);
	snprintf(line, sizeof line, "cd w/.pioche/code.git && test \"$(git ls-tree -r --name-only %s | xargs)\" ="
	         " '.gitignore a.c d/b.c' && git fsck --full --strict --no-progress", snapshot.commit);
	shell(line);
	take(&again);
	assert_string_equal(snapshot.commit, again.commit);
	pio_snapshot_fini(&snapshot);
	pio_snapshot_fini(&again);
	refused(PIO_EINVAL, "w", "`git init`", &(pio_snapshot_options){ .files_max = 2 });
	refused(PIO_EINVAL, "w", "more than 100000 files or 3 bytes",
	        &(pio_snapshot_options){ .total_bytes_max = 3 });
}

static void test_many_new_files_make_one_pack(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	shell("cd w && git init -q -b main && for i in $(seq 300); do echo $i > f$i; done");
	take(&snapshot);
	assert_as_git(&snapshot, "w");
	shell("cd w/.git/objects && test $(ls pack/*.pack | wc -l) = 1 && test $(find ?? -type f | wc -l) -lt 305"
	      " && cd ../.. && git fsck --full --strict --no-progress");
	pio_snapshot_fini(&snapshot);
}

/* Enough files that their stats are compared by several threads. */
static void test_large_tree_reads_only_what_changed(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	shell("cd w && git init -q -b main && mkdir a b && for i in $(seq 2500); do : > a/$i; : > b/$i; done &&"
	      " git add . && git commit -qm many && sleep 0.02 && git update-index -q --refresh");
	take(&snapshot);
	assert_false(snapshot.dirty);
	assert_int_equal(snapshot.files, 5000);
	pio_snapshot_fini(&snapshot);
	shell("cd w && echo x > a/17 && rm a/18 && chmod +x b/4 && rm b/9 && ln -s 8 b/9 && echo n > a/new &&"
	      " rm b/10 && mkdir b/10 && echo d > b/10/d && mv b/2500 c && printf '' > b/7");
	take(&snapshot);
	assert_true(snapshot.files_hashed <= 8);
	assert_as_git(&snapshot, "w");
	pio_snapshot_fini(&snapshot);
}

static void test_submodule_becomes_plain_files(void **state)
{
	(void)state;
	pio_snapshot snapshot, again;
	char line[900];
	make_repository();
	shell("git init -q lib && cd lib && echo '*.tmp' > .gitignore && echo l > l.c && git add . &&"
	      " git commit -qm lib && cd ../w && git -c protocol.file.allow=always submodule --quiet add ../lib lib"
	      " && git commit -qm sub && echo local > lib/extra.c && echo no > lib/x.tmp"
	      " && git init -q nested && echo n > nested/n.c");
	take(&snapshot);
	snprintf(line, sizeof line, "cd w && test \"$(git ls-tree -r --name-only %s lib nested | xargs)\" ="
	         " 'lib/.gitignore lib/extra.c lib/l.c nested/n.c' && git cat-file -p %s:lib/l.c | grep -q l"
	         " && git fsck --full --strict --no-progress", snapshot.commit, snapshot.commit);
	shell(line);
	take(&again);
	assert_string_equal(snapshot.commit, again.commit);
	pio_snapshot_fini(&snapshot);
	pio_snapshot_fini(&again);
}

static void test_linked_worktree(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	pio_err err = PIO_ERR_INIT;
	make_repository();
	shell("cd w && git worktree add -q -b side ../side && echo s > ../side/s.c");
	if (pio_snapshot_take(&snapshot, path_of("side/src"), path_of("w/.pioche"), NULL, &err))
		fail_msg("%s", err.message);
	assert_string_equal(snapshot.branch, "side");
	assert_string_equal(snapshot.workdir, path_of("side"));
	assert_as_git(&snapshot, "side");
	/* The snapshot outlives the linked work tree. */
	assert_string_equal(snapshot.repository, path_of("w/.git"));
	shell("cd w && git worktree remove --force ../side");
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("out"), &err), 0);
	shell("test $(cat out/s.c) = s");
	pio_snapshot_fini(&snapshot);
}

static void test_sparse_and_split(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	make_repository();
	shell("cd w && git sparse-checkout set src >/dev/null && echo n > src/new.c");
	take(&snapshot);
	char line[300];
	snprintf(line, sizeof line, "cd w && git ls-tree -r --name-only %s | grep -qx src/new.c &&"
	         " ! git ls-tree -r --name-only %s | grep -qF a.b/", snapshot.commit, snapshot.commit);
	shell(line);
	pio_snapshot_fini(&snapshot);
	shell("cd w && git sparse-checkout disable && git update-index --split-index");
	refused(PIO_EIO, "w", "git update-index --no-split-index", NULL);
}

/* Eight processes at once make one commit. */
static void test_at_once(void **state)
{
	(void)state;
	pid_t pids[8];
	make_repository();
	shell("cd w && echo changed > src/one.c");
	for (int i = 0; i < 8; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			pio_snapshot snapshot;
			pio_err err = PIO_ERR_INIT;
			int rc = pio_snapshot_take(&snapshot, path_of("w"), path_of("w/.pioche"), NULL, &err);
			if (rc)
				fprintf(stderr, "%s\n", err.message);
			else
				rc = pio_fs_write(path_of("one"), snapshot.commit, PIO_GIT_HEX, 0644, NULL);
			_exit(rc ? 1 : 0);
		}
	}
	for (int i = 0; i < 8; i++) {
		int status = -1;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	shell("cd w && test \"$(git for-each-ref --format='%(objectname)' refs/pioche)\" = $(cat ../one)");
}

static void test_nothing_at_all(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	take(&snapshot);
	assert_true(snapshot.own);
	assert_int_equal(snapshot.files, 0);
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("out"), NULL), 0);
	shell("test -z \"$(ls -A out)\"");
	pio_snapshot_fini(&snapshot);
}

static void test_unfinished_merge(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	make_repository();
	shell("cd w && git checkout -qb other && echo o > src/one.c && git commit -qam o && git checkout -q main"
	      " && echo m > src/one.c && git commit -qam m && ! git merge -q other >/dev/null");
	take(&snapshot);
	assert_as_git(&snapshot, "w");
	pio_snapshot_fini(&snapshot);
}

static void test_line_endings_as_git(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	make_repository();
	shell("cd w && printf '*.txt text eol=crlf\\n*.lfs filter=lfs\\n' > .gitattributes &&"
	      " printf 'a\\r\\nb\\r\\n' > t.txt && echo weights > w.lfs");
	take(&snapshot);
	assert_as_git(&snapshot, "w");
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("out"), NULL), 0);
	shell("cmp w/t.txt out/t.txt && cmp w/w.lfs out/w.lfs");
	pio_snapshot_fini(&snapshot);
}

static void test_refusals_name_the_thing(void **state)
{
	(void)state;
	make_repository();
	shell("git init -q --bare bare.git");
	refused(PIO_EINVAL, "bare.git", "a bare git repository has no work tree", NULL);
	shell("cd w && mkdir new && truncate -s 100000001 new/big.bin");
	refused(PIO_EINVAL, "w", "new/big.bin: 100.0 MB", NULL);
	refused(PIO_EINVAL, "w", ".gitignore", NULL);
	refused(PIO_EINVAL, "w", "inputs = {", NULL);
	shell("cd w && rm new/big.bin && echo s > new/secret && chmod 000 new/secret");
	if (geteuid())   /* root reads everything */
		refused(PIO_EIO, "w", "new/secret: cannot be read", NULL);
	/* Nothing was pinned by a refused snapshot. */
	shell("cd w && test -z \"$(git for-each-ref refs/pioche)\"");
}

static void test_subtree_identity(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	pio_err err = PIO_ERR_INIT;
	char before[65], after[65], all[65], all_after[65], dot[65];
	const char *const src[] = { "src", "run.sh" }, *const same[] = { "./run.sh", "src/", "src" };
	const char *const missing[] = { "src", "srx" }, *const outside[] = { "../etc" };
	const char *const current[] = { "." };
	make_repository();
	take(&snapshot);
	assert_int_equal(pio_snapshot_subtree(before, snapshot.repository, snapshot.commit, src, 2, &err), 0);
	assert_int_equal(pio_snapshot_subtree(after, snapshot.repository, snapshot.commit, same, 3, &err), 0);
	assert_string_equal(before, after);
	assert_int_equal(pio_snapshot_subtree(all, snapshot.repository, snapshot.commit, NULL, 0, &err), 0);
	assert_int_equal(pio_snapshot_subtree(dot, snapshot.repository, snapshot.commit, current, 1, &err), 0);
	assert_string_equal(all, dot);
	assert_int_equal(pio_snapshot_subtree(dot, snapshot.repository, snapshot.commit, missing, 2, &err),
	                 -PIO_ENOTFOUND);
	assert_non_null(strstr(err.message, "\"srx\""));
	assert_int_equal(pio_snapshot_subtree(dot, snapshot.repository, snapshot.commit, outside, 1, &err),
	                 -PIO_EINVAL);
	pio_snapshot_fini(&snapshot);
	shell("cd w && echo notes > notes.txt");
	take(&snapshot);
	assert_int_equal(pio_snapshot_subtree(after, snapshot.repository, snapshot.commit, src, 2, &err), 0);
	assert_string_equal(before, after);
	assert_int_equal(pio_snapshot_subtree(all_after, snapshot.repository, snapshot.commit, NULL, 0, &err), 0);
	assert_string_not_equal(all, all_after);
	pio_snapshot_fini(&snapshot);
	shell("cd w && chmod -x run.sh");
	take(&snapshot);
	assert_int_equal(pio_snapshot_subtree(after, snapshot.repository, snapshot.commit, src, 2, &err), 0);
	assert_string_not_equal(before, after);
	pio_snapshot_fini(&snapshot);
}

static void test_checkout_is_the_work_tree(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	pio_err err = PIO_ERR_INIT;
	char line[700];
	make_repository();
	shell("cd w && echo changed > src/one.c && printf n > 'a\nb' && head -c 300000 /dev/urandom > blob");
	take(&snapshot);
	shell("mkdir -p c/out.part/left && touch c/out.part/left/over");
	if (pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("c/out"), &err))
		fail_msg("%s", err.message);
	shell("diff -r --no-dereference -x .git -x .pioche w c/out && test -x c/out/run.sh &&"
	      " test -h c/out/link && test ! -e c/out/.git && test ! -e c/out.part && test ! -e c/out/left");
	snprintf(line, sizeof line, "test \"$(find c/out -printf '%%Ts\\n' | sort -u)\" = "
	         "$(git -C w log -1 --format=%%ct %s)", snapshot.commit);
	shell(line);
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("c/out"), &err),
	                 -PIO_EEXIST);
	/* A write that fails leaves neither the directory nor its .part. */
	pio_fs_fault_at("w", 3, 28);
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("c/two"), &err),
	                 -PIO_ENOSPC);
	pio_fs_fault_at("w", 0, 0);
	shell("test ! -e c/two && test ! -e c/two.part");
	pio_snapshot_fini(&snapshot);
}

/* Contents are durable before the rename, the rename on return: one sync each,
 * however many files. Without the first there is no directory. */
static void test_checkout_survives_power_loss(void **state)
{
	(void)state;
	pio_snapshot snapshot;
	pio_err err = PIO_ERR_INIT;
	make_repository();
	shell("cd w && for i in $(seq 100); do echo $i > many$i; done");
	take(&snapshot);
	pio_fs_counts before = pio_fs_counts_get();
	pio_fs_fault_at("s", 1, EIO);
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("c"), &err),
	                 -PIO_EIO);
	pio_fs_fault_at("s", 0, 0);
	assert_non_null(strstr(err.message, "/c.part"));
	assert_true(pio_fs_counts_get().renames == before.renames);
	shell("test ! -e c && test ! -e c.part");
	before = pio_fs_counts_get();
	assert_int_equal(pio_snapshot_checkout(snapshot.repository, snapshot.commit, path_of("c"), &err), 0);
	pio_fs_counts after = pio_fs_counts_get();
	assert_int_equal(after.syncs - before.syncs, 1);
	assert_int_equal(after.dir_syncs - before.dir_syncs, 1);
	assert_int_equal(after.renames - before.renames, 1);
	pio_snapshot_fini(&snapshot);
}

static void test_diffs(void **state)
{
	(void)state;
	pio_snapshot clean, dirty;
	pio_str patch = PIO_STR_INIT;
	make_repository();
	take(&clean);
	assert_int_equal(pio_snapshot_diff_parent(&patch, clean.repository, clean.commit, NULL), 0);
	assert_int_equal(patch.len, 0);
	shell("cd w && echo changed > src/one.c && printf 'b\\0in' > bin && git mv a-b moved");
	take(&dirty);
	assert_int_equal(pio_snapshot_diff(&patch, clean.repository, clean.commit, dirty.commit, NULL), 0);
	assert_non_null(strstr(patch.data, "-1\n+changed\n"));
	assert_non_null(strstr(patch.data, "rename to moved"));
	pio_str_clear(&patch);
	/* Applied to the parent, the patch gives the snapshot, binary files included. */
	assert_int_equal(pio_snapshot_diff_parent(&patch, clean.repository, dirty.commit, NULL), 0);
	assert_int_equal(pio_fs_write(path_of("patch"), patch.data, patch.len, 0644, NULL), 0);
	char line[700];
	snprintf(line, sizeof line, "cd w && export GIT_INDEX_FILE=%s/judge && git read-tree HEAD &&"
	         " git apply --cached --binary ../patch && test $(git write-tree) = %s", root, dirty.tree);
	shell(line);
	pio_str_fini(&patch);
	pio_snapshot_fini(&clean);
	pio_snapshot_fini(&dirty);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dirty_tree_is_what_git_would_add),
		TEST(test_nothing_of_the_user_is_touched),
		TEST(test_same_tree_same_commit),
		TEST(test_clean_tree_is_head),
		TEST(test_edit_right_after_add_is_seen),
		TEST(test_unborn_head),
		TEST(test_without_git),
		TEST(test_many_new_files_make_one_pack),
		TEST(test_large_tree_reads_only_what_changed),
		TEST(test_submodule_becomes_plain_files),
		TEST(test_linked_worktree),
		TEST(test_unfinished_merge),
		TEST(test_sparse_and_split),
		TEST(test_at_once),
		TEST(test_nothing_at_all),
		TEST(test_line_endings_as_git),
		TEST(test_refusals_name_the_thing),
		TEST(test_subtree_identity),
		TEST(test_checkout_is_the_work_tree),
		TEST(test_checkout_survives_power_loss),
		TEST(test_diffs),
	};
	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
