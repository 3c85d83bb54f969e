#include "optim.h"

#include <math.h>
#include <stdlib.h>

int gpt_optim_init(gpt_optim *optim, const gpt_model *model, gpt_err *err)
{
	size_t size = gpt_model_size(model);

	optim->m = calloc(size, sizeof *optim->m);
	optim->v = optim->kind == GPT_ADAMW ? calloc(size, sizeof *optim->v) : NULL;
	if (optim->m && (optim->v || optim->kind != GPT_ADAMW))
		return GPT_OK;
	gpt_optim_fini(optim);
	return gpt_err_set(err, GPT_SYSTEM, "no memory for the optimizer's state");
}

void gpt_optim_fini(gpt_optim *optim)
{
	free(optim->m);
	free(optim->v);
	optim->m = optim->v = NULL;
}

static void adamw(float *restrict w, const float *restrict g, float *restrict m,
                  float *restrict v, size_t count, const gpt_optim *o, float keep, float rate,
                  float rescale, float scale)
{
	const float b1 = o->beta1, b2 = o->beta2;

#pragma omp simd
	for (size_t i = 0; i < count; i++) {
		float d = g[i] * scale;

		m[i] = b1 * m[i] + (1.0f - b1) * d;
		v[i] = b2 * v[i] + (1.0f - b2) * d * d;
		w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) * rescale + 1e-8f);
	}
}

static void sgd(float *restrict w, const float *restrict g, float *restrict m, size_t count,
                const gpt_optim *o, float keep, float rate, float scale)
{
#pragma omp simd
	for (size_t i = 0; i < count; i++) {
		m[i] = o->momentum * m[i] + g[i] * scale;
		w[i] = w[i] * keep - rate * m[i];
	}
}

void gpt_optim_step(gpt_optim *optim, gpt_model *model, int64_t step, double lr, float scale)
{
	size_t count;
	const gpt_tensor *tensors = gpt_model_tensors(model, &count);
	float *weights = gpt_model_weights(model), *gradients = gpt_model_gradients(model);
	double correct1 = 1.0 - pow((double)optim->beta1, (double)step);
	double correct2 = 1.0 - pow((double)optim->beta2, (double)step);

	for (size_t i = 0; i < count; i++) {
		const gpt_tensor *t = &tensors[i];
		size_t at = t->offset;
		float keep = t->decays ? (float)(1.0 - lr * (double)optim->weight_decay) : 1.0f;

		if (optim->kind == GPT_ADAMW)
			adamw(weights + at, gradients + at, optim->m + at, optim->v + at,
			      t->count, optim, keep, (float)(lr / correct1),
			      (float)(1.0 / sqrt(correct2)), scale);
		else
			sgd(weights + at, gradients + at, optim->m + at, t->count, optim, keep,
			    (float)lr, scale);
	}
}

double gpt_optim_rate(double lr, int64_t step, int64_t warmup, int64_t steps)
{
	const double half_turn = 3.141592653589793;
	double done;

	if (step <= warmup)
		return lr * (double)step / (double)warmup;
	if (steps <= warmup || step >= steps)
		return lr * 0.1;
	done = (double)(step - warmup) / (double)(steps - warmup);
	return lr * (0.1 + 0.45 * (1.0 + cos(half_turn * done)));
}

double gpt_optim_norm(const float *x, size_t count)
{
	double sum = 0;

#pragma omp simd reduction(+ : sum)
	for (size_t i = 0; i < count; i++)
		sum += (double)x[i] * (double)x[i];
	return sqrt(sum);
}

float gpt_optim_clip(double norm, double clip)
{
	return clip > 0 && norm > clip ? (float)(clip / norm) : 1.0f;
}
