/* points_file.h: every point of a run as a file, bit for bit, for bundles.
 *
 * Little-endian. The 8 bytes "PIOPTS01", then blocks until the end of the file:
 *
 *   u32 key_bytes, u32 rank, u32 attempt, u32 count, u32 data_bytes
 *   key_bytes bytes of the key (UTF-8), data_bytes bytes of one chunk (chunk.h)
 *
 * A block holds 1 to PIO_CHUNK_POINTS_MAX points of one series and attempt.
 * Blocks are sorted by key, rank, attempt, then in the order of their points:
 * by step, and of one step in the order logged. All blocks of a series and
 * attempt but the last are full, so the same points are the same bytes, however
 * the store keeps them. */
#ifndef PIO_STORE_POINTS_FILE_H
#define PIO_STORE_POINTS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "store/chunk.h"
#include "store/store.h"

#define PIO_POINTS_FILE_MAGIC "PIOPTS01"
#define PIO_POINTS_FILE_KEY_BYTES_MAX 4096

/* Append the points of the run to the open file; `path` is for messages. What is
 * folded meanwhile is not seen. */
int pio_points_file_write(pio_store *store, int64_t run_id, int fd, const char *path, pio_err *err);

typedef struct pio_points_file pio_points_file;

typedef struct pio_points_block {
	const char *key;
	int32_t rank, attempt;
	size_t count;
	const pio_chunk_point *points;
} pio_points_block;

/* Read such a file with distrust. PIO_ECORRUPT: it does not begin as one. The
 * caller ends *file by pio_points_file_close. */
int pio_points_file_open(pio_points_file **file, const char *path, pio_err *err);
/* 1 and the next block, borrowed until the next call; 0 at the end. PIO_ECORRUPT
 * for anything that pio_points_file_write cannot have written: cut short, out of
 * order, not full, a key that is too long, a chunk that does not decode;
 * PIO_EVERSION: a chunk of a later pioche. */
int pio_points_file_next(pio_points_block *block, pio_points_file *file, pio_err *err);
void pio_points_file_close(pio_points_file *file);

#endif
