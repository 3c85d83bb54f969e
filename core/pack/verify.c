/* Verification reads the tar once, from a pipe's point of view: every entry is
 * judged when it arrives, against the manifests as soon as those are known,
 * and what only the end can tell (missing files, Payload-Oxum) at the end.
 * Nothing is extracted. What could harm a careless extractor (absolute paths,
 * "..", links, devices, holes) stops the reading at once; wrong bytes are
 * reported one by one. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/mem.h"
#include "base/str.h"
#include "pack/bag.h"
#include "pack/belt.h"
#include "pack/bundle.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define TAG_BYTES_MAX (256 << 20)

enum tag { DECLARATION, INFO, MANIFEST, TAGMANIFEST, TAGS };
static const char *const tag_names[TAGS] = { "bagit.txt", "bag-info.txt", "manifest-sha256.txt",
	"tagmanifest-sha256.txt" };

struct seen {
	char *path;             /* relative to the bag */
	char sha256[PIO_SHA256_HEX + 1];
	bool is_dir, judged;
};

struct reader {
	const char *path;
	int fd;
	struct archive *archive;
	pio_sha256 *inner;
	pio_belt *belt;             /* hashes the whole file beside the reading */
	pio_sha256 *outer;          /* of the belt's thread while it runs */
	int64_t bytes_read, bytes_total;
	int64_t last_nonzero;       /* offset behind the last byte that is not 0 */
	pio_err *err;               /* where the read callback reports */
	int read_rc;
	struct seen *seen;
	size_t count, capacity;
	pio_str tags[TAGS];
	bool have[TAGS];
	pio_bag_manifest manifests[TAGS];   /* of MANIFEST and TAGMANIFEST */
	pio_bundle_result *result;
	pio_bundle_report *report;
	void *context;
	pio_err first;              /* the first finding */
};

static void finding(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void finding(struct reader *r, const char *format, ...)
{
	char text[PIO_ERR_MESSAGE_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (!r->result->bad++)
		pio_fail(&r->first, PIO_ECORRUPT, "%s: %s", r->path, text);
	if (r->report)
		r->report(r->context, text, r->bytes_read, r->bytes_total);
}

static int hash_block(void *context, const void *bytes, size_t size_bytes, pio_err *err)
{
	struct reader *r = context;
	return pio_sha256_update(r->outer, bytes, size_bytes, err);
}

static la_ssize_t read_block(struct archive *archive, void *context, const void **bytes)
{
	struct reader *r = context;
	const char *block = *bytes = pio_belt_block(r->belt);
	ssize_t n;
	do
		n = read(r->fd, (void *)block, PIO_BELT_BLOCK_BYTES);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		r->read_rc = pio_fail_errno(r->err, errno, "%s: cannot be read", r->path);
	else
		r->read_rc = pio_belt_check(r->belt, r->err);
	if (r->read_rc) {
		archive_set_error(archive, EIO, "%s", "cannot be read");
		return -1;
	}
	if (n > 0)
		pio_belt_put(r->belt, (size_t)n);
	for (ssize_t i = n; i > 0; i--) {
		if (block[i - 1]) {
			r->last_nonzero = r->bytes_read + i;
			break;
		}
	}
	r->bytes_read += n;
	if (r->report)
		r->report(r->context, NULL, r->bytes_read, r->bytes_total);
	return n;
}

static int archive_failed(struct reader *r, const char *entry, pio_err *err)
{
	const char *why = archive_error_string(r->archive);
	if (r->read_rc)
		return r->read_rc;
	return pio_fail(err, PIO_ECORRUPT, "%s: %s%s%s: cut short or no tar archive", r->path,
	                entry ? entry : "", entry ? ": " : "", why ? why : "unreadable");
}

/* The path inside the bag, "" for the bag itself; the first entry names it. */
static int inner_path(const char **inner, struct reader *r, struct archive_entry *entry,
                      pio_err *err)
{
	pio_bundle_result *result = r->result;
	const char *path = archive_entry_pathname(entry);
	if (!path || !*path)
		return pio_fail(err, PIO_ECORRUPT, "%s: an entry without a readable name", r->path);
	mode_t type = archive_entry_filetype(entry);
	if ((type != AE_IFREG && type != AE_IFDIR) || archive_entry_hardlink(entry) ||
	    archive_entry_symlink(entry))
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.200s\" is a link or device, expected only "
		                "files and directories", r->path, path);
	size_t len = strcspn(path, "/");
	if (!result->name[0] && len <= PIO_BUNDLE_NAME_BYTES_MAX) {
		memcpy(result->name, path, len);
		result->name[len] = 0;
		if (!pio_bag_name_valid(result->name))
			result->name[0] = 0;
	}
	if (!result->name[0] || strncmp(path, result->name, len) || result->name[len])
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.200s\" is not in the bag's directory %s",
		                r->path, path, result->name[0] ? result->name : "NAME/");
	*inner = path + len + (path[len] == '/');
	return 0;
}

static int remember(struct reader *r, const char *path, bool is_dir, pio_err *err)
{
	int rc = pio_grow(&r->seen, &r->capacity, r->count, "entries of a bundle", err);
	if (rc)
		return rc;
	struct seen *seen = &r->seen[r->count];
	*seen = (struct seen){ .path = pio_strdup(path), .is_dir = is_dir };
	if (!seen->path)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", r->path);
	r->count++;
	size_t len = strlen(seen->path);
	if (is_dir && len && seen->path[len - 1] == '/')
		seen->path[len - 1] = 0;
	const char *problem = pio_bag_path_problem(seen->path);
	if (problem)
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.200s\" %s", r->path, path, problem);
	return 0;
}

static bool is_payload(const char *path)
{
	return !strncmp(path, "data/", 5);
}

static void judge(struct reader *r, struct seen *seen, enum tag which)
{
	const pio_bag_line *line = pio_bag_manifest_find(&r->manifests[which], seen->path);
	seen->judged = true;
	if (!line)
		finding(r, "%s: not listed in %s", seen->path, tag_names[which]);
	else if (strcmp(line->sha256, seen->sha256))
		finding(r, "%s: SHA-256 is %s, %s says %s", seen->path, seen->sha256, tag_names[which],
		        line->sha256);
}

static int read_data(struct reader *r, struct seen *seen, pio_str *keep, pio_err *err)
{
	int rc = 0;
	const void *bytes;
	size_t size_bytes;
	la_int64_t offset, at = 0;
	int status;
	while ((status = archive_read_data_block(r->archive, &bytes, &size_bytes, &offset)) ==
	       ARCHIVE_OK && !rc) {
		if (offset != at)
			return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.200s\" has holes, expected plain bytes",
			                r->path, seen->path);
		at += (la_int64_t)size_bytes;
		rc = pio_sha256_update(r->inner, bytes, size_bytes, err);
		if (!rc && keep && keep->len + size_bytes > TAG_BYTES_MAX)
			rc = pio_fail(err, PIO_ECORRUPT, "%s: %s is larger than %d MiB", r->path, seen->path,
			              TAG_BYTES_MAX >> 20);
		if (!rc && keep) {
			pio_str_append(keep, bytes, size_bytes);
			rc = pio_str_check(keep, err);
		}
	}
	if (!rc && status != ARCHIVE_EOF)
		rc = archive_failed(r, seen->path, err);
	if (!rc && is_payload(seen->path)) {
		r->result->files++;
		r->result->payload_bytes += at;
	}
	return rc ? rc : pio_sha256_finish(r->inner, seen->sha256, err);
}

static int read_file(struct reader *r, struct seen *seen, pio_err *err)
{
	int tag = 0;
	while (tag < TAGS && strcmp(seen->path, tag_names[tag]))
		tag++;
	/* Other paths that come twice are found at the end; two texts must not mix here. */
	if (tag < TAGS && r->have[tag])
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%s\" is there twice", r->path, seen->path);
	int rc = read_data(r, seen, tag < TAGS ? &r->tags[tag] : NULL, err);
	if (rc)
		return rc;
	if (tag == MANIFEST || tag == TAGMANIFEST) {
		rc = pio_bag_manifest_parse(&r->manifests[tag], r->tags[tag].data, r->tags[tag].len,
		                            tag_names[tag], err);
		if (rc)
			pio_err_context(err, "%s", r->path);
	}
	if (tag < TAGS)
		r->have[tag] = true;
	if (!rc && is_payload(seen->path) && r->have[MANIFEST])
		judge(r, seen, MANIFEST);
	return rc;
}

static int read_entries(struct reader *r, pio_err *err)
{
	struct archive_entry *entry;
	const char *path = NULL;
	int rc = 0, status = ARCHIVE_OK;
	while (!rc && (status = archive_read_next_header(r->archive, &entry)) == ARCHIVE_OK) {
		rc = inner_path(&path, r, entry, err);
		if (rc || !*path)
			continue;
		bool is_dir = archive_entry_filetype(entry) == AE_IFDIR;
		rc = remember(r, path, is_dir, err);
		if (!rc && !is_dir)
			rc = read_file(r, &r->seen[r->count - 1], err);
	}
	if (!rc && status != ARCHIVE_EOF)
		rc = archive_failed(r, NULL, err);
	return rc;
}

/* The rest of the file must be the zeros of the tar's end. */
static int read_rest(struct reader *r, pio_err *err)
{
	const void *bytes;
	int64_t end = archive_read_header_position(r->archive);
	la_ssize_t n;
	while ((n = read_block(r->archive, r, &bytes)) > 0)
		;
	if (n < 0)
		return r->read_rc;
	if (r->last_nonzero > end)
		return pio_fail(err, PIO_ECORRUPT, "%s: bytes after the end of the archive (at %lld)", r->path,
		                (long long)r->last_nonzero - 1);
	if (r->bytes_read < end + 1024)
		return pio_fail(err, PIO_ECORRUPT, "%s: cut short: the end of the archive is missing", r->path);
	return 0;
}

static int compare_seen(const void *left, const void *right)
{
	return strcmp(((const struct seen *)left)->path, ((const struct seen *)right)->path);
}

static void find_missing(struct reader *r, enum tag which)
{
	const pio_bag_manifest *manifest = &r->manifests[which];
	for (size_t i = 0; i < manifest->count; i++) {
		struct seen key = { .path = manifest->lines[i].path };
		const struct seen *found = r->count ? bsearch(&key, r->seen, r->count, sizeof key,
		                                              compare_seen) : NULL;
		if (!found || found->is_dir)
			finding(r, "%s: listed in %s, but not in the archive", key.path, tag_names[which]);
		if (is_payload(key.path) != (which == MANIFEST))
			finding(r, "%s: listed in %s, where it does not belong", key.path, tag_names[which]);
	}
}

/* What only the end can tell. */
static int judge_whole(struct reader *r, pio_err *err)
{
	int64_t bytes = -1, files = -1;
	for (int i = 0; i < TAGS; i++) {
		if (!r->have[i])
			return pio_fail(err, PIO_ECORRUPT, "%s: %s is missing: not a bundle", r->path, tag_names[i]);
	}
	qsort(r->seen, r->count, sizeof *r->seen, compare_seen);
	for (size_t i = 0; i < r->count; i++) {
		struct seen *seen = &r->seen[i];
		if (i && !strcmp(r->seen[i - 1].path, seen->path))
			return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%s\" is there twice", r->path, seen->path);
		if (!seen->is_dir && !seen->judged && strcmp(seen->path, tag_names[TAGMANIFEST]))
			judge(r, seen, is_payload(seen->path) ? MANIFEST : TAGMANIFEST);
	}
	find_missing(r, MANIFEST);
	find_missing(r, TAGMANIFEST);
	if (r->tags[DECLARATION].len != strlen(PIO_BAG_DECLARATION) ||
	    strcmp(r->tags[DECLARATION].data, PIO_BAG_DECLARATION))
		finding(r, "bagit.txt: expected BagIt-Version 1.0 and UTF-8");
	if (!pio_bag_oxum(r->tags[INFO].data, &bytes, &files))
		finding(r, "bag-info.txt: no Payload-Oxum");
	else if (bytes != r->result->payload_bytes || files != r->result->files)
		finding(r, "bag-info.txt: Payload-Oxum says %lld bytes in %lld files, there are %lld in %lld",
		        (long long)bytes, (long long)files, (long long)r->result->payload_bytes,
		        (long long)r->result->files);
	return 0;
}

static int reader_open(struct reader *r, pio_err *err)
{
	struct stat st;
	int rc = pio_fs_open(&r->fd, r->path, O_RDONLY, 0, err);
	if (rc)
		return rc;
	if (!fstat(r->fd, &st) && S_ISDIR(st.st_mode))
		return pio_fail(err, PIO_EINVAL, "%s: a directory, expected a bundle (.tar)", r->path);
	r->bytes_total = S_ISREG(st.st_mode) ? st.st_size : 0;
	rc = pio_sha256_new(&r->outer, err);
	if (!rc)
		rc = pio_sha256_new(&r->inner, err);
	if (!rc)
		rc = pio_belt_new(&r->belt, hash_block, r, err);
	if (rc)
		return rc;
	r->archive = archive_read_new();
	if (!r->archive)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", r->path);
	if (archive_read_support_format_tar(r->archive) != ARCHIVE_OK ||
	    archive_read_open(r->archive, r, NULL, read_block, NULL) != ARCHIVE_OK)
		return archive_failed(r, NULL, err);
	return 0;
}

static void reader_close(struct reader *r)
{
	archive_read_free(r->archive);
	pio_belt_free(r->belt);
	pio_fs_close(&r->fd, r->path, NULL);
	for (size_t i = 0; i < r->count; i++)
		pio_free(r->seen[i].path);
	pio_free(r->seen);
	for (int i = 0; i < TAGS; i++) {
		pio_str_fini(&r->tags[i]);
		pio_bag_manifest_fini(&r->manifests[i]);
	}
	pio_sha256_free(r->outer);
	pio_sha256_free(r->inner);
}

int pio_bundle_verify(pio_bundle_result *result, const char *path, pio_bundle_report *report,
                      void *context, pio_err *err)
{
	struct reader r = { .path = path, .fd = -1, .err = err, .result = result, .report = report,
		.context = context };
	*result = (pio_bundle_result){ .files = 0 };
	for (int i = 0; i < TAGS; i++)
		r.tags[i] = (pio_str)PIO_STR_INIT;
	int rc = reader_open(&r, err);
	if (!rc)
		rc = read_entries(&r, err);
	if (!rc)
		rc = read_rest(&r, err);
	if (!rc)
		rc = judge_whole(&r, err);
	if (!rc)
		rc = pio_belt_wait(r.belt, err);
	if (!rc)
		rc = pio_sha256_finish(r.outer, result->sha256, err);
	result->size_bytes = r.bytes_read;
	if (!rc && result->bad) {
		if (err)
			*err = r.first;
		rc = -PIO_ECORRUPT;
	}
	reader_close(&r);
	return rc;
}
