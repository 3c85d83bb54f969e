/* A head and its agents: what an attempt on many nodes promises. */
#include "client/comm.h"
#include "client/env.h"
#include "client/frame.h"
#include "sys/sock.h"
#include "head_fixture.h"
#include "launch/leftover.h"

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

/* No rank: the agent of a node 0 that is another machine than its head's. */
static int elsewhere_main(void)
{
	static const char record[] = "{\"event\":\"ended\",\"result\":\"ok\",\"ranks\":[]}";
	pio_frame_join join = { .host = "dgx-000", .address = "10.9.8.7", .port = 1234 };
	pio_frame_address head;
	pio_str frames = PIO_STR_INIT;
	int64_t deadline_ns = pio_clock_mono_ns() + 20000000000;
	char byte;
	int fd = -1;
	snprintf(join.token, sizeof join.token, "%s", getenv(PIO_ENV_TOKEN));
	pio_frame_put_join(&frames, &join);
	if (pio_frame_address_parse(&head, getenv(PIO_ENV_RENDEZVOUS), "head", NULL) ||
	    pio_sock_connect(&fd, head.host, head.port, deadline_ns, NULL) ||
	    pio_sock_send(fd, frames.data, frames.len, deadline_ns, NULL) ||
	    pio_sock_recv(fd, &byte, 1, deadline_ns, NULL)) /* of its orders */
		return 98;
	pio_str_clear(&frames);
	pio_frame_put_bytes(&frames, PIO_FRAME_EVENT, record, sizeof record - 1);
	int rc = pio_sock_send(fd, frames.data, frames.len, deadline_ns, NULL);
	pio_str_fini(&frames);
	while (!rc && pio_sock_recv(fd, &byte, 1, deadline_ns, NULL) == 0)
		continue;
	return rc ? 97 : 0;
}

static int rank_body(const char *word)
{
	if (strcmp(word, "elsewhere") == 0)
		return elsewhere_main();
	return strcmp(word, "sum") == 0 ? sum_main() : log_main(word);
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

/* Rank 0 need not run where the head is: in a pool, or where a spare took its place. */
static void the_master_is_where_rank_0_runs(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "echo $MASTER_ADDR:$MASTER_PORT");
	put_start(spec, "\"$1\" rank elsewhere & PIOCHE_NODE=1 SLURMD_NODENAME=dgx-001 \"$1\" agent --join & wait");
	json_decref(end(start(spec)));
	pio_str one = read_text("rank-1.out");
	assert_string_equal(one.data, "10.9.8.7:1234\n");
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
	kill(pid, SIGINT);
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
	wait_gone();
	for (int node = 0; node < 2; node++) {
		char name[32];
		snprintf(name, sizeof name, "exit.%d.json", node);
		json_t *record = read_json(name);
		assert_string_equal(text_of(record, "result"), "lost");
		assert_string_equal(text_of(record, "message"), "stopped because the head was gone");
		json_decref(record);
	}
}

/* An agent is killed, on a node that is not the head's: its keeper drains, and
 * tells the head. */
static void a_killed_agent_loses_no_point(void **state)
{
	(void)state;
	pid_t pid = start(orders(3, 2, "log"));
	for (int rank = 0; rank < 6; rank++) {
		char name[32];
		snprintf(name, sizeof name, "rank-%d.out", rank);
		wait_for_text(name, "logged", 1);
	}
	pio_str events = read_text("head.events");
	const char *at = strstr(events.data, "\"host\":\"dgx-001\"");
	while (at > events.data && at[-1] != '\n')
		at--;
	kill(atoi(strstr(at, "\"agent\":") + 8), SIGKILL);
	pio_str_fini(&events);
	json_t *record = end(pid), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "lost");
	assert_string_equal(text_of(first, "host"), "dgx-001");
	assert_true(json_is_null(json_object_get(first, "rank")));
	assert_int_equal(strncmp(text_of(record, "message"),
	                         "dgx-001: the agent died: SIGKILL; 4 ranks waited 3.", 50), 0);
	expect_node(record, 1, "lost", "the agent died: SIGKILL");
	expect_node(record, 2, "cancelled", "another node");
	json_decref(record);
	for (int node = 0; node < 3; node++)
		assert_int_equal(points_in_journal(node, NULL), 2000);
	json_t *own = read_json("exit.1.json"), *rank = json_array_get(json_object_get(own, "ranks"), 1);
	assert_int_equal(int_of(rank, "rank"), 3);
	assert_int_equal(int_of(rank, "last_step"), 999);
	json_decref(own);
}

/* Agent and keeper at once: nobody speaks for the node, but it is named. */
static void a_dead_node_is_named(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "echo up; exec sleep 60");
	put_start_apart(spec);
	pid_t pid = start(spec);
	wait_for_text("rank-1.out", "up", 1);
	wait_for_text("rank-0.out", "up", 1);
	kill_apart();
	json_t *record = end(pid), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "node_fail");
	assert_string_equal(text_of(first, "host"), "dgx-001");
	assert_int_equal(int_of(first, "node"), 1);
	assert_non_null(strstr(text_of(record, "message"), "dgx-001 is gone: its agent fell silent"));
	json_decref(record);
	pio_str told = PIO_STR_INIT; /* it would have gone with the machine */
	check_ok(pio_fs_mkdirs(path_in(root, "staging"), 0755, &err));
	check_ok(pio_leftover_drain(&told, root, &err));
	pio_str_fini(&told);
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

/* Late spares are sent away, also one that takes the place of a missing node. */
static void who_does_not_come_is_not_waited_for_where_a_spare_is(void **state)
{
	(void)state;
	json_t *spec = orders(2, 1, "echo $RANK of $WORLD_SIZE; sleep 2");
	json_object_set_new(spec, "spares", json_integer(1));
	json_object_set_new(spec, "join_s", json_integer(10));
	json_object_set_new(spec, "hosts", json_pack("[s, s, s]", "dgx-000", "dgx-001", "dgx-002"));
	put_start(spec, "for i in 0 2; do PIOCHE_NODE=$i SLURMD_NODENAME=dgx-00$i \"$1\" agent --join & done;"
	          "sleep 2; PIOCHE_NODE=1 SLURMD_NODENAME=dgx-001 \"$1\" agent --join; wait");
	json_t *record = end(start(spec));
	assert_string_equal(text_of(record, "result"), "ok");
	assert_int_equal(json_array_size(json_object_get(record, "nodes")), 2);
	expect_node(record, 0, "ok", "");
	expect_node(record, 1, "ok", "");
	assert_string_equal(text_of(json_array_get(json_object_get(record, "nodes"), 1), "host"), "dgx-002");
	json_decref(record);
	pio_str out = read_text("rank-1.out");
	assert_string_equal(out.data, "1 of 2\n");
	pio_str_fini(&out);
	wait_for_text("head.events", "spares are here: no longer waiting for 1 of 3 nodes: dgx-001", 1);
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

int main(int argc, char **argv)
{
	int status = be_another(argc, argv, rank_body);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = {
		T(all_nodes_work_together), T(ranks_agree_on_their_master), T(the_master_is_where_rank_0_runs),
		T(a_failure_ends_all_nodes_and_is_named), T(missing_nodes_are_named),
		T(a_start_that_fails_tells_why), T(signals_say_how_to_end),
		T(agents_stop_when_the_head_is_gone), T(a_killed_agent_loses_no_point),
		T(a_dead_node_is_named), T(a_spare_takes_no_part),
		T(who_does_not_come_is_not_waited_for_where_a_spare_is),
		T(wrong_interfaces_and_late_heads_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
