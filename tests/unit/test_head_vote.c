/* A head and its agents: at which step the ranks of all nodes end. */
#include "head_fixture.h"
#include "vote_rank.h"

static int rank_body(const char *word)
{
	return strcmp(word, "deaf") == 0 ? log_main(word)
	                                 : vote_rank_main(100000, strcmp(word, "mute") == 0 ? 3 : -1, -1,
	                                                  strcmp(word, "slow") == 0 ? 3000 : 1);
}

static int end_of(int rank)
{
	char name[32];
	snprintf(name, sizeof name, "rank-%d.out", rank);
	pio_str out = read_text(name);
	const char *at = strstr(out.data, "end ");
	int step = at ? atoi(at + 4) : -1;
	pio_str_fini(&out);
	return step;
}

static pid_t start_voters(const char *word)
{
	pid_t pid = start(orders(2, 2, word));
	for (int rank = 0; rank < 4; rank++) {
		char name[32];
		snprintf(name, sizeof name, "rank-%d.out", rank);
		wait_for_text(name, "up\n", 1);
	}
	return pid;
}

/* By a person, by a rule, by the time limit: whoever it is that sends the signal. */
static void all_nodes_end_at_one_step(void **state)
{
	const struct { int number; const char *result, *message; } ways[] = {
		{ SIGTERM, "cancelled", "stopped on request" },
		{ SIGUSR2, "timeout", "stopped because the time limit of the job was near" },
	};
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		pid_t pid = start_voters("ask");
		kill(pid, ways[i].number);
		json_t *record = end(pid);
		assert_string_equal(text_of(record, "result"), ways[i].result);
		assert_string_equal(text_of(record, "message"), ways[i].message);
		expect_node(record, 0, ways[i].result, "");
		expect_node(record, 1, ways[i].result, "");
		json_decref(record);
		assert_true(end_of(0) > 3);
		for (int rank = 1; rank < 4; rank++)
			assert_int_equal(end_of(rank), end_of(0));
		pio_str events = read_text("head.events");
		char note[64];
		snprintf(note, sizeof note, "\"all ranks end at step %d\"", end_of(0));
		contains(events.data, note);
		pio_str_fini(&events);
		tear_down(state), set_up(state);
	}
}

/* A node that does not answer is given up on, and the ranks get the signal. */
static void a_node_that_hangs_does_not_hold_the_others(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "ask");
	put_start_apart(spec);
	pid_t pid = start(spec);
	wait_for_text("rank-1.out", "up\n", 1);
	pio_str keeper = read_text("keeper");
	pio_proc_signal_tree(atoi(keeper.data), SIGSTOP);
	kill(pid, SIGTERM);
	wait_for_text("exit.0.json", "cancelled", 1);
	assert_int_equal(end_of(0), -1);
	pio_proc_signal_tree(atoi(keeper.data), SIGCONT);
	pio_str_fini(&keeper);
	json_t *record = end(pid);
	assert_string_equal(text_of(record, "result"), "cancelled");
	json_decref(record);
}

static void a_rank_that_dies_while_all_end_is_heard_of(void **state)
{
	(void)state;
	pid_t pid = start_voters("mute"); /* rank 3 does not ask: it learns from the others */
	kill(pid, SIGTERM);
	json_t *record = end(pid);
	assert_string_equal(text_of(record, "result"), "cancelled");
	contains(text_of(record, "message"), "stopped on request; dgx-001 rank 3 exited with 97");
	assert_true(end_of(0) > 3);
	assert_int_equal(end_of(3), -1);
	json_decref(record);
}

/* The head, asked 0.3 s ago to stop two nodes whose ranks ask, while the agent of one stands still. */
static pid_t stop_with_one_node_held(int *keeper)
{
	json_t *spec = orders(2, 1, "ask");
	put_start_apart(spec);
	json_object_set_new(spec, "grace_s", json_integer(60));
	pid_t pid = start(spec);
	wait_for_text("rank-0.out", "up\n", 1);
	wait_for_text("rank-1.out", "up\n", 1);
	pio_str text = read_text("keeper");
	*keeper = atoi(text.data);
	pio_str_fini(&text);
	pio_proc_signal_tree(*keeper, SIGSTOP);
	kill(pid, SIGTERM);
	pio_clock_sleep_ms(300);
	return pid;
}

/* Who asks again does not want to wait: the ranks get the signal, and no step any more,
 * though the last answer comes in time. */
static void a_second_stop_is_a_signal(void **state)
{
	(void)state;
	int keeper;
	pid_t pid = stop_with_one_node_held(&keeper);
	kill(pid, SIGTERM);
	pio_clock_sleep_ms(300);
	pio_proc_signal_tree(keeper, SIGCONT);
	json_t *record = end(pid);
	assert_string_equal(text_of(record, "result"), "cancelled");
	json_decref(record);
	for (int node = 0; node < 2; node++) {
		assert_int_equal(end_of(node), -1);
		record = read_json(node ? "exit.1.json" : "exit.0.json");
		json_t *rank = json_array_get(json_object_get(record, "ranks"), 0);
		assert_null(json_object_get(rank, "signal"));
		json_decref(record);
	}
	pio_str events = read_text("head.events");
	assert_null(strstr(events.data, "all ranks end at step"));
	pio_str_fini(&events);
}

static void patience_follows_the_longest_step(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "slow");
	json_object_set_new(spec, "last_step_s", json_integer(0));
	pid_t pid = start(spec);
	wait_for_text("rank-1.out", "on\n", 1);
	pio_clock_sleep_ms(1000); /* the agents have looked: steps have been short since */
	kill(pid, SIGTERM);
	json_decref(end(pid));
	pio_str events = read_text("head.events");
	const char *patience = strstr(events.data, "\"patience_s\":");
	assert_non_null(patience);
	assert_in_range(atoi(patience + strlen("\"patience_s\":")), 5, 30);
	pio_str_fini(&events);
}

/* A head that was held up until the agents may have given it up names no step. */
static void a_late_head_sends_a_signal(void **state)
{
	(void)state;
	int keeper;
	pid_t pid = stop_with_one_node_held(&keeper);
	kill(pid, SIGSTOP);
	pio_proc_signal_tree(keeper, SIGCONT);
	pio_clock_sleep_ms(5500);
	kill(pid, SIGCONT);
	json_decref(end(pid));
	pio_str events = read_text("head.events");
	assert_null(strstr(events.data, "all ranks end at step"));
	pio_str_fini(&events);
	assert_int_equal(end_of(0), -1);
	assert_int_equal(end_of(1), -1);
}

int main(int argc, char **argv)
{
	int status = be_another(argc, argv, rank_body);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = {
		T(all_nodes_end_at_one_step), T(a_node_that_hangs_does_not_hold_the_others),
		T(a_rank_that_dies_while_all_end_is_heard_of), T(a_second_stop_is_a_signal),
		T(patience_follows_the_longest_step), T(a_late_head_sends_a_signal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
