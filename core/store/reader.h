/* reader.h: a connection from which points are read; for this room alone.
 *
 * Everything that reads points needs no more than this: the store has one of
 * its own, and so has each virtual table of a connection, be it pioche's or
 * that of any program that loaded pioche_sqlite.so. Used by one thread at a
 * time, like its connection. */
#ifndef PIO_STORE_READER_H
#define PIO_STORE_READER_H

#include <stdint.h>

#include "base/err.h"
#include "store/chunk.h"
#include "store/sqlite.h"

enum pio_reader_query {
	PIO_READER_CHUNKS,         /* of series ?1 and attempt ?2, 0: of all; the latest attempt first */
	PIO_READER_DATA,           /* of chunk ?1 */
	PIO_READER_RECENT,         /* recent rows of the run and rank of series ?1, in the order logged */
	PIO_READER_RUN,            /* id of run number ?2 of experiment ?1 */
	PIO_READER_ULID,           /* id of the run with ULID ?1 */
	PIO_READER_SERIES,         /* id of run id ?1, key ?2, rank ?3 */
	PIO_READER_RANKS,          /* id and rank of run id ?1, key ?2, by rank */
	PIO_READER_HOLD,
	PIO_READER_QUERIES
};

typedef struct pio_reader {
	sqlite3 *db;               /* borrowed */
	pio_chunk_decoder *decoder;
	struct pio_recent *recent; /* for recent.c; NULL: not needed so far */
	sqlite3_stmt *statements[PIO_READER_QUERIES];
	int holds;
} pio_reader;

void pio_reader_init(pio_reader *reader, sqlite3 *db);
/* Before the connection closes. Idempotent; fine on a zeroed reader. */
void pio_reader_fini(pio_reader *reader);

/* A statement, reset, its parameters as they were; NULL on failure. It is one
 * for all users of the reader: reset it before anything else reads. */
sqlite3_stmt *pio_reader_statement(pio_reader *reader, enum pio_reader_query query, pio_err *err);
/* Between the two all reads see one state of the store, whatever is folded
 * meanwhile: a merge takes away chunks that are on a list already. They nest. */
int pio_reader_hold(pio_reader *reader, pio_err *err);
void pio_reader_release(pio_reader *reader);
/* The encoded bytes of a chunk, borrowed until *row is reset, which is the
 * caller's to do when this returns 0. */
int pio_reader_data(const uint8_t **data, size_t *size_bytes, sqlite3_stmt **row, pio_reader *reader,
                    int64_t chunk_id, pio_err *err);
/* The points of a chunk in the order logged, room for PIO_CHUNK_POINTS_MAX. */
int pio_reader_chunk(pio_chunk_point *points, size_t *count, pio_reader *reader, int64_t chunk_id,
                     bool with_times, pio_err *err);
/* The same into columns with room for as many, times left out where they are NULL. */
int pio_reader_columns(const pio_chunk_columns *to, size_t *count, enum pio_chunk_kind *kind,
                       pio_reader *reader, int64_t chunk_id, pio_err *err);
/* Chunks read in this process: tests hold reads to those they need. */
int64_t pio_reader_chunks_read(void);
/* *id of the run that text such as 'gpt-17' names; 0 when there is none. */
int pio_reader_run(int64_t *id, pio_reader *reader, const char *text, pio_err *err);

/* Open `path` anew, promising SQLite that nobody writes. A WAL needs its
 * shared-memory file, which cannot be made in a directory that one cannot
 * write; without changes in the WAL the file alone is the truth. */
int pio_sqlite_open_immutable(sqlite3 **db, const char *path, pio_err *err);
/* What the connection's last failure is to us; `path` names the store. */
int pio_sqlite_fail(sqlite3 *db, const char *path, pio_err *err, const char *what);
int pio_reader_fail(pio_reader *reader, pio_err *err, const char *what);

#endif
