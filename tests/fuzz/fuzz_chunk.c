/* Any bytes as a chunk: decoding never crashes or reads out of bounds, and what
 * it does decode comes back bit for bit from an encoding of its own. The
 * checksum is made right first, so that there is something behind it to reach. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "store/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pio_chunk_point points[PIO_CHUNK_POINTS_MAX], again[PIO_CHUNK_POINTS_MAX];

static void check(pio_chunk_codec *codec, pio_chunk_decoder *decoder, const uint8_t *data, size_t size)
{
	size_t count, count_again, size_again;
	const uint8_t *encoded;
	if (pio_chunk_decode(points, &count, codec, data, size, NULL) != 0)
		return;
	if (count < 1 || count > PIO_CHUNK_POINTS_MAX)
		abort();
	pio_chunk_stats stats;
	pio_chunk_stats_init(&stats);
	pio_chunk_stats_add(&stats, points, count);
	if (stats.count != (int64_t)count || stats.first_step > stats.last_step)
		abort();
	if (pio_chunk_encode(&encoded, &size_again, codec, points, count, NULL) != 0 ||
	    pio_chunk_decode(again, &count_again, codec, encoded, size_again, NULL) != 0 ||
	    count_again != count || memcmp(again, points, count * sizeof *points) != 0)
		abort();
	if (pio_chunk_decode_some(again, &count_again, decoder, data, size, false, NULL) != 0 ||
	    count_again != count)
		abort();
	for (size_t i = 0; i < count; i++)
		if (again[i].step != points[i].step || again[i].bits != points[i].bits)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pio_chunk_codec *codec;
	static pio_chunk_decoder *decoder;
	if (!codec && (pio_chunk_codec_new(&codec, NULL) != 0 || pio_chunk_decoder_new(&decoder, NULL) != 0))
		abort();
	check(codec, decoder, data, size);
	if (size < 9)
		return 0;
	uint8_t *copy = malloc(size); /* of exactly this size, for the sanitizer */
	if (!copy)
		abort();
	memcpy(copy, data, size);
	uint32_t crc = pio_crc32c(0, copy + 8, size - 8);
	memcpy(copy + 4, &crc, 4);
	check(codec, decoder, copy, size);
	free(copy);
	return 0;
}
