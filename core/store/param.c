#include "store/param.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

typedef struct fact {
	char *name, *text;      /* text: of a text or JSON value */
	size_t name_bytes, text_bytes;
	char kind;              /* first letter of what it compares as; 'n': a number */
	bool is_int, differs;
	int64_t bits;           /* of the number */
	int64_t count;
} fact;

typedef struct facts {
	fact *all;
	size_t count, capacity;
	size_t next;            /* where the next name is expected: runs repeat their order */
	uint32_t *places;       /* hash of names: index + 1, 0: free */
	size_t places_size;     /* a power of two */
} facts;

static uint64_t hash_name(const char *name, size_t bytes)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ (uint8_t)name[i]) * 0x100000001b3u;
	return hash ^ hash >> 32;
}

static bool has_name(const fact *f, const char *name, size_t bytes)
{
	return f->name_bytes == bytes && memcmp(f->name, name, bytes) == 0;
}

static size_t place_of(const facts *set, const char *name, size_t bytes)
{
	size_t mask = set->places_size - 1, at = (size_t)hash_name(name, bytes) & mask;
	while (set->places[at] && !has_name(&set->all[set->places[at] - 1], name, bytes))
		at = (at + 1) & mask;
	return at;
}

static bool grow(facts *set)
{
	size_t capacity = set->capacity ? set->capacity * 2 : 64;
	fact *all = pio_realloc(set->all, capacity * sizeof *all);
	if (!all)
		return false;
	set->all = all;
	uint32_t *places = pio_calloc(2 * capacity, sizeof *places);
	if (!places)
		return false;
	pio_free(set->places);
	set->places = places;
	set->places_size = 2 * capacity;
	set->capacity = capacity;
	for (size_t i = 0; i < set->count; i++)
		places[place_of(set, all[i].name, all[i].name_bytes)] = (uint32_t)i + 1;
	return true;
}

static char *copy(const char *bytes, size_t n)
{
	char *block = pio_alloc(n + 1);
	if (block && n)
		memcpy(block, bytes, n);
	return block;
}

/* What a row's value compares as; text is borrowed. */
static fact value_of(sqlite3_value **argv)
{
	const char *kind = (const char *)sqlite3_value_text(argv[2]);
	fact f = { .kind = kind ? kind[0] : 0 };
	double number;
	if (sqlite3_value_type(argv[3]) != SQLITE_NULL) { /* a NaN or -0.0 is its bits */
		f.bits = sqlite3_value_int64(argv[3]);
		f.kind = 'r';
		return f;
	}
	switch (sqlite3_value_type(argv[1])) {
	case SQLITE_INTEGER:
		f.bits = sqlite3_value_int64(argv[1]);
		f.is_int = true;
		f.kind = f.kind == 'b' ? 'b' : 'n';
		break;
	case SQLITE_FLOAT:
		number = sqlite3_value_double(argv[1]);
		memcpy(&f.bits, &number, 8);
		f.kind = 'n';
		if (number >= -0x1p53 && number <= 0x1p53 && (double)(int64_t)number == number) {
			f.bits = (int64_t)number;
			f.is_int = true;
		}
		break;
	case SQLITE_NULL:
		break;
	default:
		f.text = (char *)(uintptr_t)sqlite3_value_text(argv[1]);
		f.text_bytes = (size_t)sqlite3_value_bytes(argv[1]);
	}
	return f;
}

static bool is_same(const fact *a, const fact *b)
{
	return a->kind == b->kind && a->is_int == b->is_int && a->bits == b->bits &&
	       a->text_bytes == b->text_bytes &&
	       (!a->text_bytes || memcmp(a->text, b->text, a->text_bytes) == 0);
}

static fact *find_or_add(facts *set, const char *name, size_t bytes, const fact *value)
{
	if (set->next < set->count && has_name(&set->all[set->next], name, bytes))
		return &set->all[set->next++];
	if (set->count == set->capacity && !grow(set))
		return NULL;
	size_t place = place_of(set, name, bytes);
	if (!set->places[place]) {
		fact fresh = *value;
		fresh.name = copy(name, bytes);
		fresh.name_bytes = bytes;
		fresh.text = copy(value->text, value->text_bytes);
		if (!fresh.name || !fresh.text) {
			pio_free(fresh.name);
			pio_free(fresh.text);
			return NULL;
		}
		set->all[set->count++] = fresh;
		set->places[place] = (uint32_t)set->count;
	}
	set->next = set->places[place];
	return &set->all[set->places[place] - 1];
}

static void facts_step(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	facts *set = sqlite3_aggregate_context(context, sizeof *set);
	const char *name = (const char *)sqlite3_value_text(argv[0]);
	if (!set || !name) {
		sqlite3_result_error_nomem(context);
		return;
	}
	fact value = value_of(argv);
	fact *f = find_or_add(set, name, (size_t)sqlite3_value_bytes(argv[0]), &value);
	if (!f) {
		sqlite3_result_error_nomem(context);
		return;
	}
	f->count++;
	f->differs = f->differs || !is_same(f, &value);
}

static void facts_final(sqlite3_context *context)
{
	facts *set = sqlite3_aggregate_context(context, 0);
	pio_str out = PIO_STR_INIT;
	for (size_t i = 0; set && i < set->count; i++) {
		fact *f = &set->all[i];
		pio_str_printf(&out, "%lld %d %zu:", (long long)f->count, f->differs, f->name_bytes);
		pio_str_append(&out, f->name, f->name_bytes);
		pio_free(f->name);
		pio_free(f->text);
	}
	if (set) {
		pio_free(set->all);
		pio_free(set->places);
	}
	if (out.failed)
		sqlite3_result_error_nomem(context);
	else
		sqlite3_result_text64(context, out.data, out.len, SQLITE_TRANSIENT, SQLITE_UTF8);
	pio_str_fini(&out);
}

int pio_store_param_register(pio_store *store, pio_err *err)
{
	if (sqlite3_create_function_v2(pio_store_db(store), "param_facts", 4, SQLITE_UTF8 |
	                               SQLITE_DETERMINISTIC, NULL, NULL, facts_step, facts_final,
	                               NULL) != SQLITE_OK)
		return pio_store_fail(store, err, "registering the function param_facts");
	return 0;
}
