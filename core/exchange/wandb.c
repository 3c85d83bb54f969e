/* A .wandb file is a run. The cursor:
 *
 *   { "offset": of the next record, "step": newest of the history, "stats": how
 *     many samples of the system, "exit": its code or null }
 *
 * The run itself is made when the record is there that names it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "exchange/importer.h"
#include "exchange/wandb_item.h"
#include "exchange/wandb_log.h"
#include "exchange/wandb_media.h"

#define PROGRESS_RECORDS 4096
#define LOOK_RECORDS_MAX 64     /* the run and its surroundings are among the first */

enum { HISTORY = 2, SUMMARY = 3, OUTPUT = 4, CONFIG = 5, STATS = 7, ARTIFACT = 8, ALERT = 10,
       OUTPUT_RAW = 13, RUN = 17, EXIT = 18, ENVIRONMENT = 26 };

typedef struct reader {
	const pio_importer *importer;
	const char *path;
	pio_str dir;                /* that holds it */
	pio_wandb_log log;
	pio_wandb_items items;
	pio_ingest *ingest;
	int64_t step, stats;
	int exit_code;
	bool ended, bad;
	int64_t size;
} reader;

static bool is_read(reader *r, bool bad)
{
	if (bad)
		pio_ingest_skip_count(r->ingest, 1, "records that cannot be read");
	return !bad;
}

/* ---- values ------------------------------------------------------------------------------- */

typedef struct sink {
	reader *reader;
	int64_t time_ns;
	bool summary;
} sink;

static int put_param(void *context, const char *path, json_t *value, pio_err *err)
{
	sink *s = context;
	if (strcmp(path, "_wandb") == 0 || strncmp(path, "_wandb/", 7) == 0)
		return 0;
	if (s->summary && json_object_get(value, "_type"))
		return 0; /* the newest of what the history has */
	return s->summary ? pio_ingest_summary(s->reader->ingest, path, value, err)
	                  : pio_ingest_param(s->reader->ingest, path, value, err);
}

static int put_value(void *context, const char *path, json_t *value, pio_err *err)
{
	sink *s = context;
	double number = json_is_true(value);
	pio_ingest *ingest = s->reader->ingest;
	if (json_is_boolean(value) || pio_exchange_number(&number, value))
		return pio_ingest_point(ingest, path, strlen(path), s->reader->step, s->time_ns, number, err);
	if (json_is_string(value))
		return pio_ingest_text(ingest, "text", path, strlen(path), s->reader->step, s->time_ns,
		                       json_string_value(value), json_string_length(value), err);
	pio_ingest_skip_count(ingest, 1, "values that are %s", json_is_null(value) ? "null" : "lists");
	return 0;
}

/* Parameters or results out of items. */
static int take_facts(reader *r, pio_proto message, bool summary, pio_err *err)
{
	sink s = { r, 0, summary };
	int rc = pio_wandb_items_read(&r->items, &r->bad, message, 1, err);
	(void)is_read(r, r->bad);
	for (size_t i = 0; !rc && i < r->items.count; i++) {
		const pio_wandb_item *item = &r->items.all[i];
		json_t *value = NULL;
		if (pio_wandb_is_private(&r->items, item) || (summary && item->typed_bytes))
			continue;
		rc = pio_wandb_json(&value, item, err);
		if (rc == -PIO_ECORRUPT) {
			pio_ingest_skip_count(r->ingest, 1, "values that are no JSON");
			rc = 0;
		} else if (!rc && json_object_size(value)) {
			rc = pio_exchange_flatten(value, pio_wandb_path(&r->items, item), put_param, &s, err);
		} else if (!rc) {
			rc = put_param(&s, pio_wandb_path(&r->items, item), value, err);
		}
		json_decref(value);
	}
	return rc;
}

static int take_other(reader *r, size_t i, const sink *s, pio_err *err)
{
	const pio_wandb_item *item = &r->items.all[i];
	const char *path = pio_wandb_path(&r->items, item);
	json_t *value = NULL;
	int rc;
	if (item->typed_bytes) {
		pio_str key = PIO_STR_INIT;
		value = pio_wandb_typed(&r->items, i);
		pio_str_append(&key, path, item->typed_bytes);
		rc = pio_str_check(&key, err);
		if (!rc && value)
			rc = pio_wandb_media_take(r->ingest, r->dir.data, key.data, value, r->step, s->time_ns, err);
		pio_str_fini(&key);
	} else if ((rc = pio_wandb_json(&value, item, err)) == -PIO_ECORRUPT) {
		pio_ingest_skip_count(r->ingest, 1, "values that are no JSON");
		rc = 0;
	} else if (!rc && json_is_object(value)) {
		rc = pio_exchange_flatten(value, path, put_value, (void *)(uintptr_t)s, err);
	} else if (!rc) {
		rc = put_value((void *)(uintptr_t)s, path, value, err);
	}
	json_decref(value);
	return rc;
}

static void find_step(reader *r, sink *s, pio_proto message)
{
	pio_proto_field field, part;
	double number;
	while (pio_proto_next(&message, &field)) {
		if (field.number != 2 || field.wire != PIO_PROTO_BYTES)
			continue;
		r->step = 0;
		for (pio_proto step = pio_proto_in(&field); pio_proto_next(&step, &part);)
			if (part.number == 1)
				r->step = (int64_t)part.value;
	}
	for (size_t i = 0; i < r->items.count; i++) {
		const pio_wandb_item *item = &r->items.all[i];
		const char *path = pio_wandb_path(&r->items, item);
		if (path[0] != '_' || !pio_wandb_number(&number, item))
			continue;
		if (strcmp(path, "_step") == 0 && number > -0x1p53 && number < 0x1p53)
			r->step = (int64_t)number;
		else if (strcmp(path, "_timestamp") == 0)
			s->time_ns = pio_exchange_seconds_ns(number);
	}
}

static int take_history(reader *r, pio_proto message, pio_err *err)
{
	sink s = { r, 0, false };
	double number;
	int rc = pio_wandb_items_read(&r->items, &r->bad, message, 1, err);
	if (rc || !is_read(r, r->bad))
		return rc;
	find_step(r, &s, message);
	for (size_t i = 0; !rc && i < r->items.count; i++) {
		const pio_wandb_item *item = &r->items.all[i];
		if (pio_wandb_is_private(&r->items, item))
			continue;
		if (!item->typed_bytes && pio_wandb_number(&number, item))
			rc = pio_ingest_point(r->ingest, pio_wandb_path(&r->items, item), item->path_bytes, r->step,
			                      s.time_ns, number, err);
		else
			rc = take_other(r, i, &s, err);
	}
	return rc;
}

/* A sample of the machine; it has a time, and its number for a step. */
static int take_stats(reader *r, pio_proto message, pio_err *err)
{
	pio_proto_field field;
	pio_str key = PIO_STR_INIT;
	int64_t time_ns = 0;
	double number;
	int rc = pio_wandb_items_read(&r->items, &r->bad, message, 3, err);
	if (rc || !is_read(r, r->bad))
		return rc;
	while (pio_proto_next(&message, &field))
		if (field.number == 2)
			time_ns = pio_proto_timestamp(&field);
	for (size_t i = 0; !rc && i < r->items.count; i++) {
		const pio_wandb_item *item = &r->items.all[i];
		if (!pio_wandb_number(&number, item))
			continue;
		pio_str_clear(&key);
		pio_str_printf(&key, "system/%s", pio_wandb_path(&r->items, item));
		rc = pio_str_check(&key, err);
		if (!rc)
			rc = pio_ingest_point(r->ingest, key.data, key.len, r->stats, time_ns, number, err);
	}
	r->stats++;
	pio_str_fini(&key);
	return rc;
}

/* ---- records --------------------------------------------------------------------------------- */

static int put_tag(reader *r, const char *name, const pio_proto_field *field, pio_err *err)
{
	if (field->wire != PIO_PROTO_BYTES || !field->size_bytes)
		return 0;
	return pio_ingest_tag(r->ingest, name, (const char *)field->bytes, field->size_bytes, err);
}

static int take_git(reader *r, const pio_proto_field *field, pio_err *err)
{
	pio_proto git = pio_proto_in(field);
	pio_proto_field part;
	int rc = 0;
	while (!rc && pio_proto_next(&git, &part))
		if (part.number == 1 || part.number == 2)
			rc = put_tag(r, part.number == 1 ? "git.remote" : "git.commit", &part, err);
	return rc;
}

/* A tag of W&B is a word; ours has a value. */
static int take_word(reader *r, const pio_proto_field *field, pio_err *err)
{
	pio_str word = PIO_STR_INIT;
	pio_str_put_text(&word, (const char *)field->bytes, field->size_bytes);
	int rc = pio_str_check(&word, err);
	if (!rc)
		rc = pio_ingest_tag(r->ingest, word.data, "true", 4, err);
	pio_str_fini(&word);
	return rc;
}

static int take_run(reader *r, pio_proto message, pio_err *err)
{
	static const char *const names[] = { [1] = "wandb.id", [2] = "entity", [6] = "group",
		                             [7] = "job_type", [8] = "name", [9] = "notes",
		                             [12] = "sweep", [13] = "host" };
	pio_proto_field field;
	int rc = 0;
	while (!rc && pio_proto_next(&message, &field)) {
		if (field.number == 4)
			rc = take_facts(r, pio_proto_in(&field), false, err);
		else if (field.number == 5)
			rc = take_facts(r, pio_proto_in(&field), true, err);
		else if (field.number == 10)
			rc = take_word(r, &field, err);
		else if (field.number == 17)
			pio_ingest_seen(r->ingest, pio_proto_timestamp(&field));
		else if (field.number == 21)
			rc = take_git(r, &field, err);
		else if (field.number < sizeof names / sizeof *names && names[field.number])
			rc = put_tag(r, names[field.number], &field, err);
	}
	return rc;
}

/* A piece of the console as it was written; in the older form a line. */
static int take_output(reader *r, pio_proto message, bool raw, pio_err *err)
{
	pio_proto_field field, line = { .wire = PIO_PROTO_VARINT };
	bool is_stdout = false;
	while (pio_proto_next(&message, &field)) {
		if (field.number == 1)
			is_stdout = field.value == 1;
		else if (field.number == 2)
			pio_ingest_seen(r->ingest, pio_proto_timestamp(&field));
		else if (field.number == 3 && field.wire == PIO_PROTO_BYTES)
			line = field;
	}
	if (line.wire != PIO_PROTO_BYTES || !line.size_bytes)
		return 0;
	int rc = pio_ingest_console(r->ingest, !is_stdout, (const char *)line.bytes, line.size_bytes, err);
	if (!rc && !raw && line.bytes[line.size_bytes - 1] != '\n')
		rc = pio_ingest_console(r->ingest, !is_stdout, "\n", 1, err);
	return rc;
}

static int take_alert(reader *r, pio_proto message, pio_err *err)
{
	pio_proto_field field;
	pio_str text = PIO_STR_INIT;
	while (pio_proto_next(&message, &field)) {
		if ((field.number != 1 && field.number != 2) || field.wire != PIO_PROTO_BYTES)
			continue;
		if (text.len)
			pio_str_puts(&text, ": ");
		pio_str_append(&text, field.bytes, field.size_bytes);
	}
	int rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_ingest_text(r->ingest, "alert", NULL, 0, r->step, 0, text.data, text.len, err);
	pio_str_fini(&text);
	return rc;
}

static void take_exit(reader *r, pio_proto message)
{
	pio_proto_field field;
	r->ended = true;
	r->exit_code = 0;
	while (pio_proto_next(&message, &field))
		if (field.number == 1)
			r->exit_code = (int)(field.value & 0xff);
}

static int take_record(reader *r, pio_err *err)
{
	pio_proto message = pio_proto_of(r->log.record.data, r->log.record.len);
	pio_proto_field field;
	int rc = 0;
	while (!rc && pio_proto_next(&message, &field)) {
		pio_proto body = pio_proto_in(&field);
		if (field.number == HISTORY)
			rc = take_history(r, body, err);
		else if (field.number == SUMMARY)
			rc = take_facts(r, body, true, err);
		else if (field.number == CONFIG)
			rc = take_facts(r, body, false, err);
		else if (field.number == STATS)
			rc = take_stats(r, body, err);
		else if (field.number == OUTPUT || field.number == OUTPUT_RAW)
			rc = take_output(r, body, field.number == OUTPUT_RAW, err);
		else if (field.number == RUN)
			rc = take_run(r, body, err);
		else if (field.number == EXIT)
			take_exit(r, body);
		else if (field.number == ALERT)
			rc = take_alert(r, body, err);
		else if (field.number == ARTIFACT)
			pio_ingest_skip_count(r->ingest, 1, "artifacts of W&B");
	}
	(void)is_read(r, message.bad);
	return rc;
}

/* ---- what the run is -------------------------------------------------------------------------- */

static void add_text(json_t *array, const pio_proto_field *field)
{
	pio_str text = PIO_STR_INIT;
	pio_str_put_text(&text, (const char *)field->bytes, field->size_bytes);
	if (field->wire == PIO_PROTO_BYTES)
		(void)json_array_append_new(array, json_stringn(text.data, text.len));
	pio_str_fini(&text);
}

/* The program and its arguments. */
static void read_command(json_t *command, pio_proto message)
{
	pio_proto_field field;
	pio_proto again = message;
	while (pio_proto_next(&message, &field))
		if (field.number == 6)
			add_text(command, &field);
	while (pio_proto_next(&again, &field))
		if (field.number == 5)
			add_text(command, &field);
}

/* Look for the project and the command among the first records; *named: a record
 * names the run. */
static int look(reader *r, pio_str *project, json_t *command, bool *named, pio_err *err)
{
	int rc = 1;
	*named = false;
	for (int i = 0; i < LOOK_RECORDS_MAX && !(*named && json_array_size(command)); i++) {
		rc = pio_wandb_log_next(&r->log, err);
		if (rc != 1)
			break;
		pio_proto message = pio_proto_of(r->log.record.data, r->log.record.len);
		pio_proto_field field, part;
		while (pio_proto_next(&message, &field)) {
			if (field.number == ENVIRONMENT)
				read_command(command, pio_proto_in(&field));
			if (field.number != RUN)
				continue;
			*named = true;
			for (pio_proto run = pio_proto_in(&field); pio_proto_next(&run, &part);)
				if (part.number == 3 && part.wire == PIO_PROTO_BYTES && !project->len)
					pio_str_put_text(project, (const char *)part.bytes, part.size_bytes);
		}
	}
	r->log.broken = 0;
	return rc < 0 ? rc : pio_str_check(project, err);
}

/* ---- batches ------------------------------------------------------------------------------------ */

static void load_cursor(reader *r)
{
	const json_t *cursor = pio_ingest_cursor(r->ingest);
	const json_t *code = json_object_get(cursor, "exit");
	pio_wandb_log_seek(&r->log, pio_json_int_or(cursor, "offset", 0));
	r->step = pio_json_int_or(cursor, "step", 0);
	r->stats = pio_json_int_or(cursor, "stats", 0);
	r->ended = json_is_integer(code);
	r->exit_code = (int)json_integer_value(code);
}

static json_t *make_cursor(const reader *r)
{
	return json_pack("{s:I,s:I,s:I,s:o}", "offset", (json_int_t)r->log.offset, "step",
	                 (json_int_t)r->step, "stats", (json_int_t)r->stats, "exit",
	                 r->ended ? json_integer(r->exit_code) : json_null());
}

static pio_ingest_end end_of(const reader *r)
{
	if (!r->ended)
		return (pio_ingest_end){ "failed", "lost", "its log has no exit record: it was killed, or goes on",
		                         -1 };
	if (r->exit_code)
		return (pio_ingest_end){ "failed", "failed", "its program failed", r->exit_code };
	return (pio_ingest_end){ "finished", "ok", NULL, 0 };
}

static int read_batch(reader *r, bool *more, pio_err *err)
{
	int rc = pio_ingest_begin(r->ingest, err);
	*more = false;
	if (rc)
		return rc;
	load_cursor(r);
	for (int64_t n = 1; !rc; n++) {
		if (pio_ingest_is_full(r->ingest)) {
			*more = true;
			break;
		}
		rc = pio_wandb_log_next(&r->log, err);
		if (rc != 1)
			break;
		rc = take_record(r, err);
		if (n % PROGRESS_RECORDS == 0)
			pio_importer_progress(r->importer, r->log.offset, r->size);
	}
	if (r->log.broken)
		pio_ingest_skip_count(r->ingest, r->log.broken, "broken blocks, the last before byte %lld",
		                      (long long)r->log.offset);
	r->log.broken = 0;
	return rc;
}

static int read_all(reader *r, bool *is_new, pio_err *err)
{
	bool more = true, first = true;
	int rc = pio_window_size(&r->size, &r->log.window, err);
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
		pio_importer_progress(r->importer, r->log.offset, r->size);
	}
	return rc;
}

static int import_named(reader *r, const char *project, json_t *command, pio_err *err)
{
	bool is_new = false;
	json_t *program = json_pack("{s:O}", "command", command);
	char *text = program && json_array_size(command) ? pio_json_canonical(program) : NULL;
	int rc = pio_importer_open(&r->ingest, r->importer, r->path, project, text, err);
	if (!rc) {
		rc = read_all(r, &is_new, err);
		pio_ingest_end end = end_of(r);
		int told = pio_importer_tell(r->importer, r->ingest, r->path, is_new, end.status,
		                             rc ? NULL : err);
		rc = rc ? rc : told;
	}
	pio_ingest_close(r->ingest);
	json_decref(program);
	free(text);
	return rc;
}

int pio_import_wandb(pio_importer *importer, const char *path, pio_err *err)
{
	reader r = { .importer = importer, .path = path, .dir = PIO_STR_INIT, .log = PIO_WANDB_LOG_INIT,
	             .items = PIO_WANDB_ITEMS_INIT };
	pio_str project = PIO_STR_INIT;
	json_t *command = json_array();
	bool named = false;
	pio_str_append(&r.dir, path, (size_t)(strrchr(path, '/') - path));
	int rc = command ? pio_str_check(&r.dir, err) : pio_fail(err, PIO_ENOMEM, "out of memory");
	if (!rc)
		rc = pio_wandb_log_open(&r.log, path, err);
	if (!rc)
		rc = look(&r, &project, command, &named, err);
	if (!rc && named)
		rc = import_named(&r, project.data, command, err);
	else if (!rc)
		rc = pio_importer_skip(importer, "logs of W&B that do not name their run (yet)", err);
	pio_wandb_log_close(&r.log);
	pio_wandb_items_fini(&r.items);
	pio_str_fini(&project);
	pio_str_fini(&r.dir);
	json_decref(command);
	return rc;
}
