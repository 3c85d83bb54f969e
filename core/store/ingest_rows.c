/* The rows around the points of a foreign run: its attempts, media, parameters,
 * console and end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "store/ingest_parts.h"
#include "store/object.h"
#include "store/run.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define INLINE_BYTES_MAX (64u << 10)   /* larger media become objects */

/* ---- attempts -------------------------------------------------------------------------------- */

/* An attempt that is over: pioche never ran it, and whoever did tells at best
 * how it ended. */
int pio_ingest_attempt_ensure(pio_ingest *ingest, pio_err *err)
{
	if (ingest->attempt_id)
		return 0;
	int rc = pio_sql_exec(ingest->store, err, "INSERT INTO attempt (run_id, number, state, result,"
	                      " launcher, dir, world_size, created_ns) SELECT id, ?2, 'ended', 'lost',"
	                      " 'standalone', 'runs/' || ulid || '/' || ?2, 1, ?3 FROM run WHERE id = ?1"
	                      " ON CONFLICT (run_id, number) DO NOTHING", "iii", ingest->run_id,
	                      (int64_t)ingest->attempt, pio_clock_wall_ns());
	if (!rc)
		rc = pio_sql_int(&ingest->attempt_id, ingest->store, err, "SELECT id FROM attempt WHERE"
		                 " run_id = ?1 AND number = ?2", "ii", ingest->run_id,
		                 (int64_t)ingest->attempt);
	return rc;
}

int pio_ingest_attempt_end(pio_ingest *ingest, pio_err *err)
{
	if (ingest->first_ns == INT64_MAX && ingest->last_step == INT64_MIN)
		return 0;
	int rc = pio_ingest_attempt_ensure(ingest, err);
	if (!rc && ingest->first_ns != INT64_MAX)
		rc = pio_sql_exec(ingest->store, err, "UPDATE attempt SET created_ns = min(created_ns, ?2),"
		                  " started_ns = min(coalesce(started_ns, ?2), ?2),"
		                  " ended_ns = max(coalesce(ended_ns, ?3), ?3) WHERE id = ?1", "iii",
		                  ingest->attempt_id, ingest->first_ns, ingest->last_ns);
	if (!rc && ingest->first_ns != INT64_MAX)
		rc = pio_sql_exec(ingest->store, err, "UPDATE run SET created_ns = min(created_ns, ?2),"
		                  " started_ns = min(coalesce(started_ns, ?2), ?2),"
		                  " ended_ns = max(coalesce(ended_ns, ?3), ?3) WHERE id = ?1", "iii",
		                  ingest->run_id, ingest->first_ns, ingest->last_ns);
	if (!rc && ingest->last_step != INT64_MIN)
		rc = pio_sql_exec(ingest->store, err, "UPDATE attempt SET step = max(coalesce(step, ?2), ?2)"
		                  " WHERE id = ?1", "ii", ingest->attempt_id, ingest->last_step);
	ingest->first_ns = INT64_MAX;
	ingest->last_ns = ingest->last_step = INT64_MIN;
	return rc;
}

/* ---- media ------------------------------------------------------------------------------------- */

static int put_object(pio_ingest *ingest, const pio_ingest_blob *blob, char sha256[PIO_SHA256_HEX + 1],
                      pio_err *err)
{
	int fd = -1;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/staging/import-%lld.part", pio_store_path(ingest->store),
	               (long long)ingest->import_id);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_sha256_bytes(blob->bytes, blob->size_bytes, sha256, err);
	if (!rc)
		rc = pio_fs_unlink(path.data, err); /* of a death in between; it may be read-only */
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (!rc)
		rc = pio_fs_write_all(fd, blob->bytes, blob->size_bytes, path.data, err);
	if (!rc)
		rc = pio_fs_datasync(fd, path.data, err);
	if (fd >= 0) {
		int closed = pio_fs_close(&fd, path.data, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	if (!rc)
		rc = pio_store_object_put(ingest->store, path.data, sha256, (int64_t)blob->size_bytes, err);
	if (!rc)
		rc = pio_store_object_sync(ingest->store, sha256, err);
	if (rc)
		(void)pio_fs_unlink(path.data, NULL);
	pio_str_fini(&path);
	return rc;
}

int pio_ingest_blob_put(pio_ingest *ingest, const pio_ingest_blob *blob, pio_err *err)
{
	static const char sql[] = "INSERT INTO media (run_id, attempt_id, rank, kind, key, step, time_ns,"
	                          " name, mime, bytes, sha256, data)"
	                          " VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
	char sha256[PIO_SHA256_HEX + 1];
	if (blob->size_bytes <= INLINE_BYTES_MAX)
		return pio_sql_exec(ingest->store, err, sql, "iittoittitb", ingest->run_id, ingest->attempt_id,
		                    blob->kind, blob->key, blob->step, blob->time_ns, blob->name, blob->mime,
		                    (int64_t)blob->size_bytes, (const char *)NULL, blob->bytes,
		                    blob->size_bytes);
	int rc = put_object(ingest, blob, sha256, err);
	return rc ? rc : pio_sql_exec(ingest->store, err, sql, "iittoittit", ingest->run_id,
	                              ingest->attempt_id, blob->kind, blob->key, blob->step,
	                              blob->time_ns, blob->name, blob->mime, (int64_t)blob->size_bytes,
	                              sha256);
}

/* ---- the console ---------------------------------------------------------------------------------- */

/* Append to a file whose first *length bytes are on record. */
static int append_file(const char *path, const pio_str *text, int64_t *length, pio_err *err)
{
	int fd = -1;
	struct stat st;
	int rc = pio_fs_open(&fd, path, O_WRONLY | O_CREAT, 0666, err);
	if (rc)
		return rc;
	if (fstat(fd, &st) != 0)
		rc = pio_fail_errno(err, errno, "%s", path);
	if (!rc && st.st_size < *length)
		*length = st.st_size;
	if (!rc && (ftruncate(fd, *length) != 0 || lseek(fd, *length, SEEK_SET) < 0))
		rc = pio_fail_errno(err, errno, "%s", path);
	if (!rc)
		rc = pio_fs_write_all(fd, text->data, text->len, path, err);
	if (!rc)
		rc = pio_fs_datasync(fd, path, err);
	int closed = pio_fs_close(&fd, path, rc ? NULL : err);
	*length += (int64_t)text->len;
	return rc ? rc : closed;
}

static int write_console(pio_ingest *ingest, json_t *cursor, pio_err *err)
{
	static const char *const names[2] = { "rank-0.out", "rank-0.err" };
	if (!ingest->console[0].len && !ingest->console[1].len)
		return 0;
	pio_str dir = PIO_STR_INIT, path = PIO_STR_INIT;
	json_t *before = json_object_get(cursor, "console"), *lengths = json_array();
	sqlite3_stmt *row = pio_sql_query(ingest->store, err, "SELECT dir FROM attempt WHERE id = ?1", "i",
	                                  ingest->attempt_id);
	int rc = pio_sql_row(ingest->store, row, err);
	if (rc == 1)
		pio_str_printf(&dir, "%s/%s", pio_store_path(ingest->store),
		               (const char *)sqlite3_column_text(row, 0));
	pio_sql_reset(row);
	rc = rc < 0 ? rc : pio_str_check(&dir, err);
	if (!rc)
		rc = pio_fs_mkdirs(dir.data, 0777, err);
	for (size_t i = 0; !rc && i < 2; i++) {
		int64_t length = json_integer_value(json_array_get(before, i));
		pio_str_clear(&path);
		pio_str_printf(&path, "%s/%s", dir.data, names[i]);
		rc = pio_str_check(&path, err);
		if (!rc && ingest->console[i].len)
			rc = append_file(path.data, &ingest->console[i], &length, err);
		if (!rc && json_array_append_new(lengths, json_integer(length)) != 0)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	}
	/* Its directory, and where that was made just now: those above it, runs/ULID
	 * and runs/. */
	for (int i = 0; !rc && i < (before ? 1 : 3); i++) {
		rc = pio_fs_sync_dir(dir.data, err);
		*strrchr(dir.data, '/') = 0;
	}
	if (!rc && json_object_set(cursor, "console", lengths) != 0)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	json_decref(lengths);
	pio_str_fini(&dir);
	pio_str_fini(&path);
	return rc;
}

/* ---- facts, and the end ------------------------------------------------------------------------------ */

static int write_params(pio_ingest *ingest, pio_err *err)
{
	const char *name;
	json_t *value;
	int rc = 0;
	json_object_foreach(ingest->params, name, value) {
		char *text = pio_json_canonical(value);
		rc = text ? pio_store_param_set(ingest->store, ingest->run_id, name, strlen(name), text,
		                                strlen(text), err)
		          : pio_fail(err, PIO_ENOMEM, "out of memory for a parameter");
		free(text);
		if (rc)
			return rc;
	}
	if (!ingest->summary_changed)
		return 0;
	/* Trackers repeat the last value of each metric there. */
	return pio_sql_exec(ingest->store, err, "DELETE FROM param WHERE run_id = ?1 AND name > 'summary/'"
	                    " AND name < 'summary0' AND EXISTS (SELECT 1 FROM series s WHERE s.run_id = ?1"
	                    " AND s.rank = 0 AND s.key = substr(param.name, 9) AND (s.last ="
	                    " CASE param.value WHEN 'Infinity' THEN 9e999 WHEN '-Infinity' THEN -9e999"
	                    " ELSE param.value END OR (s.last IS NULL AND param.value = 'NaN')))", "i",
	                    ingest->run_id);
}

static int tell_skips(pio_ingest *ingest, pio_err *err)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < ingest->batch_skips.count; i++) {
		const pio_ingest_skip *skip = &ingest->batch_skips.all[i];
		pio_str message = PIO_STR_INIT;
		pio_str_printf(&message, "passed over: %s (%lld)", skip->reason, (long long)skip->count);
		rc = pio_str_check(&message, err);
		if (!rc)
			rc = pio_store_event_add(ingest->store, ingest->run_id, 0, -1, INT64_MIN,
			                         pio_clock_wall_ns(), "import", NULL, message.data, err);
		pio_str_fini(&message);
	}
	return rc;
}

/* An earlier attempt was followed by another: how it ended, nobody wrote down.
 * Before anything has a time, neither has the run. */
static int write_end(pio_ingest *ingest, const pio_ingest_end *end, pio_err *err)
{
	int rc = pio_sql_exec(ingest->store, err, "UPDATE attempt SET result = CASE WHEN number ="
	                      " (SELECT max(number) FROM attempt WHERE run_id = ?1) THEN ?2 ELSE 'lost' END,"
	                      " exit_code = CASE WHEN number = (SELECT max(number) FROM attempt WHERE"
	                      " run_id = ?1) THEN ?3 END, message = ?4 WHERE run_id = ?1", "itmt",
	                      ingest->run_id, end->result, end->exit_code, end->reason);
	if (!rc)
		rc = pio_sql_exec(ingest->store, err, "UPDATE run SET status = ?2, reason = ?3 WHERE"
		                  " id = ?1", "itt", ingest->run_id, end->status, end->reason);
	if (!rc)
		rc = pio_sql_exec(ingest->store, err, "UPDATE experiment SET created_ns = min(created_ns,"
		                  " (SELECT created_ns FROM run WHERE id = ?1)) WHERE id ="
		                  " (SELECT experiment_id FROM run WHERE id = ?1)", "i", ingest->run_id);
	return rc;
}

int pio_ingest_rows_finish(pio_ingest *ingest, json_t *cursor, const pio_ingest_end *end,
                           pio_err *err)
{
	int rc = write_params(ingest, err);
	if (!rc)
		rc = write_console(ingest, cursor, err);
	if (!rc)
		rc = tell_skips(ingest, err);
	if (!rc)
		rc = pio_ingest_attempt_end(ingest, err);
	if (!rc)
		rc = write_end(ingest, end, err);
	char *text = rc ? NULL : pio_json_canonical(cursor);
	if (!rc)
		rc = text ? pio_sql_exec(ingest->store, err, "UPDATE import SET cursor = ?2, imported_ns = ?3"
		                         " WHERE id = ?1", "iti", ingest->import_id, text,
		                         pio_clock_wall_ns())
		          : pio_fail(err, PIO_ENOMEM, "out of memory");
	free(text);
	return rc;
}
