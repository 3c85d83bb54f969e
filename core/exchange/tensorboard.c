/* A directory of event files is a run. Its files are read in the order of their
 * names, which begin with the time they were made; each goes on where it was
 * left. The cursor:
 *
 *   { "attempt": newest attempt, "used": it has values, "end": status of the
 *     hparams plugin, "files": { NAME: [offset, attempt, offset of a complaint] } }
 *
 * A START begins a new attempt if the newest has values; files that are new
 * belong to the newest attempt, the others to their own. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "exchange/hparams.h"
#include "exchange/importer.h"
#include "exchange/tfevent.h"
#include "exchange/tfrecord.h"
#include "sys/fs.h"

#define PROGRESS_RECORDS 8192

typedef struct event_file {
	char *name;
	int64_t size, offset, complained; /* complained: of what stands there */
	int attempt;
} event_file;

typedef struct reader {
	const pio_importer *importer;
	const char *dir;
	pio_ingest *ingest;
	event_file *files;
	size_t count;
	int attempt;                /* the newest */
	bool used;
	pio_hparams_end end;
	int64_t total, done;
} reader;

/* ---- values ------------------------------------------------------------------------------ */

static bool is_text(pio_bytes name, const char *text)
{
	return name.size_bytes == strlen(text) && memcmp(name.at, text, name.size_bytes) == 0;
}

static int take_image(reader *r, const pio_tfvalue *value, pio_bytes image, int64_t step, int64_t ns,
                      pio_err *err)
{
	return pio_ingest_media(r->ingest, "image", value->tag.at, value->tag.size_bytes, step, ns, NULL,
	                        pio_exchange_image_mime(image.at, image.size_bytes), image.at,
	                        image.size_bytes, err);
}

static int take_histogram(reader *r, const pio_tfvalue *value, int64_t step, int64_t ns, pio_err *err)
{
	pio_histogram histogram;
	pio_str bytes = PIO_STR_INIT;
	pio_err why = PIO_ERR_INIT;
	int rc = pio_tfhistogram_read(&histogram, value, &why);
	if (rc && rc != -PIO_ENOMEM) {
		pio_ingest_skip_count(r->ingest, 1, "%s", why.message);
		return 0;
	}
	if (rc)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a histogram");
	pio_histogram_encode(&bytes, &histogram);
	pio_histogram_fini(&histogram);
	rc = pio_str_check(&bytes, err);
	if (!rc)
		rc = pio_ingest_media(r->ingest, "histogram", value->tag.at, value->tag.size_bytes, step, ns,
		                      NULL, PIO_HISTOGRAM_MIME, bytes.data, bytes.len, err);
	pio_str_fini(&bytes);
	return rc;
}

static int take_text(reader *r, const pio_tfvalue *value, const pio_tftensor *tensor, int64_t step,
                     int64_t ns, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	pio_bytes line;
	bool first = true;
	for (pio_proto walk = tensor->fields; pio_tftensor_string(&line, &walk); first = false) {
		if (!first)
			pio_str_putc(&text, '\n');
		pio_str_append(&text, line.at, line.size_bytes);
	}
	int rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_ingest_text(r->ingest, "text", value->tag.at, value->tag.size_bytes, step, ns,
		                     text.data, text.len, err);
	pio_str_fini(&text);
	return rc;
}

/* width, height, and one encoded image each. */
static int take_images(reader *r, const pio_tfvalue *value, const pio_tftensor *tensor, int64_t step,
                       int64_t ns, pio_err *err)
{
	pio_proto walk = tensor->fields;
	pio_bytes image;
	int rc = 0;
	for (int i = 0; !rc && pio_tftensor_string(&image, &walk); i++)
		if (i >= 2)
			rc = take_image(r, value, image, step, ns, err);
	return rc;
}

static int take_scalar(reader *r, const pio_tfvalue *value, const pio_tftensor *tensor, int64_t step,
                       int64_t ns, pio_err *err)
{
	double number;
	int64_t whole;
	if (tensor->rank || pio_tftensor_numbers(&number, &whole, 1, tensor) != 1) {
		pio_ingest_skip_count(r->ingest, 1, "tensors of type %u and rank %d", tensor->dtype,
		                      tensor->rank);
		return 0;
	}
	r->used = true;
	if (tensor->dtype == PIO_TF_INT64 || tensor->dtype == PIO_TF_INT32)
		return pio_ingest_point_int(r->ingest, value->tag.at, value->tag.size_bytes, step, ns, whole,
		                            err);
	return pio_ingest_point(r->ingest, value->tag.at, value->tag.size_bytes, step, ns, number, err);
}

static int take_tensor(reader *r, const pio_tfvalue *value, int64_t step, int64_t ns, pio_err *err)
{
	pio_tftensor tensor;
	if (is_text(value->plugin, "histograms"))
		return take_histogram(r, value, step, ns, err);
	if (!pio_tftensor_read(&tensor, &value->body)) {
		pio_ingest_skip_count(r->ingest, 1, "tensors that cannot be read");
		return 0;
	}
	if (is_text(value->plugin, "images"))
		return take_images(r, value, &tensor, step, ns, err);
	if (is_text(value->plugin, "text") || (!value->plugin.at && tensor.dtype == PIO_TF_STRING))
		return take_text(r, value, &tensor, step, ns, err);
	if (is_text(value->plugin, "scalars") || !value->plugin.at)
		return take_scalar(r, value, &tensor, step, ns, err);
	pio_ingest_skip_count(r->ingest, 1, "values of TensorBoard's plugin '%.*s'",
	                      (int)(value->plugin.size_bytes < 40 ? value->plugin.size_bytes : 40),
	                      value->plugin.at);
	return 0;
}

static int take_value(reader *r, const pio_tfvalue *value, int64_t step, int64_t ns, pio_err *err)
{
	pio_bytes image;
	pio_tfvalue named = *value;
	if (is_text(value->plugin, "hparams"))
		return pio_hparams_take(&r->end, r->ingest, value->content, err);
	if (!named.tag.at)
		named.tag = (pio_bytes){ "", 0 };
	switch (value->kind) {
	case PIO_TF_SIMPLE:
		r->used = true;
		return pio_ingest_point(r->ingest, named.tag.at, named.tag.size_bytes, step, ns,
		                        (double)value->simple, err);
	case PIO_TF_HISTOGRAM:
		return take_histogram(r, &named, step, ns, err);
	case PIO_TF_IMAGE:
		if (pio_tfimage_read(&image, &value->body))
			return take_image(r, &named, image, step, ns, err);
		pio_ingest_skip_count(r->ingest, 1, "images without bytes");
		return 0;
	case PIO_TF_TENSOR:
		return take_tensor(r, &named, step, ns, err);
	case PIO_TF_AUDIO:
		pio_ingest_skip_count(r->ingest, 1, "audio clips");
		return 0;
	default:
		pio_ingest_skip_count(r->ingest, 1, "values of an unknown kind");
		return 0;
	}
}

static int take_event(reader *r, event_file *file, const uint8_t *data, size_t size_bytes,
                      pio_err *err)
{
	pio_tfevent event;
	pio_tfvalue value;
	if (!pio_tfevent_read(&event, data, size_bytes)) {
		pio_ingest_skip_count(r->ingest, 1, "records that are no events");
		return 0;
	}
	int rc = 0;
	if (event.session == 1 && r->used) {
		r->attempt++;
		r->used = false;
	}
	if (event.session == 1)
		file->attempt = r->attempt;
	if (event.session == 1)
		rc = pio_ingest_attempt(r->ingest, file->attempt, err);
	if (event.other)
		pio_ingest_skip_count(r->ingest, 1, "%s", event.other);
	int64_t ns = pio_exchange_seconds_ns(event.wall_time);
	pio_ingest_seen(r->ingest, ns);
	while (!rc && pio_tfvalue_next(&value, &event.summary))
		rc = take_value(r, &value, event.step, ns, err);
	if (event.summary.bad)
		pio_ingest_skip_count(r->ingest, 1, "summaries that cannot be read");
	return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int read_file(reader *r, event_file *file, pio_err *err)
{
	pio_window window;
	pio_str path = PIO_STR_INIT;
	const uint8_t *data;
	size_t size_bytes;
	int found = PIO_TFRECORD_END;
	pio_str_printf(&path, "%s/%s", r->dir, file->name);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = pio_window_open(&window, path.data, err);
	if (rc) {
		pio_str_fini(&path);
		return rc;
	}
	pio_window_seek(&window, file->offset);
	rc = pio_ingest_attempt(r->ingest, file->attempt, err);
	for (int64_t n = 1; !rc && !pio_ingest_is_full(r->ingest); n++) {
		found = pio_tfrecord_next(&data, &size_bytes, &window, err);
		if (found < 0)
			rc = found;
		if (found != PIO_TFRECORD_DATA && found != PIO_TFRECORD_BAD_DATA)
			break;
		if (found == PIO_TFRECORD_DATA)
			rc = take_event(r, file, data, size_bytes, err);
		else
			pio_ingest_skip_count(r->ingest, 1, "records of %s with a wrong checksum, the last before "
			                      "byte %lld", file->name, (long long)window.offset);
		r->done += window.offset - file->offset;
		file->offset = window.offset;
		if (n % PROGRESS_RECORDS == 0)
			pio_importer_progress(r->importer, r->done, r->total);
	}
	if (found == PIO_TFRECORD_BAD_LENGTH && file->complained != file->offset) {
		pio_ingest_skip_count(r->ingest, 1, "the rest of %s from byte %lld on, where a length has a wrong "
		                      "checksum", file->name, (long long)file->offset);
		file->complained = file->offset;
	}
	pio_window_close(&window);
	pio_str_fini(&path);
	return rc;
}

static int list_files(reader *r, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	int rc = pio_fs_list(&names, &count, r->dir, err);
	if (!rc && !(r->files = pio_calloc(count, sizeof *r->files)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory");
	for (size_t i = 0; !rc && i < count; i++) {
		pio_str path = PIO_STR_INIT;
		pio_window window = PIO_WINDOW_INIT;
		int64_t size = 0;
		pio_str_printf(&path, "%s/%s", r->dir, names[i]);
		rc = pio_str_check(&path, err);
		bool wanted = strstr(names[i], "tfevents") && pio_fs_type(path.data) == PIO_FS_FILE;
		if (!rc && wanted)
			rc = pio_window_open(&window, path.data, err);
		if (!rc && wanted)
			rc = pio_window_size(&size, &window, err);
		if (!rc && wanted) {
			r->files[r->count++] = (event_file){ .name = names[i], .size = size };
			names[i] = NULL;
			r->total += size;
		}
		pio_window_close(&window);
		pio_str_fini(&path);
	}
	for (size_t i = 0; i < count; i++)
		pio_free(names[i]);
	pio_free(names);
	return rc;
}

/* ---- the cursor ---------------------------------------------------------------------------------- */

static void load_cursor(reader *r)
{
	const json_t *cursor = pio_ingest_cursor(r->ingest);
	const json_t *files = json_object_get(cursor, "files");
	const json_t *attempt = json_object_get(cursor, "attempt");
	r->attempt = attempt ? (int)json_integer_value(attempt) : 1;
	r->used = json_is_true(json_object_get(cursor, "used"));
	r->end = (pio_hparams_end)json_integer_value(json_object_get(cursor, "end"));
	r->done = 0;
	for (size_t i = 0; i < r->count; i++) {
		event_file *file = &r->files[i];
		const json_t *entry = json_object_get(files, file->name);
		file->offset = json_integer_value(json_array_get(entry, 0));
		file->attempt = entry ? (int)json_integer_value(json_array_get(entry, 1)) : 0;
		file->complained = entry ? json_integer_value(json_array_get(entry, 2)) : -1;
		r->done += file->offset;
	}
}

/* NULL when memory is out. What is known of files that are gone stays. */
static json_t *make_cursor(const reader *r)
{
	json_t *before = json_object_get(pio_ingest_cursor(r->ingest), "files");
	json_t *files = before ? json_copy(before) : json_object();
	bool bad = !files;
	for (size_t i = 0; !bad && i < r->count; i++)
		if (r->files[i].attempt)
			bad = json_object_set_new(files, r->files[i].name,
			                          json_pack("[I,i,I]", (json_int_t)r->files[i].offset,
			                                    r->files[i].attempt,
			                                    (json_int_t)r->files[i].complained)) != 0;
	if (bad) {
		json_decref(files);
		return NULL;
	}
	return json_pack("{s:i,s:b,s:i,s:o}", "attempt", r->attempt, "used", r->used, "end", (int)r->end,
	                 "files", files);
}

/* ---- a directory -------------------------------------------------------------------------------- */

static int read_batch(reader *r, bool *more, pio_err *err)
{
	const char *name = r->importer->options->name;
	int rc = pio_ingest_begin(r->ingest, err);
	*more = false;
	if (rc)
		return rc;
	load_cursor(r);
	if (!pio_ingest_is_known(r->ingest) && name && *name)
		rc = pio_ingest_tag(r->ingest, "name", name, strlen(name), err);
	for (size_t i = 0; !rc && i < r->count; i++) {
		event_file *file = &r->files[i];
		if (pio_ingest_is_full(r->ingest)) {
			*more = true;
			break;
		}
		file->attempt = file->attempt ? file->attempt : r->attempt;
		if (file->size < file->offset && file->complained != -2) {
			pio_ingest_skip_count(r->ingest, 1, "%s, which is shorter than what was taken from it",
			                      file->name);
			file->complained = -2;
		}
		if (file->size > file->offset)
			rc = read_file(r, file, err);
		*more = *more || (!rc && pio_ingest_is_full(r->ingest));
	}
	return rc;
}

/* Event files do not say how their program ended, but for hparams. */
static pio_ingest_end end_of(const reader *r)
{
	if (r->end == PIO_HPARAMS_FAILURE)
		return (pio_ingest_end){ "failed", "failed", "its hparams say that it failed", -1 };
	return (pio_ingest_end){ "finished", "ok", NULL, -1 };
}

static int read_all(reader *r, bool *is_new, pio_err *err)
{
	bool more = true, first = true;
	int rc = 0;
	while (!rc && more) {
		rc = read_batch(r, &more, err);
		json_t *cursor = rc ? NULL : make_cursor(r);
		if (!rc && !cursor)
			rc = pio_fail(err, PIO_ENOMEM, "out of memory");
		*is_new = first ? !pio_ingest_is_known(r->ingest) : *is_new;
		first = false;
		pio_ingest_end end = end_of(r);
		if (!rc)
			rc = pio_ingest_commit(r->ingest, cursor, &end, err);
		json_decref(cursor);
		pio_importer_progress(r->importer, r->done, r->total);
	}
	return rc;
}

/* The directory of a single event file, else the path itself. */
static void to_directory(pio_str *dir, const char *path)
{
	const char *slash = strrchr(path, '/');
	bool file = pio_fs_type(path) == PIO_FS_FILE && slash;
	pio_str_append(dir, path, file ? (size_t)(slash - path) : strlen(path));
}

int pio_import_tensorboard(pio_importer *importer, const char *path, pio_err *err)
{
	pio_str dir = PIO_STR_INIT;
	reader r = { .importer = importer, .attempt = 1 };
	bool is_new = false;
	to_directory(&dir, path);
	int rc = pio_str_check(&dir, err);
	r.dir = dir.data;
	if (!rc)
		rc = list_files(&r, err);
	if (!rc && !r.count)
		rc = pio_fail(err, PIO_EINVAL, "%s: there is no event file in it (a name with \"tfevents\")", path);
	if (!rc)
		rc = pio_importer_open(&r.ingest, importer, r.dir, NULL, NULL, err);
	if (!rc) {
		rc = read_all(&r, &is_new, err);
		pio_ingest_end end = end_of(&r);
		int told = pio_importer_tell(importer, r.ingest, r.dir, is_new, end.status, rc ? NULL : err);
		rc = rc ? rc : told;
	}
	pio_ingest_close(r.ingest);
	for (size_t i = 0; i < r.count; i++)
		pio_free(r.files[i].name);
	pio_free(r.files);
	pio_str_fini(&dir);
	return rc;
}
