/* object_code.h: objects that are kept smaller (sys/encoded.h), and as they are again.
 *
 * An object stays what its name says, the SHA-256 of its bytes, and whoever reads it
 * sees no difference (sys/stored.h). It is encoded by a process that has the time,
 * never where something waits: the smaller file is written, read again from the disk
 * and compared with the name; only then the object is the smaller file, and the larger
 * one goes. A death in between leaves one of both, or both of which one is an orphan.
 *
 * An anchor is an object that another is decoded with. It has none itself, so that
 * nothing needs more than two files, and it is dropped no earlier than the other
 * (checkpoint.c). What was logged and what a run goes on from stays as it is. */
#ifndef PIO_STORE_OBJECT_CODE_H
#define PIO_STORE_OBJECT_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"
#include "sys/reread.h"

typedef struct pio_encode_options {
	const char *anchor;        /* an object as long; NULL: without */
	double least;              /* not encoded unless it becomes so many times smaller */
	pio_reread_progress *progress; /* hears of bytes that were read again; NULL: nobody */
	void *context;
} pio_encode_options;

typedef struct pio_encode_result {
	const char *codec;         /* "shuffle", "xor"; NULL: it stays as it is */
	const char *why;           /* it does, in a few words */
	double sampled;            /* what a sample promised; 0: it was not asked */
	int64_t bytes, stored_bytes;
} pio_encode_result;

/* PIO_ENOTFOUND: there is no such object. PIO_ECORRUPT: it is damaged, or what came of
 * its encoding was; it is as it was then. */
int pio_store_object_encode(pio_encode_result *result, pio_store *store, const char *sha256,
                            const pio_encode_options *options, pio_err *err);
/* Make it a file of its bytes again, if it is none. */
int pio_store_object_decode(pio_store *store, const char *sha256, pio_err *err);
/* Remove from staging/ what processes of this machine left there that died over it. */
int pio_store_object_code_sweep(pio_store *store, pio_err *err);

#endif
