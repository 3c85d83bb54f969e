#include "launch/pace.h"
#include "test.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)

/* `steps` steps of `took_ns` each, seen as they are made. */
static int64_t walk(pio_pace *pace, pio_pace_book *book, int steps, int64_t took_ns, int64_t now_ns)
{
	for (int i = 0; i < steps; i++) {
		now_ns += took_ns;
		int64_t step = pace->step == INT64_MIN ? 0 : pace->step + 1;
		pio_pace_see(pace, book, step, pace->taken + 1, now_ns);
	}
	return now_ns;
}

static void limits_are_floors_until_steps_are_long(void **state)
{
	(void)state;
	pio_pace_book book = { .count = 0 };
	pio_pace pace = PIO_PACE_INIT;
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_FIRST, 60 * S), 1800 * S);
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_BUSY, 60 * S), 600 * S);
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_IDLE, 60 * S), 60 * S);
	int64_t now_ns = walk(&pace, &book, 1000, 300 * MS, S);
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_IDLE, 60 * S), 60 * S);
	/* One evaluation of 200 s among a thousand steps: the idle limit stays, who
	 * works may take five times as long. */
	now_ns = walk(&pace, &book, 1, 200 * S, now_ns);
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_IDLE, 60 * S), 60 * S);
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_BUSY, 60 * S), 1000 * S);
	/* As many as 2 in 100, and they are what is usual. */
	walk(&pace, &book, 20, 200 * S, now_ns);
	assert_int_equal(pio_pace_limit_ns(&book, PIO_PACE_IDLE, 60 * S), 1000 * S);
}

static void p99_is_an_upper_bound_within_a_fifth(void **state)
{
	(void)state;
	for (int64_t took_ns = 2 * MS; took_ns < 100000 * S; took_ns = took_ns * 17 / 10) {
		pio_pace_book book = { .count = 0 };
		pio_pace pace = PIO_PACE_INIT;
		int64_t now_ns = walk(&pace, &book, 100, took_ns, S);
		walk(&pace, &book, 1, 100 * took_ns, now_ns); /* the one beyond */
		int64_t p99_ns = pio_pace_p99_ns(&book);
		assert_in_range(p99_ns, took_ns, took_ns * 12 / 10);
	}
	pio_pace_book none = { .count = 0 };
	assert_int_equal(pio_pace_p99_ns(&none), 0);
}

static void time_to_the_first_step_teaches_nothing(void **state)
{
	(void)state;
	pio_pace_book book = { .count = 0 };
	pio_pace pace = PIO_PACE_INIT;
	pio_pace_see(&pace, &book, INT64_MIN, 0, 5 * S);
	assert_int_equal(pace.rises, 0);
	pio_pace_see(&pace, &book, 7, 1, 900 * S);
	assert_int_equal(pace.rises, 1);
	assert_int_equal(book.count, 0);
	pio_pace_see(&pace, &book, 8, 2, 902 * S);
	assert_int_equal(book.longest_ns, 2 * S);
}

static void whatever_is_logged_is_a_sign_of_life(void **state)
{
	(void)state;
	pio_pace_book book = { .count = 0 };
	pio_pace pace = PIO_PACE_INIT;
	pio_pace_see(&pace, &book, 100, 10, 1 * S);
	pio_pace_see(&pace, &book, 100, 20, 9 * S); /* an earlier step again */
	assert_int_equal(pace.alive_ns, 9 * S);
	assert_int_equal(pace.rose_ns, 1 * S);
	pio_pace_see(&pace, &book, 100, 20, 30 * S);
	assert_int_equal(pace.alive_ns, 9 * S);
	pio_pace_forgive(&pace, 20 * S);
	assert_int_equal(pace.alive_ns, 29 * S);
	assert_int_equal(pace.rose_ns, 21 * S);
}

static void a_window_is_20_steps_and_5_seconds(void **state)
{
	(void)state;
	pio_pace_book book = { .count = 0 };
	pio_pace pace = PIO_PACE_INIT;
	int64_t now_ns = walk(&pace, &book, 20, 300 * MS, S); /* 19 steps since the first */
	assert_int_equal(pace.step_ns, 0);
	assert_true(pio_pace_see(&pace, &book, 20, 99, now_ns + 300 * MS));
	assert_int_equal(pace.step_ns, 300 * MS);
	/* Fast steps: many more than 20 before 5 s have gone. */
	now_ns = walk(&pace, &book, 4999, 1 * MS, now_ns + 300 * MS);
	assert_int_equal(pace.step_ns, 300 * MS);
	walk(&pace, &book, 1, 1 * MS, now_ns);
	assert_int_equal(pace.step_ns, 1 * MS);
}

static void any_step_is_taken(void **state)
{
	(void)state;
	pio_pace_book book = { .count = 0 };
	pio_pace pace = PIO_PACE_INIT;
	pio_pace_see(&pace, &book, INT64_MIN + 1, 1, 1 * S);
	assert_true(pio_pace_see(&pace, &book, INT64_MAX, 2, 11 * S));
	assert_int_equal(pace.step_ns, 0); /* 10 s over 2^64 steps */
}

static int64_t median(int64_t a, int64_t b, int64_t c, int64_t d, size_t *told)
{
	int64_t steps_ns[] = { a, b, c, d };
	*told = 4;
	return pio_pace_median_ns(steps_ns, told);
}

static void the_median_is_of_those_who_told(void **state)
{
	(void)state;
	size_t told;
	assert_int_equal(median(40, 10, 30, 20, &told), 20); /* of two in the middle the lower one */
	assert_int_equal(told, 4);
	assert_int_equal(median(0, 40, 0, 10, &told), 10);
	assert_int_equal(told, 2);
	assert_int_equal(median(0, 0, 0, 10, &told), 0); /* less than half */
	int64_t alone[] = { 10 };
	told = 1;
	assert_int_equal(pio_pace_median_ns(alone, &told), 0);
	told = 0;
	assert_int_equal(pio_pace_median_ns(alone, &told), 0);
}

static void an_episode_begins_once(void **state)
{
	(void)state;
	pio_pace pace = PIO_PACE_INIT;
	static const struct { int64_t step_ns; bool begins; } seen[] = {
		{ 100 * MS, false }, { 129 * MS, false }, { 131 * MS, true }, { 200 * MS, false },
		{ 120 * MS, false }, { 140 * MS, false }, /* still the same one */
		{ 114 * MS, false }, { 131 * MS, true },
	};
	for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
		pace.step_ns = seen[i].step_ns;
		assert_int_equal(pio_pace_falls_behind(&pace, 100 * MS), seen[i].begins);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_are_floors_until_steps_are_long),
		cmocka_unit_test(p99_is_an_upper_bound_within_a_fifth),
		cmocka_unit_test(time_to_the_first_step_teaches_nothing),
		cmocka_unit_test(whatever_is_logged_is_a_sign_of_life),
		cmocka_unit_test(a_window_is_20_steps_and_5_seconds),
		cmocka_unit_test(any_step_is_taken),
		cmocka_unit_test(the_median_is_of_those_who_told), cmocka_unit_test(an_episode_begins_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
