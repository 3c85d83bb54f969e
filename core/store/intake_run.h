/* intake_run.h: the row of a run that is taken in, its sweep, its code and its logs;
 * for the files of intake alone. */
#ifndef PIO_STORE_INTAKE_RUN_H
#define PIO_STORE_INTAKE_RUN_H

#include "store/intake_parts.h"

/* Of the run at hand: what it is called where it was made. */
int pio_intake_run_name(pio_intake *intake, pio_err *err);
/* Its row, with its experiment, its sweep and its snapshot. */
int pio_intake_run_insert(pio_intake *intake, pio_err *err);
/* PIO_EEXIST where the run of this id has other parameters or points. */
int pio_intake_run_same(pio_intake *intake, int64_t run_id, pio_err *err);
/* What it is called here, and its status. */
int pio_intake_run_told(pio_intake *intake, pio_err *err);

/* What its ranks printed becomes runs/<ulid>/<attempt>/rank-<n>.out and .err. */
int pio_intake_logs(pio_intake *intake, pio_err *err);
/* Remove those of runs whose rows are rolled back. */
void pio_intake_logs_undo(pio_store *store, const pio_intake_run *runs, size_t count);

#endif
