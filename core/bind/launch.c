/* require "pioche.core.launch": the supervisor, and what Slurm is asked for. */
#include <lauxlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "launch/address.h"
#include "launch/agent_spec.h"
#include "launch/head.h"
#include "launch/slurm.h"
#include "launch/supervise.h"

#define SUPERVISOR "pioche.supervisor"

struct box {
	pio_supervisor *supervisor; /* NULL: closed */
};

static pio_supervisor *check(lua_State *L, int index)
{
	struct box *box = luaL_checkudata(L, index, SUPERVISOR);
	luaL_argcheck(L, box->supervisor, index, "the supervisor is closed");
	return box->supervisor;
}

static int supervisor_close(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, SUPERVISOR);
	pio_supervisor *supervisor = box->supervisor;
	box->supervisor = NULL;
	if (supervisor)
		pio_supervisor_free(supervisor);
	return 0;
}

static int supervisor_tostring(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, SUPERVISOR);
	lua_pushfstring(L, "supervisor of %d attempts",
	                box->supervisor ? pio_supervisor_active(box->supervisor) : 0);
	return 1;
}

static int done(lua_State *L, int rc, const pio_err *err)
{
	if (rc)
		return pio_bind_fail(L, err);
	lua_pushboolean(L, 1);
	return 1;
}

/* supervisor(store, { executable=, lib_dir= }); the store stays open as long as
 * the supervisor is. */
static int launch_supervisor(lua_State *L)
{
	pio_store *store = pio_bind_store(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	const char *executable = pio_bind_field_string(L, 2, "executable");
	const char *lib_dir = pio_bind_field_string(L, 2, "lib_dir");
	pio_err err = PIO_ERR_INIT;
	struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
	box->supervisor = NULL;
	luaL_setmetatable(L, SUPERVISOR);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	if (pio_supervisor_new(&box->supervisor, store, executable, lib_dir, &err))
		return pio_bind_fail(L, &err);
	return 1;
}

static int supervisor_recover(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_supervisor_recover(check(L, 1), &err), &err);
}

/* start(run_id, spec) -> attempt id */
static int supervisor_start(lua_State *L)
{
	pio_supervisor *supervisor = check(L, 1);
	lua_Integer run = luaL_checkinteger(L, 2);
	luaL_checktype(L, 3, LUA_TTABLE);
	pio_err err = PIO_ERR_INIT;
	int64_t attempt = 0;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *spec;
	if (pio_bind_to_json(&spec, L, 3, &err))
		return pio_bind_fail(L, &err);
	*guard = spec;
	if (pio_supervisor_start(supervisor, run, spec, &attempt, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, attempt);
	return 1;
}

/* wait(ms) -> events */
static int supervisor_wait(lua_State *L)
{
	pio_supervisor *supervisor = check(L, 1);
	lua_Integer ms = luaL_checkinteger(L, 2);
	pio_err err = PIO_ERR_INIT;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *events = NULL;
	if (pio_supervisor_wait(supervisor, (int)ms, &events, &err))
		return pio_bind_fail(L, &err);
	*guard = events;
	pio_bind_push_json(L, events);
	return 1;
}

/* stop(run_id or 0, now) */
static int supervisor_stop(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	int rc = pio_supervisor_stop(check(L, 1), luaL_checkinteger(L, 2), lua_toboolean(L, 3), &err);
	return done(L, rc, &err);
}

/* pool_start(spec) -> pool id */
static int supervisor_pool_start(lua_State *L)
{
	pio_supervisor *supervisor = check(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	pio_err err = PIO_ERR_INIT;
	int64_t pool = 0;
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	json_t *spec;
	if (pio_bind_to_json(&spec, L, 2, &err))
		return pio_bind_fail(L, &err);
	*guard = spec;
	if (pio_supervisor_pool_start(supervisor, spec, &pool, &err))
		return pio_bind_fail(L, &err);
	lua_pushinteger(L, pool);
	return 1;
}

/* pool_end(pool_id) */
static int supervisor_pool_end(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	return done(L, pio_supervisor_pool_end(check(L, 1), luaL_checkinteger(L, 2), &err), &err);
}

static int supervisor_active(lua_State *L)
{
	lua_pushinteger(L, pio_supervisor_active(check(L, 1)));
	return 1;
}

/* ---- Slurm, without a supervisor ------------------------------------------------------ */

/* The launch's options in the table at 1, guarded; the job borrows from them. */
static int read_job(pio_slurm_job *job, lua_State *L, pio_err *err)
{
	json_t *options;
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	int rc = pio_bind_to_json(&options, L, 1, err);
	if (rc)
		return rc;
	*guard = options;
	*job = (pio_slurm_job){ .name = pio_bind_field_string(L, 1, "name"),
	                        .key = pio_bind_field_string(L, 1, "key"),
	                        .dir = pio_bind_field_string(L, 1, "dir"),
	                        .executable = pio_bind_field_string(L, 1, "executable"),
	                        .is_pool = pio_bind_field_boolean(L, 1, "is_pool") };
	job->warn_s = pio_slurm_warn_s(pio_bind_field_integer(L, 1, "grace_s", PIO_GRACE_S_DEFAULT));
	return pio_slurm_job_read(job, options, err);
}

/* slurm_options(launch) -> the words of sbatch that ask for nodes and time */
static int launch_slurm_options(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	pio_slurm_job job;
	json_t *words;
	if (read_job(&job, L, &err))
		return pio_bind_fail(L, &err);
	void **guard = pio_bind_guard(L, pio_bind_guard_json);
	if (pio_slurm_options(&words, &job, false, &err))
		return pio_bind_fail(L, &err);
	*guard = words;
	pio_bind_push_json(L, words);
	return 1;
}

/* slurm_warn_s(grace_s or nil) -> how long before its end a job is told */
static int launch_slurm_warn_s(lua_State *L)
{
	lua_pushinteger(L, pio_slurm_warn_s(luaL_optinteger(L, 1, PIO_GRACE_S_DEFAULT)));
	return 1;
}

static void free_string(void *pointer)
{
	pio_free(pointer);
}

/* slurm_script(launch with name, key, dir, executable) -> text */
static int launch_slurm_script(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	pio_slurm_job job;
	pio_str script = PIO_STR_INIT;
	if (read_job(&job, L, &err))
		return pio_bind_fail(L, &err);
	luaL_argcheck(L, job.name && job.key && job.dir && job.executable, 1,
	              "fields 'name', 'key', 'dir' and 'executable' are needed");
	void **guard = pio_bind_guard(L, free_string);
	int rc = pio_slurm_script(&script, &job, &err);
	if (rc) {
		pio_str_fini(&script);
		return pio_bind_fail(L, &err);
	}
	*guard = pio_str_take(&script);
	lua_pushstring(L, *guard ? *guard : "");
	return 1;
}

/* slurm_answer(stderr) -> "refused", "absent", "no_such_job" or "no_accounting"; its words */
static int launch_slurm_answer(lua_State *L)
{
	static const char *const names[] = { [PIO_SLURM_REFUSED] = "refused", [PIO_SLURM_ABSENT] = "absent",
		[PIO_SLURM_NO_SUCH_JOB] = "no_such_job", [PIO_SLURM_NO_ACCOUNTING] = "no_accounting" };
	const char *text = luaL_checkstring(L, 1);
	pio_str words = PIO_STR_INIT;
	void **guard = pio_bind_guard(L, free_string);
	lua_pushstring(L, names[pio_slurm_trouble(text)]);
	pio_slurm_words(&words, text);
	*guard = pio_str_take(&words);
	lua_pushstring(L, *guard ? *guard : "");
	return 2;
}

/* address(interface, other_node) -> the address that a head on this machine would
 * take, and why in words; either argument may be nil */
static int launch_address(lua_State *L)
{
	char address[PIO_ADDRESS_BYTES], own_name[256] = "";
	pio_err err = PIO_ERR_INIT;
	pio_str why = PIO_STR_INIT;
	pio_address_wish wish = { luaL_optstring(L, 1, NULL), luaL_optstring(L, 2, NULL), own_name };
	void **guard = pio_bind_guard(L, free_string);
	gethostname(own_name, sizeof own_name - 1);
	if (pio_address_choose(address, &why, &wish, &err) != 0)
		return pio_bind_fail(L, &err);
	*guard = pio_str_take(&why);
	lua_pushstring(L, address);
	lua_pushstring(L, *guard ? *guard : "");
	return 2;
}

/* defaults: seconds that hold where a launch does not say */
static void push_defaults(lua_State *L)
{
	lua_newtable(L);
	lua_pushinteger(L, PIO_GRACE_S_DEFAULT);
	lua_setfield(L, -2, "grace_s");
	lua_pushinteger(L, PIO_JOIN_S_DEFAULT);
	lua_setfield(L, -2, "join_s");
}

int pio_bind_open_launch(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "recover", supervisor_recover }, { "start", supervisor_start },
		{ "wait", supervisor_wait }, { "stop", supervisor_stop },
		{ "pool_start", supervisor_pool_start }, { "pool_end", supervisor_pool_end },
		{ "active", supervisor_active }, { "close", supervisor_close }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = {
		{ "supervisor", launch_supervisor }, { "slurm_options", launch_slurm_options },
		{ "slurm_script", launch_slurm_script }, { "slurm_answer", launch_slurm_answer },
		{ "slurm_warn_s", launch_slurm_warn_s }, { "address", launch_address }, { NULL, NULL },
	};
	pio_bind_type(L, SUPERVISOR, methods, supervisor_close, supervisor_tostring);
	luaL_newlib(L, functions);
	push_defaults(L);
	lua_setfield(L, -2, "defaults");
	return 1;
}
