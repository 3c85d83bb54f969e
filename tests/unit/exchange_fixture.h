/* exchange_fixture.h: foreign files made by hand, and imports of them. */
#ifndef PIO_TEST_EXCHANGE_FIXTURE_H
#define PIO_TEST_EXCHANGE_FIXTURE_H

#include <errno.h>
#include <sys/stat.h>

#include "exchange/exchange.h"
#include "exchange/proto.h"
#include "exchange/tfrecord.h"
#include "exchange/wandb_log.h"
#include "store_fixture.h"

static inline void put_file(const char *path, const void *bytes, size_t size_bytes)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size_bytes, file), size_bytes);
	assert_int_equal(fclose(file), 0);
}

/* What the last import took of its sources together. */
typedef struct taken {
	size_t runs, fresh;
	int64_t points, texts, media, lines, skips;
	char reasons[4096];
	const char *status;         /* of the last run */
} taken;

static inline int import_some(taken *sum, pio_store *store, const char *format, const char *path,
                              bool dry, pio_err *err)
{
	pio_import_report report = PIO_IMPORT_REPORT_INIT;
	pio_import_options options = { .otherwise = "imported", .name = "the name", .dry = dry };
	int rc = pio_import(&report, store, format, path, &options, err);
	*sum = (taken){ .runs = report.runs_count };
	for (size_t i = 0; i < report.runs_count; i++) {
		const pio_import_run *run = &report.runs[i];
		sum->fresh += run->is_new;
		sum->points += run->counts.points;
		sum->texts += run->counts.texts;
		sum->media += run->counts.media;
		sum->lines += run->counts.lines;
		sum->status = run->status;
	}
	for (size_t i = 0; i < report.skips_count; i++) {
		size_t used = strlen(sum->reasons);
		sum->skips += report.skips[i].count;
		snprintf(sum->reasons + used, sizeof sum->reasons - used, "%s\n", report.skips[i].reason);
	}
	pio_import_report_fini(&report);
	return rc;
}

static inline taken import_ok(pio_store *store, const char *format, const char *path)
{
	taken sum;
	check_ok(import_some(&sum, store, format, path, false, &err));
	return sum;
}

/* ---- event files ------------------------------------------------------------------------ */

/* Event{1 wall_time, 2 step, 5 Summary{1 Value}} */
static inline void put_event(pio_str *file, double time, int64_t step, const pio_str *value)
{
	pio_str event = PIO_STR_INIT, summary = PIO_STR_INIT;
	pio_proto_put_bytes(&summary, 1, value->data, value->len);
	pio_proto_put_double(&event, 1, time);
	pio_proto_put_varint(&event, 2, (uint64_t)step);
	pio_proto_put_bytes(&event, 5, summary.data, summary.len);
	pio_tfrecord_put(file, event.data, event.len);
	pio_str_fini(&event);
	pio_str_fini(&summary);
}

static inline void put_scalar(pio_str *file, const char *tag, double time, int64_t step, float number)
{
	pio_str value = PIO_STR_INIT;
	pio_proto_put_text(&value, 1, tag);
	pio_proto_put_float(&value, 2, number);
	put_event(file, time, step, &value);
	pio_str_fini(&value);
}

/* A session log: a restart at this step. */
static inline void put_start(pio_str *file, double time, int64_t step)
{
	pio_str event = PIO_STR_INIT, log = PIO_STR_INIT;
	pio_proto_put_varint(&log, 1, 1);
	pio_proto_put_double(&event, 1, time);
	pio_proto_put_varint(&event, 2, (uint64_t)step);
	pio_proto_put_bytes(&event, 7, log.data, log.len);
	pio_tfrecord_put(file, event.data, event.len);
	pio_str_fini(&event);
	pio_str_fini(&log);
}

/* ---- logs of W&B --------------------------------------------------------------------------- */

static inline void put_chunk(pio_str *file, uint8_t type, const void *payload, size_t length)
{
	uint8_t head[7] = { 0, 0, 0, 0, (uint8_t)length, (uint8_t)(length >> 8), type };
	uint32_t crc = pio_wandb_crc32(pio_wandb_crc32(0, &type, 1), payload, length);
	memcpy(head, &crc, 4);
	pio_str_append(file, head, sizeof head);
	pio_str_append(file, payload, length);
}

static inline void put_head(pio_str *file)
{
	pio_str_append(file, ":W&B\xe1\xbe\0", 7);
}

static inline void put_wandb(pio_str *file, uint32_t kind, const pio_str *body)
{
	pio_str record = PIO_STR_INIT;
	pio_proto_put_bytes(&record, kind, body->data, body->len);
	const uint8_t *at = (const uint8_t *)record.data;
	size_t left = record.len;
	for (bool first = true, last = false; !last; first = false) {
		size_t room = 32768 - file->len % 32768;
		if (room < 7) {
			pio_str_append(file, "\0\0\0\0\0\0", room);
			room = 32768;
		}
		size_t n = left < room - 7 ? left : room - 7;
		last = n == left;
		put_chunk(file, first ? last ? 1 : 2 : last ? 4 : 3, at, n);
		at += n;
		left -= n;
	}
	pio_str_fini(&record);
}

/* An item with a key (nested where it has dots) and JSON. */
static inline void put_item(pio_str *body, uint32_t field, const char *key, const char *value)
{
	pio_str item = PIO_STR_INIT;
	const char *dot;
	bool nested = strchr(key, '.') != NULL;
	while ((dot = strchr(key, '.')) != NULL) {
		pio_proto_put_bytes(&item, 2, key, (size_t)(dot - key));
		key = dot + 1;
	}
	pio_proto_put_text(&item, nested ? 2 : 1, key);
	pio_proto_put_text(&item, 16, value);
	pio_proto_put_bytes(body, field, item.data, item.len);
	pio_str_fini(&item);
}

static inline void put_run(pio_str *file, const char *project)
{
	pio_str run = PIO_STR_INIT;
	pio_proto_put_text(&run, 1, "abc");
	pio_proto_put_text(&run, 3, project);
	pio_proto_put_text(&run, 8, "display");
	put_wandb(file, 17, &run);
	pio_str_fini(&run);
}

static inline void put_history(pio_str *file, int64_t step, const char *key, const char *value)
{
	char text[32];
	pio_str body = PIO_STR_INIT;
	snprintf(text, sizeof text, "%lld", (long long)step);
	put_item(&body, 1, "_step", text);
	put_item(&body, 1, "_timestamp", "1700000000.25");
	put_item(&body, 1, key, value);
	put_wandb(file, 2, &body);
	pio_str_fini(&body);
}

static inline void put_exit(pio_str *file, int code)
{
	pio_str body = PIO_STR_INIT;
	if (code)
		pio_proto_put_varint(&body, 1, (uint64_t)code);
	put_wandb(file, 18, &body);
	pio_str_fini(&body);
}

#endif
