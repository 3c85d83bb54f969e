/* Digests of a run's inputs; the contract is in plan.h. */
#include <string.h>
#include <sys/stat.h>

#include "store/plan.h"
#include "store/sql.h"
#include "sys/fs.h"

static int64_t mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* 1 and the digest when the file was hashed before and stat says the same. */
static int remembered(char hex[PIO_SHA256_HEX + 1], pio_store *store, const char *path,
                      const struct stat *st, pio_err *err)
{
	sqlite3_stmt *query = pio_sql_query(store, err,
	                                    "SELECT sha256 FROM input_digest WHERE path = ?"
	                                    " AND inode = ? AND bytes = ? AND mtime_ns = ?", "tiii",
	                                    path, (int64_t)st->st_ino, (int64_t)st->st_size,
	                                    mtime_ns(st));
	if (!query)
		return -err->code;
	int rc = pio_sql_row(store, query, err);
	if (rc != 1)
		return rc;
	const char *text = (const char *)sqlite3_column_text(query, 0);
	int found = text && strlen(text) == PIO_SHA256_HEX;
	if (found)
		memcpy(hex, text, PIO_SHA256_HEX + 1);
	pio_sql_reset(query);
	return found;
}

static int digest_file(char hex[PIO_SHA256_HEX + 1], int64_t *size_bytes, pio_store *store,
                       const char *path, const struct stat *st, pio_err *err)
{
	pio_err local = PIO_ERR_INIT;
	if (!err)
		err = &local;
	*size_bytes = st->st_size;
	int rc = store ? remembered(hex, store, path, st, err) : 0;
	if (rc < 0)
		return rc;
	if (rc == 1)
		return 0;
	struct stat after;
	rc = pio_sha256_file(path, hex, size_bytes, err);
	if (rc)
		return rc;
	if (stat(path, &after) || after.st_size != st->st_size || mtime_ns(&after) != mtime_ns(st))
		return pio_fail(err, PIO_EBUSY, "%s changed while it was read", path);
	if (!store || !pio_store_is_writable(store))
		return 0;
	return pio_sql_exec(store, err,
	                    "INSERT INTO input_digest (path, inode, bytes, mtime_ns, sha256)"
	                    " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (path) DO UPDATE SET"
	                    " inode = ?2, bytes = ?3, mtime_ns = ?4, sha256 = ?5", "tiiit", path,
	                    (int64_t)st->st_ino, (int64_t)st->st_size, mtime_ns(st), hex);
}

struct folder {
	pio_store *store;
	const char *root;
	pio_str lines;
	int64_t size_bytes;
};

static int walk(struct folder *folder, const char *path, int depth, pio_err *err)
{
	char **names;
	size_t count;
	if (depth > 100)
		return pio_fail(err, PIO_EINVAL, "%s: folders nested deeper than 100", path);
	int rc = pio_fs_list(&names, &count, path, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < count && !rc; i++) {
		pio_str child = PIO_STR_INIT;
		struct stat link, st;
		pio_str_printf(&child, "%s/%s", path, names[i]);
		rc = pio_str_check(&child, err);
		if (!rc && lstat(child.data, &link) == 0 && stat(child.data, &st) == 0) {
			if (S_ISDIR(link.st_mode)) {
				rc = walk(folder, child.data, depth + 1, err);
			} else if (S_ISREG(st.st_mode)) {
				char hex[PIO_SHA256_HEX + 1];
				int64_t size;
				rc = digest_file(hex, &size, folder->store, child.data, &st, err);
				if (!rc) {
					folder->size_bytes += size;
					pio_str_printf(&folder->lines, "%s  %s\n", hex,
					               child.data + strlen(folder->root) + 1);
				}
			}
		}
		pio_str_fini(&child);
	}
	pio_fs_list_free(names, count);
	return rc;
}

/* Names within a folder are sorted by bytes, which for whole paths is not the
 * same order ('/' sorts among the letters); it is an order, and always this. */
int pio_store_input_digest(char hex[PIO_SHA256_HEX + 1], int64_t *size_bytes, pio_store *store,
                           const char *path, pio_err *err)
{
	struct stat st;
	*size_bytes = 0;
	if (stat(path, &st))
		return pio_fail(err, PIO_ENOTFOUND, "%s: there is no such file or folder", path);
	if (S_ISREG(st.st_mode))
		return digest_file(hex, size_bytes, store, path, &st, err);
	if (!S_ISDIR(st.st_mode))
		return pio_fail(err, PIO_EINVAL, "%s: neither a file nor a folder", path);
	struct folder folder = { store, path, PIO_STR_INIT, 0 };
	/* One transaction for what thousands of files leave to be remembered. */
	bool writes = store && pio_store_is_writable(store);
	int rc = writes ? pio_store_begin(store, err) : 0;
	if (rc)
		return rc;
	rc = walk(&folder, path, 0, err);
	if (!rc)
		rc = pio_str_check(&folder.lines, err);
	if (!rc)
		rc = pio_sha256_bytes(folder.lines.data, folder.lines.len, hex, err);
	*size_bytes = folder.size_bytes;
	pio_str_fini(&folder.lines);
	if (writes && rc)
		pio_store_rollback(store);
	else if (writes)
		rc = pio_store_commit(store, err);
	return rc;
}
