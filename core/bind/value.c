#include <lauxlib.h>

#include "bind/bind.h"

#define GUARD "pioche.guard"

int pio_bind_fail(lua_State *L, const pio_err *err)
{
	lua_pushnil(L);
	lua_pushstring(L, err->message);
	lua_pushstring(L, pio_code_word(err->code));
	return 3;
}

/* ---- guards ------------------------------------------------------------------ */

struct guard {
	void *pointer;
	void (*free_fn)(void *);
};

static int guard_close(lua_State *L)
{
	struct guard *guard = luaL_checkudata(L, 1, GUARD);
	void *pointer = guard->pointer;
	guard->pointer = NULL;
	if (pointer)
		guard->free_fn(pointer);
	return 0;
}

void **pio_bind_guard(lua_State *L, void (*free_fn)(void *))
{
	struct guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
	guard->pointer = NULL;
	guard->free_fn = free_fn;
	if (luaL_newmetatable(L, GUARD)) {
		lua_pushcfunction(L, guard_close);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, guard_close);
		lua_setfield(L, -2, "__close");
	}
	lua_setmetatable(L, -2);
	return &guard->pointer;
}

void pio_bind_guard_json(void *value)
{
	json_decref(value);
}

void pio_bind_type(lua_State *L, const char *name, const struct luaL_Reg *methods,
                   lua_CFunction close, lua_CFunction tostring)
{
	luaL_newmetatable(L, name);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, close);
	lua_setfield(L, -2, "__gc");
	lua_pushcfunction(L, close);
	lua_setfield(L, -2, "__close");
	lua_pushcfunction(L, tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

/* ---- fields of an options table ----------------------------------------------------- */

const char *pio_bind_field_string(lua_State *L, int index, const char *name)
{
	int type = lua_getfield(L, index, name);
	if (type != LUA_TNIL && type != LUA_TSTRING)
		luaL_error(L, "field '%s' is a %s, expected a string", name, lua_typename(L, type));
	const char *text = lua_tostring(L, -1);
	lua_pop(L, 1);
	return text;
}

lua_Integer pio_bind_field_integer(lua_State *L, int index, const char *name,
                                   lua_Integer otherwise)
{
	int type = lua_getfield(L, index, name), exact = 0;
	lua_Integer value = otherwise;
	if (type != LUA_TNIL) {
		value = lua_tointegerx(L, -1, &exact);
		if (!exact)
			luaL_error(L, "field '%s' is a %s, expected an integer", name, lua_typename(L, type));
	}
	lua_pop(L, 1);
	return value;
}

bool pio_bind_field_boolean(lua_State *L, int index, const char *name)
{
	lua_getfield(L, index, name);
	bool value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

const char *const *pio_bind_strings(lua_State *L, int index, const char *name)
{
	index = lua_absindex(L, index);
	int type = name ? lua_getfield(L, index, name) : (lua_pushvalue(L, index), lua_type(L, index));
	if (type == LUA_TNIL)
		return NULL;
	if (type != LUA_TTABLE)
		luaL_error(L, "field '%s' is a %s, expected an array of strings", name ? name : "?",
		           lua_typename(L, type));
	lua_Unsigned count = lua_rawlen(L, -1);
	if (count > 1000000)
		luaL_error(L, "field '%s' has %I strings, at most 1000000", name ? name : "?",
		           (lua_Integer)count);
	/* The table stays referenced by the userdata: it owns the strings. */
	const char **strings = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *strings, 1);
	for (lua_Unsigned i = 0; i < count; i++) {
		if (lua_rawgeti(L, -2, (lua_Integer)i + 1) != LUA_TSTRING)
			luaL_error(L, "item %I of '%s' is a %s, expected a string", (lua_Integer)i + 1,
			           name ? name : "?", luaL_typename(L, -1));
		strings[i] = lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	strings[count] = NULL;
	lua_insert(L, -2);
	lua_setiuservalue(L, -2, 1);
	return strings;
}

/* ---- progress -------------------------------------------------------------------------- */

pio_bind_reporter pio_bind_reporter_get(lua_State *L, int index, const char *name)
{
	pio_bind_reporter reporter = { .L = L };
	if (lua_istable(L, index) && lua_getfield(L, index, name) == LUA_TFUNCTION)
		reporter.function = lua_gettop(L);
	return reporter;
}

void pio_bind_report(void *context, const char *finding, int64_t done, int64_t total)
{
	pio_bind_reporter *reporter = context;
	lua_State *L = reporter->L;
	if (!reporter->function || !lua_checkstack(L, 6))
		return;
	lua_pushvalue(L, reporter->function);
	lua_pushstring(L, finding);
	lua_pushinteger(L, done);
	lua_pushinteger(L, total);
	if (pio_bind_call(L, 3, 0))
		lua_pop(L, 1);
}

void pio_bind_heard(void *context, int64_t bytes)
{
	pio_bind_reporter *reporter = context;
	reporter->heard += bytes;
	pio_bind_report(reporter, NULL, reporter->heard, 0);
}
