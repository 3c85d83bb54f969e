/* The tar is read once, from a pipe's point of view: every entry is looked at when
 * it arrives, and judged by verify.c. Nothing is extracted. What could harm a
 * careless extractor (absolute paths, "..", links, devices, holes), or would come
 * out larger than it was announced, stops the reading at once.
 *
 * Who visits a bundle gets its payload while it is read, and so before anybody
 * knows that all of it is good: what is made of it counts when the reading has
 * ended well. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <archive_entry.h>

#include "base/mem.h"
#include "pack/reader_parts.h"

#define TAG_BYTES_MAX (256 << 20)       /* of all files outside of data/ */
#define ENTRIES_MAX (4 << 20)
#define PATHS_BYTES_MAX (512 << 20)

/* ---- bytes --------------------------------------------------------------------------- */

/* The next bytes of the tar, which the gate let through. */
static int read_some(pio_bag_reader *r, const void **bytes, size_t *n, pio_err *err)
{
	int rc = pio_source_read(r->source, bytes, n, err);
	if (!rc)
		rc = pio_tar_gate_pass(&r->gate, *bytes, *n, err);
	if (!rc && r->report)
		r->report(r->context, NULL, pio_source_done(r->source), pio_source_total(r->source));
	return rc;
}

static la_ssize_t read_block(struct archive *archive, void *context, const void **bytes)
{
	pio_bag_reader *r = context;
	size_t n = 0;
	if (!r->read_rc)
		r->read_rc = read_some(r, bytes, &n, r->err);
	if (!r->read_rc)
		return (la_ssize_t)n;
	archive_set_error(archive, EIO, "%s", "cannot be read");
	return -1;
}

static int archive_failed(pio_bag_reader *r, const char *entry, pio_err *err)
{
	const char *why = archive_error_string(r->archive);
	if (r->read_rc)
		return r->read_rc;
	return pio_fail(err, PIO_ECORRUPT, "%s: %s%s%s: cut short or no tar archive", r->path,
	                entry ? entry : "", entry ? ": " : "", why ? why : "unreadable");
}

/* ---- entries ------------------------------------------------------------------------- */

/* The path inside the bag, "" for the bag itself; the first entry names it. */
static int inner_path(const char **inner, pio_bag_reader *r, struct archive_entry *entry,
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
	if (!**inner && type != AE_IFDIR)
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.200s\" is a file, expected the bag's directory",
		                r->path, path);
	return 0;
}

static int remember(pio_bag_reader *r, const char *path, bool is_dir, pio_err *err)
{
	int rc = pio_grow(&r->seen, &r->capacity, r->count, "entries of a bundle", err);
	if (rc)
		return rc;
	r->paths_bytes += (int64_t)strlen(path);
	if (r->count >= ENTRIES_MAX || r->paths_bytes > PATHS_BYTES_MAX)
		return pio_fail(err, PIO_ECORRUPT, "%s: more than %d entries, or %d MiB of their names", r->path,
		                ENTRIES_MAX, PATHS_BYTES_MAX >> 20);
	pio_bag_seen *seen = &r->seen[r->count];
	*seen = (pio_bag_seen){ .path = pio_strdup(path), .is_dir = is_dir };
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

/* ---- files ---------------------------------------------------------------------------- */

/* Before a byte of it is read: is there room for it in what was announced? */
static int admit(pio_bag_reader *r, const pio_bag_seen *seen, int64_t size_bytes, pio_err *err)
{
	int rc = 0;
	int64_t tag_bytes = 0, payload_bytes = 0;
	if (!pio_bag_is_payload(seen->path)) {
		if (__builtin_add_overflow(r->tag_bytes, size_bytes, &tag_bytes) || tag_bytes > TAG_BYTES_MAX)
			return pio_fail(err, PIO_ECORRUPT, "%s: %s: the files outside of data/ are larger than %d MiB",
			                r->path, seen->path, TAG_BYTES_MAX >> 20);
		r->tag_bytes = tag_bytes;
		return 0;
	}
	if (!r->in_payload)
		rc = pio_bag_judge_tags(r, err);
	r->in_payload = true;
	if (rc)
		return rc;
	bool overflow = __builtin_add_overflow(r->result->payload_bytes, size_bytes, &payload_bytes);
	if (overflow || (r->announced_bytes >= 0 && (payload_bytes > r->announced_bytes ||
	                                             r->result->files >= r->announced_files)))
		return pio_fail(err, PIO_ECORRUPT, "%s: %s: with its %lld bytes the payload is more than the %lld "
		                "bytes in %lld files that bag-info.txt announces", r->path, seen->path,
		                (long long)size_bytes, (long long)r->announced_bytes,
		                (long long)r->announced_files);
	if (!r->visit)
		return 0;
	const pio_bag_line *line = pio_bag_manifest_find(&r->manifests[PIO_BAG_MANIFEST], seen->path);
	if (!line)
		pio_bag_finding(r, "%s: not listed in %s", seen->path, pio_bag_tag_names[PIO_BAG_MANIFEST]);
	rc = pio_bag_stop(r, err);
	return rc ? rc : r->visit->file(r->visit->context, seen->path + 5, size_bytes, line->sha256, err);
}

/* A header that is wrong is a finding, as wrong bytes are. */
static int pass_weights(pio_bag_reader *r, const void *bytes, size_t size_bytes, pio_err *err)
{
	pio_err why = PIO_ERR_INIT;
	int rc = bytes ? pio_weights_pass(&r->weights, bytes, size_bytes, &why) : pio_weights_end(&r->weights, &why);
	if (rc == -PIO_ECORRUPT) {
		pio_bag_finding(r, "%s", why.message);
		r->is_weights = false;
		return pio_bag_stop(r, err);
	}
	return rc ? pio_fail(err, why.code, "%s", why.message) : 0;
}

static int take_bytes(pio_bag_reader *r, const pio_bag_seen *seen, const void *bytes, size_t size_bytes,
                      pio_str *keep, pio_err *err)
{
	int rc = pio_sha256_update(r->inner, bytes, size_bytes, err);
	if (!rc && keep) {
		pio_str_append(keep, bytes, size_bytes);
		rc = pio_str_check(keep, err);
	}
	if (!rc && r->is_weights && size_bytes)
		rc = pass_weights(r, bytes, size_bytes, err);
	if (!rc && r->visit && pio_bag_is_payload(seen->path))
		rc = r->visit->bytes(r->visit->context, bytes, size_bytes, err);
	return rc;
}

static int read_data(pio_bag_reader *r, pio_bag_seen *seen, int64_t file_bytes, pio_str *keep, pio_err *err)
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
		rc = take_bytes(r, seen, bytes, size_bytes, keep, err);
	}
	if (!rc && status != ARCHIVE_EOF)
		rc = archive_failed(r, seen->path, err);
	if (!rc && at != file_bytes)
		rc = pio_fail(err, PIO_ECORRUPT, "%s: entry \"%.200s\" has %lld bytes, its header says %lld", r->path,
		              seen->path, (long long)at, (long long)file_bytes);
	if (!rc && r->is_weights)
		rc = pass_weights(r, NULL, 0, err);
	if (!rc && pio_bag_is_payload(seen->path)) {
		r->result->files++;
		r->result->payload_bytes += at;
	}
	return rc ? rc : pio_sha256_finish(r->inner, seen->sha256, err);
}

static int take_tag(pio_bag_reader *r, int tag, pio_err *err)
{
	int rc = 0;
	if (tag == PIO_BAG_MANIFEST || tag == PIO_BAG_TAGMANIFEST) {
		rc = pio_bag_manifest_parse(&r->manifests[tag], r->tags[tag].data, r->tags[tag].len,
		                            pio_bag_tag_names[tag], err);
		if (rc)
			pio_err_context(err, "%s", r->path);
	}
	r->have[tag] = true;
	return rc;
}

static bool has_suffix(const char *path, const char *suffix)
{
	size_t len = strlen(path), n = strlen(suffix);
	return len >= n && !strcmp(path + len - n, suffix);
}

/* What is code, or was logged as a file, may be called as it likes. */
static bool is_weights(const char *path)
{
	return has_suffix(path, ".safetensors") && strncmp(path, "data/code/", strlen("data/code/")) &&
	       !strstr(path, "/run/media/");
}

static int read_file(pio_bag_reader *r, pio_bag_seen *seen, int64_t size_bytes, pio_err *err)
{
	int tag = 0;
	while (tag < PIO_BAG_TAGS && strcmp(seen->path, pio_bag_tag_names[tag]))
		tag++;
	/* Other paths that come twice are found at the end; two texts must not mix here. */
	if (tag < PIO_BAG_TAGS && r->have[tag])
		return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%s\" is there twice", r->path, seen->path);
	int rc = admit(r, seen, size_bytes, err);
	if (rc)
		return rc;
	bool payload = pio_bag_is_payload(seen->path);
	r->is_weights = payload && is_weights(seen->path);
	pio_weights_init(&r->weights, seen->path, size_bytes);
	rc = read_data(r, seen, size_bytes, tag < PIO_BAG_TAGS ? &r->tags[tag] : NULL, err);
	pio_weights_fini(&r->weights);
	if (!rc && tag < PIO_BAG_TAGS)
		rc = take_tag(r, tag, err);
	if (!rc && payload && r->have[PIO_BAG_MANIFEST])
		pio_bag_judge(r, seen, PIO_BAG_MANIFEST);
	if (!rc)
		rc = pio_bag_stop(r, err);
	return !rc && payload && r->visit ? r->visit->end(r->visit->context, err) : rc;
}

static int read_entries(pio_bag_reader *r, pio_err *err)
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
			rc = read_file(r, &r->seen[r->count - 1], archive_entry_size(entry), err);
	}
	if (!rc && status != ARCHIVE_EOF)
		rc = archive_failed(r, NULL, err);
	return rc;
}

/* The gate lets nothing but zeros pass. */
static int read_rest(pio_bag_reader *r, pio_err *err)
{
	const void *bytes;
	size_t n = 1;
	int rc = r->read_rc;
	while (!rc && n)
		rc = read_some(r, &bytes, &n, err);
	return rc ? rc : pio_tar_gate_end(&r->gate, err);
}

/* ---- the whole -------------------------------------------------------------------------- */

static int reader_open(pio_bag_reader *r, const char *path, pio_err *err)
{
	r->path = path;
	for (int i = 0; i < PIO_BAG_TAGS; i++)
		r->tags[i] = (pio_str)PIO_STR_INIT;
	pio_tar_gate_init(&r->gate, path);
	int rc = pio_source_open(&r->source, path, err);
	if (!rc)
		r->path = r->gate.name = pio_source_name(r->source);
	if (!rc)
		rc = pio_sha256_new(&r->inner, err);
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

static void reader_close(pio_bag_reader *r)
{
	archive_read_free(r->archive);
	pio_tar_gate_fini(&r->gate);
	for (size_t i = 0; i < r->count; i++)
		pio_free(r->seen[i].path);
	pio_free(r->seen);
	for (int i = 0; i < PIO_BAG_TAGS; i++) {
		pio_str_fini(&r->tags[i]);
		pio_bag_manifest_fini(&r->manifests[i]);
	}
	pio_sha256_free(r->inner);
	pio_source_close(r->source);
}

int pio_bundle_read(pio_bundle_result *result, const char *path, const pio_bundle_visit *visit,
                    pio_bundle_report *report, void *context, pio_err *err)
{
	pio_bag_reader r = { .err = err, .result = result, .visit = visit, .report = report,
		.context = context, .announced_bytes = -1, .announced_files = -1 };
	*result = (pio_bundle_result){ .files = 0 };
	int rc = reader_open(&r, path, err);
	if (!rc)
		rc = read_entries(&r, err);
	if (!rc)
		rc = read_rest(&r, err);
	if (!rc)
		rc = pio_bag_judge_whole(&r, err);
	if (!rc)
		rc = pio_source_digest(r.source, result->sha256, err);
	result->size_bytes = r.source ? pio_source_done(r.source) : 0;
	if (!rc && result->bad) {
		if (err)
			*err = r.first;
		rc = -PIO_ECORRUPT;
	}
	reader_close(&r);
	return rc;
}

int pio_bundle_verify(pio_bundle_result *result, const char *path, pio_bundle_report *report,
                      void *context, pio_err *err)
{
	return pio_bundle_read(result, path, NULL, report, context, err);
}
