#include "store/chunk.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/mem.h"

#define MAX PIO_CHUNK_POINTS_MAX
#define LEVEL 1
#define PACKED_MIN 128 /* to begin a frame costs more than so few bytes can save */
#define INTEGER_MAX 9007199254740992.0 /* 2^53 */
/* Header, three columns of at most 8 planes and one of kinds, each plane raw. */
#define DATA_BYTES_MAX (64 + 3 * 32 + (3 * 8 + 1) * (2 + MAX))

static const int64_t units_ns[] = { 1, 1000, 1000000 };

struct pio_chunk_codec {
	ZSTD_CCtx *compress;
	pio_chunk_decoder *decoder;
	uint64_t column[MAX];
	uint8_t plane[MAX];
	uint8_t packed[MAX + 512]; /* zstd may need a little more than its input */
	uint8_t data[DATA_BYTES_MAX];
	size_t used;
	bool plain;                /* planes are not compressed */
	pio_chunk_point scratch[2][MAX];
};

int pio_chunk_codec_new(pio_chunk_codec **out, pio_err *err)
{
	*out = NULL;
	pio_chunk_codec *codec = pio_calloc(1, sizeof *codec);
	if (codec)
		codec->compress = ZSTD_createCCtx();
	if (!codec || !codec->compress || pio_chunk_decoder_new(&codec->decoder, NULL)) {
		pio_chunk_codec_free(codec);
		return pio_fail(err, PIO_ENOMEM, "no memory for the chunk codec");
	}
	ZSTD_CCtx_setParameter(codec->compress, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(codec->compress, ZSTD_c_contentSizeFlag, 0);
	*out = codec;
	return 0;
}

void pio_chunk_codec_free(pio_chunk_codec *codec)
{
	if (!codec)
		return;
	ZSTD_freeCCtx(codec->compress);
	pio_chunk_decoder_free(codec->decoder);
	pio_free(codec);
}

pio_chunk_point *pio_chunk_scratch(pio_chunk_codec *codec, int which)
{
	return codec->scratch[which];
}

/* ---- encoding ------------------------------------------------------------------- */

static void put(pio_chunk_codec *codec, const void *bytes, size_t size_bytes)
{
	memcpy(codec->data + codec->used, bytes, size_bytes);
	codec->used += size_bytes;
}

static void put_u8(pio_chunk_codec *codec, uint8_t value)
{
	codec->data[codec->used++] = value;
}

/* True where trying to compress is in vain: bytes close to uniform. The sum of
 * squared counts of n uniform bytes is n^2 / 256 + n. */
static bool looks_random(const uint8_t *bytes, size_t n)
{
	uint16_t counts[4][256];
	if (n < 1024)
		return false;
	memset(counts, 0, sizeof counts);
	for (size_t i = 0; i + 4 <= n; i += 4)
		for (size_t lane = 0; lane < 4; lane++)
			counts[lane][bytes[i + lane]]++;
	uint64_t squares = 0;
	for (size_t i = 0; i < 256; i++) {
		uint64_t c = (uint64_t)counts[0][i] + counts[1][i] + counts[2][i] + counts[3][i];
		squares += c * c;
	}
	/* A counter is perfectly even, which noise never is. */
	return squares > n * n / 256 + n / 2 && squares < n * n / 256 + 2 * n;
}

static void put_plane(pio_chunk_codec *codec, size_t n)
{
	const uint8_t *plane = codec->plane;
	uint16_t size = (uint16_t)n;
	const uint8_t *bytes = plane;
	if (memcmp(plane, plane + 1, n - 1) == 0) {
		size = 1;
	} else if (n >= PACKED_MIN && !codec->plain && !looks_random(plane, n)) {
		size_t packed = ZSTD_compress2(codec->compress, codec->packed, sizeof codec->packed, plane, n);
		if (!ZSTD_isError(packed) && packed < n && packed > 1) {
			size = (uint16_t)packed;
			bytes = codec->packed;
		}
	}
	put(codec, &size, 2);
	put(codec, bytes, size);
}

static void put_planes(pio_chunk_codec *codec, const uint64_t *column, size_t n, unsigned width)
{
	for (unsigned p = 0; p < width; p++) {
		for (size_t i = 0; i < n; i++)
			codec->plane[i] = (uint8_t)(column[i] >> (8 * p));
		put_plane(codec, n);
	}
}

static void put_integers(pio_chunk_codec *codec, uint64_t *column, size_t count, int order)
{
	size_t n = count;
	put(codec, column, 8);
	for (int k = 0; k < order; k++) {
		if (k > 0)
			put(codec, column, n ? 8 : 0);
		for (size_t i = 0; i + 1 < n; i++)
			column[i] = column[i + 1] - column[i];
		n = n ? n - 1 : 0;
	}
	if (!n)
		return;
	int64_t low = (int64_t)column[0], high = low;
	for (size_t i = 1; i < n; i++) {
		int64_t v = (int64_t)column[i];
		low = v < low ? v : low;
		high = v > high ? v : high;
	}
	uint64_t range = (uint64_t)high - (uint64_t)low;
	unsigned width = 0;
	while (width < 8 && range >> (8 * width))
		width++;
	for (size_t i = 0; i < n; i++)
		column[i] -= (uint64_t)low;
	put(codec, &low, 8);
	put_u8(codec, (uint8_t)width);
	put_planes(codec, column, n, width);
}

static unsigned time_unit(const pio_chunk_point *points, size_t count)
{
	for (unsigned unit = 2; unit > 0; unit--) {
		size_t i = 0;
		while (i < count && points[i].time_ns % units_ns[unit] == 0)
			i++;
		if (i == count)
			return unit;
	}
	return 0;
}

static bool fill_whole(uint64_t *column, const pio_chunk_point *points, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double value;
		memcpy(&value, &points[i].bits, 8);
		if (!(fabs(value) <= INTEGER_MAX) || (value == 0 && points[i].bits))
			return false;
		int64_t whole = (int64_t)value;
		if ((double)whole != value)
			return false;
		column[i] = (uint64_t)whole;
	}
	return true;
}

static bool fill_f32(uint64_t *column, const pio_chunk_point *points, size_t count)
{
	uint64_t lost = 0;
	for (size_t i = 0; i < count; i++) {
		double value, back;
		memcpy(&value, &points[i].bits, 8);
		float narrow = (float)value;
		back = (double)narrow;
		uint64_t back_bits;
		uint32_t narrow_bits;
		memcpy(&back_bits, &back, 8);
		memcpy(&narrow_bits, &narrow, 4);
		lost |= back_bits ^ points[i].bits;
		column[i] = narrow_bits;
	}
	return lost == 0;
}

/* `integers` of the points, at least one, are i64. */
static void put_logged_integers(pio_chunk_codec *codec, const pio_chunk_point *points, size_t count,
                                size_t integers)
{
	for (size_t i = 0; i < count; i++) {
		codec->column[i] = points[i].bits;
		codec->plane[i] = points[i].integer != 0;
	}
	if (integers == count) {
		codec->data[1] = PIO_CHUNK_I64;
		put_integers(codec, codec->column, count, 1);
	} else {
		codec->data[1] = PIO_CHUNK_MIXED;
		put_plane(codec, count);
		put_planes(codec, codec->column, count, 8);
	}
}

static void put_values(pio_chunk_codec *codec, const pio_chunk_point *points, size_t count)
{
	uint64_t *column = codec->column;
	size_t integers = 0;
	for (size_t i = 0; i < count; i++)
		integers += points[i].integer != 0;
	if (integers) {
		put_logged_integers(codec, points, count, integers);
	} else if (fill_whole(column, points, count)) {
		codec->data[1] = PIO_CHUNK_WHOLE;
		put_integers(codec, column, count, 1);
	} else if (fill_f32(column, points, count)) {
		codec->data[1] = PIO_CHUNK_F32;
		put_planes(codec, column, count, 4);
	} else {
		codec->data[1] = PIO_CHUNK_F64;
		for (size_t i = 0; i < count; i++)
			column[i] = points[i].bits;
		put_planes(codec, column, count, 8);
	}
}

int pio_chunk_encode(const uint8_t **data, size_t *size_bytes, pio_chunk_codec *codec,
                     const pio_chunk_point *points, size_t count, pio_err *err)
{
	if (count < 1 || count > MAX)
		return pio_fail(err, PIO_EINVAL, "a chunk of %zu points, expected 1 to %d", count, MAX);
	uint16_t count_less_1 = (uint16_t)(count - 1);
	uint32_t crc = 0;
	unsigned unit = time_unit(points, count);
	codec->used = 0;
	put_u8(codec, PIO_CHUNK_VERSION);
	put_u8(codec, 0);
	put(codec, &count_less_1, 2);
	put(codec, &crc, 4);
	put_u8(codec, (uint8_t)unit);
	for (size_t i = 0; i < count; i++)
		codec->column[i] = (uint64_t)points[i].step;
	put_integers(codec, codec->column, count, 2);
	for (size_t i = 0; i < count; i++)
		codec->column[i] = (uint64_t)points[i].time_ns;
	if (unit)
		for (size_t i = 0; i < count; i++)
			codec->column[i] = (uint64_t)((int64_t)codec->column[i] / units_ns[unit]);
	put_integers(codec, codec->column, count, 1);
	put_values(codec, points, count);
	crc = pio_crc32c(0, codec->data + 8, codec->used - 8);
	memcpy(codec->data + 4, &crc, 4);
	*data = codec->data;
	*size_bytes = codec->used;
	return 0;
}

int pio_chunk_encode_plain(const uint8_t **data, size_t *size_bytes, pio_chunk_codec *codec,
                           const pio_chunk_point *points, size_t count, pio_err *err)
{
	codec->plain = true;
	int rc = pio_chunk_encode(data, size_bytes, codec, points, count, err);
	codec->plain = false;
	return rc;
}

int pio_chunk_decode(pio_chunk_point *points, size_t *count, pio_chunk_codec *codec,
                     const uint8_t *data, size_t size_bytes, pio_err *err)
{
	return pio_chunk_decode_some(points, count, codec->decoder, data, size_bytes, true, err);
}
