/* The store from Lua: snapshots, sweeps, inputs, checkpoints, objects. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bind/store.h"
#include "store/checkpoint.h"
#include "store/direct.h"
#include "store/object.h"
#include "store/plan.h"

static const char *needed(lua_State *L, int index, const char *name)
{
	const char *text = pio_bind_field_string(L, index, name);
	if (!text)
		luaL_error(L, "field '%s' is missing", name);
	return text;
}

static int store_snapshot_add(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_store_snapshot snapshot = {
		.commit = needed(L, 2, "commit"), .tree = needed(L, 2, "tree"),
		.parent = pio_bind_field_string(L, 2, "parent"),
		.branch = pio_bind_field_string(L, 2, "branch"),
		.dirty = pio_bind_field_boolean(L, 2, "dirty"),
		.repository = needed(L, 2, "repository"),
		.subject = pio_bind_field_string(L, 2, "subject"),
	};
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_snapshot_add(&id, store, &snapshot, &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_sweep_add(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_store_sweep sweep = {
		.experiment_id = pio_bind_field_integer(L, 2, "experiment_id", 0),
		.identity = needed(L, 2, "identity"), .spec = needed(L, 2, "spec"),
		.recipe_path = needed(L, 2, "recipe_path"), .recipe = needed(L, 2, "recipe"),
	};
	int64_t id = 0;
	bool existed = false;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_sweep_add(&id, &existed, store, &sweep, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, id);
	lua_pushboolean(L, existed);
	return 2;
}

static int store_sweep_state(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_sweep_state(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                               luaL_checkstring(L, 3), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_sweep_extend(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_sweep_extend(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                luaL_checkinteger(L, 3), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_proposal_add(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_proposal_add(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                luaL_checkinteger(L, 3), luaL_checkstring(L, 4),
	                                luaL_optinteger(L, 5, 0), &err);
	return pio_bind_done(L, rc, &err);
}

/* proposal_lineage(sweep_id, number, lineage) */
static int store_proposal_lineage(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_proposal_lineage(pio_bind_store(L, 1), luaL_checkinteger(L, 2), luaL_checkinteger(L, 3),
	                                    luaL_checkstring(L, 4), &err);
	return pio_bind_done(L, rc, &err);
}

/* proposal_observe(sweep_id, number, observation) -> which observation it is */
static int store_proposal_observe(lua_State *L)
{
	int64_t ordinal = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_proposal_observe(&ordinal, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                    luaL_checkinteger(L, 3), luaL_checkstring(L, 4), &err);
	return pio_bind_id(L, rc, ordinal, &err);
}

static int store_proposal_forecast(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_proposal_forecast(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                     luaL_checkinteger(L, 3), luaL_checkstring(L, 4), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_proposal_run_add(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_proposal_run_add(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                    luaL_checkinteger(L, 3), luaL_checkinteger(L, 4),
	                                    luaL_checkinteger(L, 5), &err);
	return pio_bind_done(L, rc, &err);
}

/* log(run_id, key, first_step, values): a list of numbers, one a step */
static int store_log(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	size_t key_bytes;
	const char *key = luaL_checklstring(L, 3, &key_bytes);
	lua_Integer step = luaL_checkinteger(L, 4);
	luaL_checktype(L, 5, LUA_TTABLE);
	size_t count = lua_rawlen(L, 5);
	pio_chunk_point *points = lua_newuserdatauv(L, (count + 1) * sizeof *points, 0);
	int64_t now_ns = pio_clock_wall_ns();
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, 5, (lua_Integer)i + 1);
		points[i] = (pio_chunk_point){ .step = step + (lua_Integer)i, .time_ns = now_ns,
		                               .integer = lua_isinteger(L, -1) ? 1 : 0 };
		lua_Number real = luaL_checknumber(L, -1);
		lua_Integer whole = points[i].integer ? lua_tointeger(L, -1) : 0;
		memcpy(&points[i].bits, points[i].integer ? (void *)&whole : (void *)&real, 8);
		lua_pop(L, 1);
	}
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_log(store, luaL_checkinteger(L, 2), key, key_bytes, points, count, &err);
	return pio_bind_done(L, rc, &err);
}

static int store_stop_request(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_stop_request(pio_bind_store(L, 1), luaL_checkinteger(L, 2), &err);
	return pio_bind_done(L, rc, &err);
}

/* store:input_digest(path) -> hex, bytes; store may be nil in the module's
 * function of the same name: then nothing is remembered. */
static int store_input_digest(lua_State *L)
{
	pio_store *store = lua_isnil(L, 1) ? NULL : pio_bind_store(L, 1);
	char hex[PIO_SHA256_HEX + 1];
	int64_t size;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_input_digest(hex, &size, store, luaL_checkstring(L, 2), &err))
		return pio_bind_fail(L, &err);
	lua_pushstring(L, hex);
	lua_pushinteger(L, size);
	return 2;
}

static int store_bundle_add(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_bundle_add(store, pio_bind_field_integer(L, 2, "run_id", 0),
	                              needed(L, 2, "path"), needed(L, 2, "sha256"),
	                              pio_bind_field_integer(L, 2, "bytes", 0), &err);
	return pio_bind_done(L, rc, &err);
}

/* ---- checkpoints and objects -------------------------------------------------------- */

static int store_checkpoint_newest(lua_State *L)
{
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_newest(&id, pio_bind_store(L, 1), luaL_checkinteger(L, 2), &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_checkpoint_resume(lua_State *L)
{
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_resume(&id, pio_bind_store(L, 1), luaL_checkinteger(L, 2), &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_checkpoint_best(lua_State *L)
{
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_best(&id, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                   luaL_optstring(L, 3, NULL), luaL_optstring(L, 4, NULL),
	                                   &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_checkpoint_find(lua_State *L)
{
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_find(&id, pio_bind_store(L, 1), luaL_checkstring(L, 2), &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_object_path(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	const char *sha256 = luaL_checkstring(L, 2);
	pio_str path = PIO_STR_INIT;
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, pio_free);
	int rc = pio_store_object_path(&path, store, sha256, &err);
	char *text = rc ? NULL : pio_str_take(&path);
	pio_str_fini(&path);
	*guard = text;
	if (rc)
		return pio_bind_fail(L, &err);
	if (!text)
		return luaL_error(L, "out of memory");
	lua_pushstring(L, text);
	return 1;
}

const luaL_Reg pio_bind_store_plan_methods[] = {
	{ "snapshot_add", store_snapshot_add }, { "sweep_add", store_sweep_add },
	{ "sweep_state", store_sweep_state }, { "proposal_add", store_proposal_add },
	{ "proposal_lineage", store_proposal_lineage },
	{ "sweep_extend", store_sweep_extend }, { "proposal_observe", store_proposal_observe },
	{ "proposal_run_add", store_proposal_run_add }, { "proposal_forecast", store_proposal_forecast },
	{ "log", store_log },
	{ "stop_request", store_stop_request },
	{ "input_digest", store_input_digest }, { "bundle_add", store_bundle_add },
	{ "checkpoint_newest", store_checkpoint_newest }, { "checkpoint_resume", store_checkpoint_resume },
	{ "checkpoint_best", store_checkpoint_best }, { "checkpoint_find", store_checkpoint_find },
	{ "object_path", store_object_path },
	{ NULL, NULL },
};
