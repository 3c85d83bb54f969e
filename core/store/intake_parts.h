/* intake_parts.h: what the files of intake share; for them alone.
 *
 * intake.c takes runs, intake_sweep.c their sweeps, intake_row.c rows of any table,
 * intake_object.c media and checkpoints, intake_points.c points. */
#ifndef PIO_STORE_INTAKE_PARTS_H
#define PIO_STORE_INTAKE_PARTS_H

#include <jansson.h>

#include "base/str.h"
#include "store/intake.h"

#define PIO_INTAKE_INLINE_BYTES_MAX (64u << 10)   /* larger media become objects */

typedef struct pio_intake {
	pio_store *store;
	const pio_intake_bag *bag;
	const pio_intake_file **by_digest;
	/* The statement of the last row, which is often that of the next. */
	pio_str sql;
	sqlite3_stmt *statement;
	/* The run at hand. */
	const char *prefix;             /* "", or "runs/gpt-3/" */
	json_t *records;
	pio_intake_run *run;
	int64_t experiment_id;
	int64_t sweeps_before;          /* the newest sweep before the bundle; 0: none */
	/* The sweep that was read last, which is often that of the next run. */
	char sweep_path[80];
	json_t *sweep, *sweep_points;   /* and of each run's ULID where it is: [proposal, its run]... */
	bool touched[256];              /* directories of objects that are to be synced */
	bool *moved;                    /* of the files: it became an object, which was none before */
} pio_intake;

/* A file of the run at hand; NULL: there is none. */
const pio_intake_file *pio_intake_file_of(const pio_intake *intake, const char *name);
/* Any file with this digest; NULL: there is none. */
const pio_intake_file *pio_intake_with_digest(const pio_intake *intake, const char *sha256);
/* The whole text of a staged file, which may have so many bytes. */
int pio_intake_read(pio_str *text, const pio_intake_file *file, int64_t bytes_max, pio_err *err);

/* A member more of what pio_intake_row calls fixed; NULL it becomes, and stays, where
 * memory is out. Takes value. */
void pio_intake_put(json_t **fixed, const char *name, json_t *value);
/* Insert a row. Members of `row` that name columns are its values, "attempt" says its
 * attempt_id; lists, and what this store knows better (ids, directories), are passed
 * over, `fixed` (taken) goes before all. NULL, where memory was out. PIO_ECORRUPT names `what` where the table
 * does not take it. */
int pio_intake_row(pio_intake *intake, const char *table, const json_t *row, json_t *fixed,
                   const char *what, pio_err *err);
/* Id of the attempt of the run at hand; PIO_ECORRUPT if it has none of this number. */
int pio_intake_attempt(int64_t *id, const pio_intake *intake, int64_t number, pio_err *err);
/* An object out of a file with this digest, unless it is there; its directory is
 * remembered. *found false: neither here nor there. */
int pio_intake_object(bool *found, pio_intake *intake, const char *sha256, pio_err *err);
/* All directories that were touched are durable. */
int pio_intake_sync_objects(pio_intake *intake, pio_err *err);
/* After the rows are rolled back: unlink what was moved for them, and nobody else
 * has taken. */
void pio_intake_undo_objects(pio_intake *intake);

int pio_intake_media(pio_intake *intake, pio_err *err);
int pio_intake_checkpoints(pio_intake *intake, pio_err *err);
/* Every point of the file becomes one of the run's. */
int pio_intake_points(pio_intake *intake, pio_err *err);
/* Does the run of this id have these points? */
int pio_intake_points_equal(bool *equal, pio_intake *intake, int64_t run_id, pio_err *err);

#endif
