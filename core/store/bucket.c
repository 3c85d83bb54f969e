#include "store/bucket.h"

#include <math.h>

#include "base/mem.h"
#include "store/cursor.h"

#define BLOCK 512

static pio_bucket *bucket_of(const pio_bucket_row *row, int64_t step)
{
	uint64_t at = ((uint64_t)step - (uint64_t)row->step_min) / row->width;
	return &row->all[at < row->count ? at : row->count - 1];
}

static void widen(pio_bucket *bucket, int64_t first_step, int64_t last_step)
{
	if (!bucket->count || first_step < bucket->first_step)
		bucket->first_step = first_step;
	if (!bucket->count || last_step > bucket->last_step)
		bucket->last_step = last_step;
}

static void add_range(pio_bucket_row *row, pio_bucket *bucket, int64_t finite, double min, double max,
                      double sum)
{
	if (!finite)
		return;
	bucket->min = !bucket->finite || min < bucket->min ? min : bucket->min;
	bucket->max = !bucket->finite || max > bucket->max ? max : bucket->max;
	bucket->finite += finite;
	row->sums[bucket - row->all] += sum;
}

/* How many of the steps, which are sorted, fall into the first one's bucket. */
static size_t in_bucket(const pio_bucket_row *row, const pio_bucket *bucket, const int64_t *step,
                        size_t count)
{
	size_t low = 1, high = count;
	if (bucket_of(row, step[count - 1]) == bucket)
		return count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (bucket_of(row, step[middle]) == bucket)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

#define LANES 4 /* sums that do not wait for each other */

static void add_values(pio_bucket_row *row, pio_bucket *bucket, const double *value, size_t count)
{
	double min[LANES], max[LANES], sum[LANES];
	int64_t finite = 0;
	for (size_t k = 0; k < LANES; k++) {
		min[k] = INFINITY;
		max[k] = -INFINITY;
		sum[k] = 0;
	}
	for (size_t i = 0; i < count; i++) {
		size_t k = i % LANES;
		double v = value[i];
		if (!(v - v == 0)) /* not finite */
			continue;
		finite++;
		min[k] = v < min[k] ? v : min[k];
		max[k] = v > max[k] ? v : max[k];
		sum[k] += v;
	}
	for (size_t k = 1; k < LANES; k++) {
		min[0] = min[k] < min[0] ? min[k] : min[0];
		max[0] = max[k] > max[0] ? max[k] : max[0];
		sum[0] += sum[k];
	}
	add_range(row, bucket, finite, min[0], max[0], sum[0]);
}

static void add_columns(pio_bucket_row *row, const int64_t *step, const double *value, size_t count)
{
	for (size_t begin = 0, n; begin < count; begin += n) {
		pio_bucket *bucket = bucket_of(row, step[begin]);
		n = in_bucket(row, bucket, step + begin, count - begin);
		widen(bucket, step[begin], step[begin + n - 1]);
		bucket->count += (int64_t)n;
		add_values(row, bucket, value + begin, n);
	}
}

void pio_bucket_row_add(pio_bucket_row *row, const pio_point *points, size_t count)
{
	int64_t step[BLOCK];
	double value[BLOCK];
	for (size_t begin = 0, n; begin < count; begin += n) {
		n = count - begin < BLOCK ? count - begin : BLOCK;
		for (size_t i = 0; i < n; i++) {
			step[i] = points[begin + i].step;
			value[i] = pio_point_real(&points[begin + i]);
		}
		add_columns(row, step, value, n);
	}
}

/* Take chunks that lie whole in one bucket by their aggregates, and out of the
 * cursor; those with infinities must be looked into. */
static void add_whole_chunks(pio_bucket_row *row, pio_series_cursor *cursor)
{
	size_t kept = 0;
	for (size_t i = 0; i < cursor->chunks_end; i++) {
		const pio_cursor_chunk chunk = cursor->chunks[i];
		pio_bucket *bucket = bucket_of(row, chunk.first_step);
		bool whole = !chunk.cut && chunk.first_step >= cursor->step_min &&
		             chunk.last_step <= cursor->step_max && bucket == bucket_of(row, chunk.last_step) &&
		             chunk.finite + chunk.nans == chunk.count;
		if (!whole) {
			cursor->chunks[kept++] = chunk;
			continue;
		}
		widen(bucket, chunk.first_step, chunk.last_step);
		bucket->count += chunk.count;
		add_range(row, bucket, chunk.finite, chunk.min, chunk.max, chunk.sum);
	}
	cursor->chunks_end = kept;
}

/* Empty buckets go, means are taken. */
int pio_bucket_row_take(pio_bucket **buckets, size_t *count, pio_bucket_row *row, pio_err *err)
{
	*count = 0;
	for (size_t i = 0; i < row->count; i++) {
		pio_bucket bucket = row->all[i];
		if (!bucket.count)
			continue;
		if (!bucket.finite)
			bucket.min = bucket.max = NAN;
		bucket.mean = bucket.finite ? row->sums[i] / (double)bucket.finite : (double)NAN;
		row->all[(*count)++] = bucket;
	}
	*buckets = row->all ? row->all : pio_alloc(sizeof **buckets);
	row->all = NULL;
	return *buckets ? 0 : pio_fail(err, PIO_ENOMEM, "no memory for buckets");
}

int pio_bucket_row_init(pio_bucket_row *row, int64_t first_step, int64_t last_step,
                        size_t buckets_max, pio_err *err)
{
	*row = (pio_bucket_row){ 0 };
	if (buckets_max < 1 || buckets_max > PIO_BUCKETS_MAX)
		return pio_fail(err, PIO_EINVAL, "%zu buckets, expected 1 to %d", buckets_max, PIO_BUCKETS_MAX);
	if (first_step > last_step)
		return 0;
	uint64_t span = (uint64_t)last_step - (uint64_t)first_step;
	row->step_min = first_step;
	row->width = span / buckets_max + 1;
	if (!row->width)
		row->width = UINT64_MAX; /* one bucket of all steps there are */
	row->count = (size_t)(span / row->width) + 1;
	row->count = row->count < buckets_max ? row->count : buckets_max;
	row->all = pio_calloc(row->count, sizeof *row->all);
	row->sums = pio_calloc(row->count, sizeof *row->sums);
	if (row->all && row->sums)
		return 0;
	pio_bucket_row_fini(row);
	return pio_fail(err, PIO_ENOMEM, "no memory for %zu buckets", buckets_max);
}

void pio_bucket_row_fini(pio_bucket_row *row)
{
	pio_free(row->all);
	pio_free(row->sums);
	*row = (pio_bucket_row){ 0 };
}

typedef struct block {
	int64_t step[PIO_CHUNK_POINTS_MAX];
	union {
		uint64_t bits[PIO_CHUNK_POINTS_MAX];
		double value[PIO_CHUNK_POINTS_MAX];
	};
	uint8_t integer[PIO_CHUNK_POINTS_MAX];
} block;

/* Add the cursor's next chunk without making points of it, which most chunks
 * allow: *added is false where the chunk needs sorting, cutting or care. */
static int add_chunk(bool *added, pio_bucket_row *row, pio_series_cursor *cursor, block *b, pio_err *err)
{
	const pio_cursor_chunk *chunk = &cursor->chunks[cursor->chunks_begin];
	const pio_chunk_columns columns = { .step = b->step, .bits = b->bits, .integer = b->integer };
	enum pio_chunk_kind kind;
	size_t count;
	*added = pio_series_cursor_is_plain(cursor) && chunk->first_step >= cursor->step_min &&
	         chunk->last_step <= cursor->step_max;
	if (!*added)
		return 0;
	int rc = pio_reader_columns(&columns, &count, &kind, cursor->reader, chunk->id, err);
	for (size_t i = 1; !rc && i < count; i++)
		*added &= b->step[i - 1] <= b->step[i];
	*added &= !rc && kind == PIO_CHUNK_F64;
	if (*added) {
		add_columns(row, b->step, b->value, count);
		cursor->chunks_begin++;
	}
	return rc;
}

static int add_chunks(pio_bucket_row *row, pio_series_cursor *cursor, pio_err *err)
{
	block *b = pio_alloc(sizeof *b);
	int rc = b ? 0 : pio_fail(err, PIO_ENOMEM, "no memory to read a chunk");
	while (!rc && cursor->chunks_begin < cursor->chunks_end) {
		bool added;
		const pio_point *points;
		size_t count;
		rc = add_chunk(&added, row, cursor, b, err);
		if (!rc && !added && (rc = pio_series_cursor_group(&points, &count, cursor, err)) == 1) {
			pio_bucket_row_add(row, points, count);
			rc = 0;
		}
	}
	pio_free(b);
	return rc;
}

int pio_series_buckets(pio_bucket **buckets, size_t *count, pio_reader *reader, int64_t series_id,
                       int64_t step_min, int64_t step_max, size_t buckets_max, pio_err *err)
{
	pio_series_cursor cursor;
	pio_bucket_row row = { 0 };
	int64_t first, last;
	*buckets = NULL;
	*count = 0;
	int rc = pio_series_cursor_open(&cursor, reader, series_id, step_min, step_max, 0, err);
	if (rc)
		return rc;
	cursor.no_times = true;
	pio_series_cursor_span(&first, &last, &cursor);
	rc = pio_bucket_row_init(&row, first, last, buckets_max, err);
	if (!rc && row.count)
		add_whole_chunks(&row, &cursor);
	if (!rc)
		rc = add_chunks(&row, &cursor, err);
	if (!rc)
		rc = pio_bucket_row_take(buckets, count, &row, err);
	pio_series_cursor_close(&cursor);
	pio_bucket_row_fini(&row);
	return rc;
}
