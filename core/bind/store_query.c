/* Reading the store from Lua: SQL. */
#include <stdlib.h>
#include <string.h>

#include "bind/store.h"

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

/* Push the array of the columns' names: a row takes them from there, which is
 * quicker than to look each up in the state's strings. */
static void push_names(lua_State *L, sqlite3_stmt *statement)
{
	int columns = sqlite3_column_count(statement);
	lua_createtable(L, columns, 0);
	for (int i = 0; i < columns; i++) {
		lua_pushstring(L, sqlite3_column_name(statement, i));
		lua_rawseti(L, -2, i + 1);
	}
}

static void push_row(lua_State *L, sqlite3_stmt *statement, int names)
{
	int columns = sqlite3_column_count(statement);
	lua_createtable(L, 0, columns);
	for (int i = 0; i < columns; i++) {
		if (sqlite3_column_type(statement, i) == SQLITE_NULL)
			continue;
		lua_rawgeti(L, names, i + 1);
		push_column(L, statement, i, false);
		lua_rawset(L, -3);
	}
}

/* A row without names; NULL is json.null. */
static void push_list(lua_State *L, sqlite3_stmt *statement, int names)
{
	(void)names;
	int columns = sqlite3_column_count(statement);
	lua_createtable(L, columns, 0);
	for (int i = 0; i < columns; i++) {
		push_column(L, statement, i, true);
		lua_rawseti(L, -2, i + 1);
	}
}

/* The array of what `push` pushes of each row; below it the array of the columns'
 * names. */
static int collect(lua_State *L, void (*push)(lua_State *L, sqlite3_stmt *statement, int names))
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = pio_bind_statement(L, &statement, db, lua_gettop(L)), code;
	if (failed)
		return failed;
	int holder = lua_gettop(L);
	push_names(L, statement);
	lua_newtable(L);
	for (lua_Integer n = 1; (code = sqlite3_step(statement)) == SQLITE_ROW; n++) {
		push(L, statement, holder + 1);
		lua_rawseti(L, -2, n);
	}
	int pushed = code == SQLITE_DONE ? 1 : pio_bind_sql_fail(L, db, code);
	pio_bind_statement_finish(L, holder);
	return pushed;
}

/* rows(sql, ...) -> array of tables by column name */
static int store_rows(lua_State *L)
{
	return collect(L, push_row);
}

static void push_first(lua_State *L, sqlite3_stmt *statement, int names)
{
	(void)names;
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

/* columns_rows(sql, ...) -> { columns = array of names, rows = array of arrays } */
static int store_columns_rows(lua_State *L)
{
	if (collect(L, push_list) != 1)
		return 3;
	lua_createtable(L, 0, 2);
	lua_insert(L, -3);
	lua_setfield(L, -3, "rows");
	lua_setfield(L, -2, "columns");
	return 1;
}

/* Push the second column; a third says the bits of a real that SQLite cannot hold,
 * or NULL. */
static void push_second(lua_State *L, sqlite3_stmt *statement)
{
	if (sqlite3_column_count(statement) < 3 || sqlite3_column_type(statement, 2) == SQLITE_NULL) {
		push_column(L, statement, 1, false);
		return;
	}
	int64_t bits = sqlite3_column_int64(statement, 2);
	double number;
	memcpy(&number, &bits, 8);
	lua_pushnumber(L, number);
}

/* map(sql, ...) -> { first column = second }, of two or three (push_second) */
static int store_map(lua_State *L)
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = pio_bind_statement(L, &statement, db, lua_gettop(L)), code;
	if (failed)
		return failed;
	int holder = lua_gettop(L), columns = sqlite3_column_count(statement);
	luaL_argcheck(L, columns == 2 || columns == 3, 2, "a map needs two or three columns");
	lua_newtable(L);
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		if (sqlite3_column_type(statement, 0) == SQLITE_NULL)
			continue;
		push_column(L, statement, 0, false);
		push_second(L, statement);
		lua_rawset(L, -3);
	}
	int pushed = code == SQLITE_DONE ? 1 : pio_bind_sql_fail(L, db, code);
	pio_bind_statement_finish(L, holder);
	return pushed;
}

static int compare_ids(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* Push the integers of the array at `index`, sorted. */
static const int64_t *push_ids(lua_State *L, int index, size_t *count)
{
	luaL_checktype(L, index, LUA_TTABLE);
	*count = lua_rawlen(L, index);
	int64_t *ids = lua_newuserdatauv(L, (*count + 1) * sizeof *ids, 0);
	bool sorted = true;     /* as they mostly are */
	for (size_t i = 0; i < *count; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		ids[i] = luaL_checkinteger(L, -1);
		lua_pop(L, 1);
		sorted = sorted && (i == 0 || ids[i - 1] <= ids[i]);
	}
	if (!sorted)
		qsort(ids, *count, sizeof *ids, compare_ids);
	return ids;
}

/* of_runs(sql, ids, ...) -> { run id = second column }, of two or three (push_second):
 * the first row of each of these runs. The SQL gives rows whose first column is at
 * least ?1, by an index in the order of that column: they are walked over as long as
 * they are of these runs, and sought anew from the next run on where they are not. */
static int store_of_runs(lua_State *L)
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	size_t count, at = 0;
	int arguments = lua_gettop(L), code = SQLITE_DONE;
	const int64_t *ids = push_ids(L, 3, &count);
	lua_pushinteger(L, count ? ids[0] : 0);
	lua_replace(L, 3);
	int failed = pio_bind_statement(L, &statement, db, arguments);
	if (failed)
		return failed;
	int holder = lua_gettop(L);
	lua_createtable(L, 0, (int)count);
	while (at < count && (code = sqlite3_step(statement)) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(statement, 0);
		while (at < count && ids[at] < id)
			at++;
		if (at < count && ids[at] == id) {
			push_second(L, statement);
			lua_rawseti(L, -2, id);
			at++;
		} else if (at < count) {
			sqlite3_reset(statement);
			sqlite3_bind_int64(statement, 1, ids[at]);
		}
	}
	int pushed = code == SQLITE_DONE || code == SQLITE_ROW ? 1 : pio_bind_sql_fail(L, db, code);
	pio_bind_statement_finish(L, holder);
	return pushed;
}

/* one(sql, ...) -> the first row, or nil */
static int store_one(lua_State *L)
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = pio_bind_statement(L, &statement, db, lua_gettop(L));
	if (failed)
		return failed;
	int holder = lua_gettop(L), code = sqlite3_step(statement);
	push_names(L, statement);
	if (code == SQLITE_ROW)
		push_row(L, statement, holder + 1);
	else if (code == SQLITE_DONE)
		lua_pushnil(L);
	int pushed = code == SQLITE_ROW || code == SQLITE_DONE ? 1 : pio_bind_sql_fail(L, db, code);
	pio_bind_statement_finish(L, holder);
	return pushed;
}

static int next_row(lua_State *L)
{
	sqlite3_stmt **slot = lua_touserdata(L, lua_upvalueindex(1));
	if (!*slot)
		return 0;
	int code = sqlite3_step(*slot);
	if (code == SQLITE_ROW) {
		push_row(L, *slot, lua_upvalueindex(2));
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
	int failed = pio_bind_statement(L, &statement, pio_store_db(store), lua_gettop(L));
	if (failed)
		return luaL_error(L, "%s", lua_tostring(L, -2));
	lua_pushvalue(L, -1);
	push_names(L, statement);
	lua_pushcclosure(L, next_row, 2);
	lua_pushnil(L);
	lua_pushnil(L);
	lua_pushvalue(L, -4); /* closed when the loop is left early */
	return 4;
}

const luaL_Reg pio_bind_store_query_methods[] = {
	{ "rows", store_rows }, { "one", store_one }, { "each", store_each },
	{ "column", store_column }, { "columns_rows", store_columns_rows }, { "map", store_map },
	{ "of_runs", store_of_runs },
	{ NULL, NULL },
};
