/* Definitions and invariants.
 *
 *   1. A row with state 'sealed' names files that are whole and in place: the
 *      renames and their directory syncs came before its commit.
 *   2. A row with state 'dropping' is no checkpoint any more; its files may be
 *      there or not. Only the drop that is under way may look at it.
 *   3. An object is unlinked only when no sealed checkpoint or media refers to it, and
 *      after the commit that made that true.
 *   4. A checkpoint is not dropped while what another has is decoded with one of its
 *      files (object_code.h): what hangs on an anchor goes first.
 *
 *   (none) --fold commits--> sealed --commit--> dropping --unlink, commit--> (none)
 *   A crash leaves it on either side of an arrow; recover follows the last. */
#include "store/checkpoint.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/ulid.h"
#include "store/checkpoint_needed.h"
#include "store/object.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"

/* ---- finding ----------------------------------------------------------------------------- */

int pio_store_checkpoint_find(int64_t *id, pio_store *store, const char *manifest_sha256,
                              pio_err *err)
{
	return pio_sql_int(id, store, err, "SELECT id FROM checkpoint WHERE manifest_sha256 = ?1 AND"
	                   " state = 'sealed'", "t", manifest_sha256);
}

/* ---- dropping ------------------------------------------------------------------------------------ */

/* Digests of a checkpoint's files that nothing else needs: no other sealed
 * checkpoint, nothing that was logged. */
static int load_orphans(char ***digests, size_t *count, pio_store *store, int64_t checkpoint_id,
                        pio_err *err)
{
	size_t capacity = 0;
	*digests = NULL;
	*count = 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT DISTINCT f.sha256 FROM checkpoint_file f WHERE"
	                                  " f.checkpoint_id = ?1 AND NOT EXISTS (SELECT 1 FROM"
	                                  " checkpoint_file g JOIN checkpoint c ON c.id = g.checkpoint_id"
	                                  " WHERE g.sha256 = f.sha256 AND g.checkpoint_id != ?1 AND"
	                                  " c.state = 'sealed') AND NOT EXISTS (SELECT 1 FROM media m"
	                                  " WHERE m.sha256 = f.sha256) ORDER BY (SELECT anchor IS NULL FROM"
	                                  " object o WHERE o.sha256 = f.sha256), f.sha256", "i",
	                                  checkpoint_id);
	int rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		rc = pio_grow(digests, &capacity, *count, "files of a checkpoint", err);
		if (rc)
			break;
		char *digest = pio_sql_text_copy(row, 0);
		rc = digest ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
		if (rc)
			break;
		(*digests)[(*count)++] = digest;
		rc = pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

static int delete_rows(pio_store *store, int64_t checkpoint_id, char **digests, size_t count,
                       pio_err *err)
{
	int rc = pio_sql_exec(store, err, "DELETE FROM checkpoint_file WHERE checkpoint_id = ?1", "i",
	                      checkpoint_id);
	for (size_t i = 0; !rc && i < count; i++) {
		/* Another dropping checkpoint may still hold the row. */
		int64_t used = 0;
		rc = pio_sql_int(&used, store, err, "SELECT EXISTS (SELECT 1 FROM checkpoint_file WHERE"
		                 " sha256 = ?1)", "t", digests[i]);
		if (!rc && !used)
			rc = pio_sql_exec(store, err, "DELETE FROM tensor WHERE sha256 = ?1", "t", digests[i]);
		if (!rc && !used)
			rc = pio_sql_exec(store, err, "DELETE FROM object WHERE sha256 = ?1", "t", digests[i]);
	}
	if (!rc)
		rc = pio_sql_exec(store, err, "DELETE FROM pin WHERE checkpoint_id = ?1", "i", checkpoint_id);
	return rc ? rc : pio_sql_exec(store, err, "DELETE FROM checkpoint WHERE id = ?1", "i",
	                              checkpoint_id);
}

/* From 'dropping' to nothing. The write lock is held from looking who else
 * needs the objects to forgetting them, so that no fold adopts one meanwhile. */
static int finish_drop(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	char **digests = NULL;
	size_t count = 0;
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = load_orphans(&digests, &count, store, checkpoint_id, err);
	for (size_t i = 0; !rc && i < count; i++)
		rc = pio_store_object_unlink(store, digests[i], err);
	if (!rc)
		rc = delete_rows(store, checkpoint_id, digests, count, err);
	for (size_t i = 0; i < count; i++)
		pio_free(digests[i]);
	pio_free(digests);
	if (!rc)
		return pio_store_commit(store, err);
	pio_store_rollback(store);
	return rc;
}

static int check_anchor(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	int64_t hangs = 0;
	int rc = pio_sql_int(&hangs, store, err, "SELECT EXISTS (SELECT 1 FROM checkpoint c WHERE c.id = ?1 AND"
	                     " c.state = 'sealed' AND " PIO_CHECKPOINT_ANCHOR ")", "i", checkpoint_id);
	if (!rc && hangs)
		rc = pio_fail(err, PIO_EBUSY, "checkpoint %lld is the anchor of others, which are decoded with its"
		              " files: drop or decode these first", (long long)checkpoint_id);
	return rc;
}

int pio_store_checkpoint_drop(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	if (!sqlite3_get_autocommit(pio_store_db(store)))
		return pio_fail(err, PIO_EINVAL, "a checkpoint cannot be dropped inside a transaction");
	int rc = pio_store_begin(store, err);
	if (rc)
		return rc;
	rc = check_anchor(store, checkpoint_id, err);
	if (!rc)
		rc = pio_sql_exec(store, err, "UPDATE checkpoint SET state = 'dropping' WHERE id = ?1", "i",
		                  checkpoint_id);
	if (!rc && sqlite3_changes(pio_store_db(store)) == 0)
		rc = pio_fail(err, PIO_ENOTFOUND, "there is no checkpoint with id %lld",
		              (long long)checkpoint_id);
	if (rc)
		pio_store_rollback(store);
	else
		rc = pio_store_commit(store, err);
	return rc ? rc : finish_drop(store, checkpoint_id, err);
}

int pio_store_proof_add(pio_store *store, int64_t run_id, const char *manifest_sha256, int64_t step,
                        const char *result, int64_t points, const char *message, pio_err *err)
{
	return pio_sql_exec(store, err, "INSERT INTO proof (run_id, checkpoint, step, result, points, message,"
	                    " proved_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", "itititi", run_id,
	                    manifest_sha256, step, result, points, message, pio_clock_wall_ns());
}
