/* The care of a store, for Lua: who supervises it, and is it in order. */
#include "bind/store.h"
#include "store/check.h"
#include "store/lease.h"
#include "store/mend.h"
#include "store/node.h"

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

static void set_integer(lua_State *L, const char *name, int64_t value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, bool value)
{
	lua_pushboolean(L, value);
	lua_setfield(L, -2, name);
}

/* check_points{ fix =, report = function(finding, done, total) }
 * -> { series, chunks, points, bad_chunks, bad_series, fixed } */
static int store_check_points(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 2, "report");
	pio_check_result result;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_check_points(&result, store, pio_bind_field_boolean(L, 2, "fix"), pio_bind_report,
	                           &reporter, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 6);
	set_integer(L, "series", result.series);
	set_integer(L, "chunks", result.chunks);
	set_integer(L, "points", result.points);
	set_integer(L, "bad_chunks", result.bad_chunks);
	set_integer(L, "bad_series", result.bad_series);
	set_integer(L, "fixed", result.fixed);
	return 1;
}

/* refold(attempt id): what its journals hold behind what was folded */
static int store_refold(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_refold(pio_bind_store(L, 1), luaL_checkinteger(L, 2), &err), &err);
}

/* mend_points(attempt id, rank) -> how many points its journals have */
static int store_mend_points(lua_State *L)
{
	int64_t points;
	pio_err err = PIO_ERR_INIT;
	if (pio_mend_points(&points, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                    (int)luaL_checkinteger(L, 3), &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, points);
	return 1;
}

/* journal_look(path relative to the store, offset) -> { readable, why, ulid (nil:
 * too short for one), attempt, node, standalone, bytes, records, end_offset } */
static int store_journal_look(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer from = luaL_optinteger(L, 3, 0);
	const char *path = lua_pushfstring(L, "%s/%s", pio_store_path(store), luaL_checkstring(L, 2));
	pio_journal_look look;
	pio_err err = PIO_ERR_INIT;
	if (pio_journal_look_at(&look, path, from, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 9);
	set_boolean(L, "readable", look.readable);
	set_boolean(L, "standalone", look.standalone);
	set_integer(L, "attempt", look.attempt);
	set_integer(L, "node", look.node);
	set_integer(L, "bytes", look.bytes);
	set_integer(L, "records", look.records);
	set_integer(L, "end_offset", look.end);
	lua_pushstring(L, look.why);
	lua_setfield(L, -2, "why");
	if (look.ulid[0])
		lua_pushstring(L, look.ulid);
	else
		lua_pushnil(L);
	lua_setfield(L, -2, "ulid");
	return 1;
}

/* node_exclude(name, until_ns, reason) */
static int store_node_exclude(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_node_exclude(pio_bind_store(L, 1), luaL_checkstring(L, 2), luaL_checkinteger(L, 3),
	                                luaL_checkstring(L, 4), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_node_clear(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_node_clear(pio_bind_store(L, 1), luaL_checkstring(L, 2), &err), &err);
}

const luaL_Reg pio_bind_store_care_methods[] = {
	{ "lease", store_lease }, { "lease_drop", store_lease_drop }, { "lease_look", store_lease_look },
	{ "is_network", store_is_network }, { "check_points", store_check_points },
	{ "journal_look", store_journal_look }, { "refold", store_refold }, { "mend_points", store_mend_points },
	{ "node_exclude", store_node_exclude }, { "node_clear", store_node_clear }, { NULL, NULL },
};
