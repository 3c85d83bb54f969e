#include "base/json.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "base/mem.h"

/* ---- parsing -------------------------------------------------------------------------------
 *
 * Where the text of a token cannot grow, jansson 2.14 goes on without a character
 * of it, and without the closing quote of a string it reads past the end (lex_save
 * in its load.c). So no allocation of a parse may fail where jansson sees it: the
 * first that does leaves the parse, and all that it had allocated is freed. */

typedef struct blocks {
	void **all;
	size_t count, capacity;
} blocks;

typedef struct parse {
	jmp_buf out;
	blocks made;
	blocks done_with;           /* freed when the parse is over; of those made */
} parse;

static _Thread_local parse *current;
/* What the program gave jansson, or malloc and free. */
static json_malloc_t below_alloc;
static json_free_t below_free;

static bool push(blocks *list, void *block)
{
	if (pio_grow(&list->all, &list->capacity, list->count, "blocks of a JSON text", NULL) != 0)
		return false;
	list->all[list->count++] = block;
	return true;
}

static void *parse_alloc(size_t size_bytes)
{
	void *block = below_alloc(size_bytes);
	if (!current || (block && push(&current->made, block)))
		return block;
	if (block)
		below_free(block);
	longjmp(current->out, 1);
}

static void parse_free(void *block)
{
	if (!current)
		below_free(block);
	else if (!push(&current->done_with, block))
		longjmp(current->out, 1);
}

static void take_allocator(void)
{
	json_get_alloc_funcs(&below_alloc, &below_free);
	json_set_alloc_funcs(parse_alloc, parse_free);
}

/* A function of its own: setjmp keeps the caller's variables. */
static bool load(parse *p, json_t **value, const char *text, size_t size_bytes, size_t flags,
                 json_error_t *where)
{
	current = p;
	bool whole = setjmp(p->out) == 0;
	if (whole)
		*value = json_loadb(text, size_bytes, flags, where);
	current = NULL;
	return whole;
}

int pio_json_load(json_t **value, const char *text, size_t size_bytes, size_t flags, json_error_t *where)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	parse p = { .made = { 0 } };
	*value = NULL;
	pthread_once(&once, take_allocator);
	bool whole = load(&p, value, text, size_bytes, flags, where);
	const blocks *unused = whole ? &p.done_with : &p.made;
	for (size_t i = 0; i < unused->count; i++)
		below_free(unused->all[i]);
	pio_free(p.made.all);
	pio_free(p.done_with.all);
	return !whole ? -PIO_ENOMEM : *value ? 0 : -PIO_ECORRUPT;
}

int pio_json_parse(json_t **value, const char *text, size_t size_bytes, const char *what,
                   pio_err *err)
{
	json_error_t where;
	int rc = pio_json_load(value, text, size_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	if (rc == -PIO_ENOMEM)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", what);
	return !rc ? 0 : pio_fail(err, PIO_ECORRUPT, "%s: line %d, column %d: %s", what, where.line,
	                          where.column, where.text);
}

/* ---- printing ------------------------------------------------------------------------------ */

/* Rewrite one real number, [at, end), as the shortest text that reads back the
 * same; returns its length, never more than before. */
static size_t shorten(char *at, const char *end)
{
	char text[PIO_DECIMAL_BYTES];
	size_t n = pio_decimal(text, strtod(at, NULL)), length = (size_t)(end - at);
	if (n > length)
		return length;
	memcpy(at, text, n);
	return n;
}

/* jansson prints a fixed number of digits; shorten every real in place. */
static char *with_short_reals(char *text)
{
	if (!text)
		return NULL;
	char *to = text;
	bool in_string = false;
	for (const char *from = text; *from;) {
		if (in_string || !strchr("-0123456789", *from)) {
			if (*from == '\\' && in_string)
				*to++ = *from++;
			else if (*from == '"')
				in_string = !in_string;
			*to++ = *from++;
			continue;
		}
		size_t n = strspn(from, "+-.0123456789eE");
		memmove(to, from, n);
		char after = to[n]; /* strtod must not read on */
		to[n] = 0;
		bool real = strpbrk(to, ".eE") != NULL;
		size_t kept = real ? shorten(to, to + n) : n;
		to[n] = after;
		to += kept;
		from += n;
	}
	*to = 0;
	return text;
}

char *pio_json_canonical(const json_t *value)
{
	return with_short_reals(json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY |
	                                   JSON_REAL_PRECISION(17)));
}

char *pio_json_pretty(const json_t *value)
{
	return with_short_reals(json_dumps(value, JSON_SORT_KEYS | JSON_INDENT(2) | JSON_ENCODE_ANY |
	                                   JSON_REAL_PRECISION(17)));
}

/* ---- members ------------------------------------------------------------------------------- */

int pio_json_get_string(const json_t *object, const char *name, const char **value,
                        const char *what, pio_err *err)
{
	const json_t *member = json_object_get(object, name);
	if (!json_is_string(member))
		return pio_fail(err, PIO_ECORRUPT, "%s: member \"%s\" is %s, expected a string", what, name,
		                member ? "of another type" : "missing");
	*value = json_string_value(member);
	return 0;
}

int pio_json_get_int(const json_t *object, const char *name, int64_t *value, const char *what,
                     pio_err *err)
{
	const json_t *member = json_object_get(object, name);
	if (!json_is_integer(member))
		return pio_fail(err, PIO_ECORRUPT, "%s: member \"%s\" is %s, expected an integer", what,
		                name, member ? "of another type" : "missing");
	*value = json_integer_value(member);
	return 0;
}

const char *pio_json_string_or(const json_t *object, const char *name, const char *otherwise)
{
	const json_t *member = json_object_get(object, name);
	return json_is_string(member) ? json_string_value(member) : otherwise;
}

int64_t pio_json_int_or(const json_t *object, const char *name, int64_t otherwise)
{
	const json_t *member = json_object_get(object, name);
	return json_is_integer(member) ? json_integer_value(member) : otherwise;
}
