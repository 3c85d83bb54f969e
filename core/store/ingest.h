/* ingest.h: what other programs recorded becomes a run, exactly once.
 *
 * A source is one foreign run: a directory of event files, a log, a run inside
 * a database. Its row in `import` holds a cursor, JSON of the reader's own
 * making, which moves in the transaction that inserts what was read up to it:
 * after a death at any instruction the reader begins again where the rows end.
 * Points go through the same tails as folded ones (tail.h).
 *
 *   open --begin--> batch --commit--> open      as often as there is more to read
 *                     `--- close -----> nothing of the batch is there
 *
 * Invariants:
 *  1. Between begin and commit the store's write lock is held: two importers of
 *     one source take turns, and each sees the other's cursor at its begin.
 *  2. Memory is bounded: pio_ingest_is_full tells the reader to commit.
 *  3. Lines of the console go to rank-0.out and rank-0.err of the attempt, where
 *     `pioche logs` reads; their lengths are part of the cursor, and what stands
 *     behind them is cut off before more is written.
 *
 * A dry ingest reads the cursor if there is a store, counts, and writes nothing.
 * Times are ns since 1970 and kept to the microsecond; 0: unknown. Text may hold
 * anything: NULs and bytes that are not UTF-8 become U+FFFD. What cannot be
 * stored (a name that is empty or too long) is passed over and counted. */
#ifndef PIO_STORE_INGEST_H
#define PIO_STORE_INGEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

typedef struct pio_ingest pio_ingest;

typedef struct pio_ingest_source {
	const char *format;          /* import.format */
	const char *source;          /* import.source */
	const char *experiment;      /* of a run that is made now; cleaned to a valid name */
	const char *program;         /* JSON for run.program of such a run, or NULL */
	bool dry;
} pio_ingest_source;

typedef struct pio_ingest_counts {
	int64_t points, texts, media, lines;
} pio_ingest_counts;

/* Something that was passed over, and how often. */
typedef struct pio_ingest_skip {
	char reason[160];
	int64_t count;
} pio_ingest_skip;

/* `store` may be NULL for a dry one. The strings of `source` are copied. */
int pio_ingest_open(pio_ingest **ingest, pio_store *store, const pio_ingest_source *source,
                    pio_err *err);
int pio_ingest_begin(pio_ingest *ingest, pio_err *err);
/* An object, empty when nothing was taken yet; borrowed until commit or close. */
const json_t *pio_ingest_cursor(const pio_ingest *ingest);
bool pio_ingest_is_full(const pio_ingest *ingest);
/* Does the run exist already, from an earlier commit? After begin. */
bool pio_ingest_is_known(const pio_ingest *ingest);

/* What follows belongs to this attempt of the run, 1 unless told; from its first
 * step in a series on it hides what earlier attempts have there. */
int pio_ingest_attempt(pio_ingest *ingest, int number, pio_err *err);
int pio_ingest_point(pio_ingest *ingest, const char *key, size_t key_bytes, int64_t step,
                     int64_t time_ns, double value, pio_err *err);
int pio_ingest_point_int(pio_ingest *ingest, const char *key, size_t key_bytes, int64_t step,
                         int64_t time_ns, int64_t value, pio_err *err);
/* `value` is borrowed. A later one of the same name replaces it. */
int pio_ingest_param(pio_ingest *ingest, const char *name, json_t *value, pio_err *err);
/* A result that the program named at its end; that a metric's last value is its
 * last value is not repeated. */
int pio_ingest_summary(pio_ingest *ingest, const char *name, json_t *value, pio_err *err);
int pio_ingest_tag(pio_ingest *ingest, const char *name, const char *value, size_t value_bytes,
                   pio_err *err);
/* step INT64_MIN: none. `kind` "text" is what the program said. */
int pio_ingest_text(pio_ingest *ingest, const char *kind, const char *key, size_t key_bytes,
                    int64_t step, int64_t time_ns, const char *text, size_t text_bytes, pio_err *err);
/* kind: histogram, image, table or file; `name` may be NULL. */
int pio_ingest_media(pio_ingest *ingest, const char *kind, const char *key, size_t key_bytes,
                     int64_t step, int64_t time_ns, const char *name, const char *mime,
                     const void *bytes, size_t size_bytes, pio_err *err);
/* Bytes that the program wrote to stdout, or to stderr. */
int pio_ingest_console(pio_ingest *ingest, bool is_stderr, const char *text, size_t text_bytes,
                       pio_err *err);
/* Something was passed over: told in the result and in an event of the run. */
void pio_ingest_skip_count(pio_ingest *ingest, int64_t count, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The run lived at this time; what is ingested with a time says so by itself. */
void pio_ingest_seen(pio_ingest *ingest, int64_t time_ns);

/* How the run ended as far as the source tells; `status` of run.h, `result` of
 * attempt.result. exit_code -1: unknown. `reason` may be NULL, else is static. */
typedef struct pio_ingest_end {
	const char *status, *result, *reason;
	int exit_code;
} pio_ingest_end;

/* Durable: the rows, and the cursor (borrowed). Where nothing came and the
 * cursor did not move, nothing is written. */
int pio_ingest_commit(pio_ingest *ingest, json_t *cursor, const pio_ingest_end *end, pio_err *err);

/* Was there a commit since open? */
bool pio_ingest_is_committed(const pio_ingest *ingest);
int64_t pio_ingest_run(const pio_ingest *ingest);           /* id; 0 before the first commit */
pio_ingest_counts pio_ingest_counted(const pio_ingest *ingest);   /* committed since open */
const pio_ingest_skip *pio_ingest_skips(const pio_ingest *ingest, size_t *count);
/* Rolls back what is not committed. NULL is fine. */
void pio_ingest_close(pio_ingest *ingest);

#endif
