#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "client/drain.h"
#include "client/env.h"
#include "launch/supervise_parts.h"
#include "store/fold.h"
#include "store/node.h"
#include "store/run.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define DYING_MS 5000

/* Everything that carries the attempt's mark: ranks whose agent died are killed
 * by the kernel, what they started is not. */
static int kill_remains(const pio_attempt_ref *ref, pio_err *err)
{
	pio_str mark = PIO_STR_INIT;
	pio_str_printf(&mark, PIO_ENV_DIR "=%s", ref->dir);
	int rc = pio_str_check(&mark, err), left = 0;
	int64_t deadline_ns = pio_clock_mono_ns() + DYING_MS * INT64_C(1000000);
	while (!rc && (left = pio_proc_signal_marked(mark.data, SIGKILL)) > 0) {
		if (pio_clock_mono_ns() > deadline_ns)
			rc = pio_fail(err, PIO_EBUSY, "attempt %d of run %s: %d processes do not die of SIGKILL",
			              ref->number, ref->ulid, left);
		pio_clock_sleep_ms(5);
	}
	pio_str_fini(&mark);
	return rc;
}

/* NULL when there is none that can be read whole. */
static json_t *read_record(const pio_attempt_ref *ref)
{
	pio_str path = PIO_STR_INIT, text = PIO_STR_INIT;
	json_t *record = NULL;
	pio_str_printf(&path, "%s/exit.0.json", ref->dir);
	if (!path.failed && pio_fs_read(&text, path.data, NULL) == 0 &&
	    pio_json_parse(&record, text.data, text.len, path.data, NULL) == 0 &&
	    (!json_is_object(record) || !json_is_string(json_object_get(record, "result")))) {
		json_decref(record);
		record = NULL;
	}
	pio_str_fini(&path);
	pio_str_fini(&text);
	return record;
}

/* Why there is no record: what its writer said last on its standard error. */
void pio_attempt_last_words(pio_str *message, const pio_attempt_ref *ref, const char *name)
{
	static const char *const prefixes[] = { "pioche agent: ", "pioche head: " };
	char bytes[1024];
	pio_str path = PIO_STR_INIT;
	struct stat st;
	int fd = -1;
	size_t n = 0, start;
	pio_str_printf(&path, "%s/%s", ref->dir, name);
	if (!path.failed && pio_fs_open(&fd, path.data, O_RDONLY, 0, NULL) == 0 && fstat(fd, &st) == 0) {
		n = st.st_size < (off_t)sizeof bytes ? (size_t)st.st_size : sizeof bytes;
		if (pio_fs_pread_all(fd, bytes, n, st.st_size - (int64_t)n, path.data, NULL) != 0)
			n = 0;
	}
	if (fd >= 0)
		(void)pio_fs_close(&fd, path.data, NULL);
	pio_str_fini(&path);
	while (n && (bytes[n - 1] == '\n' || bytes[n - 1] == ' '))
		n--;
	for (start = n; start && bytes[start - 1] != '\n'; start--)
		continue;
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
		size_t length = strlen(prefixes[i]);
		if (n - start >= length && memcmp(bytes + start, prefixes[i], length) == 0)
			start += length;
	}
	json_t *line = json_stringn(bytes + start, n - start); /* NULL: no text */
	if (line && n > start)
		pio_str_printf(message, ": %s", json_string_value(line));
	json_decref(line);
}

/* The record that the agent could not write. It also tells an agent that comes
 * late, its orders still in the pipe, that the attempt is over. */
static int conclude(json_t **record, const pio_attempt_ref *ref, const pio_ending *ending, pio_err *err)
{
	pio_str message = PIO_STR_INIT, path = PIO_STR_INIT;
	char host[256] = "";
	gethostname(host, sizeof host - 1);
	if (ending->was_stopped)
		pio_str_printf(&message, "stopped on request; the agent of attempt %d had to be killed", ref->number);
	else
		pio_str_printf(&message, "the agent of attempt %d died without an exit record", ref->number);
	if (ending->how && !ending->was_stopped)
		pio_str_printf(&message, " (%s)", ending->how);
	if (!ending->was_stopped)
		pio_attempt_last_words(&message, ref, "agent.0.err");
	pio_str_printf(&path, "%s/exit.0.json", ref->dir);
	*record = json_pack("{s:i, s:s, s:i, s:i, s:s, s:s, s:s, s:n, s:[], s:n, s:I}", "version", 1,
	                    "run", ref->ulid, "attempt", ref->number, "node", 0, "host", host,
	                    "result", ending->was_stopped ? "cancelled" : "lost", "message", message.data,
	                    "first", "ranks", "started_ns", "ended_ns", (json_int_t)pio_clock_wall_ns());
	char *text = *record ? pio_json_canonical(*record) : NULL;
	int rc = text ? pio_str_check(&path, err) : pio_fail(err, PIO_ENOMEM, "out of memory for an exit record");
	if (!rc)
		rc = pio_fs_write(path.data, text, strlen(text), 0666, err);
	free(text);
	pio_str_fini(&message);
	pio_str_fini(&path);
	return rc;
}

int64_t pio_record_last_step(const json_t *record, int64_t otherwise)
{
	int64_t newest = otherwise;
	size_t i;
	json_t *rank;
	json_array_foreach(json_object_get(record, "ranks"), i, rank) {
		int64_t step = pio_json_int_or(rank, "last_step", INT64_MIN);
		if (step > newest)
			newest = step;
	}
	return newest;
}

static int write_bind(pio_store *store, const pio_attempt_ref *ref, int rank, const json_t *bind,
                      pio_err *err)
{
	if (!json_is_object(bind))
		return 0;
	char *text = pio_json_canonical(bind);
	int rc = text ? pio_store_rank_bind(store, ref->id, rank, text, err)
	              : pio_fail(err, PIO_ENOMEM, "out of memory for the binding of a rank");
	free(text);
	return rc;
}

static int write_ranks(pio_store *store, const pio_attempt_ref *ref, const json_t *record, pio_err *err)
{
	size_t i;
	json_t *rank;
	const char *host = pio_json_string_or(record, "host", "");
	json_array_foreach(json_object_get(record, "ranks"), i, rank) {
		int rc = pio_store_rank_set(store, ref->id, (int)pio_json_int_or(rank, "rank", (int64_t)i), host,
		                            (int)pio_json_int_or(rank, "exit_code", -1),
		                            (int)pio_json_int_or(rank, "signal", -1),
		                            pio_json_string_or(rank, "stdout_tail", NULL),
		                            pio_json_string_or(rank, "stderr_tail", NULL), err);
		if (!rc)
			rc = write_bind(store, ref, (int)pio_json_int_or(rank, "rank", (int64_t)i),
			                json_object_get(rank, "bind"), err);
		if (rc)
			return rc;
	}
	return 0;
}

static int write_node(pio_store *store, const pio_attempt_ref *ref, const json_t *record, pio_err *err)
{
	size_t i;
	json_t *check;
	int rc = write_ranks(store, ref, record, err);
	json_array_foreach(json_object_get(record, "checks"), i, check) {
		const char *state = pio_json_string_or(check, "state", "");
		if (rc || (strcmp(state, "ok") && strcmp(state, "warning") && strcmp(state, "failed")))
			return rc; /* or nothing that an agent wrote */
		rc = pio_store_node_check(store, pio_json_string_or(record, "host", ""), ref->id,
		                          pio_json_string_or(check, "name", ""), state,
		                          pio_json_string_or(check, "message", ""),
		                          pio_json_int_or(check, "time_ns", 0), err);
	}
	return rc;
}

/* A result that the schema does not know, from a file that somebody changed. */
static const char *known_result(const char *word)
{
	static const char *const words[] = { "ok", "failed", "signal", "timeout", "preempted", "node_fail",
	                                     "oom", "hang", "cancelled", "lost" };
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i], word) == 0)
			return words[i];
	return "lost";
}

int pio_attempt_write_end(pio_store *store, const pio_attempt_ref *ref, const json_t *record,
                          const json_t *nodes, const pio_ending *ending, pio_err *err)
{
	const json_t *first = json_object_get(record, "first");
	int64_t last_step = ending->last_step;
	size_t i;
	json_t *node;
	json_array_foreach(nodes, i, node)
		last_step = pio_record_last_step(node, last_step);
	int64_t step = pio_json_int_or(first, "step", last_step);
	pio_store_attempt_end row = {
		.result = known_result(pio_json_string_or(record, "result", "lost")),
		/* On many nodes the first failure says where it was. */
		.node = json_is_object(first)
			? pio_json_string_or(first, "host", pio_json_string_or(record, "host", NULL)) : NULL,
		.rank = (int)pio_json_int_or(first, "rank", -1),
		.exit_code = (int)pio_json_int_or(first, "exit_code", -1),
		.signal = (int)pio_json_int_or(first, "signal", -1),
		.step = step,
		.message = pio_json_string_or(record, "message", NULL),
		.ended_ns = pio_json_int_or(record, "ended_ns", pio_clock_wall_ns()),
	};
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	for (i = 0; !rc && i < json_array_size(nodes); i++)
		rc = write_node(store, ref, json_array_get(nodes, i), err);
	if (!rc)
		rc = pio_store_attempt_finish(store, ref->id, &row, err);
	if (rc) {
		pio_store_rollback(store);
		return rc;
	}
	return pio_store_commit(store, err);
}

/* Files that their writer did not live to rename (fs.h). */
static void remove_parts(const char *dir)
{
	char **names;
	size_t count;
	if (pio_fs_list(&names, &count, dir, NULL) != 0)
		return;
	for (size_t i = 0; i < count; i++) {
		pio_str path = PIO_STR_INIT;
		pio_str_printf(&path, "%s/%s", dir, names[i]);
		if (strstr(names[i], ".part.") && !path.failed)
			(void)pio_fs_unlink(path.data, NULL);
		pio_str_fini(&path);
	}
	pio_fs_list_free(names, count);
}

void pio_attempt_tidy(const pio_attempt_ref *ref, const pio_ending *ending, const json_t *record)
{
	pio_str code = PIO_STR_INIT;
	remove_parts(ref->dir);
	(void)pio_fs_remove_tree(ref->staging, NULL);
	pio_str_printf(&code, "%s/code", ref->dir);
	if (ending->remove_code && !code.failed &&
	    strcmp(pio_json_string_or(record, "result", ""), "ok") == 0)
		(void)pio_fs_remove_tree(code.data, NULL);
	pio_str_fini(&code);
}

static int settle_locked(json_t **record, pio_store *store, const pio_attempt_ref *ref,
                         const pio_ending *ending, pio_err *err)
{
	pio_fold_result folded;
	int rc = kill_remains(ref, err);
	if (rc)
		return rc;
	/* With an exit record there are rings only where the journal was in trouble. */
	rc = pio_ring_recover(ref->dir, ref->ulid, ref->number, ref->world, err);
	*record = read_record(ref);
	if (!*record && ending->heard)
		*record = json_deep_copy(ending->heard); /* its file could not be written */
	/* A journal that nobody can read must not keep the attempt open for ever; a
	 * full disk must, or what the rings still hold would be lost. */
	if (*record && (rc == -PIO_ECORRUPT || rc == -PIO_EVERSION))
		rc = 0;
	else if (rc == -PIO_ECORRUPT || rc == -PIO_EVERSION)
		pio_err_context(err, "attempt %d of run %s cannot be ended: `pioche doctor --fix` sets aside what"
		                " cannot be read", ref->number, ref->ulid);
	else if (!*record && !rc)
		rc = conclude(record, ref, ending, err);
	if (!rc)
		rc = pio_store_fold_attempt(&folded, store, ref->id, true, err);
	json_t *nodes = rc ? NULL : json_pack("[O]", *record);
	if (!rc && !nodes)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the end of an attempt");
	if (!rc)
		rc = pio_attempt_write_end(store, ref, *record, nodes, ending, err);
	if (!rc)
		pio_attempt_tidy(ref, ending, *record);
	json_decref(nodes);
	return rc;
}

int pio_attempt_settle(json_t **record, pio_store *store, const pio_attempt_ref *ref,
                       const pio_ending *ending, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int lock_fd = -1;
	*record = NULL;
	/* Where the supervisor died before it made the directory, there is none yet. */
	int rc = pio_fs_mkdirs_durable(ref->dir, 0777, err);
	pio_str_printf(&path, "%s/agent.lock", ref->dir);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_lock(&lock_fd, path.data, err);
	if (!rc)
		rc = settle_locked(record, store, ref, ending, err);
	if (rc) {
		json_decref(*record);
		*record = NULL;
	}
	if (lock_fd >= 0)
		(void)pio_fs_close(&lock_fd, path.data, NULL);
	pio_str_fini(&path);
	return rc;
}
