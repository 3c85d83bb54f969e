/* The store from Lua: what a person changed of a sweep. */
#include "bind/store.h"
#include "store/change.h"

/* change_add(sweep_id, kind, detail, reason or nil) -> number */
static int store_change_add(lua_State *L)
{
	int64_t number = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_change_add(&number, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                              luaL_checkstring(L, 3), luaL_checkstring(L, 4),
	                              luaL_optstring(L, 5, NULL), &err);
	return pio_bind_id(L, rc, number, &err);
}

/* prior_add(sweep_id, change, params, observation) */
static int store_prior_add(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_prior_add(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                             luaL_checkinteger(L, 3), luaL_checkstring(L, 4),
	                             luaL_checkstring(L, 5), &err);
	return pio_bind_done(L, rc, &err);
}

const luaL_Reg pio_bind_store_change_methods[] = {
	{ "change_add", store_change_add }, { "prior_add", store_prior_add }, { NULL, NULL },
};
