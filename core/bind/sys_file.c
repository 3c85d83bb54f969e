/* require "pioche.core.sys": files. */
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/fs.h"

static int done(lua_State *L, int rc, const pio_err *err)
{
	if (rc)
		return pio_bind_fail(L, err);
	lua_pushboolean(L, 1);
	return 1;
}

static void str_guard_free(void *pointer)
{
	pio_str_fini(pointer);
	pio_free(pointer);
}

/* A pio_str that the collector ends, whatever is raised. */
static pio_str *push_str(lua_State *L)
{
	void **guard = pio_bind_guard(L, str_guard_free);
	pio_str *s = pio_alloc(sizeof *s);
	if (!s)
		luaL_error(L, "out of memory");
	*s = (pio_str)PIO_STR_INIT;
	*guard = s;
	return s;
}

/* ---- files ----------------------------------------------------------------------- */

static int sys_read_file(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	pio_err err = PIO_ERR_INIT;
	pio_str *text = push_str(L);
	if (pio_fs_read(text, path, &err))
		return pio_bind_fail(L, &err);
	lua_pushlstring(L, text->data, text->len);
	return 1;
}

static int sys_write_file(lua_State *L)
{
	size_t len;
	const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
	mode_t mode = (mode_t)luaL_optinteger(L, 3, 0666);
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_fs_write(path, text, len, mode, &err), &err);
}

static int sys_type(lua_State *L)
{
	switch (pio_fs_type(luaL_checkstring(L, 1))) {
	case PIO_FS_NONE: lua_pushnil(L); break;
	case PIO_FS_FILE: lua_pushliteral(L, "file"); break;
	case PIO_FS_DIR: lua_pushliteral(L, "dir"); break;
	case PIO_FS_OTHER: lua_pushliteral(L, "other"); break;
	}
	return 1;
}

static int sys_stat(lua_State *L)
{
	struct stat st;
	if (stat(luaL_checkstring(L, 1), &st)) {
		lua_pushnil(L);
		return 1;
	}
	lua_createtable(L, 0, 5);
	lua_pushinteger(L, (lua_Integer)st.st_atim.tv_sec * 1000000000 + st.st_atim.tv_nsec);
	lua_setfield(L, -2, "atime_ns");
	lua_pushinteger(L, st.st_size);
	lua_setfield(L, -2, "size");
	lua_pushinteger(L, (lua_Integer)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	lua_setfield(L, -2, "mtime_ns");
	lua_pushinteger(L, (lua_Integer)st.st_ino);
	lua_setfield(L, -2, "inode");
	lua_pushinteger(L, st.st_mode);
	lua_setfield(L, -2, "mode");
	return 1;
}

static int sys_access_x(lua_State *L)
{
	lua_pushboolean(L, access(luaL_checkstring(L, 1), X_OK) == 0);
	return 1;
}

static int sys_access_w(lua_State *L)
{
	lua_pushboolean(L, access(luaL_checkstring(L, 1), W_OK) == 0);
	return 1;
}

static int sys_realpath(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	char whole[PATH_MAX];
	if (!realpath(path, whole)) {
		pio_err err = PIO_ERR_INIT;
		pio_fail(&err, errno == ENOENT ? PIO_ENOTFOUND : PIO_EIO, "%s: %s", path, strerror(errno));
		return pio_bind_fail(L, &err);
	}
	lua_pushstring(L, whole);
	return 1;
}

static int sys_list(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	char **names;
	size_t count;
	pio_err err = PIO_ERR_INIT;
	pio_str *all = push_str(L);
	if (pio_fs_list(&names, &count, path, &err))
		return pio_bind_fail(L, &err);
	for (size_t i = 0; i < count; i++)
		pio_str_append(all, names[i], strlen(names[i]) + 1);
	pio_fs_list_free(names, count);
	if (all->failed)
		return luaL_error(L, "out of memory");
	lua_createtable(L, (int)count, 0);
	const char *name = all->data;
	for (size_t i = 0; i < count; i++, name += strlen(name) + 1) {
		lua_pushstring(L, name);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

static int sys_mkdirs(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_fs_mkdirs(luaL_checkstring(L, 1), 0777, &err), &err);
}

static int sys_remove_tree(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_fs_remove_tree(luaL_checkstring(L, 1), &err), &err);
}

static int sys_copy_tree(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_fs_copy_tree(luaL_checkstring(L, 1), luaL_checkstring(L, 2), &err), &err);
}

/* publish(made, path): what is under `made` becomes durable, then gets its name
 * in the same directory, which becomes durable too. */
static int sys_publish(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	const char *made = luaL_checkstring(L, 1), *path = luaL_checkstring(L, 2);
	const char *slash = strrchr(path, '/');
	luaL_argcheck(L, slash && slash > path, 2, "expected an absolute path");
	lua_pushlstring(L, path, (size_t)(slash - path));
	int rc = pio_fs_sync_filesystem(made, &err);
	if (!rc)
		rc = pio_fs_rename(made, path, &err);
	if (!rc)
		rc = pio_fs_sync_dir(lua_tostring(L, -1), &err);
	return done(L, rc, &err);
}

static int sys_free_bytes(lua_State *L)
{
	int64_t bytes = pio_fs_free_bytes(luaL_checkstring(L, 1));
	if (bytes < 0)
		lua_pushnil(L);
	else
		lua_pushinteger(L, bytes);
	return 1;
}

static int sys_is_network(lua_State *L)
{
	lua_pushboolean(L, pio_fs_is_network(luaL_checkstring(L, 1)));
	return 1;
}

/* find_up(name, from) -> the nearest folder at or above `from` that holds `name`. */
static int sys_find_up(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1), *from = luaL_optstring(L, 2, ".");
	char folder[PATH_MAX];
	if (!realpath(from, folder)) {
		lua_pushnil(L);
		return 1;
	}
	for (;;) {
		bool root = strcmp(folder, "/") == 0;
		const char *path = lua_pushfstring(L, "%s/%s", root ? "" : folder, name);
		if (pio_fs_type(path) != PIO_FS_NONE) {
			lua_pushstring(L, folder);
			return 1;
		}
		lua_pop(L, 1);
		if (root)
			break;
		char *slash = strrchr(folder, '/');
		slash[slash == folder] = 0;
	}
	lua_pushnil(L);
	return 1;
}

const luaL_Reg pio_bind_sys_file_functions[] = {
	{ "read_file", sys_read_file },
	{ "write_file", sys_write_file },
	{ "type", sys_type },
	{ "stat", sys_stat },
	{ "access_x", sys_access_x },
	{ "access_w", sys_access_w },
	{ "realpath", sys_realpath },
	{ "list", sys_list },
	{ "mkdirs", sys_mkdirs },
	{ "remove_tree", sys_remove_tree },
	{ "copy_tree", sys_copy_tree },
	{ "publish", sys_publish },
	{ "free_bytes", sys_free_bytes },
	{ "is_network", sys_is_network },
	{ "find_up", sys_find_up },
	{ NULL, NULL },
};
