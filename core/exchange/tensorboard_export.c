#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange/exchange.h"
#include "exchange/hparams.h"
#include "exchange/tfwriter.h"
#include "store/cursor.h"
#include "store/object.h"
#include "store/sql.h"
#include "sys/fs.h"

typedef struct job {
	pio_store *store;
	pio_tensorboard_counts *counts;
	int64_t run_id, begun_ns, ended_ns;
	int rank;
	pio_hparams_end end;
	pio_str name, target, part;      /* of the run; its directory, and while it is written */
	pio_tfwriter writer;
} job;

/* ---- scalars -------------------------------------------------------------------------------- */

static bool fits_f32(double value)
{
	double back = (double)(float)value;
	return memcmp(&back, &value, sizeof value) == 0;
}

/* One form a series: readers do not look for a tag in both. */
static int series_fits_f32(bool *fits, const job *j, int64_t series_id, pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *point;
	*fits = true;
	int rc = pio_series_cursor_open(&cursor, pio_store_reader(j->store), series_id, INT64_MIN,
	                                INT64_MAX, 0, err);
	if (rc)
		return rc;
	cursor.no_times = true;
	while (*fits && (rc = pio_series_cursor_next(&point, &cursor, err)) == 1)
		*fits = fits_f32(pio_point_real(point));
	pio_series_cursor_close(&cursor);
	return rc < 0 ? rc : 0;
}

static int write_series(job *j, int64_t series_id, const char *key, pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *point;
	bool fits;
	int rc = series_fits_f32(&fits, j, series_id, err);
	if (!rc)
		rc = pio_series_cursor_open(&cursor, pio_store_reader(j->store), series_id, INT64_MIN,
		                            INT64_MAX, 0, err);
	if (rc)
		return rc;
	while (!j->writer.rc && (rc = pio_series_cursor_next(&point, &cursor, err)) == 1) {
		double value = pio_point_real(point);
		if (fits)
			pio_tfwriter_f32(&j->writer, key, point->step, point->time_ns, (float)value);
		else
			pio_tfwriter_f64(&j->writer, key, point->step, point->time_ns, value);
		j->counts->points++;
	}
	pio_series_cursor_close(&cursor);
	return rc < 0 ? rc : 0;
}

static int write_all_series(job *j, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(j->store, err, "SELECT id, key FROM series WHERE run_id = ?1 AND"
	                                  " rank = ?2 AND count > 0 ORDER BY key", "ii", j->run_id,
	                                  (int64_t)j->rank);
	int rc = row ? pio_sql_row(j->store, row, err) : -PIO_EIO;
	while (rc == 1) {
		int bad = write_series(j, sqlite3_column_int64(row, 0),
		                       (const char *)sqlite3_column_text(row, 1), err);
		rc = bad ? bad : pio_sql_row(j->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

/* ---- text and media --------------------------------------------------------------------------- */

static int write_texts(job *j, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(j->store, err, "SELECT coalesce(key, 'text'), coalesce(step, 0),"
	                                  " time_ns, message FROM event WHERE run_id = ?1 AND"
	                                  " coalesce(rank, 0) = ?2 AND kind = 'text' ORDER BY id", "ii",
	                                  j->run_id, (int64_t)j->rank);
	int rc = row ? pio_sql_row(j->store, row, err) : -PIO_EIO;
	for (; rc == 1; rc = pio_sql_row(j->store, row, err)) {
		pio_tfwriter_text(&j->writer, (const char *)sqlite3_column_text(row, 0),
		                  sqlite3_column_int64(row, 1), sqlite3_column_int64(row, 2),
		                  (const char *)sqlite3_column_text(row, 3),
		                  (size_t)sqlite3_column_bytes(row, 3));
		j->counts->texts++;
	}
	return rc;
}

static int write_blob(job *j, sqlite3_stmt *row, const void *bytes, size_t size_bytes, pio_err *err)
{
	const char *kind = (const char *)sqlite3_column_text(row, 0);
	const char *key = (const char *)sqlite3_column_text(row, 1);
	const char *mime = (const char *)sqlite3_column_text(row, 4);
	int64_t step = sqlite3_column_int64(row, 2), time_ns = sqlite3_column_int64(row, 3);
	pio_histogram histogram;
	if (strcmp(kind, "image") == 0 &&
	    pio_tfwriter_image(&j->writer, key, step, time_ns, bytes, size_bytes)) {
		j->counts->images++;
	} else if (strcmp(mime, PIO_HISTOGRAM_MIME) == 0) {
		int rc = pio_histogram_decode(&histogram, bytes, size_bytes, err);
		if (rc)
			return rc;
		pio_tfwriter_histogram(&j->writer, key, step, time_ns, &histogram);
		pio_histogram_fini(&histogram);
		j->counts->histograms++;
	} else {
		j->counts->passed_over++;
	}
	return 0;
}

static int write_media(job *j, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(j->store, err, "SELECT kind, key, coalesce(step, 0), time_ns, mime,"
	                                  " sha256, data FROM media WHERE run_id = ?1 AND rank = ?2"
	                                  " ORDER BY key, step, id", "ii", j->run_id, (int64_t)j->rank);
	int rc = row ? pio_sql_row(j->store, row, err) : -PIO_EIO;
	while (rc == 1) {
		pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT;
		const char *sha256 = (const char *)sqlite3_column_text(row, 5);
		int bad = sha256 ? pio_store_object_path(&path, j->store, sha256, err) : 0;
		if (sha256 && !bad)
			bad = pio_fs_read(&bytes, path.data, err);
		if (!bad && sha256)
			bad = write_blob(j, row, bytes.data, bytes.len, err);
		else if (!bad)
			bad = write_blob(j, row, sqlite3_column_blob(row, 6),
			                 (size_t)sqlite3_column_bytes(row, 6), err);
		pio_str_fini(&path);
		pio_str_fini(&bytes);
		rc = bad ? bad : pio_sql_row(j->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

/* ---- parameters --------------------------------------------------------------------------------- */

static json_t *param_of(sqlite3_stmt *row)
{
	const char *kind = (const char *)sqlite3_column_text(row, 2);
	double value = sqlite3_column_double(row, 1);
	int64_t bits = sqlite3_column_int64(row, 3);
	if (strcmp(kind, "int") == 0)
		return json_integer(sqlite3_column_int64(row, 1));
	if (strcmp(kind, "bool") == 0)
		return json_boolean(sqlite3_column_int64(row, 1) != 0);
	if (strcmp(kind, "real") != 0)
		return json_string((const char *)sqlite3_column_text(row, 1));
	if (sqlite3_column_type(row, 3) != SQLITE_NULL)
		memcpy(&value, &bits, sizeof value);
	if (isfinite(value))
		return json_real(value);
	return json_string(isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

static int write_params(job *j, pio_err *err)
{
	pio_str content = PIO_STR_INIT;
	json_t *params = json_object();
	sqlite3_stmt *row = pio_sql_query(j->store, err, "SELECT name, value, kind, bits FROM param WHERE"
	                                  " run_id = ?1 AND name NOT GLOB 'summary/*' ORDER BY name", "i",
	                                  j->run_id);
	int rc = row ? pio_sql_row(j->store, row, err) : -PIO_EIO;
	for (; rc == 1; rc = pio_sql_row(j->store, row, err)) {
		if (json_object_set_new(params, (const char *)sqlite3_column_text(row, 0), param_of(row))) {
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for a parameter");
			break;
		}
	}
	pio_sql_reset(row);
	if (!rc && json_object_size(params)) {
		pio_hparams_put_start(&content, params, "", (double)(j->begun_ns / 1000) / 1e6);
		rc = pio_str_check(&content, err);
		if (!rc)
			pio_tfwriter_hparams(&j->writer, "_hparams_/session_start_info", j->begun_ns, &content);
		pio_str_clear(&content);
		pio_hparams_put_end(&content, j->end, (double)(j->ended_ns / 1000) / 1e6);
		if (!rc)
			rc = pio_str_check(&content, err);
		if (!rc)
			pio_tfwriter_hparams(&j->writer, "_hparams_/session_end_info", j->ended_ns, &content);
	}
	json_decref(params);
	pio_str_fini(&content);
	return rc;
}

/* ---- the run ------------------------------------------------------------------------------------ */

static int write_rank(job *j, pio_err *err)
{
	pio_str dir = PIO_STR_INIT, path = PIO_STR_INIT;
	pio_str_puts(&dir, j->part.data);
	if (j->rank > 0)
		pio_str_printf(&dir, "/rank-%d", j->rank);
	pio_str_printf(&path, "%s/events.out.tfevents.%010lld.pioche", dir.data,
	               (long long)(j->begun_ns / 1000000000));
	int rc = pio_str_check(&dir, err);
	rc = rc ? rc : pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_mkdirs(dir.data, 0777, err);
	if (!rc)
		rc = pio_tfwriter_open(&j->writer, path.data, j->begun_ns, err);
	if (!rc) {
		rc = j->rank <= 0 ? write_params(j, err) : 0;
		rc = rc ? rc : write_all_series(j, err);
		rc = rc ? rc : write_texts(j, err);
		rc = rc ? rc : write_media(j, err);
		int closed = pio_tfwriter_close(&j->writer, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	pio_str_fini(&dir);
	pio_str_fini(&path);
	return rc;
}

static pio_hparams_end end_of(const char *status)
{
	if (strcmp(status, "finished") == 0 || strcmp(status, "stopped") == 0)
		return PIO_HPARAMS_SUCCESS;
	if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
		return PIO_HPARAMS_FAILURE;
	return strcmp(status, "running") == 0 ? PIO_HPARAMS_RUNNING : PIO_HPARAMS_UNKNOWN;
}

static int load_run(job *j, const char *dir, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(j->store, err, "SELECT e.name || '-' || r.number, r.status,"
	                                  " coalesce(r.started_ns, r.created_ns),"
	                                  " coalesce(r.ended_ns, r.created_ns) FROM run r JOIN experiment e"
	                                  " ON e.id = r.experiment_id WHERE r.id = ?1", "i", j->run_id);
	int rc = row ? pio_sql_row(j->store, row, err) : -PIO_EIO;
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no run with id %lld", (long long)j->run_id);
	if (rc < 0)
		return rc;
	pio_str_puts(&j->name, (const char *)sqlite3_column_text(row, 0));
	j->end = end_of((const char *)sqlite3_column_text(row, 1));
	j->begun_ns = sqlite3_column_int64(row, 2);
	j->ended_ns = sqlite3_column_int64(row, 3);
	pio_sql_reset(row);
	pio_str_printf(&j->target, "%s/%s", dir, j->name.data);
	pio_str_printf(&j->part, "%s/.%s.part", dir, j->name.data);
	rc = pio_str_check(&j->target, err);
	rc = rc ? rc : pio_str_check(&j->part, err);
	if (!rc && pio_fs_type(j->target.data) != PIO_FS_NONE)
		rc = pio_fail(err, PIO_EEXIST, "%s: exists already", j->target.data);
	return rc;
}

static int write_ranks(job *j, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(j->store, err, "SELECT 0 AS rank UNION SELECT rank FROM series WHERE"
	                                  " run_id = ?1 UNION SELECT rank FROM media WHERE run_id = ?1"
	                                  " UNION SELECT rank FROM event WHERE run_id = ?1 AND kind = 'text'"
	                                  " AND rank >= 0 ORDER BY 1", "i", j->run_id);
	int rc = row ? pio_sql_row(j->store, row, err) : -PIO_EIO;
	while (rc == 1) {
		j->rank = sqlite3_column_int(row, 0);
		int bad = write_rank(j, err);
		rc = bad ? bad : pio_sql_row(j->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

int pio_export_tensorboard(pio_tensorboard_counts *counts, pio_store *store, int64_t run_id,
                           const char *dir, pio_err *err)
{
	job j = { .store = store, .counts = counts, .run_id = run_id, .name = PIO_STR_INIT,
	          .target = PIO_STR_INIT, .part = PIO_STR_INIT };
	*counts = (pio_tensorboard_counts){ 0 };
	int rc = load_run(&j, dir, err);
	if (!rc)
		rc = pio_fs_mkdirs(dir, 0777, err);
	if (!rc)
		rc = pio_fs_remove_tree(j.part.data, err); /* of a death in between */
	if (!rc)
		rc = pio_fs_mkdirs(j.part.data, 0777, err);
	if (!rc)
		rc = write_ranks(&j, err);
	if (!rc)
		rc = pio_fs_sync_dir(j.part.data, err);
	if (!rc)
		rc = pio_fs_rename(j.part.data, j.target.data, err);
	if (!rc)
		rc = pio_fs_sync_dir(dir, err);
	pio_str_fini(&j.name);
	pio_str_fini(&j.target);
	pio_str_fini(&j.part);
	return rc;
}
