/* store.h: the store: `.pioche/` with its SQLite file, and the only room that
 * speaks SQL from C.
 *
 * Layout (DESIGN of the formats): pioche.db, objects/ab/<sha256>,
 * runs/<ulid>/<attempt>/, staging/, cache/, lease, .gitignore.
 *
 * Promises: every state change is one transaction; what is committed survives
 * power loss (WAL with synchronous=FULL on a local disk, a TRUNCATE journal on
 * a network file system); a store of a newer version is refused untouched, an
 * older one is migrated when opened for writing. Readers never wait for the
 * writer for longer than busy_ms.
 *
 * A pio_store is used by one thread at a time. Other files of this room:
 * lease.h (who supervises), run.h (experiments, runs, attempts, facts), chunk.h (the codec), series.h
 * (reading points), fold.h (journals to chunks), object.h (immutable files),
 * checkpoint.h (publishing and dropping), verify.h (are objects what their names say). */
#ifndef PIO_STORE_STORE_H
#define PIO_STORE_STORE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_STORE_VERSION 5            /* user_version */
#define PIO_STORE_APPLICATION_ID 0x50494f43 /* "PIOC" */

typedef struct pio_store pio_store;

enum pio_store_mode {
	PIO_STORE_READ,        /* must exist; nothing is written, works without write permission */
	PIO_STORE_WRITE,       /* must exist; migrated if older */
	PIO_STORE_CREATE,      /* made where absent */
};

/* Open the store whose directory is `path`. */
int pio_store_open(pio_store **store, const char *path, enum pio_store_mode mode, pio_err *err);
/* The same; where an old store is brought up to date, `progress` (may be NULL)
 * hears now and then how many of the rows to index are done. `finding` is NULL. */
typedef void pio_store_progress(void *context, const char *finding, int64_t done, int64_t total);
int pio_store_open_heard(pio_store **store, const char *path, enum pio_store_mode mode,
                         pio_store_progress *progress, void *context, pio_err *err);
void pio_store_close(pio_store **store);

/* Absolute path of the directory. Borrowed. */
const char *pio_store_path(const pio_store *store);
/* For the query side: prepare what you like, never write. Borrowed. */
sqlite3 *pio_store_db(pio_store *store);
bool pio_store_is_writable(const pio_store *store);
/* It stands, or is said to stand, on a network file system (sys/fs.h): no WAL,
 * no mapping, and a lease that rests on no lock of the kernel (lease.h). */
bool pio_store_is_network(const pio_store *store);

/* BEGIN IMMEDIATE / COMMIT / ROLLBACK; they nest: an inner rollback undoes the
 * inner part, what the outermost commits is durable. A commit that fails has
 * rolled back. */
int pio_store_begin(pio_store *store, pio_err *err);
int pio_store_commit(pio_store *store, pio_err *err);
void pio_store_rollback(pio_store *store);

/* ---- for the files of this room --------------------------------------------- */
/* A cached, reset prepared statement; NULL and err when the SQL is wrong.
 * `sql` must be a string literal: it is the key of the cache. */
sqlite3_stmt *pio_store_statement(pio_store *store, const char *sql, pio_err *err);
/* Step a statement that returns no row, then reset it. */
int pio_store_step_done(pio_store *store, sqlite3_stmt *statement, pio_err *err);
/* The error of the connection, as pio_fail would report it. */
int pio_store_fail(pio_store *store, pio_err *err, const char *what);
/* Where lease.c keeps what it holds; NULL in it: nothing. */
struct pio_lease **pio_store_lease_slot(pio_store *store);
/* What compresses its journals; NULL in it: nothing to do so far. */
struct pio_archiver **pio_store_archiver_slot(pio_store *store);
/* What its folds know of journals; NULL in it: nothing. */
struct pio_fold_names **pio_store_fold_names_slot(pio_store *store);
/* The parameters that param.c is reading; NULL in it: none. */
struct pio_params **pio_store_params_slot(pio_store *store);
/* The store's chunk codec, made when first asked for; NULL when memory is out. */
struct pio_chunk_codec *pio_store_codec(pio_store *store, pio_err *err);
/* Is the view of series_now.h there? */
bool *pio_store_series_now_slot(pio_store *store);
/* What reads points. Borrowed. */
struct pio_reader *pio_store_reader(pio_store *store);

#endif
