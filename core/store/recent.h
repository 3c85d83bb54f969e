/* recent.h: points that are folded and no chunks yet.
 *
 * Of a run with thousands of series a fold brings a few points of each. To
 * change as many rows every 2 s would cost more than all else that pioche does,
 * so such points lie in rows of `recent` for half a minute, all of one rank's
 * series in a row, until there are enough of them for a chunk
 * (core/store/fold_recent.c). Whatever reads points or what is known of a
 * series reads these rows as well (cursor.h, series_now.h).
 *
 * Invariants:
 *  1. A point is in a chunk or in a recent row, never in both.
 *  2. Rows in the order of their ids, behind all chunks of their attempt, are
 *     the points of a series in the order logged.
 *  3. All recent rows of a run are of one attempt, and no chunk of the run is of
 *     a later one.
 *  4. A row of `series` says what its chunks say.
 *  5. A journal that is done has no recent rows.
 *
 * The data of a row: a varint of the number of series; for each a varint of its
 * id, less that of the one before it, zigzag, and a varint of how many points it
 * has; then one chunk (chunk.h) of all points, series after series, those of a
 * series in the order logged. Varints are LEB128. */
#ifndef PIO_STORE_RECENT_H
#define PIO_STORE_RECENT_H

#include <stddef.h>
#include <stdint.h>

#include "store/reader.h"

/* A row. */
typedef struct pio_recent {
	size_t series_count, count;
	int64_t series_id[PIO_CHUNK_POINTS_MAX];
	uint32_t series_points[PIO_CHUNK_POINTS_MAX];  /* at least 1 each, `count` in all */
	pio_chunk_point points[PIO_CHUNK_POINTS_MAX];
} pio_recent;

/* PIO_ECORRUPT for anything that cannot have been written. */
int pio_recent_decode(pio_recent *recent, pio_chunk_decoder *decoder, const uint8_t *data,
                      size_t size_bytes, pio_err *err);

/* All recent points of a series in the order logged, and their attempt; *points
 * is NULL where there is none. The caller frees it with pio_free. */
int pio_recent_of_series(pio_chunk_point **points, size_t *count, int *attempt, pio_reader *reader,
                         int64_t series_id, pio_err *err);

#endif
