#include "client/name.h"

#include <stdbool.h>
#include <string.h>

#include "base/str.h"

int pio_name_check(const char *what, const char *name, size_t name_bytes, pio_err *err)
{
	if (name_bytes == 0)
		return pio_fail(err, PIO_EINVAL, "%s name is empty: 1 to %d bytes expected", what,
		                PIO_NAME_BYTES_MAX);
	if (name_bytes > PIO_NAME_BYTES_MAX)
		return pio_fail(err, PIO_EINVAL, "%s name of %zu bytes, beginning \"%.40s\": at most %d",
		                what, name_bytes, name, PIO_NAME_BYTES_MAX);
	for (size_t i = 0; i < name_bytes;) {
		size_t n = pio_utf8_length(name + i, name_bytes - i);
		if (n == 0)
			return pio_fail(err, PIO_EINVAL, "%s name is not UTF-8: byte 0x%02x at position %zu",
			                what, (unsigned char)name[i], i);
		if (name[i] == 0)
			return pio_fail(err, PIO_EINVAL, "%s name \"%s\" has a NUL at position %zu", what,
			                name, i);
		i += n;
	}
	return 0;
}

static const char *skip_digits(const char *p)
{
	while (*p >= '0' && *p <= '9')
		p++;
	return p;
}

/* The end of the JSON number at `p`, NULL if there is none. */
static const char *number_end(const char *p)
{
	if (*p == '-')
		p++;
	const char *digits = p;
	p = skip_digits(p);
	if (p == digits || (*digits == '0' && p - digits > 1))
		return NULL;
	if (*p == '.') {
		digits = ++p;
		p = skip_digits(p);
		if (p == digits)
			return NULL;
	}
	if (*p == 'e' || *p == 'E') {
		p++;
		if (*p == '+' || *p == '-')
			p++;
		digits = p;
		p = skip_digits(p);
		if (p == digits)
			return NULL;
	}
	return p;
}

static const char *string_end(const char *p)
{
	for (p++; *p != '"'; p++) {
		if ((unsigned char)*p < 0x20)
			return NULL;
		if (*p != '\\')
			continue;
		p++;
		if (*p == 'u') {
			for (int i = 1; i <= 4; i++)
				if (!p[i] || !strchr("0123456789abcdefABCDEF", p[i]))
					return NULL;
			p += 4;
		} else if (!*p || !strchr("\"\\/bfnrt", *p)) {
			return NULL;
		}
	}
	return p + 1;
}

/* The end of the JSON scalar at `p`, NULL if there is none. */
static const char *scalar_end(const char *p)
{
	static const char *const words[] = { "true", "false", "null" };
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strncmp(p, words[i], strlen(words[i])) == 0)
			return p + strlen(words[i]);
	return *p == '"' ? string_end(p) : number_end(p);
}

int pio_text_check(const char *what, const char *key, const char *text, size_t size_bytes,
                   pio_err *err)
{
	for (size_t i = 0; i < size_bytes;) {
		size_t n = pio_utf8_length(text + i, size_bytes - i);
		if (n == 0)
			return pio_fail(err, PIO_EINVAL, "%s \"%.80s\" is not UTF-8: byte 0x%02x at position "
			                "%zu", what, key, (unsigned char)text[i], i);
		if (text[i] == 0)
			return pio_fail(err, PIO_EINVAL, "%s \"%.80s\" has a NUL at position %zu", what, key, i);
		i += n;
	}
	return 0;
}

int pio_scalar_check(const char *name, const char *json, pio_err *err)
{
	int rc = pio_text_check("value of", name, json, strlen(json), err);
	if (rc)
		return rc;
	const char *end = scalar_end(json);
	if (!end || *end)
		return pio_fail(err, PIO_EINVAL, "value of \"%s\" is %.60s: one JSON scalar expected "
		                "(3, \"text\", true)", name, *json ? json : "empty");
	return 0;
}

/* ---- tables ------------------------------------------------------------------- */

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Past `token` and the white space around it; NULL unless it stands there. */
static const char *expect(const char *p, const char *token)
{
	if (!p)
		return NULL;
	p = skip_space(p);
	return strncmp(p, token, strlen(token)) == 0 ? skip_space(p + strlen(token)) : NULL;
}

/* Past the JSON array at `p`, whose elements `element` steps over; their number
 * in *count. NULL if there is none. */
static const char *array_end(const char *p, size_t *count,
                             const char *(*element)(const char *p, void *context), void *context)
{
	*count = 0;
	p = expect(p, "[");
	if (p && *p == ']')
		return skip_space(p + 1);
	while (p) {
		p = element(p, context);
		if (!p)
			return NULL;
		++*count;
		p = skip_space(p);
		if (*p == ']')
			return skip_space(p + 1);
		p = expect(p, ",");
	}
	return NULL;
}

static const char *table_name(const char *p, void *unused)
{
	(void)unused;
	return *p == '"' ? string_end(p) : NULL;
}

static const char *table_cell(const char *p, void *unused)
{
	(void)unused;
	return scalar_end(p);
}

typedef struct table_shape {
	size_t columns, rows;
	bool ragged;
} table_shape;

static const char *table_column(const char *p, void *context)
{
	table_shape *shape = context;
	size_t rows;
	p = array_end(p, &rows, table_cell, NULL);
	shape->ragged |= shape->columns && rows != shape->rows;
	shape->rows = rows;
	shape->columns++;
	return p;
}

int pio_table_check(const char *key, const char *json, size_t size_bytes, pio_err *err)
{
	table_shape shape = { 0, 0, false };
	size_t names = 0, columns = 0;
	int rc = pio_text_check("table", key, json, size_bytes, err);
	if (rc)
		return rc;
	const char *p = array_end(expect(expect(expect(json, "{"), "\"columns\""), ":"), &names, table_name,
	                          NULL);
	p = array_end(expect(expect(expect(p, ","), "\"data\""), ":"), &columns, table_column, &shape);
	p = expect(p, "}");
	if (!p || *p)
		return pio_fail(err, PIO_EINVAL, "table \"%.80s\" is %.60s%s: {\"columns\":[names],\"data\":"
		                "[[cells of the first column], ...]} expected", key, *json ? json : "empty",
		                size_bytes > 60 ? "..." : "");
	if (names != columns || shape.ragged)
		return pio_fail(err, PIO_EINVAL, "table \"%.80s\" has %zu names and %zu columns%s: one column a "
		                "name expected, all of one length", key, names, columns,
		                shape.ragged ? " of different lengths" : "");
	return 0;
}
