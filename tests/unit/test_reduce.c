#include "store_fixture.h"

#include "store/reduce.h"

enum { RANKS = 5, STEPS = 3000 };

/* What a rank logs at a step; false: nothing. */
static bool value_of(pio_point *point, int rank, int64_t step)
{
	uint64_t state = (uint64_t)(step * 31 + rank) * 0x9e3779b97f4a7c15u + 88172645463325252u;
	next_random(&state);
	uint64_t kind = next_random(&state) % 40;
	*point = (pio_point){ .step = step, .time_ns = 1000000 * (step + rank), .attempt = 1 };
	if (kind == 0)
		return false;
	if (kind == 1 || step % 500 == 7)
		point->value = NAN;
	else if (kind == 2)
		point->value = next_random(&state) % 2 ? INFINITY : -INFINITY;
	else if (kind < 6) {
		point->integer = true;
		point->whole = INT64_MAX - (int64_t)(next_random(&state) % 3);
	} else
		point->value = (double)(next_random(&state) % 50) * 0.1;
	return true;
}

static void put(pio_journal_writer *w, int rank, const pio_point *p)
{
	put_bits(w, (uint32_t)rank, p->integer ? 1 | PIO_POINT_INTEGER : 1, p->step, p->time_ns,
	         (uint64_t)p->whole);
}

static fixture many_ranks(void)
{
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	for (int rank = 0; rank < RANKS; rank++)
		put_key(w, (uint32_t)rank, 1, "loss");
	for (int64_t i = 0; i < STEPS; i++) {
		int64_t step = i / 100 % 2 ? i - 100 : i + 100; /* out of order */
		for (int rank = 0; rank < RANKS; rank++) {
			pio_point p;
			if (!value_of(&p, rank, step))
				continue;
			pio_point older = { .step = step, .time_ns = 0, .value = 1e6 };
			if (step % 9 == 0)
				put(w, rank, &older); /* a newer value of the step follows */
			put(w, rank, &p);
		}
	}
	journal_down(w);
	fold(&f, true);
	return f;
}

/* By the rules of reduce.h, one step at a time. False: no rank logged it. */
static bool expect(pio_point *out, int32_t *ranks, int64_t step, enum pio_reduce how)
{
	double sum = 0;
	int finite = 0, best = -1;
	pio_point p, chosen = { 0 };
	*ranks = 0;
	*out = (pio_point){ .step = step, .value = NAN, .attempt = 1 };
	for (int rank = 0; rank < RANKS; rank++) {
		if (!value_of(&p, rank, step))
			continue;
		++*ranks;
		out->time_ns = p.time_ns;
		double v = pio_point_real(&p);
		finite += isfinite(v) != 0;
		sum += isfinite(v) ? v : 0;
		bool whole = p.integer && chosen.integer;
		bool more = whole ? p.whole > chosen.whole : v > pio_point_real(&chosen);
		bool less = whole ? p.whole < chosen.whole : v < pio_point_real(&chosen);
		if (!isnan(v) && (best < 0 || (how == PIO_REDUCE_MIN ? less : more))) {
			best = rank;
			chosen = p;
		}
	}
	if (how == PIO_REDUCE_MEAN && finite)
		out->value = sum / finite;
	else if (how != PIO_REDUCE_MEAN && best >= 0) {
		out->integer = how == PIO_REDUCE_ARGMAX || chosen.integer;
		out->whole = how == PIO_REDUCE_ARGMAX ? best : chosen.whole;
	}
	return *ranks > 0;
}

static void every_step_follows_the_rules(void **unused)
{
	(void)unused;
	static const char *const words[] = { "mean", "max", "min", "argmax" };
	fixture f = many_ranks();
	for (size_t w = 0; w < 4; w++) {
		enum pio_reduce how;
		pio_point *points, want;
		int32_t *ranks, want_ranks;
		size_t count, at = 0;
		check_ok(pio_reduce_parse(&how, words[w], &err));
		check_ok(pio_reduce_points(&points, &ranks, &count, pio_store_reader(f.store), f.run, "loss",
		                           how, 10, STEPS - 11, &err));
		for (int64_t step = 10; step < STEPS - 10; step++) {
			if (!expect(&want, &want_ranks, step, how))
				continue;
			const pio_point *p = &points[at];
			assert_true(at < count && p->step == step && ranks[at] == want_ranks);
			assert_true(p->integer == want.integer && p->time_ns == want.time_ns && p->attempt == 1);
			if (how == PIO_REDUCE_MEAN) /* the sum is taken exactly there, plainly here */
				assert_true(fabs(p->value - want.value) <= 1e-12 * fabs(want.value) ||
				            (isnan(p->value) && isnan(want.value)));
			else
				assert_true(p->whole == want.whole ||
				            (!p->integer && isnan(p->value) && isnan(want.value)));
			at++;
		}
		assert_int_equal(at, count);
		pio_free(points);
		pio_free(ranks);
	}
	store_down(&f);
}

static void buckets_are_those_of_the_reduced_points(void **unused)
{
	(void)unused;
	static const size_t widths[] = { 1, 7, 1000, 5000 };
	fixture f = many_ranks();
	for (size_t w = 0; w < 4; w++) {
		pio_point *points;
		pio_bucket *buckets;
		int32_t *ranks;
		size_t count, buckets_count, at = 0;
		check_ok(pio_reduce_points(&points, &ranks, &count, pio_store_reader(f.store), f.run, "loss",
		                           PIO_REDUCE_MAX, INT64_MIN, INT64_MAX, &err));
		check_ok(pio_reduce_buckets(&buckets, &buckets_count, pio_store_reader(f.store), f.run, "loss",
		                            PIO_REDUCE_MAX, INT64_MIN, INT64_MAX, widths[w], &err));
		assert_in_range(buckets_count, 1, widths[w]);
		for (size_t b = 0; b < buckets_count; b++) {
			double max = -INFINITY;
			int64_t n = 0;
			for (; at < count && points[at].step <= buckets[b].last_step; at++, n++) {
				double v = pio_point_real(&points[at]);
				max = isfinite(v) && v > max ? v : max;
			}
			assert_int_equal(n, buckets[b].count);
			assert_true(buckets[b].finite ? buckets[b].max == max : isnan(buckets[b].max));
		}
		assert_int_equal(at, count);
		pio_free(points);
		pio_free(ranks);
		pio_free(buckets);
	}
	store_down(&f);
}

/* Ranks that share no step make a window overflow; none is lost or doubled. */
static void ranks_may_log_at_steps_of_their_own(void **unused)
{
	(void)unused;
	enum { EACH = 50000, OWN = 4 };
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	for (uint32_t rank = 0; rank < OWN; rank++) {
		put_key(w, rank, 1, "loss");
		for (int64_t i = 0; i < EACH; i++)
			put_bits(w, rank, 1, i * OWN + rank, 0, bits_of(rank));
	}
	journal_down(w);
	fold(&f, true);
	pio_point *points;
	int32_t *ranks;
	size_t count;
	check_ok(pio_reduce_points(&points, &ranks, &count, pio_store_reader(f.store), f.run, "loss",
	                           PIO_REDUCE_MEAN, INT64_MIN, INT64_MAX, &err));
	assert_int_equal(count, EACH * OWN);
	for (size_t i = 0; i < count; i++)
		assert_true(points[i].step == (int64_t)i && points[i].value == (double)(i % OWN) && ranks[i] == 1);
	pio_free(points);
	pio_free(ranks);
	store_down(&f);
}

static void what_is_wrong_is_said(void **unused)
{
	(void)unused;
	fixture f = many_ranks();
	enum pio_reduce how;
	pio_point *points;
	int32_t *ranks;
	size_t count;
	check_fails(pio_reduce_parse(&how, "median", &err), PIO_EINVAL, "'median'");
	check_fails(pio_reduce_points(&points, &ranks, &count, pio_store_reader(f.store), f.run, "lozz",
	                              PIO_REDUCE_MEAN, 0, 10, &err), PIO_ENOTFOUND, "'lozz'");
	check_ok(pio_reduce_points(&points, &ranks, &count, pio_store_reader(f.store), f.run, "loss",
	                           PIO_REDUCE_MEAN, 10, 5, &err));
	assert_int_equal(count, 0);
	pio_free(points);
	pio_free(ranks);
	int64_t live = pio_mem_live();
	int rc = -1;
	for (uint64_t n = 1; rc; n++) { /* memory is out at the nth allocation */
		pio_mem_fail_at(n);
		rc = pio_reduce_points(&points, &ranks, &count, pio_store_reader(f.store), f.run, "loss",
		                       PIO_REDUCE_MAX, INT64_MIN, INT64_MAX, NULL);
		pio_mem_fail_at(0);
		assert_true(rc == 0 || rc == -PIO_ENOMEM);
		assert_true(rc == 0 || (!points && !ranks && pio_mem_live() <= live + 1)); /* a decoder may stay */
	}
	pio_free(points);
	pio_free(ranks);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_step_follows_the_rules),
		cmocka_unit_test(buckets_are_those_of_the_reduced_points),
		cmocka_unit_test(ranks_may_log_at_steps_of_their_own),
		cmocka_unit_test(what_is_wrong_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
