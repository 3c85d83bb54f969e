/* The agent end to end: this program is also the agent (first argument
 * "agent") and the ranks ("rank"). */
#include <signal.h>

#include "agent_fixture.h"
#include "client/drain.h"
#include "client/env.h"
#include "client/pioche.h"
#include "client/ring.h"
#include "sys/journal.h"

/* ---- the ranks ------------------------------------------------------------------- */

/* Sum over the ranks; once both have it rank 1 dies, and rank 0 tells what it heard of it. */
static int comm_main(void)
{
	pio_run *log;
	pio_comm *comm;
	float sum = 1;
	int rank = atoi(getenv("RANK"));
	if (pio_open(&log, NULL) || pio_comm_init(&comm, log, 10000) || pio_comm_allreduce(comm, &sum, 1) ||
	    sum != 2)
		return 98;
	while (rank == 1 && access("summed", F_OK) != 0)
		pio_clock_sleep_ms(5);
	if (rank == 1)
		raise(SIGKILL);
	close(open("summed", O_WRONLY | O_CREAT, 0600));
	int64_t start_ns = pio_clock_mono_ns();
	int rc = pio_comm_allreduce(comm, &sum, 1);
	dprintf(1, "%d in time %d: %s\n", rc, pio_clock_mono_ns() - start_ns < 5000000000, pio_error());
	return 7;
}

/* rank POINTS WHAT: log POINTS points, then do WHAT. */
static int rank_main(int argc, char **argv)
{
	pio_ring *ring = NULL;
	const char *what = argc > 3 ? argv[3] : "";
	int rank = atoi(getenv("RANK"));
	if (strcmp(what, "comm") == 0)
		return comm_main();
	if (pio_ring_attach(&ring, getenv(PIO_ENV_RING), NULL) != 0)
		return 99;
	uint32_t key = pio_ring_key(ring, "loss", 4, NULL);
	for (int i = 0; i < atoi(argv[2]); i++)
		pio_ring_log(ring, key, i, 1.0 / (i + 1));
	if (strcmp(what, "sleep") == 0)
		dprintf(1, "logged\n");
	if (strcmp(what, "kill1") == 0 && rank == 1)
		raise(SIGKILL);
	if (strcmp(what, "secondary0") == 0) {
		if (rank == 0) {
			pio_ring_mark_secondary(ring);
			return 5;
		}
		pio_clock_sleep_ms(300);
		return 6;
	}
	if (*what)
		pio_clock_sleep_ms(60000);
	pio_ring_close(&ring);
	return 0;
}

static json_t *rank_command(const char *points, const char *what)
{
	return json_pack("[s, s, s, s]", self, "rank", points, what);
}

/* ---- the promises --------------------------------------------------------------------- */

static void points_arrive_and_all_is_recorded(void **state)
{
	(void)state;
	bool has_exit;
	run r = start(orders(2, rank_command("50000", "")));
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	assert_true(json_is_null(json_object_get(record, "first")));
	json_t *ranks = json_object_get(record, "ranks");
	assert_int_equal(json_array_size(ranks), 2);
	for (size_t i = 0; i < 2; i++) {
		json_t *rank = json_array_get(ranks, i);
		assert_int_equal(json_integer_value(json_object_get(rank, "exit_code")), 0);
		assert_int_equal(json_integer_value(json_object_get(rank, "last_step")), 49999);
	}
	json_decref(record);
	assert_int_equal(points_in_journal(0, &has_exit), 100000);
	assert_true(has_exit);
}

/* test_agent_env.c has the whole of it; this is that it arrives. */
static void environment_contract(void **state)
{
	(void)state;
	json_t *spec = orders(2, json_pack("[s, s, s]", "sh", "-c",
		"[ $RANK = 1 ] || exit 0; for v in WORLD_SIZE MASTER_ADDR TORCHELASTIC_MAX_RESTARTS "
		"PYTHONPATH PIOCHE_TOKEN PIOCHE_RESUME MINE; do eval echo $v=\\${$v-unset}; done; "
		"[ $MASTER_PORT -gt 0 ] && [ $JAX_COORDINATOR_ADDRESS = $MASTER_ADDR:$MASTER_PORT ] && echo ports; "
		"case $PIOCHE_RENDEZVOUS:$PIOCHE_ADDRESS in @?*:127.0.0.1) echo rendezvous;; esac; pwd"));
	char expected[1024];
	snprintf(expected, sizeof expected,
		"WORLD_SIZE=2\nMASTER_ADDR=127.0.0.1\nTORCHELASTIC_MAX_RESTARTS=3\n"
		"PYTHONPATH=/lib-of-pioche/pioche:/old\nPIOCHE_TOKEN=" TOKEN "\nPIOCHE_RESUME=unset\n"
		"MINE=a b\nports\nrendezvous\n%s\n", dir);
	json_object_set_new(spec, "max_restarts", json_integer(3));
	json_object_set_new(spec, "env", json_pack("{s:s, s:s}", "MINE", "a b", "PYTHONPATH", "/old"));
	setenv("PIOCHE_RESUME", "/of/an/outer/run", 1);
	run r = start(spec);
	unsetenv("PIOCHE_RESUME");
	json_t *record = end(&r);
	assert_string_equal(text_of(json_array_get(json_object_get(record, "ranks"), 1), "stdout_tail"), expected);
	json_decref(record);
}

static void threads_are_told_once(void **state)
{
	(void)state;
	int told = 0;
	json_t *event;
	unsetenv("OMP_NUM_THREADS");
	run r = start(orders(3, json_pack("[s]", "true")));
	while ((event = next_event(&r))) {
		told += strstr(text_of(event, "message"), "OMP_NUM_THREADS=1 for each of the 3 ranks") != NULL;
		json_decref(event);
	}
	assert_int_equal(wait_exit(&r), 0);
	assert_int_equal(told, 1);
}

static void setup_line_and_wrap(void **state)
{
	(void)state;
	json_t *spec = orders(1, json_pack("[s, s]", "printf", "%s"));
	json_array_append_new(json_object_get(spec, "command"), json_string("a 'b' $c"));
	json_object_set_new(spec, "setup", json_string("GREETING='hello you'; export GREETING"));
	json_object_set_new(spec, "wrap", json_pack("[s, s, s, s]", "sh", "-c",
		"echo \"$GREETING\" >&2; exec \"$@\"", "sh"));
	run r = start(spec);
	json_t *record = end(&r);
	json_t *rank = json_array_get(json_object_get(record, "ranks"), 0);
	assert_string_equal(text_of(record, "result"), "ok");
	assert_string_equal(text_of(rank, "stdout_tail"), "a 'b' $c");
	assert_string_equal(text_of(rank, "stderr_tail"), "hello you\n");
	json_decref(record);
}

static void exit_code_is_named(void **state)
{
	(void)state;
	setenv("CUDA_VISIBLE_DEVICES", "2,5", 1);
	run r = start(orders(2, json_pack("[s, s, s]", "sh", "-c",
		"[ $RANK = 0 ] && exec sleep 60; echo 'no such text: kjv.txt' >&2; exit 3")));
	unsetenv("CUDA_VISIBLE_DEVICES");
	json_t *record = end(&r), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "failed");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "exit_code")), 3);
	assert_null(json_object_get(first, "signal"));
	assert_non_null(strstr(text_of(first, "message"),
	                       "rank 1 (gpu 5) exited with 3: no such text: kjv.txt; 1 rank waited 3."));
	json_t *other = json_array_get(json_object_get(record, "ranks"), 0);
	assert_int_equal(json_integer_value(json_object_get(other, "signal")), SIGTERM);
	json_decref(record);
}

/* Of the one to blame the last 50 lines at least, however long they are, and how
 * it could leave a core. */
static void much_is_kept_of_the_culprit(void **state)
{
	(void)state;
	run r = start(orders(2, json_pack("[s, s, s]", "sh", "-c", "[ $RANK = 0 ] && exec sleep 60; "
		"i=0; while [ $i -lt 80 ]; do i=$((i+1)); printf '%d %800s\\n' $i x >&2; done; exit 4")));
	json_t *record = end(&r), *first = json_object_get(record, "first");
	const char *tail = text_of(first, "stderr_tail");
	assert_true(strncmp(tail, "80 ", 3) != 0 && atoi(tail) <= 31);
	assert_non_null(strstr(tail, "\n80 "));
	assert_string_equal(text_of(record, "cwd"), dir);
	assert_non_null(json_object_get(record, "core_limit"));
	json_decref(record);
}

static void signal_is_named_and_points_survive(void **state)
{
	(void)state;
	bool has_exit;
	run r = start(orders(2, rank_command("1000", "kill1")));
	json_t *record = end(&r), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "signal");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "signal")), SIGKILL);
	assert_int_equal(json_integer_value(json_object_get(first, "step")), 999);
	assert_non_null(strstr(text_of(first, "message"), "rank 1 died: SIGKILL at step 999; 1 rank waited 3."));
	json_decref(record);
	assert_int_equal(points_in_journal(0, &has_exit), 2000);
}

/* Rank 0 fails first, but because a collective told it of rank 1. */
static void consequence_is_not_the_cause(void **state)
{
	(void)state;
	run r = start(orders(2, rank_command("1", "secondary0")));
	json_t *record = end(&r), *first = json_object_get(record, "first");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "exit_code")), 6);
	json_decref(record);
}

/* Collectives over the agent's rendezvous: a dead rank is named to the others. */
static void collective_names_the_dead(void **state)
{
	(void)state;
	run r = start(orders(2, rank_command("0", "comm")));
	json_t *record = end(&r), *first = json_object_get(record, "first");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "signal")), SIGKILL);
	json_t *other = json_array_get(json_object_get(record, "ranks"), 0);
	assert_int_equal(json_integer_value(json_object_get(other, "exit_code")), 7);
	const char *heard = text_of(other, "stdout_tail");
	if (strncmp(heard, "-13 in time 1: ", 15) != 0 || !strstr(heard, "rank 1"))
		fail_msg("rank 0 heard: %s", heard);
	json_decref(record);
}

static json_t *run_to_end(json_t *spec, const char *order)
{
	run r = start(spec);
	expect_started(&r);
	pio_clock_sleep_ms(100);
	if (order) {
		command(&r, order);
	} else {
		close(r.in);
		r.in = -1;
	}
	return end(&r);
}

static void stop_is_polite_then_hard(void **state)
{
	(void)state;
	json_t *record = run_to_end(orders(1, json_pack("[s, s, s]", "sh", "-c",
		"trap 'echo bye; exit 0' TERM; sleep 60 & wait")), "stop\n");
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_string_equal(text_of(json_array_get(json_object_get(record, "ranks"), 0), "stdout_tail"), "bye\n");
	json_decref(record);
	tear_down(NULL);
	set_up(NULL);
	int64_t start_ns = pio_clock_mono_ns();
	record = run_to_end(orders(1, json_pack("[s, s, s]", "sh", "-c",
		"trap '' TERM; (sleep 60)& setsid sleep 60 & while :; do sleep 1; done")), "stop\n");
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(record, "ranks"), 0),
	                                                    "signal")), SIGKILL);
	assert_in_range((pio_clock_mono_ns() - start_ns) / 1000000, 1000, 30000);
	json_decref(record);
}

static void kill_is_at_once(void **state)
{
	(void)state;
	json_t *spec = orders(2, json_pack("[s, s, s]", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"));
	json_object_set_new(spec, "grace_s", json_integer(60));
	int64_t start_ns = pio_clock_mono_ns();
	json_t *record = run_to_end(spec, "kill\n");
	assert_string_equal(text_of(record, "result"), "cancelled");
	assert_in_range((pio_clock_mono_ns() - start_ns) / 1000000, 0, 30000);
	json_decref(record);
}

static void end_of_file_is_lost(void **state)
{
	(void)state;
	json_t *record = run_to_end(orders(2, rank_command("10", "sleep")), NULL);
	assert_string_equal(text_of(record, "result"), "lost");
	json_decref(record);
}

static void time_limit(void **state)
{
	(void)state;
	json_t *spec = orders(1, json_pack("[s, s]", "sleep", "60"));
	json_object_set_new(spec, "timeout_s", json_integer(1));
	run r = start(spec);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "timeout");
	assert_string_equal(text_of(record, "message"), "stopped after the time limit of 1 s");
	json_decref(record);
}

static pid_t start_two(run *r)
{
	*r = start(orders(2, rank_command("10", "sleep")));
	pid_t pid = expect_started(r);
	wait_for_text("rank-0.out", "logged\n", 1);
	wait_for_text("rank-1.out", "logged\n", 1);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 2);
	return pid;
}

/* The agent is killed: its keeper does what is left to do. */
static void keeper_settles_what_a_killed_agent_left(void **state)
{
	(void)state;
	bool has_exit;
	run r;
	kill(start_two(&r), SIGKILL);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "lost");
	assert_string_equal(text_of(record, "message"), "the agent died: SIGKILL");
	assert_true(json_is_null(json_object_get(record, "first")));
	for (size_t i = 0; i < 2; i++) {
		json_t *rank = json_array_get(json_object_get(record, "ranks"), i);
		assert_int_equal(json_integer_value(json_object_get(rank, "signal")), SIGKILL);
		assert_int_equal(json_integer_value(json_object_get(rank, "last_step")), 9);
		assert_string_equal(text_of(rank, "stdout_tail"), "logged\n");
	}
	json_decref(record);
	assert_int_equal(points_in_journal(0, &has_exit), 20);
}

/* A rank that had failed before its agent died is to blame, not the agent. */
static void keeper_knows_who_failed_before(void **state)
{
	(void)state;
	run r = start(orders(2, json_pack("[s, s, s]", "sh", "-c",
		"[ $RANK = 1 ] && { sleep 0.3; kill -SEGV $$; }; exec sleep 60")));
	pid_t agent = expect_started(&r);
	pio_clock_sleep_ms(100);
	kill(agent, SIGSTOP); /* so that it hears of nothing */
	pio_clock_sleep_ms(600);
	kill(agent, SIGKILL);
	json_t *record = end(&r), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "signal");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "signal")), SIGSEGV);
	json_decref(record);
}

static void an_agent_without_keeper_stops_its_ranks(void **state)
{
	(void)state;
	bool has_exit;
	run r;
	start_two(&r);
	kill(r.pid, SIGKILL);
	json_t *record = NULL;
	for (int i = 0; i < 1000 && !(record = read_json("exit.0.json")); i++)
		pio_clock_sleep_ms(10);
	assert_int_equal(wait_exit(&r), -SIGKILL);
	wait_gone();
	assert_string_equal(text_of(record, "result"), "lost");
	assert_string_equal(text_of(record, "message"), "stopped because its keeper was gone");
	json_decref(record);
	assert_int_equal(points_in_journal(0, &has_exit), 20);
	assert_true(has_exit);
}

static void ranks_die_with_both(void **state)
{
	(void)state;
	run r;
	pid_t agent = start_two(&r);
	kill(r.pid, SIGSTOP);
	kill(agent, SIGKILL);
	kill(r.pid, SIGKILL);
	assert_int_equal(wait_exit(&r), -SIGKILL);
	wait_gone();
	assert_null(read_json("exit.0.json"));
	assert_int_equal(pio_ring_recover(dir, ulid, 1, 2, NULL), 0);
	bool has_exit;
	assert_int_equal(points_in_journal(0, &has_exit), 20);
	assert_false(has_exit);
}

static void leftovers_are_killed(void **state)
{
	(void)state;
	run r = start(orders(1, json_pack("[s, s, s]", "sh", "-c", "setsid sleep 60 & sleep 60 & exit 0")));
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
}

static void missing_program(void **state)
{
	(void)state;
	run r = start(orders(2, json_pack("[s]", "./no-such-program")));
	json_t *record = end(&r), *first = json_object_get(record, "first");
	assert_string_equal(text_of(record, "result"), "failed");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 0);
	assert_string_equal(text_of(first, "message"), "start \"./no-such-program\": No such file or directory");
	json_decref(record);
}

/* The second sync of the journal fails: the attempt fails with that reason, the
 * exit record is there, and the rings wait for whoever recovers. */
static void broken_journal_fails_the_attempt(void **state)
{
	(void)state;
	bool has_exit;
	setenv("PIOCHE_FS_FAULT", "s:2:28", 1);
	run r = start(orders(2, rank_command("10", "sleep")));
	unsetenv("PIOCHE_FS_FAULT");
	json_t *event;
	while ((event = next_event(&r)))
		json_decref(event);
	assert_int_equal(wait_exit(&r), 0);
	json_t *record = read_json("exit.0.json");
	assert_string_equal(text_of(record, "result"), "failed");
	assert_non_null(strstr(text_of(record, "message"), "No space left on device"));
	json_decref(record);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 0);
	assert_int_equal(pio_ring_recover(dir, ulid, 1, 2, NULL), 0);
	assert_int_equal(points_in_journal(0, &has_exit), 20);
}

/* Whatever grace_s says, ranks that ignore SIGTERM do not outlive a supervisor
 * that dies while it stops them. */
static void orphans_get_less_grace(void **state)
{
	(void)state;
	json_t *spec = orders(1, json_pack("[s, s, s]", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"));
	json_object_set_new(spec, "grace_s", json_integer(600));
	run r = start(spec);
	expect_started(&r);
	command(&r, "stop\n");
	pio_clock_sleep_ms(50);
	close(r.in);
	r.in = -1;
	int64_t start_ns = pio_clock_mono_ns();
	json_t *record = end(&r);
	assert_in_range((pio_clock_mono_ns() - start_ns) / 1000000, 0, 60000);
	assert_string_equal(text_of(record, "result"), "cancelled");
	json_decref(record);
}

static void odd_output_survives_as_tail(void **state)
{
	(void)state;
	run r = start(orders(1, json_pack("[s, s, s]", "sh", "-c",
		"seq 100000; printf 'a\\000b\\377c\\n'")));
	json_t *record = end(&r);
	const char *tail = text_of(json_array_get(json_object_get(record, "ranks"), 0), "stdout_tail");
	assert_int_equal(strncmp(tail, "99938\n", 6), 0); /* 64 lines with the last */
	assert_string_equal(tail + 63 * 6 + 1, "a\xef\xbf\xbd" "b\xef\xbf\xbd" "c\n");
	json_decref(record);
}

static void late_and_broken_agents_refuse(void **state)
{
	(void)state;
	run r = start(orders(1, json_pack("[s]", "true")));
	json_decref(end(&r));
	r = start(orders(1, json_pack("[s]", "true"))); /* the attempt has an exit record */
	assert_int_equal(wait_exit(&r), 3);
	r = start(json_pack("{s:i}", "version", 1));
	assert_int_equal(wait_exit(&r), 3);
	r = start(NULL);
	close(r.in);
	r.in = -1;
	assert_int_equal(wait_exit(&r), 3);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "agent") == 0) {
		return agent_main();
	}
	if (argc > 2 && strcmp(argv[1], "rank") == 0)
		_exit(rank_main(argc, argv)); /* a rank that fails on purpose leaks on purpose */
	find_self();
	const struct CMUnitTest tests[] = {
		T(points_arrive_and_all_is_recorded), T(environment_contract), T(threads_are_told_once),
		T(setup_line_and_wrap),
		T(exit_code_is_named), T(much_is_kept_of_the_culprit),
		T(signal_is_named_and_points_survive), T(consequence_is_not_the_cause),
		T(collective_names_the_dead), T(stop_is_polite_then_hard), T(kill_is_at_once),
		T(end_of_file_is_lost), T(time_limit),
		T(keeper_settles_what_a_killed_agent_left),
		T(keeper_knows_who_failed_before),
		T(an_agent_without_keeper_stops_its_ranks), T(ranks_die_with_both), T(leftovers_are_killed),
		T(missing_program),
		T(broken_journal_fails_the_attempt), T(orphans_get_less_grace),
		T(odd_output_survives_as_tail), T(late_and_broken_agents_refuse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
