/* proc.h: child processes that do not outlive their parent.
 *
 * A child leads its own session (so that its whole tree can be signalled) and
 * gets SIGKILL from the kernel when the thread that spawned it ends
 * (PR_SET_PDEATHSIG): spawn from the main thread. */
#ifndef PIO_SYS_PROC_H
#define PIO_SYS_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

typedef struct pio_proc_spec {
	const char *const *argv;   /* NULL-terminated; argv[0] is searched in the child's PATH */
	const char *const *envp;   /* NULL-terminated "NAME=value", the whole environment */
	const char *cwd;           /* NULL: inherit */
	int stdin_fd, stdout_fd, stderr_fd;   /* -1: /dev/null */
	bool outlive_parent;       /* true: no PDEATHSIG */
} pio_proc_spec;

/* Start it. A failing exec is reported here (PIO_ENOTFOUND or PIO_EINVAL with
 * the program's name and the reason), not as an exit status of the child. */
int pio_proc_spawn(pid_t *pid, const pio_proc_spec *spec, pio_err *err);

/* Signal every process of the child's session, and their descendants also
 * where those left it. The leader must not have been reaped, or its number may
 * already name somebody else. Repeats until no new process appears. 0 is a
 * valid signal: it only looks. Returns how many live processes were signalled
 * (zombies do not count). */
int pio_proc_signal_tree(pid_t leader, int signal_number);
/* True if a process of that tree is alive (zombies do not count). */
bool pio_proc_tree_alive(pid_t leader);
/* The same for all descendants of a process, without itself. With
 * pio_proc_adopt_orphans nothing that a child started can leave this set. */
int pio_proc_signal_descendants(pid_t ancestor, int signal_number);
/* The same for every process, but not the caller, whose initial environment
 * holds `entry` ("NAME=value") exactly: finds what is left when every parent
 * is dead. */
int pio_proc_signal_marked(const char *entry, int signal_number);
/* From now on orphaned descendants become children of the calling process
 * (PR_SET_CHILD_SUBREAPER), which must reap them. */
int pio_proc_adopt_orphans(pio_err *err);

/* When a process began, in clock ticks since boot: with its number it names the
 * process until the next boot. 0 when there is none, or a zombie. */
uint64_t pio_proc_start_ticks(pid_t pid);

/* "SIGSEGV" for 11; "signal 64" where there is no name. Static or thread-local. */
const char *pio_proc_signal_name(int signal_number);

#endif
