#include "store/checkpoint_import.h"

#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/checkpoint_publish.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/save.h"

#define BLOCK_BYTES (1u << 20)

typedef struct copy {
	pio_str path;
	int64_t size_bytes, hash_ns;
	char sha256[PIO_SHA256_HEX + 1];
} copy;

typedef struct work {
	pio_store *store;
	const pio_checkpoint_import *import;
	pio_checkpoint_import_heard *heard;
	void *context;
	copy *copies;
	int64_t attempt_id, begin_ns;
	uint32_t fsyncs;
} work;

/* The newest attempt, which has to be over: a fold may publish for it else. */
static int find_attempt(work *w, pio_err *err)
{
	int64_t open = 0;
	int rc = pio_sql_int(&open, w->store, err, "SELECT EXISTS (SELECT 1 FROM attempt WHERE run_id = ?1 AND"
	                     " state != 'ended')", "i", w->import->run_id);
	if (!rc && open)
		return pio_fail(err, PIO_EBUSY, "the run is going on: a checkpoint is imported when it is over");
	if (!rc)
		rc = pio_sql_int(&w->attempt_id, w->store, err, "SELECT id FROM attempt WHERE run_id = ?1 ORDER BY"
		                 " number DESC LIMIT 1", "i", w->import->run_id);
	if (!rc && !w->attempt_id)
		return pio_fail(err, PIO_ENOTFOUND, "the run has never run: there is no attempt to which a checkpoint"
		                " could belong");
	return rc;
}

/* ---- into staging/ --------------------------------------------------------------------------- */

static int copy_bytes(work *w, copy *c, int from, int to, const char *source, pio_err *err)
{
	uint8_t *block = pio_alloc(BLOCK_BYTES);
	pio_sha256 *hash = NULL;
	ssize_t n = 1;
	int rc = block ? pio_sha256_new(&hash, err) : pio_fail(err, PIO_ENOMEM, "out of memory");
	while (!rc && n) {
		rc = pio_fs_read_some(&n, from, block, BLOCK_BYTES, source, err);
		if (!rc)
			rc = pio_fs_write_all(to, block, (size_t)n, c->path.data, err);
		int64_t begin_ns = pio_clock_thread_ns();
		if (!rc)
			rc = pio_sha256_update(hash, block, (size_t)n, err);
		c->hash_ns += pio_clock_thread_ns() - begin_ns;
		c->size_bytes += rc ? 0 : n;
		if (!rc && w->heard)
			w->heard(w->context, n);
	}
	if (!rc)
		rc = pio_sha256_finish(hash, c->sha256, err);
	pio_sha256_free(hash);
	pio_free(block);
	return rc;
}

static int copy_file(work *w, size_t i, pio_err *err)
{
	copy *c = &w->copies[i];
	const char *source = w->import->paths[i];
	int from = -1, to = -1;
	pio_str_printf(&c->path, "%s/%zu.safetensors", w->import->staging, i);
	int rc = pio_str_check(&c->path, err);
	if (!rc)
		rc = pio_fs_open(&from, source, O_RDONLY, 0, err);
	if (!rc)
		rc = pio_fs_open(&to, c->path.data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (!rc)
		rc = copy_bytes(w, c, from, to, source, err);
	if (!rc)
		rc = pio_fs_datasync(to, c->path.data, err);
	w->fsyncs++;
	if (to >= 0) {
		int closed = pio_fs_close(&to, c->path.data, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	if (from >= 0)
		pio_fs_close(&from, source, NULL);
	return rc;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static int report(work *w, size_t i, int *published, pio_err *err)
{
	const copy *c = &w->copies[i];
	pio_str payload = PIO_STR_INIT;
	pio_save_file file = { .role = w->import->role, .role_bytes = strlen(w->import->role), .path = c->path.data,
	                       .path_bytes = c->path.len, .sha256 = c->sha256, .sha256_bytes = PIO_SHA256_HEX,
	                       .size_bytes = (uint64_t)c->size_bytes };
	int64_t taken_ns = pio_clock_mono_ns() - w->begin_ns;
	pio_save save = { .rank = (uint32_t)i, .writers = (uint32_t)w->import->count, .time_ns = pio_clock_wall_ns(),
	                  .step = w->import->step, .total_ns = taken_ns, .hash_ns = c->hash_ns,
	                  .sync = PIO_SAVE_FSYNC, .fsyncs = i ? 0 : w->fsyncs, .count = 1, .files = &file };
	pio_save_put(&payload, &save);
	int rc = pio_str_check(&payload, err);
	if (!rc)
		rc = pio_checkpoint_report(published, w->store, w->attempt_id, (const uint8_t *)payload.data,
		                           payload.len, err);
	pio_str_fini(&payload);
	return rc;
}

/* What ranks that died left half reported of this step is in the way. */
static int publish(int64_t *id, work *w, pio_err *err)
{
	int published = 0;
	int rc = pio_store_begin(w->store, err);
	if (rc)
		return rc;
	rc = find_attempt(w, err);
	if (!rc)
		rc = pio_sql_exec(w->store, err, "DELETE FROM checkpoint_save WHERE attempt_id = ?1 AND step = ?2",
		                  "ii", w->attempt_id, w->import->step);
	for (size_t i = 0; !rc && i < w->import->count; i++)
		rc = report(w, i, &published, err);
	if (!rc)
		rc = pio_sql_int(id, w->store, err, "SELECT id FROM checkpoint WHERE attempt_id = ?1 AND step = ?2"
		                 " ORDER BY id DESC LIMIT 1", "ii", w->attempt_id, w->import->step);
	if (!rc)
		return pio_store_commit(w->store, err);
	pio_store_rollback(w->store);
	return rc;
}

int pio_store_checkpoint_import(int64_t *id, pio_store *store, const pio_checkpoint_import *import,
                                pio_checkpoint_import_heard *heard, void *context, pio_err *err)
{
	work w = { .store = store, .import = import, .heard = heard, .context = context,
	           .begin_ns = pio_clock_mono_ns() };
	*id = 0;
	int rc = import->count ? find_attempt(&w, err)
	                       : pio_fail(err, PIO_EINVAL, "there are no files to import");
	if (rc)
		return rc;
	w.copies = pio_calloc(import->count, sizeof *w.copies);
	if (!w.copies)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu files", import->count);
	for (size_t i = 0; i < import->count; i++)
		w.copies[i].path = (pio_str)PIO_STR_INIT;
	rc = pio_fs_mkdirs(import->staging, 0777, err);
	for (size_t i = 0; !rc && i < import->count; i++)
		rc = copy_file(&w, i, err);
	if (!rc)
		rc = pio_fs_sync_dir(import->staging, err);
	if (!rc)
		rc = publish(id, &w, err);
	for (size_t i = 0; i < import->count; i++)
		pio_str_fini(&w.copies[i].path);
	pio_free(w.copies);
	(void)pio_fs_remove_tree(import->staging, NULL);
	return rc;
}
