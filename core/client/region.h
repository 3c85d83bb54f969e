/* region.h: which elements of a tensor somebody has, and what two have in common.
 *
 * A region is a box of a tensor, or a run of its row-major elements; the whole is
 * a box. It consists of runs of equal length that follow each other in the order
 * of the elements, and lies in memory and in files run after run: so what two
 * regions of one tensor share is found by walking along both. Private to
 * core/client. */
#ifndef PIO_CLIENT_REGION_H
#define PIO_CLIENT_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/safetensors.h"
#include "client/pioche.h"

typedef struct pio_region {
	int ndim;                                 /* of the whole tensor */
	int64_t whole[PIO_SAFETENSORS_DIMS_MAX];  /* its shape */
	int64_t begin[PIO_SAFETENSORS_DIMS_MAX];  /* of the box; begin[0] alone where flat, in elements */
	int64_t size[PIO_SAFETENSORS_DIMS_MAX];   /* the same */
	bool flat;
	int outer;                                /* dimensions that are walked; the rest is one run */
	int64_t run, runs;                        /* elements of a run; how many */
	int64_t stride[PIO_SAFETENSORS_DIMS_MAX]; /* elements from one index to the next, by dimension */
} pio_region;

/* What `part` says of a tensor of `shape` (NULL: that it is whole). PIO_EINVAL
 * names the tensor and what does not fit. */
int pio_region_of(pio_region *region, const char *name, int ndim, const int64_t *shape,
                  const pio_part *part, pio_err *err);
/* Elements. */
int64_t pio_region_count(const pio_region *region);
bool pio_region_same_whole(const pio_region *a, const pio_region *b);

/* Told of `count` elements that both have: where they are in each, counted in the
 * elements of that region. Anything but 0 ends the walk. */
typedef int pio_region_fn(void *context, int64_t at_a, int64_t at_b, int64_t count, pio_err *err);
/* All that two regions of one tensor share, in order. */
int pio_region_share(const pio_region *a, const pio_region *b, pio_region_fn *told, void *context,
                     pio_err *err);

#endif
