/* The files of a checkpoint.
 *
 * Room for all of them is taken before the first byte is written: a disk that is too
 * full is found out while the program can still go on, not after minutes. */
#include "client/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/env.h"
#include "client/fetch.h"
#include "sys/fs.h"
#include "sys/save.h"

#define ALIGN_BYTES 4096u          /* the data of a file begins on a page */
#define FILE_BYTES_AROUND (ALIGN_BYTES + 128) /* metadata, and up to a page */
#define CHUNK_BYTES (1u << 20)
#define HINT_BYTES (16u << 20)
#define FILE_BYTES_MAX (UINT64_C(4) << 30)
#define SYNCFS_FILES_MIN 3
#define SYNCFS_FILE_BYTES_MAX (16u << 20)

/* ---- what goes where -------------------------------------------------------- */

/* By role, then as the format wants it: large elements first, then by name. */
static int by_place(const void *a, const void *b)
{
	const pio_own_tensor *x = a, *y = b;
	int order = strcmp(x->role, y->role);
	size_t m = pio_dtype_bytes(x->dtype), n = pio_dtype_bytes(y->dtype);
	if (order == 0)
		order = m > n ? -1 : m < n;
	if (order == 0)
		order = strcmp(x->name, y->name);
	return order ? order : (x->data > y->data) - (x->data < y->data); /* slices of one */
}

/* The same name twice lies next to itself only where types are the same, too. */
static int by_name(const void *a, const void *b)
{
	const pio_own_tensor *x = a, *y = b;
	int order = strcmp(x->role, y->role);
	return order ? order : strcmp(x->name, y->name);
}

static int check_duplicates(pio_checkpoint *checkpoint, pio_err *err)
{
	pio_own_tensor *t = checkpoint->tensors;
	qsort(t, checkpoint->count, sizeof *t, by_name);
	for (size_t i = 1; i < checkpoint->count; i++)
		if (by_name(&t[i - 1], &t[i]) == 0)
			return pio_fail(err, PIO_EINVAL, "tensor \"%s\" of role \"%s\" was added twice", t[i].name,
			                t[i].role);
	return 0;
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
 * elements the offset is a number. With "own":true the parts of one rank alone are
 * the tensor, and other ranks have theirs. */
static void put_parts(pio_str *header, const pio_own_tensor *tensors, size_t count)
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
		pio_str_puts(&parts, tensors[i].own ? ",\"own\":true,\"shape\":" : ",\"shape\":");
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
static int put_header(pio_str *header, const pio_own_tensor *tensors, size_t count, pio_err *err)
{
	uint64_t length, offset = 0;
	pio_str_append(header, "\0\0\0\0\0\0\0\0", sizeof length);
	pio_str_puts(header, "{\"__metadata__\":{\"format\":\"pioche\"");
	put_parts(header, tensors, count);
	pio_str_putc(header, '}');
	for (size_t i = 0; i < count; i++) {
		const pio_own_tensor *t = &tensors[i];
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
	memcpy(header->data, &length, sizeof length);
	return 0;
}

static uint64_t part_header_bytes(const pio_own_tensor *t, int whole_ndim)
{
	return 256 + 18 * strlen(t->name) + 24 * ((uint64_t)t->ndim + 2 * (uint64_t)whole_ndim);
}

/* At most so many bytes of the header are a tensor's: its name, twice escaped where it is
 * in the metadata as well, and numbers. */
static uint64_t header_bytes_of(const pio_own_tensor *t)
{
	uint64_t name = strlen(t->name), dims = (uint64_t)t->ndim;
	return t->part ? part_header_bytes(t, t->part->ndim) : 128 + 6 * name + 24 * dims;
}

static uint64_t file_bytes_max(void)
{
	const char *text = getenv(PIO_ENV_FILE_BYTES); /* for tests */
	unsigned long long n = text ? strtoull(text, NULL, 10) : 0;
	return n ? n : FILE_BYTES_MAX;
}

/* ---- what is too large for a file ------------------------------------------------ */

typedef struct list {
	pio_own_tensor *tensors;
	size_t count, capacity;
} list;

/* Slice [from, from + count) of dimension `dim`, all before which are of one index. */
static int slice(pio_own_tensor *made, const pio_own_tensor *t, int dim, int64_t from, int64_t count, pio_err *err)
{
	int64_t begin[PIO_SAFETENSORS_DIMS_MAX] = { 0 };
	const pio_region *of = t->part;
	uint64_t stride = t->size_bytes / (uint64_t)t->shape[dim];
	pio_part part = { .ndim = of ? of->ndim : t->ndim, .shape = of ? of->whole : t->shape, .offset = begin,
	                  .flat = of && of->flat };
	for (int i = 0; of && i < t->ndim; i++)
		begin[i] = of->begin[i];
	begin[dim] += from;
	*made = *t;
	made->shape[dim] = count;
	made->data = (const char *)t->data + (uint64_t)from * stride;
	made->size_bytes = (uint64_t)count * stride;
	made->role = pio_strdup(t->role);
	made->name = pio_strdup(t->name);
	made->part = pio_alloc(sizeof *made->part);
	int rc = made->role && made->name && made->part
	       ? pio_region_of(made->part, t->name, t->ndim, made->shape, &part, err)
	       : pio_fail(err, PIO_ENOMEM, "out of memory for tensor \"%s\"", t->name);
	if (rc)
		pio_own_tensor_fini(made);
	return rc;
}

/* Slices along the first dimension that has more than one index, and where these are still
 * too large, along the next: each is one stretch of memory, and they follow one another.
 * Takes the tensor, also on failure. */
static int cut(list *to, pio_own_tensor *t, uint64_t room, pio_err *err)
{
	int dim = 0, rc;
	while (dim < t->ndim && t->shape[dim] <= 1)
		dim++;
	if (t->size_bytes <= room || dim == t->ndim) {
		rc = pio_grow(&to->tensors, &to->capacity, to->count, "tensors", err);
		if (rc)
			pio_own_tensor_fini(t);
		else
			to->tensors[to->count++] = *t;
		return rc;
	}
	int64_t whole = t->shape[dim], most = (int64_t)(room / (t->size_bytes / (uint64_t)whole));
	most = most ? most : 1;
	rc = 0;
	for (int64_t at = 0; !rc && at < whole; at += most) {
		pio_own_tensor piece;
		rc = slice(&piece, t, dim, at, whole - at < most ? whole - at : most, err);
		if (!rc)
			rc = cut(to, &piece, room, err);
	}
	pio_own_tensor_fini(t);
	return rc;
}

/* At most so many bytes of the tensor go into a file. What would be more files than may be is
 * left to those who say what is wrong with it. */
static uint64_t room_for(const pio_own_tensor *t, uint64_t max)
{
	uint64_t around = FILE_BYTES_AROUND + part_header_bytes(t, t->part ? t->part->ndim : t->ndim);
	uint64_t room = max > around ? max - around : 1;
	return t->size_bytes / room < PIO_SAVE_FILES_MAX ? room : UINT64_MAX;
}

static int cut_large(pio_checkpoint *checkpoint, uint64_t max, pio_err *err)
{
	list all = { .tensors = NULL };
	int rc = 0;
	for (size_t i = 0; i < checkpoint->count; i++) {
		pio_own_tensor *t = &checkpoint->tensors[i];
		t->own = !t->part && checkpoint->writers > 1;
		if (rc)
			pio_own_tensor_fini(t);
		else
			rc = cut(&all, t, room_for(t, max), err);
	}
	pio_free(checkpoint->tensors);
	checkpoint->tensors = all.tensors;
	checkpoint->count = all.count;
	checkpoint->capacity = all.capacity;
	return rc;
}

typedef struct fill {
	uint64_t size_bytes, header_bytes; /* at most, of a file so far */
} fill;

/* Is the tensor behind another one in the same file? One that cannot be cut may be larger;
 * slices of one have the same name, and so a file each. */
static bool goes_on(fill *file, const pio_own_tensor *before, const pio_own_tensor *t, uint64_t max)
{
	uint64_t header_bytes = header_bytes_of(t), size_bytes = t->size_bytes + header_bytes;
	if (before && strcmp(before->role, t->role) == 0 && strcmp(before->name, t->name) != 0 &&
	    file->size_bytes + size_bytes <= max &&
	    file->header_bytes + header_bytes <= PIO_SAFETENSORS_HEADER_BYTES_MAX) {
		file->size_bytes += size_bytes;
		file->header_bytes += header_bytes;
		return true;
	}
	*file = (fill){ FILE_BYTES_AROUND + size_bytes, FILE_BYTES_AROUND + header_bytes };
	return false;
}

int pio_shards_plan(pio_checkpoint *checkpoint, pio_err *err)
{
	uint64_t max = file_bytes_max();
	fill file = { 0, 0 };
	size_t files = 0;
	int rc = check_duplicates(checkpoint, err);
	if (!rc)
		rc = cut_large(checkpoint, max, err);
	if (rc)
		return rc;
	pio_own_tensor *t = checkpoint->tensors;
	qsort(t, checkpoint->count, sizeof *t, by_place);
	checkpoint->shards = pio_calloc(checkpoint->count, sizeof *checkpoint->shards);
	if (!checkpoint->shards)
		return pio_fail(err, PIO_ENOMEM, "out of memory for files of %zu tensors", checkpoint->count);
	pio_shard *s = NULL;
	for (size_t i = 0; i < checkpoint->count; i++) {
		if (!goes_on(&file, i ? &t[i - 1] : NULL, &t[i], max)) {
			uint32_t part = s && strcmp(s->tensors->role, t[i].role) == 0 ? s->part + 1 : 0;
			s = &checkpoint->shards[files++];
			*s = (pio_shard){ .tensors = &t[i], .part = part, .header = PIO_STR_INIT,
			                  .path = PIO_STR_INIT };
		}
		s->count++;
		s->size_bytes += t[i].size_bytes;
	}
	checkpoint->shard_count = files;
	if (files > PIO_SAVE_FILES_MAX)
		return pio_fail(err, PIO_EINVAL, "a rank's part of a checkpoint would be %zu files: at most %d", files,
		                PIO_SAVE_FILES_MAX);
	for (size_t i = 0; !rc && i < files; i++) {
		s = &checkpoint->shards[i];
		rc = put_header(&s->header, s->tensors, s->count, err);
		s->size_bytes += s->header.len;
		checkpoint->size_bytes += s->size_bytes;
	}
	return rc;
}

/* ---- room ------------------------------------------------------------------- */

static int fail_room(const pio_checkpoint *checkpoint, int sys_errno, pio_err *err)
{
	char room[48] = "fewer are free";
	int64_t free_bytes = pio_fs_free_bytes(checkpoint->dir.data);
	if (sys_errno == EDQUOT || sys_errno == EFBIG)
		snprintf(room, sizeof room, sys_errno == EDQUOT ? "a quota leaves fewer" : "no file may be so large");
	else if (free_bytes >= 0 && (uint64_t)free_bytes < checkpoint->size_bytes)
		snprintf(room, sizeof room, "%lld are free", (long long)free_bytes);
	return pio_fail_errno(err, sys_errno, "the checkpoint of step %lld does not fit: rank %d needs %llu bytes"
	                      " for it, %s in %s", (long long)checkpoint->step,
	                      checkpoint->run->info.rank, (unsigned long long)checkpoint->size_bytes, room,
	                      checkpoint->dir.data);
}

static int reserve(pio_checkpoint *checkpoint, pio_shard *s, pio_err *err)
{
	int fd = -1, rc;
	/* The number of the file comes last: whatever the roles are, no two names are alike. */
	pio_str_printf(&s->path, "%s/rank-%d.%s.%llx-%td.safetensors", checkpoint->dir.data,
	               checkpoint->run->info.rank, s->tensors->role, (unsigned long long)checkpoint->begin_ns,
	               s - checkpoint->shards);
	rc = pio_str_check(&s->path, err);
	if (!rc)
		rc = pio_fs_open(&fd, s->path.data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (rc) {
		pio_str_clear(&s->path); /* not ours to remove */
		return rc;
	}
	pio_err why = PIO_ERR_INIT;
	rc = pio_fs_reserve(fd, (int64_t)s->size_bytes, s->path.data, &why);
	if (rc == -PIO_ENOSPC)
		rc = fail_room(checkpoint, why.sys_errno, err);
	else if (rc)
		*err = why;
	int closed = pio_fs_close(&fd, s->path.data, rc ? NULL : err);
	return rc ? rc : closed;
}

/* Whoever supervises says why not, where the store would have more than its quota
 * (lua/pioche/retention.lua). */
static int check_quota(const pio_checkpoint *checkpoint, pio_err *err)
{
	pio_str path = PIO_STR_INIT, why = PIO_STR_INIT;
	pio_str_printf(&path, "%s/no-room", checkpoint->run->info.dir);
	int rc = pio_str_check(&path, err);
	if (!rc && pio_fs_type(path.data) == PIO_FS_FILE && pio_fs_read(&why, path.data, NULL) == 0)
		rc = pio_fail(err, PIO_ENOSPC, "the checkpoint of step %lld is refused: %.700s",
		              (long long)checkpoint->step, why.data);
	pio_str_fini(&path);
	pio_str_fini(&why);
	return rc;
}

int pio_shards_reserve(pio_checkpoint *checkpoint, pio_err *err)
{
	int refused = check_quota(checkpoint, err);
	if (refused)
		return refused;
	pio_str_printf(&checkpoint->dir, "%s/step-%lld", checkpoint->run->staging, (long long)checkpoint->step);
	int rc = pio_str_check(&checkpoint->dir, err);
	if (!rc)
		rc = pio_fs_mkdirs(checkpoint->dir.data, 0777, err);
	int64_t room = rc ? -1 : pio_fs_free_bytes(checkpoint->dir.data);
	if (room >= 0 && (uint64_t)room < checkpoint->size_bytes)
		rc = fail_room(checkpoint, ENOSPC, err);
	for (size_t i = 0; !rc && i < checkpoint->shard_count; i++)
		rc = reserve(checkpoint, &checkpoint->shards[i], err);
	return rc;
}

void pio_shards_remove(pio_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->shard_count; i++)
		if (checkpoint->shards[i].path.len)
			(void)pio_fs_unlink(checkpoint->shards[i].path.data, NULL);
}

/* ---- writing ---------------------------------------------------------------- */

typedef struct writer {
	int fd;
	pio_sha256 *hash;
	const char *path;
	uint64_t written;
	int64_t hash_ns;
} writer;

/* Hashed while still in the cache; and the disk begins while there is more to come. */
static int put(void *writer_in, const void *bytes, uint64_t size_bytes, pio_err *err)
{
	writer *w = writer_in;
	const uint8_t *at = bytes;
	int rc = 0;
	while (!rc && size_bytes) {
		size_t n = size_bytes < CHUNK_BYTES ? (size_t)size_bytes : CHUNK_BYTES;
		rc = pio_fs_write_all(w->fd, at, n, w->path, err);
		int64_t begin_ns = pio_clock_thread_ns();
		if (!rc)
			rc = pio_sha256_update(w->hash, at, n, err);
		w->hash_ns += pio_clock_thread_ns() - begin_ns;
		uint64_t hinted = w->written / HINT_BYTES * HINT_BYTES;
		w->written += n;
		if (!rc && w->written >= hinted + HINT_BYTES)
			(void)sync_file_range(w->fd, (off_t)hinted, HINT_BYTES, SYNC_FILE_RANGE_WRITE);
		at += n;
		size_bytes -= n;
	}
	return rc;
}

static int put_tensor(writer *w, const pio_own_tensor *t, pio_fetch *fetch, pio_err *err)
{
	return t->context ? pio_fetch_pieces(fetch, t->context, t->data, t->size_bytes, put, w, err)
	                  : put(w, t->data, t->size_bytes, err);
}

static int write_shard(pio_checkpoint *checkpoint, pio_shard *s, pio_fetch *fetch, pio_err *err)
{
	writer w = { .fd = -1, .path = s->path.data };
	int closed;
	int rc = pio_sha256_new(&w.hash, err);
	if (!rc)
		rc = pio_fs_open(&w.fd, w.path, O_WRONLY, 0, err);
	if (rc)
		goto out;
	rc = put(&w, s->header.data, s->header.len, err);
	for (size_t i = 0; !rc && i < s->count; i++)
		rc = put_tensor(&w, &s->tensors[i], fetch, err);
	if (!rc)
		rc = pio_sha256_finish(w.hash, s->sha256, err);
	if (!rc && checkpoint->sync == PIO_SAVE_FSYNC) {
		rc = pio_fs_datasync(w.fd, w.path, err);
		checkpoint->syncs++;
	}
	closed = pio_fs_close(&w.fd, w.path, rc ? NULL : err);
	rc = rc ? rc : closed;
	checkpoint->hash_ns += w.hash_ns;
out:
	pio_sha256_free(w.hash);
	return rc;
}

/* Many small files are durable sooner by one syncfs, which waits for what others wrote as
 * well. */
static bool is_synced_at_once(const pio_checkpoint *checkpoint)
{
	return checkpoint->shard_count >= SYNCFS_FILES_MIN &&
	       checkpoint->size_bytes / checkpoint->shard_count <= SYNCFS_FILE_BYTES_MAX &&
	       pio_fs_sync_filesystem_tells(checkpoint->dir.data);
}

static int sync_names(pio_checkpoint *checkpoint, pio_err *err)
{
	int rc = pio_fs_sync_dir(checkpoint->dir.data, err);
	if (!rc)
		rc = pio_fs_sync_dir(checkpoint->run->staging, err);
	checkpoint->syncs += 2;
	return rc;
}

int pio_shards_write(pio_checkpoint *checkpoint, pio_err *err)
{
	int dir = -1, rc = 0;
	pio_fetch fetch = PIO_FETCH_INIT;
	if (is_synced_at_once(checkpoint)) {
		checkpoint->sync = PIO_SAVE_SYNCFS;
		rc = pio_fs_open(&dir, checkpoint->dir.data, O_RDONLY | O_DIRECTORY, 0, err);
	}
	for (size_t i = 0; !rc && i < checkpoint->shard_count; i++)
		rc = write_shard(checkpoint, &checkpoint->shards[i], &fetch, err);
	pio_fetch_close(&fetch);
	if (!rc && dir < 0)
		rc = sync_names(checkpoint, err);
	else if (!rc) {
		rc = pio_fs_sync_filesystem_of(dir, checkpoint->dir.data, err);
		checkpoint->syncs++;
	}
	if (dir >= 0)
		(void)pio_fs_close(&dir, checkpoint->dir.data, NULL);
	return rc;
}
