/* tpe_cells.h: how much of the kernels of a whole number is in the cells of other numbers, for
 * the mixtures of a Parzen estimator alone.
 *
 * Few numbers are asked for again and again, and few kernels are new since: what was worked out
 * of a cell is kept, until the kernels' classes are others. */
#ifndef PIO_SWEEP_TPE_CELLS_H
#define PIO_SWEEP_TPE_CELLS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sweep/axis.h"

/* Kernels of a whole number that are the same: many points share few numbers. */
typedef struct pio_tpe_class {
	double mu, sigma;
} pio_tpe_class;

typedef struct pio_tpe_cell {
	double x, from, to, log_width;
	size_t known;              /* of so many classes the logs are worked out */
} pio_tpe_cell;

/* All zero: nothing is known. */
typedef struct pio_tpe_cells {
	pio_tpe_cell *all;
	double *logs;              /* a row a cell, of `classes_max` */
	size_t count, capacity, classes_max;
	uint32_t *places;          /* by the hash of x: 0, or the number of a cell, from 1 on */
	size_t places_count;       /* a power of two, at least twice the capacity */
} pio_tpe_cells;

void pio_tpe_cells_fini(pio_tpe_cells *cells);
/* The classes are others now. */
void pio_tpe_cells_forget(pio_tpe_cells *cells);
/* Before so many cells are asked for, with so many classes: what was asked for since stays where
 * it is until the next call. */
int pio_tpe_cells_reserve(pio_tpe_cells *cells, size_t asked, size_t classes_count, pio_err *err);
/* By class the log of the mass in the cell of x; NULL where that is narrow beside any kernel, so
 * that the density in its middle will do. */
const double *pio_tpe_cells_logs(pio_tpe_cells *cells, const pio_axis *axis, double x,
                                 const pio_tpe_class *classes, size_t classes_count);

#endif
