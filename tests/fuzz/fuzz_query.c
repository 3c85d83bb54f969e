/* Any bytes as a query: in the state and on a store like those of a command,
 * it is parsed and compiled, and what compiles is prepared and run. A query is
 * refused by a message, never by an error of Lua or of SQL. The store is made
 * once, in a folder that is removed at the end. */
#include <lauxlib.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"
#include "bind/bind.h"
#include "sys/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* What Lua holds until it collects is no leak, and looking for leaks after each
 * input would be most of the work. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static lua_State *state;
static char folder[] = "/tmp/fuzz-query-XXXXXX";

/* Makes a store of few runs; returns a function(text) that raises for a bug. */
static const char program[] =
	"local core, errors = require 'pioche.core.store', require 'pioche.errors'\n"
	"local query, parse = require 'pioche.query', require 'pioche.query.parse'\n"
	"local made = errors.check(core.open(..., 'create'))\n"
	"local experiment = errors.check(made:experiment('gpt', 'val/loss', 'minimize'))\n"
	"for i = 1, 3 do\n"
	"  local run = errors.check(made:run_create { experiment_id = experiment, seed = i })\n"
	"  for name, value in pairs { lr = i / 10, width = i, name = 'x', flag = true, ['a b'] = 'y' } do\n"
	"    errors.check(made:param_set(run, name, value))\n"
	"  end\n"
	"  errors.check(made:tag_set(run, 'phase', 'one'))\n"
	"end\n"
	"made:close()\n"
	"local raw = errors.check(core.open(..., 'read'))\n"
	"local store = setmetatable({}, { __index = function(_, name)\n"
	"  return function(_, ...)\n"
	"    local value, message = raw[name](raw, ...)\n"
	"    if value == nil and message then error('SQL: ' .. message .. '\\n' .. (...), 0) end\n"
	"    return value\n"
	"  end\n"
	"end })\n"
	"local function accepted(fn, ...)\n"
	"  local ok, problem = xpcall(fn, function(e)\n"
	"    return errors.is(e) and e or debug.traceback(tostring(e), 2)\n"
	"  end, ...)\n"
	"  if not ok and not errors.is(problem) then error(problem, 0) end\n"
	"  return ok\n"
	"end\n"
	"return function(text)\n"
	"  accepted(parse.name, text)\n"
	"  accepted(query.choose, store, { text }, { sort = text })\n"
	"  accepted(query.choose, store, { text }, {})\n"
	"  local parsed = accepted(parse.query, text)\n"
	"  if accepted(query.choose, store, { text .. ' ' }, { newest_first = true }) and not parsed then\n"
	"    error('chosen by what does not parse: ' .. text, 0)\n"
	"  end\n"
	"end\n";

static void check(int failed, const char *what)
{
	if (!failed)
		return;
	fprintf(stderr, "%s: %s\n", what, state ? luaL_tolstring(state, -1, NULL) : "no state");
	abort();
}

/* Metrics, which only a fold writes. */
static void add_series(void)
{
	char path[sizeof folder + 32];
	sqlite3 *db = NULL;
	snprintf(path, sizeof path, "%s/.pioche/pioche.db", folder);
	int failed = sqlite3_open(path, &db) ||
	             sqlite3_exec(db, "INSERT INTO series (run_id, key, rank, count, last, min)"
	                          " SELECT id, key, rank, 1, id + rank, 0 FROM run, (SELECT 'val/loss' AS"
	                          " key UNION SELECT 'lr' UNION SELECT 'm'), (SELECT 0 AS rank UNION SELECT 3)",
	                          NULL, NULL, NULL);
	sqlite3_close(db);
	check(failed, "series");
}

static void finish(void)
{
	lua_close(state);
	pio_fs_remove_tree(folder, NULL);
}

static void start(void)
{
	check(!mkdtemp(folder), folder);
	state = pio_bind_state_new();
	check(!state, "state");
	check(luaL_loadstring(state, program), "program");
	lua_pushfstring(state, "%s/.pioche", folder);
	check(pio_bind_call(state, 1, 1), "store");
	add_series();
	atexit(finish);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	if (!state)
		start();
	lua_pushvalue(state, 1);
	lua_pushlstring(state, (const char *)data, size_bytes);
	check(pio_bind_call(state, 1, 0), "query");
	lua_settop(state, 1);
	return 0;
}
