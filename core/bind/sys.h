/* sys.h: the parts of the sys module that have files of their own. */
#ifndef PIO_BIND_SYS_H
#define PIO_BIND_SYS_H

#include <lauxlib.h>
#include <lua.h>

/* run{argv={}, cwd=, env={NAME=value}, input=, timeout_s=, log=path, poll=function}
 * -> { status, signal, stdout, stderr, timed_out, cancelled }, or nil, message, code when
 * it cannot be started. Status is nil after a signal and the other way round.
 * env is added to this process's. With `log`, stdout and stderr go to that
 * file and are empty here; captured output is cut at 64 MiB. `poll` is called
 * every 50 ms or more often; when it returns true the child is killed. */
int pio_bind_sys_run(lua_State *L);

/* pipe_into{argv={}, output=path, asks=, typed=} -> pipe (sys_pipe.c): the program runs
 * until finish() or close(), and its output is written to the file, which is locked; of
 * pipe_from{...} it is read. */
int pio_bind_sys_pipe_into(lua_State *L);
int pio_bind_sys_pipe_from(lua_State *L);

/* regex(pattern, ignore_case) -> an object whose matches(text) tells whether the
 * extended regular expression is found; nil, message, code when it is none. */
int pio_bind_sys_regex(lua_State *L);

extern const luaL_Reg pio_bind_sys_file_functions[]; /* sys_file.c */
extern const luaL_Reg pio_bind_sys_place_functions[]; /* sys_place.c */
extern const luaL_Reg pio_bind_sys_process_functions[]; /* sys_process.c */
extern const luaL_Reg pio_bind_sys_tty_functions[]; /* sys_tty.c */

#endif
