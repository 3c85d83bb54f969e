/* ingest_slots.h: points of a run without a journal on their way to chunks, for
 * ingest.c and direct.c. One slot a series, all of rank 0; points wait in it until they fill a
 * chunk or the batch ends. */
#ifndef PIO_STORE_INGEST_SLOTS_H
#define PIO_STORE_INGEST_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/tail.h"

#define PIO_SLOTS_KEY_BYTES_MAX 4096

typedef struct pio_slot {
	char *key;
	size_t key_bytes;
	uint64_t hash;
	int64_t series_id;          /* 0: not asked for yet */
	bool is_new;                /* the series row was made in this transaction */
	uint32_t next;              /* the slot that followed last time */
	uint32_t count, capacity, limit;
	pio_chunk_point *points;
	pio_tail tail;
} pio_slot;

typedef struct pio_slots {
	pio_slot *all;
	size_t count, capacity;
	uint32_t *places;           /* hash of keys: index + 1, 0: free */
	size_t places_size;         /* a power of two */
	uint32_t last;              /* the slot used last */
	size_t held_bytes;
} pio_slots;

#define PIO_SLOTS_INIT { .count = 0 }

/* The run and the attempt whose points these are. */
typedef struct pio_slots_owner {
	pio_store *store;
	int64_t run_id;
	int attempt;
} pio_slots_owner;

/* 1: such a key cannot be stored (empty, too long, no UTF-8, a NUL in it). */
int pio_slots_add(pio_slots *slots, const pio_slots_owner *owner, const char *key,
                  size_t key_bytes, const pio_chunk_point *point, pio_err *err);
/* All that waits becomes chunks, and the series rows are right. The tails are
 * loaded again at the next use: call it at the end of a transaction and before
 * the attempt changes. */
int pio_slots_flush(pio_slots *slots, const pio_slots_owner *owner, pio_err *err);
void pio_slots_fini(pio_slots *slots);

#endif
