/* From writers' reports to a checkpoint. All of it happens inside the fold's
 * transaction; whatever is cut short is done again from the same journal
 * records, and finds the files that were moved already (object.c, 3). */
#include "store/checkpoint_publish.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/checkpoint_cover.h"
#include "store/checkpoint_tensor.h"
#include "store/object.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/journal.h"

#define FILES_MAX 10000

/* ---- one report ------------------------------------------------------------------------ */

static json_t *cursor_string(pio_cursor *cursor)
{
	size_t n;
	const char *bytes = pio_cursor_str(cursor, &n);
	return cursor->bad ? NULL : json_stringn(bytes, n); /* NULL also for bad UTF-8 */
}

static int read_files(json_t *files, pio_cursor *cursor, uint32_t count, pio_err *err)
{
	for (uint32_t i = 0; i < count; i++) {
		json_t *file = json_object();
		int bad = json_object_set_new(file, "role", cursor_string(cursor));
		bad |= json_object_set_new(file, "path", cursor_string(cursor));
		uint64_t bytes = pio_cursor_u64(cursor);
		bad |= json_object_set_new(file, "bytes", json_integer((json_int_t)bytes));
		bad |= json_object_set_new(file, "sha256", cursor_string(cursor));
		bad |= json_array_append_new(files, file);
		if (bad || cursor->bad || bytes > INT64_MAX)
			return pio_fail(err, PIO_EINVAL, "file %u of a report makes no sense", i);
	}
	return 0;
}

typedef struct report {
	uint32_t rank, writers;
	int64_t time_ns, step;
} report;

static int read_report(report *r, char **text, const uint8_t *payload, size_t size_bytes,
                       pio_err *err)
{
	pio_cursor cursor = { payload, payload + size_bytes, 0 };
	r->rank = pio_cursor_u32(&cursor);
	r->time_ns = pio_cursor_i64(&cursor);
	r->step = pio_cursor_i64(&cursor);
	r->writers = pio_cursor_u32(&cursor);
	int64_t stall_ns = pio_cursor_i64(&cursor);
	uint32_t fsyncs = pio_cursor_u32(&cursor), count = pio_cursor_u32(&cursor);
	if (cursor.bad || !r->writers || count < 1 || count > FILES_MAX || stall_ns < 0)
		return pio_fail(err, PIO_EINVAL, "the report of rank %u makes no sense (%u writers, %u files)",
		                r->rank, r->writers, count);
	json_t *files = json_array();
	int rc = files ? read_files(files, &cursor, count, err) : pio_fail(err, PIO_ENOMEM, "out of memory");
	json_t *whole = json_pack("{s:I, s:I, s:I, s:O?}", "writers", (json_int_t)r->writers, "stall_ns",
	                          (json_int_t)stall_ns, "fsyncs", (json_int_t)fsyncs, "files", files);
	*text = rc || !whole ? NULL : pio_json_canonical(whole);
	json_decref(whole);
	json_decref(files);
	if (!rc && !*text)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	return rc;
}

/* ---- where the file lies ----------------------------------------------------------------- */

/* The store may be mounted elsewhere for a rank, so only what follows
 * /staging/ counts; and that may not leave staging/. */
static int staged_path(pio_str *path, const pio_store *store, const char *reported, pio_err *err)
{
	const char *tail = NULL;
	for (const char *p = reported; (p = strstr(p, "/staging/")) != NULL; p++)
		tail = p + strlen("/staging/");
	if (!tail && strncmp(reported, "staging/", 8) == 0)
		tail = reported + 8;
	if (!tail || !*tail || strcmp(tail, "..") == 0 || strncmp(tail, "../", 3) == 0 ||
	    strstr(tail, "/../") || (strlen(tail) >= 3 && strcmp(tail + strlen(tail) - 3, "/..") == 0))
		return pio_fail(err, PIO_EINVAL, "%.200s does not lie in the store's staging/", reported);
	pio_str_clear(path);
	pio_str_printf(path, "%s/staging/%s", pio_store_path(store), tail);
	return pio_str_check(path, err);
}

/* ---- publishing ------------------------------------------------------------------------------- */

typedef struct publish {
	pio_store *store;
	int64_t attempt_id, run_id, step, time_ns;
	json_t *files;              /* for the manifest, with the member "path" until it is written */
	int64_t writers, bytes, fsyncs, stall_ns;
} publish;

static int compare_files(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;
	json_int_t p = json_integer_value(json_object_get(*x, "rank"));
	json_int_t q = json_integer_value(json_object_get(*y, "rank"));
	if (p != q)
		return p < q ? -1 : 1;
	return strcmp(json_string_value(json_object_get(*x, "role")),
	              json_string_value(json_object_get(*y, "role")));
}

static int sort_files(json_t **files, pio_err *err)
{
	size_t n = json_array_size(*files);
	json_t **list = pio_alloc(n * sizeof *list);
	json_t *sorted = json_array();
	int rc = list && sorted ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
	for (size_t i = 0; !rc && i < n; i++)
		list[i] = json_array_get(*files, i);
	if (!rc)
		qsort(list, n, sizeof *list, compare_files);
	for (size_t i = 0; !rc && i < n; i++) {
		if (i && compare_files(&list[i - 1], &list[i]) == 0)
			rc = pio_fail(err, PIO_EINVAL, "role \"%s\" was reported twice by one rank",
			              pio_json_string_or(list[i], "role", ""));
		else if (json_array_append(sorted, list[i]))
			rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	}
	pio_free(list);
	if (rc) {
		json_decref(sorted);
		return rc;
	}
	json_decref(*files);
	*files = sorted;
	return 0;
}

static int add_report(publish *p, int64_t rank, const char *text, pio_err *err)
{
	json_t *one = NULL;
	int rc = pio_json_parse(&one, text, strlen(text), "checkpoint report", err);
	if (rc)
		return rc;
	int64_t stall_ns = pio_json_int_or(one, "stall_ns", 0);
	p->fsyncs += pio_json_int_or(one, "fsyncs", 0);
	p->stall_ns = stall_ns > p->stall_ns ? stall_ns : p->stall_ns;
	size_t i;
	json_t *file;
	json_array_foreach(json_object_get(one, "files"), i, file) {
		int64_t bytes = pio_json_int_or(file, "bytes", -1);
		if (json_object_set_new(file, "rank", json_integer(rank)) || json_array_append(p->files, file))
			rc = pio_fail(err, PIO_ENOMEM, "out of memory");
		else if (__builtin_add_overflow(p->bytes, bytes, &p->bytes))
			rc = pio_fail(err, PIO_EINVAL, "the sizes of a checkpoint's files overflow");
	}
	json_decref(one);
	return rc;
}

static int load_reports(publish *p, pio_err *err)
{
	p->files = json_array();
	if (!p->files)
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	sqlite3_stmt *row = pio_sql_query(p->store, err, "SELECT rank, report FROM checkpoint_report WHERE"
	                                  " attempt_id = ?1 AND step = ?2 ORDER BY rank", "ii",
	                                  p->attempt_id, p->step);
	int rc = pio_sql_row(p->store, row, err);
	while (rc == 1) {
		int bad = add_report(p, sqlite3_column_int64(row, 0),
		                     (const char *)sqlite3_column_text(row, 1), err);
		rc = bad ? bad : pio_sql_row(p->store, row, err);
	}
	pio_sql_reset(row);
	return rc ? rc : sort_files(&p->files, err);
}

/* Rename all, then sync each directory once. */
static int move_files(publish *p, pio_err *err)
{
	bool touched[256] = { false };
	pio_str path = PIO_STR_INIT;
	size_t i;
	json_t *file;
	int rc = 0;
	uint64_t syncs = pio_fs_counts_get().dir_syncs;
	json_array_foreach(p->files, i, file) {
		const char *sha256 = pio_json_string_or(file, "sha256", "");
		int64_t bytes = pio_json_int_or(file, "bytes", -1);
		rc = staged_path(&path, p->store, pio_json_string_or(file, "path", ""), err);
		if (!rc)
			rc = pio_store_object_put(p->store, path.data, sha256, bytes, err);
		if (!rc)
			rc = pio_checkpoint_tensors(p->store, sha256, bytes, err);
		if (rc)
			break;
		char prefix[3] = { sha256[0], sha256[1], 0 };
		unsigned long byte = strtoul(prefix, NULL, 16);
		touched[byte] = true;
		json_object_del(file, "path");
	}
	json_array_foreach(p->files, i, file) {
		const char *sha256 = pio_json_string_or(file, "sha256", "");
		char prefix[3] = { sha256[0], sha256[0] ? sha256[1] : 0, 0 };
		unsigned long byte = strtoul(prefix, NULL, 16) & 255;
		if (rc || !touched[byte])
			continue;
		rc = pio_store_object_sync(p->store, sha256, err);
		touched[byte] = false;
	}
	p->fsyncs += (int64_t)(pio_fs_counts_get().dir_syncs - syncs);
	pio_str_fini(&path);
	return rc;
}

/* Canonical JSON; the caller frees it with free(). */
static int make_manifest(char **manifest, const publish *p, pio_err *err)
{
	*manifest = NULL;
	sqlite3_stmt *row = pio_sql_query(p->store, err, "SELECT r.ulid, e.name, r.number, a.number,"
	                                  " s.commit_id, coalesce(a.resume_checkpoint, r.from_checkpoint)"
	                                  " FROM attempt a JOIN run r ON r.id = a.run_id JOIN experiment e"
	                                  " ON e.id = r.experiment_id LEFT JOIN snapshot s ON"
	                                  " s.id = r.snapshot_id WHERE a.id = ?1", "i", p->attempt_id);
	int rc = pio_sql_row(p->store, row, err);
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no attempt %lld", (long long)p->attempt_id);
	if (rc < 0)
		return rc;
	json_t *json = json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:O, s:s?, s:s?}", "version", 1,
	                         "run", sqlite3_column_text(row, 0), "experiment",
	                         sqlite3_column_text(row, 1), "number",
	                         (json_int_t)sqlite3_column_int64(row, 2), "attempt",
	                         (json_int_t)sqlite3_column_int64(row, 3), "step", (json_int_t)p->step,
	                         "writers", (json_int_t)p->writers, "files", p->files, "commit",
	                         sqlite3_column_text(row, 4), "from", sqlite3_column_text(row, 5));
	pio_sql_reset(row);
	if (json)
		*manifest = pio_json_canonical(json);
	json_decref(json);
	return *manifest ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a manifest");
}

static int insert_rows(const publish *p, const char *manifest, const char *sha256, pio_err *err)
{
	int64_t known = 0;
	int rc = pio_sql_int(&known, p->store, err, "SELECT id FROM checkpoint WHERE manifest_sha256 = ?1",
	                     "t", sha256);
	if (rc || known) /* the same step with the same bytes, saved again */
		return rc;
	rc = pio_sql_exec(p->store, err, "INSERT INTO checkpoint (run_id, attempt_id, step, state, manifest,"
	                  " manifest_sha256, writers, bytes, fsyncs, stall_ns, created_ns)"
	                  " VALUES (?1, ?2, ?3, 'sealed', ?4, ?5, ?6, ?7, ?8, ?9, ?10)", "iiittiiiii",
	                  p->run_id, p->attempt_id, p->step, manifest, sha256, p->writers, p->bytes,
	                  p->fsyncs, p->stall_ns, p->time_ns);
	int64_t id = sqlite3_last_insert_rowid(pio_store_db(p->store));
	size_t i;
	json_t *file;
	json_array_foreach(p->files, i, file) {
		if (!rc)
			rc = pio_sql_exec(p->store, err, "INSERT INTO checkpoint_file (checkpoint_id, rank, role,"
			                  " sha256) VALUES (?1, ?2, ?3, ?4)", "iitt", id,
			                  pio_json_int_or(file, "rank", 0), pio_json_string_or(file, "role", ""),
			                  pio_json_string_or(file, "sha256", ""));
	}
	return rc ? rc : pio_checkpoint_cover(p->store, id, err);
}

static int publish_now(publish *p, pio_err *err)
{
	char *manifest = NULL, sha256[PIO_SHA256_HEX + 1];
	int rc = pio_sql_int(&p->run_id, p->store, err, "SELECT run_id FROM attempt WHERE id = ?1", "i",
	                     p->attempt_id);
	if (!rc)
		rc = load_reports(p, err);
	if (!rc)
		rc = move_files(p, err);
	if (!rc)
		rc = make_manifest(&manifest, p, err);
	if (!rc)
		rc = pio_sha256_bytes(manifest, strlen(manifest), sha256, err);
	if (!rc)
		rc = insert_rows(p, manifest, sha256, err);
	if (!rc)
		rc = pio_sql_exec(p->store, err, "DELETE FROM checkpoint_report WHERE attempt_id = ?1"
		                  " AND step = ?2", "ii", p->attempt_id, p->step);
	free(manifest);
	json_decref(p->files);
	return rc;
}

int pio_checkpoint_report(int *published, pio_store *store, int64_t attempt_id,
                          const uint8_t *payload, size_t size_bytes, pio_err *err)
{
	report r;
	char *text = NULL;
	int64_t ranks = 0;
	*published = 0;
	int rc = read_report(&r, &text, payload, size_bytes, err);
	if (rc)
		return rc;
	rc = pio_sql_exec(store, err, "INSERT OR REPLACE INTO checkpoint_report (attempt_id, step, rank,"
	                  " report) VALUES (?1, ?2, ?3, ?4)", "iiit", attempt_id, r.step, (int64_t)r.rank,
	                  text);
	free(text);
	if (!rc)
		rc = pio_sql_int(&ranks, store, err, "SELECT count(*) FROM checkpoint_report WHERE"
		                 " attempt_id = ?1 AND step = ?2", "ii", attempt_id, r.step);
	if (rc || ranks < r.writers)
		return rc;
	publish p = { .store = store, .attempt_id = attempt_id, .step = r.step, .time_ns = r.time_ns,
	              .writers = ranks };
	rc = publish_now(&p, err);
	*published = rc == 0;
	return rc;
}
