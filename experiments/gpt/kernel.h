/* kernel.h: the arithmetic of the transformer, one function a layer.
 *
 * Matrices are row-major floats without gaps; `rows` counts tokens. Each
 * function runs on one thread and adds in an order that depends on the shapes
 * alone, so the same inputs give the same bits. Forward functions write their
 * output; backward functions add to parameter gradients (`d_gain`, `d_bias`,
 * `d_weight`) and write or add to activation gradients as each says. No
 * function allocates, none can fail. */
#ifndef GPT_KERNEL_H
#define GPT_KERNEL_H

#include <stddef.h>

/* out (rows, n) = x (rows, k) weight (k, n) + bias (n); bias may be NULL. */
void gpt_linear_forward(float *out, const float *x, const float *weight, const float *bias,
                        size_t rows, size_t k, size_t n);

/* out (rows, n) = base (rows, n) + x weight + bias: a residual branch. */
void gpt_linear_residual(float *out, const float *base, const float *x, const float *weight,
                         const float *bias, size_t rows, size_t k, size_t n);

/* Writes d_x = d_out weight^T, adds x^T d_out to d_weight and, unless NULL,
 * column sums of d_out to d_bias. */
void gpt_linear_backward(float *d_x, float *d_weight, float *d_bias, const float *d_out,
                         const float *x, const float *weight, size_t rows, size_t k, size_t n);

/* Layer normalization (Ba, Kiros and Hinton 2016), epsilon 1e-5. `stats` keeps
 * (mean, 1/deviation) of each row for the way back. */
void gpt_norm_forward(float *out, float *stats, const float *x, const float *gain,
                      const float *bias, size_t rows, size_t n);

/* Adds to d_x, d_gain and d_bias. */
void gpt_norm_backward(float *d_x, float *d_gain, float *d_bias, const float *d_out,
                       const float *x, const float *stats, const float *gain, size_t rows,
                       size_t n);

/* GELU in its tanh form (Hendrycks and Gimpel 2016). */
void gpt_gelu_forward(float *out, const float *x, size_t count);

/* d (rows, n) holds the gradient of the output and becomes that of x; column
 * sums of it are added to d_bias, which saves a pass over memory. */
void gpt_gelu_backward(float *d, float *d_bias, const float *x, size_t rows, size_t n);

/* Sum over rows of -log softmax(logits)[target]; n logits a row. When `scale`
 * is not 0, logits become scale * d loss / d logits. */
double gpt_cross_entropy(float *logits, const unsigned char *targets, size_t rows, size_t n,
                         float scale);

/* Column sums of x (rows, n), added to sum (n). */
void gpt_column_sum(float *sum, const float *x, size_t rows, size_t n);

#endif
