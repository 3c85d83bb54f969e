/* Directories and trees: list, remove, copy. Paths are walked by file
 * descriptors where something is removed, so that a link swapped in meanwhile
 * is never followed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void pio_fs_list_free(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pio_free(names[i]);
	pio_free(names);
}

static bool push_name(char ***names, size_t *count, size_t *capacity, const char *name)
{
	if (pio_grow(names, capacity, *count, "names", NULL) != 0)
		return false;
	char *copy = pio_strdup(name);
	if (copy)
		(*names)[(*count)++] = copy;
	return copy;
}

int pio_fs_list(char ***names, size_t *count, const char *path, pio_err *err)
{
	*names = NULL;
	*count = 0;
	DIR *dir = opendir(path);
	if (!dir && errno == ENOENT)
		return pio_fail(err, PIO_ENOTFOUND, "%s: no such directory", path);
	if (!dir)
		return pio_fail_errno(err, errno, "cannot list %s", path);

	int rc = 0;
	size_t capacity = 0;
	const struct dirent *entry;
	while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL)
		if (!is_dot(entry->d_name) && !push_name(names, count, &capacity, entry->d_name))
			rc = pio_fail(err, PIO_ENOMEM, "out of memory listing %s", path);
	if (rc == 0 && errno)
		rc = pio_fail_errno(err, errno, "cannot list %s", path);
	closedir(dir);
	if (rc) {
		pio_fs_list_free(*names, *count);
		*names = NULL;
		*count = 0;
	} else if (*count) {
		qsort(*names, *count, sizeof **names, by_bytes);
	}
	return rc;
}

/* Remove what is in the directory; takes over `fd`. 0 or an errno. */
static int empty_dir(int fd)
{
	DIR *dir = fdopendir(fd);
	if (!dir) {
		int failed = errno;
		close(fd);
		return failed;
	}
	int failed = 0;
	const struct dirent *entry;
	while (!failed && (errno = 0, entry = readdir(dir)) != NULL) {
		if (is_dot(entry->d_name))
			continue;
		if (unlinkat(fd, entry->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR && errno != EPERM) {
			failed = errno;
			break;
		}
		int child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0 && errno == EACCES && fchmodat(fd, entry->d_name, 0700, 0) == 0)
			child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		failed = child < 0 ? errno : (fchmod(child, 0700), empty_dir(child));
		if (!failed && unlinkat(fd, entry->d_name, AT_REMOVEDIR) != 0 && errno != ENOENT)
			failed = errno;
	}
	if (!failed && errno)
		failed = errno;
	closedir(dir);
	return failed;
}

int pio_fs_remove_tree(const char *path, pio_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int failed;
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return pio_fs_unlink(path, err);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0) {
		failed = errno;
	} else {
		fchmod(fd, 0700);
		failed = empty_dir(fd);
		if (!failed && rmdir(path) != 0 && errno != ENOENT)
			failed = errno;
	}
	return failed ? pio_fail_errno(err, failed, "cannot remove %s", path) : 0;
}

/* ---- copying --------------------------------------------------------------------- */

static int copy_bytes(int in, int out)
{
	if (ioctl(out, FICLONE, in) == 0)
		return 0;
	for (;;) {
		ssize_t n = copy_file_range(in, NULL, out, NULL, 1u << 30, 0);
		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
	}
	if (errno != EXDEV && errno != ENOSYS && errno != EINVAL && errno != EOPNOTSUPP)
		return errno;
	char block[65536];
	for (;;) {
		ssize_t n = read(in, block, sizeof block);
		if (n <= 0)
			return n == 0 ? 0 : errno;
		pio_err err;
		if (pio_fs_write_all(out, block, (size_t)n, "copy", &err) != 0)
			return err.sys_errno;
	}
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	int failed = 0;
	int in = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0)
		return errno;
	int out = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		failed = errno;
	if (!failed)
		failed = copy_bytes(in, out);
	if (!failed && fchmod(out, st->st_mode & 07777) != 0)
		failed = errno;
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	if (!failed && futimens(out, times) != 0)
		failed = errno;
	if (out >= 0 && close(out) != 0 && !failed)
		failed = errno;
	close(in);
	return failed;
}

static int copy_link(int from_dir, int to_dir, const char *name)
{
	char target[4096];
	ssize_t n = readlinkat(from_dir, name, target, sizeof target - 1);
	if (n < 0)
		return errno;
	target[n] = 0;
	return symlinkat(target, to_dir, name) == 0 ? 0 : errno;
}

static int copy_dir(int from, int to);

static int copy_entry(int from, int to, const char *name)
{
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno;
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name);
	if (S_ISREG(st.st_mode))
		return copy_file(from, to, name, &st);
	if (!S_ISDIR(st.st_mode))
		return 0; /* sockets and the like have no place in a checkout */
	if (mkdirat(to, name, 0700) != 0)
		return errno;
	int child_from = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int child_to = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (child_from < 0 || child_to < 0) {
		int failed = errno;
		if (child_from >= 0)
			close(child_from);
		if (child_to >= 0)
			close(child_to);
		return failed;
	}
	int failed = copy_dir(child_from, child_to);
	if (!failed && fchmodat(to, name, st.st_mode & 07777, 0) != 0)
		failed = errno;
	return failed;
}

/* Takes over both descriptors. */
static int copy_dir(int from, int to)
{
	DIR *dir = fdopendir(from);
	int failed = dir ? 0 : errno;
	const struct dirent *entry;
	while (!failed && (errno = 0, entry = readdir(dir)) != NULL)
		if (!is_dot(entry->d_name))
			failed = copy_entry(from, to, entry->d_name);
	if (!failed && errno)
		failed = errno;
	if (dir)
		closedir(dir);
	else
		close(from);
	close(to);
	return failed;
}

int pio_fs_copy_tree(const char *from, const char *to, pio_err *err)
{
	int from_fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from_fd < 0)
		return pio_fail_errno(err, errno, "cannot open directory %s", from);
	if (mkdir(to, 0755) != 0) {
		int failed = errno;
		close(from_fd);
		return failed == EEXIST ? pio_fail(err, PIO_EEXIST, "%s exists already", to)
		                        : pio_fail_errno(err, failed, "cannot make directory %s", to);
	}
	int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to_fd < 0) {
		int failed = errno;
		close(from_fd);
		return pio_fail_errno(err, failed, "cannot open directory %s", to);
	}
	int failed = copy_dir(from_fd, to_fd);
	return failed ? pio_fail_errno(err, failed, "cannot copy %s to %s", from, to) : 0;
}
