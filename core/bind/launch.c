/* require "pioche.core.launch": the supervisor. */
#include <lauxlib.h>

#include "bind/bind.h"
#include "launch/supervise.h"

#define SUPERVISOR "pioche.supervisor"

struct box {
	pio_supervisor *supervisor; /* NULL: closed */
};

static pio_supervisor *check(lua_State *L, int index)
{
	struct box *box = luaL_checkudata(L, index, SUPERVISOR);
	luaL_argcheck(L, box->supervisor, index, "the supervisor is closed");
	return box->supervisor;
}

static int supervisor_close(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, SUPERVISOR);
	pio_supervisor *supervisor = box->supervisor;
	box->supervisor = NULL;
	if (supervisor)
		pio_supervisor_free(supervisor);
	return 0;
}

static int supervisor_tostring(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, SUPERVISOR);
	lua_pushfstring(L, "supervisor of %d attempts",
	                box->supervisor ? pio_supervisor_active(box->supervisor) : 0);
	return 1;
}

static int done(lua_State *L, int rc, const pio_err *err)
{
	if (rc)
		return pio_bind_fail(L, err);
	lua_pushboolean(L, 1);
	return 1;
}

/* supervisor(store, { executable=, lib_dir= }); the store stays open as long as
 * the supervisor is. */
static int launch_supervisor(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	const char *executable = pio_bind_field_string(L, 2, "executable");
	const char *lib_dir = pio_bind_field_string(L, 2, "lib_dir");
	pio_err err = PIO_ERR_INIT;
	struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
	box->supervisor = NULL;
	luaL_setmetatable(L, SUPERVISOR);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	if (pio_supervisor_new(&box->supervisor, store, executable, lib_dir, &err))
		return pio_bind_fail(L, &err);
	return 1;
}

static int supervisor_recover(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_supervisor_recover(check(L, 1), &err), &err);
}

/* start(run_id, spec) -> attempt id */
static int supervisor_start(lua_State *L)
{
	pio_supervisor *supervisor = check(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	luaL_checktype(L, 3, LUA_TTABLE);
	pio_err err = PIO_ERR_INIT;
	int64_t attempt = 0;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *spec;
	if (pio_bind_to_json(&spec, L, 3, &err))
		return pio_bind_fail(L, &err);
	*guard = spec;
	if (pio_supervisor_start(supervisor, run, spec, &attempt, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, attempt);
	return 1;
}

/* wait(ms) -> events */
static int supervisor_wait(lua_State *L)
{
	pio_supervisor *supervisor = check(L, 1);
	lua_Integer ms = luaL_checkinteger(L, 2);
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *events = NULL;
	if (pio_supervisor_wait(supervisor, (int)ms, &events, &err))
		return pio_bind_fail(L, &err);
	*guard = events;
	pio_bind_push_json(L, events);
	return 1;
}

/* stop(run_id or 0, now) */
static int supervisor_stop(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_supervisor_stop(check(L, 1), luaL_checkinteger(L, 2), lua_toboolean(L, 3), &err);
	return done(L, rc, &err);
}

static int supervisor_active(lua_State *L)
{
	lua_pushinteger(L, pio_supervisor_active(check(L, 1)));
	return 1;
}

int pio_bind_open_launch(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "recover", supervisor_recover }, { "start", supervisor_start },
		{ "wait", supervisor_wait }, { "stop", supervisor_stop },
		{ "active", supervisor_active }, { "close", supervisor_close }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = { { "supervisor", launch_supervisor }, { NULL, NULL } };
	pio_bind_type(L, SUPERVISOR, methods, supervisor_close, supervisor_tostring);
	luaL_newlib(L, functions);
	return 1;
}
