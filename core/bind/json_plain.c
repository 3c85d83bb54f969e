/* JSON without a tree in between, of the usual kind: what is written and read again and again,
 * parameters of points and what they came to. The texts are those of base/json.h, byte for byte,
 * and so are the values; what is not plain is left to that. */
#include <ctype.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "bind/bind.h"

enum { TEXT_BYTES_MAX = 4000, MEMBERS_MAX = 64, DEPTH_MAX = 4, DIGITS_MAX = 18 };
#define REAL_MAX 1e15              /* beyond, a number of few digits is longer with its exponent */

/* A character that stands for itself. */
static bool is_plain(char c)
{
	return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

/* ---- writing ------------------------------------------------------------------------------ */

typedef struct writer {
	size_t length;
	char text[TEXT_BYTES_MAX];
} writer;

static bool put(writer *w, const char *bytes, size_t count)
{
	if (count > sizeof w->text - w->length)
		return false;
	memcpy(w->text + w->length, bytes, count);
	w->length += count;
	return true;
}

static bool put_string(writer *w, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!is_plain(text[i]))
			return false;
	return put(w, "\"", 1) && put(w, text, length) && put(w, "\"", 1);
}

static bool put_number(writer *w, lua_State *L, int index)
{
	char text[PIO_DECIMAL_BYTES];
	if (lua_isinteger(L, index)) {
		int length = snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, index));
		return put(w, text, (size_t)length);
	}
	double value = lua_tonumber(L, index);
	return fabs(value) < REAL_MAX && put(w, text, pio_decimal(text, value)); /* and NaN is not below */
}

static bool put_value(writer *w, lua_State *L, int index, int depth);

static bool put_array(writer *w, lua_State *L, int index, int depth)
{
	lua_Unsigned count = lua_rawlen(L, index);
	bool fine = put(w, "[", 1);
	for (lua_Unsigned i = 1; i <= count && fine; i++) {
		lua_rawgeti(L, index, (lua_Integer)i);
		fine = (i == 1 || put(w, ",", 1)) && put_value(w, L, lua_gettop(L), depth + 1);
		lua_pop(L, 1);
	}
	return fine && put(w, "]", 1);
}

typedef struct member {
	const char *key;           /* of the table, which has it all the while */
	size_t length;
	int value;                 /* where it is on the stack */
} member;

/* The members of an object by their keys, values left on the stack; -1: it is not plain. */
static int members_of(member members[MEMBERS_MAX], lua_State *L, int index)
{
	int count = 0;
	for (lua_pushnil(L); lua_next(L, index); count++) {
		if (count == MEMBERS_MAX || lua_type(L, -2) != LUA_TSTRING)
			return -1;
		lua_insert(L, -2); /* the key is what lua_next goes on from */
		member own = { .value = lua_gettop(L) - 1 };
		own.key = lua_tolstring(L, -1, &own.length);
		int place = count;
		for (; place > 0 && strcmp(members[place - 1].key, own.key) > 0; place--)
			members[place] = members[place - 1];
		members[place] = own;
	}
	return count;
}

static bool put_object(writer *w, lua_State *L, int index, int depth)
{
	member members[MEMBERS_MAX];
	int top = lua_gettop(L), count = members_of(members, L, index);
	bool fine = count >= 0 && put(w, "{", 1);
	for (int i = 0; i < count && fine; i++)
		fine = (i == 0 || put(w, ",", 1)) && put_string(w, members[i].key, members[i].length) &&
		       put(w, ":", 1) && put_value(w, L, members[i].value, depth + 1);
	lua_settop(L, top);
	return fine && put(w, "}", 1);
}

static bool put_value(writer *w, lua_State *L, int index, int depth)
{
	size_t length;
	const char *text;
	switch (lua_type(L, index)) {
	case LUA_TBOOLEAN:
		return lua_toboolean(L, index) ? put(w, "true", 4) : put(w, "false", 5);
	case LUA_TNUMBER:
		return put_number(w, L, index);
	case LUA_TSTRING:
		text = lua_tolstring(L, index, &length);
		return put_string(w, text, length);
	case LUA_TTABLE:
		if (depth == DEPTH_MAX || !lua_checkstack(L, MEMBERS_MAX + 4))
			return false;
		return pio_bind_is_array(L, index) ? put_array(w, L, index, depth) : put_object(w, L, index, depth);
	default:
		return false;
	}
}

bool pio_bind_plain_encode(lua_State *L, int index)
{
	int top = lua_gettop(L);
	writer w;
	w.length = 0;
	bool is_whole = put_value(&w, L, lua_absindex(L, index), 0);
	lua_settop(L, top);
	if (is_whole)
		lua_pushlstring(L, w.text, w.length);
	return is_whole;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Each pushes what begins at *at, and moves on; false where that is not plain, with anything
 * pushed. A text ends with a NUL, which is nowhere plain. */
static bool get_value(lua_State *L, const char **at, int depth);

static bool skip(const char **at, char c)
{
	if (**at != c)
		return false;
	++*at;
	return true;
}

static bool get_string(lua_State *L, const char **at)
{
	const char *from = *at + 1, *to = from;
	if (**at != '"')
		return false;
	while (is_plain(*to))
		to++;
	*at = to;
	lua_pushlstring(L, from, (size_t)(to - from));
	return skip(at, '"');
}

static const char *after_digits(const char *at)
{
	while (isdigit((unsigned char)*at))
		at++;
	return at;
}

/* The end of a number's text; NULL where it is none. */
static const char *end_of_number(const char *from, bool *is_real)
{
	const char *whole = from + (*from == '-'), *to = after_digits(whole);
	if (to == whole || (*whole == '0' && to > whole + 1))
		return NULL;
	*is_real = false;
	if (*to == '.') {
		const char *fraction = to + 1;
		*is_real = true;
		if ((to = after_digits(fraction)) == fraction)
			return NULL;
	}
	if (*to == 'e' || *to == 'E') {
		const char *power = to + 1 + (to[1] == '+' || to[1] == '-');
		*is_real = true;
		if ((to = after_digits(power)) == power)
			return NULL;
	}
	return to;
}

static bool get_number(lua_State *L, const char **at)
{
	bool is_real;
	const char *from = *at, *end = end_of_number(from, &is_real);
	char *read = NULL;
	if (!end || (!is_real && end - from > DIGITS_MAX))
		return false;
	if (is_real) {
		double value = strtod(from, &read);
		lua_pushnumber(L, value);
		if (!isfinite(value))
			return false;
	} else {
		lua_pushinteger(L, strtoll(from, &read, 10));
	}
	*at = end;
	return read == end;
}

static bool get_word(const char **at, const char *word)
{
	size_t length = strlen(word);
	if (strncmp(*at, word, length) != 0)
		return false;
	*at += length;
	return true;
}

static bool get_array(lua_State *L, const char **at, int depth)
{
	lua_createtable(L, 0, 0);
	pio_bind_mark_array(L);
	++*at;
	if (skip(at, ']'))
		return true;
	lua_Integer i = 0;
	do {
		if (!get_value(L, at, depth + 1))
			return false;
		lua_rawseti(L, -2, ++i);
	} while (skip(at, ','));
	return skip(at, ']');
}

static bool get_object(lua_State *L, const char **at, int depth)
{
	lua_createtable(L, 0, 8);
	++*at;
	if (skip(at, '}'))
		return true;
	do {
		if (!get_string(L, at) || !skip(at, ':'))
			return false;
		lua_pushvalue(L, -1);
		if (lua_rawget(L, -3) != LUA_TNIL) /* a key that is there twice */
			return false;
		lua_pop(L, 1);
		if (!get_value(L, at, depth + 1))
			return false;
		lua_rawset(L, -3);
	} while (skip(at, ','));
	return skip(at, '}');
}

static bool get_value(lua_State *L, const char **at, int depth)
{
	if (depth > DEPTH_MAX || !lua_checkstack(L, 8))
		return false;
	switch (**at) {
	case '"':
		return get_string(L, at);
	case '{':
		return get_object(L, at, depth);
	case '[':
		return get_array(L, at, depth);
	case 't':
		lua_pushboolean(L, 1);
		return get_word(at, "true");
	case 'f':
		lua_pushboolean(L, 0);
		return get_word(at, "false");
	case 'n':
		pio_bind_push_null(L);
		return get_word(at, "null");
	default:
		return get_number(L, at);
	}
}

bool pio_bind_plain_decode(lua_State *L, const char *text, size_t length)
{
	int top = lua_gettop(L);
	const char *at = text;
	if (get_value(L, &at, 0) && at == text + length)
		return true;
	lua_settop(L, top);
	return false;
}
