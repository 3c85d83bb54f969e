/* fold_batch.h: one transaction's worth of a journal, shared by fold.c and
 * fold_record.c alone. */
#ifndef PIO_STORE_FOLD_BATCH_H
#define PIO_STORE_FOLD_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/fold.h"
#include "store/tail.h"
#include "sys/journal.h"

/* Points of one series that wait to become a chunk. */
typedef struct fold_slot {
	pio_chunk_point *points;
	uint32_t count, capacity;
	uint32_t limit;             /* at this count they are written */
	bool is_new;                /* the series row was made in this batch */
	int64_t series_id;
	pio_tail tail;
} fold_slot;

typedef struct fold_rank {
	uint32_t rank;
	uint32_t keys;              /* entries of `slots` */
	uint32_t *slots;            /* by key number: index of the slot + 1, 0: none */
} fold_rank;

typedef struct fold_batch {
	pio_store *store;
	pio_fold_result *result;
	int64_t attempt_id, run_id, journal_id;
	int attempt;
	const char *dir, *path;     /* of the attempt and the journal, relative to the store */
	int64_t begun_ns;           /* when its writer made it; 0: not known yet */
	fold_slot *slots;
	size_t slots_count, slots_capacity;
	uint32_t *by_series;        /* hash of series ids: index of the slot + 1, 0: free */
	size_t by_series_size;      /* a power of two */
	fold_rank *ranks;
	size_t ranks_count, ranks_capacity;
	size_t last_rank;           /* index of the rank found last */
	size_t held_bytes;          /* memory for points */
	int complaints;
} fold_batch;

/* Numbers above these are no client's. */
#define PIO_FOLD_KEYS_MAX (1u << 20)
#define PIO_FOLD_RANKS_MAX (1u << 20)
/* Bind (rank, key), both in range, to a series. */
int pio_fold_key(fold_batch *batch, uint32_t rank, uint32_t key, int64_t series_id, bool is_new,
                 pio_err *err);
/* What a journal says is never a reason to stop folding: record that something
 * in it was passed over, a few times a batch. */
int pio_fold_complain(fold_batch *batch, pio_err *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Any record but POINTS. */
int pio_fold_record(fold_batch *batch, const pio_record *record, pio_err *err);

#endif
