#include "store/cursor.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/chunk.h"
#include "store/sql.h"

/* ---- which chunks ------------------------------------------------------------------------- */

static int push_chunk(pio_series_cursor *cursor, size_t *capacity, const pio_cursor_chunk *chunk,
                      pio_err *err)
{
	if (cursor->chunks_count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 64;
		pio_cursor_chunk *grown = pio_realloc(cursor->chunks, more * sizeof *grown);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "no memory for a list of %zu chunks", more);
		cursor->chunks = grown;
		*capacity = more;
	}
	cursor->chunks[cursor->chunks_count++] = *chunk;
	return 0;
}

/* Rows come with the latest attempt first, so that what it hides is known. */
static int load_chunks(pio_series_cursor *cursor, int64_t series_id, int attempt, pio_err *err)
{
	size_t capacity = 0;
	bool cut = false;
	int64_t hidden_from = 0, first_of_attempt = INT64_MAX;
	int current = INT_MAX;
	sqlite3_stmt *row = pio_sql_query(cursor->store, err, "SELECT id, attempt, first_step, last_step,"
	                                  " count, finite, nans, min, max, sum FROM chunk WHERE series_id = ?1"
	                                  " AND (?2 = 0 OR attempt = ?2) ORDER BY attempt DESC, first_step, id", "ii",
	                                  series_id, (int64_t)attempt);
	int rc = row ? pio_sql_row(cursor->store, row, err) : -PIO_EIO;
	while (rc == 1) {
		pio_cursor_chunk chunk = {
			.id = sqlite3_column_int64(row, 0),
			.attempt = sqlite3_column_int(row, 1),
			.first_step = sqlite3_column_int64(row, 2), .last_step = sqlite3_column_int64(row, 3),
			.count = sqlite3_column_int64(row, 4), .finite = sqlite3_column_int64(row, 5),
			.nans = sqlite3_column_int64(row, 6), .min = sqlite3_column_double(row, 7),
			.max = sqlite3_column_double(row, 8), .sum = sqlite3_column_double(row, 9)
		};
		if (chunk.attempt != current) {
			if (current != INT_MAX && (!cut || first_of_attempt < hidden_from)) {
				hidden_from = first_of_attempt;
				cut = true;
			}
			current = chunk.attempt;
			first_of_attempt = chunk.first_step; /* rows of one attempt come by first_step */
		}
		bool visible = !cut || chunk.first_step < hidden_from;
		if (cut && visible && chunk.last_step >= hidden_from) {
			chunk.cut = true;
			chunk.hidden_from = hidden_from;
			chunk.last_step = hidden_from - 1;
		}
		visible = visible && chunk.first_step <= cursor->step_max &&
		          chunk.last_step >= cursor->step_min;
		int bad = visible ? push_chunk(cursor, &capacity, &chunk, err) : 0;
		rc = bad ? bad : pio_sql_row(cursor->store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

static int compare_chunks(const void *a, const void *b)
{
	const pio_cursor_chunk *x = a, *y = b;
	if (x->first_step != y->first_step)
		return x->first_step < y->first_step ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int compare_ids(const void *a, const void *b)
{
	const pio_cursor_chunk *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

int pio_series_cursor_open(pio_series_cursor *cursor, pio_store *store, int64_t series_id,
                           int64_t step_min, int64_t step_max, int attempt, pio_err *err)
{
	*cursor = (pio_series_cursor){ .store = store, .step_min = step_min, .step_max = step_max };
	int rc = load_chunks(cursor, series_id, attempt, err);
	if (!rc && cursor->chunks_count)
		qsort(cursor->chunks, cursor->chunks_count, sizeof *cursor->chunks, compare_chunks);
	if (!rc && sqlite3_prepare_v2(pio_store_db(store), "SELECT data FROM chunk WHERE id = ?1", -1,
	                              &cursor->blob, NULL) != SQLITE_OK)
		rc = pio_store_fail(store, err, "reading a chunk");
	if (rc)
		pio_series_cursor_close(cursor);
	return rc;
}

void pio_series_cursor_close(pio_series_cursor *cursor)
{
	sqlite3_finalize(cursor->blob);
	pio_free(cursor->chunks);
	pio_free(cursor->points);
	*cursor = (pio_series_cursor){ 0 };
}

/* ---- their points ---------------------------------------------------------------------------- */

static void keep_points(pio_series_cursor *cursor, const pio_cursor_chunk *chunk,
                        const pio_chunk_point *points, size_t count)
{
	bool all = !chunk->cut && chunk->first_step >= cursor->step_min &&
	           chunk->last_step <= cursor->step_max;
	for (size_t i = 0; i < count; i++) {
		int64_t step = points[i].step;
		if (!all && (step < cursor->step_min || step > cursor->step_max ||
		             (chunk->cut && step >= chunk->hidden_from)))
			continue;
		pio_point *p = &cursor->points[cursor->points_count++];
		p->step = step;
		p->time_ns = points[i].time_ns;
		p->attempt = chunk->attempt;
		memcpy(&p->value, &points[i].bits, 8);
		p->integer = points[i].integer != 0;
	}
}

static int load_chunk(pio_series_cursor *cursor, const pio_cursor_chunk *chunk,
                      pio_chunk_point *block, pio_err *err)
{
	size_t count = 0;
	pio_chunk_codec *codec = pio_store_codec(cursor->store, err);
	if (!codec)
		return -PIO_ENOMEM;
	sqlite3_bind_int64(cursor->blob, 1, chunk->id);
	int step = sqlite3_step(cursor->blob);
	int rc = step == SQLITE_ROW
		? pio_chunk_decode_some(block, &count, codec, sqlite3_column_blob(cursor->blob, 0),
		                        (size_t)sqlite3_column_bytes(cursor->blob, 0), !cursor->no_times, err)
		: step == SQLITE_DONE ? 0 : pio_store_fail(cursor->store, err, "reading a chunk");
	if (rc == -PIO_ECORRUPT || rc == -PIO_EVERSION)
		pio_err_context(err, "store %s, chunk %lld", pio_store_path(cursor->store),
		                (long long)chunk->id);
	sqlite3_reset(cursor->blob);
	if (rc || !count)
		return rc;
	if (cursor->points_count + count > cursor->points_capacity) {
		size_t capacity = cursor->points_capacity ? cursor->points_capacity * 2 : PIO_CHUNK_POINTS_MAX;
		pio_point *grown = pio_realloc(cursor->points, capacity * sizeof *grown);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "no memory for %zu points", capacity);
		cursor->points = grown;
		cursor->points_capacity = capacity;
	}
	keep_points(cursor, chunk, block, count);
	return 0;
}

/* Stable, by step; chunks are mostly sorted, which costs one pass. */
static int sort_points(pio_point *points, size_t count, pio_err *err)
{
	size_t i = 1;
	while (i < count && points[i - 1].step <= points[i].step)
		i++;
	if (i >= count)
		return 0;
	pio_point *other = pio_alloc(count * sizeof *other), *from = points, *to = other;
	if (!other)
		return pio_fail(err, PIO_ENOMEM, "no memory to sort %zu points", count);
	for (size_t width = 1; width < count; width *= 2) {
		for (size_t begin = 0; begin < count; begin += 2 * width) {
			size_t middle = begin + width < count ? begin + width : count;
			size_t end = middle + width < count ? middle + width : count;
			size_t a = begin, b = middle;
			for (size_t k = begin; k < end; k++) {
				bool left = a < middle && (b >= end || from[a].step <= from[b].step);
				to[k] = left ? from[a++] : from[b++];
			}
		}
		pio_point *swap = from;
		from = to;
		to = swap;
	}
	if (from != points)
		memcpy(points, from, count * sizeof *points);
	pio_free(other);
	return 0;
}

/* Chunks whose steps overlap make one group; most groups are one chunk. */
static int load_group(pio_series_cursor *cursor, pio_err *err)
{
	size_t begin = cursor->next_chunk, end = begin + 1;
	int64_t last = cursor->chunks[begin].last_step;
	while (end < cursor->chunks_count && cursor->chunks[end].first_step <= last) {
		if (cursor->chunks[end].last_step > last)
			last = cursor->chunks[end].last_step;
		end++;
	}
	qsort(cursor->chunks + begin, end - begin, sizeof *cursor->chunks, compare_ids);
	cursor->next_chunk = end;
	cursor->points_count = cursor->at = 0;
	pio_chunk_point *block = pio_alloc(sizeof *block * PIO_CHUNK_POINTS_MAX);
	int rc = block ? 0 : pio_fail(err, PIO_ENOMEM, "no memory to read a chunk");
	for (size_t i = begin; !rc && i < end; i++)
		rc = load_chunk(cursor, &cursor->chunks[i], block, err);
	pio_free(block);
	return rc ? rc : sort_points(cursor->points, cursor->points_count, err);
}

/* 1: there are points from `at` on; 0: the end. */
static int fill(pio_series_cursor *cursor, pio_err *err)
{
	while (cursor->at >= cursor->points_count) {
		if (cursor->next_chunk >= cursor->chunks_count)
			return 0;
		int rc = load_group(cursor, err);
		if (rc)
			return rc;
	}
	return 1;
}

int pio_series_cursor_next(const pio_point **point, pio_series_cursor *cursor, pio_err *err)
{
	int rc = cursor->at < cursor->points_count ? 1 : fill(cursor, err);
	if (rc == 1)
		*point = &cursor->points[cursor->at++];
	return rc;
}

int pio_series_cursor_group(const pio_point **points, size_t *count, pio_series_cursor *cursor,
                            pio_err *err)
{
	int rc = fill(cursor, err);
	if (rc != 1)
		return rc;
	*points = cursor->points + cursor->at;
	*count = cursor->points_count - cursor->at;
	cursor->at = cursor->points_count;
	return 1;
}

int pio_series_value_at(double *value, bool *found, pio_store *store, int64_t series_id,
                        int64_t step, pio_err *err)
{
	pio_series_cursor cursor;
	const pio_point *point;
	*found = false;
	int rc = pio_series_cursor_open(&cursor, store, series_id, INT64_MIN, step, 0, err);
	if (rc)
		return rc;
	/* The last chunk that begins at or before the step bounds the search. */
	if (cursor.chunks_count)
		cursor.step_min = cursor.chunks[cursor.chunks_count - 1].first_step;
	size_t kept = 0;
	for (size_t i = 0; i < cursor.chunks_count; i++)
		if (cursor.chunks[i].last_step >= cursor.step_min)
			cursor.chunks[kept++] = cursor.chunks[i];
	cursor.chunks_count = kept;
	while ((rc = pio_series_cursor_next(&point, &cursor, err)) == 1) {
		*value = pio_point_real(point);
		*found = true;
	}
	pio_series_cursor_close(&cursor);
	return rc;
}
