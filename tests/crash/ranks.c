#include "ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/drain.h"
#include "client/env.h"
#include "client/pioche.h"
#include "client/run.h"
#include "disk.h"
#include "pack/bundle.h"
#include "store/checkpoint.h"
#include "store/fold.h"
#include "store/object.h"
#include "store/run.h"
#include "store/verify.h"
#include "story.h"
#include "sys/fs.h"

#define SAVES 2
#define ROLES 3                        /* enough to be synced at once */
#define FLOATS 700

static int step_of(int save)
{
	return 10 * (save + 1);
}

/* ---- ranks and their agent, in one process ------------------------------------------- */

typedef struct gang {
	int count, attempt;
	pio_ring *rings[RANKS_MAX];
	pio_run *runs[RANKS_MAX];
	pio_journal_writer *journal;
	char dir[500];          /* of the attempt */
} gang;

static void set_number(const char *name, int value)
{
	char text[16];
	snprintf(text, sizeof text, "%d", value);
	setenv(name, text, 1);
}

static int open_rank(gang *g, int rank, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	int rc = pio_ring_path(&path, STORY_ULID, g->attempt, rank, err);
	if (!rc)
		rc = pio_ring_create(&g->rings[rank], path.data, (uint32_t)rank, 64, 1 << 16, err);
	if (!rc) {
		setenv(PIO_ENV_RING, path.data, 1);
		set_number("RANK", rank);
		rc = pio_open(&g->runs[rank], NULL);
		if (rc && err)
			snprintf(err->message, sizeof err->message, "%s", pio_error());
	}
	pio_str_fini(&path);
	return rc;
}

static int gang_open(gang *g, scene *s, int ranks, int attempt, pio_err *err)
{
	char path[600];
	pio_journal_header header = { .attempt = (uint32_t)attempt, .created_ns = 1 };
	*g = (gang){ .count = ranks, .attempt = attempt };
	snprintf(g->dir, sizeof g->dir, "%s/runs/" STORY_ULID "/%d", s->store, attempt);
	snprintf(path, sizeof path, "%s/staging/" STORY_ULID ".%d", s->store, attempt);
	setenv(PIO_ENV_RUN, STORY_ULID, 1);
	setenv(PIO_ENV_DIR, g->dir, 1);
	setenv(PIO_ENV_STAGING, path, 1);
	set_number(PIO_ENV_ATTEMPT, attempt);
	set_number("WORLD_SIZE", ranks);
	int rc = pio_fs_mkdirs_durable(path, 0777, err);
	if (!rc)
		rc = pio_fs_mkdirs_durable(g->dir, 0777, err);
	pio_ulid_parse(&header.run, STORY_ULID);
	snprintf(path, sizeof path, "%s/journal.0", g->dir);
	if (!rc)
		rc = pio_journal_open(&g->journal, path, &header, err);
	if (!rc)
		rc = pio_fs_sync_dir(g->dir, err);
	for (int i = 0; !rc && i < ranks; i++)
		rc = open_rank(g, i, err);
	unsetenv(PIO_ENV_RING);
	return rc;
}

static int gang_drain(gang *g, pio_err *err)
{
	uint64_t moved;
	int rc = 0;
	for (int i = 0; !rc && i < g->count; i++)
		rc = pio_ring_drain(g->rings[i], g->journal, false, &moved, err);
	return rc ? rc : pio_journal_flush(g->journal, 1, err);
}

/* The rings stay where they are if there is something in them that is not in the journal. */
static int gang_close(gang *g, bool drained, pio_err *err)
{
	for (int i = 0; i < g->count; i++) {
		pio_str path = PIO_STR_INIT;
		if (g->runs[i])
			pio_close(&g->runs[i], 0);
		pio_ring_close(&g->rings[i]);
		if (drained && pio_ring_path(&path, STORY_ULID, g->attempt, i, NULL) == 0)
			(void)pio_fs_unlink(path.data, NULL);
		pio_str_fini(&path);
	}
	return g->journal ? pio_journal_close(&g->journal, err) : 0;
}

/* ---- saving ----------------------------------------------------------------------------- */

/* Three roles: the first is another at each step, the others of every rank are the same.
 * Each second rank goes on before its part is written. */
static int save_rank(pio_run *run, int rank, int ranks, int step)
{
	static float model[FLOATS], moment[FLOATS];
	const int64_t shape[] = { FLOATS };
	pio_checkpoint *checkpoint;
	for (int i = 0; i < FLOATS; i++)
		model[i] = (float)(step + rank + i);
	int rc = pio_checkpoint_begin(&checkpoint, run, step, ranks);
	if (!rc)
		rc = pio_checkpoint_add(checkpoint, "model", "w", PIO_F32, 1, shape, NULL, model);
	if (!rc)
		rc = pio_checkpoint_add(checkpoint, "model", "b", PIO_F32, 1, shape, NULL, moment);
	if (!rc)
		rc = pio_checkpoint_add(checkpoint, "optim.m", "m", PIO_F32, 1, shape, NULL, moment);
	if (!rc)
		rc = pio_checkpoint_add(checkpoint, "optim.v", "v", PIO_F32, 1, shape, NULL, moment);
	int committed = pio_checkpoint_commit(&checkpoint, (rank + step / 10) % 2 ? PIO_ASYNC : 0);
	return rc ? rc : committed;
}

/* False and a finding: a rank could not; then no rank's report counts. */
static bool save_all(scene *s, gang *g, int step)
{
	bool whole = true;
	for (int i = 0; whole && i < g->count; i++)
		whole = save_rank(g->runs[i], i, g->count, step) == 0 || found(s, "saving failed: %s", pio_error());
	for (int i = 0; i < g->count; i++) {
		pio_err err = PIO_ERR_INIT;
		pio_saver *saver = &g->runs[i]->saver;
		if (pio_saver_enter(saver, step, 0, &err) == 0) /* when its thread is through */
			pio_saver_leave(saver);
		if (pio_saver_result(saver, &err) != 0)
			whole = found(s, "saving failed: %s", err.message);
	}
	return whole;
}

static int64_t attempt_id(pio_store *store, int number)
{
	char sql[100];
	snprintf(sql, sizeof sql, "SELECT id FROM attempt WHERE number = %d", number);
	return int_of(store, sql);
}

static int64_t checkpoint_at(pio_store *store, int step)
{
	char sql[120];
	snprintf(sql, sizeof sql, "SELECT max(id) FROM checkpoint WHERE state = 'sealed' AND step = %d", step);
	return int_of(store, sql);
}

/* *committed: the saves whose reports are in the journal; they are published by now. */
static bool save_and_fold(scene *s, pio_store *store, gang *g, int save, int64_t *committed)
{
	pio_err err = PIO_ERR_INIT;
	pio_fold_result result;
	atomic_fetch_or(&s->page->begun, 1 << save);
	bool whole = save_all(s, g, step_of(save));
	if (gang_drain(g, &err) != 0)
		return found(s, "draining failed: %s", err.message);
	*committed |= whole && !disk_was_trapped() ? 1 << save : 0;
	if (pio_store_fold_attempt(&result, store, attempt_id(store, g->attempt), false, &err) != 0)
		return found(s, "folding failed: %s", err.message);
	atomic_fetch_or(&s->page->sealed, *committed);
	return true;
}

/* ---- the export ---------------------------------------------------------------------------- */

static const char *bundle_path(const scene *s)
{
	static char path[400];
	snprintf(path, sizeof path, "%.*s/x.tar", (int)(strlen(s->store) - strlen("/.pioche")), s->store);
	return path;
}

static int add_files(pio_bundle *bundle, pio_store *store, int64_t checkpoint_id, pio_err *err)
{
	sqlite3_stmt *row = NULL;
	int rc = sqlite3_prepare_v2(pio_store_db(store), "SELECT f.sha256, o.bytes, f.role || '.' || f.rank FROM"
	                            " checkpoint_file f JOIN object o USING (sha256) WHERE checkpoint_id = ?1", -1,
	                            &row, NULL) == SQLITE_OK ? 0 : pio_store_fail(store, err, "listing files");
	sqlite3_bind_int64(row, 1, checkpoint_id);
	while (!rc && sqlite3_step(row) == SQLITE_ROW) {
		char name[64];
		pio_str path = PIO_STR_INIT;
		const char *sha256 = (const char *)sqlite3_column_text(row, 0);
		snprintf(name, sizeof name, "model/%s.safetensors", sqlite3_column_text(row, 2));
		rc = pio_store_object_path(&path, store, sha256, err);
		if (!rc)
			rc = pio_bundle_add_file(bundle, name, path.data, sha256, sqlite3_column_int64(row, 1), err);
		pio_str_fini(&path);
	}
	sqlite3_finalize(row);
	return rc;
}

static bool export_newest(scene *s, pio_store *store, int step)
{
	pio_err err = PIO_ERR_INIT;
	pio_bundle *bundle = NULL;
	pio_bundle_result result;
	int rc = pio_bundle_new(&bundle, bundle_path(s), "x", 1, &err);
	if (!rc)
		rc = add_files(bundle, store, checkpoint_at(store, step), &err);
	if (!rc)
		rc = pio_bundle_write(&result, bundle, NULL, NULL, &err);
	pio_bundle_free(bundle);
	return !rc || found(s, "exporting failed: %s", err.message);
}

static bool bundle_is_whole(scene *s)
{
	pio_err err = PIO_ERR_INIT;
	pio_bundle_result result;
	return pio_bundle_verify(&result, bundle_path(s), NULL, NULL, &err) == 0 ||
	       found(s, "the bundle is not whole: %s", err.message);
}

/* ---- the story ------------------------------------------------------------------------------ */

bool ranks_prepare(scene *s)
{
	return story_begin(s);
}

static void tell_if(scene *s, bool told, void (*acknowledged)(scene *s))
{
	if (told && acknowledged)
		acknowledged(s);
}

static void drop_first(scene *s, pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	int64_t id = checkpoint_at(store, step_of(0));
	if (id <= 0)
		return;
	atomic_fetch_or(&s->page->drops, 1);
	if (pio_store_checkpoint_drop(store, id, &err) == 0)
		atomic_fetch_or(&s->page->dropped, 1);
	else
		found(s, "dropping failed: %s", err.message);
}

void ranks_work(scene *s, int ranks, void (*acknowledged)(scene *s))
{
	gang g = { .count = 0 };
	pio_err err = PIO_ERR_INIT;
	int64_t committed = 0;
	pio_store *store = store_open(s);
	scene_mark(s);
	bool well = store && (gang_open(&g, s, ranks, 1, &err) == 0 || found(s, "opening failed: %s", err.message));
	for (int save = 0; well && save < SAVES; save++) {
		well = save_and_fold(s, store, &g, save, &committed);
		tell_if(s, well, acknowledged);
	}
	if (well)
		drop_first(s, store);
	tell_if(s, well, acknowledged);
	if (well && checkpoint_at(store, step_of(1)) > 0) {
		s->page->exports = 1;
		s->page->exported = export_newest(s, store, step_of(1));
		tell_if(s, s->page->exported, acknowledged);
	}
	if (gang_close(&g, well, &err) != 0)
		found(s, "closing failed: %s", err.message);
	if (!disk_was_trapped() && (s->page->sealed != 3 || s->page->dropped != 1 || !s->page->exported))
		found(s, "undisturbed, not all of it was done");
	pio_store_close(&store);
}

/* ---- the next command ----------------------------------------------------------------------- */

static bool settle(scene *s, pio_store *store, int ranks)
{
	char dir[500];
	pio_err err = PIO_ERR_INIT;
	pio_fold_result result;
	pio_store_attempt_end end = { .result = "lost", .rank = -1, .exit_code = -1, .signal = -1,
	                              .step = INT64_MIN, .ended_ns = 1 };
	snprintf(dir, sizeof dir, "%s/runs/" STORY_ULID "/1", s->store);
	int rc = pio_fs_mkdirs(dir, 0777, &err);
	if (!rc)
		rc = pio_ring_recover(dir, STORY_ULID, 1, ranks, &err);
	if (!rc)
		rc = pio_store_fold_attempt(&result, store, attempt_id(store, 1), true, &err);
	if (!rc)
		rc = pio_store_attempt_finish(store, attempt_id(store, 1), &end, &err);
	if (!rc)
		rc = pio_store_checkpoint_recover(store, &err);
	return !rc || found(s, "settling failed: %s", err.message);
}

static bool one_is_old_or_new(scene *s, pio_store *store, int save, int ranks)
{
	char sql[160];
	const page *told = s->page;
	int step = step_of(save);
	int64_t id = checkpoint_at(store, step), bit = 1 << save;
	if (id <= 0)
		return !(told->sealed & bit) || (told->drops & bit) ||
		       found(s, "the checkpoint of step %d was published and is gone", step);
	if (!(told->begun & bit))
		return found(s, "nobody has saved a checkpoint of step %d", step);
	if (told->dropped & bit)
		return found(s, "the checkpoint of step %d was dropped and is there", step);
	snprintf(sql, sizeof sql, "SELECT count(*) FROM checkpoint_file JOIN object USING (sha256) WHERE"
	         " checkpoint_id = %" PRId64, id);
	int64_t files = int_of(store, sql);
	return files == ranks * ROLES || found(s, "the checkpoint of step %d has %" PRId64 " files of %d", step,
	                                       files, ranks * ROLES);
}

static bool all_are_old_or_new(scene *s, pio_store *store, int ranks)
{
	char path[500];
	pio_err err = PIO_ERR_INIT;
	int64_t newest = 0;
	for (int save = 0; save < SAVES; save++)
		if (!one_is_old_or_new(s, store, save, ranks))
			return false;
	if (int_of(store, "SELECT count(*) FROM checkpoint WHERE state != 'sealed'"))
		return found(s, "a drop was not finished");
	if (pio_store_checkpoint_newest(&newest, store, int_of(store, "SELECT id FROM run"), &err) != 0 ||
	    newest != int_of(store, "SELECT coalesce(max(id), 0) FROM checkpoint"))
		return found(s, "the newest checkpoint is not sound: %s", err.message);
	if (!store_is_sound(s, store))
		return false;
	snprintf(path, sizeof path, "%s/staging", s->store);
	if (!is_empty(s, path, "staging"))
		return false;
	if (s->page->exported && pio_fs_type(bundle_path(s)) != PIO_FS_FILE)
		return found(s, "the bundle was exported and is gone");
	return pio_fs_type(bundle_path(s)) == PIO_FS_NONE || bundle_is_whole(s);
}

/* The attempt that comes next makes the same save as the last, with the same bytes. */
static bool save_again(scene *s, pio_store *store, int ranks)
{
	gang g = { .count = 0 };
	pio_err err = PIO_ERR_INIT;
	pio_verify_result result;
	int64_t id, committed = 0;
	int number, save = s->page->begun & 2 ? 1 : 0;
	int rc = pio_store_attempt_create(&id, &number, store, int_of(store, "SELECT id FROM run"), "local", ranks,
	                                  NULL, &err);
	if (!rc)
		rc = gang_open(&g, s, ranks, number, &err);
	if (rc)
		return found(s, "the next attempt cannot begin: %s", err.message);
	if (!save_and_fold(s, store, &g, save, &committed))
		return false;
	if (gang_close(&g, true, &err) != 0)
		return found(s, "closing failed: %s", err.message);
	if (int_of(store, "SELECT c.attempt_id FROM checkpoint c ORDER BY id DESC LIMIT 1") != id)
		return found(s, "the next save was not published");
	if (pio_store_verify(&result, store, NULL, NULL, NULL, &err) != 0 || result.bad || result.missing)
		return found(s, "after the next save objects are bad: %s", err.message);
	if (result.orphans)
		return found(s, "the next save left %" PRId64 " orphans", result.orphans);
	return true;
}

bool ranks_check(scene *s, pio_store *store, int ranks)
{
	char part[420];
	if (!int_of(store, "SELECT count(*) FROM attempt"))
		return !s->page->runs || found(s, "the attempt is gone");
	if (!settle(s, store, ranks) || !all_are_old_or_new(s, store, ranks) || !save_again(s, store, ranks) ||
	    !export_newest(s, store, s->page->begun & 2 ? step_of(1) : step_of(0)) || !bundle_is_whole(s))
		return false;
	snprintf(part, sizeof part, "%s.part", bundle_path(s));
	return pio_fs_type(part) == PIO_FS_NONE || found(s, "the export left %s", part);
}
