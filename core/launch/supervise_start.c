#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_spec.h"
#include "launch/supervise_job.h"
#include "launch/supervise_parts.h"
#include "launch/token.h"
#include "store/checkpoint.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"

int pio_attempt_ref_init(pio_attempt_ref *ref, pio_store *store, int64_t run_id, int64_t attempt_id,
                         const char *ulid, int number, int world, pio_err *err)
{
	pio_str dir = PIO_STR_INIT, staging = PIO_STR_INIT;
	memset(ref, 0, sizeof *ref);
	ref->run_id = run_id;
	ref->id = attempt_id;
	ref->number = number;
	ref->world = world;
	memcpy(ref->ulid, ulid, PIO_ULID_CHARS);
	pio_str_printf(&dir, "%s/runs/%s/%d", pio_store_path(store), ref->ulid, number);
	pio_str_printf(&staging, "%s/staging/%s.%d", pio_store_path(store), ref->ulid, number);
	ref->dir = pio_str_take(&dir);
	ref->staging = pio_str_take(&staging);
	if (ref->dir && ref->staging)
		return 0;
	pio_str_fini(&dir);
	pio_str_fini(&staging);
	pio_attempt_ref_fini(ref);
	return pio_fail(err, PIO_ENOMEM, "out of memory for an attempt's paths");
}

void pio_attempt_ref_fini(pio_attempt_ref *ref)
{
	pio_free(ref->dir);
	pio_free(ref->staging);
	ref->dir = ref->staging = NULL;
}

/* ---- what the caller asks for ------------------------------------------------------ */

typedef struct launch_spec {
	const char *code, *cwd;
	int64_t nodes, ranks_per_node, timeout_s, grace_s, hang_s, resume, pool;
	const json_t *place;
	bool share_code, keep_code, is_job;
} launch_spec;

static int spec_int(int64_t *value, const json_t *spec, const char *name, int64_t low, int64_t high,
                    int64_t otherwise, pio_err *err)
{
	const json_t *member = json_object_get(spec, name);
	*value = otherwise;
	if (!member || json_is_null(member))
		return 0;
	*value = json_integer_value(member);
	if (!json_is_integer(member) || *value < low || *value > high)
		return pio_fail(err, PIO_EINVAL, "launch: %s must be an integer from %lld to %lld", name,
		                (long long)low, (long long)high);
	return 0;
}

static int spec_path(const char **value, const json_t *spec, const char *name, pio_err *err)
{
	*value = pio_json_string_or(spec, name, NULL);
	if (*value && (*value)[0] != '/')
		return pio_fail(err, PIO_EINVAL, "launch: %s is \"%s\", expected an absolute path", name, *value);
	if (*value && pio_fs_type(*value) != PIO_FS_DIR)
		return pio_fail(err, PIO_ENOTFOUND, "launch: %s \"%s\" is no directory", name, *value);
	return 0;
}

/* Absent, null, or an empty table of Lua, which may come as [] or {}. */
static bool is_empty(const json_t *member)
{
	return !member || json_is_null(member) || (json_is_array(member) && json_array_size(member) == 0) ||
	       (json_is_object(member) && json_object_size(member) == 0);
}

static int check_strings(const json_t *spec, const char *name, pio_err *err)
{
	const json_t *list = json_object_get(spec, name);
	size_t i;
	json_t *item;
	if (is_empty(list))
		return 0;
	if (!json_is_array(list))
		return pio_fail(err, PIO_EINVAL, "launch: %s must be an array of strings", name);
	json_array_foreach(list, i, item)
		if (!json_is_string(item))
			return pio_fail(err, PIO_EINVAL, "launch: %s[%zu] must be a string", name, i + 1);
	return 0;
}

static int check_env(const json_t *spec, pio_err *err)
{
	json_t *env = json_object_get(spec, "env"), *value;
	const char *name;
	if (is_empty(env))
		return 0;
	if (!json_is_object(env))
		return pio_fail(err, PIO_EINVAL, "launch: env must be an object of strings");
	json_object_foreach(env, name, value) {
		if (!*name || strchr(name, '='))
			return pio_fail(err, PIO_EINVAL, "launch: env \"%s\" is no name of a variable", name);
		if (!json_is_string(value))
			return pio_fail(err, PIO_EINVAL, "launch: env.%s must be a string", name);
	}
	return 0;
}

static int check_texts(const json_t *spec, pio_err *err)
{
	const json_t *setup = json_object_get(spec, "setup");
	int rc;
	if (json_array_size(json_object_get(spec, "command")) == 0)
		return pio_fail(err, PIO_EINVAL, "launch: command must be an array of at least one string");
	if (setup && !json_is_null(setup) && !json_is_string(setup))
		return pio_fail(err, PIO_EINVAL, "launch: setup must be a string");
	if ((rc = check_strings(spec, "command", err)) || (rc = check_strings(spec, "wrap", err)))
		return rc;
	return check_env(spec, err);
}

static int check_spec(launch_spec *out, const json_t *spec, pio_err *err)
{
	int rc;
	memset(out, 0, sizeof *out);
	if ((rc = check_texts(spec, err)) ||
	    (rc = spec_int(&out->nodes, spec, "nodes", 1, 65536, 1, err)) ||
	    (rc = spec_int(&out->ranks_per_node, spec, "ranks_per_node", 1, PIO_RANKS_PER_NODE_MAX, 1, err)) ||
	    (rc = spec_int(&out->timeout_s, spec, "timeout_s", 1, INT32_MAX, 0, err)) ||
	    (rc = spec_int(&out->grace_s, spec, "grace_s", 0, 86400, PIO_GRACE_S_DEFAULT, err)) ||
	    (rc = spec_int(&out->hang_s, spec, "hang_s", 0, INT32_MAX, -1, err)) ||
	    (rc = spec_int(&out->resume, spec, "resume", 0, INT64_MAX, 0, err)) ||
	    (rc = spec_int(&out->pool, spec, "pool", 1, INT64_MAX, 0, err)) ||
	    (rc = spec_path(&out->code, spec, "code", err)) || (rc = spec_path(&out->cwd, spec, "cwd", err)))
		return rc;
	const char *launcher = pio_json_string_or(spec, "launcher", "local");
	out->is_job = strcmp(launcher, "slurm") == 0;
	if (!out->is_job && strcmp(launcher, "local") != 0)
		return pio_fail(err, PIO_EINVAL, "launch: launcher is \"%s\", expected local or slurm", launcher);
	if (!out->is_job && out->nodes != 1)
		return pio_fail(err, PIO_EINVAL, "launch: nodes is %lld, but a local launch has one node",
		                (long long)out->nodes);
	if (out->is_job && (rc = pio_slurm_job_read(&(pio_slurm_job){ 0 }, json_object_get(spec, "slurm"), err)))
		return rc;
	out->place = json_object_get(spec, "place");
	if (out->pool && (!out->is_job || json_array_size(json_object_get(out->place, "hosts")) != (size_t)out->nodes))
		return pio_fail(err, PIO_EINVAL, "launch: a place in a pool is of slurm, and has a host for each node");
	if (!out->code && !out->cwd)
		return pio_fail(err, PIO_EINVAL, "launch: neither code nor cwd says where to work");
	out->share_code = json_is_true(json_object_get(spec, "share_code"));
	out->keep_code = json_is_true(json_object_get(spec, "keep_code"));
	return 0;
}

/* ---- the attempt --------------------------------------------------------------------- */

static int create_row(pio_attempt_ref *ref, pio_store *store, int64_t run_id, const launch_spec *spec,
                      pio_err *err)
{
	char ulid[PIO_ULID_CHARS + 1] = "";
	char *manifest = NULL;
	int number;
	int64_t id;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT ulid FROM run WHERE id = ?1", "i", run_id);
	int rc = pio_sql_row(store, row, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no run with id %lld", (long long)run_id);
	const char *text = (const char *)sqlite3_column_text(row, 0);
	if (text && strlen(text) == PIO_ULID_CHARS)
		memcpy(ulid, text, PIO_ULID_CHARS);
	pio_sql_reset(row);
	if (!ulid[0])
		return pio_fail(err, PIO_ECORRUPT, "run %lld has no ULID", (long long)run_id);
	if (spec->resume) {
		row = pio_sql_query(store, err, "SELECT manifest_sha256 FROM checkpoint WHERE id = ?1"
		                    " AND state = 'sealed'", "i", spec->resume);
		rc = pio_sql_row(store, row, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return pio_fail(err, PIO_ENOTFOUND, "there is no checkpoint with id %lld",
			                (long long)spec->resume);
		manifest = pio_sql_text_copy(row, 0);
		pio_sql_reset(row);
	}
	int world = (int)(spec->nodes * spec->ranks_per_node);
	rc = pio_store_attempt_create(&id, &number, store, run_id, spec->is_job ? "slurm" : "local", world,
	                              manifest, err);
	pio_free(manifest);
	return rc ? rc : pio_attempt_ref_init(ref, store, run_id, id, ulid, number, world, err);
}

/* The row, with the key of its job: committed before anything exists, so that a
 * crash from here on leaves an open attempt, which the next supervisor settles
 * or finds. */
static int begin_attempt(pio_supervisor *supervisor, pio_active *active, int64_t run_id,
                         const launch_spec *spec, pio_err *err)
{
	char number[16];
	int rc = pio_store_begin(supervisor->store, err);
	if (rc)
		return rc;
	rc = create_row(&active->ref, supervisor->store, run_id, spec, err);
	snprintf(number, sizeof number, "%d", active->ref.number);
	if (!rc && spec->is_job && !(active->job = pio_job_new(active->ref.ulid, number, (int)spec->nodes, err)))
		rc = pio_err_code(err);
	if (!rc && spec->pool)
		rc = pio_pool_place(supervisor, active, spec->pool, spec->place, err);
	else if (!rc && spec->is_job)
		rc = pio_store_attempt_job_set(supervisor->store, active->ref.id, active->job->nodes,
		                               active->job->key, NULL, err);
	if (!rc)
		return pio_store_commit(supervisor->store, err);
	pio_store_rollback(supervisor->store);
	active->ref.id = 0; /* there is none */
	return rc;
}

/* What an agent and a head have in common. */
static int make_orders(json_t **made, const pio_supervisor *supervisor, const pio_active *active,
                       const launch_spec *checked, const json_t *spec, const char *cwd,
                       const char *resume, pio_err *err)
{
	static const char *const copied[] = { "command", "env", "setup", "wrap", "max_restarts", "mpi_env",
	                                      "hang_s", "bind", "preflight", "sample_ms" };
	const pio_attempt_ref *ref = &active->ref;
	json_t *orders = json_pack("{s:i, s:s, s:i, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I}",
		"version", 1, "run", ref->ulid, "attempt", ref->number,
		"nodes", (json_int_t)checked->nodes, "ranks_per_node", (json_int_t)checked->ranks_per_node,
		"dir", ref->dir, "cwd", cwd, "store", pio_store_path(supervisor->store),
		"staging", ref->staging, "lib_dir", supervisor->lib_dir,
		"timeout_s", (json_int_t)checked->timeout_s, "grace_s", (json_int_t)checked->grace_s);
	*made = orders;
	if (!orders)
		return pio_fail(err, PIO_EINVAL, "launch: paths and values must be UTF-8");
	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
		json_t *member = json_object_get(spec, copied[i]);
		if (!is_empty(member))
			json_object_set(orders, copied[i], member);
	}
	if (resume)
		json_object_set_new(orders, "resume", json_string(resume));
	return 0;
}

/* With what only the agent of this machine may know: its pipe, no file, has them. */
static int local_orders(pio_str *out, json_t *orders, pio_err *err)
{
	char token[PIO_TOKEN_CHARS + 1];
	int rc = pio_token_new(token, err);
	if (rc)
		return rc;
	json_object_set_new(orders, "node", json_integer(0));
	json_object_set_new(orders, "token", json_string(token));
	char *text = pio_json_canonical(orders);
	if (!text)
		return pio_fail(err, PIO_EINVAL, "launch: paths and values must be UTF-8");
	pio_str_printf(out, "%s\n", text);
	free(text);
	return pio_str_check(out, err);
}

static int make_place(pio_supervisor *supervisor, pio_active *active, const launch_spec *spec,
                      pio_str *cwd, pio_str *resume, pio_err *err)
{
	const pio_attempt_ref *ref = &active->ref;
	int rc = pio_fs_mkdirs_durable(ref->dir, 0777, err);
	if (!rc)
		rc = pio_fs_mkdirs_durable(ref->staging, 0777, err);
	if (!rc && spec->code && !spec->share_code) {
		pio_str_printf(cwd, "%s/code", ref->dir);
		active->owns_code = true;
		rc = pio_str_check(cwd, err);
		if (!rc)
			rc = pio_fs_copy_tree(spec->code, cwd->data, err);
	} else if (!rc) {
		pio_str_puts(cwd, spec->code ? spec->code : spec->cwd);
	}
	if (!rc && spec->resume) {
		pio_str_printf(resume, "%s/resume.txt", ref->dir);
		rc = pio_str_check(resume, err);
		if (!rc)
			rc = pio_store_checkpoint_index(supervisor->store, spec->resume, resume->data, err);
	}
	return rc ? rc : pio_str_check(cwd, err);
}

int pio_supervisor_prepare(pio_supervisor *supervisor, pio_active *active, int64_t run_id,
                           const json_t *spec, pio_str *orders, pio_err *err)
{
	launch_spec checked;
	pio_str cwd = PIO_STR_INIT, resume = PIO_STR_INIT;
	json_t *made = NULL;
	int rc = check_spec(&checked, spec, err);
	if (rc)
		return rc;
	active->keep_code = checked.keep_code;
	active->grace_s = checked.grace_s;
	rc = begin_attempt(supervisor, active, run_id, &checked, err);
	if (!rc)
		rc = make_place(supervisor, active, &checked, &cwd, &resume, err);
	if (!rc)
		rc = make_orders(&made, supervisor, active, &checked, spec, cwd.data,
		                 checked.resume ? resume.data : NULL, err);
	if (!rc)
		rc = checked.is_job ? pio_job_write(supervisor, active, made, spec, err)
		                    : local_orders(orders, made, err);
	json_decref(made);
	pio_str_fini(&cwd);
	pio_str_fini(&resume);
	return rc;
}
