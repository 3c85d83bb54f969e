/* Definitions and invariants.
 *
 *   plain     objects/ab/<sha256> has the bytes; object.codec is NULL
 *   encoded   objects/ab/<sha256>.enc has them; object.codec is not NULL
 *
 *   1. A file of either kind is in place, durable and compared with its name before the
 *      commit by which the row means it.
 *   2. The other one is unlinked after that commit, under the write lock, and only while
 *      the row still means the first.
 *   3. An anchor is plain, or encoded without an anchor, and a sealed checkpoint has it
 *      when the commit says that something hangs on it.
 *
 *   plain --rename .enc, commit--> encoded (+ orphan) --unlink--> encoded
 *   encoded --rename, commit--> plain (+ orphan) --unlink--> plain */
#include "store/object_code.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/element.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/checkpoint_needed.h"
#include "store/object.h"
#include "store/object_good.h"
#include "store/sql.h"
#include "sys/encoded.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/stored.h"

#define LEAST_BYTES 65536       /* fewer save no block of a disk worth the name */
#define STAGED "code-"            /* staging/code-<host>-<pid>-<digits> */

typedef struct work {
	pio_store *store;
	pio_encoded_head head;
	pio_str dir;               /* objects/ */
	pio_str path, encoded, staged; /* staged: which of both it will be */
	pio_stored *from, *anchor;
	bool is_encoded;           /* the row says */
} work;

/* ---- what there is ---------------------------------------------------------------------- */

static int find_paths(work *w, const char *sha256, pio_err *err)
{
	char host[HOST_NAME_MAX + 1] = "";
	int rc = pio_store_object_path(&w->path, w->store, sha256, err);
	pio_str_printf(&w->encoded, "%s" PIO_STORED_ENCODED, w->path.data ? w->path.data : "");
	pio_str_printf(&w->dir, "%s/objects", pio_store_path(w->store));
	if (gethostname(host, sizeof host - 1) != 0)
		return pio_fail_errno(err, errno, "gethostname");
	pio_str_printf(&w->staged, "%s/staging/" STAGED "%s-%ld-%.16s", pio_store_path(w->store), host, (long)getpid(),
	               sha256);
	if (!rc)
		rc = pio_str_check(&w->encoded, err);
	if (!rc)
		rc = pio_str_check(&w->dir, err);
	return rc ? rc : pio_str_check(&w->staged, err);
}

static int begin_work(work *w, pio_store *store, const char *sha256, pio_err *err)
{
	*w = (work){ .store = store, .dir = PIO_STR_INIT, .path = PIO_STR_INIT, .encoded = PIO_STR_INIT,
	             .staged = PIO_STR_INIT };
	int rc = find_paths(w, sha256, err);
	if (rc)
		return rc;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT bytes, codec IS NOT NULL FROM object WHERE sha256 = ?1",
	                                  "t", sha256);
	rc = pio_sql_row(store, row, err);
	if (rc == 0)
		return pio_fail(err, PIO_ENOTFOUND, "there is no object %s", sha256);
	if (rc < 0)
		return rc;
	w->head.bytes = sqlite3_column_int64(row, 0);
	w->is_encoded = sqlite3_column_int(row, 1);
	memcpy(w->head.sha256, sha256, sizeof w->head.sha256);
	pio_sql_reset(row);
	return 0;
}

static void end_work(work *w)
{
	(void)pio_fs_unlink(w->staged.data ? w->staged.data : "", NULL);
	pio_stored_close(&w->from);
	pio_stored_close(&w->anchor);
	pio_str_fini(&w->dir);
	pio_str_fini(&w->path);
	pio_str_fini(&w->encoded);
	pio_str_fini(&w->staged);
}

/* The size of the elements that most of the bytes are. */
static int find_width(work *w, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(w->store, err, "SELECT dtype FROM tensor WHERE sha256 = ?1 GROUP BY dtype"
	                                  " ORDER BY sum(bytes) DESC, dtype LIMIT 1", "t", w->head.sha256);
	int rc = pio_sql_row(w->store, row, err);
	const pio_element *element = rc == 1 ? pio_element_find((const char *)sqlite3_column_text(row, 0)) : NULL;
	w->head.element_bytes = element ? element->size_bytes : 1;
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

/* Why it has to stay as it is; NULL: it need not. Asked again in the commit's transaction. */
static int find_reason(const char **why, const work *w, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(w->store, err, "SELECT CASE"
		" WHEN coalesce(o.verified, 'write') NOT IN " PIO_OBJECT_VERIFIED " THEN 1"
		" WHEN o.codec IS NOT NULL THEN 2"
		" WHEN EXISTS (SELECT 1 FROM media m WHERE m.sha256 = o.sha256) THEN 3"
		" WHEN o.bytes < ?2 THEN 4"
		" WHEN NOT EXISTS (SELECT 1 FROM checkpoint_file f JOIN checkpoint c ON c.id = f.checkpoint_id"
		"   WHERE f.sha256 = o.sha256 AND c.state = 'sealed') THEN 5"
		" WHEN EXISTS (SELECT 1 FROM checkpoint_file f JOIN checkpoint c ON c.id = f.checkpoint_id"
		"   WHERE f.sha256 = o.sha256 AND (" PIO_CHECKPOINT_NEEDED ")) THEN 6"
		" ELSE 0 END FROM object o WHERE o.sha256 = ?1", "ti", w->head.sha256, (int64_t)LEAST_BYTES);
	static const char *const reasons[] = { NULL, "it is damaged", "it is encoded already", "it was logged",
		"it is small", "no checkpoint has it", "a run goes on from it" };
	int rc = pio_sql_row(w->store, row, err);
	*why = rc == 1 ? reasons[sqlite3_column_int(row, 0)] : "it was dropped";
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

static int check_anchor(bool *fit, const work *w, const char *anchor, pio_err *err)
{
	int64_t found = 0;
	int rc = pio_sql_int(&found, w->store, err, "SELECT EXISTS (SELECT 1 FROM object o WHERE o.sha256 = ?1 AND"
		" o.sha256 != ?2 AND o.anchor IS NULL AND o.bytes = ?3 AND coalesce(o.verified, 'write') IN "
		PIO_OBJECT_VERIFIED " AND EXISTS (SELECT 1 FROM checkpoint_file f JOIN checkpoint c ON"
		" c.id = f.checkpoint_id WHERE f.sha256 = o.sha256 AND c.state = 'sealed')) AND NOT EXISTS (SELECT 1"
		" FROM object d WHERE d.anchor = ?2)", "tti", anchor, w->head.sha256, w->head.bytes);
	*fit = found;
	return rc;
}

/* ---- sampling ---------------------------------------------------------------------------- */

static int read_frames(void *context, void *frame, void *anchor, int64_t n, size_t size_bytes, pio_err *err)
{
	work *w = context;
	int rc = pio_stored_read(w->from, frame, size_bytes, n * PIO_ENCODED_FRAME_BYTES, err);
	return rc || !anchor ? rc : pio_stored_read(w->anchor, anchor, size_bytes, n * PIO_ENCODED_FRAME_BYTES, err);
}

static int open_anchor(work *w, const char *anchor, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	bool fit;
	int rc = check_anchor(&fit, w, anchor, err);
	if (!rc && fit)
		rc = pio_store_object_path(&path, w->store, anchor, err);
	if (!rc && fit)
		rc = pio_stored_open(&w->anchor, path.data, err);
	pio_str_fini(&path);
	return rc;
}

/* The better of both ways; w->head.anchor says which it is. */
static int choose(double *sampled, work *w, const char *anchor, pio_err *err)
{
	double with = 0;
	int rc = anchor ? open_anchor(w, anchor, err) : 0;
	if (!rc)
		rc = pio_encoded_sample(sampled, &w->head, read_frames, w, err);
	if (rc || !w->anchor)
		return rc;
	memcpy(w->head.anchor, anchor, sizeof w->head.anchor);
	rc = pio_encoded_sample(&with, &w->head, read_frames, w, err);
	if (with > *sampled)
		*sampled = with;
	else
		w->head.anchor[0] = 0;
	return rc;
}

/* ---- making ------------------------------------------------------------------------------ */

static int open_staged(int *fd, const work *w, pio_err *err)
{
	return pio_fs_open(fd, w->staged.data, O_WRONLY | O_CREAT | O_TRUNC, 0666, err);
}

static int seal_staged(int *fd, const work *w, int rc, pio_err *err)
{
	if (!rc)
		rc = pio_fs_datasync(*fd, w->staged.data, err);
	if (*fd >= 0) {
		int closed = pio_fs_close(fd, w->staged.data, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	if (!rc && chmod(w->staged.data, 0444) != 0)
		rc = pio_fail_errno(err, errno, "%s", w->staged.data);
	return rc;
}

static void ignore_damage(void *context, int64_t from, int64_t to)
{
	(void)context;
	(void)from;
	(void)to;
}

static int make_encoded(int64_t *stored_bytes, work *w, const pio_encode_options *options, pio_err *err)
{
	pio_reread reread = { .blocks = NULL };
	bool damaged = false;
	int fd = -1, rc = open_staged(&fd, w, err);
	if (!rc)
		rc = pio_encoded_write(stored_bytes, fd, w->staged.data, &w->head, read_frames, w, err);
	rc = seal_staged(&fd, w, rc, err);
	if (!rc)
		rc = pio_stored_reread(&reread, &damaged, w->staged.data, w->dir.data, options->progress,
		                       options->context, ignore_damage, NULL, err);
	if (!rc && (damaged || strcmp(reread.sha256, w->head.sha256) != 0))
		rc = pio_fail(err, PIO_ECORRUPT, "object %s does not come back from what it was encoded as: it stays as"
		              " it is (is it, or its anchor, damaged? `pioche verify` tells)", w->head.sha256);
	return rc;
}

static int make_plain(work *w, pio_err *err)
{
	char sha256[PIO_SHA256_HEX + 1] = "";
	pio_sha256 *hash = NULL;
	uint8_t *block = pio_alloc((size_t)PIO_ENCODED_FRAME_BYTES);
	int64_t frames = pio_encoded_frames(w->head.bytes);
	int fd = -1, rc = block ? open_staged(&fd, w, err) : pio_fail(err, PIO_ENOMEM, "out of memory to decode");
	if (!rc)
		rc = pio_sha256_new(&hash, err);
	for (int64_t n = 0; !rc && n < frames; n++) {
		size_t size = pio_encoded_frame_bytes(w->head.bytes, n);
		rc = pio_stored_read(w->from, block, size, n * PIO_ENCODED_FRAME_BYTES, err);
		if (!rc)
			rc = pio_sha256_update(hash, block, size, err);
		if (!rc)
			rc = pio_fs_write_all(fd, block, size, w->staged.data, err);
	}
	if (!rc)
		rc = pio_sha256_finish(hash, sha256, err);
	rc = seal_staged(&fd, w, rc, err);
	if (!rc && strcmp(sha256, w->head.sha256) != 0)
		rc = pio_fail(err, PIO_ECORRUPT, "object %s does not come back from what it was encoded as: it or its"
		              " anchor is damaged", w->head.sha256);
	pio_sha256_free(hash);
	pio_free(block);
	return rc;
}

/* ---- putting in place -------------------------------------------------------------------- */

/* The file that the row does not mean. */
static int remove_other(work *w, bool encoded, pio_err *err)
{
	int64_t same = 0;
	if (!sqlite3_get_autocommit(pio_store_db(w->store)))
		return 0; /* what the row means is not durable before the caller's commit: an orphan it is */
	int rc = pio_store_begin(w->store, err);
	if (rc)
		return rc;
	rc = pio_sql_int(&same, w->store, err, "SELECT EXISTS (SELECT 1 FROM object WHERE sha256 = ?1 AND"
	                 " (codec IS NOT NULL) = ?2)", "ti", w->head.sha256, (int64_t)encoded);
	if (!rc && same)
		rc = pio_fs_unlink(encoded ? w->path.data : w->encoded.data, err);
	if (!rc && same)
		rc = pio_store_object_sync(w->store, w->head.sha256, err);
	pio_store_rollback(w->store); /* nothing was written */
	return rc;
}

static int move_staged(work *w, const char *to, pio_err *err)
{
	int rc = pio_fs_rename(w->staged.data, to, err);
	return rc ? rc : pio_store_object_sync(w->store, w->head.sha256, err);
}

/* *why: it has to stay as it is after all. */
static int commit_encoded(const char **why, work *w, double sampled, int64_t stored_bytes, pio_err *err)
{
	bool fit = true;
	int rc = pio_store_begin(w->store, err);
	if (rc)
		return rc;
	rc = find_reason(why, w, err);
	if (!rc && !*why && w->head.anchor[0])
		rc = check_anchor(&fit, w, w->head.anchor, err);
	if (!rc && !*why && !fit)
		*why = "its anchor went";
	if (rc || *why) {
		pio_store_rollback(w->store);
		return rc;
	}
	rc = move_staged(w, w->encoded.data, err);
	const char *anchor = w->head.anchor[0] ? w->head.anchor : NULL;
	if (!rc)
		rc = pio_sql_exec(w->store, err, "UPDATE object SET codec = ?2, anchor = ?3, stored_bytes = ?4,"
		                  " sampled = ?5, verified = 'reread', verified_ns = ?6 WHERE sha256 = ?1", "tttidi",
		                  w->head.sha256, anchor ? "xor" : "shuffle", anchor, stored_bytes, sampled,
		                  pio_clock_wall_ns());
	if (rc)
		pio_store_rollback(w->store);
	else
		rc = pio_store_commit(w->store, err);
	return rc ? rc : remove_other(w, true, err);
}

static int encode(pio_encode_result *result, work *w, const pio_encode_options *options, pio_err *err)
{
	int rc = find_width(w, err);
	if (!rc)
		rc = pio_stored_open(&w->from, w->path.data, err);
	if (!rc && pio_stored_bytes(w->from) != w->head.bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s has %lld bytes, expected %lld", w->path.data,
		                (long long)pio_stored_bytes(w->from), (long long)w->head.bytes);
	if (!rc)
		rc = choose(&result->sampled, w, options->anchor, err);
	if (!rc && result->sampled < options->least) {
		result->why = "it would not be much smaller";
		return pio_sql_exec(w->store, err, "UPDATE object SET sampled = ?2 WHERE sha256 = ?1", "td",
		                    w->head.sha256, result->sampled);
	}
	if (!rc)
		rc = make_encoded(&result->stored_bytes, w, options, err);
	if (!rc)
		rc = commit_encoded(&result->why, w, result->sampled, result->stored_bytes, err);
	if (!rc && !result->why)
		result->codec = w->head.anchor[0] ? "xor" : "shuffle";
	return rc;
}

int pio_store_object_encode(pio_encode_result *result, pio_store *store, const char *sha256,
                            const pio_encode_options *options, pio_err *err)
{
	work w;
	*result = (pio_encode_result){ .codec = NULL };
	int rc = begin_work(&w, store, sha256, err);
	result->bytes = result->stored_bytes = w.head.bytes;
	if (!rc)
		rc = find_reason(&result->why, &w, err);
	if (!rc && w.is_encoded)
		rc = remove_other(&w, true, err); /* what a death left */
	if (!rc && !result->why)
		rc = encode(result, &w, options, err);
	if (!result->codec)
		result->stored_bytes = result->bytes;
	end_work(&w);
	return rc;
}

int pio_store_object_decode(pio_store *store, const char *sha256, pio_err *err)
{
	work w;
	int rc = begin_work(&w, store, sha256, err);
	if (rc || !w.is_encoded) {
		end_work(&w);
		return rc;
	}
	rc = pio_stored_open(&w.from, w.path.data, err);
	if (!rc)
		rc = make_plain(&w, err);
	if (!rc)
		rc = pio_store_begin(store, err);
	if (!rc) {
		rc = move_staged(&w, w.path.data, err);
		if (!rc)
			rc = pio_sql_exec(store, err, "UPDATE object SET codec = NULL, anchor = NULL, stored_bytes ="
			                  " NULL, verified = 'write', verified_ns = ?2 WHERE sha256 = ?1", "ti",
			                  sha256, pio_clock_wall_ns());
		if (rc)
			pio_store_rollback(store);
		else
			rc = pio_store_commit(store, err);
	}
	if (!rc)
		rc = remove_other(&w, false, err);
	end_work(&w);
	return rc;
}

/* Of a name in staging/: is its process one of this machine, and gone? */
static bool is_left(const char *name, const char *host)
{
	size_t n = strlen(host);
	if (strncmp(name, STAGED, strlen(STAGED)) != 0 || strncmp(name + strlen(STAGED), host, n) != 0 ||
	    name[strlen(STAGED) + n] != '-')
		return false;
	char *end;
	long pid = strtol(name + strlen(STAGED) + n + 1, &end, 10);
	return *end == '-' && pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

int pio_store_object_code_sweep(pio_store *store, pio_err *err)
{
	char host[HOST_NAME_MAX + 1] = "", **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/staging", pio_store_path(store));
	int rc = gethostname(host, sizeof host - 1) ? pio_fail_errno(err, errno, "gethostname") :
	                                              pio_str_check(&path, err);
	size_t base = path.len;
	if (!rc && pio_fs_type(path.data) == PIO_FS_DIR)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++) {
		if (!is_left(names[i], host))
			continue;
		path.len = base;
		pio_str_printf(&path, "/%s", names[i]);
		rc = pio_str_check(&path, err);
		if (!rc)
			rc = pio_fs_unlink(path.data, err);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return rc;
}
