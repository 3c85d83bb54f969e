/* Where a Gaussian process is searched, and what was found. */
#include "bind/sweep_gp.h"

#include <lauxlib.h>
#include <math.h>

#include "base/mem.h"
#include "sweep/draw.h"
#include "sweep/gp_search.h"
#include "sweep/real.h"

/* The region of a search: { around = slot, half = { one an axis }, care }, or nil; its numbers
 * are in a userdata that is pushed. */
static const pio_gp_region *check_region(lua_State *L, pio_bind_gp *box, int index)
{
	if (lua_isnoneornil(L, index))
		return NULL;
	luaL_checktype(L, index, LUA_TTABLE);
	size_t d = (size_t)box->axes_count;
	pio_gp_region *region = lua_newuserdatauv(L, sizeof *region + 2 * d * sizeof(double), 0);
	double *middle = (double *)(region + 1), *half = middle + d;
	lua_Integer slot = pio_bind_field_integer(L, index, "around", 0);
	luaL_argcheck(L, slot >= 1 && (size_t)slot <= box->count, index, "there is no such point");
	pio_gp_unit(middle, box->gp, box->points + (size_t)(slot - 1) * d);
	lua_getfield(L, index, "half");
	luaL_checktype(L, -1, LUA_TTABLE);
	for (size_t a = 0; a < d; a++) {
		lua_rawgeti(L, -1, (lua_Integer)a + 1);
		half[a] = luaL_checknumber(L, -1);
		lua_pop(L, 1);
	}
	lua_getfield(L, index, "care");
	*region = (pio_gp_region){ .middle = middle, .half = half, .care = luaL_optnumber(L, -1, 0) };
	lua_pop(L, 2);
	return region;
}

/* model:distance(slot, other): the largest over the numbers, in parts of their ranges; 1
 * where a choice differs */
int pio_bind_gp_distance(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	size_t d = (size_t)box->axes_count;
	double units[2][PIO_GP_AXES_MAX], distance = 0;
	for (int i = 0; i < 2; i++) {
		lua_Integer slot = luaL_checkinteger(L, i + 2);
		luaL_argcheck(L, slot >= 1 && (size_t)slot <= box->count, i + 2, "there is no such point");
		pio_gp_unit(units[i], box->gp, box->points + (size_t)(slot - 1) * d);
	}
	for (size_t a = 0; a < d; a++)
		distance = fmax(distance, fmin(fabs(units[0][a] - units[1][a]), 1));
	lua_pushnumber(L, distance);
	return 1;
}

static void reserve_found(lua_State *L, pio_bind_gp *box, size_t wanted)
{
	if (wanted <= box->found_capacity)
		return;
	double *grown = pio_realloc(box->found, wanted * sizeof *grown);
	if (!grown)
		luaL_error(L, "out of memory");
	box->found = grown;
	box->found_capacity = wanted;
}

/* model:probe(region) -> the deviation of the point on its border of which the least is known,
 * in parts of all there can be; the point is candidate 1 */
int pio_bind_gp_probe(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	const pio_gp_region *region = check_region(L, box, 2);
	luaL_argcheck(L, region, 2, "expected a region");
	reserve_found(L, box, (size_t)box->axes_count);
	lua_pushnumber(L, pio_gp_probe(box->found, box->gp, region));
	box->found_count = 1;
	return 1;
}

/* The limits of a search: { models = { one a constraint }, met = { of each known point } }, or nil;
 * they are in a userdata that is pushed. */
static const pio_gp_limits *check_limits(lua_State *L, pio_bind_gp *box, int index)
{
	if (lua_isnoneornil(L, index))
		return NULL;
	luaL_checktype(L, index, LUA_TTABLE);
	int models = lua_getfield(L, index, "models") == LUA_TTABLE ? lua_gettop(L) : 0;
	int met = lua_getfield(L, index, "met") == LUA_TTABLE ? lua_gettop(L) : 0;
	luaL_argcheck(L, models && met, index, "expected { models, met }");
	size_t count = lua_rawlen(L, models), known = pio_gp_count(box->gp);
	luaL_argcheck(L, lua_rawlen(L, met) == known, index, "expected of each known point whether it meets them");
	pio_gp_limits *limits = lua_newuserdatauv(L, sizeof *limits + (count + 1) * sizeof(pio_gp *) + known, 0);
	pio_gp **all = (pio_gp **)(limits + 1);
	bool *is_met = (bool *)(all + count + 1);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, models, (lua_Integer)i + 1);
		const pio_bind_gp *other = pio_bind_gp_check(L, -1);
		luaL_argcheck(L, other->axes_count == box->axes_count && other->gp != box->gp, index,
		              "expected models of the same axes");
		all[i] = other->gp;
		lua_pop(L, 1);
	}
	for (size_t i = 0; i < known; i++) {
		lua_rawgeti(L, met, (lua_Integer)i + 1);
		is_met[i] = lua_toboolean(L, -1);
		lua_pop(L, 1);
	}
	*limits = (pio_gp_limits){ .all = all, .count = (int)count, .is_met = is_met };
	return limits;
}

/* model:search(seed, number, { candidates, starts, calls }, region, limits) -> how many points were
 * found */
int pio_bind_gp_search(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	luaL_checktype(L, 4, LUA_TTABLE);
	pio_gp_effort effort = { .candidates = (int)pio_bind_field_integer(L, 4, "candidates", 500),
		                 .starts = (int)pio_bind_field_integer(L, 4, "starts", 4),
		                 .calls = (int)pio_bind_field_integer(L, 4, "calls", 40) };
	luaL_argcheck(L, effort.candidates >= 1 && effort.starts >= 1 && effort.starts <= 1000, 4, "effort");
	pio_draw draw = pio_draw_init(luaL_checkinteger(L, 2), luaL_checkinteger(L, 3), "gp", 2);
	reserve_found(L, box, (size_t)effort.starts * (size_t)box->axes_count);
	pio_err err = PIO_ERR_INIT;
	lua_settop(L, 6);
	const pio_gp_region *region = check_region(L, box, 5);
	const pio_gp_limits *limits = check_limits(L, box, 6);
	if (pio_gp_search(box->found, &box->found_count, box->gp, &effort, region, limits, &draw, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, (lua_Integer)box->found_count);
	return 1;
}

/* model:candidate(i) -> values; false for what is not there */
int pio_bind_gp_candidate(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	lua_Integer i = luaL_checkinteger(L, 2);
	luaL_argcheck(L, i >= 1 && (size_t)i <= box->found_count, 2, "there is no such candidate");
	const double *point = box->found + (i - 1) * box->axes_count;
	lua_createtable(L, box->axes_count, 0);
	for (int a = 0; a < box->axes_count; a++) {
		if (isnan(point[a]))
			lua_pushboolean(L, 0);
		else
			pio_bind_value_push(L, point[a], &box->axes[a].axis);
		lua_rawseti(L, -2, a + 1);
	}
	return 1;
}

/* model:gain(i, limits): how much a candidate is expected to be below the best, in values */
int pio_bind_gp_gain(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	lua_Integer i = luaL_checkinteger(L, 2);
	lua_settop(L, 3);
	luaL_argcheck(L, i >= 1 && (size_t)i <= box->found_count, 2, "there is no such candidate");
	double unit[PIO_GP_AXES_MAX], mean, deviation, best;
	pio_gp_unit(unit, box->gp, box->found + (i - 1) * box->axes_count);
	pio_gp_predict(&mean, &deviation, NULL, NULL, box->gp, unit);
	const pio_gp_limits *limits = check_limits(L, box, 3);
	pio_gp_best(&best, box->gp, limits ? limits->is_met : NULL);
	double gain = pio_gp_log_improvement(mean, deviation, best);
	gain += limits ? pio_gp_log_feasible(NULL, limits, unit) : 0;
	lua_pushnumber(L, pio_real_exp(gain) * pio_gp_scale(box->gp));
	return 1;
}
