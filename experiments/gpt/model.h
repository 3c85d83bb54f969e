/* model.h: a decoder-only transformer over bytes.
 *
 * Vocabulary 256, learned positions, `depth` blocks of pre-norm causal
 * attention and a GELU MLP of 4 x width, a last norm and a linear head. The
 * head is NOT tied to the token embedding: at 256 bytes it costs little and
 * small models learn faster. Weights are stored (inputs, outputs).
 *
 * Parameters are named tensors in one array of floats (the arena), gradients
 * an array of the same layout: an optimizer, an all-reduce or a norm is a loop
 * over one array. One model is used by one thread at a time. The loss and the
 * gradient are the same bits whenever weights and windows are. */
#ifndef GPT_MODEL_H
#define GPT_MODEL_H

#include "err.h"

#include <stddef.h>
#include <stdint.h>

enum { GPT_VOCABULARY = 256 };

typedef struct gpt_shape {
	size_t width, heads, depth, context;
} gpt_shape;

typedef struct gpt_tensor {
	char name[32];
	size_t offset, count; /* in floats, within the arena */
	int ndim;
	int64_t shape[2];
	int decays; /* weight decay applies: matrices, not biases, norms, embeddings */
} gpt_tensor;

typedef struct gpt_model gpt_model;

/* A model with weights drawn from `seed`. The caller owns *model. GPT_MISTAKE
 * if the shape is not possible, GPT_SYSTEM if there is no memory. */
int gpt_model_new(gpt_model **model, const gpt_shape *shape, uint64_t seed, gpt_err *err);
void gpt_model_free(gpt_model *model);

/* Tensors in arena order; borrowed. */
const gpt_tensor *gpt_model_tensors(const gpt_model *model, size_t *count);

/* The arenas, 64-byte aligned; borrowed. Gaps between tensors are zeros in
 * both. `spare` floats behind the gradients are free for the caller, so that
 * a flag can travel with them. */
enum { GPT_SPARE = 16 };
float *gpt_model_weights(gpt_model *model);
float *gpt_model_gradients(gpt_model *model);
size_t gpt_model_size(const gpt_model *model);       /* floats in an arena */
size_t gpt_model_parameters(const gpt_model *model); /* without gaps */

/* Mean cross-entropy in nats a byte of predicting bytes 1 to context of each
 * window from those before; a window is context + 1 bytes. */
double gpt_model_loss(gpt_model *model, const unsigned char *const *windows, size_t count);

/* The same, and the gradients are set to those of the mean. */
double gpt_model_learn(gpt_model *model, const unsigned char *const *windows, size_t count);

/* Feed `count` bytes at positions [at, at + count); positions before must have
 * been fed. Returns the 256 logits of the byte to follow, borrowed until the
 * next call. at + count <= context, count > 0. */
const float *gpt_model_feed(gpt_model *model, const unsigned char *bytes, size_t at,
                            size_t count);

#endif
