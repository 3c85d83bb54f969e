#include "state.h"

#include "device.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, NOT_FOUND = -3 };
enum { AT_VERSION, AT_STEP, AT_SEED, AT_WIDTH, AT_HEADS, AT_DEPTH, AT_CONTEXT, AT_OPTIMIZER,
       FIELDS };

enum { ARENAS = 3 };

typedef struct arena {
	const char *role;
	float *data;         /* on the device; NULL: the optimizer has none */
} arena;

static int add_all(pio_checkpoint *checkpoint, const char *role, const gpt_model *model,
                   const float *floats)
{
	size_t count;
	const gpt_tensor *t = gpt_model_tensors(model, &count);
	int code = 0;

	for (size_t i = 0; i < count && code == 0; i++)
		code = pio_checkpoint_add(checkpoint, role, t[i].name, PIO_F32, t[i].ndim,
		                          t[i].shape, NULL, floats + t[i].offset);
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
	const arena arenas[] = {
		{"model", gpt_model_weights(model)}, {"optim.m", optim->m}, {"optim.v", optim->v},
	};
	const float *hosts[ARENAS] = {NULL};
	pio_checkpoint *checkpoint = NULL;
	int status = GPT_OK, code = pio_checkpoint_begin(&checkpoint, run, step, 1);

	for (size_t i = 0; i < ARENAS && code == 0 && status == GPT_OK; i++) {
		if (!arenas[i].data)
			continue;
		status = gpt_device_borrow(&hosts[i], arenas[i].data, gpt_model_size(model), err);
		if (status == GPT_OK)
			code = add_all(checkpoint, arenas[i].role, model, hosts[i]);
	}
	if (code == 0 && status == GPT_OK)
		code = pio_checkpoint_add(checkpoint, "extra", "state", PIO_I64, 1, &fields, NULL,
		                          state);
	/* What could not be added whole is not committed: it stays absent. */
	if (code == 0 && status == GPT_OK)
		code = pio_checkpoint_commit(&checkpoint);
	for (size_t i = 0; i < ARENAS; i++)
		gpt_device_give_back(hosts[i]);
	if (code)
		return gpt_err_set(err, GPT_SYSTEM, "checkpoint of step %lld: %s",
		                   (long long)step, pio_error());
	return status;
}

/* By way of `room`, which has space for the largest tensor. */
static int read_all(pio_run *run, const arena *to, const gpt_model *model, float *room,
                    gpt_err *err)
{
	size_t count;
	const gpt_tensor *t = gpt_model_tensors(model, &count);

	for (size_t i = 0; to->data && i < count; i++) {
		int code = pio_resume_read(run, to->role, t[i].name, PIO_F32, t[i].ndim,
		                           t[i].shape, NULL, room);

		if (code)
			return gpt_err_set(err, code == NOT_FOUND ? GPT_MISTAKE : GPT_SYSTEM,
			                   "resume: %s of %s: %s", t[i].name, to->role,
			                   pio_error());
		gpt_device_write(to->data + t[i].offset, room, t[i].count * sizeof *room);
	}
	return GPT_OK;
}

static int read_arenas(pio_run *run, gpt_model *model, const gpt_optim *optim, gpt_err *err)
{
	const arena arenas[] = {
		{"model", gpt_model_weights(model)},
		{"optim.m", optim ? optim->m : NULL},
		{"optim.v", optim ? optim->v : NULL},
	};
	size_t count, largest = 0;
	const gpt_tensor *t = gpt_model_tensors(model, &count);
	int status = GPT_OK;
	float *room;

	for (size_t i = 0; i < count; i++)
		largest = t[i].count > largest ? t[i].count : largest;
	room = malloc(largest * sizeof *room);
	if (!room)
		return gpt_err_set(err, GPT_SYSTEM, "resume: no memory for %zu floats", largest);
	for (size_t i = 0; i < ARENAS && status == GPT_OK; i++)
		status = read_all(run, &arenas[i], model, room, err);
	free(room);
	gpt_model_changed(model);
	return status;
}

static int read_state(pio_run *run, int64_t *state, gpt_err *err)
{
	const int64_t fields = FIELDS;
	int code = pio_resume_read(run, "extra", "state", PIO_I64, 1, &fields, NULL, state);

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
	return status ? status : read_arenas(run, model, optim, err);
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
