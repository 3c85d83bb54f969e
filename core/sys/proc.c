#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

/* What a child that could not exec writes into the pipe to its parent. */
enum stage { STAGE_SESSION, STAGE_FDS, STAGE_CWD, STAGE_EXEC };
struct failure {
	int stage, sys_errno;
};

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define REAP_MS 1000     /* within which a killed child ends, unless the kernel holds it */

/* ---- the child: between fork and exec only calls that need no lock ------------- */

static void die(int report_fd, enum stage stage)
{
	struct failure failure = { (int)stage, errno };
	ssize_t n = write(report_fd, &failure, sizeof failure);
	(void)n; /* the parent is gone: nobody to tell */
	_exit(127);
}

/* A handler of the parent must not run in the child, and what the parent
 * ignores or blocks is not the child's business. */
static void reset_signals(void)
{
	struct sigaction plain;
	sigset_t none;
	memset(&plain, 0, sizeof plain);
	plain.sa_handler = SIG_DFL;
	for (int n = 1; n < NSIG; n++)
		sigaction(n, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Those from `first` on, now or when the child execs. */
static void close_from(int first, bool on_exec)
{
	if (close_range((unsigned)first, ~0u, on_exec ? CLOSE_RANGE_CLOEXEC : 0) == 0)
		return;
	long most = sysconf(_SC_OPEN_MAX); /* kernels before 5.11 */
	for (int fd = first; fd < (most < 0 || most > 65536 ? 65536 : (int)most); fd++)
		if (on_exec)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
		else
			close(fd);
}

/* Put the three standard descriptors in place. They are lifted above 2 first,
 * because one may stand where another has to go. */
static int place_fds(int *report_fd, const int wanted[3], int null_fd)
{
	int lifted[3];
	*report_fd = fcntl(*report_fd, F_DUPFD_CLOEXEC, 3);
	if (*report_fd < 0)
		return -1;
	for (int i = 0; i < 3; i++) {
		lifted[i] = fcntl(wanted[i] < 0 ? null_fd : wanted[i], F_DUPFD_CLOEXEC, 3);
		if (lifted[i] < 0)
			return -1;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(lifted[i], i) < 0)
			return -1;
	close_from(3, true);
	return 0;
}

/* execve along PATH, as execvp, but without its fall back to a shell for files
 * that are no program. Returns only on failure, with errno. */
static void exec_search(const char *name, char *const argv[], char *const envp[])
{
	const char *path = DEFAULT_PATH;
	char file[PATH_MAX];
	int found_errno = ENOENT;
	size_t name_bytes = strlen(name);

	if (strchr(name, '/')) {
		execve(name, argv, envp);
		return;
	}
	for (char *const *e = envp; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			path = *e + 5;
	while (name_bytes && *path) {
		size_t bytes = strcspn(path, ":");
		if (bytes && bytes + name_bytes + 2 <= sizeof file) {
			memcpy(file, path, bytes);
			file[bytes] = '/';
			memcpy(file + bytes + 1, name, name_bytes + 1);
			execve(file, argv, envp);
			if (errno != ENOENT && errno != ENOTDIR)
				found_errno = errno;
		}
		path += bytes + (path[bytes] == ':');
	}
	errno = found_errno;
}

static void run_child(const pio_proc_spec *spec, pid_t parent, int null_fd, int report_fd)
{
	union { const char *const *in; char *const *out; } argv = { spec->argv }, envp = { spec->envp };
	int wanted[3] = { spec->stdin_fd, spec->stdout_fd, spec->stderr_fd };

	reset_signals();
	if (!spec->in_our_session && setsid() < 0)
		die(report_fd, STAGE_SESSION);
	if (spec->terminal && open(spec->terminal, O_RDWR | O_CLOEXEC) < 0) /* the first of a session is its own */
		die(report_fd, STAGE_SESSION);
	if (!spec->outlive_parent) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
			die(report_fd, STAGE_SESSION);
		if (getppid() != parent) /* it died before the line above */
			_exit(127);
	}
	if (place_fds(&report_fd, wanted, null_fd) != 0)
		die(report_fd, STAGE_FDS);
	if (spec->cwd && chdir(spec->cwd) != 0)
		die(report_fd, STAGE_CWD);
	exec_search(spec->argv[0], argv.out, envp.out);
	die(report_fd, STAGE_EXEC);
}

/* ---- the parent --------------------------------------------------------------------- */

static int fail_start(pio_err *err, const struct failure *failure, const pio_proc_spec *spec)
{
	const char *name = spec->argv[0];
	int code = PIO_EIO, e = failure->sys_errno;
	if (e == ENOENT || e == ENOTDIR)
		code = PIO_ENOTFOUND;
	else if (e == EACCES || e == EPERM || e == ENOEXEC || e == EISDIR || e == ELOOP || e == E2BIG ||
	         e == ENAMETOOLONG)
		code = PIO_EINVAL;
	switch (failure->stage) {
	case STAGE_CWD:
		return pio_fail_at(err, code, e, __FILE__, __LINE__, "start \"%s\": working directory \"%s\"",
		                   name, spec->cwd);
	case STAGE_EXEC:
		if (e == ENOENT && !strchr(name, '/'))
			return pio_fail(err, PIO_ENOTFOUND, "start \"%s\": there is no such program in PATH", name);
		if (e == ENOEXEC)
			return pio_fail(err, PIO_EINVAL, "start \"%s\": not a program: expected an executable or a "
			                "script that begins with #!", name);
		return pio_fail_at(err, code, e, __FILE__, __LINE__, "start \"%s\"", name);
	default:
		return pio_fail_errno(err, e, "start \"%s\": prepare the process", name);
	}
}

static pid_t fork_child(const pio_proc_spec *spec, int null_fd, int report_fd)
{
	/* No handler of ours may run in the child before it has reset them. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0)
		run_child(spec, parent, null_fd, report_fd);
	int sys_errno = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = sys_errno;
	return pid;
}

int pio_proc_spawn(pid_t *pid, const pio_proc_spec *spec, pio_err *err)
{
	int report[2] = { -1, -1 }, rc = 0;
	struct failure failure = { 0, 0 };
	ssize_t n;

	*pid = -1;
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return pio_fail_errno(err, errno, "open /dev/null");
	if (pipe2(report, O_CLOEXEC) != 0) {
		rc = pio_fail_errno(err, errno, "start \"%s\": make a pipe", spec->argv[0]);
		goto out;
	}
	pid_t child = fork_child(spec, null_fd, report[1]);
	if (child < 0) {
		rc = pio_fail_errno(err, errno, "start \"%s\": fork", spec->argv[0]);
		goto out;
	}
	close(report[1]);
	report[1] = -1;
	/* The pipe closes without a word when exec succeeds. */
	do
		n = read(report[0], &failure, sizeof failure);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof failure) {
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			continue;
		rc = fail_start(err, &failure, spec);
		goto out;
	}
	*pid = child;
out:
	for (int i = 0; i < 2; i++)
		if (report[i] >= 0)
			close(report[i]);
	close(null_fd);
	return rc;
}

int pio_proc_fork(pid_t *pid, int signal_number, pio_err *err)
{
	pid_t parent = getpid();
	fflush(NULL); /* or what is buffered comes twice */
	*pid = fork();
	if (*pid < 0)
		return pio_fail_errno(err, errno, "fork");
	if (*pid > 0)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, signal_number) != 0)
		return pio_fail_errno(err, errno, "ask for the death of the parent");
	if (getppid() != parent) /* it died before the line above */
		raise(signal_number);
	return 0;
}

/* ---- work apart ------------------------------------------------------------------------ */

static bool write_all(int fd, const void *bytes, size_t size_bytes)
{
	for (size_t done = 0; done < size_bytes;) {
		ssize_t n = write(fd, (const char *)bytes + done, size_bytes - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* Standard streams are nowhere, the answer goes to 3, and nothing else is open:
 * a child that cannot be killed holds no port, no lock and no pipe of ours. */
static void serve_apart(int answer_fd, pid_t parent, pio_proc_service *service, void *context)
{
	int high_fd = fcntl(answer_fd, F_DUPFD, 3), null_fd = open("/dev/null", O_RDWR);
	if (high_fd < 0 || null_fd < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(127);
	for (int i = 0; i < 3; i++)
		dup2(null_fd, i);
	if (dup2(high_fd, 3) < 0)
		_exit(127);
	close_from(4, false);
	_exit(service(3, context));
}

typedef struct question {
	pio_proc_work *work;
	void *context;
} question;

static int answer_once(int answer_fd, void *context)
{
	const question *asked = context;
	pio_str answer = PIO_STR_INIT;
	pio_err failure = PIO_ERR_INIT;
	if (asked->work(&answer, asked->context, &failure) == 0) {
		failure.code = 0; /* of what it tried and can do without */
		(void)pio_str_check(&answer, &failure);
	}
	return write_all(answer_fd, &failure, sizeof failure) && write_all(answer_fd, answer.data, answer.len)
	       ? 0 : 127;
}

/* All that the child writes until it ends; false: the deadline passed. */
static bool read_answer(pio_str *answer, int fd, int64_t deadline_ns)
{
	for (;;) {
		char bytes[4096];
		struct pollfd one = { .fd = fd, .events = POLLIN };
		int64_t left_ms = (deadline_ns - pio_clock_mono_ns()) / INT64_C(1000000);
		if (left_ms <= 0)
			return false;
		if (poll(&one, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms) <= 0)
			continue;
		ssize_t n = read(fd, bytes, sizeof bytes);
		if (n == 0)
			return true;
		if (n > 0)
			pio_str_append(answer, bytes, (size_t)n);
	}
}

/* One that cannot be reaped now is left to whoever reaps for this process. */
static int end_child(pid_t child)
{
	int status = -1;
	int64_t deadline_ns = pio_clock_mono_ns() + REAP_MS * INT64_C(1000000);
	while (waitpid(child, &status, WNOHANG) != child && pio_clock_mono_ns() < deadline_ns)
		pio_clock_sleep_ms(1);
	return status;
}

int pio_proc_apart_begin(pid_t *pid, int *fd, pio_proc_service *service, void *context,
                         const char *what, pio_err *err)
{
	int fds[2];
	sigset_t all, before;
	*pid = 0;
	*fd = -1;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return pio_fail_errno(err, errno, "%s: make a pipe", what);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours runs in the child */
	pid_t parent = getpid(), child = fork();
	if (child == 0)
		serve_apart(fds[1], parent, service, context);
	int sys_errno = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(fds[1]);
	if (child < 0) {
		close(fds[0]);
		return pio_fail_errno(err, sys_errno, "%s: fork", what);
	}
	*pid = child;
	*fd = fds[0];
	return 0;
}

void pio_proc_apart_end(pid_t *pid, int *fd)
{
	if (*fd >= 0)
		close(*fd);
	if (*pid) {
		kill(*pid, SIGKILL);
		(void)end_child(*pid);
	}
	*pid = 0;
	*fd = -1;
}

int pio_proc_feed_open(pio_proc_feed *feed, pio_proc_service *service, void *context, size_t item_bytes,
                       const char *what, pio_err *err)
{
	feed->item_bytes = item_bytes;
	int rc = pio_proc_apart_begin(&feed->pid, &feed->fd, service, context, what, err);
	if (!rc && fcntl(feed->fd, F_SETFL, O_NONBLOCK) != 0)
		rc = pio_fail_errno(err, errno, "%s: prepare a pipe", what);
	if (rc)
		pio_proc_feed_close(feed);
	return rc;
}

int pio_proc_feed_take(const pio_proc_feed *feed, void *item)
{
	ssize_t n;
	do
		n = read(feed->fd, item, feed->item_bytes);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	return n == (ssize_t)feed->item_bytes ? 1 : -1;
}

void pio_proc_feed_close(pio_proc_feed *feed)
{
	pio_proc_apart_end(&feed->pid, &feed->fd);
}

int pio_proc_apart(pio_str *answer, pio_proc_work *work, void *context, const char *what,
                   int timeout_ms, pio_err *err)
{
	question asked = { work, context };
	pio_err told;
	pid_t child;
	int fd, status;
	pio_str_clear(answer);
	int rc = pio_proc_apart_begin(&child, &fd, answer_once, &asked, what, err);
	if (rc)
		return rc;
	bool in_time = read_answer(answer, fd, pio_clock_mono_ns() + timeout_ms * INT64_C(1000000));
	close(fd);
	if (!in_time)
		kill(child, SIGKILL);
	status = end_child(child);
	if (!in_time)
		return pio_fail(err, PIO_ETIMEOUT, "%s did not answer within %d ms", what, timeout_ms);
	if (pio_str_check(answer, err) != 0)
		return -PIO_ENOMEM;
	if (answer->len < sizeof told)
		return pio_fail(err, PIO_EIO, "%s: its process died: %s", what,
		                WIFSIGNALED(status) ? pio_proc_signal_name(WTERMSIG(status)) : "without a word");
	memcpy(&told, answer->data, sizeof told);
	memmove(answer->data, answer->data + sizeof told, answer->len - sizeof told);
	answer->len -= sizeof told;
	if (told.code && err)
		*err = told;
	return -told.code;
}

int pio_proc_adopt_orphans(pio_err *err)
{
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		return pio_fail_errno(err, errno, "become the reaper of orphans");
	return 0;
}

const char *pio_proc_signal_name(int signal_number)
{
	static _Thread_local char name[32];
	const char *abbreviation = sigabbrev_np(signal_number);
	if (abbreviation)
		snprintf(name, sizeof name, "SIG%s", abbreviation);
	else
		snprintf(name, sizeof name, "signal %d", signal_number);
	return name;
}
