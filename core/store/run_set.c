#include "store/run_set.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define ID_MAX ((int64_t)1 << 32)

typedef struct set {
	uint8_t *bytes;
	size_t used, capacity; /* used: up to the largest id's byte */
} set;

static void set_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	set *s = sqlite3_aggregate_context(context, sizeof *s);
	int64_t id = sqlite3_value_int64(argv[0]);
	if (!s) {
		sqlite3_result_error_nomem(context);
		return;
	}
	if (id < 0 || id > ID_MAX) {
		sqlite3_result_error(context, "run_set: an id of a run is between 0 and 2^32", -1);
		return;
	}
	size_t at = (size_t)id / 8;
	if (at >= s->capacity) {
		size_t capacity = at < 4096 ? 8192 : 2 * at;
		uint8_t *bytes = pio_realloc(s->bytes, capacity);
		if (!bytes) {
			sqlite3_result_error_nomem(context);
			return;
		}
		memset(bytes + s->capacity, 0, capacity - s->capacity);
		s->bytes = bytes;
		s->capacity = capacity;
	}
	s->bytes[at] = (uint8_t)(s->bytes[at] | 1u << (id % 8));
	if (at >= s->used)
		s->used = at + 1;
}

static void set_final(sqlite3_context *context)
{
	set *s = sqlite3_aggregate_context(context, 0);
	if (s && s->bytes)
		sqlite3_result_blob64(context, s->bytes, s->used, pio_free);
	else
		sqlite3_result_zeroblob(context, 0);
	if (s)
		s->bytes = NULL;
}

enum operation { AND, OR, MINUS };

static uint8_t joined(enum operation how, uint8_t a, uint8_t b)
{
	return how == AND ? a & b : how == OR ? a | b : a & (uint8_t)~b;
}

static void set_join(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	enum operation how = *(const enum operation *)sqlite3_user_data(context);
	const uint8_t *a = sqlite3_value_blob(argv[0]), *b = sqlite3_value_blob(argv[1]);
	size_t a_bytes = (size_t)sqlite3_value_bytes(argv[0]);
	size_t b_bytes = (size_t)sqlite3_value_bytes(argv[1]);
	size_t bytes = how == OR && b_bytes > a_bytes ? b_bytes : a_bytes;
	uint8_t *out = pio_alloc(bytes + 1);
	if (!out) {
		sqlite3_result_error_nomem(context);
		return;
	}
	for (size_t i = 0; i < bytes; i++)
		out[i] = joined(how, i < a_bytes ? a[i] : 0, i < b_bytes ? b[i] : 0);
	sqlite3_result_blob64(context, out, bytes, pio_free);
}

static void set_has(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	int64_t id = sqlite3_value_int64(argv[1]);
	const uint8_t *bytes = sqlite3_value_blob(argv[0]);
	bool inside = id >= 0 && id / 8 < sqlite3_value_bytes(argv[0]);
	sqlite3_result_int(context, inside && bytes[id / 8] >> (id % 8) & 1);
}

static void set_count(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	const uint8_t *bytes = sqlite3_value_blob(argv[0]);
	int64_t count = 0;
	for (int i = 0; i < sqlite3_value_bytes(argv[0]); i++)
		count += __builtin_popcount(bytes[i]);
	sqlite3_result_int64(context, count);
}

static void set_ids(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	const uint8_t *bytes = sqlite3_value_blob(argv[0]);
	int64_t left = sqlite3_value_int64(argv[1]);
	pio_str out = PIO_STR_INIT;
	for (int64_t id = (int64_t)sqlite3_value_bytes(argv[0]) * 8 - 1; id >= 0 && left != 0; id--)
		if (bytes[id / 8] >> (id % 8) & 1) {
			pio_str_printf(&out, "%s%lld", out.len ? " " : "", (long long)id);
			left--;
		}
	if (out.failed)
		sqlite3_result_error_nomem(context);
	else
		sqlite3_result_text64(context, out.len ? out.data : "", out.len, SQLITE_TRANSIENT, SQLITE_UTF8);
	pio_str_fini(&out);
}

int pio_store_run_set_register(pio_store *store, pio_err *err)
{
	static const enum operation operations[] = { AND, OR, MINUS };
	static const struct {
		const char *name;
		int arguments, operation;
		void (*function)(sqlite3_context *, int, sqlite3_value **);
	} scalars[] = {
		{ "run_set_and", 2, 0, set_join }, { "run_set_or", 2, 1, set_join },
		{ "run_set_minus", 2, 2, set_join }, { "run_set_has", 2, 0, set_has },
		{ "run_set_count", 1, 0, set_count }, { "run_set_ids", 2, 0, set_ids },
	};
	sqlite3 *db = pio_store_db(store);
	const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC;
	int rc = sqlite3_create_function_v2(db, "run_set", 1, flags, NULL, NULL, set_step, set_final,
	                                    NULL);
	for (size_t i = 0; i < sizeof scalars / sizeof *scalars && rc == SQLITE_OK; i++)
		rc = sqlite3_create_function_v2(db, scalars[i].name, scalars[i].arguments, flags,
		                                (void *)(uintptr_t)&operations[scalars[i].operation],
		                                scalars[i].function, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : pio_store_fail(store, err, "registering the functions of run sets");
}
