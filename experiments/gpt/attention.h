/* attention.h: causal self-attention of one sequence, forward and backward.
 *
 * The heads are small (a few thousand products a tile), where BLAS spends
 * more on copying than on multiplying; so the tiles are written here, and the
 * half of the square that the mask removes is never computed. Same promises
 * as kernel.h: one thread, fixed order of additions, no failure. */
#ifndef GPT_ATTENTION_H
#define GPT_ATTENTION_H

#include <stddef.h>

typedef struct gpt_attention_shape {
	size_t context; /* rows there is room for */
	size_t width;   /* of all heads together */
	size_t heads;
} gpt_attention_shape;

/* Floats of probabilities that one sequence keeps for the way back. */
size_t gpt_attention_kept(const gpt_attention_shape *shape);

/* Floats of scratch space that any call below needs. */
size_t gpt_attention_scratch(const gpt_attention_shape *shape);

/* out (rows [first, last), width) from qkv (rows [0, last), 3 width: queries,
 * keys, values). Row i sees rows 0 to i. Only out's rows [first, last) are
 * written. `kept` may be NULL when there will be no way back. */
void gpt_attention_forward(float *out, float *kept, const float *qkv, size_t first, size_t last,
                           const gpt_attention_shape *shape, float *scratch);

/* Writes d_qkv (rows, 3 width) from d_out (rows, width), for a forward call
 * with first = 0 and last = rows. */
void gpt_attention_backward(float *d_qkv, const float *d_out, const float *kept,
                            const float *qkv, size_t rows, const gpt_attention_shape *shape,
                            float *scratch);

#endif
