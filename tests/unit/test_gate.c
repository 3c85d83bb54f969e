/* A head that chooses its nodes: who is unfit, absent, or fails is left out. */
#include <dirent.h>

#include "head_fixture.h"

/* ---- nodes ----------------------------------------------------------------------- */

/* `trouble`: lines of a shell's case on the name of a node, "dgx-001) ...;;". */
static json_t *spec_of(int nodes, int spares, const char *trouble, const char *shell)
{
	json_t *spec = orders(nodes, 1, shell), *hosts = json_array(), *script = json_sprintf(
		"i=0; for h in $(echo \"$2\" | tr , ' '); do (export PIOCHE_NODE=$i SLURMD_NODENAME=$h;"
		" case $h in %s esac; exec \"$1\" agent --join) & i=$((i+1)); done; wait", trouble);
	for (int i = 0; i < nodes + spares; i++)
		json_array_append_new(hosts, json_sprintf("dgx-%03d", i));
	json_object_set_new(spec, "start_on", json_pack("[s, s, o, s, s, s]", "sh", "-c", script, "sh", self,
	                                                "{hosts}"));
	json_object_set_new(spec, "hosts", hosts);
	json_object_set_new(spec, "spares", json_integer(spares));
	json_object_set_new(spec, "preflight", json_true());
	json_object_set_new(spec, "join_s", json_integer(20));
	put_start(spec, "echo all nodes are started at once >&2; exit 1");
	return spec;
}

static json_t *node_of(const json_t *gate, const char *host)
{
	size_t i;
	json_t *node;
	json_array_foreach(json_object_get(gate, "nodes"), i, node)
		if (strcmp(text_of(node, "host"), host) == 0)
			return node;
	fail_msg("gate.json has no %s", host);
	return NULL;
}

static void found(const json_t *gate, const char *host, const char *name, const char *state)
{
	size_t i;
	json_t *check;
	json_array_foreach(json_object_get(node_of(gate, host), "checks"), i, check)
		if (strcmp(text_of(check, "name"), name) == 0) {
			assert_string_equal(text_of(check, "state"), state);
			return;
		}
	fail_msg("%s has no check %s", host, name);
}

/* Directories of rounds that are there. */
static int count_rounds(void)
{
	int count = 0;
	DIR *listed = opendir(dir);
	assert_non_null(listed);
	for (struct dirent *entry; (entry = readdir(listed)) != NULL;)
		count += strncmp(entry->d_name, "gate.", 5) == 0 && strcmp(entry->d_name, "gate.json") != 0;
	closedir(listed);
	return count;
}

static void expect_fit(const char *hosts)
{
	pio_str text = PIO_STR_INIT;
	json_t *gate = read_json("gate.json"), *host;
	size_t i;
	json_array_foreach(json_object_get(gate, "fit"), i, host)
		pio_str_printf(&text, "%s%s", i ? " " : "", json_string_value(host));
	assert_string_equal(text.data, hosts);
	pio_str_fini(&text);
	json_decref(gate);
}

static const char *hosts_of(const json_t *record)
{
	static char text[256];
	size_t i;
	json_t *node;
	text[0] = 0;
	json_array_foreach(json_object_get(record, "nodes"), i, node)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", text_of(node, "host"));
	return text;
}

/* ---- the promises -------------------------------------------------------------------- */

static void good_nodes_are_measured_and_nothing_is_left(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(3, 1, "", "echo here")));
	assert_string_equal(text_of(record, "result"), "ok");
	assert_string_equal(hosts_of(record), "dgx-000 dgx-001 dgx-002");
	json_decref(record);
	json_t *gate = read_json("gate.json");
	assert_string_equal(text_of(gate, "result"), "ok");
	assert_string_equal(text_of(gate, "by"), "tcp");
	assert_true(json_number_value(json_object_get(gate, "busbw")) > 0);
	assert_int_equal(int_of(gate, "rounds"), 1);
	for (int i = 0; i < 4; i++) {
		char host[16];
		snprintf(host, sizeof host, "dgx-%03d", i);
		found(gate, host, "tmp", "ok");
		found(gate, host, "shm", "ok");
		found(gate, host, "bandwidth", "ok");
	}
	json_decref(gate);
	expect_fit("dgx-000 dgx-001 dgx-002 dgx-003");
	assert_int_equal(count_rounds(), 0);
	wait_for_text("head.events", "preflight: 4 nodes fit, ", 1);
}

static void an_unfit_node_is_swapped_for_a_spare(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(2, 1, "dgx-001) export TMPDIR=/no/such/place;;", "echo here")));
	assert_string_equal(text_of(record, "result"), "ok");
	assert_string_equal(hosts_of(record), "dgx-000 dgx-002");
	json_decref(record);
	expect_fit("dgx-000 dgx-002");
	json_t *gate = read_json("gate.json");
	found(gate, "dgx-001", "tmp", "failed");
	json_decref(gate);
	assert_int_equal(count_rounds(), 2);
	wait_for_text("head.events", "preflight: dgx-001 is left out: /no/such/place cannot be looked at;"
	              " dgx-002 takes its place", 1);
}

static void without_a_spare_the_unfit_node_is_named(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(2, 0, "dgx-001) export TMPDIR=/no/such/place;;", "echo here")));
	assert_string_equal(text_of(record, "result"), "node_fail");
	assert_string_equal(text_of(json_object_get(record, "first"), "host"), "dgx-001");
	assert_string_equal(text_of(record, "message"), "dgx-001: preflight: /no/such/place cannot be looked at;"
	                    " 1 node is left of the 2 that it needs");
	expect_node(record, 0, "cancelled", "");
	expect_node(record, 1, "node_fail", "/no/such/place");
	json_decref(record);
	pio_str none = read_text("rank-0.out"); /* nothing was started */
	assert_int_equal(none.len, 0);
	pio_str_fini(&none);
}

static void all_that_are_unfit_are_found_at_once(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(2, 2, "dgx-00[02]) export TMPDIR=/no/such/place;;", "echo here")));
	assert_string_equal(hosts_of(record), "dgx-001 dgx-003");
	json_decref(record);
	assert_int_equal(count_rounds(), 2);
	wait_for_text("head.events", "dgx-000 is left out: /no/such/place cannot be looked at;"
	              " dgx-003 takes its place", 1);
}

static void who_does_not_come_is_left_out(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(2, 1, "dgx-000) exec sleep 5;;", "echo here")));
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
	wait_for_text("head.events", "dgx-000 is left out: its agent did not come within 2 s", 1);
	json_t *gate = read_json("gate.json");
	found(gate, "dgx-000", "probe", "failed");
	json_decref(gate);
}

/* That it measures nothing, and nobody else can, is its fault alone. */
static void who_hangs_or_dies_is_left_out(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(2, 2, "dgx-001) export PROBE=STOP;; dgx-002) export PROBE=KILL;;",
	                                   "echo here")));
	assert_string_equal(text_of(record, "result"), "ok");
	assert_string_equal(hosts_of(record), "dgx-000 dgx-003");
	json_decref(record);
	json_t *gate = read_json("gate.json");
	found(gate, "dgx-001", "probe", "failed");
	found(gate, "dgx-002", "probe", "failed");
	found(gate, "dgx-003", "bandwidth", "ok");
	json_decref(gate);
	wait_for_text("head.events", "dgx-002 is left out: rank 2 died: SIGKILL", 1);
	wait_for_text("head.events", "rank 1 (dgx-001) logs no steps; it is stopped (T); dgx-003 takes its place", 1);
}

/* With the same setup as the program, which is wrong on every node. */
static void what_is_set_up_wrongly_is_no_fault_of_a_node(void **state)
{
	(void)state;
	json_t *spec = spec_of(2, 2, "", "echo here");
	json_object_set_new(spec, "setup", json_string("exit 7"));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "failed");
	assert_true(json_is_null(json_object_get(record, "first")));
	contains(text_of(record, "message"), "preflight: dgx-00");
	contains(text_of(record, "message"), " exited with 7");
	json_decref(record);
	assert_int_equal(count_rounds(), 2);
}

/* One node alone is named, as one whose rank failed; that it is down is not said. */
static void a_probe_that_gives_up_is_a_rank_that_failed(void **state)
{
	(void)state;
	json_t *record = end(start(spec_of(2, 0, "dgx-001) export PROBE=EXIT;;", "echo here")));
	assert_string_equal(text_of(record, "result"), "failed");
	assert_string_equal(text_of(json_object_get(record, "first"), "host"), "dgx-001");
	assert_string_equal(text_of(record, "message"), "dgx-001: its probe failed: rank 1 exited with 3;"
	                    " 1 node is left of the 2 that it needs");
	json_decref(record);
	json_t *gate = read_json("gate.json");
	found(gate, "dgx-001", "probe", "warning");
	json_decref(gate);
}

static void a_start_that_fails_blames_no_node(void **state)
{
	(void)state;
	json_t *spec = spec_of(2, 1, "", "echo here");
	json_object_set_new(spec, "start_on", json_pack("[s, s, s]", "sh", "-c", "exit 1"));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "failed");
	assert_true(json_is_null(json_object_get(record, "first")));
	contains(text_of(record, "message"), "preflight: gave up after 2 s waiting for 3 of 3 nodes");
	json_decref(record);
	expect_fit("dgx-000 dgx-001 dgx-002");
}

static void less_than_was_expected_ends_the_attempt(void **state)
{
	(void)state;
	json_t *spec = spec_of(2, 1, "", "echo here");
	json_object_set_new(spec, "bandwidth", json_real(9e15));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "failed");
	contains(text_of(record, "message"), " GB/s of bus bandwidth (tcp) where it is best, 9e+06 GB/s expected");
	json_decref(record);
	expect_fit("dgx-000 dgx-001 dgx-002");
}

static void signal_meanwhile(int signal_number, const char *result)
{
	pid_t pid = start(spec_of(2, 0, "dgx-001) exec sleep 60;;", "echo here"));
	wait_for_text("gate.0/head.err", "pioche head: ", 1);
	assert_int_equal(kill(pid, signal_number), 0);
	json_t *record = end(pid);
	assert_string_equal(text_of(record, "result"), result);
	json_decref(record);
}

static void it_can_be_stopped(void **state)
{
	(void)state;
	signal_meanwhile(SIGTERM, "cancelled");
}

static void the_time_limit_ends_it(void **state)
{
	(void)state;
	signal_meanwhile(SIGUSR2, "timeout");
}

static void when_the_head_is_killed_nothing_is_left(void **state)
{
	(void)state;
	int status;
	pid_t pid = start(spec_of(2, 0, "dgx-001) export PROBE=STOP;;", "echo here"));
	wait_for_text("gate.0/head.events", "\"event\":\"started\"", 2);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	pio_str round = PIO_STR_INIT;
	pio_str_printf(&round, "%s/gate.0", mark);
	for (int i = 0; i < 600 && pio_proc_signal_marked(round.data, 0) > 0; i++)
		pio_clock_sleep_ms(100);
	assert_int_equal(pio_proc_signal_marked(round.data, 0), 0);
	pio_str_fini(&round);
}

/* A node whose ranks come to a bad end. */
static void be_troubled(const char *word)
{
	if (word && strcmp(word, "STOP") == 0)
		raise(SIGSTOP);
	if (word && strcmp(word, "EXIT") == 0)
		_exit(3);
	if (word && strcmp(word, "KILL") == 0)
		raise(SIGKILL);
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[2], "--probe") == 0)
		be_troubled(getenv("PROBE"));
	int status = be_another(argc, argv, log_main);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = {
		T(good_nodes_are_measured_and_nothing_is_left), T(an_unfit_node_is_swapped_for_a_spare),
		T(without_a_spare_the_unfit_node_is_named), T(all_that_are_unfit_are_found_at_once),
		T(who_does_not_come_is_left_out), T(who_hangs_or_dies_is_left_out),
		T(what_is_set_up_wrongly_is_no_fault_of_a_node), T(a_probe_that_gives_up_is_a_rank_that_failed),
		T(a_start_that_fails_blames_no_node), T(less_than_was_expected_ends_the_attempt),
		T(it_can_be_stopped), T(the_time_limit_ends_it), T(when_the_head_is_killed_nothing_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
