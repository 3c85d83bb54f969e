/* ingest_parts.h: shared by ingest.c (a batch's life) and ingest_rows.c (the
 * rows around the points) alone. */
#ifndef PIO_STORE_INGEST_PARTS_H
#define PIO_STORE_INGEST_PARTS_H

#include "base/str.h"
#include "store/ingest.h"
#include "store/ingest_slots.h"

#define PIO_INGEST_SKIPS_MAX 32

typedef struct pio_ingest_skips_list {
	pio_ingest_skip all[PIO_INGEST_SKIPS_MAX];
	size_t count;
} pio_ingest_skips_list;

struct pio_ingest {
	pio_store *store;
	char *format, *source, *experiment, *program;
	bool dry, in_batch, is_known, is_committed, summary_changed;
	int64_t import_id, run_id, attempt_id;   /* 0: not there (yet) */
	int attempt;
	json_t *cursor;                          /* as it was at the begin of the batch */
	json_t *params;                          /* to be set at the end of the batch */
	pio_str console[2];                      /* stdout, stderr */
	pio_slots slots;
	int64_t first_ns, last_ns, last_step;    /* seen in the batch, or in the attempt of it */
	size_t batch_bytes, batch_tags;
	pio_ingest_counts batch, counts;
	pio_ingest_skips_list batch_skips, skips;
};

/* The current attempt has a row. */
int pio_ingest_attempt_ensure(pio_ingest *ingest, pio_err *err);
/* Its times and newest step are what was seen of it. */
int pio_ingest_attempt_end(pio_ingest *ingest, pio_err *err);

typedef struct pio_ingest_blob {
	const char *kind, *key, *name, *mime;
	int64_t step, time_ns;
	const void *bytes;
	size_t size_bytes;
} pio_ingest_blob;
/* A row of media; large ones as objects. */
int pio_ingest_blob_put(pio_ingest *ingest, const pio_ingest_blob *blob, pio_err *err);

/* Everything of a batch but its points; `cursor` gets the lengths of the console. */
int pio_ingest_rows_finish(pio_ingest *ingest, json_t *cursor, const pio_ingest_end *end,
                           pio_err *err);

#endif
