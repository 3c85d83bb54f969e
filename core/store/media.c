#include "store/media.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/object.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/journal.h"

#define KEY_BYTES_MAX 4096
#define MIME_BYTES_MAX 255

static const char *kind_name(char kind)
{
	switch (kind) {
	case 'h': return "histogram";
	case 'i': return "image";
	case 't': return "table";
	case 'f': return "file";
	default: return NULL;
	}
}

static int check(const pio_media *m, pio_err *err)
{
	size_t key_bytes = m->key ? strlen(m->key) : 0, mime_bytes = m->mime ? strlen(m->mime) : 0;
	if (!kind_name(m->kind))
		return pio_fail(err, PIO_EINVAL, "media of kind %d, expected 'h', 'i', 't' or 'f'", m->kind);
	if (!key_bytes || key_bytes > KEY_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "media with a key of %zu bytes, expected 1 to %d", key_bytes,
		                KEY_BYTES_MAX);
	if (!mime_bytes || mime_bytes > MIME_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "media %.200s: a type of %zu bytes, expected 1 to %d", m->key,
		                mime_bytes, MIME_BYTES_MAX);
	if (m->bytes < 0)
		return pio_fail(err, PIO_EINVAL, "media %.200s: %lld bytes", m->key, (long long)m->bytes);
	return 0;
}

/* ---- files -------------------------------------------------------------------------------- */

static int sync_file(const char *path, pio_err *err)
{
	int fd;
	int rc = pio_fs_open(&fd, path, O_RDONLY | O_NOFOLLOW, 0, err);
	if (rc)
		return rc;
	rc = pio_fs_datasync(fd, path, err);
	int closed = pio_fs_close(&fd, path, rc ? NULL : err);
	return rc ? rc : closed;
}

static bool is_regular(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Move the file under objects/. One that is gone was moved by a fold that did
 * not come to its commit: pio_store_object_put finds it there by its name. */
static int put_file(char sha256[PIO_SHA256_HEX + 1], const pio_media *m, pio_store *store,
                    pio_err *err)
{
	int64_t bytes = m->bytes;
	int rc = 0;
	if (pio_fs_type(m->file) != PIO_FS_NONE || !m->sha256) {
		if (!is_regular(m->file))
			return pio_fail(err, PIO_ENOTFOUND, "media %.200s: there is no regular file %s", m->key,
			                m->file);
		/* Read-only first: what is hashed is what stays. In a group's store it may
		 * be another's. */
		if (chmod(m->file, 0444) != 0 && errno != EPERM)
			return pio_fail_errno(err, errno, "%s", m->file);
		if (access(m->file, R_OK) != 0)
			return pio_fail(err, PIO_EINVAL, "media %.200s: %s cannot be read", m->key, m->file);
		rc = sync_file(m->file, err);
		if (!rc)
			rc = pio_sha256_file(m->file, sha256, &bytes, err);
		if (!rc && (bytes != m->bytes || (m->sha256 && strcmp(sha256, m->sha256) != 0)))
			rc = pio_fail(err, PIO_ECORRUPT, "media %.200s: %s has %lld bytes that hash to %.16s...; %lld"
			              " bytes of %.16s... were logged", m->key, m->file, (long long)bytes, sha256,
			              (long long)m->bytes, m->sha256 ? m->sha256 : sha256);
	} else {
		snprintf(sha256, PIO_SHA256_HEX + 1, "%s", m->sha256);
	}
	if (!rc)
		rc = pio_store_object_put(store, m->file, sha256, bytes, err);
	return rc ? rc : pio_store_object_sync(store, sha256, err);
}

/* ---- rows --------------------------------------------------------------------------------- */

static int insert(const pio_media *m, const char *sha256, pio_store *store, pio_err *err)
{
	static const char sql[] = "INSERT INTO media (run_id, attempt_id, rank, kind, key, step, time_ns,"
		" name, mime, bytes, sha256, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
		" CASE WHEN ?11 IS NULL THEN ?12 END)";
	return pio_sql_exec(store, err, sql, "izitt" "oitt" "itb", m->run_id, m->attempt_id, m->rank,
	                    kind_name(m->kind), m->key, m->step, m->time_ns,
	                    m->name && *m->name ? m->name : NULL, m->mime, m->bytes, sha256, m->data,
	                    m->data ? (size_t)m->bytes : 0);
}

int pio_store_media_add(pio_store *store, const pio_media *media, pio_err *err)
{
	char sha256[PIO_SHA256_HEX + 1];
	int rc = check(media, err);
	if (rc)
		return rc;
	rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	if (!media->data)
		rc = put_file(sha256, media, store, err);
	if (!rc)
		rc = insert(media, media->data ? NULL : sha256, store, err);
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}

/* ---- records ------------------------------------------------------------------------------ */

/* A NUL-terminated copy into `texts`, at *at; NULL where the bytes hold a NUL. */
static const char *take_text(pio_cursor *cursor, char **at)
{
	size_t n;
	const char *bytes = pio_cursor_str(cursor, &n);
	char *text = *at;
	if (memchr(bytes, 0, n))
		cursor->bad = 1;
	if (cursor->bad)
		return "";
	memcpy(text, bytes, n);
	text[n] = 0;
	*at += n + 1;
	return text;
}

/* The path of a file under the attempt's directory: relative, without "..",
 * and through no link, so that it is what it looks like. */
static int staged_path(pio_str *path, const pio_store *store, const char *dir, const char *file,
                       pio_err *err)
{
	bool bad = file[0] == '/' || file[0] == 0;
	pio_str_printf(path, "%s/%s", pio_store_path(store), dir);
	for (const char *part = file; !bad && *part;) {
		size_t n = strcspn(part, "/");
		struct stat st;
		bad = n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.');
		pio_str_putc(path, '/');
		pio_str_append(path, part, n);
		part += n;
		bad |= !path->failed && lstat(path->data, &st) == 0 && S_ISLNK(st.st_mode);
		part += *part == '/';
	}
	if (bad)
		return pio_fail(err, PIO_EINVAL, "%.200s is no path of a file under the attempt's directory", file);
	return pio_str_check(path, err);
}

static int report_file(pio_media *m, pio_store *store, const char *dir, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = staged_path(&path, store, dir, m->file, err);
	m->file = path.data;
	m->data = NULL;
	if (!rc)
		rc = pio_store_media_add(store, m, err);
	pio_str_fini(&path);
	return rc;
}

int pio_store_media_report(pio_store *store, int64_t run_id, int64_t attempt_id, const char *dir,
                           const uint8_t *payload, size_t size_bytes, pio_err *err)
{
	pio_cursor cursor = { payload, payload + size_bytes, 0 };
	char *texts = pio_alloc(size_bytes + 8), *at = texts;
	if (!texts)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a record of media");
	pio_media m = { .run_id = run_id, .attempt_id = attempt_id };
	size_t data_bytes;
	m.rank = pio_cursor_u32(&cursor);
	m.time_ns = pio_cursor_i64(&cursor);
	m.step = pio_cursor_i64(&cursor);
	m.kind = (char)pio_cursor_u8(&cursor);
	m.key = take_text(&cursor, &at);
	m.name = take_text(&cursor, &at);
	m.mime = take_text(&cursor, &at);
	uint64_t bytes = pio_cursor_u64(&cursor);
	m.sha256 = take_text(&cursor, &at);
	m.file = take_text(&cursor, &at);
	m.data = pio_cursor_str(&cursor, &data_bytes);
	m.bytes = (int64_t)bytes;
	int rc = 0;
	if (cursor.bad || bytes > INT64_MAX)
		rc = pio_fail(err, PIO_EINVAL, "a record of media is too short or holds a NUL");
	else if (!m.sha256[0] && data_bytes != bytes)
		rc = pio_fail(err, PIO_EINVAL, "media %.200s: %llu bytes were announced, %zu are there", m.key,
		              (unsigned long long)bytes, data_bytes);
	else if (!m.sha256[0])
		rc = pio_store_media_add(store, &m, err);
	else
		rc = report_file(&m, store, dir, err);
	pio_free(texts);
	return rc;
}
