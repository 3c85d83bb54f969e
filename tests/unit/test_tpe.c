/* The Parzen estimator: its mixtures against the definition, and what it promises. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/tpe.h"
#include "sweep/tpe_side.h"
#include "test.h"

static pio_draw named(int64_t number, const char *name)
{
	return pio_draw_init(1, number, name, strlen(name));
}

/* ---- one side, against the definition -------------------------------------------------- */

enum { axes_count = 5, points_max = 160, candidates = 7 };

static pio_axis axis_of(int a)
{
	switch (a) {
	case 0:
		return pio_axis_init(PIO_AXIS_REAL, false, -5, 10);
	case 1:
		return pio_axis_init(PIO_AXIS_REAL, true, 1e-5, 0.1);
	case 2:
		return pio_axis_init(PIO_AXIS_WHOLE, false, 1, 6);
	case 3:
		return pio_axis_init(PIO_AXIS_WHOLE, true, 1, 5000);
	default:
		return pio_axis_init(PIO_AXIS_CHOICE, false, 0, 3);
	}
}

static double any_coordinate(const pio_axis *axis, pio_draw *draw)
{
	double u = pio_draw_uniform(draw);
	double value = axis->kind == PIO_AXIS_REAL ? axis->first + u * (axis->last - axis->first)
	                                           : floor(axis->first + u * (axis->last - axis->first + 1));
	return pio_axis_of_value(axis, value);
}

static double ndtr(double x)
{
	return 0.5 * erfc(-x / sqrt(2));
}

/* Gaps to the neighbours in a sorted copy, as the definition says. */
static double width(const pio_axis *axis, const double *x, int n, int i)
{
	double left = NAN, right = NAN, range = axis->high - axis->low;
	for (int j = 0; j < n; j++) {
		if (j != i && (x[j] < x[i] || (x[j] == x[i] && j < i)))
			left = isnan(left) || x[i] - x[j] < left ? x[i] - x[j] : left;
		if (j != i && (x[j] > x[i] || (x[j] == x[i] && j > i)))
			right = isnan(right) || x[j] - x[i] < right ? x[j] - x[i] : right;
	}
	if (n == 1) {
		left = x[i] - axis->low;
		right = axis->high - x[i];
	}
	double sigma = fmax(isnan(left) ? 0 : left, isnan(right) ? 0 : right);
	return fmin(fmax(sigma, range / fmin(100, n + 2)), range);
}

/* The probability (of a real number the density) of x under kernel i; i = n: the broad one. */
static double kernel_at(const pio_axis *axis, const double *x, int n, int i, double at)
{
	if (axis->kind == PIO_AXIS_CHOICE) {
		double k = axis->last + 1, prior = 1.0 / (n + 1);
		return i == n ? 1 / k : (prior + (x[i] == at)) / (1 + k * prior);
	}
	double mu = i == n ? (axis->low + axis->high) / 2 : x[i];
	double sigma = i == n ? axis->high - axis->low : width(axis, x, n, i);
	double inside = ndtr((axis->high - mu) / sigma) - ndtr((axis->low - mu) / sigma);
	if (axis->kind == PIO_AXIS_REAL)
		return exp(-0.5 * (at - mu) * (at - mu) / sigma / sigma) / sigma / sqrt(2 * M_PI) / inside;
	double from, to;
	pio_axis_cell(&from, &to, axis, at);
	return (ndtr((to - mu) / sigma) - ndtr((from - mu) / sigma)) / inside;
}

static double mixture_at(double x[axes_count][points_max], int n, const double *at)
{
	double sum = 0, weights = 0;
	for (int i = 0; i <= n; i++) {
		double old = n - 25, weight = i == n || n < 25 || i >= old ? 1
		             : old == 1 ? 1.0 / n : 1.0 / n + (1 - 1.0 / n) * i / (old - 1);
		double product = weight;
		for (int a = 0; a < axes_count; a++) {
			pio_axis axis = axis_of(a);
			product *= kernel_at(&axis, x[a], n, i, at[a]);
		}
		sum += product;
		weights += weight;
	}
	return log(sum / weights);
}

/* The part that both mixtures share is left out of a score: of a real number the constant
 * of its density, of a narrow cell its width, too. */
static double left_out(const double *at)
{
	double sum = 0;
	for (int a = 0; a < axes_count; a++) {
		pio_axis axis = axis_of(a);
		double from = 0, to = 1;
		if (axis.kind == PIO_AXIS_WHOLE)
			pio_axis_cell(&from, &to, &axis, at[a]);
		bool is_narrow = axis.kind == PIO_AXIS_WHOLE && to - from <= 0.005 * (axis.high - axis.low);
		if (axis.kind == PIO_AXIS_REAL || is_narrow)
			sum += log(to - from) - 0.5 * log(2 * M_PI);
	}
	return sum;
}

static void fill(pio_tpe_track tracks[], double x[axes_count][points_max], int n, int64_t number)
{
	static uint32_t order[axes_count][points_max];
	static double sigma[axes_count][points_max], below[axes_count][points_max],
		inside[axes_count][points_max], norm[axes_count][points_max];
	pio_draw draw = named(number, "points");
	for (int a = 0; a < axes_count; a++) {
		tracks[a] = (pio_tpe_track){ axis_of(a), x[a], order[a], sigma[a], below[a], inside[a], norm[a] };
		for (int i = 0; i < n; i++) {
			x[a][i] = any_coordinate(&tracks[a].axis, &draw);
			sigma[a][i] = -1;
			int place = i;
			for (; place > 0 && x[a][order[a][place - 1]] > x[a][i]; place--)
				order[a][place] = order[a][place - 1];
			order[a][place] = (uint32_t)i;
		}
	}
}

static void a_mixture_is_what_its_definition_says(void **state)
{
	(void)state;
	static double x[axes_count][points_max];
	int sizes[] = { 0, 1, 2, 7, 24, 25, 26, 60, points_max };
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		int n = sizes[s];
		pio_tpe_track tracks[axes_count];
		pio_tpe_side side;
		uint32_t members[points_max];
		double at[candidates * axes_count], scores[candidates];
		fill(tracks, x, n, n);
		for (int i = 0; i < n; i++)
			members[i] = (uint32_t)i;
		check_ok(pio_tpe_side_init(&side, axes_count, &err));
		check_ok(pio_tpe_side_build(&side, tracks, axes_count, members, (size_t)n, (size_t)n, &err));
		pio_draw draw = named(n, "candidates");
		pio_tpe_side_draw(at, candidates, &side, tracks, axes_count, &draw);
		check_ok(pio_tpe_side_score(scores, &side, tracks, axes_count, at, candidates, &err));
		for (int i = 0; i < candidates; i++) {
			double right = mixture_at(x, n, at + i * axes_count);
			double score = scores[i] + left_out(at + i * axes_count);
			/* a narrow cell's mass is taken for density times width */
			if (fabs(score - right) > 5e-3)
				fail_msg("%d points: %.12g, by definition %.12g", n, score, right);
		}
		pio_tpe_side_fini(&side, axes_count);
	}
}

/* Draws follow the mixture: each cell of a whole number and each choice as often as it says. */
static void draws_follow_the_mixture(void **state)
{
	(void)state;
	static double x[axes_count][points_max];
	pio_tpe_track tracks[axes_count];
	pio_tpe_side side;
	uint32_t members[3] = { 0, 1, 2 };
	fill(tracks, x, 3, 5);
	check_ok(pio_tpe_side_init(&side, axes_count, &err));
	check_ok(pio_tpe_side_build(&side, tracks, axes_count, members, 3, 3, &err));
	enum { draws = 40000 };
	double seen[2][8] = { { 0 } };
	double point[axes_count];
	pio_draw draw = named(9, "draws");
	for (int i = 0; i < draws; i++) {
		pio_tpe_side_draw(point, 1, &side, tracks, axes_count, &draw);
		seen[0][(int)point[2]] += 1.0 / draws;
		seen[1][(int)point[4]] += 1.0 / draws;
		for (int a = 0; a < axes_count; a++)
			assert_true(point[a] >= tracks[a].axis.low && point[a] <= tracks[a].axis.high);
	}
	for (int v = 0; v < 7; v++) {
		double whole = 0, choice = 0;
		for (int i = 0; i <= 3; i++) {
			whole += v > 0 ? kernel_at(&tracks[2].axis, x[2], 3, i, v) / 4 : 0;
			choice += v < 4 ? kernel_at(&tracks[4].axis, x[4], 3, i, v) / 4 : 0;
		}
		assert_true(fabs(seen[0][v] - whole) < 0.012);
		assert_true(fabs(seen[1][v] - choice) < 0.012);
	}
	pio_tpe_side_fini(&side, axes_count);
}

/* ---- the whole of it ------------------------------------------------------------------- */

static const pio_tpe_options usual = { .candidates = 24, .gamma = 0.1, .below_max = 25 };

static pio_tpe *model(int axes)
{
	pio_axis all[axes_count];
	pio_tpe *tpe = NULL;
	for (int a = 0; a < axes; a++)
		all[a] = axis_of(a);
	check_ok(pio_tpe_new(&tpe, all, axes, &usual, &err));
	return tpe;
}

static void add(pio_tpe *tpe, double x, double value)
{
	size_t slot;
	check_ok(pio_tpe_add(&slot, tpe, &x, &err));
	if (!isnan(value))
		check_ok(pio_tpe_set(tpe, slot, value, &err));
}

static double mean_of_proposals(pio_tpe *tpe)
{
	double sum = 0;
	for (int i = 0; i < 50; i++) {
		const double *points;
		pio_draw draw = named(i, "proposal");
		check_ok(pio_tpe_propose(&points, tpe, &draw, &err));
		sum += points[0] / 50;
	}
	return sum;
}

static void it_goes_where_it_was_good_and_away_from_what_is_under_way(void **state)
{
	(void)state;
	pio_tpe *tpe = model(1);
	for (int i = 0; i < 20; i++)
		add(tpe, -5 + 15 * i / 19.0, i < 10 ? i : 30 - i); /* best at the low end */
	double good = mean_of_proposals(tpe);
	assert_true(good < 0);
	for (int i = 0; i < 20; i++)
		add(tpe, -4.9 + 0.03 * i, NAN); /* under way, all at the low end */
	assert_true(mean_of_proposals(tpe) > good + 0.5);
	pio_tpe_free(tpe);
}

static void what_failed_is_worse_than_all_others(void **state)
{
	(void)state;
	pio_tpe *tpe = model(1);
	for (int i = 0; i < 10; i++) {
		add(tpe, -4 + 0.1 * i, INFINITY);
		add(tpe, 6 + 0.1 * i, 1e300);
	}
	assert_true(mean_of_proposals(tpe) > 4);
	check_fails(pio_tpe_set(tpe, 20, 1, &err), PIO_EINVAL, "there is no point 20");
	pio_tpe_free(tpe);
	tpe = model(1);
	for (int i = 0; i < 10; i++)
		add(tpe, 8 + 0.1 * i, INFINITY); /* nothing is good: all but there */
	assert_true(mean_of_proposals(tpe) < 4);
	pio_tpe_free(tpe);
}

static void what_is_dropped_is_as_if_it_had_not_been(void **state)
{
	(void)state;
	pio_tpe *with = model(1), *without = model(1);
	size_t slot;
	double x = -4.5;
	for (int i = 0; i < 30; i++) {
		add(with, -5 + 15 * i / 29.0, fabs(i - 20.0));
		add(without, -5 + 15 * i / 29.0, fabs(i - 20.0));
		check_ok(pio_tpe_add(&slot, with, &x, &err));
		if (i % 2)
			check_ok(pio_tpe_set(with, slot, -100, &err));
		check_ok(pio_tpe_drop(with, slot, &err));
	}
	assert_int_equal(pio_tpe_finished(with), 30);
	assert_true(mean_of_proposals(with) == mean_of_proposals(without));
	pio_tpe_free(with);
	pio_tpe_free(without);
}

/* The order in which values come does not count, the order in which points began does. */
static void a_proposal_depends_on_what_is_known_alone(void **state)
{
	(void)state;
	double kept[axes_count] = { 0 };
	for (int turn = 0; turn < 2; turn++) {
		pio_tpe *tpe = model(axes_count);
		pio_draw draw = named(3, "points");
		size_t slot;
		for (int i = 0; i < 60; i++) {
			double point[axes_count];
			for (int a = 0; a < axes_count; a++) {
				pio_axis axis = axis_of(a);
				point[a] = any_coordinate(&axis, &draw);
			}
			check_ok(pio_tpe_add(&slot, tpe, point, &err));
		}
		for (int i = 0; i < 50; i++) {
			slot = (size_t)(turn ? 49 - i : i);
			if (turn) /* told twice: the last word counts */
				check_ok(pio_tpe_set(tpe, slot, -1.0, &err));
			check_ok(pio_tpe_set(tpe, slot, (double)(slot * 7 % 13), &err));
		}
		assert_int_equal(pio_tpe_finished(tpe), 50);
		const double *points;
		pio_draw again = named(4, "proposal");
		check_ok(pio_tpe_propose(&points, tpe, &again, &err));
		for (int a = 0; a < axes_count; a++) {
			if (turn)
				assert_true(points[a] == kept[a]);
			kept[a] = points[a];
		}
		pio_tpe_free(tpe);
	}
	/* A promise to every sweep on record, and the same on every machine. */
	const double promised[axes_count] = { -0x1.3c34114023226p+2, -0x1.9a1dcfae22bc7p+1, 1,
		                              0x1.0155e4089e4d9p+3, 0 };
	for (int a = 0; a < axes_count; a++)
		assert_true(kept[a] == promised[a]);
}

enum { told_max = 320 };

/* What is known of each point: INFINITY it failed, NAN it is under way; or it was dropped. */
typedef struct told {
	double point[axes_count], value;
	bool is_dropped;
} told;

static void tell(pio_tpe *tpe, size_t slot, const told *point)
{
	if (point->is_dropped)
		check_ok(pio_tpe_drop(tpe, slot, &err));
	else if (!isnan(point->value))
		check_ok(pio_tpe_set(tpe, slot, point->value, &err));
}

static pio_tpe *model_of(const told *points, size_t n, const pio_tpe_options *options)
{
	pio_axis all[axes_count];
	pio_tpe *tpe = NULL;
	for (int a = 0; a < axes_count; a++)
		all[a] = axis_of(a);
	check_ok(pio_tpe_new(&tpe, all, axes_count, options, &err));
	for (size_t i = 0; i < n; i++) {
		size_t slot;
		check_ok(pio_tpe_add(&slot, tpe, points[i].point, &err));
		tell(tpe, slot, &points[i]);
	}
	return tpe;
}

static void check_same_proposal(pio_tpe *one, pio_tpe *other, int64_t number)
{
	const double *points, *others;
	pio_draw draw = named(number, "proposal"), again = draw;
	check_ok(pio_tpe_propose(&points, one, &draw, &err));
	check_ok(pio_tpe_propose(&others, other, &again, &err));
	assert_memory_equal(points, others, sizeof *points * axes_count * (size_t)usual.candidates);
}

/* A model that was asked after each change gives, to the bit and in the same order, what one
 * made anew of the same points does. */
static void a_model_that_changed_is_one_made_anew(void **state)
{
	(void)state;
	static told points[told_max];
	const pio_tpe_options every = { .candidates = 24, .gamma = 1, .below_max = told_max };
	for (int turn = 0; turn < 2; turn++) {
		const pio_tpe_options *options = turn ? &every : &usual;
		pio_tpe *tpe = model_of(points, 0, options);
		pio_draw draw = named(turn, "points");
		for (size_t n = 1; n <= told_max; n++) {
			told *newest = &points[n - 1];
			*newest = (told){ .value = NAN };
			for (int a = 0; a < axes_count; a++) {
				pio_axis axis = axis_of(a);
				newest->point[a] = any_coordinate(&axis, &draw);
			}
			size_t slot;
			check_ok(pio_tpe_add(&slot, tpe, newest->point, &err));
			/* one that is under way, or one that was known: it is as good as any, or failed, or gone */
			slot = (size_t)pio_draw_integer(&draw, n > 8 && n % 4 ? (int64_t)n - 8 : 0, (int64_t)n - 1);
			points[slot].value = n % 7 ? pio_draw_uniform(&draw) : INFINITY;
			points[slot].is_dropped = n % 11 == 0;
			tell(tpe, slot, &points[slot]);
			pio_tpe *anew = n % 2 ? model_of(points, n, options) : NULL;
			check_same_proposal(tpe, anew ? anew : tpe, (int64_t)n);
			pio_tpe_free(anew);
		}
		pio_tpe_free(tpe);
	}
}

/* The same where no axis has an order. */
static void a_model_of_choices_alone_that_changed_is_one_made_anew(void **state)
{
	(void)state;
	enum { points_count = 240, choices = 2 };
	pio_axis axes[choices];
	double points[points_count][choices];
	pio_draw draw = named(5, "points");
	pio_tpe *kept = NULL;
	size_t slot;
	for (int a = 0; a < choices; a++)
		axes[a] = pio_axis_init(PIO_AXIS_CHOICE, false, 0, 5);
	check_ok(pio_tpe_new(&kept, axes, choices, &usual, &err));
	for (int n = 0; n < points_count; n++) {
		for (int a = 0; a < choices; a++)
			points[n][a] = any_coordinate(&axes[a], &draw);
		check_ok(pio_tpe_add(&slot, kept, points[n], &err));
		check_ok(pio_tpe_set(kept, slot, n * 37 % 101, &err));
		pio_tpe *anew = NULL;
		check_ok(pio_tpe_new(&anew, axes, choices, &usual, &err));
		for (int i = 0; i <= n; i++) {
			check_ok(pio_tpe_add(&slot, anew, points[i], &err));
			check_ok(pio_tpe_set(anew, slot, i * 37 % 101, &err));
		}
		const double *one, *other;
		pio_draw first = named(n, "proposal"), second = first;
		check_ok(pio_tpe_propose(&one, kept, &first, &err));
		check_ok(pio_tpe_propose(&other, anew, &second, &err));
		assert_memory_equal(one, other, sizeof *one * choices * (size_t)usual.candidates);
		pio_tpe_free(anew);
	}
	pio_tpe_free(kept);
}

static void memory_that_is_out_is_an_error(void **state)
{
	(void)state;
	pio_axis axes[2] = { axis_of(0), axis_of(3) };
	for (uint64_t nth = 1;; nth++) {
		int64_t live = pio_mem_live();
		pio_tpe *tpe = NULL;
		const double *points;
		size_t slot;
		double point[2] = { 1, 2 };
		pio_err err = PIO_ERR_INIT;
		pio_draw draw = named(1, "memory");
		pio_mem_fail_at(nth);
		int rc = pio_tpe_new(&tpe, axes, 2, &usual, &err);
		for (int i = 0; i < 70 && !rc; i++) {
			rc = pio_tpe_add(&slot, tpe, point, &err);
			rc = rc ? rc : pio_tpe_set(tpe, slot, i, &err);
			if (i > 60) /* the sides grow */
				rc = rc ? rc : pio_tpe_propose(&points, tpe, &draw, &err);
		}
		rc = rc ? rc : pio_tpe_propose(&points, tpe, &draw, &err);
		bool struck = pio_mem_fail_at(0) == 0;
		pio_tpe_free(tpe);
		assert_int_equal(pio_mem_live(), live);
		assert_int_equal(rc, struck ? -PIO_ENOMEM : 0);
		if (!struck)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mixture_is_what_its_definition_says),
		cmocka_unit_test(draws_follow_the_mixture),
		cmocka_unit_test(it_goes_where_it_was_good_and_away_from_what_is_under_way),
		cmocka_unit_test(what_failed_is_worse_than_all_others),
		cmocka_unit_test(what_is_dropped_is_as_if_it_had_not_been),
		cmocka_unit_test(a_proposal_depends_on_what_is_known_alone),
		cmocka_unit_test(a_model_that_changed_is_one_made_anew),
		cmocka_unit_test(a_model_of_choices_alone_that_changed_is_one_made_anew),
		cmocka_unit_test(memory_that_is_out_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
