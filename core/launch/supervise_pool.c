/* Pools: allocations into which attempts are packed. Which, and where, is policy
 * (lua/pioche/pools.lua); here are their jobs, and the files by which the pilot is
 * told and tells (launch/pilot.h). */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_spec.h"
#include "launch/supervise_job.h"
#include "store/pool.h"
#include "store/sql.h"
#include "sys/fs.h"

#define SECOND_NS INT64_C(1000000000)
#define LOOK_NS SECOND_NS

struct pio_pool {
	int64_t id;
	bool has_orders;              /* that are not written yet */
	bool ends;                    /* nobody is placed in it any more */
	bool is_closing;              /* the pilot starts nobody any more */
	bool was_told;                /* somebody else told it to end */
	char *heard;                  /* state.json as it was read last; NULL: not yet */
};

void pio_pool_free(pio_pool *pool)
{
	if (!pool)
		return;
	pio_free(pool->heard);
	pio_free(pool);
}

pio_active *pio_pool_find(const pio_supervisor *s, int64_t pool_id)
{
	pio_active *a = s->active;
	while (a && !(a->pool && a->pool->id == pool_id))
		a = a->next;
	return a;
}

static int in_dir(pio_str *path, const pio_active *a, const char *name, pio_err *err)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/%s", a->ref.dir, name);
	return pio_str_check(path, err);
}

static int write_text(const pio_active *a, const char *name, const char *text, mode_t mode, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = in_dir(&path, a, name, err);
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), mode, err);
	pio_str_fini(&path);
	return rc;
}

/* Takes the value. */
static int write_json(const pio_active *a, const char *name, json_t *value, pio_err *err)
{
	char *text = value ? pio_json_canonical(value) : NULL;
	int rc = text ? write_text(a, name, text, 0666, err)
	              : pio_fail(err, PIO_EINVAL, "launch: paths and values must be UTF-8");
	json_decref(value);
	free(text);
	return rc;
}

/* ---- its beginning -------------------------------------------------------------------------- */

static int new_active(pio_active **made, pio_supervisor *s, const char *ulid, pio_err *err)
{
	pio_str dir = PIO_STR_INIT;
	pio_active *a;
	int rc = pio_active_new(&a, s, err);
	*made = rc ? NULL : a;
	if (rc)
		return rc;
	memcpy(a->ref.ulid, ulid, PIO_ULID_CHARS + 1);
	pio_str_printf(&dir, "%s/pools/%s", pio_store_path(s->store), ulid);
	a->pool = pio_calloc(1, sizeof *a->pool);
	a->ref.dir = pio_str_take(&dir);
	return a->pool && a->ref.dir ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a pool");
}

static int write_orders(const pio_supervisor *s, pio_active *pool, pio_err *err)
{
	json_t *attempts = json_array();
	for (const pio_active *a = s->active; a; a = a->next)
		if (a->job && a->job->pool == pool && a->job->stage == PIO_JOB_PLACED)
			json_array_append_new(attempts, json_string(a->ref.dir));
	int rc = write_json(pool, "orders.json", json_pack("{s:i, s:o, s:b}", "version", 1, "attempts", attempts,
	                                                   "end", pool->pool->ends), err);
	pool->pool->has_orders &= rc != 0;
	return rc;
}

static int write_files(pio_supervisor *s, pio_active *a, const json_t *spec, pio_err *err)
{
	pio_slurm_job job = { .name = pio_json_string_or(spec, "name", "pioche-pool"), .key = a->job->key,
	                      .dir = a->ref.dir, .is_pool = true,
	                      .warn_s = pio_slurm_warn_s(a->grace_s) };
	pio_str script = PIO_STR_INIT;
	int rc = pio_slurm_job_read(&job, a->job->launch, err);
	if (!rc)
		rc = pio_jobs_provide(s, err);
	job.executable = s->jobs->executable;
	if (!rc)
		rc = pio_fs_mkdirs_durable(a->ref.dir, 0777, err);
	if (!rc)
		rc = write_json(a, "pool.json", json_pack("{s:i, s:s, s:I, s:O, s:I, s:O}", "version", 1, "executable",
			job.executable, "time_s", (json_int_t)job.time_s, "idle_s", json_object_get(spec, "idle_s"),
			"grace_s", (json_int_t)a->grace_s, "launch", a->job->launch), err);
	if (!rc)
		rc = write_orders(s, a, err);
	if (!rc)
		rc = pio_slurm_script(&script, &job, err);
	/* The last one: where it is, the job may have been submitted. */
	if (!rc)
		rc = write_text(a, "job.sh", script.data, 0700, err);
	pio_str_fini(&script);
	return rc;
}

static int check_spec(pio_slurm_job *job, const json_t *spec, pio_err *err)
{
	int rc = pio_slurm_job_read(job, json_object_get(spec, "slurm"), err);
	if (!rc && (job->time_s <= 0 || !json_is_string(json_object_get(spec, "spec")) ||
	            !json_is_integer(json_object_get(spec, "idle_s"))))
		rc = pio_fail(err, PIO_EINVAL, "launch: a pool needs spec, idle_s and a time");
	return rc;
}

int pio_supervisor_pool_start(pio_supervisor *s, const json_t *spec, int64_t *pool_id, pio_err *err)
{
	pio_slurm_job asked = { 0 };
	char ulid[PIO_ULID_CHARS + 1];
	pio_ulid fresh;
	pio_active *a = NULL;
	*pool_id = 0;
	int rc = check_spec(&asked, spec, err);
	if (rc)
		return rc;
	pio_ulid_new(&fresh);
	pio_ulid_format(&fresh, ulid);
	rc = new_active(&a, s, ulid, err);
	if (!rc && !(a->job = pio_job_new(ulid, "pool", asked.nodes, err)))
		rc = pio_err_code(err);
	if (!rc) {
		a->job->launch = json_incref(json_object_get(spec, "slurm"));
		a->grace_s = pio_json_int_or(spec, "grace_s", PIO_GRACE_S_DEFAULT);
		rc = pio_store_pool_create(&a->pool->id, s->store, ulid, pio_json_string_or(spec, "spec", ""),
		                           asked.nodes, a->job->key, err);
	}
	if (!rc && (rc = write_files(s, a, spec, err)) != 0)
		/* Where even this fails, the next supervisor settles the open pool. */
		(void)pio_store_pool_ended(s->store, a->pool->id, err ? err->message : "", NULL);
	if (rc) {
		if (a)
			pio_supervisor_drop(s, a);
		return rc;
	}
	*pool_id = a->pool->id;
	pio_jobs_hurry(s);
	return 0;
}

int pio_pool_place(pio_supervisor *s, pio_active *a, int64_t pool_id, const json_t *place, pio_err *err)
{
	pio_active *pool = pio_pool_find(s, pool_id);
	if (!pool || pool->job->stage == PIO_JOB_OVER)
		return pio_fail(err, PIO_EBUSY, "pool %lld is over", (long long)pool_id);
	a->job->key[0] = '\0'; /* it is the pool's job */
	a->job->pool = pool;
	a->job->stage = PIO_JOB_PLACED;
	memcpy(a->job->id, pool->job->id, sizeof a->job->id);
	char *text = pio_json_canonical(place);
	int rc = text ? pio_store_attempt_place(s->store, a->ref.id, a->job->nodes, pool_id, text, err)
	              : pio_fail(err, PIO_EINVAL, "launch: names of nodes must be UTF-8");
	free(text);
	return rc;
}

void pio_pool_order(pio_active *pool)
{
	pool->pool->has_orders = true;
}

/* ---- after a crash ----------------------------------------------------------------------------- */

static void read_pool(pio_active *a)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *pool = NULL;
	if (in_dir(&path, a, "pool.json", NULL) == 0 && pio_fs_read(&text, path.data, NULL) == 0)
		(void)pio_json_parse(&pool, text.data, text.len, path.data, NULL);
	a->grace_s = pio_json_int_or(pool, "grace_s", PIO_GRACE_S_DEFAULT);
	a->job->launch = json_incref(json_object_get(pool, "launch"));
	json_decref(pool);
	pio_str_fini(&path);
	pio_str_fini(&text);
}

static int adopt_row(pio_active **adopted, pio_supervisor *s, sqlite3_stmt *row, pio_err *err)
{
	const char *ulid = (const char *)sqlite3_column_text(row, 1), *id = (const char *)sqlite3_column_text(row, 4);
	pio_active *a = NULL;
	if (!ulid || strlen(ulid) != PIO_ULID_CHARS)
		return pio_fail(err, PIO_ECORRUPT, "pool %lld has no ULID", (long long)sqlite3_column_int64(row, 0));
	int rc = new_active(&a, s, ulid, err);
	if (!rc && !(a->job = pio_calloc(1, sizeof *a->job)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a job");
	if (rc) {
		if (a)
			pio_supervisor_drop(s, a);
		return rc;
	}
	a->pool->id = sqlite3_column_int64(row, 0);
	a->job->nodes = sqlite3_column_int(row, 2);
	snprintf(a->job->key, sizeof a->job->key, "%s", (const char *)sqlite3_column_text(row, 3));
	snprintf(a->job->id, sizeof a->job->id, "%s", id ? id : "");
	a->pool->ends = sqlite3_column_int(row, 5) != 0;
	a->was_stopped = a->pool->ends && sqlite3_column_type(row, 6) == SQLITE_NULL;
	a->pool->has_orders = true; /* of attempts that are adopted next */
	a->job->stage = a->job->id[0] ? PIO_JOB_KNOWN : PIO_JOB_SEEKING;
	a->job->seek_ns = a->job->heard_ns = pio_clock_mono_ns();
	*adopted = a;
	return 0;
}

static bool is_ours(const pio_supervisor *s, int64_t pool_id)
{
	return pio_pool_find(s, pool_id) != NULL;
}

int pio_pools_adopt(pio_supervisor *s, pio_err *err)
{
	pio_active *a;
	int rc;
	while ((rc = pio_adopt_next(&a, s, "SELECT id, ulid, nodes, job_key, job, state = 'ending', started_ns"
	                            " FROM pool WHERE state != 'ended' ORDER BY id", is_ours, adopt_row, err)) == 0 &&
	       a) {
		pio_str script = PIO_STR_INIT;
		read_pool(a);
		rc = in_dir(&script, a, "job.sh", err);
		if (!rc && !a->job->id[0] && pio_fs_type(script.data) != PIO_FS_FILE)
			rc = pio_pool_finish(s, a, "lost", "its supervisor died before the job was submitted", err);
		pio_str_fini(&script);
		if (rc)
			return rc;
	}
	return rc;
}

/* ---- what it tells ------------------------------------------------------------------------------- */

static void tell(pio_supervisor *s, const pio_active *a, const char *state, json_t *more)
{
	json_t *event = json_pack("{s:s, s:I, s:s, s:s}", "event", "pool", "pool", (json_int_t)a->pool->id,
	                          "job", a->job->id, "state", state);
	json_object_update(event, more);
	json_decref(more);
	json_array_append_new(s->events, event);
}

int pio_pool_set_id(pio_supervisor *s, pio_active *a, const char *id, pio_err *err)
{
	return pio_store_pool_job_set(s->store, a->pool->id, id, err);
}

int pio_pool_tell(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str where = PIO_STR_INIT;
	pio_job_put_where(&where, a->job);
	int rc = pio_str_check(&where, err);
	if (!rc)
		tell(s, a, "queued", json_pack("{s:s}", "where", where.data));
	pio_str_fini(&where);
	return rc;
}

/* Nothing of it runs any more. Why, it knows itself, unless it was told to end. */
static void take_close(pio_supervisor *s, pio_active *a)
{
	pio_job *job = a->job;
	if (!a->pool->was_told && job->stage != PIO_JOB_OVER) {
		job->stage = PIO_JOB_OVER;
		memcpy(job->end.state, "COMPLETED", sizeof "COMPLETED");
	} else if (job->stage == PIO_JOB_KNOWN) {
		job->stage = PIO_JOB_GONE; /* going, at least */
		job->due_ns = 0;
	}
	pio_jobs_hurry(s);
}

static int take_state(pio_supervisor *s, pio_active *a, const json_t *state, pio_err *err)
{
	const char *phase = pio_json_string_or(state, "phase", "");
	bool is_new = !a->has_started, was_closing = a->pool->is_closing;
	json_t *nodes = json_object_get(state, "nodes");
	int64_t began_ns = pio_json_int_or(state, "began_ns", 0), until_ns = pio_json_int_or(state, "until_ns", 0);
	if (!json_is_array(nodes))
		return 0;
	if (is_new) {
		int rc = pio_store_pool_started(s->store, a->pool->id, began_ns, err);
		if (rc)
			return rc;
		a->has_started = a->job->has_run = true;
		pio_jobs_hurry(s);
	}
	a->pool->is_closing |= strcmp(phase, "open") != 0;
	a->pool->was_told |= json_is_string(json_object_get(state, "told"));
	if (strcmp(phase, "closed") == 0)
		take_close(s, a);
	if (is_new || was_closing != a->pool->is_closing)
		tell(s, a, a->pool->is_closing ? "closing" : "running", json_pack("{s:O, s:I, s:I}", "nodes", nodes,
			"began_ns", (json_int_t)began_ns, "until_ns", (json_int_t)until_ns));
	return 0;
}

static int look(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *state = NULL;
	int rc = in_dir(&path, a, "state.json", err);
	/* What cannot be read says nothing. */
	bool is_news = !rc && pio_fs_read(&text, path.data, NULL) == 0 &&
	               (!a->pool->heard || strcmp(a->pool->heard, text.data) != 0) &&
	               pio_json_parse(&state, text.data, text.len, path.data, NULL) == 0;
	if (is_news && (rc = take_state(s, a, state, err)) == 0) {
		pio_free(a->pool->heard);
		a->pool->heard = pio_str_take(&text);
		a->job->heard_ns = pio_clock_mono_ns();
	}
	json_decref(state);
	pio_str_fini(&path);
	pio_str_fini(&text);
	a->job->look_ns = pio_clock_mono_ns() + LOOK_NS;
	return rc;
}

/* ---- its end ----------------------------------------------------------------------------------------- */

int pio_pool_finish(pio_supervisor *s, pio_active *a, const char *result, const char *message, pio_err *err)
{
	int rc = pio_store_pool_ended(s->store, a->pool->id, message, err);
	if (rc)
		return rc;
	tell(s, a, "ended", json_pack("{s:s, s:s?, s:b}", "result", result, "message", message, "ran",
	                              a->has_started));
	pio_supervisor_drop(s, a);
	return 0;
}

/* Its job is over: so are those that were part of it, once their records are here. */
static int end_all(pio_supervisor *s, pio_active *pool, pio_err *err)
{
	pio_str message = PIO_STR_INIT;
	bool is_left = false;
	for (pio_active *a = s->active; a; a = a->next) {
		if (!a->job || a->job->pool != pool)
			continue;
		is_left = true;
		if (a->job->stage != PIO_JOB_PLACED)
			continue;
		a->job->stage = PIO_JOB_OVER;
		a->job->end = pool->job->end;
		a->job->over_ns = pio_clock_mono_ns();
		memcpy(a->job->id, pool->job->id, sizeof a->job->id);
	}
	if (is_left)
		return 0;
	/* It ended by itself, or because we said so. */
	bool is_well = strcmp(pool->job->end.state, "COMPLETED") == 0 || pool->pool->ends;
	const char *result = is_well ? "ok" : pio_slurm_result(&message, &pool->job->end, pool->job->id);
	int rc = pio_str_check(&message, err);
	if (!rc)
		rc = pio_pool_finish(s, pool, result, is_well ? NULL : message.data, err);
	pio_str_fini(&message);
	return rc;
}

int pio_pool_tend(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_job *job = a->job;
	int rc = 0;
	if (a->was_stopped && job->stage == PIO_JOB_NEW && !pio_job_is_on_its_way(s, a))
		return pio_pool_finish(s, a, "cancelled", "stopped before its job was submitted", err);
	if (a->pool->has_orders && job->stage != PIO_JOB_OVER)
		rc = write_orders(s, a, err);
	if (!rc && pio_clock_mono_ns() > job->look_ns)
		rc = look(s, a, err);
	if (!rc && job->stage == PIO_JOB_OVER)
		rc = end_all(s, a, err);
	return rc;
}

int pio_supervisor_pool_end(pio_supervisor *s, int64_t pool_id, pio_err *err)
{
	pio_active *a = pio_pool_find(s, pool_id);
	if (!a || a->pool->ends)
		return 0;
	int rc = pio_store_pool_ending(s->store, pool_id, err);
	if (rc)
		return rc;
	a->pool->ends = a->pool->has_orders = true;
	/* One that waits in the queue hears nothing. */
	a->was_stopped |= !a->has_started;
	pio_jobs_hurry(s);
	return 0;
}

/* ---- those that are part of it -------------------------------------------------------------------------- */

int pio_pool_pass(const pio_active *a, pio_err *err)
{
	int due = a->job->stop_now ? 2 : 1;
	if (a->job->cancels >= due)
		return 0;
	int rc = write_text(a, "order", due == 2 ? "kill\n" : "stop\n", 0666, err);
	if (!rc)
		a->job->cancels = due;
	return rc;
}

void pio_pool_amend(pio_active *a)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT, node = PIO_STR_INIT;
	if (strcmp(pio_json_string_or(a->record, "result", ""), "failed") == 0 &&
	    json_is_null(json_object_get(a->record, "first")) && in_dir(&path, a, "head.err", NULL) == 0 &&
	    pio_fs_read(&text, path.data, NULL) == 0 && pio_slurm_dead_node(&node, text.data)) {
		json_object_set_new(a->record, "result", json_string("node_fail"));
		json_object_set_new(a->record, "first", json_pack("{s:s}", "host", node.data));
		json_object_set_new(a->record, "message", json_sprintf("%s is down: nothing could be started on it",
		                                                       node.data));
	}
	pio_str_fini(&path);
	pio_str_fini(&text);
	pio_str_fini(&node);
}

bool pio_pool_goes_on(pio_supervisor *s, pio_active *a)
{
	const pio_job *job = a->job->pool->job;
	if (!a->job->doubt_ns) {
		a->job->doubt_ns = pio_clock_mono_ns();
		pio_jobs_hurry(s);
	}
	return !a->job->pool->pool->was_told && job->stage == PIO_JOB_KNOWN && job->found_ns > a->job->doubt_ns &&
	       strcmp(job->seen.state, "RUNNING") == 0;
}

const char *pio_pool_result(pio_str *message, const pio_active *a)
{
	const pio_job *job = a->job;
	const char *id = job->id[0] ? job->id : "unknown";
	pio_str_puts(message, "its pool's ");
	if (!job->has_run) {
		pio_str_printf(message, "job %s ended before it was started", id);
		return "preempted";
	}
	bool was_told = job->pool->pool->was_told;
	if (was_told && strcmp(job->end.state, "COMPLETED") == 0) {
		pio_str_printf(message, "job %s was told to end, not by pioche", id);
		return "preempted";
	}
	const char *result = pio_slurm_result(message, &job->end, id);
	/* Neither who ends the pool nor the pilot's death says anything of this attempt. */
	if (strcmp(result, "cancelled") == 0 || was_told)
		return "preempted";
	return strcmp(result, "failed") == 0 ? "lost" : result;
}
