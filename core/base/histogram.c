#include "base/histogram.h"

#include <float.h>
#include <string.h>

#include "base/mem.h"

#define MAGIC "PIOH"
#define VERSION 1u
#define SHIFT 48u                       /* 52 mantissa bits, less the 4 that are kept */
#define TOP ((uint32_t)(0x7ffu << 4))   /* buckets of one sign: up to the infinities */
#define INFINITE_BITS (0x7ffull << 52)
#define SIGN_BIT (1ull << 63)
#define GROW 64u

enum grid { GRID_LOG = 1, GRID_EDGES = 2 };

static uint64_t bits_of(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static double of_bits(uint64_t bits)
{
	double value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static bool is_finite(double value)
{
	return (bits_of(value) & ~SIGN_BIT) < INFINITE_BITS;
}

/* ---- counting ----------------------------------------------------------------- */

/* Widen a side so that `index` is inside, with some room beyond it. */
static int side_reach(pio_histogram_side *side, uint32_t index, pio_err *err)
{
	uint32_t end = side->first + side->size;
	if (index >= side->first && index < end)
		return 0;
	uint32_t low = index > GROW ? index - GROW : 0;
	uint32_t high = index + GROW < TOP ? index + GROW + 1 : TOP;
	if (side->size) {
		low = index < side->first ? low : side->first;
		high = index >= end ? high : end;
	}
	uint64_t *counts = pio_calloc(high - low, sizeof *counts);
	if (!counts)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a histogram of %u buckets", high - low);
	if (side->size)
		memcpy(counts + (side->first - low), side->counts, side->size * sizeof *counts);
	pio_free(side->counts);
	*side = (pio_histogram_side){ .counts = counts, .first = low, .size = high - low };
	return 0;
}

static int side_add(pio_histogram_side *side, uint32_t index, uint64_t count, pio_err *err)
{
	int rc = side_reach(side, index, err);
	if (!rc)
		side->counts[index - side->first] += count;
	return rc;
}

/* The bucket of a finite value between edges; false if it is outside. */
static bool edges_find(const pio_histogram *h, double value, size_t *bucket)
{
	size_t low = 0, high = h->buckets;
	if (!(value >= h->edges[0] && value <= h->edges[h->buckets]))
		return false;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (value < h->edges[middle])
			high = middle;
		else
			low = middle;
	}
	*bucket = low;
	return true;
}

static int count_value(pio_histogram *h, double value, uint64_t bits, pio_err *err)
{
	size_t bucket;
	if (h->edges) {
		if (!edges_find(h, value, &bucket))
			return pio_fail(err, PIO_EINVAL, "value %g of a histogram is outside its edges, %g to %g",
			                value, h->edges[0], h->edges[h->buckets]);
		h->counts[bucket]++;
		return 0;
	}
	uint64_t magnitude = bits & ~SIGN_BIT;
	if (magnitude == 0) {
		h->zeros++;
		return 0;
	}
	pio_histogram_side *side = &h->sides[bits >> 63];
	uint32_t index = (uint32_t)(magnitude >> SHIFT);
	if (__builtin_expect(index - side->first < side->size, 1)) { /* unsigned: also not below */
		side->counts[index - side->first]++;
		return 0;
	}
	return side_add(side, index, 1, err);
}

int pio_histogram_add(pio_histogram *h, const double *values, size_t n, pio_err *err)
{
	double sum = 0, sum_squares = 0; /* of this call first: sums of sums lose less */
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++) {
		double value = values[i];
		uint64_t bits = bits_of(value);
		if ((bits & ~SIGN_BIT) >= INFINITE_BITS) {
			if ((bits & ~SIGN_BIT) > INFINITE_BITS)
				h->nans++;
			else if (bits & SIGN_BIT)
				h->negative_infinities++;
			else
				h->infinities++;
			continue;
		}
		rc = count_value(h, value, bits, err);
		if (rc)
			break;
		value += 0.0; /* -0.0 becomes 0.0: which zero was first must not show */
		if (h->finite == 0 || value < h->min)
			h->min = value;
		if (h->finite == 0 || value > h->max)
			h->max = value;
		h->finite++;
		sum += value;
		sum_squares += value * value;
	}
	h->sum += sum;
	h->sum_squares += sum_squares;
	return rc;
}

/* ---- life ---------------------------------------------------------------------- */

static int check_edges(const double *edges, size_t buckets, pio_err *err)
{
	if (buckets < 1 || buckets > PIO_HISTOGRAM_BUCKETS_MAX)
		return pio_fail(err, PIO_EINVAL, "a histogram of %zu buckets: 1 to %u expected", buckets,
		                PIO_HISTOGRAM_BUCKETS_MAX);
	for (size_t i = 0; i <= buckets; i++) {
		if (!is_finite(edges[i]))
			return pio_fail(err, PIO_EINVAL, "edge %zu of a histogram is %g: a finite number expected",
			                i, edges[i]);
		if (i && !(edges[i - 1] < edges[i]))
			return pio_fail(err, PIO_EINVAL, "edge %zu of a histogram is %g, the one before %g: "
			                "rising edges expected", i, edges[i], edges[i - 1]);
	}
	return 0;
}

static int take_edges(pio_histogram *h, const double *edges, const uint64_t *counts,
                      size_t buckets, pio_err *err)
{
	h->edges = pio_alloc((buckets + 1) * sizeof *h->edges);
	h->counts = pio_alloc(buckets * sizeof *h->counts);
	if (!h->edges || !h->counts) {
		pio_histogram_fini(h);
		return pio_fail(err, PIO_ENOMEM, "out of memory for a histogram of %zu buckets", buckets);
	}
	memcpy(h->edges, edges, (buckets + 1) * sizeof *edges);
	memcpy(h->counts, counts, buckets * sizeof *counts);
	h->buckets = buckets;
	return 0;
}

int pio_histogram_init_edges(pio_histogram *h, const double *edges, const uint64_t *counts,
                             size_t buckets, pio_err *err)
{
	*h = (pio_histogram)PIO_HISTOGRAM_INIT;
	int rc = check_edges(edges, buckets, err);
	if (!rc)
		rc = take_edges(h, edges, counts, buckets, err);
	for (size_t i = 0; i < buckets && !rc; i++) {
		if (!counts[i])
			continue;
		double middle = edges[i] / 2 + edges[i + 1] / 2, n = (double)counts[i];
		h->min = h->finite ? h->min : edges[i];
		h->max = edges[i + 1];
		h->sum += n * middle;
		h->sum_squares += n * middle * middle;
		if (__builtin_add_overflow(h->finite, counts[i], &h->finite))
			rc = pio_fail(err, PIO_EINVAL, "the counts of a histogram add up to more than 64 bits");
	}
	if (rc)
		pio_histogram_fini(h);
	return rc;
}

void pio_histogram_fini(pio_histogram *h)
{
	pio_free(h->sides[0].counts);
	pio_free(h->sides[1].counts);
	pio_free(h->edges);
	pio_free(h->counts);
	*h = (pio_histogram)PIO_HISTOGRAM_INIT;
}

static bool same_grid(const pio_histogram *a, const pio_histogram *b)
{
	if (!a->edges || !b->edges)
		return !a->edges && !b->edges;
	return a->buckets == b->buckets &&
	       memcmp(a->edges, b->edges, (a->buckets + 1) * sizeof *a->edges) == 0;
}

/* Room for all of the other's buckets first, so that a failure changes no count. */
static int reach_all(pio_histogram *h, const pio_histogram *other, pio_err *err)
{
	for (int s = 0; s < 2; s++) {
		const pio_histogram_side *side = &other->sides[s];
		for (uint32_t i = 0; i < side->size; i++) {
			int rc = side->counts[i] ? side_reach(&h->sides[s], side->first + i, err) : 0;
			if (rc)
				return rc;
		}
	}
	return 0;
}

int pio_histogram_merge(pio_histogram *h, const pio_histogram *other, pio_err *err)
{
	if (!same_grid(h, other))
		return pio_fail(err, PIO_EINVAL, "histograms of different buckets cannot be added");
	int rc = reach_all(h, other, err);
	if (rc)
		return rc;
	for (int s = 0; s < 2; s++)
		for (uint32_t i = 0; i < other->sides[s].size; i++)
			if (other->sides[s].counts[i])
				h->sides[s].counts[other->sides[s].first + i - h->sides[s].first] +=
					other->sides[s].counts[i];
	for (size_t i = 0; i < h->buckets; i++)
		h->counts[i] += other->counts[i];
	if (other->finite) {
		h->min = h->finite && h->min <= other->min ? h->min : other->min;
		h->max = h->finite && h->max >= other->max ? h->max : other->max;
	}
	h->finite += other->finite;
	h->zeros += other->zeros;
	h->nans += other->nans;
	h->infinities += other->infinities;
	h->negative_infinities += other->negative_infinities;
	h->sum += other->sum;
	h->sum_squares += other->sum_squares;
	return 0;
}

/* ---- walking ------------------------------------------------------------------- */

/* Position p of a walk over the log grid is bucket p - TOP. The first of
 * position p or after that is not empty, 2 * TOP + 1 if there is none. */
static size_t next_position(const pio_histogram *h, size_t p, uint64_t *count)
{
	const pio_histogram_side *positive = &h->sides[0], *negative = &h->sides[1];
	for (; p < TOP; p++) { /* position p is magnitude index TOP - 1 - p */
		uint32_t index = (uint32_t)(TOP - 1 - p), end = negative->first + negative->size;
		if (negative->size == 0 || index < negative->first)
			break;
		if (index >= end) {
			p = TOP - 1 - (end - 1);
			index = end - 1;
		}
		*count = negative->counts[index - negative->first];
		if (*count)
			return p;
	}
	if (p <= TOP && (*count = h->zeros))
		return TOP;
	uint32_t index = p > TOP ? (uint32_t)(p - TOP - 1) : 0;
	if (index < positive->first)
		index = positive->first;
	for (; index < positive->first + positive->size; index++) {
		*count = positive->counts[index - positive->first];
		if (*count)
			return (size_t)TOP + 1 + index;
	}
	return 2 * (size_t)TOP + 1;
}

static void log_bounds(pio_histogram_bucket *bucket, const pio_histogram *h, size_t p)
{
	uint64_t index = p < TOP ? TOP - 1 - p : p - TOP - 1;
	double near = p == TOP ? 0 : of_bits(index << SHIFT);
	double far = p == TOP ? 0 : index == TOP - 1 ? DBL_MAX : of_bits((index + 1) << SHIFT);
	bucket->low = p < TOP ? -far : near;
	bucket->high = p < TOP ? -near + 0.0 : far;
	bucket->low = bucket->low < h->min ? h->min : bucket->low;
	bucket->high = bucket->high > h->max ? h->max : bucket->high;
}

bool pio_histogram_next(const pio_histogram *h, size_t *at, pio_histogram_bucket *bucket)
{
	if (h->edges) {
		if (*at >= h->buckets)
			return false;
		*bucket = (pio_histogram_bucket){ h->edges[*at], h->edges[*at + 1], h->counts[*at] };
		++*at;
		return true;
	}
	size_t p = next_position(h, *at, &bucket->count);
	if (p > 2 * (size_t)TOP)
		return false;
	log_bounds(bucket, h, p);
	*at = p + 1;
	return true;
}

/* ---- bytes --------------------------------------------------------------------- */

static void put_number(pio_str *out, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		pio_str_putc(out, (char)(n | 0x80));
	pio_str_putc(out, (char)n);
}

static void put_double(pio_str *out, double value)
{
	pio_str_append(out, &value, sizeof value);
}

void pio_histogram_encode(pio_str *out, const pio_histogram *h)
{
	uint64_t count, buckets = 0;
	pio_str_append(out, MAGIC, 4);
	pio_str_putc(out, (char)VERSION);
	pio_str_putc(out, h->edges ? GRID_EDGES : GRID_LOG);
	put_number(out, h->nans);
	put_number(out, h->infinities);
	put_number(out, h->negative_infinities);
	put_double(out, h->min);
	put_double(out, h->max);
	put_double(out, h->sum);
	put_double(out, h->sum_squares);
	if (h->edges) {
		put_number(out, h->buckets);
		for (size_t i = 0; i < h->buckets; i++) {
			put_double(out, h->edges[i]);
			put_number(out, h->counts[i]);
		}
		put_double(out, h->edges[h->buckets]);
		return;
	}
	for (size_t p = 0; (p = next_position(h, p, &count)) <= 2 * (size_t)TOP; p++)
		buckets++;
	put_number(out, buckets);
	size_t next = 0; /* the distance to the bucket before is 1 for its neighbour */
	for (size_t p = 0; (p = next_position(h, p, &count)) <= 2 * (size_t)TOP; next = ++p) {
		put_number(out, p - next + 1);
		put_number(out, count);
	}
}

typedef struct reader {
	const uint8_t *at, *end;
	bool bad;
} reader;

static uint64_t get_number(reader *r)
{
	uint64_t n = 0;
	for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		uint8_t byte = *r->at++;
		if ((shift == 63 && byte > 1) || (shift && byte == 0))
			break; /* more than 64 bits, or longer than it need be */
		n |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return n;
	}
	r->bad = true;
	return 0;
}

static double get_double(reader *r)
{
	double value = 0;
	if ((size_t)(r->end - r->at) < sizeof value) {
		r->bad = true;
		return 0;
	}
	memcpy(&value, r->at, sizeof value);
	r->at += sizeof value;
	return value;
}

static int corrupt(pio_err *err, const char *what)
{
	return pio_fail(err, PIO_ECORRUPT, "bytes of a histogram: %s", what);
}

static int decode_log(pio_histogram *h, reader *r, pio_err *err)
{
	uint64_t buckets = get_number(r);
	size_t next = 0;
	int rc = 0;
	for (uint64_t i = 0; i < buckets && !rc; i++) {
		uint64_t distance = get_number(r), count = get_number(r);
		if (r->bad)
			return corrupt(err, "cut short");
		if (distance == 0 || distance > 2 * (uint64_t)TOP + 1 - next || count == 0)
			return corrupt(err, "a bucket that cannot be");
		size_t p = next + (size_t)distance - 1;
		next = p + 1;
		if (__builtin_add_overflow(h->finite, count, &h->finite))
			return corrupt(err, "counts of more than 64 bits");
		uint32_t index = (uint32_t)(p < TOP ? TOP - 1 - p : p - TOP - 1);
		if (p == TOP)
			h->zeros = count;
		else
			rc = side_add(&h->sides[p < TOP], index, count, err);
	}
	return rc;
}

static int decode_edges(pio_histogram *h, reader *r, pio_err *err)
{
	uint64_t buckets = get_number(r);
	/* A bucket has 9 bytes at least: the number is checked before memory is asked for. */
	if (r->bad || buckets < 1 || buckets > PIO_HISTOGRAM_BUCKETS_MAX ||
	    buckets > (size_t)(r->end - r->at) / 9)
		return corrupt(err, "a number of buckets that cannot be");
	double *edges = pio_alloc((size_t)(buckets + 1) * sizeof *edges);
	uint64_t *counts = pio_alloc((size_t)buckets * sizeof *counts);
	int rc = edges && counts ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a histogram");
	if (!rc) {
		for (uint64_t i = 0; i < buckets; i++) {
			edges[i] = get_double(r);
			counts[i] = get_number(r);
		}
		edges[buckets] = get_double(r);
		rc = r->bad ? corrupt(err, "cut short")
		            : pio_histogram_init_edges(h, edges, counts, (size_t)buckets, err);
		if (rc == -PIO_EINVAL)
			rc = corrupt(err, "edges or counts that cannot be");
	}
	pio_free(edges);
	pio_free(counts);
	return rc;
}

/* Position of a finite value in a walk over the log grid. */
static size_t position_of(double value)
{
	uint64_t bits = bits_of(value), magnitude = bits & ~SIGN_BIT;
	if (magnitude == 0)
		return TOP;
	size_t index = (size_t)(magnitude >> SHIFT);
	return bits & SIGN_BIT ? TOP - 1 - index : TOP + 1 + index;
}

/* Do min, max and sums belong to these counts? */
static int check_told(const pio_histogram *h, pio_err *err)
{
	uint64_t count;
	size_t last = 0;
	if (h->finite == 0)
		return bits_of(h->min) || bits_of(h->max) || bits_of(h->sum) || bits_of(h->sum_squares)
		       ? corrupt(err, "min, max or sums of no value") : 0;
	if (!is_finite(h->min) || !is_finite(h->max) || h->min > h->max)
		return corrupt(err, "min and max that cannot be");
	if (h->edges)
		return 0;
	if (next_position(h, 0, &count) != position_of(h->min))
		return corrupt(err, "min is outside the lowest bucket");
	for (size_t p = 0; (p = next_position(h, p, &count)) <= 2 * (size_t)TOP; p++)
		last = p;
	return last == position_of(h->max) ? 0 : corrupt(err, "max is outside the highest bucket");
}

int pio_histogram_decode(pio_histogram *h, const void *bytes, size_t size_bytes, pio_err *err)
{
	reader r = { bytes, (const uint8_t *)bytes + size_bytes, false };
	pio_histogram told = PIO_HISTOGRAM_INIT;
	int rc;
	*h = told;
	if (size_bytes < 6 || memcmp(bytes, MAGIC, 4) != 0)
		return corrupt(err, "they do not begin with \"" MAGIC "\"");
	if (r.at[4] != VERSION)
		return pio_fail(err, PIO_EVERSION, "a histogram of version %u, this is version %u", r.at[4],
		                VERSION);
	uint8_t grid = r.at[5];
	r.at += 6;
	told.nans = get_number(&r);
	told.infinities = get_number(&r);
	told.negative_infinities = get_number(&r);
	told.min = get_double(&r);
	told.max = get_double(&r);
	told.sum = get_double(&r);
	told.sum_squares = get_double(&r);
	if (grid != GRID_LOG && grid != GRID_EDGES)
		return corrupt(err, "an unknown grid");
	rc = grid == GRID_LOG ? decode_log(h, &r, err) : decode_edges(h, &r, err);
	if (!rc && (r.bad || r.at != r.end))
		rc = corrupt(err, r.bad ? "cut short" : "more bytes than it needs");
	h->nans = told.nans;
	h->infinities = told.infinities;
	h->negative_infinities = told.negative_infinities;
	h->min = told.min;
	h->max = told.max;
	h->sum = told.sum;
	h->sum_squares = told.sum_squares;
	if (!rc)
		rc = check_told(h, err);
	if (rc)
		pio_histogram_fini(h);
	return rc;
}
