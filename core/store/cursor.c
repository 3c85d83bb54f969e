#include "store/cursor.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/recent.h"

/* What is known of recent points. */
typedef struct newest {
	size_t count;
	int attempt;
	int64_t first_step;         /* INT64_MAX: there is none */
} newest;

/* ---- which chunks ------------------------------------------------------------------------- */

static int push_chunk(pio_series_cursor *cursor, const pio_cursor_chunk *chunk, pio_err *err)
{
	int rc = pio_grow(&cursor->chunks, &cursor->chunks_capacity, cursor->chunks_end, "chunks", err);
	if (!rc)
		cursor->chunks[cursor->chunks_end++] = *chunk;
	return rc;
}

static bool is_within(const pio_series_cursor *cursor, const pio_cursor_chunk *chunk)
{
	return chunk->first_step <= cursor->step_max && chunk->last_step >= cursor->step_min;
}

static pio_cursor_chunk read_chunk(sqlite3_stmt *row)
{
	return (pio_cursor_chunk){
		.id = sqlite3_column_int64(row, 0),
		.attempt = sqlite3_column_int(row, 1),
		.first_step = sqlite3_column_int64(row, 2), .last_step = sqlite3_column_int64(row, 3),
		.count = sqlite3_column_int64(row, 4), .finite = sqlite3_column_int64(row, 5),
		.nans = sqlite3_column_int64(row, 6), .min = sqlite3_column_double(row, 7),
		.max = sqlite3_column_double(row, 8), .sum = sqlite3_column_double(row, 9)
	};
}

/* Points that are no chunks yet are like chunks, logged after all others. */
static int load_recent(pio_series_cursor *cursor, const newest *recent, pio_err *err)
{
	int rc = 0;
	for (size_t begin = 0, n; !rc && begin < recent->count; begin += n) {
		n = recent->count - begin < PIO_CHUNK_POINTS_MAX ? recent->count - begin : PIO_CHUNK_POINTS_MAX;
		pio_chunk_stats s;
		pio_chunk_stats_init(&s);
		pio_chunk_stats_add(&s, cursor->recent + begin, n);
		pio_cursor_chunk chunk = {
			.id = INT64_MAX - (int64_t)(recent->count - begin), .attempt = recent->attempt,
			.first_step = s.first_step, .last_step = s.last_step, .count = s.count,
			.finite = s.finite, .nans = s.nans, .min = s.min, .max = s.max, .sum = s.sum,
			.points = cursor->recent + begin
		};
		if (is_within(cursor, &chunk))
			rc = push_chunk(cursor, &chunk, err);
	}
	return rc;
}

/* Rows come with the latest attempt first, so that what it hides is known. */
static int load_chunks(pio_series_cursor *cursor, sqlite3_stmt *row, const newest *recent, pio_err *err)
{
	bool cut = false;
	int64_t hidden_from = 0, first_of_attempt = recent->first_step;
	int current = recent->count ? recent->attempt : INT_MAX, rc = 0, step;
	while (!rc && (step = sqlite3_step(row)) != SQLITE_DONE) {
		if (step != SQLITE_ROW)
			return pio_reader_fail(cursor->reader, err, "listing chunks");
		pio_cursor_chunk chunk = read_chunk(row);
		if (chunk.attempt != current) {
			if (current != INT_MAX && (!cut || first_of_attempt < hidden_from)) {
				hidden_from = first_of_attempt;
				cut = true;
			}
			current = chunk.attempt;
			first_of_attempt = INT64_MAX;
		}
		first_of_attempt = chunk.first_step < first_of_attempt ? chunk.first_step : first_of_attempt;
		if (cut && chunk.first_step >= hidden_from)
			continue;
		if (cut && chunk.last_step >= hidden_from) {
			chunk.cut = true;
			chunk.hidden_from = hidden_from;
			chunk.last_step = hidden_from - 1;
		}
		if (is_within(cursor, &chunk))
			rc = push_chunk(cursor, &chunk, err);
	}
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

static void set_reach(pio_series_cursor *cursor)
{
	int64_t reach = INT64_MIN;
	for (size_t i = 0; i < cursor->chunks_end; i++) {
		pio_cursor_chunk *chunk = &cursor->chunks[i];
		chunk->reach = reach = chunk->last_step > reach ? chunk->last_step : reach;
	}
}

/* Recent points of the attempt asked for, if there are any. */
static int find_recent(newest *recent, pio_series_cursor *cursor, int64_t series_id, int attempt,
                       pio_err *err)
{
	int rc = pio_recent_of_series(&cursor->recent, &recent->count, &recent->attempt, cursor->reader,
	                              series_id, err);
	recent->first_step = INT64_MAX;
	if (attempt && attempt != recent->attempt)
		recent->count = 0;
	for (size_t i = 0; !rc && i < recent->count; i++)
		if (cursor->recent[i].step < recent->first_step)
			recent->first_step = cursor->recent[i].step;
	return rc;
}

int pio_series_cursor_open(pio_series_cursor *cursor, pio_reader *reader, int64_t series_id,
                           int64_t step_min, int64_t step_max, int attempt, pio_err *err)
{
	newest recent;
	*cursor = (pio_series_cursor){ .step_min = step_min, .step_max = step_max };
	int rc = pio_reader_hold(reader, err);
	if (rc)
		return rc;
	cursor->reader = reader;
	rc = find_recent(&recent, cursor, series_id, attempt, err);
	sqlite3_stmt *row = rc ? NULL : pio_reader_statement(reader, PIO_READER_CHUNKS, err);
	if (row) {
		sqlite3_bind_int64(row, 1, series_id);
		sqlite3_bind_int(row, 2, attempt);
		rc = load_chunks(cursor, row, &recent, err);
		sqlite3_reset(row);
	} else if (!rc) {
		rc = pio_err_code(err);
	}
	if (!rc)
		rc = load_recent(cursor, &recent, err);
	if (rc)
		pio_series_cursor_close(cursor);
	else if (cursor->chunks_end)
		qsort(cursor->chunks, cursor->chunks_end, sizeof *cursor->chunks, compare_chunks);
	set_reach(cursor);
	return rc;
}

int pio_series_cursor_open_part(pio_series_cursor *cursor, const pio_series_cursor *whole,
                                int64_t step_min, int64_t step_max, pio_err *err)
{
	*cursor = (pio_series_cursor){ .step_min = step_min, .step_max = step_max,
	                               .no_times = whole->no_times };
	int rc = pio_reader_hold(whole->reader, err);
	if (rc)
		return rc;
	cursor->reader = whole->reader;
	for (size_t i = whole->chunks_begin;
	     !rc && i < whole->chunks_end && whole->chunks[i].first_step <= step_max; i++)
		if (is_within(cursor, &whole->chunks[i]))
			rc = push_chunk(cursor, &whole->chunks[i], err);
	set_reach(cursor);
	if (rc)
		pio_series_cursor_close(cursor);
	return rc;
}

void pio_series_cursor_close(pio_series_cursor *cursor)
{
	if (cursor->reader)
		pio_reader_release(cursor->reader);
	pio_free(cursor->chunks);
	pio_free(cursor->points);
	pio_free(cursor->recent);
	*cursor = (pio_series_cursor){ 0 };
}

/* ---- their points ---------------------------------------------------------------------------- */

void pio_points_of_chunk(pio_point *points, const pio_chunk_point *chunk, size_t count, int attempt)
{
	for (size_t i = 0; i < count; i++) {
		points[i].step = chunk[i].step;
		points[i].time_ns = chunk[i].time_ns;
		points[i].whole = (int64_t)chunk[i].bits; /* the eight bytes, whatever they are */
		points[i].attempt = attempt;
		points[i].integer = chunk[i].integer != 0;
	}
}

static void keep_points(pio_series_cursor *cursor, const pio_cursor_chunk *chunk,
                        pio_chunk_point *points, size_t count)
{
	bool all = !chunk->cut && chunk->first_step >= cursor->step_min &&
	           chunk->last_step <= cursor->step_max;
	size_t kept = all ? count : 0;
	for (size_t i = 0; !all && i < count; i++) {
		int64_t step = points[i].step;
		if (step >= cursor->step_min && step <= cursor->step_max &&
		    (!chunk->cut || step < chunk->hidden_from))
			points[kept++] = points[i];
	}
	pio_points_of_chunk(cursor->points + cursor->points_count, points, kept, chunk->attempt);
	cursor->points_count += kept;
}

static int load_chunk(pio_series_cursor *cursor, const pio_cursor_chunk *chunk,
                      pio_chunk_point *block, pio_err *err)
{
	size_t count = (size_t)chunk->count;
	int rc = 0;
	if (chunk->points)
		memcpy(block, chunk->points, count * sizeof *block);
	else
		rc = pio_reader_chunk(block, &count, cursor->reader, chunk->id, !cursor->no_times, err);
	if (rc)
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

int pio_points_sort(pio_point *points, size_t count, pio_err *err)
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

/* True where chunk i has steps among those of the chunks before it. */
static bool is_joined(const pio_series_cursor *cursor, size_t i)
{
	return cursor->chunks[i].first_step <= cursor->chunks[i - 1].reach;
}

void pio_series_cursor_span(int64_t *first, int64_t *last, const pio_series_cursor *cursor)
{
	*first = INT64_MAX;
	*last = INT64_MIN;
	if (cursor->chunks_begin == cursor->chunks_end)
		return;
	int64_t begin = cursor->chunks[cursor->chunks_begin].first_step;
	int64_t end = cursor->chunks[cursor->chunks_end - 1].reach;
	*first = begin < cursor->step_min ? cursor->step_min : begin;
	*last = end > cursor->step_max ? cursor->step_max : end;
}

bool pio_series_cursor_is_plain(const pio_series_cursor *cursor)
{
	size_t next = cursor->chunks_begin + 1;
	const pio_cursor_chunk *chunk = &cursor->chunks[next - 1];
	return !chunk->cut && !chunk->points && (next >= cursor->chunks_end || !is_joined(cursor, next));
}

/* Chunks whose steps overlap make one group; most groups are one chunk. Take
 * the next group, [*begin, *end), out of those still to be read. */
static void take_group(pio_series_cursor *cursor, size_t *begin, size_t *end)
{
	*begin = cursor->chunks_begin;
	*end = cursor->chunks_end;
	if (cursor->backwards) {
		for (*begin = *end - 1; *begin > cursor->chunks_begin && is_joined(cursor, *begin);)
			--*begin;
		cursor->chunks_end = *begin;
	} else {
		for (*end = *begin + 1; *end < cursor->chunks_end && is_joined(cursor, *end);)
			++*end;
		cursor->chunks_begin = *end;
	}
}

static void reverse(pio_point *points, size_t count)
{
	for (size_t i = 0; i < count / 2; i++) {
		pio_point swap = points[i];
		points[i] = points[count - 1 - i];
		points[count - 1 - i] = swap;
	}
}

static int load_group(pio_series_cursor *cursor, pio_err *err)
{
	size_t begin, end;
	take_group(cursor, &begin, &end);
	qsort(cursor->chunks + begin, end - begin, sizeof *cursor->chunks, compare_ids);
	cursor->points_count = cursor->at = 0;
	pio_chunk_point *block = pio_alloc(sizeof *block * PIO_CHUNK_POINTS_MAX);
	int rc = block ? 0 : pio_fail(err, PIO_ENOMEM, "no memory to read a chunk");
	for (size_t i = begin; !rc && i < end; i++)
		rc = load_chunk(cursor, &cursor->chunks[i], block, err);
	pio_free(block);
	if (!rc)
		rc = pio_points_sort(cursor->points, cursor->points_count, err);
	if (!rc && cursor->backwards)
		reverse(cursor->points, cursor->points_count);
	return rc;
}

/* 1: there are points from `at` on; 0: the end. */
static int fill(pio_series_cursor *cursor, pio_err *err)
{
	while (cursor->at >= cursor->points_count) {
		if (cursor->chunks_begin >= cursor->chunks_end)
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
