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

static int rank_body(const char *word)
{
	return strcmp(word, "hang") == 0 ? hang_main() : wait_main();
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

int main(int argc, char **argv)
{
	int status = be_another(argc, argv, rank_body);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = {
		T(a_hang_is_found_over_all_nodes), T(a_node_that_waits_for_another_does_not_hang),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
