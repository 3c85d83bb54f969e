#include "store/points_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/cursor.h"
#include "store/sql.h"
#include "sys/fs.h"

#define FLUSH_BYTES (1u << 20)
#define MAGIC_BYTES (sizeof PIO_POINTS_FILE_MAGIC - 1)
#define HEAD_BYTES 20
/* No chunk is as large: 24 bytes a point and what zstd may add to them. */
#define DATA_BYTES_MAX (1u << 18)

/* ---- writing ------------------------------------------------------------------------ */

typedef struct writer {
	pio_store *store;
	pio_chunk_codec *codec;
	pio_chunk_point *points;    /* the codec's, to fill */
	size_t count;
	pio_str out;
	int fd;
	const char *path;
} writer;

typedef struct series {
	int64_t id, rank;
	const char *key;
} series;

static void put_u32(pio_str *out, uint32_t value)
{
	char bytes[4] = { (char)value, (char)(value >> 8), (char)(value >> 16), (char)(value >> 24) };
	pio_str_append(out, bytes, 4);
}

static int flush(writer *w, size_t at_least, pio_err *err)
{
	int rc = pio_str_check(&w->out, err);
	if (rc || !w->out.len || w->out.len < at_least)
		return rc;
	rc = pio_fs_write_all(w->fd, w->out.data, w->out.len, w->path, err);
	pio_str_clear(&w->out);
	return rc;
}

static int put_block(writer *w, const series *s, int attempt, pio_err *err)
{
	const uint8_t *data;
	size_t size_bytes, key_bytes = strlen(s->key);
	if (!w->count)
		return 0;
	int rc = pio_chunk_encode(&data, &size_bytes, w->codec, w->points, w->count, err);
	if (rc)
		return rc;
	put_u32(&w->out, (uint32_t)key_bytes);
	put_u32(&w->out, (uint32_t)s->rank);
	put_u32(&w->out, (uint32_t)attempt);
	put_u32(&w->out, (uint32_t)w->count);
	put_u32(&w->out, (uint32_t)size_bytes);
	pio_str_append(&w->out, s->key, key_bytes);
	pio_str_append(&w->out, (const char *)data, size_bytes);
	w->count = 0;
	return flush(w, FLUSH_BYTES, err);
}

static pio_chunk_point plain(const pio_point *point)
{
	pio_chunk_point to = { .step = point->step, .time_ns = point->time_ns,
		.integer = point->integer };
	memcpy(&to.bits, &point->whole, sizeof to.bits);
	return to;
}

static int put_attempt(writer *w, const series *s, int attempt, pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *points;
	size_t count;
	int rc = pio_series_cursor_open(&cursor, pio_store_reader(w->store), s->id, INT64_MIN, INT64_MAX,
	                                attempt, err);
	if (rc)
		return rc;
	while ((rc = pio_series_cursor_group(&points, &count, &cursor, err)) == 1) {
		for (size_t i = 0; i < count && rc >= 0; i++) {
			w->points[w->count++] = plain(&points[i]);
			if (w->count == PIO_CHUNK_POINTS_MAX)
				rc = put_block(w, s, attempt, err);
		}
		if (rc < 0)
			break;
	}
	pio_series_cursor_close(&cursor);
	return rc ? rc : put_block(w, s, attempt, err);
}

static int put_series(writer *w, int64_t run_id, const series *s, pio_err *err)
{
	/* A series has chunks of attempts that logged it, and recent points of the newest. */
	sqlite3_stmt *row = pio_sql_query(w->store, err,
		"SELECT DISTINCT attempt FROM chunk WHERE series_id = ?1 UNION"
		" SELECT max(number) FROM attempt WHERE run_id = ?2 ORDER BY 1", "ii", s->id, run_id);
	int rc = pio_sql_row(w->store, row, err);
	while (rc == 1) {
		int attempt = sqlite3_column_int(row, 0);
		int bad = attempt ? put_attempt(w, s, attempt, err) : 0;
		rc = bad ? bad : pio_sql_row(w->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

static int put_all(writer *w, int64_t run_id, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(w->store, err, "SELECT id, rank, key FROM series"
	                                  " WHERE run_id = ?1 ORDER BY key, rank", "i", run_id);
	int rc = pio_sql_row(w->store, row, err);
	while (rc == 1) {
		series s = { sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1),
			(const char *)sqlite3_column_text(row, 2) };
		int bad = s.key ? put_series(w, run_id, &s, err)
		                : pio_fail(err, PIO_ENOMEM, "out of memory for the name of a series");
		rc = bad ? bad : pio_sql_row(w->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

int pio_points_file_write(pio_store *store, int64_t run_id, int fd, const char *path, pio_err *err)
{
	writer w = { .store = store, .out = PIO_STR_INIT, .fd = fd, .path = path };
	pio_reader *reader = pio_store_reader(store);
	int rc = pio_chunk_codec_new(&w.codec, err);
	if (rc)
		return rc;
	w.points = pio_chunk_scratch(w.codec, 0);
	pio_str_append(&w.out, PIO_POINTS_FILE_MAGIC, MAGIC_BYTES);
	rc = pio_reader_hold(reader, err);
	if (!rc) {
		rc = put_all(&w, run_id, err);
		pio_reader_release(reader);
	}
	if (!rc)
		rc = flush(&w, 0, err);
	pio_str_fini(&w.out);
	pio_chunk_codec_free(w.codec);
	return rc;
}

/* ---- reading ------------------------------------------------------------------------ */

struct pio_points_file {
	FILE *stream;
	char *path;
	pio_chunk_decoder *decoder;
	/* Of the block at hand; `before` is the one before it. */
	char key[PIO_POINTS_FILE_KEY_BYTES_MAX + 1], key_before[PIO_POINTS_FILE_KEY_BYTES_MAX + 1];
	pio_points_block block;
	int64_t step_before;
	uint8_t data[DATA_BYTES_MAX];
	pio_chunk_point points[PIO_CHUNK_POINTS_MAX];
};

static int corrupt(const pio_points_file *file, const char *what, pio_err *err)
{
	return pio_fail(err, PIO_ECORRUPT, "%s: at byte %lld: %s", file->path,
	                (long long)ftello(file->stream), what);
}

/* All of them or an error; 1: there is not one byte left, if that is allowed. */
static int get(void *bytes, size_t size_bytes, bool may_end, pio_points_file *file, pio_err *err)
{
	size_t n = fread(bytes, 1, size_bytes, file->stream);
	if (n == size_bytes)
		return 0;
	if (ferror(file->stream))
		return pio_fail_errno(err, errno, "%s: cannot be read", file->path);
	return !n && may_end ? 1 : corrupt(file, "points are cut short", err);
}

int pio_points_file_open(pio_points_file **out, const char *path, pio_err *err)
{
	char magic[MAGIC_BYTES];
	*out = NULL;
	pio_points_file *file = pio_calloc(1, sizeof *file);
	if (!file)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", path);
	int rc = pio_chunk_decoder_new(&file->decoder, err);
	file->path = rc ? NULL : pio_strdup(path);
	if (!rc && !file->path)
		rc = pio_fail(err, PIO_ENOMEM, "%s: out of memory", path);
	if (!rc && !(file->stream = fopen(path, "rbe")))
		rc = errno == ENOENT ? pio_fail(err, PIO_ENOTFOUND, "%s: no such file", path)
		                     : pio_fail_errno(err, errno, "%s: cannot be read", path);
	if (!rc)
		rc = get(magic, sizeof magic, false, file, err);
	if (!rc && memcmp(magic, PIO_POINTS_FILE_MAGIC, MAGIC_BYTES))
		rc = corrupt(file, "these are no points", err);
	if (rc) {
		pio_points_file_close(file);
		return rc;
	}
	*out = file;
	return 0;
}

static uint32_t get_u32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* <0, 0 or >0 as blocks are sorted. */
static int compare(const pio_points_file *file, const pio_points_block *before)
{
	int order = strcmp(file->key_before, file->key);
	if (!order)
		order = before->rank < file->block.rank ? -1 : before->rank > file->block.rank;
	if (!order)
		order = before->attempt < file->block.attempt ? -1 : before->attempt > file->block.attempt;
	return order;
}

static int check_order(pio_points_file *file, const pio_points_block *before, pio_err *err)
{
	int order = before->count ? compare(file, before) : -1;
	if (order > 0)
		return corrupt(file, "a series out of order", err);
	if (!order && before->count != PIO_CHUNK_POINTS_MAX)
		return corrupt(file, "a block before the last of a series is not full", err);
	if (order < 0)
		file->step_before = INT64_MIN;
	for (size_t i = 0; i < file->block.count; i++) {
		if (file->points[i].step < file->step_before)
			return corrupt(file, "points are not in the order of their steps", err);
		file->step_before = file->points[i].step;
	}
	return 0;
}

int pio_points_file_next(pio_points_block *block, pio_points_file *file, pio_err *err)
{
	uint8_t head[HEAD_BYTES];
	pio_points_block before = file->block;
	int rc = get(head, sizeof head, true, file, err);
	if (rc)
		return rc == 1 ? 0 : rc;
	uint32_t key_bytes = get_u32(head), rank = get_u32(head + 4), attempt = get_u32(head + 8),
		count = get_u32(head + 12), data_bytes = get_u32(head + 16);
	if (!key_bytes || key_bytes > PIO_POINTS_FILE_KEY_BYTES_MAX || data_bytes > DATA_BYTES_MAX ||
	    rank > INT32_MAX || !attempt || attempt > INT32_MAX || !count || count > PIO_CHUNK_POINTS_MAX)
		return corrupt(file, "a block of impossible size", err);
	memcpy(file->key_before, file->key, sizeof file->key);
	rc = get(file->key, key_bytes, false, file, err);
	if (!rc)
		rc = get(file->data, data_bytes, false, file, err);
	if (rc)
		return rc;
	file->key[key_bytes] = 0;
	for (size_t i = 0, n; i < key_bytes; i += n)
		if (!(n = pio_utf8_length(file->key + i, key_bytes - i)) || !file->key[i])
			return corrupt(file, "a key that is no UTF-8", err);
	file->block = (pio_points_block){ file->key, (int32_t)rank, (int32_t)attempt, 0, file->points };
	rc = pio_chunk_decode_some(file->points, &file->block.count, file->decoder, file->data, data_bytes,
	                           true, err);
	if (rc) {
		pio_err_context(err, "%s", file->path);
		return rc;
	}
	if (file->block.count != count)
		return corrupt(file, "a block has not as many points as it says", err);
	rc = check_order(file, &before, err);
	*block = file->block;
	return rc ? rc : 1;
}

void pio_points_file_close(pio_points_file *file)
{
	if (!file)
		return;
	if (file->stream)
		fclose(file->stream);
	pio_chunk_decoder_free(file->decoder);
	pio_free(file->path);
	pio_free(file);
}
