/* tpe_side.h: one of the two mixtures of a Parzen estimator, for tpe.c alone.
 *
 * Kernels stand in the order in which their points began, the broad one last. Of each
 * kernel the logarithm of all that does not depend on the candidate (its weight, its
 * widths and what the bounds cut off) is worked out once. */
#ifndef PIO_SWEEP_TPE_SIDE_H
#define PIO_SWEEP_TPE_SIDE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sweep/axis.h"
#include "sweep/draw.h"

/* A parameter of the group, and all points along it. */
typedef struct pio_tpe_track {
	pio_axis axis;
	double *x;                 /* coordinate of each slot */
	uint32_t *order;           /* slots by coordinate, then by slot; not of a choice */
	/* of each slot, as worked out last: its width, what of it the bounds cut off below and
	 * leave inside, and log(sigma inside) */
	double *sigma, *below, *inside, *norm;
} pio_tpe_track;

/* Kernels of a whole number that are the same: many points share few numbers. */
typedef struct pio_tpe_class {
	double mu, sigma;
} pio_tpe_class;

typedef struct pio_tpe_side {
	size_t count, capacity;    /* points; there is one kernel more */
	double *weight, *base;     /* of each kernel; the weights sum up to `weights` */
	double weights;
	uint32_t *slot;            /* of each kernel but the last */
	double **mu, **inverse;    /* of each axis: of each kernel, sqrt(1/2) / sigma */
	uint32_t **class_of;       /* of each axis of whole numbers: of each kernel */
	pio_tpe_class **classes;
	size_t *classes_count;
	double *tables;            /* of pio_tpe_side_score */
	size_t tables_capacity;
} pio_tpe_side;

int pio_tpe_side_init(pio_tpe_side *side, int axes_count, pio_err *err);
void pio_tpe_side_fini(pio_tpe_side *side, int axes_count);
/* Make the mixture of the `count` slots that are in it. member[slot]: its place among
 * the kernels, or UINT32_MAX for a slot that is not in it. */
int pio_tpe_side_build(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count,
                       const uint32_t *member, size_t slots, size_t count, pio_err *err);
/* A draw of the mixture. */
void pio_tpe_side_draw(double *point, const pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, pio_draw *draw);
/* log_density[i] of point i; what is the same in both mixtures is left out. */
int pio_tpe_side_score(double *log_density, pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, const double *points, int points_count, pio_err *err);

#endif
