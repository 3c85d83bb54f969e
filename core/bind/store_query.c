/* Reading the store from Lua: SQL. */
#include <string.h>

#include "bind/store.h"

#define STATEMENT "pioche.statement"

/* ---- statements ------------------------------------------------------------------ */

static int sql_fail(lua_State *L, sqlite3 *db, int code)
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

/* Push a statement ready to step, with the arguments from index 3 bound; 0, or
 * the number of values of a pushed failure. */
static int push_statement(lua_State *L, sqlite3_stmt **out, sqlite3 *db)
{
	size_t len;
	const char *sql = luaL_checklstring(L, 2, &len), *rest = NULL;
	int arguments = lua_gettop(L);
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
	int code = sqlite3_prepare_v2(db, sql, (int)len + 1, slot, &rest);
	if (code != SQLITE_OK)
		return sql_fail(L, db, code);
	pio_err err = PIO_ERR_INIT;
	if (!*slot)
		pio_fail(&err, PIO_EINVAL, "SQL: there is no statement in it");
	else if (rest[strspn(rest, " \t\r\n;")])
		pio_fail(&err, PIO_EINVAL, "SQL: one statement at a time, please");
	else if (!sqlite3_stmt_readonly(*slot))
		pio_fail(&err, PIO_EINVAL, "SQL: this statement writes, and the store is only read here");
	if (err.code)
		return pio_bind_fail(L, &err);
	for (int i = 3; i <= arguments; i++)
		if ((code = bind_value(L, *slot, i - 2, i)) != SQLITE_OK)
			return sql_fail(L, db, code);
	*out = *slot;
	return 0;
}

/* Push column i; NULL pushes nil, or json.null when `null`. */
static void push_column(lua_State *L, sqlite3_stmt *statement, int i, bool null)
{
	switch (sqlite3_column_type(statement, i)) {
	case SQLITE_INTEGER:
		lua_pushinteger(L, sqlite3_column_int64(statement, i));
		break;
	case SQLITE_FLOAT:
		lua_pushnumber(L, sqlite3_column_double(statement, i));
		break;
	case SQLITE_NULL:
		if (null)
			pio_bind_push_null(L);
		else
			lua_pushnil(L);
		break;
	default: {
		const void *bytes = sqlite3_column_blob(statement, i);
		lua_pushlstring(L, bytes ? bytes : "", (size_t)sqlite3_column_bytes(statement, i));
	}
	}
}

static void push_row(lua_State *L, sqlite3_stmt *statement)
{
	int columns = sqlite3_column_count(statement);
	lua_createtable(L, 0, columns);
	for (int i = 0; i < columns; i++) {
		lua_pushstring(L, sqlite3_column_name(statement, i));
		push_column(L, statement, i, false);
		lua_rawset(L, -3);
	}
}

/* Finalize the statement in the userdata at `holder`: an open one would keep a
 * closed store half open until it is collected. */
static void finish(lua_State *L, int holder)
{
	sqlite3_stmt **slot = lua_touserdata(L, holder);
	sqlite3_finalize(*slot);
	*slot = NULL;
}

/* The array of what `push` pushes of each row. */
static int collect(lua_State *L, void (*push)(lua_State *L, sqlite3_stmt *statement))
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = push_statement(L, &statement, db), code;
	if (failed)
		return failed;
	int holder = lua_gettop(L);
	lua_newtable(L);
	for (lua_Integer n = 1; (code = sqlite3_step(statement)) == SQLITE_ROW; n++) {
		push(L, statement);
		lua_rawseti(L, -2, n);
	}
	if (code != SQLITE_DONE)
		return sql_fail(L, db, code);
	finish(L, holder);
	return 1;
}

/* rows(sql, ...) -> array of tables by column name */
static int store_rows(lua_State *L)
{
	return collect(L, push_row);
}

static void push_first(lua_State *L, sqlite3_stmt *statement)
{
	if (sqlite3_column_type(statement, 0) == SQLITE_NULL)
		lua_pushboolean(L, 0);
	else
		push_column(L, statement, 0, false);
}

/* column(sql, ...) -> array of the first column's values; NULL ends up as false */
static int store_column(lua_State *L)
{
	return collect(L, push_first);
}

/* one(sql, ...) -> the first row, or nil */
static int store_one(lua_State *L)
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = push_statement(L, &statement, db);
	if (failed)
		return failed;
	int holder = lua_gettop(L), code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		push_row(L, statement);
	else if (code == SQLITE_DONE)
		lua_pushnil(L);
	else
		return sql_fail(L, db, code);
	finish(L, holder);
	return 1;
}

static int next_row(lua_State *L)
{
	sqlite3_stmt **slot = lua_touserdata(L, lua_upvalueindex(1));
	if (!*slot)
		return 0;
	int code = sqlite3_step(*slot);
	if (code == SQLITE_ROW) {
		push_row(L, *slot);
		return 1;
	}
	if (code != SQLITE_DONE)
		return luaL_error(L, "SQL: %s", code == SQLITE_BUSY ? "another process is writing to the store"
		                  " and does not end" : sqlite3_errmsg(sqlite3_db_handle(*slot)));
	sqlite3_finalize(*slot);
	*slot = NULL;
	return 0;
}

/* The next of rows that were read before: upvalues are the array and a place in it. */
static int next_read(lua_State *L)
{
	lua_Integer at = lua_tointeger(L, lua_upvalueindex(2)) + 1;
	lua_pushinteger(L, at);
	lua_replace(L, lua_upvalueindex(2));
	lua_rawgeti(L, lua_upvalueindex(1), at);
	return 1;
}

/* for row in store:each(sql, ...) do */
static int store_each(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	sqlite3_stmt *statement;
	/* Without a WAL an open statement would hold up every writer, for as long as
	 * the loop takes: it may print into a pager that nobody reads. */
	if (pio_store_is_network(store)) {
		if (store_rows(L) != 1)
			return luaL_error(L, "%s", lua_tostring(L, -2));
		lua_pushinteger(L, 0);
		lua_pushcclosure(L, next_read, 2);
		return 1;
	}
	int failed = push_statement(L, &statement, pio_store_db(store));
	if (failed)
		return luaL_error(L, "%s", lua_tostring(L, -2));
	lua_pushvalue(L, -1);
	lua_pushcclosure(L, next_row, 1);
	lua_pushnil(L);
	lua_pushnil(L);
	lua_pushvalue(L, -4); /* closed when the loop is left early */
	return 4;
}

static int store_columns_rows(lua_State *L)
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = push_statement(L, &statement, db), code;
	if (failed)
		return failed;
	int holder = lua_gettop(L), columns = sqlite3_column_count(statement);
	lua_createtable(L, 0, 2);
	lua_createtable(L, columns, 0);
	for (int i = 0; i < columns; i++) {
		lua_pushstring(L, sqlite3_column_name(statement, i));
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "columns");
	lua_newtable(L);
	for (lua_Integer n = 1; (code = sqlite3_step(statement)) == SQLITE_ROW; n++) {
		lua_createtable(L, columns, 0);
		for (int i = 0; i < columns; i++) {
			push_column(L, statement, i, true);
			lua_rawseti(L, -2, i + 1);
		}
		lua_rawseti(L, -2, n);
	}
	if (code != SQLITE_DONE)
		return sql_fail(L, db, code);
	finish(L, holder);
	lua_setfield(L, -2, "rows");
	return 1;
}

const luaL_Reg pio_bind_store_query_methods[] = {
	{ "rows", store_rows }, { "one", store_one }, { "each", store_each },
	{ "column", store_column }, { "columns_rows", store_columns_rows }, { NULL, NULL },
};
