/* Definitions and invariants.
 *
 *   staged    a file under staging/, hashed and synced by its writer
 *   object    objects/ab/<sha256>, 0444, never opened for writing
 *   orphan    an object file that no row refers to
 *
 *   1. A row of `object` is inserted only after its file was renamed into
 *      place, and its directory is synced before the transaction commits.
 *   2. A file under objects/ was synced before its rename: it is whole.
 *   3. Putting the same bytes again keeps the old file, whatever was between.
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
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"

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

/* `known`: a row says what is there. An orphan of another size was put under a
 * false name and is replaced. */
static int move_into_place(const char *staged, const char *path, int64_t size_bytes, bool known,
                           pio_err *err)
{
	int64_t there = file_bytes(path), found = file_bytes(staged);
	if (there == size_bytes)
		return found >= 0 ? pio_fs_unlink(staged, err) : 0;
	if (found < 0 && there >= 0 && known)
		return pio_fail(err, PIO_ECORRUPT, "object %s has %lld bytes, expected %lld", path,
		                (long long)there, (long long)size_bytes);
	/* From here on an object that was cut short is replaced by a whole one. */
	if (found < 0)
		return pio_fail(err, PIO_ENOTFOUND, "%s: there is no such file", staged);
	if (found != size_bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s has %lld bytes, but %lld were reported", staged,
		                (long long)found, (long long)size_bytes);
	if (chmod(staged, 0444) != 0 && errno != EPERM) /* in a group's store, another's */
		return pio_fail_errno(err, errno, "%s", staged);
	return pio_fs_rename(staged, path, err);
}

int pio_store_object_put(pio_store *store, const char *staged_path, const char *sha256,
                         int64_t size_bytes, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int64_t known = 0;
	int rc = pio_store_object_path(&path, store, sha256, err);
	if (!rc)
		rc = pio_sql_int(&known, store, err, "SELECT EXISTS (SELECT 1 FROM object WHERE sha256 = ?1)",
		                 "t", sha256);
	if (!rc)
		rc = make_directory(store, sha256, err);
	if (!rc)
		rc = move_into_place(staged_path, path.data, size_bytes, known != 0, err);
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT INTO object (sha256, bytes, created_ns, verified_ns,"
		                  " verified) VALUES (?1, ?2, ?3, ?3, 'write') ON CONFLICT (sha256) DO NOTHING",
		                  "tii", sha256, size_bytes, pio_clock_wall_ns());
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
