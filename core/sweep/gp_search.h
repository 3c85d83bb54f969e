/* gp_search.h: where a Gaussian process expects the largest improvement.
 *
 * On its logarithm, which has a slope where the improvement itself is 0 to all digits (Ament
 * et al., arXiv:2310.20708). Random points of the whole space and around the best ones known
 * are weighed; from the best of these the way goes uphill along what is continuous, and by
 * trying the neighbours of what is not. */
#ifndef PIO_SWEEP_GP_SEARCH_H
#define PIO_SWEEP_GP_SEARCH_H

#include <stddef.h>

#include "sweep/draw.h"
#include "sweep/gp.h"
#include "sweep/gp_limit.h"

typedef struct pio_gp_effort {
	int candidates;            /* random points */
	int starts;                /* from so many the way goes uphill */
	int calls;                 /* each by so many looks at the model */
} pio_gp_effort;

/* A part of the space in which the mean less `care` deviations is to be the least. Choices on
 * which parameters depend are those of the middle. */
typedef struct pio_gp_region {
	const double *middle, *half; /* in units; half: to either side of it, one an axis */
	double care;
} pio_gp_region;

/* log of the expected improvement on `best` of what has this mean and deviation. */
double pio_gp_log_improvement(double mean, double deviation, double best);
/* Rows of one coordinate an axis into `points`, which has room for effort->starts of them:
 * the best first, none twice. *found says how many. region NULL: everywhere, what promises
 * the largest improvement. limits, or NULL: everywhere and in a region of what meets them, on the
 * best that does; while none does, what is the likeliest to (Gelbart et al., arXiv:1403.5607). */
int pio_gp_search(double *points, size_t *found, pio_gp *gp, const pio_gp_effort *effort,
                  const pio_gp_region *region, const pio_gp_limits *limits, pio_draw *draw, pio_err *err);
/* Of the points on the region's border along one axis each, the one of which the least is
 * known: its coordinates, and the deviation there in parts of the one far from all points. */
double pio_gp_probe(double *point, pio_gp *gp, const pio_gp_region *region);

#endif
