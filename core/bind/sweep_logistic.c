/* Logistic regression from Lua: core.sweep.logistic. */
#include <lauxlib.h>

#include "bind/sweep.h"
#include "sweep/logistic.h"

static double item(lua_State *L, int index, lua_Integer at)
{
	lua_rawgeti(L, index, at);
	double value = luaL_checknumber(L, -1);
	lua_pop(L, 1);
	return value;
}

/* logistic(rows, ends, ridge) -> weights: rows are lists of numbers of one length, ends[i]
 * whether row i ended so. */
int pio_bind_logistic(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checktype(L, 2, LUA_TTABLE);
	double ridge = luaL_checknumber(L, 3);
	lua_Integer count = (lua_Integer)lua_rawlen(L, 1);
	luaL_argcheck(L, count > 0 && count <= 100000, 1, "expected 1 to 100000 rows");
	luaL_argcheck(L, ridge > 0, 3, "expected a number above 0");
	lua_rawgeti(L, 1, 1);
	int width = (int)lua_rawlen(L, -1);
	luaL_argcheck(L, width > 0 && width <= PIO_LOGISTIC_WIDTH_MAX, 1, "rows are too long, or empty");
	double *rows = lua_newuserdatauv(L, (size_t)(count + 1) * (size_t)width * sizeof *rows, 0);
	unsigned char *ends = lua_newuserdatauv(L, (size_t)count, 0);
	for (lua_Integer i = 0; i < count; i++) {
		lua_rawgeti(L, 1, i + 1);
		int row = lua_gettop(L);
		luaL_argcheck(L, (int)lua_rawlen(L, row) == width, 1, "rows are of several lengths");
		for (int a = 0; a < width; a++)
			rows[i * width + a] = item(L, row, a + 1);
		lua_rawgeti(L, 2, i + 1);
		ends[i] = (unsigned char)lua_toboolean(L, -1);
		lua_settop(L, row - 1);
	}
	double *weights = rows + count * width;
	pio_err err = PIO_ERR_INIT;
	if (pio_logistic_fit(weights, rows, ends, (int)count, width, ridge, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, width, 0);
	for (int a = 0; a < width; a++) {
		lua_pushnumber(L, weights[a]);
		lua_rawseti(L, -2, a + 1);
	}
	return 1;
}
