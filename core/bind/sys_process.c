/* require "pioche.core.sys": processes that are to outlive this one, and signals. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/fs.h"
#include "sys/interrupt.h"
#include "sys/proc.h"

/* spawn { argv = {}, cwd =, log = path } -> pid: a session of its own, which no end
 * of this process and of its terminal reaches; standard input is empty, what it says
 * is appended to the log. */
static int sys_spawn(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	const char *log = pio_bind_field_string(L, 1, "log");
	const char *cwd = pio_bind_field_string(L, 1, "cwd");
	const char *const *argv = pio_bind_strings(L, 1, "argv");
	luaL_argcheck(L, argv && argv[0], 1, "field 'argv' must hold at least the program");
	luaL_argcheck(L, log != NULL, 1, "field 'log' is missing");
	pio_err err = PIO_ERR_INIT;
	int fd = -1;
	pid_t pid = 0;
	if (pio_fs_open(&fd, log, O_WRONLY | O_CREAT | O_APPEND, 0666, &err))
		return pio_bind_fail(L, &err);
	pio_proc_spec spec = { .argv = argv, .envp = (const char *const *)environ, .cwd = cwd, .stdin_fd = -1,
		               .stdout_fd = fd, .stderr_fd = fd, .outlive_parent = true };
	int rc = pio_proc_spawn(&pid, &spec, &err);
	(void)pio_fs_close(&fd, log, NULL);
	if (rc)
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, pid);
	return 1;
}

/* ended(pid) -> false while the child runs, else its exit status, or nil and the
 * signal that ended it. */
static int sys_ended(lua_State *L)
{
	int status = 0;
	pid_t pid;
	do {
		pid = waitpid((pid_t)luaL_checkinteger(L, 1), &status, WNOHANG);
	} while (pid < 0 && errno == EINTR);
	luaL_argcheck(L, pid >= 0, 1, "no child of this process");
	if (pid == 0) {
		lua_pushboolean(L, 0);
		return 1;
	}
	if (WIFEXITED(status)) {
		lua_pushinteger(L, WEXITSTATUS(status));
		return 1;
	}
	lua_pushnil(L);
	lua_pushinteger(L, WTERMSIG(status));
	return 2;
}

/* kill(pid, "SIGTERM") -> true; "none" only looks whether it may be signalled */
static int sys_kill(lua_State *L)
{
	static const char *const names[] = { "none", "SIGTERM", "SIGKILL", "SIGSTOP", "SIGCONT", "SIGINT",
	                                     "SIGUSR1", "SIGUSR2", NULL };
	static const int numbers[] = { 0, SIGTERM, SIGKILL, SIGSTOP, SIGCONT, SIGINT, SIGUSR1, SIGUSR2 };
	lua_Integer pid = luaL_checkinteger(L, 1);
	int which = luaL_checkoption(L, 2, NULL, names);
	pio_err err = PIO_ERR_INIT;
	luaL_argcheck(L, pid > 1 && pid <= INT_MAX, 1, "not the number of a process");
	if (kill((pid_t)pid, numbers[which]) == 0) {
		lua_pushboolean(L, 1);
		return 1;
	}
	pio_fail_errno(&err, errno, "process %lld", (long long)pid);
	return pio_bind_fail(L, &err);
}

/* drop_connections(pid) -> how many TCP connections of the process were shut down */
static int sys_drop_connections(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int count = 0;
	if (pio_proc_drop_connections(&count, (pid_t)luaL_checkinteger(L, 1), &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, count);
	return 1;
}

/* interrupt_begin(), interrupt_end(), interrupted() -> boolean: of sys/interrupt.h */
static int sys_interrupt_begin(lua_State *L)
{
	(void)L;
	pio_interrupt_begin();
	return 0;
}

static int sys_interrupt_end(lua_State *L)
{
	(void)L;
	pio_interrupt_end();
	return 0;
}

static int sys_interrupted(lua_State *L)
{
	lua_pushboolean(L, pio_interrupt_came());
	return 1;
}

const luaL_Reg pio_bind_sys_process_functions[] = {
	{ "spawn", sys_spawn }, { "ended", sys_ended }, { "kill", sys_kill },
	{ "drop_connections", sys_drop_connections }, { "interrupt_begin", sys_interrupt_begin },
	{ "interrupt_end", sys_interrupt_end }, { "interrupted", sys_interrupted }, { NULL, NULL },
};
