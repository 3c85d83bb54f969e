/* Objects from Lua: their bytes, whichever way they lie on the disk, and which way. */
#include "base/mem.h"
#include "bind/store.h"
#include "store/object_code.h"
#include "sys/hash.h"
#include "sys/stored.h"

#define OBJECT "pioche.object"
#define BLOCK_BYTES ((size_t)1 << 20)

static pio_stored **check_object(lua_State *L)
{
	pio_stored **slot = luaL_checkudata(L, 1, OBJECT);
	luaL_argcheck(L, *slot, 1, "the object is closed");
	return slot;
}

static int object_close(lua_State *L)
{
	pio_stored **slot = luaL_checkudata(L, 1, OBJECT);
	pio_stored_close(slot);
	return 0;
}

static int object_tostring(lua_State *L)
{
	lua_pushliteral(L, "object");
	return 1;
}

/* object:bytes() -> how many it has */
static int object_bytes(lua_State *L)
{
	lua_pushinteger(L, pio_stored_bytes(*check_object(L)));
	return 1;
}

/* object:read(at, count) -> exactly so many bytes */
static int object_read(lua_State *L)
{
	pio_stored *object = *check_object(L);
	lua_Integer at = luaL_checkinteger(L, 2), count = luaL_checkinteger(L, 3);
	luaL_argcheck(L, count >= 0, 3, "not a number of bytes");
	luaL_Buffer buffer;
	char *to = luaL_buffinitsize(L, &buffer, (size_t)count);
	pio_err err = PIO_ERR_INIT;
	if (pio_stored_read(object, to, (size_t)count, at, &err))
		return pio_bind_fail(L, &err);
	luaL_pushresultsize(&buffer, (size_t)count);
	return 1;
}

/* object(path) -> the object that has its name there (store:object_path), to be read */
static int store_object(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "bytes", object_bytes }, { "read", object_read }, { "close", object_close }, { NULL, NULL },
	};
	const char *path = luaL_checkstring(L, 1);
	pio_bind_type(L, OBJECT, methods, object_close, object_tostring);
	pio_stored **slot = lua_newuserdatauv(L, sizeof *slot, 0);
	*slot = NULL;
	luaL_setmetatable(L, OBJECT);
	pio_err err = PIO_ERR_INIT;
	if (pio_stored_open(slot, path, &err))
		return pio_bind_fail(L, &err);
	return 1;
}

static int hash_object(char sha256[PIO_SHA256_HEX + 1], int64_t *bytes, const char *path, pio_err *err)
{
	pio_stored *object = NULL;
	pio_sha256 *hash = NULL;
	uint8_t *block = pio_alloc(BLOCK_BYTES);
	int rc = block ? pio_stored_open(&object, path, err) : pio_fail(err, PIO_ENOMEM, "out of memory");
	*bytes = rc ? 0 : pio_stored_bytes(object);
	if (!rc)
		rc = pio_sha256_new(&hash, err);
	for (int64_t at = 0; !rc && at < *bytes; at += (int64_t)BLOCK_BYTES) {
		size_t n = *bytes - at < (int64_t)BLOCK_BYTES ? (size_t)(*bytes - at) : BLOCK_BYTES;
		rc = pio_stored_read(object, block, n, at, err);
		if (!rc)
			rc = pio_sha256_update(hash, block, n, err);
	}
	if (!rc)
		rc = pio_sha256_finish(hash, sha256, err);
	pio_sha256_free(hash);
	pio_stored_close(&object);
	pio_free(block);
	return rc;
}

/* object_sha256(path) -> digest of the bytes, how many */
static int store_object_sha256(lua_State *L)
{
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes;
	pio_err err = PIO_ERR_INIT;
	if (hash_object(sha256, &bytes, luaL_checkstring(L, 1), &err))
		return pio_bind_fail(L, &err);
	lua_pushstring(L, sha256);
	lua_pushinteger(L, bytes);
	return 2;
}

static void tell(void *context, int64_t bytes)
{
	pio_bind_report(context, NULL, bytes, 0);
}

/* object_encode(sha256, { anchor = digest or nil, least = a ratio, report = function(nil,
 * bytes read again) }) -> { codec or why, sampled, bytes, stored_bytes } */
static int store_object_encode(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	const char *sha256 = luaL_checkstring(L, 2);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_getfield(L, 3, "least");
	pio_encode_options options = { .anchor = pio_bind_field_string(L, 3, "anchor"),
		                       .least = luaL_checknumber(L, -1), .progress = tell };
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 3, "report");
	options.context = &reporter;
	pio_encode_result result;
	pio_err err = PIO_ERR_INIT;
	if (pio_store_object_encode(&result, store, sha256, &options, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 5);
	lua_pushstring(L, result.codec);
	lua_setfield(L, -2, "codec");
	lua_pushstring(L, result.why);
	lua_setfield(L, -2, "why");
	lua_pushnumber(L, result.sampled);
	lua_setfield(L, -2, "sampled");
	lua_pushinteger(L, result.bytes);
	lua_setfield(L, -2, "bytes");
	lua_pushinteger(L, result.stored_bytes);
	lua_setfield(L, -2, "stored_bytes");
	return 1;
}

/* object_decode(sha256) */
static int store_object_decode(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return pio_bind_done(L, pio_store_object_decode(pio_bind_store(L, 1), luaL_checkstring(L, 2), &err), &err);
}

const luaL_Reg pio_bind_store_object_methods[] = {
	{ "object_encode", store_object_encode }, { "object_decode", store_object_decode }, { NULL, NULL },
};
const luaL_Reg pio_bind_store_object_functions[] = {
	{ "object", store_object }, { "object_sha256", store_object_sha256 }, { NULL, NULL },
};
