#include "model.h"

#include "attention.h"
#include "kernel.h"
#include "rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Order of tensors in the arena: these five, then twelve for each block. */
enum { TOKEN, POSITION, LAST_GAIN, LAST_BIAS, HEAD, GLOBALS };
enum {
	NORM1_GAIN, NORM1_BIAS, QKV_WEIGHT, QKV_BIAS, OUT_WEIGHT, OUT_BIAS,
	NORM2_GAIN, NORM2_BIAS, UP_WEIGHT, UP_BIAS, DOWN_WEIGHT, DOWN_BIAS, BLOCK
};

enum { ALIGN = 16 };           /* floats: one cache line */
enum { ROWS_AT_ONCE = 256 };   /* tokens that go through the layers together */

/* What one block keeps of a pass for the way back; rows x width each unless
 * said otherwise. */
typedef struct block_pass {
	float *in, *norm1, *stats1, *qkv, *prob, *mixed, *mid, *norm2, *stats2;
	float *up, *act; /* rows x 4 width */
} block_pass;

struct gpt_model {
	gpt_shape shape;
	gpt_attention_shape attention;
	size_t tensor_count, size, parameters;
	gpt_tensor *tensors;
	float *weights, *gradients;
	size_t together;     /* windows in one pass */
	float *pass;         /* memory of everything below */
	block_pass *blocks;  /* depth of them */
	float *last, *norm, *stats, *logits, *scratch;
	float *d_x, *d_narrow, *d_wide; /* rows x width, width, 4 width */
	unsigned char *targets;
};

static void add_tensor(gpt_model *m, const char *name, size_t rows, size_t columns, int decays)
{
	gpt_tensor *t = &m->tensors[m->tensor_count++];

	snprintf(t->name, sizeof t->name, "%s", name);
	t->offset = m->size;
	t->count = rows * columns;
	t->ndim = rows > 1 ? 2 : 1;
	t->shape[0] = (int64_t)(rows > 1 ? rows : columns);
	t->shape[1] = (int64_t)columns;
	t->decays = decays;
	m->parameters += t->count;
	m->size = (m->size + t->count + ALIGN - 1) / ALIGN * ALIGN;
}

static void add_block(gpt_model *m, size_t index)
{
	static const struct {
		const char *name;
		size_t rows, columns; /* in widths; rows 0: a vector */
	} parts[BLOCK] = {
		[NORM1_GAIN] = {"norm1.gain", 0, 1},   [NORM1_BIAS] = {"norm1.bias", 0, 1},
		[QKV_WEIGHT] = {"qkv.weight", 1, 3},   [QKV_BIAS] = {"qkv.bias", 0, 3},
		[OUT_WEIGHT] = {"out.weight", 1, 1},   [OUT_BIAS] = {"out.bias", 0, 1},
		[NORM2_GAIN] = {"norm2.gain", 0, 1},   [NORM2_BIAS] = {"norm2.bias", 0, 1},
		[UP_WEIGHT] = {"up.weight", 1, 4},     [UP_BIAS] = {"up.bias", 0, 4},
		[DOWN_WEIGHT] = {"down.weight", 4, 1}, [DOWN_BIAS] = {"down.bias", 0, 1},
	};
	size_t c = m->shape.width;
	char name[sizeof m->tensors->name];

	for (size_t i = 0; i < BLOCK; i++) {
		snprintf(name, sizeof name, "block.%zu.%s", index, parts[i].name);
		add_tensor(m, name, parts[i].rows ? parts[i].rows * c : 1, parts[i].columns * c,
		           parts[i].rows != 0);
	}
}

static void lay_out(gpt_model *m)
{
	size_t c = m->shape.width;

	add_tensor(m, "token", GPT_VOCABULARY, c, 0);
	add_tensor(m, "position", m->shape.context, c, 0);
	add_tensor(m, "last.gain", 1, c, 0);
	add_tensor(m, "last.bias", 1, c, 0);
	add_tensor(m, "head.weight", c, GPT_VOCABULARY, 1);
	for (size_t i = 0; i < m->shape.depth; i++)
		add_block(m, i);
}

static float *part(const gpt_model *m, float *arena, size_t index)
{
	return arena + m->tensors[index].offset;
}

static float *block_part(const gpt_model *m, float *arena, size_t block, size_t index)
{
	return part(m, arena, GLOBALS + block * BLOCK + index);
}

/* Matrices are normal with deviation 1 / sqrt(3 width), which at the width of
 * GPT-2 is its 0.02 (Radford et al. 2019); those that write into the residual
 * stream (out, down) smaller by sqrt(2 depth), so that its variance does not
 * grow with depth. Gains are 1, biases 0. */
static void draw(gpt_model *m, uint64_t seed)
{
	for (size_t i = 0; i < m->tensor_count; i++) {
		const gpt_tensor *t = &m->tensors[i];
		float *w = m->weights + t->offset;
		size_t kind = i < GLOBALS ? BLOCK : (i - GLOBALS) % BLOCK;
		double deviation = 1.0 / sqrt(3.0 * (double)m->shape.width);

		if (i == LAST_GAIN || kind == NORM1_GAIN || kind == NORM2_GAIN)
			for (size_t j = 0; j < t->count; j++)
				w[j] = 1;
		if (t->ndim == 1)
			continue;
		if (kind == OUT_WEIGHT || kind == DOWN_WEIGHT)
			deviation /= sqrt(2.0 * (double)m->shape.depth);
		for (size_t j = 0; j < t->count; j++)
			w[j] = (float)(deviation * gpt_rng_normal(seed, 1, i, j));
	}
}

static float *floats_new(size_t count)
{
	size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
	float *floats = aligned_alloc(64, bytes);

	if (floats)
		memset(floats, 0, bytes);
	return floats;
}

/* Cut `count` floats off *free; with *free NULL only the total grows, so that
 * the same walk first measures and then places. */
static float *take(float **free_floats, size_t *total, size_t count)
{
	float *taken = *free_floats;

	count = (count + ALIGN - 1) / ALIGN * ALIGN;
	*total += count;
	if (taken)
		*free_floats += count;
	return taken;
}

static size_t place(gpt_model *m, float *at)
{
	size_t total = 0, rows = m->together * m->shape.context, c = m->shape.width;
	size_t kept = m->together * gpt_attention_kept(&m->attention);

	for (size_t i = 0; i < m->shape.depth; i++) {
		block_pass *b = &m->blocks[i];

		b->in = take(&at, &total, rows * c);
		b->norm1 = take(&at, &total, rows * c);
		b->stats1 = take(&at, &total, rows * 2);
		b->qkv = take(&at, &total, rows * 3 * c);
		b->prob = take(&at, &total, kept);
		b->mixed = take(&at, &total, rows * c);
		b->mid = take(&at, &total, rows * c);
		b->norm2 = take(&at, &total, rows * c);
		b->stats2 = take(&at, &total, rows * 2);
		b->up = take(&at, &total, rows * 4 * c);
		b->act = take(&at, &total, rows * 4 * c);
	}
	m->last = take(&at, &total, rows * c);
	m->norm = take(&at, &total, rows * c);
	m->stats = take(&at, &total, rows * 2);
	m->logits = take(&at, &total, rows * GPT_VOCABULARY);
	m->scratch = take(&at, &total, gpt_attention_scratch(&m->attention));
	m->d_x = take(&at, &total, rows * c);
	m->d_narrow = take(&at, &total, rows * c);
	m->d_wide = take(&at, &total, rows * 4 * c);
	m->targets = (unsigned char *)take(&at, &total, rows);
	return total;
}

static int check_shape(const gpt_shape *s, gpt_err *err)
{
	const struct {
		const char *name;
		size_t value, max;
	} limits[] = {
		{"width", s->width, 8192},
		{"heads", s->heads, 1024},
		{"depth", s->depth, 256},
		{"context", s->context, 8192},
	};

	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		if (limits[i].value < 1 || limits[i].value > limits[i].max)
			return gpt_err_set(err, GPT_MISTAKE, "--%s=%zu: expected 1 to %zu",
			                   limits[i].name, limits[i].value, limits[i].max);
	if (s->width % s->heads)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "--heads=%zu: expected a divisor of --width=%zu", s->heads,
		                   s->width);
	return GPT_OK;
}

int gpt_model_new(gpt_model **model, const gpt_shape *shape, uint64_t seed, gpt_err *err)
{
	gpt_model *m = NULL;
	int status = check_shape(shape, err);

	*model = NULL;
	if (status)
		return status;
	m = calloc(1, sizeof *m);
	if (!m)
		goto no_memory;
	m->shape = *shape;
	m->attention = (gpt_attention_shape){shape->context, shape->width, shape->heads};
	m->together = shape->context >= ROWS_AT_ONCE ? 1 : ROWS_AT_ONCE / shape->context;
	m->tensors = calloc(GLOBALS + shape->depth * BLOCK, sizeof *m->tensors);
	m->blocks = calloc(shape->depth, sizeof *m->blocks);
	if (!m->tensors || !m->blocks)
		goto no_memory;
	lay_out(m);
	m->weights = floats_new(m->size);
	m->gradients = floats_new(m->size + GPT_SPARE);
	m->pass = floats_new(place(m, NULL));
	if (!m->weights || !m->gradients || !m->pass)
		goto no_memory;
	place(m, m->pass);
	draw(m, seed);
	*model = m;
	return GPT_OK;
no_memory:
	gpt_model_free(m);
	return gpt_err_set(err, GPT_SYSTEM,
	                   "no memory for a model of width %zu, depth %zu, context %zu",
	                   shape->width, shape->depth, shape->context);
}

void gpt_model_free(gpt_model *model)
{
	if (!model)
		return;
	free(model->tensors);
	free(model->blocks);
	free(model->weights);
	free(model->gradients);
	free(model->pass);
	free(model);
}

const gpt_tensor *gpt_model_tensors(const gpt_model *model, size_t *count)
{
	*count = model->tensor_count;
	return model->tensors;
}

float *gpt_model_weights(gpt_model *model)
{
	return model->weights;
}

float *gpt_model_gradients(gpt_model *model)
{
	return model->gradients;
}

size_t gpt_model_size(const gpt_model *model)
{
	return model->size;
}

size_t gpt_model_parameters(const gpt_model *model)
{
	return model->parameters;
}

/* Rows [at, at + rows) of a pass over `windows` sequences. With more than one
 * sequence, at is 0 and rows spans them all. */
typedef struct span {
	size_t at, rows, windows;
} span;

static void attend(gpt_model *m, block_pass *b, span s)
{
	size_t t = m->shape.context, c = m->shape.width;
	size_t kept = gpt_attention_kept(&m->attention);
	size_t last = s.windows > 1 ? t : s.at + s.rows;

	for (size_t i = 0; i < s.windows; i++)
		gpt_attention_forward(b->mixed + i * t * c, b->prob + i * kept,
		                      b->qkv + i * t * 3 * c, s.at, last, &m->attention,
		                      m->scratch);
}

static void forward_block(gpt_model *m, size_t i, span s)
{
	block_pass *b = &m->blocks[i];
	size_t c = m->shape.width, at = s.at, rows = s.rows;
	float *out = i + 1 < m->shape.depth ? m->blocks[i + 1].in : m->last;
	float *w = m->weights;

	gpt_norm_forward(b->norm1 + at * c, b->stats1 + at * 2, b->in + at * c,
	                 block_part(m, w, i, NORM1_GAIN), block_part(m, w, i, NORM1_BIAS), rows,
	                 c);
	gpt_linear_forward(b->qkv + at * 3 * c, b->norm1 + at * c,
	                   block_part(m, w, i, QKV_WEIGHT), block_part(m, w, i, QKV_BIAS), rows,
	                   c, 3 * c);
	attend(m, b, s);
	gpt_linear_residual(b->mid + at * c, b->in + at * c, b->mixed + at * c,
	                    block_part(m, w, i, OUT_WEIGHT), block_part(m, w, i, OUT_BIAS), rows,
	                    c, c);
	gpt_norm_forward(b->norm2 + at * c, b->stats2 + at * 2, b->mid + at * c,
	                 block_part(m, w, i, NORM2_GAIN), block_part(m, w, i, NORM2_BIAS), rows,
	                 c);
	gpt_linear_forward(b->up + at * 4 * c, b->norm2 + at * c, block_part(m, w, i, UP_WEIGHT),
	                   block_part(m, w, i, UP_BIAS), rows, c, 4 * c);
	gpt_gelu_forward(b->act + at * 4 * c, b->up + at * 4 * c, rows * 4 * c);
	gpt_linear_residual(out + at * c, b->mid + at * c, b->act + at * 4 * c,
	                    block_part(m, w, i, DOWN_WEIGHT), block_part(m, w, i, DOWN_BIAS),
	                    rows, 4 * c, c);
}

/* One sequence's bytes at positions [at, at + count) into rows from `row`. */
static void embed(gpt_model *m, const unsigned char *bytes, size_t row, size_t at, size_t count)
{
	size_t c = m->shape.width;
	const float *token = part(m, m->weights, TOKEN);
	const float *position = part(m, m->weights, POSITION);
	float *to = m->blocks[0].in + row * c;

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < c; j++)
			to[i * c + j] = token[bytes[i] * c + j] + position[(at + i) * c + j];
}

static void forward(gpt_model *m, span s)
{
	size_t c = m->shape.width;

	for (size_t i = 0; i < m->shape.depth; i++)
		forward_block(m, i, s);
	gpt_norm_forward(m->norm + s.at * c, m->stats + s.at * 2, m->last + s.at * c,
	                 part(m, m->weights, LAST_GAIN), part(m, m->weights, LAST_BIAS), s.rows,
	                 c);
}

/* Loss summed over the windows of one pass; logits become their gradient when
 * scale is not 0. */
static double pass_loss(gpt_model *m, const unsigned char *const *windows, span s, float scale)
{
	size_t t = m->shape.context;

	for (size_t i = 0; i < s.windows; i++) {
		embed(m, windows[i], i * t, 0, t);
		memcpy(m->targets + i * t, windows[i] + 1, t);
	}
	forward(m, s);
	gpt_linear_forward(m->logits, m->norm, part(m, m->weights, HEAD), NULL, s.rows,
	                   m->shape.width, GPT_VOCABULARY);
	return gpt_cross_entropy(m->logits, m->targets, s.rows, GPT_VOCABULARY, scale);
}

/* d_x holds the gradient of the block's output and becomes that of its input. */
static void backward_block(gpt_model *m, size_t i, span s)
{
	block_pass *b = &m->blocks[i];
	size_t c = m->shape.width, t = m->shape.context, rows = s.rows;
	size_t kept = gpt_attention_kept(&m->attention);
	float *w = m->weights, *g = m->gradients;

	gpt_linear_backward(m->d_wide, block_part(m, g, i, DOWN_WEIGHT),
	                    block_part(m, g, i, DOWN_BIAS), m->d_x, b->act,
	                    block_part(m, w, i, DOWN_WEIGHT), rows, 4 * c, c);
	gpt_gelu_backward(m->d_wide, block_part(m, g, i, UP_BIAS), b->up, rows, 4 * c);
	gpt_linear_backward(m->d_narrow, block_part(m, g, i, UP_WEIGHT), NULL, m->d_wide,
	                    b->norm2, block_part(m, w, i, UP_WEIGHT), rows, c, 4 * c);
	gpt_norm_backward(m->d_x, block_part(m, g, i, NORM2_GAIN),
	                  block_part(m, g, i, NORM2_BIAS), m->d_narrow, b->mid, b->stats2,
	                  block_part(m, w, i, NORM2_GAIN), rows, c);
	gpt_linear_backward(m->d_narrow, block_part(m, g, i, OUT_WEIGHT),
	                    block_part(m, g, i, OUT_BIAS), m->d_x, b->mixed,
	                    block_part(m, w, i, OUT_WEIGHT), rows, c, c);
	for (size_t n = 0; n < s.windows; n++)
		gpt_attention_backward(m->d_wide + n * t * 3 * c, m->d_narrow + n * t * c,
		                       b->prob + n * kept, b->qkv + n * t * 3 * c, t,
		                       &m->attention, m->scratch);
	gpt_linear_backward(m->d_narrow, block_part(m, g, i, QKV_WEIGHT),
	                    block_part(m, g, i, QKV_BIAS), m->d_wide, b->norm1,
	                    block_part(m, w, i, QKV_WEIGHT), rows, c, 3 * c);
	gpt_norm_backward(m->d_x, block_part(m, g, i, NORM1_GAIN),
	                  block_part(m, g, i, NORM1_BIAS), m->d_narrow, b->in, b->stats1,
	                  block_part(m, w, i, NORM1_GAIN), rows, c);
}

static void backward(gpt_model *m, const unsigned char *const *windows, span s)
{
	size_t c = m->shape.width, t = m->shape.context;
	float *w = m->weights, *g = m->gradients;
	float *token = part(m, g, TOKEN), *position = part(m, g, POSITION);

	gpt_linear_backward(m->d_narrow, part(m, g, HEAD), NULL, m->logits, m->norm,
	                    part(m, w, HEAD), s.rows, c, GPT_VOCABULARY);
	memset(m->d_x, 0, s.rows * c * sizeof *m->d_x);
	gpt_norm_backward(m->d_x, part(m, g, LAST_GAIN), part(m, g, LAST_BIAS), m->d_narrow,
	                  m->last, m->stats, part(m, w, LAST_GAIN), s.rows, c);
	for (size_t i = m->shape.depth; i-- > 0;)
		backward_block(m, i, s);
	for (size_t i = 0; i < s.rows; i++) {
		const float *d = m->d_x + i * c;
		float *to_token = token + windows[i / t][i % t] * c;
		float *to_position = position + i % t * c;

		for (size_t j = 0; j < c; j++) {
			to_token[j] += d[j];
			to_position[j] += d[j];
		}
	}
}

static span pass_span(const gpt_model *m, size_t left)
{
	size_t windows = left < m->together ? left : m->together;

	return (span){.at = 0, .rows = windows * m->shape.context, .windows = windows};
}

double gpt_model_loss(gpt_model *model, const unsigned char *const *windows, size_t count)
{
	double total = 0;
	span s;

	for (size_t i = 0; i < count; i += s.windows) {
		s = pass_span(model, count - i);
		total += pass_loss(model, windows + i, s, 0);
	}
	return total / (double)(count * model->shape.context);
}

double gpt_model_learn(gpt_model *model, const unsigned char *const *windows, size_t count)
{
	float scale = 1.0f / (float)(count * model->shape.context);
	double total = 0;
	span s;

	memset(model->gradients, 0, model->size * sizeof *model->gradients);
	for (size_t i = 0; i < count; i += s.windows) {
		s = pass_span(model, count - i);
		total += pass_loss(model, windows + i, s, scale);
		backward(model, windows + i, s);
	}
	return total / (double)(count * model->shape.context);
}

const float *gpt_model_feed(gpt_model *model, const unsigned char *bytes, size_t at, size_t count)
{
	span s = {.at = at, .rows = count, .windows = 1};
	size_t c = model->shape.width;

	assert(count > 0 && at + count <= model->shape.context);
	embed(model, bytes, at, at, count);
	forward(model, s);
	gpt_linear_forward(model->logits, model->norm + (at + count - 1) * c,
	                   part(model, model->weights, HEAD), NULL, 1, c, GPT_VOCABULARY);
	return model->logits;
}
