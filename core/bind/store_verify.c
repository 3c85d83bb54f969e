/* Verifying objects from Lua. */
#include "bind/store.h"
#include "store/verify.h"

static void set_integer(lua_State *L, const char *name, int64_t value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* Push { object, what, orphan, bytes, ranges = { { from, to }, ... } }, bytes from
 * `from` up to but not with `to`. */
static void push_finding(lua_State *L, const pio_verify_finding *finding)
{
	lua_createtable(L, 0, 5);
	lua_pushstring(L, finding->object);
	lua_setfield(L, -2, "object");
	lua_pushstring(L, finding->what);
	lua_setfield(L, -2, "what");
	lua_pushboolean(L, finding->orphan);
	lua_setfield(L, -2, "orphan");
	set_integer(L, "bytes", finding->bytes);
	lua_createtable(L, (int)finding->ranges_count, 0);
	for (size_t i = 0; i < finding->ranges_count; i++) {
		lua_createtable(L, 2, 0);
		lua_pushinteger(L, finding->ranges[i].begin);
		lua_rawseti(L, -2, 1);
		lua_pushinteger(L, finding->ranges[i].end);
		lua_rawseti(L, -2, 2);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "ranges");
}

typedef struct call {
	const pio_verify_finding *finding;
	int64_t done, total;
} call;

/* Under protection: making the tables may raise. */
static int report_protected(lua_State *L)
{
	const call *c = lua_touserdata(L, 1);
	lua_pushvalue(L, 2);
	if (c->finding)
		push_finding(L, c->finding);
	else
		lua_pushnil(L);
	lua_pushinteger(L, c->done);
	lua_pushinteger(L, c->total);
	lua_call(L, 3, 0);
	return 0;
}

/* What the function raises is dropped, as by pio_bind_report. */
static void report(void *context, const pio_verify_finding *finding, int64_t done, int64_t total)
{
	const pio_bind_reporter *reporter = context;
	lua_State *L = reporter->L;
	call c = { finding, done, total };
	if (!reporter->function || !lua_checkstack(L, 4))
		return;
	lua_pushcfunction(L, report_protected);
	lua_pushlightuserdata(L, &c);
	lua_pushvalue(L, reporter->function);
	if (pio_bind_call(L, 2, 0))
		lua_pop(L, 1);
}

/* verify{ quick =, part =, parts =, run = id, checkpoint = id, only_unread =, anew =,
 * report = function(finding, bytes_done, bytes_total) }
 * -> { objects, bytes, bad, missing, orphans, earlier_objects, begun_ns, forgotten (why
 * the store does not know what was found, or nil) } */
static int store_verify(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 2, "report");
	pio_verify_options options = {
		.how = pio_bind_field_boolean(L, 2, "quick") ? PIO_VERIFY_QUICK : PIO_VERIFY_REREAD,
		.part = pio_bind_field_integer(L, 2, "part", 0),
		.parts = pio_bind_field_integer(L, 2, "parts", 0),
		.run_id = pio_bind_field_integer(L, 2, "run", 0),
		.checkpoint_id = pio_bind_field_integer(L, 2, "checkpoint", 0),
		.only_unread = pio_bind_field_boolean(L, 2, "only_unread"),
		.anew = pio_bind_field_boolean(L, 2, "anew"),
	};
	pio_verify_result result;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_verify(&result, store, &options, report, &reporter, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 8);
	set_integer(L, "objects", result.objects);
	set_integer(L, "bytes", result.bytes);
	set_integer(L, "bad", result.bad);
	set_integer(L, "missing", result.missing);
	set_integer(L, "orphans", result.orphans);
	set_integer(L, "earlier_objects", result.earlier_objects);
	set_integer(L, "begun_ns", result.begun_ns);
	if (result.forgotten.code) {
		lua_pushstring(L, result.forgotten.message);
		lua_setfield(L, -2, "forgotten");
	}
	return 1;
}

const luaL_Reg pio_bind_store_verify_methods[] = {
	{ "verify", store_verify }, { NULL, NULL },
};
