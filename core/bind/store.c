/* require "pioche.core.store": the store's life, and runs. */
#include "bind/store.h"

#include "base/clock.h"
#include "client/drain.h"
#include "launch/leftover.h"
#include "store/checkpoint.h"
#include "store/fold.h"
#include "store/run.h"

#define STORE "pioche.store"

struct box {
	pio_store *store; /* NULL: closed */
};

int pio_bind_done(lua_State *L, int rc, const pio_err *err)
{
	if (rc)
		return pio_bind_fail(L, err);
	lua_pushboolean(L, 1);
	return 1;
}

pio_store *pio_bind_store(lua_State *L, int index)
{
	struct box *box = luaL_checkudata(L, index, STORE);
	luaL_argcheck(L, box->store, index, "the store is closed");
	return box->store;
}

static int store_close(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, STORE);
	pio_bind_statements_close(L);
	pio_store_close(&box->store);
	return 0;
}

static int store_tostring(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, STORE);
	lua_pushfstring(L, "store %s", box->store ? pio_store_path(box->store) : "(closed)");
	return 1;
}

/* open(path, mode, { progress = function(nil, done, total) }) */
static int store_open(lua_State *L)
{
	static const char *const words[] = { "read", "write", "create", NULL };
	const char *path = luaL_checkstring(L, 1);
	int mode = luaL_checkoption(L, 2, "read", words);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 3, "progress");
	pio_err err = PIO_ERR_INIT;
	struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
	box->store = NULL;
	luaL_setmetatable(L, STORE);
	pio_bind_statements_open(L);
	if (pio_store_open_heard(&box->store, path, (enum pio_store_mode)mode,
	                         reporter.function ? pio_bind_report : NULL, &reporter, &err))
		return pio_bind_fail(L, &err);
	return 1;
}

static int store_path(lua_State *L)
{
	lua_pushstring(L, pio_store_path(pio_bind_store(L, 1)));
	return 1;
}

static int store_is_writable(lua_State *L)
{
	lua_pushboolean(L, pio_store_is_writable(pio_bind_store(L, 1)));
	return 1;
}

static int store_begin(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_begin(pio_bind_store(L, 1), &err), &err);
}

static int store_commit(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_commit(pio_bind_store(L, 1), &err), &err);
}

static int store_rollback(lua_State *L)
{
	pio_store_rollback(pio_bind_store(L, 1));
	return 0;
}

int pio_bind_id(lua_State *L, int rc, int64_t id, const pio_err *err)
{
	if (rc)
		return pio_bind_fail(L, err);
	if (id)
		lua_pushinteger(L, id);
	else
		lua_pushnil(L);
	return 1;
}

/* ---- experiments and runs ------------------------------------------------------- */

static int store_experiment(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_experiment(&id, store, luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL),
	                              luaL_optstring(L, 4, NULL), &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_run_create(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_getfield(L, 2, "seed");
	pio_store_run_spec spec = {
		.experiment_id = pio_bind_field_integer(L, 2, "experiment_id", 0),
		.ulid = pio_bind_field_string(L, 2, "ulid"),
		.identity = pio_bind_field_string(L, 2, "identity"),
		.sweep_id = pio_bind_field_integer(L, 2, "sweep_id", 0),
		.snapshot_id = pio_bind_field_integer(L, 2, "snapshot_id", 0),
		.from_checkpoint = pio_bind_field_string(L, 2, "from_checkpoint"),
		.program = pio_bind_field_string(L, 2, "program"),
		.launch = pio_bind_field_string(L, 2, "launch"),
		.seed = pio_bind_field_integer(L, 2, "seed", 0),
		.has_seed = !lua_isnil(L, -1),
	};
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_run_create(&id, store, &spec, &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_run_set_job(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_run_set_job(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                               luaL_checkstring(L, 3), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_run_find(lua_State *L)
{
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_run_find(&id, pio_bind_store(L, 1), luaL_checkstring(L, 2), &err);
	return pio_bind_id(L, rc, id, &err);
}

static int store_run_set_status(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_run_set_status(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                  luaL_checkstring(L, 3), luaL_optstring(L, 4, NULL), &err);
	return pio_bind_done(L, rc, &err);
}

/* param_set(run_id, name, value [, json_text]): the value, or the JSON text as
 * it stands. */
static int store_param_set(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	size_t name_len, json_len;
	const char *name = luaL_checklstring(L, 3, &name_len);
	const char *json = luaL_optlstring(L, 5, NULL, &json_len);
	if (!json) {
		lua_settop(L, 4);
		lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
		lua_getfield(L, -1, "pioche.core.json");
		if (lua_isnil(L, -1))
			luaL_requiref(L, "pioche.core.json", pio_bind_open_json, 0);
		lua_getfield(L, -1, "encode");
		lua_pushvalue(L, 4);
		lua_call(L, 1, 3);
		json = lua_tolstring(L, -3, &json_len);
		if (!json)
			return 3;
	}
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_param_set(store, run, name, name_len, json, json_len, &err),
	                     &err);
}

static int store_tag_set(lua_State *L)
{
	size_t name_len, value_len;
	const char *name = luaL_checklstring(L, 3, &name_len);
	const char *value = luaL_checklstring(L, 4, &value_len);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_tag_set(pio_bind_store(L, 1), luaL_checkinteger(L, 2), name, name_len,
	                           value, value_len, &err);
	return pio_bind_done(L, rc, &err);
}

static int store_tag_remove(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 3, &len);
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_tag_remove(pio_bind_store(L, 1), luaL_checkinteger(L, 2), name,
	                                             len, &err), &err);
}

/* event(run_id, { kind, message, step, rank, key, attempt_id }) */
static int store_event(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	luaL_checktype(L, 3, LUA_TTABLE);
	const char *kind = pio_bind_field_string(L, 3, "kind");
	const char *message = pio_bind_field_string(L, 3, "message");
	luaL_argcheck(L, kind && message, 3, "fields 'kind' and 'message' are needed");
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_event_add(store, run, pio_bind_field_integer(L, 3, "attempt_id", 0),
	                             (int)pio_bind_field_integer(L, 3, "rank", -1),
	                             pio_bind_field_integer(L, 3, "step", INT64_MIN),
	                             pio_clock_wall_ns(), kind, pio_bind_field_string(L, 3, "key"),
	                             message, &err);
	return pio_bind_done(L, rc, &err);
}

/* Also what a dead agent of another attempt left on this node. */
static int store_adopt(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	pio_str told = PIO_STR_INIT;
	pio_err err = PIO_ERR_INIT, why = PIO_ERR_INIT;
	int left = pio_leftover_drain(&told, pio_store_path(store), &why);
	pio_str_fini(&told);
	int rc = pio_store_adopt(store, pio_ring_recover, &err);
	return rc ? pio_bind_fail(L, &err) : pio_bind_done(L, left, &why);
}

/* fold(attempt_id, final) -> { points, records, last_step, checkpoints } */
static int store_fold(lua_State *L)
{
	pio_fold_result result = { .last_step = INT64_MIN };
	pio_err err = PIO_ERR_INIT;
	if (pio_store_fold_attempt(&result, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                           lua_toboolean(L, 3), &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, result.points);
	lua_setfield(L, -2, "points");
	lua_pushinteger(L, result.records);
	lua_setfield(L, -2, "records");
	lua_pushinteger(L, result.checkpoints);
	lua_setfield(L, -2, "checkpoints");
	if (result.last_step != INT64_MIN) {
		lua_pushinteger(L, result.last_step);
		lua_setfield(L, -2, "last_step");
	}
	return 1;
}

static int store_recover(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_checkpoint_recover(pio_bind_store(L, 1), &err), &err);
}

static const luaL_Reg store_methods[] = {
	{ "close", store_close }, { "path", store_path }, { "is_writable", store_is_writable },
	{ "begin", store_begin }, { "commit", store_commit }, { "rollback", store_rollback },
	{ "experiment", store_experiment }, { "run_create", store_run_create },
	{ "run_set_job", store_run_set_job }, { "run_find", store_run_find },
	{ "run_set_status", store_run_set_status }, { "param_set", store_param_set },
	{ "tag_set", store_tag_set }, { "tag_remove", store_tag_remove }, { "event", store_event },
	{ "adopt", store_adopt }, { "fold", store_fold }, { "recover", store_recover }, { NULL, NULL },
};

int pio_bind_open_store(lua_State *L)
{
	static const luaL_Reg functions[] = { { "open", store_open }, { NULL, NULL } };
	static const luaL_Reg *const others[] = {
		pio_bind_store_query_methods, pio_bind_store_columns_methods, pio_bind_store_param_methods,
		pio_bind_store_series_methods, pio_bind_store_verify_methods, pio_bind_store_plan_methods,
		pio_bind_store_object_methods, pio_bind_store_checkpoint_methods, pio_bind_store_rung_methods,
		pio_bind_store_change_methods, pio_bind_store_care_methods,
	};
	pio_bind_type(L, STORE, store_methods, store_close, store_tostring);
	luaL_getmetatable(L, STORE);
	lua_getfield(L, -1, "__index");
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		luaL_setfuncs(L, others[i], 0);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, pio_bind_store_tensor_functions, 0);
	luaL_setfuncs(L, pio_bind_store_object_functions, 0);
	lua_getfield(L, -2, "input_digest");
	lua_setfield(L, -2, "input_digest");
	return 1;
}
