#include "store/object_look.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/object.h"
#include "store/sql.h"
#include "sys/stored.h"

static void add_range(pio_object_look *look, int64_t begin, int64_t end)
{
	size_t n = look->ranges_count;
	if (n && (look->ranges[n - 1].end == begin || n == PIO_DAMAGE_RANGES_MAX))
		look->ranges[n - 1].end = end;
	else
		look->ranges[look->ranges_count++] = (pio_damage_range){ begin, end };
}

/* Which blocks are not those that were once read and good? */
static void compare_blocks(pio_object_look *look, const uint8_t *known, size_t known_bytes,
                           int64_t bytes)
{
	const pio_reread *read = &look->reread;
	size_t count = known_bytes / PIO_BLOCK_DIGEST_BYTES;
	if (count != read->blocks_count)
		return;
	for (size_t i = 0; i < count; i++) {
		const uint8_t *is = read->blocks + i * PIO_BLOCK_DIGEST_BYTES;
		int64_t begin = (int64_t)i * PIO_BLOCK_BYTES, end = begin + PIO_BLOCK_BYTES;
		if (memcmp(is, known + i * PIO_BLOCK_DIGEST_BYTES, PIO_BLOCK_DIGEST_BYTES) != 0)
			add_range(look, begin, end < bytes ? end : bytes);
	}
}

/* Once more, block by block: the first reading made digests only where none were known. */
static int locate(pio_object_look *look, pio_store *store, const char *sha256, int64_t bytes,
                  const char *path, pio_err *err)
{
	pio_reread_fini(&look->reread);
	pio_err why = PIO_ERR_INIT;
	if (pio_reread_file(&look->reread, path, true, NULL, NULL, &why) != 0)
		return why.code == PIO_ENOMEM ? pio_fail(err, PIO_ENOMEM, "%s", why.message) : 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT digests FROM object_block WHERE sha256 = ?1",
	                                  "t", sha256);
	int rc = pio_sql_row(store, row, err);
	if (rc == 1)
		compare_blocks(look, sqlite3_column_blob(row, 0), (size_t)sqlite3_column_bytes(row, 0), bytes);
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

static int read_it(pio_object_look *look, pio_store *store, const char *sha256, int64_t bytes,
                   const char *path, pio_reread_progress *progress, void *context, pio_err *err)
{
	int64_t known = 0;
	pio_err why = PIO_ERR_INIT;
	int rc = pio_sql_int(&known, store, err, "SELECT EXISTS (SELECT 1 FROM object_block WHERE sha256 = ?1)",
	                     "t", sha256);
	if (rc)
		return rc;
	rc = pio_reread_file(&look->reread, path, !known, progress, context, &why);
	if (rc == -PIO_ENOTFOUND) {
		look->what = "is missing";
		look->missing = true;
	} else if (rc && pio_reread_is_damage(why.sys_errno)) {
		int64_t begin = look->reread.bytes / PIO_BLOCK_BYTES * PIO_BLOCK_BYTES;
		look->what = "cannot be read";
		add_range(look, begin, begin + PIO_BLOCK_BYTES < bytes ? begin + PIO_BLOCK_BYTES : bytes);
	} else if (rc) {
		if (err)
			*err = why;
		return rc;
	} else if (strcmp(look->reread.sha256, sha256) != 0) {
		look->what = "has other bytes than its name says";
		return known ? locate(look, store, sha256, bytes, path, err) : 0;
	}
	return 0;
}

/* ---- an encoded one ----------------------------------------------------------------------- */

/* Of its row. */
typedef struct coding {
	bool is_encoded;
	int64_t stored_bytes, anchor_bytes;
	char anchor[PIO_SHA256_HEX + 1]; /* "": it has none */
} coding;

static int find_coding(coding *c, pio_store *store, const char *sha256, pio_err *err)
{
	*c = (coding){ .is_encoded = false };
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT o.stored_bytes, o.anchor, a.bytes FROM object o LEFT JOIN"
	                                  " object a ON a.sha256 = o.anchor WHERE o.sha256 = ?1 AND o.codec IS NOT"
	                                  " NULL", "t", sha256);
	int rc = pio_sql_row(store, row, err);
	if (rc != 1)
		return rc;
	c->is_encoded = true;
	c->stored_bytes = sqlite3_column_int64(row, 0);
	if (sqlite3_column_type(row, 1) != SQLITE_NULL)
		memcpy(c->anchor, sqlite3_column_text(row, 1), sizeof c->anchor);
	c->anchor_bytes = sqlite3_column_int64(row, 2);
	pio_sql_reset(row);
	return 0;
}

static void add_damage(void *context, int64_t from, int64_t to)
{
	add_range(context, from, to);
}

static int decode_it(pio_object_look *look, const char *sha256, const char *path,
                     pio_reread_progress *progress, void *context, pio_err *err)
{
	bool damaged = false;
	pio_err why = PIO_ERR_INIT;
	int rc = pio_stored_reread(&look->reread, &damaged, path, NULL, progress, context, add_damage, look, &why);
	if (rc == -PIO_ENOTFOUND) {
		look->what = "is missing";
		look->missing = true;
	} else if (rc && pio_reread_is_damage(why.sys_errno)) {
		look->what = "cannot be read";
	} else if (rc == -PIO_ECORRUPT) {
		look->what = "cannot be decoded";
	} else if (rc) {
		if (err)
			*err = why;
		return rc;
	} else if (damaged) {
		look->what = "has damaged frames";
	} else if (strcmp(look->reread.sha256, sha256) != 0) {
		look->what = "decodes to other bytes than its name says";
	}
	return 0;
}

/* ---- either ------------------------------------------------------------------------------ */

/* *fit: it is there, a file of this size. */
static int look_at_file(bool *fit, pio_object_look *look, const char *path, int64_t bytes, pio_err *err)
{
	struct stat st;
	*fit = false;
	if (stat(path, &st) != 0) {
		look->missing = errno == ENOENT || errno == ENOTDIR;
		if (!look->missing && !pio_reread_is_damage(errno))
			return pio_fail_errno(err, errno, "%s", path);
		look->what = look->missing ? "is missing" : "cannot be read";
	} else if (!S_ISREG(st.st_mode)) {
		look->what = "is no file";
	} else if (st.st_size != bytes) {
		look->what = "has a wrong size";
		if (st.st_size < bytes)
			add_range(look, st.st_size, bytes);
	} else {
		*fit = true;
	}
	return 0;
}

static int look_at_encoded(pio_object_look *look, pio_store *store, const char *sha256, const coding *c,
                           const char *path, enum pio_verify_how how, pio_reread_progress *progress,
                           void *context, pio_err *err)
{
	bool fit = false;
	pio_object_look anchor = { .what = NULL };
	int rc = look_at_file(&fit, look, path, c->stored_bytes, err);
	look->ranges_count = 0; /* they would be of another file than the object */
	if (!rc && fit && c->anchor[0]) {
		rc = pio_object_look_at(&anchor, store, c->anchor, c->anchor_bytes, PIO_VERIFY_QUICK, NULL, NULL, err);
		if (!rc && anchor.what)
			look->what = "has no anchor any more";
		pio_object_look_fini(&anchor);
	}
	if (!rc && fit && !look->what && how == PIO_VERIFY_REREAD)
		rc = decode_it(look, sha256, path, progress, context, err);
	return rc;
}

int pio_object_look_at(pio_object_look *look, pio_store *store, const char *sha256, int64_t bytes,
                       enum pio_verify_how how, pio_reread_progress *progress, void *context,
                       pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	coding c;
	bool fit = false;
	*look = (pio_object_look){ .what = NULL };
	int rc = pio_store_object_path(&path, store, sha256, err);
	if (!rc)
		rc = find_coding(&c, store, sha256, err);
	if (!rc && c.is_encoded)
		pio_str_puts(&path, PIO_STORED_ENCODED);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc && c.is_encoded) {
		rc = look_at_encoded(look, store, sha256, &c, path.data, how, progress, context, err);
	} else if (!rc) {
		rc = look_at_file(&fit, look, path.data, bytes, err);
		if (!rc && fit && how == PIO_VERIFY_REREAD)
			rc = read_it(look, store, sha256, bytes, path.data, progress, context, err);
	}
	pio_str_fini(&path);
	return rc;
}

void pio_object_look_fini(pio_object_look *look)
{
	pio_reread_fini(&look->reread);
}
