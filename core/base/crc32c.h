/* crc32c.h: CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's
 * instruction where it has one. crc32c("123456789") is 0xe3069283. */
#ifndef PIO_BASE_CRC32C_H
#define PIO_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* `crc` is 0 to begin, or the result so far to continue. */
uint32_t pio_crc32c(uint32_t crc, const void *bytes, size_t size_bytes);

#endif
