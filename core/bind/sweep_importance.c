/* How much parameters matter, from Lua; points are values of their domains, as of models. */
#include "bind/sweep.h"

#include <lauxlib.h>
#include <math.h>

#include "sweep/forest.h"
#include "sweep/pedanova.h"

/* Coordinates of the list of values at `index`, in a userdata that is pushed. */
static double *check_coordinates(lua_State *L, int index, const pio_axis *axis, size_t *count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	*count = lua_rawlen(L, index);
	luaL_argcheck(L, *count > 0, index, "expected a value at least");
	double *list = lua_newuserdatauv(L, *count * sizeof *list, 0);
	for (size_t i = 0; i < *count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		double value = luaL_checknumber(L, -1) - (axis->kind == PIO_AXIS_CHOICE);
		lua_pop(L, 1);
		luaL_argcheck(L, value >= axis->first && value <= axis->last, index, "a value outside of its domain");
		list[i] = pio_axis_of_value(axis, value);
	}
	return list;
}

/* divergence({ axis }, good, all) -> a number; good, all: lists of values of the axis */
int pio_bind_divergence(lua_State *L)
{
	lua_settop(L, 3);
	const pio_bind_axes *axes = pio_bind_axes_get(L, 1);
	luaL_argcheck(L, axes->count == 1, 1, "expected one axis");
	size_t good_count, all_count;
	const double *good = check_coordinates(L, 2, &axes->all[0], &good_count);
	const double *all = check_coordinates(L, 3, &axes->all[0], &all_count);
	double divergence = 0;
	pio_err err = PIO_ERR_INIT;
	if (pio_ped_divergence(&divergence, &axes->all[0], good, good_count, all, all_count, &err))
		return pio_bind_fail(L, &err);
	lua_pushnumber(L, divergence);
	return 1;
}

/* forest(axes, rows, values, trees, seed) -> the importance of each axis */
int pio_bind_forest(lua_State *L)
{
	lua_settop(L, 5);
	const pio_bind_axes *axes = pio_bind_axes_get(L, 1);
	size_t d = (size_t)axes->count, count = lua_rawlen(L, 2);
	for (size_t a = 0; a < d; a++)
		luaL_argcheck(L, axes->all[a].kind != PIO_AXIS_CHOICE || axes->all[a].last < PIO_FOREST_CHOICES_MAX, 1,
		              "too many choices");
	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_argcheck(L, count > 0 && count <= 1000000 && lua_rawlen(L, 3) == count, 3,
	              "expected a value for each row");
	lua_Integer trees = luaL_checkinteger(L, 4);
	luaL_argcheck(L, trees >= 1 && trees <= 10000, 4, "expected 1 to 10000");
	double *points = lua_newuserdatauv(L, count * d * sizeof *points, 0);
	double *values = lua_newuserdatauv(L, count * sizeof *values, 0);
	double *importance = lua_newuserdatauv(L, d * sizeof *importance, 0);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, 2, (lua_Integer)i + 1);
		pio_bind_point_get(points + i * d, L, lua_gettop(L), axes->all, axes->count);
		lua_rawgeti(L, 3, (lua_Integer)i + 1);
		values[i] = luaL_checknumber(L, -1);
		luaL_argcheck(L, isfinite(values[i]), 3, "a value that is not finite");
		lua_pop(L, 2);
	}
	pio_draw draw = pio_draw_init(luaL_checkinteger(L, 5), 0, "forest", 6);
	pio_err err = PIO_ERR_INIT;
	if (pio_forest_importance(importance, axes->all, axes->count, points, values, count, (int)trees, &draw, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, axes->count, 0);
	for (size_t a = 0; a < d; a++) {
		lua_pushnumber(L, importance[a]);
		lua_rawseti(L, -2, (lua_Integer)a + 1);
	}
	return 1;
}
