#include "store/series.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/cursor.h"
#include "store/bucket.h"
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
	int rc = pio_series_cursor_open(&cursor, pio_store_reader(store), series_id, step_min, step_max, attempt, err);
	if (rc)
		return rc;
	while ((rc = pio_series_cursor_next(&point, &cursor, err)) == 1) {
		rc = pio_grow(points, &capacity, *count, "points of a series", err);
		if (rc)
			break;
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

int pio_store_series_buckets(pio_bucket **buckets, size_t *count, pio_store *store,
                             int64_t series_id, int64_t step_min, int64_t step_max,
                             size_t buckets_max, pio_err *err)
{
	return pio_series_buckets(buckets, count, pio_store_reader(store), series_id, step_min, step_max,
	                          buckets_max, err);
}

int pio_store_series_value_at(double *value, bool *found, pio_store *store, int64_t series_id,
                              int64_t step, pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *point;
	int rc = pio_series_cursor_open(&cursor, pio_store_reader(store), series_id, INT64_MIN, step, 0,
	                                err);
	if (rc)
		return rc;
	cursor.backwards = true;
	rc = pio_series_cursor_next(&point, &cursor, err);
	*found = rc == 1;
	if (*found)
		*value = pio_point_real(point);
	pio_series_cursor_close(&cursor);
	return rc < 0 ? rc : 0;
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
		rc = pio_series_cursor_open(&cursor, pio_store_reader(store), series_id, INT64_MIN,
		                            INT64_MAX, 0, err);
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
	int rc = pio_sql_row(store, row, err);
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
