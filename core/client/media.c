/* Histograms, texts, images, tables and files on their way into the side ring.
 *
 * What is small travels in the record; what is large lies in a file of its own
 * under DIR/media/, written and synced before the record that names it, so that
 * a record never speaks of bytes that are not there. A program that dies in
 * between leaves a file that no record names; it goes with the attempt. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/element.h"
#include "base/histogram.h"
#include "base/mem.h"
#include "client/name.h"
#include "client/ring_layout.h"
#include "client/run.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define INLINE_BYTES_MAX (64u << 10)
#define TEXT_BYTES_MAX 500000u  /* with its key less than half of a side ring */
#define BLOCK_BYTES (256u << 10)
#define BLOCK_VALUES 512

#define TABLE_MIME "application/x-pioche-table+json"
#define FILE_MIME "application/octet-stream"

static _Atomic uint32_t files_staged; /* of this process: names must differ */

typedef struct media {
	char kind;                 /* of the record: 'h', 'i', 't', 'f' */
	const char *what, *key, *name, *mime;
	int64_t step;
	const void *data;
	size_t size_bytes;
	const char *source;        /* path to read from, where data is NULL */
} media;

/* ---- staging ------------------------------------------------------------------ */

static int copy_bytes(int to, const media *m, pio_sha256 *hash, const char *path, uint64_t *size_bytes,
                      pio_err *err)
{
	*size_bytes = m->size_bytes;
	int rc = pio_sha256_update(hash, m->data, m->size_bytes, err);
	return rc ? rc : pio_fs_write_all(to, m->data, m->size_bytes, path, err);
}

static int copy_file(int to, const media *m, pio_sha256 *hash, const char *path, uint64_t *size_bytes,
                     pio_err *err)
{
	int from;
	ssize_t n = 1;
	*size_bytes = 0;
	int rc = pio_fs_open(&from, m->source, O_RDONLY, 0, err);
	if (rc)
		return rc;
	uint8_t *block = pio_alloc(BLOCK_BYTES);
	if (!block)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory to read %s", m->source);
	while (!rc && n > 0) {
		rc = pio_fs_read_some(&n, from, block, BLOCK_BYTES, m->source, err);
		if (rc || n <= 0)
			break;
		rc = pio_sha256_update(hash, block, (size_t)n, err);
		if (!rc)
			rc = pio_fs_write_all(to, block, (size_t)n, path, err);
		*size_bytes += (uint64_t)n;
	}
	pio_free(block);
	int closed = pio_fs_close(&from, m->source, rc ? NULL : err);
	return rc ? rc : closed;
}

static int stage_path(pio_str *path, size_t *relative, const pio_run *run, pio_err *err)
{
	pio_str_puts(path, run->dir);
	*relative = path->len + 1;
	int rc = pio_fs_type(run->dir) == PIO_FS_DIR ? 0
	       : pio_fail(err, PIO_EIO, "%s was deleted while its run was going", run->dir);
	pio_str_puts(path, "/media");
	if (!rc)
		rc = pio_str_check(path, err);
	if (!rc)
		rc = pio_fs_mkdirs_durable(path->data, 0777, err);
	pio_str_printf(path, "/%u-%ld-%u", pio_ring_rank(run->ring), (long)getpid(),
	               atomic_fetch_add(&files_staged, 1));
	return rc ? rc : pio_str_check(path, err);
}

/* The bytes as a file that is durable; its size and digest. */
static int stage(pio_str *path, size_t *relative, uint64_t *size_bytes, char *sha256,
                 const pio_run *run, const media *m, pio_err *err)
{
	pio_sha256 *hash = NULL;
	int fd = -1;
	int rc = stage_path(path, relative, run, err);
	if (!rc)
		rc = pio_fs_open(&fd, path->data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (rc)
		return rc;
	rc = pio_sha256_new(&hash, err);
	if (!rc)
		rc = m->source ? copy_file(fd, m, hash, path->data, size_bytes, err)
		               : copy_bytes(fd, m, hash, path->data, size_bytes, err);
	if (!rc)
		rc = pio_sha256_finish(hash, sha256, err);
	if (!rc)
		rc = pio_fs_datasync(fd, path->data, err);
	int closed = pio_fs_close(&fd, path->data, rc ? NULL : err);
	rc = rc ? rc : closed;
	if (!rc) {
		size_t len = *relative + strlen("media");
		char slash = path->data[len];
		path->data[len] = 0;
		rc = pio_fs_sync_dir(path->data, err);
		path->data[len] = slash;
	}
	if (rc)
		(void)pio_fs_unlink(path->data, NULL);
	pio_sha256_free(hash);
	return rc;
}

/* ---- the record ------------------------------------------------------------------ */

static void put_text(pio_str *payload, const char *text)
{
	pio_record_put_str(payload, text, strlen(text));
}

static int send(pio_run *run, const media *m, pio_err *err)
{
	pio_str payload = PIO_STR_INIT, path = PIO_STR_INIT;
	char sha256[PIO_SHA256_HEX + 1] = "";
	size_t relative = 0;
	uint64_t size_bytes = m->size_bytes;
	bool staged = m->kind == 'f' || size_bytes > INLINE_BYTES_MAX;
	int rc = staged ? stage(&path, &relative, &size_bytes, sha256, run, m, err) : 0;
	if (!rc) {
		pio_run_payload(&payload, run);
		pio_record_put_i64(&payload, m->step);
		pio_str_putc(&payload, m->kind);
		put_text(&payload, m->key);
		put_text(&payload, m->name);
		put_text(&payload, m->mime);
		pio_record_put_i64(&payload, (int64_t)size_bytes);
		put_text(&payload, sha256);
		put_text(&payload, staged ? path.data + relative : "");
		pio_record_put_str(&payload, m->data, staged ? 0 : m->size_bytes);
		rc = pio_run_send(run, PIO_RECORD_MEDIA, &payload, err);
		if (rc && staged)
			(void)pio_fs_unlink(path.data, NULL);
	}
	pio_str_fini(&path);
	return rc;
}

/* The history tells what the disk refused; a user's mistake is the caller's. */
static int tell_missing(pio_run *run, const media *m, int rc, const pio_err *why)
{
	if (rc != -PIO_ENOSPC && rc != -PIO_EIO)
		return rc;
	pio_str payload = PIO_STR_INIT, message = PIO_STR_INIT;
	pio_str_printf(&message, "%s \"%.200s\" is missing: %s", m->what, m->key, why->message);
	pio_run_payload(&payload, run);
	put_text(&payload, "log.missing");
	put_text(&payload, message.data);
	(void)pio_run_send(run, PIO_RECORD_EVENT, &payload, NULL);
	pio_str_fini(&message);
	return rc;
}

/* ---- histograms ------------------------------------------------------------------- */

static int count_values(pio_histogram *histogram, pio_dtype dtype, const uint8_t *values, size_t count,
                        pio_err *err)
{
	double block[BLOCK_VALUES];
	const pio_element *element = pio_element_find(pio_dtype_name(dtype));
	int rc = 0;
	for (size_t done = 0; done < count && !rc;) {
		size_t n = count - done < BLOCK_VALUES ? count - done : BLOCK_VALUES;
		pio_element_decode(block, element, values + done * (size_t)element->size_bytes, n);
		rc = pio_histogram_add(histogram, block, n, err);
		done += n;
	}
	return rc;
}

int pio_log_histogram(pio_run *run, const char *key, int64_t step, pio_dtype dtype,
                      const void *values, size_t count)
{
	pio_err *err = pio_last_err();
	pio_histogram histogram = PIO_HISTOGRAM_INIT;
	pio_str bytes = PIO_STR_INIT;
	if (!run)
		return 0;
	int rc = pio_run_check_key("histogram", key, err);
	if (rc)
		return rc;
	if (!pio_dtype_bytes(dtype))
		return pio_fail(err, PIO_EINVAL, "histogram \"%.80s\": dtype %d is no pio_dtype", key, (int)dtype);
	if (!values && count)
		return pio_fail(err, PIO_EINVAL, "histogram \"%.80s\": its %zu values are NULL", key, count);
	if (count > SIZE_MAX / 16)
		return pio_fail(err, PIO_EINVAL, "histogram \"%.80s\": %zu values cannot be", key, count);
	rc = count_values(&histogram, dtype, values, count, err);
	if (!rc) {
		pio_histogram_encode(&bytes, &histogram);
		rc = pio_str_check(&bytes, err);
	}
	if (!rc) {
		media m = { .kind = 'h', .what = "histogram", .key = key, .name = "", .step = step,
		            .mime = PIO_HISTOGRAM_MIME, .data = bytes.data, .size_bytes = bytes.len };
		rc = tell_missing(run, &m, send(run, &m, err), err);
	}
	pio_str_fini(&bytes);
	pio_histogram_fini(&histogram);
	return rc;
}

/* ---- the rest ----------------------------------------------------------------------- */

static int log_text(pio_run *run, const char *key, int64_t step, const char *text, size_t size_bytes,
                    pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	if (size_bytes > TEXT_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "text \"%.80s\" of %zu bytes: at most %u expected; a file may "
		                "be longer", key, size_bytes, TEXT_BYTES_MAX);
	int rc = pio_text_check("text", key, text, size_bytes, err);
	if (rc)
		return rc;
	pio_run_payload(&payload, run);
	pio_record_put_i64(&payload, step);
	put_text(&payload, key);
	pio_record_put_str(&payload, text, size_bytes);
	return pio_run_send(run, PIO_RECORD_TEXT, &payload, err);
}

static int log_image(pio_run *run, media *m, pio_err *err)
{
	static const uint8_t png[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
	static const uint8_t jpeg[] = { 0xff, 0xd8, 0xff };
	m->kind = 'i';
	m->what = "image";
	if (m->size_bytes >= sizeof png && memcmp(m->data, png, sizeof png) == 0)
		m->mime = "image/png";
	else if (m->size_bytes >= sizeof jpeg && memcmp(m->data, jpeg, sizeof jpeg) == 0)
		m->mime = "image/jpeg";
	else
		return pio_fail(err, PIO_EINVAL, "image \"%.80s\": %zu bytes that are no PNG and no JPEG", m->key,
		                m->size_bytes);
	return send(run, m, err);
}

static int log_table(pio_run *run, media *m, pio_err *err)
{
	pio_str json = PIO_STR_INIT; /* with a NUL behind it */
	m->kind = 't';
	m->what = "table";
	m->mime = TABLE_MIME;
	pio_str_append(&json, m->data, m->size_bytes);
	int rc = pio_str_check(&json, err);
	if (!rc)
		rc = pio_table_check(m->key, json.data, json.len, err);
	if (!rc)
		rc = send(run, m, err);
	pio_str_fini(&json);
	return rc;
}

static int log_file(pio_run *run, media *m, pio_err *err)
{
	m->kind = 'f';
	m->what = "file";
	m->mime = FILE_MIME;
	int rc = pio_run_check_key("file", m->name, err);
	if (rc)
		return rc;
	if (!m->data) {
		m->source = m->name;
		const char *slash = strrchr(m->name, '/');
		m->name = slash ? slash + 1 : m->name;
		m->size_bytes = 0;
		if (pio_fs_type(m->source) != PIO_FS_FILE)
			return pio_fail(err, PIO_ENOTFOUND, "file \"%.80s\": %s is no file", m->key, m->source);
	}
	return send(run, m, err);
}

static const char *kind_noun(pio_media kind)
{
	switch (kind) {
	case PIO_TEXT: return "text";
	case PIO_IMAGE: return "image";
	case PIO_TABLE: return "table";
	case PIO_FILE: return "file";
	}
	return NULL;
}

int pio_log_media(pio_run *run, pio_media kind, const char *key, int64_t step, const char *name,
                  const void *data, size_t size_bytes)
{
	pio_err *err = pio_last_err();
	const char *noun = kind_noun(kind);
	if (!run)
		return 0;
	if (!noun)
		return pio_fail(err, PIO_EINVAL, "kind of media is %d: one of pio_media expected", (int)kind);
	int rc = pio_run_check_key(noun, key, err);
	if (rc)
		return rc;
	if (!data && kind != PIO_FILE)
		return pio_fail(err, PIO_EINVAL, "%s \"%.80s\": its data is NULL", noun, key);
	if (size_bytes > PTRDIFF_MAX)
		return pio_fail(err, PIO_EINVAL, "%s \"%.80s\": %zu bytes cannot be", noun, key, size_bytes);
	if (kind == PIO_TEXT)
		return log_text(run, key, step, data, size_bytes, err);
	media m = { .key = key, .name = name ? name : "", .step = step, .data = data,
	            .size_bytes = size_bytes };
	if (name && kind != PIO_FILE)
		rc = pio_text_check("name of", key, name, strlen(name), err);
	if (!rc)
		rc = kind == PIO_IMAGE ? log_image(run, &m, err)
		   : kind == PIO_TABLE ? log_table(run, &m, err) : log_file(run, &m, err);
	return tell_missing(run, &m, rc, err);
}
