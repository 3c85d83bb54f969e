/* Every kernel of experiments/gpt once, on the device that this program is linked
 * for, on inputs that are always the same: kernels f32|bf16 OUT. What each wrote
 * goes to OUT: a line "NAME COUNT" and so many floats, for tests/cli/test_gpt_cuda.py
 * to lay beside those of another device. */
#include "attention.h"
#include "device.h"
#include "kernel.h"
#include "model.h"
#include "optim.h"
#include "rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing divides: heads of 13, rows that fill neither a tile nor a block. */
enum { WINDOWS = 3, CONTEXT = 45, WIDTH = 39, HEADS = 3, ROWS = WINDOWS * CONTEXT, VOCABULARY = 256 };
enum { WIDE = 4 * WIDTH };

static FILE *out;
static gpt_err err;
static uint64_t drawn;

static void check(int failed)
{
	if (!failed)
		return;
	fprintf(stderr, "kernels: %s\n", err.text);
	exit(1);
}

static void *host_new(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		exit(1);
	return memory;
}

static void *device_new(size_t bytes)
{
	void *memory = gpt_device_new(bytes);

	if (!memory)
		exit(1);
	return memory;
}

/* Numbers around 0, new ones at each call. */
static float *floats(size_t count)
{
	float *host = host_new(count * sizeof *host), *device = device_new(count * sizeof *device);

	drawn++;
	for (size_t i = 0; i < count; i++)
		host[i] = (float)(0.7 * gpt_rng_normal(11, 4, drawn, i));
	gpt_device_write(device, host, count * sizeof *host);
	free(host);
	return device;
}

static gpt_cell *cells(size_t count)
{
	float *from = floats(count);
	gpt_cell *to;

	if (gpt_device_cell_bytes() == sizeof(float))
		return (gpt_cell *)from;
	to = device_new(count * gpt_device_cell_bytes());
	(void)gpt_cells_of(to, from, count);
	gpt_device_free(from);
	return to;
}

static void write_floats(const char *name, const float *host, size_t count)
{
	fprintf(out, "%s %zu\n", name, count);
	fwrite(host, sizeof *host, count, out);
}

static void put(const char *name, float *device, size_t count)
{
	float *host = host_new(count * sizeof *host);

	check(gpt_device_read(host, device, count * sizeof *host, &err));
	write_floats(name, host, count);
	free(host);
	gpt_device_free(device);
}

static void put_cells(const char *name, gpt_cell *device, size_t count)
{
	float *host = host_new(count * sizeof *host);
	uint16_t *halves = host_new(count * sizeof *halves);

	if (gpt_device_cell_bytes() == sizeof(float)) {
		put(name, (float *)device, count);
	} else {
		check(gpt_device_read(halves, device, count * sizeof *halves, &err));
		for (size_t i = 0; i < count; i++) {
			uint32_t bits = (uint32_t)halves[i] << 16;

			memcpy(&host[i], &bits, sizeof bits);
		}
		write_floats(name, host, count);
		gpt_device_free(device);
	}
	free(halves);
	free(host);
}

static unsigned char *bytes_new(unsigned char *host)
{
	unsigned char *device = device_new(ROWS);

	drawn++;
	for (size_t i = 0; i < ROWS; i++) /* few, so that they come more than once */
		host[i] = (unsigned char)gpt_rng_below(i % 2 ? 256 : 9, 12, 5, drawn, i);
	gpt_device_write(device, host, ROWS);
	return device;
}

static void embedding(void)
{
	unsigned char host[ROWS], *bytes = bytes_new(host);
	float *token = floats(VOCABULARY * WIDTH), *position = floats(CONTEXT * WIDTH);
	float *x = floats(ROWS * WIDTH), *d_token = floats(VOCABULARY * WIDTH);
	float *d_position = floats(CONTEXT * WIDTH), *d = floats(ROWS * WIDTH), *some = floats(7 * WIDTH);

	gpt_embed_forward(x, bytes, token, position, 0, ROWS, CONTEXT, WIDTH);
	gpt_embed_forward(some, bytes, token, position, 11, 7, CONTEXT, WIDTH);
	gpt_embed_backward(d_token, d_position, d, bytes, ROWS, CONTEXT, WIDTH);
	put("embed", x, ROWS * WIDTH);
	put("embed.some", some, 7 * WIDTH);
	put("embed.token", d_token, VOCABULARY * WIDTH);
	put("embed.position", d_position, CONTEXT * WIDTH);
	gpt_device_free(token);
	gpt_device_free(position);
	gpt_device_free(d);
	gpt_device_free(bytes);
}

static void linear(void)
{
	gpt_cell *x = cells(ROWS * WIDTH), *w = cells(WIDTH * WIDE), *y = cells(ROWS * WIDE);
	gpt_cell *d = cells(ROWS * WIDE), *d_x = cells(ROWS * WIDTH);
	float *bias = floats(WIDE), *base = floats(ROWS * WIDE), *sum = floats(ROWS * WIDE);
	float *logits = floats(ROWS * WIDE), *d_w = floats(WIDTH * WIDE), *d_bias = floats(WIDE);

	gpt_linear_forward(y, x, w, bias, ROWS, WIDTH, WIDE);
	gpt_linear_residual(sum, base, x, w, bias, ROWS, WIDTH, WIDE);
	gpt_linear_logits(logits, x, w, ROWS, WIDTH, WIDE);
	gpt_linear_backward(d_x, d_w, d_bias, d, x, w, ROWS, WIDTH, WIDE);
	put_cells("linear", y, ROWS * WIDE);
	put("linear.residual", sum, ROWS * WIDE);
	put("linear.logits", logits, ROWS * WIDE);
	put_cells("linear.d_x", d_x, ROWS * WIDTH);
	put("linear.d_weight", d_w, WIDTH * WIDE);
	put("linear.d_bias", d_bias, WIDE);
	gpt_device_free(x);
	gpt_device_free(w);
	gpt_device_free(d);
	gpt_device_free(bias);
	gpt_device_free(base);
}

static void norm(void)
{
	float *x = floats(ROWS * WIDTH), *gain = floats(WIDTH), *bias = floats(WIDTH);
	float *stats = floats(ROWS * 2), *d_x = floats(ROWS * WIDTH);
	float *d_gain = floats(WIDTH), *d_bias = floats(WIDTH);
	gpt_cell *y = cells(ROWS * WIDTH), *d = cells(ROWS * WIDTH);

	gpt_norm_forward(y, stats, x, gain, bias, ROWS, WIDTH);
	gpt_norm_backward(d_x, d_gain, d_bias, d, x, stats, gain, ROWS, WIDTH);
	put_cells("norm", y, ROWS * WIDTH);
	put("norm.stats", stats, ROWS * 2);
	put("norm.d_x", d_x, ROWS * WIDTH);
	put("norm.d_gain", d_gain, WIDTH);
	put("norm.d_bias", d_bias, WIDTH);
	gpt_device_free(x);
	gpt_device_free(gain);
	gpt_device_free(bias);
	gpt_device_free(d);
}

static void gelu(void)
{
	gpt_cell *x = cells(ROWS * WIDE), *y = cells(ROWS * WIDE), *d = cells(ROWS * WIDE);
	float *d_bias = floats(WIDE);

	gpt_gelu_forward(y, x, ROWS * WIDE);
	gpt_gelu_backward(d, d_bias, x, ROWS, WIDE);
	put_cells("gelu", y, ROWS * WIDE);
	put_cells("gelu.d", d, ROWS * WIDE);
	put("gelu.d_bias", d_bias, WIDE);
	gpt_device_free(x);
}

static void attention(void)
{
	const gpt_attention_shape shape = {CONTEXT, WIDTH, HEADS};
	size_t kept_count = WINDOWS * gpt_attention_kept(&shape);
	float *kept = device_new(kept_count * sizeof *kept);
	float *scratch = device_new(gpt_attention_scratch(&shape, WINDOWS) * sizeof *scratch);
	gpt_cell *qkv = cells(ROWS * 3 * WIDTH), *y = cells(ROWS * WIDTH), *d = cells(ROWS * WIDTH);
	gpt_cell *d_qkv = cells(ROWS * 3 * WIDTH), *some = cells(ROWS * WIDTH);

	check(gpt_attention_check(&shape, &err));
	gpt_attention_forward(some, kept, qkv, 35, 42, 1, &shape, scratch);
	gpt_attention_forward(y, kept, qkv, 0, CONTEXT, WINDOWS, &shape, scratch);
	gpt_attention_backward(d_qkv, d, y, kept, qkv, WINDOWS, &shape, scratch);
	put_cells("attention", y, ROWS * WIDTH);
	put_cells("attention.some", some, ROWS * WIDTH);
	put_cells("attention.d_qkv", d_qkv, ROWS * 3 * WIDTH);
	gpt_device_free(kept);
	gpt_device_free(scratch);
	gpt_device_free(qkv);
	gpt_device_free(d);
}

static void sums(void)
{
	unsigned char host[ROWS], *targets = bytes_new(host);
	float *logits = floats(ROWS * VOCABULARY), *plain = floats(ROWS * VOCABULARY);
	float *x = floats(100003), result[3];
	double *sum = device_new(sizeof *sum), total;
	float *scaled = device_new(sizeof *scaled);

	gpt_cross_entropy(sum, plain, targets, ROWS, VOCABULARY, 0);
	gpt_cross_entropy(sum, logits, targets, ROWS, VOCABULARY, 0.25f);
	gpt_scale(scaled, sum, 0.5);
	check(gpt_device_read(&result[0], scaled, sizeof result[0], &err));
	gpt_square_sum(sum, x, 100003);
	check(gpt_device_read(&total, sum, sizeof total, &err));
	result[1] = (float)total;
	gpt_square_sum(sum, x, 5);
	check(gpt_device_read(&total, sum, sizeof total, &err));
	result[2] = (float)total;
	put("cross_entropy.d", logits, ROWS * VOCABULARY);
	write_floats("sums", result, 3);
	gpt_device_free(plain);
	gpt_device_free(x);
	gpt_device_free(sum);
	gpt_device_free(scaled);
	gpt_device_free(targets);
}

static void step(const char *name, bool is_adamw)
{
	enum { COUNT = 1000 };
	gpt_update u = {
		.weights = floats(COUNT), .gradients = floats(COUNT), .m = floats(COUNT),
		.v = device_new(COUNT * sizeof(float)), .count = COUNT, .beta1 = 0.9f, .beta2 = 0.95f,
		.keep = 0.999f, .rate = 0.01f, .rescale = 1.5f, .scale = 0.7f,
	};
	char state[32];

	if (is_adamw)
		gpt_adamw(&u);
	else
		gpt_sgd(&u);
	put(name, u.weights, COUNT);
	snprintf(state, sizeof state, "%s.m", name);
	put(state, u.m, COUNT);
	snprintf(state, sizeof state, "%s.v", name);
	put(state, u.v, COUNT);
	gpt_device_free((float *)(uintptr_t)u.gradients);
}

/* The whole model: two passes on a CPU (6 windows of 45), one on a GPU. */
static void model(void)
{
	enum { BATCH = 6, TEXT = 1000 };
	unsigned char text[TEXT];
	const unsigned char *windows[BATCH];
	const gpt_shape shape = {WIDTH, HEADS, 2, CONTEXT};
	const float *logits;
	gpt_model *m;
	float loss;
	double evaluated;

	for (size_t i = 0; i < TEXT; i++)
		text[i] = (unsigned char)gpt_rng_below(256, 3, 8, 0, i);
	for (size_t i = 0; i < BATCH; i++)
		windows[i] = text + 97 * i;
	check(gpt_model_new(&m, &shape, BATCH, 5, &err));
	gpt_model_learn(m, windows, BATCH, NULL, NULL);
	check(gpt_model_loss(&evaluated, m, windows, BATCH, &err));
	loss = (float)evaluated;
	write_floats("model.loss", &loss, 1);
	check(gpt_device_read(&loss, gpt_model_gradients(m) + gpt_model_size(m) + GPT_LOSS, sizeof loss, &err));
	write_floats("model.learned", &loss, 1);
	for (size_t i = 0, count; i < (gpt_model_tensors(m, &count), count); i++) {
		const gpt_tensor *t = &gpt_model_tensors(m, &count)[i];
		float *copy = host_new(t->count * sizeof *copy);
		char name[64];

		check(gpt_device_read(copy, gpt_model_gradients(m) + t->offset, t->count * sizeof *copy, &err));
		snprintf(name, sizeof name, "model.%s", t->name);
		write_floats(name, copy, t->count);
		free(copy);
	}
	check(gpt_model_feed(&logits, m, text, 0, 20, &err));
	check(gpt_model_feed(&logits, m, text + 20, 20, 1, &err));
	write_floats("model.logits", logits, GPT_VOCABULARY);
	gpt_model_free(m);
}

int main(int argc, char **argv)
{
	gpt_options options = {.precision = argc > 1 ? argv[1] : "f32"};

	if (argc != 3 || !(out = fopen(argv[2], "wb")))
		return 2;
	check(gpt_device_open(&options, 0, &err));
	embedding();
	linear();
	norm();
	gelu();
	attention();
	sums();
	step("adamw", true);
	step("sgd", false);
	model();
	gpt_device_close();
	return fclose(out) ? 1 : 0;
}
