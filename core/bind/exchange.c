/* require "pioche.core.exchange": other trackers' files. */
#include <lauxlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "exchange/exchange.h"
#include "exchange/incoming.h"

#define INCOMING "pioche.incoming"

/* format(path) -> the format's name, or nil */
static int exchange_format(lua_State *L)
{
	lua_pushstring(L, pio_exchange_format(luaL_checkstring(L, 1)));
	return 1;
}

static void report_free(void *report)
{
	pio_import_report_fini(report);
	pio_free(report);
}

static void push_counts(lua_State *L, const pio_import_run *run)
{
	const struct { const char *name; int64_t value; } fields[] = {
		{ "points", run->counts.points }, { "texts", run->counts.texts },
		{ "media", run->counts.media }, { "lines", run->counts.lines },
		{ "checkpoints", run->checkpoints },
	};
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		lua_pushinteger(L, fields[i].value);
		lua_setfield(L, -2, fields[i].name);
	}
}

/* { runs = { { id, source, was, is_new, status, points, texts, media, lines, checkpoints } },
 *   skips = { { reason, count } } } */
static void push_report(lua_State *L, const pio_import_report *report)
{
	lua_createtable(L, 0, 4);
	lua_createtable(L, (int)report->runs_count, 0);
	for (size_t i = 0; i < report->runs_count; i++) {
		const pio_import_run *run = &report->runs[i];
		lua_createtable(L, 0, 10);
		if (run->run_id) {
			lua_pushinteger(L, run->run_id);
			lua_setfield(L, -2, "id");
		}
		lua_pushstring(L, run->source);
		lua_setfield(L, -2, "source");
		lua_pushstring(L, run->status);
		lua_setfield(L, -2, "status");
		lua_pushboolean(L, run->is_new);
		lua_setfield(L, -2, "is_new");
		lua_pushstring(L, run->was);
		lua_setfield(L, -2, "was");
		push_counts(L, run);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "runs");
	lua_createtable(L, (int)report->skips_count, 0);
	for (size_t i = 0; i < report->skips_count; i++) {
		lua_createtable(L, 0, 2);
		lua_pushstring(L, report->skips[i].reason);
		lua_setfield(L, -2, "reason");
		lua_pushinteger(L, report->skips[i].count);
		lua_setfield(L, -2, "count");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "skips");
}

/* import(store or nil, { format, path, experiment, otherwise, name, objects, dry,
 * progress = function(_, done, total) }) -> report. What failed is in its
 * fields `message` and `code`; the rest of it is there all the same. */
static int exchange_import(lua_State *L)
{
	pio_store *store = lua_isnil(L, 1) ? NULL : pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	const char *format = pio_bind_field_string(L, 2, "format");
	const char *path = pio_bind_field_string(L, 2, "path");
	pio_import_options options = {
		.experiment = pio_bind_field_string(L, 2, "experiment"),
		.otherwise = pio_bind_field_string(L, 2, "otherwise"),
		.name = pio_bind_field_string(L, 2, "name"),
		.objects = pio_bind_field_string(L, 2, "objects"),
		.dry = pio_bind_field_boolean(L, 2, "dry"),
	};
	luaL_argcheck(L, format && path, 2, "fields 'format' and 'path' are needed");
	luaL_argcheck(L, store || options.dry, 1, "a store is needed unless 'dry' is set");
	pio_bind_reporter reporter = pio_bind_reporter_get(L, 2, "progress");
	options.progress = pio_bind_report;
	options.context = &reporter;
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, report_free);
	pio_import_report *report = *guard = pio_calloc(1, sizeof *report);
	if (!report)
		return luaL_error(L, "out of memory");
	int rc = pio_import(report, store, format, path, &options, &err);
	push_report(L, report);
	if (rc) {
		lua_pushstring(L, err.message);
		lua_setfield(L, -2, "message");
		lua_pushstring(L, pio_code_word(err.code));
		lua_setfield(L, -2, "code");
	}
	return 1;
}

/* export_tensorboard(store, run_id, dir) -> { points, texts, histograms, images,
 * passed_over } */
static int exchange_export_tensorboard(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	pio_tensorboard_counts counts = { 0 };
	pio_err err = PIO_ERR_INIT;
	if (pio_export_tensorboard(&counts, store, run, luaL_checkstring(L, 3), &err))
		return pio_bind_fail(L, &err);
	const struct { const char *name; int64_t value; } fields[] = {
		{ "points", counts.points }, { "texts", counts.texts },
		{ "histograms", counts.histograms }, { "images", counts.images },
		{ "passed_over", counts.passed_over },
	};
	lua_createtable(L, 0, 5);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		lua_pushinteger(L, fields[i].value);
		lua_setfield(L, -2, fields[i].name);
	}
	return 1;
}

/* ---- incoming ---------------------------------------------------------------------------- */

static int incoming_close(lua_State *L)
{
	pio_incoming_close(luaL_checkudata(L, 1, INCOMING));
	return 0;
}

static int incoming_path(lua_State *L)
{
	const pio_incoming *incoming = luaL_checkudata(L, 1, INCOMING);
	luaL_argcheck(L, incoming->dir, 1, "it is closed");
	lua_pushstring(L, incoming->dir);
	return 1;
}

/* inherit(store): what others had fetched; and what comes here is for an heir */
static int incoming_inherit(lua_State *L)
{
	pio_incoming *incoming = luaL_checkudata(L, 1, INCOMING);
	luaL_argcheck(L, incoming->dir, 1, "it is closed");
	pio_incoming_inherit(incoming, pio_bind_store(L, 2));
	return 0;
}

static int incoming_tostring(lua_State *L)
{
	const pio_incoming *incoming = luaL_checkudata(L, 1, INCOMING);
	lua_pushfstring(L, "incoming %s", incoming->dir ? incoming->dir : "(closed)");
	return 1;
}

/* incoming(store) -> a directory of the store, of this process alone: path(), close() */
static int exchange_incoming(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	pio_err err = PIO_ERR_INIT;
	pio_incoming *incoming = lua_newuserdatauv(L, sizeof *incoming, 0);
	*incoming = (pio_incoming)PIO_INCOMING_INIT;
	luaL_setmetatable(L, INCOMING);
	return pio_incoming_open(incoming, store, &err) ? pio_bind_fail(L, &err) : 1;
}

int pio_bind_open_exchange(lua_State *L)
{
	static const luaL_Reg methods[] = { { "path", incoming_path }, { "inherit", incoming_inherit },
		{ "close", incoming_close }, { NULL, NULL } };
	static const luaL_Reg functions[] = {
		{ "format", exchange_format }, { "import", exchange_import },
		{ "export_tensorboard", exchange_export_tensorboard }, { "incoming", exchange_incoming },
		{ NULL, NULL },
	};
	pio_bind_type(L, INCOMING, methods, incoming_close, incoming_tostring);
	luaL_newlib(L, functions);
	return 1;
}
