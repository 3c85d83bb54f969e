/* Any bytes as the data of a recent row: decoding never crashes or reads out of
 * bounds, and of what it does decode the numbers agree. The checksum of the chunk
 * is made right where there is one, so that there is something behind it to reach. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "store/recent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pio_recent recent;

static void check(pio_chunk_decoder *decoder, const uint8_t *data, size_t size)
{
	size_t count = 0;
	if (pio_recent_decode(&recent, decoder, data, size, NULL) != 0)
		return;
	for (size_t i = 0; i < recent.series_count; i++) {
		if (!recent.series_points[i])
			abort();
		count += recent.series_points[i];
	}
	if (count != recent.count || count < 1 || count > PIO_CHUNK_POINTS_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pio_chunk_decoder *decoder;
	if (!decoder && pio_chunk_decoder_new(&decoder, NULL) != 0)
		abort();
	uint8_t *copy = malloc(size ? size : 1); /* of exactly this size, for the sanitizer */
	if (!copy)
		abort();
	memcpy(copy, data, size);
	check(decoder, copy, size);
	/* Behind the list of n series: n pairs of varints. */
	size_t at = 1, left = size && copy[0] < 0x80 ? 2u * copy[0] : 0;
	for (; left && at < size; at++)
		left -= copy[at] < 0x80;
	if (at + 9 <= size) {
		uint32_t crc = pio_crc32c(0, copy + at + 8, size - at - 8);
		memcpy(copy + at + 4, &crc, 4);
		check(decoder, copy, size);
	}
	free(copy);
	return 0;
}
