#include "launch/stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define PROCESSES_MAX 64     /* of a rank: data loaders are many, and alike */
#define TOOL_NS INT64_C(10000000000)
#define ALL_NS INT64_C(30000000000)
#define LOOK_MS 20

/* ---- what /proc tells ----------------------------------------------------------------- */

/* A file of one line, or of several that are indented. */
static void put_file(pio_str *out, const char *label, const char *task, const char *name)
{
	char text[4096];
	ssize_t n = pio_proc_read(text, sizeof text, task, name);
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = 0;
	if (n <= 0)
		return;
	pio_str_printf(out, "    %s", label);
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] == '\n')
			pio_str_puts(out, "\n           ");
		else
			pio_str_putc(out, text[i]);
	}
	pio_str_putc(out, '\n');
}

static void put_thread(pio_str *out, const char *task, const char *number)
{
	pio_proc_look look;
	if (!pio_proc_look_at(&look, task))
		return;
	pio_str_printf(out, "  thread %s (", number);
	pio_str_put_text(out, look.name, strlen(look.name));
	pio_str_printf(out, "): %c%s%s, %.2f s of a core\n", look.state, look.wait[0] ? ", waits in " : "",
	               look.wait, (double)look.cpu_ns / 1e9);
	put_file(out, "syscall ", task, "syscall");
	put_file(out, "kernel ", task, "stack");
}

static void put_threads(pio_str *out, pid_t pid)
{
	char dir[64], task[96], **names;
	size_t count;
	snprintf(dir, sizeof dir, "/proc/%d/task", (int)pid);
	if (pio_fs_list(&names, &count, dir, NULL) != 0)
		return;
	for (size_t i = 0; i < count; i++) {
		snprintf(task, sizeof task, "%d/task/%s", (int)pid, names[i]);
		put_thread(out, task, names[i]);
	}
	pio_fs_list_free(names, count);
}

static void put_process(pio_str *out, pid_t pid)
{
	char task[16], text[1024];
	snprintf(task, sizeof task, "%d", (int)pid);
	ssize_t n = pio_proc_read(text, sizeof text, task, "cmdline");
	pio_str_printf(out, "\n  process %d: ", (int)pid);
	for (ssize_t i = 0; i + 1 < n; i++)
		if (text[i] == 0 || text[i] == '\n')
			text[i] = ' ';
	pio_str_put_text(out, text, n > 0 ? strlen(text) : 0);
	pio_str_putc(out, '\n');
	put_threads(out, pid);
}

/* ---- what debuggers tell --------------------------------------------------------------- */

/* Until it ends or its time is up; then it is killed, which lets its victim go on. */
static void wait_for(pid_t pid, int64_t deadline_ns)
{
	pid_t seen;
	while ((seen = waitpid(pid, NULL, WNOHANG)) == 0 || (seen < 0 && errno == EINTR)) {
		if (pio_clock_mono_ns() > deadline_ns)
			kill(pid, SIGKILL);
		pio_clock_sleep_ms(LOOK_MS);
	}
}

/* Its words go into the file as they come. A tool that is not installed says nothing. */
static void run_tool(int fd, const char *path, const char *const *argv)
{
	pid_t tool;
	pio_str title = PIO_STR_INIT;
	/* No symbols from the network, and a text without colours. */
	const char *envp[] = { "DEBUGINFOD_URLS=", "TERM=dumb", "NO_COLOR=1", "HOME=/nonexistent",
	                       "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
	for (char **e = environ; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			envp[4] = *e;
	pio_proc_spec spec = { .argv = argv, .envp = envp, .stdin_fd = -1, .stdout_fd = fd, .stderr_fd = fd };
	pio_str_printf(&title, "\n  %s:\n", argv[0]);
	if (!title.failed && pio_proc_spawn(&tool, &spec, NULL) == 0) {
		(void)pio_fs_write_all(fd, title.data, title.len, path, NULL);
		wait_for(tool, pio_clock_mono_ns() + TOOL_NS);
	}
	pio_str_fini(&title);
}

static void debug_process(int fd, const char *path, pid_t pid)
{
	char number[16];
	snprintf(number, sizeof number, "%d", (int)pid);
	const char *gdb[] = { "gdb", "-batch", "-nx", "-p", number, "-ex", "set pagination off", "-ex",
	                      "thread apply all backtrace 40", NULL };
	const char *py_spy[] = { "py-spy", "dump", "--pid", number, NULL };
	run_tool(fd, path, gdb);
	run_tool(fd, path, py_spy);
}

/* ---- the file ----------------------------------------------------------------------------- */

static int put_rank(int fd, const char *path, const pio_stacks_rank *rank, int64_t deadline_ns,
                    pio_err *err)
{
	pid_t pids[PROCESSES_MAX];
	size_t count = pio_proc_list_tree(pids, PROCESSES_MAX, rank->pid);
	pio_str text = PIO_STR_INIT;
	pio_str_printf(&text, "\nrank %d: %zu process%s\n", rank->rank, count, count == 1 ? "" : "es");
	for (size_t i = 0; i < count; i++)
		put_process(&text, pids[i]);
	int rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_fs_write_all(fd, text.data, text.len, path, err);
	pio_str_fini(&text);
	for (size_t i = 0; i < count && !rc && pio_clock_mono_ns() < deadline_ns; i++)
		debug_process(fd, path, pids[i]);
	return rc;
}

int pio_stacks_write(const char *path, const pio_stacks_rank *ranks, size_t count, pio_err *err)
{
	int fd = -1;
	char now[PIO_CLOCK_TEXT_BYTES], title[96];
	int64_t deadline_ns = pio_clock_mono_ns() + ALL_NS;
	int rc = pio_fs_open(&fd, path, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
	if (rc)
		return rc;
	pio_clock_format(pio_clock_wall_ns(), now);
	snprintf(title, sizeof title, "stacks of %zu rank%s at %s\n", count, count == 1 ? "" : "s", now);
	rc = pio_fs_write_all(fd, title, strlen(title), path, err);
	for (size_t i = 0; i < count && !rc; i++)
		rc = put_rank(fd, path, &ranks[i], deadline_ns, err);
	int close_rc = pio_fs_close(&fd, path, rc ? NULL : err);
	return rc ? rc : close_rc;
}
