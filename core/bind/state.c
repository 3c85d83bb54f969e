/* require "pioche.core.state": running recipe code in a coroutine of its own,
 * with a count of instructions; and strings that show no address. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"

/* Longest string that one call of string.rep may make. */
#define REP_BYTES_MAX ((size_t)64 << 20)

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

static void count_hook(lua_State *L, lua_Debug *event);

/* Take from the budget; raises when it is used up. From then on every
 * instruction raises, so that a pcall in the recipe cannot swallow it. */
static void spend(lua_State *L, struct budget *budget, lua_Integer instructions)
{
	budget->left -= instructions;
	if (budget->left > 0)
		return;
	budget->exhausted = true;
	lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
	push_recipe_position(L);
	lua_pushliteral(L, "still planning after its budget of instructions: an endless loop?");
	lua_concat(L, 2);
	lua_error(L);
}

static void count_hook(lua_State *L, lua_Debug *event)
{
	(void)event;
	struct budget *budget = *budget_of(L);
	if (!budget)
		return;
	spend(L, budget, budget->exhausted ? 1 : HOOK_INSTRUCTIONS);
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
			return luaL_error(L, "string.format: '%%p' would show an address, which differs in "
			                  "each process");
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
	/* What C does at one call counts as the instructions that it stands for. */
	struct budget *budget = *budget_of(L);
	if (budget && count > 0)
		spend(L, budget, count * (lua_Integer)(len + separator_len) / 16);
	int top = lua_gettop(L);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, top, 1);
	return 1;
}

void pio_bind_plain_strings(lua_State *L)
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
		{ "modules", pio_bind_modules },
		{ NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
