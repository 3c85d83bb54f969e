/* forest.h: how much of what a function does is due to each parameter, by a random forest
 * (functional ANOVA, Hutter, Hoos and Leyton-Brown, ICML 2014).
 *
 * Each tree is grown on a draw of the points with replacement, until its leaves are pure,
 * have one point or are 64 splits deep. A tree is constant on boxes, so the mean over all other parameters is exact
 * for each value of one; its variance over that one's domain, in parts of the tree's variance
 * over the whole space, is its importance. Logarithmic parameters are weighed on their logarithm
 * (axis.h), whole numbers by their cells, choices alike. */
#ifndef PIO_SWEEP_FOREST_H
#define PIO_SWEEP_FOREST_H

#include <stddef.h>

#include "base/err.h"
#include "sweep/axis.h"
#include "sweep/draw.h"

#define PIO_FOREST_CHOICES_MAX 64  /* of an axis of choices */

/* importance: of each axis, the mean over the trees; all 0 where the values are all the same.
 * points: rows of one coordinate an axis; values: finite. */
int pio_forest_importance(double *importance, const pio_axis *axes, int axes_count, const double *points,
                          const double *values, size_t count, int trees, pio_draw *draw, pio_err *err);

#endif
