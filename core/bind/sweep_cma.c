/* The evolution strategy from Lua: points are kept once, and named by their slots. */
#include "bind/sweep.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sweep/cma.h"

#define CMA "pioche.cma"

struct box {
	pio_cma *cma;
	double *rows;              /* latents of all slots; the one behind them is what was drawn */
	int *generations;          /* in which each was drawn, -1: elsewhere */
	size_t count, capacity;
	double *scratch;           /* one point */
	bool has_drawn;
	int axes_count;
	pio_axis axes[];
};

static struct box *check(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, CMA);
	luaL_argcheck(L, box->cma, 1, "the model is closed");
	return box;
}

static int cma_close(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, CMA);
	pio_cma_free(box->cma);
	pio_free(box->rows);
	pio_free(box->generations);
	pio_free(box->scratch);
	box->cma = NULL;
	box->rows = box->scratch = NULL;
	box->generations = NULL;
	return 0;
}

static int cma_tostring(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, CMA);
	lua_pushfstring(L, "an evolution strategy of %d parameters", box->axes_count);
	return 1;
}

/* cma(axes, population) -> model; axes as of tpe; a population of 0 is chosen by their number */
int pio_bind_cma_new(lua_State *L)
{
	lua_settop(L, 2);
	lua_Integer population = luaL_checkinteger(L, 2);
	luaL_argcheck(L, population >= 0 && population <= 100000, 2, "expected 0 to 100000");
	pio_bind_axes *axes = pio_bind_axes_get(L, 1);
	luaL_argcheck(L, axes->count <= PIO_CMA_AXES_MAX, 1, "too many axes");
	size_t n = (size_t)axes->count;
	struct box *box = lua_newuserdatauv(L, sizeof *box + n * sizeof *box->axes, 0);
	*box = (struct box){ .axes_count = axes->count };
	memcpy(box->axes, axes->all, n * sizeof *box->axes);
	luaL_setmetatable(L, CMA);
	pio_err err = PIO_ERR_INIT;
	box->scratch = pio_alloc(n * sizeof *box->scratch);
	if (!box->scratch || pio_cma_new(&box->cma, box->axes, box->axes_count, (int)population, &err))
		return box->scratch ? pio_bind_fail(L, &err) : luaL_error(L, "out of memory");
	return 1;
}

/* Room for the latent behind the slots. */
static double *next_row(lua_State *L, struct box *box)
{
	size_t d = (size_t)box->axes_count;
	if (box->count == box->capacity) {
		size_t capacity = 2 * box->capacity + 32;
		double *rows = pio_realloc(box->rows, capacity * d * sizeof *rows);
		box->rows = rows ? rows : box->rows;
		int *generations = pio_realloc(box->generations, capacity * sizeof *generations);
		box->generations = generations ? generations : box->generations;
		if (!rows || !generations)
			luaL_error(L, "out of memory");
		box->capacity = capacity;
	}
	return box->rows + box->count * d;
}

static int keep(lua_State *L, struct box *box, int generation)
{
	box->generations[box->count++] = generation;
	box->has_drawn = false;
	lua_pushinteger(L, (lua_Integer)box->count);
	return 1;
}

/* model:draw(seed, number, key) -> values */
static int cma_draw(lua_State *L)
{
	struct box *box = check(L);
	size_t key_bytes;
	const char *key = luaL_checklstring(L, 4, &key_bytes);
	pio_draw draw = pio_draw_init(luaL_checkinteger(L, 2), luaL_checkinteger(L, 3), key, key_bytes);
	double *row = next_row(L, box);
	pio_cma_draw(row, box->cma, &draw);
	pio_cma_point(box->scratch, box->cma, row);
	box->has_drawn = true;
	pio_bind_point_push(L, box->scratch, box->axes, box->axes_count);
	return 1;
}

/* model:keep() -> slot of what was drawn last */
static int cma_keep(lua_State *L)
{
	struct box *box = check(L);
	luaL_argcheck(L, box->has_drawn, 1, "nothing was drawn");
	return keep(L, box, pio_cma_generation(box->cma));
}

/* model:add(values) -> slot of a point from elsewhere; false for what is not there */
static int cma_add(lua_State *L)
{
	struct box *box = check(L);
	pio_bind_partial_get(box->scratch, L, 2, box->axes, box->axes_count);
	pio_cma_latent(next_row(L, box), box->cma, box->scratch);
	return keep(L, box, -1);
}

/* model:tell(slot, value, again): value nil: it failed; again: it was told before the model
 * began again, and counts nevertheless */
static int cma_tell(lua_State *L)
{
	struct box *box = check(L);
	lua_Integer slot = luaL_checkinteger(L, 2);
	luaL_argcheck(L, slot >= 1 && (size_t)slot <= box->count, 2, "there is no such point");
	size_t at = (size_t)slot - 1;
	pio_cma_tell(box->cma, box->rows + at * (size_t)box->axes_count, luaL_optnumber(L, 3, NAN),
	             lua_toboolean(L, 4) ? -1 : box->generations[at]);
	return 0;
}

/* model:begin(mean, sigma, population): mean: in parts of each range, or nil */
static int cma_begin(lua_State *L)
{
	struct box *box = check(L);
	double mean[PIO_CMA_AXES_MAX];
	bool has_mean = !lua_isnoneornil(L, 2);
	for (int a = 0; has_mean && a < box->axes_count; a++) {
		lua_rawgeti(L, 2, a + 1);
		mean[a] = luaL_checknumber(L, -1);
		lua_pop(L, 1);
	}
	double sigma = luaL_checknumber(L, 3);
	lua_Integer population = luaL_checkinteger(L, 4);
	luaL_argcheck(L, sigma > 0 && sigma < 1e10, 3, "expected a width");
	luaL_argcheck(L, population >= 0 && population <= 1000000, 4, "expected 0 to 1000000");
	pio_err err = PIO_ERR_INIT;
	if (pio_cma_begin(box->cma, has_mean ? mean : NULL, sigma, (int)population, &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

static int cma_is_over(lua_State *L)
{
	lua_pushboolean(L, pio_cma_is_over(check(L)->cma));
	return 1;
}

static int cma_population(lua_State *L)
{
	lua_pushinteger(L, pio_cma_population(check(L)->cma));
	return 1;
}

/* model:sigma(): how wide it is, in parts of the ranges */
static int cma_sigma(lua_State *L)
{
	lua_pushnumber(L, pio_cma_sigma(check(L)->cma));
	return 1;
}

static void push_numbers(lua_State *L, const char *name, const double *numbers, int count)
{
	lua_createtable(L, count, 0);
	for (int i = 0; i < count; i++) {
		lua_pushnumber(L, numbers[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, name);
}

/* model:state() -> { mean, covariance, margin } of numbers, { probabilities } of choices */
static int cma_state(lua_State *L)
{
	struct box *box = check(L);
	int n = pio_cma_numbers(box->cma);
	double margin[PIO_CMA_AXES_MAX];
	for (int i = 0; i < n; i++)
		margin[i] = pio_cma_margin(box->cma, i);
	lua_createtable(L, 0, 4);
	push_numbers(L, "mean", pio_cma_mean(box->cma), n);
	push_numbers(L, "covariance", pio_cma_covariance(box->cma), n * n);
	push_numbers(L, "margin", margin, n);
	lua_newtable(L);
	for (int a = 0; a < box->axes_count; a++)
		for (int k = 0; box->axes[a].kind == PIO_AXIS_CHOICE && k <= (int)box->axes[a].last; k++) {
			lua_pushnumber(L, pio_cma_probability(box->cma, a, k));
			lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
		}
	lua_setfield(L, -2, "probabilities");
	return 1;
}

/* model:latent(slot) -> a number an axis, before it is put into a cell */
static int cma_latent(lua_State *L)
{
	struct box *box = check(L);
	lua_Integer slot = luaL_checkinteger(L, 2);
	luaL_argcheck(L, slot >= 1 && (size_t)slot <= box->count, 2, "there is no such point");
	const double *row = box->rows + (size_t)(slot - 1) * (size_t)box->axes_count;
	lua_createtable(L, box->axes_count, 0);
	for (int a = 0; a < box->axes_count; a++) {
		lua_pushnumber(L, row[a]);
		lua_rawseti(L, -2, a + 1);
	}
	return 1;
}

void pio_bind_cma_type(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "draw", cma_draw }, { "keep", cma_keep }, { "add", cma_add }, { "tell", cma_tell },
		{ "begin", cma_begin }, { "is_over", cma_is_over }, { "population", cma_population },
		{ "sigma", cma_sigma }, { "state", cma_state }, { "latent", cma_latent }, { NULL, NULL },
	};
	pio_bind_type(L, CMA, methods, cma_close, cma_tostring);
}
