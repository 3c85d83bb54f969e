/* Lua values and JSON, both ways. */
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "bind/bind.h"

/* Addresses that serve as keys of the registry. */
static const char null_key, array_key;

void pio_bind_push_null(lua_State *L)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key) != LUA_TNIL)
		return;
	lua_pop(L, 1);
	lua_newuserdatauv(L, 1, 0);
	lua_createtable(L, 0, 2);
	lua_pushstring(L, "null");
	lua_setfield(L, -2, "__name");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &null_key);
}

void pio_bind_mark_array(lua_State *L)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_createtable(L, 0, 1);
		lua_pushstring(L, "array");
		lua_setfield(L, -2, "__name");
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
	}
	lua_setmetatable(L, -2);
}

static bool is_marked_array(lua_State *L, int index)
{
	if (!lua_getmetatable(L, index))
		return false;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
	bool same = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return same;
}

/* True if the keys are exactly 1..n, n > 0. */
static bool is_sequence(lua_State *L, int index)
{
	lua_Unsigned count = lua_rawlen(L, index), seen = 0;
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		if (!lua_isinteger(L, -2)) {
			lua_pop(L, 2);
			return false;
		}
		seen++;
	}
	return count > 0 && seen == count;
}

bool pio_bind_is_array(lua_State *L, int index)
{
	return is_marked_array(L, index) || is_sequence(L, index);
}

static bool is_null(lua_State *L, int index)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key);
	bool same = lua_rawequal(L, -1, index);
	lua_pop(L, 1);
	return same;
}

static json_t *number_to_json(lua_State *L, int index)
{
	if (lua_isinteger(L, index))
		return json_integer(lua_tointeger(L, index));
	double value = lua_tonumber(L, index);
	if (isnan(value))
		return json_string("NaN");
	if (isinf(value))
		return json_string(value > 0 ? "Infinity" : "-Infinity");
	return json_real(value);
}

static int table_to_json(json_t **value, lua_State *L, int index, int depth, pio_err *err);

static int any_to_json(json_t **value, lua_State *L, int index, int depth, pio_err *err)
{
	size_t len = 0;
	const char *text = NULL;
	*value = NULL;
	switch (lua_type(L, index)) {
	case LUA_TNIL:
		*value = json_null();
		break;
	case LUA_TBOOLEAN:
		*value = json_boolean(lua_toboolean(L, index));
		break;
	case LUA_TNUMBER:
		*value = number_to_json(L, index);
		break;
	case LUA_TSTRING:
		text = lua_tolstring(L, index, &len);
		*value = json_stringn(text, len);
		if (!*value)
			return pio_fail(err, PIO_EINVAL, "a string of %zu bytes is not UTF-8, JSON needs it", len);
		break;
	case LUA_TTABLE:
		return table_to_json(value, L, index, depth, err);
	default:
		if (!is_null(L, index))
			return pio_fail(err, PIO_EINVAL, "a %s cannot be written as JSON",
			                luaL_typename(L, index));
		*value = json_null();
	}
	return *value ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory making JSON");
}

static int array_to_json(json_t *array, lua_State *L, int index, int depth, pio_err *err)
{
	lua_Unsigned count = lua_rawlen(L, index);
	for (lua_Unsigned i = 1; i <= count; i++) {
		json_t *item;
		lua_rawgeti(L, index, (lua_Integer)i);
		int rc = any_to_json(&item, L, lua_gettop(L), depth + 1, err);
		lua_pop(L, 1);
		if (rc)
			return rc;
		if (json_array_append_new(array, item))
			return pio_fail(err, PIO_ENOMEM, "out of memory making JSON");
	}
	return 0;
}

static int object_to_json(json_t *object, lua_State *L, int index, int depth, pio_err *err)
{
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		int top = lua_gettop(L);
		if (lua_type(L, top - 1) != LUA_TSTRING)
			return pio_fail(err, PIO_EINVAL, "a table with a key of type %s cannot be a JSON object",
			                luaL_typename(L, top - 1));
		size_t len;
		const char *key = lua_tolstring(L, top - 1, &len);
		if (memchr(key, 0, len))
			return pio_fail(err, PIO_EINVAL, "a JSON key holds a NUL");
		json_t *item;
		int rc = any_to_json(&item, L, top, depth + 1, err);
		if (rc)
			return rc;
		if (json_object_set_new(object, key, item))
			return pio_fail(err, PIO_EINVAL, "the JSON key \"%.100s\" is not UTF-8", key);
	}
	return 0;
}

static int table_to_json(json_t **value, lua_State *L, int index, int depth, pio_err *err)
{
	if (depth > 100 || !lua_checkstack(L, 8))
		return pio_fail(err, PIO_EINVAL, "a table nested deeper than 100 cannot be written as JSON");
	bool array = pio_bind_is_array(L, index);
	int top = lua_gettop(L);
	*value = array ? json_array() : json_object();
	if (!*value)
		return pio_fail(err, PIO_ENOMEM, "out of memory making JSON");
	int rc = array ? array_to_json(*value, L, index, depth, err)
	               : object_to_json(*value, L, index, depth, err);
	lua_settop(L, top);
	if (rc) {
		json_decref(*value);
		*value = NULL;
	}
	return rc;
}

int pio_bind_to_json(json_t **value, lua_State *L, int index, pio_err *err)
{
	*value = NULL;
	if (!lua_checkstack(L, 8))
		return pio_fail(err, PIO_ENOMEM, "out of memory making JSON");
	return any_to_json(value, L, lua_absindex(L, index), 0, err);
}

void pio_bind_push_json(lua_State *L, const json_t *value)
{
	luaL_checkstack(L, 6, "JSON nested too deep");
	const char *key;
	json_t *item;
	size_t i;
	switch (json_typeof(value)) {
	case JSON_NULL:
		pio_bind_push_null(L);
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		lua_pushboolean(L, json_is_true(value));
		return;
	case JSON_INTEGER:
		lua_pushinteger(L, json_integer_value(value));
		return;
	case JSON_REAL:
		lua_pushnumber(L, json_real_value(value));
		return;
	case JSON_STRING:
		lua_pushlstring(L, json_string_value(value), json_string_length(value));
		return;
	case JSON_ARRAY:
		lua_createtable(L, (int)json_array_size(value), 0);
		pio_bind_mark_array(L);
		json_array_foreach(value, i, item) {
			pio_bind_push_json(L, item);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		return;
	case JSON_OBJECT:
		lua_createtable(L, 0, (int)json_object_size(value));
		json_object_foreach((json_t *)(uintptr_t)value, key, item) {
			lua_pushstring(L, key);
			pio_bind_push_json(L, item);
			lua_rawset(L, -3);
		}
		return;
	}
}
