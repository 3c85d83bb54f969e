/* fold_batch.h: what the files of a fold share: fold.c (journals, transactions),
 * fold_attempt.c (attempts and their files), fold_slot.c (where points wait in
 * memory), fold_recent.c (where they wait in the store), fold_record.c (all records
 * but points), and mend.c, which folds again. For them alone. */
#ifndef PIO_STORE_FOLD_BATCH_H
#define PIO_STORE_FOLD_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "store/fold.h"
#include "store/media.h"
#include "store/recent.h"
#include "store/tail.h"
#include "sys/journal.h"

/* Points of one series that wait to become a chunk. */
typedef struct fold_slot {
	pio_chunk_point *points;
	pio_tail *tail;             /* once something of the series was written */
	int64_t series_id;
	uint32_t rank;
	uint32_t count, capacity;
	uint32_t limit;             /* at this count they are written; 0: not known yet */
	bool is_new;                /* the series row was made in this batch */
} fold_slot;

/* What a journal calls a series. */
typedef struct fold_name {
	uint32_t rank, key;
	uint32_t slot;              /* index + 1; 0: this place is free */
} fold_name;

/* The series of a journal and its names for them. */
typedef struct fold_index {
	fold_slot *slots;
	size_t slots_count, slots_capacity;
	fold_name *names;           /* hash */
	size_t names_count, names_size; /* a power of two */
	uint32_t *by_series;        /* hash of series ids: index of the slot + 1, 0: free */
	size_t by_series_size;      /* a power of two */
} fold_index;

#define FOLD_STRANGER UINT32_MAX    /* a slot: nobody ever named that key */

/* What is folded. */
typedef struct fold_attempt {
	int64_t id, run_id;
	int number;
	char ulid[PIO_ULID_CHARS + 1];
	char *dir;                  /* relative to the store; pio_free */
} fold_attempt;

/* What one journal adds to one transaction, and the memory for it. */
typedef struct fold_batch {
	pio_store *store;
	pio_fold_result *result;
	int64_t attempt_id, run_id, journal_id;
	int attempt;
	const char *dir, *path;     /* of the attempt and the journal, relative to the store */
	fold_index index;
	size_t held_bytes;          /* memory of all in it */
	size_t new_series;
	struct pio_encoder *encoder;
	bool waits;                 /* its points go behind others that wait in `recent` */
	bool may_wait;              /* they may, if that is cheaper */
	int64_t *direct;            /* series whose points this fold has made chunks of at once */
	int64_t direct_max;
	const pio_media_ready *ready;   /* what the batch may begin with */
	pio_str *ahead;             /* the record that it ended before, whose file is to be read first */
	int complaints;
} fold_batch;

/* Numbers above these are no client's. */
#define PIO_FOLD_KEYS_MAX PIO_POINT_INTEGER
#define PIO_FOLD_RANKS_MAX (1u << 20)

/* ---- fold_attempt.c ---- */
int pio_fold_attempt_load(fold_attempt *attempt, pio_store *store, int64_t attempt_id, pio_err *err);
int pio_fold_segment_path(pio_str *path, pio_store *store, const fold_attempt *attempt, uint32_t node,
                          uint32_t segment, pio_err *err);
/* Errors as pio_archive_open; PIO_ECORRUPT also where it is of another attempt. The
 * caller closes *reader in any case. */
int pio_fold_segment_open(pio_journal_reader **reader, pio_journal_header *header, pio_store *store,
                          const fold_attempt *attempt, uint32_t node, uint32_t segment, pio_err *err);

/* ---- fold_slot.c ---- */
/* Of one batch; with SQLite's cache of 16 MiB, the reader's buffer and the codecs
 * a fold stays below 64 MiB. */
#define PIO_FOLD_HELD_BYTES_MAX (32u << 20)
/* With so many points a series, chunks are cheaper. */
#define PIO_FOLD_WIDE_POINTS 32

/* Bind (rank, key), both in range, to a series. */
int pio_fold_key(fold_batch *batch, uint32_t rank, uint32_t key, int64_t series_id, bool is_new,
                 pio_err *err);
/* Bind those names that the journal gave in earlier batches, as many as are
 * cheap to hold; others are asked for when they come. */
int pio_fold_load_keys(fold_batch *batch, pio_err *err);
int pio_fold_points(fold_batch *batch, const pio_record *record, pio_err *err);
/* Points of a series of that rank, in the order logged. */
int pio_fold_add(fold_batch *batch, uint32_t rank, int64_t series_id, const pio_chunk_point *points,
                 size_t count, pio_err *err);
/* What came becomes chunks, and the series rows say so; or rows of `recent`. */
int pio_fold_write(fold_batch *batch, pio_err *err);
void pio_fold_batch_fini(fold_batch *batch);

/* Forget all points; series and names stay. The bytes that those take. */
size_t pio_fold_index_empty(fold_index *index);
void pio_fold_index_fini(fold_index *index);

/* ---- fold_recent.c ---- */
/* Are there more series than a fold may make chunks of each time? */
bool pio_fold_is_wide(const fold_batch *batch);
/* What came becomes rows of `recent`. */
int pio_fold_put_recent(fold_batch *batch, pio_err *err);
/* How long ago the oldest recent row of the journal was folded, if there is one;
 * negative when the clock was set back. */
int pio_fold_recent_age(bool *found, int64_t *age_ns, const fold_batch *batch, pio_err *err);
/* The journal's recent rows become chunks, the oldest first; *more: a batch of its
 * own is full, the rest is for the next. The batch has to be empty. */
int pio_fold_settle(bool *more, fold_batch *batch, pio_err *err);

/* ---- fold_record.c ---- */
/* What a journal says is never a reason to stop folding: record that something
 * in it was passed over, a few times a batch. */
#define PIO_FOLD_COMPLAINTS_MAX 8
int pio_fold_complain(fold_batch *batch, pio_err *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Any record but POINTS. 1: it was not folded, the batch ends before it. */
int pio_fold_record(fold_batch *batch, const pio_record *record, pio_err *err);
/* One event a run whose keys are too many to be meant. */
int pio_fold_warn_of_keys(fold_batch *batch, pio_err *err);

#endif
