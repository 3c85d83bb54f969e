#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define CAPTURE_BYTES_MAX ((size_t)64 << 20)

extern char **environ;

struct child {
	pid_t pid;
	int fds[3];          /* our ends of its stdin, stdout, stderr; -1 closed */
	int theirs[3];
	pio_str captured[2]; /* stdout, stderr */
	const char *input;
	size_t input_bytes;
	int64_t deadline_ns; /* 0: none */
	bool timed_out, cancelled, ended;
	int status;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The end of a child that an error left behind. */
static void child_free(void *pointer)
{
	struct child *child = pointer;
	for (int i = 0; i < 3; i++) {
		close_fd(&child->fds[i]);
		close_fd(&child->theirs[i]);
	}
	if (child->pid > 0 && !child->ended) {
		pio_proc_signal_tree(child->pid, SIGKILL);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	pio_str_fini(&child->captured[0]);
	pio_str_fini(&child->captured[1]);
	pio_free(child);
}

/* This process's environment and the table's, as a vector in a userdata. */
static const char *const *push_environment(lua_State *L, int index)
{
	size_t count = 0, extra = 0;
	while (environ[count])
		count++;
	int type = lua_getfield(L, index, "env");
	if (type == LUA_TTABLE)
		for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
			extra++;
	int env = lua_gettop(L);
	lua_newtable(L); /* keeps the new strings alive */
	int keep = lua_gettop(L);
	const char **vector = lua_newuserdatauv(L, (count + extra + 1) * sizeof *vector, 1);
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		const char *equals = strchr(environ[i], '=');
		if (type == LUA_TTABLE && equals) {
			lua_pushlstring(L, environ[i], (size_t)(equals - environ[i]));
			bool replaced = lua_rawget(L, env) != LUA_TNIL;
			lua_pop(L, 1);
			if (replaced)
				continue;
		}
		vector[n++] = environ[i];
	}
	if (type == LUA_TTABLE)
		for (lua_pushnil(L); lua_next(L, env); lua_pop(L, 1)) {
			if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
				luaL_error(L, "field 'env' must map names to strings");
			vector[n++] = lua_pushfstring(L, "%s=%s", lua_tostring(L, -2), lua_tostring(L, -1));
			lua_rawseti(L, keep, (lua_Integer)n);
		}
	vector[n] = NULL;
	lua_pushvalue(L, keep);
	lua_setiuservalue(L, -2, 1);
	lua_replace(L, env);
	lua_settop(L, env);
	return vector;
}

static int open_pipes(struct child *child, const char *log, pio_err *err)
{
	int ends[2];
	if (child->input) {
		if (pipe2(ends, O_CLOEXEC))
			return pio_fail_errno(err, errno, "pipe");
		child->theirs[0] = ends[0];
		child->fds[0] = ends[1];
		fcntl(ends[1], F_SETFL, O_NONBLOCK);
	}
	if (log) {
		int rc = pio_fs_open(&child->theirs[1], log, O_WRONLY | O_CREAT | O_APPEND, 0666, err);
		if (rc)
			return rc;
		child->theirs[2] = fcntl(child->theirs[1], F_DUPFD_CLOEXEC, 0);
		return child->theirs[2] < 0 ? pio_fail_errno(err, errno, "%s", log) : 0;
	}
	for (int i = 1; i < 3; i++) {
		if (pipe2(ends, O_CLOEXEC))
			return pio_fail_errno(err, errno, "pipe");
		child->theirs[i] = ends[1];
		child->fds[i] = ends[0];
	}
	return 0;
}

static void feed(struct child *child)
{
	ssize_t n = write(child->fds[0], child->input, child->input_bytes);
	if (n > 0) {
		child->input += n;
		child->input_bytes -= (size_t)n;
	}
	if (child->input_bytes == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&child->fds[0]);
}

static void drain(struct child *child, int i)
{
	char buffer[65536];
	ssize_t n = read(child->fds[i], buffer, sizeof buffer);
	if (n > 0 && child->captured[i - 1].len < CAPTURE_BYTES_MAX)
		pio_str_append(&child->captured[i - 1], buffer, (size_t)n);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&child->fds[i]);
}

/* The caller's `poll` function, when there is one: true ends the child. It may
 * raise: the child is in a guard. */
static bool wants_end(lua_State *L, int poll_index)
{
	if (!poll_index)
		return false;
	lua_pushvalue(L, poll_index);
	lua_call(L, 0, 1);
	bool end = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return end;
}

/* Until the child has ended: pump the pipes, keep the deadline. A grandchild
 * that holds a pipe open does not hold us: the pipes are drained once more
 * after the child's end and then closed. */
static int pump(lua_State *L, struct child *child, int poll_index, pio_err *err)
{
	while (!child->ended) {
		struct pollfd ready[3];
		for (int i = 0; i < 3; i++)
			ready[i] = (struct pollfd){ child->fds[i], i ? POLLIN : POLLOUT, 0 };
		bool open = child->fds[0] >= 0 || child->fds[1] >= 0 || child->fds[2] >= 0;
		if (poll(ready, 3, open ? 50 : 5) < 0 && errno != EINTR)
			return pio_fail_errno(err, errno, "poll");
		if (child->fds[0] >= 0 && ready[0].revents)
			feed(child);
		for (int i = 1; i < 3; i++)
			if (child->fds[i] >= 0 && ready[i].revents)
				drain(child, i);
		pid_t pid = waitpid(child->pid, &child->status, WNOHANG);
		if (pid < 0 && errno != EINTR)
			return pio_fail_errno(err, errno, "waitpid");
		child->ended = pid == child->pid;
		if (!child->ended && !child->cancelled && wants_end(L, poll_index)) {
			child->cancelled = true;
			pio_proc_signal_tree(child->pid, SIGKILL);
		}
		if (!child->ended && child->deadline_ns && pio_clock_mono_ns() > child->deadline_ns) {
			child->timed_out = true;
			child->deadline_ns = 0;
			pio_proc_signal_tree(child->pid, SIGKILL);
		}
	}
	for (int i = 1; i < 3; i++)
		for (struct pollfd more = { child->fds[i], POLLIN, 0 };
		     child->fds[i] >= 0 && poll(&more, 1, 0) > 0; more.fd = child->fds[i])
			drain(child, i);
	return 0;
}

static struct child *push_child(lua_State *L)
{
	void **guard = pio_bind_guard(L, child_free);
	struct child *child = pio_calloc(1, sizeof *child);
	if (!child)
		luaL_error(L, "out of memory");
	for (int i = 0; i < 3; i++)
		child->fds[i] = child->theirs[i] = -1;
	child->captured[0] = child->captured[1] = (pio_str)PIO_STR_INIT;
	*guard = child;
	return child;
}

static int push_result(lua_State *L, const struct child *child)
{
	lua_createtable(L, 0, 6);
	if (WIFSIGNALED(child->status)) {
		lua_pushinteger(L, WTERMSIG(child->status));
		lua_setfield(L, -2, "signal");
	} else {
		lua_pushinteger(L, WEXITSTATUS(child->status));
		lua_setfield(L, -2, "status");
	}
	lua_pushlstring(L, child->captured[0].data, child->captured[0].len);
	lua_setfield(L, -2, "stdout");
	lua_pushlstring(L, child->captured[1].data, child->captured[1].len);
	lua_setfield(L, -2, "stderr");
	lua_pushboolean(L, child->timed_out);
	lua_setfield(L, -2, "timed_out");
	lua_pushboolean(L, child->cancelled);
	lua_setfield(L, -2, "cancelled");
	return 1;
}

int pio_bind_sys_run(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	const char *log = pio_bind_field_string(L, 1, "log");
	const char *cwd = pio_bind_field_string(L, 1, "cwd");
	lua_Integer timeout_s = pio_bind_field_integer(L, 1, "timeout_s", 0);
	const char *const *argv = pio_bind_strings(L, 1, "argv");
	luaL_argcheck(L, argv && argv[0], 1, "field 'argv' must hold at least the program");
	const char *const *envp = push_environment(L, 1);
	struct child *child = push_child(L);
	lua_getfield(L, 1, "input");
	child->input = lua_tolstring(L, -1, &child->input_bytes);
	pio_err err = PIO_ERR_INIT;
	if (open_pipes(child, log, &err))
		return pio_bind_fail(L, &err);
	pio_proc_spec spec = { .argv = argv, .envp = envp, .cwd = cwd, .stdin_fd = child->theirs[0],
	                       .stdout_fd = child->theirs[1], .stderr_fd = child->theirs[2] };
	if (pio_proc_spawn(&child->pid, &spec, &err)) {
		child->pid = 0;
		return pio_bind_fail(L, &err);
	}
	for (int i = 0; i < 3; i++)
		close_fd(&child->theirs[i]);
	if (timeout_s > 0)
		child->deadline_ns = pio_clock_mono_ns() + timeout_s * 1000000000;
	int poll_index = lua_getfield(L, 1, "poll") == LUA_TFUNCTION ? lua_gettop(L) : 0;
	if (pump(L, child, poll_index, &err))
		return pio_bind_fail(L, &err);
	if (child->captured[0].failed || child->captured[1].failed)
		return luaL_error(L, "out of memory for the output of %s", argv[0]);
	return push_result(L, child);
}
