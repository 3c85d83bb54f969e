/* head_fixture.h: a head, its agents and their ranks, all on this machine: the
 * test program is each of them (first argument "agent" or "rank"). */
#ifndef PIO_TEST_HEAD_FIXTURE_H
#define PIO_TEST_HEAD_FIXTURE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "attempt_fixture.h"
#include "client/pioche.h"
#include "launch/agent.h"
#include "launch/head.h"
#include "launch/probe.h"

/* 1,000 points, then nothing, whatever the word. */
static inline int log_main(const char *word)
{
	(void)word;
	pio_run *run;
	if (pio_open(&run, NULL))
		return 98;
	pio_key loss = pio_key_get(run, "loss");
	for (int step = 0; step < 1000; step++)
		pio_log(run, loss, step, 1.0 / (step + 1));
	dprintf(1, "logged\n");
	pio_clock_sleep_ms(60000);
	return 0;
}

/* ---- running a head --------------------------------------------------------------- */

/* `shell`: a line for sh, or one word of small letters that a rank of this program
 * understands. */
static inline json_t *orders(int nodes, int ranks_per_node, const char *shell)
{
	bool is_ours = shell[strspn(shell, "abcdefghijklmnopqrstuvwxyz")] == 0;
	json_t *command = is_ours ? json_pack("[s, s, s]", self, "rank", shell)
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

static inline void put_start(json_t *spec, const char *shell)
{
	json_object_set_new(spec, "start", json_pack("[s, s, s, s, s]", "sh", "-c", shell, "sh", self));
}

/* Of two nodes the second is in a session of its own, so that kill_apart finds all of it. */
static inline void put_start_apart(json_t *spec)
{
	put_start(spec, "PIOCHE_NODE=0 SLURMD_NODENAME=dgx-000 \"$1\" agent --join & "
	          "PIOCHE_NODE=1 SLURMD_NODENAME=dgx-001 setsid \"$1\" agent --join & "
	          "echo $! > \"$PIOCHE_DIR/keeper\"; wait");
}

/* Agent and keeper of that node at once, and what they started. */
static inline void kill_apart(void)
{
	pio_str keeper = read_text("keeper");
	pio_proc_signal_tree(atoi(keeper.data), SIGKILL);
	pio_str_fini(&keeper);
}

static inline pid_t start(json_t *spec)
{
	pid_t pid;
	pio_err err = PIO_ERR_INIT;
	assert_int_equal(json_dump_file(spec, path_in(dir, "orders.json"), JSON_COMPACT), 0);
	json_decref(spec);
	const char *argv[] = { self, "agent", "--head", dir, NULL };
	int quiet = getenv("V") ? 2 : open(path_in(dir, "head.err"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	pio_proc_spec proc = { .argv = argv, .envp = (const char *const *)environ, .stdin_fd = -1,
	                       .stdout_fd = quiet, .stderr_fd = quiet, .outlive_parent = true };
	if (pio_proc_spawn(&pid, &proc, &err) != 0)
		fail_msg("%s", err.message);
	if (quiet != 2)
		close(quiet);
	return pid;
}

/* The head ended with 0, the record is there, nothing of the attempt lives. */
static inline json_t *end(pid_t pid)
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

static inline void expect_node(const json_t *record, size_t i, const char *result, const char *message)
{
	const json_t *node = json_array_get(json_object_get(record, "nodes"), i);
	assert_string_equal(text_of(node, "result"), result);
	if (!strstr(text_of(node, "message"), message))
		fail_msg("node %zu: \"%s\", not \"%s\"", i, text_of(node, "message"), message);
}

/* What the program is when it is not the test; -1: it is the test. `rank_main`
 * is the rank's body, by its word. */
static inline int be_another(int argc, char **argv, int (*rank_main)(const char *word))
{
	if (argc == 3 && strcmp(argv[2], "--join") == 0)
		return pio_agent_join_main();
	if (argc == 4 && strcmp(argv[2], "--head") == 0)
		return pio_head_main(argv[3]);
	if (argc == 5 && strcmp(argv[2], "--probe") == 0)
		return pio_probe_main(argv[3], argv[4]);
	if (argc == 3 && strcmp(argv[1], "rank") == 0)
		_exit(rank_main(argv[2]));
	find_self();
	return -1;
}

#endif
