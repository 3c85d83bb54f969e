/* require "pioche.core.gpu": the GPUs of this machine. */
#include <lauxlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "gpu/nvml.h"

static void free_list(void *list)
{
	pio_gpus_free(list);
	pio_free(list);
}

static void push_gpu(lua_State *L, const pio_gpu *gpu)
{
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, gpu->index);
	lua_setfield(L, -2, "index");
	lua_pushstring(L, gpu->name);
	lua_setfield(L, -2, "name");
	lua_pushstring(L, gpu->uuid);
	lua_setfield(L, -2, "uuid");
	lua_pushinteger(L, (lua_Integer)gpu->memory_bytes);
	lua_setfield(L, -2, "memory_bytes");
}

/* list() -> { driver = text or "", gpus = { { index, name, uuid, memory_bytes } } } */
static int gpu_list(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	void **slot = pio_bind_guard(L, free_list);
	pio_gpus *list = *slot = pio_calloc(1, sizeof *list);
	if (!list) {
		pio_fail(&err, PIO_ENOMEM, "out of memory for the list of GPUs");
		return pio_bind_fail(L, &err);
	}
	if (pio_gpus_list(list, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 2);
	lua_pushstring(L, list->driver);
	lua_setfield(L, -2, "driver");
	lua_createtable(L, (int)list->count, 0);
	for (size_t i = 0; i < list->count; i++) {
		push_gpu(L, &list->gpus[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "gpus");
	return 1;
}

int pio_bind_open_gpu(lua_State *L)
{
	static const luaL_Reg functions[] = { { "list", gpu_list }, { NULL, NULL } };
	luaL_newlib(L, functions);
	return 1;
}
