/* gpu.h: what the files of cuda/ share: the GPU of this process, how its kernels
 * are launched, and what they have in common. C++ for nvcc; the stand-in of
 * tests/gpu_host compiles it as well. */
#ifndef GPT_CUDA_GPU_H
#define GPT_CUDA_GPU_H

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

extern "C" {
#include "base/check.h"
#include "device.h"
#include "gpu/staging.h"
}

typedef __nv_bfloat16 bf16;

struct gpu {
	bool half;              /* cells are bf16 */
	cudaStream_t stream;    /* of all computation */
	cublasHandle_t blas;
	pio_staging *staging;
	double *partial;        /* GPT_PARTIALS sums of blocks */
	float *row_loss;        /* one for each row of a pass */
	pio_err failed;         /* the first failure; code 0 while there is none */
};

enum { GPT_PARTIALS = 512, GPT_GPU_ROWS = 8192 };
extern gpu gpt_gpu;

const char *gpt_cuda_words(int result);
const char *gpt_cublas_words(int result);
#define KEEP(call) PIO_CHECK_KEEP(&gpt_gpu.failed, gpt_cuda_words, call)

/* GPT_OK, or the first failure told once more. */
int gpt_gpu_status(gpt_err *err);

/* ---- launching -------------------------------------------------------------- */

enum { WARP = 32, BLOCK = 256, WARPS = BLOCK / WARP };

inline unsigned blocks_for(size_t count, size_t each)
{
	return static_cast<unsigned>((count + each - 1) / each);
}

/* For loops that go on by the size of the grid: no more blocks than fill a GPU
 * a few times. */
inline unsigned blocks_of(size_t count)
{
	const size_t most = 4096, wanted = (count + BLOCK - 1) / BLOCK;
	return static_cast<unsigned>(wanted < most ? wanted : most);
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments)
{
	cudaLaunchConfig_t config = {};
	config.gridDim = grid;
	config.blockDim = block;
	config.stream = gpt_gpu.stream;
	KEEP(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

/* call(float *) or call(bf16 *), by what cells are. */
template <typename Call> void by_cell(Call call)
{
	if (gpt_gpu.half)
		call(static_cast<bf16 *>(nullptr));
	else
		call(static_cast<float *>(nullptr));
}

/* Cells as what they are; `type` is by_cell's. */
template <typename T> T *as(T *type, gpt_cell *cells)
{
	(void)type;
	return reinterpret_cast<T *>(cells);
}

template <typename T> const T *as(T *type, const gpt_cell *cells)
{
	(void)type;
	return reinterpret_cast<const T *>(cells);
}

/* ---- in kernels ------------------------------------------------------------- */

/* Before a loop over an array that is to stay in registers. */
#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

__device__ inline float load(const float *at)
{
	return *at;
}

__device__ inline float load(const bf16 *at)
{
	return __bfloat162float(*at);
}

__device__ inline void store(float *at, float value)
{
	*at = value;
}

__device__ inline void store(bf16 *at, float value)
{
	*at = __float2bfloat16(value);
}

/* The sum, or the largest, of all lanes, in all lanes. */
template <typename T> __device__ inline T warp_sum(T value)
{
	for (int bits = WARP / 2; bits > 0; bits /= 2)
		value += __shfl_xor_sync(0xffffffffu, value, bits);
	return value;
}

__device__ inline float warp_max(float value)
{
	for (int bits = WARP / 2; bits > 0; bits /= 2)
		value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, bits));
	return value;
}

#endif
