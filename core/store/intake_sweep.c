#include "store/intake_sweep.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "store/sql.h"

#define SWEEP_BYTES_MAX (256 << 20)

/* ---- the row -------------------------------------------------------------------------- */

int pio_intake_parse(json_t **value, const pio_intake *intake, const char *path, pio_err *err)
{
	const pio_intake_file *file = pio_intake_find(intake->bag, path);
	pio_str text = PIO_STR_INIT;
	if (!file)
		return pio_fail(err, PIO_ECORRUPT, "there is no %s, which a run names", path);
	int rc = pio_intake_read(&text, file, SWEEP_BYTES_MAX, err);
	if (!rc)
		rc = pio_json_parse(value, text.data, text.len, path, err);
	pio_str_fini(&text);
	return rc;
}

static int insert_sweep(pio_intake *intake, pio_err *err)
{
	const char *state = pio_json_string_or(intake->sweep, "state", "");
	json_t *values = json_copy(intake->sweep);
	json_object_del(values, "experiment");
	json_t *fixed = json_pack("{s:I, s:s}", "experiment_id", (json_int_t)intake->experiment_id, "state",
	                          strcmp(state, "active") ? state : "interrupted");
	int rc = pio_intake_row(intake, "sweep", values, fixed, intake->sweep_path, err);
	json_decref(values);
	return rc;
}

void pio_intake_sweeps_free(pio_intake *intake)
{
	json_decref(intake->sweep);
	json_decref(intake->sweep_points);
	intake->sweep = intake->sweep_points = NULL;
}

/* Of each run the points that it is of. */
static int index_points(pio_intake *intake, pio_err *err)
{
	json_t *proposal, *one;
	size_t i, k;
	bool made = true;
	intake->sweep_points = json_object();
	json_array_foreach(json_object_get(intake->sweep, "proposals"), i, proposal)
		json_array_foreach(json_object_get(proposal, "runs"), k, one) {
			const char *ulid = pio_json_string_or(one, "run", "");
			json_t *points = json_object_get(intake->sweep_points, ulid);
			if (!points) {
				points = json_array();
				made = made && json_object_set_new(intake->sweep_points, ulid, points) == 0;
			}
			made = made && json_array_append_new(points, json_pack("[O, O]", proposal, one)) == 0;
		}
	return made ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for the points of a sweep");
}

/* The document of a sweep, in intake->sweep. */
static int read_sweep(pio_intake *intake, const char *ulid, pio_err *err)
{
	char path[sizeof intake->sweep_path];
	snprintf(path, sizeof path, "sweep/%.64s.json", ulid);
	if (intake->sweep && !strcmp(intake->sweep_path, path))
		return 0;
	pio_intake_sweeps_free(intake);
	memcpy(intake->sweep_path, path, sizeof path);
	int rc = pio_intake_parse(&intake->sweep, intake, path, err);
	if (!rc)
		rc = index_points(intake, err);
	if (rc)
		pio_intake_sweeps_free(intake);
	return rc;
}

int pio_intake_sweep(int64_t *id, pio_intake *intake, pio_err *err)
{
	const char *ulid = pio_json_string_or(intake->records, "sweep", NULL);
	*id = 0;
	if (!ulid)
		return 0;
	int rc = read_sweep(intake, ulid, err);
	if (!rc)
		rc = pio_sql_int(id, intake->store, err, "SELECT id FROM sweep WHERE experiment_id = ?1 AND"
		                 " (ulid = ?2 OR identity = ?3) ORDER BY ulid = ?2 DESC", "itt",
		                 intake->experiment_id, ulid, pio_json_string_or(intake->sweep, "identity", ""));
	if (!rc && !*id) {
		rc = insert_sweep(intake, err);
		*id = rc ? 0 : sqlite3_last_insert_rowid(pio_store_db(intake->store));
	}
	return rc;
}

/* ---- proposals --------------------------------------------------------------------------- */

static int insert_proposal(pio_intake *intake, int64_t sweep_id, const json_t *proposal, pio_err *err)
{
	int64_t there = 0;
	int rc = pio_sql_int(&there, intake->store, err, "SELECT EXISTS (SELECT 1 FROM proposal WHERE sweep_id = ?1"
	                     " AND number = ?2)", "ii", sweep_id, pio_json_int_or(proposal, "number", 0));
	if (rc || there)
		return rc;
	return pio_intake_row(intake, "proposal", proposal, json_pack("{s:I}", "sweep_id", (json_int_t)sweep_id),
	                      intake->sweep_path, err);
}

/* Has another sweep of the same plan the same point at this number? */
static int has_point(bool *has, const pio_intake *intake, int64_t sweep_id, const json_t *proposal, pio_err *err)
{
	int64_t same = 0;
	int rc = pio_sql_int(&same, intake->store, err, "SELECT EXISTS (SELECT 1 FROM proposal WHERE sweep_id = ?1"
	                     " AND number = ?2 AND params = ?3)", "iit", sweep_id,
	                     pio_json_int_or(proposal, "number", 0), pio_json_string_or(proposal, "params", ""));
	*has = same != 0;
	return rc;
}

/* A run is of a proposal. What a race decided and saw means something in the sweep alone
 * that it is told of (is_same), not in another one of the same plan. */
static int insert_proposal_run(pio_intake *intake, int64_t sweep_id, const json_t *proposal, const json_t *one,
                               int64_t run_id, bool is_same, pio_err *err)
{
	int64_t there = 0, number = pio_json_int_or(proposal, "number", 0), seed = pio_json_int_or(one, "seed", 0);
	int rc = pio_sql_int(&there, intake->store, err, "SELECT EXISTS (SELECT 1 FROM proposal_run WHERE"
	                     " sweep_id = ?1 AND number = ?2 AND seed = ?3)", "iii", sweep_id, number, seed);
	if (rc || there)
		return rc;
	json_t *values = is_same ? json_copy((json_t *)(uintptr_t)one) : json_object();
	json_object_del(values, "run");
	rc = pio_intake_row(intake, "proposal_run", values,
	                    json_pack("{s:I, s:I, s:I, s:I}", "sweep_id", (json_int_t)sweep_id, "number",
	                              (json_int_t)number, "seed", (json_int_t)seed, "run_id",
	                              (json_int_t)run_id), intake->sweep_path, err);
	json_decref(values);
	return rc;
}

/* Is the sweep of this id the one of this ULID? */
static int is_same_sweep(bool *is_same, const pio_intake *intake, int64_t sweep_id, const char *ulid, pio_err *err)
{
	int64_t same = 0;
	int rc = pio_sql_int(&same, intake->store, err, "SELECT ulid = ?2 FROM sweep WHERE id = ?1", "it", sweep_id,
	                     ulid);
	*is_same = same != 0;
	return rc;
}

int pio_intake_proposals(pio_intake *intake, int64_t sweep_id, pio_err *err)
{
	const char *ulid = pio_json_string_or(intake->records, "sweep", "");
	json_t *point;
	size_t i;
	bool is_same = false;
	if (!sweep_id)
		return 0;
	int rc = read_sweep(intake, ulid, err);
	if (!rc)
		rc = is_same_sweep(&is_same, intake, sweep_id, ulid, err);
	json_array_foreach(json_object_get(intake->sweep_points, intake->run->ulid), i, point) {
		const json_t *proposal = json_array_get(point, 0);
		bool is_of_it = is_same;
		if (!rc)
			rc = is_same ? insert_proposal(intake, sweep_id, proposal, err)
			             : has_point(&is_of_it, intake, sweep_id, proposal, err);
		if (!rc && is_of_it)
			rc = insert_proposal_run(intake, sweep_id, proposal, json_array_get(point, 1),
			                         intake->run->run_id, is_same, err);
	}
	return rc;
}

/* ---- what is of the sweep as a whole --------------------------------------------------------- */

static int insert_list(pio_intake *intake, int64_t sweep_id, const char *name, const char *table, pio_err *err)
{
	size_t i;
	json_t *row;
	int rc = 0;
	json_array_foreach(json_object_get(intake->sweep, name), i, row)
		if (!rc)
			rc = pio_intake_row(intake, table, row, json_pack("{s:I}", "sweep_id", (json_int_t)sweep_id),
			                    intake->sweep_path, err);
	return rc;
}

/* A proposal that has no run: a point that was put in and refused; or whose runs another sweep had
 * made before, which came by that one. */
static int insert_other(pio_intake *intake, int64_t sweep_id, const json_t *proposal, pio_err *err)
{
	const json_t *runs = json_object_get(proposal, "runs");
	size_t i;
	json_t *one;
	int rc = json_array_size(runs) ? 0 : insert_proposal(intake, sweep_id, proposal, err);
	json_array_foreach(runs, i, one) {
		int64_t run_id = 0;
		if (!rc)
			rc = pio_sql_int(&run_id, intake->store, err, "SELECT id FROM run WHERE ulid = ?1 AND"
			                 " sweep_id != ?2", "ti", pio_json_string_or(one, "run", ""), sweep_id);
		if (!rc && run_id)
			rc = insert_proposal(intake, sweep_id, proposal, err);
		if (!rc && run_id)
			rc = insert_proposal_run(intake, sweep_id, proposal, one, run_id, true, err);
	}
	return rc;
}

/* What a rule said, in its order; what was let on by then is told by a place in the list. */
static int insert_rungs(pio_intake *intake, int64_t sweep_id, pio_err *err)
{
	const json_t *rungs = json_object_get(intake->sweep, "rungs");
	size_t i;
	json_t *rung;
	int64_t before = 0;
	int rc = pio_sql_int(&before, intake->store, err, "SELECT coalesce(max(id), 0) FROM rung", "");
	json_array_foreach(rungs, i, rung) {
		int64_t run_id = 0, after = pio_json_int_or(rung, "promoted_after", -1);
		if (!rc)
			rc = pio_sql_int(&run_id, intake->store, err, "SELECT r.id FROM run r JOIN proposal_run q ON"
			                 " q.run_id = r.id WHERE r.ulid = ?1 AND q.sweep_id = ?2", "ti",
			                 pio_json_string_or(rung, "run", ""), sweep_id);
		if (!rc && !run_id)
			continue; /* of no point of it here */
		if (!rc && after > (int64_t)json_array_size(rungs))
			rc = pio_fail(err, PIO_ECORRUPT, "%s: a run went on after %lld rungs, of which there are %zu",
			              intake->sweep_path, (long long)after, json_array_size(rungs));
		if (rc)
			break;
		json_t *values = json_copy(rung);
		json_object_del(values, "run");
		json_t *fixed = json_pack("{s:I, s:I, s:I}", "id", (json_int_t)(before + 1 + (int64_t)i), "sweep_id",
		                          (json_int_t)sweep_id, "run_id", (json_int_t)run_id);
		if (after >= 0)
			pio_intake_put(&fixed, "promoted_after", json_integer(after ? before + after : 0));
		rc = pio_intake_row(intake, "rung", values, fixed, intake->sweep_path, err);
		json_decref(values);
	}
	return rc;
}

/* Of a sweep that was not here before. */
static int take_rest(pio_intake *intake, const char *ulid, pio_err *err)
{
	int64_t id = 0;
	size_t i;
	json_t *proposal;
	int rc = pio_sql_int(&id, intake->store, err, "SELECT id FROM sweep WHERE ulid = ?1 AND id > ?2", "ti", ulid,
	                     intake->sweeps_before);
	if (rc || !id)
		return rc;
	rc = read_sweep(intake, ulid, err);
	json_array_foreach(json_object_get(intake->sweep, "proposals"), i, proposal)
		if (!rc)
			rc = insert_other(intake, id, proposal, err);
	if (!rc)
		rc = insert_list(intake, id, "changes", "sweep_change", err);
	if (!rc)
		rc = insert_list(intake, id, "priors", "sweep_prior", err);
	if (!rc)
		rc = insert_rungs(intake, id, err);
	return rc;
}

int pio_intake_sweeps_begin(pio_intake *intake, pio_err *err)
{
	return pio_sql_int(&intake->sweeps_before, intake->store, err, "SELECT coalesce(max(id), 0) FROM sweep", "");
}

int pio_intake_sweeps_end(pio_intake *intake, pio_err *err)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < intake->bag->count; i++) {
		char ulid[65];
		int end = 0;
		const char *path = intake->bag->files[i].path;
		if (sscanf(path, "sweep/%64[0-9A-Z].json%n", ulid, &end) == 1 && end && !path[end])
			rc = take_rest(intake, ulid, err);
	}
	return rc;
}
