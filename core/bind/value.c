#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "bind/bind.h"

#define GUARD "pioche.guard"

/* Addresses that serve as keys of the registry. */
static const char null_key, array_key;

int pio_bind_fail(lua_State *L, const pio_err *err)
{
	lua_pushnil(L);
	lua_pushstring(L, err->message);
	lua_pushstring(L, pio_code_word(err->code));
	return 3;
}

/* ---- guards ------------------------------------------------------------------ */

struct guard {
	void *pointer;
	void (*free_fn)(void *);
};

static int guard_close(lua_State *L)
{
	struct guard *guard = luaL_checkudata(L, 1, GUARD);
	void *pointer = guard->pointer;
	guard->pointer = NULL;
	if (pointer)
		guard->free_fn(pointer);
	return 0;
}

void **pio_bind_guard(lua_State *L, void (*free_fn)(void *))
{
	struct guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
	guard->pointer = NULL;
	guard->free_fn = free_fn;
	if (luaL_newmetatable(L, GUARD)) {
		lua_pushcfunction(L, guard_close);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, guard_close);
		lua_setfield(L, -2, "__close");
	}
	lua_setmetatable(L, -2);
	return &guard->pointer;
}

void pio_bind_guard_json(void *value)
{
	json_decref(value);
}

void pio_bind_type(lua_State *L, const char *name, const struct luaL_Reg *methods,
                   lua_CFunction close, lua_CFunction tostring)
{
	luaL_newmetatable(L, name);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, close);
	lua_setfield(L, -2, "__gc");
	lua_pushcfunction(L, close);
	lua_setfield(L, -2, "__close");
	lua_pushcfunction(L, tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

/* ---- JSON ----------------------------------------------------------------------- */

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

static int table_to_json(json_t **value, lua_State *L, int index, int depth, pio_err *err)
{
	if (depth > 100 || !lua_checkstack(L, 8))
		return pio_fail(err, PIO_EINVAL, "a table nested deeper than 100 cannot be written as JSON");
	bool array = is_marked_array(L, index) || is_sequence(L, index);
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

/* ---- fields of an options table ----------------------------------------------------- */

const char *pio_bind_field_string(lua_State *L, int index, const char *name)
{
	int type = lua_getfield(L, index, name);
	if (type != LUA_TNIL && type != LUA_TSTRING)
		luaL_error(L, "field '%s' is a %s, expected a string", name, lua_typename(L, type));
	const char *text = lua_tostring(L, -1);
	lua_pop(L, 1);
	return text;
}

lua_Integer pio_bind_field_integer(lua_State *L, int index, const char *name,
                                   lua_Integer otherwise)
{
	int type = lua_getfield(L, index, name), exact = 0;
	lua_Integer value = otherwise;
	if (type != LUA_TNIL) {
		value = lua_tointegerx(L, -1, &exact);
		if (!exact)
			luaL_error(L, "field '%s' is a %s, expected an integer", name, lua_typename(L, type));
	}
	lua_pop(L, 1);
	return value;
}

bool pio_bind_field_boolean(lua_State *L, int index, const char *name)
{
	lua_getfield(L, index, name);
	bool value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

const char *const *pio_bind_strings(lua_State *L, int index, const char *name)
{
	index = lua_absindex(L, index);
	int type = name ? lua_getfield(L, index, name) : (lua_pushvalue(L, index), lua_type(L, index));
	if (type == LUA_TNIL)
		return NULL;
	if (type != LUA_TTABLE)
		luaL_error(L, "field '%s' is a %s, expected an array of strings", name ? name : "?",
		           lua_typename(L, type));
	lua_Unsigned count = lua_rawlen(L, -1);
	if (count > 1000000)
		luaL_error(L, "field '%s' has %I strings, at most 1000000", name ? name : "?",
		           (lua_Integer)count);
	/* The table stays referenced by the userdata: it owns the strings. */
	const char **strings = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *strings, 1);
	for (lua_Unsigned i = 0; i < count; i++) {
		if (lua_rawgeti(L, -2, (lua_Integer)i + 1) != LUA_TSTRING)
			luaL_error(L, "item %I of '%s' is a %s, expected a string", (lua_Integer)i + 1,
			           name ? name : "?", luaL_typename(L, -1));
		strings[i] = lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	strings[count] = NULL;
	lua_insert(L, -2);
	lua_setiuservalue(L, -2, 1);
	return strings;
}

/* ---- progress -------------------------------------------------------------------------- */

pio_bind_reporter pio_bind_reporter_get(lua_State *L, int index, const char *name)
{
	pio_bind_reporter reporter = { L, 0 };
	if (lua_istable(L, index) && lua_getfield(L, index, name) == LUA_TFUNCTION)
		reporter.function = lua_gettop(L);
	return reporter;
}

void pio_bind_report(void *context, const char *finding, int64_t done, int64_t total)
{
	pio_bind_reporter *reporter = context;
	lua_State *L = reporter->L;
	if (!reporter->function || !lua_checkstack(L, 6))
		return;
	lua_pushvalue(L, reporter->function);
	lua_pushstring(L, finding);
	lua_pushinteger(L, done);
	lua_pushinteger(L, total);
	if (pio_bind_call(L, 3, 0))
		lua_pop(L, 1);
}
