/* Checkpoints from Lua: which of them are kept. */
#include "base/mem.h"
#include "bind/store.h"
#include "store/checkpoint.h"
#include "store/checkpoint_import.h"
#include "store/retain.h"
#include "store/series.h"

/* series_value_at(series_id, step) -> the value there, or nearest before, or nil */
static int store_series_value_at(lua_State *L)
{
	double value;
	bool found;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_series_value_at(&value, &found, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                              luaL_checkinteger(L, 3), &err))
		return pio_bind_fail(L, &err);
	if (found)
		lua_pushnumber(L, value);
	else
		lua_pushnil(L);
	return 1;
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* ---- which are kept ------------------------------------------------------------------ */

/* { last, best, every, goal_key, goal } */
static pio_keep check_keep(lua_State *L, int index)
{
	luaL_checktype(L, index, LUA_TTABLE);
	return (pio_keep){
		.last = pio_bind_field_integer(L, index, "last", 0),
		.best = pio_bind_field_integer(L, index, "best", 0),
		.every = pio_bind_field_integer(L, index, "every", 0),
		.goal_key = pio_bind_field_string(L, index, "goal_key"),
		.goal = pio_bind_field_string(L, index, "goal"),
		.successor = pio_bind_field_integer(L, index, "successor", 0),
	};
}

/* checkpoint_judge(run_id, keep) -> array of { id, step, why (nil: it may go) } */
static int store_checkpoint_judge(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	pio_keep keep = check_keep(L, 3);
	void **guard = pio_bind_guard(L, pio_free);
	pio_retained *list = NULL;
	size_t count = 0;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_checkpoint_judge(&list, &count, store, run, &keep, &err))
		return pio_bind_fail(L, &err);
	*guard = list;
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_createtable(L, 0, 3);
		set_integer(L, "id", list[i].id);
		set_integer(L, "step", list[i].step);
		lua_pushstring(L, list[i].why);
		lua_setfield(L, -2, "why");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* checkpoint_retain(run_id, keep) -> false, or the id of the one to be reread first */
static int store_checkpoint_retain(lua_State *L)
{
	pio_keep keep = check_keep(L, 3);
	int64_t unread = 0;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_checkpoint_retain(&unread, pio_bind_store(L, 1), luaL_checkinteger(L, 2), &keep, &err))
		return pio_bind_fail(L, &err);
	if (unread)
		lua_pushinteger(L, unread);
	else
		lua_pushboolean(L, 0);
	return 1;
}

/* orphan_remove(name) -> bytes it took, or false: it is none */
static int store_orphan_remove(lua_State *L)
{
	int64_t bytes;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_orphan_remove(&bytes, pio_bind_store(L, 1), luaL_checkstring(L, 2), &err))
		return pio_bind_fail(L, &err);
	if (bytes >= 0)
		lua_pushinteger(L, bytes);
	else
		lua_pushboolean(L, 0);
	return 1;
}

/* checkpoint_pin(id, reason or nil), checkpoint_unpin(id) */
static int store_checkpoint_pin(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_pin(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                  luaL_optstring(L, 3, NULL), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_checkpoint_unpin(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_checkpoint_unpin(pio_bind_store(L, 1), luaL_checkinteger(L, 2), &err),
	                     &err);
}

/* ---- from elsewhere -------------------------------------------------------------------- */

/* The field `files`, which stays on the stack with what it borrows from. */
static const pio_checkpoint_import_file *check_files(lua_State *L, int index, size_t *count)
{
	luaL_argcheck(L, lua_getfield(L, index, "files") == LUA_TTABLE, index, "field 'files' is needed");
	int list = lua_gettop(L);
	*count = lua_rawlen(L, list);
	pio_checkpoint_import_file *files = lua_newuserdatauv(L, (*count + 1) * sizeof *files, 0);
	for (size_t i = 0; i < *count; i++) {
		luaL_argcheck(L, lua_rawgeti(L, list, (lua_Integer)i + 1) == LUA_TTABLE, index, "files are tables");
		files[i] = (pio_checkpoint_import_file){ .path = pio_bind_field_string(L, -1, "path"),
			.offset = pio_bind_field_integer(L, -1, "offset", 0),
			.size_bytes = pio_bind_field_integer(L, -1, "bytes", 0) };
		if (lua_getfield(L, -1, "header") != LUA_TNIL)
			files[i].header = luaL_checklstring(L, -1, &files[i].header_bytes);
		luaL_argcheck(L, files[i].path, index, "a file has a path");
		lua_pop(L, 2);
	}
	return files;
}

/* checkpoint_import{ run = id, step =, role =, staging =, files = { { path, header, offset,
 * bytes }, ... }, report = function(nil, bytes copied) } -> id */
static int store_checkpoint_import(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_checkpoint_import import = {
		.run_id = pio_bind_field_integer(L, 2, "run", 0),
		.step = pio_bind_field_integer(L, 2, "step", 0),
		.role = pio_bind_field_string(L, 2, "role"),
		.staging = pio_bind_field_string(L, 2, "staging"),
	};
	luaL_argcheck(L, import.role && import.staging, 2, "fields 'role' and 'staging' are needed");
	import.files = check_files(L, 2, &import.count);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 2, "report");
	int64_t id = 0;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_import(&id, store, &import, pio_bind_heard, &reporter, &err);
	return pio_bind_id(L, rc, id, &err);
}

/* ---- going on from one ----------------------------------------------------------------- */

/* checkpoint_index(id, path): the index by which ranks find its tensors */
static int store_checkpoint_index(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_index(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                    luaL_checkstring(L, 3), &err);
	return pio_bind_done(L, rc, &err);
}

/* proof_add{ run = id, checkpoint = digest, step =, result =, points =, message = } */
static int store_proof_add(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	const char *checkpoint = pio_bind_field_string(L, 2, "checkpoint");
	const char *result = pio_bind_field_string(L, 2, "result");
	const char *message = pio_bind_field_string(L, 2, "message");
	luaL_argcheck(L, checkpoint && result && message, 2, "fields are missing");
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_proof_add(store, pio_bind_field_integer(L, 2, "run", 0), checkpoint,
	                             pio_bind_field_integer(L, 2, "step", 0), result,
	                             pio_bind_field_integer(L, 2, "points", 0), message, &err);
	return pio_bind_done(L, rc, &err);
}

const luaL_Reg pio_bind_store_checkpoint_methods[] = {
	{ "series_value_at", store_series_value_at }, { "checkpoint_judge", store_checkpoint_judge },
	{ "checkpoint_retain", store_checkpoint_retain }, { "orphan_remove", store_orphan_remove },
	{ "checkpoint_pin", store_checkpoint_pin }, { "checkpoint_unpin", store_checkpoint_unpin },
	{ "checkpoint_import", store_checkpoint_import }, { "checkpoint_index", store_checkpoint_index },
	{ "proof_add", store_proof_add },
	{ NULL, NULL },
};
