/* require "pioche.core.pack": bundles. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "pack/bundle.h"
#include "pack/weights.h"

static void bundle_guard_free(void *pointer)
{
	pio_bundle_free(pointer);
}

/* Add the entry on top of the stack: { path, data } or { path, file [, sha256, bytes] }. */
static int add_entry(lua_State *L, pio_bundle *bundle, pio_err *err)
{
	int entry = lua_gettop(L);
	const char *path = pio_bind_field_string(L, entry, "path");
	const char *file = pio_bind_field_string(L, entry, "file");
	if (!path)
		return luaL_error(L, "an entry of a bundle needs the field 'path'");
	if (file)
		return pio_bundle_add_file(bundle, path, file, pio_bind_field_string(L, entry, "sha256"),
		                           pio_bind_field_integer(L, entry, "bytes", -1), err);
	size_t len;
	if (lua_getfield(L, entry, "data") != LUA_TSTRING)
		return luaL_error(L, "the entry '%s' of a bundle has neither 'file' nor 'data'", path);
	const char *data = lua_tolstring(L, -1, &len);
	int rc = pio_bundle_add_bytes(bundle, path, data, len, err);
	lua_pop(L, 1);
	return rc;
}

static int add_all(lua_State *L, pio_bundle *bundle, pio_err *err)
{
	int rc = 0;
	if (lua_getfield(L, 1, "info") == LUA_TTABLE) {
		for (lua_Integer i = 1; !rc && lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
			const char *label = pio_bind_field_string(L, lua_gettop(L), "label");
			const char *value = pio_bind_field_string(L, lua_gettop(L), "value");
			rc = label && value ? pio_bundle_add_info(bundle, label, value, err) : 0;
			lua_pop(L, 1);
		}
	}
	lua_settop(L, 2);
	luaL_argcheck(L, lua_getfield(L, 1, "entries") == LUA_TTABLE, 1, "field 'entries' is missing");
	for (lua_Integer i = 1; !rc && lua_rawgeti(L, 3, i) == LUA_TTABLE; i++) {
		rc = add_entry(L, bundle, err);
		lua_settop(L, 3);
	}
	lua_settop(L, 2);
	return rc;
}

/* bundle{ path, name, mtime, info = {{label, value}}, entries, progress } ->
 * sha256, bytes. mtime in seconds; progress(nil, done, total). */
static int pack_bundle(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	const char *path = pio_bind_field_string(L, 1, "path");
	const char *name = pio_bind_field_string(L, 1, "name");
	lua_Integer mtime = pio_bind_field_integer(L, 1, "mtime", 0);
	luaL_argcheck(L, path && name, 1, "fields 'path' and 'name' are needed");
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, bundle_guard_free);
	pio_bundle *bundle = NULL;
	int rc = pio_bundle_new(&bundle, path, name, mtime, &err);
	*guard = bundle;
	if (!rc)
		rc = add_all(L, bundle, &err);
	if (rc)
		return pio_bind_fail(L, &err);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 1, "progress");
	pio_bundle_result result;
	if (pio_bundle_write(&result, bundle, pio_bind_report, &reporter, &err))
		return pio_bind_fail(L, &err);
	lua_pushstring(L, result.sha256);
	lua_pushinteger(L, result.size_bytes);
	return 2;
}

static int verify_weights(lua_State *L, const char *path)
{
	int64_t tensors, size_bytes;
	pio_err err = PIO_ERR_INIT;
	if (pio_weights_verify(&tensors, &size_bytes, path, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 2);
	lua_pushinteger(L, size_bytes);
	lua_setfield(L, -2, "bytes");
	lua_pushinteger(L, tensors);
	lua_setfield(L, -2, "tensors");
	return 1;
}

/* verify(path [, { report = function(finding, done, total) }]) ->
 * { name, sha256, bytes, files, payload_bytes, bad }; of a safetensors file, its
 * header: { bytes, tensors } */
static int pack_verify(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	lua_settop(L, 2);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 2, "report");
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	if (strcmp(path, "-") != 0 && pio_weights_is(path))
		return verify_weights(L, path);
	if (pio_bundle_verify(&result, path, pio_bind_report, &reporter, &err))
		return pio_bind_fail(L, &err);
	const struct { const char *name; int64_t value; } fields[] = {
		{ "bytes", result.size_bytes }, { "files", result.files },
		{ "payload_bytes", result.payload_bytes }, { "bad", result.bad },
	};
	lua_createtable(L, 0, 6);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		lua_pushinteger(L, fields[i].value);
		lua_setfield(L, -2, fields[i].name);
	}
	lua_pushstring(L, result.name);
	lua_setfield(L, -2, "name");
	lua_pushstring(L, result.sha256);
	lua_setfield(L, -2, "sha256");
	return 1;
}

int pio_bind_open_pack(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "bundle", pack_bundle }, { "verify", pack_verify }, { NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
