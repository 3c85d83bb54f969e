/* store.h: the userdata of an open store, shared by the files that bind it:
 * store.c (life, runs), store_statement.c, store_query.c and store_columns.c (SQL),
 * store_param.c (parameters of many runs), store_series.c (points), store_verify.c,
 * store_plan.c (sweeps, checkpoints, inputs), store_checkpoint.c (what is in
 * checkpoints), store_object.c (their bytes), store_rung.c (stopping rules, races),
 * store_change.c (what a person changed of a sweep), store_care.c (who supervises, is it
 * in order). */
#ifndef PIO_BIND_STORE_H
#define PIO_BIND_STORE_H

#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "store/store.h"

/* Methods of the other files. */
extern const luaL_Reg pio_bind_store_query_methods[];
extern const luaL_Reg pio_bind_store_columns_methods[];
extern const luaL_Reg pio_bind_store_param_methods[];
extern const luaL_Reg pio_bind_store_series_methods[];
extern const luaL_Reg pio_bind_store_verify_methods[];
extern const luaL_Reg pio_bind_store_plan_methods[];
extern const luaL_Reg pio_bind_store_checkpoint_methods[];
extern const luaL_Reg pio_bind_store_object_methods[];
extern const luaL_Reg pio_bind_store_rung_methods[];
extern const luaL_Reg pio_bind_store_change_methods[];
extern const luaL_Reg pio_bind_store_care_methods[];
/* Functions of the module that need no store. */
extern const luaL_Reg pio_bind_store_object_functions[];
extern const luaL_Reg pio_bind_store_tensor_functions[];

/* Push a statement ready to step, with the values from index 3 to `arguments` bound to
 * the SQL at index 2: 0, or the number of values of a pushed failure. */
int pio_bind_statement(lua_State *L, sqlite3_stmt **statement, sqlite3 *db, int arguments);
/* The statement in the userdata at `holder` is done: it is kept for the next time, or
 * finalized. */
void pio_bind_statement_finish(lua_State *L, int holder);
/* For a new store at the top: it keeps statements by their SQL, and how many there are. */
void pio_bind_statements_open(lua_State *L);
/* Finalize those that the store at index 1 keeps: an open one would keep a closed store half
 * open until it is collected. */
void pio_bind_statements_close(lua_State *L);
/* nil, message, code of what SQLite says. */
int pio_bind_sql_fail(lua_State *L, sqlite3 *db, int code);

/* The id, nil for 0, or nil, message, code. */
int pio_bind_id(lua_State *L, int rc, int64_t id, const pio_err *err);
/* true, or nil, message, code. */
int pio_bind_done(lua_State *L, int rc, const pio_err *err);

#endif
