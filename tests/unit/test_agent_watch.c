/* What an agent says of ranks that make no steps, or slow ones. This program is
 * also the agent (first argument "agent") and the ranks ("rank"). */
#include <signal.h>
#include <sys/stat.h>

#include "agent_fixture.h"
#include "client/env.h"

/* ---- the ranks ---------------------------------------------------------------------- */

static int64_t step;

/* Into the memory cgroup of the test. */
static void join_group(void)
{
	char path[200];
	snprintf(path, sizeof path, "%s/cgroup.procs", getenv("TEST_GROUP"));
	FILE *procs = fopen(path, "we");
	if (!procs || fputs("0", procs) < 0 || fclose(procs) != 0)
		_exit(98);
}

static void grow(size_t size_bytes)
{
	char *bytes = malloc(size_bytes);
	for (size_t i = 0; bytes && i < size_bytes; i += 4096)
		((volatile char *)bytes)[i] = 1;
	_exit(bytes ? 97 : 96); /* it should not have lived to get here */
}

/* Words, each with a number behind it: "log N" logs N steps, more than a beat of
 * the agent apart; "pace MS" logs for 12 s, a step each MS milliseconds; "stop 0"
 * stops the process, "spin MS" works, "sleep MS" does not; "join 0" and "grow MB"
 * are for lack of memory. */
static void act(pio_ring *ring, uint32_t key, const char *word, int64_t n)
{
	int64_t end_ns = pio_clock_mono_ns() + n * 1000000;
	if (strcmp(word, "log") == 0)
		for (int64_t i = 0; i < n; i++) {
			pio_ring_log(ring, key, step++, 0);
			pio_clock_sleep_ms(400);
		}
	else if (strcmp(word, "pace") == 0)
		for (int64_t i = 0; i < 12000 / n; i++) {
			pio_ring_log(ring, key, step++, 0);
			pio_clock_sleep_ms(n);
		}
	else if (strcmp(word, "stop") == 0)
		raise(SIGSTOP);
	else if (strcmp(word, "join") == 0)
		join_group();
	else if (strcmp(word, "grow") == 0)
		grow((size_t)n << 20);
	else if (strcmp(word, "sleep") == 0)
		pio_clock_sleep_ms(n);
	else if (strcmp(word, "spin") == 0)
		while (pio_clock_mono_ns() < end_ns)
			continue;
	else
		abort();
}

static int rank_main(int argc, char **argv)
{
	pio_ring *ring = NULL;
	if (pio_ring_attach(&ring, getenv(PIO_ENV_RING), NULL) != 0)
		return 99;
	uint32_t key = pio_ring_key(ring, "loss", 4, NULL);
	for (int i = 2; i + 1 < argc; i += 2)
		act(ring, key, argv[i], atoi(argv[i + 1]));
	pio_ring_close(&ring);
	return 0;
}

/* Ranks that do this, as words of `act`; but rank 1 that. */
static json_t *words(int ranks, const char *all, const char *of_1)
{
	pio_str script = PIO_STR_INIT;
	pio_str_printf(&script, "[ $RANK = 1 ] && exec '%s' rank %s; exec '%s' rank %s", self, of_1, self, all);
	json_t *spec = orders(ranks, json_pack("[s, s, s]", "sh", "-c", script.data));
	pio_str_fini(&script);
	return spec;
}

static json_t *first_of(const json_t *record)
{
	return json_object_get(record, "first");
}

/* ---- the promises ------------------------------------------------------------------------ */

/* A program of this name before all others in PATH, until the caller sets `path` again. */
static void install(const char *name, const char *script, pio_str *path)
{
	pio_str longer = PIO_STR_INIT;
	pio_str_puts(path, getenv("PATH"));
	pio_str_printf(&longer, "%s:%s", root, path->data);
	assert_int_equal(pio_fs_write(path_in(root, name), script, strlen(script), 0755, NULL), 0);
	setenv("PATH", longer.data, 1);
	pio_str_fini(&longer);
}

static void a_stopped_rank_is_named_with_the_stacks_of_all(void **state)
{
	(void)state;
	pio_str path = PIO_STR_INIT;
	install("py-spy", "#!/bin/sh\necho \"asked to $1 $2 $3 of $(cat /proc/$3/comm)\"\n", &path);
	json_t *spec = words(3, "log 3 sleep 60000", "log 3 stop 0");
	json_object_set_new(spec, "hang_s", json_integer(2));
	json_object_set_new(spec, "host", json_string("dgx-002"));
	run r = start(spec);
	setenv("PATH", path.data, 1);
	pio_str_fini(&path);
	json_t *record = end(&r), *first = first_of(record);
	assert_string_equal(text_of(record, "result"), "hang");
	assert_int_equal(json_integer_value(json_object_get(first, "rank")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "step")), 2);
	assert_null(json_object_get(first, "signal"));
	contains(text_of(record, "message"), "hang: rank 1 (dgx-002) has made no step since 2, ");
	contains(text_of(record, "message"), " s ago (limit 2 s); it is stopped (T)");
	pio_str text = read_text("stacks.0.txt");
	const char *stacks = text.data;
	contains(stacks, "stacks of 3 ranks at ");
	contains(stacks, "rank 1: 1 process\n");
	contains(stacks, "rank 0: 1 process\n");
	contains(stacks, "rank 2: 1 process\n");
	assert_true(strstr(stacks, "rank 1: ") < strstr(stacks, "rank 0: "));
	contains(stacks, ": T, waits in ");
	contains(stacks, ": S, waits in ");
	contains(stacks, "    syscall ");
	contains(stacks, "\n  py-spy:\nasked to dump --pid ");
	contains(stacks, " of test_agent_watc\n");
	if (access("/usr/bin/gdb", X_OK) == 0)
		contains(stacks, "rank_main");
	pio_str_fini(&text);
	json_decref(record);
}

/* The shell that started the program waits for it: what counts is the program. */
static void the_program_behind_a_shell_is_looked_at(void **state)
{
	(void)state;
	pio_str script = PIO_STR_INIT;
	pio_str_printf(&script, "'%s' rank log 3 stop 0; true", self);
	json_t *spec = orders(1, json_pack("[s, s, s]", "sh", "-c", script.data));
	json_object_set_new(spec, "hang_s", json_integer(1));
	run r = start(spec);
	json_t *record = end(&r);
	contains(text_of(record, "message"), "it is stopped (T)");
	pio_str text = read_text("stacks.0.txt");
	const char *stacks = text.data;
	contains(stacks, "rank 0: 2 processes\n");
	pio_str_fini(&text);
	pio_str_fini(&script);
	json_decref(record);
}

/* Nobody works: the limit that is learned, which is its floor. */
static void idle_ranks_hang_by_the_learned_limit(void **state)
{
	(void)state;
	json_t *spec = words(2, "log 4 sleep 60000", "log 3 sleep 60000");
	json_object_set_new(spec, "hang_floor_s", json_integer(4));
	run r = start(spec);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "hang");
	contains(text_of(record, "message"), "hang: rank 1 (");
	contains(text_of(record, "message"), "no step since 2, ");
	contains(text_of(record, "message"), "(limit 4 s); it waits in ");
	json_decref(record);
}

/* One evaluates, the other waits for it: no hang, though both log nothing for
 * longer than the limit. */
static void a_long_step_is_no_hang(void **state)
{
	(void)state;
	json_t *spec = words(2, "log 3 spin 9000 log 1", "log 3 sleep 9000 log 1");
	json_object_set_new(spec, "hang_floor_s", json_integer(4));
	run r = start(spec);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
}

/* The first step may take its time, and who never logs one is never watched. */
static void no_second_step_no_hang(void **state)
{
	(void)state;
	json_t *spec = words(2, "log 1 sleep 5000", "sleep 5000");
	json_object_set_new(spec, "hang_s", json_integer(1));
	run r = start(spec);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
	tear_down(NULL);
	set_up(NULL);
	spec = words(2, "log 3 sleep 4000", "log 3 sleep 4000");
	json_object_set_new(spec, "hang_s", json_integer(0));
	json_object_set_new(spec, "hang_floor_s", json_integer(1));
	r = start(spec);
	record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
}

/* A request to stop while the stacks are taken changes nothing of the verdict. */
static void a_kill_during_the_stacks_is_heard(void **state)
{
	(void)state;
	json_t *spec = words(2, "log 3 sleep 60000", "log 3 stop 0");
	json_object_set_new(spec, "hang_s", json_integer(2));
	run r = start(spec);
	expect_started(&r);
	for (int i = 0; i < 2000; i++) { /* until the file is begun */
		if (pio_fs_type(path_in(dir, "stacks.0.txt")) == PIO_FS_FILE)
			break;
		pio_clock_sleep_ms(10);
	}
	command(&r, "kill\n");
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "hang");
	json_decref(record);
}

static void a_straggler_is_told_once_an_episode(void **state)
{
	(void)state;
	json_t *spec = words(3, "pace 50", "pace 200");
	json_object_set_new(spec, "host", json_string("dgx-002"));
	run r = start(spec);
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
	heard_events events = straggler_in_journal(0, "dgx-002");
	contains(events.message, " s a step, ");
	contains(events.message, " times the median of ");
}

/* A memory cgroup of 64 MiB; false: none can be made here. */
static bool make_group(char *group, size_t group_bytes, bool *is_version_1)
{
	static const char *const roots[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	for (int i = 0; i < 2; i++) {
		char path[200];
		snprintf(group, group_bytes, "%s/pioche-test-%d", roots[i], (int)getpid());
		if (mkdir(group, 0755) != 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", group, i ? "memory.max" : "memory.limit_in_bytes");
		FILE *limit = access(path, W_OK) == 0 ? fopen(path, "we") : NULL;
		bool is_set = limit && fputs("67108864", limit) >= 0 && fclose(limit) == 0;
		*is_version_1 = i == 0;
		if (is_set)
			return true;
		rmdir(group);
	}
	return false;
}

static void lack_of_memory_is_told_with_its_figures(void **state)
{
	(void)state;
	char group[128], expected[300];
	bool is_version_1 = false;
	if (!make_group(group, sizeof group, &is_version_1)) {
		printf("# no memory cgroup can be made here\n");
		skip();
	}
	setenv("TEST_GROUP", group, 1);
	/* After more than a second in it: where it is has been seen. */
	run r = start(words(2, "sleep 60000", "join 0 log 6 grow 1024"));
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "oom");
	assert_int_equal(json_integer_value(json_object_get(first_of(record), "rank")), 1);
	snprintf(expected, sizeof expected, "died: SIGKILL at step 5; out of memory: 64 MiB used of 64 MiB"
	         " (cgroup /%s)", strrchr(group, '/') + 1);
	contains(text_of(record, "message"), expected);
	json_decref(record);
	assert_int_equal(rmdir(group), 0);
	unsetenv("TEST_GROUP");
}

/* Who kills it from outside is not the kernel. */
static void a_killed_rank_is_not_out_of_memory(void **state)
{
	(void)state;
	run r = start(orders(1, json_pack("[s, s, s]", "sh", "-c", "sleep 1.5; kill -9 $$")));
	json_t *record = end(&r);
	assert_string_equal(text_of(record, "result"), "signal");
	assert_null(strstr(text_of(record, "message"), "memory"));
	json_decref(record);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "agent") == 0)
		return agent_main();
	if (argc > 2 && strcmp(argv[1], "rank") == 0)
		_exit(rank_main(argc, argv));
	find_self();
	const struct CMUnitTest tests[] = {
		T(a_stopped_rank_is_named_with_the_stacks_of_all), T(the_program_behind_a_shell_is_looked_at),
		T(idle_ranks_hang_by_the_learned_limit), T(a_long_step_is_no_hang), T(no_second_step_no_hang),
		T(a_kill_during_the_stacks_is_heard), T(a_straggler_is_told_once_an_episode),
		T(lack_of_memory_is_told_with_its_figures), T(a_killed_rank_is_not_out_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
