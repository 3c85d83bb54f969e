/* cma_choice.h: probabilities of choices that follow the better points, for cma.c alone.
 *
 * The natural gradient of what is expected, with a step whose length is adapted to how well
 * the newest gradients agree (Akimoto et al., Adaptive stochastic natural gradient,
 * arXiv:1905.08537), and a least probability of each choice (arXiv:2504.07884). */
#ifndef PIO_SWEEP_CMA_CHOICE_H
#define PIO_SWEEP_CMA_CHOICE_H

#include <stddef.h>

typedef struct pio_cma_choice {
	int axes_count;
	const int *counts;         /* of each axis: choices; borrowed, as all arrays here */
	double *q, *gradient;      /* of all axes, one after the other */
	double *path;              /* of the gradients, in units of their own width */
	double gamma;              /* how much of the path has come together */
	double step, divisor;      /* its length; 1 / the next one's */
	double least;              /* times 1 / (choices - 1): the least probability */
} pio_cma_choice;

/* How many numbers each of the three arrays has. */
size_t pio_cma_choice_room(const int *counts, int axes_count);
/* All alike. */
void pio_cma_choice_begin(pio_cma_choice *choice);
/* weights[i] of the point i, the sum of which is 1; at(context, i, axis) is its choice, -1
 * where it has none. */
void pio_cma_choice_update(pio_cma_choice *choice, const double *weights, int count,
                           int (*at)(const void *context, int point, int axis), const void *context);

#endif
