/* head_fixture.h: a head, its agents and their ranks, all on this machine: the
 * test program is each of them (first argument "agent" or "rank"). */
#ifndef PIO_TEST_HEAD_FIXTURE_H
#define PIO_TEST_HEAD_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/ulid.h"
#include "client/drain.h"
#include "client/pioche.h"
#include "launch/agent.h"
#include "launch/head.h"
#include "sys/fs.h"
#include "sys/journal.h"
#include "sys/proc.h"

static char root[256], dir[300], ulid[PIO_ULID_CHARS + 1], self[4096], mark[400];

/* 1,000 points, then nothing. */
static inline int log_main(void)
{
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

/* `shell`: a line for sh, or one word that a rank of this program understands. */
static inline json_t *orders(int nodes, int ranks_per_node, const char *shell)
{
	static const char *const own[] = { "sum", "log", "hang", "wait" };
	bool is_ours = false;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		is_ours |= strcmp(shell, own[i]) == 0;
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

static inline pid_t start(json_t *spec)
{
	char path[400];
	pid_t pid;
	pio_err err = PIO_ERR_INIT;
	snprintf(path, sizeof path, "%s/orders.json", dir);
	assert_int_equal(json_dump_file(spec, path, JSON_COMPACT), 0);
	json_decref(spec);
	const char *argv[] = { self, "agent", "--head", dir, NULL };
	snprintf(path, sizeof path, "%s/head.err", dir);
	int quiet = getenv("V") ? 2 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	pio_proc_spec proc = { argv, (const char *const *)environ, NULL, -1, quiet, quiet, true };
	if (pio_proc_spawn(&pid, &proc, &err) != 0)
		fail_msg("%s", err.message);
	if (quiet != 2)
		close(quiet);
	return pid;
}

static inline json_t *read_json(const char *name)
{
	char path[400];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return json_load_file(path, 0, NULL);
}

static inline pio_str read_text(const char *name)
{
	char path[400];
	pio_str text = PIO_STR_INIT;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	(void)pio_fs_read(&text, path, NULL);
	return text;
}

static inline void wait_for_text(const char *name, const char *wanted, int times)
{
	for (int i = 0; i < 3000; i++) {
		pio_str text = read_text(name);
		int found = 0;
		for (const char *at = text.data; (at = strstr(at, wanted)); at++)
			found++;
		pio_str_fini(&text);
		if (found >= times)
			return;
		pio_clock_sleep_ms(10);
	}
	fail_msg("%s does not say \"%s\" %d times", name, wanted, times);
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

static const char *text_of(const json_t *record, const char *name)
{
	const char *text = json_string_value(json_object_get(record, name));
	return text ? text : "(none)";
}

static inline int64_t int_of(const json_t *record, const char *name)
{
	const json_t *member = json_object_get(record, name);
	return json_is_integer(member) ? json_integer_value(member) : INT64_MIN;
}

static inline void expect_node(const json_t *record, size_t i, const char *result, const char *message)
{
	const json_t *node = json_array_get(json_object_get(record, "nodes"), i);
	assert_string_equal(text_of(node, "result"), result);
	if (!strstr(text_of(node, "message"), message))
		fail_msg("node %zu: \"%s\", not \"%s\"", i, text_of(node, "message"), message);
}

static inline int set_up(void **state)
{
	(void)state;
	pio_ulid id;
	pio_ulid_new(&id);
	pio_ulid_format(&id, ulid);
	snprintf(root, sizeof root, "/tmp/pioche-head-%d", (int)getpid());
	snprintf(dir, sizeof dir, "%s/attempt", root);
	snprintf(mark, sizeof mark, "PIOCHE_DIR=%s", dir);
	return pio_fs_mkdirs(dir, 0755, NULL);
}

static inline int tear_down(void **state)
{
	(void)state;
	return pio_fs_remove_tree(root, NULL);
}

static inline int64_t points_in_journal(int node)
{
	char path[400];
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int64_t points = 0;
	snprintf(path, sizeof path, "%s/journal.%d", dir, node);
	assert_int_equal(pio_journal_reader_open(&reader, &header, path, NULL), 0);
	while (pio_journal_next(reader, &record, NULL) == 1) {
		pio_cursor cursor = { record.payload, record.payload + record.size_bytes, 0 };
		pio_cursor_u32(&cursor);
		if (record.type == PIO_RECORD_POINTS)
			points += pio_cursor_u32(&cursor);
	}
	pio_journal_reader_close(reader);
	return points;
}

/* What the program is when it is not the test; -1: it is the test. `rank_main`
 * is the rank's body, by its word. */
static inline int be_another(int argc, char **argv, int (*rank_main)(const char *word))
{
	if (argc == 3 && strcmp(argv[2], "--join") == 0)
		return pio_agent_join_main();
	if (argc == 4 && strcmp(argv[2], "--head") == 0)
		return pio_head_main(argv[3]);
	if (argc == 3 && strcmp(argv[1], "rank") == 0)
		_exit(rank_main(argv[2]));
	return readlink("/proc/self/exe", self, sizeof self - 1) < 0 ? 1 : -1;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
