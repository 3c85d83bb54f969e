#include "sys/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"
#include "sys/journal_format.h"

#define BUFFER_BYTES (1u << 18)    /* flushed when fuller than this */

struct pio_journal_writer {
	int fd;
	char *base, *path;         /* of the first segment, and of this one */
	pio_journal_header header;
	uint32_t segment;
	int64_t bytes, limit;      /* of this segment; more than `limit` and the next is begun */
	pio_str buffer;
	bool dirty;                /* written since the last sync */
	pio_err broken;            /* the first failure; code 0 while all is well */
};

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

/* ---- segments ----------------------------------------------------------------- */

int pio_journal_segment_path(pio_str *out, const char *path, uint32_t segment, pio_err *err)
{
	pio_str_puts(out, path);
	if (segment)
		pio_str_printf(out, ".%u", segment);
	return pio_str_check(out, err);
}

/* A number without leading zeros below 2^24 at *at, which moves behind it. */
static bool take_number(uint32_t *number, const char **at)
{
	const char *p = *at;
	*number = 0;
	if (*p == '0' && p[1] >= '0' && p[1] <= '9')
		return false;
	for (; *p >= '0' && *p <= '9' && *number < 1u << 24; p++)
		*number = *number * 10 + (uint32_t)(*p - '0');
	bool good = p != *at && *number < 1u << 24;
	*at = p;
	return good;
}

/* ".N" or nothing, and whether the suffix of an archived one follows. */
static bool parse_segment(uint32_t *segment, bool *archived, const char *at)
{
	*segment = 0;
	if (*at == '.' && at[1] >= '0' && at[1] <= '9') {
		at++;
		if (!take_number(segment, &at) || !*segment)
			return false;
	}
	*archived = strcmp(at, PIO_JOURNAL_ARCHIVED) == 0;
	return *archived || *at == 0;
}

bool pio_journal_name_parse(uint32_t *node, uint32_t *segment, bool *archived, const char *name)
{
	const char *at = name + 8;
	return strncmp(name, "journal.", 8) == 0 && take_number(node, &at) &&
	       parse_segment(segment, archived, at);
}

/* Append the directory of a path, with a slash. */
static int put_dir(pio_str *dir, const char *path, pio_err *err)
{
	const char *slash = strrchr(path, '/');
	if (slash)
		pio_str_append(dir, path, (size_t)(slash - path) + 1);
	else
		pio_str_puts(dir, "./");
	return pio_str_check(dir, err);
}

int pio_journal_segments(uint32_t *count, const char *path, pio_err *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t name_bytes = strlen(name), names_count = 0;
	char **names = NULL;
	pio_str dir = PIO_STR_INIT;
	*count = 0;
	int rc = put_dir(&dir, path, err);
	if (!rc)
		rc = pio_fs_list(&names, &names_count, dir.data, err);
	for (size_t i = 0; i < names_count; i++) {
		uint32_t segment;
		bool archived;
		if (strncmp(names[i], name, name_bytes) == 0 &&
		    parse_segment(&segment, &archived, names[i] + name_bytes) && segment >= *count)
			*count = segment + 1;
	}
	pio_fs_list_free(names, names_count);
	pio_str_fini(&dir);
	return rc;
}

/* ---- writing ---------------------------------------------------------------- */

static int write_header(pio_journal_writer *writer, pio_err *err)
{
	const pio_journal_header *header = &writer->header;
	journal_file_header raw = { .magic = JOURNAL_MAGIC, .version = PIO_JOURNAL_VERSION,
	                            .attempt = header->attempt, .node = header->node,
	                            .created_ns = header->created_ns, .boot = boot_identity() };
	memcpy(raw.run, header->run.bytes, sizeof raw.run);
	raw.crc = journal_header_crc(&raw);
	writer->dirty = true;
	writer->bytes = sizeof raw;
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

static int open_segment(pio_journal_writer *writer, uint32_t segment, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = pio_journal_segment_path(&path, writer->base, segment, err);
	if (!rc) {
		pio_free(writer->path);
		writer->path = pio_str_take(&path);
		writer->segment = segment;
		rc = writer->path ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a path");
	}
	pio_str_fini(&path);
	if (!rc && pio_fs_type(writer->path) != PIO_FS_NONE)
		rc = sound_length(&writer->bytes, &writer->header, writer->path, err);
	else
		writer->bytes = 0;
	if (!rc)
		rc = pio_fs_open(&writer->fd, writer->path, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (rc)
		return rc;
	if (writer->bytes == 0)
		return write_header(writer, err);
	if (ftruncate(writer->fd, writer->bytes) != 0)
		return pio_fail_errno(err, errno, "cannot cut the torn tail of %s", writer->path);
	return 0;
}

/* Go on in the newest segment; behind it, if it is archived. */
static int open_newest(pio_journal_writer *writer, pio_err *err)
{
	uint32_t count;
	pio_str path = PIO_STR_INIT;
	int rc = pio_journal_segments(&count, writer->base, err);
	if (!rc && count) {
		rc = pio_journal_segment_path(&path, writer->base, count - 1, err);
		pio_str_puts(&path, PIO_JOURNAL_ARCHIVED);
		if (!rc)
			rc = pio_str_check(&path, err);
		if (!rc && pio_fs_type(path.data) == PIO_FS_NONE)
			count--;
	}
	pio_str_fini(&path);
	return rc ? rc : open_segment(writer, count, err);
}

static void writer_free(pio_journal_writer *writer)
{
	pio_str_fini(&writer->buffer);
	pio_free(writer->base);
	pio_free(writer->path);
	pio_free(writer);
}

int pio_journal_open(pio_journal_writer **out, const char *path, const pio_journal_header *header,
                     pio_err *err)
{
	const char *limit = getenv("PIOCHE_SEGMENT_BYTES");
	pio_journal_writer *writer = pio_calloc(1, sizeof *writer);
	*out = NULL;
	if (!writer)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the journal %s", path);
	writer->fd = -1;
	writer->buffer = (pio_str)PIO_STR_INIT;
	writer->header = *header;
	writer->limit = limit && atoll(limit) > 0 ? atoll(limit) : PIO_JOURNAL_SEGMENT_BYTES;
	writer->base = pio_strdup(path);
	int rc = writer->base ? open_newest(writer, err)
	                      : pio_fail(err, PIO_ENOMEM, "out of memory for the journal %s", path);
	if (rc) {
		if (writer->fd >= 0)
			close(writer->fd);
		writer_free(writer);
		return rc;
	}
	*out = writer;
	return 0;
}

/* This segment is whole and durable, and the next one's name too, before a
 * record goes there. */
static int begin_next(pio_journal_writer *writer, pio_err *err)
{
	pio_str dir = PIO_STR_INIT;
	int rc = pio_fs_datasync(writer->fd, writer->path, err);
	int closed = pio_fs_close(&writer->fd, writer->path, rc ? NULL : err);
	rc = rc ? rc : closed;
	if (!rc)
		rc = open_segment(writer, writer->segment + 1, err);
	if (!rc)
		rc = put_dir(&dir, writer->base, err);
	if (!rc)
		rc = pio_fs_sync_dir(dir.data, err);
	pio_str_fini(&dir);
	return rc;
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
		if (writer->bytes > writer->limit)
			rc = begin_next(writer, &writer->broken);
		if (rc == 0)
			rc = pio_fs_write_all(writer->fd, writer->buffer.data, writer->buffer.len, writer->path,
			                      &writer->broken);
		writer->bytes += (int64_t)writer->buffer.len;
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
	int closed = writer->fd >= 0 ? pio_fs_close(&writer->fd, writer->path, rc ? NULL : err) : 0;
	writer_free(writer);
	return rc ? rc : closed;
}

/* ---- payloads --------------------------------------------------------------------- */

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
