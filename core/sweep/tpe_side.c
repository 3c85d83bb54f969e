#include "sweep/tpe_side.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/real.h"

#define WEIGHT_RECENT 25           /* so many of the newest points count fully */
#define BLOCK 64                   /* kernels whose bounds are worked out together */
#define FAR 8.5                    /* widths beyond which there is less than 2^-54 of a kernel */
#define CLASSES_SPARE 32           /* so many classes may be out of use, and as many as are in use */

int pio_tpe_side_init(pio_tpe_side *side, int axes_count, pio_err *err)
{
	size_t n = (size_t)axes_count;
	*side = (pio_tpe_side){ .mu = pio_calloc(n + 1, sizeof *side->mu),
	                        .inverse = pio_calloc(n + 1, sizeof *side->inverse),
	                        .sorted = pio_calloc(n + 1, sizeof *side->sorted),
	                        .class_of = pio_calloc(n + 1, sizeof *side->class_of),
	                        .classes = pio_calloc(n + 1, sizeof *side->classes),
	                        .classes_count = pio_calloc(n + 1, sizeof *side->classes_count),
	                        .classes_used = pio_calloc(n + 1, sizeof *side->classes_used),
	                        .cells = pio_calloc(n + 1, sizeof *side->cells) };
	if (side->mu && side->inverse && side->sorted && side->class_of && side->classes &&
	    side->classes_count && side->classes_used && side->cells)
		return 0;
	pio_tpe_side_fini(side, 0);
	return pio_fail(err, PIO_ENOMEM, "out of memory for %d parameters", axes_count);
}

void pio_tpe_side_fini(pio_tpe_side *side, int axes_count)
{
	for (int a = 0; a < axes_count; a++) {
		pio_free(side->mu[a]);
		pio_free(side->inverse[a]);
		pio_free(side->sorted[a]);
		pio_free(side->class_of[a]);
		pio_free(side->classes[a]);
		pio_tpe_cells_fini(&side->cells[a]);
	}
	pio_free(side->mu);
	pio_free(side->inverse);
	pio_free(side->sorted);
	pio_free(side->class_of);
	pio_free(side->classes);
	pio_free(side->classes_count);
	pio_free(side->classes_used);
	pio_free(side->weight);
	pio_free(side->slot);
	pio_free(side->place);
	pio_free(side->base);
	pio_free(side->cells);
	pio_tpe_side_free_scores(side);
	*side = (pio_tpe_side){ .count = 0 };
}

void pio_tpe_side_free_scores(pio_tpe_side *side)
{
	pio_free(side->terms);
	pio_free(side->sums);
	pio_free(side->logs);
	side->terms = NULL;
	side->sums = NULL;
	side->logs = NULL;
	side->scored_max = 0;
}

static bool resize(void *array, size_t count, size_t item_bytes)
{
	void *grown = pio_realloc(*(void **)array, count * item_bytes);
	if (grown)
		*(void **)array = grown;
	return grown != NULL;
}

/* Room for so many kernels, of so many slots. */
static int reserve(pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count, size_t kernels,
                   size_t slots, pio_err *err)
{
	if (slots > side->places) {
		size_t n = slots + slots / 2 + 16;
		if (!resize(&side->place, n, sizeof(uint32_t)))
			return pio_fail(err, PIO_ENOMEM, "out of memory for %zu points", n);
		side->places = n;
	}
	if (kernels <= side->capacity)
		return 0;
	size_t n = kernels + kernels / 2 + 16;
	bool fine = resize(&side->weight, n, sizeof(double)) && resize(&side->base, n, sizeof(double)) &&
	            resize(&side->slot, n, sizeof(uint32_t));
	for (int a = 0; a < axes_count && fine; a++) {
		fine = resize(&side->mu[a], n, sizeof(double)) && resize(&side->inverse[a], n, sizeof(double)) &&
		       resize(&side->sorted[a], n, sizeof(uint32_t));
		if (fine && tracks[a].axis.kind == PIO_AXIS_WHOLE)
			fine = resize(&side->class_of[a], n, sizeof(uint32_t)) &&
			       resize(&side->classes[a], 2 * n + CLASSES_SPARE, sizeof(pio_tpe_class));
	}
	if (!fine)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu kernels", n);
	side->capacity = n;
	return 0;
}

/* ---- widths ------------------------------------------------------------------------ */

/* No kernel is narrower than one such part of its range. */
static double finest_part(size_t count)
{
	return count + 2 < PIO_TPE_FINEST ? (double)(count + 2) : PIO_TPE_FINEST;
}

/* A kernel is as wide as the larger gap to its neighbours of the same side; the
 * outermost two look inwards alone. */
static double width_at(const pio_tpe_side *side, const pio_tpe_track *track, int a, size_t at)
{
	const pio_axis *axis = &track->axis;
	const uint32_t *sorted = side->sorted[a];
	size_t n = side->count;
	double range = axis->high - axis->low, mu = track->x[sorted[at]];
	double left = at > 0 ? mu - track->x[sorted[at - 1]] : n > 1 ? 0 : mu - axis->low;
	double right = at + 1 < n ? track->x[sorted[at + 1]] - mu : n > 1 ? 0 : axis->high - mu;
	double width = left > right ? left : right, finest = range / side->part;
	return width < finest ? finest : width > range ? range : width;
}

/* What the bounds cut off of the kernels of a few slots, whose widths are new. Where both are far,
 * that is less than a number near 1 can show. */
static void bound(const pio_tpe_side *side, pio_tpe_track *track, const uint32_t *slots, size_t n)
{
	double ends[2 * BLOCK], norms[BLOCK];
	uint32_t near[BLOCK];
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t slot = slots[i];
		double x = track->x[slot], sigma = track->sigma[slot];
		double low = (track->axis.low - x) / sigma, high = (track->axis.high - x) / sigma;
		track->below[slot] = NAN;
		track->inside[slot] = 1;
		near[count] = slot;
		ends[2 * count] = low;
		ends[2 * count + 1] = high;
		count += !side->is_never_drawn || low > -FAR || high < FAR;
	}
	pio_real_ndtrs(ends, ends, 2 * count);
	for (size_t i = 0; i < count; i++) {
		track->below[near[i]] = ends[2 * i];
		track->inside[near[i]] = ends[2 * i + 1] - ends[2 * i];
	}
	for (size_t i = 0; i < n; i++)
		norms[i] = track->sigma[slots[i]] * track->inside[slots[i]];
	pio_real_logs(norms, norms, n);
	for (size_t i = 0; i < n; i++)
		track->norm[slots[i]] = norms[i];
}

/* Is that known of a slot, if its width is this one? */
static bool is_bound(const pio_tpe_side *side, const pio_tpe_track *track, uint32_t slot, double sigma)
{
	return track->sigma[slot] == sigma && (side->is_never_drawn || !isnan(track->below[slot]));
}

/* ---- all of it ----------------------------------------------------------------------- */

/* The class of a kernel that comes after all others of no larger mu. */
static uint32_t class_after(pio_tpe_side *side, int a, double mu, double sigma)
{
	size_t n = side->classes_count[a];
	/* of one number there are at most three widths, next to each other */
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		pio_tpe_class *known = &side->classes[a][n - back];
		if (known->mu == mu && known->sigma == sigma)
			return (uint32_t)(n - back);
	}
	side->classes[a][n] = (pio_tpe_class){ mu, sigma };
	side->classes_count[a] = n + 1;
	return (uint32_t)n;
}

static void fit_axis(pio_tpe_side *side, pio_tpe_track *track, int a)
{
	const pio_axis *axis = &track->axis;
	bool is_whole = axis->kind == PIO_AXIS_WHOLE;
	uint32_t wider[BLOCK];
	size_t wider_count = 0;
	side->classes_count[a] = 0;
	for (size_t at = 0; at < side->count; at++) {
		uint32_t slot = side->sorted[a][at], kernel = side->place[slot];
		double sigma = width_at(side, track, a, at);
		if (!is_bound(side, track, slot, sigma)) {
			track->sigma[slot] = sigma;
			wider[wider_count++] = slot;
		}
		if (wider_count == BLOCK) {
			bound(side, track, wider, wider_count);
			wider_count = 0;
		}
		side->mu[a][kernel] = track->x[slot];
		side->inverse[a][kernel] = PIO_REAL_SQRT_HALF / sigma;
		if (is_whole)
			side->class_of[a][kernel] = class_after(side, a, track->x[slot], sigma);
	}
	bound(side, track, wider, wider_count);
	if (is_whole)
		side->class_of[a][side->count] =
			class_after(side, a, 0.5 * (axis->low + axis->high), axis->high - axis->low);
	side->classes_used[a] = side->classes_count[a];
	pio_tpe_cells_forget(&side->cells[a]);
}

static void fit(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count)
{
	for (size_t k = 0; k < side->count; k++)
		side->base[k] = 0;
	for (int a = 0; a < axes_count; a++) {
		if (tracks[a].axis.kind == PIO_AXIS_CHOICE)
			continue;
		fit_axis(side, &tracks[a], a);
		for (size_t k = 0; k < side->count; k++)
			side->base[k] -= tracks[a].norm[side->slot[k]];
	}
	side->is_stale = false;
}

/* Old points count less: a ramp from 1 / count up to 1, and 1 for the newest. */
static void weigh(pio_tpe_side *side)
{
	size_t n = side->count, old = n > WEIGHT_RECENT ? n - WEIGHT_RECENT : 0;
	double sum = 1; /* of the broad kernel */
	for (size_t i = 0; i < n; i++) {
		double first = 1 / (double)n;
		double part = i >= old ? 1 : old == 1 ? first : first + (1 - first) * (double)i / (double)(old - 1);
		side->weight[i] = part;
		sum += part;
	}
	side->weight[n] = 1;
	side->weights = sum;
}

void pio_tpe_choice_logs(double *seen, double *other, const pio_axis *axis, size_t count)
{
	double share = 1 / (double)(count + 1), sum = 1 + (axis->last + 1) * share;
	*seen = pio_real_log((1 + share) / sum);
	*other = pio_real_log(share / sum);
}

static void put_broad(pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count)
{
	size_t n = side->count;
	side->base[n] = 0;
	for (int a = 0; a < axes_count; a++) {
		const pio_axis *axis = &tracks[a].axis;
		if (axis->kind == PIO_AXIS_CHOICE) {
			double seen, other;
			pio_tpe_choice_logs(&seen, &other, axis, n);
			side->mu[a][n] = -1;
			/* all are alike: what the score adds for "other" is undone */
			side->base[n] -= pio_real_log(axis->last + 1) + other;
		} else {
			double range = axis->high - axis->low;
			side->mu[a][n] = 0.5 * (axis->low + axis->high);
			side->inverse[a][n] = PIO_REAL_SQRT_HALF / range;
			side->base[n] -= pio_real_log(range * PIO_TPE_BROAD_INSIDE);
		}
	}
}

void pio_tpe_side_ready(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count)
{
	if (side->is_stale)
		fit(side, tracks, axes_count);
	weigh(side);
	put_broad(side, tracks, axes_count);
}

int pio_tpe_side_build(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count,
                       const uint32_t *members, size_t count, size_t slots, pio_err *err)
{
	int rc = reserve(side, tracks, axes_count, count + 1, slots, err);
	if (rc)
		return rc;
	for (size_t slot = 0; slot < slots; slot++)
		side->place[slot] = UINT32_MAX;
	for (size_t k = 0; k < count; k++) {
		side->slot[k] = members[k];
		side->place[members[k]] = (uint32_t)k;
	}
	side->count = count;
	for (int a = 0; a < axes_count; a++) {
		bool is_choice = tracks[a].axis.kind == PIO_AXIS_CHOICE;
		for (size_t k = 0; k < count && is_choice; k++)
			side->mu[a][k] = tracks[a].x[members[k]];
		size_t sorted = 0;
		for (size_t i = 0; i < slots && !is_choice; i++)
			if (side->place[tracks[a].order[i]] != UINT32_MAX)
				side->sorted[a][sorted++] = tracks[a].order[i];
	}
	side->is_stale = true;
	pio_tpe_side_expect(side, count);
	pio_tpe_side_ready(side, tracks, axes_count);
	return 0;
}

/* ---- one point more or less ------------------------------------------------------------ */

/* Move n items of each of an array's from `from` to `to`. */
static void shift(void *array, size_t item_bytes, size_t to, size_t from, size_t n)
{
	memmove((char *)array + to * item_bytes, (char *)array + from * item_bytes, n * item_bytes);
}

/* Move the kernels from `from` on, the broad one among them, to `to`. */
static void shift_kernels(pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count, size_t to,
                          size_t from)
{
	size_t n = side->count - from;
	shift(side->slot, sizeof *side->slot, to, from, n);
	shift(side->base, sizeof *side->base, to, from, n + 1);
	for (int a = 0; a < axes_count; a++) {
		shift(side->mu[a], sizeof *side->mu[a], to, from, n + 1);
		if (tracks[a].axis.kind != PIO_AXIS_CHOICE)
			shift(side->inverse[a], sizeof *side->inverse[a], to, from, n + 1);
		if (tracks[a].axis.kind == PIO_AXIS_WHOLE)
			shift(side->class_of[a], sizeof *side->class_of[a], to, from, n + 1);
	}
	for (size_t i = 0; i < n; i++)
		side->place[side->slot[to + i]] = (uint32_t)(to + i);
}

/* How many slots of an axis stand before this one. */
static size_t sorted_before(const pio_tpe_side *side, const pio_tpe_track *track, int a, uint32_t slot,
                            size_t count)
{
	const uint32_t *sorted = side->sorted[a];
	double x = track->x[slot];
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		double other = track->x[sorted[middle]];
		if (other < x || (other == x && sorted[middle] < slot))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The class of the kernel at a place of an axis: one of its neighbours', or a new one. */
static uint32_t class_at(pio_tpe_side *side, const pio_tpe_track *track, int a, size_t at)
{
	uint32_t slot = side->sorted[a][at];
	pio_tpe_class own = { track->x[slot], track->sigma[slot] };
	for (size_t i = at > 2 ? at - 2 : 0; i <= at + 2 && i < side->count; i++) {
		uint32_t other = side->class_of[a][side->place[side->sorted[a][i]]];
		const pio_tpe_class *known = &side->classes[a][other];
		if (i != at && known->mu == own.mu && known->sigma == own.sigma)
			return other;
	}
	if (side->classes_count[a] >= 2 * side->classes_used[a] + CLASSES_SPARE) {
		side->is_stale = true;
		return 0;
	}
	side->classes[a][side->classes_count[a]] = own;
	return (uint32_t)side->classes_count[a]++;
}

static void rebase(pio_tpe_side *side, const pio_tpe_track *tracks, int axes_count, uint32_t kernel)
{
	double sum = 0;
	for (int a = 0; a < axes_count; a++)
		if (tracks[a].axis.kind != PIO_AXIS_CHOICE)
			sum -= tracks[a].norm[side->slot[kernel]];
	side->base[kernel] = sum;
}

/* The width of the kernel at a place of an axis, and what follows from it. */
static void refit(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count, int a, size_t at)
{
	pio_tpe_track *track = &tracks[a];
	uint32_t slot = side->sorted[a][at], kernel = side->place[slot];
	double sigma = width_at(side, track, a, at);
	if (!is_bound(side, track, slot, sigma)) {
		track->sigma[slot] = sigma;
		bound(side, track, &slot, 1);
	}
	side->inverse[a][kernel] = PIO_REAL_SQRT_HALF / sigma;
	if (track->axis.kind == PIO_AXIS_WHOLE)
		side->class_of[a][kernel] = class_at(side, track, a, at);
	rebase(side, tracks, axes_count, kernel);
}

void pio_tpe_side_expect(pio_tpe_side *side, size_t count)
{
	double part = finest_part(count);
	side->is_stale = side->is_stale || part != side->part;
	side->part = part;
}

int pio_tpe_side_put(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count, uint32_t slot, pio_err *err)
{
	int rc = reserve(side, tracks, axes_count, side->count + 2, (size_t)slot + 1, err);
	if (rc)
		return rc;
	size_t kernel = side->count, n = side->count;
	while (kernel > 0 && side->slot[kernel - 1] > slot)
		kernel--;
	shift_kernels(side, tracks, axes_count, kernel + 1, kernel);
	side->slot[kernel] = slot;
	side->place[slot] = (uint32_t)kernel;
	side->count = n + 1;
	side->base[kernel] = 0; /* axes with an order add to it: rebase */
	for (int a = 0; a < axes_count; a++) {
		side->mu[a][kernel] = tracks[a].x[slot];
		if (tracks[a].axis.kind == PIO_AXIS_CHOICE)
			continue;
		size_t at = sorted_before(side, &tracks[a], a, slot, n);
		shift(side->sorted[a], sizeof *side->sorted[a], at + 1, at, n - at);
		side->sorted[a][at] = slot;
		if (tracks[a].axis.kind == PIO_AXIS_WHOLE)
			side->class_of[a][kernel] = 0;
		/* itself first: the class of a neighbour may be its own */
		if (!side->is_stale)
			refit(side, tracks, axes_count, a, at);
		if (!side->is_stale && at > 0)
			refit(side, tracks, axes_count, a, at - 1);
		if (!side->is_stale && at < n)
			refit(side, tracks, axes_count, a, at + 1);
	}
	return 0;
}

void pio_tpe_side_take(pio_tpe_side *side, pio_tpe_track *tracks, int axes_count, uint32_t slot)
{
	size_t kernel = side->place[slot], n = side->count;
	assert(kernel < n && side->slot[kernel] == slot);
	shift_kernels(side, tracks, axes_count, kernel, kernel + 1);
	side->count = n - 1;
	for (int a = 0; a < axes_count; a++) {
		if (tracks[a].axis.kind == PIO_AXIS_CHOICE)
			continue;
		size_t at = sorted_before(side, &tracks[a], a, slot, n);
		shift(side->sorted[a], sizeof *side->sorted[a], at, at + 1, n - at - 1);
		if (!side->is_stale && at > 0)
			refit(side, tracks, axes_count, a, at - 1);
		if (!side->is_stale && at + 1 < n)
			refit(side, tracks, axes_count, a, at);
	}
}
