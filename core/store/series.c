#include "store/series.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/chunk.h"
#include "store/cursor.h"
#include "store/sql.h"
#include "sys/fs.h"

#define FLUSH_BYTES (1u << 20)

int pio_store_series_read(pio_point **points, size_t *count, pio_store *store, int64_t series_id,
                          int64_t step_min, int64_t step_max, int attempt, pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *point;
	size_t capacity = 0;
	*points = NULL;
	*count = 0;
	int rc = pio_series_cursor_open(&cursor, store, series_id, step_min, step_max, attempt, err);
	if (rc)
		return rc;
	while ((rc = pio_series_cursor_next(&point, &cursor, err)) == 1) {
		if (*count == capacity) {
			capacity = capacity ? capacity * 2 : 1024;
			pio_point *grown = pio_realloc(*points, capacity * sizeof *grown);
			if (!grown) {
				rc = pio_fail(err, PIO_ENOMEM, "no memory for %zu points of a series", capacity);
				break;
			}
			*points = grown;
		}
		(*points)[(*count)++] = *point;
	}
	pio_series_cursor_close(&cursor);
	if (rc) {
		pio_free(*points);
		*points = NULL;
		*count = 0;
	}
	return rc;
}

/* ---- buckets --------------------------------------------------------------------------------- */

typedef struct buckets {
	pio_bucket *all;
	double *sums;          /* of finite values */
	size_t count;
	int64_t step_min;
	uint64_t width;        /* steps a bucket */
} buckets;

static pio_bucket *bucket_of(const buckets *b, int64_t step)
{
	uint64_t at = ((uint64_t)step - (uint64_t)b->step_min) / b->width;
	return &b->all[at < b->count ? at : b->count - 1];
}

static void widen(pio_bucket *bucket, int64_t first_step, int64_t last_step)
{
	if (!bucket->count || first_step < bucket->first_step)
		bucket->first_step = first_step;
	if (!bucket->count || last_step > bucket->last_step)
		bucket->last_step = last_step;
}

static void add_range(buckets *b, pio_bucket *bucket, int64_t finite, double min, double max,
                      double sum)
{
	if (!finite)
		return;
	bucket->min = !bucket->finite || min < bucket->min ? min : bucket->min;
	bucket->max = !bucket->finite || max > bucket->max ? max : bucket->max;
	bucket->finite += finite;
	b->sums[bucket - b->all] += sum;
}

/* How many of the points, which come by step, fall into the first one's bucket. */
static size_t in_bucket(const buckets *b, const pio_bucket *bucket, const pio_point *points,
                        size_t count)
{
	size_t low = 1, high = count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (bucket_of(b, points[middle].step) == bucket)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void add_points(buckets *b, const pio_point *points, size_t count)
{
	for (size_t begin = 0, n; begin < count; begin += n) {
		pio_bucket *bucket = bucket_of(b, points[begin].step);
		const pio_point *p = points + begin;
		n = in_bucket(b, bucket, p, count - begin);
		int64_t finite = 0;
		double min = INFINITY, max = -INFINITY, sum = 0;
		for (size_t i = 0; i < n; i++) {
			double value = pio_point_real(&p[i]);
			if (!isfinite(value))
				continue;
			finite++;
			min = value < min ? value : min;
			max = value > max ? value : max;
			sum += value;
		}
		widen(bucket, p[0].step, p[n - 1].step);
		bucket->count += (int64_t)n;
		add_range(b, bucket, finite, min, max, sum);
	}
}

/* Take chunks that lie whole in one bucket by their aggregates, and out of the
 * cursor; those with infinities must be looked into. */
static void add_whole_chunks(buckets *b, pio_series_cursor *cursor)
{
	size_t kept = 0;
	for (size_t i = 0; i < cursor->chunks_count; i++) {
		const pio_cursor_chunk chunk = cursor->chunks[i];
		pio_bucket *bucket = bucket_of(b, chunk.first_step);
		bool whole = !chunk.cut && chunk.first_step >= cursor->step_min &&
		             chunk.last_step <= cursor->step_max && bucket == bucket_of(b, chunk.last_step) &&
		             chunk.finite + chunk.nans == chunk.count;
		if (!whole) {
			cursor->chunks[kept++] = chunk;
			continue;
		}
		widen(bucket, chunk.first_step, chunk.last_step);
		bucket->count += chunk.count;
		add_range(b, bucket, chunk.finite, chunk.min, chunk.max, chunk.sum);
	}
	cursor->chunks_count = kept;
}

/* Empty buckets go, means are taken. */
static size_t finish(buckets *b)
{
	size_t kept = 0;
	for (size_t i = 0; i < b->count; i++) {
		pio_bucket bucket = b->all[i];
		if (!bucket.count)
			continue;
		if (!bucket.finite)
			bucket.min = bucket.max = NAN;
		bucket.mean = bucket.finite ? b->sums[i] / (double)bucket.finite : (double)NAN;
		b->all[kept++] = bucket;
	}
	return kept;
}

static int make_buckets(buckets *b, const pio_series_cursor *cursor, size_t buckets_max,
                        pio_err *err)
{
	int64_t first = INT64_MAX, last = INT64_MIN;
	for (size_t i = 0; i < cursor->chunks_count; i++) {
		const pio_cursor_chunk *c = &cursor->chunks[i];
		first = c->first_step < first ? c->first_step : first;
		last = c->last_step > last ? c->last_step : last;
	}
	first = first < cursor->step_min ? cursor->step_min : first;
	last = last > cursor->step_max ? cursor->step_max : last;
	uint64_t span = (uint64_t)last - (uint64_t)first;
	*b = (buckets){ .step_min = first, .width = span / buckets_max + 1 };
	if (!b->width)
		b->width = UINT64_MAX; /* one bucket of all steps there are */
	b->count = (size_t)(span / b->width) + 1;
	b->count = b->count < buckets_max ? b->count : buckets_max;
	b->all = pio_calloc(b->count, sizeof *b->all);
	b->sums = pio_calloc(b->count, sizeof *b->sums);
	return b->all && b->sums ? 0 : pio_fail(err, PIO_ENOMEM, "no memory for %zu buckets", b->count);
}

int pio_store_series_buckets(pio_bucket **out, size_t *count, pio_store *store,
                             int64_t series_id, int64_t step_min, int64_t step_max,
                             size_t buckets_max, pio_err *err)
{
	pio_series_cursor cursor;
	buckets b = { 0 };
	const pio_point *points;
	size_t n;
	*out = NULL;
	*count = 0;
	if (buckets_max < 1 || buckets_max > 10000000)
		return pio_fail(err, PIO_EINVAL, "%zu buckets, expected 1 to 10000000", buckets_max);
	int rc = pio_series_cursor_open(&cursor, store, series_id, step_min, step_max, 0, err);
	if (rc || !cursor.chunks_count || step_min > step_max)
		goto out;
	cursor.no_times = true;
	rc = make_buckets(&b, &cursor, buckets_max, err);
	if (!rc)
		add_whole_chunks(&b, &cursor);
	while (!rc && (rc = pio_series_cursor_group(&points, &n, &cursor, err)) == 1) {
		add_points(&b, points, n);
		rc = 0;
	}
	if (!rc) {
		*count = finish(&b);
		*out = b.all;
		b.all = NULL;
	}
out:
	if (!rc && !*out && !(*out = pio_alloc(sizeof **out)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	pio_series_cursor_close(&cursor);
	pio_free(b.all);
	pio_free(b.sums);
	return rc;
}

/* ---- CSV ----------------------------------------------------------------------------------------- */

/* RFC 4180: quoted where a comma, quote or line break is in it. */
static void put_csv_text(pio_str *out, const char *text)
{
	if (!strpbrk(text, ",\"\r\n")) {
		pio_str_puts(out, text);
		return;
	}
	pio_str_putc(out, '"');
	for (; *text; text++) {
		if (*text == '"')
			pio_str_putc(out, '"');
		pio_str_putc(out, *text);
	}
	pio_str_putc(out, '"');
}

/* 17 digits bring every double back; a NaN that is not the usual one also
 * shows its bits, as strtod reads them. */
static void put_csv_value(pio_str *out, const pio_point *point)
{
	uint64_t bits;
	double value = point->value;
	if (point->integer) {
		pio_str_printf(out, "%lld", (long long)point->whole);
		return;
	}
	memcpy(&bits, &value, 8);
	if (!isnan(value))
		pio_str_printf(out, "%.17g", value);
	else if (bits == 0x7ff8000000000000u)
		pio_str_puts(out, "nan");
	else
		pio_str_printf(out, "%snan(0x%llx)", bits >> 63 ? "-" : "",
		               (unsigned long long)(bits & 0xfffffffffffffu));
}

typedef struct csv_file {
	pio_str out;
	int fd;
	const char *path;
} csv_file;

static int csv_flush(csv_file *csv, size_t at_least, pio_err *err)
{
	int rc = pio_str_check(&csv->out, err);
	if (rc || csv->out.len < at_least || !csv->out.len)
		return rc;
	rc = pio_fs_write_all(csv->fd, csv->out.data, csv->out.len, csv->path, err);
	pio_str_clear(&csv->out);
	return rc;
}

static int csv_series(csv_file *csv, pio_store *store, int64_t series_id, const char *key, int64_t rank,
                      pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *point;
	pio_str prefix = PIO_STR_INIT;
	put_csv_text(&prefix, key);
	pio_str_printf(&prefix, ",%lld,", (long long)rank);
	int rc = pio_str_check(&prefix, err);
	if (!rc)
		rc = pio_series_cursor_open(&cursor, store, series_id, INT64_MIN, INT64_MAX, 0, err);
	if (rc) {
		pio_str_fini(&prefix);
		return rc;
	}
	while (!rc && (rc = pio_series_cursor_next(&point, &cursor, err)) == 1) {
		pio_str_append(&csv->out, prefix.data, prefix.len);
		pio_str_printf(&csv->out, "%lld,%lld,", (long long)point->step, (long long)point->time_ns);
		put_csv_value(&csv->out, point);
		pio_str_putc(&csv->out, '\n');
		rc = csv_flush(csv, FLUSH_BYTES, err);
	}
	pio_series_cursor_close(&cursor);
	pio_str_fini(&prefix);
	return rc;
}

int pio_store_export_csv(pio_store *store, int64_t run_id, int fd, const char *path, pio_err *err)
{
	csv_file csv = { PIO_STR_INIT, fd, path };
	pio_str_puts(&csv.out, "key,rank,step,time_ns,value\n");
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT id, key, rank FROM series WHERE run_id = ?1"
	                                  " ORDER BY key, rank", "i", run_id);
	int rc = row ? pio_sql_row(store, row, err) : -PIO_EIO;
	while (rc == 1) {
		int bad = csv_series(&csv, store, sqlite3_column_int64(row, 0),
		                     (const char *)sqlite3_column_text(row, 1), sqlite3_column_int64(row, 2),
		                     err);
		rc = bad ? bad : pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	if (!rc)
		rc = csv_flush(&csv, 0, err);
	pio_str_fini(&csv.out);
	return rc;
}
