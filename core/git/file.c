#include "git/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "git/repo.h"

#define READ_BYTES (64 << 10)
#define ATTRIBUTES_BYTES_MAX (1 << 20)

/* A file that shrinks or grows while it is read ends where it ends. */
static int read_to_end(pio_str *out, int fd, size_t size_hint, const char *shown, pio_err *err)
{
	size_t capacity = size_hint + 1;
	char *buffer = pio_alloc(capacity > READ_BYTES ? capacity : READ_BYTES);
	int rc = 0;
	if (!buffer)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory for %zu bytes", shown, capacity);
	for (;;) {
		ssize_t n = read(fd, buffer, capacity > READ_BYTES ? capacity : READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = pio_fail_errno(err, errno, "%s: cannot be read", shown);
		if (n <= 0)
			break;
		pio_str_append(out, buffer, (size_t)n);
		if (out->failed)
			break;
	}
	pio_free(buffer);
	return rc ? rc : pio_str_check(out, err);
}

static int put_filtered(git_oid *oid, pio_stage *stage, git_repository *repo, const pio_str *raw,
                        const char *path, const char *shown, pio_err *err)
{
	git_filter_list *filters = NULL;
	git_buf clean = { NULL, 0, 0 };
	/* ALLOW_UNSAFE: a mixture of line endings is stored, not refused. */
	int rc = git_filter_list_load(&filters, repo, NULL, path, GIT_FILTER_TO_ODB,
	                              GIT_FILTER_ALLOW_UNSAFE);
	if (rc >= 0 && filters)
		rc = git_filter_list_apply_to_buffer(&clean, filters, raw->data, raw->len);
	if (rc < 0)
		rc = pio_git_fail(err, rc, "%s: cannot apply git's filters", shown);
	else if (filters)
		rc = pio_stage_put(oid, stage, clean.ptr, clean.size, GIT_OBJECT_BLOB, err);
	else
		rc = pio_stage_put(oid, stage, raw->data, raw->len, GIT_OBJECT_BLOB, err);
	git_buf_dispose(&clean);
	git_filter_list_free(filters);
	return rc;
}

static int put_link(git_oid *oid, pio_stage *stage, int fd, const char *name, const char *shown,
                    pio_err *err)
{
	char target[4096];
	ssize_t n = readlinkat(fd, name, target, sizeof target);
	if (n < 0 && errno == ENOENT)
		return -PIO_ENOTFOUND;
	if (n < 0)
		return pio_fail_errno(err, errno, "%s: cannot read the link", shown);
	return pio_stage_put(oid, stage, target, (size_t)n, GIT_OBJECT_BLOB, err);
}

int pio_git_file_put(git_oid *oid, pio_stage *stage, git_repository *repo, int fd,
                     const char *name, const char *path, const char *shown,
                     const struct stat *st, pio_err *err)
{
	pio_str raw = PIO_STR_INIT;
	if (S_ISLNK(st->st_mode))
		return put_link(oid, stage, fd, name, shown, err);
	int file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (file < 0 && errno == ENOENT)
		return -PIO_ENOTFOUND;
	if (file < 0)
		return pio_fail_errno(err, errno, "%s: cannot be read, so the code on record would not be "
		                      "whole (make it readable or ignore it in .gitignore)", shown);
	int rc = read_to_end(&raw, file, (size_t)st->st_size, shown, err);
	close(file);
	if (!rc)
		rc = put_filtered(oid, stage, repo, &raw, path, shown, err);
	pio_str_fini(&raw);
	return rc;
}

int pio_git_file_foreign(bool *foreign, git_repository *repo, const char *path, pio_err *err)
{
	const char *value = NULL;
	int rc = git_attr_get(&value, repo, GIT_ATTR_CHECK_FILE_THEN_INDEX, path, "filter");
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot read git's attributes", path);
	*foreign = git_attr_value(value) == GIT_ATTR_VALUE_STRING;
	return 0;
}

int pio_git_file_mentions(bool *mentions, int fd, const char *name, const char *word,
                          pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	struct stat st;
	int rc = 0, file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	*mentions = false;
	if (file < 0)
		return 0;
	if (!fstat(file, &st) && S_ISREG(st.st_mode) && st.st_size <= ATTRIBUTES_BYTES_MAX) {
		rc = read_to_end(&text, file, (size_t)st.st_size, name, err);
		if (!rc)
			*mentions = strstr(text.data, word) != NULL;
	}
	close(file);
	pio_str_fini(&text);
	return rc;
}
