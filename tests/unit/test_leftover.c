/* What is left on a node where agent and keeper were killed at once. */
#include <sys/stat.h>

#include "client/env.h"
#include "head_fixture.h"
#include "launch/leftover.h"
#include "store/archive.h"

#define HALF 1000

/* Half of the points, and when the test says so the other half. */
static int rank_body(const char *word)
{
	pio_run *run;
	char go[4096];
	(void)word;
	snprintf(go, sizeof go, "%s/go", getenv(PIO_ENV_DIR));
	if (pio_open(&run, NULL))
		return 98;
	pio_key loss = pio_key_get(run, "loss");
	for (int step = 0; step < HALF; step++)
		pio_log(run, loss, step, 1.0 / (step + 1));
	dprintf(1, "logged\n");
	while (pio_fs_type(go) == PIO_FS_NONE)
		pio_clock_sleep_ms(10);
	for (int step = HALF; step < 2 * HALF; step++)
		pio_log(run, loss, step, 1.0 / (step + 1));
	dprintf(1, "again\n");
	pio_clock_sleep_ms(60000);
	return 0;
}

/* ---- fixture ----------------------------------------------------------------------------------- */

/* Agents of other tests on this machine are not to come here. */
static int set_up_shm(void **state)
{
	if (set_up(state) != 0 || setenv("PIOCHE_SHM", path_in(root, "shm"), 1) != 0)
		return -1;
	return pio_fs_mkdirs(path_in(root, "shm"), 0700, NULL) ||
	       pio_fs_mkdirs(path_in(root, "staging"), 0755, NULL);
}

static pio_ring_node rings_of_node_1(void)
{
	return (pio_ring_node){ .dir = dir, .ulid = ulid, .attempt = 1, .node = 1, .first = 2, .count = 2 };
}

static const char *note(void)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s/shm/pioche-%s-1-1.node", root, ulid);
	return path;
}

static const char *marker(void)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s/staging/late.%s.1.1", root, ulid);
	return path;
}

typedef struct points_seen {
	int count;
	bool seen[4][2 * HALF];
} points_seen;

/* Each is there once. */
static void see_points(points_seen *points, const pio_record *record)
{
	pio_cursor cursor = { record->payload, record->payload + record->size_bytes, 0 };
	uint32_t rank = pio_cursor_u32(&cursor), count = pio_cursor_u32(&cursor);
	for (uint32_t i = 0; i < count; i++) {
		pio_journal_point point;
		memcpy(&point, cursor.at + i * sizeof point, sizeof point);
		assert_in_range(rank, 2, 3);
		assert_in_range(point.step, 0, 2 * HALF - 1);
		if (points->seen[rank][point.step])
			fail_msg("step %d of rank %u comes twice", (int)point.step, rank);
		points->seen[rank][point.step] = true;
		points->count++;
	}
}

static int points_of_node_1(void)
{
	points_seen points = { 0 };
	uint32_t segments;
	check_ok(pio_journal_segments(&segments, path_in(dir, "journal.1"), &err));
	for (uint32_t segment = 0; segment < segments; segment++) {
		pio_str path = PIO_STR_INIT;
		pio_journal_reader *reader;
		pio_journal_header header;
		pio_record record;
		check_ok(pio_journal_segment_path(&path, path_in(dir, "journal.1"), segment, &err));
		check_ok(pio_archive_open(&reader, &header, path.data, &err));
		while (pio_journal_next(reader, &record, NULL) == 1)
			if (record.type == PIO_RECORD_POINTS)
				see_points(&points, &record);
		pio_journal_reader_close(reader);
		pio_str_fini(&path);
	}
	return points.count;
}

static pid_t agent_on(const char *host)
{
	char part[64];
	pio_str events = read_text("head.events");
	snprintf(part, sizeof part, "\"host\":\"%s\"", host);
	const char *at = strstr(events.data, part);
	assert_non_null(at);
	while (at > events.data && at[-1] != '\n')
		at--;
	pid_t pid = atoi(strstr(at, "\"agent\":") + 8);
	pio_str_fini(&events);
	return pid;
}

/* Returns what was drained; the caller frees it. */
static pio_str drain(const char *store)
{
	pio_str told = PIO_STR_INIT;
	check_ok(pio_leftover_drain(&told, store, &err));
	return told;
}

static void expect_untouched(const char *store, int points)
{
	const pio_ring_node rings = rings_of_node_1();
	pio_str told = drain(store);
	assert_int_equal(told.len, 0);
	pio_str_fini(&told);
	assert_true(pio_ring_is_left(&rings));
	assert_int_equal(pio_fs_type(note()), PIO_FS_FILE);
	assert_int_equal(points_of_node_1(), points);
}

static void expect_drained(void)
{
	char **names;
	size_t count;
	check_ok(pio_fs_list(&names, &count, path_in(root, "shm"), &err));
	assert_int_equal(count, 0);
	pio_fs_list_free(names, count);
	assert_int_equal(points_of_node_1(), 2 * 2 * HALF);
	assert_int_equal(pio_fs_type(marker()), PIO_FS_FILE);
}

/* An attempt of two nodes that has ended; what ranks 2 and 3 logged last is in their
 * rings alone. */
static void kill_node_1(void)
{
	json_t *spec = orders(2, 2, "log");
	put_start_apart(spec);
	pid_t pid = start(spec);
	wait_for_text("rank-2.out", "logged", 1);
	wait_for_text("rank-3.out", "logged", 1);
	for (int i = 0; i < 1000 && points_of_node_1() < 2 * HALF; i++)
		pio_clock_sleep_ms(10);
	kill(agent_on("dgx-001"), SIGSTOP);
	assert_int_equal(pio_fs_write(path_in(dir, "go"), "", 0, 0600, NULL), 0);
	wait_for_text("rank-2.out", "again", 1);
	wait_for_text("rank-3.out", "again", 1);
	expect_untouched(NULL, 2 * HALF); /* they live */
	struct stat st;
	assert_int_equal(stat(note(), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	kill_apart();
	json_t *record = end(pid);
	assert_string_equal(text_of(record, "result"), "node_fail");
	json_decref(record);
}

/* ---- the promises -------------------------------------------------------------------------------- */

static void the_next_agent_drains_it(void **state)
{
	(void)state;
	char *old_dir = dir, *old_mark = mark, old_ulid[sizeof ulid];
	pio_ulid id;
	kill_node_1();
	/* By now it is folded and compressed. */
	check_ok(pio_archive_make(path_in(dir, "journal.1"), &err));
	assert_int_equal(pio_fs_type(path_in(dir, "journal.1")), PIO_FS_NONE);

	memcpy(old_ulid, ulid, sizeof ulid);
	pio_ulid_new(&id);
	pio_ulid_format(&id, ulid);
	assert_true(asprintf(&dir, "%s/next", root) > 0);
	assert_true(asprintf(&mark, "PIOCHE_DIR=%s", dir) > 0);
	check_ok(pio_fs_mkdirs(dir, 0755, &err));
	json_t *record = end(start(orders(1, 1, "sleep 2")));
	assert_string_equal(text_of(record, "result"), "ok");
	json_decref(record);
	pio_str events = read_text("head.events");
	contains(events.data, "drained what was left on this node of: ");
	contains(events.data, old_ulid);
	pio_str_fini(&events);
	free(dir);
	free(mark);
	dir = old_dir;
	mark = old_mark;
	memcpy(ulid, old_ulid, sizeof ulid);
	expect_drained();
}

static void many_at_once_drain_it_once(void **state)
{
	(void)state;
	pid_t pids[6];
	kill_node_1();
	for (int i = 0; i < 6; i++)
		if ((pids[i] = fork()) == 0) {
			pio_str told = PIO_STR_INIT;
			_exit(pio_leftover_drain(&told, NULL, NULL) != 0);
		}
	for (int i = 0; i < 6; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	expect_drained();
}

/* Killed after the journal was written: the rings are as they were before, and
 * meanwhile the journal was compressed. */
static void a_drainer_that_was_killed_is_followed_by_another(void **state)
{
	(void)state;
	kill_node_1();
	assert_int_equal(rename(path_in(root, "shm"), path_in(root, "kept")), 0);
	check_ok(pio_fs_copy_tree(path_in(root, "kept"), path_in(root, "shm"), &err));
	pio_str told = drain(NULL);
	contains(told.data, ulid);
	pio_str_fini(&told);
	expect_drained();
	check_ok(pio_archive_make(path_in(dir, "journal.1"), &err));
	check_ok(pio_fs_remove_tree(path_in(root, "shm"), &err));
	assert_int_equal(rename(path_in(root, "kept"), path_in(root, "shm")), 0);
	told = drain(NULL);
	pio_str_fini(&told);
	expect_drained();
}

static void what_is_in_use_or_of_another_store_is_left(void **state)
{
	(void)state;
	int lock_fd;
	kill_node_1();
	check_ok(pio_fs_lock(&lock_fd, path_in(dir, "agent.1.lock"), &err));
	expect_untouched(NULL, 2 * HALF);
	pio_fs_unlock(&lock_fd);
	check_ok(pio_fs_lock(&lock_fd, marker(), &err));
	expect_untouched(NULL, 2 * HALF);
	pio_fs_unlock(&lock_fd);
	expect_untouched(path_in(root, "shm"), 2 * HALF);
	assert_int_equal(chmod(note(), 0666), 0); /* others may have written it */
	expect_untouched(NULL, 2 * HALF);
	assert_int_equal(chmod(note(), 0600), 0);

	pid_t pid = fork(); /* what a rank started, and was not killed */
	if (pid == 0)
		execle("/bin/sleep", "sleep", "60", (char *)NULL, (char *[]){ mark, NULL });
	while (!pio_proc_signal_marked(mark, 0))
		pio_clock_sleep_ms(10);
	expect_untouched(NULL, 2 * HALF);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);

	/* A store that is not mounted now may be later. */
	assert_int_equal(rename(dir, path_in(root, "away")), 0);
	pio_str told = drain(NULL);
	assert_int_equal(told.len, 0);
	assert_int_equal(rename(path_in(root, "away"), dir), 0);
	told = drain(root);
	contains(told.data, ulid);
	pio_str_fini(&told);
	expect_drained();
}

#define L(name) cmocka_unit_test_setup_teardown(name, set_up_shm, tear_down)

int main(int argc, char **argv)
{
	int status = be_another(argc, argv, rank_body);
	if (status >= 0)
		return status;
	const struct CMUnitTest tests[] = {
		L(the_next_agent_drains_it), L(many_at_once_drain_it_once),
		L(a_drainer_that_was_killed_is_followed_by_another),
		L(what_is_in_use_or_of_another_store_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
