/* A Lua test in the state that pioche itself uses: `lua_host FILE`. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>

#include "bind/bind.h"

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: lua_host FILE\n");
		return 2;
	}
	lua_State *L = pio_bind_state_new();
	if (!L)
		return 3;
	lua_createtable(L, 1, 1);
	lua_pushstring(L, argv[1]);
	lua_rawseti(L, -2, 0);
	lua_setglobal(L, "arg");
	int status = luaL_loadfile(L, argv[1]);
	if (!status)
		status = pio_bind_call(L, 0, 0);
	if (status)
		fprintf(stderr, "%s: %s\n", argv[1], luaL_tolstring(L, -1, NULL));
	lua_close(L);
	return status ? 1 : 0;
}
