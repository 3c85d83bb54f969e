#include "train.h"

#include "data.h"
#include "device.h"
#include "kernel.h"
#include "model.h"
#include "optim.h"
#include "reduce.h"
#include "sample.h"
#include "state.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { JOIN_TIMEOUT_MS = 120000 };

/* What travels behind the gradients: one float each. */
enum { LOSS = GPT_LOSS, STOP = GPT_FLAG, TRAVELLERS = GPT_SPARE };

typedef struct trainer {
	const gpt_options *o;
	gpt_err *err;
	pio_run *run;
	const pio_info *info;
	pio_comm *comm; /* NULL when the world is one rank */
	gpt_reduce *reduce;
	gpt_model *model;
	gpt_optim optim;
	double *square;      /* of the gradient's norm; on the device */
	gpt_data data;
	const unsigned char **windows;
	size_t first, count;      /* this rank's slice of a batch */
	double seconds;           /* of training since the last log */
	int64_t steps, saved;     /* steps since the last log; last step on disk */
	double val_loss;
	pio_key key_loss, key_val, key_norm, key_lr, key_speed, key_bigram;
} trainer;

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
	stop_signal = number;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int gpt_train_slice(size_t *first, size_t *count, int64_t batch, int rank, int world,
                    gpt_err *err)
{
	if (batch % world)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "--batch=%lld: expected a multiple of the %d ranks",
		                   (long long)batch, world);
	*count = (size_t)(batch / world);
	*first = (size_t)rank * *count;
	return GPT_OK;
}

static int communication_failed(trainer *t)
{
	return gpt_err_set(t->err, GPT_SYSTEM, "rank %d: %s", t->info->rank, pio_error());
}

/* The rate follows --steps, however early it ends. */
static int64_t last_step(const gpt_options *o)
{
	return o->until > 0 && o->until < o->steps ? o->until : o->steps;
}

static int is_due(int64_t step, int64_t every, int64_t last)
{
	return step == last || (every > 0 && step % every == 0);
}

static void print_sample(const unsigned char *text, size_t count)
{
	printf("--- sample\n");
	fwrite(text, 1, count, stdout);
	printf("\n---\n");
	fflush(stdout);
}

static int sample(trainer *t, int64_t step)
{
	const gpt_options *o = t->o;
	size_t count = (size_t)o->sample_bytes, prompt = strlen(o->prompt);
	gpt_sampling sampling = {o->temperature, (uint64_t)o->seed, (uint64_t)step};
	unsigned char *text;
	int status;

	if (t->info->rank || !count)
		return GPT_OK;
	text = malloc(prompt + count + 1);
	if (!text)
		return gpt_err_set(t->err, GPT_SYSTEM, "no memory for a sample");
	memcpy(text, o->prompt, prompt);
	status = gpt_sample(text + prompt, count, t->model, (size_t)o->context, o->prompt, prompt,
	                    &sampling, t->err);
	if (status == GPT_OK) {
		size_t begin = strspn(o->prompt, "\n");

		gpt_sample_clean(text, prompt + count);
		text[prompt + count] = 0;
		pio_log_media(t->run, PIO_TEXT, "sample", step, NULL, text + begin,
		              prompt + count - begin);
		if (step == last_step(o))
			print_sample(text + begin, prompt + count - begin);
	}
	free(text);
	return status;
}

/* All ranks evaluate their share of the same windows. */
static int evaluate(trainer *t, int64_t step)
{
	size_t all = (size_t)(t->o->eval_batches * t->o->batch);
	size_t count = all / (size_t)t->info->world, first = count * (size_t)t->info->rank;
	double total = 0, loss;
	float mean;
	int status;

	for (size_t i = 0; i < count; i += t->count) {
		for (size_t j = 0; j < t->count; j++)
			t->windows[j] = gpt_data_validation(&t->data, first + i + j, all);
		status = gpt_model_loss(&loss, t->model, t->windows, t->count, t->err);
		if (status)
			return status;
		total += loss;
	}
	mean = (float)(total / (double)t->o->eval_batches);
	if (t->comm && pio_comm_allreduce(t->comm, &mean, 1))
		return communication_failed(t);
	t->val_loss = (double)mean / t->info->world;
	if (t->info->rank == 0) {
		pio_log(t->run, t->key_val, step, t->val_loss);
		printf("step %lld val/loss %.4f\n", (long long)step, t->val_loss);
		fflush(stdout);
	}
	return GPT_OK;
}

static int save(trainer *t, int64_t step)
{
	int status = GPT_OK;

	if (t->saved != step)
		status = gpt_state_save(t->run, t->o, t->model, &t->optim, step, t->err);
	if (status == GPT_OK)
		t->saved = step;
	return status;
}

static void log_step(trainer *t, int64_t step, double loss, double norm, double lr)
{
	const gpt_options *o = t->o;
	double tokens = (double)(o->batch * o->context) * (double)t->steps;

	if (t->info->rank == 0) {
		pio_log(t->run, t->key_loss, step, loss);
		pio_log(t->run, t->key_norm, step, norm);
		pio_log(t->run, t->key_lr, step, lr);
		pio_log(t->run, t->key_speed, step, t->seconds > 0 ? tokens / t->seconds : 0);
	}
	t->seconds = 0;
	t->steps = 0;
}

static void ready(void *context, size_t at, size_t count)
{
	gpt_reduce_ready(context, at, count);
}

/* This rank's gradient, then that of all ranks: its norm, and what travelled. */
static int learn(trainer *t, int64_t step, float travel[TRAVELLERS], double *norm)
{
	size_t size = gpt_model_size(t->model);
	float *g = gpt_model_gradients(t->model), stop = stop_signal ? 1.0f : 0.0f;
	double square;
	int status = GPT_OK;

	for (size_t i = 0; i < t->count; i++)
		t->windows[i] = gpt_data_train(&t->data, (uint64_t)t->o->seed, step, t->first + i);
	gpt_device_write(g + size + STOP, &stop, sizeof stop);
	gpt_model_learn(t->model, t->windows, t->count, t->reduce ? ready : NULL, t->reduce);
	if (t->reduce)
		status = gpt_reduce_finish(t->reduce, (int)(t->o->patience * 1000), t->err);
	gpt_square_sum(t->square, g, size);
	if (status == GPT_OK)
		status = gpt_device_read(&square, t->square, sizeof square, t->err);
	if (status == GPT_OK)
		status = gpt_device_read(travel, g + size, TRAVELLERS * sizeof *travel, t->err);
	if (status == GPT_OK)
		*norm = sqrt(square) / t->info->world;
	return status;
}

/* The rest of a step that is not to take less than --step-ms; a signal ends it. */
static void rest(double begin, int64_t step_ms)
{
	double left = begin + 1e-3 * (double)step_ms - now_s();

	if (left > 0)
		nanosleep(&(struct timespec){(time_t)left, (long)(1e9 * (left - floor(left)))}, NULL);
}

/* One update. *stop is set, on all ranks alike, when any of them was told to
 * stop before its gradient was computed. */
static int take_step(trainer *t, int64_t step, int *stop)
{
	const gpt_options *o = t->o;
	double begin = now_s(), world = (double)t->info->world, norm, lr;
	float travel[TRAVELLERS];
	int status = learn(t, step, travel, &norm);

	if (status)
		return status;
	lr = gpt_optim_rate(o->lr, step, o->warmup, o->steps);
	gpt_optim_step(&t->optim, t->model, step, lr,
	               gpt_optim_clip(norm, o->clip) / (float)world);
	rest(begin, o->step_ms);
	t->seconds += now_s() - begin;
	t->steps++;
	if (is_due(step, o->log_every, last_step(o)))
		log_step(t, step, (double)travel[LOSS] / world, norm, lr);
	*stop = travel[STOP] > 0;
	return GPT_OK;
}

static int stopped(trainer *t, int64_t step)
{
	int status = save(t, step), number = stop_signal ? stop_signal : SIGTERM;

	/* It is saved when all ranks have. */
	if (status == GPT_OK && t->comm && pio_comm_barrier(t->comm))
		status = communication_failed(t);
	if (status)
		return status;
	if (t->info->rank == 0) {
		pio_fact(t->run, 'e', "stop", "stopped by a signal after a saved step");
		fprintf(stderr, "gpt: stopped by signal %d; step %lld is saved\n", number,
		        (long long)step);
	}
	return 128 + number;
}

/* All ranks come here at the same step. */
static int ended(trainer *t, int64_t step)
{
	int status = save(t, step);

	if (status == GPT_OK && t->info->rank == 0)
		fprintf(stderr, "gpt: told to end; step %lld is saved\n", (long long)step);
	return status;
}

static int loop(trainer *t, int64_t from)
{
	const gpt_options *o = t->o;
	int64_t last = last_step(o);
	int status = GPT_OK, stop = 0;

	for (int64_t step = from + 1; status == GPT_OK && step <= last; step++) {
		status = take_step(t, step, &stop);
		if (status == GPT_OK && is_due(step, o->eval_every, last))
			status = evaluate(t, step);
		if (status == GPT_OK && is_due(step, o->sample_every, last))
			status = sample(t, step);
		if (status == GPT_OK && is_due(step, o->save_every, last))
			status = save(t, step);
		if (status == GPT_OK && stop && step < last)
			return stopped(t, step);
		if (status == GPT_OK && step < last && pio_should_stop(t->run, step))
			return ended(t, step);
	}
	return status;
}

static int get_keys(trainer *t)
{
	const struct {
		pio_key *key;
		const char *name;
	} all[] = {
		{&t->key_loss, "train/loss"}, {&t->key_val, "val/loss"},
		{&t->key_norm, "grad/norm"},  {&t->key_lr, "lr"},
		{&t->key_speed, "tokens_per_s"}, {&t->key_bigram, "val/bigram"},
	};

	for (size_t i = 0; t->run && i < sizeof all / sizeof *all; i++) {
		*all[i].key = pio_key_get(t->run, all[i].name);
		if (!*all[i].key)
			return gpt_err_set(t->err, GPT_SYSTEM, "%s", pio_error());
	}
	return GPT_OK;
}

static int join(trainer *t)
{
	if (pio_comm_init(&t->comm, t->run, JOIN_TIMEOUT_MS))
		return communication_failed(t);
	return gpt_reduce_open(&t->reduce, t->comm, gpt_model_gradients(t->model),
	                       gpt_model_size(t->model) + TRAVELLERS, JOIN_TIMEOUT_MS, t->err);
}

static int prepare(trainer *t)
{
	const gpt_options *o = t->o;
	const gpt_shape shape = {(size_t)o->width, (size_t)o->heads, (size_t)o->depth,
	                         (size_t)o->context};
	int status = gpt_train_slice(&t->first, &t->count, o->batch, t->info->rank,
	                             t->info->world, t->err);

	if (status == GPT_OK)
		status = gpt_data_open(&t->data, o->text, shape.context, t->err);
	if (status == GPT_OK)
		status = gpt_model_new(&t->model, &shape, t->count, (uint64_t)o->seed, t->err);
	if (status == GPT_OK)
		status = gpt_optim_init(&t->optim, t->model, t->err);
	if (status == GPT_OK)
		status = get_keys(t);
	if (status)
		return status;
	t->windows = malloc(t->count * sizeof *t->windows);
	t->square = gpt_device_new(sizeof *t->square);
	if (!t->windows || !t->square)
		return gpt_err_set(t->err, GPT_SYSTEM, "no memory for a batch");
	return t->info->world > 1 ? join(t) : GPT_OK;
}

/* Facts that do not depend on where the run starts from. */
static int introduce(trainer *t)
{
	char json[32];
	double bigram = gpt_data_bigram(&t->data, (size_t)(t->o->eval_batches * t->o->batch));

	if (bigram < 0)
		return gpt_err_set(t->err, GPT_SYSTEM, "no memory for bigram counts");
	pio_log(t->run, t->key_bigram, 0, bigram);
	snprintf(json, sizeof json, "%zu", gpt_model_parameters(t->model));
	pio_fact(t->run, 's', "parameters", json);
	printf("%s parameters, val/bigram %.4f\n", json, bigram);
	fflush(stdout);
	return GPT_OK;
}

/* *from: the step to go on after, 0 for a fresh start. */
static int start(trainer *t, int64_t *from)
{
	const gpt_options *o = t->o;
	int status = GPT_OK;

	*from = t->info->resume_step > 0 ? t->info->resume_step : 0;
	if (*from > last_step(o))
		return gpt_err_set(t->err, GPT_MISTAKE,
		                   "--%s=%lld: the checkpoint to start from is at step %lld",
		                   last_step(o) == o->steps ? "steps" : "until",
		                   (long long)last_step(o), (long long)*from);
	if (*from > 0)
		status = gpt_state_load(t->run, o, t->model, &t->optim, t->err);
	if (status == GPT_OK && t->info->rank == 0)
		status = introduce(t);
	return status;
}

int gpt_train(const gpt_options *options, pio_run *run, gpt_err *err)
{
	trainer t = {
		.o = options,
		.err = err,
		.run = run,
		.info = pio_info_get(run),
		.saved = -1,
		.optim = {
			.kind = strcmp(options->optimizer, "sgd") == 0 ? GPT_SGD : GPT_ADAMW,
			.beta1 = (float)options->beta1,
			.beta2 = (float)options->beta2,
			.momentum = (float)options->momentum,
			.weight_decay = (float)options->weight_decay,
		},
	};
	int64_t from = 0;
	int status;

	status = prepare(&t);
	if (status == GPT_OK)
		status = start(&t, &from);
	catch_signals(); /* not before: until here there is nothing to save */
	/* A finished checkpoint whose last words may be lost: say them again. */
	if (status == GPT_OK && from == last_step(options))
		status = evaluate(&t, from);
	if (status == GPT_OK && from == last_step(options))
		status = sample(&t, from);
	if (status == GPT_OK && from == last_step(options))
		status = save(&t, from);
	if (status == GPT_OK)
		status = loop(&t, from);
	if (t.reduce)
		gpt_reduce_close(&t.reduce, status > 0 && status < 128 ? err->text : NULL);
	if (t.comm)
		pio_comm_close(&t.comm, status > 0 && status < 128 ? err->text : NULL);
	free(t.windows);
	gpt_device_free(t.square);
	gpt_optim_fini(&t.optim);
	gpt_model_free(t.model);
	gpt_data_close(&t.data);
	return status;
}

int gpt_generate(gpt_options *options, pio_run *run, gpt_err *err)
{
	const pio_info *info = pio_info_get(run);
	gpt_sampling sampling = {options->temperature, (uint64_t)options->seed, 0};
	size_t count = (size_t)options->generate;
	unsigned char *text = NULL;
	gpt_model *model = NULL;
	gpt_shape shape;
	int status;

	if (info->resume_step < 0)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "--generate=%zu: this run has no checkpoint to start from",
		                   count);
	status = gpt_state_shape(run, options, err);
	if (status)
		return status;
	shape = (gpt_shape){(size_t)options->width, (size_t)options->heads,
	                    (size_t)options->depth, (size_t)options->context};
	status = gpt_model_new(&model, &shape, 1, 0, err);
	if (status == GPT_OK)
		status = gpt_state_load(run, options, model, NULL, err);
	text = malloc(count);
	if (status == GPT_OK && !text)
		status = gpt_err_set(err, GPT_SYSTEM, "no memory for %zu bytes", count);
	if (status == GPT_OK)
		status = gpt_sample(text, count, model, shape.context, options->prompt,
		                    strlen(options->prompt), &sampling, err);
	if (status == GPT_OK && (fwrite(text, 1, count, stdout) != count || fflush(stdout)))
		status = gpt_err_set(err, GPT_SYSTEM, "stdout: could not be written");
	free(text);
	gpt_model_free(model);
	return status;
}
