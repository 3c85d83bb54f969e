/* Reading the store from Lua: very many rows, of which few values are asked for. */
#include <limits.h>
#include <string.h>

#include "bind/store.h"
#include "store/columns.h"

#define COLUMNS "pioche.columns"
#define COLUMN "pioche.column"

struct column {
	const pio_columns *all; /* of the userdata that is the user value */
	int index;
};

static int columns_close(lua_State *L)
{
	pio_columns **slot = luaL_checkudata(L, 1, COLUMNS);
	pio_columns_free(*slot);
	*slot = NULL;
	return 0;
}

/* column[i], i from 1; nil where it is NULL, and beyond the last row. */
static int column_get(lua_State *L)
{
	const struct column *column = luaL_checkudata(L, 1, COLUMN);
	lua_Integer row = luaL_checkinteger(L, 2);
	if (row < 1 || (size_t)row > pio_columns_rows(column->all))
		return 0;
	pio_column_value value = pio_columns_get(column->all, (size_t)row - 1, column->index);
	switch (value.type) {
	case SQLITE_INTEGER:
		lua_pushinteger(L, value.whole);
		return 1;
	case SQLITE_FLOAT:
		lua_pushnumber(L, value.real);
		return 1;
	case SQLITE_TEXT:
		lua_pushlstring(L, value.text, value.bytes);
		return 1;
	default:
		return 0;
	}
}

static int column_length(lua_State *L)
{
	const struct column *column = luaL_checkudata(L, 1, COLUMN);
	lua_pushinteger(L, (lua_Integer)pio_columns_rows(column->all));
	return 1;
}

static void new_types(lua_State *L)
{
	if (luaL_newmetatable(L, COLUMNS)) {
		lua_pushcfunction(L, columns_close);
		lua_setfield(L, -2, "__gc");
	}
	if (luaL_newmetatable(L, COLUMN)) {
		static const luaL_Reg meta[] = {
			{ "__index", column_get }, { "__len", column_length }, { NULL, NULL },
		};
		luaL_setfuncs(L, meta, 0);
	}
	lua_pop(L, 2);
}

/* The collector sees a pointer: it is told how much there is behind that, so that it comes as soon
 * as if Lua had allocated it. */
static void tell_collector(lua_State *L, const pio_columns *columns)
{
	size_t kilobytes = pio_columns_bytes(columns) / 1024;
	if (kilobytes > 0)
		lua_gc(L, LUA_GCSTEP, kilobytes < INT_MAX ? (int)kilobytes : INT_MAX);
}

/* columns(sql, ...) -> { name = column }, where column[i] is the value of row i, made when it is
 * asked for, and #column how many rows there are */
static int store_columns(lua_State *L)
{
	sqlite3 *db = pio_store_db(pio_bind_store(L, 1));
	sqlite3_stmt *statement;
	int failed = pio_bind_statement(L, &statement, db, lua_gettop(L));
	if (failed)
		return failed;
	int holder = lua_gettop(L), count = sqlite3_column_count(statement), code = SQLITE_DONE;
	new_types(L);
	pio_columns **slot = lua_newuserdatauv(L, sizeof *slot, 0);
	*slot = NULL;
	luaL_setmetatable(L, COLUMNS);
	pio_err err = PIO_ERR_INIT;
	int rc = pio_columns_new(slot, count, &err);
	while (!rc && (code = sqlite3_step(statement)) == SQLITE_ROW)
		rc = pio_columns_add(*slot, statement, &err);
	lua_createtable(L, 0, count);
	for (int i = 0; !rc && code == SQLITE_DONE && i < count; i++) {
		struct column *column = lua_newuserdatauv(L, sizeof *column, 1);
		*column = (struct column){ .all = *slot, .index = i };
		luaL_setmetatable(L, COLUMN);
		lua_pushvalue(L, holder + 1);
		lua_setiuservalue(L, -2, 1);
		lua_setfield(L, -2, sqlite3_column_name(statement, i));
	}
	if (!rc)
		tell_collector(L, *slot);
	int pushed = rc ? pio_bind_fail(L, &err) : code == SQLITE_DONE ? 1 : pio_bind_sql_fail(L, db, code);
	pio_bind_statement_finish(L, holder);
	return pushed;
}

const luaL_Reg pio_bind_store_columns_methods[] = { { "columns", store_columns }, { NULL, NULL } };
