/* require "pioche.core.pack": bundles; bundle.c is the making of one. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "pack/bundle.h"
#include "pack/copy.h"
#include "pack/weights.h"

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

/* copy{ from, to, sha256, bytes, progress = function(nil, done, total) } */
static int pack_copy(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	const char *from = pio_bind_field_string(L, 1, "from"), *to = pio_bind_field_string(L, 1, "to");
	const char *sha256 = pio_bind_field_string(L, 1, "sha256");
	luaL_argcheck(L, from && to && sha256, 1, "fields 'from', 'to' and 'sha256' are needed");
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 1, "progress");
	pio_err err = PIO_ERR_INIT;
	if (pio_copy(from, to, sha256, pio_bind_field_integer(L, 1, "bytes", 0), pio_bind_report, &reporter, &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

int pio_bind_open_pack(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "bundle", pio_bind_bundle }, { "verify", pack_verify }, { "copy", pack_copy }, { NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
