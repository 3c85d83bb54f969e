/* str.h: a growing byte string.
 *
 * Always NUL-terminated (data[len] == 0), may hold NULs. Start from
 * PIO_STR_INIT, end with pio_str_fini. An append that runs out of memory
 * leaves the string as it was and sets `failed`, so that a chain of appends
 * is checked once at its end. */
#ifndef PIO_BASE_STR_H
#define PIO_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct pio_str {
	char *data;     /* never NULL: the empty string is static */
	size_t len;     /* bytes, without the final NUL */
	size_t capacity;
	bool failed;    /* an append ran out of memory */
} pio_str;

extern char pio_str_empty[1];
#define PIO_STR_INIT { pio_str_empty, 0, 0, false }

void pio_str_fini(pio_str *s);
/* Empty it, keep the memory and clear `failed`. */
void pio_str_clear(pio_str *s);
void pio_str_append(pio_str *s, const void *bytes, size_t size_bytes);
void pio_str_puts(pio_str *s, const char *text);
void pio_str_putc(pio_str *s, char c);
void pio_str_printf(pio_str *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Bytes of the UTF-8 sequence at `text` (RFC 3629: no surrogates, no overlong
 * forms), 0 if there is none within `left` bytes (at least 1). */
size_t pio_utf8_length(const char *text, size_t left);
/* Append `text`; NULs and bytes that are not UTF-8 become U+FFFD. */
void pio_str_put_text(pio_str *s, const char *text, size_t size_bytes);
/* Append `text` as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void pio_str_put_json(pio_str *s, const char *text, size_t size_bytes);
/* 0, or -PIO_ENOMEM when an append failed. */
int pio_str_check(const pio_str *s, pio_err *err);
/* The caller owns the result (pio_free); the string is empty afterwards. NULL
 * when an append failed. */
char *pio_str_take(pio_str *s);

#endif
