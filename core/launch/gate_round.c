#include "launch/gate_round.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define NS_PER_S INT64_C(1000000000)
#define GRACE_S 2
/* An all-reduce of a probe takes a fraction of a second; to be set up, and to make
 * communicators of a thousand GPUs, it has this long. */
#define HANG_S 45
#define ENDING_NS (30 * NS_PER_S)

static int in_dir(pio_str *path, const pio_gate_round *round, const char *name, pio_err *err)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/%s", round->dir, name);
	return pio_str_check(path, err);
}

/* ---- orders --------------------------------------------------------------------------- */

static void put_replaced(pio_str *out, const char *text, const char *what, const char *by)
{
	const char *at;
	while ((at = strstr(text, what)) != NULL) {
		pio_str_append(out, text, (size_t)(at - text));
		pio_str_puts(out, by);
		text = at + strlen(what);
	}
	pio_str_puts(out, text);
}

json_t *pio_gate_start(const json_t *start_on, const json_t *hosts)
{
	json_t *argv = json_array(), *item;
	pio_str names = PIO_STR_INIT, word = PIO_STR_INIT, both = PIO_STR_INIT;
	char count[16];
	size_t i;
	snprintf(count, sizeof count, "%zu", json_array_size(hosts));
	json_array_foreach(hosts, i, item)
		pio_str_printf(&names, "%s%s", i ? "," : "", json_string_value(item));
	json_array_foreach(start_on, i, item) {
		const char *text = json_string_value(item);
		pio_str_clear(&word);
		pio_str_clear(&both);
		put_replaced(&word, text ? text : "", "{count}", count);
		put_replaced(&both, word.data, "{hosts}", names.data);
		json_array_append_new(argv, json_stringn(both.data, both.len));
	}
	if (names.failed || word.failed || both.failed || json_array_size(argv) != json_array_size(start_on)) {
		json_decref(argv);
		argv = NULL;
	}
	pio_str_fini(&names);
	pio_str_fini(&word);
	pio_str_fini(&both);
	return argv;
}

/* As many ranks on a node as the run has, where those have GPUs; else one. */
static int64_t ranks_per_node(const json_t *orders)
{
	const char *text = getenv("SLURM_GPUS_ON_NODE");
	int64_t gpus = text ? strtoll(text, NULL, 10) : 0, ranks = pio_json_int_or(orders, "ranks_per_node", 1);
	return gpus < 1 ? 1 : gpus < ranks ? gpus : ranks;
}

/* What is set up and in the environment of the ranks stays: where NCCL is, what it is
 * told. Not their wrapper: pioche need not be inside of it. */
static json_t *make_orders(const pio_gate_round *round, const char *executable)
{
	static const char *const kept[] = { "version", "run", "attempt", "cwd", "store", "staging", "lib_dir", "env",
	                                    "setup", "bind", "interface" };
	json_t *orders = json_object();
	json_t *start = pio_gate_start(json_object_get(round->orders, "start_on"), round->hosts);
	json_t *bandwidth = json_object_get(round->orders, "bandwidth");
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		if (json_object_get(round->orders, kept[i]))
			json_object_set(orders, kept[i], json_object_get(round->orders, kept[i]));
	json_t *command = json_pack("[s, s, s, o, o]", executable, "agent", "--probe",
	                            json_sprintf("%.0f", json_number_value(bandwidth)),
	                            json_sprintf("%d", round->most));
	json_t *own = json_pack("{s:s, s:I, s:I, s:I, s:b, s:I, s:i, s:i, s:i, s:O, s:o, s:o}", "dir", round->dir,
		"nodes", (json_int_t)json_array_size(round->hosts), "ranks_per_node",
		(json_int_t)ranks_per_node(round->orders), "fit_for",
		(json_int_t)pio_json_int_or(round->orders, "ranks_per_node", 1), "preflight", 1, "join_s",
		(json_int_t)round->join_s, "grace_s", GRACE_S, "hang_s", HANG_S, "hang_first_s", HANG_S, "hosts",
		round->hosts, "start", start, "command", command);
	if (!own || json_object_update(orders, own) != 0) {
		json_decref(orders);
		orders = NULL;
	}
	json_decref(own);
	return orders;
}

static int write_orders(const pio_gate_round *round, const char *executable, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	json_t *orders = make_orders(round, executable);
	char *text = orders ? pio_json_canonical(orders) : NULL;
	int rc = text ? pio_fs_mkdirs(round->dir, 0777, err)
	              : pio_fail(err, PIO_ENOMEM, "out of memory for the orders of a preflight");
	if (!rc)
		rc = in_dir(&path, round, "orders.json", err);
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), 0600, err);
	free(text);
	json_decref(orders);
	pio_str_fini(&path);
	return rc;
}

/* ---- its head --------------------------------------------------------------------------- */

static int start_head(pid_t *pid, const pio_gate_round *round, const char *executable, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	const char *argv[] = { executable, "agent", "--head", round->dir, NULL };
	int fd = -1, rc = in_dir(&path, round, "head.err", err);
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (!rc) {
		pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ, .stdin_fd = -1,
		                       .stdout_fd = fd, .stderr_fd = fd };
		rc = pio_proc_spawn(pid, &spec, err);
	}
	if (fd >= 0)
		(void)pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	return rc;
}

void pio_gate_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR2);
}

/* What is asked of this head is asked of that one; a word that came first stays. */
static void pass_on(pio_gate_round *round, pid_t pid, int signal_number)
{
	if (signal_number == SIGCHLD)
		return;
	bool again = signal_number == SIGTERM && round->verdict && strcmp(round->verdict, "cancelled") == 0;
	if (!round->verdict)
		round->verdict = signal_number == SIGUSR2 ? "timeout" : "cancelled";
	(void)kill(pid, again ? SIGINT : signal_number);
}

/* Until the head of the round is gone, with all that it started. */
static void wait_head(pio_gate_round *round, pid_t pid)
{
	sigset_t set;
	int64_t deadline_ns = round->deadline_ns;
	bool is_late = false;
	pid_t gone;
	pio_gate_signals(&set);
	while ((gone = waitpid(pid, NULL, WNOHANG)) == 0 || (gone < 0 && errno == EINTR)) {
		struct timespec slice = { 0, 100000000 };
		int signal_number = sigtimedwait(&set, NULL, &slice);
		if (signal_number > 0)
			pass_on(round, pid, signal_number);
		if (pio_clock_mono_ns() <= deadline_ns)
			continue;
		if (!round->verdict)
			round->verdict = "failed";
		if (is_late)
			pio_proc_signal_tree(pid, SIGKILL);
		else
			(void)kill(pid, SIGTERM);
		is_late = true;
		deadline_ns = pio_clock_mono_ns() + ENDING_NS;
	}
}

/* ---- what came of it ------------------------------------------------------------------------ */

/* NULL when there is none that can be read whole. */
static json_t *read_json(const pio_gate_round *round, const char *name)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *value = NULL;
	if (in_dir(&path, round, name, NULL) == 0 && pio_fs_read(&text, path.data, NULL) == 0 &&
	    (pio_json_parse(&value, text.data, text.len, path.data, NULL) != 0 || !json_is_object(value))) {
		json_decref(value);
		value = NULL;
	}
	pio_str_fini(&path);
	pio_str_fini(&text);
	return value;
}

static void read_results(pio_gate_round *round)
{
	round->record = read_json(round, "exit.json");
	round->probe = read_json(round, "rank-0.out");
	round->checks = json_object();
	for (size_t node = 0; node < json_array_size(round->hosts); node++) {
		char name[32];
		snprintf(name, sizeof name, "exit.%zu.json", node);
		json_t *record = read_json(round, name), *checks = json_object_get(record, "checks");
		if (json_is_array(checks))
			json_object_set(round->checks, pio_json_string_or(record, "host", ""), checks);
		json_decref(record);
	}
}

int pio_gate_round_run(pio_gate_round *round, pio_err *err)
{
	char executable[PATH_MAX];
	pid_t pid = 0;
	ssize_t n = readlink("/proc/self/exe", executable, sizeof executable - 1);
	if (n < 0)
		return pio_fail_errno(err, errno, "find this program");
	executable[n] = 0;
	int rc = write_orders(round, executable, err);
	if (!rc)
		rc = start_head(&pid, round, executable, err);
	if (rc)
		return rc;
	wait_head(round, pid);
	read_results(round);
	return 0;
}

void pio_gate_round_fini(pio_gate_round *round)
{
	json_decref(round->record);
	json_decref(round->checks);
	json_decref(round->probe);
	round->record = round->checks = round->probe = NULL;
}
