/* attention.h: causal self-attention, forward and backward, on the device
 * (device.h). The half of the square that the mask removes is never computed. */
#ifndef GPT_ATTENTION_H
#define GPT_ATTENTION_H

#include "device.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gpt_attention_shape {
	size_t context; /* rows there is room for in a window */
	size_t width;   /* of all heads together */
	size_t heads;
} gpt_attention_shape;

/* GPT_MISTAKE if the device has no attention of such heads. */
int gpt_attention_check(const gpt_attention_shape *shape, gpt_err *err);

/* Floats that one window keeps for the way back. */
size_t gpt_attention_kept(const gpt_attention_shape *shape);

/* Floats of scratch space that any call of so many windows below needs. */
size_t gpt_attention_scratch(const gpt_attention_shape *shape, size_t windows);

/* out (rows [first, last), width) from qkv (rows [0, last), 3 width: queries,
 * keys, values), in each window. Row i sees rows 0 to i. Only out's rows [first,
 * last) are written. */
void gpt_attention_forward(gpt_cell *out, float *kept, const gpt_cell *qkv, size_t first,
                           size_t last, size_t windows, const gpt_attention_shape *shape,
                           float *scratch);

/* Writes d_qkv (context, 3 width) of each window from d_out (context, width),
 * for a forward call with first = 0 and last = context that wrote `out`. */
void gpt_attention_backward(gpt_cell *d_qkv, const gpt_cell *d_out, const gpt_cell *out,
                            const float *kept, const gpt_cell *qkv, size_t windows,
                            const gpt_attention_shape *shape, float *scratch);

#ifdef __cplusplus
}
#endif
#endif
