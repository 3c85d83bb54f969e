/* Definitions. Payload: the files under data/. Tag files: the five texts that
 * describe it. Entry: one header of the tar and its bytes.
 *
 * Invariants:
 * 1. Every byte of the tar follows from name, time and payload alone: no clock,
 *    user, locale, umask or directory order is asked.
 * 2. OUT is absent, or what it was, or whole and synced: bytes go to OUT.part,
 *    which is renamed after its fdatasync.
 * 3. What the manifest says was true of the bytes that were written: each file
 *    is hashed again on its way into the tar.
 *
 * Two threads: the caller's reads, hashes each file and makes the tar of it;
 * the belt's hashes the tar and writes it. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/mem.h"
#include "pack/bag.h"
#include "pack/belt.h"
#include "pack/bundle_parts.h"
#include "sys/fs.h"
#include "sys/stored.h"

#define BLOCK_BYTES PIO_BELT_BLOCK_BYTES
#define HINT_BYTES (16 << 20)
#define ZSTD_THREADS_MAX 8

struct writer {
	const pio_bundle *bundle;
	const char *name;       /* of what is written */
	bool is_stream;
	struct archive *archive;
	pio_sha256 *inner;      /* of the file that is being copied */
	char *block;
	int64_t bytes_done, bytes_total;
	pio_bundle_report *report;
	void *context;
	pio_belt *belt;         /* its thread alone uses the four below while it runs */
	int fd;                 /* of OUT.part, locked; or of the stream */
	pio_sha256 *outer;      /* of the tar */
	int64_t bytes_out, bytes_hinted;
	int64_t left_bytes;     /* of OUT.part when it was opened */
	int64_t resumed_bytes;  /* the first so many of them are what is wanted */
	bool resuming;          /* all were, so far */
	char *left;             /* a block of them */
};

/* True if the block is there already. The first that is not ends what was left. */
static int find_left(bool *found, struct writer *w, const void *bytes, size_t size_bytes, pio_err *err)
{
	const char *path = w->bundle->part_path;
	*found = false;
	if (!w->resuming)
		return 0;
	if (w->bytes_out + (int64_t)size_bytes <= w->left_bytes) {
		int rc = pio_fs_pread_all(w->fd, w->left, size_bytes, w->bytes_out, path, err);
		if (rc)
			return rc;
		*found = !memcmp(w->left, bytes, size_bytes);
	}
	if (*found) {
		w->resumed_bytes += (int64_t)size_bytes;
		return 0;
	}
	w->resuming = false;
	w->bytes_hinted = w->bytes_out;
	if (ftruncate(w->fd, w->bytes_out) || lseek(w->fd, w->bytes_out, SEEK_SET) < 0)
		return pio_fail_errno(err, errno, "%s: cannot be cut", path);
	return 0;
}

/* On the belt's thread: the tar's own digest and the writing. */
static int take_block(void *context, const void *bytes, size_t size_bytes, pio_err *err)
{
	struct writer *w = context;
	bool found;
	int rc = find_left(&found, w, bytes, size_bytes, err);
	if (!rc && !found)
		rc = pio_fs_write_all(w->fd, bytes, size_bytes, w->name, err);
	if (!rc)
		rc = pio_sha256_update(w->outer, bytes, size_bytes, err);
	w->bytes_out += (int64_t)size_bytes;
	/* Only a hint: the disk begins to write while the next blocks are hashed. */
	if (!rc && !w->is_stream && !w->resuming && w->bytes_out - w->bytes_hinted >= HINT_BYTES) {
		sync_file_range(w->fd, w->bytes_hinted, w->bytes_out - w->bytes_hinted,
		                SYNC_FILE_RANGE_WRITE);
		w->bytes_hinted = w->bytes_out;
	}
	return rc;
}

/* Never fails towards libarchive: 3.6.2 leaks the buffers of an archive whose
 * write failed. The belt keeps the failure, and drops everything after it. */
static la_ssize_t write_block(struct archive *archive, void *context, const void *bytes,
                              size_t size_bytes)
{
	struct writer *w = context;
	(void)archive;
	for (size_t done = 0; w->belt && done < size_bytes;) {
		size_t n = size_bytes - done < PIO_BELT_BLOCK_BYTES ? size_bytes - done
		                                                    : PIO_BELT_BLOCK_BYTES;
		memcpy(pio_belt_block(w->belt), (const char *)bytes + done, n);
		pio_belt_put(w->belt, n);
		done += n;
	}
	return (la_ssize_t)size_bytes;
}

/* What the belt met, else libarchive's own failure, else 0. */
static int check(const struct writer *w, bool ok, const char *path, pio_err *err)
{
	int rc = pio_belt_check(w->belt, err);
	if (rc || ok)
		return rc;
	const char *why = w->archive ? archive_error_string(w->archive) : NULL;
	return pio_fail(err, PIO_EIO, "%s: %s: %s", w->bundle->out_path, path,
	                why ? why : "libarchive failed");
}

static int put_header(struct writer *w, const char *path, bool is_dir, int64_t size_bytes,
                      pio_err *err)
{
	pio_str full = PIO_STR_INIT;
	struct archive_entry *entry = archive_entry_new();
	pio_str_printf(&full, "%s%s%s", w->bundle->name, *path ? "/" : "", path);
	int rc = pio_str_check(&full, err);
	if (!entry && !rc)
		rc = pio_fail(err, PIO_ENOMEM, "%s: out of memory", path);
	if (rc)
		goto out;
	archive_entry_copy_pathname(entry, full.data);
	archive_entry_set_filetype(entry, is_dir ? AE_IFDIR : AE_IFREG);
	archive_entry_set_perm(entry, is_dir ? 0755 : 0444);
	archive_entry_set_uid(entry, 0);
	archive_entry_set_gid(entry, 0);
	archive_entry_set_mtime(entry, (time_t)w->bundle->mtime_s, 0);
	archive_entry_set_size(entry, size_bytes);
	rc = check(w, archive_write_header(w->archive, entry) == ARCHIVE_OK, path, err);
out:
	archive_entry_free(entry);
	pio_str_fini(&full);
	return rc;
}

static int put_data(struct writer *w, const char *path, const void *bytes, size_t size_bytes,
                    pio_err *err)
{
	bool ok = !size_bytes ||
	          archive_write_data(w->archive, bytes, size_bytes) == (la_ssize_t)size_bytes;
	return check(w, ok, path, err);
}

static int put_text(struct writer *w, const char *path, const char *text, size_t size_bytes,
                    pio_err *err)
{
	int rc = put_header(w, path, false, (int64_t)size_bytes, err);
	return rc ? rc : put_data(w, path, text, size_bytes, err);
}

/* Bytes of the item from `at` on, at most a block. `file` NULL: they are in the spool. */
static int read_block(size_t *n, struct writer *w, const pio_bundle_item *item, pio_stored *file, int64_t at,
                      pio_err *err)
{
	int64_t left = item->size_bytes - at;
	*n = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
	if (file)
		return pio_stored_read(file, w->block, *n, at, err);
	return pio_fs_pread_all(w->bundle->spool, w->block, *n, item->spool_at + at, w->bundle->spool_path, err);
}

static int put_blocks(struct writer *w, const pio_bundle_item *item, pio_stored *file, pio_err *err)
{
	int rc = 0;
	for (int64_t at = 0; !rc && at < item->size_bytes;) {
		size_t n;
		rc = read_block(&n, w, item, file, at, err);
		if (!rc)
			rc = pio_sha256_update(w->inner, w->block, n, err);
		if (!rc)
			rc = put_data(w, item->path, w->block, n, err);
		if (rc)
			return rc;
		at += (int64_t)n;
		w->bytes_done += (int64_t)n;
		if (w->report)
			w->report(w->context, NULL, w->bytes_done, w->bytes_total);
	}
	return rc;
}

/* A log may have grown; anything else has the bytes on record, or is another file. */
static int check_size(const pio_bundle_item *item, const pio_stored *file, pio_err *err)
{
	int64_t bytes = pio_stored_bytes(file);
	if (bytes > item->size_bytes && !item->may_grow)
		return pio_fail(err, PIO_ECORRUPT, "%s: longer than the %lld bytes on record", item->source,
		                (long long)item->size_bytes);
	if (bytes < item->size_bytes)
		return pio_fail(err, PIO_ECORRUPT, "%s: %lld bytes, expected %lld", item->source, (long long)bytes,
		                (long long)item->size_bytes);
	return 0;
}

/* Read, hash and write a file; what is not as announced stops the export. */
static int put_source(struct writer *w, const pio_bundle_item *item, pio_err *err)
{
	char sha256[PIO_SHA256_HEX + 1];
	pio_stored *file = NULL;
	int rc = item->source ? pio_stored_open(&file, item->source, err) : 0;
	if (!rc && file)
		rc = check_size(item, file, err);
	if (!rc)
		rc = put_blocks(w, item, file, err);
	pio_stored_close(&file);
	if (!rc)
		rc = pio_sha256_finish(w->inner, sha256, err);
	if (!rc && strcmp(sha256, item->sha256))
		rc = pio_fail(err, PIO_ECORRUPT, "%s: its SHA-256 is %s, on record is %s",
		              item->source ? item->source : w->bundle->spool_path, sha256, item->sha256);
	return rc;
}

/* Headers of the directories of `path` that `before` (the previous file) has not. */
static int put_dirs(struct writer *w, const char *before, const char *path, pio_err *err)
{
	char dir[PIO_BAG_PATH_BYTES_MAX + 8];
	int rc = 0;
	for (const char *slash = strchr(path, '/'); slash && !rc; slash = strchr(slash + 1, '/')) {
		size_t len = (size_t)(slash - path) + 1;
		if (!strncmp(before, path, len))
			continue;
		memcpy(dir, path, len);
		dir[len] = 0;
		rc = put_header(w, dir, true, 0, err);
	}
	return rc;
}

static int put_payload(struct writer *w, pio_err *err)
{
	int rc = 0;
	for (size_t i = 0; i < w->bundle->count && !rc; i++) {
		const pio_bundle_item *item = &w->bundle->items[i];
		rc = put_dirs(w, i ? item[-1].path : "", item->path, err);
		if (!rc)
			rc = put_header(w, item->path, false, item->size_bytes, err);
		if (rc)
			break;
		if (item->source || item->spool_at >= 0) {
			rc = put_source(w, item, err);
		} else {
			rc = put_data(w, item->path, item->bytes, (size_t)item->size_bytes, err);
			w->bytes_done += item->size_bytes;
		}
	}
	return rc;
}

/* ---- the tag files -------------------------------------------------------------- */

static void put_info(pio_str *info, const pio_bundle *bundle, int64_t payload_bytes)
{
	char day[16] = "";
	time_t time_s = (time_t)bundle->mtime_s;
	struct tm utc;
	if (gmtime_r(&time_s, &utc))
		strftime(day, sizeof day, "%Y-%m-%d", &utc);
	pio_str_printf(info, "Bag-Software-Agent: pioche\nBagging-Date: %s\nExternal-Identifier: %s\n",
	               day, bundle->name);
	pio_str_append(info, bundle->info.data, bundle->info.len);
	pio_str_printf(info, "Payload-Oxum: %lld.%zu\n", (long long)payload_bytes, bundle->count);
}

static void put_instructions(pio_str *text, const pio_bundle *bundle)
{
	pio_str_printf(text, "How to verify this archive with standard tools alone:\n\n"
	               "  tar xf ARCHIVE.tar && cd %s &&\n"
	               "  sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt\n\n"
	               "Every line must end with OK. `shasum -a 256 -c` does the same; for very large\n"
	               "files `openssl dgst -sha256 FILE` is faster. The layout is BagIt 1.0 (RFC 8493):\n"
	               "the payload is in data/, weights are safetensors, tables are CSV.\n",
	               bundle->name);
}

enum tag { DECLARATION, INFO, MANIFEST, TAGMANIFEST, INSTRUCTIONS, TAGS };

static int put_tags(struct writer *w, pio_err *err)
{
	static const char *const names[TAGS] = { "bagit.txt", "bag-info.txt", "manifest-sha256.txt",
		"tagmanifest-sha256.txt", "VERIFY.txt" };
	/* The tagmanifest's lines sorted by bytes, as the payload's are. */
	static const enum tag listed[] = { INSTRUCTIONS, INFO, DECLARATION, MANIFEST };
	pio_str texts[TAGS];
	char sha256[PIO_SHA256_HEX + 1];
	int rc = 0;
	for (int i = 0; i < TAGS; i++)
		texts[i] = (pio_str)PIO_STR_INIT;
	pio_str_puts(&texts[DECLARATION], PIO_BAG_DECLARATION);
	put_info(&texts[INFO], w->bundle, w->bytes_total);
	put_instructions(&texts[INSTRUCTIONS], w->bundle);
	for (size_t i = 0; i < w->bundle->count; i++)
		pio_bag_put_line(&texts[MANIFEST], w->bundle->items[i].sha256, w->bundle->items[i].path);
	for (size_t i = 0; i < sizeof listed / sizeof *listed && !rc; i++) {
		const pio_str *text = &texts[listed[i]];
		rc = pio_str_check(text, err);
		if (!rc)
			rc = pio_sha256_bytes(text->data, text->len, sha256, err);
		if (!rc)
			pio_bag_put_line(&texts[TAGMANIFEST], sha256, names[listed[i]]);
	}
	for (int i = 0; i < TAGS && !rc; i++) {
		rc = pio_str_check(&texts[i], err);
		if (!rc)
			rc = put_text(w, names[i], texts[i].data, texts[i].len, err);
	}
	for (int i = 0; i < TAGS; i++)
		pio_str_fini(&texts[i]);
	return rc;
}

/* ---- the file -------------------------------------------------------------------- */

/* However many threads there are, the bytes are the same; without any they differ. */
static bool add_filter(struct writer *w)
{
	char threads[24];
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (!w->bundle->zstd)
		return archive_write_add_filter_none(w->archive) == ARCHIVE_OK;
	snprintf(threads, sizeof threads, "%ld", cores < 1 ? 1 : cores > ZSTD_THREADS_MAX ? ZSTD_THREADS_MAX
	                                                                                : cores);
	return archive_write_add_filter_zstd(w->archive) == ARCHIVE_OK &&
	       archive_write_set_filter_option(w->archive, "zstd", "threads", threads) == ARCHIVE_OK;
}

static int start_archive(struct writer *w, pio_err *err)
{
	w->archive = archive_write_new();
	if (!w->archive)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", w->bundle->out_path);
	bool ok = archive_write_set_format_pax_restricted(w->archive) == ARCHIVE_OK &&
	          add_filter(w) &&
	          archive_write_set_bytes_per_block(w->archive, BLOCK_BYTES) == ARCHIVE_OK &&
	          archive_write_set_bytes_in_last_block(w->archive, 1) == ARCHIVE_OK &&
	          archive_write_open(w->archive, w, NULL, write_block, NULL) == ARCHIVE_OK;
	return check(w, ok, "tar", err);
}

/* The lock keeps a second export of the same name out; a .part without a
 * process is what an interrupted export left (find_left). */
static int open_part(struct writer *w, pio_err *err)
{
	const char *path = w->bundle->part_path;
	struct stat ours, named;
	int rc = pio_fs_lock(&w->fd, path, err);
	if (rc)
		return rc;
	bool known = !fstat(w->fd, &ours) && !lstat(path, &named);
	/* Somebody who may write to the directory could have it lead to another file. */
	if (known && S_ISLNK(named.st_mode))
		return pio_fail(err, PIO_EINVAL, "%s: a symbolic link, expected a regular file or nothing",
		                path);
	if (!known || ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
		return pio_fail(err, PIO_EBUSY, "%s: another process has just written it", path);
	if (!S_ISREG(ours.st_mode))
		return pio_fail(err, PIO_EINVAL, "%s: not a regular file", path);
	w->left_bytes = ours.st_size;
	w->resuming = w->left_bytes > 0;
	if (fchmod(w->fd, 0644))
		return pio_fail_errno(err, errno, "%s: its mode cannot be set", path);
	return 0;
}

static int publish(struct writer *w, pio_err *err)
{
	const pio_bundle *bundle = w->bundle;
	const char *slash = strrchr(bundle->out_path, '/');
	pio_str dir = PIO_STR_INIT;
	if (slash)
		pio_str_append(&dir, bundle->out_path, (size_t)(slash - bundle->out_path) +
		               (slash == bundle->out_path));
	else
		pio_str_putc(&dir, '.');
	int rc = pio_str_check(&dir, err);
	if (!rc)
		rc = pio_fs_datasync(w->fd, bundle->part_path, err);
	if (!rc)
		rc = pio_fs_rename(bundle->part_path, bundle->out_path, err);
	if (!rc)
		rc = pio_fs_sync_dir(dir.data, err);
	pio_str_fini(&dir);
	return rc;
}

static int write_all(struct writer *w, pio_bundle_result *result, pio_err *err)
{
	int rc = pio_sha256_new(&w->outer, err);
	if (!rc)
		rc = pio_sha256_new(&w->inner, err);
	if (!rc)
		rc = pio_belt_new(&w->belt, take_block, w, err);
	if (!rc)
		rc = start_archive(w, err);
	if (!rc)
		rc = put_header(w, "", true, 0, err);
	if (!rc)
		rc = put_tags(w, err);
	if (!rc)
		rc = put_payload(w, err);
	if (!rc)
		rc = check(w, archive_write_close(w->archive) == ARCHIVE_OK, "end", err);
	if (!rc)
		rc = pio_belt_wait(w->belt, err);
	if (!rc)
		rc = pio_sha256_finish(w->outer, result->sha256, err);
	return rc;
}

/* The end of what was left, where that was longer. */
static int cut_left(struct writer *w, pio_err *err)
{
	if (w->resuming && w->left_bytes > w->bytes_out && ftruncate(w->fd, w->bytes_out))
		return pio_fail_errno(err, errno, "%s: cannot be cut", w->name);
	return 0;
}

static int write_sorted(struct writer *w, pio_bundle_result *result, pio_err *err)
{
	const pio_bundle *bundle = w->bundle;
	*result = (pio_bundle_result){ .files = (int64_t)bundle->count };
	memcpy(result->name, bundle->name, strlen(bundle->name) + 1);
	for (size_t i = 0; i < bundle->count; i++)
		w->bytes_total += bundle->items[i].size_bytes;
	w->block = pio_alloc(BLOCK_BYTES);
	w->left = w->resuming ? pio_alloc(BLOCK_BYTES) : NULL;
	int rc = w->block && (w->left || !w->resuming) ? write_all(w, result, err)
	                                               : pio_fail(err, PIO_ENOMEM, "%s: out of memory", w->name);
	/* First, so that its bytes are none after a failure: freeing closes an
	 * unfinished archive, which writes on into nothing. */
	pio_belt_free(w->belt);
	w->belt = NULL;
	archive_write_free(w->archive);
	if (!rc)
		rc = cut_left(w, err);
	result->size_bytes = w->bytes_out;
	result->payload_bytes = w->bytes_total;
	result->left_bytes = w->left_bytes;
	result->resumed_bytes = w->resumed_bytes;
	pio_sha256_free(w->outer);
	pio_sha256_free(w->inner);
	pio_free(w->block);
	pio_free(w->left);
	return rc;
}

int pio_bundle_write(pio_bundle_result *result, pio_bundle *bundle, pio_bundle_report *report,
                     void *context, pio_err *err)
{
	struct writer w = { .bundle = bundle, .name = bundle->part_path, .fd = -1, .report = report,
		.context = context };
	int rc = pio_bundle_sort(bundle, err);
	if (rc)
		return rc;
	rc = open_part(&w, err);
	bool opened = !rc;
	if (!rc)
		rc = write_sorted(&w, result, err);
	if (!rc)
		rc = publish(&w, err);
	if (rc && opened)
		pio_fs_unlink(bundle->part_path, NULL);
	if (w.fd >= 0) {
		int closed = pio_fs_close(&w.fd, bundle->part_path, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	return rc;
}

int pio_bundle_stream(pio_bundle_result *result, pio_bundle *bundle, int fd, pio_bundle_report *report,
                      void *context, pio_err *err)
{
	struct writer w = { .bundle = bundle, .name = bundle->out_path, .is_stream = true, .fd = fd,
		.report = report, .context = context };
	int rc = pio_bundle_sort(bundle, err);
	return rc ? rc : write_sorted(&w, result, err);
}
