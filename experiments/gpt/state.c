#include "state.h"

#include <string.h>

enum { VERSION = 1, NOT_FOUND = -3 };
enum { AT_VERSION, AT_STEP, AT_SEED, AT_WIDTH, AT_HEADS, AT_DEPTH, AT_CONTEXT, AT_OPTIMIZER,
       FIELDS };

static int add_all(pio_checkpoint *checkpoint, const char *role, const gpt_model *model,
                   const float *arena)
{
	size_t count;
	const gpt_tensor *t = gpt_model_tensors(model, &count);
	int code = 0;

	for (size_t i = 0; i < count && code == 0; i++)
		code = pio_checkpoint_add(checkpoint, role, t[i].name, PIO_F32, t[i].ndim,
		                          t[i].shape, arena + t[i].offset);
	return code;
}

int gpt_state_save(pio_run *run, const gpt_options *options, gpt_model *model,
                   const gpt_optim *optim, int64_t step, gpt_err *err)
{
	const int64_t state[FIELDS] = {
		[AT_VERSION] = VERSION,
		[AT_STEP] = step,
		[AT_SEED] = options->seed,
		[AT_WIDTH] = options->width,
		[AT_HEADS] = options->heads,
		[AT_DEPTH] = options->depth,
		[AT_CONTEXT] = options->context,
		[AT_OPTIMIZER] = optim->kind,
	};
	const int64_t fields = FIELDS;
	pio_checkpoint *checkpoint = NULL;
	int code = pio_checkpoint_begin(&checkpoint, run, step, 1);

	if (code == 0)
		code = add_all(checkpoint, "model", model, gpt_model_weights(model));
	if (code == 0)
		code = add_all(checkpoint, "optim.m", model, optim->m);
	if (code == 0 && optim->v)
		code = add_all(checkpoint, "optim.v", model, optim->v);
	if (code == 0)
		code = pio_checkpoint_add(checkpoint, "extra", "state", PIO_I64, 1, &fields,
		                          state);
	/* What could not be added whole is not committed: it stays absent. */
	if (code == 0)
		code = pio_checkpoint_commit(&checkpoint);
	if (code)
		return gpt_err_set(err, GPT_SYSTEM, "checkpoint of step %lld: %s",
		                   (long long)step, pio_error());
	return GPT_OK;
}

static int read_all(pio_run *run, const char *role, const gpt_model *model, float *arena,
                    gpt_err *err)
{
	size_t count;
	const gpt_tensor *t = gpt_model_tensors(model, &count);

	for (size_t i = 0; i < count; i++) {
		int code = pio_resume_read(run, role, t[i].name, PIO_F32,
		                           t[i].count * sizeof *arena, arena + t[i].offset);

		if (code)
			return gpt_err_set(err, code == NOT_FOUND ? GPT_MISTAKE : GPT_SYSTEM,
			                   "resume: %s of %s: %s", t[i].name, role, pio_error());
	}
	return GPT_OK;
}

static int read_state(pio_run *run, int64_t *state, gpt_err *err)
{
	int code = pio_resume_read(run, "extra", "state", PIO_I64, FIELDS * sizeof *state, state);

	if (code)
		return gpt_err_set(err, code == NOT_FOUND ? GPT_MISTAKE : GPT_SYSTEM,
		                   "resume: state: %s", pio_error());
	if (state[AT_VERSION] != VERSION)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "resume: checkpoint has format %lld; expected %d",
		                   (long long)state[AT_VERSION], VERSION);
	return GPT_OK;
}

int gpt_state_load(pio_run *run, const gpt_options *options, gpt_model *model, gpt_optim *optim,
                   gpt_err *err)
{
	int64_t state[FIELDS];
	const struct {
		const char *name;
		int64_t asked;
		int at;
	} same[] = {
		{"width", options->width, AT_WIDTH},
		{"heads", options->heads, AT_HEADS},
		{"depth", options->depth, AT_DEPTH},
		{"context", options->context, AT_CONTEXT},
	};
	int status = read_state(run, state, err);

	for (size_t i = 0; status == 0 && i < sizeof same / sizeof *same; i++)
		if (state[same[i].at] != same[i].asked)
			status = gpt_err_set(err, GPT_MISTAKE,
			                     "--%s=%lld: the checkpoint to start from has %lld",
			                     same[i].name, (long long)same[i].asked,
			                     (long long)state[same[i].at]);
	if (status == 0 && optim && state[AT_OPTIMIZER] != (int64_t)optim->kind)
		status = gpt_err_set(err, GPT_MISTAKE,
		                     "--optimizer=%s: the checkpoint to start from has %s",
		                     options->optimizer,
		                     state[AT_OPTIMIZER] == GPT_SGD ? "sgd" : "adamw");
	if (status == 0)
		status = read_all(run, "model", model, gpt_model_weights(model), err);
	if (status == 0 && optim)
		status = read_all(run, "optim.m", model, optim->m, err);
	if (status == 0 && optim && optim->v)
		status = read_all(run, "optim.v", model, optim->v, err);
	return status;
}

int gpt_state_shape(pio_run *run, gpt_options *options, gpt_err *err)
{
	int64_t state[FIELDS];
	int status = read_state(run, state, err);

	if (status)
		return status;
	options->width = state[AT_WIDTH];
	options->heads = state[AT_HEADS];
	options->depth = state[AT_DEPTH];
	options->context = state[AT_CONTEXT];
	return GPT_OK;
}
