/* store.h: the userdata of an open store, shared by the files that bind it:
 * store.c (life, runs), store_query.c (SQL), store_series.c (points, verify), store_plan.c (sweeps,
 * checkpoints, inputs), store_care.c (who supervises, is it in order). */
#ifndef PIO_BIND_STORE_H
#define PIO_BIND_STORE_H

#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "store/store.h"

/* Methods of the other files. */
extern const luaL_Reg pio_bind_store_query_methods[];
extern const luaL_Reg pio_bind_store_series_methods[];
extern const luaL_Reg pio_bind_store_plan_methods[];
extern const luaL_Reg pio_bind_store_care_methods[];

/* The id, nil for 0, or nil, message, code. */
int pio_bind_id(lua_State *L, int rc, int64_t id, const pio_err *err);
/* true, or nil, message, code. */
int pio_bind_done(lua_State *L, int rc, const pio_err *err);

#endif
