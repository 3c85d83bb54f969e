#include "launch/suspect.h"

#include <string.h>

#include "test.h"

/* Ranks 0, 1, ... that do this and log that, in any order. */
static pio_suspect rank(int number, char state, const char *wait, int64_t step, int64_t alive_ns)
{
	pio_suspect suspect = { .rank = number, .step = step, .alive_ns = alive_ns };
	suspect.look.state = state;
	snprintf(suspect.look.wait, sizeof suspect.look.wait, "%s", wait);
	return suspect;
}

static void expect_first(pio_suspect *suspects, size_t count, int first)
{
	for (size_t turn = 0; turn < count; turn++) { /* whatever their order */
		pio_suspect turned[8];
		for (size_t i = 0; i < count; i++)
			turned[i] = suspects[(i + turn) % count];
		pio_suspects_line_up(turned, count);
		assert_int_equal(turned[0].rank, first);
	}
}

#define LINE(...) (pio_suspect[]){ __VA_ARGS__ }, sizeof((pio_suspect[]){ __VA_ARGS__ }) / sizeof(pio_suspect)
#define NO_STEP INT64_MIN

static void the_first_to_stand_is_in_front(void **state)
{
	(void)state;
	/* Only rank 0 logs: the stopped one, then who is odd, then rank 0 itself. */
	expect_first(LINE(rank(0, 'S', "futex", 7, 1), rank(1, 'S', "futex", NO_STEP, 0),
	                  rank(2, 'T', "do_signal_stop", NO_STEP, 0), rank(3, 'R', "", NO_STEP, 0)), 2);
	expect_first(LINE(rank(0, 'S', "futex", 7, 1), rank(1, 'S', "futex", NO_STEP, 0),
	                  rank(2, 'S', "futex", NO_STEP, 0), rank(3, 'R', "", NO_STEP, 0)), 3);
	expect_first(LINE(rank(0, 'S', "futex", 7, 1), rank(1, 'S', "futex", NO_STEP, 0),
	                  rank(2, 'S', "futex", NO_STEP, 0)), 0);
	/* All log: who is behind, rather than who is odd; of two that are, the one further. */
	expect_first(LINE(rank(0, 'S', "futex", 7, 1), rank(1, 'S', "futex", 6, 9), rank(2, 'R', "", 7, 1),
	                  rank(3, 'S', "futex", 5, 9)), 3);
	/* The last steps are the same: the odd one, or who has been silent for longest. */
	expect_first(LINE(rank(0, 'S', "futex", 7, 3), rank(1, 'S', "pipe_read", 7, 9), rank(2, 'S', "futex", 7, 2)),
	             1);
	expect_first(LINE(rank(0, 'S', "futex", 7, 3), rank(1, 'S', "futex", 7, 2)), 1);
	/* Two that differ: none is the odd one. */
	expect_first(LINE(rank(0, 'S', "futex", 7, 2), rank(1, 'R', "", 7, 2)), 0);
}

static void one_that_is_stopped_holds_up_all(void **state)
{
	(void)state;
	pio_suspect ranks[] = { rank(0, 'R', "", 7, 1), rank(1, 't', "ptrace_stop", 7, 1) };
	assert_false(pio_suspects_are_held_up(ranks, 2)); /* a person looks at it */
	ranks[1].look.state = 'T';
	assert_true(pio_suspects_are_held_up(ranks, 2));
	assert_false(pio_suspects_are_held_up(ranks, 0));
}

static void a_report_comes_back_and_may_be_anything(void **state)
{
	(void)state;
	pio_suspect logs = rank(1015, 'S', "futex_wait_queue", 812, 5), quiet = rank(3, 'D', "", NO_STEP, 0);
	json_t *json = pio_suspect_to_json(&logs);
	pio_suspect back = pio_suspect_of_json(json, 126);
	json_decref(json);
	assert_int_equal(back.rank, 1015);
	assert_int_equal(back.index, 126);
	assert_int_equal(back.look.state, 'S');
	assert_string_equal(back.look.wait, "futex_wait_queue");
	assert_int_equal(back.step, 812);
	assert_int_equal(back.alive_ns, 5);
	json = pio_suspect_to_json(&quiet);
	back = pio_suspect_of_json(json, 0);
	json_decref(json);
	assert_int_equal(back.step, NO_STEP);
	assert_int_equal(back.look.state, 'D');
	json = json_pack("{s:s, s:i, s:s}", "rank", "x", "wait", 3, "state", "");
	back = pio_suspect_of_json(json, 0);
	json_decref(json);
	assert_int_equal(back.rank, -1);
	assert_string_equal(back.look.wait, "");
	assert_int_equal(pio_suspect_of_json(NULL, 4).index, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_to_stand_is_in_front), cmocka_unit_test(one_that_is_stopped_holds_up_all),
		cmocka_unit_test(a_report_comes_back_and_may_be_anything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
