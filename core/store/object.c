/* Definitions and invariants.
 *
 *   staged    a file under staging/, hashed and synced by its writer
 *   object    objects/ab/<sha256>, 0444, never opened for writing; or, of a row
 *             with a codec, objects/ab/<sha256>.enc, which decodes to it
 *   orphan    a file that no row refers to, or that its row's codec does not
 *
 *   1. A row of `object` is inserted only after its file was renamed into
 *      place, and its directory is synced before the transaction commits.
 *   2. A file under objects/ was synced before its rename: it is whole.
 *   3. Putting the same bytes again keeps the old file, whatever was between;
 *      but one that was found damaged is replaced by the new one.
 *   4. Dropping goes in reverse: what refers to it, commit, unlink, row.
 *
 *   staged --rename--> orphan --commit--> object --drop's commit, unlink--> gone
 *   A crash leaves it on either side of an arrow. */
#include "store/object.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hex.h"
#include "store/object_good.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/reread.h"
#include "sys/stored.h"

static int check_digest(const char *sha256, pio_err *err)
{
	if (!pio_hex_valid(sha256, PIO_SHA256_HEX))
		return pio_fail(err, PIO_EINVAL, "object \"%.80s\": expected 64 lower-case hexadecimal digits",
		                sha256);
	return 0;
}

int pio_store_object_path(pio_str *path, const pio_store *store, const char *sha256, pio_err *err)
{
	int rc = check_digest(sha256, err);
	if (rc)
		return rc;
	pio_str_printf(path, "%s/objects/%.2s/%s", pio_store_path(store), sha256, sha256);
	return pio_str_check(path, err);
}

/* objects/ab, made durable if it is new. */
static int make_directory(const pio_store *store, const char *sha256, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/objects/%.2s", pio_store_path(store), sha256);
	int rc = pio_str_check(&path, err);
	if (!rc && pio_fs_type(path.data) != PIO_FS_DIR) {
		rc = pio_fs_mkdirs(path.data, 0777, err);
		path.data[path.len - 3] = 0;
		if (!rc)
			rc = pio_fs_sync_dir(path.data, err);
	}
	pio_str_fini(&path);
	return rc;
}

static int64_t file_bytes(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

/* What the store knows of the bytes that are there. */
enum standing {
	UNKNOWN,      /* no row */
	GOOD,
	ENCODED,      /* and good */
	BAD,          /* `pioche verify` found other bytes */
};

typedef struct known {
	bool found, good, encoded;
	int64_t file_bytes;
	char anchor[PIO_SHA256_HEX + 1]; /* "": it has none */
} known;

static int find_known(known *k, pio_store *store, const char *sha256, pio_err *err)
{
	*k = (known){ .found = false };
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT coalesce(verified, 'write') IN " PIO_OBJECT_VERIFIED
	                                  ", codec IS NOT NULL, coalesce(stored_bytes, bytes), coalesce(anchor, '')"
	                                  " FROM object WHERE sha256 = ?1", "t", sha256);
	int rc = pio_sql_row(store, row, err);
	if (rc == 1) {
		*k = (known){ .found = true, .good = sqlite3_column_int(row, 0), .encoded = sqlite3_column_int(row, 1),
		              .file_bytes = sqlite3_column_int64(row, 2) };
		strncpy(k->anchor, (const char *)sqlite3_column_text(row, 3), PIO_SHA256_HEX);
	}
	pio_sql_reset(row);
	return rc < 0 ? rc : 0;
}

/* The file that the row means is there, at its size. */
static int has_file(bool *has, const pio_store *store, const char *sha256, const known *k, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = pio_store_object_path(&path, store, sha256, err);
	pio_str_puts(&path, k->encoded ? PIO_STORED_ENCODED : "");
	if (!rc)
		rc = pio_str_check(&path, err);
	*has = !rc && file_bytes(path.data) == k->file_bytes;
	pio_str_fini(&path);
	return rc;
}

/* An encoded one whose file is gone, or whose anchor is gone or damaged, is as bad as one
 * that is damaged. */
static int find_standing(enum standing *standing, pio_store *store, const char *sha256, pio_err *err)
{
	known k, anchor = { .good = true };
	bool has = true, has_anchor = true;
	int rc = find_known(&k, store, sha256, err);
	if (!rc && k.encoded)
		rc = has_file(&has, store, sha256, &k, err);
	if (!rc && k.anchor[0])
		rc = find_known(&anchor, store, k.anchor, err);
	if (!rc && k.anchor[0])
		rc = has_file(&has_anchor, store, k.anchor, &anchor, err);
	*standing = !k.found ? UNKNOWN : !k.good || !has || !anchor.good || !has_anchor ? BAD :
	            k.encoded ? ENCODED : GOOD;
	return rc;
}

/* *moved: the file that is there now is the staged one. A file that is bad, or of
 * another size, is replaced by it. */
static int move_into_place(bool *moved, const char *staged, const char *path, int64_t size_bytes,
                           enum standing standing, pio_err *err)
{
	int64_t there = standing == ENCODED ? size_bytes : file_bytes(path), found = file_bytes(staged);
	*moved = false;
	if (there == size_bytes && (standing != BAD || found < 0))
		return found >= 0 ? pio_fs_unlink(staged, err) : 0;
	if (found < 0 && there >= 0 && standing != UNKNOWN)
		return pio_fail(err, PIO_ECORRUPT, "object %s has %lld bytes, expected %lld", path,
		                (long long)there, (long long)size_bytes);
	if (found < 0)
		return pio_fail(err, PIO_ENOTFOUND, "%s: there is no such file", staged);
	if (found != size_bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s has %lld bytes, but %lld were reported", staged,
		                (long long)found, (long long)size_bytes);
	if (chmod(staged, 0444) != 0 && errno != EPERM) /* in a group's store, another's */
		return pio_fail_errno(err, errno, "%s", staged);
	*moved = true;
	return pio_fs_rename(staged, path, err);
}

/* Of a bad one that was replaced by somebody who died before the commit: *good: the file
 * that is there is the new one. */
static int look_for_replaced(bool *good, const char *staged, const char *path, const char *sha256, pio_err *err)
{
	pio_reread reread = { .blocks = NULL };
	*good = false;
	if (file_bytes(staged) >= 0 || file_bytes(path) < 0)
		return 0;
	pio_err why = PIO_ERR_INIT;
	int rc = pio_reread_file(&reread, path, false, NULL, NULL, &why);
	*good = !rc && strcmp(reread.sha256, sha256) == 0;
	pio_reread_fini(&reread);
	if (!rc || pio_reread_is_damage(why.sys_errno))
		return 0;
	if (err)
		*err = why;
	return rc;
}

int pio_store_object_put(pio_store *store, const char *staged_path, const char *sha256,
                         int64_t size_bytes, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	enum standing standing;
	bool moved = false, replaced = false;
	int rc = pio_store_object_path(&path, store, sha256, err);
	if (!rc)
		rc = find_standing(&standing, store, sha256, err);
	if (!rc)
		rc = make_directory(store, sha256, err);
	if (!rc && standing == BAD)
		rc = look_for_replaced(&replaced, staged_path, path.data, sha256, err);
	if (!rc)
		rc = move_into_place(&moved, staged_path, path.data, size_bytes, standing, err);
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT INTO object (sha256, bytes, created_ns, verified_ns,"
		                  " verified) VALUES (?1, ?2, ?3, ?3, 'write') ON CONFLICT (sha256) DO UPDATE SET"
		                  " verified_ns = excluded.verified_ns, verified = excluded.verified, codec = NULL,"
		                  " anchor = NULL, stored_bytes = NULL WHERE ?4",
		                  "tiii", sha256, size_bytes, pio_clock_wall_ns(), (int64_t)(moved || replaced));
	pio_str_fini(&path);
	return rc;
}

int pio_store_object_sync(pio_store *store, const char *sha256, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = check_digest(sha256, err);
	pio_str_printf(&path, "%s/objects/%.2s", pio_store_path(store), sha256);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_sync_dir(path.data, err);
	pio_str_fini(&path);
	return rc;
}

int pio_store_object_unlink(pio_store *store, const char *sha256, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = pio_store_object_path(&path, store, sha256, err);
	if (!rc)
		rc = pio_fs_unlink(path.data, err);
	pio_str_puts(&path, PIO_STORED_ENCODED);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_fs_unlink(path.data, err);
	/* What was unlinked earlier may not be durable yet: sync in any case. */
	if (!rc) {
		path.data[path.len - strlen(PIO_STORED_ENCODED) - PIO_SHA256_HEX - 1] = 0;
		if (pio_fs_type(path.data) == PIO_FS_DIR)
			rc = pio_store_object_sync(store, sha256, err);
	}
	pio_str_fini(&path);
	return rc;
}

int pio_store_object_owns(bool *owned, pio_store *store, const char *name, pio_err *err)
{
	int64_t found = 0;
	bool encoded = strlen(name) > PIO_SHA256_HEX && !strcmp(name + PIO_SHA256_HEX, PIO_STORED_ENCODED);
	int rc = pio_sql_int(&found, store, err, "SELECT EXISTS (SELECT 1 FROM object WHERE sha256 = substr(?1, 1, 64)"
	                     " AND (codec IS NOT NULL) = ?2)", "ti", name, (int64_t)encoded);
	*owned = found && (encoded || strlen(name) == PIO_SHA256_HEX);
	return rc;
}
