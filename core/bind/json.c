/* require "pioche.core.json": canonical JSON for identities, pretty for people. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/bind.h"

static int json_encode(lua_State *L)
{
	luaL_checkany(L, 1);
	bool pretty = lua_istable(L, 2) && pio_bind_field_boolean(L, 2, "pretty");
	if (!pretty && pio_bind_plain_encode(L, 1))
		return 1;
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *value;
	if (pio_bind_to_json(&value, L, 1, &err))
		return pio_bind_fail(L, &err);
	*guard = value;
	void **text_guard = pio_bind_guard(L, free);
	char *text = pretty ? pio_json_pretty(value) : pio_json_canonical(value);
	if (!text)
		return luaL_error(L, "out of memory writing JSON");
	*text_guard = text;
	lua_pushstring(L, text);
	return 1;
}

static int json_decode(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	const char *what = luaL_optstring(L, 2, "JSON");
	if (pio_bind_plain_decode(L, text, len))
		return 1;
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *value;
	if (pio_json_parse(&value, text, len, what, &err))
		return pio_bind_fail(L, &err);
	*guard = value;
	pio_bind_push_json(L, value);
	return 1;
}

static int json_mark_array(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	pio_bind_mark_array(L);
	return 1;
}

int pio_bind_open_json(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "encode", json_encode },
		{ "decode", json_decode },
		{ "array", json_mark_array },
		{ NULL, NULL },
	};
	luaL_newlib(L, functions);
	pio_bind_push_null(L);
	lua_setfield(L, -2, "null");
	return 1;
}
