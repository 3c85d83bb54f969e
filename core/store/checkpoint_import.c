#include "store/checkpoint_import.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

static int put(copy *c, int to, pio_sha256 *hash, const void *bytes, size_t size_bytes, pio_err *err)
{
	int rc = pio_fs_write_all(to, bytes, size_bytes, c->path.data, err);
	int64_t begin_ns = pio_clock_thread_ns();
	if (!rc)
		rc = pio_sha256_update(hash, bytes, size_bytes, err);
	c->hash_ns += pio_clock_thread_ns() - begin_ns;
	c->size_bytes += rc ? 0 : (int64_t)size_bytes;
	return rc;
}

/* The file to its end, or behind a header so many of its bytes. */
static int put_source(work *w, copy *c, int from, int to, pio_sha256 *hash,
                      const pio_checkpoint_import_file *file, pio_err *err)
{
	uint8_t *block = pio_alloc(BLOCK_BYTES);
	int64_t left = file->header ? file->size_bytes : INT64_MAX;
	ssize_t n = 1;
	int rc = block ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory");
	while (!rc && n && left) {
		rc = pio_fs_read_some(&n, from, block, left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES, file->path,
		                      err);
		if (!rc)
			rc = put(c, to, hash, block, (size_t)n, err);
		left -= n;
		if (!rc && w->heard)
			w->heard(w->context, n);
	}
	pio_free(block);
	return !rc && file->header && left ? pio_fail(err, PIO_ECORRUPT, "%s became shorter", file->path) : rc;
}

static int copy_bytes(work *w, copy *c, int from, int to, const pio_checkpoint_import_file *file, pio_err *err)
{
	pio_sha256 *hash = NULL;
	int rc = pio_sha256_new(&hash, err);
	if (!rc && file->header)
		rc = put(c, to, hash, file->header, file->header_bytes, err);
	if (!rc && file->header && lseek(from, (off_t)file->offset, SEEK_SET) < 0)
		rc = pio_fail_errno(err, errno, "%s", file->path);
	if (!rc)
		rc = put_source(w, c, from, to, hash, file, err);
	if (!rc)
		rc = pio_sha256_finish(hash, c->sha256, err);
	pio_sha256_free(hash);
	return rc;
}

static int copy_file(work *w, size_t i, pio_err *err)
{
	copy *c = &w->copies[i];
	const char *source = w->import->files[i].path;
	int from = -1, to = -1;
	pio_str_printf(&c->path, "%s/%zu.safetensors", w->import->staging, i);
	int rc = pio_str_check(&c->path, err);
	if (!rc)
		rc = pio_fs_open(&from, source, O_RDONLY, 0, err);
	if (!rc)
		rc = pio_fs_open(&to, c->path.data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (!rc)
		rc = copy_bytes(w, c, from, to, &w->import->files[i], err);
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

static int report(int *published, work *w, pio_err *err)
{
	const pio_checkpoint_import *import = w->import;
	pio_str payload = PIO_STR_INIT;
	pio_save save = { .writers = 1, .time_ns = pio_clock_wall_ns(), .step = import->step,
	                  .total_ns = pio_clock_mono_ns() - w->begin_ns, .sync = PIO_SAVE_FSYNC,
	                  .fsyncs = w->fsyncs, .count = (uint32_t)import->count };
	save.files = pio_calloc(import->count, sizeof *save.files);
	if (!save.files)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu files", import->count);
	for (size_t i = 0; i < import->count; i++) {
		const copy *c = &w->copies[i];
		save.files[i] = (pio_save_file){ .role = import->role, .role_bytes = strlen(import->role),
		                                 .part = (uint32_t)i, .path = c->path.data, .path_bytes = c->path.len,
		                                 .sha256 = c->sha256, .sha256_bytes = PIO_SHA256_HEX,
		                                 .size_bytes = (uint64_t)c->size_bytes };
		save.hash_ns += c->hash_ns;
	}
	pio_save_put(&payload, &save);
	pio_free(save.files);
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
	if (!rc)
		rc = report(&published, w, err);
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
	int rc = !import->count ? pio_fail(err, PIO_EINVAL, "there are no files to import")
	       : import->count > PIO_SAVE_FILES_MAX
	       ? pio_fail(err, PIO_EINVAL, "it would be %zu files: at most %d", import->count, PIO_SAVE_FILES_MAX)
	       : find_attempt(&w, err);
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
