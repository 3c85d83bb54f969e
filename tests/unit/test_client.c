#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "client/drain.h"
#include "client/drainer.h"
#include "client/env.h"
#include "client/pioche.h"
#include "client/standalone.h"
#include "client_fixture.h"

/* ---- standalone ---------------------------------------------------------------- */

static void a_run_of_its_own_keeps_everything(void **state)
{
	(void)state;
	char *home = home_new();
	pio_run *run;
	ok(pio_open(&run, "notes"));
	const pio_info *info = pio_info_get(run);
	char *dir = strdup(info->dir), *id = strdup(info->id);
	assert_int_equal(info->rank, 0);
	assert_int_equal(info->world, 1);
	assert_int_equal(info->resume_step, -1);
	assert_int_equal(strlen(id), 26);
	assert_int_equal(pio_fs_type(path_in(home, ".pioche/.gitignore")), PIO_FS_FILE);
	pio_str staging = PIO_STR_INIT;
	pio_str_printf(&staging, "%s/.pioche/staging/%s", home, id);
	assert_int_equal(pio_fs_type(staging.data), PIO_FS_DIR);

	pio_key a = pio_key_get(run, "a"), b = pio_key_get(run, "b");
	for (int64_t step = 0; step < 1000; step++) {
		ok(pio_log(run, a, step, 1.5));
		ok(pio_log(run, b, step, -0.0));
	}
	ok(pio_log_int(run, a, INT64_MIN, INT64_MAX));
	ok(pio_fact(run, 'p', "lr \"x\"\n", "3e-4"));
	ok(pio_log_media(run, PIO_TEXT, "sample", 5, NULL, "In the beginning", 16));
	ok(pio_fact(run, 'e', "note", "half way"));
	ok(pio_close(&run, 0));
	assert_null(run);
	ok(pio_close(&run, 0));

	heard *h = hear_of(dir);
	assert_int_equal(h->count, 2001);
	assert_false(h->point_before_key);
	assert_true(h->points[1].value_bits == 0x8000000000000000u);
	assert_int_equal(h->points[2000].key, a | PIO_POINT_INTEGER);
	assert_true(h->points[2000].value_bits == INT64_MAX && h->points[2000].step == INT64_MIN);
	assert_int_equal(h->records[PIO_RECORD_RUN], 1);
	assert_non_null(strstr(h->last[PIO_RECORD_RUN], "\"experiment\":\"notes\""));
	assert_non_null(strstr(h->last[PIO_RECORD_RUN], "test_client"));
	assert_string_equal(h->last[PIO_RECORD_FACT], "3e-4");
	assert_string_equal(h->last[PIO_RECORD_TEXT], "In the beginning");
	assert_string_equal(h->last[PIO_RECORD_EVENT], "half way");
	assert_string_equal(h->last[PIO_RECORD_EXIT], "{\"result\":\"ok\"}");
	assert_int_equal(rings_left(home), 0);
	heard_free(h);
	pio_str_fini(&staging);
	free(dir);
	free(id);
	home_remove(home);
}

static void the_store_is_found_upwards(void **state)
{
	(void)state;
	char *home = home_new();
	pio_str found = PIO_STR_INIT;
	check_ok(pio_fs_mkdirs(path_in(home, "repo/.git"), 0755, &err));
	check_ok(pio_fs_mkdirs(path_in(home, "repo/src/deep"), 0755, &err));
	assert_int_equal(chdir(path_in(home, "repo/src/deep")), 0);
	check_ok(pio_standalone_store(&found, &err));
	assert_string_equal(found.data, path_in(home, "repo/.pioche"));
	pio_str_clear(&found);
	check_ok(pio_fs_mkdirs(path_in(home, "repo/src/.pioche"), 0755, &err));
	check_ok(pio_standalone_store(&found, &err));
	assert_string_equal(found.data, path_in(home, "repo/src/.pioche"));
	pio_str_clear(&found);
	setenv(PIO_ENV_STORE, "elsewhere", 1);
	check_ok(pio_standalone_store(&found, &err));
	assert_string_equal(found.data, path_in(home, "repo/src/deep/elsewhere"));
	assert_int_equal(pio_fs_type(found.data), PIO_FS_DIR);
	unsetenv(PIO_ENV_STORE);
	pio_str_fini(&found);
	home_remove(home);
}

static void a_run_that_cannot_be_opened_leaves_nothing_and_harms_nothing(void **state)
{
	(void)state;
	char *home = home_new();
	pio_run *run;
	setenv("PIOCHE_SHM", "/nonexistent", 1);
	assert_true(pio_open(&run, "x") < 0);
	assert_non_null(strstr(pio_error(), "/nonexistent"));
	assert_null(run);
	char **names;
	size_t count;
	check_ok(pio_fs_list(&names, &count, path_in(home, ".pioche/runs"), &err));
	assert_int_equal(count, 0);
	pio_fs_list_free(names, count);
	assert_int_equal(pio_key_get(run, "x"), 0);
	ok(pio_log(run, 1, 0, 0));
	ok(pio_fact(run, 'p', "a", "1"));
	ok(pio_log_int(run, 1, 0, 0));
	ok(pio_log_histogram(run, "a", 0, PIO_F32, NULL, 0));
	ok(pio_log_media(run, PIO_TEXT, "a", 0, NULL, "b", 1));
	pio_checkpoint *c;
	ok(pio_checkpoint_begin(&c, run, 0, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_F32, 0, NULL, NULL, NULL));
	ok(pio_checkpoint_commit(&c, 0));
	pio_comm *comm;
	ok(pio_comm_init(&comm, run, 100));
	ok(pio_comm_barrier(comm));
	pio_comm_close(&comm, NULL);
	assert_int_equal(pio_info_get(run)->world, 1);
	home_remove(home);
}

static void bad_values_are_refused(void **state)
{
	(void)state;
	char *home = home_new();
	pio_run *run;
	ok(pio_open(&run, "x"));
	assert_int_equal(pio_key_get(run, ""), 0);
	assert_non_null(strstr(pio_error(), "empty"));
	pio_key key = pio_key_get(run, "known");
	assert_true(key > 0);
	refused(pio_log(run, 0, 0, 1), PIO_EINVAL, "metric number 0");
	refused(pio_log(run, key + 1, 0, 1), PIO_EINVAL, "pio_key_get expected");
	refused(pio_log_int(run, key | PIO_POINT_INTEGER, 0, 1), PIO_EINVAL, "pio_key_get expected");
	refused(pio_fact(run, 'x', "a", "1"), PIO_EINVAL, "kind of a fact is 'x'");
	static const char *const bad[] = { "", "nan", "[1]", "{}", "\"open", "01", "1.", "1e", "tru", "1 2",
	                                   "\"\\x\"", "\"a\nb\"", "\"\\u12\"", "\"\xff\"", "--1" };
	static const char *const good[] = { "0", "-0.5e-10", "\"\"", "\"a\\u00e9\\n\\\"\"", "true", "null" };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		refused(pio_fact(run, 'p', "a", bad[i]), PIO_EINVAL, "value of \"a\"");
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ok(pio_fact(run, 'p', "a", good[i]));
	char *long_text = malloc(1u << 20);
	memset(long_text, 'x', (1u << 20) - 1);
	long_text[(1u << 20) - 1] = 0;
	refused(pio_log_media(run, PIO_TEXT, "t", 0, NULL, long_text, 1u << 19), PIO_EINVAL, "at most 500000");
	free(long_text);
	ok(pio_close(&run, 1));
	home_remove(home);
}

static char *only_attempt(const char *home)
{
	char **names, *dir;
	size_t count;
	check_ok(pio_fs_list(&names, &count, path_in(home, ".pioche/runs"), &err));
	assert_int_equal(count, 1);
	assert_true(asprintf(&dir, "%s/.pioche/runs/%s/1", home, names[0]) > 0);
	pio_fs_list_free(names, count);
	return dir;
}

static void wait_child(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
}

static void the_end_of_a_process_is_told_apart(void **state)
{
	(void)state;
	static const struct { const char *how, *exit_json; } ends[] = {
		{ "returns", "{\"result\":\"ok\"}" }, { "exit(3)", "{\"result\":\"failed\"}" },
		{ "pio_close(1)", "{\"result\":\"failed\"}" }, { "_exit", "" },
	};
	for (size_t i = 0; i < 4; i++) {
		char *home = home_new();
		pid_t child = fork();
		if (child == 0) {
			pio_run *run;
			if (pio_open(&run, "x") != 0)
				_exit(9);
			pio_log(run, pio_key_get(run, "k"), 1, 1);
			if (i == 3)
				_exit(0);
			if (i == 2)
				pio_close(&run, 1);
			exit(i == 1 ? 3 : 0);
		}
		wait_child(child);
		char *dir = only_attempt(home);
		char id[27];
		snprintf(id, sizeof id, "%.26s", strstr(dir, "runs/") + 5);
		assert_int_equal(rings_left(home), i == 3); /* whoever adopts the run drains it */
		check_ok(pio_ring_recover(dir, id, 1, 1, &err));
		heard *h = hear_of(dir);
		assert_int_equal(h->count, 1);
		assert_string_equal(h->last[PIO_RECORD_EXIT], ends[i].exit_json);
		heard_free(h);
		free(dir);
		home_remove(home);
	}
}

static void a_killed_process_loses_nothing_it_was_told(void **state)
{
	(void)state;
	_Atomic int64_t *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	for (int round = 0; round < 5; round++) {
		char *home = home_new(), id[27];
		atomic_store(told, 0);
		pid_t child = fork();
		if (child == 0) {
			pio_run *run;
			if (pio_open(&run, "x") != 0)
				_exit(9);
			pio_key key = pio_key_get(run, "k");
			for (int64_t i = 0;; i++) {
				pio_log(run, key, i, (double)i);
				atomic_store(told, i + 1);
			}
		}
		while (atomic_load(told) < 50000)
			pio_clock_sleep_ms(1);
		kill(child, SIGKILL);
		wait_child(child);
		char *dir = only_attempt(home);
		snprintf(id, sizeof id, "%.26s", strstr(dir, "runs/") + 5);
		check_ok(pio_ring_recover(dir, id, 1, 1, &err));
		heard *h = hear_of(dir);
		assert_in_range(h->count, atomic_load(told), atomic_load(told) + 1);
		for (size_t i = 0; i < h->count; i++)
			assert_true(h->points[i].step == (int64_t)i);
		assert_int_equal(h->records[PIO_RECORD_EXIT], 0);
		assert_int_equal(rings_left(home), 0);
		heard_free(h);
		free(dir);
		home_remove(home);
	}
	munmap(told, 4096);
}

static void a_child_logs_but_does_not_end_the_run(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* The child of a process with threads may find the sanitizer's own locks
	 * taken for ever; libc's are safe to fork. */
	skip();
#endif
	char *home = home_new();
	pio_run *run;
	ok(pio_open(&run, "x"));
	char *dir = strdup(pio_info_get(run)->dir);
	pio_key key = pio_key_get(run, "k");
	pid_t child = fork();
	if (child == 0) {
		pio_key own = pio_key_get(run, "child");
		for (int i = 0; i < 50000; i++) /* more than the ring holds: the parent drains */
			pio_log(run, own, i, 1);
		pio_close(&run, 1);
		free(dir);
		exit(0); /* the exit handlers run here too */
	}
	wait_child(child);
	ok(pio_log(run, key, 1, 1));
	child = fork();
	if (child == 0) {
		alarm(20);
		pause();
		_exit(0);
	}
	ok(pio_close(&run, 0));
	/* A child that lives on does not hold the run's lock. */
	int fd;
	check_ok(pio_fs_lock(&fd, path_in(dir, "agent.lock"), &err));
	close(fd);
	kill(child, SIGKILL);
	wait_child(child);
	heard *h = hear_of(dir);
	assert_int_equal(h->count, 50001);
	assert_int_equal(h->records[PIO_RECORD_EXIT], 1);
	assert_string_equal(h->last[PIO_RECORD_EXIT], "{\"result\":\"ok\"}");
	heard_free(h);
	free(dir);
	home_remove(home);
}

/* Nobody is left to drain: the child does it, and loses nothing. */
static void a_child_of_a_killed_parent_drains_for_itself(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* as above */
#endif
	enum { POINTS = 150000 }; /* several times what the ring holds */
	char *home = home_new(), id[27];
	int done[2];
	assert_int_equal(pipe(done), 0);
	pid_t parent = fork();
	if (parent == 0) {
		pio_run *run;
		if (pio_open(&run, "x") != 0)
			_exit(9);
		pio_log(run, pio_key_get(run, "parent"), 1, 1);
		pid_t child = fork();
		if (child != 0)
			for (;;)
				pause();
		while (getppid() != 1 && kill(getppid(), SIGKILL) == 0)
			pio_clock_sleep_ms(20);
		pio_key key = pio_key_get(run, "child");
		for (int64_t i = 0; i < POINTS; i++)
			pio_log(run, key, i, 1);
		ok(pio_log_media(run, PIO_TEXT, "t", 1, NULL, "x", 1));
		_exit(write(done[1], "!", 1) != 1);
	}
	wait_child(parent);
	char byte = 0;
	close(done[1]);
	assert_int_equal(read(done[0], &byte, 1), 1);
	assert_int_equal(byte, '!');
	close(done[0]);
	char *dir = only_attempt(home);
	snprintf(id, sizeof id, "%.26s", strstr(dir, "runs/") + 5);
	int fd = -1;
	while (pio_fs_lock(&fd, path_in(dir, "agent.lock"), NULL) != 0)
		pio_clock_sleep_ms(5); /* the child has its last instants */
	pio_fs_unlock(&fd);
	check_ok(pio_ring_recover(dir, id, 1, 1, &err));
	heard *h = hear_of(dir);
	assert_int_equal(h->count, POINTS + 1);
	assert_false(h->point_before_key);
	for (int64_t i = 0; i < POINTS; i++)
		assert_int_equal(h->points[i + 1].step, i);
	assert_int_equal(h->records[PIO_RECORD_TEXT], 1);
	assert_int_equal(h->records[PIO_RECORD_EXIT], 0);
	assert_true(h->stalls > 0);
	heard_free(h);
	free(dir);
	home_remove(home);
}

/* It logs into a ring that is gone, and must not wait for anybody. */
static void a_child_that_outlives_its_adopted_run_waits_for_nobody(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* as above */
#endif
	char *home = home_new(), id[27];
	int go[2], done[2];
	char byte = 0;
	assert_int_equal(pipe(go) | pipe(done), 0);
	pid_t parent = fork();
	if (parent == 0) {
		pio_run *run;
		if (pio_open(&run, "x") != 0)
			_exit(9);
		pio_key key = pio_key_get(run, "k");
		if (fork() != 0)
			for (;;)
				pause();
		close(STDERR_FILENO); /* it will complain */
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		for (int64_t i = 0; i < 100000; i++)
			pio_log(run, key, i, 1);
		_exit(write(done[1], "!", 1) != 1);
	}
	char *dir = NULL;
	while (rings_left(home) == 0)
		pio_clock_sleep_ms(1);
	pio_clock_sleep_ms(100);
	kill(parent, SIGKILL);
	wait_child(parent);
	dir = only_attempt(home);
	snprintf(id, sizeof id, "%.26s", strstr(dir, "runs/") + 5);
	check_ok(pio_ring_recover(dir, id, 1, 1, &err));
	assert_int_equal(rings_left(home), 0);
	assert_int_equal(write(go[1], "!", 1), 1);
	assert_int_equal(read(done[0], &byte, 1), 1);
	close(go[0]), close(go[1]), close(done[0]), close(done[1]);
	free(dir);
	home_remove(home);
}

static void a_live_run_is_locked_and_beats(void **state)
{
	(void)state;
	char *home = home_new();
	pio_run *run;
	int fd;
	ok(pio_open(&run, "x"));
	check_fails(pio_fs_lock(&fd, path_in(pio_info_get(run)->dir, "agent.lock"), &err), PIO_EBUSY, "");
	pio_log(run, pio_key_get(run, "k"), 1, 1);
	pio_clock_sleep_ms(1100);
	heard *h = hear_of(pio_info_get(run)->dir);
	assert_int_equal(h->count, 1);
	assert_true(h->records[PIO_RECORD_HEARTBEAT] >= 1);
	heard_free(h);
	ok(pio_close(&run, 0));
	home_remove(home);
}

/* ---- under an agent --------------------------------------------------------------- */

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static void under_agent(const char *home, pio_ring **ring)
{
	check_ok(pio_ring_create(ring, path_in(home, "ring"), 2, 0, 0, &err));
	setenv(PIO_ENV_RING, path_in(home, "ring"), 1);
	setenv(PIO_ENV_RUN, ULID, 1);
	setenv(PIO_ENV_ATTEMPT, "4", 1);
	setenv(PIO_ENV_DIR, home, 1);
	setenv(PIO_ENV_STAGING, path_in(home, "staging"), 1);
	setenv("RANK", "2", 1);
	setenv("WORLD_SIZE", "5", 1);
	setenv("LOCAL_RANK", "1", 1);
}

static void agent_gone(void)
{
	static const char *const names[] = { PIO_ENV_RING, PIO_ENV_RUN, PIO_ENV_ATTEMPT, PIO_ENV_DIR,
	                                     PIO_ENV_STAGING, PIO_ENV_RESUME, "RANK", "WORLD_SIZE", "LOCAL_RANK" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		unsetenv(names[i]);
}

/* Any write of the last drain and of the end fails, as some went through before it:
 * what is left beside the ring is what the journal lacks, and the end itself. */
static void a_disk_that_gets_full_at_the_very_end_doubles_nothing(void **state)
{
	(void)state;
	enum { POINTS = 30000 }; /* several writes */
	static const char end[] = "{\"result\":\"ok\"}";
	int rc = -PIO_ENOSPC, failures = 0;
	for (uint64_t n = 1; rc; n++) {
		char *home = home_new();
		pio_ring *ring;
		pio_str path = PIO_STR_INIT;
		pio_drainer drainer = PIO_DRAINER_INIT;
		pio_err why = PIO_ERR_INIT;
		check_ok(pio_ring_path(&path, ULID, 1, 0, &err));
		check_ok(pio_ring_create(&ring, path.data, 0, 0, 0, &err));
		check_ok(pio_fs_write(path_in(home, "agent.lock"), "", 0, 0600, &err));
		check_ok(pio_drainer_open(&drainer, ring, home, ULID, &err));
		uint32_t key = pio_ring_key(ring, "k", 1, NULL);
		for (int64_t i = 0; i < POINTS; i++)
			pio_ring_log(ring, key, i, 1);
		pio_fs_fault_at("w", n, ENOSPC);
		rc = pio_drainer_finish(&drainer, end, path.data, &why);
		pio_fs_fault_at("", 0, 0);
		assert_true(rc == 0 || (rc == -PIO_ENOSPC && strstr(why.message, "waits in memory")));
		failures += rc != 0;
		pio_drainer_fini(&drainer);
		pio_ring_close(&ring);
		check_ok(pio_ring_recover(home, ULID, 1, 1, &err));
		heard *h = hear_of(home);
		assert_int_equal(h->count, POINTS);
		for (int64_t i = 0; i < POINTS; i++)
			assert_int_equal(h->points[i].step, i);
		assert_int_equal(h->records[PIO_RECORD_KEY], 1);
		assert_int_equal(h->records[PIO_RECORD_EVENT], rc != 0);
		assert_string_equal(h->last[PIO_RECORD_EXIT], end);
		heard_free(h);
		pio_str_fini(&path);
		home_remove(home);
	}
	assert_true(failures > 3);
}

static void an_agent_tells_a_rank_where_it_is(void **state)
{
	(void)state;
	char *home = home_new();
	pio_ring *ring;
	pio_run *run;
	under_agent(home, &ring);
	ok(pio_open(&run, "ignored"));
	const pio_info *info = pio_info_get(run);
	assert_int_equal(info->rank, 2);
	assert_int_equal(info->world, 5);
	assert_int_equal(info->local_rank, 1);
	assert_int_equal(info->attempt, 4);
	assert_string_equal(info->id, ULID);
	assert_string_equal(info->dir, home);
	ok(pio_log(run, pio_key_get(run, "k"), 9, 1));
	ok(pio_close(&run, 0));
	pio_journal_writer *journal = journal_new(path_in(home, "journal.0"));
	uint64_t moved;
	check_ok(pio_ring_drain(ring, journal, true, &moved, &err));
	check_ok(pio_journal_close(&journal, &err));
	heard *h = hear_of(home);
	assert_int_equal(h->count, 1);
	heard_free(h);
	setenv("RANK", "two", 1);
	refused(pio_open(&run, NULL), PIO_EINVAL, "RANK=\"two\"");
	assert_null(run);
	setenv("RANK", "5", 1);
	refused(pio_open(&run, NULL), PIO_EINVAL, "RANK=5");
	setenv(PIO_ENV_RUN, "short", 1);
	refused(pio_open(&run, NULL), PIO_EINVAL, "PIOCHE_RUN=\"short\"");
	pio_ring_close(&ring);
	agent_gone();
	home_remove(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_of_its_own_keeps_everything),
		cmocka_unit_test(the_store_is_found_upwards),
		cmocka_unit_test(a_run_that_cannot_be_opened_leaves_nothing_and_harms_nothing),
		cmocka_unit_test(bad_values_are_refused),
		cmocka_unit_test(the_end_of_a_process_is_told_apart),
		cmocka_unit_test(a_killed_process_loses_nothing_it_was_told),
		cmocka_unit_test(a_child_logs_but_does_not_end_the_run),
		cmocka_unit_test(a_child_of_a_killed_parent_drains_for_itself),
		cmocka_unit_test(a_child_that_outlives_its_adopted_run_waits_for_nobody),
		cmocka_unit_test(a_live_run_is_locked_and_beats),
		cmocka_unit_test(a_disk_that_gets_full_at_the_very_end_doubles_nothing),
		cmocka_unit_test(an_agent_tells_a_rank_where_it_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
