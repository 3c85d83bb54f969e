/* After a crash: drops that were cut short are finished, reports that will never
 * be complete are forgotten, and staging/ of owners that are gone is swept. */
#include "store/checkpoint.h"

#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/ulid.h"
#include "store/object_code.h"
#include "store/sql.h"
#include "sys/fs.h"

#define STAGING_GRACE_MS 3600000                /* of a directory whose run is unknown */
#define FETCHED_GRACE_MS (7LL * 24 * 3600000)   /* of one with what a pull had fetched (exchange/incoming.h) */

/* Of the ULID of a directory in staging/, which is made as it is: has it been there for long? */
static bool is_old(pio_store *store, const char *name, const pio_ulid *ulid)
{
	int64_t made_ms = 0;
	bool has_fetched = false;
	for (int i = 0; i < 6; i++)
		made_ms = made_ms << 8 | ulid->bytes[i];
	for (int i = 0; i < 2 && !has_fetched; i++) {
		pio_str dir = PIO_STR_INIT;
		pio_str_printf(&dir, "%s/staging/%s/%s", pio_store_path(store), name, i ? "left" : "objects");
		has_fetched = dir.failed || pio_fs_type(dir.data) == PIO_FS_DIR;
		pio_str_fini(&dir);
	}
	return pio_clock_wall_ns() / 1000000 - made_ms > (has_fetched ? FETCHED_GRACE_MS : STAGING_GRACE_MS);
}

/* Of staging/<name>: true if nobody will ever report a file in it. A name
 * begins with the ULID of its run; what has another name is not ours. */
static int is_abandoned(bool *abandoned, pio_store *store, const char *name, pio_err *err)
{
	char text[PIO_ULID_CHARS + 1] = "";
	pio_ulid ulid;
	int64_t run_id = 0, open = 0;
	*abandoned = false;
	strncpy(text, name, PIO_ULID_CHARS);
	if (!pio_ulid_parse(&ulid, text))
		return 0;
	int rc = pio_sql_int(&run_id, store, err, "SELECT id FROM run WHERE ulid = ?1", "t", text);
	if (rc)
		return rc;
	if (!run_id) {
		/* Standalone and not adopted yet, as long as it has a directory. */
		pio_str dir = PIO_STR_INIT;
		pio_str_printf(&dir, "%s/runs/%s", pio_store_path(store), text);
		rc = pio_str_check(&dir, err);
		*abandoned = !rc && pio_fs_type(dir.data) == PIO_FS_NONE && is_old(store, name, &ulid);
		/* An import takes as long as its bundle is large (exchange/bundle.c). */
		bool held = false;
		pio_str_clear(&dir);
		pio_str_printf(&dir, "%s/staging/%s/lock", pio_store_path(store), name);
		if (*abandoned && !dir.failed && pio_fs_is_locked(&held, dir.data, NULL) == 0 && held)
			*abandoned = false;
		pio_str_fini(&dir);
		return rc;
	}
	rc = pio_sql_int(&open, store, err, "SELECT EXISTS (SELECT 1 FROM attempt a LEFT JOIN journal j ON"
	                 " j.attempt_id = a.id WHERE a.run_id = ?1 AND (a.state != 'ended' OR j.done = 0))",
	                 "i", run_id);
	*abandoned = !rc && !open;
	return rc;
}

static int sweep_staging(pio_store *store, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	char **names = NULL;
	size_t count = 0;
	pio_str_printf(&path, "%s/staging", pio_store_path(store));
	int rc = pio_str_check(&path, err);
	size_t base = path.len;
	if (!rc && pio_fs_type(path.data) == PIO_FS_DIR)
		rc = pio_fs_list(&names, &count, path.data, err);
	for (size_t i = 0; !rc && i < count; i++) {
		bool abandoned;
		rc = is_abandoned(&abandoned, store, names[i], err);
		if (rc || !abandoned)
			continue;
		path.len = base;
		pio_str_printf(&path, "/%s", names[i]);
		rc = pio_str_check(&path, err);
		if (!rc)
			rc = pio_fs_remove_tree(path.data, err);
	}
	pio_fs_list_free(names, count);
	pio_str_fini(&path);
	return rc;
}

int pio_store_checkpoint_recover(pio_store *store, pio_err *err)
{
	for (;;) {
		int64_t id = 0;
		int rc = pio_sql_int(&id, store, err, "SELECT id FROM checkpoint WHERE state = 'dropping'"
		                     " LIMIT 1", "");
		if (!rc && id)
			rc = pio_store_checkpoint_drop(store, id, err);
		if (rc)
			return rc;
		if (!id)
			break;
	}
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	/* Reports of attempts that are over will never be complete. */
	rc = pio_sql_exec(store, err, "DELETE FROM checkpoint_save WHERE attempt_id IN (SELECT id FROM"
	                  " attempt a WHERE state = 'ended' AND NOT EXISTS (SELECT 1 FROM journal j WHERE"
	                  " j.attempt_id = a.id AND j.done = 0))", "");
	if (rc) {
		pio_store_rollback(store);
		return rc;
	}
	rc = pio_store_commit(store, err);
	if (!rc)
		rc = pio_store_object_code_sweep(store, err);
	return rc ? rc : sweep_staging(store, err);
}
