/* encoded_parts.h: what encoded.c and encoded_write.c share. */
#ifndef PIO_SYS_ENCODED_PARTS_H
#define PIO_SYS_ENCODED_PARTS_H

#include "sys/encoded.h"

#define PIO_ENCODED_HEAD_BYTES 128u
#define PIO_ENCODED_HEAD_MAGIC 0x184d2a50u
#define PIO_ENCODED_TABLE_MAGIC 0x184d2a5eu
#define PIO_ENCODED_END_MAGIC 0x8f92eab1u
#define PIO_ENCODED_VERSION 1u
#define PIO_ENCODED_BLOCK_BYTES ((size_t)1 << 18)  /* shuffled together: within a core's own cache */

/* Frame and table entries of the table, without the frame's own head. */
#define PIO_ENCODED_ENTRY_BYTES 8u
#define PIO_ENCODED_FOOT_BYTES 9u

static inline void pio_encoded_put_u32(uint8_t *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static inline uint32_t pio_encoded_get_u32(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static inline void pio_encoded_xor(uint8_t *to, const uint8_t *with, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++)
		to[i] ^= with[i];
}

#endif
