/* What is fitted to the results of a sweep, from Lua: chances of being the best, the end of a
 * learning curve, and scaling laws. */
#include <lauxlib.h>
#include <math.h>

#include "bind/sweep.h"
#include "sweep/curve.h"
#include "sweep/law.h"
#include "sweep/race.h"
#include "sweep/student.h"

#define LIST_MAX 1000000

/* The numbers of the list at `index`, in a userdata that is pushed. */
static double *numbers(lua_State *L, int index, size_t *count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	*count = lua_rawlen(L, index);
	luaL_argcheck(L, *count >= 1 && *count <= LIST_MAX, index, "expected 1 to 1000000 numbers");
	double *values = lua_newuserdatauv(L, *count * sizeof *values, 0);
	for (size_t i = 0; i < *count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		values[i] = luaL_checknumber(L, -1);
		luaL_argcheck(L, isfinite(values[i]), index, "expected finite numbers");
		lua_pop(L, 1);
	}
	return values;
}

static void field(lua_State *L, const char *name, double value)
{
	lua_pushnumber(L, value);
	lua_setfield(L, -2, name);
}

/* student(t, freedom): the probability below t */
static int fit_student(lua_State *L)
{
	lua_Integer freedom = luaL_checkinteger(L, 2);
	luaL_argcheck(L, freedom >= 1 && freedom <= INT32_MAX, 2, "expected at least 1");
	lua_pushnumber(L, pio_student(luaL_checknumber(L, 1), (int)freedom));
	return 1;
}

/* chances(means, repeats, squares, freedom): of each mean, the probability that it is the
 * lowest */
static int fit_chances(lua_State *L)
{
	size_t count, other;
	double *means = numbers(L, 1, &count), *given = numbers(L, 2, &other);
	lua_Integer freedom = luaL_checkinteger(L, 4);
	luaL_argcheck(L, other == count, 2, "expected one number a mean");
	luaL_argcheck(L, freedom >= 1 && freedom <= INT32_MAX, 4, "expected at least 1");
	int *repeats = lua_newuserdatauv(L, count * sizeof *repeats, 0);
	for (size_t i = 0; i < count; i++) {
		luaL_argcheck(L, given[i] >= 1 && given[i] <= INT32_MAX, 2, "expected numbers from 1 on");
		repeats[i] = (int)given[i];
	}
	double *chances = lua_newuserdatauv(L, 2 * count * sizeof *chances, 0);
	pio_race_chances(chances, chances + count, means, repeats, count, luaL_checknumber(L, 3), (int)freedom);
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_pushnumber(L, chances[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* forecast(parts, values, shift, spread, bound): of the value at part 1 { value, low, high },
 * its median and 90 % of the probability; with a bound { below }, the probability below it */
static int fit_forecast(lua_State *L)
{
	size_t count, other;
	lua_settop(L, 5);
	double *x = numbers(L, 1, &count), *values = numbers(L, 2, &other);
	double shift = luaL_checknumber(L, 3), spread = luaL_checknumber(L, 4);
	luaL_argcheck(L, other == count, 2, "expected a value a part");
	luaL_argcheck(L, count >= PIO_CURVE_POINTS_MIN, 1, "too few points");
	for (size_t i = 0; i < count; i++)
		luaL_argcheck(L, x[i] > (i ? x[i - 1] : 0) && x[i] < 1, 1,
		              "expected parts that grow, above 0 and below 1");
	pio_curve_end end;
	pio_curve_fit(&end, x, values, count);
	lua_createtable(L, 0, 4);
	field(L, "value", pio_curve_quantile(&end, 0.5, shift, spread));
	field(L, "low", pio_curve_quantile(&end, 0.05, shift, spread));
	field(L, "high", pio_curve_quantile(&end, 0.95, shift, spread));
	if (!lua_isnil(L, 5))
		field(L, "below", pio_curve_below(&end, luaL_checknumber(L, 5), shift, spread));
	return 1;
}

static void push_law(lua_State *L, const pio_law *law)
{
	lua_createtable(L, 0, 7);
	field(L, "E", law->e);
	field(L, "A", law->a);
	field(L, "B", law->b);
	field(L, "alpha", law->alpha);
	field(L, "beta", law->beta);
	field(L, "noise", law->noise);
	lua_pushstring(L, law->terms == PIO_LAW_BOTH ? "both" : law->terms == PIO_LAW_SIZE ? "size" : "tokens");
	lua_setfield(L, -2, "terms");
}

/* law(sizes, tokens, losses, samples, seed): the law { E, A, B, alpha, beta, terms }, and in
 * `samples` those of a bootstrap, each with a residual in `noise`; nil and a message */
static int fit_law(lua_State *L)
{
	size_t count, other[2];
	double *sizes = numbers(L, 1, &count), *tokens = numbers(L, 2, &other[0]);
	double *losses = numbers(L, 3, &other[1]);
	lua_Integer samples = luaL_checkinteger(L, 4), seed = luaL_checkinteger(L, 5);
	luaL_argcheck(L, other[0] == count && other[1] == count, 2, "expected lists of one length");
	luaL_argcheck(L, samples >= 0 && samples <= 100000, 4, "expected 0 to 100000");
	pio_law_point *points = lua_newuserdatauv(L, count * sizeof *points, 0);
	pio_law *laws = lua_newuserdatauv(L, (size_t)(samples + 1) * sizeof *laws, 0);
	for (size_t i = 0; i < count; i++)
		points[i] = (pio_law_point){ .size = sizes[i], .tokens = tokens[i], .loss = losses[i] };
	pio_err err = PIO_ERR_INIT;
	int rc = pio_law_fit(&laws[0], points, count, &err);
	if (!rc)
		rc = pio_law_bootstrap(&laws[1], (size_t)samples, &laws[0], points, count, seed, &err);
	if (rc)
		return pio_bind_fail(L, &err);
	push_law(L, &laws[0]);
	lua_createtable(L, (int)samples, 0);
	for (lua_Integer i = 1; i <= samples; i++) {
		push_law(L, &laws[i]);
		lua_rawseti(L, -2, i);
	}
	lua_setfield(L, -2, "samples");
	return 1;
}

static double number_field(lua_State *L, int index, const char *name)
{
	lua_getfield(L, index, name);
	double value = luaL_checknumber(L, -1);
	lua_pop(L, 1);
	return value;
}

/* law_at(law, size, tokens): the loss that it gives */
static int fit_law_at(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	pio_law law = { .e = number_field(L, 1, "E"), .a = number_field(L, 1, "A"),
		        .b = number_field(L, 1, "B"), .alpha = number_field(L, 1, "alpha"),
		        .beta = number_field(L, 1, "beta"), .terms = PIO_LAW_BOTH };
	lua_pushnumber(L, pio_law_at(&law, luaL_checknumber(L, 2), luaL_checknumber(L, 3)));
	return 1;
}

const luaL_Reg pio_bind_fit_functions[] = {
	{ "student", fit_student }, { "chances", fit_chances }, { "forecast", fit_forecast },
	{ "law", fit_law }, { "law_at", fit_law_at }, { NULL, NULL },
};
