#include "kernel.h"

#include "cpu/simd.h"

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

const gpt_cell *gpt_cells_of(gpt_cell *scratch, const float *x, size_t count)
{
	(void)scratch;
	(void)count;
	return (const gpt_cell *)x;
}

void gpt_embed_forward(float *out, const unsigned char *bytes, const float *token,
                       const float *position, size_t at, size_t rows, size_t context, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *from = token + bytes[i] * n, *place = position + (at + i) % context * n;

		for (size_t j = 0; j < n; j++)
			out[i * n + j] = from[j] + place[j];
	}
}

void gpt_embed_backward(float *d_token, float *d_position, const float *d_out,
                        const unsigned char *bytes, size_t rows, size_t context, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *d = d_out + i * n;
		float *to_token = d_token + bytes[i] * n;
		float *to_position = d_position + i % context * n;

		for (size_t j = 0; j < n; j++) {
			to_token[j] += d[j];
			to_position[j] += d[j];
		}
	}
}

void gpt_linear_forward(gpt_cell *out, const gpt_cell *x, const gpt_cell *weight,
                        const float *bias, size_t rows, size_t k, size_t n)
{
	fill_rows((float *)out, bias, rows, n);
	multiply((float *)out, (const float *)x, (const float *)weight, 1.0f, rows, k, n);
}

void gpt_linear_residual(float *out, const float *base, const gpt_cell *x,
                         const gpt_cell *weight, const float *bias, size_t rows, size_t k,
                         size_t n)
{
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < n; j++)
			out[i * n + j] = base[i * n + j] + bias[j];
	multiply(out, (const float *)x, (const float *)weight, 1.0f, rows, k, n);
}

void gpt_linear_logits(float *out, const gpt_cell *x, const gpt_cell *weight, size_t rows,
                       size_t k, size_t n)
{
	multiply(out, (const float *)x, (const float *)weight, 0.0f, rows, k, n);
}

/* Column sums of x (rows, n), added to sum (n). */
static void column_sum(float *sum, const float *x, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *row = x + i * n;

#pragma omp simd
		for (size_t j = 0; j < n; j++)
			sum[j] += row[j];
	}
}

void gpt_linear_backward(gpt_cell *d_x, float *d_weight, float *d_bias, const gpt_cell *d_out,
                         const gpt_cell *x, const gpt_cell *weight, size_t rows, size_t k,
                         size_t n)
{
	const float *d = (const float *)d_out;

	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, (int)n, (int)rows, 1.0f,
	            (const float *)x, (int)k, d, (int)n, 1.0f, d_weight, (int)n);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)k, (int)n, 1.0f, d,
	            (int)n, (const float *)weight, (int)n, 0.0f, (float *)d_x, (int)k);
	if (d_bias)
		column_sum(d_bias, d, rows, n);
}

void gpt_norm_forward(gpt_cell *out, float *stats, const float *x, const float *gain,
                      const float *bias, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *in = x + i * n;
		float *to = (float *)out + i * n;
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

void gpt_norm_backward(float *d_x, float *d_gain, float *d_bias, const gpt_cell *d_out,
                       const float *x, const float *stats, const float *gain, size_t rows,
                       size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		const float *in = x + i * n, *d = (const float *)d_out + i * n;
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

void gpt_gelu_forward(gpt_cell *out, const gpt_cell *x, size_t count)
{
	const float *from = (const float *)x;
	float *to = (float *)out;

#pragma omp simd
	for (size_t i = 0; i < count; i++) {
		float v = from[i];

		to[i] = v / (1.0f + gpt_exp(-v * (gelu_a + gelu_b * v * v)));
	}
}

void gpt_gelu_backward(gpt_cell *d, float *d_bias, const gpt_cell *x, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows; i++) {
		float *to = (float *)d + i * n;
		const float *in = (const float *)x + i * n;

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

void gpt_cross_entropy(double *loss, float *logits, const unsigned char *targets, size_t rows,
                       size_t n, float scale)
{
	double total = 0;

	for (size_t i = 0; i < rows; i++)
		total += row_cross_entropy(logits + i * n, targets[i], n, scale);
	*loss += total;
}

void gpt_scale(float *to, const double *from, double scale)
{
	*to = (float)(scale * *from);
}

void gpt_square_sum(double *sum, const float *x, size_t count)
{
	double total = 0;

#pragma omp simd reduction(+ : total)
	for (size_t i = 0; i < count; i++)
		total += (double)x[i] * (double)x[i];
	*sum = total;
}

void gpt_adamw(const gpt_update *u)
{
	const float b1 = u->beta1, b2 = u->beta2, keep = u->keep, rate = u->rate;
	const float rescale = u->rescale, scale = u->scale;
	const float *restrict g = u->gradients;
	float *restrict w = u->weights, *restrict m = u->m, *restrict v = u->v;

#pragma omp simd
	for (size_t i = 0; i < u->count; i++) {
		float d = g[i] * scale;

		m[i] = b1 * m[i] + (1.0f - b1) * d;
		v[i] = b2 * v[i] + (1.0f - b2) * d * d;
		w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) * rescale + 1e-8f);
	}
}

void gpt_sgd(const gpt_update *u)
{
	const float momentum = u->beta1, keep = u->keep, rate = u->rate, scale = u->scale;
	const float *restrict g = u->gradients;
	float *restrict w = u->weights, *restrict m = u->m;

#pragma omp simd
	for (size_t i = 0; i < u->count; i++) {
		m[i] = momentum * m[i] + g[i] * scale;
		w[i] = w[i] * keep - rate * m[i];
	}
}
