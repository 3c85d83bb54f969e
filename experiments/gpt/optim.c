#include "optim.h"

#include "device.h"
#include "kernel.h"

#include <math.h>

int gpt_optim_init(gpt_optim *optim, const gpt_model *model, gpt_err *err)
{
	size_t bytes = gpt_model_size(model) * sizeof(float);

	optim->m = gpt_device_new(bytes);
	optim->v = optim->kind == GPT_ADAMW ? gpt_device_new(bytes) : NULL;
	if (optim->m && (optim->v || optim->kind != GPT_ADAMW))
		return GPT_OK;
	gpt_optim_fini(optim);
	return gpt_err_set(err, GPT_SYSTEM, "no memory for the optimizer's state");
}

void gpt_optim_fini(gpt_optim *optim)
{
	gpt_device_free(optim->m);
	gpt_device_free(optim->v);
	optim->m = optim->v = NULL;
}

void gpt_optim_step(gpt_optim *optim, gpt_model *model, int64_t step, double lr, float scale)
{
	size_t count;
	const gpt_tensor *tensors = gpt_model_tensors(model, &count);
	double correct1 = 1.0 - pow((double)optim->beta1, (double)step);
	double correct2 = 1.0 - pow((double)optim->beta2, (double)step);

	for (size_t i = 0; i < count; i++) {
		const gpt_tensor *t = &tensors[i];
		gpt_update u = {
			.weights = gpt_model_weights(model) + t->offset,
			.gradients = gpt_model_gradients(model) + t->offset,
			.m = optim->m + t->offset,
			.count = t->count,
			.keep = t->decays ? (float)(1.0 - lr * (double)optim->weight_decay) : 1.0f,
			.scale = scale,
		};

		if (optim->kind == GPT_ADAMW) {
			u.v = optim->v + t->offset;
			u.beta1 = optim->beta1;
			u.beta2 = optim->beta2;
			u.rate = (float)(lr / correct1);
			u.rescale = (float)(1.0 / sqrt(correct2));
			gpt_adamw(&u);
		} else {
			u.beta1 = optim->momentum;
			u.rate = (float)lr;
			gpt_sgd(&u);
		}
	}
	gpt_model_changed(model);
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

float gpt_optim_clip(double norm, double clip)
{
	return clip > 0 && norm > clip ? (float)(clip / norm) : 1.0f;
}
