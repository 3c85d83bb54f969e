#include "sweep/standard.h"

#include <math.h>
#include <stdlib.h>

#include "sweep/real.h"

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* How many of a sorted list are below a value, and how many not above it. */
static size_t count_below(const double *sorted, size_t n, double value, bool with_equal)
{
	size_t low = 0, high = n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (sorted[middle] < value || (with_equal && sorted[middle] == value))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The power of two by which values come to where their squares are numbers; 0: they are there. */
static int shift_of(const double *values, size_t n)
{
	double low = INFINITY, high = -INFINITY;
	for (size_t i = 0; i < n; i++)
		if (isfinite(values[i])) {
			low = fmin(low, values[i]);
			high = fmax(high, values[i]);
		}
	double half = 0.5 * high - 0.5 * low;
	return half > 1e150 || (half > 0 && half < 1e-150) ? -ilogb(half) : 0;
}

/* What is above the median by its rank, as far from it as the same rank is in a normal
 * distribution as wide as the better half. */
static void rank_worse(double *z, const double *sorted, size_t n)
{
	double median = sorted[n / 2], squares = 0;
	size_t better = count_below(sorted, n, median, false);
	for (size_t i = 0; i < better; i++)
		squares += (sorted[i] - median) * (sorted[i] - median);
	double width = better ? sqrt(squares / (double)better) : 0;
	for (size_t i = 0; i < n; i++) {
		double value = z[i];
		if (!(value > median))
			continue;
		double rank = 0.5 * (double)(count_below(sorted, n, value, false) +
		                             count_below(sorted, n, value, true));
		double tail = pio_real_ndtri(fmax(rank / (double)n, 0.5));
		z[i] = median + (width > 0 ? width : 1) * tail;
	}
}

double pio_standard(double *z, double *zero, double *work, const double *values, size_t n, bool is_plain)
{
	double worst = -INFINITY, sum = 0, variance = 0;
	int shift = shift_of(values, n);
	for (size_t i = 0; i < n; i++)
		worst = isfinite(values[i]) && values[i] > worst ? values[i] : worst;
	worst = isfinite(worst) ? worst : 0;
	for (size_t i = 0; i < n; i++)
		work[i] = z[i] = ldexp(isfinite(values[i]) ? values[i] : worst, shift);
	qsort(work, n, sizeof *work, by_value);
	if (!is_plain)
		rank_worse(z, work, n);
	for (size_t i = 0; i < n; i++)
		sum += z[i];
	double mean = sum / (double)n;
	for (size_t i = 0; i < n; i++)
		variance += (z[i] - mean) * (z[i] - mean) / (double)n;
	double scale = variance > 0 && isfinite(variance) ? 1 / sqrt(variance) : 0;
	for (size_t i = 0; i < n; i++)
		z[i] = (z[i] - mean) * scale;
	*zero = scale > 0 ? -mean * scale : mean > 0 ? -1 : 1;
	return scale > 0 ? ldexp(1 / scale, -shift) : 0;
}
