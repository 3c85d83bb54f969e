#include "client/name.h"

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
			if (strspn(p + 1, "0123456789abcdefABCDEF") < 4)
				return NULL;
			p += 4;
		} else if (!*p || !strchr("\"\\/bfnrt", *p)) {
			return NULL;
		}
	}
	return p + 1;
}

int pio_scalar_check(const char *name, const char *json, pio_err *err)
{
	static const char *const words[] = { "true", "false", "null" };
	const char *end = NULL;
	size_t size_bytes = strlen(json);
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(json, words[i]) == 0)
			return 0;
	for (size_t i = 0, n; i < size_bytes; i += n) {
		n = pio_utf8_length(json + i, size_bytes - i);
		if (n == 0)
			return pio_fail(err, PIO_EINVAL, "value of \"%s\" is not UTF-8: byte 0x%02x at "
			                "position %zu", name, (unsigned char)json[i], i);
	}
	end = *json == '"' ? string_end(json) : number_end(json);
	if (!end || *end)
		return pio_fail(err, PIO_EINVAL, "value of \"%s\" is %.60s: one JSON scalar expected "
		                "(3, \"text\", true)", name, *json ? json : "empty");
	return 0;
}
