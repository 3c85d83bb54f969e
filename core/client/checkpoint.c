/* One rank's part of a checkpoint: a safetensors file for each role, and one
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
 * The publish is the store's (core/store/checkpoint.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/safetensors.h"
#include "client/name.h"
#include "client/region.h"
#include "client/run.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/save.h"

#define ROLE_BYTES_MAX 64
#define ALIGN_BYTES 4096u          /* the data of a file begins on a page */
#define CHUNK_BYTES (1u << 20)     /* hashed and written while still in the cache */

typedef struct tensor {
	char *role, *name;
	pio_dtype dtype;
	int ndim;
	int64_t shape[PIO_SAFETENSORS_DIMS_MAX];
	pio_region *part;              /* NULL: it is whole */
	const void *data;
	uint64_t size_bytes;
} tensor;

typedef struct shard {
	pio_str path;
	const char *role;              /* of its first tensor */
	uint64_t size_bytes;
	char sha256[PIO_SHA256_HEX + 1];
} shard;

struct pio_checkpoint {
	pio_run *run;
	int64_t step;
	int writers;
	uint32_t round;
	int64_t begin_ns;              /* wall time */
	tensor *tensors;
	size_t count, capacity;
	shard *shards;
	size_t shard_count;
	uint32_t syncs;
	int64_t hash_ns;
	pio_err failed;                /* an add that failed fails the commit too */
};

int pio_checkpoint_begin(pio_checkpoint **checkpoint, pio_run *run, int64_t step, int writers)
{
	pio_err *err = pio_last_err();
	if (!checkpoint)
		return pio_fail(err, PIO_EINVAL, "pio_checkpoint_begin: where to put the checkpoint is NULL");
	*checkpoint = NULL;
	if (!run)
		return 0;
	if (writers < 1 || writers > run->info.world)
		return pio_fail(err, PIO_EINVAL, "checkpoint of step %lld with %d writers: 1 to %d (the number "
		                "of ranks) expected", (long long)step, writers, run->info.world);
	pio_checkpoint *made = pio_calloc(1, sizeof *made);
	if (!made)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a checkpoint");
	made->run = run;
	made->step = step;
	made->writers = writers;
	made->begin_ns = pio_clock_wall_ns();
	int rc = pio_rounds_next(&made->round, &run->rounds, step, (uint32_t)writers, err);
	if (rc)
		pio_free(made);
	else
		*checkpoint = made;
	return rc;
}

static void free_checkpoint(pio_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->count; i++) {
		pio_free(checkpoint->tensors[i].role);
		pio_free(checkpoint->tensors[i].name);
		pio_free(checkpoint->tensors[i].part);
	}
	for (size_t i = 0; i < checkpoint->shard_count; i++)
		pio_str_fini(&checkpoint->shards[i].path);
	pio_free(checkpoint->shards);
	pio_free(checkpoint->tensors);
	pio_free(checkpoint);
}

/* ---- adding ----------------------------------------------------------------- */

/* A role is part of a file name. */
static int check_role(const char *role, pio_err *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = role ? strlen(role) : 0;
	if (n == 0 || n > ROLE_BYTES_MAX || strspn(role, allowed) != n || role[0] == '.')
		return pio_fail(err, PIO_EINVAL, "role \"%.80s\" of a tensor: 1 to %d letters, digits, '.', '_' "
		                "or '-' expected, as in \"optim.m\"", role ? role : "", ROLE_BYTES_MAX);
	return 0;
}

static int place(tensor *t, const char *name, const int64_t *shape, const pio_part *part, pio_err *err)
{
	if (!part)
		return 0;
	t->part = pio_alloc(sizeof *t->part);
	if (!t->part)
		return pio_fail(err, PIO_ENOMEM, "out of memory for tensor \"%s\"", name);
	return pio_region_of(t->part, name, t->ndim, shape, part, err);
}

static int add(pio_checkpoint *checkpoint, const char *role, tensor *t, const int64_t *shape,
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
	tensor t = { .dtype = dtype, .ndim = ndim, .data = data };
	int rc = !role && !name ? pio_fail(err, PIO_EINVAL, "the program gave it up")
	                        : add(checkpoint, role, &t, shape, name, part, err);
	if (rc && !checkpoint->failed.code)
		checkpoint->failed = *err;
	return rc;
}

/* ---- one file --------------------------------------------------------------- */

/* By role, then as the format wants it: large elements first, then by name. */
static int by_place(const void *a, const void *b)
{
	const tensor *x = a, *y = b;
	int order = strcmp(x->role, y->role);
	size_t m = pio_dtype_bytes(x->dtype), n = pio_dtype_bytes(y->dtype);
	if (order == 0)
		order = m > n ? -1 : m < n;
	return order ? order : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
	const tensor *x = a, *y = b;
	int order = strcmp(x->role, y->role);
	return order ? order : strcmp(x->name, y->name);
}

static void put_list(pio_str *out, const int64_t *numbers, int count)
{
	pio_str_putc(out, '[');
	for (int i = 0; i < count; i++)
		pio_str_printf(out, i ? ",%lld" : "%lld", (long long)numbers[i]);
	pio_str_putc(out, ']');
}

/* What is no whole tensor, as JSON in a string, since strings are all that the
 * format's metadata may hold: {"w":{"offset":[0,4],"shape":[8,8]}}; of a run of
 * elements the offset is a number. */
static void put_parts(pio_str *header, const tensor *tensors, size_t count)
{
	pio_str parts = PIO_STR_INIT;
	for (size_t i = 0; i < count; i++) {
		const pio_region *part = tensors[i].part;
		if (!part)
			continue;
		pio_str_putc(&parts, parts.len ? ',' : '{');
		pio_str_put_json(&parts, tensors[i].name, strlen(tensors[i].name));
		pio_str_puts(&parts, ":{\"offset\":");
		if (part->flat)
			pio_str_printf(&parts, "%lld", (long long)part->begin[0]);
		else
			put_list(&parts, part->begin, part->ndim);
		pio_str_puts(&parts, ",\"shape\":");
		put_list(&parts, part->whole, part->ndim);
		pio_str_putc(&parts, '}');
	}
	if (parts.len) {
		pio_str_putc(&parts, '}');
		pio_str_puts(header, ",\"parts\":");
		pio_str_put_json(header, parts.data, parts.len);
	}
	header->failed |= parts.failed;
	pio_str_fini(&parts);
}

/* No word of run, rank or step, which the manifest tells: layers that are frozen are the
 * same file at every step, and in every run that grows from one. */
static int put_header(pio_str *header, const tensor *tensors, size_t count, pio_err *err)
{
	uint64_t length, offset = 0;
	pio_str_append(header, "\0\0\0\0\0\0\0\0", sizeof length);
	pio_str_puts(header, "{\"__metadata__\":{\"format\":\"pioche\"");
	put_parts(header, tensors, count);
	pio_str_putc(header, '}');
	for (size_t i = 0; i < count; i++) {
		const tensor *t = &tensors[i];
		pio_str_putc(header, ',');
		pio_str_put_json(header, t->name, strlen(t->name));
		pio_str_printf(header, ":{\"dtype\":\"%s\",\"shape\":", pio_dtype_name(t->dtype));
		put_list(header, t->shape, t->ndim);
		pio_str_printf(header, ",\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
		               (unsigned long long)(offset + t->size_bytes));
		offset += t->size_bytes;
	}
	pio_str_putc(header, '}');
	while (!header->failed && header->len % ALIGN_BYTES)
		pio_str_putc(header, ' ');
	if (pio_str_check(header, err))
		return -PIO_ENOMEM;
	length = header->len - sizeof length;
	if (length > PIO_SAFETENSORS_HEADER_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "%zu tensors of role \"%s\" need a header of %llu bytes: at "
		                "most %llu", count, tensors[0].role, (unsigned long long)length,
		                PIO_SAFETENSORS_HEADER_BYTES_MAX);
	memcpy(header->data, &length, sizeof length);
	return 0;
}

static int write_hashed(int fd, pio_sha256 *hash, int64_t *hash_ns, const void *bytes, uint64_t size_bytes,
                        const char *path, pio_err *err)
{
	const uint8_t *at = bytes;
	int rc = 0;
	while (!rc && size_bytes) {
		size_t n = size_bytes < CHUNK_BYTES ? (size_t)size_bytes : CHUNK_BYTES;
		rc = pio_fs_write_all(fd, at, n, path, err);
		int64_t begin_ns = pio_clock_thread_ns();
		if (!rc)
			rc = pio_sha256_update(hash, at, n, err);
		*hash_ns += pio_clock_thread_ns() - begin_ns;
		at += n;
		size_bytes -= n;
	}
	return rc;
}

/* A new file for the role; its name is in shard->path also on failure. */
static int open_shard(int *fd, shard *s, const pio_checkpoint *checkpoint, const char *dir,
                      pio_err *err)
{
	pio_str_printf(&s->path, "%s/rank-%d.%s.%llx.safetensors", dir, checkpoint->run->info.rank, s->role,
	               (unsigned long long)checkpoint->begin_ns);
	int rc = pio_str_check(&s->path, err);
	if (!rc)
		rc = pio_fs_open(fd, s->path.data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (rc)
		pio_str_clear(&s->path); /* not ours to remove */
	return rc;
}

static int write_shard(pio_checkpoint *checkpoint, shard *s, const char *dir, const tensor *tensors,
                       size_t count, pio_err *err)
{
	pio_str header = PIO_STR_INIT;
	pio_sha256 *hash = NULL;
	int fd = -1, closed;
	s->role = tensors[0].role;
	int rc = put_header(&header, tensors, count, err);
	if (!rc)
		rc = pio_sha256_new(&hash, err);
	if (!rc)
		rc = open_shard(&fd, s, checkpoint, dir, err);
	if (rc)
		goto out;
	s->size_bytes = header.len;
	for (size_t i = 0; i < count; i++)
		s->size_bytes += tensors[i].size_bytes;
	/* Find a full disk before writing for minutes; not every file system can. */
	if (fallocate(fd, 0, 0, (off_t)s->size_bytes) != 0 && errno == ENOSPC)
		rc = pio_fail_errno(err, ENOSPC, "cannot reserve %llu bytes for %s",
		                    (unsigned long long)s->size_bytes, s->path.data);
	if (!rc)
		rc = write_hashed(fd, hash, &checkpoint->hash_ns, header.data, header.len, s->path.data, err);
	for (size_t i = 0; !rc && i < count; i++)
		rc = write_hashed(fd, hash, &checkpoint->hash_ns, tensors[i].data, tensors[i].size_bytes,
		                  s->path.data, err);
	if (!rc)
		rc = pio_sha256_finish(hash, s->sha256, err);
	if (!rc)
		rc = pio_fs_datasync(fd, s->path.data, err);
	checkpoint->syncs++;
	closed = pio_fs_close(&fd, s->path.data, rc ? NULL : err);
	rc = rc ? rc : closed;
out:
	pio_sha256_free(hash);
	pio_str_fini(&header);
	return rc;
}

/* ---- commit ----------------------------------------------------------------- */

static int check_duplicates(pio_checkpoint *checkpoint, pio_err *err)
{
	tensor *t = checkpoint->tensors;
	qsort(t, checkpoint->count, sizeof *t, by_name);
	for (size_t i = 1; i < checkpoint->count; i++)
		if (by_name(&t[i - 1], &t[i]) == 0)
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\" of role \"%s\" was added twice", t[i].name,
			                t[i].role);
	return 0;
}

static int write_shards(pio_checkpoint *checkpoint, const char *dir, pio_err *err)
{
	tensor *t = checkpoint->tensors;
	size_t files = 1, begin = 0;
	qsort(t, checkpoint->count, sizeof *t, by_place);
	for (size_t i = 1; i < checkpoint->count; i++)
		files += strcmp(t[i - 1].role, t[i].role) != 0;
	checkpoint->shards = pio_calloc(files, sizeof *checkpoint->shards);
	if (!checkpoint->shards)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu files", files);
	for (size_t i = 1; i <= checkpoint->count; i++) {
		if (i < checkpoint->count && strcmp(t[begin].role, t[i].role) == 0)
			continue;
		shard *s = &checkpoint->shards[checkpoint->shard_count++];
		s->path = (pio_str)PIO_STR_INIT;
		int rc = write_shard(checkpoint, s, dir, t + begin, i - begin, err);
		if (rc)
			return rc;
		begin = i;
	}
	return 0;
}

/* What was done, or with `failure` that it was not. */
static int report(const pio_checkpoint *checkpoint, int64_t stall_ns, const char *failure, pio_err *err)
{
	pio_str payload = PIO_STR_INIT;
	size_t count = failure ? 0 : checkpoint->shard_count;
	pio_save save = { .rank = pio_ring_rank(checkpoint->run->ring), .writers = (uint32_t)checkpoint->writers,
	                  .round = checkpoint->round, .time_ns = pio_clock_wall_ns(), .step = checkpoint->step,
	                  .stall_ns = stall_ns, .total_ns = stall_ns, .hash_ns = checkpoint->hash_ns,
	                  .sync = PIO_SAVE_FSYNC, .fsyncs = checkpoint->syncs, .count = (uint32_t)count,
	                  .failure = failure, .failure_bytes = failure ? strlen(failure) : 0 };
	save.files = pio_calloc(count ? count : 1, sizeof *save.files);
	if (!save.files)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a report of %zu files", count);
	for (size_t i = 0; i < count; i++) {
		const shard *s = &checkpoint->shards[i];
		save.files[i] = (pio_save_file){ .role = s->role, .role_bytes = strlen(s->role), .path = s->path.data,
		                                 .path_bytes = s->path.len, .sha256 = s->sha256,
		                                 .sha256_bytes = PIO_SHA256_HEX, .size_bytes = s->size_bytes };
	}
	pio_save_put(&payload, &save);
	pio_free(save.files);
	return pio_run_send(checkpoint->run, PIO_RECORD_CHECKPOINT, &payload, err);
}

static int write_and_report(pio_checkpoint *checkpoint, int64_t start_ns, pio_err *err)
{
	pio_str dir = PIO_STR_INIT;
	int rc;
	if (checkpoint->failed.code) {
		*err = checkpoint->failed;
		return -err->code;
	}
	if (checkpoint->count == 0)
		return pio_fail(err, PIO_EINVAL, "checkpoint of step %lld has no tensors",
		                (long long)checkpoint->step);
	rc = check_duplicates(checkpoint, err);
	pio_str_printf(&dir, "%s/step-%lld", checkpoint->run->staging, (long long)checkpoint->step);
	if (!rc)
		rc = pio_str_check(&dir, err);
	if (!rc)
		rc = pio_fs_mkdirs(dir.data, 0777, err);
	if (!rc)
		rc = write_shards(checkpoint, dir.data, err);
	if (!rc)
		rc = pio_fs_sync_dir(dir.data, err);
	if (!rc)
		rc = pio_fs_sync_dir(checkpoint->run->staging, err);
	checkpoint->syncs += 2;
	if (!rc)
		rc = report(checkpoint, pio_clock_mono_ns() - start_ns, NULL, err);
	for (size_t i = 0; rc && i < checkpoint->shard_count; i++)
		if (checkpoint->shards[i].path.len)
			(void)pio_fs_unlink(checkpoint->shards[i].path.data, NULL);
	pio_str_fini(&dir);
	return rc;
}

static int commit(pio_checkpoint *checkpoint, pio_err *err)
{
	int64_t start_ns = pio_clock_mono_ns();
	int rc = write_and_report(checkpoint, start_ns, err);
	if (rc)
		(void)report(checkpoint, pio_clock_mono_ns() - start_ns, err->message, NULL);
	return rc;
}

int pio_checkpoint_commit(pio_checkpoint **checkpoint_in)
{
	pio_checkpoint *checkpoint = checkpoint_in ? *checkpoint_in : NULL;
	if (!checkpoint)
		return 0;
	*checkpoint_in = NULL;
	int rc = commit(checkpoint, pio_last_err());
	free_checkpoint(checkpoint);
	return rc;
}
