/* Attention on a GPU without the square of probabilities: tiles of WARP keys (on
 * the way back also of queries) go through shared memory, and a warp that owns a
 * row takes one of them on each lane (Milakov and Gimelshein 2018; Dao et al.
 * 2022). Kept for the way back is, for each row, the logarithm of its softmax's
 * denominator, of which the probabilities are made again.
 *
 *   s = scale q k,  p = exp(s - kept),  o = sum of p v
 *   d_p = d_o v,  d_s = p (d_p - d_o o),  d_q = scale sum of d_s k,
 *   d_k = scale sum of d_s q,  d_v = sum of p d_o
 */
#include "cuda/gpu.h"

extern "C" {
#include "attention.h"
}

enum { HEAD_MAX = 128, PARTS = HEAD_MAX / WARP };
enum { ROWS_EACH = 2 };                 /* query rows of a warp on the way there */

/* A head of a window: where its rows begin, and how far they are apart. */
struct head {
	size_t context, width, heads, size; /* size: columns of one head */
	float scale;
};

static head head_of(const gpt_attention_shape *shape)
{
	size_t size = shape->width / shape->heads;

	return head{shape->context, shape->width, shape->heads, size, 1.0f / sqrtf(float(size))};
}

int gpt_attention_check(const gpt_attention_shape *shape, gpt_err *err)
{
	if (shape->width / shape->heads > HEAD_MAX)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "--heads=%zu: on a GPU, expected heads of at most %d channels; "
		                   "--width=%zu makes them %zu",
		                   shape->heads, HEAD_MAX, shape->width, shape->width / shape->heads);
	return GPT_OK;
}

size_t gpt_attention_kept(const gpt_attention_shape *shape)
{
	return shape->heads * shape->context;
}

/* d_o o of each row. */
size_t gpt_attention_scratch(const gpt_attention_shape *shape, size_t windows)
{
	return windows * shape->heads * shape->context;
}

/* blockIdx is (tile, head, window). */
template <typename T> __device__ static T *rows_of(T *qkv, const head &h, int which)
{
	return qkv + (blockIdx.z * h.context * 3 + size_t(which)) * h.width + blockIdx.y * h.size;
}

template <typename T> __device__ static T *rows_of_out(T *out, const head &h)
{
	return out + blockIdx.z * h.context * h.width + blockIdx.y * h.size;
}

__device__ static size_t first_of_row(const head &h)
{
	return (blockIdx.z * h.heads + blockIdx.y) * h.context;
}

/* `count` rows from `first` on into shared memory, those from `end` on as zeros. */
template <typename T, int STRIDE>
__device__ static void fetch(float (*to)[STRIDE], const T *from, size_t row_step, size_t first, size_t end,
                             size_t count, size_t size)
{
	for (size_t i = threadIdx.x; i < count * size; i += blockDim.x) {
		size_t row = i / size, column = i % size;

		to[row][column] = first + row < end ? load(from + (first + row) * row_step + column) : 0.0f;
	}
}

__device__ static float dot(const float *a, const float *b, size_t size)
{
	float sum = 0;

	for (size_t i = 0; i < size; i++)
		sum += a[i] * b[i];
	return sum;
}

/* sum[part] += the tile's rows weighted, in the columns of this lane. */
template <int STRIDE>
__device__ static void add_weighted(float *sum, const float *weight, const float (*tile)[STRIDE], size_t size)
{
	UNROLL
	for (int part = 0; part < PARTS; part++) {
		size_t column = size_t(part) * WARP + threadIdx.x % WARP;

		if (column < size)
			for (int row = 0; row < WARP; row++)
				sum[part] += weight[row] * tile[row][column];
	}
}

template <typename T>
__device__ static void put(T *to, const float *sum, float factor, size_t size)
{
	UNROLL
	for (int part = 0; part < PARTS; part++) {
		size_t column = size_t(part) * WARP + threadIdx.x % WARP;

		if (column < size)
			store(to + column, factor * sum[part]);
	}
}

/* ---- there ------------------------------------------------------------------ */

/* What a query row has seen of its keys so far. */
struct seen {
	float max, sum, out[PARTS];
};

/* One tile of keys from `first` on: the row's sums grow, and shrink to the new
 * largest score. `p` is the warp's. */
__device__ static void see(seen *r, const float *q, size_t row, const float (*k)[HEAD_MAX + 1],
                           const float (*v)[HEAD_MAX + 1], size_t first, const head &h, float *p)
{
	size_t lane = threadIdx.x % WARP;
	float s = first + lane <= row ? h.scale * dot(q, k[lane], h.size) : -INFINITY;
	float max = fmaxf(r->max, warp_max(s)), shrink = expf(r->max - max), mine = expf(s - max);

	r->sum = r->sum * shrink + warp_sum(mine);
	r->max = max;
	UNROLL
	for (int part = 0; part < PARTS; part++)
		r->out[part] *= shrink;
	p[lane] = mine;
	__syncwarp();
	add_weighted(r->out, p, v, h.size);
	__syncwarp();
}

template <typename T>
__global__ static void __launch_bounds__(BLOCK)
	attend(T *out, float *kept, const T *qkv, size_t first, size_t last, head h)
{
	__shared__ float k[WARP][HEAD_MAX + 1], v[WARP][HEAD_MAX + 1];
	__shared__ float q[WARPS * ROWS_EACH][HEAD_MAX], p[WARPS][WARP];
	size_t warp = threadIdx.x / WARP, step = 3 * h.width;
	size_t begin = first + size_t(blockIdx.x) * WARPS * ROWS_EACH;
	size_t end = begin + WARPS * ROWS_EACH < last ? begin + WARPS * ROWS_EACH : last;
	seen rows[ROWS_EACH];

	UNROLL
	for (int i = 0; i < ROWS_EACH; i++)
		rows[i] = seen{-INFINITY, 0, {0}};
	fetch<T, HEAD_MAX>(q, rows_of(qkv, h, 0), step, begin, end, WARPS * ROWS_EACH, h.size);
	for (size_t tile = 0; tile < end; tile += WARP) {
		__syncthreads();
		fetch<T, HEAD_MAX + 1>(k, rows_of(qkv, h, 1), step, tile, last, WARP, h.size);
		fetch<T, HEAD_MAX + 1>(v, rows_of(qkv, h, 2), step, tile, last, WARP, h.size);
		__syncthreads();
		UNROLL
		for (size_t i = 0; i < ROWS_EACH; i++) {
			size_t row = begin + warp * ROWS_EACH + i;

			if (row < end && tile <= row)
				see(&rows[i], q[row - begin], row, k, v, tile, h, p[warp]);
		}
	}
	UNROLL
	for (size_t i = 0; i < ROWS_EACH; i++) {
		size_t row = begin + warp * ROWS_EACH + i;

		if (row >= end)
			continue;
		put(rows_of_out(out, h) + row * h.width, rows[i].out, 1.0f / rows[i].sum, h.size);
		if (threadIdx.x % WARP == 0)
			kept[first_of_row(h) + row] = rows[i].max + logf(rows[i].sum);
	}
}

void gpt_attention_forward(gpt_cell *out, float *kept, const gpt_cell *qkv, size_t first, size_t last,
                           size_t windows, const gpt_attention_shape *shape, float *scratch)
{
	dim3 grid(blocks_for(last - first, WARPS * ROWS_EACH), unsigned(shape->heads), unsigned(windows));

	(void)scratch;
	by_cell([&](auto type) {
		launch(attend<std::remove_pointer_t<decltype(type)>>, grid, BLOCK, as(type, out), kept,
		       as(type, qkv), first, last, head_of(shape));
	});
}

/* ---- and back --------------------------------------------------------------- */

/* d_q, a query row a warp; and d_o o, which d_k and d_v need as well. */
template <typename T>
__global__ static void __launch_bounds__(BLOCK)
	attend_backward_queries(T *d_qkv, float *dots, const T *d_out, const T *out, const float *kept,
	                        const T *qkv, head h)
{
	__shared__ float k[WARP][HEAD_MAX + 1], v[WARP][HEAD_MAX + 1];
	__shared__ float q[WARPS][HEAD_MAX], d[WARPS][HEAD_MAX], weight[WARPS][WARP];
	size_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, step = 3 * h.width;
	size_t begin = size_t(blockIdx.x) * WARPS, row = begin + warp;
	size_t end = begin + WARPS < h.context ? begin + WARPS : h.context;
	float sum[PARTS] = {0}, d_dot = 0, log_sum = 0;

	fetch<T, HEAD_MAX>(q, rows_of(qkv, h, 0), step, begin, end, WARPS, h.size);
	fetch<T, HEAD_MAX>(d, rows_of_out(d_out, h), h.width, begin, end, WARPS, h.size);
	__syncthreads();
	if (row < end) {
		for (size_t i = lane; i < h.size; i += WARP)
			d_dot += d[warp][i] * load(rows_of_out(out, h) + row * h.width + i);
		d_dot = warp_sum(d_dot);
		log_sum = kept[first_of_row(h) + row];
		if (lane == 0)
			dots[first_of_row(h) + row] = d_dot;
	}
	for (size_t tile = 0; tile < end; tile += WARP) {
		__syncthreads();
		fetch<T, HEAD_MAX + 1>(k, rows_of(qkv, h, 1), step, tile, h.context, WARP, h.size);
		fetch<T, HEAD_MAX + 1>(v, rows_of(qkv, h, 2), step, tile, h.context, WARP, h.size);
		__syncthreads();
		if (row >= end || tile > row)
			continue;
		float p = tile + lane <= row ? expf(h.scale * dot(q[warp], k[lane], h.size) - log_sum) : 0.0f;

		weight[warp][lane] = p * (dot(d[warp], v[lane], h.size) - d_dot);
		__syncwarp();
		add_weighted(sum, weight[warp], k, h.size);
		__syncwarp();
	}
	if (row < end)
		put(rows_of(d_qkv, h, 0) + row * step, sum, h.scale, h.size);
}

/* d_k and d_v, a key row a warp; the queries that see it come by in tiles. */
template <typename T>
__global__ static void __launch_bounds__(BLOCK)
	attend_backward_keys(T *d_qkv, const float *dots, const T *d_out, const float *kept, const T *qkv,
	                     head h)
{
	__shared__ float q[WARP][HEAD_MAX + 1], d[WARP][HEAD_MAX + 1];
	__shared__ float k[WARPS][HEAD_MAX], v[WARPS][HEAD_MAX], p[WARPS][WARP], d_s[WARPS][WARP];
	size_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, step = 3 * h.width;
	size_t begin = size_t(blockIdx.x) * WARPS, row = begin + warp;
	size_t end = begin + WARPS < h.context ? begin + WARPS : h.context;
	float d_key[PARTS] = {0}, d_value[PARTS] = {0};

	fetch<T, HEAD_MAX>(k, rows_of(qkv, h, 1), step, begin, end, WARPS, h.size);
	fetch<T, HEAD_MAX>(v, rows_of(qkv, h, 2), step, begin, end, WARPS, h.size);
	for (size_t tile = begin / WARP * WARP; tile < h.context; tile += WARP) {
		size_t query = tile + lane;

		__syncthreads();
		fetch<T, HEAD_MAX + 1>(q, rows_of(qkv, h, 0), step, tile, h.context, WARP, h.size);
		fetch<T, HEAD_MAX + 1>(d, rows_of_out(d_out, h), h.width, tile, h.context, WARP, h.size);
		__syncthreads();
		if (row >= end)
			continue;
		bool sees = query < h.context && query >= row;
		float prob = sees ? expf(h.scale * dot(q[lane], k[warp], h.size) - kept[first_of_row(h) + query])
		                  : 0.0f;

		p[warp][lane] = prob;
		d_s[warp][lane] = sees ? prob * (dot(d[lane], v[warp], h.size) - dots[first_of_row(h) + query])
		                       : 0.0f;
		__syncwarp();
		add_weighted(d_key, d_s[warp], q, h.size);
		add_weighted(d_value, p[warp], d, h.size);
		__syncwarp();
	}
	if (row >= end)
		return;
	put(rows_of(d_qkv, h, 1) + row * step, d_key, h.scale, h.size);
	put(rows_of(d_qkv, h, 2) + row * step, d_value, 1.0f, h.size);
}

void gpt_attention_backward(gpt_cell *d_qkv, const gpt_cell *d_out, const gpt_cell *out,
                            const float *kept, const gpt_cell *qkv, size_t windows,
                            const gpt_attention_shape *shape, float *scratch)
{
	dim3 grid(blocks_for(shape->context, WARPS), unsigned(shape->heads), unsigned(windows));
	head h = head_of(shape);

	by_cell([&](auto type) {
		using T = std::remove_pointer_t<decltype(type)>;

		launch(attend_backward_queries<T>, grid, BLOCK, as(type, d_qkv), scratch, as(type, d_out),
		       as(type, out), kept, as(type, qkv), h);
		launch(attend_backward_keys<T>, grid, BLOCK, as(type, d_qkv), scratch, as(type, d_out), kept,
		       as(type, qkv), h);
	});
}
