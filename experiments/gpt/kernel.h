/* kernel.h: the arithmetic of the transformer, one function a layer, on the
 * device (device.h).
 *
 * Matrices are row-major without gaps; `rows` counts tokens. Each function adds
 * in an order that depends on the shapes alone, so the same inputs give the same
 * bits on the same device. Forward functions write their output; backward
 * functions add to parameter gradients (`d_gain`, `d_bias`, `d_weight`) and write
 * or add to activation gradients as each says. */
#ifndef GPT_KERNEL_H
#define GPT_KERNEL_H

#include "device.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `count` floats as cells: themselves, or converted into `scratch`. */
const gpt_cell *gpt_cells_of(gpt_cell *scratch, const float *x, size_t count);

/* out[i] = token[bytes[i]] + position[(at + i) mod context], n floats a row. */
void gpt_embed_forward(float *out, const unsigned char *bytes, const float *token,
                       const float *position, size_t at, size_t rows, size_t context, size_t n);

/* For at = 0; adds to d_token and d_position. */
void gpt_embed_backward(float *d_token, float *d_position, const float *d_out,
                        const unsigned char *bytes, size_t rows, size_t context, size_t n);

/* out (rows, n) = x (rows, k) weight (k, n) + bias (n). */
void gpt_linear_forward(gpt_cell *out, const gpt_cell *x, const gpt_cell *weight,
                        const float *bias, size_t rows, size_t k, size_t n);

/* out (rows, n) = base (rows, n) + x weight + bias: a residual branch. */
void gpt_linear_residual(float *out, const float *base, const gpt_cell *x,
                         const gpt_cell *weight, const float *bias, size_t rows, size_t k,
                         size_t n);

/* out (rows, n) = x weight, as floats. */
void gpt_linear_logits(float *out, const gpt_cell *x, const gpt_cell *weight, size_t rows,
                       size_t k, size_t n);

/* Writes d_x = d_out weight^T, adds x^T d_out to d_weight and, unless NULL,
 * column sums of d_out to d_bias. */
void gpt_linear_backward(gpt_cell *d_x, float *d_weight, float *d_bias, const gpt_cell *d_out,
                         const gpt_cell *x, const gpt_cell *weight, size_t rows, size_t k,
                         size_t n);

/* Layer normalization (Ba, Kiros and Hinton 2016), epsilon 1e-5. `stats` keeps
 * (mean, 1/deviation) of each row for the way back. */
void gpt_norm_forward(gpt_cell *out, float *stats, const float *x, const float *gain,
                      const float *bias, size_t rows, size_t n);

/* Adds to d_x, d_gain and d_bias. */
void gpt_norm_backward(float *d_x, float *d_gain, float *d_bias, const gpt_cell *d_out,
                       const float *x, const float *stats, const float *gain, size_t rows,
                       size_t n);

/* GELU in its tanh form (Hendrycks and Gimpel 2016). */
void gpt_gelu_forward(gpt_cell *out, const gpt_cell *x, size_t count);

/* d (rows, n) holds the gradient of the output and becomes that of x; column
 * sums of it are added to d_bias, which saves a pass over memory. */
void gpt_gelu_backward(gpt_cell *d, float *d_bias, const gpt_cell *x, size_t rows, size_t n);

/* Adds to *loss the sum over rows of -log softmax(logits)[target]; n logits a
 * row. They become scale * d loss / d logits; with scale 0 they are spent. */
void gpt_cross_entropy(double *loss, float *logits, const unsigned char *targets, size_t rows,
                       size_t n, float scale);

/* *to = scale * *from */
void gpt_scale(float *to, const double *from, double scale);

/* *sum = the sum of squares, added up in double. */
void gpt_square_sum(double *sum, const float *x, size_t count);

/* One step of a tensor; the formulas are optim.h's. `keep` is what decay leaves
 * of a weight, `scale` multiplies the gradient. */
typedef struct gpt_update {
	float *weights;
	const float *gradients;
	float *m, *v;        /* v: of adamw */
	size_t count;
	float beta1, beta2;  /* of sgd beta1 is the momentum */
	float keep, rate, rescale, scale;
} gpt_update;

void gpt_adamw(const gpt_update *u);
void gpt_sgd(const gpt_update *u);

#ifdef __cplusplus
}
#endif
#endif
