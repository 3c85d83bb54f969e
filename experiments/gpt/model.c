#include "model.h"

#include "attention.h"
#include "device.h"
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
enum { ALIGN_BYTES = 256 };    /* what a GPU reads fastest */

/* What one block keeps of a pass for the way back; rows x width each unless
 * said otherwise. What is added up along the blocks is floats. */
typedef struct block_pass {
	float *in, *stats1, *kept, *mid, *stats2;
	gpt_cell *norm1, *qkv, *mixed, *norm2; /* qkv: rows x 3 width */
	gpt_cell *up, *act;                    /* rows x 4 width */
} block_pass;

struct gpt_model {
	gpt_shape shape;
	gpt_attention_shape attention;
	size_t tensor_count, size, parameters;
	gpt_tensor *tensors;
	float *weights, *gradients;
	gpt_cell *operands;  /* the weights as cells: themselves, where cells are floats */
	size_t together;     /* windows in one pass */
	char *pass;          /* memory of everything below */
	block_pass *blocks;  /* depth of them */
	float *last, *stats, *logits, *scratch, *d_x;
	gpt_cell *norm, *cells;         /* rows x width, rows x max(width, vocabulary) */
	gpt_cell *d_narrow, *d_wide;    /* rows x width, 4 width */
	unsigned char *bytes, *targets;
	double *loss;
	unsigned char *host_bytes;      /* a pass of bytes and targets, gathered */
	float host_logits[GPT_VOCABULARY];
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

static const gpt_cell *operand(const gpt_model *m, size_t index)
{
	return gpt_device_at(m->operands, m->tensors[index].offset);
}

static const gpt_cell *block_operand(const gpt_model *m, size_t block, size_t index)
{
	return operand(m, GLOBALS + block * BLOCK + index);
}

/* Matrices are normal with deviation 1 / sqrt(3 width), which at the width of
 * GPT-2 is its 0.02 (Radford et al. 2019); those that write into the residual
 * stream (out, down) smaller by sqrt(2 depth), so that its variance does not
 * grow with depth. Gains are 1, biases 0. */
static void draw(const gpt_model *m, float *weights, uint64_t seed)
{
	for (size_t i = 0; i < m->tensor_count; i++) {
		const gpt_tensor *t = &m->tensors[i];
		float *w = weights + t->offset;
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

static int draw_weights(gpt_model *m, uint64_t seed, gpt_err *err)
{
	float *weights = calloc(m->size, sizeof *weights);

	if (!weights)
		return gpt_err_set(err, GPT_SYSTEM, "no memory to draw weights in");
	draw(m, weights, seed);
	gpt_device_write(m->weights, weights, m->size * sizeof *weights);
	free(weights);
	gpt_model_changed(m);
	return GPT_OK;
}

/* Cut so many bytes off *free_bytes; with it NULL only the total grows, so that
 * the same walk first measures and then places. */
static void *take(char **free_bytes, size_t *total, size_t bytes)
{
	char *taken = *free_bytes;

	bytes = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	*total += bytes;
	if (taken)
		*free_bytes += bytes;
	return taken;
}

static size_t place(gpt_model *m, char *at)
{
	size_t total = 0, rows = m->together * m->shape.context, c = m->shape.width;
	size_t kept = m->together * gpt_attention_kept(&m->attention);
	size_t f = sizeof(float), cell = gpt_device_cell_bytes();
	size_t widest = c > GPT_VOCABULARY ? c : GPT_VOCABULARY;

	for (size_t i = 0; i < m->shape.depth; i++) {
		block_pass *b = &m->blocks[i];

		b->in = take(&at, &total, rows * c * f);
		b->norm1 = take(&at, &total, rows * c * cell);
		b->stats1 = take(&at, &total, rows * 2 * f);
		b->qkv = take(&at, &total, rows * 3 * c * cell);
		b->kept = take(&at, &total, kept * f);
		b->mixed = take(&at, &total, rows * c * cell);
		b->mid = take(&at, &total, rows * c * f);
		b->norm2 = take(&at, &total, rows * c * cell);
		b->stats2 = take(&at, &total, rows * 2 * f);
		b->up = take(&at, &total, rows * 4 * c * cell);
		b->act = take(&at, &total, rows * 4 * c * cell);
	}
	m->last = take(&at, &total, rows * c * f);
	m->norm = take(&at, &total, rows * c * cell);
	m->stats = take(&at, &total, rows * 2 * f);
	m->logits = take(&at, &total, rows * GPT_VOCABULARY * f);
	m->scratch = take(&at, &total, gpt_attention_scratch(&m->attention, m->together) * f);
	m->d_x = take(&at, &total, rows * c * f);
	/* Nothing is converted into these where cells are floats. */
	m->cells = take(&at, &total, cell == f ? 0 : rows * widest * cell);
	m->d_narrow = take(&at, &total, rows * c * cell);
	m->d_wide = take(&at, &total, rows * 4 * c * cell);
	m->bytes = take(&at, &total, 2 * rows);
	m->targets = at ? m->bytes + rows : NULL;
	m->loss = take(&at, &total, sizeof *m->loss);
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
	return gpt_attention_check(&(gpt_attention_shape){s->context, s->width, s->heads}, err);
}

static int allocate(gpt_model *m)
{
	size_t cell = gpt_device_cell_bytes();

	m->weights = gpt_device_new(m->size * sizeof *m->weights);
	m->gradients = gpt_device_new((m->size + GPT_SPARE) * sizeof *m->gradients);
	m->operands = cell == sizeof(float) ? (gpt_cell *)m->weights : gpt_device_new(m->size * cell);
	m->pass = gpt_device_new(place(m, NULL));
	m->host_bytes = malloc(2 * m->together * m->shape.context);
	if (!m->weights || !m->gradients || !m->operands || !m->pass || !m->host_bytes)
		return -1;
	place(m, m->pass);
	return 0;
}

int gpt_model_new(gpt_model **model, const gpt_shape *shape, size_t windows, uint64_t seed,
                  gpt_err *err)
{
	gpt_model *m = NULL;
	size_t rows = gpt_device_rows();
	int status = check_shape(shape, err);

	*model = NULL;
	if (status)
		return status;
	m = calloc(1, sizeof *m);
	if (!m)
		goto no_memory;
	m->shape = *shape;
	m->attention = (gpt_attention_shape){shape->context, shape->width, shape->heads};
	m->together = shape->context >= rows ? 1 : rows / shape->context;
	m->together = m->together < windows ? m->together : windows;
	m->tensors = calloc(GLOBALS + shape->depth * BLOCK, sizeof *m->tensors);
	m->blocks = calloc(shape->depth, sizeof *m->blocks);
	if (!m->tensors || !m->blocks)
		goto no_memory;
	lay_out(m);
	if (allocate(m))
		goto no_memory;
	status = draw_weights(m, seed, err);
	if (status)
		gpt_model_free(m);
	else
		*model = m;
	return status;
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
	if (model->operands != (gpt_cell *)model->weights)
		gpt_device_free(model->operands);
	gpt_device_free(model->weights);
	gpt_device_free(model->gradients);
	gpt_device_free(model->pass);
	free(model->tensors);
	free(model->blocks);
	free(model->host_bytes);
	free(model);
}

void gpt_model_changed(gpt_model *model)
{
	if (model->operands != (gpt_cell *)model->weights)
		(void)gpt_cells_of(model->operands, model->weights, model->size);
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

static gpt_cell *row(gpt_cell *cells, size_t at, size_t width)
{
	return gpt_device_at(cells, at * width);
}

static void forward_block(gpt_model *m, size_t i, span s)
{
	block_pass *b = &m->blocks[i];
	size_t c = m->shape.width, at = s.at, rows = s.rows;
	float *out = i + 1 < m->shape.depth ? m->blocks[i + 1].in : m->last;
	float *w = m->weights;

	gpt_norm_forward(row(b->norm1, at, c), b->stats1 + at * 2, b->in + at * c,
	                 block_part(m, w, i, NORM1_GAIN), block_part(m, w, i, NORM1_BIAS), rows,
	                 c);
	gpt_linear_forward(row(b->qkv, at, 3 * c), row(b->norm1, at, c),
	                   block_operand(m, i, QKV_WEIGHT), block_part(m, w, i, QKV_BIAS), rows,
	                   c, 3 * c);
	gpt_attention_forward(b->mixed, b->kept, b->qkv, at,
	                      s.windows > 1 ? m->shape.context : at + rows, s.windows,
	                      &m->attention, m->scratch);
	gpt_linear_residual(b->mid + at * c, b->in + at * c, row(b->mixed, at, c),
	                    block_operand(m, i, OUT_WEIGHT), block_part(m, w, i, OUT_BIAS), rows,
	                    c, c);
	gpt_norm_forward(row(b->norm2, at, c), b->stats2 + at * 2, b->mid + at * c,
	                 block_part(m, w, i, NORM2_GAIN), block_part(m, w, i, NORM2_BIAS), rows,
	                 c);
	gpt_linear_forward(row(b->up, at, 4 * c), row(b->norm2, at, c),
	                   block_operand(m, i, UP_WEIGHT), block_part(m, w, i, UP_BIAS), rows, c,
	                   4 * c);
	gpt_gelu_forward(row(b->act, at, 4 * c), row(b->up, at, 4 * c), rows * 4 * c);
	gpt_linear_residual(out + at * c, b->mid + at * c, row(b->act, at, 4 * c),
	                    block_operand(m, i, DOWN_WEIGHT), block_part(m, w, i, DOWN_BIAS),
	                    rows, 4 * c, c);
}

static void forward(gpt_model *m, span s)
{
	size_t c = m->shape.width;

	gpt_embed_forward(m->blocks[0].in + s.at * c, m->bytes + s.at, part(m, m->weights, TOKEN),
	                  part(m, m->weights, POSITION), s.at, s.rows, m->shape.context, c);
	for (size_t i = 0; i < m->shape.depth; i++)
		forward_block(m, i, s);
	gpt_norm_forward(row(m->norm, s.at, c), m->stats + s.at * 2, m->last + s.at * c,
	                 part(m, m->weights, LAST_GAIN), part(m, m->weights, LAST_BIAS), s.rows,
	                 c);
}

/* Adds the loss of the windows of one pass to *m->loss; logits become their
 * gradient when scale is not 0. */
static void pass_loss(gpt_model *m, const unsigned char *const *windows, span s, float scale)
{
	size_t t = m->shape.context, rows = m->together * t;

	for (size_t i = 0; i < s.windows; i++) {
		memcpy(m->host_bytes + i * t, windows[i], t);
		memcpy(m->host_bytes + rows + i * t, windows[i] + 1, t);
	}
	gpt_device_write(m->bytes, m->host_bytes, s.rows);
	gpt_device_write(m->targets, m->host_bytes + rows, s.rows);
	forward(m, s);
	gpt_linear_logits(m->logits, m->norm, operand(m, HEAD), s.rows, m->shape.width,
	                  GPT_VOCABULARY);
	gpt_cross_entropy(m->loss, m->logits, m->targets, s.rows, GPT_VOCABULARY, scale);
}

/* d_x holds the gradient of the block's output and becomes that of its input. */
static void backward_block(gpt_model *m, size_t i, span s)
{
	block_pass *b = &m->blocks[i];
	size_t c = m->shape.width, rows = s.rows;
	float *w = m->weights, *g = m->gradients;

	gpt_linear_backward(m->d_wide, block_part(m, g, i, DOWN_WEIGHT),
	                    block_part(m, g, i, DOWN_BIAS), gpt_cells_of(m->cells, m->d_x, rows * c),
	                    b->act, block_operand(m, i, DOWN_WEIGHT), rows, 4 * c, c);
	gpt_gelu_backward(m->d_wide, block_part(m, g, i, UP_BIAS), b->up, rows, 4 * c);
	gpt_linear_backward(m->d_narrow, block_part(m, g, i, UP_WEIGHT), NULL, m->d_wide,
	                    b->norm2, block_operand(m, i, UP_WEIGHT), rows, c, 4 * c);
	gpt_norm_backward(m->d_x, block_part(m, g, i, NORM2_GAIN),
	                  block_part(m, g, i, NORM2_BIAS), m->d_narrow, b->mid, b->stats2,
	                  block_part(m, w, i, NORM2_GAIN), rows, c);
	gpt_linear_backward(m->d_narrow, block_part(m, g, i, OUT_WEIGHT),
	                    block_part(m, g, i, OUT_BIAS), gpt_cells_of(m->cells, m->d_x, rows * c),
	                    b->mixed, block_operand(m, i, OUT_WEIGHT), rows, c, c);
	gpt_attention_backward(m->d_wide, m->d_narrow, b->mixed, b->kept, b->qkv, s.windows,
	                       &m->attention, m->scratch);
	gpt_linear_backward(m->d_narrow, block_part(m, g, i, QKV_WEIGHT),
	                    block_part(m, g, i, QKV_BIAS), m->d_wide, b->norm1,
	                    block_operand(m, i, QKV_WEIGHT), rows, c, 3 * c);
	gpt_norm_backward(m->d_x, block_part(m, g, i, NORM1_GAIN),
	                  block_part(m, g, i, NORM1_BIAS), m->d_narrow, b->in, b->stats1,
	                  block_part(m, w, i, NORM1_GAIN), rows, c);
}

/* Tell that the gradients from tensor `index` to where the last telling began
 * are final. */
static void tell(const gpt_model *m, size_t index, size_t *end, gpt_ready *ready, void *context)
{
	size_t at = m->tensors[index].offset;

	if (ready)
		ready(context, at, *end - at);
	*end = at;
}

static void backward(gpt_model *m, span s, gpt_ready *ready, void *context)
{
	size_t c = m->shape.width, end = m->size + GPT_SPARE;
	float *w = m->weights, *g = m->gradients;

	gpt_linear_backward(m->d_narrow, part(m, g, HEAD), NULL,
	                    gpt_cells_of(m->cells, m->logits, s.rows * GPT_VOCABULARY), m->norm,
	                    operand(m, HEAD), s.rows, c, GPT_VOCABULARY);
	gpt_device_zero(m->d_x, s.rows * c * sizeof *m->d_x);
	gpt_norm_backward(m->d_x, part(m, g, LAST_GAIN), part(m, g, LAST_BIAS), m->d_narrow,
	                  m->last, m->stats, part(m, w, LAST_GAIN), s.rows, c);
	for (size_t i = m->shape.depth; i-- > 0;) {
		backward_block(m, i, s);
		tell(m, GLOBALS + i * BLOCK, &end, ready, context);
	}
	gpt_embed_backward(part(m, g, TOKEN), part(m, g, POSITION), m->d_x, m->bytes, s.rows,
	                   m->shape.context, c);
	tell(m, 0, &end, ready, context);
}

static span pass_span(const gpt_model *m, size_t left)
{
	size_t windows = left < m->together ? left : m->together;

	return (span){.at = 0, .rows = windows * m->shape.context, .windows = windows};
}

int gpt_model_loss(double *loss, gpt_model *model, const unsigned char *const *windows,
                   size_t count, gpt_err *err)
{
	int status;
	span s;

	gpt_device_zero(model->loss, sizeof *model->loss);
	for (size_t i = 0; i < count; i += s.windows) {
		s = pass_span(model, count - i);
		pass_loss(model, windows + i, s, 0);
	}
	status = gpt_device_read(loss, model->loss, sizeof *loss, err);
	*loss /= (double)(count * model->shape.context);
	return status;
}

void gpt_model_learn(gpt_model *model, const unsigned char *const *windows, size_t count,
                     gpt_ready *ready, void *context)
{
	double mean = 1.0 / (double)(count * model->shape.context);
	span s;

	gpt_device_zero(model->gradients, model->size * sizeof *model->gradients);
	gpt_device_zero(model->loss, sizeof *model->loss);
	for (size_t i = 0; i < count; i += s.windows) {
		bool is_last;

		s = pass_span(model, count - i);
		is_last = i + s.windows == count;
		pass_loss(model, windows + i, s, (float)mean);
		if (is_last)
			gpt_scale(model->gradients + model->size + GPT_LOSS, model->loss, mean);
		backward(model, s, is_last ? ready : NULL, context);
	}
}

int gpt_model_feed(const float **logits, gpt_model *model, const unsigned char *bytes, size_t at,
                   size_t count, gpt_err *err)
{
	span s = {.at = at, .rows = count, .windows = 1};
	size_t c = model->shape.width;

	assert(count > 0 && at + count <= model->shape.context);
	gpt_device_write(model->bytes + at, bytes, count);
	forward(model, s);
	gpt_linear_logits(model->logits, row(model->norm, at + count - 1, c), operand(model, HEAD), 1,
	                  c, GPT_VOCABULARY);
	*logits = model->host_logits;
	return gpt_device_read(model->host_logits, model->logits, sizeof model->host_logits, err);
}
