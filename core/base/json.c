#include "base/json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"

int pio_json_parse(json_t **value, const char *text, size_t size_bytes, const char *what,
                   pio_err *err)
{
	json_error_t where;
	*value = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	if (*value)
		return 0;
	/* Before it reads, jansson reports memory that is out by no code at all. */
	if (where.line < 0 || json_error_code(&where) == json_error_out_of_memory)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", what);
	return pio_fail(err, PIO_ECORRUPT, "%s: line %d, column %d: %s", what, where.line, where.column,
	                where.text);
}

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
