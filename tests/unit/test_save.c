/* Saves in the background, files that are cut, and room that is not there. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safetensors.h"
#include "client/pioche.h"
#include "client/run.h"
#include "heard.h"
#include "save_fixture.h"
#include "test.h"

/* The last `size_bytes` of a file, which are the data of its only tensor. */
static void check_data(const char *path, const void *data, size_t size_bytes)
{
	pio_str text = PIO_STR_INIT;
	check_ok(pio_fs_read(&text, path, &err));
	assert_true(text.len > size_bytes);
	assert_memory_equal(text.data + text.len - size_bytes, data, size_bytes);
	pio_str_fini(&text);
}

static int save_one(pio_run *run, int64_t step, const void *data, int64_t size_bytes, int flags)
{
	pio_checkpoint *c;
	ok(pio_checkpoint_begin(&c, run, step, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, &size_bytes, NULL, data));
	return pio_checkpoint_commit(&c, flags);
}

static int files_in(const char *dir)
{
	char **names = NULL;
	size_t count = 0;
	if (pio_fs_type(dir) == PIO_FS_DIR)
		check_ok(pio_fs_list(&names, &count, dir, &err));
	pio_fs_list_free(names, count);
	return (int)count;
}

/* ---- in the background -------------------------------------------------------------- */

enum { SIZE = 1 << 20, SAVES = 8 };
static uint8_t data[SIZE], as_it_was[SIZE];

/* The program changes everything the moment that it may go on. */
static void a_copy_is_saved_not_what_came_after(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	bench_open(&b);
	for (int i = 0; i < SAVES; i++) {
		memset(data, 'a' + i, SIZE);
		ok(save_one(b.run, i / 2, data, SIZE, PIO_ASYNC));
		memset(data, '!', SIZE);
	}
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), SAVES);
	for (int i = 0; i < SAVES; i++) {
		assert_true(t[i].step == i / 2 && (int)t[i].round == i % 2 && t[i].asynchronous);
		assert_true(t[i].stall_ns > 0 && t[i].total_ns >= t[i].stall_ns);
		memset(as_it_was, 'a' + i, SIZE);
		check_data(t[i].path[0], as_it_was, SIZE);
	}
	bench_close(&b);
}

static void what_a_thread_met_is_told_by_the_next_call(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	bench_open(&b);
	char *staging = strdup(pio_info_get(b.run)->staging);
	for (int i = 0; i < 2; i++) {
		pio_fs_fault_at("s", 1, EIO);
		ok(save_one(b.run, 10 + i, data, SIZE, PIO_ASYNC));
		/* The fault strikes in the thread, and this save waits for it. */
		refused(save_one(b.run, 20 + i, data, SIZE, i ? PIO_ASYNC : 0), PIO_EIO,
		        "the asynchronous save of step 1");
		ok(save_one(b.run, 30 + i, data, SIZE, 0)); /* by now nothing is being written */
	}
	pio_fs_fault_at("s", 0, 0);
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), 6);
	for (int i = 0; i < 6; i++) {
		assert_true((t[i].files == 0) == (i % 3 == 0));
		assert_true(!t[i].files == !!strstr(t[i].failure, "Input/output error"));
	}
	assert_int_equal(files_in(path_in(staging, "step-10")), 0);
	assert_int_equal(files_in(path_in(staging, "step-20")), 1);
	free(staging);
	bench_close(&b);
}

static void close_tells_what_a_thread_met(void **unused)
{
	(void)unused;
	bench b;
	bench_open(&b);
	pio_fs_fault_at("s", 1, ENOSPC);
	ok(save_one(b.run, 3, data, SIZE, PIO_ASYNC));
	refused(pio_close(&b.run, 0), PIO_ENOSPC, "the asynchronous save of step 3 failed");
	pio_fs_fault_at("s", 0, 0);
	bench_close(&b);
}

/* A thread that still writes is what the test puts there: it ends when it is told. */
static atomic_bool may_end;

static void *stay(void *saver)
{
	while (!atomic_load(&may_end))
		usleep(1000);
	atomic_store(&((pio_saver *)saver)->done, true);
	return NULL;
}

static void a_second_save_waits_or_is_refused(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	bench_open(&b);
	pio_saver *saver = &b.run->saver;
	atomic_store(&may_end, false);
	assert_int_equal(pthread_create(&saver->thread, NULL, stay, saver), 0);
	saver->running = true;
	saver->step = 4;
	refused(save_one(b.run, 5, data, SIZE, PIO_ASYNC | PIO_NOWAIT), PIO_EBUSY, "step 4 is still being written");
	refused(save_one(b.run, 5, data, SIZE, PIO_NOWAIT), PIO_EBUSY, "no save of step 5");
	atomic_store(&may_end, true);
	ok(save_one(b.run, 6, data, SIZE, PIO_ASYNC));
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), 3);
	/* Other ranks need not wait for the part of those that were refused. */
	assert_true(t[0].files == 0 && t[1].files == 0 && t[2].files == 1);
	assert_true(t[0].round == 0 && t[1].round == 1 && t[2].step == 6);
	bench_close(&b);
}

/* A child has its parent's log, not its parent's save; and neither an exit nor a death of
 * the child disturbs it. */
static void a_forked_child_leaves_the_save_alone(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	bench_open(&b);
	memset(data, 'p', SIZE);
	ok(save_one(b.run, 1, data, SIZE, PIO_ASYNC));
	const int64_t size = SIZE;
	pio_checkpoint *begun;
	ok(pio_checkpoint_begin(&begun, b.run, 9, 1));
	ok(pio_checkpoint_add(begun, "model", "w", PIO_U8, 1, &size, NULL, data));
	for (int how = 0; how < 3; how++) {
		int status;
		pid_t child = fork();
		if (child == 0) {
			pio_checkpoint *c = NULL;
			if (pio_checkpoint_begin(&c, b.run, 1, 1) != -PIO_EINVAL ||
			    !strstr(pio_error(), "forked child"))
				_exit(1);
			/* One that its parent began, too, while a thread that it lacks may have been at work. */
			alarm(60);
			if (pio_checkpoint_commit(&begun, how ? PIO_ASYNC : 0) != -PIO_EINVAL || begun ||
			    !strstr(pio_error(), "forked child"))
				_exit(2);
			if (how == 0)
				pio_close(&b.run, 0);
			if (how == 1)
				kill(getpid(), SIGKILL);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, how == 1 ? SIGKILL : 0);
		ok(save_one(b.run, 2 + how, data, SIZE, PIO_ASYNC));
	}
	ok(pio_checkpoint_commit(&begun, 0));
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), 5);
	for (int i = 0; i < 5; i++)
		check_data(t[i].path[0], data, SIZE);
	bench_close(&b);
}

/* exit() without pio_close: the checkpoint is there. Killed: nothing is told of it. */
static void an_exit_waits_and_a_death_leaves_nothing(void **unused)
{
	(void)unused;
	for (int killed = 0; killed < 2; killed++) {
		char *home = scratch_new(), path[400], *dir = path;
		int pipes[2], status;
		static told t[SAVES];
		assert_int_equal(pipe(pipes), 0);
		pid_t child = fork();
		if (child == 0) {
			pio_run *run;
			setenv("PIOCHE_SHM", home, 1);
			setenv(PIO_ENV_STORE, home, 1);
			unsetenv(PIO_ENV_RING);
			if (pio_open(&run, "saves"))
				_exit(1);
			snprintf(path, sizeof path, "%s", pio_info_get(run)->dir);
			if (write(pipes[1], path, sizeof path) != sizeof path)
				_exit(1);
			if (killed)
				pio_fs_fault_at("s", 1, 0); /* ends the process as SIGKILL does, in the thread */
			if (save_one(run, 1, data, SIZE, PIO_ASYNC) != 0)
				_exit(1);
			exit(0);
		}
		assert_int_equal(read(pipes[0], path, sizeof path), sizeof path);
		close(pipes[0]);
		close(pipes[1]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(killed ? 0 : status, 0);
		assert_int_equal(listen(t, SAVES, dir), killed ? 0 : 1);
		if (!killed)
			check_data(t[0].path[0], data, SIZE);
		scratch_remove(home);
	}
}

/* ---- files ---------------------------------------------------------------------------- */

/* 10 tensors of 10 kB and one of 70 kB, in files of at most 32 kB. */
static void what_is_large_is_in_several_files(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	pio_checkpoint *c;
	const int64_t small = 10000, large = 70000;
	setenv(PIO_ENV_FILE_BYTES, "32768", 1);
	bench_open(&b);
	for (int i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	/* In the order of their names, so that they follow one another in `data`. */
	for (int i = 0; i < 10; i++) {
		char name[20];
		snprintf(name, sizeof name, "t%02d", i);
		ok(pio_checkpoint_add(c, "model", name, PIO_U8, 1, &small, NULL,
		                      data + i * small + (i > 4 ? large : 0)));
	}
	ok(pio_checkpoint_add(c, "model", "t04.large", PIO_U8, 1, &large, NULL, data + 5 * small));
	ok(pio_checkpoint_add(c, "extra", "x", PIO_U8, 1, &small, NULL, data));
	ok(pio_checkpoint_commit(&c, PIO_ASYNC));
	ok(pio_close(&b.run, 0));
	unsetenv(PIO_ENV_FILE_BYTES);
	assert_int_equal(listen(t, SAVES, b.dir), 1);
	/* extra; t00 t01 | t02 t03 | t04 | large | large | large t05 | t06 t07 | t08 t09 */
	assert_int_equal(t[0].files, 9);
	const uint8_t *at = data;
	for (uint32_t i = 0; i < 9; i++) {
		pio_str text = PIO_STR_INIT;
		check_ok(pio_fs_read(&text, t[0].path[i], &err));
		assert_int_equal(t[0].part[i], i ? i - 1 : 0);
		uint64_t header;
		memcpy(&header, text.data, sizeof header);
		size_t n = text.len - 8 - header;
		assert_true(text.len <= 32768);
		assert_memory_equal(text.data + 8 + header, i ? at : data, n);
		at += i ? n : 0;
		pio_str_fini(&text);
	}
	assert_int_equal(at - data, 10 * small + large);
	bench_close(&b);
}

/* No reader takes a header of more than 100 MB. */
static void what_needs_a_large_header_is_in_several_files(void **unused)
{
	(void)unused;
	enum { TENSORS = 25000, NAME = 4000 };
	bench b;
	static told t[SAVES];
	pio_checkpoint *c;
	char name[NAME + 1];
	bench_open(&b);
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	for (int i = 0; i < TENSORS; i++) {
		snprintf(name, sizeof name, "%0*d", NAME, TENSORS - i);
		memcpy(name, name + NAME - 5, 5);
		ok(pio_checkpoint_add(c, "model", name, PIO_U8, 0, NULL, NULL, data));
	}
	ok(pio_checkpoint_commit(&c, 0));
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), 1);
	assert_true(t[0].files > 1);
	assert_true(t[0].bytes > TENSORS * NAME);
	for (uint32_t i = 0; i < t[0].files; i++) {
		uint64_t header_bytes;
		int fd;
		check_ok(pio_fs_open(&fd, t[0].path[i], O_RDONLY, 0, &err));
		check_ok(pio_fs_pread_all(fd, &header_bytes, 8, 0, t[0].path[i], &err));
		check_ok(pio_fs_close(&fd, t[0].path[i], &err));
		assert_true(header_bytes <= PIO_SAFETENSORS_HEADER_BYTES_MAX);
	}
	bench_close(&b);
}

/* The second file of "model" is not the first of "model-1". */
static void roles_that_end_in_a_number_get_along(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	pio_checkpoint *c;
	static const char *const roles[] = { "model", "model-1", "model-1-1", "model-2" };
	static const char *const names[] = { "a", "b", "c" };
	const int64_t size = 10000;
	setenv(PIO_ENV_FILE_BYTES, "16384", 1);
	bench_open(&b);
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	for (int i = 0; i < 12; i++)
		ok(pio_checkpoint_add(c, roles[i / 3], names[i % 3], PIO_U8, 1, &size, NULL, data + i * size));
	ok(pio_checkpoint_commit(&c, 0));
	unsetenv(PIO_ENV_FILE_BYTES);
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), 1);
	assert_int_equal(t[0].files, 12);
	for (uint32_t i = 0; i < 12; i++)
		assert_int_equal(t[0].part[i], i % 3);
	bench_close(&b);
}

/* The system's own, but for the file system and the kernel that a test wants. */
static unsigned fs_magic;
static const char *kernel;

int statfs(const char *path, struct statfs *st)
{
	int rc = (int)syscall(SYS_statfs, path, st);
	if (!rc && fs_magic)
		st->f_type = fs_magic;
	return rc;
}

int uname(struct utsname *name)
{
	int rc = (int)syscall(SYS_uname, name);
	if (!rc && kernel)
		snprintf(name->release, sizeof name->release, "%s", kernel);
	return rc;
}

static int save_four(bench *b, int64_t step)
{
	static const char *const roles[] = { "model", "optim.m", "optim.v", "extra" };
	const int64_t size = 1000;
	pio_checkpoint *c;
	ok(pio_checkpoint_begin(&c, b->run, step, 1));
	for (int i = 0; i < 4; i++)
		ok(pio_checkpoint_add(c, roles[i], "w", PIO_U8, 1, &size, NULL, data));
	return pio_checkpoint_commit(&c, 0);
}

/* One syncfs, or each file by itself and both directories. */
static void small_files_are_synced_at_once_where_that_is_known_to_hold(void **unused)
{
	(void)unused;
	static const struct {
		unsigned magic;
		const char *kernel, *said;
		bool at_once;
	} cases[] = {
		{ 0xef53, "5.17.0-1-amd64", NULL, true },      { 0xef53, "5.16.20", NULL, false },
		{ 0xef53, "6.1.0", "network", false },         { 0x58465342, "6.12.3", NULL, true },
		{ 0x9123683e, "6.1.0", "local", true },        { 0xf2f52010, "10.0", NULL, true },
		/* tmpfs, overlay, ZFS, NFS */
		{ 0x01021994, "4.18.0", NULL, true },          { 0x794c7630, "6.12.3", NULL, false },
		{ 0x2fc12fc1, "6.12.3", "local", false },      { 0x6969, "6.12.3", "local", false },
		{ 0xca451a4e, "6.12.3", NULL, false },         { 0x12345678, "6.12.3", NULL, false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bench b;
		static told t[SAVES];
		bool at_once = cases[i].at_once;
		bench_open(&b);
		fs_magic = cases[i].magic;
		kernel = cases[i].kernel;
		if (cases[i].said)
			setenv("PIOCHE_FS", cases[i].said, 1);
		pio_fs_counts before = pio_fs_counts_get();
		ok(save_four(&b, 1));
		pio_fs_counts after = pio_fs_counts_get();
		assert_int_equal(after.dir_syncs - before.dir_syncs, at_once ? 0 : 2);
		pio_fs_fault_at("s", 1, EIO);
		refused(save_four(&b, 2), PIO_EIO, "cannot sync");
		pio_fs_fault_at("s", 0, 0);
		unsetenv("PIOCHE_FS");
		fs_magic = 0;
		kernel = NULL;
		ok(pio_close(&b.run, 0));
		assert_int_equal(listen(t, SAVES, b.dir), 2);
		assert_int_equal(t[0].sync, at_once ? PIO_SAVE_SYNCFS : PIO_SAVE_FSYNC);
		assert_int_equal(t[0].fsyncs, at_once ? 1 : 6);
		assert_true(t[0].files == 4 && t[1].files == 0);
		bench_close(&b);
	}
}

/* The bytes are said to be more than there is room for, and are never looked at. */
static void what_does_not_fit_is_refused_before_it_is_read(void **unused)
{
	(void)unused;
	bench b;
	static told t[SAVES];
	pio_checkpoint *c;
	const int64_t much = INT64_C(1) << 50, little = 16;
	bench_open(&b);
	char *staging = strdup(pio_info_get(b.run)->staging);
	for (int flags = 0; flags <= PIO_ASYNC; flags += PIO_ASYNC) {
		ok(pio_checkpoint_begin(&c, b.run, 5, 1));
		ok(pio_checkpoint_add(c, "extra", "x", PIO_U8, 1, &little, NULL, data));
		ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, &much, NULL, data));
		refused(pio_checkpoint_commit(&c, flags), PIO_ENOSPC, "step 5 does not fit: rank 0 needs 11258999");
		assert_non_null(strstr(pio_error(), "are free in "));
		assert_int_equal(files_in(path_in(staging, "step-5")), 0);
		ok(save_one(b.run, 6, data, SIZE, flags));
	}
	/* So does whoever supervises it, for the store's quota. */
	check_ok(pio_fs_write(path_in(b.dir, "no-room"), "9 TB of 8", 9, 0644, &err));
	refused(save_one(b.run, 7, data, SIZE, 0), PIO_ENOSPC, "step 7 is refused: 9 TB of 8");
	assert_int_equal(pio_fs_type(path_in(staging, "step-7")), PIO_FS_NONE);
	check_ok(pio_fs_unlink(path_in(b.dir, "no-room"), &err));
	ok(save_one(b.run, 8, data, SIZE, 0));
	ok(pio_close(&b.run, 0));
	assert_int_equal(listen(t, SAVES, b.dir), 6);
	assert_true(!t[0].files && t[1].files && !t[2].files && t[3].files && !t[4].files && t[5].files);
	free(staging);
	bench_close(&b);
}

/* ---- a quota ---------------------------------------------------------------------- */

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static const char *const agent_names[] = { PIO_ENV_RING, PIO_ENV_RUN, PIO_ENV_DIR, PIO_ENV_STAGING };

/* Under an agent: of this process nobody but a save writes. */
static pio_ring *agent_up(bench *b)
{
	pio_ring *ring;
	b->home = scratch_new();
	b->dir = strdup(b->home);
	check_ok(pio_ring_create(&ring, path_in(b->home, "ring"), 0, 0, 0, &err));
	const char *const values[] = { path_in(b->home, "ring"), ULID, b->home, path_in(b->home, "staging") };
	for (int i = 0; i < 4; i++)
		setenv(agent_names[i], values[i], 1);
	ok(pio_open(&b->run, NULL));
	return ring;
}

/* What the agent heard is in *t; how much it was. */
static int agent_down(told *t, bench *b, pio_ring *ring)
{
	uint64_t moved;
	ok(pio_close(&b->run, 0));
	pio_journal_writer *journal = journal_new(path_in(b->dir, "journal.0"));
	check_ok(pio_ring_drain(ring, journal, true, &moved, &err));
	check_ok(pio_journal_close(&journal, &err));
	pio_ring_close(&ring);
	for (int i = 0; i < 4; i++)
		unsetenv(agent_names[i]);
	return listen(t, 2 * SAVES, b->dir);
}

static int save_and_hear(pio_run *run, int64_t step, int flags)
{
	int rc = save_one(run, step, data, SIZE, flags);
	if (rc || !flags)
		return rc;
	check_ok(pio_saver_enter(&run->saver, step, 0, &err)); /* waits */
	pio_saver_leave(&run->saver);
	return pio_saver_result(&run->saver, pio_last_err());
}

/* The n-th operation of a save is refused, until a save has not so many of them; after each
 * the next save works. How many there are. */
static int meet_quota(bench *b, const char *kind, int flags)
{
	for (int n = 1;; n++) {
		char dir[40];
		snprintf(dir, sizeof dir, "staging/step-%d", n);
		pio_fs_fault_at(kind, (uint64_t)n, EDQUOT);
		int rc = save_and_hear(b->run, n, flags);
		pio_fs_fault_at("", 0, 0);
		if (!rc)
			return n - 1;
		assert_int_equal(rc, -PIO_ENOSPC);
		if (!strstr(pio_error(), "quota exceeded") || !strstr(pio_error(), b->home) ||
		    (*kind == 'w' && n == 1) != !!strstr(pio_error(), "bytes for it, a quota leaves fewer in "))
			fail_msg("%s %d: %s", kind, n, pio_error());
		assert_int_equal(files_in(path_in(b->dir, dir)), 0);
		ok(save_and_hear(b->run, 100 + n, flags));
	}
}

/* At the reservation; at each write; at a sync, as NFS tells it. */
static void wherever_a_quota_ends_it_is_told_and_the_next_save_works(void **unused)
{
	(void)unused;
	for (int i = 0; i < 4; i++) {
		bench b;
		static told t[2 * SAVES];
		pio_ring *ring = agent_up(&b);
		memset(data, 'q', SIZE);
		ok(save_one(b.run, 0, data, SIZE, 0));
		assert_int_equal(meet_quota(&b, i / 2 ? "s" : "w", i % 2 ? PIO_ASYNC : 0), 3);
		assert_int_equal(agent_down(t, &b, ring), 8);
		for (int k = 0; k < 8; k++) {
			bool is_refused = k % 2 && k < 7;
			assert_int_equal(!t[k].files, is_refused);
			assert_int_equal(!!strstr(t[k].failure, "quota exceeded"), is_refused);
			if (!is_refused)
				check_data(t[k].path[0], data, SIZE);
		}
		free(b.dir);
		scratch_remove(b.home);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_is_saved_not_what_came_after),
		cmocka_unit_test(what_a_thread_met_is_told_by_the_next_call),
		cmocka_unit_test(close_tells_what_a_thread_met),
		cmocka_unit_test(a_second_save_waits_or_is_refused),
		cmocka_unit_test(a_forked_child_leaves_the_save_alone),
		cmocka_unit_test(an_exit_waits_and_a_death_leaves_nothing),
		cmocka_unit_test(what_is_large_is_in_several_files),
		cmocka_unit_test(what_needs_a_large_header_is_in_several_files),
		cmocka_unit_test(roles_that_end_in_a_number_get_along),
		cmocka_unit_test(small_files_are_synced_at_once_where_that_is_known_to_hold),
		cmocka_unit_test(what_does_not_fit_is_refused_before_it_is_read),
		cmocka_unit_test(wherever_a_quota_ends_it_is_told_and_the_next_save_works),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
