/* cursor.h: the points of one series in the order of their steps, without
 * holding more than overlapping chunks in memory; for this
 * room and for core/exchange.
 *
 * Several cursors may be open at once; all see the store as it was when the
 * first of them was opened. The connection must not write chunks of the series
 * meanwhile. */
#ifndef PIO_STORE_CURSOR_H
#define PIO_STORE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/point.h"
#include "store/reader.h"

typedef struct pio_cursor_chunk {
	int64_t id, first_step, last_step;  /* of what is visible in it */
	int64_t reach;                      /* largest last_step of this and all earlier ones */
	int64_t hidden_from;                /* with `cut`: points from this step on are hidden */
	int64_t count, finite, nans;        /* of all its points, as are the aggregates */
	double min, max, sum;
	const pio_chunk_point *points;      /* of recent ones, the cursor's; NULL: they are in a row */
	int32_t attempt;
	bool cut;
} pio_cursor_chunk;

typedef struct pio_series_cursor {
	pio_reader *reader;
	int64_t step_min, step_max;
	bool no_times;                      /* set after opening: times are not unpacked */
	bool backwards;                     /* set after opening: from the last point to the first */
	pio_cursor_chunk *chunks;           /* by first_step, then in the order logged */
	size_t chunks_begin, chunks_end;    /* those still to be read */
	size_t chunks_capacity;
	pio_chunk_point *recent;            /* points that are no chunks in the store yet (recent.h) */
	pio_point *points;                  /* of the group at hand */
	size_t points_count, points_capacity, at;
} pio_series_cursor;

/* attempt 0: what reads show; else all of that attempt. */
int pio_series_cursor_open(pio_series_cursor *cursor, pio_reader *reader, int64_t series_id,
                           int64_t step_min, int64_t step_max, int attempt, pio_err *err);
/* A cursor over the steps of `whole`, which has been opened and not been read
 * from, that lie within bounds. It is closed before `whole`. */
int pio_series_cursor_open_part(pio_series_cursor *cursor, const pio_series_cursor *whole,
                                int64_t step_min, int64_t step_max, pio_err *err);
/* 1 and the next point, borrowed until the next call; 0 at the end. */
int pio_series_cursor_next(const pio_point **point, pio_series_cursor *cursor, pio_err *err);
/* 1 and the next points, at least one, by step; borrowed until the next call. */
int pio_series_cursor_group(const pio_point **points, size_t *count, pio_series_cursor *cursor,
                            pio_err *err);
/* Bounds of the steps still to be read; first > last where there is none. */
void pio_series_cursor_span(int64_t *first, int64_t *last, const pio_series_cursor *cursor);
/* True where the next chunk is whole, in a row, and overlaps no other. */
bool pio_series_cursor_is_plain(const pio_series_cursor *cursor);
/* Idempotent; also after a failed or absent open of a zeroed cursor. */
void pio_series_cursor_close(pio_series_cursor *cursor);

/* ---- on the way ---- */
void pio_points_of_chunk(pio_point *points, const pio_chunk_point *chunk, size_t count, int attempt);
/* Stable, by step; what is sorted already costs one pass. */
int pio_points_sort(pio_point *points, size_t count, pio_err *err);

#endif
