#include "store/recount.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/sql.h"

static double column_real(sqlite3_stmt *row, int column)
{
	return sqlite3_column_type(row, column) == SQLITE_NULL ? (double)NAN
	                                                       : sqlite3_column_double(row, column);
}

void pio_stats_read(pio_chunk_stats *stats, sqlite3_stmt *row, int at)
{
	*stats = (pio_chunk_stats){
		.count = sqlite3_column_int64(row, at),
		.first_step = sqlite3_column_int64(row, at + 1),
		.last_step = sqlite3_column_int64(row, at + 2),
		.first_ns = sqlite3_column_int64(row, at + 3),
		.last_ns = sqlite3_column_int64(row, at + 4),
		.min = column_real(row, at + 5),
		.min_step = sqlite3_column_int64(row, at + 6),
		.max = column_real(row, at + 7),
		.max_step = sqlite3_column_int64(row, at + 8),
		.sum = column_real(row, at + 9),
		.sum_low = sqlite3_column_double(row, at + 10),
		.finite = sqlite3_column_int64(row, at + 11),
		.nans = sqlite3_column_int64(row, at + 12),
	};
}

typedef struct segment {
	int attempt;
	int64_t first_step, hidden_from; /* INT64_MAX with `whole`: nothing is hidden */
	bool whole;
} segment;

/* Attempts of a series, the latest first, with the step from which later ones
 * hide them. `recent_of` has points from first_step on that are no chunks; 0: none. */
static int load_segments(segment **segments, size_t *count, pio_store *store, int64_t series_id,
                         int recent_of, int64_t first_step, pio_err *err)
{
	size_t capacity = 0;
	*segments = NULL;
	*count = 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT attempt, min(first_step) FROM (SELECT attempt,"
	                                  " first_step FROM chunk WHERE series_id = ?1 UNION ALL"
	                                  " SELECT ?2, ?3 WHERE ?2) GROUP BY attempt ORDER BY attempt DESC",
	                                  "iii", series_id, (int64_t)recent_of, first_step);
	int rc = pio_sql_row(store, row, err);
	for (; rc == 1; rc = pio_sql_row(store, row, err)) {
		int bad = pio_grow(segments, &capacity, *count, "attempts of a series", err);
		if (bad) {
			pio_sql_reset(row);
			return bad;
		}
		segment *s = *segments + *count;
		*s = (segment){ sqlite3_column_int(row, 0), sqlite3_column_int64(row, 1), INT64_MAX,
		                *count == 0 };
		if (*count) {
			int64_t later = s[-1].first_step;
			s->hidden_from = !s[-1].whole && s[-1].hidden_from < later ? s[-1].hidden_from : later;
		}
		++*count;
	}
	return rc;
}

/* Columns from `at`: data. *count is 0 where it cannot be decoded. */
static int decode_row(pio_chunk_point *points, size_t *count, pio_store *store, sqlite3_stmt *row,
                      int at, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	pio_chunk_codec *codec = pio_store_codec(store, err);
	if (!codec)
		return -PIO_ENOMEM;
	int rc = pio_chunk_decode(points, count, codec, sqlite3_column_blob(row, at),
	                          (size_t)sqlite3_column_bytes(row, at), &why);
	*count = rc ? 0 : *count;
	return !rc || pio_chunk_is_damaged(rc) ? 0 : pio_fail(err, why.code, "%s", why.message);
}

/* *last_chunk: the chunk that holds the newest value at stats->last_step, when
 * that value itself is not in stats yet; else 0. */
static int add_visible(pio_chunk_stats *stats, int64_t *last_chunk, pio_store *store,
                       const segment *s, pio_chunk_point *points, sqlite3_stmt *row, pio_err *err)
{
	pio_chunk_stats chunk;
	pio_stats_read(&chunk, row, 0);
	if (!s->whole && chunk.first_step >= s->hidden_from)
		return 0;
	if (s->whole || chunk.last_step < s->hidden_from) {
		if (!stats->count || chunk.last_step >= stats->last_step)
			*last_chunk = sqlite3_column_int64(row, 14);
		pio_chunk_stats_merge(stats, &chunk);
		return 0;
	}
	size_t count, kept = 0;
	int rc = decode_row(points, &count, store, row, 13, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < count; i++)
		if (points[i].step < s->hidden_from)
			points[kept++] = points[i];
	pio_chunk_stats part;
	pio_chunk_stats_init(&part);
	pio_chunk_stats_add(&part, points, kept);
	if (kept && (!stats->count || part.last_step >= stats->last_step))
		*last_chunk = 0;
	pio_chunk_stats_merge(stats, &part);
	return 0;
}

static int find_last(pio_chunk_stats *stats, pio_store *store, int64_t chunk_id,
                     pio_chunk_point *points, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT data FROM chunk WHERE id = ?1", "i",
	                                  chunk_id);
	int rc = pio_sql_row(store, row, err);
	size_t count = 0;
	if (rc == 1)
		rc = decode_row(points, &count, store, row, 0, err);
	pio_sql_reset(row);
	for (size_t i = 0; !rc && i < count; i++)
		if (points[i].step == stats->last_step) {
			stats->last_bits = points[i].bits;
			stats->last_integer = points[i].integer;
		}
	return rc;
}

int pio_recount(pio_chunk_stats *stats, pio_store *store, int64_t series_id, int recent_of,
                const pio_chunk_stats *recent, pio_err *err)
{
	segment *segments = NULL;
	size_t count = 0;
	int64_t last_chunk = 0;
	pio_chunk_stats_init(stats);
	pio_chunk_point *points = pio_alloc(sizeof *points * PIO_CHUNK_POINTS_MAX);
	int rc = points ? load_segments(&segments, &count, store, series_id, recent_of,
	                                recent->first_step, err)
	                : pio_fail(err, PIO_ENOMEM, "out of memory to recount a series");
	for (size_t i = count; !rc && i-- > 0;) {
		sqlite3_stmt *row = pio_sql_query(store, err, "SELECT count, first_step, last_step, first_ns,"
		                                  " last_ns, min, min_step, max, max_step, sum, sum_low,"
		                                  " finite, nans, data, id FROM chunk WHERE"
		                                  " series_id = ?1 AND attempt = ?2 ORDER BY id", "ii", series_id,
		                                  (int64_t)segments[i].attempt);
		rc = pio_sql_row(store, row, err);
		while (rc == 1) {
			int bad = add_visible(stats, &last_chunk, store, &segments[i], points, row, err);
			rc = bad ? bad : pio_sql_row(store, row, err);
		}
		pio_sql_reset(row);
	}
	if (recent->count && (!stats->count || recent->last_step >= stats->last_step))
		last_chunk = 0;
	pio_chunk_stats_merge(stats, recent);
	if (!rc && last_chunk)
		rc = find_last(stats, store, last_chunk, points, err);
	pio_free(segments);
	pio_free(points);
	return rc;
}
