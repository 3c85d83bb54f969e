/* require "pioche.core.sys": a program that takes what is written to it, and whose
 * output is a file: sys.pipe_into{ argv, output } -> pipe. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define PIPE "pioche.pipe"

extern char **environ;

struct pipe {
	pid_t pid;           /* 0: none */
	int fd;              /* our end */
	int output;          /* locked as long as the program may write to it */
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
		pio_proc_signal_tree(pipe->pid, SIGKILL);
		wait_for(pipe);
	}
	pio_fs_close(&pipe->fd, "pipe", NULL);
	pio_fs_unlock(&pipe->output);
	return 0;
}

static int pipe_tostring(lua_State *L)
{
	lua_pushliteral(L, "pipe");
	return 1;
}

/* pipe:fd() -> the descriptor to write to; the pipe's */
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

static int open_ends(struct pipe *pipe, int *theirs, const char *output, pio_err *err)
{
	int ends[2];
	int rc = pio_fs_lock(&pipe->output, output, err);
	if (rc)
		return rc;
	if (ftruncate(pipe->output, 0))
		return pio_fail_errno(err, errno, "%s: cannot be emptied", output);
	if (pipe2(ends, O_CLOEXEC))
		return pio_fail_errno(err, errno, "pipe");
	*theirs = ends[0];
	pipe->fd = ends[1];
	return 0;
}

int pio_bind_sys_pipe_into(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "fd", pipe_fd }, { "finish", pipe_finish }, { "publish", pipe_publish },
		{ "close", pipe_close }, { NULL, NULL },
	};
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	const char *output = pio_bind_field_string(L, 1, "output");
	const char *const *argv = pio_bind_strings(L, 1, "argv");
	luaL_argcheck(L, output && argv && argv[0], 1, "fields 'argv' and 'output' are needed");
	pio_bind_type(L, PIPE, methods, pipe_close, pipe_tostring);
	struct pipe *pipe = lua_newuserdatauv(L, sizeof *pipe, 0);
	*pipe = (struct pipe){ 0, -1, -1 };
	luaL_setmetatable(L, PIPE);
	pio_err err = PIO_ERR_INIT;
	int theirs = -1, rc = open_ends(pipe, &theirs, output, &err);
	if (!rc) {
		pio_proc_spec spec = { argv, (const char *const *)environ, NULL, theirs, pipe->output, 2, false };
		rc = pio_proc_spawn(&pipe->pid, &spec, &err);
	}
	pio_fs_close(&theirs, "pipe", NULL);
	if (rc) {
		pipe->pid = 0;
		return pio_bind_fail(L, &err);
	}
	return 1;
}
