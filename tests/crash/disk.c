#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk_record.h"

/* ---- the trap ------------------------------------------------------------------------ */

static atomic_uint_fast64_t operations;
static uint64_t trap_at;
static enum disk_trap trap_kind;
static int trap_error;
static atomic_bool trapped;
static pthread_mutex_t record_mutex = PTHREAD_MUTEX_INITIALIZER;

uint64_t disk_trap_at(uint64_t n, enum disk_trap trap, int error)
{
	trap_at = n;
	trap_kind = trap;
	trap_error = error;
	atomic_store(&trapped, false);
	return atomic_exchange(&operations, 0);
}

uint64_t disk_operations(void)
{
	return atomic_load(&operations);
}

bool disk_was_trapped(void)
{
	return atomic_load(&trapped);
}

static void die(void)
{
	syscall(SYS_kill, getpid(), SIGKILL);
	for (;;)
		pause();
}

enum fate { GO, FAIL, HALF, GO_AND_DIE, HALF_AND_DIE, GO_AND_STOP };

/* `is_write`: it takes room on the disk, so a full one refuses it. */
static enum fate fate_of_next(bool is_write, bool has_halves)
{
	uint64_t n = atomic_fetch_add(&operations, 1) + 1;
	if (atomic_load(&trapped) && (trap_kind == DISK_FAIL_STAYS || trap_kind == DISK_FAIL_AMID))
		return is_write ? FAIL : GO;
	if (!trap_at || n != trap_at)
		return GO;
	atomic_store(&trapped, true);
	switch (trap_kind) {
	case DISK_KILL:
		die();
		return GO;
	case DISK_KILL_AMID:
		return has_halves ? HALF_AND_DIE : GO_AND_DIE;
	case DISK_KILL_AFTER:
		return GO_AND_DIE;
	case DISK_STOP:
		return GO_AND_STOP;
	case DISK_FAIL_AMID:
		return has_halves ? HALF : FAIL;
	default:
		return FAIL;
	}
}

static void end_operation(enum fate fate)
{
	if (fate == GO_AND_DIE || fate == HALF_AND_DIE)
		die();
	int saved = errno;
	if (fate == GO_AND_STOP)
		syscall(SYS_kill, getpid(), SIGSTOP);
	errno = saved;
}

static int fails(void)
{
	errno = trap_error;
	return -1;
}

/* ---- the calls ----------------------------------------------------------------------- */

#define HERE __attribute__((visibility("default")))

static bool is_ours(int fd, struct stat *st)
{
	return fd > STDERR_FILENO && syscall(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH) == 0 &&
	       (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode));
}

/* /proc and /dev are no disk. */
static bool is_device(const char *path)
{
	return strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0 ||
	       (strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0);
}

static int open_here(int dir, const char *path, int flags, mode_t mode)
{
	bool is_write = (flags & (O_CREAT | O_TRUNC)) != 0;
	if (is_device(path))
		return (int)syscall(SYS_openat, dir, path, flags, mode);
	enum fate fate = fate_of_next(is_write, false);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	struct stat st;
	bool was_there = !is_write || syscall(SYS_newfstatat, dir, path, &st, 0) == 0;
	int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
	if (fd >= 0 && !was_there)
		record_create(dir, path, false);
	else if (fd >= 0 && (flags & O_TRUNC))
		record_truncate(fd, 0);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return fd;
}

#define OPEN(name)                                                       \
	HERE int name(const char *path, int flags, ...);                 \
	HERE int name(const char *path, int flags, ...)                  \
	{                                                                \
		va_list args;                                            \
		va_start(args, flags);                                   \
		mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0; \
		va_end(args);                                            \
		return open_here(AT_FDCWD, path, flags, mode);           \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                     \
	HERE int name(int dir, const char *path, int flags, ...);        \
	HERE int name(int dir, const char *path, int flags, ...)         \
	{                                                                \
		va_list args;                                            \
		va_start(args, flags);                                   \
		mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0; \
		va_end(args);                                            \
		return open_here(dir, path, flags, mode);                \
	}
OPENAT(openat)
OPENAT(openat64)

/* offset -1: where the descriptor stands. */
static ssize_t write_at(int fd, const void *bytes, size_t n, off_t offset)
{
	struct stat st;
	if (!is_ours(fd, &st))
		return offset < 0 ? syscall(SYS_write, fd, bytes, n) : syscall(SYS_pwrite64, fd, bytes, n, offset);
	enum fate fate = fate_of_next(true, n > 1);
	if (fate == FAIL)
		return fails();
	if (fate == HALF || fate == HALF_AND_DIE)
		n /= 2;
	pthread_mutex_lock(&record_mutex);
	int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
	off_t at = offset;
	if (at < 0 && !(flags & O_APPEND))
		at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
	else if (at < 0 && syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0)
		at = st.st_size;
	ssize_t done = offset < 0 ? syscall(SYS_write, fd, bytes, n)
	                          : syscall(SYS_pwrite64, fd, bytes, n, offset);
	if (done > 0)
		record_write(&st, at, bytes, (size_t)done);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return done;
}

HERE ssize_t write(int fd, const void *bytes, size_t n)
{
	return write_at(fd, bytes, n, -1);
}

HERE ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
	return write_at(fd, bytes, n, offset);
}

HERE ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset);
HERE ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset)
{
	return write_at(fd, bytes, n, offset);
}

static int truncate_here(int fd, off_t size)
{
	enum fate fate = fate_of_next(true, false);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	int rc = (int)syscall(SYS_ftruncate, fd, size);
	if (rc == 0)
		record_truncate(fd, size);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return rc;
}

HERE int ftruncate(int fd, off_t size)
{
	return truncate_here(fd, size);
}

HERE int ftruncate64(int fd, off64_t size);
HERE int ftruncate64(int fd, off64_t size)
{
	return truncate_here(fd, size);
}

/* 0 or an errno. */
static int reserve_here(int fd, int mode, off_t at, off_t n)
{
	struct stat st;
	enum fate fate = fate_of_next(true, false);
	if (fate == FAIL)
		return trap_error;
	pthread_mutex_lock(&record_mutex);
	int failed = syscall(SYS_fallocate, fd, mode, at, n) == 0 ? 0 : errno;
	if (!failed && syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0)
		record_truncate(fd, st.st_size);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return failed;
}

HERE int posix_fallocate(int fd, off_t at, off_t n)
{
	return reserve_here(fd, 0, at, n);
}

HERE int fallocate(int fd, int mode, off_t at, off_t n)
{
	int failed = reserve_here(fd, mode, at, n);
	errno = failed ? failed : errno;
	return failed ? -1 : 0;
}

/* SQLite and the journal have their own ways to begin anew in a file. */
static bool is_of_checkpoint(int fd, const struct stat *st)
{
	char link[40], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = S_ISREG(st->st_mode) ? readlink(link, path, sizeof path - 1) : -1;
	path[n < 0 ? 0 : n] = 0;
	return strstr(path, "/staging/") || strstr(path, "/objects/");
}

static atomic_uint_fast64_t unsynced; /* inode whose sync failed */
static atomic_bool synced_again;

bool disk_was_synced_again(void)
{
	return atomic_load(&synced_again);
}

static int sync_here(int fd, bool all)
{
	struct stat st;
	if (!is_ours(fd, &st)) {
		errno = EINVAL;
		return -1;
	}
	if (st.st_ino == atomic_load(&unsynced) && is_of_checkpoint(fd, &st))
		atomic_store(&synced_again, true);
	enum fate fate = fate_of_next(true, false);
	if (fate == FAIL && is_of_checkpoint(fd, &st))
		atomic_store(&unsynced, st.st_ino);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	record_sync(&st, all);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return 0;
}

HERE int fsync(int fd)
{
	return sync_here(fd, false);
}

HERE int fdatasync(int fd)
{
	return sync_here(fd, false);
}

HERE int syncfs(int fd)
{
	return sync_here(fd, true);
}

HERE int rename(const char *from, const char *to)
{
	enum fate fate = fate_of_next(true, false);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	size_t moved = record_rename_begin(from);
	int rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (rc == 0)
		record_rename_end(moved, from, to);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return rc;
}

HERE int link(const char *from, const char *to)
{
	enum fate fate = fate_of_next(true, false);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	int rc = (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (rc == 0)
		record_link(from, to);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return rc;
}

static int remove_here(int dir, const char *path, int flags)
{
	enum fate fate = fate_of_next(false, false);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	int rc = (int)syscall(SYS_unlinkat, dir, path, flags);
	if (rc == 0)
		record_remove(dir, path);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return rc;
}

HERE int unlink(const char *path)
{
	return remove_here(AT_FDCWD, path, 0);
}

HERE int unlinkat(int dir, const char *path, int flags)
{
	return remove_here(dir, path, flags);
}

HERE int rmdir(const char *path)
{
	return remove_here(AT_FDCWD, path, AT_REMOVEDIR);
}

HERE int mkdir(const char *path, mode_t mode)
{
	enum fate fate = fate_of_next(true, false);
	if (fate == FAIL)
		return fails();
	pthread_mutex_lock(&record_mutex);
	int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
	if (rc == 0)
		record_create(AT_FDCWD, path, true);
	pthread_mutex_unlock(&record_mutex);
	end_operation(fate);
	return rc;
}

/* ---- the record's door ------------------------------------------------------------------ */

void disk_record(const char *root)
{
	pthread_mutex_lock(&record_mutex);
	record_begin(root);
	pthread_mutex_unlock(&record_mutex);
}

void disk_record_stop(void)
{
	pthread_mutex_lock(&record_mutex);
	record_end();
	pthread_mutex_unlock(&record_mutex);
}

size_t disk_moment(void)
{
	pthread_mutex_lock(&record_mutex);
	size_t moment = record_length();
	pthread_mutex_unlock(&record_mutex);
	return moment;
}
