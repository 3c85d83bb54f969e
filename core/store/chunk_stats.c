#include "store/chunk.h"

#include <math.h>
#include <string.h>

void pio_chunk_stats_init(pio_chunk_stats *stats)
{
	*stats = (pio_chunk_stats){ .min = NAN, .max = NAN };
}

/* hi + lo += value, error-free (Knuth's two-sum); once the sum has overflowed
 * the low part means nothing. */
static inline void add_exactly(double *hi, double *lo, double value)
{
	double sum = *hi + value;
	double part = sum - *hi;
	*lo += (*hi - (sum - part)) + (value - part);
	*hi = sum;
}

static void normalize(pio_chunk_stats *stats)
{
	double sum = stats->sum + stats->sum_low;
	if (!isfinite(stats->sum) || !isfinite(sum)) {
		stats->sum_low = 0;
		return;
	}
	stats->sum_low -= sum - stats->sum;
	stats->sum = sum;
}

void pio_chunk_stats_add(pio_chunk_stats *stats, const pio_chunk_point *points, size_t count)
{
	if (!count)
		return;
	pio_chunk_stats s;
	pio_chunk_stats_init(&s);
	s.count = (int64_t)count;
	s.first_step = s.last_step = points[0].step;
	s.first_ns = s.last_ns = points[0].time_ns;
	for (size_t i = 0; i < count; i++) {
		double value;
		memcpy(&value, &points[i].bits, 8);
		if (points[i].integer)
			value = (double)(int64_t)points[i].bits;
		int64_t step = points[i].step, time_ns = points[i].time_ns;
		s.first_step = step < s.first_step ? step : s.first_step;
		s.first_ns = time_ns < s.first_ns ? time_ns : s.first_ns;
		s.last_ns = time_ns > s.last_ns ? time_ns : s.last_ns;
		if (step >= s.last_step) {
			s.last_step = step;
			s.last_bits = points[i].bits;
			s.last_integer = points[i].integer;
		}
		if (isnan(value)) {
			s.nans++;
			continue;
		}
		if (!(value >= s.min)) {
			s.min = value;
			s.min_step = step;
		}
		if (!(value <= s.max)) {
			s.max = value;
			s.max_step = step;
		}
		if (isfinite(value)) {
			s.finite++;
			add_exactly(&s.sum, &s.sum_low, value);
		}
	}
	normalize(&s);
	pio_chunk_stats_merge(stats, &s);
}

void pio_chunk_stats_merge(pio_chunk_stats *stats, const pio_chunk_stats *later)
{
	if (!later->count)
		return;
	if (!stats->count) {
		*stats = *later;
		return;
	}
	if (later->last_step >= stats->last_step) {
		stats->last_step = later->last_step;
		stats->last_bits = later->last_bits;
		stats->last_integer = later->last_integer;
	}
	stats->first_step = later->first_step < stats->first_step ? later->first_step : stats->first_step;
	stats->first_ns = later->first_ns < stats->first_ns ? later->first_ns : stats->first_ns;
	stats->last_ns = later->last_ns > stats->last_ns ? later->last_ns : stats->last_ns;
	if (!isnan(later->min) && !(later->min >= stats->min)) {
		stats->min = later->min;
		stats->min_step = later->min_step;
	}
	if (!isnan(later->max) && !(later->max <= stats->max)) {
		stats->max = later->max;
		stats->max_step = later->max_step;
	}
	stats->count += later->count;
	stats->finite += later->finite;
	stats->nans += later->nans;
	add_exactly(&stats->sum, &stats->sum_low, later->sum);
	stats->sum_low += later->sum_low;
	normalize(stats);
}
