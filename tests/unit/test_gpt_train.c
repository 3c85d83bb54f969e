/* What surrounds the transformer of experiments/gpt: data, optimizers,
 * schedule, sampling and the command line. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gpt/data.h"
#include "gpt/kernel.h"
#include "gpt/optim.h"
#include "gpt/options.h"
#include "gpt/sample.h"
#include "gpt/train.h"

/* Open `text` as data by way of a file that is gone when this returns. */
static int data_of(gpt_data *data, const char *text, size_t bytes, size_t context, gpt_err *err)
{
	const char *folder = getenv("TMPDIR");
	char path[512];
	int fd, status;

	snprintf(path, sizeof path, "%s/gpt-data-XXXXXX", folder ? folder : "/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, bytes), bytes);
	close(fd);
	status = gpt_data_open(data, path, context, err);
	unlink(path);
	return status;
}

static void test_bigram_of_two_letters(void **state)
{
	char text[100];
	gpt_data data;
	gpt_err err;
	/* Training is 90 bytes: a is followed 45 times by b, b 44 times by a. */
	double after_a = log(46.0 / (45 + 256)), after_b = log(45.0 / (44 + 256));

	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = "ab"[i % 2];
	assert_int_equal(data_of(&data, text, sizeof text, 4, &err), 0);
	assert_int_equal(data.train_bytes, 90);
	assert_true(fabs(gpt_data_bigram(&data, 2) + (after_a + after_b) / 2) < 1e-12);
	/* One window of 4 from an 'a': a b a b. With context 1 it is one 'a'. */
	data.context = 1;
	assert_true(fabs(gpt_data_bigram(&data, 1) + after_a) < 1e-12);
	gpt_data_close(&data);
}

static void test_validation_is_never_trained_on(void **state)
{
	char text[400];
	gpt_data data;
	gpt_err err;
	const unsigned char *low, *high, *w;

	(void)state;
	memset(text, 'x', sizeof text);
	assert_int_equal(data_of(&data, text, sizeof text, 16, &err), 0);
	low = high = gpt_data_train(&data, 1, 1, 0);
	for (int64_t step = 1; step < 2000; step++) {
		w = gpt_data_train(&data, 1, step, 3);
		low = w < low ? w : low;
		high = w > high ? w : high;
	}
	/* All of the training part is used, to its last byte, and no more. */
	assert_ptr_equal(low, data.text);
	assert_ptr_equal(high + 17, data.text + 360);
	for (size_t i = 0; i < 9; i++) {
		w = gpt_data_validation(&data, i, 9);
		assert_true(w >= data.text + 360 && w + 17 <= data.text + 400);
	}
	assert_ptr_equal(gpt_data_validation(&data, 0, 9), data.text + 360);
	assert_ptr_equal(gpt_data_validation(&data, 8, 9) + 17, data.text + 400);
	gpt_data_close(&data);
}

static void test_ranks_share_the_batch_of_one(void **state)
{
	char text[4000];
	gpt_data data;
	gpt_err err;
	size_t first, count;

	(void)state;
	memset(text, 'x', sizeof text);
	assert_int_equal(data_of(&data, text, sizeof text, 32, &err), 0);
	for (int world = 1; world <= 12; world++) {
		size_t next = 0;

		if (12 % world)
			continue;
		for (int rank = 0; rank < world; rank++) {
			assert_int_equal(gpt_train_slice(&first, &count, 12, rank, world, &err), 0);
			assert_int_equal(first, next);
			next = first + count;
		}
		assert_int_equal(next, 12);
	}
	assert_int_equal(gpt_train_slice(&first, &count, 8, 0, 3, &err), GPT_MISTAKE);
	assert_string_equal(err.text, "--batch=8: expected a multiple of the 3 ranks");
	/* The place of a window: the same again, another for each of the three. */
	assert_ptr_equal(gpt_data_train(&data, 1, 5, 2), gpt_data_train(&data, 1, 5, 2));
	assert_ptr_not_equal(gpt_data_train(&data, 1, 5, 2), gpt_data_train(&data, 2, 5, 2));
	assert_ptr_not_equal(gpt_data_train(&data, 1, 5, 2), gpt_data_train(&data, 1, 6, 2));
	assert_ptr_not_equal(gpt_data_train(&data, 1, 5, 2), gpt_data_train(&data, 1, 5, 3));
	gpt_data_close(&data);
}

static void test_bad_text_is_refused(void **state)
{
	gpt_data data;
	gpt_err err;

	(void)state;
	assert_int_equal(gpt_data_open(&data, "/nonexistent", 8, &err), GPT_MISTAKE);
	assert_string_equal(err.text, "--text=/nonexistent: No such file or directory");
	assert_int_equal(gpt_data_open(&data, "/", 8, &err), GPT_MISTAKE);
	assert_string_equal(err.text, "--text=/: expected a regular file");
	assert_int_equal(data_of(&data, "short", 5, 8, &err), GPT_MISTAKE);
	assert_non_null(strstr(err.text, "has 5 bytes; expected at least 90 for --context=8"));
}

static gpt_model *small_model(void)
{
	gpt_model *model;
	gpt_err err;

	assert_int_equal(gpt_model_new(&model, &(gpt_shape){8, 2, 1, 6}, 4, 1, &err), 0);
	return model;
}

/* One matrix, one bias and one embedding element, followed for three steps. */
static void check_optimizer(gpt_optim_kind kind)
{
	const char *names[] = {"block.0.up.weight", "block.0.up.bias", "token"};
	const double decays[] = {1, 0, 0}, gradients[] = {0.3, -0.02, 1e-4};
	const double lr = 0.01, decay = 0.1, scale = 0.5;
	gpt_model *model = small_model();
	gpt_optim optim = {.kind = kind, .beta1 = 0.9f, .beta2 = 0.95f, .momentum = 0.8f,
	                   .weight_decay = 0.1f};
	double w[3], m[3] = {0}, v[3] = {0};
	size_t at[3], count;
	const gpt_tensor *t = gpt_model_tensors(model, &count);
	gpt_err err;

	assert_int_equal(gpt_optim_init(&optim, model, &err), 0);
	for (size_t k = 0; k < 3; k++) {
		for (size_t i = 0; i < count; i++)
			if (strcmp(t[i].name, names[k]) == 0)
				at[k] = t[i].offset + 3;
		w[k] = gpt_model_weights(model)[at[k]] = 0.7f;
	}
	for (int step = 1; step <= 3; step++) {
		for (size_t k = 0; k < 3; k++) {
			double g = gradients[k] * step * scale;

			gpt_model_gradients(model)[at[k]] = (float)(gradients[k] * step);
			w[k] -= lr * decay * decays[k] * w[k];
			if (kind == GPT_SGD) {
				m[k] = 0.8 * m[k] + g;
				w[k] -= lr * m[k];
				continue;
			}
			m[k] = 0.9 * m[k] + 0.1 * g;
			v[k] = 0.95 * v[k] + 0.05 * g * g;
			w[k] -= lr * (m[k] / (1 - pow(0.9, step)))
			        / (sqrt(v[k] / (1 - pow(0.95, step))) + 1e-8);
		}
		gpt_optim_step(&optim, model, step, lr, (float)scale);
		for (size_t k = 0; k < 3; k++)
			assert_true(fabs((double)gpt_model_weights(model)[at[k]] - w[k]) < 2e-6);
	}
	gpt_optim_fini(&optim);
	gpt_model_free(model);
}

static void test_adamw_by_hand(void **state)
{
	(void)state;
	check_optimizer(GPT_ADAMW);
}

static void test_sgd_by_hand(void **state)
{
	(void)state;
	check_optimizer(GPT_SGD);
}

static void test_schedule_rises_and_falls(void **state)
{
	(void)state;
	assert_true(fabs(gpt_optim_rate(2, 1, 10, 110) - 0.2) < 1e-12);
	assert_true(fabs(gpt_optim_rate(2, 10, 10, 110) - 2) < 1e-12);
	assert_true(fabs(gpt_optim_rate(2, 60, 10, 110) - 1.1) < 1e-12);
	assert_true(fabs(gpt_optim_rate(2, 110, 10, 110) - 0.2) < 1e-12);
	assert_true(fabs(gpt_optim_rate(2, 1, 0, 1) - 0.2) < 1e-12);
	assert_true(fabs(gpt_optim_rate(2, 5, 10, 5) - 1) < 1e-12);
	for (int64_t step = 11; step < 110; step++)
		assert_true(gpt_optim_rate(2, step + 1, 10, 110) < gpt_optim_rate(2, step, 10, 110));
}

static void test_clipping(void **state)
{
	const float x[] = {3, 0, -4};
	double square;

	(void)state;
	gpt_square_sum(&square, x, 3);
	assert_true(square == 25);
	assert_true(fabsf(gpt_optim_clip(5, 1) - 0.2f) < 1e-7f);
	assert_true(gpt_optim_clip(0.5, 1) == 1);
	assert_true(gpt_optim_clip(5, 0) == 1);
}

/* A text that repeats is learnt by heart, below what a bigram can reach: each
 * of its letters has two successors. */
static void test_it_learns(void **state)
{
	const char *rhyme = "abacbcacb";
	char text[2000];
	unsigned char out[45];
	const unsigned char *windows[4];
	gpt_data data;
	gpt_err err;
	gpt_model *model;
	gpt_optim optim = {.beta1 = 0.9f, .beta2 = 0.95f, .weight_decay = 0.1f};
	gpt_sampling sampling = {0, 1, 1};
	double loss = 0;

	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = rhyme[i % 9];
	assert_int_equal(data_of(&data, text, sizeof text, 24, &err), 0);
	assert_int_equal(gpt_model_new(&model, &(gpt_shape){32, 2, 2, 24}, 4, 1, &err), 0);
	assert_int_equal(gpt_optim_init(&optim, model, &err), 0);
	for (int64_t step = 1; step <= 400; step++) {
		for (size_t i = 0; i < 4; i++)
			windows[i] = gpt_data_train(&data, 1, step, i);
		gpt_model_learn(model, windows, 4, NULL, NULL);
		loss = (double)gpt_model_gradients(model)[gpt_model_size(model) + GPT_LOSS];
		gpt_optim_step(&optim, model, step, gpt_optim_rate(3e-3, step, 10, 400), 1);
	}
	assert_true(loss < 0.5 * gpt_data_bigram(&data, 4));
	/* Past the end of the context, several times. */
	assert_int_equal(gpt_sample(out, sizeof out, model, 24, text, 45, &sampling, &err), 0);
	assert_memory_equal(out, text, sizeof out);
	gpt_optim_fini(&optim);
	gpt_model_free(model);
	gpt_data_close(&data);
}

static void test_samples_repeat_and_clean(void **state)
{
	gpt_model *model = small_model();
	gpt_sampling sampling = {1, 1, 1};
	unsigned char a[64], b[64], text[] = "\xc3\xa9\xff\x01\n\xe2\x82z\xed\xa0\x80";
	gpt_err err;

	(void)state;
	assert_int_equal(gpt_sample(a, 64, model, 6, "xy", 2, &sampling, &err), 0);
	assert_int_equal(gpt_sample(b, 64, model, 6, "xy", 2, &sampling, &err), 0);
	assert_memory_equal(a, b, 64);
	sampling.stream = 2;
	assert_int_equal(gpt_sample(b, 64, model, 6, "xy", 2, &sampling, &err), 0);
	assert_true(memcmp(a, b, 64) != 0);
	gpt_sample_clean(text, sizeof text - 1);
	assert_string_equal((char *)text, "\xc3\xa9??\n??z???");
	gpt_model_free(model);
}

static int parse(gpt_options *o, gpt_err *err, const char *argument)
{
	char program[] = "gpt", text[] = "--text=x", copy[128];
	char *argv[] = {program, text, copy};

	snprintf(copy, sizeof copy, "%s", argument);
	return gpt_options_parse(o, 3, argv, err);
}

static void test_command_line(void **state)
{
	const char *refused[][2] = {
		{"--wdith=3", "--wdith=3: expected a known flag; --help lists them"},
		{"--width", "--width: expected --name=value (see --help)"},
		{"width=3", "width=3: expected --name=value (see --help)"},
		{"--width=", "--width=: expected a whole number from 1 to 8192"},
		{"--width=6.5", "--width=6.5: expected a whole number from 1 to 8192"},
		{"--width= 6", "--width= 6: expected a whole number from 1 to 8192"},
		{"--depth=0", "--depth=0: expected a whole number from 1 to 256"},
		{"--seed=99999999999999999999",
		 "--seed=99999999999999999999: expected a whole number from 0 to 9007199254740992"},
		{"--lr=-1", "--lr=-1: expected a number from 0 to 1e+06"},
		{"--lr=nan", "--lr=nan: expected a number from 0 to 1e+06"},
		{"--optimizer.beta2=1", "--optimizer.beta2=1: expected a number from 0 to below 1"},
		{"--optimizer=adam", "--optimizer=adam: expected adamw or sgd"},
		{"--precision=fp8", "--precision=fp8: expected f32 or bf16"},
		{"--prompt=", "--prompt=: expected at least one byte"},
	};
	gpt_options o;
	gpt_err err;
	char program[] = "gpt", *alone[] = {program};

	(void)state;
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		assert_int_equal(parse(&o, &err, refused[i][0]), GPT_USAGE);
		assert_string_equal(err.text, refused[i][1]);
	}
	assert_int_equal(gpt_options_parse(&o, 1, alone, &err), GPT_USAGE);
	assert_string_equal(err.text, "--text=PATH: expected the file to learn");
	assert_int_equal(parse(&o, &err, "--optimizer.beta2=0.5"), 0);
	assert_true(o.beta2 == 0.5 && o.width == 64 && o.warmup == 20 && o.weight_decay == 0.1);
	assert_int_equal(parse(&o, &err, "--optimizer.momentum=0.25"), 0);
	assert_true(o.momentum == 0.25);
	assert_int_equal(parse(&o, &err, "--optimizer=sgd"), 0);
	assert_string_equal(o.optimizer, "sgd");
	assert_true(o.weight_decay == 0);
	assert_int_equal(parse(&o, &err, "--weight-decay=0.25"), 0);
	assert_true(o.weight_decay == 0.25);
	assert_int_equal(parse(&o, &err, "--lr=3e-4"), 0);
	assert_true(o.lr == 3e-4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bigram_of_two_letters),
		cmocka_unit_test(test_validation_is_never_trained_on),
		cmocka_unit_test(test_ranks_share_the_batch_of_one),
		cmocka_unit_test(test_bad_text_is_refused),
		cmocka_unit_test(test_adamw_by_hand),
		cmocka_unit_test(test_sgd_by_hand),
		cmocka_unit_test(test_schedule_rises_and_falls),
		cmocka_unit_test(test_clipping),
		cmocka_unit_test(test_it_learns),
		cmocka_unit_test(test_samples_repeat_and_clean),
		cmocka_unit_test(test_command_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
