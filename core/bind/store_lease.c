/* The lease of a store, for Lua. */
#include "bind/store.h"
#include "store/lease.h"

static int store_lease(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_lease_take(pio_bind_store(L, 1), &err), &err);
}

static int store_lease_drop(lua_State *L)
{
	pio_store_lease_drop(pio_bind_store(L, 1));
	return 0;
}

/* lease_look() -> { state = "free" | "held" | "dead" | "far", holder, silent_ms } */
static int store_lease_look(lua_State *L)
{
	static const char *const words[] = {
		[PIO_LEASE_FREE] = "free", [PIO_LEASE_HELD] = "held", [PIO_LEASE_DEAD] = "dead",
		[PIO_LEASE_FAR] = "far",
	};
	pio_lease_look look;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_lease_look(&look, pio_bind_store(L, 1), &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 3);
	lua_pushstring(L, words[look.state]);
	lua_setfield(L, -2, "state");
	lua_pushstring(L, look.holder);
	lua_setfield(L, -2, "holder");
	lua_pushinteger(L, look.silent_ms);
	lua_setfield(L, -2, "silent_ms");
	return 1;
}

static int store_is_network(lua_State *L)
{
	lua_pushboolean(L, pio_store_is_network(pio_bind_store(L, 1)));
	return 1;
}

const luaL_Reg pio_bind_store_lease_methods[] = {
	{ "lease", store_lease }, { "lease_drop", store_lease_drop }, { "lease_look", store_lease_look },
	{ "is_network", store_is_network }, { NULL, NULL },
};
