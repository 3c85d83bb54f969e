/* cma.h: the evolution strategy with covariance matrix adaptation over mixed parameters.
 *
 * Numbers are drawn from a normal distribution whose mean, width and covariance follow the
 * better half of each generation, and turn away from the worse one (Hansen, The CMA
 * evolution strategy: a tutorial, arXiv:1604.00772). Whole numbers keep a margin, so that
 * none of them is out of reach for good (Hamano et al., CMA-ES with margin, arXiv:2205.13482
 * and 2212.09260). Choices are drawn from probabilities of their own, which follow the
 * natural gradient with an adapted step and a margin, too (CatCMA with margin,
 * arXiv:2504.07884).
 *
 * A generation is as many results as it has points, whichever come first: what was drawn
 * before the newest generation, or comes from elsewhere, counts as well, its distance being
 * cut off (Hansen, Injecting external solutions into CMA-ES, arXiv:1110.4181). So nobody
 * waits, and no result is lost.
 *
 * A latent is a row of one number an axis: of the range in units, 0 to 1, before it is put
 * into a cell; of a choice which. All bits are the same on every machine. */
#ifndef PIO_SWEEP_CMA_H
#define PIO_SWEEP_CMA_H

#include <stdbool.h>

#include "base/err.h"
#include "sweep/axis.h"
#include "sweep/draw.h"

#define PIO_CMA_AXES_MAX 200

typedef struct pio_cma pio_cma;

/* 1 to PIO_CMA_AXES_MAX axes. It begins in the middle, a sixth of each range wide, with
 * generations of `population` points; 0: 4 + 3 log(axes). */
int pio_cma_new(pio_cma **cma, const pio_axis *axes, int axes_count, int population, pio_err *err);
/* Begin again elsewhere: mean[axis] in units, of a choice nothing. What was told is forgotten. */
int pio_cma_begin(pio_cma *cma, const double *mean, double sigma, int population, pio_err *err);
/* A point of the present generation. */
void pio_cma_draw(double *latent, const pio_cma *cma, pio_draw *draw);
/* The coordinates of what a latent stands for, and a latent of coordinates; what is NAN
 * there is in the middle of what is drawn now. */
void pio_cma_point(double *point, const pio_cma *cma, const double *latent);
void pio_cma_latent(double *latent, const pio_cma *cma, const double *point);
/* What came of a latent, the lower the better; not finite: it failed, and is the worst.
 * generation: in which it was drawn, which is for nothing if that was before it began again;
 * -1: it comes from elsewhere. */
void pio_cma_tell(pio_cma *cma, const double *latent, double value, int generation);
/* Counted on where it begins again. */
int pio_cma_generation(const pio_cma *cma);
int pio_cma_population(const pio_cma *cma);
/* Nothing more is to be found where it is: it is narrow, flat, or has lost its digits. */
bool pio_cma_is_over(const pio_cma *cma);

/* Of axes that are numbers, in their order: the mean; the width of each, `sigma` and the
 * margin in it; and the covariance, row by row. */
int pio_cma_numbers(const pio_cma *cma);
const double *pio_cma_mean(const pio_cma *cma);
const double *pio_cma_covariance(const pio_cma *cma);
double pio_cma_sigma(const pio_cma *cma);
double pio_cma_margin(const pio_cma *cma, int number);
/* The probability of a choice of an axis. */
double pio_cma_probability(const pio_cma *cma, int axis, int choice);
/* NULL is fine. */
void pio_cma_free(pio_cma *cma);

#endif
