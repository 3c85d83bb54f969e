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
 * gradient are the same bits whenever weights, windows and device are.
 *
 * Weights and gradients are the device's (device.h). */
#ifndef GPT_MODEL_H
#define GPT_MODEL_H

#include "err.h"

#include <stdbool.h>
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

/* A model with weights drawn from `seed`, for calls of up to `windows` windows
 * (more go through it one part after the other). The caller owns *model.
 * GPT_MISTAKE if the shape is not possible, GPT_SYSTEM if there is no memory. */
int gpt_model_new(gpt_model **model, const gpt_shape *shape, size_t windows, uint64_t seed,
                  gpt_err *err);
void gpt_model_free(gpt_model *model);

/* Tensors in arena order; borrowed. */
const gpt_tensor *gpt_model_tensors(const gpt_model *model, size_t *count);

/* The arenas; borrowed. Gaps between tensors are zeros in both. Behind the
 * gradients are floats that travel with them: the loss, and a flag of the
 * caller's. Who writes weights says so by gpt_model_changed. */
enum { GPT_LOSS, GPT_FLAG, GPT_SPARE };
float *gpt_model_weights(gpt_model *model);
void gpt_model_changed(gpt_model *model);
float *gpt_model_gradients(gpt_model *model);
size_t gpt_model_size(const gpt_model *model);       /* floats in an arena */
size_t gpt_model_parameters(const gpt_model *model); /* without gaps */

/* *loss: mean cross-entropy in nats a byte of predicting bytes 1 to context of
 * each window from those before; a window is context + 1 bytes. Here and below
 * GPT_SYSTEM if the device fails. */
int gpt_model_loss(double *loss, gpt_model *model, const unsigned char *const *windows,
                   size_t count, gpt_err *err);

/* Set the gradients to those of the mean, and the float behind them to the mean.
 * `ready`, unless NULL, is called for each range [at, at + count) of them that is
 * final, from the end to the beginning; what stands behind them goes with the
 * first. The device may still be at it when this returns. */
typedef void gpt_ready(void *context, size_t at, size_t count);
void gpt_model_learn(gpt_model *model, const unsigned char *const *windows, size_t count,
                     gpt_ready *ready, void *context);

/* Feed `count` bytes at positions [at, at + count); positions before must have
 * been fed. *logits: the 256 of the byte to follow, borrowed until the next
 * call. at + count <= context, count > 0. */
int gpt_model_feed(const float **logits, gpt_model *model, const unsigned char *bytes, size_t at,
                   size_t count, gpt_err *err);

#endif
