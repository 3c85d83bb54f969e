/* checkpoint_import.h: files of others become a checkpoint of a run.
 *
 * Each safetensors file is copied into staging/, hashed and synced as a rank would do
 * it, and all are published as the fold publishes what ranks report: rows and renames
 * in one transaction. They are what rank 0 saved, in the order given. */
#ifndef PIO_STORE_CHECKPOINT_IMPORT_H
#define PIO_STORE_CHECKPOINT_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* A file of others as it is; or a header, and behind it bytes of such a one. */
typedef struct pio_checkpoint_import_file {
	const char *path;
	const char *header;           /* with its length before it; NULL: none, and all of the file */
	size_t header_bytes;
	int64_t offset, size_bytes;   /* of what follows the header */
} pio_checkpoint_import_file;

typedef struct pio_checkpoint_import {
	int64_t run_id, step;
	const char *role;
	const char *staging;          /* an absolute directory of its own below staging/, made here */
	const pio_checkpoint_import_file *files;
	size_t count;
} pio_checkpoint_import;

/* Hears of bytes that were copied. */
typedef void pio_checkpoint_import_heard(void *context, int64_t bytes);

/* *id: the checkpoint. PIO_ENOTFOUND: the run has no attempt to which it could belong;
 * PIO_EBUSY: it has one that is not over. The staging directory is gone afterwards. */
int pio_store_checkpoint_import(int64_t *id, pio_store *store, const pio_checkpoint_import *import,
                                pio_checkpoint_import_heard *heard, void *context, pio_err *err);

#endif
