/* The Lua state, and require "pioche.core.state": running recipe code in a
 * coroutine of its own, with a count of instructions. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

struct pio_lua_module {
	const char *name, *path, *start, *end;
};
extern const struct pio_lua_module pio_lua_modules[];

/* Longest string that one call of string.rep may make. */
#define REP_BYTES_MAX ((size_t)64 << 20)

/* ---- one protected call, with a traceback ------------------------------------- */

static int message_handler(lua_State *L)
{
	if (lua_type(L, 1) != LUA_TSTRING)
		return 1; /* an error of ours is a table; it explains itself */
	luaL_traceback(L, L, lua_tostring(L, 1), 1);
	return 1;
}

int pio_bind_call(lua_State *L, int arguments, int results)
{
	int base = lua_gettop(L) - arguments;
	lua_pushcfunction(L, message_handler);
	lua_insert(L, base);
	int status = lua_pcall(L, arguments, results, base);
	lua_remove(L, base);
	return status;
}

/* ---- modules that travel in the executable ------------------------------------- */

static int load_module(lua_State *L, const struct pio_lua_module *module)
{
	const char *folder = getenv("PIOCHE_LUA");
	lua_pushfstring(L, "@%s", module ? module->path : "");
	if (folder && *folder) {
		/* Under development: the file itself, by the name that errors show. */
		const char *name = lua_tostring(L, 1);
		luaL_gsub(L, name, ".", "/");
		for (int i = 0; i < 2; i++) {
			const char *path = lua_pushfstring(L, i ? "%s/%s/init.lua" : "%s/%s.lua", folder,
			                                   lua_tostring(L, 3));
			FILE *file = fopen(path, "rb");
			if (!file)
				continue;
			fclose(file);
			return luaL_loadfilex(L, path, "t");
		}
		lua_settop(L, 2);
	}
	if (!module) {
		lua_pushfstring(L, "no module '%s' inside pioche", lua_tostring(L, 1));
		return -1;
	}
	return luaL_loadbufferx(L, module->start, (size_t)(module->end - module->start),
	                        lua_tostring(L, 2), "t");
}

static int searcher(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct pio_lua_module *module = pio_lua_modules;
	lua_settop(L, 1);
	while (module->name && strcmp(module->name, name) != 0)
		module++;
	int status = load_module(L, module->name ? module : NULL);
	if (status == -1)
		return 1;
	if (status != LUA_OK)
		return luaL_error(L, "%s", lua_tostring(L, -1));
	lua_pushstring(L, name);
	return 2;
}

/* state.modules() -> sorted names of the modules in the executable. */
static int state_modules(lua_State *L)
{
	lua_newtable(L);
	for (lua_Integer i = 0; pio_lua_modules[i].name; i++) {
		lua_pushstring(L, pio_lua_modules[i].name);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* ---- nothing shows an address ----------------------------------------------------- */

/* tostring without the address that stock Lua puts behind a type's name: it is
 * another one in each process, and would make a plan differ from itself. */
static int plain_tostring(lua_State *L)
{
	luaL_checkany(L, 1);
	if (luaL_callmeta(L, 1, "__tostring")) {
		if (!lua_isstring(L, -1))
			return luaL_error(L, "'__tostring' must return a string");
		return 1;
	}
	switch (lua_type(L, 1)) {
	case LUA_TTABLE:
	case LUA_TFUNCTION:
	case LUA_TUSERDATA:
	case LUA_TLIGHTUSERDATA:
	case LUA_TTHREAD:
		lua_pushstring(L, luaL_typename(L, 1));
		return 1;
	default:
		luaL_tolstring(L, 1, NULL);
		return 1;
	}
}

/* string.format: no %p, and %s by the tostring above. Upvalue 1: the stock one. */
static int safe_format(lua_State *L)
{
	const char *format = luaL_checkstring(L, 1);
	int top = lua_gettop(L), argument = 1;
	for (const char *p = format; *p; p++) {
		if (*p != '%')
			continue;
		if (*++p == '%')
			continue;
		while (*p && strchr("-+ #0123456789.", *p))
			p++;
		argument++;
		if (*p == 'p')
			return luaL_error(L, "string.format: '%%p' would show an address, which differs in each process");
		if (*p == 's' && argument <= top && !lua_isstring(L, argument)) {
			lua_pushcfunction(L, plain_tostring);
			lua_pushvalue(L, argument);
			lua_call(L, 1, 1);
			lua_replace(L, argument);
		}
		if (!*p)
			break;
	}
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, top, 1);
	return 1;
}

/* string.rep that refuses results which would eat the machine. */
static int safe_rep(lua_State *L)
{
	size_t len, separator_len = 0;
	luaL_checklstring(L, 1, &len);
	lua_Integer count = luaL_checkinteger(L, 2);
	luaL_optlstring(L, 3, "", &separator_len);
	if (count > 0 && len + separator_len > 0 &&
	    (size_t)count > REP_BYTES_MAX / (len + separator_len))
		return luaL_error(L, "string.rep: the result would be longer than 64 MiB");
	int top = lua_gettop(L);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, top, 1);
	return 1;
}

static void replace_string_functions(lua_State *L)
{
	lua_getglobal(L, "string");
	lua_getfield(L, -1, "format");
	lua_pushcclosure(L, safe_format, 1);
	lua_setfield(L, -2, "format");
	lua_getfield(L, -1, "rep");
	lua_pushcclosure(L, safe_rep, 1);
	lua_setfield(L, -2, "rep");
	lua_pushnil(L);
	lua_setfield(L, -2, "dump");
	lua_pop(L, 1);
	lua_pushcfunction(L, plain_tostring);
	lua_setglobal(L, "tostring");
}

/* ---- recipe code: a coroutine with a budget ------------------------------------------- */

struct budget {
	lua_Integer left;
	bool exhausted;
};

#define HOOK_INSTRUCTIONS 1000

/* The budget of the coroutine that runs; lives on the C stack of state_resume. */
static struct budget **budget_of(lua_State *L)
{
	return lua_getextraspace(L);
}

/* Position of the innermost function that is not pioche's own, as "file:line: ". */
static void push_recipe_position(lua_State *L)
{
	lua_Debug at;
	for (int level = 0; lua_getstack(L, level, &at); level++) {
		lua_getinfo(L, "Sl", &at);
		if (at.currentline > 0 && strncmp(at.source, "@lua/pioche/", 12) != 0) {
			lua_pushfstring(L, "%s:%d: ", at.short_src, at.currentline);
			return;
		}
	}
	lua_pushliteral(L, "");
}

static void count_hook(lua_State *L, lua_Debug *event)
{
	(void)event;
	struct budget *budget = *budget_of(L);
	if (!budget)
		return;
	budget->left -= budget->exhausted ? 1 : HOOK_INSTRUCTIONS;
	if (budget->left > 0)
		return;
	/* From now on every instruction raises, so that a pcall in the recipe
	 * cannot swallow it. */
	budget->exhausted = true;
	lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
	push_recipe_position(L);
	lua_pushliteral(L, "still planning after its budget of instructions: an endless loop?");
	lua_concat(L, 2);
	lua_error(L);
}

/* state.resume(thread, budget, ...) -> left, "yield"|"return"|"error"|"budget", values...
 * An error's value is followed by a traceback of the thread. */
static int state_resume(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTHREAD);
	lua_State *thread = lua_tothread(L, 1);
	struct budget budget = { luaL_checkinteger(L, 2), false };
	int arguments = lua_gettop(L) - 2, results = 0;
	luaL_argcheck(L, thread != L && lua_checkstack(thread, arguments + 1), 1, "cannot be resumed");
	lua_xmove(L, thread, arguments);
	*budget_of(thread) = &budget;
	lua_sethook(thread, count_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
	int status = lua_resume(thread, L, arguments, &results);
	lua_sethook(thread, NULL, 0, 0);
	*budget_of(thread) = NULL;
	lua_settop(L, 0);
	lua_pushinteger(L, budget.left > 0 ? budget.left : 0);
	if (status == LUA_OK || status == LUA_YIELD) {
		lua_pushstring(L, status == LUA_OK ? "return" : "yield");
		luaL_checkstack(L, results, "too many results");
		lua_xmove(thread, L, results);
		return 2 + results;
	}
	lua_pushstring(L, budget.exhausted ? "budget" : "error");
	lua_xmove(thread, L, 1);
	luaL_traceback(L, thread, NULL, 0);
	return 4;
}

/* state.position([thread]) -> "file:line: " of the running recipe code, or "". */
static int state_position(lua_State *L)
{
	push_recipe_position(L);
	return 1;
}

/* ---- opening ---------------------------------------------------------------------------- */

int pio_bind_open_state(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "resume", state_resume },
		{ "position", state_position },
		{ "modules", state_modules },
		{ NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}

static int open_all(lua_State *L)
{
	static const luaL_Reg rooms[] = {
		{ "pioche.core.state", pio_bind_open_state },
		{ "pioche.core.sys", pio_bind_open_sys },
		{ "pioche.core.json", pio_bind_open_json },
		{ "pioche.core.store", pio_bind_open_store },
		{ "pioche.core.git", pio_bind_open_git },
		{ "pioche.core.pack", pio_bind_open_pack },
		{ "pioche.core.launch", pio_bind_open_launch },
		{ "pioche.core.sweep", pio_bind_open_sweep },
		{ NULL, NULL },
	};
	luaL_openlibs(L);
	replace_string_functions(L);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
	luaL_setfuncs(L, rooms, 0);
	/* Only what is preloaded and what is inside the executable can be required:
	 * a stray module in the working directory must not change what runs. */
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "searchers");
	lua_pushcfunction(L, searcher);
	lua_rawseti(L, -2, 2);
	for (int i = 4; i > 2; i--) {
		lua_pushnil(L);
		lua_rawseti(L, -2, i);
	}
	return 0;
}

lua_State *pio_bind_state_new(void)
{
	lua_State *L = luaL_newstate();
	if (!L)
		return NULL;
	*budget_of(L) = NULL;
	lua_pushcfunction(L, open_all);
	if (pio_bind_call(L, 0, 0)) {
		fprintf(stderr, "pioche: %s\n", lua_tostring(L, -1));
		lua_close(L);
		return NULL;
	}
	return L;
}
