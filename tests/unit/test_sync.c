/* How often a journal asks the disk: at most once a second, and at the end. By
 * the counts of sys/fs.h, in a process that logs by itself, and in an agent with
 * its keeper: this program is also that (first argument "agent"). */
#include <fcntl.h>
#include <jansson.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "client_fixture.h"
#include "launch/agent.h"
#include "sys/proc.h"

#define SECOND_NS INT64_C(1000000000)

static char self[4096];

static void a_process_of_its_own_syncs_once_a_second(void **unused)
{
	(void)unused;
	char *home = home_new();
	pio_run *run;
	ok(pio_open(&run, "syncs"));
	char *dir = strdup(pio_info_get(run)->dir);
	pio_key key = pio_key_get(run, "loss");
	uint64_t opened = pio_fs_counts_get().syncs;
	int64_t begin_ns = pio_clock_mono_ns();
	for (int64_t step = 0; pio_clock_mono_ns() - begin_ns < 5 * SECOND_NS / 2; step++) {
		ok(pio_log(run, key, step, 0.5));
		pio_clock_sleep_ms(2);
	}
	uint64_t during = pio_fs_counts_get().syncs - opened;
	int64_t seconds = (pio_clock_mono_ns() - begin_ns) / SECOND_NS;
	assert_in_range(during, 1, seconds);
	ok(pio_close(&run, 0));
	uint64_t at_end = pio_fs_counts_get().syncs - opened - during;
	assert_in_range(at_end, 1, 2); /* EXIT is on the disk; a beat may have fallen due before */
	free(dir);
	home_remove(home);
}

static pid_t start_agent(const char *dir, int *orders, int *answers)
{
	int in[2], out[2];
	pid_t pid;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	const char *argv[] = { self, "agent", path_in(dir, "counts"), NULL };
	pio_proc_spec proc = { .argv = argv, .envp = (const char *const *)environ, .stdin_fd = in[0],
	                       .stdout_fd = out[1], .stderr_fd = 2, .outlive_parent = true };
	check_ok(pio_proc_spawn(&pid, &proc, &err));
	close(in[0]);
	close(out[1]);
	*orders = in[1];
	*answers = out[0];
	return pid;
}

static void an_agent_syncs_once_a_second(void **unused)
{
	(void)unused;
	char *dir = scratch_new(), c;
	int orders, answers, status;
	unsigned long syncs = 0;
	pio_str text = PIO_STR_INIT;
	pid_t pid = start_agent(dir, &orders, &answers);
	json_t *spec = json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:[s, s]}",
		"version", 1, "run", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "attempt", 1, "node", 0, "nodes", 1,
		"ranks_per_node", 1, "dir", dir, "cwd", dir, "store", dir, "staging", dir, "lib_dir", "/lib",
		"token", "00112233445566778899aabbccddeeff", "command", "sleep", "2.4");
	char *line = json_dumps(spec, JSON_COMPACT);
	int64_t begin_ns = pio_clock_mono_ns();
	check_ok(pio_fs_write_all(orders, line, strlen(line), "pipe", &err));
	check_ok(pio_fs_write_all(orders, "\n", 1, "pipe", &err));
	while (read(answers, &c, 1) == 1)
		continue;
	int64_t seconds = (pio_clock_mono_ns() - begin_ns) / SECOND_NS;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	check_ok(pio_fs_read(&text, path_in(dir, "counts"), &err));
	char *at = text.data;
	for (int process = 0; process < 2; process++) { /* agent and keeper */
		assert_true(*at >= '0' && *at <= '9');
		syncs += strtoul(at, &at, 10);
		at += *at == '\n';
	}
	/* While it runs; then the last of the rings, EXIT, and the exit record's file. */
	assert_in_range(syncs, 1 + 3, seconds + 3);
	close(orders);
	close(answers);
	free(line);
	json_decref(spec);
	pio_str_fini(&text);
	scratch_remove(dir);
}

static int agent_main(const char *counts_path)
{
	int status = pio_agent_main();
	FILE *file = fopen(counts_path, "a");
	if (!file)
		return 3;
	fprintf(file, "%llu\n", (unsigned long long)pio_fs_counts_get().syncs);
	return fclose(file) == 0 ? status : 3;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "agent") == 0)
		return agent_main(argv[2]);
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = 0;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_of_its_own_syncs_once_a_second),
		cmocka_unit_test(an_agent_syncs_once_a_second),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
