/* fs.h: files that survive power loss.
 *
 * This is the only place that calls fsync, rename, unlink and mkdir, so that
 * the rules are in one file: data is synced before the rename that publishes
 * it, the directory after; an fsync that failed is never retried on the same
 * file. Every call goes through one seam (pio_fs_fault_at), by which tests
 * make the n-th operation fail, and is counted (pio_fs_counts), by which tests
 * assert what one checkpoint costs.
 *
 * What is made in a directory that the group may write, the group may write as
 * well, whatever the umask, as far as the `mode` of the call allows: so a store
 * of several users stays one (pio_fs_share).
 *
 * Paths are bytes; relative ones are relative to the working directory. All
 * functions retry EINTR. Thread-safe. */
#ifndef PIO_SYS_FS_H
#define PIO_SYS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/* Append the whole file to `out`. PIO_ENOTFOUND if there is none. */
int pio_fs_read(pio_str *out, const char *path, pio_err *err);

/* Replace `path` with these bytes, whole or not at all, and durable on return:
 * temporary file beside it, fsync, rename, fsync of the directory. */
int pio_fs_write(const char *path, const void *bytes, size_t size_bytes, mode_t mode, pio_err *err);

/* Make the file with these few bytes where there is none, or an empty one: a
 * death in between leaves no temporary file, and several processes may do it at
 * once. Durable on return, but for the directory's entry. */
int pio_fs_ensure(const char *path, const void *bytes, size_t size_bytes, mode_t mode, pio_err *err);

/* open(2) with O_CLOEXEC; *fd is -1 on failure, and never 0, 1 or 2: what a
 * program that has closed its standard streams prints must not get into a file
 * of ours. */
int pio_fs_open(int *fd, const char *path, int flags, mode_t mode, pio_err *err);
/* The same descriptor under a number above 2, close-on-exec. Takes `fd`; -1 and
 * errno if there is none left, and passes -1 on. */
int pio_fs_lift(int fd);
/* write(2) until all is written. `path` is for the message. */
int pio_fs_write_all(int fd, const void *bytes, size_t size_bytes, const char *path, pio_err *err);
int pio_fs_pread_all(int fd, void *bytes, size_t size_bytes, int64_t offset, const char *path,
                     pio_err *err);
/* One read(2), EINTR retried; *n is 0 at the end of the file. */
int pio_fs_read_some(ssize_t *n, int fd, void *bytes, size_t size_bytes, const char *path,
                     pio_err *err);
/* Take room for so many bytes of an empty file, which has that size then. PIO_ENOSPC where
 * they do not fit; 0 also where the file system cannot do it, and in memory nothing is
 * taken. */
int pio_fs_reserve(int fd, int64_t size_bytes, const char *path, pio_err *err);
/* fdatasync, and close reporting its error. Close even if the sync failed. */
int pio_fs_datasync(int fd, const char *path, pio_err *err);
int pio_fs_close(int *fd, const char *path, pio_err *err);

int pio_fs_rename(const char *from, const char *to, pio_err *err);
/* A second name for a file that has one; PIO_EEXIST where `to` exists, PIO_ENOTFOUND where
 * `from` does not. Atomic on every file system that has links, network ones too. */
int pio_fs_link(const char *from, const char *to, pio_err *err);
/* fsync of the directory itself, which makes its renames and unlinks durable. */
int pio_fs_sync_dir(const char *path, pio_err *err);
/* syncfs(2): all that was written to the file system of this directory is
 * durable, by whomever. For a tree of many files, before it is renamed. */
int pio_fs_sync_filesystem(const char *path, pio_err *err);
/* The same by a directory `fd` that was opened before they were written, so that what the
 * disk refused meanwhile is told, too, where pio_fs_sync_filesystem_tells. */
int pio_fs_sync_filesystem_of(int fd, const char *path, pio_err *err);
/* 0 also when there is nothing to remove. */
int pio_fs_unlink(const char *path, pio_err *err);
/* Like rm -r: never follows links, removes read-only directories too. */
int pio_fs_remove_tree(const char *path, pio_err *err);
/* mkdir -p; new directories get `mode`. */
int pio_fs_mkdirs(const char *path, mode_t mode, pio_err *err);
/* And those that are new are durable on return: each is synced into its parent. */
int pio_fs_mkdirs_durable(const char *path, mode_t mode, pio_err *err);

/* Copy a tree: directories, regular files (mode and mtime kept; cloned by
 * FICLONE where the file system can, else copied) and symbolic links as links.
 * `to` must not exist. */
int pio_fs_copy_tree(const char *from, const char *to, pio_err *err);

enum pio_fs_type { PIO_FS_NONE, PIO_FS_FILE, PIO_FS_DIR, PIO_FS_OTHER };
/* Follows links. PIO_FS_NONE for anything that cannot be stat'ed. */
enum pio_fs_type pio_fs_type(const char *path);
/* Entries of a directory without "." and "..", sorted by bytes: a vector of
 * NUL-terminated names; *names and each name are freed by pio_fs_list_free. */
int pio_fs_list(char ***names, size_t *count, const char *path, pio_err *err);
void pio_fs_list_free(char **names, size_t count);

/* ---- where files stand (fs_place.c) ---- */
typedef struct pio_fs_place {
	char name[32];     /* of the file system: "ext4", "nfs4", "fuse.sshfs" */
	bool network;      /* mappings and perhaps locks are not coherent, says statfs(2) */
	bool forced;       /* PIOCHE_FS=network|local says so or otherwise */
	bool is_network;   /* what holds */
	bool locks_local;  /* mounted so that other machines do not see locks */
} pio_fs_place;
void pio_fs_place_get(pio_fs_place *place, const char *path);
/* is_network alone, without a look at the mounts. */
bool pio_fs_is_network(const char *path);
/* Does syncfs(2) there wait for everything and tell every failure? Of a file system that is
 * known to (ext4, XFS, Btrfs, F2FS), from Linux 5.17 on, which dropped none of its errors
 * any more; and of one in memory, where nothing is to be waited for. */
bool pio_fs_sync_filesystem_tells(const char *path);
/* Free bytes for an unprivileged user; -1 when unknown. */
int64_t pio_fs_free_bytes(const char *path);
/* Can this many bytes be written in `dir`? Reserves them and gives them back,
 * since statfs(2) knows nothing of quotas. -PIO_ENOSPC if not. */
int pio_fs_check_room(const char *dir, int64_t size_bytes, pio_err *err);
/* Give the group the rights on this file of ours that it has on its directory,
 * if it may write there; no more than `mode`. Done by what makes files here. */
void pio_fs_share(int fd, const char *path, mode_t mode);

/* Exclusive advisory lock on a file that is made if absent; held until the last
 * copy of the fd is closed, pio_fs_unlock, or death. PIO_EBUSY if another holds it. */
int pio_fs_lock(int *fd, const char *path, pio_err *err);
/* Also where a forked child still has a copy. Sets *fd to -1; -1 is fine. */
void pio_fs_unlock(int *fd);
/* Does anybody hold it? Nothing is taken, and reading is enough. False when
 * there is no such file. */
int pio_fs_is_locked(bool *locked, const char *path, pio_err *err);

typedef struct pio_fs_counts {
	uint64_t writes, syncs, dir_syncs, renames, unlinks;
} pio_fs_counts;
pio_fs_counts pio_fs_counts_get(void);

/* For tests: the n-th operation from now (1 = the next) of the given kinds
 * (letters of "wsru": write, sync, rename, unlink) fails with `sys_errno`;
 * with 0 the process exits at once instead, like SIGKILL. n = 0 switches off.
 * Also set by PIOCHE_FS_FAULT="kinds:n:errno"; with a "+" behind it, all that follow
 * fail as well. */
void pio_fs_fault_at(const char *kinds, uint64_t n, int sys_errno);

#endif
