/* What programs do around their run: none of it harms the run, and the run
 * harms none of them. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "client_fixture.h"

/* A directory of 512 KB in a name space of its own; false where that is not allowed. */
static bool mount_small(const char *dir)
{
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", dir, "tmpfs", 0, "size=512k") == 0;
}

static void full_shared_memory_is_told_and_training_goes_on(void **state)
{
	(void)state;
	char *home = home_new();
	pid_t pid = fork();
	if (pid == 0) {
		pio_run *run;
		check_ok(pio_fs_mkdirs(path_in(home, "small"), 0755, &err));
		if (!mount_small(path_in(home, "small")))
			_exit(77);
		setenv("PIOCHE_SHM", path_in(home, "small"), 1);
		if (pio_open(&run, "x") != -PIO_ENOSPC || run || !strstr(pio_error(), "/small/pioche-"))
			_exit(1);
		if (rings_left(path_in(home, "small")) || pio_log(run, 1, 0, 0) || pio_close(&run, 0))
			_exit(2);
		_exit(0);
	}
	int status;
	char **names;
	size_t count;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		home_remove(home);
		print_message("a mount of its own is not allowed here\n");
		skip();
	}
	assert_int_equal(status, 0);
	check_ok(pio_fs_list(&names, &count, path_in(home, ".pioche/runs"), &err));
	assert_int_equal(count, 0);
	pio_fs_list_free(names, count);
	home_remove(home);
}

/* Its file descriptors are not taken for the standard ones. */
static void closed_standard_streams_do_not_lead_into_the_journal(void **state)
{
	(void)state;
	char *home = home_new(), *only = NULL;
	char **names;
	size_t count;
	pid_t pid = fork();
	if (pid == 0) {
		pio_run *run;
		for (int fd = 0; fd <= 2; fd++)
			close(fd);
		if (pio_open(&run, "daemon"))
			_exit(1);
		pio_key key = pio_key_get(run, "a");
		for (int i = 0; i < 1000; i++) {
			pio_log(run, key, i, i);
			for (int fd = 0; fd <= 2; fd++)
				if (write(fd, "garbage\n", 8) > 0)
					_exit(2);
		}
		_exit(pio_close(&run, 0) ? 3 : 0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	check_ok(pio_fs_list(&names, &count, path_in(home, ".pioche/runs"), &err));
	assert_int_equal(count, 1);
	assert_true(asprintf(&only, "%s/.pioche/runs/%s/1", home, names[0]) > 0);
	heard *h = hear_of(only);
	assert_int_equal(h->count, 1000);
	assert_string_equal(h->last[PIO_RECORD_EXIT], "{\"result\":\"ok\"}");
	heard_free(h);
	pio_fs_list_free(names, count);
	free(only);
	home_remove(home);
}

static void a_program_may_go_elsewhere(void **state)
{
	(void)state;
	char *home = home_new();
	pio_run *run;
	pio_checkpoint *c;
	float w = 1;
	check_ok(pio_fs_mkdirs(path_in(home, "rings"), 0755, &err));
	check_ok(pio_fs_mkdirs(path_in(home, "gone"), 0755, &err));
	setenv("PIOCHE_SHM", "rings", 1);
	setenv(PIO_ENV_STORE, "a b\n\"c\\\377", 1);
	ok(pio_open(&run, NULL));
	char *dir = strdup(pio_info_get(run)->dir);
	assert_int_equal(rings_left(path_in(home, "rings")), 1);
	assert_int_equal(chdir("/"), 0);
	ok(pio_log(run, pio_key_get(run, "a"), 1, 1));
	ok(pio_checkpoint_begin(&c, run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_F32, 0, NULL, NULL, &w));
	ok(pio_checkpoint_commit(&c, 0));
	ok(pio_close(&run, 0));
	assert_int_equal(rings_left(path_in(home, "rings")), 0);
	heard *h = hear_of(dir);
	assert_int_equal(h->count, 1);
	assert_int_equal(h->records[PIO_RECORD_CHECKPOINT], 1);
	assert_non_null(strstr(h->last[PIO_RECORD_RUN], home));
	heard_free(h);
	/* Out of a directory that is no more, into a store that is named in full. */
	setenv(PIO_ENV_STORE, path_in(home, "store"), 1);
	setenv("PIOCHE_SHM", path_in(home, "rings"), 1);
	assert_int_equal(chdir(path_in(home, "gone")), 0);
	assert_int_equal(rmdir(path_in(home, "gone")), 0);
	ok(pio_open(&run, "x"));
	ok(pio_close(&run, 0));
	assert_int_equal(rings_left(path_in(home, "rings")), 0);
	unsetenv(PIO_ENV_STORE);
	free(dir);
	home_remove(home);
}

static void on_alarm(int signal_number)
{
	(void)signal_number;
}

/* A profiler's timer, faster than the calls that it interrupts. */
static void signals_do_not_get_in_the_way(void **state)
{
	(void)state;
	char *home = home_new();
	struct sigaction action = { .sa_handler = on_alarm }, before;
	struct itimerval fast = { { 0, 50 }, { 0, 50 } }, off = { { 0, 0 }, { 0, 0 } };
	pio_run *run;
	unsetenv("PIOCHE_SHM"); /* a tmpfs, whose fallocate hears signals */
	assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &fast, NULL), 0);
	int rc = 0;
	for (int i = 0; i < 5 && !rc; i++) {
		rc = pio_open(&run, "timed");
		pio_key key = rc ? 0 : pio_key_get(run, "a");
		for (int step = 0; step < 40000 && !rc; step++)
			rc = pio_log(run, key, step, step);
		if (!rc)
			rc = pio_close(&run, 0);
	}
	assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
	if (rc)
		fail_msg("%s", pio_error());
	home_remove(home);
}

static void *close_run(void *argument)
{
	pio_run *run = argument;
	pio_close(&run, 0);
	return NULL;
}

/* main returns while another thread closes the run: it ends once. */
static void an_exit_beside_a_close_ends_the_run_once(void **state)
{
	(void)state;
	for (int round = 0; round < 10; round++) {
		char *home = home_new();
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			pio_run *run;
			pthread_t thread;
			if (pio_open(&run, "x"))
				_exit(1);
			pio_log(run, pio_key_get(run, "a"), 1, 1);
			const char *dir = pio_info_get(run)->dir;
			if (pio_fs_write(path_in(home, "dir"), dir, strlen(dir), 0600, NULL))
				_exit(3);
			if (pthread_create(&thread, NULL, close_run, run) || pthread_detach(thread))
				_exit(2);
			exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		pio_str dir = PIO_STR_INIT;
		check_ok(pio_fs_read(&dir, path_in(home, "dir"), &err));
		heard *h = hear_of(dir.data);
		assert_int_equal(h->count, 1);
		assert_int_equal(h->records[PIO_RECORD_EXIT], 1);
		assert_int_equal(rings_left(home), 0);
		heard_free(h);
		pio_str_fini(&dir);
		home_remove(home);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_shared_memory_is_told_and_training_goes_on),
		cmocka_unit_test(closed_standard_streams_do_not_lead_into_the_journal),
		cmocka_unit_test(a_program_may_go_elsewhere),
		cmocka_unit_test(signals_do_not_get_in_the_way),
		cmocka_unit_test(an_exit_beside_a_close_ends_the_run_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
