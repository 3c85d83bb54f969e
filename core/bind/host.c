/* The Lua state of a command: its library, the modules inside the executable,
 * the way in and out. */
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
	                        lua_tostring(L, 2), "b");
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
int pio_bind_modules(lua_State *L)
{
	lua_newtable(L);
	for (lua_Integer i = 0; pio_lua_modules[i].name; i++) {
		lua_pushstring(L, pio_lua_modules[i].name);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* ---- opening ---------------------------------------------------------------------------- */

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
		{ "pioche.core.journal", pio_bind_open_journal },
		{ "pioche.core.sweep", pio_bind_open_sweep }, { "pioche.core.gpu", pio_bind_open_gpu },
		{ "pioche.core.histogram", pio_bind_open_histogram },
		{ "pioche.core.text", pio_bind_open_text },
		{ "pioche.core.exchange", pio_bind_open_exchange },
		{ NULL, NULL },
	};
	luaL_openlibs(L);
	pio_bind_plain_strings(L);
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
	/* Where coroutines of recipes find their budget (state.c): none yet. */
	*(void **)lua_getextraspace(L) = NULL;
	lua_pushcfunction(L, open_all);
	if (pio_bind_call(L, 0, 0)) {
		fprintf(stderr, "pioche: %s\n", lua_tostring(L, -1));
		lua_close(L);
		return NULL;
	}
	return L;
}

/* pioche.cli.main(argv) -> exit status. */
static int enter(lua_State *L)
{
	int argc = (int)lua_tointeger(L, 1);
	char **argv = lua_touserdata(L, 2);
	lua_getglobal(L, "require");
	lua_pushstring(L, "pioche.cli");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	lua_createtable(L, argc, 0);
	for (int i = 1; i < argc; i++) {
		lua_pushstring(L, argv[i]);
		lua_rawseti(L, -2, i);
	}
	lua_call(L, 1, 1);
	return 1;
}

int pio_bind_main(int argc, char **argv)
{
	lua_State *L = pio_bind_state_new();
	if (!L)
		return 3;
	int status = 3;
	lua_pushcfunction(L, enter);
	lua_pushinteger(L, argc);
	lua_pushlightuserdata(L, argv);
	if (pio_bind_call(L, 2, 1) == LUA_OK) {
		status = (int)lua_tointeger(L, -1);
	} else {
		const char *message = lua_tostring(L, -1);
		fprintf(stderr, "pioche: %s\n", message ? message : "an error that is no text");
	}
	lua_close(L);
	return status;
}
