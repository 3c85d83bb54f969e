/* front.h: points with several goals: which are better, how crowded they lie, how much
 * they cover.
 *
 * A point is a row of `goals` values, the lower the better, all of them finite. One
 * dominates another where it is nowhere worse and somewhere better. Only +, -, * and
 * comparisons are used, in a fixed order, so the bits are the same on every machine. */
#ifndef PIO_SWEEP_FRONT_H
#define PIO_SWEEP_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_FRONT_GOALS_MAX 16

bool pio_front_dominates(const double *a, const double *b, int goals);

/* The front that each row is on, 0 for what nothing dominates, 1 for what only those of
 * front 0 do and so on (non-dominated sorting, Deb et al., IEEE TEC 6(2) 2002, by the
 * method of Zhang et al., IEEE TEC 19(2) 2015). violations, which may be NULL: where that
 * of a row is more than 0 it comes behind all rows where it is not, in the order of the
 * violations, whatever its values are. */
int pio_front_ranks(uint32_t *ranks, const double *values, const double *violations, size_t count, int goals,
                    pio_err *err);

/* How far apart the neighbours of each row are, summed over the goals in parts of their
 * ranges; INFINITY for the ends (crowding distance, Deb et al. 2002). All rows count. */
int pio_front_crowding(double *distances, const double *values, size_t count, int goals, pio_err *err);

/* The volume between the rows and a reference point that is worse than they are; a row
 * that is not better everywhere adds nothing (for three goals and more by the exclusive
 * volumes of While, Bradstreet and Barone, IEEE TEC 16(1) 2012). */
int pio_front_hypervolume(double *volume, const double *values, size_t count, int goals,
                          const double *reference, pio_err *err);

/* Choose `wanted` rows, each time the one that adds most to the volume of those before it,
 * of several the first (greedy subset selection, Guerreiro, Fonseca and Paquete, Evolutionary
 * Computation 24(3) 2016). chosen: wanted numbers of rows, in that order. */
int pio_front_subset(uint32_t *chosen, size_t wanted, const double *values, size_t count, int goals,
                     const double *reference, pio_err *err);

#endif
