/* ulid.h: identifiers that sort by the time they were made.
 *
 * A ULID (github.com/ulid/spec) is 128 bits: 48 of Unix milliseconds and 80
 * random ones from the kernel; as text 26 characters of Crockford's base 32,
 * upper case. */
#ifndef PIO_BASE_ULID_H
#define PIO_BASE_ULID_H

#include <stdbool.h>
#include <stdint.h>

#define PIO_ULID_CHARS 26

typedef struct pio_ulid {
	uint8_t bytes[16]; /* big-endian */
} pio_ulid;

void pio_ulid_new(pio_ulid *ulid);
void pio_ulid_format(const pio_ulid *ulid, char text[PIO_ULID_CHARS + 1]);
/* False unless `text` is exactly 26 valid characters (either case). */
bool pio_ulid_parse(pio_ulid *ulid, const char *text);

#endif
