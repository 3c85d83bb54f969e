#include "sys/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "sys/fs.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the journal's points are laid out for little-endian machines");
_Static_assert(sizeof(pio_journal_point) == 32, "a point has 32 bytes in the file");

enum {
	RECORD_HEADER_BYTES = 9,   /* length, crc, type */
	BUFFER_BYTES = 1 << 18,    /* flushed when fuller than this */
};

static const char magic[8] = "PIOJRNL\n";

typedef struct file_header {
	char magic[8];
	uint32_t version, crc;
	uint8_t run[16];
	uint32_t attempt, node;
	int64_t created_ns;
	uint64_t boot, zero;
} file_header;

_Static_assert(sizeof(file_header) == PIO_JOURNAL_HEADER_BYTES, "the header has 64 bytes");

struct pio_journal_writer {
	int fd;
	char *path;
	pio_str buffer;
	bool dirty;        /* written since the last sync */
	pio_err broken;    /* the first failure; code 0 while all is well */
};

struct pio_journal_reader {
	int fd;
	char *path;
	uint8_t *buffer;
	size_t capacity, begin, end;   /* unread bytes are buffer[begin, end) */
	int64_t offset;                /* of buffer[begin] in the file */
};

static uint32_t header_crc(const file_header *header)
{
	file_header copy = *header;
	copy.crc = 0;
	return pio_crc32c(0, &copy, sizeof copy);
}

static uint32_t record_crc(uint8_t type, const void *head, size_t head_bytes, const void *body,
                           size_t body_bytes)
{
	uint32_t crc = pio_crc32c(0, &type, 1);
	crc = head_bytes ? pio_crc32c(crc, head, head_bytes) : crc;
	return body_bytes ? pio_crc32c(crc, body, body_bytes) : crc;
}

/* First 8 bytes of the kernel's boot id, 0 where there is none. */
static uint64_t boot_identity(void)
{
	pio_str text = PIO_STR_INIT;
	uint64_t value = 0;
	if (pio_fs_read(&text, "/proc/sys/kernel/random/boot_id", NULL) == 0 && text.len >= 8) {
		char digits[17] = "";
		size_t n = 0;
		for (size_t i = 0; i < text.len && n < 16; i++)
			if (text.data[i] != '-')
				digits[n++] = text.data[i];
		unsigned long long parsed = 0;
		if (sscanf(digits, "%16llx", &parsed) == 1)
			value = parsed;
	}
	pio_str_fini(&text);
	return value;
}

/* ---- writing ---------------------------------------------------------------- */

static int write_header(pio_journal_writer *writer, const pio_journal_header *header, pio_err *err)
{
	file_header raw = { .version = PIO_JOURNAL_VERSION, .attempt = header->attempt,
		            .node = header->node, .created_ns = header->created_ns,
		            .boot = boot_identity() };
	memcpy(raw.magic, magic, sizeof magic);
	memcpy(raw.run, header->run.bytes, sizeof raw.run);
	raw.crc = header_crc(&raw);
	writer->dirty = true;
	if (ftruncate(writer->fd, 0) != 0)
		return pio_fail_errno(err, errno, "cannot truncate %s", writer->path);
	return pio_fs_write_all(writer->fd, &raw, sizeof raw, writer->path, err);
}

/* Length of the whole records of an existing journal; 0 for one without a
 * whole header. */
static int sound_length(int64_t *length, const pio_journal_header *header, const char *path,
                        pio_err *err)
{
	pio_journal_reader *reader;
	pio_journal_header found;
	int rc = pio_journal_reader_open(&reader, &found, path, err);
	if (rc)
		return rc;
	*length = 0;
	if (found.created_ns != 0) {
		if (memcmp(found.run.bytes, header->run.bytes, 16) != 0 ||
		    found.attempt != header->attempt || found.node != header->node)
			rc = pio_fail(err, PIO_ECORRUPT, "%s belongs to another attempt", path);
		pio_record record;
		*length = PIO_JOURNAL_HEADER_BYTES;
		while (rc == 0 && (rc = pio_journal_next(reader, &record, err)) == 1) {
			*length = record.end_offset;
			rc = 0;
		}
	}
	pio_journal_reader_close(reader);
	return rc;
}

static int open_file(pio_journal_writer *writer, const pio_journal_header *header, pio_err *err)
{
	int64_t length = 0;
	int rc = 0;
	if (pio_fs_type(writer->path) != PIO_FS_NONE)
		rc = sound_length(&length, header, writer->path, err);
	if (rc == 0)
		rc = pio_fs_open(&writer->fd, writer->path, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (rc)
		return rc;
	if (length == 0)
		return write_header(writer, header, err);
	if (ftruncate(writer->fd, length) != 0)
		return pio_fail_errno(err, errno, "cannot cut the torn tail of %s", writer->path);
	return 0;
}

int pio_journal_open(pio_journal_writer **out, const char *path, const pio_journal_header *header,
                     pio_err *err)
{
	pio_journal_writer *writer = pio_calloc(1, sizeof *writer);
	*out = NULL;
	if (!writer)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the journal %s", path);
	writer->fd = -1;
	writer->buffer = (pio_str)PIO_STR_INIT;
	writer->path = pio_strdup(path);
	int rc = writer->path ? open_file(writer, header, err)
	                      : pio_fail(err, PIO_ENOMEM, "out of memory for the journal %s", path);
	if (rc) {
		if (writer->fd >= 0)
			close(writer->fd);
		pio_free(writer->path);
		pio_free(writer);
		return rc;
	}
	*out = writer;
	return 0;
}

/* Report the failure that broke the writer, now and for ever. */
static int broken(pio_journal_writer *writer, pio_err *err)
{
	if (err)
		*err = writer->broken;
	return -writer->broken.code;
}

int pio_journal_append(pio_journal_writer *writer, enum pio_record_type type, const void *head,
                       size_t head_bytes, const void *body, size_t body_bytes, pio_err *err)
{
	if (writer->broken.code)
		return broken(writer, err);
	if (head_bytes + body_bytes >= PIO_JOURNAL_RECORD_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "a journal record of %zu bytes; at most %u are allowed",
		                head_bytes + body_bytes, PIO_JOURNAL_RECORD_BYTES_MAX - 1);
	uint32_t length = (uint32_t)(1 + head_bytes + body_bytes);
	uint8_t kind = (uint8_t)type;
	uint32_t crc = record_crc(kind, head, head_bytes, body, body_bytes);
	size_t before = writer->buffer.len;
	pio_str_append(&writer->buffer, &length, 4);
	pio_str_append(&writer->buffer, &crc, 4);
	pio_str_append(&writer->buffer, &kind, 1);
	pio_str_append(&writer->buffer, head, head_bytes);
	pio_str_append(&writer->buffer, body, body_bytes);
	if (writer->buffer.failed) {
		writer->buffer.len = before;
		writer->buffer.failed = false;
		return pio_fail(err, PIO_ENOMEM, "out of memory for a journal record of %u bytes", length);
	}
	return writer->buffer.len >= BUFFER_BYTES ? pio_journal_flush(writer, 0, err) : 0;
}

int pio_journal_flush(pio_journal_writer *writer, int sync, pio_err *err)
{
	if (writer->broken.code)
		return broken(writer, err);
	int rc = 0;
	if (writer->buffer.len) {
		rc = pio_fs_write_all(writer->fd, writer->buffer.data, writer->buffer.len, writer->path,
		                      &writer->broken);
		pio_str_clear(&writer->buffer);
		writer->dirty = true;
	}
	if (rc == 0 && sync && writer->dirty) {
		rc = pio_fs_datasync(writer->fd, writer->path, &writer->broken);
		writer->dirty = rc != 0;
	}
	return rc ? broken(writer, err) : 0;
}

int pio_journal_close(pio_journal_writer **writer_out, pio_err *err)
{
	pio_journal_writer *writer = *writer_out;
	*writer_out = NULL;
	if (!writer)
		return 0;
	int rc = pio_journal_flush(writer, 1, err);
	int closed = pio_fs_close(&writer->fd, writer->path, rc ? NULL : err);
	pio_str_fini(&writer->buffer);
	pio_free(writer->path);
	pio_free(writer);
	return rc ? rc : closed;
}

void pio_record_put_u32(pio_str *payload, uint32_t value)
{
	pio_str_append(payload, &value, sizeof value);
}

void pio_record_put_i64(pio_str *payload, int64_t value)
{
	pio_str_append(payload, &value, sizeof value);
}

void pio_record_put_str(pio_str *payload, const char *bytes, size_t size_bytes)
{
	pio_record_put_u32(payload, (uint32_t)size_bytes);
	pio_str_append(payload, bytes, size_bytes);
}

/* ---- reading ------------------------------------------------------------------- */

static int check_header(pio_journal_header *header, const file_header *raw, const char *path,
                        pio_err *err)
{
	if (memcmp(raw->magic, magic, sizeof magic) != 0)
		return pio_fail(err, PIO_ECORRUPT, "%s is not a journal of pioche", path);
	if (raw->version != PIO_JOURNAL_VERSION)
		return pio_fail(err, PIO_EVERSION, "%s has journal version %u; this pioche reads %d", path,
		                raw->version, PIO_JOURNAL_VERSION);
	if (raw->crc != header_crc(raw))
		return pio_fail(err, PIO_ECORRUPT, "%s: the checksum of its header is wrong", path);
	*header = (pio_journal_header){ .attempt = raw->attempt, .node = raw->node,
		                        .created_ns = raw->created_ns };
	memcpy(header->run.bytes, raw->run, sizeof raw->run);
	return 0;
}

int pio_journal_reader_open(pio_journal_reader **out, pio_journal_header *header, const char *path,
                            pio_err *err)
{
	*out = NULL;
	memset(header, 0, sizeof *header);
	pio_journal_reader *reader = pio_calloc(1, sizeof *reader);
	if (!reader)
		return pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	reader->fd = -1;
	reader->offset = PIO_JOURNAL_HEADER_BYTES;
	reader->path = pio_strdup(path);
	int rc = reader->path ? pio_fs_open(&reader->fd, path, O_RDONLY, 0, err)
	                      : pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	struct stat st;
	if (rc == 0 && fstat(reader->fd, &st) != 0)
		rc = pio_fail_errno(err, errno, "cannot stat %s", path);
	if (rc == 0 && st.st_size >= PIO_JOURNAL_HEADER_BYTES) {
		file_header raw;
		rc = pio_fs_pread_all(reader->fd, &raw, sizeof raw, 0, path, err);
		if (rc == 0)
			rc = check_header(header, &raw, path, err);
	}
	if (rc) {
		pio_journal_reader_close(reader);
		return rc;
	}
	*out = reader;
	return 0;
}

int pio_journal_seek(pio_journal_reader *reader, int64_t offset, pio_err *err)
{
	if (offset < PIO_JOURNAL_HEADER_BYTES)
		return pio_fail(err, PIO_EINVAL, "%s: offset %lld lies inside the header", reader->path,
		                (long long)offset);
	reader->offset = offset;
	reader->begin = reader->end = 0;
	return 0;
}

/* Make `want` unread bytes available. 1: they are; 0: the file ends before. */
static int fill(pio_journal_reader *reader, size_t want, pio_err *err)
{
	if (reader->end - reader->begin >= want)
		return 1;
	memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
	reader->end -= reader->begin;
	reader->begin = 0;
	if (reader->capacity < want) {
		size_t capacity = reader->capacity ? reader->capacity : 1u << 20;
		while (capacity < want)
			capacity *= 2;
		uint8_t *grown = pio_realloc(reader->buffer, capacity);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "out of memory for a record of %s", reader->path);
		reader->buffer = grown;
		reader->capacity = capacity;
	}
	while (reader->end < want) {
		ssize_t n = pread(reader->fd, reader->buffer + reader->end, reader->capacity - reader->end,
		                  reader->offset + (int64_t)reader->end);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pio_fail_errno(err, errno, "cannot read %s", reader->path);
		if (n == 0)
			return 0;
		reader->end += (size_t)n;
	}
	return 1;
}

int pio_journal_next(pio_journal_reader *reader, pio_record *record, pio_err *err)
{
	if (!reader->buffer) {
		reader->buffer = pio_alloc(reader->capacity = 1u << 20);
		if (!reader->buffer)
			return pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", reader->path);
	}
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

void pio_journal_reader_close(pio_journal_reader *reader)
{
	if (!reader)
		return;
	if (reader->fd >= 0)
		close(reader->fd);
	pio_free(reader->path);
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
