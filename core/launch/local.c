#include "launch/local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/env.h"
#include "sys/fs.h"
#include "sys/proc.h"

/* The environment of this process, and the mark by which the agent and all it
 * started are found when nobody else knows them any more. */
static const char **marked_environment(const char *mark)
{
	size_t n = 0, kept = 0, bytes = strlen(PIO_ENV_DIR "=");
	while (environ[n])
		n++;
	const char **envp = pio_calloc(n + 2, sizeof *envp);
	for (size_t i = 0; envp && i < n; i++)
		if (strncmp(environ[i], PIO_ENV_DIR "=", bytes) != 0)
			envp[kept++] = environ[i];
	if (envp)
		envp[kept] = mark;
	return envp;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int pio_local_start(pio_local_agent *agent, const char *executable, const char *dir, pio_err *err)
{
	int orders[2] = { -1, -1 }, events[2] = { -1, -1 }, errors = -1, rc;
	pio_str path = PIO_STR_INIT, mark = PIO_STR_INIT;
	const char **envp = NULL;

	*agent = (pio_local_agent){ -1, -1, -1 };
	pio_str_printf(&path, "%s/agent.0.err", dir);
	pio_str_printf(&mark, PIO_ENV_DIR "=%s", dir);
	if ((rc = pio_str_check(&path, err)) || (rc = pio_str_check(&mark, err)))
		goto out;
	envp = marked_environment(mark.data);
	if (!envp) {
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the environment of an agent");
		goto out;
	}
	rc = pio_fs_open(&errors, path.data, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (!rc && (pipe2(orders, O_CLOEXEC) != 0 || pipe2(events, O_CLOEXEC) != 0))
		rc = pio_fail_errno(err, errno, "make the pipes of an agent");
	if (!rc) {
		const char *argv[] = { executable, "agent", NULL };
		pio_proc_spec spec = { .argv = argv, .envp = envp, .stdin_fd = orders[0],
		                       .stdout_fd = events[1], .stderr_fd = errors, .outlive_parent = true };
		rc = pio_proc_spawn(&agent->pid, &spec, err);
	}
	if (!rc) {
		agent->orders_fd = orders[1];
		agent->events_fd = events[0];
		orders[1] = events[0] = -1;
	}
out:
	for (int i = 0; i < 2; i++) {
		close_fd(&orders[i]);
		close_fd(&events[i]);
	}
	close_fd(&errors);
	pio_free(envp);
	pio_str_fini(&path);
	pio_str_fini(&mark);
	return rc;
}
