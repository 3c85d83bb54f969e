/* The judge: every file against the manifests as soon as those are known, and at
 * the end what only the end can tell (missing files, names that clash,
 * Payload-Oxum). Wrong bytes are reported one by one; what could harm a careless
 * extractor or fill a disk ends the reading at once. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pack/reader_parts.h"

const char *const pio_bag_tag_names[PIO_BAG_TAGS] = { "bagit.txt", "bag-info.txt", "manifest-sha256.txt",
	"tagmanifest-sha256.txt" };

void pio_bag_finding(pio_bag_reader *r, const char *format, ...)
{
	char text[PIO_ERR_MESSAGE_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (!r->result->bad++)
		pio_fail(&r->first, PIO_ECORRUPT, "%s: %s", r->path, text);
	if (r->report)
		r->report(r->context, text, pio_source_done(r->source), pio_source_total(r->source));
}

int pio_bag_stop(const pio_bag_reader *r, pio_err *err)
{
	if (!r->visit || !r->result->bad)
		return 0;
	if (err)
		*err = r->first;
	return -PIO_ECORRUPT;
}

void pio_bag_judge(pio_bag_reader *r, pio_bag_seen *seen, enum pio_bag_tag which)
{
	const pio_bag_line *line = pio_bag_manifest_find(&r->manifests[which], seen->path);
	seen->judged = true;
	if (!line)
		pio_bag_finding(r, "%s: not listed in %s", seen->path, pio_bag_tag_names[which]);
	else if (strcmp(line->sha256, seen->sha256))
		pio_bag_finding(r, "%s: SHA-256 is %s, %s says %s", seen->path, seen->sha256,
		                pio_bag_tag_names[which], line->sha256);
}

/* ---- before the payload ------------------------------------------------------------- */

static void judge_declaration(pio_bag_reader *r)
{
	const pio_str *text = &r->tags[PIO_BAG_DECLARED];
	if (text->len != strlen(PIO_BAG_DECLARATION) || strcmp(text->data, PIO_BAG_DECLARATION))
		pio_bag_finding(r, "bagit.txt: expected BagIt-Version 1.0 and UTF-8");
}

/* An oxum that is wrong is as good as none; whether there is one, the end tells. */
static void read_announced(pio_bag_reader *r)
{
	if (!r->have[PIO_BAG_INFO] ||
	    !pio_bag_oxum(r->tags[PIO_BAG_INFO].data, &r->announced_bytes, &r->announced_files))
		r->announced_bytes = r->announced_files = -1;
}

int pio_bag_judge_tags(pio_bag_reader *r, pio_err *err)
{
	read_announced(r);
	if (!r->visit)
		return 0;
	for (int i = 0; i < PIO_BAG_TAGS; i++) {
		if (!r->have[i])
			return pio_fail(err, PIO_ECORRUPT, "%s: %s is missing before data/, where `pioche export` puts "
			                "it: what follows could not be judged while it is read", r->path,
			                pio_bag_tag_names[i]);
	}
	if (r->announced_bytes < 0)
		pio_bag_finding(r, "bag-info.txt: no Payload-Oxum");
	judge_declaration(r);
	for (size_t i = 0; i < r->count; i++)
		if (!r->seen[i].is_dir && !pio_bag_is_payload(r->seen[i].path) &&
		    strcmp(r->seen[i].path, pio_bag_tag_names[PIO_BAG_TAGMANIFEST]))
			pio_bag_judge(r, &r->seen[i], PIO_BAG_TAGMANIFEST);
	int rc = pio_bag_stop(r, err);
	if (!rc)
		rc = r->visit->begin(r->visit->context, r->announced_bytes, r->announced_files, err);
	return rc;
}

/* ---- at the end ---------------------------------------------------------------------- */

static int compare_seen(const void *left, const void *right)
{
	return strcmp(((const pio_bag_seen *)left)->path, ((const pio_bag_seen *)right)->path);
}

static const pio_bag_seen *find_seen(const pio_bag_reader *r, const char *path)
{
	pio_bag_seen key = { .path = (char *)(uintptr_t)path };
	return r->count ? bsearch(&key, r->seen, r->count, sizeof key, compare_seen) : NULL;
}

static void find_missing(pio_bag_reader *r, enum pio_bag_tag which)
{
	const pio_bag_manifest *manifest = &r->manifests[which];
	for (size_t i = 0; i < manifest->count; i++) {
		const char *path = manifest->lines[i].path;
		const pio_bag_seen *found = find_seen(r, path);
		if (!found || found->is_dir)
			pio_bag_finding(r, "%s: listed in %s, but not in the archive", path, pio_bag_tag_names[which]);
		if (pio_bag_is_payload(path) != (which == PIO_BAG_MANIFEST))
			pio_bag_finding(r, "%s: listed in %s, where it does not belong", path,
			                pio_bag_tag_names[which]);
	}
}

/* A file below a file cannot be. */
static int check_parents(const pio_bag_reader *r, const char *path, pio_err *err)
{
	char parent[PIO_BAG_PATH_BYTES_MAX + 1];
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		size_t len = (size_t)(slash - path);
		memcpy(parent, path, len);
		parent[len] = 0;
		const pio_bag_seen *found = find_seen(r, parent);
		if (found && !found->is_dir)
			return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%s\" is a file and a directory", r->path,
			                parent);
	}
	return 0;
}

static int compare_folded(const void *left, const void *right)
{
	const pio_bag_seen *a = left, *b = right;
	int order = strcasecmp(a->path, b->path);
	return order ? order : strcmp(a->path, b->path);
}

/* Where case does not count, the later of two would overwrite the other. Paths are
 * ASCII (bag.h). Leaves the entries in another order. */
static int check_case(pio_bag_reader *r, pio_err *err)
{
	qsort(r->seen, r->count, sizeof *r->seen, compare_folded);
	for (size_t i = 1; i < r->count; i++)
		if (!strcasecmp(r->seen[i - 1].path, r->seen[i].path))
			return pio_fail(err, PIO_ECORRUPT, "%s: entries \"%s\" and \"%s\" differ in case alone",
			                r->path, r->seen[i - 1].path, r->seen[i].path);
	return 0;
}

static int judge_entries(pio_bag_reader *r, pio_err *err)
{
	int rc = 0;
	qsort(r->seen, r->count, sizeof *r->seen, compare_seen);
	for (size_t i = 0; !rc && i < r->count; i++) {
		pio_bag_seen *seen = &r->seen[i];
		if (i && !strcmp(r->seen[i - 1].path, seen->path))
			return pio_fail(err, PIO_ECORRUPT, "%s: entry \"%s\" is there twice", r->path, seen->path);
		rc = check_parents(r, seen->path, err);
		if (!rc && !seen->is_dir && !seen->judged &&
		    strcmp(seen->path, pio_bag_tag_names[PIO_BAG_TAGMANIFEST]))
			pio_bag_judge(r, seen, pio_bag_is_payload(seen->path) ? PIO_BAG_MANIFEST
			                                                      : PIO_BAG_TAGMANIFEST);
	}
	return rc;
}

int pio_bag_judge_whole(pio_bag_reader *r, pio_err *err)
{
	for (int i = 0; i < PIO_BAG_TAGS; i++) {
		if (!r->have[i])
			return pio_fail(err, PIO_ECORRUPT, "%s: %s is missing: not a bundle", r->path,
			                pio_bag_tag_names[i]);
	}
	int rc = r->visit && !r->in_payload ? pio_fail(err, PIO_ECORRUPT, "%s: a bundle without data/", r->path)
	                                    : judge_entries(r, err);
	if (rc)
		return rc;
	find_missing(r, PIO_BAG_MANIFEST);
	find_missing(r, PIO_BAG_TAGMANIFEST);
	if (!r->visit)
		judge_declaration(r);
	read_announced(r);
	if (r->announced_bytes < 0)
		pio_bag_finding(r, "bag-info.txt: no Payload-Oxum");
	else if (r->announced_bytes != r->result->payload_bytes || r->announced_files != r->result->files)
		pio_bag_finding(r, "bag-info.txt: Payload-Oxum says %lld bytes in %lld files, there are %lld in %lld",
		                (long long)r->announced_bytes, (long long)r->announced_files,
		                (long long)r->result->payload_bytes, (long long)r->result->files);
	return check_case(r, err);
}
