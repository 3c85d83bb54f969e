/* intake.h: runs of another store become runs of this one.
 *
 * They come as the files of a bundle (lua/pioche/bag.lua tells which those are),
 * staged on the store's file system, hashed and good; what stands in them is
 * distrusted all the same. A bundle is one transaction: all of its runs, or none.
 *
 *   1. A run keeps its ULID. One that is here already with the same parameters and
 *      points is left as it is, but for checkpoints that it lacks; one with others
 *      is PIO_EEXIST.
 *   2. It keeps its number where that is free in its experiment, else it gets the
 *      next. The generation of its identity likewise.
 *   3. Nothing of it goes on: what was not over when it was exported is over here.
 *   4. Objects are renamed into place and their directories synced before the
 *      commit (object.h). A death before it leaves orphans, and a directory below
 *      runs/ that the next intake of the run replaces. */
#ifndef PIO_STORE_INTAKE_H
#define PIO_STORE_INTAKE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

typedef struct pio_intake_file {
	char *path;                     /* in the bundle, below data/ */
	char *staged;                   /* where its bytes lie */
	char sha256[65];
	int64_t bytes;
} pio_intake_file;

typedef struct pio_intake_bag {
	const char *bundle, *sha256;    /* its name, and its digest: where the runs are from */
	const char *staging;            /* a directory of this intake alone */
	const pio_intake_file *files;   /* sorted by path */
	size_t count;
	/* What else is to be durable before the runs are there; called when all their rows
	 * are good. */
	int (*before_commit)(void *context, const struct pio_intake_bag *bag, pio_err *err);
	void *context;
} pio_intake_bag;

typedef struct pio_intake_run {
	int64_t run_id;
	char ulid[27];
	char *name, *was;               /* "gpt-3" here, and where it was made */
	bool is_new, has_directory;     /* below runs/, made now */
	char status[16];
	int64_t points, events, media, checkpoints;     /* taken now */
	int64_t left_out;               /* checkpoints whose files are neither here nor there */
} pio_intake_run;

/* The file of this path; NULL: there is none. */
const pio_intake_file *pio_intake_find(const pio_intake_bag *bag, const char *path);

/* Of a snapshot in code.json: which repository in the store is to hold its commit. One
 * that was taken without git stays told from the others. Static storage. */
const char *pio_intake_repository(const json_t *snapshot);

/* *runs and *count need pio_intake_free, also after a failure, when they are none. */
int pio_store_intake(pio_intake_run **runs, size_t *count, pio_store *store, const pio_intake_bag *bag,
                     pio_err *err);
void pio_intake_free(pio_intake_run *runs, size_t count);

#endif
