#include "exchange/tfrecord.h"

#include <string.h>

#include "base/crc32c.h"

#define HEADER_BYTES 12
#define FOOTER_BYTES 4

static uint32_t masked_crc(const void *bytes, size_t size_bytes)
{
	uint32_t crc = pio_crc32c(0, bytes, size_bytes);
	return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

int pio_tfrecord_next(const uint8_t **data, size_t *size_bytes, pio_window *window, pio_err *err)
{
	static const uint8_t zeros[HEADER_BYTES];
	const uint8_t *at;
	uint64_t length;
	uint32_t crc;
	int rc = pio_window_need(&at, window, HEADER_BYTES, err);
	if (rc != 1)
		return rc;
	memcpy(&length, at, 8);
	memcpy(&crc, at + 8, 4);
	if (memcmp(at, zeros, HEADER_BYTES) == 0)
		return PIO_TFRECORD_END;
	if (crc != masked_crc(at, 8) || length > PIO_TFRECORD_BYTES_MAX)
		return PIO_TFRECORD_BAD_LENGTH;
	rc = pio_window_need(&at, window, HEADER_BYTES + (size_t)length + FOOTER_BYTES, err);
	if (rc != 1)
		return rc;
	*data = at + HEADER_BYTES;
	*size_bytes = (size_t)length;
	memcpy(&crc, *data + length, 4);
	pio_window_skip(window, HEADER_BYTES + (size_t)length + FOOTER_BYTES);
	return crc == masked_crc(*data, (size_t)length) ? PIO_TFRECORD_DATA : PIO_TFRECORD_BAD_DATA;
}

void pio_tfrecord_put(pio_str *out, const void *data, size_t size_bytes)
{
	uint64_t length = size_bytes;
	uint32_t crc = masked_crc(&length, 8);
	pio_str_append(out, &length, 8);
	pio_str_append(out, &crc, 4);
	pio_str_append(out, data, size_bytes);
	crc = masked_crc(data, size_bytes);
	pio_str_append(out, &crc, 4);
}
