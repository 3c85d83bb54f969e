#include "store/object_look.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/object.h"
#include "store/sql.h"

/* What the disk says of a file that it cannot give back. Of other errors (no
 * permission, too many files) the object is not to blame. */
static bool is_damage(int sys_errno)
{
	static const int errors[] = { EIO, EUCLEAN, EBADMSG, ENODATA, EILSEQ, EREMOTEIO, ENXIO };
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (sys_errno == errors[i])
			return true;
	return false;
}

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
	} else if (rc && is_damage(why.sys_errno)) {
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

int pio_object_look_at(pio_object_look *look, pio_store *store, const char *sha256, int64_t bytes,
                       enum pio_verify_how how, pio_reread_progress *progress, void *context,
                       pio_err *err)
{
	struct stat st;
	pio_str path = PIO_STR_INIT;
	*look = (pio_object_look){ .what = NULL };
	int rc = pio_store_object_path(&path, store, sha256, err);
	if (rc)
		goto out;
	if (stat(path.data, &st) != 0) {
		look->missing = errno == ENOENT || errno == ENOTDIR;
		if (look->missing || is_damage(errno))
			look->what = look->missing ? "is missing" : "cannot be read";
		else
			rc = pio_fail_errno(err, errno, "%s", path.data);
	} else if (!S_ISREG(st.st_mode)) {
		look->what = "is no file";
	} else if (st.st_size != bytes) {
		look->what = "has a wrong size";
		if (st.st_size < bytes)
			add_range(look, st.st_size, bytes);
	} else if (how == PIO_VERIFY_REREAD) {
		rc = read_it(look, store, sha256, bytes, path.data, progress, context, err);
	}
out:
	pio_str_fini(&path);
	return rc;
}

void pio_object_look_fini(pio_object_look *look)
{
	pio_reread_fini(&look->reread);
}
