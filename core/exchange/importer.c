#include "exchange/importer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

#define DEPTH_MAX 32

int pio_importer_open(pio_ingest **ingest, const pio_importer *importer, const char *source,
                      const char *experiment, const char *program, pio_err *err)
{
	const pio_import_options *options = importer->options;
	pio_ingest_source description = { .format = importer->format, .source = source,
	                                  .experiment = experiment && *experiment ? experiment : "run",
	                                  .program = program, .dry = options->dry };
	if (options->otherwise && (!experiment || !*experiment))
		description.experiment = options->otherwise;
	if (options->experiment)
		description.experiment = options->experiment;
	return pio_ingest_open(ingest, importer->store, &description, err);
}

static int tell_skip(pio_import_report *report, const pio_ingest_skip *skip, pio_err *err)
{
	size_t i = 0;
	while (i < report->skips_count && strcmp(report->skips[i].reason, skip->reason) != 0)
		i++;
	if (i == report->skips_count) {
		int rc = pio_grow(&report->skips, &report->skips_capacity, i, "reasons to skip", err);
		if (rc)
			return rc;
		report->skips[report->skips_count++] = *skip;
	} else {
		report->skips[i].count += skip->count;
	}
	return 0;
}

int pio_importer_tell(const pio_importer *importer, const pio_ingest *ingest, const char *source,
                      bool is_new, const char *status, pio_err *err)
{
	pio_import_report *report = importer->report;
	size_t count;
	const pio_ingest_skip *skips = pio_ingest_skips(ingest, &count);
	if (!pio_ingest_is_committed(ingest))
		return 0;
	int rc = pio_grow(&report->runs, &report->runs_capacity, report->runs_count, "imported runs", err);
	char *copy = rc ? NULL : pio_strdup(source);
	if (!rc && !copy)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the report of an import");
	if (!rc)
		report->runs[report->runs_count++] = (pio_import_run){
			.run_id = pio_ingest_run(ingest), .source = copy, .is_new = is_new, .status = status,
			.counts = pio_ingest_counted(ingest),
		};
	for (size_t i = 0; !rc && i < count; i++)
		rc = tell_skip(report, &skips[i], err);
	return rc;
}

int pio_importer_skip(const pio_importer *importer, const char *reason, pio_err *err)
{
	pio_ingest_skip skip = { .count = 1 };
	snprintf(skip.reason, sizeof skip.reason, "%s", reason);
	return tell_skip(importer->report, &skip, err);
}

void pio_importer_progress(const pio_importer *importer, int64_t done, int64_t total)
{
	if (importer->options->progress)
		importer->options->progress(importer->options->context, NULL, done, total);
}

/* ---- values ---------------------------------------------------------------------------------- */

int64_t pio_exchange_seconds_ns(double seconds)
{
	if (!(seconds > 0 && seconds < 9.2e9))
		return 0;
	return (int64_t)llround(seconds * 1e6) * 1000;
}

int64_t pio_exchange_time_ns(const char *text)
{
	struct tm at = { 0 };
	int used = 0, digits = 0;
	int64_t micros = 0, offset_s = 0;
	if (sscanf(text, "%4d-%2d-%2d%*[T ]%2d:%2d:%2d%n", &at.tm_year, &at.tm_mon, &at.tm_mday, &at.tm_hour,
	           &at.tm_min, &at.tm_sec, &used) != 6 || !used)
		return 0;
	at.tm_year -= 1900;
	at.tm_mon -= 1;
	const char *rest = text + used;
	if (*rest == '.') {
		for (rest++; *rest >= '0' && *rest <= '9'; rest++, digits++)
			micros = digits < 6 ? micros * 10 + (*rest - '0') : micros;
		for (; digits < 6; digits++)
			micros *= 10;
	}
	int hours, minutes;
	if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2)
		offset_s = (*rest == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	int64_t seconds = (int64_t)timegm(&at) - offset_s;
	return seconds > 0 && seconds < 9200000000 ? seconds * 1000000000 + micros * 1000 : 0;
}

const char *pio_exchange_image_mime(const void *bytes, size_t size_bytes)
{
	static const struct { const char *magic; size_t at, size; const char *mime; } kinds[] = {
		{ "\x89PNG\r\n\x1a\n", 0, 8, "image/png" }, { "\xff\xd8\xff", 0, 3, "image/jpeg" },
		{ "GIF8", 0, 4, "image/gif" }, { "WEBP", 8, 4, "image/webp" },
	};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (size_bytes >= kinds[i].at + kinds[i].size &&
		    memcmp((const char *)bytes + kinds[i].at, kinds[i].magic, kinds[i].size) == 0)
			return kinds[i].mime;
	return "application/octet-stream";
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static const char *const special[] = { "-Infinity", "Infinity", "NaN" };

/* The same text with the words that JSON lacks put into quotes. */
static void quote_specials(pio_str *out, const char *text, size_t n)
{
	bool in_string = false;
	for (size_t i = 0; i < n;) {
		size_t length = 1;
		for (size_t k = 0; !in_string && k < 3; k++) {
			size_t word = strlen(special[k]);
			if (n - i >= word && memcmp(text + i, special[k], word) == 0) {
				pio_str_printf(out, "\"%s\"", special[k]);
				length = 0;
				i += word;
				break;
			}
		}
		if (!length)
			continue;
		if (text[i] == '"')
			in_string = !in_string;
		else if (text[i] == '\\' && in_string && i + 1 < n)
			length = 2;
		pio_str_append(out, text + i, length);
		i += length;
	}
}

/* A later member of one name wins, as where such texts come from. */
static int load(json_t **value, const char *text, size_t n, json_error_t *where)
{
	return pio_json_load(value, text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, where);
}

int pio_exchange_json(json_t **value, const char *text, size_t size_bytes, pio_err *err)
{
	json_error_t where;
	pio_str quoted = PIO_STR_INIT;
	int rc = load(value, text, size_bytes, &where);
	if (rc == -PIO_ECORRUPT) {
		quote_specials(&quoted, text, size_bytes);
		rc = quoted.failed ? -PIO_ENOMEM : load(value, quoted.data, quoted.len, &where);
	}
	pio_str_fini(&quoted);
	if (rc == -PIO_ENOMEM)
		return pio_fail(err, PIO_ENOMEM, "out of memory for JSON of %zu bytes", size_bytes);
	return !rc ? 0 : pio_fail(err, PIO_ECORRUPT, "JSON at byte %d: %s", where.position, where.text);
}

bool pio_exchange_number(double *number, const json_t *value)
{
	static const double numbers[] = { -INFINITY, INFINITY, NAN };
	if (json_is_number(value)) {
		*number = json_number_value(value);
		return true;
	}
	for (size_t k = 0; json_is_string(value) && k < 3; k++) {
		if (strcmp(json_string_value(value), special[k]) == 0) {
			*number = numbers[k];
			return true;
		}
	}
	return false;
}

static int flatten(const json_t *object, pio_str *path, int depth, pio_exchange_visit *visit,
                   void *context, pio_err *err)
{
	const char *name;
	json_t *value;
	int rc = 0;
	size_t length = path->len;
	json_object_foreach((json_t *)(uintptr_t)object, name, value) {
		pio_str_printf(path, "%s%s", length ? "/" : "", name);
		rc = pio_str_check(path, err);
		if (rc)
			return rc;
		bool leaf = !json_object_size(value) || json_object_get(value, "_type") || depth == DEPTH_MAX;
		rc = leaf ? visit(context, path->data, value, err)
		          : flatten(value, path, depth + 1, visit, context, err);
		if (rc)
			return rc;
		path->len = length;
		path->data[length] = 0;
	}
	return 0;
}

int pio_exchange_flatten(const json_t *object, const char *prefix, pio_exchange_visit *visit,
                         void *context, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_puts(&path, prefix);
	int rc = pio_str_check(&path, err);
	if (!rc)
		rc = flatten(object, &path, 0, visit, context, err);
	pio_str_fini(&path);
	return rc;
}
