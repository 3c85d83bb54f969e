/* archive.h: journals that are folded, compressed.
 *
 * A segment (sys/journal.h) that is closed and folded is replaced by itself,
 * its points in columns (archive_points.h), compressed by zstd, with ".zst"
 * behind its name: written, synced, read back and compared byte by byte,
 * renamed, and only then is the plain file unlinked. A death leaves the plain
 * one, or both, or the compressed one. It stands here and not beside the
 * journal, because a training program must not need zstd. */
#ifndef PIO_STORE_ARCHIVE_H
#define PIO_STORE_ARCHIVE_H

#include "base/err.h"
#include "sys/journal.h"

/* A smaller file saves nothing on a disk. */
#define PIO_ARCHIVE_BYTES_MIN 4096

/* Replace the segment at `path`. 0 also if it is small, or if another process
 * is at it; after a failure the plain file is as it was. */
int pio_archive_make(const char *path, pio_err *err);

/* Read a segment, compressed or not: the file itself, and where there is none,
 * its archive. Errors as pio_journal_reader_open, PIO_ENOTFOUND. */
int pio_archive_open(pio_journal_reader **reader, pio_journal_header *header, const char *path,
                     pio_err *err);

#endif
