/* media.h: histograms, images, tables and files that a run logged.
 *
 * Small bytes lie in the row, a staged file becomes an object (object.h): it
 * is read and hashed, synced and renamed under objects/ before the transaction
 * that inserts its row commits. Whatever is cut short is done again from the
 * same journal record, and finds the file that was moved already. A large file
 * is read before that transaction begins, for others want to write, too. */
#ifndef PIO_STORE_MEDIA_H
#define PIO_STORE_MEDIA_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"
#include "sys/hash.h"

#define PIO_MEDIA_LARGE_BYTES (1 << 20)

/* A MEDIA record of a journal (sys/journal.h), and whose it is. `dir` is the
 * attempt's, relative to the store; its files may not lie outside of it. */
typedef struct pio_media_record {
	int64_t run_id, attempt_id;
	const char *dir;
	const uint8_t *payload;
	size_t size_bytes;
} pio_media_record;

/* A large file that was read ahead: its digest, and what tells that the path
 * still means that file. */
typedef struct pio_media_ready {
	char *path;                     /* NULL: none */
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes, mtime_ns;
	uint64_t inode;
} pio_media_ready;

/* Insert one. PIO_EINVAL: a kind, key or mime that cannot be; PIO_ENOTFOUND,
 * PIO_ECORRUPT: the file is not there or not what was promised. 1: nothing was
 * done, the file is large and not the one in `ready`. */
int pio_store_media_report(pio_store *store, const pio_media_record *record,
                           const pio_media_ready *ready, pio_err *err);

/* Read its large file ahead; a file that cannot be is left to the report, which
 * tells why. Not within a transaction. */
int pio_media_ready_init(pio_media_ready *ready, const pio_store *store,
                         const pio_media_record *record, pio_err *err);
void pio_media_ready_fini(pio_media_ready *ready);

#endif
