/* tail.h: where new points of one attempt join a series.
 *
 * Invariants:
 *  1. Chunks in the order of their ids are the points in the order logged.
 *  2. Of one series and attempt, chunks of fewer than PIO_CHUNK_POINTS_MAX
 *     points ("open") come after all full ones, higher tiers first.
 *  3. The open chunks together hold fewer than PIO_CHUNK_POINTS_MAX points:
 *     when new points would reach that, all become one full chunk.
 *  4. Sixteen open chunks of one tier become one of the next.
 *  5. The newest open chunk grows in place while it is small (tail.c): of a
 *     thousand series that are folded every 2 s, each fold changes one row.
 *  6. The series row remembers its tail, in the transaction that changed it.
 * So a point is rewritten a few times, however small the folds are. */
#ifndef PIO_STORE_TAIL_H
#define PIO_STORE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/chunk.h"
#include "store/store.h"

#define PIO_TAIL_TIERS 4 /* and the tier of a full chunk */

/* Valid within one transaction. */
typedef struct pio_tail {
	int64_t series_id;
	int attempt;
	bool loaded, changed;
	bool alone;                     /* no other attempt has points in the series */
	bool newest;                    /* no later attempt has */
	bool recount;                   /* what reads show changed before the end */
	int64_t first_step;             /* smallest of this attempt; INT64_MAX: none */
	size_t open_points;
	int open_chunks[PIO_TAIL_TIERS];
	int64_t growing;                /* id of the chunk that still grows; 0: none */
	pio_chunk_stats shown;          /* of the visible points: the series row */
	struct pio_encoder *encoder;    /* for full chunks; NULL: they are encoded at once */
} pio_tail;

/* `is_new`: the series row was inserted just now, there is nothing to load. */
int pio_tail_load(pio_tail *tail, pio_store *store, int64_t series_id, int attempt, bool is_new,
                  pio_err *err);
/* Most points that may be appended at once, at least 1. */
size_t pio_tail_room(const pio_tail *tail);
int pio_tail_append(pio_tail *tail, pio_store *store, const pio_chunk_point *points, size_t count,
                    pio_err *err);
/* Write the series row, if anything was appended. */
int pio_tail_save(pio_tail *tail, pio_store *store, pio_err *err);

/* An encoder for tails: its chunks become rows of `chunk`. Set in pio_tail.encoder
 * after loading; whoever made it flushes it before the transaction ends. */
int pio_tail_encoder_new(struct pio_encoder **encoder, pio_store *store, int threads, pio_err *err);

/* What the series row will say once points of `attempt` with these aggregates,
 * logged after all in its chunks, are chunks as well. */
int pio_tail_foresee(pio_chunk_stats *shown, pio_store *store, int64_t series_id, int attempt,
                     const pio_chunk_stats *recent, pio_err *err);

/* Count the series anew and write its row, as a tail of no attempt, so that the
 * next fold does not take its memory for its own. */
int pio_tail_save_anew(pio_store *store, int64_t series_id, pio_err *err);

/* Aggregates of what reads show, from the chunks. */
int pio_tail_recount(pio_chunk_stats *stats, pio_store *store, int64_t series_id, pio_err *err);

#endif
