/* A bundle that is being made, from Lua: pack.bundle{ ... } and its methods. */
#include <lauxlib.h>

#include "bind/bind.h"
#include "pack/bundle.h"
#include "sys/fs.h"

#define BUNDLE "pioche.bundle"

static pio_bundle *check_bundle(lua_State *L)
{
	pio_bundle **slot = luaL_checkudata(L, 1, BUNDLE);
	luaL_argcheck(L, *slot, 1, "the bundle is closed");
	return *slot;
}

static int bundle_close(lua_State *L)
{
	pio_bundle **slot = luaL_checkudata(L, 1, BUNDLE);
	pio_bundle_free(*slot);
	*slot = NULL;
	return 0;
}

static int bundle_tostring(lua_State *L)
{
	lua_pushliteral(L, "bundle");
	return 1;
}

/* Digest and size of what was added. */
static int added(lua_State *L, const pio_bundle *bundle, int rc, const pio_err *err)
{
	int64_t size_bytes;
	if (rc)
		return pio_bind_fail(L, err);
	lua_pushstring(L, pio_bundle_newest(bundle, &size_bytes));
	lua_pushinteger(L, size_bytes);
	return 2;
}

/* bundle:info(label, value) */
static int bundle_info(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	if (pio_bundle_add_info(check_bundle(L), luaL_checkstring(L, 2), luaL_checkstring(L, 3), &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

/* bundle:text(path, bytes) -> sha256, bytes */
static int bundle_text(lua_State *L)
{
	pio_bundle *bundle = check_bundle(L);
	size_t len;
	const char *bytes = luaL_checklstring(L, 3, &len);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_bundle_add_bytes(bundle, luaL_checkstring(L, 2), bytes, len, &err);
	return added(L, bundle, rc, &err);
}

/* bundle:file(path, file [, sha256, bytes]) -> sha256, bytes */
static int bundle_file(lua_State *L)
{
	pio_bundle *bundle = check_bundle(L);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_bundle_add_file(bundle, luaL_checkstring(L, 2), luaL_checkstring(L, 3),
	                             luaL_optstring(L, 4, NULL), luaL_optinteger(L, 5, -1), &err);
	return added(L, bundle, rc, &err);
}

/* bundle:spool(dir) -> fd, at: what is written behind the end of this file, or by
 * bundle:append, becomes a part of the bundle by bundle:spooled(path, at [, bytes]) */
static int bundle_spool(lua_State *L)
{
	int fd;
	int64_t at;
	pio_err err = PIO_ERR_INIT;
	if (pio_bundle_spool(&fd, &at, check_bundle(L), luaL_checkstring(L, 2), &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, fd);
	lua_pushinteger(L, at);
	return 2;
}

/* bundle:append(dir, bytes) */
static int bundle_append(lua_State *L)
{
	const char *dir = luaL_checkstring(L, 2);
	size_t len;
	const char *bytes = luaL_checklstring(L, 3, &len);
	int fd;
	int64_t at;
	pio_err err = PIO_ERR_INIT;
	if (pio_bundle_spool(&fd, &at, check_bundle(L), dir, &err) ||
	    pio_fs_write_all(fd, bytes, len, dir, &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

/* bundle:spooled(path, at [, bytes]) -> sha256, bytes */
static int bundle_spooled(lua_State *L)
{
	pio_bundle *bundle = check_bundle(L);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_bundle_add_spooled(bundle, luaL_checkstring(L, 2), luaL_checkinteger(L, 3),
	                                luaL_optinteger(L, 4, -1), &err);
	return added(L, bundle, rc, &err);
}

/* bundle:write{ fd, progress = function(nil, done, total) } -> { sha256, bytes, left,
 * resumed }; with fd to that open file */
static int bundle_write(lua_State *L)
{
	pio_bundle *bundle = check_bundle(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	int fd = (int)pio_bind_field_integer(L, 2, "fd", -1);
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 2, "progress");
	pio_bundle_result result;
	pio_err err = PIO_ERR_INIT;
	if (fd >= 0 ? pio_bundle_stream(&result, bundle, fd, pio_bind_report, &reporter, &err)
	            : pio_bundle_write(&result, bundle, pio_bind_report, &reporter, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 4);
	lua_pushstring(L, result.sha256);
	lua_setfield(L, -2, "sha256");
	lua_pushinteger(L, result.size_bytes);
	lua_setfield(L, -2, "bytes");
	lua_pushinteger(L, result.left_bytes);
	lua_setfield(L, -2, "left");
	lua_pushinteger(L, result.resumed_bytes);
	lua_setfield(L, -2, "resumed");
	return 1;
}

int pio_bind_bundle(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "info", bundle_info }, { "text", bundle_text }, { "file", bundle_file },
		{ "spool", bundle_spool }, { "append", bundle_append },
		{ "spooled", bundle_spooled }, { "write", bundle_write }, { "close", bundle_close },
		{ NULL, NULL },
	};
	luaL_checktype(L, 1, LUA_TTABLE);
	const char *path = pio_bind_field_string(L, 1, "path");
	const char *name = pio_bind_field_string(L, 1, "name");
	luaL_argcheck(L, path && name, 1, "fields 'path' and 'name' are needed");
	pio_bind_type(L, BUNDLE, methods, bundle_close, bundle_tostring);
	pio_bundle **slot = lua_newuserdatauv(L, sizeof *slot, 0);
	*slot = NULL;
	luaL_setmetatable(L, BUNDLE);
	pio_err err = PIO_ERR_INIT;
	if (pio_bundle_new(slot, path, name, pio_bind_field_integer(L, 1, "mtime", 0), &err))
		return pio_bind_fail(L, &err);
	if (pio_bind_field_boolean(L, 1, "zstd"))
		pio_bundle_set_zstd(*slot);
	return 1;
}
