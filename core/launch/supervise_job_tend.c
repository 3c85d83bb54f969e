/* A job's life and end, as its files in the attempt's directory tell it. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/supervise_job.h"
#include "store/fold.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"

#define SECOND_NS INT64_C(1000000000)
#define LOOK_NS SECOND_NS
#define LOOK_WAITING_NS (5 * SECOND_NS)
/* From the end of a job to its record's being seen here: a network file system
 * may show a directory as it was a minute ago. */
#define RECORD_NS (3 * SECOND_NS)
#define RECORD_NETWORK_NS (65 * SECOND_NS)
#define EVENTS_BYTES_MAX ((size_t)1 << 20)

static void in_dir(pio_str *path, const pio_attempt_ref *ref, const char *name)
{
	pio_str_clear(path);
	pio_str_printf(path, "%s/%s", ref->dir, name);
}

/* NULL when there is none that can be read whole. */
static json_t *read_record(const pio_attempt_ref *ref, const char *name)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *record = NULL;
	in_dir(&path, ref, name);
	if (!path.failed && pio_fs_read(&text, path.data, NULL) == 0 &&
	    pio_json_parse(&record, text.data, text.len, path.data, NULL) == 0 &&
	    !json_is_string(json_object_get(record, "result"))) {
		json_decref(record);
		record = NULL;
	}
	pio_str_fini(&path);
	pio_str_fini(&text);
	return record;
}

/* ---- while it runs -------------------------------------------------------------------------- */

void pio_job_put_where(pio_str *where, const pio_job *job)
{
	if (job->seen.reason[0])
		pio_str_printf(where, "%s, ", job->seen.reason);
	pio_str_printf(where, "%d node%s, job %s", job->nodes, job->nodes == 1 ? "" : "s", job->id);
}

int pio_job_tell(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_job *job = a->job;
	pio_str where = PIO_STR_INIT;
	if (a->pool)
		return pio_pool_tell(s, a, err);
	pio_job_put_where(&where, job);
	int rc = pio_str_check(&where, err);
	if (!rc)
		rc = pio_store_run_set_status(s->store, a->ref.run_id, "queued", where.data, err);
	if (!rc)
		json_array_append_new(s->events, json_pack("{s:s, s:I, s:i, s:s, s:s}", "event", "queued", "run",
			(json_int_t)a->ref.run_id, "attempt", a->ref.number, "job", job->id, "where", where.data));
	pio_str_fini(&where);
	return rc;
}

int pio_job_started(pio_supervisor *s, pio_active *a, pio_err *err)
{
	a->job->has_run = true;
	if (a->has_started || a->pool) /* a pool says itself when it has begun */
		return 0;
	int rc = pio_store_begin(s->store, err);
	if (rc)
		return rc;
	rc = pio_store_attempt_started(s->store, a->ref.id, 0, err);
	if (!rc)
		rc = pio_store_run_set_status(s->store, a->ref.run_id, "running", NULL, err);
	if (rc) {
		pio_store_rollback(s->store);
		return rc;
	}
	if ((rc = pio_store_commit(s->store, err)) != 0)
		return rc;
	a->has_started = true;
	a->job->heard_ns = pio_clock_mono_ns();
	pio_jobs_hurry(s);
	json_array_append_new(s->events, json_pack("{s:s, s:I, s:i, s:s}", "event", "started", "run",
		(json_int_t)a->ref.run_id, "attempt", a->ref.number, "job", a->job->id));
	return 0;
}

/* A note may have been taken by an earlier supervisor. */
static int take_note(pio_supervisor *s, const pio_active *a, const json_t *note, pio_err *err)
{
	const char *kind = pio_json_string_or(note, "kind", "note");
	const char *message = pio_json_string_or(note, "message", "");
	int64_t time_ns = pio_json_int_or(note, "time_ns", pio_clock_wall_ns()), known;
	int rc = pio_sql_int(&known, s->store, err, "SELECT count(*) FROM event WHERE attempt_id = ?1"
	                     " AND time_ns = ?2 AND kind = ?3 AND message = ?4", "iitt", a->ref.id, time_ns,
	                     kind, message);
	if (rc || known)
		return rc;
	return pio_store_event_add(s->store, a->ref.run_id, a->ref.id, -1, INT64_MIN, time_ns, kind, NULL,
	                           message, err);
}

static int take_events(pio_supervisor *s, pio_active *a, const char *text, size_t size, pio_err *err)
{
	size_t at = 0;
	int rc = 0;
	const char *newline;
	while (!rc && (newline = memchr(text + at, '\n', size - at)) != NULL) {
		size_t end = (size_t)(newline - text);
		json_t *event = NULL;
		(void)pio_json_parse(&event, text + at, end - at, "head.events", NULL);
		const char *kind = pio_json_string_or(event, "event", "");
		if (strcmp(kind, "note") == 0)
			rc = take_note(s, a, event, err);
		else if (strcmp(kind, "vote") == 0)
			pio_active_take_vote(a, event);
		json_decref(event);
		if (!rc) {
			a->job->events_at += (int64_t)(end + 1 - at);
			at = end + 1;
		}
	}
	return rc;
}

/* What the head said since the last look. */
static int read_events(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	struct stat st;
	int fd = -1, rc = 0;
	in_dir(&path, &a->ref, "head.events");
	if (!path.failed && pio_fs_open(&fd, path.data, O_RDONLY, 0, NULL) == 0 && fstat(fd, &st) == 0 &&
	    st.st_size > a->job->events_at) {
		pio_str text = PIO_STR_INIT;
		char bytes[4096];
		int64_t left = st.st_size - a->job->events_at, at = a->job->events_at;
		while (!rc && left > 0 && text.len < EVENTS_BYTES_MAX) {
			size_t n = left < (int64_t)sizeof bytes ? (size_t)left : sizeof bytes;
			rc = pio_fs_pread_all(fd, bytes, n, at, path.data, err);
			if (!rc)
				pio_str_append(&text, bytes, n);
			at += (int64_t)n;
			left -= (int64_t)n;
		}
		a->job->heard_ns = pio_clock_mono_ns();
		if (!rc)
			rc = take_events(s, a, text.data, text.len, err);
		pio_str_fini(&text);
	}
	if (fd >= 0)
		(void)pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	return rc;
}

static int look(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = 0;
	if (!a->job->has_run) {
		in_dir(&path, &a->ref, "claim");
		if (!path.failed && pio_fs_type(path.data) == PIO_FS_DIR)
			rc = pio_job_started(s, a, err);
	}
	pio_str_fini(&path);
	a->job->look_ns = pio_clock_mono_ns() + (a->job->has_run || a->job->pool ? LOOK_NS : LOOK_WAITING_NS);
	if (rc || !a->job->has_run)
		return rc;
	if ((rc = read_events(s, a, err)) != 0)
		return rc;
	if (!a->record)
		a->record = read_record(&a->ref, "exit.json");
	return 0;
}

/* ---- its end ---------------------------------------------------------------------------------- */

/* The records of the nodes, as an array; before them what the gate found (gate.h), which
 * looked at other nodes too. */
static json_t *node_records(const pio_active *a)
{
	json_t *gate = read_record(&a->ref, "gate.json"), *seen = json_object_get(gate, "nodes");
	json_t *records = json_is_array(seen) ? json_copy(seen) : json_array();
	json_decref(gate);
	for (int node = 0; node < a->job->nodes; node++) {
		char name[32];
		snprintf(name, sizeof name, "exit.%d.json", node);
		json_t *record = read_record(&a->ref, name);
		if (record)
			json_array_append_new(records, record);
	}
	return records;
}

/* Is this record all there is to say? Not where somebody else ended the job. */
static bool says_it_all(const pio_active *a)
{
	const char *result = pio_json_string_or(a->record, "result", "lost");
	return a->was_stopped || (strcmp(result, "cancelled") != 0 && strcmp(result, "lost") != 0);
}

int pio_job_settle(pio_supervisor *s, pio_active *a, const char *result, const char *message, pio_err *err)
{
	pio_fold_result folded;
	pio_ending ending = { .was_stopped = a->was_stopped, .last_step = a->last_step,
	                      .remove_code = a->owns_code && !a->keep_code };
	json_t *record = a->record ? json_copy(a->record) : json_object(), *nodes = node_records(a);
	int rc = 0;
	if (!record || !nodes)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the end of an attempt");
	if (!rc && result) {
		pio_str text = PIO_STR_INIT;
		pio_str_put_text(&text, message, strlen(message));
		json_object_set_new(record, "result", json_string(result));
		json_object_set_new(record, "message", json_string(text.data));
		pio_str_fini(&text);
	}
	if (!rc)
		rc = pio_store_fold_attempt(&folded, s->store, a->ref.id, true, err);
	if (!rc && folded.last_step > a->last_step)
		ending.last_step = a->last_step = folded.last_step;
	if (!rc)
		rc = pio_attempt_write_end(s->store, &a->ref, record, nodes, &ending, err);
	if (!rc)
		pio_attempt_tidy(&a->ref, &ending, record);
	json_decref(a->record);
	a->record = record;
	json_decref(nodes);
	return rc;
}

int pio_job_finish(pio_supervisor *s, pio_active *a, const char *result, const char *message, pio_err *err)
{
	int rc = a->pool ? pio_pool_finish(s, a, result, message, err) : pio_job_settle(s, a, result, message, err);
	if (rc || a->pool)
		return rc;
	pio_active_tell_end(s, a, a->record);
	pio_supervisor_drop(s, a);
	return 0;
}

/* What Slurm says of its end, with the head's last words where it left no record. */
static int finish_by_slurm(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_str message = PIO_STR_INIT;
	/* That it was told to stop is all that a cancelled head can say. */
	bool was_told = strcmp(pio_json_string_or(a->record, "result", ""), "cancelled") == 0;
	const char *said = was_told ? NULL : pio_json_string_or(a->record, "message", NULL);
	const char *result = a->job->pool ? pio_pool_result(&message, a)
		: pio_slurm_result(&message, &a->job->end, a->job->id[0] ? a->job->id : "unknown");
	bool knows_why = strcmp(result, "lost") != 0 && strcmp(result, "failed") != 0;
	int rc;
	if (a->record && !knows_why)
		rc = pio_job_finish(s, a, NULL, NULL, err); /* the head knew more */
	else {
		if (a->was_stopped)
			result = "cancelled";
		if (said)
			pio_str_printf(&message, ": %s", said);
		else if (!a->record && !a->was_stopped && strcmp(result, "cancelled") != 0)
			pio_attempt_last_words(&message, &a->ref, "head.err");
		rc = pio_str_check(&message, err);
		if (!rc)
			rc = pio_job_finish(s, a, result, message.data, err);
	}
	pio_str_fini(&message);
	return rc;
}

static int fold_now(pio_supervisor *s, pio_active *a, pio_err *err)
{
	int64_t records = 0;
	int rc = pio_active_fold(s, a, &records, err);
	if (records > 0)
		a->job->heard_ns = pio_clock_mono_ns();
	return rc;
}

void pio_job_stop(pio_supervisor *s, pio_active *a, bool now)
{
	/* Asked again, and more plainly: the next call is not put off. */
	if (now && !a->job->stop_now) {
		a->job->cancels = 0;
		a->job->cancel_ns = 0;
	}
	a->job->stop_now |= now;
	pio_jobs_hurry(s);
}

int pio_job_tend(pio_supervisor *s, pio_active *a, pio_err *err)
{
	pio_job *job = a->job;
	int64_t now_ns = pio_clock_mono_ns();
	bool is_network = job->stage == PIO_JOB_OVER && pio_fs_is_network(a->ref.dir);
	int rc = 0;
	if (a->was_stopped && job->stage == PIO_JOB_NEW && !pio_job_is_on_its_way(s, a))
		return pio_job_finish(s, a, "cancelled", "stopped before its job was submitted", err);
	if (a->was_stopped && job->stage == PIO_JOB_PLACED && (rc = pio_pool_pass(a, err)) != 0)
		return rc;
	/* A job that is over may have begun, and ended, between two looks. */
	if ((now_ns > job->look_ns || job->stage == PIO_JOB_OVER) && (rc = look(s, a, err)) != 0)
		return rc;
	if (a->record && job->pool)
		pio_pool_amend(a);
	if (a->record && says_it_all(a))
		return pio_job_finish(s, a, NULL, NULL, err);
	if (a->record && job->stage == PIO_JOB_KNOWN) {
		job->stage = PIO_JOB_GONE; /* going, at least: Slurm knows why */
		job->due_ns = now_ns + LOOK_NS;
	}
	if (a->record && job->stage == PIO_JOB_PLACED && pio_pool_goes_on(s, a))
		return pio_job_finish(s, a, NULL, NULL, err);
	if (job->stage == PIO_JOB_OVER &&
	    (a->record || now_ns - job->over_ns > (is_network ? RECORD_NETWORK_NS : RECORD_NS)))
		return finish_by_slurm(s, a, err);
	if (a->has_started && now_ns > a->fold_ns)
		return fold_now(s, a, err);
	return 0;
}
