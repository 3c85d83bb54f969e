/* source.h: the bytes of a bundle's tar as they arrive, from a file or a pipe.
 *
 * What begins as a zstd frame is decompressed on the way, within a window of
 * 128 MiB; how much comes out is for the reader to bound. The file as it is,
 * compressed or not, is hashed by a thread of its own (belt.h).
 *
 * For the files of this room. One thread. */
#ifndef PIO_PACK_SOURCE_H
#define PIO_PACK_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/hash.h"

typedef struct pio_source pio_source;

/* `path` is a file, a pipe, or "-" for the standard input; PIO_EINVAL for a
 * directory. The caller ends it by pio_source_close. */
int pio_source_open(pio_source **source, const char *path, pio_err *err);
/* The next bytes of the tar, at least one but for the end, where *n is 0. They
 * stay readable until the next call. PIO_ECORRUPT: no zstd, or one that is cut. */
int pio_source_read(pio_source *source, const void **bytes, size_t *n, pio_err *err);
/* Bytes of the file so far, and all of them: 0 for a pipe. */
int64_t pio_source_done(const pio_source *source);
int64_t pio_source_total(const pio_source *source);
/* For messages: the path, or what the standard input is called. Borrowed. */
const char *pio_source_name(const pio_source *source);
/* The digest of the whole file, at its end. Once. */
int pio_source_digest(pio_source *source, char sha256[PIO_SHA256_HEX + 1], pio_err *err);
/* NULL is fine. */
void pio_source_close(pio_source *source);

#endif
