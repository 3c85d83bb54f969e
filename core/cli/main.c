/* main: `pioche agent` is C alone; every other verb is Lua. */
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "launch/agent.h"

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

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "agent") == 0)
		return pio_agent_main();
	/* A reader that went away (`pioche ls | head`) is an error of write(2)
	 * where it matters; sockets and the agent's pipes must not kill us. */
	signal(SIGPIPE, SIG_IGN);
	lua_State *L = pio_bind_state_new();
	if (!L)
		return 3;
	lua_pushcfunction(L, enter);
	lua_pushinteger(L, argc);
	lua_pushlightuserdata(L, argv);
	int status = 3;
	if (pio_bind_call(L, 2, 1) == LUA_OK) {
		status = (int)lua_tointeger(L, -1);
	} else {
		lua_getglobal(L, "tostring");
		lua_insert(L, -2);
		lua_call(L, 1, 1);
		fprintf(stderr, "pioche: %s\n", lua_tostring(L, -1));
	}
	lua_close(L);
	return status;
}
