/* sample.h: text from a model.
 *
 * One byte at a time, each fed back. When the context is full, its later half
 * is read again from the start: positions are absolute. The same weights,
 * seed and stream give the same text. */
#ifndef GPT_SAMPLE_H
#define GPT_SAMPLE_H

#include "model.h"

typedef struct gpt_sampling {
	double temperature; /* logits are divided by it; 0 takes the likeliest */
	uint64_t seed, stream;
} gpt_sampling;

/* Continue `prompt` (its last context bytes count; size > 0) by `count` bytes
 * into `out`, which the caller owns. GPT_SYSTEM if there is no memory, or the
 * device fails. */
int gpt_sample(unsigned char *out, size_t count, gpt_model *model, size_t context,
               const char *prompt, size_t prompt_bytes, const gpt_sampling *sampling,
               gpt_err *err);

/* Make it text: what is not UTF-8, and control characters other than newline
 * and tab, become '?' in place. */
void gpt_sample_clean(unsigned char *text, size_t count);

#endif
