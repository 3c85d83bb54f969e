/* The store from Lua: what a stopping rule said of runs, and what a race asked for. */
#include "bind/store.h"
#include "store/repeat.h"
#include "store/rung.h"

static double field_number(lua_State *L, int index, const char *name)
{
	lua_getfield(L, index, name);
	double value = luaL_checknumber(L, -1);
	lua_pop(L, 1);
	return value;
}

/* rung_add(sweep_id, run_id, step, { at_step, value, best, mean, verdict, reason, forecast,
 * audited }) */
static int store_rung_add(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 5, LUA_TTABLE);
	pio_store_rung rung = {
		.sweep_id = luaL_checkinteger(L, 2), .run_id = luaL_checkinteger(L, 3),
		.step = luaL_checkinteger(L, 4),
		.at_step = pio_bind_field_integer(L, 5, "at_step", 0),
		.value = field_number(L, 5, "value"), .best = field_number(L, 5, "best"),
		.mean = field_number(L, 5, "mean"),
		.verdict = pio_bind_field_string(L, 5, "verdict"),
		.reason = pio_bind_field_string(L, 5, "reason"),
		.forecast = pio_bind_field_string(L, 5, "forecast"),
		.audited = pio_bind_field_boolean(L, 5, "audited"),
	};
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_rung_add(store, &rung, &err);
	return pio_bind_done(L, rc, &err);
}

static int store_rung_promote(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_rung_promote(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                luaL_checkinteger(L, 3), luaL_checkinteger(L, 4), &err);
	return pio_bind_done(L, rc, &err);
}

/* repeat_add(sweep_id, number, seed, run_id, asked, seen) */
static int store_repeat_add(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_repeat_add(pio_bind_store(L, 1), luaL_checkinteger(L, 2), luaL_checkinteger(L, 3),
	                              luaL_checkinteger(L, 4), luaL_checkinteger(L, 5),
	                              luaL_checkinteger(L, 6), luaL_checkinteger(L, 7), &err);
	return pio_bind_done(L, rc, &err);
}

/* repeat_observe(sweep_id, number, seed, observed, value): NaN where the run failed */
static int store_repeat_observe(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_repeat_observe(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                  luaL_checkinteger(L, 3), luaL_checkinteger(L, 4),
	                                  luaL_checkinteger(L, 5), luaL_checknumber(L, 6), &err);
	return pio_bind_done(L, rc, &err);
}

const luaL_Reg pio_bind_store_rung_methods[] = {
	{ "rung_add", store_rung_add }, { "rung_promote", store_rung_promote },
	{ "repeat_add", store_repeat_add }, { "repeat_observe", store_repeat_observe }, { NULL, NULL },
};
