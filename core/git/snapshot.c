/* How a snapshot comes to be.
 *
 * Definitions. HEAD: the commit that the work tree is based on, if any. Tree:
 * what pio_worktree_read makes of the work tree. Pin: a reference under
 * refs/pioche/ that keeps a commit from `git gc`.
 *
 * Invariants:
 * 1. Nothing outside objects/ and refs/pioche/ is written.
 * 2. A pin is made last: whatever it leads to is on disk and synced.
 * 3. The pin of a tree that differs from HEAD's is named TREE-PARENT, where an
 *    unborn HEAD is 40 zeros; the same tree on the same HEAD therefore finds
 *    the commit of the first time, and of two processes that make it at once
 *    one wins and the other takes the winner's commit.
 * 4. The pin of a clean work tree is named by HEAD's commit. */
#include "git/snapshot.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "git/repo.h"
#include "git/worktree.h"

#define FILE_BYTES_MAX 100000000
#define TOTAL_BYTES_MAX (1ll << 30)
#define FILES_MAX 100000
#define PIN_BYTES 128
#define LOCK_TRIES 100
#define LOCK_WAIT_MS 20

/* Everything that a snapshot has open. */
struct taking {
	git_repository *repo;
	pio_stage *stage;
	pio_tree *tree;
	git_commit *head;       /* NULL when unborn */
	git_oid commit;
	bool shares;            /* umask holds what it was before */
	mode_t umask;
};

/* A group's store has a repository that the group may write; libgit2 goes by the
 * umask alone. */
static void share_with_group(struct taking *taking, const char *store_dir)
{
	struct stat st;
	if (stat(store_dir, &st) != 0 || !(st.st_mode & S_IWGRP) || (st.st_mode & S_ISVTX))
		return;
	taking->umask = umask(0);
	umask(taking->umask & (mode_t)~S_IRWXG);
	taking->shares = true;
}

/* The directory that contains the store, absolute; the caller frees it with free(). */
static char *store_parent(const char *store_dir)
{
	char *real = realpath(store_dir, NULL);
	char *slash = real ? strrchr(real, '/') : NULL;
	if (slash)
		slash[slash == real] = 0;
	return real;
}

/* Without git: a bare repository of our own with the store's parent as work tree. */
static int open_own(git_repository **repo, const char *store_dir, pio_err *err)
{
	git_repository_init_options options;
	pio_str path = PIO_STR_INIT;
	char *parent = store_parent(store_dir);
	int rc = 0;
	if (!parent) {
		rc = pio_fail_errno(err, errno, "%s: the store's directory", store_dir);
		goto out;
	}
	pio_str_printf(&path, "%s/code.git", store_dir);
	rc = pio_str_check(&path, err);
	if (rc)
		goto out;
	rc = git_repository_open_bare(repo, path.data);
	if (rc < 0) {
		/* None yet, or one that a crash left half made: then this completes it. */
		git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
		options.flags = GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_MKDIR;
		rc = git_repository_init_ext(repo, path.data, &options);
	}
	if (rc >= 0)
		rc = git_repository_set_workdir(*repo, parent, 0);
	if (rc < 0)
		rc = pio_git_fail(err, rc, "%s: pioche's own repository for a directory without git",
		                  path.data);
out:
	pio_str_fini(&path);
	free(parent);
	return rc;
}

static int open_repository(struct taking *taking, pio_snapshot *out, const char *start_path,
                           const char *store_dir, pio_err *err)
{
	int rc = git_repository_open_ext(&taking->repo, start_path, 0, NULL);
	if (rc == GIT_ENOTFOUND) {
		out->own = true;
		share_with_group(taking, store_dir);
		return open_own(&taking->repo, store_dir, err);
	}
	if (rc == GIT_EOWNER)
		return pio_fail(err, PIO_EINVAL, "%s: the git repository belongs to another user; if you "
		                "trust it: git config --global --add safe.directory DIRECTORY (* for all)",
		                start_path);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot open the git repository", start_path);
	if (git_repository_is_bare(taking->repo))
		return pio_fail(err, PIO_EINVAL, "%s: a bare git repository has no work tree to run from; "
		                "start in a clone or in a work tree of it (git worktree add)",
		                git_repository_path(taking->repo));
	return 0;
}

static int read_head(struct taking *taking, pio_snapshot *out, pio_err *err)
{
	git_reference *head = NULL;
	const char *branch = "";
	git_oid oid;
	int rc = git_reference_lookup(&head, taking->repo, "HEAD");
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot read HEAD", git_repository_path(taking->repo));
	if (git_reference_type(head) == GIT_REFERENCE_SYMBOLIC && !out->own) {
		branch = git_reference_symbolic_target(head);
		if (!strncmp(branch, "refs/heads/", 11))
			branch += 11;
	}
	out->branch = pio_strdup(branch);
	git_reference_free(head);
	if (!out->branch)
		return pio_fail(err, PIO_ENOMEM, "out of memory while reading HEAD");
	rc = git_reference_name_to_id(&oid, taking->repo, "HEAD");
	if (rc == GIT_ENOTFOUND)
		return 0;
	if (rc >= 0)
		rc = git_commit_lookup(&taking->head, taking->repo, &oid);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot read HEAD", git_repository_path(taking->repo));
	git_oid_tostr(out->parent, sizeof out->parent, &oid);
	const char *subject = git_commit_summary(taking->head);
	out->subject = subject ? pio_strdup(subject) : NULL;
	if (subject && !out->subject)
		return pio_fail(err, PIO_ENOMEM, "out of memory while reading HEAD");
	return 0;
}

static int copy_paths(pio_snapshot *out, git_repository *repo, pio_err *err)
{
	/* Of a linked work tree the common directory, which outlives it. */
	out->repository = pio_strdup(git_repository_commondir(repo));
	out->workdir = pio_strdup(git_repository_workdir(repo));
	if (!out->repository || !out->workdir)
		return pio_fail(err, PIO_ENOMEM, "out of memory while opening a git repository");
	char *ends[2] = { out->repository, out->workdir };
	for (int i = 0; i < 2; i++) {
		size_t len = strlen(ends[i]);
		if (len > 1 && ends[i][len - 1] == '/')
			ends[i][len - 1] = 0;
	}
	return 0;
}

static void pin_name(char name[PIN_BYTES], const pio_snapshot *out)
{
	memcpy(name, "refs/pioche/", 12);
	char *at = name + 12;
	if (!out->dirty) {
		memcpy(at, out->parent, PIO_GIT_HEX + 1);
		return;
	}
	memcpy(at, out->tree, PIO_GIT_HEX);
	at[PIO_GIT_HEX] = '-';
	memset(at + PIO_GIT_HEX + 1, '0', PIO_GIT_HEX);
	if (out->parent[0])
		memcpy(at + PIO_GIT_HEX + 1, out->parent, PIO_GIT_HEX);
	at[2 * PIO_GIT_HEX + 1] = 0;
}

static int write_commit(struct taking *taking, const pio_snapshot *out, pio_err *err)
{
	git_signature *who = NULL;
	git_tree *tree = NULL;
	git_buf text = { NULL, 0, 0 };
	const git_commit *parents[1] = { taking->head };
	int rc = git_signature_new(&who, PIO_GIT_IDENTITY_NAME, PIO_GIT_IDENTITY_EMAIL, time(NULL), 0);
	if (rc >= 0)
		rc = git_tree_lookup(&tree, taking->repo, &taking->tree->oid);
	if (rc >= 0)
		rc = git_commit_create_buffer(&text, taking->repo, who, who, NULL,
		                              "pioche: the work tree as it ran\n", tree,
		                              taking->head ? 1 : 0, parents);
	if (rc < 0)
		rc = pio_git_fail(err, rc, "%s: cannot make the snapshot's commit", out->repository);
	else
		rc = pio_stage_write_now(&taking->commit, taking->stage, text.ptr, text.size,
		                         GIT_OBJECT_COMMIT, err);
	git_buf_dispose(&text);
	git_tree_free(tree);
	git_signature_free(who);
	return rc;
}

/* Find the commit of an earlier time. 0: taking->commit is set; GIT_ENOTFOUND. */
static int find_pinned(struct taking *taking, const char *pin)
{
	git_commit *commit = NULL;
	int rc = git_reference_name_to_id(&taking->commit, taking->repo, pin);
	if (rc >= 0)
		rc = git_commit_lookup(&commit, taking->repo, &taking->commit);
	git_commit_free(commit);
	return rc < 0 ? GIT_ENOTFOUND : 0;
}

/* To write a pin takes no time: a lock that has stood all the while is of a process that was
 * killed. `was` is how it looked at the first try. */
static void drop_lock(const char *path, const struct stat *was)
{
	struct stat now;
	if (stat(path, &now) == 0 && now.st_ino == was->st_ino && now.st_mtime == was->st_mtime)
		unlink(path);
}

/* Where another process pins the same tree at the same time, take its commit. */
static int write_pin(struct taking *taking, const pio_snapshot *out, const char *pin, pio_err *err)
{
	git_reference *ref = NULL;
	git_oid commit = taking->commit;
	char lock[PATH_MAX];
	struct stat was = { .st_ino = 0 };
	snprintf(lock, sizeof lock, "%s/%s.lock", out->repository, pin);
	int rc = GIT_ELOCKED;
	for (int tries = 0; tries < LOCK_TRIES && rc == GIT_ELOCKED; tries++) {
		if (tries)
			pio_clock_sleep_ms(LOCK_WAIT_MS);
		if (tries == 1 && stat(lock, &was) != 0)
			was.st_ino = 0;
		if (tries == LOCK_TRIES - 1)
			drop_lock(lock, &was);
		rc = git_reference_create(&ref, taking->repo, pin, &commit, 0, NULL);
		git_reference_free(ref);
		ref = NULL;
		if (rc < 0 && find_pinned(taking, pin) == 0)
			return 0;
	}
	taking->commit = commit;
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot write %s", out->repository, pin);
	return 0;
}

static int make_commit(struct taking *taking, pio_snapshot *out, pio_err *err)
{
	char pin[PIN_BYTES];
	int rc;
	pin_name(pin, out);
	if (find_pinned(taking, pin) == 0)
		return 0;
	if (out->dirty) {
		rc = pio_tree_write(taking->tree, taking->stage, taking->repo,
		                    taking->head ? git_commit_tree_id(taking->head) : NULL, err);
		if (!rc)
			rc = pio_stage_flush(taking->stage, err);
		if (!rc)
			rc = write_commit(taking, out, err);
		if (rc)
			return rc;
	} else {
		taking->commit = *git_commit_id(taking->head);
	}
	return write_pin(taking, out, pin, err);
}

static int read_worktree(struct taking *taking, pio_snapshot *out, const char *store_dir,
                         const pio_snapshot_options *options, pio_err *err)
{
	pio_worktree_counts counts;
	pio_worktree_spec spec = {
		.repo = taking->repo, .stage = taking->stage, .store_dir = store_dir,
		.file_bytes_max = options && options->file_bytes_max ? options->file_bytes_max :
		                  FILE_BYTES_MAX,
	};
	if (out->own) {
		spec.total_bytes_max = options && options->total_bytes_max ? options->total_bytes_max :
		                       TOTAL_BYTES_MAX;
		spec.files_max = options && options->files_max ? options->files_max : FILES_MAX;
	}
	int rc = pio_worktree_read(&taking->tree, &counts, &spec, err);
	if (!rc)
		rc = pio_tree_hash(taking->tree, err);
	if (rc)
		return rc;
	out->files = counts.files;
	out->bytes = counts.bytes;
	out->files_hashed = counts.hashed;
	out->dirty = !taking->head ||
	             !git_oid_equal(&taking->tree->oid, git_commit_tree_id(taking->head));
	git_oid_tostr(out->tree, sizeof out->tree, &taking->tree->oid);
	return 0;
}

int pio_snapshot_take(pio_snapshot *out, const char *start_path, const char *store_dir,
                      const pio_snapshot_options *options, pio_err *err)
{
	struct taking taking = { .repo = NULL };
	*out = (pio_snapshot){ .dirty = false };
	int rc = open_repository(&taking, out, start_path, store_dir, err);
	if (!rc)
		rc = copy_paths(out, taking.repo, err);
	if (!rc)
		rc = pio_stage_open(&taking.stage, taking.repo, err);
	if (!rc)
		rc = read_head(&taking, out, err);
	if (!rc)
		rc = read_worktree(&taking, out, store_dir, options, err);
	if (!rc)
		rc = make_commit(&taking, out, err);
	if (!rc)
		git_oid_tostr(out->commit, sizeof out->commit, &taking.commit);
	pio_tree_free(taking.tree);
	git_commit_free(taking.head);
	pio_stage_close(taking.stage);
	git_repository_free(taking.repo);
	if (taking.shares)
		umask(taking.umask);
	return rc;
}

void pio_snapshot_fini(pio_snapshot *snapshot)
{
	pio_free(snapshot->branch);
	pio_free(snapshot->subject);
	pio_free(snapshot->repository);
	pio_free(snapshot->workdir);
	*snapshot = (pio_snapshot){ .dirty = false };
}
