/* A job's beginning: its files; and its second one, under another supervisor. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "launch/agent_spec.h"
#include "launch/supervise_job.h"
#include "launch/token.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"

#define RANDOM_CHARS 8

pio_job *pio_job_new(const char *ulid, const char *what, int nodes, pio_err *err)
{
	char token[PIO_TOKEN_CHARS + 1];
	if (pio_token_new(token, err))
		return NULL;
	pio_job *job = pio_calloc(1, sizeof *job);
	if (!job) {
		pio_fail(err, PIO_ENOMEM, "out of memory for a job");
		return NULL;
	}
	job->nodes = nodes;
	snprintf(job->key, sizeof job->key, "pioche:%s:%s:%.*s", ulid, what, RANDOM_CHARS, token);
	return job;
}

void pio_job_free(pio_job *job)
{
	if (!job)
		return;
	json_decref(job->launch);
	pio_free(job);
}

const char **pio_job_environment(const pio_job *job)
{
	pio_slurm_job asked = { 0 };
	size_t n = 0, kept = 0;
	/* What cannot be read asks for nothing. */
	if (job->launch)
		(void)pio_slurm_job_read(&asked, job->launch, NULL);
	while (environ[n])
		n++;
	const char **envp = pio_calloc(n + 1, sizeof *envp);
	for (size_t i = 0; envp && i < n; i++)
		if (pio_slurm_passes(&asked, environ[i]))
			envp[kept++] = environ[i];
	return envp;
}

/* ---- files -------------------------------------------------------------------------------- */

static int write_file(const pio_attempt_ref *ref, const char *name, const char *text, mode_t mode,
                      pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/%s", ref->dir, name);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), mode, err);
	pio_str_fini(&path);
	return rc;
}

int pio_jobs_provide(pio_supervisor *s, pio_err *err)
{
	pio_jobs *jobs = s->jobs;
	pio_str dir = PIO_STR_INIT, program = PIO_STR_INIT, lib = PIO_STR_INIT;
	int rc = 0;
	if (jobs->executable && pio_fs_type(jobs->executable) == PIO_FS_FILE)
		return 0;
	if (!jobs->own)
		rc = pio_own_copy_new(&jobs->own, s->executable, s->lib_dir, err);
	if (!rc)
		rc = pio_own_copy_make(&dir, jobs->own, pio_store_path(s->store), err);
	if (!rc) {
		pio_str_printf(&program, dir.len ? "%s/pioche" : "%s", dir.len ? dir.data : s->executable);
		pio_str_printf(&lib, dir.len ? "%s/lib" : "%s", dir.len ? dir.data : s->lib_dir);
		if ((rc = pio_str_check(&program, err)) == 0 && (rc = pio_str_check(&lib, err)) == 0) {
			pio_free(jobs->executable);
			pio_free(jobs->lib_dir);
			jobs->executable = pio_str_take(&program);
			jobs->lib_dir = pio_str_take(&lib);
		}
	}
	pio_str_fini(&dir);
	pio_str_fini(&program);
	pio_str_fini(&lib);
	return rc;
}

static int write_orders(const pio_active *a, json_t *orders, const pio_slurm_job *job, const char *lib_dir,
                        pio_err *err)
{
	json_t *start = NULL, *start_on = NULL;
	int rc = pio_slurm_start(&start, job, false, err);
	if (!rc)
		rc = pio_slurm_start(&start_on, job, true, err);
	if (rc) {
		json_decref(start);
		return rc;
	}
	static const char *const of_head[] = { "interface", "spares", "join_s", "bandwidth" };
	for (size_t i = 0; i < sizeof of_head / sizeof *of_head; i++) {
		json_t *member = json_object_get(a->job->launch, of_head[i]);
		if (member && !json_is_null(member))
			json_object_set(orders, of_head[i], member);
	}
	json_object_set_new(orders, "start", start);
	json_object_set_new(orders, "start_on", start_on);
	json_object_set_new(orders, "lib_dir", json_string(lib_dir));
	json_object_set(orders, "launch", a->job->launch);
	json_object_set_new(orders, "keep_code", json_boolean(a->keep_code));
	char *text = pio_json_canonical(orders);
	rc = text ? write_file(&a->ref, "orders.json", text, 0600, err)
	          : pio_fail(err, PIO_EINVAL, "launch: paths and values must be UTF-8");
	free(text);
	return rc;
}

/* The run's name, which is the job's. */
static int run_name(char **name, pio_store *store, int64_t run_id, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT e.name || '-' || r.number FROM run r"
	                                  " JOIN experiment e ON e.id = r.experiment_id WHERE r.id = ?1", "i",
	                                  run_id);
	int rc = pio_sql_row(store, row, err);
	*name = rc == 1 ? pio_sql_text_copy(row, 0) : NULL;
	if (rc == 1)
		pio_sql_reset(row);
	return rc < 0 ? rc : *name ? 0 : pio_fail(err, PIO_ENOTFOUND, "run %lld has no name", (long long)run_id);
}

/* The nodes of its pool that it was given: for the srun of its head, and by name; and
 * what it has of them. */
static void put_place(pio_slurm_job *job, pio_str *list, json_t *orders, const json_t *place)
{
	json_t *hosts = json_object_get(place, "hosts"), *host;
	size_t i;
	json_array_foreach(hosts, i, host)
		pio_str_printf(list, "%s%s", i ? "," : "", json_string_value(host));
	json_object_set(orders, "hosts", hosts);
	if (json_object_get(place, "slots")) {
		json_object_set(orders, "slots", json_object_get(place, "slots"));
		json_object_set(orders, "slots_per_node", json_object_get(place, "slots_per_node"));
	}
	job->hosts = list->data;
}

int pio_job_write(pio_supervisor *s, pio_active *a, json_t *orders, const json_t *spec, pio_err *err)
{
	pio_slurm_job job = { .key = a->job->key, .dir = a->ref.dir,
	                      .warn_s = pio_slurm_warn_s(a->grace_s) };
	pio_str script = PIO_STR_INIT, hosts = PIO_STR_INIT;
	char *name = NULL;
	json_t *launch = json_object_get(spec, "slurm");
	a->job->launch = launch ? json_incref(launch) : json_object();
	int rc = pio_slurm_job_read(&job, a->job->launch, err);
	if (!rc)
		rc = pio_jobs_provide(s, err);
	if (!rc)
		rc = run_name(&name, s->store, a->ref.run_id, err);
	if (!rc) {
		job.name = name;
		job.executable = s->jobs->executable;
		job.nodes = a->job->nodes;
		job.ranks_per_node = a->ref.world / a->job->nodes;
		if (a->job->pool)
			put_place(&job, &hosts, orders, json_object_get(spec, "place"));
		rc = write_orders(a, orders, &job, s->jobs->lib_dir, err);
	}
	if (!rc && !a->job->pool)
		rc = pio_slurm_script(&script, &job, err);
	/* The last one: where it is, the job may have been submitted. */
	if (!rc && !a->job->pool)
		rc = write_file(&a->ref, "job.sh", script.data, 0700, err);
	else if (!rc && (rc = write_file(&a->ref, "order", "run\n", 0666, err)) == 0)
		pio_pool_order(a->job->pool);
	pio_str_fini(&hosts);
	pio_str_fini(&script);
	pio_free(name);
	return rc;
}

/* ---- after a crash ----------------------------------------------------------------------------- */

/* What its first supervisor knew of it by heart. */
static void read_orders(pio_active *a)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *orders = NULL;
	pio_str_printf(&path, "%s/orders.json", a->ref.dir);
	if (!path.failed && pio_fs_read(&text, path.data, NULL) == 0)
		(void)pio_json_parse(&orders, text.data, text.len, path.data, NULL);
	a->grace_s = pio_json_int_or(orders, "grace_s", PIO_GRACE_S_DEFAULT);
	a->keep_code = json_is_true(json_object_get(orders, "keep_code"));
	a->job->launch = json_incref(json_object_get(orders, "launch"));
	json_decref(orders);
	pio_str_clear(&path);
	pio_str_printf(&path, "%s/code", a->ref.dir);
	a->owns_code = !path.failed && pio_fs_type(path.data) == PIO_FS_DIR;
	pio_str_fini(&path);
	pio_str_fini(&text);
}

/* May its job have been submitted, or its pool been told to start it? */
static bool has_all_files(const pio_active *a)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/%s", a->ref.dir, a->job->stage == PIO_JOB_SEEKING ? "job.sh" : "order");
	bool there = !path.failed && pio_fs_type(path.data) == PIO_FS_FILE;
	pio_str_fini(&path);
	return there;
}

static void copy_column(char *out, size_t size, sqlite3_stmt *row, int column)
{
	const char *text = (const char *)sqlite3_column_text(row, column);
	snprintf(out, size, "%s", text ? text : "");
}

static int adopt_row(pio_active **adopted, pio_supervisor *s, sqlite3_stmt *row, pio_err *err)
{
	const char *ulid = (const char *)sqlite3_column_text(row, 2);
	pio_active *a = NULL;
	if (!ulid || strlen(ulid) != PIO_ULID_CHARS)
		return pio_fail(err, PIO_ECORRUPT, "run %lld has no ULID", (long long)sqlite3_column_int64(row, 1));
	int rc = pio_active_new(&a, s, err);
	if (!rc)
		rc = pio_attempt_ref_init(&a->ref, s->store, sqlite3_column_int64(row, 1),
		                          sqlite3_column_int64(row, 0), ulid, sqlite3_column_int(row, 3),
		                          sqlite3_column_int(row, 4), err);
	if (!rc && !(a->job = pio_calloc(1, sizeof *a->job)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a job");
	if (rc) {
		if (a)
			pio_supervisor_drop(s, a);
		return rc;
	}
	a->job->nodes = sqlite3_column_int(row, 5);
	copy_column(a->job->key, sizeof a->job->key, row, 6);
	copy_column(a->job->id, sizeof a->job->id, row, 7);
	a->has_started = sqlite3_column_int(row, 8) != 0;
	a->job->stage = a->job->id[0] ? PIO_JOB_KNOWN : PIO_JOB_SEEKING;
	a->job->seek_ns = a->job->heard_ns = a->job->over_ns = pio_clock_mono_ns();
	if (sqlite3_column_int64(row, 9)) {
		a->job->pool = pio_pool_find(s, sqlite3_column_int64(row, 9));
		a->job->stage = a->job->pool ? PIO_JOB_PLACED : PIO_JOB_OVER;
	}
	a->job->has_run = a->has_started;
	*adopted = a;
	return 0;
}

static const char open_sql[] =
	"SELECT a.id, a.run_id, r.ulid, a.number, a.world_size, a.nodes, a.job_key, a.job, a.state = 'running',"
	" a.pool_id FROM attempt a JOIN run r ON r.id = a.run_id WHERE a.state != 'ended' AND a.launcher = 'slurm'"
	" ORDER BY a.id";

int pio_jobs_adopt(pio_supervisor *s, pio_err *err)
{
	pio_active *a;
	int rc = pio_pools_adopt(s, err);
	while (!rc && (rc = pio_adopt_next(&a, s, open_sql, pio_attempt_is_ours, adopt_row, err)) == 0 && a) {
		read_orders(a);
		if (a->job->stage != PIO_JOB_KNOWN && !has_all_files(a)) {
			rc = pio_job_settle(s, a, "lost", "its supervisor died before the job was submitted", err);
			if (rc)
				return rc;
			pio_supervisor_drop(s, a);
		}
	}
	return rc;
}
