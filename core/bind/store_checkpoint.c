/* Checkpoints from Lua: what is in their tensors, and how two differ. */
#include <string.h>

#include "base/element.h"
#include "base/mem.h"
#include "bind/store.h"
#include "store/retain.h"
#include "store/series.h"
#include "store/tensor_diff.h"

/* series_value_at(series_id, step) -> the value there, or nearest before, or nil */
static int store_series_value_at(lua_State *L)
{
	double value;
	bool found;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_series_value_at(&value, &found, pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                              luaL_checkinteger(L, 3), &err))
		return pio_bind_fail(L, &err);
	if (found)
		lua_pushnumber(L, value);
	else
		lua_pushnil(L);
	return 1;
}

static const pio_element *check_element(lua_State *L, int index)
{
	const pio_element *element = pio_element_find(luaL_checkstring(L, index));
	luaL_argcheck(L, element && element->numbers, index, "not an element type that is numbers");
	return element;
}

/* numbers(dtype, bytes) -> the array of them; integers of 64 bits are exact, and those
 * beyond 2^63 negative, as Lua has them */
static int store_numbers(lua_State *L)
{
	const pio_element *element = check_element(L, 1);
	size_t len, size = (size_t)element->size_bytes;
	const char *bytes = luaL_checklstring(L, 2, &len);
	luaL_argcheck(L, len % size == 0 && len / size <= INT32_MAX, 2, "not a whole number of elements");
	lua_createtable(L, (int)(len / size), 0);
	for (size_t i = 0; i < len / size; i++) {
		double number;
		int64_t whole;
		if (element->is_integer && size == sizeof whole) {
			memcpy(&whole, bytes + i * size, sizeof whole);
			lua_pushinteger(L, whole);
		} else {
			pio_element_decode(&number, element, bytes + i * size, 1);
			if (element->is_integer)
				lua_pushinteger(L, (lua_Integer)number);
			else
				lua_pushnumber(L, number);
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* ---- how far two tensors are apart --------------------------------------------------- */

static pio_tensor_place check_place(lua_State *L, int index)
{
	luaL_checktype(L, index, LUA_TTABLE);
	pio_tensor_place place = {
		.path = pio_bind_field_string(L, index, "path"),
		.offset = pio_bind_field_integer(L, index, "offset", 0),
		.size_bytes = pio_bind_field_integer(L, index, "bytes", 0),
		.dtype = pio_bind_field_string(L, index, "dtype"),
	};
	luaL_argcheck(L, place.path && place.dtype, index, "fields 'path' and 'dtype' are needed");
	return place;
}

typedef struct listener {
	pio_bind_reporter reporter;
	int64_t done;
} listener;

static void heard(void *context, int64_t bytes)
{
	listener *l = context;
	l->done += bytes;
	pio_bind_report(&l->reporter, NULL, l->done, 0);
}

static void set_number(lua_State *L, const char *name, double value)
{
	lua_pushnumber(L, value);
	lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* tensor_diff({ path, offset, bytes, dtype }, the same, { report = function(nil, bytes read) })
 * -> { elements, changed, unfinite, and where it is no packed type max_abs, max_at
 *    (from 0), rms, relative, cosine } */
static int store_tensor_diff(lua_State *L)
{
	pio_tensor_place a = check_place(L, 1), b = check_place(L, 2);
	lua_settop(L, 3);
	listener l = { .reporter = pio_bind_reporter_get(L, 3, "report") };
	pio_tensor_diff diff;
	pio_err err = PIO_ERR_INIT;
	if (pio_tensor_diff_make(&diff, &a, &b, heard, &l, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 8);
	set_integer(L, "elements", diff.elements);
	set_integer(L, "changed", diff.changed);
	set_integer(L, "unfinite", diff.unfinite);
	if (diff.measured) {
		set_number(L, "max_abs", diff.max_abs);
		set_integer(L, "max_at", diff.max_at);
		set_number(L, "rms", diff.rms);
		set_number(L, "relative", diff.relative);
		set_number(L, "cosine", diff.cosine);
	}
	return 1;
}

/* ---- which are kept ------------------------------------------------------------------ */

/* { last, best, every, goal_key, goal } */
static pio_keep check_keep(lua_State *L, int index)
{
	luaL_checktype(L, index, LUA_TTABLE);
	return (pio_keep){
		.last = pio_bind_field_integer(L, index, "last", 0),
		.best = pio_bind_field_integer(L, index, "best", 0),
		.every = pio_bind_field_integer(L, index, "every", 0),
		.goal_key = pio_bind_field_string(L, index, "goal_key"),
		.goal = pio_bind_field_string(L, index, "goal"),
	};
}

/* checkpoint_judge(run_id, keep) -> array of { id, step, why (nil: it may go) } */
static int store_checkpoint_judge(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	pio_keep keep = check_keep(L, 3);
	void **guard = pio_bind_guard(L, pio_free);
	pio_retained *list = NULL;
	size_t count = 0;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_checkpoint_judge(&list, &count, store, run, &keep, &err))
		return pio_bind_fail(L, &err);
	*guard = list;
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_createtable(L, 0, 3);
		set_integer(L, "id", list[i].id);
		set_integer(L, "step", list[i].step);
		lua_pushstring(L, list[i].why);
		lua_setfield(L, -2, "why");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* checkpoint_retain(run_id, keep) -> false, or the id of the one to be reread first */
static int store_checkpoint_retain(lua_State *L)
{
	pio_keep keep = check_keep(L, 3);
	int64_t unread = 0;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_checkpoint_retain(&unread, pio_bind_store(L, 1), luaL_checkinteger(L, 2), &keep, &err))
		return pio_bind_fail(L, &err);
	if (unread)
		lua_pushinteger(L, unread);
	else
		lua_pushboolean(L, 0);
	return 1;
}

/* orphan_remove(sha256) -> bytes it took, or false: it is none */
static int store_orphan_remove(lua_State *L)
{
	int64_t bytes;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_orphan_remove(&bytes, pio_bind_store(L, 1), luaL_checkstring(L, 2), &err))
		return pio_bind_fail(L, &err);
	if (bytes >= 0)
		lua_pushinteger(L, bytes);
	else
		lua_pushboolean(L, 0);
	return 1;
}

/* checkpoint_pin(id, reason or nil), checkpoint_unpin(id) */
static int store_checkpoint_pin(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_store_checkpoint_pin(pio_bind_store(L, 1), luaL_checkinteger(L, 2),
	                                  luaL_optstring(L, 3, NULL), &err);
	return pio_bind_done(L, rc, &err);
}

static int store_checkpoint_unpin(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_checkpoint_unpin(pio_bind_store(L, 1), luaL_checkinteger(L, 2), &err),
	                     &err);
}

const luaL_Reg pio_bind_store_checkpoint_methods[] = {
	{ "series_value_at", store_series_value_at }, { "checkpoint_judge", store_checkpoint_judge },
	{ "checkpoint_retain", store_checkpoint_retain }, { "orphan_remove", store_orphan_remove },
	{ "checkpoint_pin", store_checkpoint_pin }, { "checkpoint_unpin", store_checkpoint_unpin },
	{ NULL, NULL },
};

const luaL_Reg pio_bind_store_checkpoint_functions[] = {
	{ "numbers", store_numbers }, { "tensor_diff", store_tensor_diff }, { NULL, NULL },
};
