#include "base/str.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

char pio_str_empty[1] = "";

void pio_str_fini(pio_str *s)
{
	if (s->capacity)
		pio_free(s->data);
	*s = (pio_str)PIO_STR_INIT;
}

void pio_str_clear(pio_str *s)
{
	s->len = 0;
	s->failed = false;
	if (s->capacity)
		s->data[0] = 0;
}

static bool reserve(pio_str *s, size_t extra_bytes)
{
	if (extra_bytes > SIZE_MAX / 2 - s->len) {
		s->failed = true;
		return false;
	}
	size_t need = s->len + extra_bytes + 1;
	if (need <= s->capacity)
		return true;
	size_t capacity = s->capacity ? s->capacity : 64;
	while (capacity < need)
		capacity *= 2;
	char *data = pio_realloc(s->capacity ? s->data : NULL, capacity);
	if (!data) {
		s->failed = true;
		return false;
	}
	s->data = data;
	s->capacity = capacity;
	s->data[s->len] = 0;
	return true;
}

void pio_str_append(pio_str *s, const void *bytes, size_t size_bytes)
{
	if (!size_bytes || !reserve(s, size_bytes))
		return;
	memcpy(s->data + s->len, bytes, size_bytes);
	s->len += size_bytes;
	s->data[s->len] = 0;
}

void pio_str_puts(pio_str *s, const char *text)
{
	pio_str_append(s, text, strlen(text));
}

void pio_str_putc(pio_str *s, char c)
{
	pio_str_append(s, &c, 1);
}

void pio_str_printf(pio_str *s, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0) {
		s->failed = true;
	} else if (reserve(s, (size_t)n)) {
		vsnprintf(s->data + s->len, (size_t)n + 1, format, again);
		s->len += (size_t)n;
	}
	va_end(again);
}

size_t pio_utf8_length(const char *text, size_t left)
{
	const unsigned char *p = (const unsigned char *)text;
	if (p[0] < 0x80)
		return 1;
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || left < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
	bool beyond = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
	return overlong || beyond ? 0 : n;
}

void pio_str_put_text(pio_str *s, const char *text, size_t size_bytes)
{
	size_t begin = 0;
	if (!size_bytes)
		return; /* of nothing, the pointer may be NULL */
	for (size_t i = 0; i < size_bytes;) {
		size_t n = text[i] ? pio_utf8_length(text + i, size_bytes - i) : 0;
		if (n == 0) {
			pio_str_append(s, text + begin, i - begin);
			pio_str_puts(s, "\xef\xbf\xbd");
			begin = i + 1;
		}
		i += n ? n : 1;
	}
	pio_str_append(s, text + begin, size_bytes - begin);
}

void pio_str_put_json(pio_str *s, const char *text, size_t size_bytes)
{
	const unsigned char *p = (const unsigned char *)text;
	pio_str_putc(s, '"');
	for (size_t i = 0; i < size_bytes;) {
		size_t plain = i;
		while (plain < size_bytes && p[plain] >= 0x20 && p[plain] < 0x7f && p[plain] != '"' &&
		       p[plain] != '\\')
			plain++;
		if (plain > i) {
			pio_str_append(s, p + i, plain - i);
			i = plain;
			continue;
		}
		size_t n = pio_utf8_length(text + i, size_bytes - i);
		if (n == 0) {
			pio_str_puts(s, "\xef\xbf\xbd");
			i++;
			continue;
		}
		if (p[i] == '"' || p[i] == '\\') {
			pio_str_putc(s, '\\');
			pio_str_putc(s, (char)p[i]);
		} else if (p[i] == '\n') {
			pio_str_puts(s, "\\n");
		} else if (p[i] < 0x20 || p[i] == 0x7f) {
			pio_str_printf(s, "\\u%04x", p[i]);
		} else {
			pio_str_append(s, p + i, n);
		}
		i += n;
	}
	pio_str_putc(s, '"');
}

int pio_str_check(const pio_str *s, pio_err *err)
{
	return s->failed ? pio_fail(err, PIO_ENOMEM, "out of memory after %zu bytes", s->len) : 0;
}

char *pio_str_take(pio_str *s)
{
	if (s->failed || !reserve(s, 0))
		return NULL;
	char *data = s->data;
	*s = (pio_str)PIO_STR_INIT;
	return data;
}
