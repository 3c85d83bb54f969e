/* histogram.h: how values are spread, in a few hundred bytes that add up.
 *
 * Two grids. The *log* grid needs no choice: a bucket is what shares sign,
 * exponent and the top 4 bits of the mantissa of a double, so that 16 of them
 * cover each power of two, none is wider than 1/16 of its lower edge, and the
 * number of a bucket comes from the bits alone, the same on every machine.
 * Zero (of either sign) has a bucket of its own; denormals share the grid. The
 * grid of *edges* is for histograms that come from elsewhere with their own.
 *
 * NaN and infinities are counted and belong to no bucket; min, max and sums
 * are those of the finite values. Merging is adding: any order gives the same
 * counts, and the same sums but for rounding.
 *
 * Bytes (PIO_HISTOGRAM_MIME), little-endian; `v` is an unsigned LEB128 number
 * of at most 10 bytes, the shortest that holds it:
 *   char[4] "PIOH", u8 version 1, u8 grid (1 log, 2 edges)
 *   v nans, v infinities, v negative infinities
 *   f64 min, max, sum, sum of squares         all 0 without a finite value
 *   v buckets, then for each
 *     log:   v distance to the bucket before (the first: to -32753), v count > 0
 *     edges: f64 lower edge, v count;  at the end f64 last edge
 * Log bucket k > 0 holds what is in [bits (k-1) << 48, bits k << 48), bucket
 * -k its mirror image, bucket 0 the zeros.
 *
 * No I/O. One thread at a time per histogram. */
#ifndef PIO_BASE_HISTOGRAM_H
#define PIO_BASE_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PIO_HISTOGRAM_MIME "application/x-pioche-histogram"
#define PIO_HISTOGRAM_BUCKETS_MAX 65536u

/* Counts of the log grid's buckets first, first + 1, ... of one sign. */
typedef struct pio_histogram_side {
	uint64_t *counts;
	uint32_t first, size;
} pio_histogram_side;

typedef struct pio_histogram {
	uint64_t finite;             /* values in buckets: the sum of all counts */
	uint64_t nans, infinities, negative_infinities;
	double min, max;             /* of the finite values; 0 without one */
	double sum, sum_squares;
	/* Private from here: read by pio_histogram_next. */
	uint64_t zeros;
	pio_histogram_side sides[2]; /* log grid: positive, negative */
	double *edges;               /* grid of edges: `buckets` + 1 of them; else NULL */
	uint64_t *counts;
	size_t buckets;
} pio_histogram;

/* An empty histogram on the log grid; allocates nothing. */
#define PIO_HISTOGRAM_INIT { .finite = 0 }

typedef struct pio_histogram_bucket {
	double low, high;            /* low < high, or both 0 for the zeros, or both the only value */
	uint64_t count;
} pio_histogram_bucket;

/* Make it one of `buckets` counts between buckets + 1 finite edges that rise
 * strictly (copied). `finite` becomes the sum of the counts; min, max and sums
 * are the caller's to set (from the edges until then: min and max enclose all
 * counts, the sums take the middle of each bucket). PIO_EINVAL names the edge. */
int pio_histogram_init_edges(pio_histogram *histogram, const double *edges, const uint64_t *counts,
                             size_t buckets, pio_err *err);
/* Frees what it holds; empty afterwards. */
void pio_histogram_fini(pio_histogram *histogram);

/* Count n values. On a grid of edges a bucket holds [low, high), the last one
 * also its high, and a value outside is PIO_EINVAL (those before it count). */
int pio_histogram_add(pio_histogram *histogram, const double *values, size_t n, pio_err *err);
/* Add all that `other` counted. Grids must be the same: PIO_EINVAL. */
int pio_histogram_merge(pio_histogram *histogram, const pio_histogram *other, pio_err *err);

/* Buckets in rising order; those of the log grid that are empty are left out,
 * and its outermost end at min and max. Start with *at = 0; false at the end. */
bool pio_histogram_next(const pio_histogram *histogram, size_t *at, pio_histogram_bucket *bucket);

/* Append the bytes; equal histograms have equal bytes. Failure is in out->failed. */
void pio_histogram_encode(pio_str *out, const pio_histogram *histogram);
/* Read bytes from anywhere. PIO_ECORRUPT or PIO_EVERSION, and an empty
 * histogram, unless they are exactly one that pio_histogram_encode could have
 * made. The caller ends it with pio_histogram_fini. */
int pio_histogram_decode(pio_histogram *histogram, const void *bytes, size_t size_bytes,
                         pio_err *err);

#endif
