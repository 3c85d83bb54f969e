/* A GPU as the device of device.h: one stream for all computation, memory by
 * cudaMalloc, arrays from the host by way of pinned buffers (core/gpu). */
#include "cuda/gpu.h"

#include <cstdlib>
#include <cstring>

extern "C" {
#include "gpu/cuda.h"
}

enum { STAGING_BYTES = 32 << 20 };

gpu gpt_gpu;

const char *gpt_cuda_words(int result)
{
	return cudaGetErrorString(static_cast<cudaError_t>(result));
}

const char *gpt_cublas_words(int result)
{
	return cublasGetStatusString(static_cast<cublasStatus_t>(result));
}

int gpt_gpu_status(gpt_err *err)
{
	if (gpt_gpu.failed.code)
		return gpt_err_set(err, GPT_SYSTEM, "%s", gpt_gpu.failed.message);
	return GPT_OK;
}

/* The launcher may have left each rank its own GPU, or all of them to all. */
static int choose(int local_rank, gpt_err *err)
{
	pio_cuda_devices list;
	pio_err failed = PIO_ERR_INIT;

	if (pio_cuda_devices_list(&list, &failed))
		return gpt_err_set(err, GPT_SYSTEM, "%s", failed.message);
	int count = static_cast<int>(list.count), chosen = count == 1 ? 0 : local_rank;
	pio_cuda_devices_free(&list);
	if (count == 0)
		return gpt_err_set(err, GPT_SYSTEM,
		                   "no GPU: CUDA sees none on this node (`gpt` trains on the CPU)");
	if (chosen >= count)
		return gpt_err_set(err, GPT_SYSTEM,
		                   "no GPU for rank %d of this node: CUDA sees %d of them", local_rank,
		                   count);
	KEEP(cudaSetDevice(chosen));
	return gpt_gpu_status(err);
}

int gpt_device_open(const gpt_options *options, int local_rank, gpt_err *err)
{
	gpt_gpu.half = strcmp(options->precision, "bf16") == 0;
	int status = choose(local_rank, err);
	if (status)
		return status;
	KEEP(cudaStreamCreateWithFlags(&gpt_gpu.stream, cudaStreamNonBlocking));
	PIO_CHECK_KEEP(&gpt_gpu.failed, gpt_cublas_words, cublasCreate(&gpt_gpu.blas));
	if (gpt_gpu.failed.code)
		return gpt_gpu_status(err);
	PIO_CHECK_KEEP(&gpt_gpu.failed, gpt_cublas_words, cublasSetStream(gpt_gpu.blas, gpt_gpu.stream));
	gpt_gpu.partial = static_cast<double *>(gpt_device_new(GPT_PARTIALS * sizeof(double)));
	gpt_gpu.row_loss = static_cast<float *>(gpt_device_new(GPT_GPU_ROWS * sizeof(float)));
	if (!gpt_gpu.partial || !gpt_gpu.row_loss)
		return gpt_err_set(err, GPT_SYSTEM, "no memory on the GPU");
	pio_err failed = PIO_ERR_INIT;
	if (pio_staging_open(&gpt_gpu.staging, STAGING_BYTES, &failed))
		return gpt_err_set(err, GPT_SYSTEM, "%s", failed.message);
	return gpt_gpu_status(err);
}

void gpt_device_close(void)
{
	pio_staging_close(&gpt_gpu.staging);
	gpt_device_free(gpt_gpu.partial);
	gpt_device_free(gpt_gpu.row_loss);
	if (gpt_gpu.blas)
		(void)cublasDestroy(gpt_gpu.blas);
	if (gpt_gpu.stream)
		(void)cudaStreamDestroy(gpt_gpu.stream);
	gpt_gpu = gpu();
}

size_t gpt_device_rows(void)
{
	return GPT_GPU_ROWS;
}

size_t gpt_device_cell_bytes(void)
{
	return gpt_gpu.half ? sizeof(bf16) : sizeof(float);
}

gpt_cell *gpt_device_at(gpt_cell *cells, size_t index)
{
	return reinterpret_cast<gpt_cell *>(reinterpret_cast<char *>(cells) + index * gpt_device_cell_bytes());
}

/* ---- memory ----------------------------------------------------------------- */

void *gpt_device_new(size_t size_bytes)
{
	void *memory = nullptr;

	if (cudaMalloc(&memory, size_bytes) != cudaSuccess)
		return nullptr;
	gpt_device_zero(memory, size_bytes);
	return memory;
}

void gpt_device_free(void *memory)
{
	(void)cudaFree(memory);
}

void gpt_device_zero(void *memory, size_t size_bytes)
{
	KEEP(cudaMemsetAsync(memory, 0, size_bytes, gpt_gpu.stream));
}

/* By way of pinned buffers: when a device has read what is not pinned, CUDA does
 * not promise. */
void gpt_device_write(void *memory, const void *from, size_t size_bytes)
{
	if (!gpt_gpu.failed.code)
		(void)pio_staging_send(gpt_gpu.staging, memory, from, size_bytes, gpt_gpu.stream,
		                       &gpt_gpu.failed);
}

int gpt_device_read(void *to, const void *memory, size_t size_bytes, gpt_err *err)
{
	KEEP(cudaMemcpyAsync(to, memory, size_bytes, cudaMemcpyDeviceToHost, gpt_gpu.stream));
	return gpt_device_wait(err);
}

int gpt_device_wait(gpt_err *err)
{
	KEEP(cudaStreamSynchronize(gpt_gpu.stream));
	return gpt_gpu_status(err);
}
