/* Hangs, over all nodes of an attempt. */
#include "client/env.h"
#include "head_fixture.h"

/* A step each half second; from step 4 on rank 3 is stopped, and all others wait. */
static int hang_main(void)
{
	pio_run *run;
	int rank = atoi(getenv("RANK"));
	if (pio_open(&run, NULL))
		return 98;
	pio_key key = pio_key_get(run, "loss");
	for (int step = 0; step < 5; step++) {
		pio_log(run, key, step, 0);
		pio_clock_sleep_ms(500);
		if (step == 3 && rank == 3)
			raise(SIGSTOP);
	}
	pio_clock_sleep_ms(60000);
	return 0;
}

/* Node 0 evaluates for longer than the limit, node 1 waits for it. */
static int wait_main(void)
{
	pio_run *run;
	if (pio_open(&run, NULL))
		return 98;
	/* They begin together: who has made no step yet is not waited for. */
	char path[400];
	snprintf(path, sizeof path, "%s/begun.%s", getenv(PIO_ENV_DIR), getenv("RANK"));
	(void)pio_fs_write(path, "", 0, 0666, NULL);
	snprintf(path, sizeof path, "%s/begun.%d", getenv(PIO_ENV_DIR), 1 - atoi(getenv("RANK")));
	while (pio_fs_type(path) == PIO_FS_NONE)
		pio_clock_sleep_ms(10);
	pio_key key = pio_key_get(run, "loss");
	for (int step = 0; step < 6; step++) {
		pio_log(run, key, step, 0);
		pio_clock_sleep_ms(500);
		int64_t end_ns = pio_clock_mono_ns() + 8000000000;
		while (step == 3 && atoi(getenv("RANK")) == 0 && pio_clock_mono_ns() < end_ns)
			continue;
		if (step == 3 && atoi(getenv("RANK")) != 0)
			pio_clock_sleep_ms(8000);
	}
	pio_close(&run, 0);
	return 0;
}

static void wait_busily(int64_t ms)
{
	int64_t end_ns = pio_clock_mono_ns() + ms * 1000000;
	while (pio_clock_mono_ns() < end_ns)
		continue;
}

/* Rank 0 alone logs: 4 steps, and after `pause_ms` two more. */
static int log_of_one(int64_t pause_ms)
{
	pio_run *run;
	if (pio_open(&run, NULL))
		return 98;
	pio_key key = pio_key_get(run, "loss");
	for (int step = 0; step < 6; step++) {
		pio_log(run, key, step, 0);
		pio_clock_sleep_ms(step == 3 ? pause_ms : 500);
	}
	pio_close(&run, 0);
	return 0;
}

/* Rank 3 is stopped, all others wait. */
static int quiet_main(int rank)
{
	if (rank == 0)
		return log_of_one(60000);
	if (rank == 3)
		raise(SIGSTOP);
	pio_clock_sleep_ms(60000);
	return 0;
}

/* Rank 3 does something, all others wait. */
static int odd_main(int rank)
{
	if (rank == 0)
		return log_of_one(60000);
	if (rank == 3)
		wait_busily(60000);
	pio_clock_sleep_ms(60000);
	return 0;
}

/* Rank 1 works for longer than the limit, and all others wait for it. */
static int busy_main(int rank)
{
	if (rank == 0)
		return log_of_one(12000);
	if (rank == 1)
		wait_busily(14000);
	return 0;
}

/* Rank 0 stands, rank 1 makes steps until it has done its part. */
static int part_main(int rank)
{
	pio_run *run;
	if (pio_open(&run, NULL))
		return 98;
	pio_key key = pio_key_get(run, "loss");
	for (int step = 0; step < 20; step++) {
		if (rank == 0 && step == 3)
			pio_clock_sleep_ms(60000);
		pio_log(run, key, step, 0);
		pio_clock_sleep_ms(400);
	}
	pio_close(&run, 0);
	return 0;
}

/* For 18 s; rank 1 takes four times as long for a step as the others. */
static int pace_main(int rank)
{
	pio_run *run;
	if (pio_open(&run, NULL))
		return 98;
	pio_key key = pio_key_get(run, "loss");
	int64_t end_ns = pio_clock_mono_ns() + 18000000000;
	for (int step = 0; pio_clock_mono_ns() < end_ns; step++) {
		pio_log(run, key, step, 0);
		pio_clock_sleep_ms(rank == 1 ? 200 : 50);
	}
	pio_close(&run, 0);
	return 0;
}

static int rank_body(const char *word)
{
	int rank = atoi(getenv("RANK"));
	return strcmp(word, "quiet") == 0  ? quiet_main(rank)
	       : strcmp(word, "odd") == 0  ? odd_main(rank)
	       : strcmp(word, "busy") == 0 ? busy_main(rank)
	       : strcmp(word, "part") == 0 ? part_main(rank)
	       : strcmp(word, "pace") == 0 ? pace_main(rank)
	       : strcmp(word, "hang") == 0 ? hang_main()
	                                   : wait_main();
}

static void a_hang_is_found_over_all_nodes(void **state)
{
	(void)state;
	json_t *spec = orders(3, 2, "hang");
	json_object_set_new(spec, "hang_s", json_integer(3));
	json_t *record = end(start(spec)), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "hang");
	assert_int_equal(int_of(first, "rank"), 3);
	assert_int_equal(int_of(first, "step"), 3);
	assert_string_equal(text_of(first, "host"), "dgx-001");
	if (!strstr(text_of(record, "message"), "hang: rank 3 (dgx-001) has made no step since 3, ") ||
	    !strstr(text_of(record, "message"), " s ago (limit 3 s); it is stopped (T)"))
		fail_msg("%s", text_of(record, "message"));
	expect_node(record, 1, "hang", "hang: rank 3");
	expect_node(record, 0, "cancelled", "failure on another node");
	for (int node = 0; node < 3; node++) { /* of all, before anybody was stopped */
		char name[32];
		snprintf(name, sizeof name, "stacks.%d.txt", node);
		pio_str text = read_text(name);
		assert_non_null(strstr(text.data, "stacks of 2 ranks"));
		pio_str_fini(&text);
	}
	json_decref(record);
}

static void a_node_that_waits_for_another_does_not_hang(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "wait");
	json_object_set_new(spec, "hang_floor_s", json_integer(3));
	json_t *record = end(start(spec));
	if (strcmp(text_of(record, "result"), "ok") != 0)
		fail_msg("%s", text_of(record, "message"));
	json_decref(record);
}

/* As most trainers: rank 0 alone logs, and the one that is stopped does not. */
static void a_stopped_rank_that_logs_nothing_is_named(void **state)
{
	(void)state;
	json_t *spec = orders(3, 2, "quiet");
	json_object_set_new(spec, "hang_s", json_integer(3));
	json_t *record = end(start(spec)), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "hang");
	assert_int_equal(int_of(first, "rank"), 3);
	assert_true(json_is_null(json_object_get(first, "step")));
	assert_string_equal(text_of(first, "host"), "dgx-001");
	contains(text_of(record, "message"), "hang: no rank has logged anything for ");
	contains(text_of(record, "message"), " s (limit 3 s); rank 3 (dgx-001) logs no steps; it is stopped (T)");
	/* Not since the machine began. */
	const char *waited = strstr(text_of(record, "message"), "5 ranks waited ");
	assert_non_null(waited);
	assert_in_range(atoi(waited + strlen("5 ranks waited ")), 3, 120);
	expect_node(record, 1, "hang", "rank 3");
	expect_node(record, 0, "cancelled", "failure on another node");
	expect_node(record, 2, "cancelled", "failure on another node");
	pio_str text = read_text("stacks.1.txt");
	assert_true(strstr(text.data, "rank 3: ") < strstr(text.data, "rank 2: "));
	pio_str_fini(&text);
	json_decref(record);
}

static void who_does_something_else_than_most_is_named(void **state)
{
	(void)state;
	json_t *spec = orders(3, 2, "odd");
	json_object_set_new(spec, "hang_s", json_integer(3));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "hang");
	contains(text_of(record, "message"), "rank 3 (dgx-001) logs no steps; it runs");
	json_decref(record);
}

static void a_long_step_of_a_rank_that_logs_nothing_is_no_hang(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "busy");
	json_object_set_new(spec, "hang_floor_s", json_integer(3));
	json_t *record = end(start(spec));
	if (strcmp(text_of(record, "result"), "ok") != 0)
		fail_msg("%s", text_of(record, "message"));
	json_decref(record);
}

static void a_hang_is_found_when_the_others_have_ended(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "part");
	json_object_set_new(spec, "hang_s", json_integer(2));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "hang");
	contains(text_of(record, "message"), "hang: rank 0 (dgx-000) has made no step since 2, ");
	expect_node(record, 1, "ok", "");
	json_decref(record);
}

static void a_straggler_is_found_over_all_nodes(void **state)
{
	(void)state;
	json_t *record = end(start(orders(3, 1, "pace")));
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
	heard_events slow = straggler_in_journal(1, "dgx-001");
	contains(slow.message, " times the median of "); /* of 2, or 3 */
	assert_int_equal(events_in_journal(0).count, 0);
	assert_int_equal(events_in_journal(2).count, 0);
}

int main(int argc, char **argv)
{
	int status = be_another(argc, argv, rank_body);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = {
		T(a_hang_is_found_over_all_nodes), T(a_stopped_rank_that_logs_nothing_is_named),
		T(who_does_something_else_than_most_is_named), T(a_node_that_waits_for_another_does_not_hang),
		T(a_long_step_of_a_rank_that_logs_nothing_is_no_hang),
		T(a_hang_is_found_when_the_others_have_ended), T(a_straggler_is_found_over_all_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
