#include "kernel.h"

#include "simd.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

static void fill_rows(float *out, const float *bias, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++)
		memcpy(out + i * n, bias, n * sizeof *out);
}

/* out = beta out + x weight. The bias is laid into `out` first (beta 1): BLAS
 * would otherwise spend the same pass on writing zeros. */
static void multiply(float *out, const float *x, const float *weight, float beta, size_t rows,
                     size_t k, size_t n)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)n, (int)k, 1.0f,
	            x, (int)k, weight, (int)n, beta, out, (int)n);
}

void gpt_linear_forward(float *out, const float *x, const float *weight, const float *bias,
                        size_t rows, size_t k, size_t n)
{
	if (bias)
		fill_rows(out, bias, rows, n);
	multiply(out, x, weight, bias ? 1.0f : 0.0f, rows, k, n);
}

void gpt_linear_residual(float *out, const float *base, const float *x, const float *weight,
                         const float *bias, size_t rows, size_t k, size_t n)
{
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < n; j++)
			out[i * n + j] = base[i * n + j] + bias[j];
	multiply(out, x, weight, 1.0f, rows, k, n);
}

void gpt_column_sum(float *sum, const float *x, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *row = x + i * n;

#pragma omp simd
		for (size_t j = 0; j < n; j++)
			sum[j] += row[j];
	}
}

void gpt_linear_backward(float *d_x, float *d_weight, float *d_bias, const float *d_out,
                         const float *x, const float *weight, size_t rows, size_t k, size_t n)
{
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, (int)n, (int)rows, 1.0f, x,
	            (int)k, d_out, (int)n, 1.0f, d_weight, (int)n);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)k, (int)n, 1.0f,
	            d_out, (int)n, weight, (int)n, 0.0f, d_x, (int)k);
	if (d_bias)
		gpt_column_sum(d_bias, d_out, rows, n);
}

void gpt_norm_forward(float *out, float *stats, const float *x, const float *gain,
                      const float *bias, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *in = x + i * n;
		float *to = out + i * n;
		float sum = 0, square = 0, mean, rstd;

#pragma omp simd reduction(+ : sum)
		for (size_t j = 0; j < n; j++)
			sum += in[j];
		mean = sum / (float)n;
#pragma omp simd reduction(+ : square)
		for (size_t j = 0; j < n; j++)
			square += (in[j] - mean) * (in[j] - mean);
		rstd = 1.0f / sqrtf(square / (float)n + 1e-5f);
#pragma omp simd
		for (size_t j = 0; j < n; j++)
			to[j] = (in[j] - mean) * rstd * gain[j] + bias[j];
		stats[2 * i] = mean;
		stats[2 * i + 1] = rstd;
	}
}

void gpt_norm_backward(float *d_x, float *d_gain, float *d_bias, const float *d_out,
                       const float *x, const float *stats, const float *gain, size_t rows,
                       size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *in = x + i * n, *d = d_out + i * n;
		float *to = d_x + i * n;
		float mean = stats[2 * i], rstd = stats[2 * i + 1];
		float sum = 0, dot = 0;

#pragma omp simd reduction(+ : sum, dot)
		for (size_t j = 0; j < n; j++) {
			float hat = (in[j] - mean) * rstd;
			float dg = d[j] * gain[j];

			sum += dg;
			dot += dg * hat;
			d_gain[j] += d[j] * hat;
			d_bias[j] += d[j];
		}
		sum /= (float)n;
		dot /= (float)n;
#pragma omp simd
		for (size_t j = 0; j < n; j++) {
			float hat = (in[j] - mean) * rstd;

			to[j] += rstd * (d[j] * gain[j] - sum - hat * dot);
		}
	}
}

/* 0.5 x (1 + tanh u) = x s with s = 1 / (1 + exp(-2 u)), and
 * u = sqrt(2 / pi) (x + 0.044715 x^3). */
static const float gelu_a = 1.5957691216f, gelu_b = 0.0713548162726f;

void gpt_gelu_forward(float *out, const float *x, size_t count)
{
#pragma omp simd
	for (size_t i = 0; i < count; i++) {
		float v = x[i];

		out[i] = v / (1.0f + gpt_exp(-v * (gelu_a + gelu_b * v * v)));
	}
}

void gpt_gelu_backward(float *d, float *d_bias, const float *x, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		float *to = d + i * n;
		const float *in = x + i * n;

#pragma omp simd
		for (size_t j = 0; j < n; j++) {
			float v = in[j], v2 = v * v;
			float s = 1.0f / (1.0f + gpt_exp(-v * (gelu_a + gelu_b * v2)));
			float slope = s + v * s * (1.0f - s) * (gelu_a + 3.0f * gelu_b * v2);
			float g = to[j] * slope;

			to[j] = g;
			d_bias[j] += g;
		}
	}
}

static double row_cross_entropy(float *row, size_t target, size_t n, float scale)
{
	float max = row[0], sum = 0, at_target = row[target], k;

#pragma omp simd reduction(max : max)
	for (size_t j = 0; j < n; j++)
		max = row[j] > max ? row[j] : max;
#pragma omp simd reduction(+ : sum)
	for (size_t j = 0; j < n; j++) {
		float e = gpt_exp(row[j] - max);

		sum += e;
		row[j] = e;
	}
	if (scale != 0.0f) {
		k = scale / sum;
#pragma omp simd
		for (size_t j = 0; j < n; j++)
			row[j] *= k;
		row[target] -= scale;
	}
	return log((double)sum) + (double)max - (double)at_target;
}

double gpt_cross_entropy(float *logits, const unsigned char *targets, size_t rows, size_t n,
                         float scale)
{
	double total = 0;

	for (size_t i = 0; i < rows; i++)
		total += row_cross_entropy(logits + i * n, targets[i], n, scale);
	return total;
}
