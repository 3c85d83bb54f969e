/* A head, its agents and their ranks, all on this machine: this program is each
 * of them (first argument "agent" or "rank"). */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/ulid.h"
#include "client/comm.h"
#include "client/env.h"
#include "client/pioche.h"
#include "launch/agent.h"
#include "launch/head.h"
#include "launch/hostlist.h"
#include "sys/address.h"
#include "sys/fs.h"
#include "sys/proc.h"

static char root[256], dir[300], ulid[PIO_ULID_CHARS + 1], self[4096], mark[400];

/* ---- the ranks ------------------------------------------------------------------- */

/* Sum over all ranks of all nodes; the last rank's bytes and a barrier through the agents. */
static int sum_main(void)
{
	pio_run *run;
	pio_comm *comm;
	float sum = 1;
	char id[128] = "";
	int64_t deadline_ns = pio_clock_mono_ns() + 20000000000;
	if (pio_open(&run, NULL) || pio_comm_init(&comm, run, 20000) || pio_comm_allreduce(comm, &sum, 1))
		return 98;
	int last = atoi(getenv("WORLD_SIZE")) - 1;
	for (int round = 0; round < 3; round++) {
		memset(id, atoi(getenv("RANK")) == last ? 'a' + round : 0, sizeof id);
		if (pio_comm_share(comm, id, sizeof id, last, deadline_ns, NULL) || id[127] != 'a' + round ||
		    pio_comm_meet(comm, deadline_ns, NULL))
			return 97;
	}
	dprintf(1, "%g\n", (double)sum);
	pio_comm_close(&comm, NULL);
	return 0;
}

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

/* ---- running a head --------------------------------------------------------------- */

static json_t *orders(int nodes, int ranks_per_node, const char *shell)
{
	bool is_own = strcmp(shell, "sum") == 0 || strcmp(shell, "hang") == 0 || strcmp(shell, "wait") == 0;
	json_t *command = is_own ? json_pack("[s, s, s]", self, "rank", shell)
	                         : json_pack("[s, s, s]", "sh", "-c", shell);
	json_t *spec = json_pack("{s:i, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:i}",
	                         "version", 1, "run", ulid, "attempt", 1, "nodes", nodes, "ranks_per_node",
	                         ranks_per_node, "dir", dir, "cwd", dir, "store", root, "staging", root,
	                         "lib_dir", "/lib-of-pioche", "command", command, "grace_s", 1, "join_s", 30);
	json_object_set_new(spec, "start", json_pack("[s, s, s, s, s, o]", "sh", "-c",
		"i=0; while [ $i -lt $2 ]; do PIOCHE_NODE=$i SLURMD_NODENAME=dgx-00$i \"$1\" agent --join & "
		"i=$((i+1)); done; wait", "sh", self, json_sprintf("%d", nodes)));
	json_object_set_new(spec, "interface", json_string("lo"));
	return spec;
}

static void put_start(json_t *spec, const char *shell)
{
	json_object_set_new(spec, "start", json_pack("[s, s, s, s, s]", "sh", "-c", shell, "sh", self));
}

static pid_t start(json_t *spec)
{
	char path[400];
	pid_t pid;
	pio_err err = PIO_ERR_INIT;
	snprintf(path, sizeof path, "%s/orders.json", dir);
	assert_int_equal(json_dump_file(spec, path, JSON_COMPACT), 0);
	json_decref(spec);
	const char *argv[] = { self, "agent", "--head", dir, NULL };
	int quiet = getenv("V") ? 2 : open("/dev/null", O_WRONLY | O_CLOEXEC);
	pio_proc_spec proc = { argv, (const char *const *)environ, NULL, -1, quiet, quiet, true };
	if (pio_proc_spawn(&pid, &proc, &err) != 0)
		fail_msg("%s", err.message);
	if (quiet != 2)
		close(quiet);
	return pid;
}

static json_t *read_json(const char *name)
{
	char path[400];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return json_load_file(path, 0, NULL);
}

static pio_str read_text(const char *name)
{
	char path[400];
	pio_str text = PIO_STR_INIT;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	(void)pio_fs_read(&text, path, NULL);
	return text;
}

static void wait_for_text(const char *name, const char *wanted, int times)
{
	for (int i = 0; i < 3000; i++) {
		pio_str text = read_text(name);
		int found = 0;
		for (const char *at = text.data; (at = strstr(at, wanted)); at++)
			found++;
		pio_str_fini(&text);
		if (found >= times)
			return;
		pio_clock_sleep_ms(10);
	}
	fail_msg("%s does not say \"%s\" %d times", name, wanted, times);
}

/* The head ended with 0, the record is there, nothing of the attempt lives. */
static json_t *end(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 0);
	json_t *record = read_json("exit.json");
	assert_non_null(record);
	return record;
}

static const char *text_of(const json_t *record, const char *name)
{
	const char *text = json_string_value(json_object_get(record, name));
	return text ? text : "(none)";
}

static int64_t int_of(const json_t *record, const char *name)
{
	const json_t *member = json_object_get(record, name);
	return json_is_integer(member) ? json_integer_value(member) : INT64_MIN;
}

static void expect_node(const json_t *record, size_t i, const char *result, const char *message)
{
	const json_t *node = json_array_get(json_object_get(record, "nodes"), i);
	assert_string_equal(text_of(node, "result"), result);
	if (!strstr(text_of(node, "message"), message))
		fail_msg("node %zu: \"%s\", not \"%s\"", i, text_of(node, "message"), message);
}

static int set_up(void **state)
{
	(void)state;
	pio_ulid id;
	pio_ulid_new(&id);
	pio_ulid_format(&id, ulid);
	snprintf(root, sizeof root, "/tmp/pioche-head-%d", (int)getpid());
	snprintf(dir, sizeof dir, "%s/attempt", root);
	snprintf(mark, sizeof mark, "PIOCHE_DIR=%s", dir);
	return pio_fs_mkdirs(dir, 0755, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	return pio_fs_remove_tree(root, NULL);
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

/* ---- the promises --------------------------------------------------------------------- */

static void all_nodes_work_together(void **state)
{
	(void)state;
	setenv("SLURM_JOB_ID", "4711", 1);
	setenv("SLURM_RESTART_COUNT", "2", 1);
	json_t *record = end(start(orders(3, 2, "sum")));
	unsetenv("SLURM_JOB_ID");
	unsetenv("SLURM_RESTART_COUNT");
	assert_string_equal(text_of(record, "result"), "ok");
	assert_string_equal(text_of(record, "run"), ulid);
	assert_string_equal(text_of(record, "job"), "4711");
	assert_int_equal(int_of(record, "restart"), 2);
	assert_true(json_is_null(json_object_get(record, "first")));
	assert_true(json_is_null(json_object_get(record, "message")));
	assert_int_equal(json_array_size(json_object_get(record, "nodes")), 3);
	for (int rank = 0; rank < 6; rank++) {
		char name[32];
		snprintf(name, sizeof name, "rank-%d.out", rank);
		pio_str out = read_text(name);
		assert_string_equal(out.data, "6\n");
		pio_str_fini(&out);
	}
	for (int node = 0; node < 3; node++) {
		char name[32];
		snprintf(name, sizeof name, "exit.%d.json", node);
		json_t *own = read_json(name);
		assert_string_equal(text_of(own, "result"), "ok");
		assert_int_equal(int_of(own, "node"), node);
		json_decref(own);
		expect_node(record, (size_t)node, "ok", "");
	}
	json_decref(record);
	pio_str events = read_text("head.events");
	assert_non_null(strstr(events.data, "\"event\":\"started\",\"host\":\"dgx-002\",\"node\":2"));
	pio_str_fini(&events);
}

static void ranks_agree_on_their_master(void **state)
{
	(void)state;
	json_t *record = end(start(orders(2, 1, "echo $MASTER_ADDR:$MASTER_PORT $WORLD_SIZE $GROUP_RANK")));
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
	pio_str zero = read_text("rank-0.out"), one = read_text("rank-1.out");
	assert_int_equal(strncmp(zero.data, "127.0.0.1:", 10), 0);
	assert_true(atoi(zero.data + 10) > 0);
	assert_non_null(strstr(zero.data, " 2 0\n"));
	assert_non_null(strstr(one.data, " 2 1\n"));
	assert_int_equal(strncmp(zero.data, one.data, strcspn(zero.data, " ")), 0);
	pio_str_fini(&zero);
	pio_str_fini(&one);
}

static void a_failure_ends_all_nodes_and_is_named(void **state)
{
	(void)state;
	json_t *record = end(start(orders(3, 2, "[ $RANK = 3 ] && kill -SEGV $$; exec sleep 60")));
	const json_t *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "signal");
	assert_int_equal(int_of(first, "rank"), 3);
	assert_int_equal(int_of(first, "node"), 1);
	assert_int_equal(int_of(first, "signal"), SIGSEGV);
	assert_string_equal(text_of(first, "host"), "dgx-001");
	assert_int_equal(strncmp(text_of(record, "message"), "dgx-001 rank 3 died: SIGSEGV; 5 ranks waited 3.", 47), 0);
	expect_node(record, 0, "cancelled", "a failure on another node");
	expect_node(record, 1, "signal", "rank 3 died: SIGSEGV; 1 rank waited 3.");
	expect_node(record, 2, "cancelled", "a failure on another node");
	json_decref(record);
}

static void missing_nodes_are_named(void **state)
{
	(void)state;
	json_t *spec = orders(3, 1, "exit 0");
	json_object_set_new(spec, "join_s", json_integer(2));
	json_object_set_new(spec, "hosts", json_pack("[s, s, s]", "dgx-017", "dgx-044", "dgx-101"));
	put_start(spec, "PIOCHE_NODE=1 SLURMD_NODENAME=dgx-044 \"$1\" agent --join; sleep 60");
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "node_fail");
	assert_string_equal(text_of(record, "message"),
	                    "gave up after 2 s waiting for 2 of 3 nodes: dgx-017, dgx-101");
	expect_node(record, 0, "node_fail", "");
	expect_node(record, 1, "cancelled", "");
	json_decref(record);
	wait_for_text("head.events", "waiting for 2 of 3 nodes: dgx-017, dgx-101", 2);
}

static void a_start_that_fails_tells_why(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "exit 0");
	put_start(spec, "echo 'srun: error: Unable to create step: Invalid partition' >&2; exit 1");
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "failed");
	assert_string_equal(text_of(record, "message"), "the command that starts the agents ended with 1 before"
		" all had joined: waiting for 2 of 2 nodes: node 0, node 1: srun: error: Unable to create step:"
		" Invalid partition");
	json_decref(record);
}

static json_t *signal_when_started(const char *shell, int signal_number, int again)
{
	pid_t pid = start(orders(2, 1, shell));
	wait_for_text("head.events", "\"event\":\"started\"", 2);
	wait_for_text("rank-1.out", "up", 1);
	wait_for_text("rank-0.out", "up", 1);
	kill(pid, signal_number);
	if (again) {
		pio_clock_sleep_ms(200);
		kill(pid, again);
	}
	return end(pid);
}

static void signals_say_how_to_end(void **state)
{
	(void)state;
	const char *polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
	json_t *record = signal_when_started(polite, SIGTERM, 0);
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_string_equal(text_of(record, "message"), "stopped on request");
	expect_node(record, 1, "cancelled", "stopped on request");
	json_decref(record);
	wait_for_text("rank-1.out", "bye", 1);
	tear_down(NULL), set_up(NULL);
	record = signal_when_started(polite, SIGUSR2, 0);
	assert_string_equal(text_of(record, "result"), "timeout");
	expect_node(record, 0, "timeout", "the time limit of the job was near");
	json_decref(record);
	wait_for_text("rank-0.out", "bye", 1);
	tear_down(NULL), set_up(NULL);
	json_t *spec = orders(1, 1, "trap '' TERM; echo up; while :; do sleep 0.1; done");
	json_object_set_new(spec, "grace_s", json_integer(600));
	pid_t pid = start(spec);
	wait_for_text("rank-0.out", "up", 1);
	kill(pid, SIGTERM);
	pio_clock_sleep_ms(200);
	kill(pid, SIGTERM);
	record = end(pid);
	assert_string_equal(text_of(record, "result"), "cancelled");
	json_decref(record);
}

static void agents_stop_when_the_head_is_gone(void **state)
{
	(void)state;
	int status;
	pid_t pid = start(orders(2, 1, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"));
	wait_for_text("rank-0.out", "up", 1);
	wait_for_text("rank-1.out", "up", 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	wait_for_text("rank-0.out", "bye", 1);
	wait_for_text("rank-1.out", "bye", 1);
	for (int i = 0; i < 1000 && pio_proc_signal_marked(mark, 0); i++)
		pio_clock_sleep_ms(10);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 0);
	for (int node = 0; node < 2; node++) {
		char name[32];
		snprintf(name, sizeof name, "exit.%d.json", node);
		json_t *record = read_json(name);
		assert_string_equal(text_of(record, "result"), "lost");
		assert_string_equal(text_of(record, "message"), "stopped because the head was gone");
		json_decref(record);
	}
}

static void a_spare_takes_no_part(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "echo here");
	json_object_set_new(spec, "nodes", json_integer(1));
	json_object_set_new(spec, "spares", json_integer(1));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "ok");
	assert_int_equal(json_array_size(json_object_get(record, "nodes")), 1);
	json_decref(record);
	json_t *own = read_json("exit.1.json");
	assert_null(own);
}

static void wrong_interfaces_and_late_heads_are_refused(void **state)
{
	(void)state;
	int status;
	json_t *spec = orders(1, 1, "exit 0");
	json_object_set_new(spec, "interface", json_string("ib7"));
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "failed");
	assert_non_null(strstr(text_of(record, "message"), "there is no network interface or range \"ib7\""));
	assert_non_null(strstr(text_of(record, "message"), "lo 127.0.0.1"));
	json_decref(record);
	pid_t pid = start(orders(1, 1, "exit 0")); /* the attempt has its record */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 3);
}

static void host_lists_are_read(void **state)
{
	(void)state;
	const struct { const char *list; int n; const char *name; } cases[] = {
		{ "dgx-[001-003,007],login", 0, "dgx-001" }, { "dgx-[001-003,007],login", 3, "dgx-007" },
		{ "dgx-[001-003,007],login", 4, "login" }, { "dgx-[001-003,007],login", 5, "" },
		{ "a[1-2]b[08-10]c", 4, "a2b09c" }, { "one", 0, "one" }, { "", 0, "" }, { "a[", 0, "" },
		{ "a[3-1]", 0, "" }, { "a[1-2", 0, "" }, { "a[x]", 0, "" }, { "one", -1, "" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pio_str name = PIO_STR_INIT;
		assert_int_equal(pio_hostlist_nth(&name, cases[i].list, cases[i].n), cases[i].name[0] != 0);
		assert_string_equal(name.data, cases[i].name);
		pio_str_fini(&name);
	}
}

static void addresses_are_chosen_in_words(void **state)
{
	(void)state;
	char address[PIO_ADDRESS_BYTES];
	pio_err err = PIO_ERR_INIT;
	pio_str interface = PIO_STR_INIT;
	assert_int_equal(pio_address_of_interface(address, "127.0.0.0/8", &err), 0);
	assert_string_equal(address, "127.0.0.1");
	assert_int_equal(pio_address_of_interface(address, "255.0.0.0/8", &err), -PIO_ENOTFOUND);
	assert_true(pio_address_interface(&interface, "127.0.0.1"));
	assert_string_equal(interface.data, "lo");
	pio_str_fini(&interface);
	assert_int_equal(pio_address_towards(address, "127.0.0.1", &err), 0);
	assert_string_equal(address, "127.0.0.1");
	assert_int_not_equal(pio_address_towards(address, "no-such-host.invalid", &err), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[2], "--join") == 0)
		return pio_agent_join_main();
	if (argc == 4 && strcmp(argv[2], "--head") == 0)
		return pio_head_main(argv[3]);
	if (argc == 3 && strcmp(argv[1], "rank") == 0)
		_exit(strcmp(argv[2], "hang") == 0 ? hang_main() : strcmp(argv[2], "wait") == 0 ? wait_main()
		                                                                           : sum_main());
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	const struct CMUnitTest tests[] = {
		T(all_nodes_work_together), T(ranks_agree_on_their_master),
		T(a_failure_ends_all_nodes_and_is_named), T(missing_nodes_are_named),
		T(a_start_that_fails_tells_why), T(signals_say_how_to_end),
		T(agents_stop_when_the_head_is_gone), T(a_spare_takes_no_part),
		T(a_hang_is_found_over_all_nodes), T(a_node_that_waits_for_another_does_not_hang),
		T(wrong_interfaces_and_late_heads_are_refused), T(host_lists_are_read),
		T(addresses_are_chosen_in_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
