#include "pack/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "pack/bag.h"
#include "pack/belt.h"
#include "pack/bundle_parts.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/stored.h"

int pio_bundle_new(pio_bundle **out, const char *out_path, const char *name, int64_t mtime_s,
                   pio_err *err)
{
	*out = NULL;
	if (!pio_bag_name_valid(name))
		return pio_fail(err, PIO_EINVAL, "bundle name \"%.120s\": expected 1 to %d letters, digits or "
		                "\"._+=@-\", not starting with '.' or '-'", name, PIO_BUNDLE_NAME_BYTES_MAX);
	if (mtime_s < 0)
		return pio_fail(err, PIO_EINVAL, "bundle time %lld: expected seconds since 1970",
		                (long long)mtime_s);
	pio_bundle *bundle = pio_calloc(1, sizeof *bundle);
	if (!bundle)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a bundle");
	pio_str part = PIO_STR_INIT;
	pio_str_printf(&part, "%s.part", out_path);
	*bundle = (pio_bundle){ .out_path = pio_strdup(out_path), .part_path = pio_str_take(&part),
		.name = pio_strdup(name), .mtime_s = mtime_s, .info = PIO_STR_INIT, .spool = -1 };
	*out = bundle;
	if (!bundle->out_path || !bundle->part_path || !bundle->name) {
		pio_bundle_free(bundle);
		*out = NULL;
		return pio_fail(err, PIO_ENOMEM, "out of memory for a bundle");
	}
	return 0;
}

void pio_bundle_free(pio_bundle *bundle)
{
	if (!bundle)
		return;
	for (size_t i = 0; i < bundle->count; i++) {
		pio_free(bundle->items[i].path);
		pio_free(bundle->items[i].source);
		pio_free(bundle->items[i].bytes);
	}
	pio_free(bundle->items);
	pio_str_fini(&bundle->info);
	pio_fs_close(&bundle->spool, "spool", NULL);
	pio_free(bundle->spool_path);
	pio_free(bundle->out_path);
	pio_free(bundle->part_path);
	pio_free(bundle->name);
	pio_free(bundle);
}

void pio_bundle_set_zstd(pio_bundle *bundle)
{
	bundle->zstd = true;
}

int pio_bundle_add_info(pio_bundle *bundle, const char *label, const char *value, pio_err *err)
{
	if (!*label || strpbrk(label, ":\n\r\t ") || strpbrk(value, "\n\r"))
		return pio_fail(err, PIO_EINVAL, "bag-info \"%.80s\": expected a label without spaces or "
		                "colons and a value of one line", label);
	pio_str_printf(&bundle->info, "%s: %s\n", label, value);
	return pio_str_check(&bundle->info, err);
}

/* A zeroed item with its path; it belongs to the bundle at once. */
static int add_item(pio_bundle_item **item, pio_bundle *bundle, const char *path, pio_err *err)
{
	const char *problem = pio_bag_path_problem(path);
	if (problem)
		return pio_fail(err, PIO_EINVAL, "bundle path \"%.200s\" %s", path, problem);
	int rc = pio_grow(&bundle->items, &bundle->capacity, bundle->count, "files in a bundle", err);
	if (rc)
		return rc;
	pio_str full = PIO_STR_INIT;
	pio_str_printf(&full, "data/%s", path);
	*item = &bundle->items[bundle->count];
	**item = (pio_bundle_item){ .path = pio_str_take(&full), .spool_at = -1 };
	if (!(*item)->path)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a file in a bundle");
	bundle->count++;
	return 0;
}

int pio_bundle_add_bytes(pio_bundle *bundle, const char *path, const void *bytes,
                         size_t size_bytes, pio_err *err)
{
	pio_bundle_item *item;
	int rc = add_item(&item, bundle, path, err);
	if (rc)
		return rc;
	item->bytes = pio_alloc(size_bytes);
	if (!item->bytes)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory for %zu bytes", path, size_bytes);
	if (size_bytes)
		memcpy(item->bytes, bytes, size_bytes);
	item->size_bytes = (int64_t)size_bytes;
	return pio_sha256_bytes(item->bytes, size_bytes, item->sha256, err);
}

/* An object may be there, and not as a file of its name (sys/stored.h). */
static int look_up(int64_t *bytes, const char *path, const char *sha256, pio_err *err)
{
	struct stat st;
	pio_stored *object = NULL;
	if (stat(path, &st) == 0) {
		*bytes = (int64_t)st.st_size;
		return S_ISREG(st.st_mode) ? 0 : pio_fail(err, PIO_EINVAL, "%s: not a regular file", path);
	}
	if (errno != ENOENT)
		return pio_fail_errno(err, errno, "%s: cannot be read", path);
	int rc = sha256 ? pio_stored_open(&object, path, err) : -PIO_ENOTFOUND;
	if (rc)
		return rc == -PIO_ENOTFOUND ? pio_fail(err, PIO_ENOTFOUND, "%s: no such file", path) : rc;
	*bytes = pio_stored_bytes(object);
	pio_stored_close(&object);
	return 0;
}

int pio_bundle_add_file(pio_bundle *bundle, const char *path, const char *source_path,
                        const char *sha256, int64_t size_bytes, pio_err *err)
{
	pio_bundle_item *item;
	int64_t bytes = 0;
	if (sha256 && !pio_hex_valid(sha256, PIO_SHA256_HEX))
		return pio_fail(err, PIO_EINVAL, "digest \"%.80s\" of %s: expected %d lower-case hexadecimal "
		                "digits", sha256, source_path, PIO_SHA256_HEX);
	int rc = look_up(&bytes, source_path, sha256, err);
	if (!rc)
		rc = add_item(&item, bundle, path, err);
	if (rc)
		return rc;
	item->source = pio_strdup(source_path);
	if (!item->source)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", path);
	item->size_bytes = size_bytes < 0 ? bytes : size_bytes;
	item->may_grow = !sha256;
	if (!sha256)
		return pio_sha256_file(source_path, item->sha256, &item->size_bytes, err);
	memcpy(item->sha256, sha256, PIO_SHA256_HEX + 1);
	return 0;
}

/* ---- the spool ---------------------------------------------------------------------- */

static int open_spool(pio_bundle *bundle, const char *dir, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s/export-XXXXXX", dir);
	int rc = pio_str_check(&path, err);
	if (!rc)
		bundle->spool = pio_fs_lift(open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	/* Network file systems have no files without a name: then it loses the one it has. */
	if (!rc && bundle->spool < 0) {
		bundle->spool = pio_fs_lift(mkostemp(path.data, O_CLOEXEC));
		rc = bundle->spool < 0 ? pio_fail_errno(err, errno, "%s: cannot be made", path.data)
		                       : pio_fs_unlink(path.data, err);
	}
	if (!rc)
		bundle->spool_path = pio_str_take(&path);
	pio_str_fini(&path);
	return rc;
}

int pio_bundle_spool(int *fd, int64_t *at, pio_bundle *bundle, const char *dir, pio_err *err)
{
	int rc = bundle->spool_path ? 0 : open_spool(bundle, dir, err);
	if (rc)
		return rc;
	*fd = bundle->spool;
	*at = lseek(*fd, 0, SEEK_END);
	return *at < 0 ? pio_fail_errno(err, errno, "%s: its end is not found", bundle->spool_path) : 0;
}

static int hash_spooled(pio_bundle_item *item, const pio_bundle *bundle, pio_err *err)
{
	pio_sha256 *hash;
	int rc = pio_sha256_new(&hash, err);
	if (rc)
		return rc;
	char *block = pio_alloc(PIO_BELT_BLOCK_BYTES);
	rc = block ? 0 : pio_fail(err, PIO_ENOMEM, "%s: out of memory", item->path);
	for (int64_t done = 0; done < item->size_bytes && !rc;) {
		int64_t left = item->size_bytes - done;
		size_t n = left < PIO_BELT_BLOCK_BYTES ? (size_t)left : PIO_BELT_BLOCK_BYTES;
		rc = pio_fs_pread_all(bundle->spool, block, n, item->spool_at + done, bundle->spool_path, err);
		if (!rc)
			rc = pio_sha256_update(hash, block, n, err);
		done += (int64_t)n;
	}
	if (!rc)
		rc = pio_sha256_finish(hash, item->sha256, err);
	pio_free(block);
	pio_sha256_free(hash);
	return rc;
}

int pio_bundle_add_spooled(pio_bundle *bundle, const char *path, int64_t at, int64_t size_bytes,
                           pio_err *err)
{
	pio_bundle_item *item;
	struct stat st;
	if (bundle->spool < 0 || fstat(bundle->spool, &st) || at < 0 || size_bytes > st.st_size - at)
		return pio_fail(err, PIO_EINVAL, "%s: these bytes are not in the spool", path);
	int rc = add_item(&item, bundle, path, err);
	if (rc)
		return rc;
	item->spool_at = at;
	item->size_bytes = size_bytes < 0 ? (int64_t)st.st_size - at : size_bytes;
	return hash_spooled(item, bundle, err);
}

const char *pio_bundle_newest(const pio_bundle *bundle, int64_t *size_bytes)
{
	const pio_bundle_item *item = &bundle->items[bundle->count - 1];
	*size_bytes = item->size_bytes;
	return item->sha256;
}

/* ---- the order -------------------------------------------------------------------------- */

static int compare_items(const void *left, const void *right)
{
	return strcmp(((const pio_bundle_item *)left)->path, ((const pio_bundle_item *)right)->path);
}

int pio_bundle_sort(pio_bundle *bundle, pio_err *err)
{
	char prefix[PIO_BAG_PATH_BYTES_MAX + 8];
	if (!bundle->count)
		return pio_fail(err, PIO_EINVAL, "%s: a bundle without files", bundle->out_path);
	qsort(bundle->items, bundle->count, sizeof *bundle->items, compare_items);
	for (size_t i = 0; i < bundle->count; i++) {
		const char *path = bundle->items[i].path;
		if (i && !strcmp(bundle->items[i - 1].path, path))
			return pio_fail(err, PIO_EEXIST, "%s is in the bundle twice", path);
		for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
			size_t len = (size_t)(slash - path);
			memcpy(prefix, path, len);
			prefix[len] = 0;
			pio_bundle_item key = { .path = prefix };
			if (bsearch(&key, bundle->items, bundle->count, sizeof key, compare_items))
				return pio_fail(err, PIO_EEXIST, "%s is in the bundle as a file and as a directory",
				                prefix);
		}
	}
	return 0;
}
