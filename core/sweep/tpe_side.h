/* tpe_side.h: one of the two mixtures of a Parzen estimator, for tpe.c alone.
 *
 * Kernels stand in the order in which their points began, the broad one last. Of each
 * kernel the logarithm of all that does not depend on the candidate (its widths and what
 * the bounds cut off) is kept; a point that comes or goes changes that of its neighbours
 * alone, and the mixture is the same, bit for bit, as one made anew of the same points. */
#ifndef PIO_SWEEP_TPE_SIDE_H
#define PIO_SWEEP_TPE_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sweep/axis.h"
#include "sweep/draw.h"
#include "sweep/tpe_cells.h"

#define PIO_TPE_FINEST 100         /* no kernel is narrower than this part of its range */
#define PIO_TPE_BROAD_BELOW 0.30853753872598689637 /* ndtr(-1/2): the broad kernel is as wide as its range */
#define PIO_TPE_BROAD_INSIDE (1 - 2 * PIO_TPE_BROAD_BELOW)

/* A parameter of the group, and all points along it. */
typedef struct pio_tpe_track {
	pio_axis axis;
	double *x;                 /* coordinate of each slot */
	uint32_t *order;           /* slots by coordinate, then by slot; not of a choice */
	/* of each slot, as worked out last: its width, what of it the bounds cut off below and
	 * leave inside, and log(sigma inside) */
	double *sigma, *below, *inside, *norm;
} pio_tpe_track;

typedef struct pio_tpe_side {
	size_t count, capacity;    /* points; there is one kernel more */
	double *weight, *base;     /* of each kernel; the weights sum up to `weights` */
	double weights;
	uint32_t *slot;            /* of each kernel but the last */
	uint32_t *place;           /* of each slot that is in it, its kernel */
	size_t places;
	double part;               /* no kernel is narrower than its range / part */
	bool is_stale;             /* all widths must be worked out again */
	bool is_never_drawn;       /* so what the bounds cut off far away need not be known */
	double **mu, **inverse;    /* of each axis: of each kernel, sqrt(1/2) / sigma */
	uint32_t **sorted;         /* of each axis with an order: slots by coordinate, then by slot */
	uint32_t **class_of;       /* of each axis of whole numbers: of each kernel */
	pio_tpe_class **classes;
	size_t *classes_count, *classes_used; /* some are out of use since all widths were worked out */
	pio_tpe_cells *cells;      /* of each axis of whole numbers */
	/* of pio_tpe_side_score: of each candidate, and of a block of kernels for each */
	struct pio_tpe_term *terms;
	struct pio_tpe_sum *sums;
	double *logs;
	size_t scored_max;
} pio_tpe_side;

int pio_tpe_side_init(pio_tpe_side *side, int axes_count, pio_err *err);
void pio_tpe_side_free_scores(pio_tpe_side *side);
void pio_tpe_side_fini(pio_tpe_side *side, int axes_count);
/* Make the mixture of `count` of the slots 0..slots-1, in their order. */
int pio_tpe_side_build(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count,
                       const uint32_t *members, size_t count, size_t slots, pio_err *err);
/* How many points it is about to have; then, one after another, a point that is not in it comes,
 * or one that is goes; then, before the mixture is used: pio_tpe_side_ready. When no memory is
 * left, build it anew. */
void pio_tpe_side_expect(pio_tpe_side *side, size_t count);
int pio_tpe_side_put(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count, uint32_t slot, pio_err *err);
void pio_tpe_side_take(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count, uint32_t slot);
void pio_tpe_side_ready(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count);
/* log probability of the choice that a kernel has seen, and of each other. */
void pio_tpe_choice_logs(double *seen, double *other, const pio_axis *axis, size_t count);
/* Draws of the mixture. */
void pio_tpe_side_draw(double *points, int points_count, const pio_tpe_side *side,
                       const pio_tpe_track *tracks, int axes_count, pio_draw *draw);
/* log_density[i] of point i; what is the same in both mixtures is left out. */
int pio_tpe_side_score(double *log_density, pio_tpe_side *side, const pio_tpe_track *tracks,
                       int axes_count, const double *points, int points_count, pio_err *err);

#endif
