#include "exchange/hparams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "exchange/importer.h"

enum { DATA_VERSION = 1, DATA_START = 3, DATA_END = 4 };
enum { VALUE_NULL = 1, VALUE_NUMBER, VALUE_STRING, VALUE_BOOL };

/* google.protobuf.Value; NULL for a list or a struct. Its numbers are doubles:
 * whole ones were integers more often than not. */
static json_t *value_of(const pio_proto_field *field)
{
	pio_proto message = pio_proto_in(field);
	pio_proto_field part;
	json_t *value = json_null();
	while (value && pio_proto_next(&message, &part)) {
		double number = pio_proto_double(&part);
		pio_str text = PIO_STR_INIT;
		json_decref(value);
		value = json_null();
		switch (part.number) {
		case VALUE_NUMBER:
			if (fabs(number) <= 0x1p53 && floor(number) == number && !(number == 0 && signbit(number)))
				value = json_integer((json_int_t)number);
			else if (isfinite(number))
				value = json_real(number);
			else
				value = json_string(isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
			break;
		case VALUE_STRING:
			pio_str_put_text(&text, (const char *)part.bytes, part.size_bytes);
			value = json_stringn(text.data, text.len);
			break;
		case VALUE_BOOL:
			value = json_boolean(part.value != 0);
			break;
		case VALUE_NULL:
			break;
		default:
			value = NULL;
		}
		pio_str_fini(&text);
	}
	return value;
}

/* One entry of the map from names to values. */
static int take_param(pio_ingest *ingest, const pio_proto_field *field, pio_err *err)
{
	pio_proto entry = pio_proto_in(field);
	pio_proto_field part;
	pio_str name = PIO_STR_INIT;
	json_t *value = json_null();
	while (value && pio_proto_next(&entry, &part)) {
		if (part.number == 1 && part.wire == PIO_PROTO_BYTES) {
			pio_str_clear(&name);
			pio_str_put_text(&name, (const char *)part.bytes, part.size_bytes);
		} else if (part.number == 2) {
			json_decref(value);
			value = value_of(&part);
		}
	}
	int rc = pio_str_check(&name, err);
	if (!rc && value && !entry.bad)
		rc = pio_ingest_param(ingest, name.data, value, err);
	else if (!rc)
		pio_ingest_skip_count(ingest, 1, "hparams that are no number, text or truth value");
	json_decref(value);
	pio_str_fini(&name);
	return rc;
}

static int take_start(pio_ingest *ingest, const pio_proto_field *field, pio_err *err)
{
	pio_proto info = pio_proto_in(field);
	pio_proto_field part;
	int rc = 0;
	while (!rc && pio_proto_next(&info, &part)) {
		if (part.number == 1)
			rc = take_param(ingest, &part, err);
		else if (part.number == 5)
			pio_ingest_seen(ingest, pio_exchange_seconds_ns(pio_proto_double(&part)));
	}
	return rc;
}

static void take_end(pio_hparams_end *end, pio_ingest *ingest, const pio_proto_field *field)
{
	pio_proto info = pio_proto_in(field);
	pio_proto_field part;
	while (pio_proto_next(&info, &part)) {
		if (part.number == 1 && part.value <= PIO_HPARAMS_RUNNING)
			*end = (pio_hparams_end)part.value;
		else if (part.number == 2)
			pio_ingest_seen(ingest, pio_exchange_seconds_ns(pio_proto_double(&part)));
	}
}

int pio_hparams_take(pio_hparams_end *end, pio_ingest *ingest, pio_bytes content, pio_err *err)
{
	pio_proto data = pio_proto_of(content.at, content.size_bytes);
	pio_proto_field field;
	int rc = 0;
	while (!rc && pio_proto_next(&data, &field)) {
		if (field.number == DATA_START)
			rc = take_start(ingest, &field, err);
		else if (field.number == DATA_END)
			take_end(end, ingest, &field);
	}
	if (data.bad)
		pio_ingest_skip_count(ingest, 1, "hparams that cannot be read");
	return rc;
}

/* ---- writing -------------------------------------------------------------------------------- */

static void put_value(pio_str *out, const json_t *json)
{
	pio_str value = PIO_STR_INIT;
	double number;
	if (json_is_boolean(json)) {
		pio_proto_put_varint(&value, VALUE_BOOL, json_is_true(json));
	} else if (pio_exchange_number(&number, json)) {
		pio_proto_put_double(&value, VALUE_NUMBER, number);
	} else if (json_is_string(json)) {
		pio_proto_put_bytes(&value, VALUE_STRING, json_string_value(json), json_string_length(json));
	} else {
		char *text = pio_json_canonical(json);
		value.failed = value.failed || !text;
		pio_proto_put_text(&value, VALUE_STRING, text ? text : "");
		free(text);
	}
	pio_proto_put_bytes(out, 2, value.data, value.len);
	out->failed = out->failed || value.failed;
	pio_str_fini(&value);
}

static void put_data(pio_str *out, uint32_t number, const pio_str *info)
{
	pio_proto_put_varint(out, DATA_VERSION, 0);
	pio_proto_put_bytes(out, number, info->data, info->len);
	out->failed = out->failed || info->failed;
}

void pio_hparams_put_start(pio_str *out, const json_t *params, const char *group, double start_s)
{
	pio_str info = PIO_STR_INIT;
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)params, name, value) {
		pio_str entry = PIO_STR_INIT;
		pio_proto_put_text(&entry, 1, name);
		put_value(&entry, value);
		pio_proto_put_bytes(&info, 1, entry.data, entry.len);
		info.failed = info.failed || entry.failed;
		pio_str_fini(&entry);
	}
	pio_proto_put_text(&info, 4, group);
	pio_proto_put_double(&info, 5, start_s);
	put_data(out, DATA_START, &info);
	pio_str_fini(&info);
}

void pio_hparams_put_end(pio_str *out, pio_hparams_end end, double end_s)
{
	pio_str info = PIO_STR_INIT;
	pio_proto_put_varint(&info, 1, end);
	pio_proto_put_double(&info, 2, end_s);
	put_data(out, DATA_END, &info);
	pio_str_fini(&info);
}
