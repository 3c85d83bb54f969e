/* media.h: histograms, images, tables and files that a run logged.
 *
 * Small bytes lie in the row, a staged file becomes an object (object.h): it
 * is read and hashed, synced and renamed under objects/ before the transaction
 * that inserts its row commits. Whatever is cut short is done again from the
 * same journal record, and finds the file that was moved already. */
#ifndef PIO_STORE_MEDIA_H
#define PIO_STORE_MEDIA_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

typedef struct pio_media {
	int64_t run_id, attempt_id;     /* attempt_id 0: of no attempt */
	int64_t rank;
	char kind;                      /* 'h' histogram, 'i' image, 't' table, 'f' file */
	const char *key, *name, *mime;  /* name NULL or empty: none */
	int64_t step;                   /* INT64_MIN: of the run as a whole */
	int64_t time_ns;
	const void *data;               /* the bytes; or NULL, and */
	int64_t bytes;
	const char *file;               /* the path of a file that holds them, which is moved */
	const char *sha256;             /* what it must hash to; NULL: whatever it does */
} pio_media;

/* Insert one. PIO_EINVAL: a kind, key or mime that cannot be; PIO_ENOTFOUND,
 * PIO_ECORRUPT: the file is not there or not what was promised. */
int pio_store_media_add(pio_store *store, const pio_media *media, pio_err *err);

/* The same from the payload of a MEDIA record (sys/journal.h). `dir` is the
 * attempt's, relative to the store; its files may not lie outside of it. */
int pio_store_media_report(pio_store *store, int64_t run_id, int64_t attempt_id, const char *dir,
                           const uint8_t *payload, size_t size_bytes, pio_err *err);

#endif
