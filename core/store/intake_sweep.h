/* intake_sweep.h: sweeps that runs of a bundle are of; for the files of intake alone.
 *
 * Their rows, and which run is of which proposal, come with each run. Once all runs are there, what
 * is of a sweep as a whole is taken where it was not here before: what a person changed of it, points
 * of others that it knew, and what its rule said, in its order. */
#ifndef PIO_STORE_INTAKE_SWEEP_H
#define PIO_STORE_INTAKE_SWEEP_H

#include "store/intake_parts.h"

/* Before the first run, and after the last one. */
int pio_intake_sweeps_begin(pio_intake *intake, pio_err *err);
int pio_intake_sweeps_end(pio_intake *intake, pio_err *err);
/* What was read of them; nothing is fine. */
void pio_intake_sweeps_free(pio_intake *intake);

/* The sweep of the run at hand; *id 0: it is of none. The same plan of the same experiment may be
 * here already. */
int pio_intake_sweep(int64_t *id, pio_intake *intake, pio_err *err);
/* Which of its points the run at hand is of. Another sweep of the same plan, which is here, has
 * its own points: of one that it proposed as well the run is, and of no other. */
int pio_intake_proposals(pio_intake *intake, int64_t sweep_id, pio_err *err);
/* A document of the bundle that a run names. */
int pio_intake_parse(json_t **value, const pio_intake *intake, const char *path, pio_err *err);

#endif
