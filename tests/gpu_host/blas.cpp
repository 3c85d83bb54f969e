/* cublasGemmEx by the CPU's BLAS: operands become floats, the result what it has
 * to be. */
#include <cblas.h>

#include <vector>

#include "cublas_v2.h"
#include "cuda_bf16.h"

struct cublasContext {
	cudaStream_t stream;
};

namespace {

size_t type_bytes(cudaDataType type)
{
	return type == CUDA_R_32F ? 4 : 2;
}

/* A matrix, column by column, `step` elements apart. */
struct matrix {
	char *data;
	cudaDataType type;
	int rows, columns, step;

	float *at(int column)
	{
		return reinterpret_cast<float *>(data + size_t(column) * size_t(step) * type_bytes(type));
	}

	/* All of it in one block of device memory. */
	bool is_there() const
	{
		size_t elements = size_t(columns - 1) * size_t(step) + size_t(rows);
		return gpu_host_room(data) >= elements * type_bytes(type);
	}

	std::vector<float> floats()
	{
		std::vector<float> all;
		for (int j = 0; j < columns; j++)
			for (int i = 0; i < rows; i++)
				all.push_back(type == CUDA_R_32F ? at(j)[i] : __bfloat162float(
				              reinterpret_cast<__nv_bfloat16 *>(at(j))[i]));
		return all;
	}

	void assign(const std::vector<float> &all)
	{
		for (int j = 0; j < columns; j++)
			for (int i = 0; i < rows; i++) {
				float value = all[size_t(j) * size_t(rows) + size_t(i)];
				if (type == CUDA_R_32F)
					at(j)[i] = value;
				else
					reinterpret_cast<__nv_bfloat16 *>(at(j))[i] = __float2bfloat16(value);
			}
	}
};

matrix matrix_of(const void *data, cudaDataType type, int rows, int columns, int step)
{
	return matrix{static_cast<char *>(const_cast<void *>(data)), type, rows, columns, step};
}

} // namespace

const char *cublasGetStatusString(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
	case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
	case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
	}
	return "unknown status";
}

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
	openblas_set_num_threads(1);
	*handle = new cublasContext{nullptr};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
	delete handle;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
	handle->stream = stream;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                            int m, int n, int k, const void *alpha, const void *A, cudaDataType Atype,
                            int lda, const void *B, cudaDataType Btype, int ldb, const void *beta, void *C,
                            cudaDataType Ctype, int ldc, cublasComputeType_t computeType,
                            cublasGemmAlgo_t algo)
{
	float a_factor = *static_cast<const float *>(alpha), c_factor = *static_cast<const float *>(beta);
	matrix a = matrix_of(A, Atype, transa ? k : m, transa ? m : k, lda);
	matrix b = matrix_of(B, Btype, transb ? n : k, transb ? k : n, ldb);
	matrix c = matrix_of(C, Ctype, m, n, ldc);
	/* The combinations that cuBLAS lists for this compute type. */
	if (Atype != Btype || (Ctype != Atype && Ctype != CUDA_R_32F) || computeType != CUBLAS_COMPUTE_32F ||
	    algo != CUBLAS_GEMM_DEFAULT)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (m < 1 || n < 1 || k < 1 || lda < a.rows || ldb < b.rows || ldc < c.rows)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (!a.is_there() || !b.is_there() || !c.is_there())
		gpu_host_die("cublasGemmEx is given a matrix beyond device memory");
	gpu_host_run(handle->stream, [=]() mutable {
		std::vector<float> x = a.floats(), y = b.floats(), z(size_t(m) * size_t(n));
		if (c_factor != 0)
			z = c.floats();
		cblas_sgemm(CblasColMajor, transa ? CblasTrans : CblasNoTrans, transb ? CblasTrans : CblasNoTrans,
		            m, n, k, a_factor, x.data(), a.rows, y.data(), b.rows, c_factor, z.data(), m);
		c.assign(z);
	});
	return CUBLAS_STATUS_SUCCESS;
}
