/* Who failed first? 16 ranks on 2 to 4 nodes work together; one of them, at a
 * step of its own, dies of a signal or ends with a code, and all others fail
 * within moments because their collective broke, with codes and signals of
 * their own. The record of the attempt names the one. ROUNDS=n SEED=n.
 *
 * This program is the heads, the agents and the ranks too. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/ulid.h"
#include "client/pioche.h"
#include "launch/agent.h"
#include "launch/head.h"
#include "sys/fs.h"
#include "sys/proc.h"

enum { RANKS = 16, AT_ONCE = 3, ROUNDS = 200 };

static char self[4096], root[256];

/* What is to happen, told to the ranks on their command line. */
typedef struct plan {
	int nodes, rank, step;
	int signal, exit_code;    /* one of them is -1 */
} plan;

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* ---- the ranks ------------------------------------------------------------------- */

static void end_badly(int signal_number, int exit_code)
{
	struct rlimit none = { 0, 0 };
	setrlimit(RLIMIT_CORE, &none);
	if (signal_number > 0) {
		signal(signal_number, SIG_DFL); /* a sanitizer has handlers of its own */
		raise(signal_number);
	}
	_exit(exit_code);
}

/* rank RANK STEP SIGNAL CODE: work until that rank fails at that step. */
static int rank_main(char **argv)
{
	pio_run *run;
	pio_comm *comm;
	int rank = atoi(getenv("RANK")), culprit = atoi(argv[2]), step = atoi(argv[3]);
	unsigned seed = (unsigned)(rank * 7919 + step);
	if (pio_open(&run, NULL) || pio_comm_init(&comm, run, 60000)) {
		dprintf(2, "%s\n", pio_error());
		return 99;
	}
	pio_key key = pio_key_get(run, "loss");
	for (int i = 0;; i++) {
		float sum[64] = { 0 };
		pio_log(run, key, i, 1.0 / (i + 1));
		if (rank == culprit && i == step)
			end_badly(atoi(argv[4]), atoi(argv[5]));
		if (pio_comm_allreduce(comm, sum, 64) != 0)
			break;
	}
	/* A victim: it ends as programs do whose collective broke. */
	static const int signals[] = { -1, -1, SIGABRT, SIGSEGV, SIGTERM };
	end_badly(signals[next_random(&seed) % 5], 1 + (int)(next_random(&seed) % 100));
	return 0;
}

/* ---- attempts ----------------------------------------------------------------------- */

typedef struct attempt {
	pid_t pid;                /* 0: none */
	char dir[300];
	plan plan;
} attempt;

static plan draw(unsigned *seed)
{
	static const int signals[] = { SIGKILL, SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGTERM, SIGILL };
	plan p = { .nodes = 2 << next_random(seed) % 2, .rank = (int)(next_random(seed) % RANKS),
	           .step = (int)(next_random(seed) % 20), .signal = -1, .exit_code = -1 };
	if (next_random(seed) % 2)
		p.signal = signals[next_random(seed) % 7];
	else
		p.exit_code = 1 + (int)(next_random(seed) % 255);
	return p;
}

static void begin(attempt *a, int round, const plan *p)
{
	char path[400], ulid[PIO_ULID_CHARS + 1], rank[16], step[16], signal_text[16], code[16];
	pio_ulid id;
	pio_err err = PIO_ERR_INIT;
	a->plan = *p;
	pio_ulid_new(&id);
	pio_ulid_format(&id, ulid);
	snprintf(a->dir, sizeof a->dir, "%s/%d", root, round);
	assert_int_equal(pio_fs_mkdirs(a->dir, 0755, &err), 0);
	snprintf(rank, sizeof rank, "%d", p->rank);
	snprintf(step, sizeof step, "%d", p->step);
	snprintf(signal_text, sizeof signal_text, "%d", p->signal);
	snprintf(code, sizeof code, "%d", p->exit_code);
	json_t *orders = json_pack("{s:i, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:s}",
	                           "version", 1, "run", ulid, "attempt", 1, "nodes", p->nodes, "ranks_per_node",
	                           RANKS / p->nodes, "dir", a->dir, "cwd", a->dir, "store", root, "staging",
	                           root, "lib_dir", "/", "grace_s", 5, "join_s", 120, "interface", "lo",
	                           "bind", "none");
	json_object_set_new(orders, "command", json_pack("[s, s, s, s, s, s]", self, "rank", rank, step,
	                                                 signal_text, code));
	json_object_set_new(orders, "start", json_pack("[s, s, s, s, s, o]", "sh", "-c",
		"i=0; while [ $i -lt $2 ]; do PIOCHE_NODE=$i SLURMD_NODENAME=dgx-00$i \"$1\" agent --join & "
		"i=$((i+1)); done; wait", "sh", self, json_sprintf("%d", p->nodes)));
	snprintf(path, sizeof path, "%s/orders.json", a->dir);
	assert_int_equal(json_dump_file(orders, path, JSON_COMPACT), 0);
	json_decref(orders);
	const char *argv[] = { self, "agent", "--head", a->dir, NULL };
	pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ,
	                       .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	if (pio_proc_spawn(&a->pid, &spec, &err) != 0)
		fail_msg("%s", err.message);
}

static int64_t int_of(const json_t *record, const char *name)
{
	const json_t *member = json_object_get(record, name);
	return json_is_integer(member) ? json_integer_value(member) : -1;
}

/* The right rank, with how it ended, its node and its step. */
static bool is_right(const attempt *a, int round)
{
	char path[400], host[16], expected[100];
	const plan *p = &a->plan;
	snprintf(path, sizeof path, "%s/exit.json", a->dir);
	json_t *record = json_load_file(path, 0, NULL), *first = json_object_get(record, "first");
	int node = p->rank / (RANKS / p->nodes);
	const char *message = json_string_value(json_object_get(record, "message"));
	snprintf(host, sizeof host, "dgx-00%d", node);
	if (p->signal > 0)
		snprintf(expected, sizeof expected, "%s rank %d died: %s at step %d; 15 ranks waited ", host, p->rank,
		         pio_proc_signal_name(p->signal), p->step);
	else
		snprintf(expected, sizeof expected, "%s rank %d exited with %d at step %d; 15 ranks waited ", host,
		         p->rank, p->exit_code, p->step);
	bool good = int_of(first, "rank") == p->rank && int_of(first, "node") == node &&
	            int_of(first, "signal") == p->signal && int_of(first, "exit_code") == p->exit_code &&
	            int_of(first, "step") == p->step && message &&
	            strncmp(message, expected, strlen(expected)) == 0;
	if (!good)
		print_message("round %d, %d nodes: \"%s...\" expected, \"%s\" told\n", round, p->nodes, expected,
		              message ? message : "nothing");
	json_decref(record);
	return good;
}

static int rounds(void)
{
	const char *text = getenv("ROUNDS");
	if (text)
		return atoi(text);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return ROUNDS / 10;
#else
	return ROUNDS;
#endif
}

static void the_culprit_is_named_every_time(void **state)
{
	attempt running[AT_ONCE] = { { 0 } };
	int wrong = 0, total = rounds();
	const char *seed_text = getenv("SEED");
	unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 10) : (unsigned)getpid();
	(void)state;
	print_message("SEED=%u\n", seed);
	for (int round = 0, ended = 0; ended < total;) {
		for (int i = 0; i < AT_ONCE && round < total; i++)
			if (!running[i].pid) {
				plan p = draw(&seed);
				begin(&running[i], round++, &p);
			}
		int status;
		pid_t pid = waitpid(-1, &status, 0);
		for (int i = 0; i < AT_ONCE; i++) {
			attempt *a = &running[i];
			if (a->pid != pid)
				continue;
			a->pid = 0;
			ended++;
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
			wrong += !is_right(a, ended);
			assert_int_equal(pio_fs_remove_tree(a->dir, NULL), 0);
		}
	}
	assert_int_equal(wrong, 0);
	(void)pio_fs_remove_tree(root, NULL);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[2], "--join") == 0)
		return pio_agent_join_main();
	if (argc == 4 && strcmp(argv[2], "--head") == 0)
		return pio_head_main(argv[3]);
	if (argc == 6 && strcmp(argv[1], "rank") == 0)
		_exit(rank_main(argv));
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	const char *base = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/pioche-blame-%d", base && *base ? base : "/tmp", (int)getpid());
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_culprit_is_named_every_time) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
