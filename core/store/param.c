#include "store/param.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/sql.h"

typedef struct column {
	pio_param_column shown;
	size_t values_capacity;
	uint32_t last;          /* index of the value that was met last */
	uint32_t *places;       /* hash of values: index + 1, 0: free */
	size_t places_size;     /* a power of two */
} column;

typedef struct wanted {
	int64_t id;
	size_t place;           /* among the runs that were asked for */
} wanted;

struct pio_params {
	size_t runs, run;       /* how many, and which is being read */
	wanted *order;          /* by id */
	column *all;
	size_t count, capacity;
	size_t next;            /* where the next name is expected: runs repeat their order */
	uint32_t *places;       /* hash of names: index + 1, 0: free */
	size_t places_size;     /* a power of two */
	pio_param_column *shown;
};

static uint64_t hash_bytes(const char *bytes, size_t count)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < count; i++)
		hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3u;
	return hash ^ hash >> 32;
}

static char *copy(const char *bytes, size_t n)
{
	char *block = pio_alloc(n + 1);
	if (block && n)
		memcpy(block, bytes, n);
	return block;
}

/* ---- values -------------------------------------------------------------------- */

/* What a row says; text is borrowed from it. `value` of a real that SQLite cannot
 * hold is its bits. Bytes are asked for as a blob: as text, SQLite would copy them
 * to end them with a NUL. */
static pio_param_value value_of(sqlite3_value *value, sqlite3_value *kind)
{
	const char *word = sqlite3_value_blob(kind);
	pio_param_value v = { .kind = word ? word[0] : 0 };
	double number;
	switch (sqlite3_value_type(value)) {
	case SQLITE_INTEGER:
		v.bits = sqlite3_value_int64(value);
		v.kind = v.kind == 'b' || v.kind == 'r' ? v.kind : 'i';
		break;
	case SQLITE_FLOAT:
		number = sqlite3_value_double(value);
		memcpy(&v.bits, &number, 8);
		v.kind = 'r';
		break;
	case SQLITE_NULL:
		v.kind = 0;
		break;
	default:
		v.text = (char *)(uintptr_t)sqlite3_value_blob(value);
		v.text_bytes = (size_t)sqlite3_value_bytes(value);
		v.kind = v.kind == 'j' ? 'j' : 't';
	}
	return v;
}

static bool is_equal(const pio_param_value *a, const pio_param_value *b)
{
	return a->kind == b->kind && a->bits == b->bits && a->text_bytes == b->text_bytes &&
	       (!a->text_bytes || memcmp(a->text, b->text, a->text_bytes) == 0);
}

/* The value by which others are the same: of a real that is whole, the integer. */
static pio_param_value plain(const pio_param_value *value)
{
	pio_param_value v = *value;
	double number;
	memcpy(&number, &v.bits, 8);
	bool whole = v.kind == 'r' && number >= -0x1p63 && number < 0x1p63 &&
	             (double)(int64_t)number == number && v.bits != INT64_MIN; /* that is -0.0 */
	if (whole)
		v = (pio_param_value){ .kind = 'i', .bits = (int64_t)number };
	return v;
}

static size_t value_hash(const pio_param_value *value)
{
	uint64_t bits = ((uint64_t)value->bits ^ (uint64_t)value->kind << 56) * 0x9e3779b97f4a7c15u;
	return (size_t)((bits >> 32) ^ (value->text_bytes ? hash_bytes(value->text, value->text_bytes) : 0));
}

static bool values_grow(column *c)
{
	pio_param_column *shown = &c->shown;
	size_t capacity = c->values_capacity ? c->values_capacity * 2 : 4;
	pio_param_value *values = pio_realloc(shown->values, capacity * sizeof *values);
	if (!values)
		return false;
	shown->values = values;
	c->values_capacity = capacity;
	pio_free(c->places);
	c->places_size = 2 * capacity;
	c->places = pio_calloc(c->places_size, sizeof *c->places);
	if (!c->places)
		return false;
	for (size_t i = 0; i < shown->values_count; i++) {
		pio_param_value key = plain(&values[i]);
		size_t at = value_hash(&key) & (c->places_size - 1);
		while (c->places[at])
			at = (at + 1) & (c->places_size - 1);
		c->places[at] = (uint32_t)i + 1;
	}
	return true;
}

/* Index of the value among the column's, where it is put when it is new. */
static bool value_put(uint32_t *index, column *c, const pio_param_value *value)
{
	pio_param_column *shown = &c->shown;
	if (shown->values_count == c->values_capacity && !values_grow(c))
		return false;
	pio_param_value fresh = *value, key = plain(value);
	fresh.same_as = (uint32_t)shown->values_count;
	size_t mask = c->places_size - 1, at = value_hash(&key) & mask;
	for (; c->places[at]; at = (at + 1) & mask) {
		const pio_param_value *other = &shown->values[c->places[at] - 1];
		pio_param_value other_key = plain(other);
		if (is_equal(other, value)) {
			*index = c->places[at] - 1;
			return true;
		}
		if (is_equal(&other_key, &key))
			fresh.same_as = other->same_as;
	}
	if (value->text) {
		fresh.text = copy(value->text, value->text_bytes);
		if (!fresh.text)
			return false;
	}
	shown->differs = shown->differs || fresh.same_as != 0;
	shown->values[shown->values_count] = fresh;
	*index = (uint32_t)shown->values_count++;
	c->places[at] = (uint32_t)shown->values_count;
	return true;
}

/* ---- columns --------------------------------------------------------------------- */

static bool has_name(const column *c, const char *name, size_t bytes)
{
	return c->shown.name_bytes == bytes && memcmp(c->shown.name, name, bytes) == 0;
}

static size_t place_of(const pio_params *params, const char *name, size_t bytes)
{
	size_t mask = params->places_size - 1, at = (size_t)hash_bytes(name, bytes) & mask;
	while (params->places[at] && !has_name(&params->all[params->places[at] - 1], name, bytes))
		at = (at + 1) & mask;
	return at;
}

static bool grow(pio_params *params)
{
	size_t capacity = params->capacity ? params->capacity * 2 : 64;
	column *all = pio_realloc(params->all, capacity * sizeof *all);
	if (!all)
		return false;
	params->all = all;
	uint32_t *places = pio_calloc(2 * capacity, sizeof *places);
	if (!places)
		return false;
	pio_free(params->places);
	params->places = places;
	params->places_size = 2 * capacity;
	params->capacity = capacity;
	for (size_t i = 0; i < params->count; i++)
		places[place_of(params, all[i].shown.name, all[i].shown.name_bytes)] = (uint32_t)i + 1;
	return true;
}

static column *find_or_add(pio_params *params, const char *name, size_t bytes)
{
	if (params->next < params->count && has_name(&params->all[params->next], name, bytes))
		return &params->all[params->next++];
	if (params->count == params->capacity && !grow(params))
		return NULL;
	size_t place = place_of(params, name, bytes);
	if (!params->places[place]) {
		column fresh = { .shown = { .name = copy(name, bytes), .name_bytes = bytes } };
		if (!fresh.shown.name)
			return NULL;
		params->all[params->count++] = fresh;
		params->places[place] = (uint32_t)params->count;
	}
	params->next = params->places[place];
	return &params->all[params->places[place] - 1];
}

/* From now on each run's value is held. Until now the first `count` runs in the order
 * of reading had the first value, and no other run had any. */
static bool hold_each(const pio_params *params, pio_param_column *shown)
{
	shown->by_run = pio_calloc(params->runs, sizeof *shown->by_run);
	for (size_t i = 0; shown->by_run && i < shown->count; i++)
		shown->by_run[params->order[i].place] = 1;
	return shown->by_run;
}

static bool add(pio_params *params, const char *name, size_t bytes, const pio_param_value *value)
{
	column *c = find_or_add(params, name, bytes);
	if (!c)
		return false;
	pio_param_column *shown = &c->shown;
	bool known = shown->values_count && is_equal(&shown->values[c->last], value);
	if (!known && !value_put(&c->last, c, value))
		return false;
	if (!shown->by_run && (c->last || shown->count != params->run) && !hold_each(params, shown))
		return false;
	if (shown->by_run)
		shown->by_run[params->order[params->run].place] = c->last + 1;
	shown->count++;
	return true;
}

/* ---- reading --------------------------------------------------------------------- */

/* The function param_beyond(run_id, name, value, kind) reads a row, and is true of the
 * first whose run is not asked for: the query that walks over the rows ends there. As
 * results of it they would take twice as long, and with an upper bound SQLite would
 * compare the key of each with that. */
static void param_beyond(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	pio_params *params = *pio_store_params_slot(sqlite3_user_data(context));
	if (!params) {
		sqlite3_result_error(context, "param_beyond is for pioche alone", -1);
		return;
	}
	int64_t id = sqlite3_value_int64(argv[0]);
	while (params->run < params->runs && params->order[params->run].id < id) {
		params->run++;
		params->next = 0;
	}
	if (params->run == params->runs || params->order[params->run].id != id) {
		sqlite3_result_int(context, 1);
		return;
	}
	pio_param_value value = value_of(argv[2], argv[3]);
	const char *name = sqlite3_value_blob(argv[1]);
	if (!add(params, name ? name : "", (size_t)sqlite3_value_bytes(argv[1]), &value))
		sqlite3_result_error_nomem(context);
}

int pio_store_param_register(pio_store *store, pio_err *err)
{
	if (sqlite3_create_function_v2(pio_store_db(store), "param_beyond", 4, SQLITE_UTF8 |
	                               SQLITE_DIRECTONLY, store, param_beyond, NULL, NULL,
	                               NULL) != SQLITE_OK)
		return pio_store_fail(store, err, "registering the function param_beyond");
	return 0;
}

/* Read the run that is next in the order, and all behind it up to one that is not
 * asked for. 1: there may be more. */
static int read_stretch(pio_params *params, pio_store *store, pio_err *err)
{
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT 1 FROM param WHERE run_id >= ?1 AND"
	                                  " param_beyond(run_id, name, coalesce(bits, value), kind)"
	                                  " ORDER BY run_id", "i", params->order[params->run].id);
	int rc = pio_sql_row(store, row, err);
	pio_sql_reset(row);
	return rc;
}

static int compare_ids(const void *a, const void *b)
{
	int64_t x = ((const wanted *)a)->id, y = ((const wanted *)b)->id;
	return (x > y) - (x < y);
}

static int read_all(pio_params *params, pio_store *store, const int64_t *run_ids, pio_err *err)
{
	params->order = pio_alloc((params->runs + 1) * sizeof *params->order);
	if (!params->order)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the parameters of %zu runs", params->runs);
	bool sorted = true;     /* as they mostly are */
	for (size_t i = 0; i < params->runs; i++) {
		params->order[i] = (wanted){ run_ids[i], i };
		sorted = sorted && (i == 0 || run_ids[i - 1] <= run_ids[i]);
	}
	if (!sorted)
		qsort(params->order, params->runs, sizeof *params->order, compare_ids);
	int more = 1;
	*pio_store_params_slot(store) = params;
	while (more > 0 && params->run < params->runs)
		more = read_stretch(params, store, err);
	*pio_store_params_slot(store) = NULL;
	int rc = more < 0 ? more : 0;
	params->shown = rc ? NULL : pio_alloc(params->count * sizeof *params->shown);
	if (!rc && !params->shown)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for %zu parameters", params->count);
	for (size_t i = 0; !rc && i < params->count; i++) {
		pio_param_column *shown = &params->all[i].shown;
		shown->differs = shown->differs || shown->count < params->runs;
		if (shown->count < params->runs && !shown->by_run && !hold_each(params, shown))
			rc = pio_fail(err, PIO_ENOMEM, "out of memory for the parameters of %zu runs", params->runs);
		params->shown[i] = *shown;
	}
	return rc;
}

int pio_params_read(pio_params **out, pio_store *store, const int64_t *run_ids, size_t count,
                    pio_err *err)
{
	*out = NULL;
	pio_params *params = pio_calloc(1, sizeof *params);
	if (!params)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the parameters of %zu runs", count);
	params->runs = count;
	/* All runs as of one moment, and a file's locks are taken once. */
	bool alone = sqlite3_get_autocommit(pio_store_db(store));
	int rc = alone ? pio_sql_exec(store, err, "BEGIN", "") : 0;
	if (!rc) {
		rc = read_all(params, store, run_ids, err);
		int ended = alone ? pio_sql_exec(store, rc ? NULL : err, "COMMIT", "") : 0;
		rc = rc ? rc : ended;
	}
	if (rc)
		pio_params_free(params);
	else
		*out = params;
	return rc;
}

const pio_param_column *pio_params_columns(const pio_params *params, size_t *count)
{
	*count = params->count;
	return params->shown;
}

void pio_params_free(pio_params *params)
{
	if (!params)
		return;
	for (size_t i = 0; i < params->count; i++) {
		column *c = &params->all[i];
		for (size_t k = 0; k < c->shown.values_count; k++)
			pio_free(c->shown.values[k].text);
		pio_free(c->shown.values);
		pio_free(c->shown.by_run);
		pio_free(c->shown.name);
		pio_free(c->places);
	}
	pio_free(params->all);
	pio_free(params->places);
	pio_free(params->shown);
	pio_free(params->order);
	pio_free(params);
}
