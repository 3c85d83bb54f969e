/* snapshot.h: the exact code, as a git commit.
 *
 * Taking a snapshot turns the work tree as it stands, with untracked and not
 * ignored files, into a commit under refs/pioche/. HEAD, index and work tree
 * are only read. Files are stored as git would store them, except that
 * submodules and nested repositories become plain files, so that the code on
 * record is whole. Without a git repository, pioche keeps its own, bare, in
 * STORE/code.git, whose work tree is the directory that contains the store.
 * The store itself is never part of a snapshot.
 *
 * One thread at a time per repository; several processes may take snapshots
 * at once. Call pio_git_init before anything else here. */
#ifndef PIO_GIT_SNAPSHOT_H
#define PIO_GIT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_GIT_HEX 40
#define PIO_SNAPSHOT_IDENTITY_HEX 64

/* Start and stop libgit2, with fsync of what it writes; calls are counted. */
int pio_git_init(pio_err *err);
void pio_git_shutdown(void);

typedef struct pio_snapshot_options {
	int64_t file_bytes_max;   /* refuse larger files; 0: 100,000,000 */
	int64_t total_bytes_max;  /* only without git: refuse more in all; 0: 1 GiB */
	int64_t files_max;        /* only without git; 0: 100,000 */
} pio_snapshot_options;

typedef struct pio_snapshot {
	char commit[PIO_GIT_HEX + 1];
	char tree[PIO_GIT_HEX + 1];
	char parent[PIO_GIT_HEX + 1];   /* HEAD at that time; "" when unborn; `commit` when clean */
	bool dirty;                     /* the tree differs from HEAD's */
	bool own;                       /* kept in STORE/code.git: there is no git repository */
	char *branch;                   /* short name; "" when detached or without git */
	char *subject;                  /* first line of HEAD's message; NULL when unborn */
	char *repository;               /* absolute path of the git directory */
	char *workdir;                  /* absolute, without final slash */
	int64_t files, bytes;           /* in the tree; bytes as they lie in the work tree */
	int64_t files_hashed;           /* how many had to be read */
} pio_snapshot;

/* Snapshot of the work tree that contains `start_path`. Taking the same tree on
 * the same HEAD again gives the same commit; a tree that is HEAD's is HEAD
 * itself, pinned by a ref. `options` may be NULL.
 * PIO_EINVAL: a bare repository, a file that is too large or, without git, too
 * many files; the message names the thing and what to do. PIO_EIO: a file
 * cannot be read. The caller ends *out with pio_snapshot_fini, also on failure. */
int pio_snapshot_take(pio_snapshot *out, const char *start_path, const char *store_dir,
                      const pio_snapshot_options *options, pio_err *err);
void pio_snapshot_fini(pio_snapshot *snapshot);

/* SHA-256 of the sorted, distinct lines "MODE PATH OID\n" of these paths inside
 * the commit: what a recipe's `sources` are, whatever else changes around them.
 * Paths are relative to the work tree, "." or count 0 is all of it.
 * PIO_ENOTFOUND names a path that is not in the commit, PIO_EINVAL one that is
 * absolute or leaves the tree. */
int pio_snapshot_subtree(char hex[PIO_SNAPSHOT_IDENTITY_HEX + 1], const char *repository,
                         const char *commit, const char *const *paths, size_t count, pio_err *err);

/* The commit's files as plain files in the new directory `dest_dir`, made as
 * `dest_dir`.part and renamed when whole; all times are the commit's. There is
 * no .git in it. A left-over .part is replaced; PIO_EEXIST if `dest_dir`
 * exists. Durable on return, and before it has its name: after a loss of power
 * `dest_dir` is whole or absent. */
int pio_snapshot_checkout(const char *repository, const char *commit, const char *dest_dir,
                          pio_err *err);

/* Append the unified patch from commit_a to commit_b (renames found; of binary
 * files only the fact). */
int pio_snapshot_diff(pio_str *out, const char *repository, const char *commit_a,
                      const char *commit_b, pio_err *err);
/* Append the patch from HEAD at the time of the snapshot, with binary files
 * whole, so that `git apply --binary` on the parent gives the snapshot. Empty
 * when the work tree was clean. */
int pio_snapshot_diff_parent(pio_str *out, const char *repository, const char *commit,
                             pio_err *err);

#endif
