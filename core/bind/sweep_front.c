/* Points with several goals from Lua: lists of rows of values, the lower the better. */
#include "bind/sweep.h"

#include <lauxlib.h>
#include <math.h>

#include "sweep/front.h"

typedef struct rows {
	size_t count;
	int goals;
	double values[];
} rows;

/* The rows of the list at `index`, in a userdata that is pushed. */
static const rows *check_rows(lua_State *L, int index)
{
	luaL_checktype(L, index, LUA_TTABLE);
	size_t count = lua_rawlen(L, index), goals = 1;
	if (count > 0) {
		lua_rawgeti(L, index, 1);
		luaL_checktype(L, -1, LUA_TTABLE);
		goals = lua_rawlen(L, -1);
		lua_pop(L, 1);
	}
	luaL_argcheck(L, goals >= 1 && goals <= PIO_FRONT_GOALS_MAX && count <= 10000000, index,
	              "expected rows of 1 to 16 values");
	rows *all = lua_newuserdatauv(L, sizeof *all + count * goals * sizeof *all->values, 0);
	all->count = count;
	all->goals = (int)goals;
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		luaL_checktype(L, -1, LUA_TTABLE);
		luaL_argcheck(L, lua_rawlen(L, -1) == goals, index, "rows of different lengths");
		for (size_t g = 0; g < goals; g++) {
			lua_rawgeti(L, -1, (lua_Integer)g + 1);
			double value = luaL_checknumber(L, -1);
			luaL_argcheck(L, isfinite(value), index, "a value that is not finite");
			all->values[i * goals + g] = value;
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	return all;
}

/* The numbers of the list at `index`, in a userdata that is pushed. */
static const double *check_numbers(lua_State *L, int index, size_t count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	luaL_argcheck(L, lua_rawlen(L, index) == count, index, "a list of another length");
	double *list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		list[i] = luaL_checknumber(L, -1);
		lua_pop(L, 1);
	}
	return list;
}

static void push_integers(lua_State *L, const uint32_t *list, size_t count)
{
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_pushinteger(L, (lua_Integer)list[i] + 1);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

/* ranks(rows[, violations]) -> of each row 1 for the front, 2 for the one behind it ... */
int pio_bind_front_ranks(lua_State *L)
{
	lua_settop(L, 2);
	const rows *all = check_rows(L, 1);
	const double *violations = lua_isnil(L, 2) ? NULL : check_numbers(L, 2, all->count);
	uint32_t *ranks = lua_newuserdatauv(L, (all->count + 1) * sizeof *ranks, 0);
	pio_err err = PIO_ERR_INIT;
	if (pio_front_ranks(ranks, all->values, violations, all->count, all->goals, &err))
		return pio_bind_fail(L, &err);
	push_integers(L, ranks, all->count);
	return 1;
}

/* crowding(rows) -> how far apart the neighbours of each are */
int pio_bind_front_crowding(lua_State *L)
{
	const rows *all = check_rows(L, 1);
	double *distances = lua_newuserdatauv(L, (all->count + 1) * sizeof *distances, 0);
	pio_err err = PIO_ERR_INIT;
	if (pio_front_crowding(distances, all->values, all->count, all->goals, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, (int)all->count, 0);
	for (size_t i = 0; i < all->count; i++) {
		lua_pushnumber(L, distances[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* hypervolume(rows, reference) -> a number */
int pio_bind_front_hypervolume(lua_State *L)
{
	const rows *all = check_rows(L, 1);
	double volume = 0;
	if (all->count == 0) {
		lua_pushnumber(L, volume);
		return 1;
	}
	const double *reference = check_numbers(L, 2, (size_t)all->goals);
	pio_err err = PIO_ERR_INIT;
	if (pio_front_hypervolume(&volume, all->values, all->count, all->goals, reference, &err))
		return pio_bind_fail(L, &err);
	lua_pushnumber(L, volume);
	return 1;
}

/* subset(rows, reference, count) -> numbers of rows, what adds most first */
int pio_bind_front_subset(lua_State *L)
{
	const rows *all = check_rows(L, 1);
	lua_Integer wanted = luaL_checkinteger(L, 3);
	luaL_argcheck(L, wanted >= 0 && (size_t)wanted <= all->count, 3, "more than there are");
	const double *reference = check_numbers(L, 2, (size_t)all->goals);
	uint32_t *chosen = lua_newuserdatauv(L, ((size_t)wanted + 1) * sizeof *chosen, 0);
	pio_err err = PIO_ERR_INIT;
	if (pio_front_subset(chosen, (size_t)wanted, all->values, all->count, all->goals, reference, &err))
		return pio_bind_fail(L, &err);
	push_integers(L, chosen, (size_t)wanted);
	return 1;
}
