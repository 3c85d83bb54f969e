/* hex.h: bytes as lower-case hexadecimal digits. */
#ifndef PIO_BASE_HEX_H
#define PIO_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `text` holds 2 * size_bytes + 1 characters. */
static inline void pio_hex_format(const void *bytes, size_t size_bytes, char *text)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = bytes;
	for (size_t i = 0; i < size_bytes; i++) {
		text[2 * i] = digits[p[i] >> 4];
		text[2 * i + 1] = digits[p[i] & 15];
	}
	text[2 * size_bytes] = 0;
}

/* True if `text` is exactly `count` lower-case hexadecimal digits. */
static inline bool pio_hex_valid(const char *text, size_t count)
{
	size_t i = 0;
	while (i < count && ((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
		i++;
	return i == count && text[i] == 0;
}

#endif
