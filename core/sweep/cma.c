#include "sweep/cma.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/cma_choice.h"
#include "sweep/eigen.h"
#include "sweep/real.h"

#define SIGMA_BEGIN (1.0 / 6)
#define SIGMA_MAX 1e32
#define WIDTH_MIN 1e-12            /* in units: narrower than that nothing is found */
#define VALUES_RANGE_MIN 1e-12
#define CONDITION_MAX 1e14
#define HISTORY_MAX 1000

typedef struct rates {
	int mu;
	double mu_eff, c1, cmu, cc, cs, ds, chi;
} rates;

struct pio_cma {
	int axes_count, n, choices_count;  /* axes, of which numbers, of which choices */
	pio_axis axes[PIO_CMA_AXES_MAX];
	int number[PIO_CMA_AXES_MAX], choice[PIO_CMA_AXES_MAX]; /* which axis each is */
	int counts[PIO_CMA_AXES_MAX];      /* of each choice */
	int population, generation, told;
	int age, begun;            /* generations of all searches; when this one began */
	rates rates;
	double sigma, decay;               /* decay: (1 - cs)^(2 generation) */
	double *numbers;                   /* of which all the arrays are parts */
	double *mean, *ps, *pc, *margin, *roots, *y, *turned; /* n each; roots: of eigenvalues */
	double *c, *b, *work;              /* n x n */
	pio_cma_choice choices;
	double *batch, *rows, *values, *weights; /* of a generation; rows: latents; its own array */
	int *order, *drawn_in;
	double history[HISTORY_MAX];       /* the best value of each generation, round and round */
	bool is_over;
};

/* ---- life ----------------------------------------------------------------------------- */

static double *part(double **from, size_t count)
{
	double *here = *from;
	*from += count;
	return here;
}

int pio_cma_new(pio_cma **out, const pio_axis *axes, int axes_count, int population, pio_err *err)
{
	assert(axes_count >= 1 && axes_count <= PIO_CMA_AXES_MAX);
	pio_cma *cma = pio_calloc(1, sizeof *cma);
	if (!cma)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a search of %d parameters", axes_count);
	cma->axes_count = axes_count;
	for (int a = 0; a < axes_count; a++) {
		cma->axes[a] = axes[a];
		if (axes[a].kind == PIO_AXIS_CHOICE) {
			cma->counts[cma->choices_count] = (int)axes[a].last + 1;
			cma->choice[cma->choices_count++] = a;
		} else {
			cma->number[cma->n++] = a;
		}
	}
	size_t n = (size_t)cma->n, room = pio_cma_choice_room(cma->counts, cma->choices_count);
	cma->numbers = pio_calloc(7 * n + 3 * n * n + 3 * room + 1, sizeof *cma->numbers);
	if (!cma->numbers) {
		pio_cma_free(cma);
		return pio_fail(err, PIO_ENOMEM, "out of memory for a search of %d parameters", axes_count);
	}
	double *next = cma->numbers, **vectors[] = { &cma->mean, &cma->ps, &cma->pc, &cma->margin,
		                                     &cma->roots, &cma->y, &cma->turned };
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
		*vectors[i] = part(&next, n);
	cma->c = part(&next, n * n);
	cma->b = part(&next, n * n);
	cma->work = part(&next, n * n);
	cma->choices = (pio_cma_choice){ .axes_count = cma->choices_count, .counts = cma->counts };
	cma->choices.q = part(&next, room);
	cma->choices.gradient = part(&next, room);
	cma->choices.path = part(&next, room);
	int rc = pio_cma_begin(cma, NULL, SIGMA_BEGIN, population, err);
	if (rc)
		pio_cma_free(cma);
	else
		*out = cma;
	return rc;
}

void pio_cma_free(pio_cma *cma)
{
	if (!cma)
		return;
	pio_free(cma->numbers);
	pio_free(cma->batch);
	pio_free(cma->order);
	pio_free(cma);
}

static double squared(double x)
{
	return x * x;
}

/* Weights of ranks, and the rates that follow from them (section 4 and table 1 of the
 * tutorial). */
static void set_rates(pio_cma *cma)
{
	int lambda = cma->population, mu = lambda / 2;
	double n = cma->n ? cma->n : 1, *w = cma->weights;
	double sums[2] = { 0, 0 }, squares[2] = { 0, 0 };
	for (int i = 0; i < lambda; i++) {
		w[i] = pio_real_log(0.5 * (lambda + 1)) - pio_real_log(i + 1);
		sums[i >= mu] += w[i];
		squares[i >= mu] += w[i] * w[i];
	}
	rates *r = &cma->rates;
	r->mu = mu;
	r->mu_eff = squared(sums[0]) / squares[0];
	r->c1 = 2 / (squared(n + 1.3) + r->mu_eff);
	r->cmu = fmin(1 - r->c1 - 1e-8, 2 * (r->mu_eff - 2 + 1 / r->mu_eff) / (squared(n + 2) + r->mu_eff));
	r->cs = (r->mu_eff + 2) / (n + r->mu_eff + 5);
	r->ds = 1 + 2 * fmax(0, sqrt((r->mu_eff - 1) / (n + 1)) - 1) + r->cs;
	r->cc = (4 + r->mu_eff / n) / (n + 4 + 2 * r->mu_eff / n);
	r->chi = sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
	double mu_eff_worse = squared(sums[1]) / squares[1];
	double worse = fmin(fmin(1 + r->c1 / r->cmu, 1 + 2 * mu_eff_worse / (r->mu_eff + 2)),
	                    (1 - r->c1 - r->cmu) / (n * r->cmu));
	double below = 0;
	for (int i = 0; i < lambda; i++)
		below -= w[i] < 0 ? w[i] : 0;
	double above = sums[0] + sums[1] + below;
	for (int i = 0; i < lambda; i++)
		w[i] *= w[i] < 0 ? worse / below : 1 / above;
}

int pio_cma_begin(pio_cma *cma, const double *mean, double sigma, int population, pio_err *err)
{
	if (!population)
		population = 4 + (int)(3 * pio_real_log(cma->axes_count));
	size_t n = (size_t)cma->n, lambda = population < 4 ? 4 : (size_t)population;
	double *batch = pio_alloc((lambda * ((size_t)cma->axes_count + 2)) * sizeof *batch);
	int *order = pio_alloc(2 * lambda * sizeof *order);
	if (!batch || !order) {
		pio_free(batch);
		pio_free(order);
		return pio_fail(err, PIO_ENOMEM, "out of memory for generations of %zu points", lambda);
	}
	pio_free(cma->batch);
	pio_free(cma->order);
	double *next = cma->batch = batch;
	cma->values = part(&next, lambda);
	cma->weights = part(&next, lambda);
	cma->rows = next;
	cma->order = order;
	cma->drawn_in = order + lambda;
	cma->population = (int)lambda;
	set_rates(cma);
	memset(cma->c, 0, n * n * sizeof *cma->c);
	memset(cma->b, 0, n * n * sizeof *cma->b);
	for (size_t i = 0; i < n; i++) {
		cma->mean[i] = mean ? mean[cma->number[i]] : 0.5;
		cma->ps[i] = cma->pc[i] = 0;
		cma->margin[i] = cma->roots[i] = cma->c[i * n + i] = cma->b[i * n + i] = 1;
	}
	pio_cma_choice_begin(&cma->choices);
	cma->sigma = sigma;
	cma->decay = 1;
	if (cma->generation || cma->told) /* else what was drawn is of the same distribution */
		cma->begun = ++cma->age;
	cma->generation = cma->told = 0;
	cma->is_over = false;
	return 0;
}

/* ---- latents ---------------------------------------------------------------------------- */

static double normal(pio_draw *draw)
{
	double u = pio_draw_uniform(draw);
	return pio_real_ndtri(u > 0 ? u : 0x1p-54);
}

/* Into latent; false where it is out of a range. */
static bool draw_numbers(double *latent, const pio_cma *cma, pio_draw *draw)
{
	int n = cma->n;
	double z[PIO_CMA_AXES_MAX];
	bool is_inside = true;
	for (int i = 0; i < n; i++)
		z[i] = cma->roots[i] * normal(draw);
	for (int i = 0; i < n; i++) {
		double sum = 0;
		for (int j = 0; j < n; j++)
			sum += cma->b[i * n + j] * z[j];
		double x = cma->mean[i] + cma->sigma * sum;
		latent[cma->number[i]] = x;
		is_inside = is_inside && (cma->axes[cma->number[i]].kind == PIO_AXIS_WHOLE || (x >= 0 && x <= 1));
	}
	return is_inside;
}

void pio_cma_draw(double *latent, const pio_cma *cma, pio_draw *draw)
{
	int tries = 10 * cma->n;
	while (!draw_numbers(latent, cma, draw) && --tries > 0)
		;
	for (int i = 0; i < cma->n; i++)
		if (cma->axes[cma->number[i]].kind == PIO_AXIS_REAL)
			latent[cma->number[i]] = fmin(fmax(latent[cma->number[i]], 0), 1);
	const double *q = cma->choices.q;
	for (int a = 0; a < cma->choices_count; q += cma->counts[a++]) {
		double left = pio_draw_uniform(draw);
		int k = 0;
		while (k < cma->counts[a] - 1 && left >= q[k])
			left -= q[k++];
		latent[cma->choice[a]] = k;
	}
}

void pio_cma_point(double *point, const pio_cma *cma, const double *latent)
{
	for (int a = 0; a < cma->choices_count; a++)
		point[cma->choice[a]] = fmax(latent[cma->choice[a]], 0);
	for (int i = 0; i < cma->n; i++) {
		int a = cma->number[i];
		const pio_axis *axis = &cma->axes[a];
		double unit = cma->mean[i] + cma->margin[i] * (latent[a] - cma->mean[i]);
		point[a] = pio_axis_snap(axis, axis->low + fmin(fmax(unit, 0), 1) * (axis->high - axis->low));
	}
}

void pio_cma_latent(double *latent, const pio_cma *cma, const double *point)
{
	for (int a = 0; a < cma->choices_count; a++)
		latent[cma->choice[a]] = isnan(point[cma->choice[a]]) ? -1 : point[cma->choice[a]];
	for (int i = 0; i < cma->n; i++) {
		int a = cma->number[i];
		const pio_axis *axis = &cma->axes[a];
		double unit = (point[a] - axis->low) / (axis->high - axis->low);
		latent[a] = isnan(point[a]) ? cma->mean[i]
		                            : cma->mean[i] + (unit - cma->mean[i]) / cma->margin[i];
	}
}

/* ---- what a generation teaches ------------------------------------------------------------- */

/* out = B diag(1 / roots) B' v: as long as v is in units of the distribution. */
static void whiten(double *out, const pio_cma *cma, const double *v)
{
	int n = cma->n;
	for (int i = 0; i < n; i++)
		out[i] = 0;
	for (int j = 0; j < n; j++) {
		double sum = 0;
		for (int i = 0; i < n; i++)
			sum += cma->b[i * n + j] * v[i];
		sum /= cma->roots[j];
		for (int i = 0; i < n; i++)
			out[i] += cma->b[i * n + j] * sum;
	}
}

static double length_squared(const double *v, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += v[i] * v[i];
	return sum;
}

/* Order by value, ties as they came. */
static void rank(pio_cma *cma)
{
	for (int i = 0; i < cma->population; i++) {
		int place = i;
		for (; place > 0 && cma->values[cma->order[place - 1]] > cma->values[i]; place--)
			cma->order[place] = cma->order[place - 1];
		cma->order[place] = i;
	}
}

/* Latents become steps from the mean in parts of sigma; far ones of elsewhere are cut. */
static void make_steps(pio_cma *cma)
{
	int n = cma->n;
	double longest = sqrt(n) + 2 * (double)n / (n + 2);
	for (int r = 0; r < cma->population; r++) {
		double *row = cma->rows + r * cma->axes_count;
		for (int i = 0; i < n; i++)
			cma->y[i] = (row[cma->number[i]] - cma->mean[i]) / cma->sigma;
		double cut = 1;
		if (cma->drawn_in[r] != cma->age) {
			whiten(cma->turned, cma, cma->y);
			cut = fmin(1, longest / sqrt(fmax(length_squared(cma->turned, n), 1e-300)));
		}
		for (int i = 0; i < n; i++)
			row[cma->number[i]] = cut * cma->y[i];
	}
}

/* The step of rank r, into cma->y. */
static void step_of(pio_cma *cma, int r)
{
	const double *row = cma->rows + cma->order[r] * cma->axes_count;
	for (int i = 0; i < cma->n; i++)
		cma->y[i] = row[cma->number[i]];
}

static void add_outer(double *c, const double *v, double factor, int n)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			c[i * n + j] += factor * v[i] * v[j];
}

static void update_covariance(pio_cma *cma, double h)
{
	int n = cma->n;
	const rates *r = &cma->rates;
	double weights = 0;
	for (int i = 0; i < cma->population; i++)
		weights += cma->weights[i];
	double keep = 1 + r->c1 * (1 - h) * r->cc * (2 - r->cc) - r->c1 - r->cmu * weights;
	for (int i = 0; i < n * n; i++)
		cma->c[i] *= keep;
	add_outer(cma->c, cma->pc, r->c1, n);
	for (int i = 0; i < cma->population; i++) {
		double weight = cma->weights[i];
		step_of(cma, i);
		if (weight < 0) {
			whiten(cma->turned, cma, cma->y);
			weight *= n / (length_squared(cma->turned, n) + 1e-8);
		}
		add_outer(cma->c, cma->y, r->cmu * weight, n);
	}
	memcpy(cma->work, cma->c, (size_t)(n * n) * sizeof *cma->work);
	pio_eigen(cma->roots, cma->b, cma->work, n);
	for (int i = 0; i < n; i++)
		cma->roots[i] = sqrt(cma->roots[i] > 1e-300 ? cma->roots[i] : 1e-8);
}

static void update_numbers(pio_cma *cma)
{
	int n = cma->n;
	const rates *r = &cma->rates;
	double mean[PIO_CMA_AXES_MAX] = { 0 };
	make_steps(cma);
	for (int i = 0; i < r->mu; i++) {
		step_of(cma, i);
		for (int j = 0; j < n; j++)
			mean[j] += cma->weights[i] * cma->y[j];
	}
	whiten(cma->turned, cma, mean);
	double along = sqrt(r->cs * (2 - r->cs) * r->mu_eff);
	for (int i = 0; i < n; i++) {
		cma->mean[i] += cma->sigma * mean[i];
		cma->ps[i] = (1 - r->cs) * cma->ps[i] + along * cma->turned[i];
	}
	double length = sqrt(length_squared(cma->ps, n));
	cma->sigma = fmin(cma->sigma * pio_real_exp(r->cs / r->ds * (length / r->chi - 1)), SIGMA_MAX);
	/* (1 - cs)^(2 (g + 1)) with the generation counted from 1 */
	double left = cma->decay * squared(squared(1 - r->cs));
	cma->decay *= squared(1 - r->cs);
	double h = length / sqrt(1 - left) < (1.4 + 2.0 / (n + 1)) * r->chi;
	double path = h * sqrt(r->cc * (2 - r->cc) * r->mu_eff);
	for (int i = 0; i < n; i++)
		cma->pc[i] = (1 - r->cc) * cma->pc[i] + path * mean[i];
	update_covariance(cma, h);
}

/* ---- the margin of whole numbers ----------------------------------------------------------- */

/* A probability of a tail, lifted to half of alpha, and what that takes from the others taken
 * from each in proportion. */
static double lifted(double tail, double sum, double alpha)
{
	double fair = tail + (1 - sum) * (tail - alpha / 2) / (sum - 1.5 * alpha);
	return fmin(fmax(fair, 1e-10), 0.5 - 1e-10);
}

/* So that both neighbours of the mean's number are drawn with a probability of alpha / 2 at
 * least; of a number at the end, the only one with alpha. */
static void keep_margin(pio_cma *cma, int i, double alpha)
{
	const pio_axis *axis = &cma->axes[cma->number[i]];
	double range = axis->high - axis->low, root = sqrt(cma->c[i * cma->n + i]), from, to;
	double inside = fmin(fmax(cma->mean[i], 0), 1);
	pio_axis_cell(&from, &to, axis, axis->low + inside * range);
	from = (from - axis->low) / range;
	to = (to - axis->low) / range;
	double width = cma->sigma * cma->margin[i] * root;
	bool is_first = from <= 1e-9, is_last = to >= 1 - 1e-9;
	if (is_first || is_last) {
		double edge = is_first ? to : from, off = fabs(cma->mean[i] - edge);
		if (pio_real_ndtr(-off / width) < alpha)
			cma->mean[i] = edge + (is_first ? -1 : 1) * width * pio_real_ndtri(1 - alpha);
		return;
	}
	double low = pio_real_ndtr((from - cma->mean[i]) / width);
	double up = pio_real_ndtr((cma->mean[i] - to) / width), middle = 1 - low - up;
	low = fmax(low, alpha / 2);
	up = fmax(up, alpha / 2);
	double sum = low + up + middle;
	double to_low = pio_real_ndtri(1 - lifted(low, sum, alpha));
	double to_up = pio_real_ndtri(1 - lifted(up, sum, alpha));
	cma->margin[i] = (to - from) / ((to_low + to_up) * cma->sigma * root);
	cma->mean[i] = (from * to_up + to * to_low) / (to_low + to_up);
}

/* ---- generations ----------------------------------------------------------------------------- */

static int choice_at(const void *context, int point, int axis)
{
	const pio_cma *cma = context;
	return (int)cma->rows[cma->order[point] * cma->axes_count + cma->choice[axis]];
}

/* By the criteria of the tutorial, appendix B.3. */
static bool is_over(const pio_cma *cma)
{
	int n = cma->n, term = 10 + (30 * n + cma->population - 1) / cma->population;
	term = term < HISTORY_MAX ? term : HISTORY_MAX;
	double low = INFINITY, high = -INFINITY, least = INFINITY, most = 0;
	for (int i = 0; i < term && cma->generation > term; i++) {
		double value = cma->history[(cma->generation - i) % HISTORY_MAX];
		low = fmin(low, value);
		high = fmax(high, value);
	}
	if (cma->generation > term && high - low < VALUES_RANGE_MIN)
		return true;
	bool is_narrow = n > 0;
	for (int i = 0; i < n; i++) {
		double width = cma->sigma * fmax(sqrt(cma->c[i * n + i]), fabs(cma->pc[i]));
		is_narrow = is_narrow && width < WIDTH_MIN;
		least = fmin(least, cma->roots[i]);
		most = fmax(most, cma->roots[i]);
	}
	return is_narrow || (n > 0 && (squared(most / least) > CONDITION_MAX || !(cma->sigma * most < 1e4)));
}

void pio_cma_tell(pio_cma *cma, const double *latent, double value, int generation)
{
	if (generation >= 0 && generation < cma->begun)
		return;
	int at = cma->told++;
	memcpy(cma->rows + at * cma->axes_count, latent, (size_t)cma->axes_count * sizeof *latent);
	cma->values[at] = isfinite(value) ? value : INFINITY;
	cma->drawn_in[at] = generation;
	if (cma->told < cma->population)
		return;
	cma->told = 0;
	rank(cma);
	double best = cma->values[cma->order[0]];
	if (!isfinite(best))
		return; /* all failed: that says nothing of where to go */
	if (cma->choices_count)
		pio_cma_choice_update(&cma->choices, cma->weights, cma->rates.mu, choice_at, cma);
	if (cma->n)
		update_numbers(cma);
	for (int i = 0; i < cma->n; i++)
		if (cma->axes[cma->number[i]].kind == PIO_AXIS_WHOLE)
			keep_margin(cma, i, 1.0 / (cma->n * cma->population));
	cma->age++;
	cma->generation++;
	cma->history[cma->generation % HISTORY_MAX] = best;
	cma->is_over = is_over(cma);
}

int pio_cma_generation(const pio_cma *cma)
{
	return cma->age;
}

int pio_cma_population(const pio_cma *cma)
{
	return cma->population;
}

bool pio_cma_is_over(const pio_cma *cma)
{
	return cma->is_over;
}

int pio_cma_numbers(const pio_cma *cma)
{
	return cma->n;
}

const double *pio_cma_mean(const pio_cma *cma)
{
	return cma->mean;
}

const double *pio_cma_covariance(const pio_cma *cma)
{
	return cma->c;
}

double pio_cma_sigma(const pio_cma *cma)
{
	return cma->sigma;
}

double pio_cma_margin(const pio_cma *cma, int number)
{
	return cma->margin[number];
}

double pio_cma_probability(const pio_cma *cma, int axis, int choice)
{
	const double *q = cma->choices.q;
	for (int a = 0; a < cma->choices_count; q += cma->counts[a++])
		if (cma->choice[a] == axis)
			return q[choice];
	return NAN;
}
