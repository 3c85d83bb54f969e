/* Reading the store from Lua: points, buckets, CSV. */
#include "base/mem.h"
#include "bind/store.h"
#include "store/points_file.h"
#include "store/reader.h"
#include "store/reduce.h"
#include "store/series.h"

typedef struct choice {
	lua_Integer series, min, max, attempt;
	const char *reduce, *key;      /* with reduce: all ranks of the key of the run */
	lua_Integer run;
} choice;

/* Argument 2: a series id, or { run, key } with a way to reduce its ranks; the
 * options at `index`: { min, max, attempt, reduce }. */
static choice check_choice(lua_State *L, int index)
{
	choice c = { .min = INT64_MIN, .max = INT64_MAX };
	if (lua_istable(L, index)) {
		c.min = pio_bind_field_integer(L, index, "min", c.min);
		c.max = pio_bind_field_integer(L, index, "max", c.max);
		c.attempt = pio_bind_field_integer(L, index, "attempt", 0);
		c.reduce = pio_bind_field_string(L, index, "reduce");
	}
	if (!lua_istable(L, 2)) {
		luaL_argcheck(L, !c.reduce, 2, "ranks are reduced of a table { run =, key = }");
		c.series = luaL_checkinteger(L, 2);
		return c;
	}
	luaL_argcheck(L, c.reduce, index, "a table { run =, key = } needs reduce =");
	luaL_argcheck(L, !c.attempt, index, "one attempt of all ranks cannot be reduced");
	c.run = pio_bind_field_integer(L, 2, "run", 0);
	c.key = pio_bind_field_string(L, 2, "key");
	luaL_argcheck(L, c.key, 2, "key is missing");
	return c;
}

static int read_points(pio_point **points, int32_t **ranks, size_t *count, pio_store *store,
                       const choice *c, pio_err *err)
{
	enum pio_reduce how;
	if (!c->reduce)
		return pio_store_series_read(points, count, store, c->series, c->min, c->max, (int)c->attempt,
		                             err);
	int rc = pio_reduce_parse(&how, c->reduce, err);
	return rc ? rc : pio_reduce_points(points, ranks, count, pio_store_reader(store), c->run, c->key,
	                                   how, c->min, c->max, err);
}

/* points(series_id, { min, max, attempt }) -> { step = {}, value = {}, time_ns = {}, attempt = {} }
 * points({ run, key }, { reduce, min, max }) -> the same with ranks = {} */
static int store_points(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	choice c = check_choice(L, 3);
	void **guard = pio_bind_guard(L, pio_free), **ranks_guard = pio_bind_guard(L, pio_free);
	pio_point *points = NULL;
	int32_t *ranks = NULL;
	size_t count = 0;
	pio_err err = PIO_ERR_INIT;
	if (read_points(&points, &ranks, &count, store, &c, &err))
		return pio_bind_fail(L, &err);
	*guard = points;
	*ranks_guard = ranks;
	static const char *const names[] = { "step", "value", "time_ns", "attempt", "ranks" };
	int columns = ranks ? 5 : 4;
	lua_createtable(L, 0, columns);
	int result = lua_gettop(L);
	for (int i = 0; i < columns; i++) {
		lua_createtable(L, count < INT32_MAX ? (int)count : 0, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, result, names[i]);
	}
	for (size_t i = 0; i < count; i++) {
		lua_Integer at = (lua_Integer)i + 1;
		lua_pushinteger(L, points[i].step);
		lua_rawseti(L, result + 1, at);
		if (points[i].integer)
			lua_pushinteger(L, points[i].whole);
		else
			lua_pushnumber(L, points[i].value);
		lua_rawseti(L, result + 2, at);
		lua_pushinteger(L, points[i].time_ns);
		lua_rawseti(L, result + 3, at);
		lua_pushinteger(L, points[i].attempt);
		lua_rawseti(L, result + 4, at);
		if (ranks) {
			lua_pushinteger(L, ranks[i]);
			lua_rawseti(L, result + 5, at);
		}
	}
	lua_settop(L, result);
	return 1;
}

static int read_buckets(pio_bucket **buckets, size_t *count, pio_store *store, const choice *c, size_t n,
                        pio_err *err)
{
	enum pio_reduce how;
	if (!c->reduce)
		return pio_store_series_buckets(buckets, count, store, c->series, c->min, c->max, n, err);
	int rc = pio_reduce_parse(&how, c->reduce, err);
	return rc ? rc : pio_reduce_buckets(buckets, count, pio_store_reader(store), c->run, c->key, how,
	                                    c->min, c->max, n, err);
}

/* buckets(series_id, n, { min, max }), buckets({ run, key }, n, { reduce, min, max }) */
static int store_buckets(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer n = luaL_checkinteger(L, 3);
	luaL_argcheck(L, n > 0 && n <= 1000000, 3, "between 1 and 1000000 buckets");
	choice c = check_choice(L, 4);
	void **guard = pio_bind_guard(L, pio_free);
	pio_bucket *buckets = NULL;
	size_t count = 0;
	pio_err err = PIO_ERR_INIT;
	if (read_buckets(&buckets, &count, store, &c, (size_t)n, &err))
		return pio_bind_fail(L, &err);
	*guard = buckets;
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		const struct { const char *name; lua_Integer value; } integers[] = {
			{ "first_step", buckets[i].first_step }, { "last_step", buckets[i].last_step },
			{ "count", buckets[i].count }, { "finite", buckets[i].finite },
		};
		const struct { const char *name; double value; } numbers[] = {
			{ "min", buckets[i].min }, { "max", buckets[i].max }, { "mean", buckets[i].mean },
		};
		lua_createtable(L, 0, 7);
		for (size_t k = 0; k < 4; k++) {
			lua_pushinteger(L, integers[k].value);
			lua_setfield(L, -2, integers[k].name);
		}
		for (size_t k = 0; k < 3; k++) {
			lua_pushnumber(L, numbers[k].value);
			lua_setfield(L, -2, numbers[k].name);
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* export_csv(run id, fd), export_points(run id, fd): append to an open file */
static int store_export_csv(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_export_csv(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                              (int)luaL_checkinteger(L, 3), "metrics.csv", &err);
	return pio_bind_done(L, rc, &err);
}

static int store_export_points(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_points_file_write(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                               (int)luaL_checkinteger(L, 3), "points.bin", &err);
	return pio_bind_done(L, rc, &err);
}

/* hold(): until release() all reads see one state of the store. They nest. */
static int store_hold(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_reader_hold(pio_store_reader(pio_bind_store(L, 1)), &err), &err);
}

static int store_release(lua_State *L)
{
	pio_reader_release(pio_store_reader(pio_bind_store(L, 1)));
	return 0;
}

const luaL_Reg pio_bind_store_series_methods[] = {
	{ "points", store_points }, { "buckets", store_buckets }, { "export_csv", store_export_csv },
	{ "export_points", store_export_points }, { "hold", store_hold }, { "release", store_release },
	{ NULL, NULL },
};
