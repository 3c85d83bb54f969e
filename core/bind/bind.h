/* bind.h: the seam between the C rooms and Lua, and the only room that
 * includes lua.h.
 *
 * One file per room below, each opened by `require "pioche.core.<room>"`.
 * Rules that every binding keeps: an expected failure returns nil, message,
 * code word (pio_bind_fail); misuse raises at the caller's line; nothing that
 * C must free is held in a local across a Lua call that may raise: it sits in
 * a guard (pio_bind_guard) or in a typed userdata, made closed first and
 * opened second. */
#ifndef PIO_BIND_BIND_H
#define PIO_BIND_BIND_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

/* ---- the state (host.c) ------------------------------------------------------- */

/* A state with the standard library, made deterministic (no address shows, no
 * table is hashed by chance into anything that we print), and a searcher for
 * the modules inside this executable; $PIOCHE_LUA=DIR, the folder that holds
 * `pioche/`, overrides them. NULL when memory is out. */
lua_State *pio_bind_state_new(void);

/* Call the function below its `arguments` on the stack, with a traceback in
 * place of the message when something was raised that is no error of ours.
 * 0 and `results` values, or LUA_ERR... and the message. */
int pio_bind_call(lua_State *L, int arguments, int results);

/* A whole command: argv to the exit status, by pioche.cli. */
int pio_bind_main(int argc, char **argv);

/* string.format, string.rep and tostring without addresses and giants (state.c);
 * state.modules: the names of the modules inside the executable. */
void pio_bind_plain_strings(lua_State *L);
int pio_bind_modules(lua_State *L);

/* ---- helpers (value.c; JSON in convert.c) --------------------------------------- */

/* Push nil, message, code word; returns 3. */
int pio_bind_fail(lua_State *L, const pio_err *err);

/* Push a userdata that will call free_fn(pointer) when collected or closed.
 * Fill the returned slot after the resource is opened. */
void **pio_bind_guard(lua_State *L, void (*free_fn)(void *));
void pio_bind_guard_json(void *value);

/* New metatable `name` with these methods, and __gc, __close and __tostring. */
struct luaL_Reg;
void pio_bind_type(lua_State *L, const char *name, const struct luaL_Reg *methods,
                   lua_CFunction close, lua_CFunction tostring);

/* The value at `index` as JSON; the caller owns *value. Allocates nothing in
 * Lua and never raises. A table is an array when json.array marked it or its
 * keys are exactly 1..n with n > 0; else an object, whose keys must be strings. */
int pio_bind_to_json(json_t **value, lua_State *L, int index, pio_err *err);
/* Push a JSON value; may raise for lack of memory, so `value` must be guarded. */
void pio_bind_push_json(lua_State *L, const json_t *value);
/* Push the null of JSON, mark the table on top as an array; is that at `index` one? */
void pio_bind_push_null(lua_State *L);
void pio_bind_mark_array(lua_State *L);
bool pio_bind_is_array(lua_State *L, int index);
/* The same for most values and texts (json_plain.c), and several times as fast: push the
 * canonical text of the value at `index`, or the value of a text, which a NUL follows. False, with
 * nothing pushed: it is for the others to say what that is. */
bool pio_bind_plain_encode(lua_State *L, int index);
bool pio_bind_plain_decode(lua_State *L, const char *text, size_t length);

/* Fields of the options table at `index`; missing or nil leaves NULL or
 * `otherwise`; another type raises. Strings are borrowed from the table. */
const char *pio_bind_field_string(lua_State *L, int index, const char *name);
lua_Integer pio_bind_field_integer(lua_State *L, int index, const char *name,
                                   lua_Integer otherwise);
bool pio_bind_field_boolean(lua_State *L, int index, const char *name);
/* The array of strings in a field (or at `index` itself when name is NULL) as
 * a NULL-terminated vector inside a userdata that is pushed; NULL when the
 * field is missing (nil is pushed then). */
const char *const *pio_bind_strings(lua_State *L, int index, const char *name);

/* A Lua function that hears of progress: function(finding or nil, done, total). */
typedef struct pio_bind_reporter {
	lua_State *L;
	int function; /* absolute stack index; 0: none */
	int64_t heard; /* by pio_bind_heard */
} pio_bind_reporter;
/* The function in field `name` of the table at `index`, left on the stack. */
pio_bind_reporter pio_bind_reporter_get(lua_State *L, int index, const char *name);
/* Of the type pio_check_report and pio_bundle_report; `context` is a reporter.
 * Called from inside C that a raise must not pass: what the function raises is
 * dropped. */
void pio_bind_report(void *context, const char *finding, int64_t done, int64_t total);
/* The same for what tells only how many bytes more it has done; `context` too. */
void pio_bind_heard(void *context, int64_t bytes);

/* The open store at `index`, else an argument error. */
pio_store *pio_bind_store(lua_State *L, int index);

/* bundle{ path, name, mtime, zstd } -> a bundle to fill and write (bundle.c); mtime in
 * seconds. */
int pio_bind_bundle(lua_State *L);

/* ---- the modules ------------------------------------------------------------------- */
int pio_bind_open_state(lua_State *L);
int pio_bind_open_sys(lua_State *L);
int pio_bind_open_json(lua_State *L);
int pio_bind_open_store(lua_State *L);
int pio_bind_open_git(lua_State *L);
int pio_bind_open_pack(lua_State *L);
int pio_bind_open_launch(lua_State *L);
int pio_bind_open_exchange(lua_State *L);
int pio_bind_open_gpu(lua_State *L);
int pio_bind_open_histogram(lua_State *L);
int pio_bind_open_text(lua_State *L);
int pio_bind_open_sweep(lua_State *L);
int pio_bind_open_journal(lua_State *L);

#endif
