/* encoder.h: full chunks, encoded by other threads where cores are free, and
 * inserted in the order in which they were put.
 *
 * The rows are the same, byte for byte, whatever the number of threads. They
 * are inserted by the caller's thread, which alone speaks to the store; threads
 * are started when the first few chunks have shown that there is work. For
 * tail.c and fold.c. */
#ifndef PIO_STORE_ENCODER_H
#define PIO_STORE_ENCODER_H

#include "store/chunk.h"
#include "store/store.h"

typedef struct pio_encoder pio_encoder;

/* A chunk that is to become a row. */
typedef struct pio_encoder_chunk {
	int64_t series_id;
	int attempt, tier;
	pio_chunk_stats stats;
} pio_encoder_chunk;

/* Insert a row; called by the thread that puts and flushes. */
typedef int pio_encoder_insert(pio_store *store, const pio_encoder_chunk *chunk, const uint8_t *data,
                               size_t size_bytes, pio_err *err);

/* `threads` in all, the caller's included; 0: as many as have a core of their
 * own now, PIOCHE_FOLD_THREADS overrides it. */
int pio_encoder_new(pio_encoder **encoder, pio_store *store, int threads, pio_encoder_insert *insert,
                    pio_err *err);
/* Waits for those under way and forgets them. NULL is fine. */
void pio_encoder_free(pio_encoder *encoder);

/* PIO_CHUNK_POINTS_MAX points, which are copied. May insert earlier ones. */
int pio_encoder_put(pio_encoder *encoder, const pio_encoder_chunk *chunk, const pio_chunk_point *points,
                    pio_err *err);
/* All that was put is inserted. */
int pio_encoder_flush(pio_encoder *encoder, pio_err *err);
/* Forget what was put and not inserted: its transaction is rolled back. */
void pio_encoder_drop(pio_encoder *encoder);

#endif
