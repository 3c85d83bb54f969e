/* The few calls of the CUDA runtime that experiments/gpt uses, on the host
 * (gpu_host.h); names and arguments are NVIDIA's. */
#ifndef GPU_HOST_CUDA_RUNTIME_H
#define GPU_HOST_CUDA_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "../gpu_host.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static __thread
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct uint3 {
	unsigned x, y, z;
};
/* __thread: of what may need no constructor, the compiler asks not whether it ran. */
extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;
constexpr int warpSize = 32;

enum cudaError_t {
	cudaSuccess = 0,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInvalidConfiguration = 9,
	cudaErrorNoDevice = 100,
	cudaErrorInvalidDevice = 101,
	cudaErrorInvalidContext = 201,
	cudaErrorInvalidResourceHandle = 400,
	cudaErrorNotReady = 600,
	cudaErrorIllegalAddress = 700
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
#define cudaStreamNonBlocking 1u
#define cudaEventDisableTiming 2u

extern "C" {
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMalloc(void **memory, size_t size);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
}

struct cudaLaunchConfig_t {
	dim3 gridDim, blockDim;
	size_t dynamicSmemBytes;
	cudaStream_t stream;
	void *attrs;
	unsigned numAttrs;
};

/* The limits of sm_90 hold here too. */
cudaError_t gpu_host_check_launch(const cudaLaunchConfig_t *config);

template <typename T> void gpu_host_check_argument(const T &value)
{
	if constexpr (std::is_pointer_v<T>)
		if (value && !gpu_host_room(value))
			gpu_host_die("a kernel is given an address where no device memory is");
}

template <typename... Expected, typename... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Expected...),
                               Actual &&...actual)
{
	cudaError_t error = gpu_host_check_launch(config);
	if (error != cudaSuccess)
		return error;
	(gpu_host_check_argument<Expected>(actual), ...);
	dim3 grid = config->gridDim, block = config->blockDim;
	gpu_host_run(config->stream, [=]() {
		gpu_host_grid(grid, block, [=]() { kernel(static_cast<Expected>(actual)...); });
	});
	return cudaSuccess;
}

inline void __syncthreads()
{
	gpu_host_sync_block();
}

inline void __syncwarp()
{
	gpu_host_sync_warp();
}

template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int bits)
{
	static_assert(sizeof value <= 8, "a shuffle moves 8 bytes at most");
	if (mask != 0xffffffffu)
		gpu_host_die("a shuffle in a part of a warp");
	unsigned char(*lanes)[8] = gpu_host_lanes();
	unsigned lane = gpu_host_lane();
	memcpy(lanes[lane], &value, sizeof value);
	gpu_host_sync_warp();
	memcpy(&value, lanes[lane ^ static_cast<unsigned>(bits)], sizeof value);
	return value;
}

#endif
