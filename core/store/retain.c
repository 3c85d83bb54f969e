#include "store/retain.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/checkpoint.h"
#include "store/checkpoint_needed.h"
#include "store/object.h"
#include "store/object_good.h"
#include "store/series.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/stored.h"

typedef struct candidate {
	int64_t id, step;
	double value;          /* of the goal; NaN: none */
	const char *why;       /* kept; NULL: not so far */
	bool damaged, anchor;
} candidate;

/* ---- what there is ------------------------------------------------------------------------- */

/* Sealed checkpoints of a run, newest step first. */
static int load_candidates(candidate **list, size_t *count, pio_store *store, int64_t run_id,
                           pio_err *err)
{
	size_t capacity = 0;
	*list = NULL;
	*count = 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT c.id, c.step, EXISTS (SELECT 1 FROM pin p"
	                                  " WHERE p.checkpoint_id = c.id), " PIO_CHECKPOINT_NEEDED
	                                  ", EXISTS (SELECT 1 FROM checkpoint_file f JOIN object o ON"
	                                  " o.sha256 = f.sha256 WHERE"
	                                  " f.checkpoint_id = c.id AND (o.verified NOT IN " PIO_OBJECT_VERIFIED " OR "
	                                  PIO_OBJECT_ANCHOR_BAD ")), " PIO_CHECKPOINT_ANCHOR
	                                  " FROM checkpoint c WHERE c.run_id = ?1 AND"
	                                  " c.state = 'sealed' ORDER BY c.step DESC, c.id DESC", "i", run_id);
	int rc = pio_sql_row(store, row, err);
	while (rc == 1) {
		rc = pio_grow(list, &capacity, *count, "checkpoints", err);
		if (rc)
			break;
		candidate *c = &(*list)[(*count)++];
		*c = (candidate){ .id = sqlite3_column_int64(row, 0), .step = sqlite3_column_int64(row, 1),
		                  .value = NAN, .damaged = sqlite3_column_int(row, 4),
		                  .anchor = sqlite3_column_int(row, 5) };
		c->why = sqlite3_column_int(row, 2) ? "pinned" : sqlite3_column_int(row, 3) ? "needed" : NULL;
		rc = pio_sql_row(store, row, err);
	}
	pio_sql_reset(row);
	return rc;
}

/* The goal is judged by the lowest rank that logged it. */
static int load_values(candidate *list, size_t count, pio_store *store, int64_t run_id,
                       const char *goal_key, pio_err *err)
{
	int64_t series_id = 0;
	int rc = pio_sql_int(&series_id, store, err, "SELECT id FROM series WHERE run_id = ?1 AND key = ?2"
	                     " ORDER BY rank LIMIT 1", "it", run_id, goal_key);
	for (size_t i = 0; !rc && series_id && i < count; i++) {
		bool found;
		rc = pio_store_series_value_at(&list[i].value, &found, store, series_id, list[i].step, err);
		if (!rc && !found)
			list[i].value = NAN;
	}
	return rc;
}

static int load(candidate **list, size_t *count, pio_store *store, int64_t run_id,
                const char *goal_key, const char *goal, pio_err *err)
{
	if (goal && strcmp(goal, "minimize") != 0 && strcmp(goal, "maximize") != 0)
		return pio_fail(err, PIO_EINVAL, "goal \"%s\": expected minimize or maximize", goal);
	int rc = load_candidates(list, count, store, run_id, err);
	if (!rc && goal && goal_key)
		rc = load_values(*list, *count, store, run_id, goal_key, err);
	return rc;
}

/* ---- the rule ------------------------------------------------------------------------------- */

/* Index of the best that is not taken yet; count: none. Of equals the newest. */
static size_t find_best(const candidate *list, size_t count, bool maximize, const bool *taken)
{
	size_t best = count;
	for (size_t i = 0; i < count; i++) {
		if (list[i].damaged || (taken && taken[i]) || isnan(list[i].value))
			continue;
		if (best == count || (maximize ? list[i].value > list[best].value
		                               : list[i].value < list[best].value))
			best = i;
	}
	return best;
}

int pio_store_checkpoint_best(int64_t *id, pio_store *store, int64_t run_id, const char *goal_key,
                              const char *goal, pio_err *err)
{
	candidate *list = NULL;
	size_t count = 0;
	*id = 0;
	int rc = load(&list, &count, store, run_id, goal_key, goal, err);
	if (!rc && goal) {
		size_t best = find_best(list, count, strcmp(goal, "maximize") == 0, NULL);
		*id = best < count ? list[best].id : 0;
	}
	pio_free(list);
	return rc;
}

static void keep_as(candidate *c, const char *why)
{
	c->why = c->why ? c->why : why;
}

static int keep_best(candidate *list, size_t count, const pio_keep *keep, pio_err *err)
{
	bool *taken = pio_calloc(count, sizeof *taken);
	if (!taken)
		return pio_fail(err, PIO_ENOMEM, "out of memory");
	for (int64_t n = 0; n < keep->best; n++) {
		size_t i = find_best(list, count, strcmp(keep->goal, "maximize") == 0, taken);
		if (i == count)
			break;
		taken[i] = true;
		keep_as(&list[i], "best");
	}
	pio_free(taken);
	return 0;
}

/* Of each span of steps that begins at a multiple the oldest: it stays the same one
 * whatever is saved later. */
static void keep_every(candidate *list, size_t count, int64_t every)
{
	int64_t span = 0;
	for (size_t i = count; i-- > 0;) {
		if (list[i].damaged || list[i].step / every <= span)
			continue;
		span = list[i].step / every;
		keep_as(&list[i], "every");
	}
}

static int judge(candidate *list, size_t count, const pio_keep *keep, pio_err *err)
{
	int64_t newest = 0;
	size_t kept = 0, sound = count;
	if (keep->successor) {
		for (size_t i = 0; i < count; i++)
			if (list[i].damaged || list[i].anchor)
				keep_as(&list[i], list[i].damaged ? "damaged" : "anchor");
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		if (list[i].damaged)
			keep_as(&list[i], "damaged");
		else if (newest++ < keep->last)
			keep_as(&list[i], "last");
		if (!list[i].damaged && sound == count)
			sound = i;
	}
	if (keep->goal && keep->best > 0 && count) {
		int rc = keep_best(list, count, keep, err);
		if (rc)
			return rc;
	}
	if (keep->every > 0)
		keep_every(list, count, keep->every);
	for (size_t i = 0; i < count; i++) {
		if (list[i].anchor)
			keep_as(&list[i], "anchor");
		kept += list[i].why && !list[i].damaged;
	}
	if (!kept && sound < count)
		list[sound].why = "only";
	return 0;
}

int pio_store_checkpoint_judge(pio_retained **out, size_t *count, pio_store *store, int64_t run_id,
                               const pio_keep *keep, pio_err *err)
{
	candidate *list = NULL;
	*out = NULL;
	int rc = load(&list, count, store, run_id, keep->goal_key, keep->goal, err);
	if (!rc)
		rc = judge(list, *count, keep, err);
	if (!rc && *count && !(*out = pio_alloc(*count * sizeof **out)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	for (size_t i = 0; !rc && i < *count; i++)
		(*out)[i] = (pio_retained){ list[i].id, list[i].step, list[i].why };
	pio_free(list);
	return rc;
}

/* ---- dropping -------------------------------------------------------------------------------- */

/* Was every file of it read again from the disk and found good, and is there? */
static int is_reread(bool *reread, pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	int64_t unread = 0;
	int rc = pio_sql_int(&unread, store, err, "SELECT EXISTS (SELECT 1 FROM checkpoint_file f JOIN object"
	                     " o ON o.sha256 = f.sha256 WHERE f.checkpoint_id = ?1 AND o.verified IS NOT"
	                     " 'reread')", "i", checkpoint_id);
	*reread = false;
	return rc || unread ? rc : pio_store_checkpoint_sound(reread, NULL, store, checkpoint_id, err);
}

/* One that others are decoded with stays: they were encoded meanwhile, or the last other
 * one with its files was dropped just now. */
static int drop_unless_anchor(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int64_t is_anchor = 0;
	int rc = pio_store_checkpoint_drop(store, checkpoint_id, &why);
	if (rc == -PIO_EBUSY) /* also where another process does not let go of the store */
		(void)pio_sql_int(&is_anchor, store, NULL, "SELECT EXISTS (SELECT 1 FROM checkpoint c WHERE c.id = ?1"
		                  " AND " PIO_CHECKPOINT_ANCHOR ")", "i", checkpoint_id);
	if (is_anchor)
		return 0;
	if (rc && err)
		*err = why;
	return rc;
}

int pio_store_checkpoint_retain(int64_t *unread, pio_store *store, int64_t run_id, const pio_keep *keep,
                                pio_err *err)
{
	candidate *list = NULL;
	size_t count = 0, guard = 0;
	int64_t go = 0;
	bool reread = true;
	*unread = 0;
	int rc = load(&list, &count, store, run_id, keep->goal_key, keep->goal, err);
	if (!rc)
		rc = judge(list, count, keep, err);
	for (size_t i = 0; !rc && i < count; i++)
		go += !list[i].why;
	while (!keep->successor && guard < count && (!list[guard].why || list[guard].damaged))
		guard++;
	if (!rc && go) { /* there is one: of sound ones some are kept */
		int64_t id = keep->successor ? keep->successor : list[guard].id;
		rc = is_reread(&reread, store, id, err);
		*unread = rc || reread ? 0 : id;
	}
	for (size_t i = 0; !rc && reread && i < count; i++)
		if (!list[i].why)
			rc = drop_unless_anchor(store, list[i].id, err);
	pio_free(list);
	return rc;
}

/* Whoever puts an object renames and inserts its row in one transaction, so that under
 * the write lock a file without a row has nobody who is about to name it. */
int pio_store_orphan_remove(int64_t *bytes, pio_store *store, const char *name, pio_err *err)
{
	char sha256[PIO_SHA256_HEX + 1];
	pio_str path = PIO_STR_INIT;
	struct stat st;
	bool owned = false;
	*bytes = -1;
	snprintf(sha256, sizeof sha256, "%s", name);
	int rc = pio_store_object_path(&path, store, sha256, err);
	if (!rc && name[PIO_SHA256_HEX] && strcmp(name + PIO_SHA256_HEX, PIO_STORED_ENCODED) != 0)
		rc = pio_fail(err, PIO_EINVAL, "\"%.80s\" is no object's file", name);
	pio_str_puts(&path, rc ? "" : name + PIO_SHA256_HEX);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_store_begin(store, err);
	if (rc)
		goto out;
	rc = pio_store_object_owns(&owned, store, name, err);
	if (!rc && !owned && lstat(path.data, &st) == 0 && S_ISREG(st.st_mode)) {
		rc = pio_fs_unlink(path.data, err);
		if (!rc)
			rc = pio_store_object_sync(store, sha256, err);
		*bytes = rc ? -1 : (int64_t)st.st_size;
	}
	pio_store_rollback(store); /* nothing was written */
out:
	pio_str_fini(&path);
	return rc;
}

int pio_store_checkpoint_pin(pio_store *store, int64_t checkpoint_id, const char *reason, pio_err *err)
{
	return pio_sql_exec(store, err, "INSERT INTO pin (checkpoint_id, reason, pinned_ns) VALUES (?1, ?2, ?3)"
	                    " ON CONFLICT (checkpoint_id) DO UPDATE SET reason = excluded.reason", "iti",
	                    checkpoint_id, reason, pio_clock_wall_ns());
}

int pio_store_checkpoint_unpin(pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	return pio_sql_exec(store, err, "DELETE FROM pin WHERE checkpoint_id = ?1", "i", checkpoint_id);
}
