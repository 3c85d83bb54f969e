#include "store/reduce.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/cursor.h"

#define WINDOW 65536  /* points of one rank that a window aims at, and steps it holds at most */

/* What the ranks said at one step. */
typedef struct total {
	int64_t step, time_ns;
	int64_t finite;
	double sum, low;          /* of finite values, as an unevaluated pair */
	pio_point best;           /* with best_rank >= 0 */
	int32_t best_rank, ranks, attempt;
} total;

struct pio_reduction {
	enum pio_reduce how;
	pio_series_cursor *series; /* of each rank, never read from: parts are */
	int32_t *rank;
	size_t series_count;
	int64_t next_step, step_max;
	bool at_end;
	total *totals, *spare;     /* by step; room for WINDOW and what a group brings */
	size_t count, capacity;
	pio_point *points;
	int32_t *ranks;
};

int pio_reduce_parse(enum pio_reduce *how, const char *word, pio_err *err)
{
	static const char *const words[] = { "mean", "max", "min", "argmax" };
	for (int i = 0; i < 4; i++) {
		if (strcmp(words[i], word) == 0) {
			*how = (enum pio_reduce)i;
			return 0;
		}
	}
	return pio_fail(err, PIO_EINVAL, "'%.40s' is no way to reduce ranks, expected mean, max, min or "
	                "argmax", word);
}

/* ---- one step --------------------------------------------------------------------------------- */

static bool is_better(enum pio_reduce how, const pio_point *a, const pio_point *b)
{
	if (a->integer && b->integer)
		return how == PIO_REDUCE_MIN ? a->whole < b->whole : a->whole > b->whole;
	double x = pio_point_real(a), y = pio_point_real(b);
	return how == PIO_REDUCE_MIN ? x < y : x > y;
}

static void add(total *t, const pio_point *point, enum pio_reduce how, int32_t rank)
{
	double value = pio_point_real(point);
	t->ranks++;
	t->time_ns = point->time_ns > t->time_ns ? point->time_ns : t->time_ns;
	t->attempt = point->attempt > t->attempt ? point->attempt : t->attempt;
	if (isnan(value))
		return;
	if (isfinite(value)) {
		double sum = t->sum + value, part = sum - t->sum; /* Knuth's two-sum */
		t->low += (t->sum - (sum - part)) + (value - part);
		t->sum = sum;
		t->finite++;
	}
	if (t->best_rank < 0 || is_better(how, point, &t->best)) {
		t->best = *point;
		t->best_rank = rank;
	}
}

static pio_point value_of(const total *t, enum pio_reduce how)
{
	pio_point point = { .step = t->step, .time_ns = t->time_ns, .value = NAN, .attempt = t->attempt };
	if (how == PIO_REDUCE_MEAN && t->finite) {
		point.value = (isfinite(t->sum) ? t->sum + t->low : t->sum) / (double)t->finite;
	} else if (how == PIO_REDUCE_ARGMAX && t->best_rank >= 0) {
		point.integer = true;
		point.whole = t->best_rank;
	} else if (how != PIO_REDUCE_MEAN && t->best_rank >= 0) {
		point.integer = t->best.integer;
		point.whole = t->best.whole; /* the eight bytes, whatever they are */
	}
	return point;
}

/* ---- one rank --------------------------------------------------------------------------------- */

static int make_room(pio_reduction *r, size_t capacity, pio_err *err)
{
	if (capacity <= r->capacity)
		return 0;
	capacity = capacity < 2 * r->capacity ? 2 * r->capacity : capacity;
	total *totals = pio_realloc(r->totals, capacity * sizeof *totals);
	r->totals = totals ? totals : r->totals;
	total *spare = totals ? pio_realloc(r->spare, capacity * sizeof *spare) : NULL;
	r->spare = spare ? spare : r->spare;
	if (!spare)
		return pio_fail(err, PIO_ENOMEM, "no memory to reduce %zu steps", capacity);
	r->capacity = capacity;
	return 0;
}

/* The last of the points from `at` on that share its step. */
static size_t newest(const pio_point *points, size_t count, size_t at)
{
	while (at + 1 < count && points[at + 1].step == points[at].step)
		at++;
	return at;
}

/* Points come by step. Ranks mostly log the same steps: those are added where
 * they stand, and only what is left makes a new row of totals. */
static int merge(pio_reduction *r, const pio_point *points, size_t count, int32_t rank, pio_err *err)
{
	size_t at = 0, missing = 0;
	for (size_t i = 0; i < count; i++) {
		i = newest(points, count, i);
		while (at < r->count && r->totals[at].step < points[i].step)
			at++;
		if (at < r->count && r->totals[at].step == points[i].step)
			add(&r->totals[at], &points[i], r->how, rank);
		else
			missing++;
	}
	if (!missing)
		return 0;
	int rc = make_room(r, r->count + missing, err);
	if (rc)
		return rc;
	size_t made = 0;
	at = 0;
	for (size_t i = 0; i < count; i++) {
		i = newest(points, count, i);
		while (at < r->count && r->totals[at].step < points[i].step)
			r->spare[made++] = r->totals[at++];
		if (at < r->count && r->totals[at].step == points[i].step)
			continue;
		total *t = &r->spare[made++];
		*t = (total){ .step = points[i].step, .time_ns = INT64_MIN, .best_rank = -1 };
		add(t, &points[i], r->how, rank);
	}
	memcpy(r->spare + made, r->totals + at, (r->count - at) * sizeof *r->spare);
	r->count += missing;
	total *swap = r->totals;
	r->totals = r->spare;
	r->spare = swap;
	return 0;
}

/* ---- windows ------------------------------------------------------------------------------------ */

/* [*first, *last] from next_step on: until the first rank has had its share of
 * points, by the ends of its chunks. False: nothing is left. */
static bool find_window(int64_t *first, int64_t *last, pio_reduction *r)
{
	*first = INT64_MAX;
	*last = r->step_max;
	bool any = false;
	for (size_t s = 0; s < r->series_count; s++) {
		pio_series_cursor *cursor = &r->series[s];
		while (cursor->chunks_begin < cursor->chunks_end &&
		       cursor->chunks[cursor->chunks_begin].reach < r->next_step)
			cursor->chunks_begin++;
		int64_t points = 0;
		for (size_t i = cursor->chunks_begin; i < cursor->chunks_end && points < WINDOW; i++) {
			const pio_cursor_chunk *chunk = &cursor->chunks[i];
			if (chunk->last_step < r->next_step)
				continue;
			*first = chunk->first_step < *first ? chunk->first_step : *first;
			points += chunk->count;
			if (points >= WINDOW && chunk->last_step < *last)
				*last = chunk->last_step;
			any = true;
		}
	}
	*first = *first < r->next_step ? r->next_step : *first;
	*last = *last < *first ? *first : *last;
	return any && *first <= r->step_max;
}

static int read_rank(pio_reduction *r, size_t s, int64_t first, int64_t last, pio_err *err)
{
	pio_series_cursor part;
	const pio_point *points;
	size_t n;
	int rc = pio_series_cursor_open_part(&part, &r->series[s], first, last, err);
	if (rc)
		return rc;
	while (!rc && (rc = pio_series_cursor_group(&points, &n, &part, err)) == 1)
		rc = merge(r, points, n, r->rank[s], err);
	pio_series_cursor_close(&part);
	return rc;
}

int pio_reduction_group(const pio_point **points, const int32_t **ranks, size_t *count,
                        pio_reduction *r, pio_err *err)
{
	int64_t first, last;
	r->count = 0;
	while (!r->count) {
		if (r->at_end || !find_window(&first, &last, r))
			return 0;
		for (size_t s = 0; s < r->series_count; s++) {
			int rc = read_rank(r, s, first, last, err);
			if (rc)
				return rc;
			if (r->count > WINDOW) { /* ranks that log at steps of their own */
				r->count = WINDOW;
				last = r->totals[WINDOW - 1].step;
			}
		}
		r->at_end = last >= r->step_max;
		r->next_step = r->at_end ? last : last + 1;
	}
	for (size_t i = 0; i < r->count; i++) {
		r->points[i] = value_of(&r->totals[i], r->how);
		r->ranks[i] = r->totals[i].ranks;
	}
	*points = r->points;
	*ranks = r->ranks;
	*count = r->count;
	return 1;
}

/* ---- a reduction's life ---------------------------------------------------------------------------- */

static int list_ranks(int64_t **ids, pio_reduction *r, pio_reader *reader, int64_t run_id,
                      const char *key, pio_err *err)
{
	sqlite3_stmt *row = pio_reader_statement(reader, PIO_READER_RANKS, err);
	size_t capacity = 0;
	int rc = row ? 0 : pio_err_code(err), step = SQLITE_DONE;
	if (!rc) {
		sqlite3_bind_int64(row, 1, run_id);
		sqlite3_bind_text(row, 2, key, -1, SQLITE_STATIC);
	}
	while (!rc && (step = sqlite3_step(row)) == SQLITE_ROW) {
		if (r->series_count == capacity) {
			capacity = capacity ? capacity * 2 : 16;
			int64_t *more_ids = pio_realloc(*ids, capacity * sizeof **ids);
			*ids = more_ids ? more_ids : *ids;
			int32_t *more = more_ids ? pio_realloc(r->rank, capacity * sizeof *r->rank) : NULL;
			r->rank = more ? more : r->rank;
			rc = more ? 0 : pio_fail(err, PIO_ENOMEM, "no memory for %zu ranks", capacity);
		}
		if (!rc) {
			(*ids)[r->series_count] = sqlite3_column_int64(row, 0);
			r->rank[r->series_count++] = sqlite3_column_int(row, 1);
		}
	}
	if (!rc && step != SQLITE_DONE)
		rc = pio_reader_fail(reader, err, "listing ranks");
	if (row) {
		sqlite3_reset(row);
		sqlite3_clear_bindings(row);
	}
	if (!rc && !r->series_count)
		rc = pio_fail(err, PIO_ENOTFOUND, "the run has no metric '%s'", key);
	return rc;
}

int pio_reduction_open(pio_reduction **out, pio_reader *reader, int64_t run_id, const char *key,
                       enum pio_reduce how, int64_t step_min, int64_t step_max, pio_err *err)
{
	int64_t *ids = NULL;
	pio_reduction *r = pio_calloc(1, sizeof *r);
	*out = NULL;
	if (!r)
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	r->how = how;
	r->next_step = step_min;
	r->step_max = step_max;
	int rc = pio_reader_hold(reader, err);
	bool held = !rc;
	if (!rc)
		rc = list_ranks(&ids, r, reader, run_id, key, err);
	r->series = pio_calloc(r->series_count ? r->series_count : 1, sizeof *r->series);
	r->points = pio_alloc(WINDOW * sizeof *r->points);
	r->ranks = pio_alloc(WINDOW * sizeof *r->ranks);
	if (!rc && (!r->series || !r->points || !r->ranks))
		rc = pio_fail(err, PIO_ENOMEM, "no memory for %zu ranks", r->series_count);
	for (size_t s = 0; !rc && s < r->series_count; s++)
		rc = pio_series_cursor_open(&r->series[s], reader, ids[s], step_min, step_max, 0, err);
	if (held)
		pio_reader_release(reader);
	pio_free(ids);
	if (rc)
		pio_reduction_close(&r);
	*out = r;
	return rc;
}

void pio_reduction_close(pio_reduction **out)
{
	pio_reduction *r = *out;
	*out = NULL;
	if (!r)
		return;
	for (size_t s = 0; r->series && s < r->series_count; s++)
		pio_series_cursor_close(&r->series[s]);
	pio_free(r->series);
	pio_free(r->rank);
	pio_free(r->totals);
	pio_free(r->spare);
	pio_free(r->points);
	pio_free(r->ranks);
	pio_free(r);
}

/* ---- all of it --------------------------------------------------------------------------------------- */

int pio_reduce_points(pio_point **points, int32_t **ranks, size_t *count, pio_reader *reader,
                      int64_t run_id, const char *key, enum pio_reduce how, int64_t step_min,
                      int64_t step_max, pio_err *err)
{
	pio_reduction *r;
	const pio_point *group;
	const int32_t *group_ranks;
	size_t n, capacity = 0;
	*points = NULL;
	*ranks = NULL;
	*count = 0;
	int rc = pio_reduction_open(&r, reader, run_id, key, how, step_min, step_max, err);
	while (!rc && (rc = pio_reduction_group(&group, &group_ranks, &n, r, err)) == 1) {
		rc = 0;
		if (*count + n > capacity) {
			capacity = *count + n > 2 * capacity ? *count + n : 2 * capacity;
			pio_point *more = pio_realloc(*points, capacity * sizeof *more);
			*points = more ? more : *points;
			int32_t *more_ranks = more ? pio_realloc(*ranks, capacity * sizeof *more_ranks) : NULL;
			*ranks = more_ranks ? more_ranks : *ranks;
			if (!more_ranks) {
				rc = pio_fail(err, PIO_ENOMEM, "no memory for %zu points", capacity);
				break;
			}
		}
		memcpy(*points + *count, group, n * sizeof *group);
		memcpy(*ranks + *count, group_ranks, n * sizeof *group_ranks);
		*count += n;
	}
	pio_reduction_close(&r);
	if (rc) {
		pio_free(*points);
		pio_free(*ranks);
		*points = NULL;
		*ranks = NULL;
		*count = 0;
	}
	return rc;
}

int pio_reduce_buckets(pio_bucket **buckets, size_t *count, pio_reader *reader, int64_t run_id,
                       const char *key, enum pio_reduce how, int64_t step_min, int64_t step_max,
                       size_t buckets_max, pio_err *err)
{
	pio_reduction *r;
	pio_bucket_row row = { 0 };
	const pio_point *points;
	const int32_t *ranks;
	size_t n;
	int64_t first = INT64_MAX, last = INT64_MIN, one_first, one_last;
	*buckets = NULL;
	*count = 0;
	int rc = pio_reduction_open(&r, reader, run_id, key, how, step_min, step_max, err);
	if (rc)
		return rc;
	for (size_t s = 0; s < r->series_count; s++) {
		r->series[s].no_times = true;
		pio_series_cursor_span(&one_first, &one_last, &r->series[s]);
		first = one_first < first ? one_first : first;
		last = one_last > last ? one_last : last;
	}
	rc = pio_bucket_row_init(&row, first, last, buckets_max, err);
	while (!rc && (rc = pio_reduction_group(&points, &ranks, &n, r, err)) == 1) {
		pio_bucket_row_add(&row, points, n);
		rc = 0;
	}
	if (!rc)
		rc = pio_bucket_row_take(buckets, count, &row, err);
	pio_reduction_close(&r);
	pio_bucket_row_fini(&row);
	return rc;
}
