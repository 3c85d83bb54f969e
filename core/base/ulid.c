#include "base/ulid.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void pio_ulid_new(pio_ulid *ulid)
{
	uint64_t ms = (uint64_t)(pio_clock_wall_ns() / 1000000);
	for (int i = 0; i < 6; i++)
		ulid->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
	size_t got = 0;
	while (got < 10) { /* 10 bytes never fail once the kernel's pool is ready */
		ssize_t n = getrandom(ulid->bytes + 6 + got, 10 - got, 0);
		if (n > 0)
			got += (size_t)n;
	}
}

/* Bits [5i-2, 5i+3) of the 128-bit number, counted from its top. */
static unsigned quintet(const pio_ulid *ulid, int i)
{
	unsigned value = 0;
	for (int bit = 5 * i - 2; bit < 5 * i + 3; bit++) {
		value <<= 1;
		if (bit >= 0)
			value |= (unsigned)(ulid->bytes[bit / 8] >> (7 - bit % 8)) & 1u;
	}
	return value;
}

void pio_ulid_format(const pio_ulid *ulid, char text[PIO_ULID_CHARS + 1])
{
	for (int i = 0; i < PIO_ULID_CHARS; i++)
		text[i] = alphabet[quintet(ulid, i)];
	text[PIO_ULID_CHARS] = 0;
}

bool pio_ulid_parse(pio_ulid *ulid, const char *text)
{
	pio_ulid parsed = { { 0 } };
	if (strlen(text) != PIO_ULID_CHARS)
		return false;
	for (int i = 0; i < PIO_ULID_CHARS; i++) {
		char c = text[i];
		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		const char *at = strchr(alphabet, c);
		if (!at || (i == 0 && at - alphabet > 7))
			return false;
		unsigned value = (unsigned)(at - alphabet);
		for (int b = 0; b < 5; b++) {
			int bit = 5 * i - 2 + b;
			if (bit >= 0 && (value >> (4 - b) & 1u))
				parsed.bytes[bit / 8] |= (uint8_t)(0x80 >> (bit % 8));
		}
	}
	*ulid = parsed;
	return true;
}
