#include <errno.h>
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

#include "base/clock.h"
#include "sys/proc.h"

static const char *const plain_env[] = { "PATH=/usr/bin:/bin", "MARK=proc-test", NULL };

static pid_t start(const char *const *argv, int stdout_fd)
{
	pio_err err = PIO_ERR_INIT;
	pio_proc_spec spec = { .argv = argv, .envp = plain_env,
	                       .stdin_fd = -1, .stdout_fd = stdout_fd, .stderr_fd = -1 };
	pid_t pid;
	if (pio_proc_spawn(&pid, &spec, &err) != 0)
		fail_msg("%s", err.message);
	return pid;
}

static int reap(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void read_line(int fd, char *text, size_t size_bytes)
{
	size_t len = 0;
	while (len + 1 < size_bytes && read(fd, text + len, 1) == 1 && text[len] != '\n')
		len++;
	text[len] = 0;
}

static void output_and_exit_code(void **state)
{
	(void)state;
	int fds[2];
	char line[64];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	const char *argv[] = { "sh", "-c", "echo $MARK; exit 7", NULL };
	pid_t pid = start(argv, fds[1]);
	close(fds[1]);
	read_line(fds[0], line, sizeof line);
	close(fds[0]);
	assert_string_equal(line, "proc-test");
	int status = reap(pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void exec_errors_are_reported(void **state)
{
	(void)state;
	const struct { const char *name, *cwd; int code; const char *part; } cases[] = {
		{ "no-such-program-here", NULL, PIO_ENOTFOUND, "no such program in PATH" },
		{ "/nonexistent/program", NULL, PIO_ENOTFOUND, "/nonexistent/program" },
		{ "/etc/passwd", NULL, PIO_EINVAL, "/etc/passwd" },
		{ "/etc", NULL, PIO_EINVAL, "/etc" },
		{ "", NULL, PIO_ENOTFOUND, "\"\"" },
		{ "true", "/nonexistent/dir", PIO_ENOTFOUND, "working directory \"/nonexistent/dir\"" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *argv[] = { cases[i].name, NULL };
		pio_proc_spec spec = { .argv = argv, .envp = plain_env, .cwd = cases[i].cwd,
		                       .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
		pio_err err = PIO_ERR_INIT;
		pid_t pid = 99;
		assert_int_equal(pio_proc_spawn(&pid, &spec, &err), -cases[i].code);
		assert_int_equal(pid, -1);
		assert_non_null(strstr(err.message, cases[i].part));
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie is left */
}

static void ignore_signal(int n)
{
	(void)n;
}

/* Handlers, ignored and blocked signals and open files stay with the parent. */
static void child_starts_clean(void **state)
{
	(void)state;
	int fds[2], leak = open("/dev/null", O_RDONLY);
	char line[256];
	sigset_t set, before;
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, ignore_signal);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &before);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	const char *argv[] = { "sh", "-c",
		"grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | tr -d '\\n\\t'; ls /proc/self/fd | tr '\\n' ' '; "
		"cut -d' ' -f6 /proc/$$/stat | grep -qx $$ && echo leader", NULL };
	pid_t pid = start(argv, fds[1]);
	close(fds[1]);
	read_line(fds[0], line, sizeof line);
	close(fds[0]);
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	close(leak);
	reap(pid);
	/* 32 and 33 are libc's own: a program cannot set them, whoever started the test may have. */
	unsigned long long blocked, ignored, libc = 3ull << 31;
	if (sscanf(line, "SigBlk:%llxSigIgn:%llx", &blocked, &ignored) != 2 || blocked ||
	    (ignored & ~libc))
		fail_msg("signals of the child: %s", line);
	assert_non_null(strstr(line, "0 1 2 3 leader")); /* 3 is the directory that ls reads */
}

static void wait_until_gone(const char *entry)
{
	for (int i = 0; i < 200 && pio_proc_signal_marked(entry, 0); i++)
		pio_clock_sleep_ms(10);
	assert_int_equal(pio_proc_signal_marked(entry, 0), 0);
}

/* A grandchild in a session of its own belongs to the tree all the same. */
static void signal_tree_reaches_everybody(void **state)
{
	(void)state;
	int fds[2];
	char line[16];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	const char *argv[] = { "sh", "-c",
		"sleep 100 & setsid sleep 100 & (trap '' TERM; sleep 100) & echo up; wait", NULL };
	pid_t pid = start(argv, fds[1]);
	close(fds[1]);
	read_line(fds[0], line, sizeof line);
	close(fds[0]);
	assert_string_equal(line, "up");
	assert_true(pio_proc_tree_alive(pid));
	for (int i = 0; i < 200 && pio_proc_signal_tree(pid, 0) < 4; i++)
		pio_clock_sleep_ms(10);
	assert_in_range(pio_proc_signal_tree(pid, SIGKILL), 4, 5);
	int status = reap(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	wait_until_gone("MARK=proc-test");
	assert_false(pio_proc_tree_alive(pid));
}

/* Kill the parent of a child that did not choose to outlive it. */
static void child_dies_with_parent(void **state)
{
	(void)state;
	int fds[2];
	char line[16];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t middle = fork();
	if (middle == 0) {
		const char *argv[] = { "sh", "-c", "echo up; exec sleep 100", NULL };
		start(argv, fds[1]);
		pause();
		_exit(0);
	}
	close(fds[1]);
	read_line(fds[0], line, sizeof line);
	assert_string_equal(line, "up");
	assert_int_equal(pio_proc_signal_marked("MARK=proc-test", 0), 1);
	kill(middle, SIGKILL);
	reap(middle);
	wait_until_gone("MARK=proc-test");
	assert_int_equal(read(fds[0], line, 1), 0);
	close(fds[0]);
}

static void signal_marked_matches_whole_entries(void **state)
{
	(void)state;
	const char *argv[] = { "sleep", "100", NULL };
	pid_t pid = start(argv, -1);
	assert_int_equal(pio_proc_signal_marked("MARK=proc", SIGKILL), 0);
	assert_int_equal(pio_proc_signal_marked("MARK=proc-test", SIGKILL), 1);
	assert_true(WIFSIGNALED(reap(pid)));
}

/* ---- work apart ---- */

enum { ANSWER_BYTES = 300000 };  /* more than a pipe holds */

static int answer_at_length(pio_str *answer, void *context, pio_err *err)
{
	(void)err;
	for (size_t i = 0; i < ANSWER_BYTES; i++)
		pio_str_putc(answer, (char)(i * 7 + *(const unsigned char *)context));
	return 0;
}

static int fail_in_words(pio_str *answer, void *context, pio_err *err)
{
	(void)answer;
	return pio_fail(err, PIO_EVERSION, "%s is too old", (const char *)context);
}

/* Bytes: is this descriptor open? */
static int look_at_files(pio_str *answer, void *context, pio_err *err)
{
	(void)context;
	(void)err;
	for (int fd = 0; fd < 64; fd++)
		pio_str_putc(answer, fcntl(fd, F_GETFD) >= 0 ? '1' : '0');
	return 0;
}

static int hang(pio_str *answer, void *context, pio_err *err)
{
	(void)answer;
	(void)context;
	(void)err;
	while (pause() < 0)
		continue;
	return 0;
}

static int die(pio_str *answer, void *context, pio_err *err)
{
	(void)answer;
	(void)context;
	(void)err;
	return raise(SIGKILL);
}

static void expect_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void work_apart_answers_or_fails_as_it_would_here(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	pio_str answer = PIO_STR_INIT;
	unsigned char first = 3;
	char name[] = "it";
	assert_int_equal(pio_proc_apart(&answer, answer_at_length, &first, "work", 60000, &err), 0);
	assert_int_equal(answer.len, ANSWER_BYTES);
	for (size_t i = 0; i < ANSWER_BYTES; i++)
		assert_int_equal(answer.data[i], (char)(i * 7 + 3));
	assert_int_equal(pio_proc_apart(&answer, fail_in_words, name, "work", 60000, &err), -PIO_EVERSION);
	assert_string_equal(err.message, "it is too old");
	assert_int_equal(pio_proc_apart(&answer, fail_in_words, name, "work", 60000, NULL), -PIO_EVERSION);
	int fd = fcntl(STDOUT_FILENO, F_DUPFD, 20);
	assert_true(fd >= 20);
	assert_int_equal(pio_proc_apart(&answer, look_at_files, NULL, "work", 60000, &err), 0);
	close(fd);
	assert_int_equal(strspn(answer.data, "1"), 4);
	assert_int_equal(strspn(answer.data + 4, "0"), 60);
	pio_str_fini(&answer);
	expect_no_child();
}

static int write_then_hang(int answer_fd, void *context)
{
	if (write(answer_fd, context, strlen(context)) < 0)
		return 1;
	for (;;)
		pause();
}

static int end_at_once(int answer_fd, void *context)
{
	(void)answer_fd;
	(void)context;
	return 7;
}

static void work_apart_that_goes_on_is_heard_and_ended(void **state)
{
	char word[] = "word", got[8];
	pid_t pid, child;
	int fd, status;
	pio_err err = PIO_ERR_INIT;
	(void)state;
	assert_int_equal(pio_proc_apart_begin(&pid, &fd, write_then_hang, word, "work", &err), 0);
	assert_int_equal(read(fd, got, sizeof got), strlen(word));
	assert_memory_equal(got, word, strlen(word));
	child = pid;
	assert_int_equal(kill(child, SIGTERM), 0); /* is not for it */
	assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
	pio_proc_apart_end(&pid, &fd);
	assert_true(pid == 0 && fd == -1 && kill(child, 0) != 0 && errno == ESRCH);
	pio_proc_apart_end(&pid, &fd);

	assert_int_equal(pio_proc_apart_begin(&pid, &fd, end_at_once, NULL, "work", &err), 0);
	assert_int_equal(read(fd, got, sizeof got), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	pid = 0;
	pio_proc_apart_end(&pid, &fd);
}

static void work_apart_may_hang_or_die(void **state)
{
	(void)state;
	pio_err err = PIO_ERR_INIT;
	pio_str answer = PIO_STR_INIT;
	assert_int_equal(pio_proc_apart(&answer, hang, NULL, "work", 50, &err), -PIO_ETIMEOUT);
	assert_string_equal(err.message, "work did not answer within 50 ms");
	expect_no_child();
	assert_int_equal(pio_proc_apart(&answer, die, NULL, "work", 60000, &err), -PIO_EIO);
	assert_string_equal(err.message, "work: its process died: SIGKILL");
	expect_no_child();
	pio_str_fini(&answer);
}

static void signal_names(void **state)
{
	(void)state;
	assert_string_equal(pio_proc_signal_name(SIGKILL), "SIGKILL");
	assert_string_equal(pio_proc_signal_name(SIGSEGV), "SIGSEGV");
	assert_string_equal(pio_proc_signal_name(64), "signal 64");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_and_exit_code),
		cmocka_unit_test(exec_errors_are_reported),
		cmocka_unit_test(child_starts_clean),
		cmocka_unit_test(signal_tree_reaches_everybody),
		cmocka_unit_test(child_dies_with_parent),
		cmocka_unit_test(signal_marked_matches_whole_entries),
		cmocka_unit_test(work_apart_answers_or_fails_as_it_would_here),
		cmocka_unit_test(work_apart_that_goes_on_is_heard_and_ended),
		cmocka_unit_test(work_apart_may_hang_or_die),
		cmocka_unit_test(signal_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
