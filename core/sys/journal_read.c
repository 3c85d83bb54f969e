#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"
#include "sys/journal_format.h"

enum {
	RECORD_HEADER_BYTES = 9,   /* length, crc, type */
	FIRST_BYTES = 1 << 12,     /* read at once: at first so many, who folds wants but the last few */
	GROWTH = 16,               /* then so many times more */
	BUFFER_BYTES = 1 << 20,    /* up to here; and beyond for a record that is larger */
};

typedef struct file_source {
	int fd;
	char *path;
	int64_t at;
} file_source;

struct pio_journal_reader {
	pio_journal_source source;
	file_source *file;             /* the source, if it is a file */
	char *name;
	uint8_t *buffer;
	size_t capacity, begin, end;   /* unread bytes are buffer[begin, end) */
	int64_t offset;                /* of buffer[begin] in the file */
};

/* ---- records --------------------------------------------------------------------- */

static int check_header(pio_journal_header *header, const journal_file_header *raw, const char *path,
                        pio_err *err)
{
	if (memcmp(raw->magic, JOURNAL_MAGIC, sizeof raw->magic) != 0)
		return pio_fail(err, PIO_ECORRUPT, "%s is not a journal of pioche", path);
	if (raw->version != PIO_JOURNAL_VERSION)
		return pio_fail(err, PIO_EVERSION, "%s has journal version %u; this pioche reads %d", path,
		                raw->version, PIO_JOURNAL_VERSION);
	if (raw->crc != journal_header_crc(raw))
		return pio_fail(err, PIO_ECORRUPT, "%s: the checksum of its header is wrong", path);
	*header = (pio_journal_header){ .attempt = raw->attempt, .node = raw->node,
		                        .created_ns = raw->created_ns };
	memcpy(header->run.bytes, raw->run, sizeof raw->run);
	return 0;
}

/* Make `want` unread bytes available. 1: they are; 0: the file ends before. */
static int fill(pio_journal_reader *reader, size_t want, pio_err *err)
{
	if (reader->end - reader->begin >= want)
		return 1;
	if (reader->begin)
		memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
	reader->end -= reader->begin;
	reader->begin = 0;
	if (reader->capacity < want || reader->capacity < BUFFER_BYTES) {
		size_t capacity = reader->capacity ? reader->capacity * GROWTH : FIRST_BYTES;
		while (capacity < want)
			capacity *= 2;
		uint8_t *grown = pio_realloc(reader->buffer, capacity);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "out of memory for a record of %s", reader->name);
		reader->buffer = grown;
		reader->capacity = capacity;
	}
	while (reader->end < want) {
		size_t n;
		int rc = reader->source.read(reader->source.context, reader->buffer + reader->end,
		                             reader->capacity - reader->end, &n, err);
		if (rc)
			return rc;
		if (n == 0)
			return 0;
		reader->end += n;
	}
	return 1;
}

int pio_journal_reader_open_source(pio_journal_reader **out, pio_journal_header *header,
                                   const pio_journal_source *source, const char *name, pio_err *err)
{
	*out = NULL;
	memset(header, 0, sizeof *header);
	pio_journal_reader *reader = pio_calloc(1, sizeof *reader);
	if (!reader) {
		source->close(source->context);
		return pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", name);
	}
	reader->source = *source;
	reader->name = pio_strdup(name);
	int rc = reader->name ? fill(reader, PIO_JOURNAL_HEADER_BYTES, err)
	                      : pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", name);
	if (rc == 1) {
		journal_file_header raw;
		memcpy(&raw, reader->buffer, sizeof raw);
		reader->begin = sizeof raw;
		reader->offset = sizeof raw;
		rc = check_header(header, &raw, name, err);
	}
	if (rc) {
		pio_journal_reader_close(reader);
		return rc;
	}
	*out = reader;
	return 0;
}

static int read_file(void *context, void *bytes, size_t size_bytes, size_t *n, pio_err *err)
{
	file_source *file = context;
	for (;;) {
		ssize_t got = pread(file->fd, bytes, size_bytes, file->at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return pio_fail_errno(err, errno, "cannot read %s", file->path);
		file->at += got;
		*n = (size_t)got;
		return 0;
	}
}

static void close_file(void *context)
{
	file_source *file = context;
	if (file->fd >= 0)
		close(file->fd);
	pio_free(file->path);
	pio_free(file);
}

int pio_journal_reader_open(pio_journal_reader **reader, pio_journal_header *header,
                            const char *path, pio_err *err)
{
	*reader = NULL;
	memset(header, 0, sizeof *header);
	file_source *file = pio_calloc(1, sizeof *file);
	if (!file)
		return pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	file->fd = -1;
	file->path = pio_strdup(path);
	int rc = file->path ? pio_fs_open(&file->fd, path, O_RDONLY, 0, err)
	                    : pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	if (rc) {
		close_file(file);
		return rc;
	}
	pio_journal_source source = { file, read_file, close_file };
	rc = pio_journal_reader_open_source(reader, header, &source, path, err);
	if (!rc)
		(*reader)->file = file;
	return rc;
}

/* Within the buffer, or in a file anywhere, or forwards by reading. */
int pio_journal_seek(pio_journal_reader *reader, int64_t offset, pio_err *err)
{
	if (offset < PIO_JOURNAL_HEADER_BYTES)
		return pio_fail(err, PIO_EINVAL, "%s: offset %lld lies inside the header", reader->name,
		                (long long)offset);
	int64_t ahead = offset - reader->offset;
	if (ahead < 0 || ahead > (int64_t)(reader->end - reader->begin)) {
		if (reader->file) {
			reader->file->at = reader->offset = offset;
			reader->begin = reader->end = 0;
			return 0;
		}
		if (ahead < 0)
			return pio_fail(err, PIO_EINVAL, "%s cannot be read backwards", reader->name);
	}
	while (reader->offset < offset) {
		size_t n = reader->end - reader->begin;
		n = (int64_t)n < offset - reader->offset ? n : (size_t)(offset - reader->offset);
		reader->begin += n;
		reader->offset += (int64_t)n;
		int rc = reader->offset < offset ? fill(reader, 1, err) : 1;
		if (rc < 0)
			return rc;
		if (rc == 0)
			reader->offset = offset; /* behind the end: nothing is read there either */
	}
	return 0;
}

int pio_journal_next(pio_journal_reader *reader, pio_record *record, pio_err *err)
{
	int rc = fill(reader, RECORD_HEADER_BYTES, err);
	if (rc != 1)
		return rc;
	uint32_t length, crc;
	memcpy(&length, reader->buffer + reader->begin, 4);
	memcpy(&crc, reader->buffer + reader->begin + 4, 4);
	if (length == 0 || length > PIO_JOURNAL_RECORD_BYTES_MAX)
		return 0;
	rc = fill(reader, 8 + (size_t)length, err);
	if (rc != 1)
		return rc;
	const uint8_t *body = reader->buffer + reader->begin + 8;
	if (pio_crc32c(0, body, length) != crc)
		return 0;
	reader->begin += 8 + (size_t)length;
	reader->offset += 8 + (int64_t)length;
	*record = (pio_record){ .type = (enum pio_record_type)body[0], .payload = body + 1,
		                .size_bytes = length - 1, .end_offset = reader->offset };
	return 1;
}

bool pio_journal_has_rest(const pio_journal_reader *reader)
{
	return reader->end > reader->begin;
}

void pio_journal_reader_close(pio_journal_reader *reader)
{
	if (!reader)
		return;
	reader->source.close(reader->source.context);
	pio_free(reader->name);
	pio_free(reader->buffer);
	pio_free(reader);
}

/* ---- cursors ---------------------------------------------------------------------- */

static const uint8_t *advance(pio_cursor *cursor, size_t size_bytes)
{
	if (cursor->bad || (size_t)(cursor->end - cursor->at) < size_bytes) {
		cursor->bad = 1;
		return NULL;
	}
	const uint8_t *at = cursor->at;
	cursor->at += size_bytes;
	return at;
}

uint8_t pio_cursor_u8(pio_cursor *cursor)
{
	const uint8_t *at = advance(cursor, 1);
	return at ? *at : 0;
}

uint32_t pio_cursor_u32(pio_cursor *cursor)
{
	uint32_t value = 0;
	const uint8_t *at = advance(cursor, sizeof value);
	if (at)
		memcpy(&value, at, sizeof value);
	return value;
}

uint64_t pio_cursor_u64(pio_cursor *cursor)
{
	uint64_t value = 0;
	const uint8_t *at = advance(cursor, sizeof value);
	if (at)
		memcpy(&value, at, sizeof value);
	return value;
}

int64_t pio_cursor_i64(pio_cursor *cursor)
{
	return (int64_t)pio_cursor_u64(cursor);
}

const char *pio_cursor_str(pio_cursor *cursor, size_t *size_bytes)
{
	uint32_t length = pio_cursor_u32(cursor);
	const uint8_t *at = advance(cursor, length);
	*size_bytes = at ? length : 0;
	return at ? (const char *)at : "";
}
