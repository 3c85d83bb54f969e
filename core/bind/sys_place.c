/* require "pioche.core.sys": where files stand, locks, shared memory, and what
 * this program is made of. */
#include <archive.h>
#include <jansson.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/statvfs.h>
#include <uv.h>
#include <zstd.h>

#include "bind/bind.h"
#include "bind/sys.h"
#include "client/ring.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/shm.h"

static void set_boolean(lua_State *L, const char *name, bool value)
{
	lua_pushboolean(L, value);
	lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

/* place(path) -> { name, network, forced, is_network, locks_local, free_bytes,
 * free_files }: sys/fs.h. free_files is nil where a file system has no limit. */
static int sys_place(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	pio_fs_place place;
	struct statvfs st;
	pio_fs_place_get(&place, path);
	lua_createtable(L, 0, 7);
	set_string(L, "name", place.name);
	set_boolean(L, "network", place.network);
	set_boolean(L, "forced", place.forced);
	set_boolean(L, "is_network", place.is_network);
	set_boolean(L, "locks_local", place.locks_local);
	if (statvfs(path, &st) == 0) {
		set_integer(L, "free_bytes", (lua_Integer)(st.f_bavail * st.f_frsize));
		if (st.f_files)
			set_integer(L, "free_files", (lua_Integer)st.f_favail);
	}
	return 1;
}

/* is_locked(path) -> true while somebody holds pio_fs_lock on it */
static int sys_is_locked(lua_State *L)
{
	bool locked = false;
	pio_err err = PIO_ERR_INIT;
	if (pio_fs_is_locked(&locked, luaL_checkstring(L, 1), &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, locked);
	return 1;
}

/* shared_memory() -> { dir, ring_bytes }: where rings are made, and how large */
static int sys_shared_memory(lua_State *L)
{
	lua_createtable(L, 0, 2);
	set_string(L, "dir", pio_shm_dir());
	set_integer(L, "ring_bytes", (lua_Integer)PIO_RING_SLOTS * 32 + PIO_RING_SIDE_BYTES);
	return 1;
}

/* libraries() -> array of { name, version } that this program uses */
static int sys_libraries(lua_State *L)
{
	const char *openssl;
	(void)pio_hash_library(&openssl, NULL);
	const struct { const char *name, *version; } list[] = {
		{ "SQLite", sqlite3_libversion() },
		{ "Lua", LUA_VERSION_MAJOR "." LUA_VERSION_MINOR "." LUA_VERSION_RELEASE },
		{ "zstd", ZSTD_versionString() }, { "libuv", uv_version_string() },
		{ "jansson", jansson_version_str() }, { "libarchive", archive_version_string() },
		{ "OpenSSL", openssl ? openssl : "missing" },
	};
	lua_createtable(L, sizeof list / sizeof *list, 0);
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		lua_createtable(L, 0, 2);
		set_string(L, "name", list[i].name);
		set_string(L, "version", list[i].version);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* rename(from, to): within one directory, and durable */
static int sys_rename(lua_State *L)
{
	const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
	const char *slash = strrchr(to, '/');
	luaL_argcheck(L, slash && slash > to, 2, "expected an absolute path");
	lua_pushlstring(L, to, (size_t)(slash - to));
	pio_err err = PIO_ERR_INIT;
	int rc = pio_fs_rename(from, to, &err);
	if (!rc)
		rc = pio_fs_sync_dir(lua_tostring(L, -1), &err);
	if (rc)
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

const luaL_Reg pio_bind_sys_place_functions[] = {
	{ "place", sys_place }, { "is_locked", sys_is_locked }, { "shared_memory", sys_shared_memory },
	{ "libraries", sys_libraries }, { "rename", sys_rename }, { NULL, NULL },
};
