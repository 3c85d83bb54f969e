#include "sweep/tpe.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/order.h"
#include "sweep/tpe_side.h"

enum { UNDER_WAY, FINISHED, DROPPED };
enum { ABOVE, BELOW, NEITHER };
enum { MANY = 16 };            /* with more than one change in so many points a side is made anew */

struct pio_tpe {
	pio_tpe_options options;
	int axes_count;
	pio_tpe_track *tracks;
	size_t count, capacity;    /* slots */
	size_t ordered;            /* so many of them stand in the tracks' orders */
	double *value;             /* of each slot, once it is finished; INFINITY: it failed */
	uint8_t *state;            /* of each slot: UNDER_WAY, FINISHED or DROPPED */
	uint32_t *ranked;          /* finished slots by value, then by slot */
	size_t ranked_count;
	uint32_t *members;         /* scratch: the slots of a side */
	uint8_t *wanted;           /* scratch: of each slot, ABOVE, BELOW or NEITHER */
	uint8_t *side;             /* where it is */
	bool is_built;             /* the sides are what `side` says */
	pio_tpe_side below, above;
	double *drawn, *points;    /* candidates as drawn, and sorted */
	double *scores, *scratch;  /* log below - log above; log above */
	uint32_t *order;
};

int pio_tpe_new(pio_tpe **out, const pio_axis *axes, int axes_count, const pio_tpe_options *options,
                pio_err *err)
{
	assert(axes_count > 0 && options->candidates > 0 && options->below_max > 0);
	size_t n = (size_t)axes_count, rows = (size_t)options->candidates;
	pio_tpe *tpe = pio_calloc(1, sizeof *tpe);
	if (!tpe)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a model");
	tpe->options = *options;
	tpe->tracks = pio_calloc(n, sizeof *tpe->tracks);
	tpe->drawn = pio_calloc(rows * n, sizeof *tpe->drawn);
	tpe->points = pio_calloc(rows * n, sizeof *tpe->points);
	tpe->scores = pio_calloc(rows, sizeof *tpe->scores);
	tpe->scratch = pio_calloc(rows, sizeof *tpe->scratch);
	tpe->order = pio_calloc(rows, sizeof *tpe->order);
	bool fine = tpe->tracks && tpe->drawn && tpe->points && tpe->scores && tpe->scratch && tpe->order;
	int rc = fine ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a model of %d parameters", axes_count);
	if (!rc)
		rc = pio_tpe_side_init(&tpe->below, axes_count, err);
	if (!rc)
		rc = pio_tpe_side_init(&tpe->above, axes_count, err);
	if (rc) {
		pio_tpe_free(tpe);
		return rc;
	}
	tpe->axes_count = axes_count;
	tpe->above.is_never_drawn = true;
	for (int a = 0; a < axes_count; a++)
		tpe->tracks[a].axis = axes[a];
	*out = tpe;
	return 0;
}

void pio_tpe_free(pio_tpe *tpe)
{
	if (!tpe)
		return;
	for (int a = 0; a < tpe->axes_count; a++) {
		pio_free(tpe->tracks[a].x);
		pio_free(tpe->tracks[a].order);
		pio_free(tpe->tracks[a].sigma);
		pio_free(tpe->tracks[a].below);
		pio_free(tpe->tracks[a].inside);
		pio_free(tpe->tracks[a].norm);
	}
	pio_tpe_side_fini(&tpe->below, tpe->axes_count);
	pio_tpe_side_fini(&tpe->above, tpe->axes_count);
	pio_free(tpe->tracks);
	pio_free(tpe->value);
	pio_free(tpe->state);
	pio_free(tpe->ranked);
	pio_free(tpe->members);
	pio_free(tpe->wanted);
	pio_free(tpe->side);
	pio_free(tpe->drawn);
	pio_free(tpe->points);
	pio_free(tpe->scores);
	pio_free(tpe->scratch);
	pio_free(tpe->order);
	pio_free(tpe);
}

static bool resize(void *array, size_t count, size_t item_bytes)
{
	void *grown = pio_realloc(*(void **)array, count * item_bytes);
	if (grown)
		*(void **)array = grown;
	return grown != NULL;
}

static int grow(pio_tpe *tpe, pio_err *err)
{
	size_t n = tpe->capacity ? 2 * tpe->capacity : 64;
	bool fine = resize(&tpe->value, n, sizeof(double)) && resize(&tpe->state, n, 1) &&
	            resize(&tpe->ranked, n, sizeof(uint32_t)) &&
	            resize(&tpe->members, n, sizeof(uint32_t)) && resize(&tpe->wanted, n, 1) &&
	            resize(&tpe->side, n, 1);
	for (int a = 0; a < tpe->axes_count && fine; a++) {
		pio_tpe_track *track = &tpe->tracks[a];
		fine = resize(&track->x, n, sizeof(double)) && resize(&track->order, n, sizeof(uint32_t)) &&
		       resize(&track->sigma, n, sizeof(double)) && resize(&track->below, n, sizeof(double)) &&
		       resize(&track->inside, n, sizeof(double)) && resize(&track->norm, n, sizeof(double));
	}
	if (!fine || n > UINT32_MAX / 2)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu points", n);
	tpe->capacity = n;
	return 0;
}

/* The first place in a sorted list of slots whose key is larger. */
static size_t place_after(const uint32_t *list, size_t count, const double *key, double value)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (key[list[middle]] <= value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert(uint32_t *list, size_t count, size_t place, uint32_t slot)
{
	memmove(list + place + 1, list + place, (count - place) * sizeof *list);
	list[place] = slot;
}

int pio_tpe_add(size_t *slot, pio_tpe *tpe, const double *point, pio_err *err)
{
	int rc = tpe->count == tpe->capacity ? grow(tpe, err) : 0;
	if (rc)
		return rc;
	size_t n = tpe->count++;
	for (int a = 0; a < tpe->axes_count; a++) {
		pio_tpe_track *track = &tpe->tracks[a];
		track->x[n] = pio_axis_snap(&track->axis, point[a]);
		track->sigma[n] = -1;
	}
	tpe->state[n] = UNDER_WAY;
	tpe->side[n] = NEITHER;
	*slot = n;
	return 0;
}

/* Ties go by slot, so that the order does not depend on when values came. */
static size_t rank_of(const pio_tpe *tpe, double value, size_t slot)
{
	size_t place = place_after(tpe->ranked, tpe->ranked_count, tpe->value, value);
	while (place > 0 && tpe->value[tpe->ranked[place - 1]] == value && tpe->ranked[place - 1] > slot)
		place--;
	return place;
}

/* Take a slot out of the ranks, where it is in them. */
static int forget(pio_tpe *tpe, size_t slot, pio_err *err)
{
	if (slot >= tpe->count)
		return pio_fail(err, PIO_EINVAL, "there is no point %zu: %zu were added", slot, tpe->count);
	if (tpe->state[slot] != FINISHED)
		return 0;
	size_t place = 0;
	while (tpe->ranked[place] != slot)
		place++;
	memmove(tpe->ranked + place, tpe->ranked + place + 1,
	        (tpe->ranked_count - place - 1) * sizeof *tpe->ranked);
	tpe->ranked_count--;
	return 0;
}

int pio_tpe_set(pio_tpe *tpe, size_t slot, double value, pio_err *err)
{
	int rc = forget(tpe, slot, err);
	if (rc)
		return rc;
	value = isfinite(value) ? value : INFINITY;
	size_t place = rank_of(tpe, value, slot);
	tpe->value[slot] = value;
	tpe->state[slot] = FINISHED;
	insert(tpe->ranked, tpe->ranked_count++, place, (uint32_t)slot);
	return 0;
}

int pio_tpe_drop(pio_tpe *tpe, size_t slot, pio_err *err)
{
	int rc = forget(tpe, slot, err);
	if (!rc)
		tpe->state[slot] = DROPPED;
	return rc;
}

size_t pio_tpe_finished(const pio_tpe *tpe)
{
	return tpe->ranked_count;
}

/* ---- proposing ----------------------------------------------------------------------- */

static int compare_slots(const void *context, uint32_t a, uint32_t b)
{
	const double *x = context;
	return x[a] != x[b] ? (x[a] < x[b] ? -1 : 1) : (a > b) - (a < b);
}

/* Put the slots that are new where they belong along each axis: each alone where they are few. */
static void put_in_order(pio_tpe *tpe)
{
	bool is_few = MANY * (tpe->count - tpe->ordered) <= tpe->count;
	for (int a = 0; a < tpe->axes_count; a++) {
		pio_tpe_track *track = &tpe->tracks[a];
		if (track->axis.kind == PIO_AXIS_CHOICE)
			continue;
		for (size_t n = tpe->ordered; n < tpe->count; n++)
			insert(track->order, n,
			       is_few ? place_after(track->order, n, track->x, track->x[n]) : n, (uint32_t)n);
		if (!is_few)
			pio_order_sort(track->order, tpe->members, tpe->count, compare_slots, track->x);
	}
	tpe->ordered = tpe->count;
}

static int build(pio_tpe *tpe, pio_tpe_side *side, uint8_t which, pio_err *err)
{
	size_t count = 0;
	for (size_t slot = 0; slot < tpe->count; slot++)
		if (tpe->side[slot] == which)
			tpe->members[count++] = (uint32_t)slot;
	return pio_tpe_side_build(side, tpe->tracks, tpe->axes_count, tpe->members, count, tpe->count, err);
}

/* Bring the few points that changed to their sides. */
static int change(pio_tpe *tpe, pio_err *err)
{
	pio_tpe_side *sides[] = { [ABOVE] = &tpe->above, [BELOW] = &tpe->below };
	int n = tpe->axes_count, rc = 0;
	size_t counts[NEITHER + 1] = { 0 };
	for (size_t slot = 0; slot < tpe->count; slot++)
		counts[tpe->wanted[slot]]++;
	pio_tpe_side_expect(&tpe->above, counts[ABOVE]);
	pio_tpe_side_expect(&tpe->below, counts[BELOW]);
	for (size_t slot = 0; slot < tpe->count; slot++)
		if (tpe->side[slot] != tpe->wanted[slot] && tpe->side[slot] != NEITHER)
			pio_tpe_side_take(sides[tpe->side[slot]], tpe->tracks, n, (uint32_t)slot);
	for (size_t slot = 0; slot < tpe->count && !rc; slot++) {
		if (tpe->side[slot] != tpe->wanted[slot] && tpe->wanted[slot] != NEITHER)
			rc = pio_tpe_side_put(sides[tpe->wanted[slot]], tpe->tracks, n, (uint32_t)slot, err);
		tpe->side[slot] = tpe->wanted[slot];
	}
	pio_tpe_side_ready(&tpe->above, tpe->tracks, n);
	pio_tpe_side_ready(&tpe->below, tpe->tracks, n);
	return rc;
}

static int split(pio_tpe *tpe, pio_err *err)
{
	double wanted = ceil(tpe->options.gamma * (double)tpe->ranked_count);
	size_t most = (size_t)tpe->options.below_max, changes = 0;
	size_t below = wanted < (double)most ? (size_t)wanted : most;
	for (size_t slot = 0; slot < tpe->count; slot++)
		tpe->wanted[slot] = tpe->state[slot] == DROPPED ? NEITHER : ABOVE;
	for (size_t i = 0; i < below && i < tpe->ranked_count; i++)
		if (isfinite(tpe->value[tpe->ranked[i]]))
			tpe->wanted[tpe->ranked[i]] = BELOW;
	for (size_t slot = 0; slot < tpe->count; slot++)
		changes += tpe->side[slot] != tpe->wanted[slot];
	bool is_change = tpe->is_built && MANY * changes <= tpe->count;
	tpe->is_built = false;
	if (!is_change && tpe->count > 0)
		memcpy(tpe->side, tpe->wanted, tpe->count);
	if (!is_change)
		put_in_order(tpe);
	int rc = is_change ? change(tpe, err) : build(tpe, &tpe->above, ABOVE, err);
	if (!rc && !is_change)
		rc = build(tpe, &tpe->below, BELOW, err);
	tpe->is_built = !rc;
	return rc;
}

/* Insertion sort: few, and ties stay in the order drawn. */
static void sort_candidates(pio_tpe *tpe)
{
	size_t d = (size_t)tpe->axes_count;
	for (uint32_t i = 0; i < (uint32_t)tpe->options.candidates; i++) {
		uint32_t place = i;
		for (; place > 0 && tpe->scores[tpe->order[place - 1]] < tpe->scores[i]; place--)
			tpe->order[place] = tpe->order[place - 1];
		tpe->order[place] = i;
	}
	for (size_t i = 0; i < (size_t)tpe->options.candidates; i++)
		memcpy(tpe->points + i * d, tpe->drawn + tpe->order[i] * d, d * sizeof *tpe->points);
}

int pio_tpe_propose(const double **points, pio_tpe *tpe, pio_draw *draw, pio_err *err)
{
	int n = tpe->options.candidates, d = tpe->axes_count;
	int rc = split(tpe, err);
	if (!rc) {
		pio_tpe_side_draw(tpe->drawn, n, &tpe->below, tpe->tracks, d, draw);
		rc = pio_tpe_side_score(tpe->scores, &tpe->below, tpe->tracks, d, tpe->drawn, n, err);
	}
	if (!rc)
		rc = pio_tpe_side_score(tpe->scratch, &tpe->above, tpe->tracks, d, tpe->drawn, n, err);
	if (rc)
		return rc;
	for (int i = 0; i < n; i++)
		tpe->scores[i] -= tpe->scratch[i];
	sort_candidates(tpe);
	*points = tpe->points;
	return 0;
}
