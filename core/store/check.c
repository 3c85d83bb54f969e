#include "store/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/archive.h"
#include "store/fold.h"
#include "store/mend.h"
#include "store/recent.h"
#include "store/sql.h"
#include "store/tail.h"
#include "sys/journal.h"

#define CLOSE 1e-9 /* sums of the same values, added in another order */

typedef struct damage {
	int64_t id;
	bool is_recent;             /* a row of `recent`; else a chunk */
	char why[120];
} damage;

typedef struct check {
	pio_check_result *result;
	pio_store *store;
	bool fix;
	pio_check_report *report;
	void *context;
	int64_t chunks_total;
	pio_chunk_point *points;
	damage *found;              /* what cannot be decoded, or is not what it says */
	size_t found_count, found_capacity;
} check;

static int tell(const check *c, pio_err *err, const char *format, int64_t id, const char *what)
{
	pio_str finding = PIO_STR_INIT;
	pio_str_printf(&finding, format, (long long)id, what);
	int rc = pio_str_check(&finding, err);
	if (!rc && c->report)
		c->report(c->context, finding.data, c->result->chunks, c->chunks_total);
	pio_str_fini(&finding);
	return rc;
}

/* ---- damage ------------------------------------------------------------------------------ */

static int keep(check *c, int64_t id, bool is_recent, const char *why, pio_err *err)
{
	c->result->bad_chunks++;
	int rc = pio_grow(&c->found, &c->found_capacity, c->found_count, "damaged rows", err);
	if (rc)
		return rc;
	damage *d = &c->found[c->found_count++];
	*d = (damage){ .id = id, .is_recent = is_recent };
	snprintf(d->why, sizeof d->why, "%s", why);
	return tell(c, err, is_recent ? "recent row %lld: %s" : "chunk %lld: %s", id, d->why);
}

static int note(pio_store *store, const damage *d, pio_err *err)
{
	if (!d->is_recent)
		return pio_mend_note_chunk(store, d->id, d->why, err);
	int rc = pio_mend_note_recent(store, d->id, d->why, err);
	return rc ? rc : pio_sql_exec(store, err, "DELETE FROM recent WHERE id = ?1", "i", d->id);
}

/* So that it can be mended; a row of `recent`, which would keep the others from
 * being read, is taken out. */
static int note_all(check *c, pio_err *err)
{
	int rc = c->found_count ? pio_store_begin(c->store, err) : 0;
	if (rc || !c->found_count)
		return rc;
	for (size_t i = 0; !rc && i < c->found_count; i++)
		rc = note(c->store, &c->found[i], err);
	if (!rc)
		return pio_store_commit(c->store, err);
	pio_store_rollback(c->store);
	return rc;
}

/* ---- chunks ------------------------------------------------------------------------------ */

/* NaN stands for none, and is NULL in a row. */
static bool is_real(sqlite3_stmt *row, int column, double value)
{
	if (sqlite3_column_type(row, column) == SQLITE_NULL)
		return isnan(value);
	double there = sqlite3_column_double(row, column);
	return there == value || fabs(there - value) <= CLOSE * fabs(value);
}

static bool is_int(sqlite3_stmt *row, int column, int64_t value)
{
	return sqlite3_column_int64(row, column) == value;
}

/* Columns from `at`: count, first_step, last_step, min, max, sum, finite, nans. */
static bool is_told(sqlite3_stmt *row, int at, const pio_chunk_stats *s)
{
	return is_int(row, at, s->count) && is_int(row, at + 1, s->first_step) &&
	       is_int(row, at + 2, s->last_step) && is_real(row, at + 3, s->min) &&
	       is_real(row, at + 4, s->max) && is_real(row, at + 5, s->sum) &&
	       is_int(row, at + 6, s->finite) && is_int(row, at + 7, s->nans);
}

static int check_chunk(check *c, sqlite3_stmt *row, bool *good, pio_err *err)
{
	pio_chunk_stats stats;
	pio_err why = PIO_ERR_INIT;
	size_t count = 0;
	pio_chunk_codec *codec = pio_store_codec(c->store, err);
	if (!codec)
		return -PIO_ENOMEM;
	int64_t id = sqlite3_column_int64(row, 0);
	int rc = pio_chunk_decode(c->points, &count, codec, sqlite3_column_blob(row, 1),
	                          (size_t)sqlite3_column_bytes(row, 1), &why);
	c->result->chunks++;
	c->result->points += (int64_t)count;
	if (rc && !pio_chunk_is_damaged(rc))
		return pio_fail(err, why.code, "%s", why.message);
	pio_chunk_stats_init(&stats);
	pio_chunk_stats_add(&stats, c->points, count);
	*good = !rc && is_told(row, 2, &stats);
	return *good ? 0 : keep(c, id, false, rc ? why.message : "it holds other points than its row says", err);
}

static int check_chunks(check *c, int64_t series_id, bool *good, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(c->store, err, "SELECT id, data, count, first_step, last_step, min,"
	                                  " max, sum, finite, nans FROM chunk WHERE series_id = ?1", "i",
	                                  series_id);
	int rc = row ? pio_sql_row(c->store, row, err) : -PIO_EIO;
	*good = true;
	while (rc == 1) {
		bool one = false;
		int failed = check_chunk(c, row, &one, err);
		*good = *good && one;
		rc = failed ? failed : pio_sql_row(c->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

/* ---- series ------------------------------------------------------------------------------ */

static bool is_last(sqlite3_stmt *row, const pio_chunk_stats *s)
{
	double last = sqlite3_column_double(row, 8);
	uint64_t bits;
	memcpy(&bits, &last, sizeof bits);
	if ((sqlite3_column_type(row, 10) != SQLITE_NULL) != (s->last_integer != 0))
		return false;
	if (s->last_integer)
		return (uint64_t)sqlite3_column_int64(row, 10) == s->last_bits;
	if (sqlite3_column_type(row, 9) != SQLITE_NULL)
		bits = (uint64_t)sqlite3_column_int64(row, 9);
	return bits == s->last_bits;
}

/* *told: the row says what its chunks do. */
static int compare_series(check *c, int64_t series_id, bool *told, pio_err *err)
{
	pio_chunk_stats stats;
	int rc = pio_tail_recount(&stats, c->store, series_id, err);
	if (rc)
		return rc;
	sqlite3_stmt *row = pio_sql_query(c->store, err, "SELECT count, first_step, last_step, min, max, sum,"
	                                  " finite, nans, last, last_bits, last_int FROM main.series WHERE id ="
	                                  " ?1",
	                                  "i", series_id);
	rc = row ? pio_sql_row(c->store, row, err) : -PIO_EIO;
	*told = rc == 1 && (stats.count ? is_told(row, 0, &stats) && is_last(row, &stats)
	                                : is_int(row, 0, 0));
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

static int recount_series(check *c, int64_t series_id, pio_err *err)
{
	int rc = pio_store_begin(c->store, err);
	if (rc)
		return rc;
	rc = pio_tail_save_anew(c->store, series_id, err);
	if (!rc)
		rc = pio_store_commit(c->store, err);
	else
		pio_store_rollback(c->store);
	c->result->fixed += rc == 0;
	return rc;
}

static int check_series(check *c, int64_t series_id, pio_err *err)
{
	bool good = true, told = true;
	c->result->series++;
	int rc = check_chunks(c, series_id, &good, err);
	/* What a broken chunk held is known from its row alone: that is kept. */
	if (rc || !good)
		return rc;
	rc = compare_series(c, series_id, &told, err);
	if (rc || told)
		return rc;
	c->result->bad_series++;
	rc = tell(c, err, "series %lld %s", series_id, "says other than its points");
	return !rc && c->fix ? recount_series(c, series_id, err) : rc;
}

/* ---- points that are no chunks yet ------------------------------------------------------------ */

static int check_recent_row(check *c, pio_recent *recent, pio_chunk_decoder *decoder, sqlite3_stmt *row,
                            pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int rc = pio_recent_decode(recent, decoder, sqlite3_column_blob(row, 1),
	                           (size_t)sqlite3_column_bytes(row, 1), &why);
	if (rc && !pio_chunk_is_damaged(rc))
		return pio_fail(err, why.code, "%s", why.message);
	c->result->points += rc ? 0 : (int64_t)recent->count;
	return rc ? keep(c, sqlite3_column_int64(row, 0), true, why.message, err) : 0;
}

static int check_recent(check *c, pio_err *err)
{
	pio_chunk_decoder *decoder = NULL;
	pio_recent *recent = pio_alloc(sizeof *recent);
	int rc = recent ? pio_chunk_decoder_new(&decoder, err)
	                : pio_fail(err, PIO_ENOMEM, "out of memory to check recent points");
	sqlite3_stmt *row = rc ? NULL : pio_sql_query(c->store, err, "SELECT id, data FROM recent", "");
	rc = rc ? rc : pio_sql_row(c->store, row, err);
	while (rc == 1) {
		int failed = check_recent_row(c, recent, decoder, row, err);
		rc = failed ? failed : pio_sql_row(c->store, row, err);
	}
	pio_sql_reset(row);
	pio_chunk_decoder_free(decoder);
	pio_free(recent);
	return rc;
}

/* One look a series, so that a writer need not wait for all of them. */
static int next_series(int64_t *series_id, pio_store *store, pio_err *err)
{
	return pio_sql_int(series_id, store, err, "SELECT min(id) FROM series WHERE id > ?1", "i", *series_id);
}

int pio_store_check_points(pio_check_result *result, pio_store *store, bool fix,
                           pio_check_report *report, void *context, pio_err *err)
{
	check c = { .result = result, .store = store, .fix = fix, .report = report, .context = context };
	int64_t series_id = 0;
	*result = (pio_check_result){ 0 };
	c.points = pio_alloc(sizeof *c.points * PIO_CHUNK_POINTS_MAX);
	if (!c.points)
		return pio_fail(err, PIO_ENOMEM, "out of memory to check points");
	int rc = pio_sql_int(&c.chunks_total, store, err, "SELECT count(*) FROM chunk", "");
	if (!rc)
		rc = next_series(&series_id, store, err);
	while (!rc && series_id) {
		rc = check_series(&c, series_id, err);
		if (!rc && report)
			report(context, NULL, result->chunks, c.chunks_total);
		if (!rc)
			rc = next_series(&series_id, store, err);
	}
	if (!rc)
		rc = check_recent(&c, err);
	if (!rc && fix)
		rc = note_all(&c, err);
	pio_free(c.found);
	pio_free(c.points);
	return rc;
}

/* ---- journals ----------------------------------------------------------------------------- */

static int count_records(pio_journal_look *look, pio_journal_reader *reader, int64_t from, pio_err *err)
{
	pio_record record;
	int rc = from > PIO_JOURNAL_HEADER_BYTES ? pio_journal_seek(reader, from, err) : 0;
	look->end = from;
	while (!rc && (rc = pio_journal_next(reader, &record, err)) == 1) {
		look->records++;
		look->end = record.end_offset;
		look->standalone = look->standalone || record.type == PIO_RECORD_RUN;
		rc = 0;
	}
	return rc;
}

int pio_store_refold(pio_store *store, int64_t attempt_id, pio_err *err)
{
	pio_fold_result folded;
	int rc = pio_sql_exec(store, err, "UPDATE journal SET done = 0 WHERE attempt_id = ?1", "i", attempt_id);
	return rc ? rc : pio_store_fold_attempt(&folded, store, attempt_id, true, err);
}

int pio_journal_look_at(pio_journal_look *look, const char *path, int64_t from, pio_err *err)
{
	pio_journal_reader *reader = NULL;
	pio_journal_header header;
	pio_err why = PIO_ERR_INIT;
	struct stat st;
	*look = (pio_journal_look){ .bytes = stat(path, &st) == 0 ? (int64_t)st.st_size : 0 };
	int rc = pio_archive_open(&reader, &header, path, &why);
	look->readable = rc == 0;
	if (rc == -PIO_ECORRUPT || rc == -PIO_EVERSION) {
		snprintf(look->why, sizeof look->why, "%s", why.message);
		return 0;
	}
	if (rc) {
		if (err)
			*err = why;
		return rc;
	}
	if (header.created_ns) {
		pio_ulid_format(&header.run, look->ulid);
		look->attempt = (int)header.attempt;
		look->node = (int)header.node;
	}
	rc = count_records(look, reader, from, err);
	pio_journal_reader_close(reader);
	return rc;
}
