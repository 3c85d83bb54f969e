/* check.h: does the database say what its points and its journals say?
 *
 * What `pioche doctor` asks of this room. Checks read; only where `fix` is said
 * is anything written, and then only what can be derived again from the points. */
#ifndef PIO_STORE_CHECK_H
#define PIO_STORE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ulid.h"
#include "store/store.h"

typedef struct pio_check_result {
	int64_t series, chunks, points;
	int64_t bad_chunks;       /* and recent rows: cannot be decoded, or hold other points than their row says */
	int64_t bad_series;       /* the row says other than its chunks */
	int64_t fixed;            /* series that were counted anew */
} pio_check_result;

/* Called for every finding, and now and then for progress (finding NULL). */
typedef void pio_check_report(void *context, const char *finding, int64_t done, int64_t total);

/* Decode every chunk and count every series anew. `report` hears of each finding
 * and of progress in chunks. With `fix` a series whose chunks are all good is
 * corrected, each in a transaction, and what cannot be decoded is noted, to be
 * mended (mend.h). */
int pio_store_check_points(pio_check_result *result, pio_store *store, bool fix,
                           pio_check_report *report, void *context, pio_err *err);

/* Fold what journals of an ended attempt hold behind their offsets, also where
 * they were done with: a writer that was taken for dead wrote on. */
int pio_store_refold(pio_store *store, int64_t attempt_id, pio_err *err);

typedef struct pio_journal_look {
	bool readable;            /* it has a journal's header, or is too short for any */
	char why[256];            /* not readable: why */
	char ulid[PIO_ULID_CHARS + 1]; /* of its run; empty: too short */
	int attempt, node;
	bool standalone;          /* its run describes itself */
	int64_t bytes;            /* of the file; 0: it is archived */
	int64_t records, end;     /* whole ones behind `from`, and where the last ends */
} pio_journal_look;

/* What is in a segment, archived or not, behind an offset (0: all of it). An error only where the
 * file cannot be read. */
int pio_journal_look_at(pio_journal_look *look, const char *path, int64_t from, pio_err *err);

#endif
