/* The seam, the primitives and whole-file reads and writes. Trees are walked
 * in fs_tree.c. */
#include "sys/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"

/* ---- the seam ------------------------------------------------------------- */

static atomic_uint_fast64_t count_writes, count_syncs, count_dir_syncs, count_renames,
	count_unlinks;
static atomic_uint_fast64_t fault_countdown;
static atomic_uint fault_kinds;  /* a bit a letter */
static atomic_int fault_errno;
static atomic_bool fault_stays;  /* all that follow fail too: a full disk */

static unsigned bit_of(char kind)
{
	return 1u << (kind & 31);
}

void pio_fs_fault_at(const char *kinds, uint64_t n, int sys_errno)
{
	unsigned bits = 0;
	for (; *kinds; kinds++)
		bits |= bit_of(*kinds);
	atomic_store(&fault_kinds, bits);
	atomic_store(&fault_errno, sys_errno);
	atomic_store(&fault_stays, false);
	atomic_store(&fault_countdown, n);
}

__attribute__((constructor)) static void fault_from_environment(void)
{
	const char *text = getenv("PIOCHE_FS_FAULT");
	char kinds[8], stays = 0;
	unsigned long long n;
	int sys_errno;
	if (!text || sscanf(text, "%7[wsru]:%llu:%d%c", kinds, &n, &sys_errno, &stays) < 3)
		return;
	pio_fs_fault_at(kinds, n, sys_errno);
	atomic_store(&fault_stays, stays == '+');
}

/* 0 to go on, or the errno to fail with. Every operation passes here once. */
static int gate(char kind, atomic_uint_fast64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
	uint_fast64_t left = atomic_load_explicit(&fault_countdown, memory_order_relaxed);
	if (!left || !(atomic_load(&fault_kinds) & bit_of(kind)))
		return 0;
	int error = atomic_load(&fault_errno);
	if (left == 1 && atomic_load(&fault_stays))
		return error;
	if (atomic_fetch_sub(&fault_countdown, 1) != 1)
		return 0;
	if (error == 0)
		_exit(137);
	return error;
}

pio_fs_counts pio_fs_counts_get(void)
{
	return (pio_fs_counts){ .writes = atomic_load(&count_writes),
	                        .syncs = atomic_load(&count_syncs),
	                        .dir_syncs = atomic_load(&count_dir_syncs),
	                        .renames = atomic_load(&count_renames),
	                        .unlinks = atomic_load(&count_unlinks) };
}

/* ---- primitives -------------------------------------------------------------- */

int pio_fs_lift(int fd)
{
	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	int lifted = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), saved = errno;
	close(fd);
	errno = saved;
	return lifted;
}

int pio_fs_open(int *fd, const char *path, int flags, mode_t mode, pio_err *err)
{
	do
		*fd = pio_fs_lift(open(path, flags | O_CLOEXEC, mode));
	while (*fd < 0 && errno == EINTR);
	if (*fd >= 0) {
		if (flags & O_CREAT)
			pio_fs_share(*fd, path, mode);
		return 0;
	}
	int e = errno;
	if (e == ENOENT && !(flags & O_CREAT))
		return pio_fail(err, PIO_ENOTFOUND, "%s: no such file", path);
	if (e == EEXIST)
		return pio_fail(err, PIO_EEXIST, "%s exists already", path);
	return pio_fail_errno(err, e, "cannot open %s", path);
}

int pio_fs_write_all(int fd, const void *bytes, size_t size_bytes, const char *path, pio_err *err)
{
	const char *p = bytes;
	int fault = gate('w', &count_writes);
	if (fault)
		return pio_fail_errno(err, fault, "cannot write %s", path);
	while (size_bytes) {
		ssize_t n = write(fd, p, size_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pio_fail_errno(err, errno, "cannot write %s", path);
		p += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

int pio_fs_reserve(int fd, int64_t size_bytes, const char *path, pio_err *err)
{
	struct statfs st;
	int fault = gate('w', &count_writes);
	/* One in memory would fill it, and has no quotas. */
	bool in_memory = !fault && fstatfs(fd, &st) == 0 && (st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC);
	if (!fault && !in_memory && fallocate(fd, 0, 0, (off_t)size_bytes) != 0 &&
	    (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
		fault = errno;
	return fault ? pio_fail_errno(err, fault, "cannot take %lld bytes for %s", (long long)size_bytes, path) : 0;
}

int pio_fs_read_some(ssize_t *n, int fd, void *bytes, size_t size_bytes, const char *path,
                     pio_err *err)
{
	do
		*n = read(fd, bytes, size_bytes);
	while (*n < 0 && errno == EINTR);
	return *n < 0 ? pio_fail_errno(err, errno, "cannot read %s", path) : 0;
}

int pio_fs_pread_all(int fd, void *bytes, size_t size_bytes, int64_t offset, const char *path,
                     pio_err *err)
{
	char *p = bytes;
	while (size_bytes) {
		ssize_t n = pread(fd, p, size_bytes, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pio_fail_errno(err, errno, "cannot read %s", path);
		if (n == 0)
			return pio_fail(err, PIO_ECORRUPT, "%s ends %zu bytes early", path, size_bytes);
		p += n;
		offset += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

int pio_fs_datasync(int fd, const char *path, pio_err *err)
{
	int fault = gate('s', &count_syncs);
	if (!fault && fdatasync(fd) != 0)
		fault = errno;
	return fault ? pio_fail_errno(err, fault, "cannot sync %s", path) : 0;
}

int pio_fs_close(int *fd, const char *path, pio_err *err)
{
	int failed = *fd >= 0 && close(*fd) != 0 && errno != EINTR ? errno : 0;
	*fd = -1;
	return failed ? pio_fail_errno(err, failed, "cannot close %s", path) : 0;
}

int pio_fs_rename(const char *from, const char *to, pio_err *err)
{
	int fault = gate('r', &count_renames);
	if (!fault && rename(from, to) != 0)
		fault = errno;
	if (fault == ENOENT)
		return pio_fail(err, PIO_ENOTFOUND, "cannot rename %s to %s: no such file", from, to);
	return fault ? pio_fail_errno(err, fault, "cannot rename %s to %s", from, to) : 0;
}

int pio_fs_link(const char *from, const char *to, pio_err *err)
{
	struct stat st;
	int fault = gate('r', &count_renames);
	if (!fault && link(from, to) != 0)
		fault = errno;
	/* A server that answered late is asked again, and finds what it did. */
	if (fault == EEXIST && stat(from, &st) == 0 && st.st_nlink == 2)
		fault = 0;
	if (fault == EEXIST)
		return pio_fail(err, PIO_EEXIST, "%s exists already", to);
	if (fault == ENOENT)
		return pio_fail(err, PIO_ENOTFOUND, "cannot link %s to %s: no such file", from, to);
	return fault ? pio_fail_errno(err, fault, "cannot link %s to %s", from, to) : 0;
}

int pio_fs_sync_dir(const char *path, pio_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return pio_fail_errno(err, errno, "cannot open directory %s", path);
	int fault = gate('s', &count_dir_syncs);
	if (!fault && fsync(fd) != 0)
		fault = errno;
	close(fd);
	/* A file system without directory fsync says so with EINVAL; nothing is lost by it. */
	return fault && fault != EINVAL ? pio_fail_errno(err, fault, "cannot sync directory %s", path)
	                                : 0;
}

int pio_fs_sync_filesystem(const char *path, pio_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return pio_fail_errno(err, errno, "cannot open directory %s", path);
	int rc = pio_fs_sync_filesystem_of(fd, path, err);
	close(fd);
	return rc;
}

int pio_fs_sync_filesystem_of(int fd, const char *path, pio_err *err)
{
	int fault = gate('s', &count_syncs);
	if (!fault && syncfs(fd) != 0)
		fault = errno;
	return fault ? pio_fail_errno(err, fault, "cannot sync the file system of %s", path) : 0;
}

int pio_fs_unlink(const char *path, pio_err *err)
{
	int fault = gate('u', &count_unlinks);
	if (!fault && unlink(path) != 0)
		fault = errno;
	return fault && fault != ENOENT ? pio_fail_errno(err, fault, "cannot remove %s", path) : 0;
}

/* ---- whole files ----------------------------------------------------------------- */

int pio_fs_read(pio_str *out, const char *path, pio_err *err)
{
	char block[65536];
	int fd;
	int rc = pio_fs_open(&fd, path, O_RDONLY, 0, err);
	if (rc)
		return rc;
	ssize_t n = 1;
	while (rc == 0 && n > 0) {
		rc = pio_fs_read_some(&n, fd, block, sizeof block, path, err);
		if (rc == 0 && n > 0) {
			pio_str_append(out, block, (size_t)n);
			rc = pio_str_check(out, err);
		}
	}
	close(fd);
	return rc;
}

/* The directory part of `path`, "." when there is none. */
static void parent_of(pio_str *parent, const char *path)
{
	const char *slash = strrchr(path, '/');
	if (!slash)
		pio_str_putc(parent, '.');
	else
		pio_str_append(parent, path, slash == path ? 1 : (size_t)(slash - path));
}

int pio_fs_write(const char *path, const void *bytes, size_t size_bytes, mode_t mode, pio_err *err)
{
	pio_str temporary = PIO_STR_INIT, parent = PIO_STR_INIT;
	int fd = -1;
	pio_str_printf(&temporary, "%s.part.%d", path, (int)getpid());
	parent_of(&parent, path);
	int rc = pio_str_check(&temporary, err);
	if (rc == 0)
		rc = pio_str_check(&parent, err);
	if (rc == 0)
		rc = pio_fs_open(&fd, temporary.data, O_WRONLY | O_CREAT | O_TRUNC, mode, err);
	if (rc)
		goto out;
	rc = pio_fs_write_all(fd, bytes, size_bytes, temporary.data, err);
	if (rc == 0)
		rc = pio_fs_datasync(fd, temporary.data, err);
	if (rc == 0)
		rc = pio_fs_close(&fd, temporary.data, err);
	if (rc == 0)
		rc = pio_fs_rename(temporary.data, path, err);
	if (rc == 0)
		rc = pio_fs_sync_dir(parent.data, err);
	else
		unlink(temporary.data);
out:
	if (fd >= 0)
		close(fd);
	pio_str_fini(&temporary);
	pio_str_fini(&parent);
	return rc;
}

int pio_fs_ensure(const char *path, const void *bytes, size_t size_bytes, mode_t mode, pio_err *err)
{
	struct stat st;
	int fd;
	if (stat(path, &st) == 0 && st.st_size > 0)
		return 0;
	/* Not O_TRUNC or O_APPEND: two that come at once write the same bytes. */
	int rc = pio_fs_open(&fd, path, O_WRONLY | O_CREAT, mode, err);
	if (rc)
		return rc;
	rc = pio_fs_write_all(fd, bytes, size_bytes, path, err);
	if (!rc)
		rc = pio_fs_datasync(fd, path, err);
	int closed = pio_fs_close(&fd, path, rc ? NULL : err);
	return rc ? rc : closed;
}

static void share_dir(const char *path, mode_t mode)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	pio_fs_share(fd, path, mode);
	close(fd);
}

/* Sync the directory in which `path` is named. One that may be written but not
 * read cannot be synced, and lies outside the store. */
static int sync_parent(const char *path, pio_err *err)
{
	pio_str parent = PIO_STR_INIT;
	pio_err why = PIO_ERR_INIT;
	parent_of(&parent, path);
	int rc = pio_str_check(&parent, &why);
	if (!rc)
		rc = pio_fs_sync_dir(parent.data, &why);
	pio_str_fini(&parent);
	if (rc && why.sys_errno == EACCES)
		return 0;
	if (rc && err)
		*err = why;
	return rc;
}

static int make_dirs(const char *path, mode_t mode, bool durable, pio_err *err)
{
	char *copy = pio_strdup(path);
	if (!copy)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the path %s", path);
	int failed = 0, rc = 0;
	for (char *p = copy + 1; !failed && !rc; p++) {
		if (*p != '/' && *p != 0)
			continue;
		char end = *p;
		*p = 0;
		if (mkdir(copy, mode) == 0) {
			share_dir(copy, mode);
			rc = durable ? sync_parent(copy, err) : 0;
		} else if (errno != EEXIST) {
			failed = errno;
		}
		*p = end;
		if (end == 0)
			break;
	}
	if (!failed && !rc && pio_fs_type(path) != PIO_FS_DIR)
		failed = ENOTDIR;
	pio_free(copy);
	return failed ? pio_fail_errno(err, failed, "cannot make directory %s", path) : rc;
}

int pio_fs_mkdirs(const char *path, mode_t mode, pio_err *err)
{
	return make_dirs(path, mode, false, err);
}

int pio_fs_mkdirs_durable(const char *path, mode_t mode, pio_err *err)
{
	return make_dirs(path, mode, true, err);
}

/* ---- what is there ------------------------------------------------------------------ */

enum pio_fs_type pio_fs_type(const char *path)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return PIO_FS_NONE;
	return S_ISREG(st.st_mode) ? PIO_FS_FILE : S_ISDIR(st.st_mode) ? PIO_FS_DIR : PIO_FS_OTHER;
}
