/* The heads are small (a few thousand products a tile), where BLAS spends more
 * on copying than on multiplying; so the tiles are written here.
 *
 * One head is copied out of the rows of all heads into matrices of its own
 * (queries already scaled by 1 / sqrt(head width)), whose row length is rounded
 * up to LANES with zeros; each step is then a sum of outer products
 *
 *     C[i][n] = sum over k of A(i, k) B[k][n]
 *
 * with n along the vector registers and TILE rows i at a time. The causal mask
 * is a limit on n or on k for each group of TILE rows; inside the group the
 * masked probabilities are zeros. */
#include "attention.h"

#include "cpu/simd.h"

#include <math.h>
#include <string.h>

enum { LANES = 8, TILE = 4 };

/* Unaligned loads and stores; may alias plain floats. */
typedef float vec __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct strided {
	const float *data;
	size_t row, column; /* A(i, k) = data[i * row + k * column] */
} strided;

static size_t round_up(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* rows x (vecs * LANES) outputs in registers; rows and vecs are constants at
 * each call, so the loops over them unroll. */
static inline __attribute__((always_inline)) void tile(float *c, size_t c_row, strided a,
                                                       const float *b, size_t b_row, size_t k,
                                                       size_t rows, size_t vecs)
{
	vec sum[8][2];

#pragma GCC unroll 8
	for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
		for (size_t v = 0; v < vecs; v++)
			sum[r][v] = (vec){0};
	for (size_t i = 0; i < k; i++) {
		const float *column = a.data + i * a.column;

#pragma GCC unroll 8
		for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
			for (size_t v = 0; v < vecs; v++)
				sum[r][v] += column[r * a.row]
				             * *(const vec *)(b + i * b_row + v * LANES);
	}
#pragma GCC unroll 8
	for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
		for (size_t v = 0; v < vecs; v++)
			*(vec *)(c + r * c_row + v * LANES) = sum[r][v];
}

/* C (rows, n) = A B over k terms; n is a multiple of LANES. */
static void product(float *c, size_t c_row, strided a, const float *b, size_t b_row, size_t rows,
                    size_t n, size_t k)
{
	size_t j = 0;

	for (; j + 2 * LANES <= n; j += 2 * LANES) {
		if (rows == TILE)
			tile(c + j, c_row, a, b + j, b_row, k, TILE, 2);
		else
			for (size_t r = 0; r < rows; r++)
				tile(c + r * c_row + j, c_row,
				     (strided){a.data + r * a.row, a.row, a.column}, b + j, b_row,
				     k, 1, 2);
	}
	for (; j < n; j += LANES)
		for (size_t r = 0; r < rows; r++)
			tile(c + r * c_row + j, c_row,
			     (strided){a.data + r * a.row, a.row, a.column}, b + j, b_row, k, 1,
			     1);
}

/* The matrices of one head. `span` is the rounded context, `size` the rounded
 * head width; t_ is a transposed (size, span) matrix, the others are (span,
 * size), except score (span, span). */
typedef struct head {
	size_t width, size, span;
	float *q, *k, *v, *o, *d_q, *d_k, *d_v, *d_o, *t_k, *t_v, *score;
} head;

static size_t head_size(const gpt_attention_shape *shape)
{
	return round_up(shape->width / shape->heads, LANES);
}

static size_t span_size(const gpt_attention_shape *shape)
{
	return round_up(shape->context, 2 * LANES);
}

int gpt_attention_check(const gpt_attention_shape *shape, gpt_err *err)
{
	(void)shape;
	(void)err;
	return GPT_OK;
}

size_t gpt_attention_kept(const gpt_attention_shape *shape)
{
	return shape->heads * span_size(shape) * span_size(shape);
}

size_t gpt_attention_scratch(const gpt_attention_shape *shape, size_t windows)
{
	(void)windows; /* one after the other */
	return span_size(shape) * (10 * head_size(shape) + span_size(shape));
}

static head head_init(const gpt_attention_shape *shape, float *scratch)
{
	size_t span = span_size(shape), size = head_size(shape), one = span * size;
	head h = {.width = shape->width / shape->heads, .size = size, .span = span};
	float **all[] = {&h.q, &h.k, &h.v, &h.o, &h.d_q, &h.d_k, &h.d_v, &h.d_o, &h.t_k, &h.t_v};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		*all[i] = scratch + i * one;
	h.score = scratch + 10 * one;
	return h;
}

static void gather(float *to, const float *from, size_t from_row, size_t rows, const head *h,
                   float scale)
{
	for (size_t i = 0; i < rows; i++) {
		for (size_t j = 0; j < h->width; j++)
			to[i * h->size + j] = from[i * from_row + j] * scale;
		for (size_t j = h->width; j < h->size; j++)
			to[i * h->size + j] = 0;
	}
}

static void scatter(float *to, size_t to_row, const float *from, size_t rows, const head *h,
                    float scale)
{
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < h->width; j++)
			to[i * to_row + j] = from[i * h->size + j] * scale;
}

/* Columns beyond `rows` become zeros: they are multiplied, never kept. */
static void transpose(float *to, const float *from, size_t rows, const head *h)
{
	for (size_t j = 0; j < h->size; j++) {
		for (size_t i = 0; i < rows; i++)
			to[j * h->span + i] = from[i * h->size + j];
		for (size_t i = rows; i < h->span; i++)
			to[j * h->span + i] = 0;
	}
}

/* How far along the row the group of TILE rows that ends before `end` goes. */
static size_t reach(size_t end)
{
	return round_up(end, 2 * LANES);
}

/* Over the whole reach, a multiple of the vector length: what is masked goes
 * through exp() too, and is put to zero before it counts. */
static void softmax_row(float *row, size_t seen, size_t end)
{
	float max = row[0], sum = 0, k;

	for (size_t j = seen; j < end; j++)
		row[j] = row[0];
#pragma omp simd reduction(max : max)
	for (size_t j = 0; j < end; j++)
		max = row[j] > max ? row[j] : max;
#pragma omp simd
	for (size_t j = 0; j < end; j++)
		row[j] = gpt_exp(row[j] - max);
	for (size_t j = seen; j < end; j++)
		row[j] = 0;
#pragma omp simd reduction(+ : sum)
	for (size_t j = 0; j < end; j++)
		sum += row[j];
	k = 1.0f / sum;
#pragma omp simd
	for (size_t j = 0; j < end; j++)
		row[j] *= k;
}

static void forward_head(const head *h, float *prob, size_t first, size_t last)
{
	for (size_t i = first; i < last; i += TILE) {
		size_t rows = last - i < TILE ? last - i : TILE;
		float *p = prob + i * h->span;

		product(p, h->span, (strided){h->q + i * h->size, h->size, 1}, h->t_k, h->span,
		        rows, reach(i + rows), h->size);
		for (size_t r = 0; r < rows; r++)
			softmax_row(p + r * h->span, i + r + 1, reach(i + rows));
		product(h->o + i * h->size, h->size, (strided){p, h->span, 1}, h->v, h->size,
		        rows, h->size, i + rows);
	}
}

static void forward_window(float *out, float *kept, const float *qkv, size_t first, size_t last,
                           const gpt_attention_shape *shape, float *scratch)
{
	size_t row = 3 * shape->width;
	head h = head_init(shape, scratch);
	float scale = 1.0f / sqrtf((float)h.width);

	for (size_t n = 0; n < shape->heads; n++) {
		const float *q = qkv + n * h.width;
		float *prob = kept + n * h.span * h.span;

		gather(h.q + first * h.size, q + first * row, row, last - first, &h, scale);
		gather(h.k, q + shape->width, row, last, &h, 1);
		gather(h.v, q + 2 * shape->width, row, last, &h, 1);
		transpose(h.t_k, h.k, last, &h);
		forward_head(&h, prob, first, last);
		scatter(out + first * shape->width + n * h.width, shape->width,
		        h.o + first * h.size, last - first, &h, 1);
	}
}

void gpt_attention_forward(gpt_cell *out, float *kept, const gpt_cell *qkv, size_t first,
                           size_t last, size_t windows, const gpt_attention_shape *shape,
                           float *scratch)
{
	size_t rows = shape->context * shape->width;

	for (size_t i = 0; i < windows; i++)
		forward_window((float *)out + i * rows, kept + i * gpt_attention_kept(shape),
		               (const float *)qkv + i * 3 * rows, first, last, shape, scratch);
}

/* row: d loss / d probability in, d loss / d score out. */
static void softmax_row_backward(float *row, const float *prob, size_t end)
{
	float dot = 0;

#pragma omp simd reduction(+ : dot)
	for (size_t j = 0; j < end; j++)
		dot += row[j] * prob[j];
#pragma omp simd
	for (size_t j = 0; j < end; j++)
		row[j] = prob[j] * (row[j] - dot);
}

static void backward_head(const head *h, const float *prob, size_t last)
{
	for (size_t i = 0; i < last; i += TILE) {
		size_t rows = last - i < TILE ? last - i : TILE, end = reach(i + rows);
		float *s = h->score + i * h->span;

		product(s, h->span, (strided){h->d_o + i * h->size, h->size, 1}, h->t_v, h->span,
		        rows, end, h->size);
		for (size_t r = 0; r < rows; r++)
			softmax_row_backward(s + r * h->span, prob + (i + r) * h->span, end);
		product(h->d_q + i * h->size, h->size, (strided){s, h->span, 1}, h->k, h->size,
		        rows, h->size, i + rows);
	}
	/* Key row j is seen by query rows i >= j: sums start at the diagonal. */
	for (size_t j = 0; j < last; j += TILE) {
		size_t rows = last - j < TILE ? last - j : TILE, at = j * h->span + j;

		product(h->d_k + j * h->size, h->size, (strided){h->score + at, 1, h->span},
		        h->q + j * h->size, h->size, rows, h->size, last - j);
		product(h->d_v + j * h->size, h->size, (strided){prob + at, 1, h->span},
		        h->d_o + j * h->size, h->size, rows, h->size, last - j);
	}
}

static void backward_window(float *d_qkv, const float *d_out, const float *kept,
                            const float *qkv, const gpt_attention_shape *shape, float *scratch)
{
	size_t rows = shape->context, row = 3 * shape->width;
	head h = head_init(shape, scratch);
	float scale = 1.0f / sqrtf((float)h.width);

	for (size_t n = 0; n < shape->heads; n++) {
		const float *q = qkv + n * h.width;
		float *to = d_qkv + n * h.width;

		gather(h.q, q, row, rows, &h, scale);
		gather(h.k, q + shape->width, row, rows, &h, 1);
		gather(h.v, q + 2 * shape->width, row, rows, &h, 1);
		gather(h.d_o, d_out + n * h.width, shape->width, rows, &h, 1);
		transpose(h.t_v, h.v, rows, &h);
		backward_head(&h, kept + n * h.span * h.span, rows);
		scatter(to, row, h.d_q, rows, &h, scale);
		scatter(to + shape->width, row, h.d_k, rows, &h, 1);
		scatter(to + 2 * shape->width, row, h.d_v, rows, &h, 1);
	}
}

void gpt_attention_backward(gpt_cell *d_qkv, const gpt_cell *d_out, const gpt_cell *out,
                            const float *kept, const gpt_cell *qkv, size_t windows,
                            const gpt_attention_shape *shape, float *scratch)
{
	size_t rows = shape->context * shape->width;

	(void)out; /* the probabilities are kept, which say more */
	for (size_t i = 0; i < windows; i++)
		backward_window((float *)d_qkv + i * 3 * rows, (const float *)d_out + i * rows,
		                kept + i * gpt_attention_kept(shape),
		                (const float *)qkv + i * 3 * rows, shape, scratch);
}
