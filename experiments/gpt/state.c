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

/* What of a tensor one rank saves: elements [from, from + count) of it. */
typedef struct piece {
	const gpt_tensor *tensor;
	size_t from, count;
} piece;

/* The pieces of parameters [first, end), counted along the tensors; `pieces` has room
 * for as many as there are tensors. Returns how many. */
static size_t cut(piece *pieces, const gpt_model *model, size_t first, size_t end)
{
	size_t count, found = 0, before = 0;
	const gpt_tensor *t = gpt_model_tensors(model, &count);

	for (size_t i = 0; i < count; before += t[i++].count) {
		size_t from = first > before ? first - before : 0;
		size_t to = end > before ? end - before : 0;

		to = to < t[i].count ? to : t[i].count;
		if (from < to)
			pieces[found++] = (piece){&t[i], from, to - from};
	}
	return found;
}

/* A piece that is no whole tensor is a run of its elements, as ZeRO's optimizers have
 * it. */
static int add_pieces(pio_checkpoint *checkpoint, const arena *from, const piece *pieces, size_t count)
{
	int code = 0;

	for (size_t i = 0; i < count && code == 0; i++) {
		const gpt_tensor *t = pieces[i].tensor;
		const int64_t run = (int64_t)pieces[i].count, begin = (int64_t)pieces[i].from;
		const pio_part part = {t->ndim, t->shape, &begin, 1};
		const float *data = from->data + t->offset + begin;

		if (pieces[i].count == t->count)
			code = pio_checkpoint_add(checkpoint, from->role, t->name, PIO_F32, t->ndim,
			                          t->shape, NULL, data);
		else
			code = pio_checkpoint_add(checkpoint, from->role, t->name, PIO_F32, 1, &run,
			                          &part, data);
	}
	return code;
}

typedef struct saving {
	pio_checkpoint *checkpoint;
	gpt_model *model;
	gpt_err *err;
} saving;

/* Parameters [first, end) of an arena. */
static int add_arena(saving *s, const arena *from, size_t first, size_t end)
{
	size_t tensors, count;
	piece *pieces;
	int code = 0;

	gpt_model_tensors(s->model, &tensors);
	pieces = malloc(tensors * sizeof *pieces);
	if (!pieces)
		return gpt_err_set(s->err, GPT_SYSTEM, "no memory for a checkpoint");
	count = from->data ? cut(pieces, s->model, first, end) : 0;
	code = add_pieces(s->checkpoint, from, pieces, count);
	free(pieces);
	return code ? gpt_err_set(s->err, GPT_SYSTEM, "%s", pio_error()) : GPT_OK;
}

/* All that this rank has to save; rank 0 has the weights, too. */
static int add_all(saving *s, const gpt_optim *optim, const int64_t *state, int rank, int writers)
{
	const int64_t fields = FIELDS;
	size_t all = gpt_model_parameters(s->model);
	size_t first = gpt_state_share(all, rank, writers), end = gpt_state_share(all, rank + 1, writers);
	const arena weights = {"model", gpt_model_weights(s->model)};
	const arena m = {"optim.m", optim->m}, v = {"optim.v", optim->v};
	int status = GPT_OK;

	if (rank == 0 && pio_checkpoint_add(s->checkpoint, "extra", "state", PIO_I64, 1, &fields, NULL,
	                                    state))
		status = gpt_err_set(s->err, GPT_SYSTEM, "%s", pio_error());
	if (rank == 0 && status == GPT_OK)
		status = add_arena(s, &weights, 0, all);
	if (status == GPT_OK)
		status = add_arena(s, &m, first, end);
	if (status == GPT_OK)
		status = add_arena(s, &v, first, end);
	return status;
}

size_t gpt_state_share(size_t parameters, int rank, int writers)
{
	size_t each = parameters / (size_t)writers, more = parameters % (size_t)writers;
	size_t r = (size_t)rank;

	return r * each + (r < more ? r : more);
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
	const pio_info *info = pio_info_get(run);
	size_t all = gpt_model_parameters(model);
	int writers = all < (size_t)info->world ? (int)all : info->world, status;
	gpt_err why = {""};
	saving s = {.model = model, .err = &why};

	if (info->rank >= writers)
		return GPT_OK;
	status = gpt_device_wait(&why);
	if (status == GPT_OK && pio_checkpoint_begin(&s.checkpoint, run, step, writers))
		status = gpt_err_set(&why, GPT_SYSTEM, "%s", pio_error());
	if (status == GPT_OK)
		status = add_all(&s, optim, state, info->rank, writers);
	/* What could not be added whole is not committed: it stays absent. */
	if (status == GPT_OK && pio_checkpoint_commit(&s.checkpoint, 0))
		status = gpt_err_set(&why, GPT_SYSTEM, "%s", pio_error());
	if (status)
		return gpt_err_set(err, status, "checkpoint of step %lld: %s", (long long)step,
		                   why.text);
	return GPT_OK;
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
