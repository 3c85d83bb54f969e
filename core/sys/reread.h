/* reread.h: what the disk holds of a file, read past the page cache.
 *
 * The kernel is told to forget the file's pages before the reading and after
 * each block, so that the bytes come from the disk (of another machine: from
 * there) and nothing else is driven out of memory. It may keep pages: dirty
 * ones, those somebody has mapped, and on tmpfs, where memory is the disk.
 *
 * Beside the SHA-256 of the whole there is one XXH3-128 digest a block of 16
 * MiB: these tell where two readings differ, not who wrote them. */
#ifndef PIO_SYS_REREAD_H
#define PIO_SYS_REREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/hash.h"

#define PIO_BLOCK_BYTES ((int64_t)16 << 20)
#define PIO_BLOCK_DIGEST_BYTES 16 /* XXH128_canonical_t */

typedef struct pio_reread {
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes;                 /* read; on failure: before it */
	uint8_t *blocks;               /* their digests, one behind the other; NULL: not asked for */
	size_t blocks_count;
} pio_reread;

/* Called after each block with the bytes read so far. */
typedef void pio_reread_progress(void *context, int64_t bytes);

/* Read `path` once. The caller ends *reread by pio_reread_fini, also on failure.
 * `progress` may be NULL. */
int pio_reread_file(pio_reread *reread, const char *path, bool with_blocks,
                    pio_reread_progress *progress, void *context, pio_err *err);
void pio_reread_fini(pio_reread *reread);
/* Is this what the system says of a file that it cannot give back? Of other errors (no
 * permission, too many files, a server that is away) the file is not to blame. */
bool pio_reread_is_damage(int sys_errno);

#endif
