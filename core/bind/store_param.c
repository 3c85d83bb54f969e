/* Reading the store from Lua: the parameters of many runs. */
#include <string.h>

#include "base/json.h"
#include "bind/store.h"
#include "store/param.h"

static void free_params(void *params)
{
	pio_params_free(params);
}

/* JSON that cannot be read is the text that it is. */
static void push_json(lua_State *L, const pio_param_value *value)
{
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *json = NULL;
	if (pio_json_parse(&json, value->text, value->text_bytes, "JSON", NULL)) {
		lua_pushlstring(L, value->text, value->text_bytes);
	} else {
		*guard = json;
		pio_bind_push_json(L, json);
	}
	lua_remove(L, -2);
}

static void push_value(lua_State *L, const pio_param_value *value)
{
	double number;
	switch (value->kind) {
	case 'i':
		lua_pushinteger(L, value->bits);
		break;
	case 'r':
		memcpy(&number, &value->bits, 8);
		lua_pushnumber(L, number);
		break;
	case 'b':
		lua_pushboolean(L, value->bits == 1);
		break;
	case 't':
		lua_pushlstring(L, value->text, value->text_bytes);
		break;
	case 'j':
		push_json(L, value);
		break;
	default:
		pio_bind_push_null(L);
	}
}

/* Fields `values` and `same` of the table on top: see store_params. */
static void set_differing(lua_State *L, const pio_param_column *column, size_t runs)
{
	lua_createtable(L, (int)column->values_count, 0);
	int distinct = lua_gettop(L);
	for (size_t i = 0; i < column->values_count; i++) {
		push_value(L, &column->values[i]);
		lua_rawseti(L, distinct, (lua_Integer)i + 1);
	}
	lua_createtable(L, (int)runs, 0);
	lua_createtable(L, (int)runs, 0);
	for (size_t i = 0; i < runs; i++) {
		uint32_t at = column->by_run[i];
		if (!at)
			continue;
		lua_rawgeti(L, distinct, at);
		lua_rawseti(L, distinct + 1, (lua_Integer)i + 1);
		lua_pushinteger(L, column->values[at - 1].same_as);
		lua_rawseti(L, distinct + 2, (lua_Integer)i + 1);
	}
	lua_setfield(L, distinct - 1, "same");
	lua_setfield(L, distinct - 1, "values");
	lua_settop(L, distinct - 1);
}

/* params(ids) -> array of { name, count = of the runs that have it, and }
 *   value: what all of these runs say; or, where they differ,
 *   values: run i's at i, and same: at i a number that runs share whose values
 *   are the same (1 and 1.0 are; see store/param.h). */
static int store_params(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	size_t runs = lua_rawlen(L, 2), count;
	int64_t *ids = lua_newuserdatauv(L, (runs + 1) * sizeof *ids, 0);
	for (size_t i = 0; i < runs; i++) {
		lua_rawgeti(L, 2, (lua_Integer)i + 1);
		ids[i] = luaL_checkinteger(L, -1);
		lua_pop(L, 1);
	}
	void **guard = pio_bind_guard(L, free_params);
	pio_params *params;
	pio_err err = PIO_ERR_INIT;
	if (pio_params_read(&params, store, ids, runs, &err))
		return pio_bind_fail(L, &err);
	*guard = params;
	const pio_param_column *columns = pio_params_columns(params, &count);
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		const pio_param_column *column = &columns[i];
		lua_createtable(L, 0, 4);
		lua_pushlstring(L, column->name, column->name_bytes);
		lua_setfield(L, -2, "name");
		lua_pushinteger(L, (lua_Integer)column->count);
		lua_setfield(L, -2, "count");
		if (column->differs) {
			set_differing(L, column, runs);
		} else {
			push_value(L, &column->values[column->by_run ? column->by_run[0] - 1 : 0]);
			lua_setfield(L, -2, "value");
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

const luaL_Reg pio_bind_store_param_methods[] = { { "params", store_params }, { NULL, NULL } };
