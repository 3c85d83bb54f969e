/* require "pioche.core.git": snapshots of the code. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "git/snapshot.h"

/* The library is started at its first use: verbs that need no snapshot do not
 * pay for it. */
static int started(pio_err *err)
{
	static bool is_started;
	int rc = is_started ? 0 : pio_git_init(err);
	is_started = rc == 0;
	return rc;
}

static void snapshot_guard_free(void *pointer)
{
	pio_snapshot_fini(pointer);
}

static void str_guard_free(void *pointer)
{
	pio_str_fini(pointer);
}

static void push_snapshot(lua_State *L, const pio_snapshot *snapshot)
{
	const struct { const char *name, *value; } strings[] = {
		{ "commit", snapshot->commit }, { "tree", snapshot->tree },
		{ "parent", snapshot->parent }, { "branch", snapshot->branch },
		{ "subject", snapshot->subject },
		{ "repository", snapshot->repository }, { "workdir", snapshot->workdir },
	};
	const struct { const char *name; int64_t value; } integers[] = {
		{ "files", snapshot->files }, { "bytes", snapshot->bytes },
		{ "files_hashed", snapshot->files_hashed },
	};
	lua_createtable(L, 0, 13);
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
		lua_pushstring(L, strings[i].value ? strings[i].value : "");
		lua_setfield(L, -2, strings[i].name);
	}
	for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
		lua_pushinteger(L, integers[i].value);
		lua_setfield(L, -2, integers[i].name);
	}
	lua_pushboolean(L, snapshot->dirty);
	lua_setfield(L, -2, "dirty");
	lua_pushboolean(L, snapshot->own);
	lua_setfield(L, -2, "own");
}

/* snapshot(start_path, store_dir [, { limit_bytes = }]) */
static int git_snapshot(lua_State *L)
{
	const char *start = luaL_checkstring(L, 1), *store = luaL_checkstring(L, 2);
	pio_snapshot_options options = { 0, 0, 0 };
	if (lua_istable(L, 3))
		options.file_bytes_max = pio_bind_field_integer(L, 3, "limit_bytes", 0);
	pio_err err = PIO_ERR_INIT;
	if (started(&err))
		return pio_bind_fail(L, &err);
	/* The struct lies in a userdata, so that a raise cannot lose its strings. */
	void **guard = pio_bind_guard(L, snapshot_guard_free);
	pio_snapshot *snapshot = lua_newuserdatauv(L, sizeof *snapshot, 0);
	memset(snapshot, 0, sizeof *snapshot);
	*guard = snapshot;
	int rc = pio_snapshot_take(snapshot, start, store, &options, &err);
	if (rc)
		pio_bind_fail(L, &err);
	else
		push_snapshot(L, snapshot);
	pio_snapshot_fini(snapshot);
	*guard = NULL;
	return rc ? 3 : 1;
}

/* subtree(repository, commit, { paths }) -> hex */
static int git_subtree(lua_State *L)
{
	const char *repository = luaL_checkstring(L, 1), *commit = luaL_checkstring(L, 2);
	luaL_checktype(L, 3, LUA_TTABLE);
	size_t count = lua_rawlen(L, 3);
	const char *const *paths = pio_bind_strings(L, 3, NULL);
	char hex[PIO_SNAPSHOT_IDENTITY_HEX + 1];
	pio_err err = PIO_ERR_INIT;
	if (started(&err) || pio_snapshot_subtree(hex, repository, commit, paths, count, &err))
		return pio_bind_fail(L, &err);
	lua_pushstring(L, hex);
	return 1;
}

static int git_checkout(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	if (started(&err) || pio_snapshot_checkout(luaL_checkstring(L, 1), luaL_checkstring(L, 2),
	                                           luaL_checkstring(L, 3), &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

static int push_diff(lua_State *L, const char *repository, const char *a, const char *b)
{
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, str_guard_free);
	pio_str *text = lua_newuserdatauv(L, sizeof *text, 0);
	*text = (pio_str)PIO_STR_INIT;
	*guard = text;
	int rc = started(&err);
	if (!rc)
		rc = b ? pio_snapshot_diff(text, repository, a, b, &err)
		       : pio_snapshot_diff_parent(text, repository, a, &err);
	if (rc)
		pio_bind_fail(L, &err);
	else
		lua_pushlstring(L, text->data, text->len);
	pio_str_fini(text);
	*guard = NULL;
	return rc ? 3 : 1;
}

/* diff(repository, a, b) -> patch */
static int git_diff(lua_State *L)
{
	return push_diff(L, luaL_checkstring(L, 1), luaL_checkstring(L, 2), luaL_checkstring(L, 3));
}

/* diff_parent(repository, commit) -> patch from the HEAD of that time */
static int git_diff_parent(lua_State *L)
{
	return push_diff(L, luaL_checkstring(L, 1), luaL_checkstring(L, 2), NULL);
}

int pio_bind_open_git(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "snapshot", git_snapshot }, { "subtree", git_subtree }, { "checkout", git_checkout },
		{ "diff", git_diff }, { "diff_parent", git_diff_parent }, { NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
