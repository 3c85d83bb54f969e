/* Reading the store from Lua: a statement in a userdata, which is finalized
 * however its use ends. */
#include <string.h>

#include "bind/store.h"
#include "store/series_now.h"

#define STATEMENT "pioche.statement"
#define KEPT_MAX 128   /* statements of a store, so that what is asked often is parsed once */

int pio_bind_sql_fail(lua_State *L, sqlite3 *db, int code)
{
	pio_err err = PIO_ERR_INIT;
	int word = PIO_EINVAL;
	if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
		word = PIO_EBUSY;
	else if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
		word = PIO_ECORRUPT;
	else if (code == SQLITE_FULL)
		word = PIO_ENOSPC;
	else if (code == SQLITE_IOERR)
		word = PIO_EIO;
	if (word == PIO_EBUSY)
		pio_fail(&err, word, "another process is writing to the store and does not end: try again");
	else
		pio_fail(&err, word, "SQL: %s", sqlite3_errmsg(db));
	return pio_bind_fail(L, &err);
}

static int statement_close(lua_State *L)
{
	sqlite3_stmt **slot = luaL_checkudata(L, 1, STATEMENT);
	sqlite3_finalize(*slot);
	*slot = NULL;
	return 0;
}

static int statement_tostring(lua_State *L)
{
	lua_pushliteral(L, "statement");
	return 1;
}

static int bind_value(lua_State *L, sqlite3_stmt *statement, int at, int index)
{
	size_t len;
	const char *text;
	switch (lua_type(L, index)) {
	case LUA_TNIL:
	case LUA_TNONE:
		return sqlite3_bind_null(statement, at);
	case LUA_TBOOLEAN:
		return sqlite3_bind_int(statement, at, lua_toboolean(L, index));
	case LUA_TNUMBER:
		if (lua_isinteger(L, index))
			return sqlite3_bind_int64(statement, at, lua_tointeger(L, index));
		return sqlite3_bind_double(statement, at, lua_tonumber(L, index));
	case LUA_TSTRING:
		text = lua_tolstring(L, index, &len);
		return sqlite3_bind_text64(statement, at, text, len, SQLITE_TRANSIENT, SQLITE_UTF8);
	default:
		return luaL_argerror(L, index, "cannot be bound to SQL");
	}
}

static int bind_all(lua_State *L, sqlite3_stmt *statement, sqlite3 *db, int arguments)
{
	for (int i = 3; i <= arguments; i++) {
		int code = bind_value(L, statement, i - 2, i);
		if (code != SQLITE_OK)
			return pio_bind_sql_fail(L, db, code);
	}
	return 0;
}

/* Push the statement that is kept for the SQL at index 2, where nobody uses it. */
static sqlite3_stmt *kept(lua_State *L)
{
	if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
		lua_pop(L, 1);
		return NULL;
	}
	lua_pushvalue(L, 2);
	lua_rawget(L, -2);
	sqlite3_stmt **slot = lua_touserdata(L, -1);
	if (!slot || !*slot || sqlite3_stmt_busy(*slot)) {
		lua_pop(L, 2);
		return NULL;
	}
	lua_remove(L, -2);
	return *slot;
}

int pio_bind_statement(lua_State *L, sqlite3_stmt **out, sqlite3 *db, int arguments)
{
	size_t len;
	const char *sql = luaL_checklstring(L, 2, &len), *rest = NULL;
	pio_err shown = PIO_ERR_INIT;
	if (strstr(sql, "series") && pio_store_series_now_show(pio_bind_store(L, 1), &shown))
		return pio_bind_fail(L, &shown);
	if ((*out = kept(L)))
		return bind_all(L, *out, db, arguments);
	sqlite3_stmt **slot = lua_newuserdatauv(L, sizeof *slot, 1);
	*slot = NULL;
	if (luaL_newmetatable(L, STATEMENT)) {
		lua_pop(L, 1);
		static const luaL_Reg none[] = { { NULL, NULL } };
		pio_bind_type(L, STATEMENT, none, statement_close, statement_tostring);
		luaL_getmetatable(L, STATEMENT);
	}
	lua_setmetatable(L, -2);
	/* The store must outlive its statement. */
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	pio_err err = PIO_ERR_INIT;
	int code = sqlite3_prepare_v2(db, sql, (int)len + 1, slot, &rest);
	if (code != SQLITE_OK)
		return pio_bind_sql_fail(L, db, code);
	if (!*slot)
		pio_fail(&err, PIO_EINVAL, "SQL: there is no statement in it");
	else if (rest[strspn(rest, " \t\r\n;")])
		pio_fail(&err, PIO_EINVAL, "SQL: one statement at a time, please");
	else if (!sqlite3_stmt_readonly(*slot))
		pio_fail(&err, PIO_EINVAL, "SQL: this statement writes, and the store is only read here");
	if (err.code)
		return pio_bind_fail(L, &err);
	*out = *slot;
	return bind_all(L, *slot, db, arguments);
}

void pio_bind_statement_finish(lua_State *L, int holder)
{
	sqlite3_stmt **slot = lua_touserdata(L, holder);
	if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
		sqlite3_finalize(*slot);
		*slot = NULL;
		lua_pop(L, 1);
		return;
	}
	sqlite3_reset(*slot);
	sqlite3_clear_bindings(*slot);
	lua_pushvalue(L, 2);
	bool is_new = lua_rawget(L, -2) != LUA_TUSERDATA;
	lua_rawgeti(L, -2, 1);
	lua_Integer count = lua_tointeger(L, -1);
	if (is_new && count < KEPT_MAX) {
		lua_pushvalue(L, 2);
		lua_pushvalue(L, holder);
		lua_rawset(L, -5);
		lua_pushinteger(L, count + 1);
		lua_rawseti(L, -4, 1);
	}
	lua_pop(L, 3);
}

void pio_bind_statements_open(lua_State *L)
{
	lua_newtable(L);
	lua_setiuservalue(L, -2, 1);
}

void pio_bind_statements_close(lua_State *L)
{
	if (lua_getiuservalue(L, 1, 1) == LUA_TTABLE) {
		lua_pushnil(L);
		while (lua_next(L, -2)) {
			sqlite3_stmt **slot = lua_touserdata(L, -1);
			if (slot) {
				sqlite3_finalize(*slot);
				*slot = NULL;
			}
			lua_pop(L, 1);
		}
	}
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_setiuservalue(L, 1, 1);
}
