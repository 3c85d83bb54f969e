#include "store/run_json.h"

#include <math.h>
#include <string.h>

#include "base/decimal.h"
#include "base/mem.h"
#include "base/str.h"

static void put_real(pio_str *out, double value)
{
	char text[PIO_DECIMAL_BYTES];
	if (isfinite(value))
		pio_str_append(out, text, pio_decimal(text, value));
	else
		pio_str_puts(out, isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

static void put_integer(pio_str *out, int64_t value)
{
	char text[24], *at = text + sizeof text;
	uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
	do
		*--at = (char)('0' + left % 10);
	while (left /= 10);
	if (value < 0)
		*--at = '-';
	pio_str_append(out, at, (size_t)(text + sizeof text - at));
}

static void put_bits(pio_str *out, sqlite3_value *bits)
{
	int64_t integer = sqlite3_value_int64(bits);
	double value;
	memcpy(&value, &integer, sizeof value);
	put_real(out, value);
}

static void put_value(pio_str *out, sqlite3_value *value)
{
	switch (sqlite3_value_type(value)) {
	case SQLITE_INTEGER:
		put_integer(out, sqlite3_value_int64(value));
		break;
	case SQLITE_FLOAT:
		put_real(out, sqlite3_value_double(value));
		break;
	case SQLITE_NULL:
		pio_str_puts(out, "null");
		break;
	default: {
		const char *text = (const char *)sqlite3_value_text(value);
		pio_str_put_json(out, text ? text : "", (size_t)sqlite3_value_bytes(value));
	}
	}
}

/* ---- the objects ------------------------------------------------------------------ */

/* The object so far, with a comma and the next name behind it; NULL: no memory. */
static pio_str *next_member(sqlite3_context *context, sqlite3_value *name)
{
	pio_str *out = sqlite3_aggregate_context(context, sizeof *out);
	const char *text = (const char *)sqlite3_value_text(name);
	if (!out || !text) {
		sqlite3_result_error_nomem(context);
		return NULL;
	}
	if (!out->data) /* SQLite's memory begins as zeros */
		*out = (pio_str)PIO_STR_INIT;
	pio_str_putc(out, out->len ? ',' : '{');
	pio_str_put_json(out, text, (size_t)sqlite3_value_bytes(name));
	pio_str_putc(out, ':');
	return out;
}

static void members_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	pio_str *out = next_member(context, argv[0]);
	const char *kind = (const char *)sqlite3_value_text(argv[2]);
	if (!out)
		return;
	if (sqlite3_value_type(argv[3]) != SQLITE_NULL)
		put_bits(out, argv[3]);
	else if (kind && !strcmp(kind, "bool"))
		pio_str_puts(out, sqlite3_value_int(argv[1]) ? "true" : "false");
	else if (kind && !strcmp(kind, "json") && sqlite3_value_type(argv[1]) == SQLITE_TEXT)
		pio_str_append(out, sqlite3_value_text(argv[1]), (size_t)sqlite3_value_bytes(argv[1]));
	else
		put_value(out, argv[1]);
	if (out->failed)
		sqlite3_result_error_nomem(context);
}

/* Of both: the object is handed over, not copied. */
static void object_final(sqlite3_context *context)
{
	pio_str *out = sqlite3_aggregate_context(context, 0);
	if (!out || !out->data) {
		sqlite3_result_text(context, "{}", 2, SQLITE_STATIC);
		return;
	}
	pio_str_putc(out, '}');
	size_t len = out->len;
	char *text = pio_str_take(out);
	if (text)
		sqlite3_result_text64(context, text, len, pio_free, SQLITE_UTF8);
	else
		sqlite3_result_error_nomem(context);
	pio_str_fini(out);
}

enum column { KEY, COUNT, FIRST_STEP, LAST_STEP, LAST, LAST_INT, LAST_BITS, MIN, MAX, SUM, SUM_LOW,
              FINITE, COLUMNS };

static void put_last(pio_str *out, sqlite3_value **argv)
{
	if (sqlite3_value_type(argv[LAST_INT]) != SQLITE_NULL)
		put_integer(out, sqlite3_value_int64(argv[LAST_INT]));
	else if (sqlite3_value_type(argv[LAST_BITS]) != SQLITE_NULL)
		put_bits(out, argv[LAST_BITS]);
	else
		put_value(out, argv[LAST]);
}

static void series_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	pio_str *out = next_member(context, argv[KEY]);
	if (!out)
		return;
	pio_str_puts(out, "{\"count\":");
	put_value(out, argv[COUNT]);
	pio_str_puts(out, ",\"first_step\":");
	put_value(out, argv[FIRST_STEP]);
	pio_str_puts(out, ",\"last\":");
	put_last(out, argv);
	pio_str_puts(out, ",\"last_step\":");
	put_value(out, argv[LAST_STEP]);
	pio_str_puts(out, ",\"max\":");
	put_value(out, argv[MAX]);
	pio_str_puts(out, ",\"mean\":");
	if (sqlite3_value_int64(argv[FINITE]) > 0)
		put_real(out, (sqlite3_value_double(argv[SUM]) + sqlite3_value_double(argv[SUM_LOW])) /
		         (double)sqlite3_value_int64(argv[FINITE]));
	else
		pio_str_puts(out, "null");
	pio_str_puts(out, ",\"min\":");
	put_value(out, argv[MIN]);
	pio_str_putc(out, '}');
	if (out->failed)
		sqlite3_result_error_nomem(context);
}

int pio_store_run_json_register(pio_store *store, pio_err *err)
{
	const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC;
	sqlite3 *db = pio_store_db(store);
	int rc = sqlite3_create_function_v2(db, "json_members", 4, flags, NULL, NULL, members_step,
	                                    object_final, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "json_series", COLUMNS, flags, NULL, NULL, series_step,
		                                object_final, NULL);
	return rc == SQLITE_OK ? 0 : pio_store_fail(store, err, "registering the functions of JSON");
}
