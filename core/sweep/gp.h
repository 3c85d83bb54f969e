/* gp.h: a Gaussian process over a space of mixed and conditional parameters.
 *
 * The covariance is Matern's with nu = 5/2, a length of its own for each parameter, and a
 * noise; choices differ or do not (Hamming), and a parameter of a branch that was not taken
 * stands in the middle. Lengths and noise are the most probable ones (MAP), with the prior
 * LogNormal(sqrt 2 + log(d) / 2, sqrt 3) of lengths (Hvarfner et al., arXiv:2402.02229);
 * mean and variance are worked out in closed form. Values above the median are brought
 * into the shape of a normal distribution by their ranks, so that it does not count how bad
 * a bad one is, and all are standardized.
 *
 * No library of linear algebra is asked: the order of every sum is fixed, and so are the
 * bits. The time is of order count^3, the memory of order count^2. */
#ifndef PIO_SWEEP_GP_H
#define PIO_SWEEP_GP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "sweep/axis.h"

#define PIO_GP_AXES_MAX 200

/* A parameter: there where `parent`, an axis of choices before it, is at choice `when`. */
typedef struct pio_gp_axis {
	pio_axis axis;
	int parent;                /* -1: always there */
	int when;
} pio_gp_axis;

typedef struct pio_gp pio_gp;

/* 1 to PIO_GP_AXES_MAX axes. */
int pio_gp_new(pio_gp **gp, const pio_gp_axis *axes, int axes_count, pio_err *err);

/* How it is to see things. At first: Matern's, values by their ranks, 1e-6. */
typedef struct pio_gp_view {
	bool is_smooth;            /* exp(-r^2 / 2) is the covariance: for what is as good as a polynomial */
	bool is_plain;             /* values are what they are, however bad the bad ones */
	double noise_min;          /* in parts of the variance */
} pio_gp_view;

void pio_gp_look(pio_gp *gp, const pio_gp_view *view);

/* Points are rows of one coordinate an axis, NAN where that is not there. values: the lower
 * the better; not finite: it failed, and is as bad as the worst. doubts: by how much each value may be off,
 * its deviation, beside the noise of all; NULL: by nothing. */

/* Learn lengths and noise; `calls` of the likelihood at most. */
int pio_gp_learn(pio_gp *gp, const double *points, const double *values, const double *doubts, size_t count,
                 int calls, pio_err *err);
/* Or let them be these: lengths of each axis in parts of its range. */
void pio_gp_set(pio_gp *gp, const double *lengths, double noise);
/* Take these for known. `pending` more points are under way, and taken to come out as the
 * model expects: there is less to learn near them. */
int pio_gp_know(pio_gp *gp, const double *points, const double *values, const double *doubts, size_t count,
                const double *pending, size_t pending_count, pio_err *err);

/* ---- of what it knows: a point is in units, as pio_gp_unit gives it -------------------- */

/* 0 to 1 of a range, of a choice its number; -1 and 0.5 where it is not there. */
void pio_gp_unit(double *unit, const pio_gp *gp, const double *point);
/* Back; numbers of cells and choices are snapped. */
void pio_gp_point(double *point, const pio_gp *gp, const double *unit);
/* Mean and deviation in standardized values; deviation, which takes most of the time, and
 * gradients may be NULL, and are 0 for what is a
 * choice or not there. */
void pio_gp_predict(double *mean, double *deviation, double *mean_gradient, double *deviation_gradient,
                    pio_gp *gp, const double *unit);
/* The known point that the model thinks is best, of those that count (NULL: all): the number of
 * its row, and its mean; INFINITY where none does. */
size_t pio_gp_best(double *mean, const pio_gp *gp, const bool *counts);
/* Where 0 is in standardized values, if the view is plain. Of known values that are all the same
 * it is the deviation far from them above or below these. */
double pio_gp_zero(const pio_gp *gp);
size_t pio_gp_count(const pio_gp *gp);                         /* of known points */
const double *pio_gp_known(const pio_gp *gp, size_t row);      /* borrowed, in units */
const pio_gp_axis *pio_gp_axes(int *count, const pio_gp *gp);
/* The deviation far from all that is known. */
double pio_gp_width(const pio_gp *gp);
/* log of how likely the known values are, but for what is the same for all lengths and noises. */
double pio_gp_evidence(const pio_gp *gp);
/* Of an axis in parts of its range; the noise in parts of the variance. */
double pio_gp_length(const pio_gp *gp, int axis);
double pio_gp_noise(const pio_gp *gp);
/* Of what is known: 1 of a standardized value in values, where these are below the median. */
double pio_gp_scale(const pio_gp *gp);
/* NULL is fine. */
void pio_gp_free(pio_gp *gp);

#endif
