#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/mem.h"
#include "store/object.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define OUTCOMES 256   /* remembered in one transaction: a sync of the disk each would cost more */

typedef struct verify {
	pio_verify_result *result;
	pio_store *store;
	bool full;
	pio_verify_report *report;
	void *context;
	int64_t bytes_total;
	struct outcome {
		char sha256[PIO_SHA256_HEX + 1];
		const char *what;       /* static, or NULL: good */
	} outcomes[OUTCOMES];
	size_t outcomes_count;
} verify;

static int tell(verify *v, pio_err *err, const char *sha256, const char *what)
{
	pio_str finding = PIO_STR_INIT;
	pio_str_printf(&finding, "object %s %s", sha256, what);
	int rc = pio_str_check(&finding, err);
	if (!rc && v->report)
		v->report(v->context, finding.data, v->result->bytes, v->bytes_total);
	pio_str_fini(&finding);
	return rc;
}

/* *what: NULL when it is as its name says. */
static int check_object(verify *v, const char *sha256, int64_t bytes, const char **what, pio_err *err)
{
	struct stat st;
	char found[PIO_SHA256_HEX + 1];
	int64_t found_bytes = 0;
	pio_str path = PIO_STR_INIT;
	*what = NULL;
	int rc = pio_store_object_path(&path, v->store, sha256, err);
	if (!rc && stat(path.data, &st) != 0)
		*what = "is missing";
	else if (!rc && st.st_size != bytes)
		*what = "has a wrong size";
	if (!rc && !*what && v->full) {
		pio_err why = PIO_ERR_INIT;
		int unread = pio_sha256_file(path.data, found, &found_bytes, &why);
		if (unread == -PIO_ENOMEM) /* of the object that says nothing */
			rc = pio_fail(err, PIO_ENOMEM, "%s", why.message);
		else if (unread)
			*what = "cannot be read";
		else if (strcmp(found, sha256) != 0)
			*what = "has other bytes than its name says";
	}
	pio_str_fini(&path);
	return rc;
}

/* The outcomes stay with the rows, if the store may be written. */
static int remember(verify *v, pio_err *err)
{
	size_t n = v->outcomes_count;
	int64_t now_ns = pio_clock_wall_ns();
	v->outcomes_count = 0;
	if (!n || !v->full || !pio_store_is_writable(v->store))
		return 0;
	int rc = pio_store_begin(v->store, err);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < n; i++)
		rc = pio_sql_exec(v->store, err, "UPDATE object SET verified_ns = ?2, verified = ?3 WHERE"
		                  " sha256 = ?1", "tit", v->outcomes[i].sha256, now_ns,
		                  v->outcomes[i].what ? v->outcomes[i].what : "reread");
	if (!rc)
		return pio_store_commit(v->store, err);
	pio_store_rollback(v->store);
	return rc;
}

static int verify_rows(verify *v, pio_err *err)
{
	char after[PIO_SHA256_HEX + 1] = "";
	for (;;) { /* one row a statement, so that remembering may write in between */
		const char *what;
		sqlite3_stmt *row = pio_sql_query(v->store, err, "SELECT sha256, bytes FROM object WHERE"
		                                  " sha256 > ?1 ORDER BY sha256 LIMIT 1", "t", after);
		int rc = pio_sql_row(v->store, row, err);
		if (rc <= 0)
			return rc;
		char sha256[PIO_SHA256_HEX + 1] = "";
		strncpy(sha256, (const char *)sqlite3_column_text(row, 0), PIO_SHA256_HEX);
		int64_t bytes = sqlite3_column_int64(row, 1);
		pio_sql_reset(row);
		memcpy(after, sha256, sizeof after);
		rc = check_object(v, sha256, bytes, &what, err);
		if (rc)
			return rc;
		v->result->objects++;
		v->result->bytes += bytes;
		if (what && strcmp(what, "is missing") == 0)
			v->result->missing++;
		else if (what)
			v->result->bad++;
		rc = what ? tell(v, err, sha256, what) : 0;
		struct outcome *outcome = &v->outcomes[v->outcomes_count++];
		memcpy(outcome->sha256, sha256, sizeof sha256);
		outcome->what = what;
		if (!rc && v->outcomes_count == OUTCOMES)
			rc = remember(v, err);
		if (rc)
			return rc;
		if (v->report && !what)
			v->report(v->context, NULL, v->result->bytes, v->bytes_total);
	}
}

/* Files that no row names: left by a crash, harmless. */
static int find_orphans(verify *v, const char *prefix, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/objects/%s", pio_store_path(v->store), prefix);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++) {
		int64_t known = 0;
		rc = pio_sql_int(&known, v->store, err, "SELECT EXISTS (SELECT 1 FROM object WHERE sha256 = ?1)",
		                 "t", names[i]);
		if (!rc && !known) {
			v->result->orphans++;
			rc = tell(v, err, names[i], "belongs to no checkpoint (left by a crash)");
		}
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return rc;
}

int pio_store_verify(pio_verify_result *result, pio_store *store, bool full,
                     pio_verify_report *report, void *context, pio_err *err)
{
	verify v = { .result = result, .store = store, .full = full, .report = report, .context = context };
	char **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	*result = (pio_verify_result){ 0 };
	pio_str_printf(&path, "%s/objects", pio_store_path(store));
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_sql_int(&v.bytes_total, store, err, "SELECT sum(bytes) FROM object", "");
	if (!rc)
		rc = verify_rows(&v, err);
	if (!rc)
		rc = remember(&v, err);
	if (!rc && pio_fs_type(path.data) == PIO_FS_DIR)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++)
		if (pio_hex_valid(names[i], 2))
			rc = find_orphans(&v, names[i], err);
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return rc;
}
