/* The Gaussian process from Lua: points are added once, and named by their slots. */
#include "bind/sweep_gp.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/real.h"

#define GP "pioche.gp"

pio_bind_gp *pio_bind_gp_check(lua_State *L, int index)
{
	pio_bind_gp *box = luaL_checkudata(L, index, GP);
	luaL_argcheck(L, box->gp, index, "the model is closed");
	return box;
}

pio_bind_gp *pio_bind_gp_get(lua_State *L)
{
	return pio_bind_gp_check(L, 1);
}

static int gp_close(lua_State *L)
{
	pio_bind_gp *box = luaL_checkudata(L, 1, GP);
	pio_gp_free(box->gp);
	pio_free(box->points);
	pio_free(box->found);
	box->gp = NULL;
	box->points = box->found = NULL;
	return 0;
}

static int gp_tostring(lua_State *L)
{
	pio_bind_gp *box = luaL_checkudata(L, 1, GP);
	lua_pushfstring(L, "a Gaussian process of %d parameters", box->axes_count);
	return 1;
}

/* gp(axes) -> model; an axis as of tpe, and of one that is not always there `parent`, which
 * axis of choices before it decides, and `when`, by which choice. */
int pio_bind_gp_new(lua_State *L)
{
	lua_settop(L, 1);
	pio_bind_axes *axes = pio_bind_axes_get(L, 1);
	luaL_argcheck(L, axes->count <= PIO_GP_AXES_MAX, 1, "too many axes");
	size_t n = (size_t)axes->count;
	pio_bind_gp *box = lua_newuserdatauv(L, sizeof *box + n * sizeof *box->axes, 0);
	*box = (pio_bind_gp){ .axes_count = axes->count };
	for (int a = 0; a < axes->count; a++) {
		lua_rawgeti(L, 1, a + 1);
		lua_Integer parent = pio_bind_field_integer(L, -1, "parent", 0);
		lua_Integer when = pio_bind_field_integer(L, -1, "when", 1);
		luaL_argcheck(L, parent >= 0 && parent <= a, 1, "a parent comes before what depends on it");
		box->axes[a] = (pio_gp_axis){ axes->all[a], (int)parent - 1, (int)when - 1 };
		lua_pop(L, 1);
	}
	luaL_setmetatable(L, GP);
	pio_err err = PIO_ERR_INIT;
	if (pio_gp_new(&box->gp, box->axes, box->axes_count, &err))
		return pio_bind_fail(L, &err);
	return 1;
}

/* The point of the list of values at `index`. */
static void check_point(lua_State *L, double *point, const pio_bind_gp *box, int index)
{
	pio_axis axes[PIO_GP_AXES_MAX];
	for (int a = 0; a < box->axes_count; a++)
		axes[a] = box->axes[a].axis;
	pio_bind_partial_get(point, L, index, axes, box->axes_count);
}

/* model:add(values) -> slot; false for what is not there */
static int gp_add(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	size_t d = (size_t)box->axes_count;
	if (box->count == box->capacity) {
		size_t capacity = 2 * box->capacity + 32;
		double *grown = pio_realloc(box->points, capacity * d * sizeof *grown);
		if (!grown)
			return luaL_error(L, "out of memory");
		box->points = grown;
		box->capacity = capacity;
	}
	check_point(L, box->points + box->count * d, box, 2);
	lua_pushinteger(L, (lua_Integer)++box->count);
	return 1;
}

/* The points of the list of slots at `index`, in a userdata that is pushed. */
static double *check_rows(lua_State *L, pio_bind_gp *box, int index, size_t *count)
{
	size_t d = (size_t)box->axes_count;
	luaL_checktype(L, index, LUA_TTABLE);
	*count = lua_rawlen(L, index);
	double *rows = lua_newuserdatauv(L, (*count * d + 1) * sizeof *rows, 0);
	for (size_t i = 0; i < *count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		lua_Integer slot = luaL_checkinteger(L, -1);
		luaL_argcheck(L, slot >= 1 && (size_t)slot <= box->count, index, "there is no such point");
		memcpy(rows + i * d, box->points + (size_t)(slot - 1) * d, d * sizeof *rows);
		lua_pop(L, 1);
	}
	return rows;
}

/* The values at `index`, of which `false` is a failure, in a userdata that is pushed. */
static double *check_values(lua_State *L, int index, size_t count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	luaL_argcheck(L, lua_rawlen(L, index) == count && count > 0, index, "expected a value for each point");
	double *values = lua_newuserdatauv(L, count * sizeof *values, 0);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		values[i] = lua_toboolean(L, -1) ? luaL_checknumber(L, -1) : NAN;
		lua_pop(L, 1);
	}
	return values;
}

/* The doubts at `index`, one a value, in a userdata that is pushed; NULL where there are none. */
static double *check_doubts(lua_State *L, int index, size_t count)
{
	if (lua_isnoneornil(L, index))
		return NULL;
	double *doubts = check_values(L, index, count);
	for (size_t i = 0; i < count; i++)
		luaL_argcheck(L, doubts[i] >= 0, index, "a doubt is not below 0");
	return doubts;
}

/* model:learn(slots, values, calls, doubts) */
static int gp_learn(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	size_t count;
	lua_settop(L, 5);
	double *rows = check_rows(L, box, 2, &count), *values = check_values(L, 3, count);
	double *doubts = check_doubts(L, 5, count);
	int calls = (int)luaL_checkinteger(L, 4);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_gp_learn(box->gp, rows, values, doubts, count, calls, &err);
	if (rc)
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

/* model:know(slots, values, pending slots, doubts) */
static int gp_know(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	size_t count, pending_count;
	lua_settop(L, 5);
	double *rows = check_rows(L, box, 2, &count), *values = check_values(L, 3, count);
	double *doubts = check_doubts(L, 5, count), *pending = check_rows(L, box, 4, &pending_count);
	pio_err err = PIO_ERR_INIT;
	if (pio_gp_know(box->gp, rows, values, doubts, count, pending, pending_count, &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

/* model:look{ smooth, plain, noise_min }: how it sees things */
static int gp_look(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_getfield(L, 2, "noise_min");
	pio_gp_view view = { .is_smooth = pio_bind_field_boolean(L, 2, "smooth"),
		             .is_plain = pio_bind_field_boolean(L, 2, "plain"),
		             .noise_min = luaL_optnumber(L, -1, 1e-6) };
	luaL_argcheck(L, view.noise_min > 0 && view.noise_min < 1, 2, "noise_min");
	pio_gp_look(box->gp, &view);
	return 0;
}

/* model:set(lengths, noise) */
static int gp_set(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	double lengths[PIO_GP_AXES_MAX], noise = luaL_checknumber(L, 3);
	luaL_checktype(L, 2, LUA_TTABLE);
	for (int a = 0; a < box->axes_count; a++) {
		lua_rawgeti(L, 2, a + 1);
		lengths[a] = luaL_checknumber(L, -1);
		luaL_argcheck(L, lengths[a] > 0, 2, "a length is above 0");
		lua_pop(L, 1);
	}
	luaL_argcheck(L, noise > 0, 3, "the noise is above 0");
	pio_gp_set(box->gp, lengths, noise);
	return 0;
}

static int gp_evidence(lua_State *L)
{
	lua_pushnumber(L, pio_gp_evidence(pio_bind_gp_get(L)->gp));
	return 1;
}

/* model:predict(values) -> mean, deviation, in standardized values of what it knows */
static int gp_predict(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	double point[PIO_GP_AXES_MAX], unit[PIO_GP_AXES_MAX], mean, deviation;
	check_point(L, point, box, 2);
	pio_gp_unit(unit, box->gp, point);
	pio_gp_predict(&mean, &deviation, NULL, NULL, box->gp, unit);
	lua_pushnumber(L, mean);
	lua_pushnumber(L, deviation);
	return 2;
}

/* model:length(axis), model:noise(): what was learned */
static int gp_length(lua_State *L)
{
	pio_bind_gp *box = pio_bind_gp_get(L);
	lua_Integer axis = luaL_checkinteger(L, 2);
	luaL_argcheck(L, axis >= 1 && axis <= box->axes_count, 2, "there is no such axis");
	lua_pushnumber(L, pio_gp_length(box->gp, (int)axis - 1));
	return 1;
}

static int gp_noise(lua_State *L)
{
	lua_pushnumber(L, pio_gp_noise(pio_bind_gp_get(L)->gp));
	return 1;
}

void pio_bind_gp_type(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "add", gp_add }, { "learn", gp_learn }, { "set", gp_set }, { "look", gp_look },
		{ "know", gp_know }, { "search", pio_bind_gp_search }, { "probe", pio_bind_gp_probe },
		{ "candidate", pio_bind_gp_candidate }, { "gain", pio_bind_gp_gain }, { "predict", gp_predict },
		{ "distance", pio_bind_gp_distance }, { "evidence", gp_evidence },
		{ "length", gp_length }, { "noise", gp_noise }, { NULL, NULL },
	};
	pio_bind_type(L, GP, methods, gp_close, gp_tostring);
}
