/* The supervisor with real agents and real programs: this test is also the
 * agent (first argument "agent"), a rank ("rank") and a supervisor to be
 * killed ("supervisor"). */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "client/env.h"
#include "client/ring.h"
#include "launch/agent.h"
#include "launch/supervise.h"
#include "launch/supervise_parts.h"
#include "store/lease.h"
#include "store/run.h"
#include "store/store.h"
#include "sys/proc.h"
#include "test.h"

static char *root, store_dir[4096], work_dir[4096], self[4096];
static pio_store *store;
static pio_supervisor *supervisor;
static pio_err err;

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", err.message); \
	} while (0)

/* rank POINTS SECONDS: log, say so, sleep; for a minute: with a child in a
 * session of its own, which the death of the rank does not end. */
static int rank_main(char **argv)
{
	pio_ring *ring = NULL;
	if (pio_ring_attach(&ring, getenv(PIO_ENV_RING), NULL) != 0)
		return 99;
	uint32_t key = pio_ring_key(ring, "train/loss", 10, NULL);
	for (int i = 0; i < atoi(argv[2]); i++)
		pio_ring_log(ring, key, i, 1.0 / (i + 1));
	pio_ring_close(&ring);
	if (atoi(argv[3]) >= 60 && fork() == 0) {
		setsid();
		execlp("sleep", "sleep", argv[3], (char *)NULL);
		_exit(127);
	}
	dprintf(1, "logged\n");
	pio_clock_sleep_ms(atoi(argv[3]) * 1000);
	return 0;
}

/* ---- helpers ------------------------------------------------------------------------- */

static int64_t new_run(void)
{
	int64_t experiment, run;
	OK(pio_store_experiment(&experiment, store, "launch", NULL, NULL, &err));
	pio_store_run_spec spec = { .experiment_id = experiment };
	OK(pio_store_run_create(&run, store, &spec, &err));
	return run;
}

static json_t *shell(const char *script)
{
	return json_pack("{s:[s, s, s], s:s, s:i, s:i}", "command", "sh", "-c", script, "cwd", work_dir,
	                 "ranks_per_node", 2, "grace_s", 1);
}

static json_t *rank(const char *points, const char *seconds)
{
	return json_pack("{s:[s, s, s, s], s:s, s:i, s:i}", "command", self, "rank", points, seconds,
	                 "cwd", work_dir, "ranks_per_node", 2, "grace_s", 1);
}

static int64_t start(int64_t run, json_t *spec)
{
	int64_t attempt;
	OK(pio_supervisor_start(supervisor, run, spec, &attempt, &err));
	json_decref(spec);
	return attempt;
}

/* The next event of that kind; others are passed over. NULL after 30 s. */
static json_t *wait_event(const char *kind)
{
	int64_t deadline_ns = pio_clock_mono_ns() + 30 * INT64_C(1000000000);
	json_t *found = NULL;
	while (!found && pio_clock_mono_ns() < deadline_ns) {
		json_t *events, *event;
		size_t i;
		OK(pio_supervisor_wait(supervisor, 500, &events, &err));
		json_array_foreach(events, i, event)
			if (!found && strcmp(json_string_value(json_object_get(event, "event")), kind) == 0)
				found = json_incref(event);
		json_decref(events);
	}
	assert_non_null(found);
	return found;
}

static void expect_end(const char *result, const char *message)
{
	json_t *event = wait_event("ended");
	const char *text = json_string_value(json_object_get(event, "message"));
	assert_string_equal(json_string_value(json_object_get(event, "result")), result);
	if (message && (!text || !strstr(text, message)))
		fail_msg("message is \"%s\", expected \"%s\"", text ? text : "(null)", message);
	if (!message)
		assert_null(text);
	json_decref(event);
}

/* First column of the first row as text; static. */
static const char *sql(const char *query)
{
	static char text[1024];
	sqlite3_stmt *row;
	text[0] = 0;
	if (sqlite3_prepare_v2(pio_store_db(store), query, -1, &row, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(pio_store_db(store)));
	if (sqlite3_step(row) == SQLITE_ROW && sqlite3_column_text(row, 0))
		snprintf(text, sizeof text, "%s", (const char *)sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	return text;
}

static void mark_of(char mark[600], int attempt)
{
	snprintf(mark, 600, PIO_ENV_DIR "=%s/%s/%d", store_dir, sql("SELECT 'runs/' || ulid FROM run"), attempt);
}

static void wait_marked(int attempt, int count)
{
	char mark[600];
	mark_of(mark, attempt);
	for (int i = 0; i < 1200 && pio_proc_signal_marked(mark, 0) != count; i++)
		pio_clock_sleep_ms(10);
	assert_int_equal(pio_proc_signal_marked(mark, 0), count);
}

/* Both ranks of attempt 1 have logged. */
static void wait_logged(void)
{
	pio_str text = PIO_STR_INIT;
	for (int n = 0; n < 2; n++) {
		char path[600];
		snprintf(path, sizeof path, "%s/%s/1/rank-%d.out", store_dir,
		         sql("SELECT 'runs/' || ulid FROM run"), n);
		pio_str_clear(&text);
		for (int i = 0; i < 1000 && !text.len; i++) {
			pio_clock_sleep_ms(10);
			(void)pio_fs_read(&text, path, NULL);
		}
		assert_string_equal(text.data, "logged\n");
	}
	pio_str_fini(&text);
}

static void open_supervisor(void)
{
	err = (pio_err)PIO_ERR_INIT;
	OK(pio_store_open(&store, store_dir, PIO_STORE_CREATE, &err));
	OK(pio_store_lease_take(store, &err));
	OK(pio_supervisor_new(&supervisor, store, self, "/tmp", &err));
}

static void close_supervisor(void)
{
	pio_supervisor_free(supervisor);
	pio_store_close(&store);
}

static int set_up(void **state)
{
	(void)state;
	root = scratch_new();
	snprintf(store_dir, sizeof store_dir, "%s/.pioche", root);
	snprintf(work_dir, sizeof work_dir, "%s/work", root);
	if (pio_fs_mkdirs(work_dir, 0755, NULL) != 0)
		return -1;
	open_supervisor();
	return 0;
}

static int rings_left(void)
{
	char **names;
	size_t n, count = 0;
	const char *ulid = sql("SELECT ulid FROM run");
	if (pio_fs_list(&names, &n, "/dev/shm", NULL) != 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		count += *ulid && strstr(names[i], ulid) != NULL;
	pio_fs_list_free(names, n);
	return (int)count;
}

/* After every test: no process, no ring, no staging, a sound database. */
static int tear_down(void **state)
{
	(void)state;
	char **names;
	size_t n = 0;
	assert_string_equal(sql("SELECT count(*) FROM attempt WHERE state != 'ended'"), "0");
	assert_int_equal(rings_left(), 0);
	assert_string_equal(sql("PRAGMA integrity_check"), "ok");
	assert_string_equal(sql("PRAGMA foreign_key_check"), "");
	char staging[300];
	snprintf(staging, sizeof staging, "%s/staging", store_dir);
	assert_int_equal(pio_fs_list(&names, &n, staging, NULL), 0);
	pio_fs_list_free(names, n);
	assert_int_equal(n, 0);
	close_supervisor();
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	scratch_remove(root);
	return 0;
}

/* ---- the promises ------------------------------------------------------------------------ */

static void points_reach_the_store(void **state)
{
	(void)state;
	int64_t run = new_run();
	start(run, rank("5000", "0"));
	assert_int_equal(pio_supervisor_active(supervisor), 1);
	expect_end("ok", NULL);
	assert_int_equal(pio_supervisor_active(supervisor), 0);
	assert_string_equal(sql("SELECT sum(count) || ' ' || max(last_step) FROM series"), "10000 4999");
	assert_string_equal(sql("SELECT state || ' ' || result || ' ' || step FROM attempt"), "ended ok 4999");
	assert_string_equal(sql("SELECT count(*) || ' ' || sum(exit_code) FROM rank"), "2 0");
	assert_string_equal(sql("SELECT stdout_tail FROM rank WHERE rank = 1"), "logged\n");
	assert_string_equal(sql("SELECT status FROM run"), "running"); /* policy is the caller's */
}

static void progress_is_told(void **state)
{
	(void)state;
	start(new_run(), rank("700", "3"));
	json_t *event = wait_event("progress");
	assert_int_equal(json_integer_value(json_object_get(event, "step")), 699);
	assert_int_equal(json_integer_value(json_object_get(event, "attempt")), 1);
	json_decref(event);
	assert_string_equal(sql("SELECT state FROM attempt"), "running");
	expect_end("ok", NULL);
}

static void failures_are_named(void **state)
{
	(void)state;
	start(new_run(), shell("[ $RANK = 1 ] && exit 4; sleep 60"));
	expect_end("failed", "rank 1 exited with 4; 1 rank waited");
	assert_string_equal(sql("SELECT result || ' ' || rank || ' ' || exit_code || ' ' || (signal IS NULL) || ' '"
	                        " || (node != '') FROM attempt"), "failed 1 4 1 1");
	assert_string_equal(sql("SELECT failures FROM node"), "1");
	start(1, shell("[ $RANK = 0 ] && kill -SEGV $$; sleep 60"));
	expect_end("signal", "rank 0 died: SIGSEGV");
	assert_string_equal(sql("SELECT number || ' ' || result || ' ' || rank || ' ' || signal FROM attempt"
	                        " WHERE number = 2"), "2 signal 0 11");
	json_t *spec = shell("");
	json_object_set_new(spec, "command", json_pack("[s]", "./missing"));
	start(1, spec);
	expect_end("failed", "start \"./missing\": No such file or directory");
}

static void code_is_copied_and_removed(void **state)
{
	(void)state;
	char code[300], path[400];
	snprintf(code, sizeof code, "%s/checkout", root);
	assert_int_equal(pio_fs_mkdirs(code, 0755, NULL), 0);
	snprintf(path, sizeof path, "%s/prog", code);
	assert_int_equal(pio_fs_write(path, "#!/bin/sh\necho in $PWD\nexit $1\n", 32, 0755, NULL), 0);
	int64_t run = new_run();
	for (int exit_code = 0; exit_code < 2; exit_code++) {
		json_t *spec = json_pack("{s:[s, s], s:s}", "command", "./prog", exit_code ? "1" : "0", "code", code);
		start(run, spec);
		expect_end(exit_code ? "failed" : "ok", exit_code ? "rank 0 exited with 1" : NULL);
		snprintf(path, sizeof path, "%s/%s/%d/code", store_dir, sql("SELECT 'runs/' || ulid FROM run"),
		         exit_code + 1);
		assert_int_equal(pio_fs_type(path), exit_code ? PIO_FS_DIR : PIO_FS_NONE);
	}
	char expected[500];
	snprintf(expected, sizeof expected, "in %s\n", path);
	assert_string_equal(sql("SELECT stdout_tail FROM rank WHERE attempt_id = 2"), expected);
}

static void stop_and_kill(void **state)
{
	(void)state;
	int64_t run = new_run();
	start(run, shell("trap 'echo bye; exit 0' TERM; sleep 60 & wait"));
	wait_marked(1, 6); /* keeper, agent, 2 shells, 2 sleeps */
	OK(pio_supervisor_stop(supervisor, run, false, &err));
	expect_end("cancelled", "stopped on request");
	assert_string_equal(sql("SELECT stdout_tail FROM rank"), "bye\n");
	wait_marked(1, 0);
	start(run, shell("trap '' TERM; while :; do sleep 1; done"));
	OK(pio_supervisor_stop(supervisor, 0, true, &err));
	expect_end("cancelled", "stopped on request");
	wait_marked(2, 0);
	OK(pio_supervisor_stop(supervisor, run, false, &err)); /* it has ended already */
}

/* Ranks that were told a step are given the time for it, however often somebody asks,
 * and whether he asks before or, as a time limit had it opened, after. */
static void polite_stops_do_not_shorten_a_vote(void **state)
{
	(void)state;
	int64_t run = new_run();
	json_t *vote = json_pack("{s:i}", "patience_s", 600);
	for (int is_limit = 0; is_limit < 2; is_limit++) {
		start(run, shell("trap 'exit 0' TERM; sleep 60 & wait"));
		const pio_active *a = supervisor->active;
		if (!is_limit)
			OK(pio_supervisor_stop(supervisor, run, false, &err));
		pio_active_take_vote(supervisor->active, vote);
		if (is_limit)
			OK(pio_supervisor_stop(supervisor, run, false, &err));
		int64_t end_ns = a->kill_ns;
		assert_true(end_ns >= pio_clock_mono_ns() + 500 * INT64_C(1000000000));
		OK(pio_supervisor_stop(supervisor, run, false, &err));
		assert_int_equal(a->kill_ns, end_ns);
		OK(pio_supervisor_stop(supervisor, run, true, &err));
		assert_true(a->kill_ns < end_ns);
		end_ns = a->kill_ns;
		pio_active_take_vote(supervisor->active, vote);
		assert_int_equal(a->kill_ns, end_ns);
		expect_end("cancelled", "stopped on request");
	}
	json_decref(vote);
	pio_active nearly = { .kill_ns = 1 };
	pio_active_set_kill(&nearly, true);
	assert_int_equal(nearly.kill_ns, 1);
}

static void a_person_asks_to_stop(void **state)
{
	(void)state;
	int64_t run = new_run();
	start(run, shell("sleep 60"));
	sql("UPDATE run SET stop_requested_ns = 1");
	json_t *event = wait_event("stop");
	assert_int_equal(json_integer_value(json_object_get(event, "run")), run);
	json_decref(event);
	raise(SIGINT);
	event = wait_event("interrupt");
	assert_int_equal(json_integer_value(json_object_get(event, "count")), 1);
	json_decref(event);
	OK(pio_supervisor_stop(supervisor, run, true, &err));
	expect_end("cancelled", "stopped on request");
}

static void time_limit(void **state)
{
	(void)state;
	json_t *spec = shell("sleep 60");
	json_object_set_new(spec, "timeout_s", json_integer(1));
	start(new_run(), spec);
	expect_end("timeout", "time limit of 1 s");
}

static void bad_specs_change_nothing(void **state)
{
	(void)state;
	int64_t run = new_run(), attempt;
	const struct { const char *name; json_t *value; const char *part; } cases[] = {
		{ "command", json_array(), "command must be" },
		{ "nodes", json_integer(2), "nodes is 2" },
		{ "ranks_per_node", json_integer(0), "ranks_per_node must be an integer from 1" },
		{ "grace_s", json_string("x"), "grace_s must be an integer" },
		{ "cwd", json_string("relative"), "\"relative\", expected an absolute path" },
		{ "code", json_string("/nonexistent"), "\"/nonexistent\" is no directory" },
		{ "env", json_pack("{s:i}", "N", 1), "env.N must be a string" },
		{ "wrap", json_pack("[i]", 1), "wrap[1] must be a string" },
		{ "setup", json_true(), "setup must be a string" },
		{ "resume", json_integer(77), "no checkpoint with id 77" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *spec = shell("exit 0");
		json_object_set_new(spec, cases[i].name, cases[i].value);
		assert_true(pio_supervisor_start(supervisor, run, spec, &attempt, &err) < 0);
		if (!strstr(err.message, cases[i].part))
			fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].part);
		json_decref(spec);
	}
	pio_supervisor *none;
	assert_true(pio_supervisor_new(&none, store, self, "/nonexistent/lib", &err) < 0);
	assert_non_null(strstr(err.message, "library directory \"/nonexistent/lib\""));
	json_t *spec = shell("exit 0");
	assert_int_equal(pio_supervisor_start(supervisor, 999, spec, &attempt, &err), -PIO_ENOTFOUND);
	json_decref(spec);
	assert_string_equal(sql("SELECT count(*) FROM attempt"), "0");
	assert_string_equal(sql("SELECT status FROM run"), "planned");
	assert_int_equal(pio_supervisor_active(supervisor), 0);
}

static void two_at_a_time(void **state)
{
	(void)state;
	int64_t a = new_run(), b = new_run();
	start(a, rank("100", "1"));
	start(b, rank("200", "1"));
	assert_int_equal(pio_supervisor_active(supervisor), 2);
	for (int n = 0; n < 2;) {
		json_t *events, *event;
		size_t i;
		OK(pio_supervisor_wait(supervisor, 10000, &events, &err));
		json_array_foreach(events, i, event)
			n += strcmp(json_string_value(json_object_get(event, "event")), "ended") == 0;
		json_decref(events);
	}
	assert_string_equal(sql("SELECT group_concat(c) FROM (SELECT sum(count) AS c FROM series GROUP BY run_id"
	                        " ORDER BY run_id)"), "200,400");
}

/* The agent dies of SIGKILL: nothing of the attempt lives on, what was logged
 * is kept, and the record says what happened. */
static void killed_agent(void **state)
{
	(void)state;
	start(new_run(), rank("3000", "60"));
	wait_logged();
	json_t *events;
	OK(pio_supervisor_wait(supervisor, 100, &events, &err)); /* hears "started" */
	json_decref(events);
	for (int i = 0; i < 50 && !atoi(sql("SELECT agent_pid FROM attempt")); i++) {
		OK(pio_supervisor_wait(supervisor, 100, &events, &err));
		json_decref(events);
	}
	kill(atoi(sql("SELECT agent_pid FROM attempt")), SIGKILL);
	expect_end("lost", "the agent died: SIGKILL");
	wait_marked(1, 0);
	assert_string_equal(sql("SELECT sum(count) FROM series"), "6000");
	assert_string_equal(sql("SELECT result || ' ' || (node IS NULL) FROM attempt"), "lost 1");
	/* By this an agent that comes late knows that it is over. */
	char path[600];
	snprintf(path, sizeof path, "%s/%s/1/exit.0.json", store_dir, sql("SELECT 'runs/' || ulid FROM run"));
	json_t *record = json_load_file(path, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(record, "result")), "lost");
	json_decref(record);
}

_Noreturn static void supervisor_main(char **argv)
{
	int64_t run, attempt;
	json_t *events;
	snprintf(store_dir, sizeof store_dir, "%s", argv[2]);
	snprintf(work_dir, sizeof work_dir, "/tmp");
	open_supervisor();
	run = new_run();
	json_t *spec = rank("3000", argv[3]);
	OK(pio_supervisor_start(supervisor, run, spec, &attempt, &err));
	for (;;) {
		OK(pio_supervisor_wait(supervisor, 1000, &events, &err));
		json_decref(events);
	}
}

/* A supervisor with a running attempt, killed; seconds: how long its ranks would run. */
static void run_and_kill_supervisor(const char *seconds, bool agent_too)
{
	char mark[600];
	pid_t pid;
	const char *argv[] = { self, "supervisor", store_dir, seconds, NULL };
	close_supervisor();
	pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ,
	                       .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = 2 };
	OK(pio_proc_spawn(&pid, &spec, &err));
	OK(pio_store_open(&store, store_dir, PIO_STORE_READ, &err));
	for (int i = 0; i < 1000 && strcmp(sql("SELECT state FROM attempt"), "running") != 0; i++)
		pio_clock_sleep_ms(10);
	wait_logged();
	mark_of(mark, 1);
	kill(pid, SIGKILL);
	if (agent_too)
		kill(atoi(sql("SELECT agent_pid FROM attempt")), SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	pio_store_close(&store);
}

static void killed_supervisor(void **state)
{
	(void)state;
	run_and_kill_supervisor("60", false);
	int64_t start_ns = pio_clock_mono_ns();
	open_supervisor(); /* its lease died with it */
	OK(pio_supervisor_recover(supervisor, &err));
	assert_in_range((pio_clock_mono_ns() - start_ns) / 1000000, 0, 30000);
	wait_marked(1, 0);
	assert_string_equal(sql("SELECT sum(count) FROM series"), "6000");
	assert_string_equal(sql("SELECT result || ': ' || message FROM attempt"),
	                    "lost: stopped because the supervisor was gone");
	assert_string_equal(sql("SELECT status FROM run"), "planned");
	start(1, rank("10", "0")); /* and it goes on with the next attempt */
	expect_end("ok", NULL);
	assert_string_equal(sql("SELECT max(number) FROM attempt"), "2");
}

static void killed_supervisor_and_agent(void **state)
{
	(void)state;
	run_and_kill_supervisor("60", true);
	open_supervisor();
	OK(pio_supervisor_recover(supervisor, &err));
	wait_marked(1, 0);
	assert_string_equal(sql("SELECT sum(count) FROM series"), "6000");
	/* By its keeper, or by this supervisor, whoever came first. */
	assert_string_equal(sql("SELECT result FROM attempt WHERE message LIKE 'the agent%died%'"), "lost");
	OK(pio_supervisor_recover(supervisor, &err)); /* again: nothing to do */
	assert_string_equal(sql("SELECT count(*) FROM attempt"), "1");
}

/* Crash points before anything was started: the row alone, a finished attempt
 * whose run nobody could update. */
static void half_begun_attempts(void **state)
{
	(void)state;
	int64_t a = new_run(), b = new_run(), attempt;
	int number;
	OK(pio_store_attempt_create(&attempt, &number, store, a, "local", 2, NULL, &err));
	start(b, shell("exit 0"));
	expect_end("ok", NULL);
	OK(pio_supervisor_recover(supervisor, &err));
	assert_string_equal(sql("SELECT group_concat(status) FROM (SELECT status FROM run ORDER BY id)"),
	                    "planned,finished");
	assert_string_equal(sql("SELECT result FROM attempt WHERE run_id = 1"), "lost");
}

/* Freed with something running: it is killed and on record. */
static void free_stops_everything(void **state)
{
	(void)state;
	start(new_run(), rank("100", "60"));
	wait_logged();
	close_supervisor();
	open_supervisor();
	wait_marked(1, 0);
	assert_string_equal(sql("SELECT result FROM attempt"), "cancelled");
	assert_string_equal(sql("SELECT sum(count) FROM series"), "200");
}

/* The token is in no file of the attempt, nor in the agent's environment or arguments. */
static void token_stays_in_the_pipe(void **state)
{
	(void)state;
	char command[700], token[64] = "";
	start(new_run(), shell("[ $RANK = 0 ] && echo $PIOCHE_TOKEN > token; sleep 2"));
	expect_end("ok", NULL);
	pio_str text = PIO_STR_INIT;
	snprintf(command, sizeof command, "%s/token", work_dir);
	assert_int_equal(pio_fs_read(&text, command, NULL), 0);
	assert_int_equal(text.len, 33);
	memcpy(token, text.data, 32);
	pio_str_fini(&text);
	int status;
	const char *argv[] = { "grep", "-r", "-q", token, store_dir, NULL };
	pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ,
	                       .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	pid_t pid;
	OK(pio_proc_spawn(&pid, &spec, &err));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "agent") == 0)
		return pio_agent_main();
	if (argc > 3 && strcmp(argv[1], "rank") == 0)
		return rank_main(argv);
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	if (argc > 3 && strcmp(argv[1], "supervisor") == 0)
		supervisor_main(argv);
	const struct CMUnitTest tests[] = {
		T(points_reach_the_store), T(progress_is_told), T(failures_are_named),
		T(code_is_copied_and_removed), T(stop_and_kill), T(polite_stops_do_not_shorten_a_vote),
		T(a_person_asks_to_stop), T(time_limit),
		T(bad_specs_change_nothing), T(two_at_a_time), T(killed_agent), T(killed_supervisor),
		T(killed_supervisor_and_agent), T(half_begun_attempts), T(free_stops_everything),
		T(token_stays_in_the_pipe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
