/* tpe.h: the tree-structured Parzen estimator over one group of parameters that
 * always occur together; what groups there are is policy (lua/pioche/samplers/tpe.lua).
 *
 * What was observed is split into the best few (below) and the rest (above), among
 * which are those still under way and those that failed. Each side is a mixture with
 * one kernel an observation, a product over the axes, and a broad one for what is not
 * known; candidates are drawn from the mixture below, and come out in the order of
 * log below - log above (Bergstra et al., NeurIPS 2011; the multivariate form, split,
 * weights, bandwidths and "magic clip" as surveyed by Watanabe, arXiv:2304.11127).
 *
 * A proposal is a function of the draws, of what was added and of what was set, in
 * their order; its bits are the same on every machine. */
#ifndef PIO_SWEEP_TPE_H
#define PIO_SWEEP_TPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sweep/axis.h"
#include "sweep/draw.h"

typedef struct pio_tpe pio_tpe;

typedef struct pio_tpe_options {
	int candidates;            /* drawn for each proposal: 24 */
	double gamma;              /* the part of the finished ones that is below: 0.1 */
	int below_max;             /* and at most so many: 25 */
} pio_tpe_options;

int pio_tpe_new(pio_tpe **tpe, const pio_axis *axes, int axes_count, const pio_tpe_options *options,
                pio_err *err);
/* A point begins: one coordinate an axis (axis.h). *slot names it from now on. */
int pio_tpe_add(size_t *slot, pio_tpe *tpe, const double *point, pio_err *err);
/* What it came to, the lower the better; not finite: it failed. Again: it counts anew. */
int pio_tpe_set(pio_tpe *tpe, size_t slot, double value, pio_err *err);
/* It counts no more, on neither side. */
int pio_tpe_drop(pio_tpe *tpe, size_t slot, pio_err *err);
/* How many points have a value. */
size_t pio_tpe_finished(const pio_tpe *tpe);
/* Draw candidates and sort them, the best first; before anything is known they are
 * draws of the whole space. *points is borrowed until the next call:
 * options.candidates rows of one coordinate an axis. */
int pio_tpe_propose(const double **points, pio_tpe *tpe, pio_draw *draw, pio_err *err);
/* NULL is fine. */
void pio_tpe_free(pio_tpe *tpe);

#endif
