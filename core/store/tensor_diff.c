#include "store/tensor_diff.h"

#include <math.h>
#include <string.h>

#include "base/element.h"
#include "base/mem.h"
#include "sys/stored.h"

#define BLOCK_NUMBERS (1 << 17)   /* read at a time */
#define PART_NUMBERS 1024         /* decoded at a time: both stay in the nearest cache */
#define LANES 4                   /* sums side by side, which a compiler makes vectors of */

/* One side. */
typedef struct side {
	const pio_tensor_place *place;
	const pio_element *element;
	pio_stored *file;
	uint8_t *block;
} side;

typedef struct sums {
	double max, dd, aa, bb, ab;
} sums;

/* ---- the inner loop ---------------------------------------------------------------------- */

/* Of a part that is padded with zeros to a multiple of LANES. Where something in it is
 * not finite, neither is dd. */
static sums sum_part(const double *a, const double *b, size_t count)
{
	double max[LANES] = { 0 }, dd[LANES] = { 0 }, aa[LANES] = { 0 }, bb[LANES] = { 0 }, ab[LANES] = { 0 };
	for (size_t i = 0; i < count; i += LANES) {
		for (size_t k = 0; k < LANES; k++) {
			double x = a[i + k], y = b[i + k], d = y - x, size = fabs(d);
			max[k] = size > max[k] ? size : max[k];
			dd[k] += d * d;
			aa[k] += x * x;
			bb[k] += y * y;
			ab[k] += x * y;
		}
	}
	sums s = { 0 };
	for (size_t k = 0; k < LANES; k++) {
		s.max = max[k] > s.max ? max[k] : s.max;
		s.dd += dd[k];
		s.aa += aa[k];
		s.bb += bb[k];
		s.ab += ab[k];
	}
	return s;
}

/* Zeros on both sides for what is not finite on one; how many there were. */
static int64_t clear_unfinite(double *a, double *b, size_t count)
{
	int64_t cleared = 0;
	for (size_t i = 0; i < count; i++)
		if (!isfinite(a[i]) || !isfinite(b[i])) {
			a[i] = b[i] = 0;
			cleared++;
		}
	return cleared;
}

#define COUNT_CHANGED(type) \
	do { \
		for (size_t i = 0; i < count; i++) { \
			type x, y; \
			memcpy(&x, (const char *)a + i * sizeof x, sizeof x); \
			memcpy(&y, (const char *)b + i * sizeof y, sizeof y); \
			changed += x != y; \
		} \
	} while (0)

/* Elements of which the bits differ. */
static int64_t count_bits(const void *a, const void *b, size_t count, int size_bytes)
{
	int64_t changed = 0;
	switch (size_bytes) {
	case 1: COUNT_CHANGED(uint8_t); break;
	case 2: COUNT_CHANGED(uint16_t); break;
	case 4: COUNT_CHANGED(uint32_t); break;
	default: COUNT_CHANGED(uint64_t);
	}
	return changed;
}

/* Of two types: a NaN is as good as another. */
static int64_t count_numbers(const double *a, const double *b, size_t count)
{
	int64_t changed = 0;
	for (size_t i = 0; i < count; i++)
		changed += a[i] != b[i] && (a[i] == a[i] || b[i] == b[i]);
	return changed;
}

/* Where in the part is the difference that made the maximum go up? */
static int64_t find_max(const double *a, const double *b, size_t count, double max)
{
	for (size_t i = 0; i < count; i++)
		if (fabs(b[i] - a[i]) == max)
			return (int64_t)i;
	return 0;
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* Numbers of both sides, as many as fit into a part. */
static void measure_part(pio_tensor_diff *diff, sums *s, double *a, double *b, size_t count, int64_t first)
{
	for (size_t i = count; i % LANES; i++)
		a[i] = b[i] = 0;
	sums part = sum_part(a, b, count);
	if (!isfinite(part.dd)) {
		diff->unfinite += clear_unfinite(a, b, count);
		part = sum_part(a, b, count);
	}
	s->dd += part.dd;
	s->aa += part.aa;
	s->bb += part.bb;
	s->ab += part.ab;
	if (part.max > diff->max_abs) {
		diff->max_abs = part.max;
		diff->max_at = first + find_max(a, b, count, part.max);
	}
}

static void compare_block(pio_tensor_diff *diff, sums *s, const side *a, const side *b, size_t count,
                          int64_t first)
{
	double x[PART_NUMBERS], y[PART_NUMBERS];
	bool same_type = a->element == b->element;
	for (size_t at = 0; at < count; at += PART_NUMBERS) {
		size_t n = count - at < PART_NUMBERS ? count - at : PART_NUMBERS;
		const uint8_t *p = a->block + at * (size_t)a->element->size_bytes;
		const uint8_t *q = b->block + at * (size_t)b->element->size_bytes;
		if (same_type)
			diff->changed += count_bits(p, q, n, a->element->size_bytes);
		if (!diff->measured)
			continue;
		pio_element_decode(x, a->element, p, n);
		pio_element_decode(y, b->element, q, n);
		if (!same_type)
			diff->changed += count_numbers(x, y, n);
		measure_part(diff, s, x, y, n, first + (int64_t)at);
	}
}

static int read_block(side *s, size_t count, int64_t first, pio_err *err)
{
	return pio_stored_read(s->file, s->block, count * (size_t)s->element->size_bytes,
	                       s->place->offset + first * s->element->size_bytes, err);
}

static void finish(pio_tensor_diff *diff, const sums *s)
{
	int64_t finite = diff->elements - diff->unfinite;
	diff->rms = finite ? sqrt(s->dd / (double)finite) : 0;
	diff->relative = sqrt(s->dd) / sqrt(s->aa);
	diff->cosine = s->ab / (sqrt(s->aa) * sqrt(s->bb));
}

static int compare(pio_tensor_diff *diff, side *a, side *b, pio_tensor_diff_heard *heard, void *context,
                   pio_err *err)
{
	sums s = { 0 };
	int bytes = a->element->size_bytes + b->element->size_bytes;
	for (int64_t first = 0; first < diff->elements; first += BLOCK_NUMBERS) {
		int64_t left = diff->elements - first;
		size_t count = left < BLOCK_NUMBERS ? (size_t)left : BLOCK_NUMBERS;
		int rc = read_block(a, count, first, err);
		if (!rc)
			rc = read_block(b, count, first, err);
		if (rc)
			return rc;
		compare_block(diff, &s, a, b, count, first);
		if (heard)
			heard(context, (int64_t)count * bytes);
	}
	if (diff->measured)
		finish(diff, &s);
	return 0;
}

static int open_side(side *s, const pio_tensor_place *place, pio_err *err)
{
	s->place = place;
	s->element = pio_element_find(place->dtype);
	if (!s->element)
		return pio_fail(err, PIO_EINVAL, "element type \"%.40s\" is unknown", place->dtype);
	s->block = pio_alloc((size_t)BLOCK_NUMBERS * (size_t)s->element->size_bytes);
	if (!s->block)
		return pio_fail(err, PIO_ENOMEM, "out of memory to compare tensors");
	int rc = pio_stored_open(&s->file, place->path, err);
	if (!rc)
		pio_stored_expect(s->file, place->offset, place->size_bytes);
	return rc;
}

static void close_side(side *s)
{
	pio_stored_close(&s->file);
	pio_free(s->block);
}

int pio_tensor_diff_make(pio_tensor_diff *diff, const pio_tensor_place *place_a,
                         const pio_tensor_place *place_b, pio_tensor_diff_heard *heard, void *context,
                         pio_err *err)
{
	side a = { .file = NULL }, b = { .file = NULL };
	*diff = (pio_tensor_diff){ 0 };
	int rc = open_side(&a, place_a, err);
	if (!rc)
		rc = open_side(&b, place_b, err);
	if (!rc) {
		diff->elements = place_a->size_bytes / a.element->size_bytes;
		diff->measured = a.element->numbers && b.element->numbers;
		bool comparable = a.element->numbers == b.element->numbers
			&& (diff->measured || a.element == b.element);
		if (!comparable || diff->elements != place_b->size_bytes / b.element->size_bytes)
			rc = pio_fail(err, PIO_EINVAL, "%lld bytes of %s and %lld bytes of %s: expected as many "
			              "elements of types that compare", (long long)place_a->size_bytes, place_a->dtype,
			              (long long)place_b->size_bytes, place_b->dtype);
	}
	if (!rc)
		rc = compare(diff, &a, &b, heard, context, err);
	close_side(&a);
	close_side(&b);
	return rc;
}
