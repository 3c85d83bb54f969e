/* agent_fixture.h: an agent run end to end by a test program that is also that
 * agent (first argument "agent") and its ranks. */
#ifndef PIO_AGENT_FIXTURE_H
#define PIO_AGENT_FIXTURE_H

#include <fcntl.h>
#include <sys/wait.h>

#include "attempt_fixture.h"
#include "client/ring.h"
#include "launch/agent.h"

#define TOKEN "00112233445566778899aabbccddeeff"

/* The program as an agent: quiet, but with V in the environment. */
static inline int agent_main(void)
{
	int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (!getenv("V"))
		dup2(quiet, 2);
	return pio_agent_main();
}

typedef struct run {
	pid_t pid;
	int in, out;
} run;

static inline json_t *orders(int ranks, json_t *command)
{
	return json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:i}",
	                 "version", 1, "run", ulid, "attempt", 1, "node", 0, "nodes", 1,
	                 "ranks_per_node", ranks, "dir", dir, "cwd", dir, "store", root, "staging", root,
	                 "lib_dir", "/lib-of-pioche", "token", TOKEN, "command", command, "grace_s", 1);
}

static inline run start(json_t *spec)
{
	int in[2], out[2];
	run r;
	pio_err err = PIO_ERR_INIT;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	const char *argv[] = { self, "agent", NULL };
	pio_proc_spec proc = { .argv = argv, .envp = (const char *const *)environ, .stdin_fd = in[0],
	                       .stdout_fd = out[1], .stderr_fd = 2, .outlive_parent = true };
	if (pio_proc_spawn(&r.pid, &proc, &err) != 0)
		fail_msg("%s", err.message);
	close(in[0]);
	close(out[1]);
	r.in = in[1];
	r.out = out[0];
	if (spec) {
		char *text = json_dumps(spec, JSON_COMPACT);
		assert_int_equal(pio_fs_write_all(r.in, text, strlen(text), "pipe", &err), 0);
		assert_int_equal(pio_fs_write_all(r.in, "\n", 1, "pipe", &err), 0);
		free(text);
		json_decref(spec);
	}
	return r;
}

static inline json_t *next_event(run *r)
{
	pio_str line = PIO_STR_INIT;
	char c;
	/* An empty line is what a killed agent's last one may be. */
	while (read(r->out, &c, 1) == 1 && (c != '\n' || line.len == 0))
		if (c != '\n')
			pio_str_putc(&line, c);
	json_t *event = json_loadb(line.data, line.len, 0, NULL);
	pio_str_fini(&line);
	return event;
}

/* The pid of the agent proper: the process that was started is its keeper. */
static inline pid_t expect_started(run *r)
{
	json_t *event = next_event(r);
	while (event && strcmp(json_string_value(json_object_get(event, "event")), "started") != 0) {
		json_decref(event);
		event = next_event(r);
	}
	assert_non_null(event);
	pid_t pid = (pid_t)json_integer_value(json_object_get(event, "agent"));
	assert_true(pid > 0 && pid != r->pid);
	json_decref(event);
	return pid;
}

static inline void command(run *r, const char *line)
{
	assert_int_equal(write(r->in, line, strlen(line)), (ssize_t)strlen(line));
}

static inline int wait_exit(run *r)
{
	int status;
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	if (r->in >= 0)
		close(r->in);
	close(r->out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Wait for the end: status 0, exit record, nobody and no ring left. */
static inline json_t *end(run *r)
{
	json_t *event, *last = NULL;
	while ((event = next_event(r))) {
		json_decref(last);
		last = event;
	}
	assert_int_equal(wait_exit(r), 0);
	assert_string_equal(json_string_value(json_object_get(last, "event")), "ended");
	json_t *record = read_json("exit.0.json");
	assert_non_null(record);
	json_object_del(last, "event");
	assert_true(json_equal(last, record));
	json_decref(last);
	assert_int_equal(pio_proc_signal_marked(mark, 0), 0);
	for (int rank = 0; rank < 2; rank++) {
		pio_str ring = PIO_STR_INIT;
		assert_int_equal(pio_ring_path(&ring, ulid, 1, rank, NULL), 0);
		assert_int_equal(pio_fs_type(ring.data), PIO_FS_NONE);
		pio_str_fini(&ring);
	}
	assert_int_equal(pio_fs_type(path_in(dir, "journal.0")), PIO_FS_FILE);
	return record;
}

#endif
