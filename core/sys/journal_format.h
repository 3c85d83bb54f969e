/* journal_format.h: the header of a journal's file, for journal.c and
 * journal_read.c alone. The form is written down in journal.h. */
#ifndef PIO_SYS_JOURNAL_FORMAT_H
#define PIO_SYS_JOURNAL_FORMAT_H

#include <stdint.h>

#include "base/crc32c.h"
#include "sys/journal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the journal's points are laid out for little-endian machines");
_Static_assert(sizeof(pio_journal_point) == 32, "a point has 32 bytes in the file");

#define JOURNAL_MAGIC "PIOJRNL\n"

typedef struct journal_file_header {
	char magic[8];
	uint32_t version, crc;
	uint8_t run[16];
	uint32_t attempt, node;
	int64_t created_ns;
	uint64_t boot, zero;
} journal_file_header;

_Static_assert(sizeof(journal_file_header) == PIO_JOURNAL_HEADER_BYTES, "the header has 64 bytes");

static inline uint32_t journal_header_crc(const journal_file_header *header)
{
	journal_file_header copy = *header;
	copy.crc = 0;
	return pio_crc32c(0, &copy, sizeof copy);
}

#endif
