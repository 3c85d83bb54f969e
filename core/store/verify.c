#include "store/verify.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/object.h"
#include "store/object_good.h"
#include "store/object_look.h"
#include "store/sql.h"
#include "sys/fs.h"

#define OUTCOMES 256          /* remembered in one transaction: a sync of the disk each would cost more */
#define REMEMBER_NS 5000000000 /* what a kill costs at most, beside the object that is being read */
#define BEHIND_ALL "g"        /* behind every digest */

typedef struct outcome {
	char sha256[PIO_SHA256_HEX + 1];
	const char *what;         /* static, or NULL: good */
	uint8_t *blocks;          /* digests that the store does not have yet, or NULL */
	size_t blocks_bytes;
} outcome;

typedef struct verify {
	pio_verify_result *result;
	pio_store *store;
	pio_verify_options options;
	pio_verify_report *report;
	void *context;
	int64_t bytes_total;
	bool remembers;           /* the store can be written */
	int64_t pass_id;          /* 0: none */
	char cursor[PIO_SHA256_HEX + 1]; /* of the pass */
	outcome outcomes[OUTCOMES];
	size_t outcomes_count;
	int64_t remembered_ns;
} verify;

/* ---- what belongs to it ------------------------------------------------------------------ */

/* The columns are asked of `object o`; ?1, ?2: behind this digest, up to that; ?3
 * run, ?4 checkpoint, ?5: only what is wrong, ?6: only what was not reread. */
#define SELECTED \
	" FROM object o WHERE o.sha256 > ?1 AND o.sha256 <= ?2 AND (?3 = 0 OR EXISTS (SELECT 1 FROM" \
	" checkpoint_file f JOIN checkpoint c ON c.id = f.checkpoint_id WHERE f.sha256 = o.sha256 AND" \
	" c.run_id = ?3) OR EXISTS (SELECT 1 FROM media m WHERE m.sha256 = o.sha256 AND m.run_id = ?3))" \
	" AND (?4 = 0 OR EXISTS (SELECT 1 FROM checkpoint_file f WHERE f.sha256 = o.sha256 AND" \
	" f.checkpoint_id = ?4)) AND (NOT ?5 OR o.verified NOT IN " PIO_OBJECT_VERIFIED ")" \
	" AND (NOT ?6 OR o.verified IS NOT 'reread')"

/* Digests are spread evenly, whatever the bytes. */
static bool is_in_sample(const verify *v, const char *sha256)
{
	char first[9] = "";
	if (!v->options.parts)
		return true;
	memcpy(first, sha256, 8);
	return (int64_t)strtoul(first, NULL, 16) % v->options.parts == v->options.part - 1;
}

static int find_total(verify *v, pio_err *err)
{
	const pio_verify_options *o = &v->options;
	sqlite3_stmt *row = pio_sql_query(v->store, err, "SELECT o.sha256, o.bytes" SELECTED, "ttiiii", "",
	                                  BEHIND_ALL, o->run_id, o->checkpoint_id, (int64_t)0,
	                                  (int64_t)o->only_unread);
	int rc;
	while ((rc = pio_sql_row(v->store, row, err)) == 1)
		if (is_in_sample(v, (const char *)sqlite3_column_text(row, 0)))
			v->bytes_total += sqlite3_column_int64(row, 1);
	return rc;
}

/* ---- the pass ------------------------------------------------------------------------------ */

static int begin_pass(verify *v, pio_err *err)
{
	const pio_verify_options *o = &v->options;
	int64_t part = o->parts ? o->part : 1, parts = o->parts ? o->parts : 1;
	if (o->how == PIO_VERIFY_QUICK || o->checkpoint_id || o->only_unread || !v->remembers)
		return 0;
	int rc = o->anew ? pio_sql_exec(v->store, err, "DELETE FROM verification WHERE part = ?1 AND"
	                                " parts = ?2 AND run_id IS ?3 AND ended_ns IS NULL", "iiz", part,
	                                parts, o->run_id) : 0;
	if (rc)
		return rc;
	sqlite3_stmt *row = pio_sql_query(v->store, err, "SELECT id, cursor, objects, bytes, begun_ns FROM"
	                                  " verification WHERE part = ?1 AND parts = ?2 AND run_id IS ?3"
	                                  " AND ended_ns IS NULL ORDER BY id DESC LIMIT 1", "iiz", part,
	                                  parts, o->run_id);
	rc = pio_sql_row(v->store, row, err);
	if (rc == 1) {
		pio_verify_result *result = v->result;
		v->pass_id = sqlite3_column_int64(row, 0);
		strncpy(v->cursor, (const char *)sqlite3_column_text(row, 1), PIO_SHA256_HEX);
		result->objects = result->earlier_objects = sqlite3_column_int64(row, 2);
		result->bytes = sqlite3_column_int64(row, 3);
		result->begun_ns = sqlite3_column_int64(row, 4);
	}
	pio_sql_reset(row);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = pio_sql_exec(v->store, err, "INSERT INTO verification (part, parts, run_id, cursor, objects,"
	                  " bytes, begun_ns) VALUES (?1, ?2, ?3, '', 0, 0, ?4)", "iizi", part, parts,
	                  o->run_id, pio_clock_wall_ns());
	if (!rc)
		v->pass_id = sqlite3_last_insert_rowid(pio_store_db(v->store));
	return rc;
}

/* A quick look that finds nothing says so only where one had found something. */
static int remember_one(verify *v, const outcome *o, int64_t now_ns, pio_err *err)
{
	bool quick = v->options.how == PIO_VERIFY_QUICK;
	const char *verified = o->what ? o->what : quick ? "quick" : "reread";
	int rc = pio_sql_exec(v->store, err, "UPDATE object SET verified_ns = ?2, verified = ?3 WHERE"
	                      " sha256 = ?1 AND (?4 OR verified IN ('is missing', 'is no file',"
	                      " 'has a wrong size', 'has no anchor any more'))", "titi", o->sha256, now_ns, verified,
	                      (int64_t)(o->what || !quick));
	if (!rc && o->blocks)
		rc = pio_sql_exec(v->store, err, "INSERT OR REPLACE INTO object_block (sha256, digests) SELECT"
		                  " sha256, ?2 FROM object WHERE sha256 = ?1", "tb", o->sha256, o->blocks,
		                  o->blocks_bytes);
	return rc;
}

static void forget_outcomes(verify *v)
{
	for (size_t i = 0; i < v->outcomes_count; i++)
		pio_free(v->outcomes[i].blocks);
	v->outcomes_count = 0;
}

static int write_outcomes(verify *v, bool ends, pio_err *err)
{
	int64_t now_ns = pio_clock_wall_ns();
	int rc = pio_store_begin(v->store, err);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < v->outcomes_count; i++)
		rc = remember_one(v, &v->outcomes[i], now_ns, err);
	if (!rc && v->pass_id)
		rc = pio_sql_exec(v->store, err, "UPDATE verification SET cursor = ?2, objects = ?3, bytes = ?4,"
		                  " ended_ns = ?5 WHERE id = ?1", "itiiz", v->pass_id, v->cursor,
		                  v->result->objects, v->result->bytes, ends ? now_ns : 0);
	if (!rc)
		return pio_store_commit(v->store, err);
	pio_store_rollback(v->store);
	return rc;
}

/* Whether objects are good can be told without writing it down. Then the pass stays
 * where it was: its cursor never goes beyond what was written. */
static int or_forget(verify *v, int rc, const pio_err *why)
{
	if (!rc || rc == -PIO_ENOMEM)
		return rc;
	v->remembers = false;
	v->pass_id = 0;
	v->result->forgotten = *why;
	return 0;
}

/* The outcomes stay with the rows; `ends`: and the pass has. */
static int remember(verify *v, bool ends, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int rc = 0;
	v->remembered_ns = pio_clock_mono_ns();
	if (v->remembers && (v->outcomes_count || v->pass_id))
		rc = or_forget(v, write_outcomes(v, ends, &why), &why);
	forget_outcomes(v);
	return rc ? pio_fail(err, PIO_ENOMEM, "%s", why.message) : 0;
}

/* ---- the objects ---------------------------------------------------------------------------- */

/* A row of `object`. */
typedef struct object {
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes;
	bool was_bad;
} object;

static void tell_progress(void *context, int64_t bytes)
{
	verify *v = context;
	if (v->report)
		v->report(v->context, NULL, v->result->bytes + bytes, v->bytes_total);
}

/* It may have been dropped since its row was read, or be just about to. */
static int is_going(bool *going, verify *v, const char *sha256, pio_err *err)
{
	int64_t wanted = 0;
	int rc = pio_sql_int(&wanted, v->store, err, "SELECT EXISTS (SELECT 1 FROM object WHERE sha256 = ?1)"
	                     " AND (EXISTS (SELECT 1 FROM checkpoint_file f JOIN checkpoint c ON"
	                     " c.id = f.checkpoint_id WHERE f.sha256 = ?1 AND c.state != 'dropping')"
	                     " OR EXISTS (SELECT 1 FROM media WHERE sha256 = ?1) OR NOT EXISTS"
	                     " (SELECT 1 FROM checkpoint_file WHERE sha256 = ?1))", "t", sha256);
	*going = !rc && !wanted;
	return rc;
}

static void tell_finding(verify *v, const pio_object_look *look, const object *it)
{
	pio_verify_finding finding = { .object = it->sha256, .what = look->what, .bytes = it->bytes,
	                               .ranges = look->ranges, .ranges_count = look->ranges_count };
	if (v->report)
		v->report(v->context, &finding, v->result->bytes, v->bytes_total);
}

static void keep_outcome(verify *v, const object *it, pio_object_look *look)
{
	if (v->options.how == PIO_VERIFY_QUICK && !look->what && !it->was_bad)
		return;
	outcome *o = &v->outcomes[v->outcomes_count++];
	*o = (outcome){ .what = look->what };
	memcpy(o->sha256, it->sha256, sizeof o->sha256);
	if (look->what || !look->reread.blocks)
		return;
	o->blocks = look->reread.blocks;
	o->blocks_bytes = look->reread.blocks_count * PIO_BLOCK_DIGEST_BYTES;
	look->reread.blocks = NULL;
}

/* `again`: it is counted already. */
static int verify_one(verify *v, const object *it, bool again, pio_err *err)
{
	pio_object_look look;
	bool going = false;
	int rc = pio_object_look_at(&look, v->store, it->sha256, it->bytes, v->options.how,
	                            again ? NULL : tell_progress, v, err);
	if (!rc && look.missing)
		rc = is_going(&going, v, it->sha256, err);
	if (!rc && look.what && !going) {
		v->result->missing += look.missing;
		v->result->bad += !look.missing;
		tell_finding(v, &look, it);
	}
	if (!rc && !going)
		keep_outcome(v, it, &look);
	pio_object_look_fini(&look);
	if (rc || again)
		return rc;
	v->result->objects++;
	v->result->bytes += it->bytes;
	memcpy(v->cursor, it->sha256, sizeof v->cursor);
	tell_progress(v, 0);
	return 0;
}

/* The next object behind `after` and up to `last`: 1, 0, or failed. */
static int next_object(object *it, verify *v, const char *after, const char *last, bool only_bad,
                       pio_err *err)
{
	const pio_verify_options *o = &v->options;
	sqlite3_stmt *row = pio_sql_query(v->store, err, "SELECT o.sha256, o.bytes, o.verified NOT IN"
	                                  " " PIO_OBJECT_VERIFIED SELECTED " ORDER BY o.sha256 LIMIT 1",
	                                  "ttiiii", after, last, o->run_id, o->checkpoint_id,
	                                  (int64_t)only_bad, (int64_t)o->only_unread);
	int rc = pio_sql_row(v->store, row, err);
	if (rc != 1)
		return rc;
	*it = (object){ .bytes = sqlite3_column_int64(row, 1), .was_bad = sqlite3_column_int(row, 2) };
	strncpy(it->sha256, (const char *)sqlite3_column_text(row, 0), PIO_SHA256_HEX);
	pio_sql_reset(row);
	return 1;
}

/* Each row has a statement of its own, so that remembering may write in between. */
static int walk(verify *v, const char *after, const char *last, bool again, pio_err *err)
{
	object it = { .bytes = 0 };
	strncpy(it.sha256, after, PIO_SHA256_HEX);
	for (;;) {
		char behind[PIO_SHA256_HEX + 1];
		memcpy(behind, it.sha256, sizeof behind);
		int rc = next_object(&it, v, behind, last, again, err);
		if (rc <= 0)
			return rc;
		rc = is_in_sample(v, it.sha256) ? verify_one(v, &it, again, err) : 0;
		if (!rc && (v->outcomes_count == OUTCOMES || pio_clock_mono_ns() - v->remembered_ns > REMEMBER_NS))
			rc = remember(v, false, err);
		if (rc)
			return rc;
	}
}

/* ---- files that no row names ------------------------------------------------------------------- */

static int find_orphans_of(verify *v, const char *prefix, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/objects/%s", pio_store_path(v->store), prefix);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++) {
		bool known = false;
		rc = pio_store_object_owns(&known, v->store, names[i], err);
		if (rc || known)
			continue;
		pio_verify_finding finding = { .object = names[i], .orphan = true,
		                               .what = "belongs to nothing (left by a crash)" };
		v->result->orphans++;
		if (v->report)
			v->report(v->context, &finding, v->result->bytes, v->bytes_total);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return rc;
}

static int find_orphans(verify *v, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/objects", pio_store_path(v->store));
	int rc = pio_str_check(&path, err);
	if (!rc && pio_fs_type(path.data) == PIO_FS_DIR)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++)
		if (pio_hex_valid(names[i], 2))
			rc = find_orphans_of(v, names[i], err);
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return rc;
}

int pio_store_verify(pio_verify_result *result, pio_store *store, const pio_verify_options *options,
                     pio_verify_report *report, void *context, pio_err *err)
{
	static const pio_verify_options all = { .how = PIO_VERIFY_REREAD };
	options = options ? options : &all;
	*result = (pio_verify_result){ 0 };
	if (options->parts < 0 || options->part < (options->parts ? 1 : 0) || options->part > options->parts)
		return pio_fail(err, PIO_EINVAL, "sample %lld of %lld: expected 1 of 1, 1 of 2, 2 of 2, ...",
		                (long long)options->part, (long long)options->parts);
	verify *v = pio_calloc(1, sizeof *v);
	if (!v)
		return pio_fail(err, PIO_ENOMEM, "out of memory to verify");
	*v = (verify){ .result = result, .store = store, .options = *options, .report = report,
	               .context = context, .remembers = pio_store_is_writable(store),
	               .remembered_ns = pio_clock_mono_ns() };
	int rc = find_total(v, err);
	if (!rc) {
		pio_err why = PIO_ERR_INIT;
		if (or_forget(v, begin_pass(v, &why), &why))
			rc = pio_fail(err, PIO_ENOMEM, "%s", why.message);
	}
	if (!rc && v->cursor[0])
		rc = walk(v, "", v->cursor, true, err);
	if (!rc)
		rc = walk(v, v->cursor, BEHIND_ALL, false, err);
	if (!rc)
		rc = remember(v, true, err);
	if (!rc && !options->parts && !options->run_id && !options->checkpoint_id)
		rc = find_orphans(v, err);
	forget_outcomes(v);
	pio_free(v);
	return rc;
}
