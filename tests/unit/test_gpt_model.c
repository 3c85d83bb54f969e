/* The transformer of experiments/gpt: its formulas against plain ones, its
 * gradients against differences of the loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gpt/attention.h"
#include "gpt/kernel.h"
#include "gpt/model.h"
#include "gpt/rng.h"
#include "gpt/cpu/simd.h"

enum { TEXT = 4096, WINDOWS = 21 };

static unsigned char text[TEXT];
static const unsigned char *windows[WINDOWS];

static gpt_cell *cells(const float *x)
{
	return (gpt_cell *)(uintptr_t)x;
}

static double loss_of(gpt_model *model, size_t count)
{
	gpt_err err;
	double loss;

	assert_int_equal(gpt_model_loss(&loss, model, windows, count, &err), 0);
	return loss;
}

static double learned(gpt_model *model)
{
	gpt_model_learn(model, windows, WINDOWS, NULL, NULL);
	return (double)gpt_model_gradients(model)[gpt_model_size(model) + GPT_LOSS];
}

static const float *feed(gpt_model *model, const unsigned char *bytes, size_t at, size_t count)
{
	const float *logits;
	gpt_err err;

	assert_int_equal(gpt_model_feed(&logits, model, bytes, at, count, &err), 0);
	return logits;
}

static double normal(uint64_t a, uint64_t b)
{
	return gpt_rng_normal(99, 7, a, b);
}

/* Weights far from their tame start: each layer bends, no gradient is tiny. */
static gpt_model *model_of(const gpt_shape *shape)
{
	gpt_err err;
	gpt_model *model;
	size_t count;
	const gpt_tensor *t;

	assert_int_equal(gpt_model_new(&model, shape, WINDOWS, 5, &err), 0);
	t = gpt_model_tensors(model, &count);
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < t[i].count; j++)
			gpt_model_weights(model)[t[i].offset + j]
				+= (float)(0.25 * normal(i, j));
	for (size_t i = 0; i < TEXT; i++)
		text[i] = (unsigned char)gpt_rng_below(256, 3, 8, 0, i);
	for (size_t i = 0; i < WINDOWS; i++)
		windows[i] = text + 131 * i;
	return model;
}

/* Slope of the loss along `direction` in one tensor, by a central difference
 * of fourth order. */
static double slope(gpt_model *model, const gpt_tensor *t, const float *direction)
{
	const double step = 2e-2;
	const double at[4] = {-2, -1, 1, 2}, weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
	float *w = gpt_model_weights(model) + t->offset;
	float *keep = malloc(t->count * sizeof *keep);
	double sum = 0;

	assert_non_null(keep);
	memcpy(keep, w, t->count * sizeof *w);
	for (size_t k = 0; k < 4; k++) {
		for (size_t j = 0; j < t->count; j++)
			w[j] = keep[j] + (float)(at[k] * step) * direction[j];
		sum += weight[k] * loss_of(model, WINDOWS);
	}
	memcpy(w, keep, t->count * sizeof *w);
	free(keep);
	return sum / step;
}

/* Three random unit directions and the gradient's own. */
static void check_tensor(gpt_model *model, const gpt_tensor *t)
{
	const float *g = gpt_model_gradients(model) + t->offset;
	float *direction = malloc(t->count * sizeof *direction);

	assert_non_null(direction);
	for (size_t k = 0; k < 4; k++) {
		double square = 0, expected = 0, got;

		for (size_t j = 0; j < t->count; j++) {
			double d = k ? normal(1000 + k, j) : (double)g[j];

			direction[j] = (float)d;
			square += d * d;
		}
		assert_true(square > 0);
		for (size_t j = 0; j < t->count; j++) {
			direction[j] = (float)((double)direction[j] / sqrt(square));
			expected += (double)direction[j] * (double)g[j];
		}
		got = slope(model, t, direction);
		if (fabs(got - expected) > 5e-3 * fabs(expected) + 4e-5)
			fail_msg("%s, direction %zu: difference %.7g, gradient %.7g", t->name, k,
			         got, expected);
	}
	free(direction);
}

static void check_gradients(gpt_shape shape)
{
	gpt_model *model = model_of(&shape);
	size_t count;
	const gpt_tensor *t = gpt_model_tensors(model, &count);
	double mean = learned(model);

	assert_true(mean == (double)(float)loss_of(model, WINDOWS));
	for (size_t i = 0; i < count; i++)
		check_tensor(model, &t[i]);
	gpt_model_free(model);
}

static void test_gradients_are_slopes_of_the_loss(void **state)
{
	(void)state;
	check_gradients((gpt_shape){.width = 16, .heads = 2, .depth = 2, .context = 16});
}

/* Head width 5, 13 positions, two passes of the batch: nothing divides. */
static void test_gradients_of_odd_shapes(void **state)
{
	(void)state;
	check_gradients((gpt_shape){.width = 15, .heads = 3, .depth = 1, .context = 13});
}

static void test_gradients_of_many_passes(void **state)
{
	(void)state;
	check_gradients((gpt_shape){.width = 8, .heads = 1, .depth = 3, .context = 40});
}

static void attention_plainly(double *out, const float *qkv, size_t rows, size_t width,
                              size_t heads)
{
	size_t w = width / heads;

	for (size_t i = 0; i < rows; i++)
		for (size_t h = 0; h < heads; h++) {
			double sum = 0;

			for (size_t d = 0; d < w; d++)
				out[i * width + h * w + d] = 0;
			for (size_t j = 0; j <= i; j++) {
				double score = 0, e;

				for (size_t d = 0; d < w; d++)
					score += (double)qkv[i * 3 * width + h * w + d]
					         * (double)qkv[j * 3 * width + width + h * w + d];
				e = exp(score / sqrt((double)w));
				sum += e;
				for (size_t d = 0; d < w; d++)
					out[i * width + h * w + d]
						+= e * (double)qkv[j * 3 * width + 2 * width + h * w + d];
			}
			for (size_t d = 0; d < w; d++)
				out[i * width + h * w + d] /= sum;
		}
}

static void test_attention_is_its_formula(void **state)
{
	const struct {
		size_t rows, width, heads;
	} cases[] = {{1, 4, 1}, {13, 15, 3}, {16, 32, 2}, {37, 48, 2}, {64, 16, 2}};

	(void)state;
	for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
		size_t rows = cases[n].rows, width = cases[n].width;
		gpt_attention_shape shape = {rows, width, cases[n].heads};
		float *qkv = malloc(rows * 3 * width * sizeof *qkv);
		float *out = malloc(rows * width * sizeof *out);
		float *scratch = malloc(gpt_attention_scratch(&shape, 1) * sizeof *scratch);
		float *kept = malloc(gpt_attention_kept(&shape) * sizeof *kept);
		double *plain = malloc(rows * width * sizeof *plain);

		assert_true(qkv && out && scratch && kept && plain);
		for (size_t i = 0; i < rows * 3 * width; i++)
			qkv[i] = (float)normal(n, i);
		memset(scratch, 0xff, gpt_attention_scratch(&shape, 1) * sizeof *scratch);
		gpt_attention_forward(cells(out), kept, cells(qkv), 0, rows, 1, &shape, scratch);
		attention_plainly(plain, qkv, rows, width, cases[n].heads);
		for (size_t i = 0; i < rows * width; i++)
			assert_true(fabs((double)out[i] - plain[i]) < 3e-6);
		free(qkv);
		free(out);
		free(scratch);
		free(kept);
		free(plain);
	}
}

static void test_kernels_are_their_formulas(void **state)
{
	float x[9], y[9], stats[2], gain[9], bias[9], logits[9];
	double mean = 0, square = 0, sum = 0, loss = 0;
	const unsigned char target = 4;

	(void)state;
	for (size_t i = 0; i < 9; i++) {
		x[i] = (float)(3 * normal(50, i));
		gain[i] = (float)normal(51, i);
		bias[i] = (float)normal(52, i);
		mean += (double)x[i] / 9;
	}
	for (size_t i = 0; i < 9; i++)
		square += ((double)x[i] - mean) * ((double)x[i] - mean) / 9;
	gpt_norm_forward(cells(y), stats, x, gain, bias, 1, 9);
	for (size_t i = 0; i < 9; i++)
		assert_true(fabs((double)y[i] - (((double)x[i] - mean) / sqrt(square + 1e-5)
		                                 * (double)gain[i] + (double)bias[i])) < 1e-5);
	gpt_gelu_forward(cells(y), cells(x), 9);
	for (size_t i = 0; i < 9; i++) {
		double v = (double)x[i];
		double u = sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v);

		assert_true(fabs((double)y[i] - 0.5 * v * (1 + tanh(u))) < 2e-6);
		sum += exp(v);
	}
	memset(logits, 0, sizeof logits);
	for (size_t i = 0; i < 9; i++)
		y[i] = 2;
	gpt_gelu_backward(cells(y), logits, cells(x), 1, 9);
	for (size_t i = 0; i < 9; i++) {
		double v = (double)x[i], k = sqrt(2 / 3.14159265358979);
		double th = tanh(k * (v + 0.044715 * v * v * v));
		double d = 0.5 * (1 + th) + 0.5 * v * (1 - th * th) * k * (1 + 3 * 0.044715 * v * v);

		assert_true(fabs((double)y[i] - 2 * d) < 4e-6);
		assert_true(y[i] == logits[i]);
	}
	memcpy(logits, x, sizeof x);
	gpt_cross_entropy(&loss, logits, &target, 1, 9, 0.5f);
	assert_true(fabs(loss - (log(sum) - (double)x[4])) < 1e-6);
	for (size_t i = 0; i < 9; i++)
		assert_true(fabs((double)logits[i]
		                 - 0.5 * (exp((double)x[i]) / sum - (i == target))) < 1e-6);
}

static void test_exp_is_exp(void **state)
{
	(void)state;
	for (double x = -86; x < 88; x += 0.0137) {
		double exact = exp((double)(float)x);

		assert_true(fabs((double)gpt_exp((float)x) - exact) < 4e-7 * exact);
	}
	assert_true(gpt_exp(0.0f) == 1.0f);
	assert_true(gpt_exp(-1e30f) < 1e-37f);
	assert_true(gpt_exp(-INFINITY) < 1e-37f);
	assert_true(gpt_exp(INFINITY) > 1e37f);
	assert_true(isnan(gpt_exp(NAN)));
}

/* Feeding sees a prefix alone: when the loss of whole windows is the same, no
 * position looked ahead. */
static void test_no_position_sees_what_follows(void **state)
{
	gpt_shape shape = {.width = 24, .heads = 3, .depth = 2, .context = 19};
	gpt_model *model = model_of(&shape);
	double total = 0;

	(void)state;
	for (size_t i = 0; i < 2; i++)
		for (size_t t = 0; t < shape.context; t++) {
			const float *logits = feed(model, windows[i] + t, t, 1);
			double sum = 0;

			for (size_t j = 0; j < GPT_VOCABULARY; j++)
				sum += exp((double)logits[j]);
			total += log(sum) - (double)logits[windows[i][t + 1]];
		}
	total /= 2 * (double)shape.context;
	assert_true(fabs(total - loss_of(model, 2)) < 1e-5);
	gpt_model_free(model);
}

static void test_feeding_at_once_or_byte_by_byte(void **state)
{
	gpt_shape shape = {.width = 16, .heads = 2, .depth = 2, .context = 24};
	gpt_model *model = model_of(&shape);
	float once[GPT_VOCABULARY];
	const float *logits = NULL;

	(void)state;
	memcpy(once, feed(model, text, 0, 22), sizeof once);
	for (size_t t = 0; t < 22; t++)
		logits = feed(model, text + t, t, 1);
	for (size_t j = 0; j < GPT_VOCABULARY; j++)
		assert_true(fabsf(once[j] - logits[j]) < 1e-4f);
	gpt_model_free(model);
}

static void test_same_seed_same_bits(void **state)
{
	gpt_shape shape = {.width = 16, .heads = 2, .depth = 2, .context = 24};
	gpt_model *a, *b, *c;
	gpt_err err;
	size_t bytes;

	(void)state;
	assert_int_equal(gpt_model_new(&a, &shape, WINDOWS, 1, &err), 0);
	assert_int_equal(gpt_model_new(&b, &shape, WINDOWS, 1, &err), 0);
	assert_int_equal(gpt_model_new(&c, &shape, WINDOWS, 2, &err), 0);
	bytes = gpt_model_size(a) * sizeof(float);
	for (size_t i = 0; i < WINDOWS; i++)
		windows[i] = text + 7 * i;
	assert_memory_equal(gpt_model_weights(a), gpt_model_weights(b), bytes);
	assert_true(memcmp(gpt_model_weights(a), gpt_model_weights(c), bytes) != 0);
	loss_of(b, 5); /* leaves no trace */
	assert_true(learned(a) == learned(b));
	assert_memory_equal(gpt_model_gradients(a), gpt_model_gradients(b), bytes);
	gpt_model_free(a);
	gpt_model_free(b);
	gpt_model_free(c);
}

static void test_tensors_fill_the_arena_once(void **state)
{
	gpt_shape shape = {.width = 12, .heads = 3, .depth = 2, .context = 10};
	gpt_model *model;
	gpt_err err;
	size_t count, end = 0, total = 0;
	const gpt_tensor *t;

	(void)state;
	assert_int_equal(gpt_model_new(&model, &shape, 1, 1, &err), 0);
	t = gpt_model_tensors(model, &count);
	assert_int_equal(count, 5 + 2 * 12);
	for (size_t i = 0; i < count; i++) {
		int64_t elements = t[i].shape[0] * (t[i].ndim == 2 ? t[i].shape[1] : 1);

		assert_true(t[i].offset >= end);
		assert_int_equal(elements, t[i].count);
		end = t[i].offset + t[i].count;
		total += t[i].count;
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(t[i].name, t[j].name);
	}
	assert_true(end <= gpt_model_size(model));
	assert_int_equal(total, gpt_model_parameters(model));
	assert_int_equal(total, 256 * 12 * 2 + 10 * 12 + 2 * 12
	                                + 2 * (12 * 12 * 12 + 13 * 12));
	gpt_model_free(model);
}

static void test_impossible_shapes_are_refused(void **state)
{
	gpt_model *model;
	gpt_err err;

	(void)state;
	assert_int_equal(gpt_model_new(&model, &(gpt_shape){10, 3, 1, 8}, 1, 1, &err), GPT_MISTAKE);
	assert_string_equal(err.text, "--heads=3: expected a divisor of --width=10");
	assert_null(model);
	assert_int_equal(gpt_model_new(&model, &(gpt_shape){0, 1, 1, 8}, 1, 1, &err), GPT_MISTAKE);
	assert_string_equal(err.text, "--width=0: expected 1 to 8192");
	gpt_model_free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gradients_are_slopes_of_the_loss),
		cmocka_unit_test(test_gradients_of_odd_shapes),
		cmocka_unit_test(test_gradients_of_many_passes),
		cmocka_unit_test(test_attention_is_its_formula),
		cmocka_unit_test(test_kernels_are_their_formulas),
		cmocka_unit_test(test_exp_is_exp),
		cmocka_unit_test(test_no_position_sees_what_follows),
		cmocka_unit_test(test_feeding_at_once_or_byte_by_byte),
		cmocka_unit_test(test_same_seed_same_bits),
		cmocka_unit_test(test_tensors_fill_the_arena_once),
		cmocka_unit_test(test_impossible_shapes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
