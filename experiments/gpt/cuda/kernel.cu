/* The layers of kernel.h on a GPU. Matrix products are cuBLAS's; what is between
 * them is here. Sums go in an order that the shapes give: a warp or a block owns
 * what it adds up, and nothing is added by atomics. */
#include "cuda/gpu.h"

extern "C" {
#include "kernel.h"
}

__device__ static size_t first_index()
{
	return size_t(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ static size_t index_step()
{
	return size_t(gridDim.x) * blockDim.x;
}

/* ---- cells ------------------------------------------------------------------ */

__global__ static void convert(bf16 *to, const float *from, size_t count)
{
	for (size_t i = first_index(); i < count; i += index_step())
		to[i] = __float2bfloat16(from[i]);
}

const gpt_cell *gpt_cells_of(gpt_cell *scratch, const float *x, size_t count)
{
	if (!gpt_gpu.half)
		return reinterpret_cast<const gpt_cell *>(x);
	launch(convert, blocks_of(count), BLOCK, reinterpret_cast<bf16 *>(scratch), x, count);
	return scratch;
}

/* ---- embedding -------------------------------------------------------------- */

__global__ static void embed(float *out, const unsigned char *bytes, const float *token,
                             const float *position, size_t at, size_t count, size_t context, size_t n)
{
	for (size_t i = first_index(); i < count; i += index_step()) {
		size_t row = i / n, j = i % n;

		out[i] = token[bytes[row] * n + j] + position[(at + row) % context * n + j];
	}
}

void gpt_embed_forward(float *out, const unsigned char *bytes, const float *token,
                       const float *position, size_t at, size_t rows, size_t context, size_t n)
{
	launch(embed, blocks_of(rows * n), BLOCK, out, bytes, token, position, at, rows * n, context, n);
}

/* A block has one byte of the vocabulary and some columns, and finds its rows. */
__global__ static void embed_token_backward(float *d_token, const float *d_out,
                                            const unsigned char *bytes, size_t rows, size_t n)
{
	size_t j = size_t(blockIdx.y) * blockDim.x + threadIdx.x;
	float sum = 0;

	if (j >= n)
		return;
	for (size_t row = 0; row < rows; row++)
		if (bytes[row] == blockIdx.x)
			sum += d_out[row * n + j];
	d_token[blockIdx.x * n + j] += sum;
}

__global__ static void embed_position_backward(float *d_position, const float *d_out, size_t rows,
                                               size_t context, size_t n)
{
	size_t j = size_t(blockIdx.y) * blockDim.x + threadIdx.x;
	float sum = 0;

	if (j >= n)
		return;
	for (size_t row = blockIdx.x; row < rows; row += context)
		sum += d_out[row * n + j];
	d_position[blockIdx.x * n + j] += sum;
}

void gpt_embed_backward(float *d_token, float *d_position, const float *d_out,
                        const unsigned char *bytes, size_t rows, size_t context, size_t n)
{
	const unsigned vocabulary = 256;

	launch(embed_token_backward, dim3(vocabulary, blocks_for(n, BLOCK)), BLOCK, d_token, d_out, bytes,
	       rows, n);
	launch(embed_position_backward, dim3(unsigned(context), blocks_for(n, BLOCK)), BLOCK, d_position,
	       d_out, rows, context, n);
}

/* ---- sums of columns -------------------------------------------------------- */

/* A block of (WARP, COLUMN_ROWS) threads has WARP columns; each thread goes down
 * every COLUMN_ROWS-th row, and the first row of threads adds up the others. */
enum { COLUMN_ROWS = 32 };

__device__ static float column_total(float (*partial)[WARP + 1], float mine)
{
	float sum = 0;

	partial[threadIdx.y][threadIdx.x] = mine;
	__syncthreads();
	if (threadIdx.y == 0)
		for (int i = 0; i < COLUMN_ROWS; i++)
			sum += partial[i][threadIdx.x];
	__syncthreads();
	return sum;
}

template <typename T>
__global__ static void __launch_bounds__(WARP *COLUMN_ROWS)
	column_sum(float *sum, const T *x, size_t rows, size_t n)
{
	__shared__ float partial[COLUMN_ROWS][WARP + 1];
	size_t j = size_t(blockIdx.x) * WARP + threadIdx.x;
	float mine = 0, total;

	for (size_t row = threadIdx.y; j < n && row < rows; row += COLUMN_ROWS)
		mine += load(x + row * n + j);
	total = column_total(partial, mine);
	if (threadIdx.y == 0 && j < n)
		sum[j] += total;
}

static void add_columns(float *sum, const gpt_cell *x, size_t rows, size_t n)
{
	by_cell([&](auto type) {
		launch(column_sum<std::remove_pointer_t<decltype(type)>>, blocks_for(n, WARP),
		       dim3(WARP, COLUMN_ROWS), sum, as(type, x), rows, n);
	});
}

/* ---- matrix products -------------------------------------------------------- */

/* C (rows, n) = A B + beta C, row-major: of A' (rows, k) and B' (k, n) either may
 * be stored transposed. cuBLAS counts columns first, so it is told C^T = B^T A^T. */
static void multiply(void *c, cudaDataType c_type, const gpt_cell *a, bool a_transposed,
                     const gpt_cell *b, bool b_transposed, float beta, size_t rows, size_t n, size_t k)
{
	cudaDataType type = gpt_gpu.half ? CUDA_R_16BF : CUDA_R_32F;
	const float one = 1;

	PIO_CHECK_KEEP(&gpt_gpu.failed, gpt_cublas_words,
	               cublasGemmEx(gpt_gpu.blas, b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
	                            a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, int(n), int(rows), int(k), &one,
	                            b, type, int(b_transposed ? k : n), a, type, int(a_transposed ? rows : k),
	                            &beta, c, c_type, int(n), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

static cudaDataType cell_type()
{
	return gpt_gpu.half ? CUDA_R_16BF : CUDA_R_32F;
}

template <typename T> __global__ static void fill_rows(T *out, const float *bias, size_t count, size_t n)
{
	for (size_t i = first_index(); i < count; i += index_step())
		store(out + i, bias[i % n]);
}

__global__ static void fill_residual(float *out, const float *base, const float *bias, size_t count,
                                     size_t n)
{
	for (size_t i = first_index(); i < count; i += index_step())
		out[i] = base[i] + bias[i % n];
}

void gpt_linear_forward(gpt_cell *out, const gpt_cell *x, const gpt_cell *weight, const float *bias,
                        size_t rows, size_t k, size_t n)
{
	by_cell([&](auto type) {
		launch(fill_rows<std::remove_pointer_t<decltype(type)>>, blocks_of(rows * n), BLOCK,
		       as(type, out), bias, rows * n, n);
	});
	multiply(out, cell_type(), x, false, weight, false, 1, rows, n, k);
}

void gpt_linear_residual(float *out, const float *base, const gpt_cell *x, const gpt_cell *weight,
                         const float *bias, size_t rows, size_t k, size_t n)
{
	launch(fill_residual, blocks_of(rows * n), BLOCK, out, base, bias, rows * n, n);
	multiply(out, CUDA_R_32F, x, false, weight, false, 1, rows, n, k);
}

void gpt_linear_logits(float *out, const gpt_cell *x, const gpt_cell *weight, size_t rows, size_t k,
                       size_t n)
{
	multiply(out, CUDA_R_32F, x, false, weight, false, 0, rows, n, k);
}

void gpt_linear_backward(gpt_cell *d_x, float *d_weight, float *d_bias, const gpt_cell *d_out,
                         const gpt_cell *x, const gpt_cell *weight, size_t rows, size_t k, size_t n)
{
	multiply(d_weight, CUDA_R_32F, x, true, d_out, false, 1, k, n, rows);
	multiply(d_x, cell_type(), d_out, false, weight, true, 0, rows, k, n);
	if (d_bias)
		add_columns(d_bias, d_out, rows, n);
}

/* ---- layer normalization ---------------------------------------------------- */

/* A warp has a row. */
__device__ static size_t warp_row()
{
	return size_t(blockIdx.x) * WARPS + threadIdx.x / WARP;
}

template <typename T>
__global__ static void norm(T *out, float *stats, const float *x, const float *gain, const float *bias,
                            size_t rows, size_t n)
{
	size_t row = warp_row(), lane = threadIdx.x % WARP;
	float sum = 0, square = 0, mean, rstd;

	if (row >= rows)
		return;
	x += row * n;
	for (size_t j = lane; j < n; j += WARP)
		sum += x[j];
	mean = warp_sum(sum) / float(n);
	for (size_t j = lane; j < n; j += WARP)
		square += (x[j] - mean) * (x[j] - mean);
	rstd = 1.0f / sqrtf(warp_sum(square) / float(n) + 1e-5f);
	for (size_t j = lane; j < n; j += WARP)
		store(out + row * n + j, (x[j] - mean) * rstd * gain[j] + bias[j]);
	if (lane == 0) {
		stats[2 * row] = mean;
		stats[2 * row + 1] = rstd;
	}
}

void gpt_norm_forward(gpt_cell *out, float *stats, const float *x, const float *gain, const float *bias,
                      size_t rows, size_t n)
{
	by_cell([&](auto type) {
		launch(norm<std::remove_pointer_t<decltype(type)>>, blocks_for(rows, WARPS), BLOCK, as(type, out),
		       stats, x, gain, bias, rows, n);
	});
}

template <typename T>
__global__ static void norm_backward(float *d_x, const T *d_out, const float *x, const float *stats,
                                     const float *gain, size_t rows, size_t n)
{
	size_t row = warp_row(), lane = threadIdx.x % WARP;
	float sum = 0, dot = 0, mean, rstd;

	if (row >= rows)
		return;
	mean = stats[2 * row];
	rstd = stats[2 * row + 1];
	for (size_t j = lane; j < n; j += WARP) {
		float d = load(d_out + row * n + j) * gain[j];

		sum += d;
		dot += d * (x[row * n + j] - mean) * rstd;
	}
	sum = warp_sum(sum) / float(n);
	dot = warp_sum(dot) / float(n);
	for (size_t j = lane; j < n; j += WARP) {
		float hat = (x[row * n + j] - mean) * rstd;

		d_x[row * n + j] += rstd * (load(d_out + row * n + j) * gain[j] - sum - hat * dot);
	}
}

template <typename T>
__global__ static void __launch_bounds__(WARP *COLUMN_ROWS)
	norm_columns(float *d_gain, float *d_bias, const T *d_out, const float *x, const float *stats,
	             size_t rows, size_t n)
{
	__shared__ float partial[COLUMN_ROWS][WARP + 1];
	size_t j = size_t(blockIdx.x) * WARP + threadIdx.x;
	float gain = 0, bias = 0;

	for (size_t row = threadIdx.y; j < n && row < rows; row += COLUMN_ROWS) {
		float d = load(d_out + row * n + j);

		gain += d * (x[row * n + j] - stats[2 * row]) * stats[2 * row + 1];
		bias += d;
	}
	gain = column_total(partial, gain);
	bias = column_total(partial, bias);
	if (threadIdx.y == 0 && j < n) {
		d_gain[j] += gain;
		d_bias[j] += bias;
	}
}

void gpt_norm_backward(float *d_x, float *d_gain, float *d_bias, const gpt_cell *d_out, const float *x,
                       const float *stats, const float *gain, size_t rows, size_t n)
{
	by_cell([&](auto type) {
		using T = std::remove_pointer_t<decltype(type)>;

		launch(norm_backward<T>, blocks_for(rows, WARPS), BLOCK, d_x, as(type, d_out), x, stats, gain,
		       rows, n);
		launch(norm_columns<T>, blocks_for(n, WARP), dim3(WARP, COLUMN_ROWS), d_gain, d_bias,
		       as(type, d_out), x, stats, rows, n);
	});
}

/* ---- GELU ------------------------------------------------------------------- */

/* 0.5 x (1 + tanh u) = x s with s = 1 / (1 + exp(-2 u)), and
 * 2 u = x (GELU_A + GELU_B x^2). */
#define GELU_A 1.5957691216f
#define GELU_B 0.0713548162726f

template <typename T> __global__ static void gelu(T *out, const T *x, size_t count)
{
	for (size_t i = first_index(); i < count; i += index_step()) {
		float v = load(x + i);

		store(out + i, v / (1.0f + expf(-v * (GELU_A + GELU_B * v * v))));
	}
}

template <typename T> __global__ static void gelu_backward(T *d, const T *x, size_t count)
{
	for (size_t i = first_index(); i < count; i += index_step()) {
		float v = load(x + i), square = v * v;
		float s = 1.0f / (1.0f + expf(-v * (GELU_A + GELU_B * square)));

		store(d + i, load(d + i) * (s + v * s * (1.0f - s) * (GELU_A + 3.0f * GELU_B * square)));
	}
}

void gpt_gelu_forward(gpt_cell *out, const gpt_cell *x, size_t count)
{
	by_cell([&](auto type) {
		launch(gelu<std::remove_pointer_t<decltype(type)>>, blocks_of(count), BLOCK, as(type, out),
		       as(type, x), count);
	});
}

void gpt_gelu_backward(gpt_cell *d, float *d_bias, const gpt_cell *x, size_t rows, size_t n)
{
	by_cell([&](auto type) {
		launch(gelu_backward<std::remove_pointer_t<decltype(type)>>, blocks_of(rows * n), BLOCK,
		       as(type, d), as(type, x), rows * n);
	});
	add_columns(d_bias, d, rows, n);
}

/* ---- cross-entropy ---------------------------------------------------------- */

__global__ static void cross_entropy(float *row_loss, float *logits, const unsigned char *targets,
                                     size_t rows, size_t n, float scale)
{
	size_t row = warp_row(), lane = threadIdx.x % WARP, target;
	float max = -INFINITY, sum = 0, at_target;

	if (row >= rows)
		return;
	logits += row * n;
	target = targets[row];
	at_target = logits[target];
	for (size_t j = lane; j < n; j += WARP)
		max = fmaxf(max, logits[j]);
	max = warp_max(max);
	for (size_t j = lane; j < n; j += WARP)
		sum += expf(logits[j] - max);
	sum = warp_sum(sum);
	__syncwarp(); /* everyone has read the target's logit */
	if (lane == 0)
		row_loss[row] = logf(sum) + max - at_target;
	if (scale == 0.0f)
		return;
	for (size_t j = lane; j < n; j += WARP)
		logits[j] = scale * expf(logits[j] - max) / sum - (j == target ? scale : 0.0f);
}

/* One warp: count numbers, each lane its own in turn. */
template <typename T>
__global__ static void add_up(double *sum, const T *x, size_t count, bool on_top)
{
	double mine = 0;

	for (size_t i = threadIdx.x; i < count; i += WARP)
		mine += double(x[i]);
	mine = warp_sum(mine);
	if (threadIdx.x == 0)
		*sum = on_top ? *sum + mine : mine;
}

void gpt_cross_entropy(double *loss, float *logits, const unsigned char *targets, size_t rows, size_t n,
                       float scale)
{
	launch(cross_entropy, blocks_for(rows, WARPS), BLOCK, gpt_gpu.row_loss, logits, targets, rows, n,
	       scale);
	launch(add_up<float>, 1, WARP, loss, gpt_gpu.row_loss, rows, true);
}

__global__ static void scale_one(float *to, const double *from, double scale)
{
	*to = float(scale * *from);
}

void gpt_scale(float *to, const double *from, double scale)
{
	launch(scale_one, 1, 1, to, from, scale);
}

/* ---- the gradient's norm, the optimizers ------------------------------------ */

__global__ static void square_sum(double *partial, const float *x, size_t count)
{
	__shared__ double warps[WARPS];
	double mine = 0;

	for (size_t i = first_index(); i < count; i += index_step())
		mine += double(x[i]) * double(x[i]);
	mine = warp_sum(mine);
	if (threadIdx.x % WARP == 0)
		warps[threadIdx.x / WARP] = mine;
	__syncthreads();
	if (threadIdx.x == 0) {
		for (int i = 1; i < WARPS; i++)
			mine += warps[i];
		partial[blockIdx.x] = mine;
	}
}

void gpt_square_sum(double *sum, const float *x, size_t count)
{
	const unsigned most = GPT_PARTIALS, wanted = blocks_for(count, 8 * BLOCK);
	const unsigned blocks = wanted < most ? wanted : most;

	launch(square_sum, blocks, BLOCK, gpt_gpu.partial, x, count);
	launch(add_up<double>, 1, WARP, sum, gpt_gpu.partial, size_t(blocks), false);
}

__global__ static void adamw(gpt_update u)
{
	for (size_t i = first_index(); i < u.count; i += index_step()) {
		float d = u.gradients[i] * u.scale;
		float m = u.beta1 * u.m[i] + (1.0f - u.beta1) * d;
		float v = u.beta2 * u.v[i] + (1.0f - u.beta2) * d * d;

		u.m[i] = m;
		u.v[i] = v;
		u.weights[i] = u.weights[i] * u.keep - u.rate * m / (sqrtf(v) * u.rescale + 1e-8f);
	}
}

void gpt_adamw(const gpt_update *u)
{
	launch(adamw, blocks_of(u->count), BLOCK, *u);
}

__global__ static void sgd(gpt_update u)
{
	for (size_t i = first_index(); i < u.count; i += index_step()) {
		float m = u.beta1 * u.m[i] + u.gradients[i] * u.scale;

		u.m[i] = m;
		u.weights[i] = u.weights[i] * u.keep - u.rate * m;
	}
}

void gpt_sgd(const gpt_update *u)
{
	launch(sgd, blocks_of(u->count), BLOCK, *u);
}
