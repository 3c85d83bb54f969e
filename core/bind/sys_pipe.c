/* require "pioche.core.sys": a program that takes what is written to it, and whose
 * output is a file: sys.pipe_into{ argv, output } -> pipe; and one whose output is read:
 * sys.pipe_from{ argv } -> pipe. With `asks`, it may ask on the terminal; with `typed`,
 * too, these lines are the answers, on a terminal that nobody sees. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/pty.h"

#define PIPE "pioche.pipe"

extern char **environ;

struct pipe {
	pid_t pid;           /* 0: none */
	int fd;              /* our end */
	int output;          /* locked as long as the program may write to it */
	int terminal;        /* on which it asks, -1: none */
	bool in_our_session;
};

static struct pipe *check_pipe(lua_State *L)
{
	return luaL_checkudata(L, 1, PIPE);
}

static int wait_for(struct pipe *pipe)
{
	int status = 0;
	while (pipe->pid > 0 && waitpid(pipe->pid, &status, 0) < 0 && errno == EINTR)
		;
	pipe->pid = 0;
	return status;
}

static int pipe_close(lua_State *L)
{
	struct pipe *pipe = check_pipe(L);
	if (pipe->pid > 0) {
		if (pipe->in_our_session)
			kill(pipe->pid, SIGKILL);
		else
			pio_proc_signal_tree(pipe->pid, SIGKILL);
		wait_for(pipe);
	}
	pio_fs_close(&pipe->fd, "pipe", NULL);
	pio_fs_close(&pipe->terminal, "pty", NULL);
	pio_fs_unlock(&pipe->output);
	return 0;
}

static int pipe_tostring(lua_State *L)
{
	lua_pushliteral(L, "pipe");
	return 1;
}

/* pipe:fd() -> the descriptor to write to, or to read from; the pipe's */
static int pipe_fd(lua_State *L)
{
	lua_pushinteger(L, check_pipe(L)->fd);
	return 1;
}

/* pipe:finish() -> the program's exit status, 128 + the signal that ended it: it has
 * had all that there is */
static int pipe_finish(lua_State *L)
{
	struct pipe *pipe = check_pipe(L);
	pio_fs_close(&pipe->fd, "pipe", NULL);
	int status = wait_for(pipe);
	lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 1;
}

/* pipe:publish(made, path): the output, which is called `made`, becomes durable, then
 * gets its name in the same directory, which becomes durable, too */
static int pipe_publish(lua_State *L)
{
	struct pipe *pipe = check_pipe(L);
	const char *made = luaL_checkstring(L, 2), *path = luaL_checkstring(L, 3);
	const char *slash = strrchr(path, '/');
	if (slash)
		lua_pushlstring(L, path, slash == path ? 1 : (size_t)(slash - path));
	else
		lua_pushliteral(L, ".");
	pio_err err = PIO_ERR_INIT;
	if (pio_fs_datasync(pipe->output, made, &err) || pio_fs_rename(made, path, &err) ||
	    pio_fs_sync_dir(lua_tostring(L, -1), &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

static int open_output(struct pipe *pipe, const char *output, pio_err *err)
{
	int rc = pio_fs_lock(&pipe->output, output, err);
	if (!rc && ftruncate(pipe->output, 0))
		rc = pio_fail_errno(err, errno, "%s: cannot be emptied", output);
	return rc;
}

/* Their end is the one that is read from, if `into`. */
static int open_ends(struct pipe *pipe, int *theirs, bool into, pio_err *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		return pio_fail_errno(err, errno, "pipe");
	*theirs = pio_fs_lift(ends[!into]);
	pipe->fd = pio_fs_lift(ends[into]);
	return *theirs < 0 || pipe->fd < 0 ? pio_fail_errno(err, errno, "pipe") : 0;
}

static int type_lines(struct pipe *pipe, char *path, const char *typed, pio_err *err)
{
	int rc = pio_pty_open(&pipe->terminal, path, err);
	while (!rc && *typed) {
		char line[PIO_PTY_LINE_BYTES_MAX + 2];
		size_t n = strcspn(typed, "\n");
		snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), typed);
		rc = pio_pty_type(pipe->terminal, line, err);
		typed += n + (typed[n] == '\n');
	}
	return rc;
}

static int start(struct pipe *pipe, const char *const *argv, const char *output, bool asks, const char *typed,
                 pio_err *err)
{
	char terminal[PIO_PTY_PATH_BYTES];
	int theirs = -1, rc = output ? open_output(pipe, output, err) : 0;
	if (!rc)
		rc = open_ends(pipe, &theirs, output != NULL, err);
	if (!rc && asks && typed)
		rc = type_lines(pipe, terminal, typed, err);
	pipe->in_our_session = asks && !typed;
	if (!rc) {
		pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ,
			               .stdin_fd = output ? theirs : -1, .stdout_fd = output ? pipe->output : theirs,
			               .stderr_fd = 2, .in_our_session = pipe->in_our_session,
			               .terminal = asks && typed ? terminal : NULL };
		rc = pio_proc_spawn(&pipe->pid, &spec, err);
	}
	pipe->pid = rc ? 0 : pipe->pid;
	pio_fs_close(&theirs, "pipe", NULL);
	return rc;
}

static int push_pipe(lua_State *L, bool into)
{
	static const luaL_Reg methods[] = {
		{ "fd", pipe_fd }, { "finish", pipe_finish }, { "publish", pipe_publish },
		{ "close", pipe_close }, { NULL, NULL },
	};
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	const char *output = into ? pio_bind_field_string(L, 1, "output") : NULL;
	const char *typed = pio_bind_field_string(L, 1, "typed");
	const char *const *argv = pio_bind_strings(L, 1, "argv");
	bool asks = pio_bind_field_boolean(L, 1, "asks");
	luaL_argcheck(L, (output || !into) && argv && argv[0], 1, "fields 'argv' and 'output' are needed");
	pio_bind_type(L, PIPE, methods, pipe_close, pipe_tostring);
	struct pipe *pipe = lua_newuserdatauv(L, sizeof *pipe, 0);
	*pipe = (struct pipe){ 0, -1, -1, -1, false };
	luaL_setmetatable(L, PIPE);
	pio_err err = PIO_ERR_INIT;
	return start(pipe, argv, output, asks, typed, &err) ? pio_bind_fail(L, &err) : 1;
}

int pio_bind_sys_pipe_into(lua_State *L)
{
	return push_pipe(L, true);
}

int pio_bind_sys_pipe_from(lua_State *L)
{
	return push_pipe(L, false);
}
