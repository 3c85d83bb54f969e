/* require "pioche.core.histogram": what a histogram of table `media` holds. */
#include <lauxlib.h>

#include "base/histogram.h"
#include "base/mem.h"
#include "bind/bind.h"

static void free_histogram(void *pointer)
{
	pio_histogram_fini(pointer);
	pio_free(pointer);
}

static void push_buckets(lua_State *L, const pio_histogram *histogram)
{
	pio_histogram_bucket bucket;
	size_t at = 0;
	lua_newtable(L);
	for (lua_Integer i = 1; pio_histogram_next(histogram, &at, &bucket); i++) {
		lua_createtable(L, 0, 3);
		lua_pushnumber(L, bucket.low);
		lua_setfield(L, -2, "low");
		lua_pushnumber(L, bucket.high);
		lua_setfield(L, -2, "high");
		lua_pushinteger(L, (lua_Integer)bucket.count);
		lua_setfield(L, -2, "count");
		lua_rawseti(L, -2, i);
	}
}

/* decode(bytes) -> { finite, nans, infinities, negative_infinities, min, max, sum,
 * buckets = { { low, high, count } } } */
static int histogram_decode(lua_State *L)
{
	size_t size_bytes;
	const char *bytes = luaL_checklstring(L, 1, &size_bytes);
	pio_err err = PIO_ERR_INIT;
	void **slot = pio_bind_guard(L, free_histogram);
	pio_histogram *histogram = *slot = pio_calloc(1, sizeof *histogram);
	if (!histogram) {
		pio_fail(&err, PIO_ENOMEM, "out of memory for a histogram");
		return pio_bind_fail(L, &err);
	}
	if (pio_histogram_decode(histogram, bytes, size_bytes, &err))
		return pio_bind_fail(L, &err);
	const struct { const char *name; uint64_t value; } counts[] = {
		{ "finite", histogram->finite }, { "nans", histogram->nans },
		{ "infinities", histogram->infinities },
		{ "negative_infinities", histogram->negative_infinities },
	};
	const struct { const char *name; double value; } reals[] = {
		{ "min", histogram->min }, { "max", histogram->max }, { "sum", histogram->sum },
	};
	lua_createtable(L, 0, 8);
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		lua_pushinteger(L, (lua_Integer)counts[i].value);
		lua_setfield(L, -2, counts[i].name);
	}
	for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
		lua_pushnumber(L, reals[i].value);
		lua_setfield(L, -2, reals[i].name);
	}
	push_buckets(L, histogram);
	lua_setfield(L, -2, "buckets");
	return 1;
}

int pio_bind_open_histogram(lua_State *L)
{
	static const luaL_Reg functions[] = { { "decode", histogram_decode }, { NULL, NULL } };
	luaL_newlib(L, functions);
	return 1;
}
