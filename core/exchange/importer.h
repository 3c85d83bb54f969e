/* importer.h: what the readers of foreign files share; for this room alone. */
#ifndef PIO_EXCHANGE_IMPORTER_H
#define PIO_EXCHANGE_IMPORTER_H

#include <jansson.h>

#include "exchange/exchange.h"

typedef struct pio_importer {
	pio_store *store;
	const char *format;
	const pio_import_options *options;
	pio_import_report *report;
} pio_importer;

int pio_import_tensorboard(pio_importer *importer, const char *path, pio_err *err);
int pio_import_wandb(pio_importer *importer, const char *path, pio_err *err);
int pio_import_trackio(pio_importer *importer, const char *path, pio_err *err);
int pio_import_mlflow(pio_importer *importer, const char *path, pio_err *err);
int pio_import_bundle(pio_importer *importer, const char *path, pio_err *err);

/* An ingest for one run of the source; `experiment` is what the source says, or
 * NULL. `program` as in pio_ingest_source. */
int pio_importer_open(pio_ingest **ingest, const pio_importer *importer, const char *source,
                      const char *experiment, const char *program, pio_err *err);
/* Put what the ingest took into the report; nothing if it never committed. */
int pio_importer_tell(const pio_importer *importer, const pio_ingest *ingest, const char *source,
                      bool is_new, const char *status, pio_err *err);
/* Something was passed over that belongs to no run. */
int pio_importer_skip(const pio_importer *importer, const char *reason, pio_err *err);
void pio_importer_progress(const pio_importer *importer, int64_t done, int64_t total);

/* Seconds since 1970 as ns, to the microsecond; 0 when they make no sense. */
int64_t pio_exchange_seconds_ns(double seconds);
/* RFC 3339 with an offset, or without one in UTC: ns since 1970; 0 when it is none. */
int64_t pio_exchange_time_ns(const char *text);
/* image/png, image/jpeg, image/gif, image/webp by the first bytes, else
 * application/octet-stream. Static storage. */
const char *pio_exchange_image_mime(const void *bytes, size_t size_bytes);
/* One JSON value as Python and JavaScript write it: NaN, Infinity and -Infinity
 * also without quotes, and then they become the strings of that name. */
int pio_exchange_json(json_t **value, const char *text, size_t size_bytes, pio_err *err);
/* A number, or a string that names one of the above. */
bool pio_exchange_number(double *number, const json_t *value);
/* Call visit for each value that is no object, under its path joined by '/'. An
 * object with a member "_type" counts as a value. Negative ends the walk. */
typedef int pio_exchange_visit(void *context, const char *path, json_t *value, pio_err *err);
int pio_exchange_flatten(const json_t *object, const char *prefix, pio_exchange_visit *visit,
                         void *context, pio_err *err);

#endif
