/* The models of samplers from Lua: points go in and come out as values of their
 * domains; a choice is a number from 1 on. */
#include "bind/sweep.h"

#include <lauxlib.h>
#include <math.h>

#include "base/mem.h"
#include "sweep/tpe.h"

#define TPE "pioche.tpe"

/* ---- axes -------------------------------------------------------------------------- */

pio_bind_axes *pio_bind_axes_get(lua_State *L, int index)
{
	static const char *const kinds[] = { "real", "whole", "choice", NULL };
	luaL_checktype(L, index, LUA_TTABLE);
	size_t count = lua_rawlen(L, index);
	luaL_argcheck(L, count >= 1 && count <= 10000, index, "expected 1 to 10000 axes");
	pio_bind_axes *axes = lua_newuserdatauv(L, sizeof *axes + count * sizeof *axes->all, 0);
	axes->count = (int)count;
	for (int a = 0; a < axes->count; a++) {
		lua_rawgeti(L, index, a + 1);
		int axis = lua_gettop(L);
		luaL_checktype(L, axis, LUA_TTABLE);
		lua_getfield(L, axis, "kind");
		enum pio_axis_kind kind = (enum pio_axis_kind)luaL_checkoption(L, -1, NULL, kinds);
		lua_getfield(L, axis, "low");
		lua_getfield(L, axis, "high");
		lua_Number low = luaL_checknumber(L, -2), high = luaL_checknumber(L, -1);
		luaL_argcheck(L, low < high, index, "an axis ends where it begins");
		double shift = kind == PIO_AXIS_CHOICE ? 1 : 0;
		axes->all[a] = pio_axis_init(kind, pio_bind_field_boolean(L, axis, "log"), low - shift,
		                             high - shift);
		lua_settop(L, axis - 1);
	}
	return axes;
}

static double coordinate_get(lua_State *L, int index, const pio_axis *axis)
{
	double value = luaL_checknumber(L, -1);
	value = axis->kind == PIO_AXIS_CHOICE ? value - 1 : value;
	luaL_argcheck(L, value >= axis->first && value <= axis->last, index, "a value outside of its domain");
	return pio_axis_of_value(axis, value);
}

void pio_bind_point_get(double *point, lua_State *L, int index, const pio_axis *axes, int count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	for (int a = 0; a < count; a++) {
		lua_rawgeti(L, index, a + 1);
		point[a] = coordinate_get(L, index, &axes[a]);
		lua_pop(L, 1);
	}
}

void pio_bind_partial_get(double *point, lua_State *L, int index, const pio_axis *axes, int count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	for (int a = 0; a < count; a++) {
		lua_rawgeti(L, index, a + 1);
		point[a] = lua_toboolean(L, -1) ? coordinate_get(L, index, &axes[a]) : NAN;
		lua_pop(L, 1);
	}
}

void pio_bind_point_push(lua_State *L, const double *point, const pio_axis *axes, int count)
{
	lua_createtable(L, count, 0);
	for (int a = 0; a < count; a++) {
		pio_bind_value_push(L, point[a], &axes[a]);
		lua_rawseti(L, -2, a + 1);
	}
}

void pio_bind_value_push(lua_State *L, double coordinate, const pio_axis *axis)
{
	double value = pio_axis_value(axis, coordinate);
	if (axis->kind == PIO_AXIS_REAL)
		lua_pushnumber(L, value);
	else
		lua_pushinteger(L, (lua_Integer)value + (axis->kind == PIO_AXIS_CHOICE));
}

/* ---- tpe ----------------------------------------------------------------------------- */

struct box {
	pio_tpe *tpe;
	int candidates;
	const double *points;      /* of the newest proposal; borrowed */
	double *scratch;           /* one point */
	int count;
	pio_axis axes[];
};

static struct box *check(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, TPE);
	luaL_argcheck(L, box->tpe, 1, "the model is closed");
	return box;
}

static int tpe_close(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, TPE);
	pio_tpe_free(box->tpe);
	pio_free(box->scratch);
	box->tpe = NULL;
	box->scratch = NULL;
	return 0;
}

static int tpe_tostring(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, TPE);
	lua_pushfstring(L, "a model of %d parameters", box->count);
	return 1;
}

/* tpe(axes, { candidates, gamma, below_max }) -> model
 * axes: a list of { kind = "real", "whole" or "choice", low, high, log }; of a choice
 * low is 1 and high how many there are. */
int pio_bind_tpe_new(lua_State *L)
{
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	pio_bind_axes *axes = pio_bind_axes_get(L, 1);
	lua_getfield(L, 2, "gamma");
	pio_tpe_options options = { .candidates = (int)pio_bind_field_integer(L, 2, "candidates", 24),
	                            .below_max = (int)pio_bind_field_integer(L, 2, "below_max", 25),
	                            .gamma = luaL_optnumber(L, -1, 0.1) };
	luaL_argcheck(L, options.candidates >= 1 && options.candidates <= 100000, 2, "candidates");
	luaL_argcheck(L, options.below_max >= 1 && options.gamma > 0 && options.gamma <= 1, 2, "gamma");
	size_t n = (size_t)axes->count;
	struct box *box = lua_newuserdatauv(L, sizeof *box + n * sizeof *box->axes, 0);
	*box = (struct box){ .count = axes->count, .candidates = options.candidates };
	for (size_t a = 0; a < n; a++)
		box->axes[a] = axes->all[a];
	luaL_setmetatable(L, TPE);
	pio_err err = PIO_ERR_INIT;
	box->scratch = pio_alloc(n * sizeof *box->scratch);
	if (!box->scratch || pio_tpe_new(&box->tpe, box->axes, box->count, &options, &err))
		return box->scratch ? pio_bind_fail(L, &err) : luaL_error(L, "out of memory");
	return 1;
}

/* model:add(values) -> slot */
static int tpe_add(lua_State *L)
{
	struct box *box = check(L);
	size_t slot = 0;
	pio_bind_point_get(box->scratch, L, 2, box->axes, box->count);
	pio_err err = PIO_ERR_INIT;
	if (pio_tpe_add(&slot, box->tpe, box->scratch, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, (lua_Integer)slot);
	return 1;
}

/* model:set(slot, value); nil: it failed */
static int tpe_set(lua_State *L)
{
	struct box *box = check(L);
	lua_Integer slot = luaL_checkinteger(L, 2);
	pio_err err = PIO_ERR_INIT;
	if (pio_tpe_set(box->tpe, (size_t)slot, luaL_optnumber(L, 3, NAN), &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

/* model:drop(slot): it counts no more */
static int tpe_drop(lua_State *L)
{
	struct box *box = check(L);
	pio_err err = PIO_ERR_INIT;
	if (pio_tpe_drop(box->tpe, (size_t)luaL_checkinteger(L, 2), &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

static int tpe_finished(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)pio_tpe_finished(check(L)->tpe));
	return 1;
}

/* model:propose(seed, number, key) -> how many candidates there are */
static int tpe_propose(lua_State *L)
{
	struct box *box = check(L);
	size_t key_bytes;
	const char *key = luaL_checklstring(L, 4, &key_bytes);
	pio_draw draw = pio_draw_init(luaL_checkinteger(L, 2), luaL_checkinteger(L, 3), key, key_bytes);
	pio_err err = PIO_ERR_INIT;
	if (pio_tpe_propose(&box->points, box->tpe, &draw, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, box->candidates);
	return 1;
}

/* model:candidate(i) -> values; 1 is the best */
static int tpe_candidate(lua_State *L)
{
	struct box *box = check(L);
	lua_Integer i = luaL_checkinteger(L, 2);
	luaL_argcheck(L, box->points && i >= 1 && i <= box->candidates, 2, "there is no such candidate");
	pio_bind_point_push(L, box->points + (i - 1) * box->count, box->axes, box->count);
	return 1;
}

void pio_bind_tpe_type(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "add", tpe_add }, { "set", tpe_set }, { "drop", tpe_drop }, { "finished", tpe_finished },
		{ "propose", tpe_propose }, { "candidate", tpe_candidate }, { NULL, NULL },
	};
	pio_bind_type(L, TPE, methods, tpe_close, tpe_tostring);
}
