/* require "pioche.core.sweep": draws and real functions that are the same on
 * every machine. */
#include <lauxlib.h>

#include "bind/sweep.h"
#include "sweep/draw.h"
#include "sweep/real.h"
#include "sweep/sobol.h"

/* The key of a draw in arguments 1 to 3: seed, number, name. */
static pio_draw check_draw(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 3, &len);
	return pio_draw_init(luaL_checkinteger(L, 1), luaL_checkinteger(L, 2), name, len);
}

static int sweep_uniform(lua_State *L)
{
	pio_draw draw = check_draw(L);
	lua_pushnumber(L, pio_draw_uniform(&draw));
	return 1;
}

/* integer(seed, number, name, lo, hi) */
static int sweep_integer(lua_State *L)
{
	pio_draw draw = check_draw(L);
	lua_Integer lo = luaL_checkinteger(L, 4), hi = luaL_checkinteger(L, 5);
	luaL_argcheck(L, lo <= hi, 5, "smaller than the low end");
	lua_pushinteger(L, pio_draw_integer(&draw, lo, hi));
	return 1;
}

static int sweep_exp(lua_State *L)
{
	lua_pushnumber(L, pio_real_exp(luaL_checknumber(L, 1)));
	return 1;
}

static int sweep_log(lua_State *L)
{
	lua_pushnumber(L, pio_real_log(luaL_checknumber(L, 1)));
	return 1;
}

/* shuffle(seed, n) -> a permutation of 1..n */
static int sweep_shuffle(lua_State *L)
{
	lua_Integer seed = luaL_checkinteger(L, 1), count = luaL_checkinteger(L, 2);
	luaL_argcheck(L, count >= 0 && count <= 10000000, 2, "expected 0 to 10000000");
	int64_t *values = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *values, 0);
	pio_draw draw = pio_draw_init(seed, 0, "shuffle", 7);
	pio_draw_shuffle(&draw, values, (size_t)count);
	lua_createtable(L, (int)count, 0);
	for (lua_Integer i = 0; i < count; i++) {
		lua_pushinteger(L, values[i] + 1);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* sobol(seed, index, dimension, name): coordinate of point 1, 2, ...; dimensions are
 * counted from 1, and one beyond the table is a random draw. */
static int sweep_sobol(lua_State *L)
{
	size_t name_bytes;
	lua_Integer index = luaL_checkinteger(L, 2), dimension = luaL_checkinteger(L, 3);
	const char *name = luaL_checklstring(L, 4, &name_bytes);
	luaL_argcheck(L, index >= 1 && index <= UINT32_MAX, 2, "out of range");
	luaL_argcheck(L, dimension >= 1, 3, "out of range");
	bool is_beyond = dimension > PIO_SOBOL_DIMENSIONS;
	pio_draw draw = pio_draw_init(luaL_checkinteger(L, 1), is_beyond ? index : 0, name, name_bytes);
	lua_pushnumber(L, is_beyond ? pio_draw_uniform(&draw)
	                            : pio_sobol((uint32_t)index - 1, (int)dimension - 1,
	                                        (uint32_t)(pio_draw_next(&draw) >> 32)));
	return 1;
}

int pio_bind_open_sweep(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "uniform", sweep_uniform }, { "integer", sweep_integer }, { "exp", sweep_exp },
		{ "log", sweep_log }, { "shuffle", sweep_shuffle }, { "tpe", pio_bind_tpe_new },
		{ "gp", pio_bind_gp_new }, { "cma", pio_bind_cma_new },
		{ "sobol", sweep_sobol }, { "logistic", pio_bind_logistic },
		{ "ranks", pio_bind_front_ranks }, { "crowding", pio_bind_front_crowding },
		{ "hypervolume", pio_bind_front_hypervolume }, { "subset", pio_bind_front_subset },
		{ "divergence", pio_bind_divergence }, { "forest", pio_bind_forest },
		{ NULL, NULL },
	};
	pio_bind_tpe_type(L);
	pio_bind_gp_type(L);
	pio_bind_cma_type(L);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, pio_bind_fit_functions, 0);
	return 1;
}
