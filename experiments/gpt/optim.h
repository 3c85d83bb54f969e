/* optim.h: how gradients become steps.
 *
 * AdamW (Loshchilov and Hutter 2019: weight decay apart from the gradient,
 * scaled by the learning rate) and SGD with momentum and the same decay. Decay
 * touches matrices alone: biases, norms and embeddings are left to the data.
 * State is two arrays in the layout of the model's arena, on the device
 * (device.h). Fixed order of operations. */
#ifndef GPT_OPTIM_H
#define GPT_OPTIM_H

#include "model.h"

typedef enum gpt_optim_kind { GPT_ADAMW = 0, GPT_SGD = 1 } gpt_optim_kind;

typedef struct gpt_optim {
	gpt_optim_kind kind;
	float beta1, beta2;  /* adamw */
	float momentum;      /* sgd */
	float weight_decay;
	float *m, *v;        /* v is NULL for sgd; size of the model's arena */
} gpt_optim;

/* Allocate state of zeros for `model`; kind and the numbers are set before.
 * GPT_SYSTEM if there is no memory. */
int gpt_optim_init(gpt_optim *optim, const gpt_model *model, gpt_err *err);
void gpt_optim_fini(gpt_optim *optim);

/* One update of the model's weights from its gradients times `scale`. `step`
 * counts from 1 (bias correction). */
void gpt_optim_step(gpt_optim *optim, gpt_model *model, int64_t step, double lr, float scale);

/* Learning rate of a step in [1, steps]: linear from 0 over `warmup` steps,
 * then half a cosine down to a tenth at the last step. */
double gpt_optim_rate(double lr, int64_t step, int64_t warmup, int64_t steps);

/* What to multiply a gradient of this norm with so that it is at most `clip`;
 * 1 where clip is 0. */
float gpt_optim_clip(double norm, double clip);

#endif
