#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child that could not exec writes into the pipe to its parent. */
enum stage { STAGE_SESSION, STAGE_FDS, STAGE_CWD, STAGE_EXEC };
struct failure {
	int stage, sys_errno;
};

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

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

static void close_on_exec_from(int first)
{
	if (close_range((unsigned)first, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	long most = sysconf(_SC_OPEN_MAX); /* kernels before 5.11 */
	for (int fd = first; fd < (most < 0 || most > 65536 ? 65536 : (int)most); fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
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
	close_on_exec_from(3);
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
	if (setsid() < 0)
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
