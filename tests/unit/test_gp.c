/* The Gaussian process: against a plain solution of its equations, its slopes against
 * differences, and what it learns and looks for. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/ascent.h"
#include "sweep/gp.h"
#include "sweep/gp_search.h"
#include "test.h"

enum { axes_count = 4, points_count = 24 };

static pio_draw named(int64_t number, const char *name)
{
	return pio_draw_init(1, number, name, strlen(name));
}

/* A choice decides whether there is a fourth parameter. */
static pio_gp *model(void)
{
	const pio_gp_axis axes[axes_count] = {
		{ pio_axis_init(PIO_AXIS_REAL, false, -2, 3), -1, 0 },
		{ pio_axis_init(PIO_AXIS_CHOICE, false, 0, 2), -1, 0 },
		{ pio_axis_init(PIO_AXIS_WHOLE, true, 1, 64), -1, 0 },
		{ pio_axis_init(PIO_AXIS_REAL, true, 0.01, 1), 1, 2 },
	};
	pio_gp *gp = NULL;
	check_ok(pio_gp_new(&gp, axes, axes_count, &err));
	return gp;
}

static void fill(double *points, double *values, pio_gp *gp, int count)
{
	int n;
	const pio_gp_axis *axes = pio_gp_axes(&n, gp);
	pio_draw draw = named(1, "points");
	for (int i = 0; i < count; i++) {
		double *point = points + i * axes_count;
		for (int a = 0; a < axes_count; a++) {
			double u = pio_draw_uniform(&draw);
			double low = axes[a].axis.low, high = axes[a].axis.high;
			point[a] = axes[a].axis.kind == PIO_AXIS_CHOICE ? floor(3 * u)
			           : pio_axis_snap(&axes[a].axis, low + u * (high - low));
		}
		if (point[1] != 2)
			point[3] = NAN;
		values[i] = sin(point[0]) + 0.3 * point[1] + 0.1 * point[2] + (isnan(point[3]) ? 0 : 0.2 * point[3]);
	}
}

static double kernel(const pio_gp *gp, const double *x, const double *y)
{
	double squared = 0;
	for (int a = 0; a < axes_count; a++) {
		double off = a == 1 || a == 3 ? 0 : x[a] - y[a], length = pio_gp_length(gp, a);
		off = a == 1 ? x[a] != y[a] : a == 3 ? x[a] - y[a] : off;
		squared += off * off / length / length;
	}
	double r = sqrt(5 * squared);
	return (1 + r + r * r / 3) * exp(-r);
}

/* out = inverse of the covariance of n points times `right`, by elimination; doubts: variances, or NULL. */
static void eliminate(double *out, const pio_gp *gp, const double *doubts, const double *right, int n)
{
	static double m[points_count][points_count + 1];
	for (int i = 0; i < n; i++) {
		for (int j = 0; j < n; j++)
			m[i][j] = kernel(gp, pio_gp_known(gp, (size_t)i), pio_gp_known(gp, (size_t)j)) +
			          (i == j ? pio_gp_noise(gp) + (doubts ? doubts[i] : 0) : 0);
		m[i][n] = right[i];
	}
	for (int k = 0; k < n; k++)
		for (int i = 0; i < n; i++) {
			double factor = i == k ? 0 : m[i][k] / m[k][k];
			for (int j = k; j <= n; j++)
				m[i][j] -= factor * m[k][j];
		}
	for (int i = 0; i < n; i++)
		out[i] = m[i][n] / m[i][i];
}

static void a_prediction_solves_the_equations(void **state)
{
	(void)state;
	static double points[points_count * axes_count], values[points_count];
	double z[points_count], ones[points_count], a[points_count], b[points_count], k[points_count];
	double worst = 0;
	pio_gp *gp = model();
	fill(points, values, gp, points_count);
	/* the better half stays what it is, up to scale: what is standardized is a line of it */
	check_ok(pio_gp_learn(gp, points, values, NULL, points_count, 60, &err));
	check_ok(pio_gp_know(gp, points, values, NULL, points_count, NULL, 0, &err));
	/* values back from the model: R alpha + mean = z, told at the points by less than the noise */
	for (int i = 0; i < points_count; i++) {
		double deviation;
		pio_gp_predict(&z[i], &deviation, NULL, NULL, gp, pio_gp_known(gp, (size_t)i));
		ones[i] = 1;
	}
	/* smoothed values s = mean + K inv(K + noise) (z - mean): from s back to z - mean */
	eliminate(b, gp, NULL, ones, points_count);
	for (int turn = 0; turn < 5; turn++) {
		double unit[axes_count], point[axes_count], mean, deviation, left = 1;
		pio_draw draw = named(turn, "there");
		for (int i = 0; i < axes_count; i++)
			point[i] = points[turn * axes_count + i];
		point[0] = -2 + 5 * pio_draw_uniform(&draw);
		pio_gp_unit(unit, gp, point);
		for (int i = 0; i < points_count; i++)
			k[i] = kernel(gp, unit, pio_gp_known(gp, (size_t)i));
		eliminate(a, gp, NULL, k, points_count);
		pio_gp_predict(&mean, &deviation, NULL, NULL, gp, unit);
		for (int i = 0; i < points_count; i++)
			left -= k[i] * a[i];
		/* deviation^2 = variance left: the same variance everywhere */
		double variance = deviation * deviation / left;
		if (turn == 0)
			worst = variance;
		assert_true(fabs(variance / worst - 1) < 1e-4);
		assert_true(isfinite(mean));
	}
	/* ranks are kept: what is better is predicted better at the points themselves */
	for (int i = 0; i < points_count; i++)
		for (int j = 0; j < points_count; j++)
			if (values[i] < values[j] - 0.5)
				assert_true(z[i] < z[j]);
	pio_gp_free(gp);
}

static double times(const double *a, const double *b, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* Of values that are standardized as they are, mean and deviation are those of generalized least squares. */
static void what_is_doubtful_counts_for_less(void **state)
{
	(void)state;
	static double points[points_count * axes_count], values[points_count];
	double doubts[points_count], variances[points_count], ones[points_count], a[points_count], b[points_count];
	double k[points_count], mean = 0, square = 0, unit[axes_count] = { 0.31, 2, 0.57, 0.43 };
	const pio_gp_view plain = { .is_plain = true, .noise_min = 1e-6 };
	const double lengths[axes_count] = { 0.4, 1.1, 0.7, 1.5 };
	pio_gp *gp = model();
	fill(points, values, gp, points_count);
	for (int i = 0; i < points_count; i++) {
		mean += values[i] / points_count;
		square += values[i] * values[i] / points_count;
	}
	double width = sqrt(square - mean * mean);
	for (int i = 0; i < points_count; i++) {
		values[i] = (values[i] - mean) / width;
		doubts[i] = i % 3 == 0 ? 0.4 * i : 0;
		variances[i] = doubts[i] * doubts[i];
		ones[i] = 1;
	}
	pio_gp_look(gp, &plain);
	pio_gp_set(gp, lengths, 1e-3);
	check_ok(pio_gp_know(gp, points, values, doubts, points_count, NULL, 0, &err));
	for (int i = 0; i < points_count; i++)
		k[i] = kernel(gp, unit, pio_gp_known(gp, (size_t)i));
	eliminate(a, gp, variances, values, points_count);
	eliminate(b, gp, variances, ones, points_count);
	double middle = times(a, ones, points_count) / times(b, ones, points_count);
	double variance = 0;
	for (int i = 0; i < points_count; i++) {
		a[i] -= middle * b[i];
		variance += a[i] * (values[i] - middle) / points_count;
	}
	double expected = middle + times(k, a, points_count), said, deviation;
	eliminate(b, gp, variances, k, points_count);
	pio_gp_predict(&said, &deviation, NULL, NULL, gp, unit);
	assert_true(fabs(said - expected) < 1e-9);
	assert_true(fabs(deviation - sqrt(variance * (1 - times(k, b, points_count)))) < 1e-9);
	/* what is known of a point that is all but unknown is what its neighbours say */
	doubts[3] = 1e9;
	check_ok(pio_gp_know(gp, points, values, doubts, points_count, NULL, 0, &err));
	pio_gp_predict(&expected, &deviation, NULL, NULL, gp, pio_gp_known(gp, 3));
	values[3] += 1e-3;
	check_ok(pio_gp_know(gp, points, values, doubts, points_count, NULL, 0, &err));
	pio_gp_predict(&said, &deviation, NULL, NULL, gp, pio_gp_known(gp, 3));
	assert_true(fabs(said - expected) < 1e-3);
	/* learning weighs them, too: noise that is said to be there is not found again */
	pio_draw draw = named(3, "off");
	for (int i = 0; i < points_count; i++)
		values[i] += doubts[i] = i % 2 ? 1.5 * (pio_draw_uniform(&draw) - 0.5) : 0;
	for (int i = 0; i < points_count; i++)
		doubts[i] = fabs(doubts[i]);
	check_ok(pio_gp_learn(gp, points, values, NULL, points_count, 60, &err));
	double noise = pio_gp_noise(gp);
	check_ok(pio_gp_learn(gp, points, values, doubts, points_count, 60, &err));
	assert_true(pio_gp_noise(gp) < noise / 3);
	pio_gp_free(gp);
}

static void slopes_are_those_of_differences(void **state)
{
	(void)state;
	static double points[points_count * axes_count], values[points_count];
	pio_gp *gp = model();
	fill(points, values, gp, points_count);
	check_ok(pio_gp_learn(gp, points, values, NULL, points_count, 60, &err));
	check_ok(pio_gp_know(gp, points, values, NULL, points_count - 4, points + (points_count - 4) * axes_count, 4,
	                     &err));
	double unit[axes_count] = { 0.31, 2, 0.57, 0.43 }, of_mean[axes_count], of_deviation[axes_count];
	double mean, deviation, m[2], s[2];
	pio_gp_predict(&mean, &deviation, of_mean, of_deviation, gp, unit);
	for (int a = 0; a < axes_count; a++) {
		if (a == 1)
			continue;
		for (int side = 0; side < 2; side++) {
			double moved[axes_count];
			memcpy(moved, unit, sizeof unit);
			moved[a] += side ? 1e-5 : -1e-5;
			pio_gp_predict(&m[side], &s[side], NULL, NULL, gp, moved);
		}
		assert_true(fabs((m[1] - m[0]) / 2e-5 - of_mean[a]) < 1e-5 * (1 + fabs(of_mean[a])));
		assert_true(fabs((s[1] - s[0]) / 2e-5 - of_deviation[a]) < 1e-4 * (1 + fabs(of_deviation[a])));
	}
	pio_gp_free(gp);
}

static void the_improvement_is_right_also_where_it_is_nothing(void **state)
{
	(void)state;
	for (int i = -60; i <= 60; i++) {
		long double z = i / 8.0L, phi = expl(-0.5L * z * z) / sqrtl(2 * acosl(-1));
		long double h = phi + z * 0.5L * erfcl(-z / sqrtl(2));
		double log_h = pio_gp_log_improvement(-(double)z, 1, 0);
		assert_true(fabs(log_h - (double)logl(h)) < 1e-9 * (1 + (double)(z * z)));
	}
	assert_true(fabs(pio_gp_log_improvement(3, 2, 5) - (log(2) + pio_gp_log_improvement(-1, 1, 0))) < 1e-12);
	/* far down: density / z^2 */
	for (double z = 50; z < 1e6; z *= 7) {
		double right = -0.5 * z * z - 0.9189385332046727 - 2 * log(z);
		assert_true(fabs(pio_gp_log_improvement(z, 1, 0) - right) < 2e-3 + 1e-9 * z * z);
	}
}

static void what_does_not_matter_gets_a_long_length(void **state)
{
	(void)state;
	const pio_gp_axis axes[2] = { { pio_axis_init(PIO_AXIS_REAL, false, 0, 1), -1, 0 },
		                      { pio_axis_init(PIO_AXIS_REAL, false, 0, 1), -1, 0 } };
	double points[80], values[40];
	pio_draw draw = named(2, "points");
	pio_gp *gp = NULL;
	double noise[2];
	check_ok(pio_gp_new(&gp, axes, 2, &err));
	for (int noisy = 0; noisy < 2; noisy++) {
		for (int i = 0; i < 40; i++) {
			points[2 * i] = pio_draw_uniform(&draw);
			points[2 * i + 1] = pio_draw_uniform(&draw);
			values[i] = sin(7 * points[2 * i]) + noisy * 2 * (pio_draw_uniform(&draw) - 0.5);
		}
		check_ok(pio_gp_learn(gp, points, values, NULL, 40, 80, &err));
		assert_true(pio_gp_length(gp, 1) > (noisy ? 1 : 3) * pio_gp_length(gp, 0));
		noise[noisy] = pio_gp_noise(gp);
	}
	assert_true(noise[1] > 10 * noise[0] && noise[1] < 1);
	pio_gp_free(gp);
}

/* The bits, too: a promise to every sweep on record. */
static void it_looks_where_it_is_low_and_not_where_runs_are_under_way(void **state)
{
	(void)state;
	const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_REAL, false, 0, 10), -1, 0 };
	const pio_gp_effort effort = { .candidates = 200, .starts = 3, .calls = 30 };
	double points[12], values[12], best[3], again[3];
	size_t found;
	pio_gp *gp = NULL;
	check_ok(pio_gp_new(&gp, &axis, 1, &err));
	for (int i = 0; i < 12; i++) {
		points[i] = 10.0 * i / 11;
		values[i] = i == 0 ? NAN : (points[i] - 7.3) * (points[i] - 7.3);
	}
	check_ok(pio_gp_learn(gp, points, values, NULL, 12, 60, &err));
	check_ok(pio_gp_know(gp, points, values, NULL, 12, NULL, 0, &err));
	pio_draw draw = named(1, "search");
	check_ok(pio_gp_search(best, &found, gp, &effort, NULL, NULL, &draw, &err));
	assert_true(found >= 1 && fabs(best[0] - 7.3) < 0.3);
	draw = named(1, "search");
	check_ok(pio_gp_search(again, &found, gp, &effort, NULL, NULL, &draw, &err));
	assert_true(again[0] == best[0]);
	check_ok(pio_gp_know(gp, points, values, NULL, 12, best, 1, &err));
	draw = named(1, "search");
	check_ok(pio_gp_search(again, &found, gp, &effort, NULL, NULL, &draw, &err));
	assert_true(fabs(again[0] - best[0]) > 1e-4);
	pio_gp_free(gp);
}

/* Models of two constraints at the points of `fill`, seen plainly, with noise enough for
 * differences to have digits. */
static void fill_limits(pio_gp **models, const double *points)
{
	const pio_gp_view view = { .is_plain = true, .noise_min = 1e-3 };
	double values[2][points_count];
	for (int i = 0; i < points_count; i++) {
		const double *point = points + i * axes_count;
		values[0][i] = point[0] - 0.5 * point[1];
		values[1][i] = 30 - point[2] - (isnan(point[3]) ? 0 : 20 * point[3]);
	}
	for (int m = 0; m < 2; m++) {
		models[m] = model();
		pio_gp_look(models[m], &view);
		check_ok(pio_gp_learn(models[m], points, values[m], NULL, points_count, 60, &err));
		check_ok(pio_gp_know(models[m], points, values[m], NULL, points_count, NULL, 0, &err));
	}
}

static void the_chance_is_a_product_and_its_slope_that_of_differences(void **state)
{
	(void)state;
	static double points[points_count * axes_count], values[points_count];
	pio_gp *goal = model(), *models[2];
	const pio_gp_limits limits = { .all = models, .count = 2 };
	fill(points, values, goal, points_count);
	fill_limits(models, points);
	pio_draw draw = named(3, "there");
	double lowest = 0;
	for (int turn = 0; turn < 40; turn++) {
		double unit[axes_count], gradient[axes_count] = { 7, 7, 7, 7 }, side[2];
		long double product = 0;
		for (int a = 0; a < axes_count; a++)
			unit[a] = a == 1 ? turn % 3 : a == 3 && turn % 3 != 2 ? 0.5 : pio_draw_uniform(&draw);
		double told = pio_gp_log_feasible(gradient, &limits, unit);
		for (int m = 0; m < 2; m++) {
			double mean, deviation;
			pio_gp_predict(&mean, &deviation, NULL, NULL, models[m], unit);
			long double z = (pio_gp_zero(models[m]) - mean) / (long double)deviation;
			product += logl(0.5L * erfcl(-z / sqrtl(2)));
		}
		if (product > -10000) /* there erfcl is 0 */
			assert_true(fabs(told - (double)product) < 1e-9 * (1 - (double)product));
		lowest = fmin(lowest, told);
		for (int a = 0; a < axes_count; a++) {
			for (int s = 0; s < 2; s++) {
				double moved[axes_count];
				memcpy(moved, unit, sizeof unit);
				moved[a] += s ? 1e-6 : -1e-6;
				side[s] = pio_gp_log_feasible(NULL, &limits, moved);
			}
			double slope = a == 1 ? 0 : (side[1] - side[0]) / 2e-6;
			/* far down differences have few digits */
			assert_true(fabs(gradient[a] - 7 - slope) < 3e-3 * (1 + fabs(slope) - told));
		}
	}
	assert_true(lowest < -40); /* and a product of probabilities has no digits any more */
	pio_gp_free(goal);
	pio_gp_free(models[0]);
	pio_gp_free(models[1]);
}

/* The least within x <= 4 is at 4; while all that is known is above 1, and that is asked for, it is
 * there that is looked. */
static void it_looks_where_constraints_are_met(void **state)
{
	(void)state;
	const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_REAL, false, 0, 10), -1, 0 };
	const pio_gp_effort effort = { .candidates = 200, .starts = 3, .calls = 30 };
	const pio_gp_view view = { .is_plain = true, .noise_min = 1e-8 };
	for (int bound = 4; bound >= 1; bound -= 3) {
		double points[12], values[12], met[12], found[3];
		bool is_met[12];
		size_t count;
		pio_gp *goal = NULL, *model = NULL;
		check_ok(pio_gp_new(&goal, &axis, 1, &err));
		check_ok(pio_gp_new(&model, &axis, 1, &err));
		pio_gp_look(model, &view);
		for (int i = 0; i < 12; i++) {
			points[i] = 1.5 + 8.5 * i / 11;
			values[i] = (points[i] - 7.3) * (points[i] - 7.3);
			met[i] = points[i] - bound;
			is_met[i] = met[i] <= 0;
		}
		const pio_gp_limits limits = { .all = &model, .count = 1, .is_met = is_met };
		check_ok(pio_gp_learn(goal, points, values, NULL, 12, 60, &err));
		check_ok(pio_gp_know(goal, points, values, NULL, 12, NULL, 0, &err));
		check_ok(pio_gp_learn(model, points, met, NULL, 12, 60, &err));
		check_ok(pio_gp_know(model, points, met, NULL, 12, NULL, 0, &err));
		pio_draw draw = named(1, "within");
		check_ok(pio_gp_search(found, &count, goal, &effort, NULL, &limits, &draw, &err));
		if (bound == 4)
			assert_true(found[0] > 3.9 && found[0] < 4.05);
		else
			assert_true(found[0] < 1);
		pio_gp_free(goal);
		pio_gp_free(model);
	}
}

/* What gives the same everywhere says on which side of 0 it is, and less the further away. */
static void a_constraint_that_is_the_same_everywhere_has_a_side(void **state)
{
	(void)state;
	const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_REAL, false, 0, 1), -1, 0 };
	const pio_gp_view view = { .is_plain = true, .noise_min = 1e-8 };
	const double points[3] = { 0.1, 0.2, 0.25 }, same[3] = { 3, 3, 3 }, met[3] = { -2, -2, -2 };
	double near = 0.2, far = 0.9, length = 0.1;
	pio_gp *model = NULL;
	const pio_gp_limits limits = { .all = &model, .count = 1 };
	check_ok(pio_gp_new(&model, &axis, 1, &err));
	pio_gp_look(model, &view);
	pio_gp_set(model, &length, 1e-6);
	check_ok(pio_gp_know(model, points, same, NULL, 3, NULL, 0, &err));
	assert_true(pio_gp_log_feasible(NULL, &limits, &near) < pio_gp_log_feasible(NULL, &limits, &far));
	check_ok(pio_gp_know(model, points, met, NULL, 3, NULL, 0, &err));
	assert_true(pio_gp_log_feasible(NULL, &limits, &near) > pio_gp_log_feasible(NULL, &limits, &far));
	pio_gp_free(model);
}

static double valley(double *gradient, const double *x, void *context)
{
	(void)context;
	double bend = x[1] - x[0] * x[0];
	gradient[0] = 400 * x[0] * bend + 2 * (1 - x[0]);
	gradient[1] = -200 * bend;
	return -100 * bend * bend - (1 - x[0]) * (1 - x[0]);
}

static void an_ascent_finds_the_top_and_keeps_to_its_box(void **state)
{
	(void)state;
	double x[2] = { -1.2, 1 }, low[2] = { -2, -2 }, high[2] = { 2, 2 }, cut[2] = { 0.5, 2 };
	assert_true(pio_ascent(x, 2, low, high, valley, NULL, 400, 0) > -1e-10);
	assert_true(fabs(x[0] - 1) < 1e-4 && fabs(x[1] - 1) < 1e-4);
	double y[2] = { -1.2, 1 };
	pio_ascent(y, 2, low, cut, valley, NULL, 400, 0);
	assert_true(y[0] <= 0.5 && fabs(y[0] - 0.5) < 1e-6 && fabs(y[1] - 0.25) < 1e-3);
}

static void memory_that_is_out_is_an_error(void **state)
{
	(void)state;
	static double points[points_count * axes_count], values[points_count], best[3 * axes_count];
	const pio_gp_effort effort = { .candidates = 5, .starts = 3, .calls = 2 };
	for (uint64_t nth = 1;; nth++) {
		int64_t live = pio_mem_live();
		const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_REAL, false, 0, 1), -1, 0 };
		pio_err err = PIO_ERR_INIT;
		pio_draw draw = named(1, "memory");
		pio_gp *gp = NULL;
		size_t found;
		for (int i = 0; i < 6; i++)
			values[i] = points[i] = i / 6.0;
		pio_mem_fail_at(nth);
		int rc = pio_gp_new(&gp, &axis, 1, &err);
		rc = rc ? rc : pio_gp_learn(gp, points, values, NULL, 6, 4, &err);
		rc = rc ? rc : pio_gp_know(gp, points, values, NULL, 6, NULL, 0, &err);
		rc = rc ? rc : pio_gp_search(best, &found, gp, &effort, NULL, NULL, &draw, &err);
		bool struck = pio_mem_fail_at(0) == 0;
		pio_gp_free(gp);
		assert_int_equal(pio_mem_live(), live);
		assert_int_equal(rc, struck ? -PIO_ENOMEM : 0);
		if (!struck)
			break;
	}
}

/* Squares of the values are no numbers any more: what is believed is the same, in other units. */
static void values_of_any_size_make_the_same_model(void **state)
{
	(void)state;
	static double points[points_count * axes_count], values[points_count], scaled[points_count];
	static const int shifts[] = { 1000, -1000 };
	double unit[axes_count], mean[2], deviation[2];
	for (int k = 0; k < 2; k++) {
		pio_gp *gp[2] = { model(), model() };
		fill(points, values, gp[0], points_count);
		for (int i = 0; i < points_count; i++)
			scaled[i] = ldexp(values[i], shifts[k]);
		for (int m = 0; m < 2; m++) {
			check_ok(pio_gp_know(gp[m], points, m ? scaled : values, NULL, points_count, NULL, 0, &err));
			pio_gp_unit(unit, gp[m], points);
			unit[0] = 0.37;
			pio_gp_predict(&mean[m], &deviation[m], NULL, NULL, gp[m], unit);
		}
		assert_true(isfinite(mean[0]) && fabs(mean[1] - mean[0]) < 1e-9);
		assert_true(deviation[0] > 0 && fabs(deviation[1] - deviation[0]) < 1e-9);
		double ratio = ldexp(pio_gp_scale(gp[1]), -shifts[k]) / pio_gp_scale(gp[0]);
		assert_true(fabs(ratio - 1) < 1e-9);
		pio_gp_free(gp[0]);
		pio_gp_free(gp[1]);
	}
}

/* Beyond 2^53 a number and the next one are the same. */
static void numbers_too_large_to_count_come_to_an_end(void **state)
{
	(void)state;
	const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_WHOLE, false, 0, 0x1p60), -1, 0 };
	const pio_gp_effort effort = { .candidates = 20, .starts = 3, .calls = 4 };
	double points[3] = { 0, 0x1p55, 0x1p60 }, values[3] = { 3, 2, 1 }, best[3];
	pio_draw draw = named(1, "large");
	pio_gp *gp = NULL;
	size_t found;
	check_ok(pio_gp_new(&gp, &axis, 1, &err));
	check_ok(pio_gp_know(gp, points, values, NULL, 3, NULL, 0, &err));
	check_ok(pio_gp_search(best, &found, gp, &effort, NULL, NULL, &draw, &err));
	pio_gp_free(gp);
}

static void what_has_no_width_is_told(void **state)
{
	(void)state;
	const pio_gp_axis axis = { pio_axis_init(PIO_AXIS_REAL, false, -1e308, 1e308), -1, 0 };
	double points[2] = { -1e308, 1e308 }, values[2] = { 1, 2 };
	pio_gp *gp = NULL;
	check_ok(pio_gp_new(&gp, &axis, 1, &err));
	check_fails(pio_gp_know(gp, points, values, NULL, 2, NULL, 0, &err), PIO_EINVAL,
	            "goes through 2 points: expected ranges of a finite width");
	pio_gp_free(gp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_prediction_solves_the_equations),
		cmocka_unit_test(what_is_doubtful_counts_for_less),
		cmocka_unit_test(slopes_are_those_of_differences),
		cmocka_unit_test(the_improvement_is_right_also_where_it_is_nothing),
		cmocka_unit_test(what_does_not_matter_gets_a_long_length),
		cmocka_unit_test(it_looks_where_it_is_low_and_not_where_runs_are_under_way),
		cmocka_unit_test(the_chance_is_a_product_and_its_slope_that_of_differences),
		cmocka_unit_test(it_looks_where_constraints_are_met),
		cmocka_unit_test(a_constraint_that_is_the_same_everywhere_has_a_side),
		cmocka_unit_test(an_ascent_finds_the_top_and_keeps_to_its_box),
		cmocka_unit_test(values_of_any_size_make_the_same_model),
		cmocka_unit_test(numbers_too_large_to_count_come_to_an_end),
		cmocka_unit_test(what_has_no_width_is_told),
		cmocka_unit_test(memory_that_is_out_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
