/* One rank's part of a checkpoint: safetensors files, one or more for each role, and one
 * record that reports them.
 *
 * Invariants:
 *  1. A file is complete and durable, and so is its directory entry, before
 *     the record that names it is sent.
 *  2. A file that was reported is never written again, and its name is never used
 *     again, not even when it was moved away: it holds when its save began.
 *  3. A commit that fails removes its files and reports that it failed, so that the
 *     other writers' files are no longer waited for.
 *
 *  4. What a thread writes is a copy that nobody changes (saver.c).
 *
 * The publish is the store's (core/store/checkpoint.h). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/checkpoint.h"
#include "client/fetch.h"
#include "client/name.h"
#include "sys/save.h"

static int fail_forked(pio_err *err)
{
	return pio_fail(err, PIO_EINVAL, "a forked child saves no checkpoint of its parent's run");
}

int pio_checkpoint_begin(pio_checkpoint **checkpoint, pio_run *run, int64_t step, int writers)
{
	pio_err *err = pio_last_err();
	if (!checkpoint)
		return pio_fail(err, PIO_EINVAL, "pio_checkpoint_begin: where to put the checkpoint is NULL");
	*checkpoint = NULL;
	if (!run)
		return 0;
	if (run->pid != getpid())
		return fail_forked(err);
	if (writers < 1 || writers > run->info.world)
		return pio_fail(err, PIO_EINVAL, "checkpoint of step %lld with %d writers: 1 to %d (the number "
		                "of ranks) expected", (long long)step, writers, run->info.world);
	pio_checkpoint *made = pio_calloc(1, sizeof *made);
	if (!made)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a checkpoint");
	made->run = run;
	made->dir = (pio_str)PIO_STR_INIT;
	made->step = step;
	made->writers = writers;
	made->begin_ns = pio_clock_wall_ns();
	made->sync = PIO_SAVE_FSYNC;
	int rc = pio_rounds_next(&made->round, &run->rounds, step, (uint32_t)writers, err);
	if (rc)
		pio_free(made);
	else
		*checkpoint = made;
	return rc;
}

void pio_own_tensor_fini(pio_own_tensor *t)
{
	pio_free(t->role);
	pio_free(t->name);
	pio_free(t->part);
	t->role = t->name = NULL;
	t->part = NULL;
}

static void free_checkpoint(pio_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->count; i++)
		pio_own_tensor_fini(&checkpoint->tensors[i]);
	for (size_t i = 0; i < checkpoint->shard_count; i++) {
		pio_str_fini(&checkpoint->shards[i].header);
		pio_str_fini(&checkpoint->shards[i].path);
	}
	pio_str_fini(&checkpoint->dir);
	pio_free(checkpoint->shards);
	pio_free(checkpoint->tensors);
	pio_free(checkpoint);
}

/* ---- adding ----------------------------------------------------------------- */

static int check_role(const char *role, pio_err *err)
{
	if (!role || !pio_save_role_valid(role, strlen(role)))
		return pio_fail(err, PIO_EINVAL, "role \"%.80s\" of a tensor: 1 to %d letters, digits, '.', '_' "
		                "or '-' expected, as in \"optim.m\"", role ? role : "", PIO_SAVE_ROLE_BYTES_MAX);
	return 0;
}

static int place(pio_own_tensor *t, const char *name, const int64_t *shape, const pio_part *part, pio_err *err)
{
	if (!part)
		return 0;
	t->part = pio_alloc(sizeof *t->part);
	if (!t->part)
		return pio_fail(err, PIO_ENOMEM, "out of memory for tensor \"%s\"", name);
	return pio_region_of(t->part, name, t->ndim, shape, part, err);
}

static int add(pio_checkpoint *checkpoint, const char *role, pio_own_tensor *t, const int64_t *shape,
               const char *name, const pio_part *part, pio_err *err)
{
	int rc = check_role(role, err);
	if (!rc)
		rc = pio_name_check("tensor", name ? name : "", name ? strlen(name) : 0, err);
	if (!rc && strcmp(name, "__metadata__") == 0)
		rc = pio_fail(err, PIO_EINVAL, "tensor name \"__metadata__\" is taken by the file format");
	if (!rc)
		rc = pio_tensor_bytes(&t->size_bytes, name, t->dtype, t->ndim, shape, err);
	if (!rc && !t->data && t->size_bytes)
		rc = pio_fail(err, PIO_EINVAL, "tensor \"%s\" of %llu bytes: data is NULL", name,
		              (unsigned long long)t->size_bytes);
	if (!rc && t->size_bytes)
		rc = pio_fetch_context(&t->context, t->data, err);
	if (!rc)
		rc = place(t, name, shape, part, err);
	if (!rc)
		rc = pio_grow(&checkpoint->tensors, &checkpoint->capacity, checkpoint->count, "tensors", err);
	if (rc) {
		pio_free(t->part);
		return rc;
	}
	for (int i = 0; i < t->ndim; i++)
		t->shape[i] = shape[i];
	t->role = pio_strdup(role);
	t->name = pio_strdup(name);
	checkpoint->tensors[checkpoint->count++] = *t;
	return t->role && t->name ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for tensor \"%s\"", name);
}

int pio_checkpoint_add(pio_checkpoint *checkpoint, const char *role, const char *name,
                       pio_dtype dtype, int ndim, const int64_t *shape, const pio_part *part,
                       const void *data)
{
	if (!checkpoint)
		return 0;
	pio_err *err = pio_last_err();
	pio_own_tensor t = { .dtype = dtype, .ndim = ndim, .data = data };
	int rc = !role && !name ? pio_fail(err, PIO_EINVAL, "the program gave it up")
	                        : add(checkpoint, role, &t, shape, name, part, err);
	if (rc && !checkpoint->failed.code)
		checkpoint->failed = *err;
	return rc;
}

/* ---- commit ----------------------------------------------------------------- */

/* What was done, or with `failure` that it was not. */
static int report(const pio_checkpoint *checkpoint, const char *failure, pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	size_t count = failure ? 0 : checkpoint->shard_count;
	pio_save save = { .rank = pio_ring_rank(checkpoint->run->ring), .writers = (uint32_t)checkpoint->writers,
	                  .round = checkpoint->round, .time_ns = pio_clock_wall_ns(), .step = checkpoint->step,
	                  .total_ns = pio_clock_mono_ns() - checkpoint->commit_ns, .hash_ns = checkpoint->hash_ns,
	                  .asynchronous = checkpoint->asynchronous,
	                  .sync = checkpoint->sync, .fsyncs = checkpoint->syncs, .count = (uint32_t)count,
	                  .failure = failure, .failure_bytes = failure ? strlen(failure) : 0 };
	save.files = pio_calloc(count ? count : 1, sizeof *save.files);
	save.stall_ns = checkpoint->stall_ns ? checkpoint->stall_ns : save.total_ns;
	if (!save.files)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a report of %zu files", count);
	for (size_t i = 0; i < count; i++) {
		const pio_shard *s = &checkpoint->shards[i];
		save.files[i] = (pio_save_file){ .role = s->tensors->role, .role_bytes = strlen(s->tensors->role),
		                                 .part = s->part, .path = s->path.data, .path_bytes = s->path.len,
		                                 .sha256 = s->sha256, .sha256_bytes = PIO_SHA256_HEX,
		                                 .size_bytes = s->size_bytes };
	}
	pio_save_put(&payload, &save);
	pio_free(save.files);
	return pio_run_send(checkpoint->run, PIO_RECORD_CHECKPOINT, &payload, err);
}

void pio_checkpoint_fail(pio_checkpoint *checkpoint, const pio_err *err)
{
	pio_shards_remove(checkpoint);
	(void)report(checkpoint, err->message, NULL);
	free_checkpoint(checkpoint);
}

int pio_checkpoint_finish(pio_checkpoint *checkpoint, pio_err *err)
{
	int rc = pio_shards_write(checkpoint, err);
	if (!rc)
		rc = report(checkpoint, NULL, err);
	if (rc)
		pio_checkpoint_fail(checkpoint, err);
	else
		free_checkpoint(checkpoint);
	return rc;
}

static int prepare(pio_checkpoint *checkpoint, pio_err *err)
{
	if (checkpoint->failed.code) {
		*err = checkpoint->failed;
		return -err->code;
	}
	if (checkpoint->count == 0)
		return pio_fail(err, PIO_EINVAL, "checkpoint of step %lld has no tensors",
		                (long long)checkpoint->step);
	int rc = pio_shards_plan(checkpoint, err);
	return rc ? rc : pio_shards_reserve(checkpoint, err);
}

/* Until the program may go on. */
static int commit(pio_checkpoint *checkpoint, int flags, pio_err *err)
{
	pio_saver *saver = &checkpoint->run->saver;
	checkpoint->commit_ns = pio_clock_mono_ns();
	checkpoint->asynchronous = flags & PIO_ASYNC;
	int rc = pio_saver_enter(saver, checkpoint->step, flags, err);
	if (rc) {
		pio_checkpoint_fail(checkpoint, err);
		return rc;
	}
	rc = prepare(checkpoint, err);
	if (rc)
		pio_checkpoint_fail(checkpoint, err);
	else if (flags & PIO_ASYNC)
		rc = pio_saver_start(saver, checkpoint, err);
	pio_saver_leave(saver);
	return rc || flags & PIO_ASYNC ? rc : pio_checkpoint_finish(checkpoint, err);
}

int pio_checkpoint_commit(pio_checkpoint **checkpoint_in, int flags)
{
	pio_checkpoint *checkpoint = checkpoint_in ? *checkpoint_in : NULL;
	if (!checkpoint)
		return 0;
	pio_run *run = checkpoint->run;
	*checkpoint_in = NULL;
	if (run->pid != getpid()) {
		free_checkpoint(checkpoint); /* its own copy: nothing of it is on the disk yet */
		return fail_forked(pio_last_err());
	}
	int rc = commit(checkpoint, flags, pio_last_err());
	return rc ? rc : pio_saver_result(&run->saver, pio_last_err());
}
