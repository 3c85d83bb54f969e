/* require "pioche.core.git": snapshots of the code. */
#include <lauxlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "git/export.h"
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
	pio_free(pointer);
}

static void str_guard_free(void *pointer)
{
	pio_str_fini(pointer);
	pio_free(pointer);
}

/* Zeroed memory that `free_fn` ends and frees in the end, whatever is raised. A userdata
 * would not do: the collector may free that before the guard has looked at it. */
static void *guarded(lua_State *L, size_t size_bytes, void (*free_fn)(void *))
{
	void **guard = pio_bind_guard(L, free_fn);
	*guard = pio_calloc(1, size_bytes);
	if (!*guard)
		luaL_error(L, "out of memory");
	return *guard;
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
	pio_snapshot *snapshot = guarded(L, sizeof *snapshot, snapshot_guard_free);
	int rc = pio_snapshot_take(snapshot, start, store, &options, &err);
	if (rc)
		pio_bind_fail(L, &err);
	else
		push_snapshot(L, snapshot);
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
	pio_str *text = guarded(L, sizeof *text, str_guard_free);
	*text = (pio_str)PIO_STR_INIT;
	int rc = started(&err);
	if (!rc)
		rc = b ? pio_snapshot_diff(text, repository, a, b, &err)
		       : pio_snapshot_diff_parent(text, repository, a, &err);
	if (rc)
		pio_bind_fail(L, &err);
	else
		lua_pushlstring(L, text->data, text->len);
	pio_str_fini(text); /* it may be large */
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

/* ---- the code for others ------------------------------------------------------------ */

/* commit_text(repository, commit) -> the text of the commit object */
static int git_commit_text(lua_State *L)
{
	pio_git_source source = { luaL_checkstring(L, 1), luaL_checkstring(L, 2) };
	pio_err err = PIO_ERR_INIT;
	pio_str *text = guarded(L, sizeof *text, str_guard_free);
	*text = (pio_str)PIO_STR_INIT;
	if (started(&err) || pio_git_commit_text(text, &source, &err))
		return pio_bind_fail(L, &err);
	lua_pushlstring(L, text->data, text->len);
	return 1;
}

typedef struct listing {
	pio_str names;          /* of all files, each ended by a NUL */
	int64_t *numbers;       /* mode and size of each */
	size_t count, capacity;
} listing;

static void listing_free(void *pointer)
{
	listing *list = pointer;
	pio_str_fini(&list->names);
	pio_free(list->numbers);
	pio_free(list);
}

static int list_file(void *context, const char *path, unsigned mode, int64_t size_bytes, pio_err *err)
{
	listing *list = context;
	int rc = 0;
	for (int i = 0; i < 2 && !rc; i++) {
		rc = pio_grow(&list->numbers, &list->capacity, list->count, "files of a commit", err);
		if (!rc)
			list->numbers[list->count++] = i ? size_bytes : (int64_t)mode;
	}
	pio_str_append(&list->names, path, strlen(path) + 1);
	return rc ? rc : pio_str_check(&list->names, err);
}

/* files(repository, commit, fd) -> array of { path, mode, bytes }, which are
 * appended to the open file in that order */
static int git_files(lua_State *L)
{
	pio_git_source source = { luaL_checkstring(L, 1), luaL_checkstring(L, 2) };
	int fd = (int)luaL_checkinteger(L, 3);
	pio_err err = PIO_ERR_INIT;
	listing *list = guarded(L, sizeof *list, listing_free);
	list->names = (pio_str)PIO_STR_INIT;
	if (started(&err) || pio_git_export_files(&source, fd, list_file, list, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, (int)(list->count / 2), 0);
	const char *name = list->names.data;
	for (size_t i = 0; i < list->count; i += 2) {
		lua_createtable(L, 0, 3);
		lua_pushstring(L, name);
		lua_setfield(L, -2, "path");
		lua_pushinteger(L, list->numbers[i]);
		lua_setfield(L, -2, "mode");
		lua_pushinteger(L, list->numbers[i + 1]);
		lua_setfield(L, -2, "bytes");
		lua_rawseti(L, -2, (lua_Integer)(i / 2) + 1);
		name += strlen(name) + 1;
	}
	return 1;
}

/* bundle({ repository, commit, repository, commit, ... }, fd [, history]): append
 * a git bundle of these commits */
static int git_bundle(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	int fd = (int)luaL_checkinteger(L, 2);
	bool history = lua_toboolean(L, 3);
	size_t count = lua_rawlen(L, 1) / 2;
	luaL_argcheck(L, count, 1, "no commit");
	const char *const *words = pio_bind_strings(L, 1, NULL);
	pio_git_source *sources = lua_newuserdatauv(L, count * sizeof *sources, 0);
	for (size_t i = 0; i < count; i++)
		sources[i] = (pio_git_source){ words[2 * i], words[2 * i + 1] };
	pio_err err = PIO_ERR_INIT;
	if (started(&err) || pio_git_export_bundle(sources, count, history, fd, &err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

int pio_bind_open_git(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "snapshot", git_snapshot }, { "subtree", git_subtree }, { "checkout", git_checkout },
		{ "diff", git_diff }, { "diff_parent", git_diff_parent },
		{ "commit_text", git_commit_text }, { "files", git_files }, { "bundle", git_bundle },
		{ NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
