#include "exchange/wandb_media.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/histogram.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange/importer.h"
#include "sys/fs.h"

#define FILE_BYTES_MAX (256 << 20)

typedef struct place {
	pio_ingest *ingest;
	const char *dir, *key;
	int64_t step, time_ns;
} place;

/* ---- histograms ---------------------------------------------------------------------------- */

/* counts in `values`, edges in `bins` or packed as a minimum, a width and how many. */
static int read_histogram(pio_histogram *histogram, const json_t *object, pio_err *err)
{
	const json_t *values = json_object_get(object, "values"), *bins = json_object_get(object, "bins");
	size_t n = json_array_size(values);
	double low = 0, width = 0;
	bool packed = pio_exchange_number(&low, json_object_get(object, "packedBins/min")) &&
	              pio_exchange_number(&width, json_object_get(object, "packedBins/size"));
	if (!n || n > PIO_HISTOGRAM_BUCKETS_MAX || (!packed && json_array_size(bins) != n + 1))
		return pio_fail(err, PIO_ECORRUPT, "histograms whose bins and values do not fit together");
	double *edges = pio_alloc((n + 1) * sizeof *edges);
	uint64_t *counts = pio_alloc(n * sizeof *counts);
	int rc = edges && counts ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory for a histogram");
	for (size_t i = 0; !rc && i <= n; i++) {
		double count = 0;
		bool good = i == n || pio_exchange_number(&count, json_array_get(values, i));
		if (packed)
			edges[i] = low + width * (double)i;
		else
			good = good && pio_exchange_number(&edges[i], json_array_get(bins, i));
		if (!good || !(count >= 0 && count < 0x1p63))
			rc = pio_fail(err, PIO_ECORRUPT, "histograms with a count or an edge that is no number");
		else if (i < n)
			counts[i] = (uint64_t)llround(count);
	}
	if (!rc)
		rc = pio_histogram_init_edges(histogram, edges, counts, n, err);
	pio_free(edges);
	pio_free(counts);
	return rc;
}

static int take_histogram(const place *p, const json_t *object, pio_err *err)
{
	pio_histogram histogram = PIO_HISTOGRAM_INIT;
	pio_str bytes = PIO_STR_INIT;
	pio_err why = PIO_ERR_INIT;
	int rc = read_histogram(&histogram, object, &why);
	if (rc == -PIO_ENOMEM)
		return pio_fail(err, PIO_ENOMEM, "%s", why.message);
	if (rc) {
		pio_ingest_skip_count(p->ingest, 1, "%s", why.message);
		return 0;
	}
	pio_histogram_encode(&bytes, &histogram);
	pio_histogram_fini(&histogram);
	rc = pio_str_check(&bytes, err);
	if (!rc)
		rc = pio_ingest_media(p->ingest, "histogram", p->key, strlen(p->key), p->step, p->time_ns, NULL,
		                      PIO_HISTOGRAM_MIME, bytes.data, bytes.len, err);
	pio_str_fini(&bytes);
	return rc;
}

/* ---- files ------------------------------------------------------------------------------------ */

static bool stays_below(const char *path)
{
	return *path && *path != '/' && !strstr(path, "..");
}

static const char *mime_of(const char *name, const pio_str *bytes)
{
	const char *dot = strrchr(name, '.');
	const char *mime = pio_exchange_image_mime(bytes->data, bytes->len);
	if (strcmp(mime, "application/octet-stream") == 0 && dot && strcmp(dot, ".json") == 0)
		return "application/json";
	return mime;
}

static int take_file(const place *p, const char *name, pio_err *err)
{
	struct stat st;
	pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT;
	pio_str_printf(&path, "%s/files/%s", p->dir, name);
	int rc = pio_str_check(&path, err);
	bool there = !rc && stays_below(name) && stat(path.data, &st) == 0 && S_ISREG(st.st_mode);
	if (!rc && !there) {
		pio_ingest_skip_count(p->ingest, 1, "media whose file is not below files/");
	} else if (!rc && st.st_size > FILE_BYTES_MAX) {
		pio_ingest_skip_count(p->ingest, 1, "media of more than 256 MiB");
	} else if (!rc) {
		rc = pio_fs_read(&bytes, path.data, err);
		const char *mime = rc ? "" : mime_of(name, &bytes);
		if (!rc)
			rc = pio_ingest_media(p->ingest, strncmp(mime, "image/", 6) == 0 ? "image" : "file", p->key,
			                      strlen(p->key), p->step, p->time_ns, name, mime, bytes.data,
			                      bytes.len, err);
	}
	pio_str_fini(&path);
	pio_str_fini(&bytes);
	return rc;
}

int pio_wandb_media_take(pio_ingest *ingest, const char *dir, const char *key, const json_t *object,
                         int64_t step, int64_t time_ns, pio_err *err)
{
	const place p = { ingest, dir, key, step, time_ns };
	const char *type = pio_json_string_or(object, "_type", "?");
	const char *path = pio_json_string_or(object, "path", NULL);
	const json_t *files = json_object_get(object, "filenames");
	int rc = 0;
	if (strcmp(type, "histogram") == 0)
		return take_histogram(&p, object, err);
	if (path)
		return take_file(&p, path, err);
	for (size_t i = 0; !rc && i < json_array_size(files); i++)
		if (json_is_string(json_array_get(files, i)))
			rc = take_file(&p, json_string_value(json_array_get(files, i)), err);
	if (!json_array_size(files))
		pio_ingest_skip_count(ingest, 1, "values of W&B's type '%.40s'", type);
	return rc;
}
