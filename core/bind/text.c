/* require "pioche.core.text": the columns of a table for people. What is done to
 * each cell alike is done here: a comparison has tens of thousands of them. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bind/bind.h"

#define NUMBER_BYTES 400 /* a double with all its digits, and some decimals */
#define DIGITS_MAX 40

/* Push the text of row r of the column at `index`: a cell is a string, nil or
 * { text, style }. */
static const char *push_cell(lua_State *L, int index, lua_Integer r, size_t *bytes)
{
	if (lua_rawgeti(L, index, r) == LUA_TTABLE) {
		lua_rawgeti(L, -1, 1);
		lua_remove(L, -2);
	}
	const char *text = lua_tolstring(L, -1, bytes);
	if (!text)
		*bytes = 0;
	return text ? text : "";
}

static bool is_plain(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

/* measure(cells, first, last) -> bytes of the longest text, and is all of it
 * ASCII that can be printed? */
static int text_measure(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_Integer last = luaL_checkinteger(L, 3);
	size_t longest = 0, bytes;
	bool plain = true;
	for (lua_Integer r = luaL_checkinteger(L, 2); r <= last; r++) {
		const char *text = push_cell(L, 1, r, &bytes);
		plain = plain && is_plain(text, bytes);
		longest = bytes > longest ? bytes : longest;
		lua_pop(L, 1);
	}
	lua_pushinteger(L, (lua_Integer)longest);
	lua_pushboolean(L, plain);
	return 2;
}

/* ---- numbers --------------------------------------------------------------------- */

/* An exponent as short as it can be: e-05 becomes e-5, e+05 e5. */
static size_t tidy_exponent(char *text, size_t bytes)
{
	char *e = memchr(text, 'e', bytes);
	if (!e)
		return bytes;
	char *to = e + 1, *from = e + 2;
	if (e[1] == '-')
		to++;
	from += strspn(from, "0");
	if (!*from)
		from--;
	size_t left = strlen(from);
	memmove(to, from, left + 1);
	return (size_t)(to - text) + left;
}

static void push_real(lua_State *L, double value, char style, int digits)
{
	char text[NUMBER_BYTES];
	if (value - value != 0) { /* no number, or endless */
		lua_pushstring(L, value != value ? "NaN" : value > 0 ? "Inf" : "-Inf");
		return;
	}
	int bytes = snprintf(text, sizeof text, style == 'f' ? "%.*f" : style == 'e' ? "%.*e" : "%.*g", digits,
	                     value);
	lua_pushlstring(L, text, style == 'f' ? (size_t)bytes : tidy_exponent(text, (size_t)bytes));
}

/* numbers(values, count, style, digits) -> their texts, in printf's style f, e or
 * g; integers as they are, and "" where there is none */
static int text_numbers(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_Integer count = luaL_checkinteger(L, 2);
	char style = *luaL_checkstring(L, 3);
	int digits = (int)luaL_checkinteger(L, 4);
	luaL_argcheck(L, digits >= 0 && digits <= DIGITS_MAX, 4, "too many digits");
	lua_settop(L, 4);
	lua_createtable(L, (int)count, 0);
	for (lua_Integer i = 1; i <= count; i++) {
		lua_rawgeti(L, 1, i);
		if (lua_isnil(L, -1))
			lua_pushliteral(L, "");
		else if (lua_isinteger(L, -1))
			luaL_tolstring(L, -1, NULL);
		else
			push_real(L, luaL_checknumber(L, -1), style, digits);
		lua_rawseti(L, 5, i);
		lua_pop(L, 1);
	}
	return 1;
}

/* ---- lines ------------------------------------------------------------------------- */

typedef struct column {
	int cells, widths;      /* stack indices; widths is 0 where each text is as wide as its bytes */
	size_t width, bytes_max;
	bool right;
} column;

/* The columns of the array at 1, their tables on the stack. */
static column *columns_of(lua_State *L, lua_Integer first, lua_Integer last, size_t *count)
{
	*count = lua_rawlen(L, 1);
	luaL_checkstack(L, (int)(2 * *count) + LUA_MINSTACK, "too many columns");
	column *columns = lua_newuserdatauv(L, (*count + 1) * sizeof *columns, 0);
	for (size_t c = 0; c < *count; c++) {
		lua_rawgeti(L, 1, (lua_Integer)c + 1);
		int description = lua_gettop(L);
		column *one = &columns[c];
		*one = (column){ .width = (size_t)pio_bind_field_integer(L, description, "width", 0),
		                 .right = pio_bind_field_boolean(L, description, "right") };
		lua_getfield(L, description, "cells");
		luaL_checktype(L, -1, LUA_TTABLE);
		one->cells = description;
		if (lua_getfield(L, description, "widths") == LUA_TTABLE)
			one->widths = description + 1;
		lua_remove(L, description);
		for (lua_Integer r = first; r <= last; r++) {
			size_t bytes;
			push_cell(L, one->cells, r, &bytes);
			one->bytes_max = bytes > one->bytes_max ? bytes : one->bytes_max;
			lua_pop(L, 1);
		}
	}
	return columns;
}

static char *pad(char *to, size_t count)
{
	memset(to, ' ', count);
	return to + count;
}

static char *put_cell(lua_State *L, char *to, const column *one, lua_Integer r)
{
	size_t bytes, width;
	const char *text = push_cell(L, one->cells, r, &bytes);
	width = bytes;
	if (one->widths) {
		lua_rawgeti(L, one->widths, r);
		width = (size_t)lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
	size_t padding = width < one->width ? one->width - width : 0;
	if (one->right)
		to = pad(to, padding);
	memcpy(to, text, bytes);
	lua_pop(L, 1);
	return one->right ? to + bytes : pad(to + bytes, padding);
}

/* lines(columns, first, last, gap, indent) -> the rows as lines, without spaces at
 * their ends. A column: { cells, width, right = aligned so, widths = of its texts,
 * where these are not their bytes }. */
static int text_lines(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
	size_t gap = (size_t)luaL_checkinteger(L, 4), indent = (size_t)luaL_checkinteger(L, 5), count;
	column *columns = columns_of(L, first, last, &count);
	size_t room = indent + 1;
	for (size_t c = 0; c < count; c++)
		room += gap + columns[c].width + columns[c].bytes_max;
	luaL_Buffer lines;
	luaL_buffinit(L, &lines);
	for (lua_Integer r = first; r <= last; r++) {
		char *line = luaL_prepbuffsize(&lines, room), *end = pad(line, indent);
		for (size_t c = 0; c < count; c++)
			end = put_cell(L, c ? pad(end, gap) : end, &columns[c], r);
		while (end > line && end[-1] == ' ')
			end--;
		*end++ = '\n';
		luaL_addsize(&lines, (size_t)(end - line));
	}
	luaL_pushresult(&lines);
	return 1;
}

int pio_bind_open_text(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "measure", text_measure }, { "numbers", text_numbers }, { "lines", text_lines }, { NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
