#include "store/late.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/ulid.h"
#include "store/check.h"
#include "store/sql.h"
#include "sys/fs.h"

/* A marker that was removed between its opening and its locking is none. */
static int lock_marker(int *fd, const char *path, pio_err *err)
{
	for (;;) {
		struct stat st;
		int rc = pio_fs_lock(fd, path, err);
		if (rc || (fstat(*fd, &st) == 0 && st.st_nlink > 0))
			return rc;
		pio_fs_unlock(fd);
	}
}

int pio_late_begin(int *lock_fd, const char *store_dir, const char *ulid, int attempt, int node, pio_err *err)
{
	pio_str dir = PIO_STR_INIT, path = PIO_STR_INIT;
	*lock_fd = -1;
	pio_str_printf(&dir, "%s/staging", store_dir);
	pio_str_printf(&path, "%s/late.%s.%d.%d", dir.data ? dir.data : "", ulid, attempt, node);
	int rc = pio_str_check(&dir, err);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = lock_marker(lock_fd, path.data, err);
	if (!rc)
		rc = pio_fs_sync_dir(dir.data, err);
	if (rc)
		pio_fs_unlock(lock_fd);
	pio_str_fini(&dir);
	pio_str_fini(&path);
	return rc;
}

/* Its marker is locked by us. While the attempt is not ended it has its last fold
 * before it; an attempt that nobody knows has none. *is_done: no marker is needed. */
static int fold_one(bool *is_done, pio_store *store, const char *ulid, int attempt, pio_err *err)
{
	int64_t ended = 0, open = 0;
	int rc = pio_sql_int(&ended, store, err, "SELECT a.id FROM attempt a JOIN run r ON r.id = a.run_id WHERE"
	                     " r.ulid = ?1 AND a.number = ?2 AND a.state = 'ended'", "ti", ulid, (int64_t)attempt);
	if (!rc)
		rc = pio_sql_int(&open, store, err, "SELECT EXISTS (SELECT 1 FROM attempt a JOIN run r ON r.id ="
		                 " a.run_id WHERE r.ulid = ?1 AND a.number = ?2 AND a.state != 'ended')", "ti", ulid,
		                 (int64_t)attempt);
	if (!rc && ended)
		rc = pio_store_refold(store, ended, err);
	*is_done = !rc && !open;
	return rc;
}

static int take_marker(pio_store *store, const char *path, const char *ulid, int attempt, pio_err *err)
{
	int lock_fd;
	bool is_done;
	pio_err why = PIO_ERR_INIT;
	int rc = pio_fs_lock(&lock_fd, path, &why);
	if (rc == -PIO_EBUSY)
		return 0; /* it is being written, or folded by somebody else */
	if (!rc)
		rc = fold_one(&is_done, store, ulid, attempt, &why);
	if (!rc && is_done)
		rc = pio_fs_unlink(path, &why);
	pio_fs_unlock(&lock_fd);
	if (rc && err)
		*err = why;
	return rc;
}

int pio_store_fold_late(pio_store *store, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&path, "%s/staging", pio_store_path(store));
	int first = pio_str_check(&path, err);
	size_t base = path.len;
	if (!first && pio_fs_type(path.data) == PIO_FS_DIR)
		first = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; i < count; i++) {
		char ulid[PIO_ULID_CHARS + 1];
		int attempt, node, end = 0;
		pio_err why = PIO_ERR_INIT;
		if (sscanf(names[i], "late.%26[0-9A-Z].%d.%d%n", ulid, &attempt, &node, &end) != 3 || names[i][end])
			continue;
		path.len = base;
		pio_str_printf(&path, "/%s", names[i]);
		int rc = pio_str_check(&path, &why);
		if (!rc)
			rc = take_marker(store, path.data, ulid, attempt, &why);
		if (rc && !first) {
			first = rc;
			if (err)
				*err = why;
		}
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return first;
}
