#include "exchange/window.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"

#define FIRST_BYTES (1u << 20)

int pio_window_open(pio_window *w, const char *path, pio_err *err)
{
	struct stat st;
	*w = (pio_window)PIO_WINDOW_INIT;
	w->path = path;
	int rc = pio_fs_open(&w->fd, path, O_RDONLY | O_NONBLOCK, 0, err);
	if (!rc && (fstat(w->fd, &st) != 0 || !S_ISREG(st.st_mode)))
		rc = pio_fail(err, PIO_EINVAL, "%s: expected a regular file", path);
	if (!rc && !(w->buffer = pio_alloc(w->capacity = FIRST_BYTES)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	if (rc)
		pio_window_close(w);
	return rc;
}

void pio_window_seek(pio_window *w, int64_t offset)
{
	w->begin = w->end = 0;
	w->offset = offset;
}

static int make_room(pio_window *w, size_t bytes, pio_err *err)
{
	memmove(w->buffer, w->buffer + w->begin, w->end - w->begin);
	w->end -= w->begin;
	w->begin = 0;
	if (bytes <= w->capacity)
		return 0;
	size_t capacity = w->capacity;
	while (capacity < bytes)
		capacity *= 2;
	uint8_t *grown = pio_realloc(w->buffer, capacity);
	if (!grown)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a record of %zu bytes in %s at byte %lld",
		                bytes, w->path, (long long)w->offset);
	w->buffer = grown;
	w->capacity = capacity;
	return 0;
}

int pio_window_need(const uint8_t **data, pio_window *w, size_t bytes, pio_err *err)
{
	if (w->end - w->begin < bytes && w->capacity - w->begin < bytes) {
		/* A length is only a claim: memory is asked for once the bytes are there. */
		int64_t size = 0;
		int rc = bytes > w->capacity ? pio_window_size(&size, w, err) : 0;
		if (!rc && bytes > w->capacity && size - w->offset < (int64_t)bytes)
			return 0;
		rc = rc ? rc : make_room(w, bytes, err);
		if (rc)
			return rc;
	}
	while (w->end - w->begin < bytes) {
		ssize_t n = pread(w->fd, w->buffer + w->end, w->capacity - w->end,
		                  w->offset + (int64_t)(w->end - w->begin));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pio_fail_errno(err, errno, "cannot read %s", w->path);
		if (n == 0)
			return 0;
		w->end += (size_t)n;
	}
	*data = w->buffer + w->begin;
	return 1;
}

void pio_window_skip(pio_window *w, size_t bytes)
{
	w->begin += bytes;
	w->offset += (int64_t)bytes;
}

int pio_window_size(int64_t *bytes, const pio_window *w, pio_err *err)
{
	struct stat st;
	if (fstat(w->fd, &st) != 0)
		return pio_fail_errno(err, errno, "%s", w->path);
	*bytes = st.st_size;
	return 0;
}

void pio_window_close(pio_window *w)
{
	if (w->fd >= 0)
		(void)pio_fs_close(&w->fd, w->path, NULL);
	pio_free(w->buffer);
	w->buffer = NULL;
	w->fd = -1;
}
