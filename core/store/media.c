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

typedef struct media {
	int64_t rank, step, time_ns;    /* step INT64_MIN: of the run as a whole */
	char kind;                      /* 'h' histogram, 'i' image, 't' table, 'f' file */
	const char *key, *name, *mime;  /* name empty: none */
	int64_t bytes;
	const char *sha256, *file;      /* of a file, as it was logged; else sha256 is empty, and */
	const void *data;               /* these are the bytes */
	pio_str path;                   /* of the file */
} media;

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

static int check(const media *m, pio_err *err)
{
	size_t key_bytes = strlen(m->key), mime_bytes = strlen(m->mime);
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

/* Its digest; what is read is what stays. */
static int read_file(char sha256[PIO_SHA256_HEX + 1], const media *m, pio_err *err)
{
	const char *path = m->path.data;
	struct stat st;
	int64_t bytes = 0;
	if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return pio_fail(err, PIO_ENOTFOUND, "media %.200s: there is no regular file %s", m->key, path);
	if (st.st_size != m->bytes)
		return pio_fail(err, PIO_ECORRUPT, "media %.200s: %s has %lld bytes; %lld were logged", m->key,
		                path, (long long)st.st_size, (long long)m->bytes);
	/* Read-only first. In a group's store it may be another's. */
	if (chmod(path, 0444) != 0 && errno != EPERM)
		return pio_fail_errno(err, errno, "%s", path);
	if (access(path, R_OK) != 0)
		return pio_fail(err, PIO_EINVAL, "media %.200s: %s cannot be read", m->key, path);
	int rc = sync_file(path, err);
	if (!rc)
		rc = pio_sha256_file(path, sha256, &bytes, err);
	if (!rc && (bytes != m->bytes || strcmp(sha256, m->sha256) != 0))
		rc = pio_fail(err, PIO_ECORRUPT, "media %.200s: %s has %lld bytes that hash to %.16s...; %lld"
		              " bytes of %.16s... were logged", m->key, path, (long long)bytes, sha256,
		              (long long)m->bytes, m->sha256);
	return rc;
}

static int64_t mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static bool is_ready(const pio_media_ready *ready, const media *m)
{
	struct stat st;
	return ready->sha256[0] && strcmp(ready->sha256, m->sha256) == 0 && lstat(m->path.data, &st) == 0 &&
	       S_ISREG(st.st_mode) && st.st_ino == ready->inode && st.st_size == ready->bytes &&
	       ready->bytes == m->bytes && mtime_ns(&st) == ready->mtime_ns;
}

/* Move the file under objects/. One that is gone was moved by a fold that did
 * not come to its commit: pio_store_object_put finds it there by its name. */
static int put_file(pio_store *store, const media *m, const pio_media_ready *ready, pio_err *err)
{
	char sha256[PIO_SHA256_HEX + 1];
	bool gone = pio_fs_type(m->path.data) == PIO_FS_NONE;
	int rc = gone || is_ready(ready, m) ? 0 : read_file(sha256, m, err);
	if (!rc)
		rc = pio_store_object_put(store, m->path.data, m->sha256, m->bytes, err);
	return rc ? rc : pio_store_object_sync(store, m->sha256, err);
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

/* `texts` is freed by the caller, and holds the record's texts until then. */
static int parse(media *m, char **texts, const pio_media_record *record, pio_err *err)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	char *at = *texts = pio_alloc(record->size_bytes + 8);
	if (!at)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a record of media");
	size_t data_bytes;
	m->rank = pio_cursor_u32(&cursor);
	m->time_ns = pio_cursor_i64(&cursor);
	m->step = pio_cursor_i64(&cursor);
	m->kind = (char)pio_cursor_u8(&cursor);
	m->key = take_text(&cursor, &at);
	m->name = take_text(&cursor, &at);
	m->mime = take_text(&cursor, &at);
	uint64_t bytes = pio_cursor_u64(&cursor);
	m->sha256 = take_text(&cursor, &at);
	m->file = take_text(&cursor, &at);
	m->data = pio_cursor_str(&cursor, &data_bytes);
	m->bytes = (int64_t)bytes;
	if (cursor.bad || bytes > INT64_MAX)
		return pio_fail(err, PIO_EINVAL, "a record of media is too short or holds a NUL");
	if (!m->sha256[0] && data_bytes != bytes)
		return pio_fail(err, PIO_EINVAL, "media %.200s: %llu bytes were announced, %zu are there", m->key,
		                (unsigned long long)bytes, data_bytes);
	return check(m, err);
}

static int read_record(media *m, char **texts, const pio_store *store, const pio_media_record *record,
                       pio_err *err)
{
	*m = (media){ .path = PIO_STR_INIT };
	int rc = parse(m, texts, record, err);
	return rc || !m->sha256[0] ? rc : staged_path(&m->path, store, record->dir, m->file, err);
}

static int insert(pio_store *store, const media *m, const pio_media_record *record, pio_err *err)
{
	bool file = m->sha256[0];
	return pio_sql_exec(store, err, "INSERT INTO media (run_id, attempt_id, rank, kind, key, step,"
	                    " time_ns, name, mime, bytes, sha256, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,"
	                    " ?8, ?9, ?10, ?11, CASE WHEN ?11 IS NULL THEN ?12 END)", "izitt" "oitt" "itb",
	                    record->run_id, record->attempt_id, m->rank, kind_name(m->kind), m->key, m->step,
	                    m->time_ns, *m->name ? m->name : NULL, m->mime, m->bytes,
	                    file ? m->sha256 : NULL, file ? NULL : m->data, file ? 0 : (size_t)m->bytes);
}

static int add(pio_store *store, const media *m, const pio_media_record *record,
               const pio_media_ready *ready, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	if (m->sha256[0])
		rc = put_file(store, m, ready, err);
	if (!rc)
		rc = insert(store, m, record, err);
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}

int pio_store_media_report(pio_store *store, const pio_media_record *record,
                           const pio_media_ready *ready, pio_err *err)
{
	char *texts = NULL;
	media m;
	int rc = read_record(&m, &texts, store, record, err);
	if (!rc && m.path.len && m.bytes > PIO_MEDIA_LARGE_BYTES &&
	    (!ready->path || strcmp(ready->path, m.path.data) != 0))
		rc = 1;
	if (!rc)
		rc = add(store, &m, record, ready, err);
	pio_str_fini(&m.path);
	pio_free(texts);
	return rc;
}

int pio_media_ready_init(pio_media_ready *ready, const pio_store *store,
                         const pio_media_record *record, pio_err *err)
{
	char *texts = NULL;
	media m;
	struct stat st;
	*ready = (pio_media_ready){ .path = NULL };
	int rc = read_record(&m, &texts, store, record, err);
	if (!rc && read_file(ready->sha256, &m, NULL) == 0 && lstat(m.path.data, &st) == 0) {
		ready->bytes = st.st_size;
		ready->mtime_ns = mtime_ns(&st);
		ready->inode = st.st_ino;
	} else {
		ready->sha256[0] = 0;
	}
	if (!rc && !(ready->path = pio_str_take(&m.path)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a record of media");
	pio_str_fini(&m.path);
	pio_free(texts);
	return rc;
}

void pio_media_ready_fini(pio_media_ready *ready)
{
	pio_free(ready->path);
	ready->path = NULL;
}
