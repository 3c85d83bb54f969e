/* proc.h: child processes that do not outlive their parent.
 *
 * A child leads its own session (so that its whole tree can be signalled) and
 * gets SIGKILL from the kernel when the thread that spawned it ends
 * (PR_SET_PDEATHSIG): spawn from the main thread. */
#ifndef PIO_SYS_PROC_H
#define PIO_SYS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

typedef struct pio_proc_spec {
	const char *const *argv;   /* NULL-terminated; argv[0] is searched in the child's PATH */
	const char *const *envp;   /* NULL-terminated "NAME=value", the whole environment */
	const char *cwd;           /* NULL: inherit */
	int stdin_fd, stdout_fd, stderr_fd;   /* -1: /dev/null */
	bool outlive_parent;       /* true: no PDEATHSIG */
	bool in_our_session;       /* it may ask on our terminal, and has no tree of its own to signal */
	const char *terminal;      /* NULL, or the path of one that is its own (sys/pty.h) */
} pio_proc_spec;

/* Start it. A failing exec is reported here (PIO_ENOTFOUND or PIO_EINVAL with
 * the program's name and the reason), not as an exit status of the child. */
int pio_proc_spawn(pid_t *pid, const pio_proc_spec *spec, pio_err *err);

/* The calling process twice, before it has threads: *pid is 0 in the child, which
 * gets `signal_number` when its parent dies. */
int pio_proc_fork(pid_t *pid, int signal_number, pio_err *err);

/* What may wait for hardware that does not answer, or crash: a driver's library.
 * `work` runs in a child process with no file open but its answer, and what it
 * returns, with what it put into `answer`, is returned here. PIO_ETIMEOUT after
 * `timeout_ms`; the child is killed, and what the kernel does not let die holds
 * nothing of this process. `what` names it in errors. */
typedef int pio_proc_work(pio_str *answer, void *context, pio_err *err);
int pio_proc_apart(pio_str *answer, pio_proc_work *work, void *context, const char *what,
                   int timeout_ms, pio_err *err);

/* The same for work that goes on: what it writes to `answer_fd` is read from *fd as
 * it comes, and an end of file is its end. What it returns is its exit status. No
 * signal but SIGKILL ends it, and it gets that when its parent dies. */
typedef int pio_proc_service(int answer_fd, void *context);
int pio_proc_apart_begin(pid_t *pid, int *fd, pio_proc_service *service, void *context,
                         const char *what, pio_err *err);
/* Kill it (with *pid 0 it has been reaped) and close; sets *pid to 0 and *fd to -1. */
void pio_proc_apart_end(pid_t *pid, int *fd);

/* A service whose answers are items of one size (at most PIPE_BUF), which are taken
 * without waiting. */
typedef struct pio_proc_feed {
	pid_t pid;             /* 0 once it has been reaped */
	int fd;                /* readable when there is an item, or an end; -1: closed */
	size_t item_bytes;
} pio_proc_feed;
int pio_proc_feed_open(pio_proc_feed *feed, pio_proc_service *service, void *context, size_t item_bytes,
                       const char *what, pio_err *err);
/* 1: *item is the next one; 0: there is none now; -1: nor will there be. */
int pio_proc_feed_take(const pio_proc_feed *feed, void *item);
/* Idempotent. */
void pio_proc_feed_close(pio_proc_feed *feed);

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

/* Live processes of the child's tree, the leader first if it lives, or of all
 * descendants: how many were written to `pids`, at most `capacity`. */
size_t pio_proc_list_tree(pid_t *pids, size_t capacity, pid_t leader);
size_t pio_proc_list_descendants(pid_t *pids, size_t capacity, pid_t ancestor);

/* What a process or a thread does at this moment, as /proc tells. */
typedef struct pio_proc_look {
	char state;            /* proc(5): R runs, S sleeps, D waits for a disk, T is stopped */
	char name[32];
	char wait[64];         /* the kernel's function it sleeps in; "" when unknown */
	int64_t cpu_ns;        /* of it and of its children that ended; a tick is 10 ms */
} pio_proc_look;
/* `task` is its number below /proc: "812", or "812/task/815". False: it is gone. */
bool pio_proc_look_at(pio_proc_look *look, const char *task);
/* Bytes that a process read and wrote so far, files and sockets alike; 0 when
 * the kernel does not say. */
uint64_t pio_proc_io_bytes(pid_t pid);
/* /proc/TASK/NAME, NUL-terminated and cut where the buffer ends. Bytes read, or
 * -1 when there is no such file or it may not be read. */
ssize_t pio_proc_read(char *text, size_t text_bytes, const char *task, const char *name);

/* When a process began, in clock ticks since boot: with its number it names the
 * process until the next boot. 0 when there is none, or a zombie. */
uint64_t pio_proc_start_ticks(pid_t pid);

/* Shut down every TCP connection of a process, as a network that fails does: its
 * next read or write there, and its peers', tell of it. *count: how many. Needs the
 * right to trace the process, and Linux 5.6. */
int pio_proc_drop_connections(int *count, pid_t pid, pio_err *err);

/* "SIGSEGV" for 11; "signal 64" where there is no name. Static or thread-local. */
const char *pio_proc_signal_name(int signal_number);

#endif
