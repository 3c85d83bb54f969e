/* pioche's own bundles: their files are staged while they are verified, and become
 * runs when all of it was good (store/intake.h).
 *
 * Names of the archive name nothing on the disk: staged files are called by their
 * number. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange/importer.h"
#include "exchange/incoming.h"
#include "git/import.h"
#include "git/snapshot.h"
#include "pack/bundle.h"
#include "store/intake.h"
#include "sys/fs.h"
#include "sys/hash.h"

#define CODE_BYTES_MAX (256 << 20)

typedef struct staging {
	const pio_importer *importer;
	pio_incoming place;
	int fd;                         /* of the file that comes in */
	pio_intake_file *files;
	size_t count, capacity;
	pio_bundle_result result;
} staging;

/* ---- the visit ------------------------------------------------------------------------ */

static int visit_begin(void *context, int64_t payload_bytes, int64_t files, pio_err *err)
{
	staging *s = context;
	(void)files;
	return pio_fs_check_room(s->place.dir, payload_bytes, err);
}

static int visit_file(void *context, const char *path, int64_t size_bytes, const char *sha256, pio_err *err)
{
	staging *s = context;
	pio_str staged = PIO_STR_INIT;
	int rc = pio_grow(&s->files, &s->capacity, s->count, "files of a bundle", err);
	if (rc)
		return rc;
	pio_str_printf(&staged, "%s/%zu", s->place.dir, s->count);
	pio_intake_file *file = &s->files[s->count];
	*file = (pio_intake_file){ .path = pio_strdup(path), .staged = pio_str_take(&staged), .bytes = size_bytes };
	s->count++;
	if (!file->path || !file->staged)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a file of a bundle");
	snprintf(file->sha256, sizeof file->sha256, "%s", sha256);
	return pio_fs_open(&s->fd, file->staged, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
}

static int visit_bytes(void *context, const void *bytes, size_t size_bytes, pio_err *err)
{
	staging *s = context;
	return pio_fs_write_all(s->fd, bytes, size_bytes, s->files[s->count - 1].staged, err);
}

static int visit_end(void *context, pio_err *err)
{
	staging *s = context;
	return pio_fs_close(&s->fd, s->files[s->count - 1].staged, err);
}

static int compare_files(const void *left, const void *right)
{
	return strcmp(((const pio_intake_file *)left)->path, ((const pio_intake_file *)right)->path);
}

/* ---- what came beside ------------------------------------------------------------------ */

/* A file that is named by its digest; what has another is nobody's. */
static int add_object(staging *s, const char *dir, const char *name, pio_err *err)
{
	pio_str path = PIO_STR_INIT, inside = PIO_STR_INIT;
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes = 0;
	pio_str_printf(&path, "%s/%s", dir, name);
	pio_str_printf(&inside, "objects/%s", name);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_sha256_file(path.data, sha256, &bytes, err);
	if (!rc && strcmp(sha256, name) != 0)
		rc = pio_fail(err, PIO_ECORRUPT, "object %s came with other bytes, of SHA-256 %s", name, sha256);
	if (!rc)
		rc = pio_grow(&s->files, &s->capacity, s->count, "files beside a bundle", err);
	if (!rc) {
		pio_intake_file *file = &s->files[s->count++];
		*file = (pio_intake_file){ .path = pio_str_take(&inside), .staged = pio_str_take(&path),
			.bytes = bytes };
		memcpy(file->sha256, sha256, sizeof sha256);
		if (!file->path || !file->staged)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for a file beside a bundle");
	}
	pio_str_fini(&path);
	pio_str_fini(&inside);
	return rc;
}

static int add_directory(staging *s, const char *objects, const char *prefix, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	pio_str dir = PIO_STR_INIT;
	pio_str_printf(&dir, "%s/%s", objects, prefix);
	int rc = pio_str_check(&dir, err);
	if (!rc)
		rc = pio_fs_list(&names, &count, dir.data, err);
	for (size_t i = 0; !rc && i < count; i++)
		if (pio_hex_valid(names[i], PIO_SHA256_HEX))
			rc = add_object(s, dir.data, names[i], err);
	pio_fs_list_free(names, count);
	pio_str_fini(&dir);
	return rc;
}

static int add_objects(staging *s, const char *objects, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	int rc = objects && pio_fs_type(objects) == PIO_FS_DIR ? pio_fs_list(&names, &count, objects, err) : 0;
	for (size_t i = 0; !rc && i < count; i++)
		if (pio_hex_valid(names[i], 2))
			rc = add_directory(s, objects, names[i], err);
	pio_fs_list_free(names, count);
	return rc;
}

/* ---- the code ------------------------------------------------------------------------- */

/* Those commits of code.json that belong into the repository of this name. */
static int take_code_into(const staging *s, const char *name, const json_t *list, const char *bundle_path,
                          pio_err *err)
{
	pio_git_taken *commits = pio_calloc(json_array_size(list) + 1, sizeof *commits);
	pio_str path = PIO_STR_INIT;
	size_t i, count = 0;
	json_t *row;
	if (!commits)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the code of a bundle");
	json_array_foreach(list, i, row)
		if (!strcmp(pio_intake_repository(row), name))
			commits[count++] = (pio_git_taken){ pio_json_string_or(row, "commit_id", ""),
				pio_json_string_or(row, "tree_id", ""), pio_json_string_or(row, "object", "") };
	pio_str_printf(&path, "%s/%s", pio_store_path(s->importer->store), name);
	int rc = pio_str_check(&path, err);
	if (!rc && count)
		rc = pio_git_import(path.data, bundle_path, commits, count, err);
	pio_str_fini(&path);
	pio_free(commits);
	return rc;
}

static int take_code(void *context, const pio_intake_bag *bag, pio_err *err)
{
	const staging *s = context;
	const pio_intake_file *list_file = pio_intake_find(bag, "code.json");
	const pio_intake_file *bundle = pio_intake_find(bag, "code.bundle");
	pio_str text = PIO_STR_INIT;
	json_t *list = NULL;
	if (!list_file || !bundle)
		return 0;
	int rc = list_file->bytes > CODE_BYTES_MAX ? pio_fail(err, PIO_ECORRUPT, "code.json is too large")
	                                           : pio_fs_read(&text, list_file->staged, err);
	if (!rc)
		rc = pio_json_parse(&list, text.data, text.len, "code.json", err);
	if (!rc)
		rc = pio_git_init(err);
	bool started = !rc;
	if (!rc)
		rc = take_code_into(s, "code.git", list, bundle->staged, err);
	if (!rc)
		rc = take_code_into(s, "imported.git", list, bundle->staged, err);
	if (started)
		pio_git_shutdown();
	json_decref(list);
	pio_str_fini(&text);
	return rc;
}

/* ---- the import ------------------------------------------------------------------------- */

static int tell_run(const pio_importer *importer, const pio_intake_run *run, const char *source, pio_err *err)
{
	static const char *const words[] = { "finished", "failed", "stopped", "cancelled" };
	pio_import_report *report = importer->report;
	int rc = pio_grow(&report->runs, &report->runs_capacity, report->runs_count, "imported runs", err);
	if (rc)
		return rc;
	pio_import_run *told = &report->runs[report->runs_count];
	*told = (pio_import_run){ .run_id = run->run_id, .source = pio_strdup(source), .was = pio_strdup(run->was),
		.is_new = run->is_new, .status = words[0], .checkpoints = run->checkpoints,
		.counts = { .points = run->points, .texts = run->events, .media = run->media } };
	report->runs_count++;
	if (!told->source || !told->was)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the report of an import");
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcmp(words[i], run->status))
			told->status = words[i];
	for (int64_t i = 0; !rc && i < run->left_out; i++)
		rc = pio_importer_skip(importer, "checkpoints whose files are not in the bundle", err);
	return rc;
}

/* All of it is staged and good: sync it, and take it in. */
static int take(staging *s, const char *path, pio_err *err)
{
	char name[PIO_BUNDLE_NAME_BYTES_MAX + 8];
	const char *slash = strrchr(path, '/');
	pio_intake_run *runs = NULL;
	size_t count = 0;
	snprintf(name, sizeof name, "%s.tar", s->result.name);
	qsort(s->files, s->count, sizeof *s->files, compare_files);
	bool is_pipe = !strcmp(path, "-") || !strncmp(path, "/dev/fd/", 8);
	pio_intake_bag bag = { .bundle = is_pipe ? name : slash ? slash + 1 : path,
		.sha256 = s->result.sha256, .staging = s->place.dir, .files = s->files, .count = s->count,
		.before_commit = take_code, .context = s };
	int rc = pio_fs_sync_filesystem(s->place.dir, err);
	if (!rc)
		rc = pio_store_intake(&runs, &count, s->importer->store, &bag, err);
	if (rc)
		pio_err_context(err, "%s", path);
	for (size_t i = 0; !rc && i < count; i++)
		rc = tell_run(s->importer, &runs[i], path, err);
	pio_intake_free(runs, count);
	return rc;
}

static void hear(void *context, const char *finding, int64_t done, int64_t total)
{
	const staging *s = context;
	if (!finding)
		pio_importer_progress(s->importer, done, total);
}

int pio_import_bundle(pio_importer *importer, const char *path, pio_err *err)
{
	staging s = { .importer = importer, .place = PIO_INCOMING_INIT, .fd = -1 };
	const pio_bundle_visit visit = { &s, visit_begin, visit_file, visit_bytes, visit_end };
	if (importer->options->dry)
		return pio_fail(err, PIO_EUSAGE, "%s: a bundle is taken whole; `pioche verify` looks into it and writes"
		                " nothing", path);
	int rc = pio_incoming_open(&s.place, importer->store, err);
	if (!rc)
		rc = pio_bundle_read(&s.result, path, &visit, hear, &s, err);
	if (!rc)
		rc = add_objects(&s, importer->options->objects, err);
	if (!rc)
		rc = take(&s, path, err);
	if (s.fd >= 0)
		(void)pio_fs_close(&s.fd, s.place.dir, NULL);
	pio_incoming_close(&s.place);
	for (size_t i = 0; i < s.count; i++) {
		pio_free(s.files[i].path);
		pio_free(s.files[i].staged);
	}
	pio_free(s.files);
	return rc;
}
