/* tfrecord.h: the framing of TensorFlow's record files, and so of TensorBoard's
 * event files (tensorflow/core/lib/io/record_writer.h):
 *
 *   u64 length | u32 masked crc32c of these 8 bytes | data | u32 masked crc32c of data
 *   mask(c) = ((c >> 15) | (c << 17)) + 0xa282ead8
 *
 * A record that is not whole yet means *wait*; so does a header of zeros, which
 * some file systems show before the bytes. */
#ifndef PIO_EXCHANGE_TFRECORD_H
#define PIO_EXCHANGE_TFRECORD_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "exchange/window.h"

#define PIO_TFRECORD_BYTES_MAX (1u << 30)

enum pio_tfrecord_found {
	PIO_TFRECORD_END,          /* no whole record; the window stays before it */
	PIO_TFRECORD_DATA,
	PIO_TFRECORD_BAD_DATA,     /* wrong checksum of the data: passed over */
	PIO_TFRECORD_BAD_LENGTH,   /* wrong checksum of the length: no way on */
};

/* One of the above, or negative. *data is borrowed until the next call. */
int pio_tfrecord_next(const uint8_t **data, size_t *size_bytes, pio_window *window, pio_err *err);
/* Append one record. */
void pio_tfrecord_put(pio_str *out, const void *data, size_t size_bytes);

#endif
