/* From the reports of all writers to a checkpoint. All of it happens inside the
 * fold's transaction; whatever is cut short is done again from the same journal
 * records, and finds the files that were moved already (object.c, 3). */
#include "store/checkpoint_publish.h"

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

/* ---- where the file lies ----------------------------------------------------------------- */

/* The store may be mounted elsewhere for a rank, so only what follows
 * /staging/ counts; and that may not leave staging/. */
int pio_checkpoint_staged(pio_str *path, const pio_store *store, const char *reported, pio_err *err)
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
	const pio_checkpoint_writers *of;
	int64_t run_id;
	json_t *files;              /* for the manifest, with the member "path" until it is written */
	int64_t bytes, fsyncs, stall_ns, total_ns, hash_ns, asynchronous;
	bool known;                 /* what writers say since version 5, of all of them */
	bool fsync, syncfs;
} publish;

static int compare_files(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;
	json_int_t p = json_integer_value(json_object_get(*x, "rank"));
	json_int_t q = json_integer_value(json_object_get(*y, "rank"));
	if (p != q)
		return p < q ? -1 : 1;
	int order = strcmp(json_string_value(json_object_get(*x, "role")),
	                   json_string_value(json_object_get(*y, "role")));
	json_int_t m = pio_json_int_or(*x, "part", 0), n = pio_json_int_or(*y, "part", 0);
	return order ? order : m < n ? -1 : m > n;
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

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void add_costs(publish *p, const json_t *report)
{
	const char *sync = pio_json_string_or(report, "sync", "");
	p->fsyncs += pio_json_int_or(report, "fsyncs", 0);
	p->stall_ns = larger(p->stall_ns, pio_json_int_or(report, "stall_ns", 0));
	p->total_ns = larger(p->total_ns, pio_json_int_or(report, "total_ns", 0));
	p->hash_ns += pio_json_int_or(report, "hash_ns", 0);
	p->asynchronous |= json_is_true(json_object_get(report, "asynchronous"));
	p->known &= *sync != 0;
	p->fsync |= !strcmp(sync, "fsync");
	p->syncfs |= !strcmp(sync, "syncfs");
}

static int add_report(publish *p, int64_t rank, const char *text, pio_err *err)
{
	json_t *one = NULL;
	int rc = pio_json_parse(&one, text, strlen(text), "checkpoint report", err);
	if (rc)
		return rc;
	add_costs(p, one);
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
	                                  " save_id = ?1 ORDER BY rank", "i", p->of->save_id);
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
		rc = pio_checkpoint_staged(&path, p->store, pio_json_string_or(file, "path", ""), err);
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
	                                  " s.id = r.snapshot_id WHERE a.id = ?1", "i", p->of->attempt_id);
	int rc = pio_sql_row(p->store, row, err);
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no attempt %lld", (long long)p->of->attempt_id);
	if (rc < 0)
		return rc;
	json_t *json = json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:O, s:s?, s:s?}", "version", 1,
	                         "run", sqlite3_column_text(row, 0), "experiment",
	                         sqlite3_column_text(row, 1), "number",
	                         (json_int_t)sqlite3_column_int64(row, 2), "attempt",
	                         (json_int_t)sqlite3_column_int64(row, 3), "step", (json_int_t)p->of->step,
	                         "writers", (json_int_t)p->of->writers, "files", p->files, "commit",
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
	                  " manifest_sha256, writers, bytes, fsyncs, stall_ns, created_ns, total_ns, hash_ns, sync,"
	                  " asynchronous) VALUES (?1, ?2, ?3, 'sealed', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,"
	                  " ?14)", "iiittiiiiiooto", p->run_id, p->of->attempt_id, p->of->step, manifest, sha256,
	                  p->of->writers, p->bytes, p->fsyncs, p->stall_ns, p->of->time_ns,
	                  p->known ? p->total_ns : INT64_MIN, p->known ? p->hash_ns : INT64_MIN,
	                  !p->known ? NULL : !p->syncfs ? "fsync" : p->fsync ? "both" : "syncfs",
	                  p->known ? p->asynchronous : INT64_MIN);
	int64_t id = sqlite3_last_insert_rowid(pio_store_db(p->store));
	size_t i;
	json_t *file;
	json_array_foreach(p->files, i, file) {
		if (!rc)
			rc = pio_sql_exec(p->store, err, "INSERT INTO checkpoint_file (checkpoint_id, rank, role,"
			                  " part, sha256) VALUES (?1, ?2, ?3, ?4, ?5)", "iitit", id,
			                  pio_json_int_or(file, "rank", 0), pio_json_string_or(file, "role", ""),
			                  pio_json_int_or(file, "part", 0), pio_json_string_or(file, "sha256", ""));
	}
	return rc ? rc : pio_checkpoint_cover(p->store, id, err);
}

int pio_checkpoint_publish(pio_store *store, const pio_checkpoint_writers *of, pio_err *err)
{
	publish p = { .store = store, .of = of, .known = true };
	char *manifest = NULL, sha256[PIO_SHA256_HEX + 1];
	int rc = pio_sql_int(&p.run_id, store, err, "SELECT run_id FROM attempt WHERE id = ?1", "i",
	                     of->attempt_id);
	if (!rc)
		rc = load_reports(&p, err);
	if (!rc)
		rc = move_files(&p, err);
	if (!rc)
		rc = make_manifest(&manifest, &p, err);
	if (!rc)
		rc = pio_sha256_bytes(manifest, strlen(manifest), sha256, err);
	if (!rc)
		rc = insert_rows(&p, manifest, sha256, err);
	free(manifest);
	json_decref(p.files);
	return rc;
}
