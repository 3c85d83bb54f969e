/* require "pioche.core.gpu": the GPUs of this machine. */
#include <lauxlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "gpu/nvml.h"

typedef struct listing {
	pio_gpus list;
	pio_str faults;
} listing;

static void free_listing(void *value)
{
	listing *l = value;
	pio_gpus_free(&l->list);
	pio_str_fini(&l->faults);
	pio_free(l);
}

static void push_gpu(lua_State *L, const pio_gpu *gpu, pio_str *faults)
{
	lua_createtable(L, 0, 5);
	lua_pushinteger(L, gpu->index);
	lua_setfield(L, -2, "index");
	lua_pushstring(L, gpu->name);
	lua_setfield(L, -2, "name");
	lua_pushstring(L, gpu->uuid);
	lua_setfield(L, -2, "uuid");
	lua_pushinteger(L, (lua_Integer)gpu->memory_bytes);
	lua_setfield(L, -2, "memory_bytes");
	pio_str_clear(faults);
	if (pio_gpu_put_faults(faults, gpu)) {
		lua_pushlstring(L, faults->data, faults->len);
		lua_setfield(L, -2, "faults");
	}
}

/* list() -> { driver = text or "", gpus = { { index, name, uuid, memory_bytes,
 * faults = text or nil } } } */
static int gpu_list(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	void **slot = pio_bind_guard(L, free_listing);
	listing *l = *slot = pio_calloc(1, sizeof *l);
	if (!l) {
		pio_fail(&err, PIO_ENOMEM, "out of memory for the list of GPUs");
		return pio_bind_fail(L, &err);
	}
	l->faults = (pio_str)PIO_STR_INIT;
	if (pio_gpus_list(&l->list, PIO_GPUS_TIMEOUT_MS, &err))
		return pio_bind_fail(L, &err);
	lua_createtable(L, 0, 2);
	lua_pushstring(L, l->list.driver);
	lua_setfield(L, -2, "driver");
	lua_createtable(L, (int)l->list.count, 0);
	for (size_t i = 0; i < l->list.count; i++) {
		push_gpu(L, &l->list.gpus[i], &l->faults);
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
