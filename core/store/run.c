#include "store/run.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "store/node.h"
#include "store/sql.h"

#define NAME_BYTES_MAX 4096

static bool is_experiment_name(const char *name)
{
	size_t n = strlen(name);
	if (n < 1 || n > 200 || name[0] == '-' || name[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", name[i]))
			return false;
	return true;
}

void pio_store_experiment_name(char name[PIO_EXPERIMENT_BYTES], const char *wanted)
{
	size_t n = 0;
	for (; *wanted && n < PIO_EXPERIMENT_BYTES - 1; wanted++) {
		char c = *wanted;
		bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		            c == '_' || ((c == '.' || c == '-') && n);
		if (good)
			name[n++] = c;
		else if (n && name[n - 1] != '-')
			name[n++] = '-';
	}
	while (n && name[n - 1] == '-')
		n--;
	name[n] = 0;
	if (!n)
		snprintf(name, PIO_EXPERIMENT_BYTES, "run");
}

/* End what pio_store_begin opened: commit if rc is 0, else roll back. */
static int end(pio_store *store, int rc, pio_err *err)
{
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}

int pio_store_experiment(int64_t *id, pio_store *store, const char *name, const char *goal_key,
                         const char *goal, pio_err *err)
{
	*id = 0;
	if (!is_experiment_name(name))
		return pio_fail(err, PIO_EINVAL, "experiment name \"%.200s\": expected 1 to 200 letters, "
		                "digits, '.', '_' or '-', not beginning with '-' or '.'", name);
	if (goal && strcmp(goal, "minimize") != 0 && strcmp(goal, "maximize") != 0)
		return pio_fail(err, PIO_EINVAL, "goal \"%s\": expected minimize or maximize", goal);
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT INTO experiment (name, created_ns) VALUES (?1, ?2)"
	                  " ON CONFLICT (name) DO NOTHING", "ti", name, pio_clock_wall_ns());
	if (!rc && goal_key)
		rc = pio_sql_exec(store, err, "UPDATE experiment SET goal_key = ?2, goal = ?3 WHERE name = ?1",
		                  "ttt", name, goal_key, goal);
	if (!rc)
		rc = pio_sql_int(id, store, err, "SELECT id FROM experiment WHERE name = ?1", "t", name);
	return end(store, rc, err);
}

int pio_store_run_create(int64_t *id, pio_store *store, const pio_store_run_spec *spec,
                         pio_err *err)
{
	char ulid[PIO_ULID_CHARS + 1];
	int64_t number = 0, generation = 1;
	*id = 0;
	if (spec->ulid) {
		pio_ulid parsed;
		if (!pio_ulid_parse(&parsed, spec->ulid))
			return pio_fail(err, PIO_EINVAL, "run \"%s\" is no ULID", spec->ulid);
		pio_ulid_format(&parsed, ulid);
	} else {
		pio_ulid fresh;
		pio_ulid_new(&fresh);
		pio_ulid_format(&fresh, ulid);
	}
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_int(&number, store, err, "SELECT next_number FROM experiment WHERE id = ?1", "i",
	                 spec->experiment_id);
	if (!rc && !number)
		rc = pio_fail(err, PIO_ENOTFOUND, "there is no experiment with id %lld",
		              (long long)spec->experiment_id);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE experiment SET next_number = ?2 + 1 WHERE id = ?1",
		                  "ii", spec->experiment_id, number);
	if (!rc && spec->identity)
		rc = pio_sql_int(&generation, store, err, "SELECT coalesce(max(generation), 0) + 1 FROM run"
		                 " WHERE identity = ?1", "t", spec->identity);
	if (!rc)
		rc = pio_sql_exec(store, err,
		                  "INSERT INTO run (ulid, experiment_id, number, status, identity, generation,"
		                  " sweep_id, snapshot_id, from_checkpoint, program, launch, seed, created_ns)"
		                  " VALUES (?1, ?2, ?3, 'planned', ?4, ?5, ?6, ?7, ?8, ?9, ?10,"
		                  " CASE WHEN ?12 THEN ?11 END, ?13)", "tiitizztttiii", ulid,
		                  spec->experiment_id, number, spec->identity, generation, spec->sweep_id,
		                  spec->snapshot_id, spec->from_checkpoint, spec->program, spec->launch,
		                  spec->seed, (int64_t)spec->has_seed, pio_clock_wall_ns());
	if (!rc)
		*id = sqlite3_last_insert_rowid(pio_store_db(store));
	return end(store, rc, err);
}

int pio_store_run_find(int64_t *id, pio_store *store, const char *identity, pio_err *err)
{
	return pio_sql_int(id, store, err, "SELECT id FROM run WHERE identity = ?1"
	                   " ORDER BY generation DESC LIMIT 1", "t", identity);
}

int pio_store_run_set_job(pio_store *store, int64_t run_id, const char *job, pio_err *err)
{
	return pio_sql_exec(store, err, "UPDATE run SET job = ?2 WHERE id = ?1 AND job IS NOT ?2", "it",
	                    run_id, job);
}

/* 0 changed rows mean that there is no such row. */
static int must_change(pio_store *store, int rc, const char *what, int64_t id, pio_err *err)
{
	if (!rc && sqlite3_changes(pio_store_db(store)) == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no %s with id %lld", what, (long long)id);
	return rc;
}

int pio_store_run_set_status(pio_store *store, int64_t run_id, const char *status,
                             const char *reason, pio_err *err)
{
	static const char *const words[] = { "planned", "queued", "running", "finished", "failed",
	                                     "stopped", "cancelled" };
	size_t i = 0;
	while (i < 7 && strcmp(words[i], status) != 0)
		i++;
	if (i == 7)
		return pio_fail(err, PIO_EINVAL, "run status \"%s\": expected planned, queued, running, "
		                "finished, failed, stopped or cancelled", status);
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE run SET status = ?2, reason = ?3,"
	                  " started_ns = CASE WHEN ?5 THEN coalesce(started_ns, ?4) ELSE started_ns END,"
	                  " ended_ns = CASE WHEN ?6 THEN ?4 END,"
	                  " stop_requested_ns = CASE WHEN ?7 AND status NOT IN ('queued', 'running')"
	                  " THEN NULL ELSE stop_requested_ns END"
	                  " WHERE id = ?1", "ittiiii", run_id, status, reason, pio_clock_wall_ns(),
	                  (int64_t)(i == 2), (int64_t)(i > 2), (int64_t)(i == 1 || i == 2));
	rc = must_change(store, rc, "run", run_id, err);
	return end(store, rc, err);
}

static int check_name(const char *what, const char *name, size_t name_bytes, pio_err *err)
{
	if (name_bytes < 1 || name_bytes > NAME_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "%s name of %zu bytes, expected 1 to %d", what, name_bytes,
		                NAME_BYTES_MAX);
	if (memchr(name, 0, name_bytes))
		return pio_fail(err, PIO_EINVAL, "%s name \"%.100s\" holds a NUL byte at position %zu", what,
		                name, strlen(name));
	return 0;
}

#define PARAM_SQL "INSERT INTO param (run_id, name, value, kind, bits) VALUES (?1, ?2, ?3, ?4, ?5)" \
	" ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value, kind = excluded.kind," \
	" bits = excluded.bits"

static int param_real(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                      double value, pio_err *err)
{
	/* SQLite keeps neither NaN nor the sign of zero. */
	int64_t bits;
	memcpy(&bits, &value, 8);
	if (isnan(value) || (value == 0 && bits))
		return pio_sql_exec(store, err, PARAM_SQL, "isdti", run_id, name, name_bytes, value, "real",
		                    bits);
	return pio_sql_exec(store, err, PARAM_SQL, "isdt", run_id, name, name_bytes, value, "real");
}

int pio_store_param_set(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                        const char *json, size_t json_bytes, pio_err *err)
{
	json_t *value = NULL;
	int rc = check_name("parameter", name, name_bytes, err);
	if (!rc)
		rc = pio_json_parse(&value, json, json_bytes, "parameter's value", err);
	if (rc)
		return rc;
	if ((rc = pio_store_begin(store, err)) != 0) {
		json_decref(value);
		return rc;
	}
	if (json_is_integer(value) || json_is_boolean(value)) {
		int64_t number = json_is_integer(value) ? json_integer_value(value) : json_is_true(value);
		rc = pio_sql_exec(store, err, PARAM_SQL, "isit", run_id, name, name_bytes, number,
		                  json_is_integer(value) ? "int" : "bool");
	} else if (json_is_real(value)) {
		rc = param_real(store, run_id, name, name_bytes, json_real_value(value), err);
	} else if (json_is_string(value)) {
		rc = pio_sql_exec(store, err, PARAM_SQL, "isst", run_id, name, name_bytes,
		                  json_string_value(value), json_string_length(value), "text");
	} else {
		char *text = pio_json_canonical(value);
		rc = text ? pio_sql_exec(store, err, PARAM_SQL, "istt", run_id, name, name_bytes, text, "json")
		          : pio_fail(err, PIO_ENOMEM, "out of memory");
		free(text);
	}
	json_decref(value);
	return end(store, rc, err);
}

int pio_store_tag_set(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                      const char *value, size_t value_bytes, pio_err *err)
{
	int rc = check_name("tag", name, name_bytes, err);
	if (!rc)
		rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT INTO tag (run_id, name, value) VALUES (?1, ?2, ?3)"
	                  " ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value", "iss",
	                  run_id, name, name_bytes, value ? value : "", value_bytes);
	return end(store, rc, err);
}

int pio_store_tag_remove(pio_store *store, int64_t run_id, const char *name, size_t name_bytes,
                         pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "DELETE FROM tag WHERE run_id = ?1 AND name = ?2", "is", run_id,
	                  name, name_bytes);
	return end(store, rc, err);
}

int pio_store_event_add(pio_store *store, int64_t run_id, int64_t attempt_id, int rank,
                        int64_t step, int64_t time_ns, const char *kind, const char *key,
                        const char *message, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT INTO event (run_id, attempt_id, rank, step, time_ns, kind,"
	                  " key, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", "izmoittt", run_id,
	                  attempt_id, rank, step, time_ns, kind, key, message ? message : "");
	return end(store, rc, err);
}

int pio_store_attempt_create(int64_t *id, int *number, pio_store *store, int64_t run_id,
                             const char *launcher, int world_size,
                             const char *resume_checkpoint, pio_err *err)
{
	int64_t next = 0;
	*id = 0;
	*number = 0;
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_int(&next, store, err, "SELECT coalesce(max(number), 0) + 1 FROM attempt"
	                 " WHERE run_id = ?1", "i", run_id);
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT INTO attempt (run_id, number, state, launcher, dir,"
		                  " world_size, resume_checkpoint, created_ns) SELECT id, ?2, 'starting', ?3,"
		                  " 'runs/' || ulid || '/' || ?2, ?4, ?5, ?6 FROM run WHERE id = ?1",
		                  "iititi", run_id, next, launcher, (int64_t)world_size, resume_checkpoint,
		                  pio_clock_wall_ns());
	rc = must_change(store, rc, "run", run_id, err);
	if (!rc) {
		*id = sqlite3_last_insert_rowid(pio_store_db(store));
		*number = (int)next;
		rc = pio_store_run_set_status(store, run_id, strcmp(launcher, "slurm") == 0 ? "queued" : "running",
		                              NULL, err);
	}
	return end(store, rc, err);
}

int pio_store_attempt_job_set(pio_store *store, int64_t attempt_id, int nodes, const char *key,
                              const char *job, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE attempt SET nodes = ?2, job_key = ?3, job = ?4 WHERE id = ?1",
	                  "iitt", attempt_id, (int64_t)nodes, key, job);
	rc = must_change(store, rc, "attempt", attempt_id, err);
	return end(store, rc, err);
}

int pio_store_attempt_started(pio_store *store, int64_t attempt_id, int64_t agent_pid,
                              pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE attempt SET agent_pid = ?2, state = CASE state"
	                  " WHEN 'starting' THEN 'running' ELSE state END,"
	                  " started_ns = coalesce(started_ns, ?3) WHERE id = ?1", "izi", attempt_id,
	                  agent_pid, pio_clock_wall_ns());
	rc = must_change(store, rc, "attempt", attempt_id, err);
	return end(store, rc, err);
}

int pio_store_attempt_finish(pio_store *store, int64_t attempt_id,
                             const pio_store_attempt_end *ending, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE attempt SET state = 'ended', result = ?2, node = ?3,"
	                  " rank = ?4, exit_code = ?5, signal = ?6, step = ?7, message = ?8, ended_ns = ?9"
	                  " WHERE id = ?1 AND state != 'ended'", "ittmmmoti", attempt_id, ending->result,
	                  ending->node, ending->rank, ending->exit_code, ending->signal, ending->step,
	                  ending->message, ending->ended_ns);
	bool ended_now = !rc && sqlite3_changes(pio_store_db(store)) > 0;
	if (ended_now)
		rc = pio_store_node_ended(store, attempt_id, err);
	return end(store, rc, err);
}

int pio_store_rank_set(pio_store *store, int64_t attempt_id, int rank, const char *node,
                       int exit_code, int signal, const char *stdout_tail,
                       const char *stderr_tail, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT INTO rank (attempt_id, rank, node, exit_code, signal,"
	                  " stdout_tail, stderr_tail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
	                  " ON CONFLICT (attempt_id, rank) DO UPDATE SET node = excluded.node,"
	                  " exit_code = excluded.exit_code, signal = excluded.signal,"
	                  " stdout_tail = excluded.stdout_tail, stderr_tail = excluded.stderr_tail",
	                  "iitmmtt", attempt_id, (int64_t)rank, node ? node : "", exit_code, signal,
	                  stdout_tail, stderr_tail);
	return end(store, rc, err);
}

int pio_store_rank_bind(pio_store *store, int64_t attempt_id, int rank, const char *bind, pio_err *err)
{
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "UPDATE rank SET bind = ?3 WHERE attempt_id = ?1 AND rank = ?2", "iit",
	                  attempt_id, (int64_t)rank, bind);
	return end(store, rc, err);
}
