/* require "pioche.core.sys": extended regular expressions, as `grep -E` has them. */
#include <lauxlib.h>
#include <regex.h>

#include "bind/bind.h"
#include "bind/sys.h"

#define REGEX "pioche.regex"

struct box {
	regex_t regex;
	bool is_open;
};

static int regex_close(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, REGEX);
	if (box->is_open)
		regfree(&box->regex);
	box->is_open = false;
	return 0;
}

static int regex_tostring(lua_State *L)
{
	luaL_checkudata(L, 1, REGEX);
	lua_pushliteral(L, "a regular expression");
	return 1;
}

/* matches(text): is there a match? Any bytes may stand in the text. */
static int regex_matches(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, REGEX);
	size_t size_bytes;
	const char *text = luaL_checklstring(L, 2, &size_bytes);
	luaL_argcheck(L, box->is_open, 1, "the expression is closed");
	regmatch_t whole = { .rm_so = 0, .rm_eo = (regoff_t)size_bytes };
	int rc = regexec(&box->regex, text, 1, &whole, REG_STARTEND);
	if (rc && rc != REG_NOMATCH)
		return luaL_error(L, "out of memory for a regular expression");
	lua_pushboolean(L, rc == 0);
	return 1;
}

/* regex(pattern, ignore_case) -> an object with matches(text) */
int pio_bind_sys_regex(lua_State *L)
{
	static const luaL_Reg methods[] = { { "matches", regex_matches }, { NULL, NULL } };
	const char *pattern = luaL_checkstring(L, 1);
	int flags = REG_EXTENDED | (lua_toboolean(L, 2) ? REG_ICASE : 0);
	char message[256];
	pio_err err = PIO_ERR_INIT;
	if (luaL_getmetatable(L, REGEX) == LUA_TNIL)
		pio_bind_type(L, REGEX, methods, regex_close, regex_tostring);
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	box->is_open = false;
	luaL_setmetatable(L, REGEX);
	int rc = regcomp(&box->regex, pattern, flags);
	if (rc) {
		regerror(rc, &box->regex, message, sizeof message);
		pio_fail(&err, PIO_EINVAL, "'%s' is no regular expression: %s", pattern, message);
		return pio_bind_fail(L, &err);
	}
	box->is_open = true;
	return 1;
}
