/* Tensors from Lua: their numbers, how two differ, one put together of its parts. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/element.h"
#include "base/mem.h"
#include "base/safetensors.h"
#include "bind/store.h"
#include "store/tensor_copy.h"
#include "store/tensor_diff.h"
#include "sys/fs.h"

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
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 3, "report");
	pio_tensor_diff diff;
	pio_err err = PIO_ERR_INIT;
	if (pio_tensor_diff_make(&diff, &a, &b, pio_bind_heard, &reporter, &err))
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

/* ---- put together ---------------------------------------------------------------------- */

/* The array of integers in field `name`; how many. */
static int read_integers(lua_State *L, int index, const char *name, int64_t *values)
{
	int type = lua_getfield(L, index, name);
	lua_Unsigned count = type == LUA_TTABLE ? lua_rawlen(L, -1) : 0;
	luaL_argcheck(L, type == LUA_TTABLE || type == LUA_TNIL, index, "expected an array of integers");
	luaL_argcheck(L, count <= PIO_SAFETENSORS_DIMS_MAX, index, "too many dimensions");
	for (lua_Unsigned i = 0; i < count; i++) {
		lua_rawgeti(L, -1, (lua_Integer)i + 1);
		values[i] = luaL_checkinteger(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return (int)count;
}

/* tensor_copy(to, at, { path, offset, bytes, dtype, begin = {}, shape = {}, whole = {} or
 * nil: a run that begins at element `first` }, { report = function(nil, bytes) }) */
static int store_tensor_copy(lua_State *L)
{
	const char *to = luaL_checkstring(L, 1);
	lua_Integer at = luaL_checkinteger(L, 2);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 4);
	const char *dtype = pio_bind_field_string(L, 3, "dtype");
	const pio_element *element = dtype ? pio_element_find(dtype) : NULL;
	luaL_argcheck(L, element, 3, "field 'dtype' is no element type");
	pio_tensor_part part = {
		.path = pio_bind_field_string(L, 3, "path"),
		.offset = pio_bind_field_integer(L, 3, "offset", 0),
		.size_bytes = pio_bind_field_integer(L, 3, "bytes", 0),
		.element_bytes = element->size_bytes * (element->numbers ? element->numbers : 1),
		.ndim = read_integers(L, 3, "whole", (int64_t[PIO_SAFETENSORS_DIMS_MAX]){ 0 }),
	};
	luaL_argcheck(L, part.path, 3, "field 'path' is missing");
	part.begin[0] = pio_bind_field_integer(L, 3, "first", 0);
	if (part.ndim) {
		read_integers(L, 3, "whole", part.whole);
		int begins = read_integers(L, 3, "begin", part.begin), sizes = read_integers(L, 3, "shape", part.shape);
		luaL_argcheck(L, begins == part.ndim && sizes == part.ndim, 3, "of other dimensions than the whole");
	}
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 4, "report");
	int fd = -1;
	pio_err err = PIO_ERR_INIT;
	int rc = pio_fs_open(&fd, to, O_WRONLY, 0, &err);
	if (!rc)
		rc = pio_tensor_copy(fd, to, at, &part, pio_bind_heard, &reporter, &err);
	if (fd >= 0) {
		int closed = pio_fs_close(&fd, to, rc ? NULL : &err);
		rc = rc ? rc : closed;
	}
	return pio_bind_done(L, rc, &err);
}

/* ---- what is in a file ---------------------------------------------------------------- */

static void free_header(void *pointer)
{
	pio_safetensors_fini(pointer);
	pio_free(pointer);
}

static int read_header(pio_safetensors *header, const char *path, pio_err *err)
{
	uint8_t first[8] = { 0 };
	uint64_t header_bytes = 0;
	struct stat st;
	char *text = NULL;
	int fd = -1, rc = pio_fs_open(&fd, path, O_RDONLY, 0, err);
	if (rc)
		return rc;
	if (fstat(fd, &st) != 0)
		rc = pio_fail_errno(err, errno, "%s", path);
	if (!rc && st.st_size >= (off_t)sizeof first)
		rc = pio_fs_pread_all(fd, first, sizeof first, 0, path, err);
	if (!rc)
		rc = pio_safetensors_header_bytes(&header_bytes, first, (int64_t)st.st_size, path, err);
	if (!rc && !(text = pio_alloc((size_t)header_bytes)))
		rc = pio_fail(err, PIO_ENOMEM, "no memory for the header of %s", path);
	if (!rc)
		rc = pio_fs_pread_all(fd, text, (size_t)header_bytes, 8, path, err);
	if (!rc)
		rc = pio_safetensors_parse(header, text, (size_t)header_bytes, (int64_t)st.st_size, path, err);
	pio_free(text);
	pio_fs_close(&fd, path, NULL);
	return rc;
}

static void push_tensor(lua_State *L, const pio_tensor *t)
{
	lua_createtable(L, 0, 5);
	lua_pushstring(L, t->name);
	lua_setfield(L, -2, "name");
	lua_pushstring(L, t->dtype);
	lua_setfield(L, -2, "dtype");
	set_integer(L, "offset", t->offset);
	set_integer(L, "bytes", t->size_bytes);
	lua_createtable(L, t->ndim, 0);
	for (int i = 0; i < t->ndim; i++) {
		lua_pushinteger(L, t->shape[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "shape");
}

/* safetensors(path) -> array of { name, dtype, shape, offset, bytes } in the order of their
 * bytes, of a file that keeps to the format; and its metadata, JSON or nil */
static int store_safetensors(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	void **guard = pio_bind_guard(L, free_header);
	pio_safetensors *header = pio_calloc(1, sizeof *header);
	if (!header)
		return luaL_error(L, "out of memory");
	*guard = header;
	pio_err err = PIO_ERR_INIT;
	if (read_header(header, path, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, (int)header->count, 0);
	for (size_t i = 0; i < header->count; i++) {
		push_tensor(L, &header->tensors[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_pushstring(L, header->metadata);
	return 2;
}

const luaL_Reg pio_bind_store_tensor_functions[] = {
	{ "numbers", store_numbers }, { "tensor_diff", store_tensor_diff },
	{ "tensor_copy", store_tensor_copy }, { "safetensors", store_safetensors }, { NULL, NULL },
};
