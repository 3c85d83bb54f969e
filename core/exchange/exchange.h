/* exchange.h: other trackers' files, and bundles of other stores.
 *
 * In: event files of TensorBoard, .wandb logs of W&B, trackio's and MLflow's
 * SQLite databases become runs of the store (core/store/ingest.h): exactly once,
 * in bounded transactions, again and again as the source grows, and safe against
 * death at any instruction. A run is known again by its format and source:
 *
 *   tensorboard  the absolute directory of its event files
 *   wandb        the absolute path of its .wandb file
 *   trackio      the absolute path of its database, '#', its run id
 *   mlflow       the absolute path of its database, '#', its run uuid
 *
 * A bundle of pioche is taken whole or not at all (store/intake.h), and its runs
 * are known again by their ULIDs.
 *
 * Out: a run as event files that TensorBoard reads.
 *
 * Sources are only read. What cannot be taken is counted with its reason, in the
 * result and as an event of the run; only what makes the rest unreadable is an
 * error, and names the file and the byte. */
#ifndef PIO_EXCHANGE_EXCHANGE_H
#define PIO_EXCHANGE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/ingest.h"
#include "store/store.h"

/* "tensorboard" (a directory that holds event files, or one of them), "wandb",
 * "swanlab", "trackio", "mlflow", "bundle" (pioche's own), "safetensors", or NULL, from what is
 * inside. Static storage. */
const char *pio_exchange_format(const char *path);

typedef void pio_import_progress(void *context, const char *finding, int64_t done, int64_t total);

typedef struct pio_import_options {
	const char *experiment;        /* NULL: as the source says, else `otherwise` */
	const char *otherwise;         /* where the source says nothing */
	const char *name;              /* of the run, where the source says nothing; may be NULL */
	const char *objects;           /* of a bundle: a directory of the store's file system with
	                                  ab/<sha256> of what it names and does not hold; or NULL */
	bool dry;                      /* count, write nothing; the store may then be NULL */
	pio_import_progress *progress; /* in bytes of the source; may be NULL */
	void *context;
} pio_import_options;

typedef struct pio_import_run {
	int64_t run_id;                /* 0: dry, and not there yet */
	char *source;
	char *was;                     /* its name where its bundle was made; NULL: no bundle */
	bool is_new;
	const char *status;            /* what it is now; static */
	pio_ingest_counts counts;      /* taken now */
	int64_t checkpoints;           /* likewise */
} pio_import_run;

typedef struct pio_import_report {
	pio_import_run *runs;
	size_t runs_count, runs_capacity;
	pio_ingest_skip *skips;
	size_t skips_count, skips_capacity;
} pio_import_report;

#define PIO_IMPORT_REPORT_INIT { .runs_count = 0 }

/* Take what is new in one source of a format above; `path` is what
 * pio_exchange_format was asked, or "-" for a bundle on the standard input. The
 * report is added to, also before a failure. */
int pio_import(pio_import_report *report, pio_store *store, const char *format, const char *path,
               const pio_import_options *options, pio_err *err);
void pio_import_report_fini(pio_import_report *report);

typedef struct pio_tensorboard_counts {
	int64_t points, texts, histograms, images, passed_over;
} pio_tensorboard_counts;

/* Write a run below `dir`, which is made: its rank 0 into dir/NAME, the others
 * into dir/NAME/rank-N, NAME being the run's ("gpt-17"). Scalars, text,
 * histograms and images keep their key as tag, and parameters become hparams. A
 * value that no f32 holds is written as f64. PIO_EEXIST where dir/NAME is
 * there; what a failure or a death leaves is called dir/.NAME.part. */
int pio_export_tensorboard(pio_tensorboard_counts *counts, pio_store *store, int64_t run_id,
                           const char *dir, pio_err *err);

#endif
