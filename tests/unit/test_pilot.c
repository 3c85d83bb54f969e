/* The pilot with heads that are a shell script: what it is told, and what it tells. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/str.h"
#include "launch/pilot.h"
#include "sys/fs.h"
#include "sys/proc.h"

static char root[256], dir[300];
static pio_err err;
static pid_t pilot;

/* `head agent --head DIR`: DIR/do says what it does once it is ready to be told. */
static const char head[] =
	"#!/bin/sh\n"
	"cd \"$3\" && echo begun >> log\n"
	"finish() { echo '{\"result\":\"'$1'\"}' > exit.part; mv exit.part exit.json; exit 0; }\n"
	"trap 'echo TERM >> log; [ -e deaf ] || finish cancelled' TERM\n"
	"trap 'echo INT >> log; finish cancelled' INT\n"
	"trap 'echo USR2 >> log; finish timeout' USR2\n"
	"echo ready >> log\n"
	". ./do\n";

static void write_text(const char *path, const char *text)
{
	if (pio_fs_write(path, text, strlen(text), 0755, &err) != 0)
		fail_msg("%s", err.message);
}

static void write_in(const char *where, const char *name, const char *text)
{
	char path[700];
	snprintf(path, sizeof path, "%s/%s", where, name);
	write_text(path, text);
}

static pio_str read_in(const char *where, const char *name)
{
	char path[700];
	pio_str text = PIO_STR_INIT;
	snprintf(path, sizeof path, "%s/%s", where, name);
	(void)pio_fs_read(&text, path, NULL);
	return text;
}

/* A directory of an attempt whose head does that. Static. */
static const char *attempt(int n, const char *what)
{
	static char paths[8][320];
	snprintf(paths[n], sizeof paths[n], "%s/%d", root, n);
	assert_int_equal(pio_fs_mkdirs(paths[n], 0755, &err), 0);
	write_in(paths[n], "do", what);
	write_in(paths[n], "order", "run\n");
	write_in(paths[n], "orders.json", "{\"run\":\"R\",\"attempt\":3,\"nodes\":1,\"grace_s\":0}");
	return paths[n];
}

static void order(int count, bool is_last)
{
	pio_str text = PIO_STR_INIT;
	pio_str_puts(&text, "{\"version\":1,\"attempts\":[");
	for (int i = 0; i < count; i++)
		pio_str_printf(&text, "%s\"%s/%d\"", i ? "," : "", root, i);
	pio_str_printf(&text, "],\"end\":%s}", is_last ? "true" : "false");
	write_in(dir, "orders.json", text.data);
	pio_str_fini(&text);
}

static void start(int idle_s)
{
	pio_str text = PIO_STR_INIT;
	pio_str_printf(&text, "{\"version\":1,\"executable\":\"%s/head\",\"time_s\":3600,\"idle_s\":%d}", root, idle_s);
	write_in(dir, "pool.json", text.data);
	pio_str_fini(&text);
	fflush(NULL);
	pilot = fork();
	if (pilot == 0) {
		setenv("SLURM_JOB_ID", "4711", 1);
		setenv("SLURM_JOB_NODELIST", "dgx-[001-002,007]", 1);
		_exit(pio_pilot_main(dir));
	}
}

/* Until the file says that; a while on a busy machine. */
static void wait_for(const char *where, const char *name, const char *wanted)
{
	for (int i = 0; i < 6000; i++) {
		pio_str text = read_in(where, name);
		bool found = strstr(text.data, wanted) != NULL;
		pio_str_fini(&text);
		if (found)
			return;
		pio_clock_sleep_ms(10);
	}
	fail_msg("%s/%s does not say \"%s\"", where, name, wanted);
}

static void expect(const char *where, const char *name, const char *text)
{
	pio_str found = read_in(where, name);
	assert_string_equal(found.data, text);
	pio_str_fini(&found);
}

/* It ends by itself, and says so. */
static void expect_closed(const char *told)
{
	int status;
	assert_int_equal(waitpid(pilot, &status, 0), pilot);
	pilot = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	pio_str text = read_in(dir, "state.json");
	json_t *state = json_loads(text.data, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(state, "phase")), "closed");
	assert_int_equal(json_array_size(json_object_get(state, "running")), 0);
	if (told)
		assert_string_equal(json_string_value(json_object_get(state, "told")), told);
	else
		assert_true(json_is_null(json_object_get(state, "told")));
	json_decref(state);
	pio_str_fini(&text);
}

/* ---- the promises ------------------------------------------------------------------------- */

static void tells_how_it_is(void **state)
{
	(void)state;
	start(3600);
	wait_for(dir, "state.json", "\"phase\":\"open\"");
	pio_str text = read_in(dir, "state.json");
	json_t *found = json_loads(text.data, 0, NULL);
	const json_t *nodes = json_object_get(found, "nodes");
	assert_int_equal(json_array_size(nodes), 3);
	assert_string_equal(json_string_value(json_array_get(nodes, 2)), "dgx-007");
	assert_string_equal(json_string_value(json_object_get(found, "job")), "4711");
	int64_t began_ns = json_integer_value(json_object_get(found, "began_ns"));
	assert_true(json_integer_value(json_object_get(found, "until_ns")) - began_ns == INT64_C(3600000000000));
	json_decref(found);
	pio_str_fini(&text);
	wait_for(dir, "state.json", "\"beat\":2"); /* it lives, though nothing happens */
	order(0, true);
	expect_closed(NULL);
}

static void starts_each_once(void **state)
{
	(void)state;
	const char *quick = attempt(0, "finish ok\n"), *slow = attempt(1, "while :; do sleep 0.01; done\n");
	order(2, false);
	start(3600);
	wait_for(quick, "exit.json", "ok");
	wait_for(slow, "log", "ready");
	/* Who is there twice, or has ended, or was claimed by somebody else, is not started again. */
	const char *claimed = attempt(2, "finish ok\n");
	char path[400];
	snprintf(path, sizeof path, "%s/claim", claimed);
	assert_int_equal(pio_fs_mkdirs(path, 0755, &err), 0);
	const char *late = attempt(3, "finish ok\n");
	order(4, false);
	wait_for(late, "exit.json", "ok");
	expect(quick, "log", "begun\nready\n");
	expect(claimed, "log", "");
	write_in(slow, "order", "stop\n");
	wait_for(slow, "exit.json", "cancelled");
	expect(slow, "log", "begun\nready\nTERM\n");
	order(0, true);
	expect_closed(NULL);
}

static void one_is_stopped_the_other_is_not(void **state)
{
	(void)state;
	const char *one = attempt(0, "echo yes > deaf; while :; do sleep 0.01; done\n");
	const char *other = attempt(1, "while :; do sleep 0.01; done\n");
	order(2, false);
	start(3600);
	wait_for(one, "log", "ready");
	wait_for(one, "deaf", "yes");
	wait_for(other, "log", "ready");
	write_in(one, "order", "stop\n");
	wait_for(one, "log", "TERM");
	write_in(one, "order", "kill\n");
	wait_for(one, "exit.json", "cancelled");
	expect(other, "log", "begun\nready\n");
	order(2, true); /* the end waits for it */
	pio_clock_sleep_ms(600);
	expect(other, "exit.json", "");
	write_in(other, "order", "stop\n");
	expect_closed(NULL);
}

static void a_head_that_dies_has_a_record(void **state)
{
	(void)state;
	const char *killed = attempt(0, "echo 'pioche head: its disk is full' >&2; echo '{}' > exit.0.json\n"
	                             "kill -9 $$\n");
	const char *failed = attempt(1, "exit 3\n"); /* its agent leaves no record: it has fifteen seconds */
	const char *missing = attempt(2, "");
	char path[400];
	snprintf(path, sizeof path, "%s/head.err", missing);
	assert_int_equal(pio_fs_mkdirs(path, 0755, &err), 0); /* it cannot even be started */
	order(3, true);
	start(3600);
	expect_closed(NULL);
	pio_str text = read_in(killed, "exit.json");
	json_t *record = json_loads(text.data, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(record, "result")), "lost");
	assert_string_equal(json_string_value(json_object_get(record, "run")), "R");
	assert_int_equal(json_integer_value(json_object_get(record, "attempt")), 3);
	assert_string_equal(json_string_value(json_object_get(record, "message")),
	                    "its head died: SIGKILL: its disk is full");
	json_decref(record);
	pio_str_fini(&text);
	wait_for(failed, "exit.json", "\"message\":\"its head ended with 3\"");
	wait_for(missing, "exit.json", "\"result\":\"lost\"");
	expect(missing, "log", "");
}

static void a_signal_is_passed_to_all(void **state)
{
	(void)state;
	static const struct { int number; const char *name, *result; } cases[] = {
		{ SIGTERM, "SIGTERM", "cancelled" }, { SIGUSR2, "SIGUSR2", "timeout" },
		{ SIGINT, "SIGINT", "cancelled" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(pio_fs_remove_tree(root, &err), 0);
		assert_int_equal(pio_fs_mkdirs(dir, 0755, &err), 0);
		write_in(root, "head", head);
		const char *one = attempt(0, "while :; do sleep 0.01; done\n");
		const char *two = attempt(1, "while :; do sleep 0.01; done\n");
		order(2, false);
		start(3600);
		wait_for(one, "log", "ready");
		wait_for(two, "log", "ready");
		kill(pilot, cases[i].number);
		expect_closed(cases[i].name);
		wait_for(one, "exit.json", cases[i].result);
		wait_for(two, "exit.json", cases[i].result);
	}
}

/* It is no order to kill. */
static void a_second_signal_is_passed_as_it_is(void **state)
{
	(void)state;
	const char *one = attempt(0, "while :; do sleep 0.01; done\n");
	write_in(one, "deaf", "");
	order(1, false);
	start(3600);
	wait_for(one, "log", "ready");
	kill(pilot, SIGTERM);
	wait_for(one, "log", "TERM\n");
	kill(pilot, SIGTERM);
	wait_for(one, "log", "TERM\nTERM\n");
	kill(pilot, SIGINT);
	expect_closed("SIGTERM");
	wait_for(one, "log", "TERM\nTERM\nINT\n");
}

static void ends_when_it_has_nothing_to_do(void **state)
{
	(void)state;
	const char *one = attempt(0, "sleep 2; finish ok\n");
	order(1, false);
	start(1);
	expect_closed(NULL);
	wait_for(one, "exit.json", "ok"); /* its work is no idleness */
}

static void what_is_wrong_is_told(void **state)
{
	(void)state;
	start(3600);
	wait_for(dir, "state.json", "open");
	write_in(dir, "orders.json", "{\"attempts\": ["); /* torn: it says nothing */
	pio_clock_sleep_ms(600);
	expect(dir, "exit.json", "");
	order(0, true);
	expect_closed(NULL);
	write_in(dir, "pool.json", "{}");
	fflush(NULL);
	pilot = fork();
	if (pilot == 0) {
		fclose(stderr);
		_exit(pio_pilot_main(dir));
	}
	int status;
	assert_int_equal(waitpid(pilot, &status, 0), pilot);
	pilot = 0;
	assert_int_equal(WEXITSTATUS(status), 3);
}

static int setup(void **state)
{
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/pioche-pilot-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(root))
		return -1;
	snprintf(dir, sizeof dir, "%s/pool", root);
	if (pio_fs_mkdirs(dir, 0755, &err) != 0)
		return -1;
	write_in(root, "head", head);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (pilot > 0) {
		kill(pilot, SIGKILL);
		waitpid(pilot, NULL, 0);
	}
	pilot = 0;
	return pio_fs_remove_tree(root, NULL);
}

#define PROMISE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROMISE(tells_how_it_is), PROMISE(starts_each_once), PROMISE(one_is_stopped_the_other_is_not),
		PROMISE(a_head_that_dies_has_a_record), PROMISE(a_signal_is_passed_to_all),
		PROMISE(a_second_signal_is_passed_as_it_is),
		PROMISE(ends_when_it_has_nothing_to_do), PROMISE(what_is_wrong_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
