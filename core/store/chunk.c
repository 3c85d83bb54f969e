#include "store/chunk.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/mem.h"

#define VERSION 1
#define MAX PIO_CHUNK_POINTS_MAX
#define LEVEL 1
#define INTEGER_MAX 9007199254740992.0 /* 2^53 */
/* Header, three columns of at most 8 planes and one of kinds, each plane raw. */
#define DATA_BYTES_MAX (64 + 3 * 32 + (3 * 8 + 1) * (2 + MAX))

enum value_kind { VALUE_F64, VALUE_F32, VALUE_WHOLE, VALUE_I64, VALUE_MIXED };
static const int64_t units_ns[] = { 1, 1000, 1000000 };

struct pio_chunk_codec {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
	uint64_t column[MAX];
	uint8_t plane[MAX];
	uint8_t packed[MAX + 512]; /* zstd may need a little more than its input */
	uint8_t data[DATA_BYTES_MAX];
	size_t used;
};

int pio_chunk_codec_new(pio_chunk_codec **out, pio_err *err)
{
	*out = NULL;
	pio_chunk_codec *codec = pio_calloc(1, sizeof *codec);
	if (codec) {
		codec->compress = ZSTD_createCCtx();
		codec->decompress = ZSTD_createDCtx();
	}
	if (!codec || !codec->compress || !codec->decompress) {
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
	ZSTD_freeDCtx(codec->decompress);
	pio_free(codec);
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
	} else if (!looks_random(plane, n)) {
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
		codec->data[1] = VALUE_I64;
		put_integers(codec, codec->column, count, 1);
	} else {
		codec->data[1] = VALUE_MIXED;
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
		codec->data[1] = VALUE_WHOLE;
		put_integers(codec, column, count, 1);
	} else if (fill_f32(column, points, count)) {
		codec->data[1] = VALUE_F32;
		put_planes(codec, column, count, 4);
	} else {
		codec->data[1] = VALUE_F64;
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
	put_u8(codec, VERSION);
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

/* ---- decoding --------------------------------------------------------------------- */

typedef struct input {
	const uint8_t *at, *end;
	bool bad;
} input;

static void get(input *in, void *bytes, size_t size_bytes)
{
	if (in->bad || (size_t)(in->end - in->at) < size_bytes) {
		in->bad = true;
		memset(bytes, 0, size_bytes);
		return;
	}
	memcpy(bytes, in->at, size_bytes);
	in->at += size_bytes;
}

static uint64_t get_u64(input *in)
{
	uint64_t value;
	get(in, &value, 8);
	return value;
}

/* Fill codec->plane with n bytes. */
static void get_plane(pio_chunk_codec *codec, input *in, size_t n)
{
	uint16_t size;
	get(in, &size, 2);
	if (in->bad || size < 1 || size > n || (size_t)(in->end - in->at) < size) {
		in->bad = true;
		return;
	}
	if (size == n) {
		memcpy(codec->plane, in->at, n);
	} else if (size == 1) {
		memset(codec->plane, in->at[0], n);
	} else {
		size_t got = ZSTD_decompressDCtx(codec->decompress, codec->plane, n, in->at, size);
		in->bad = ZSTD_isError(got) || got != n;
	}
	in->at += size;
}

static void get_planes(pio_chunk_codec *codec, input *in, uint64_t *column, size_t n,
                       unsigned width)
{
	memset(column, 0, n * 8);
	for (unsigned p = 0; p < width; p++) {
		get_plane(codec, in, n);
		if (in->bad)
			return;
		for (size_t i = 0; i < n; i++)
			column[i] |= (uint64_t)codec->plane[i] << (8 * p);
	}
}

static void get_integers(pio_chunk_codec *codec, input *in, size_t count, int order)
{
	uint64_t *column = codec->column;
	uint64_t first = get_u64(in), difference = 0;
	size_t n = count;
	if (order == 2 && count > 1)
		difference = get_u64(in);
	n = count > (size_t)order ? count - (size_t)order : 0;
	if (n) {
		uint64_t low = get_u64(in);
		uint8_t width;
		get(in, &width, 1);
		in->bad |= width > 8;
		if (in->bad)
			return;
		get_planes(codec, in, column, n, width);
		for (size_t i = 0; i < n; i++)
			column[i] += low;
	}
	for (size_t i = 0; order == 2 && i + 1 < count; i++) {
		uint64_t next = i < n ? column[i] : 0;
		column[i] = difference;
		difference += next;
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t next = column[i];
		column[i] = first;
		first += next;
	}
}

/* Pass over an integer column of order 1 without unpacking it. */
static void skip_integers(input *in, size_t count)
{
	uint8_t width = 0;
	(void)get_u64(in);
	if (count > 1) {
		(void)get_u64(in);
		get(in, &width, 1);
	}
	in->bad |= width > 8;
	for (unsigned p = 0; !in->bad && p < width; p++) {
		uint16_t size;
		get(in, &size, 2);
		in->bad |= size < 1 || size >= count || (size_t)(in->end - in->at) < size;
		in->at += in->bad ? 0 : size;
	}
}

static void get_values(pio_chunk_codec *codec, input *in, pio_chunk_point *points, size_t count,
                       unsigned kind)
{
	const uint64_t *column = codec->column;
	if (kind == VALUE_MIXED)
		get_plane(codec, in, count);
	for (size_t i = 0; !in->bad && i < count; i++) {
		points[i].integer = kind == VALUE_MIXED ? codec->plane[i] : kind == VALUE_I64;
		in->bad |= points[i].integer > 1;
	}
	if (in->bad)
		return;
	if (kind == VALUE_WHOLE || kind == VALUE_I64)
		get_integers(codec, in, count, 1);
	else
		get_planes(codec, in, codec->column, count, kind == VALUE_F32 ? 4 : 8);
	for (size_t i = 0; i < count; i++) {
		double value = 0;
		if (kind == VALUE_F32) {
			uint32_t bits = (uint32_t)column[i];
			float narrow;
			memcpy(&narrow, &bits, 4);
			value = (double)narrow;
		} else if (kind == VALUE_WHOLE) {
			value = (double)(int64_t)column[i];
		} else {
			points[i].bits = column[i];
			continue;
		}
		memcpy(&points[i].bits, &value, 8);
	}
}

int pio_chunk_decode(pio_chunk_point *points, size_t *count, pio_chunk_codec *codec,
                     const uint8_t *data, size_t size_bytes, pio_err *err)
{
	return pio_chunk_decode_some(points, count, codec, data, size_bytes, true, err);
}

int pio_chunk_decode_some(pio_chunk_point *points, size_t *count_out, pio_chunk_codec *codec,
                          const uint8_t *data, size_t size_bytes, bool with_times, pio_err *err)
{
	*count_out = 0;
	if (!data || size_bytes < 9)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu bytes is too short", size_bytes);
	if (data[0] != VERSION)
		return pio_fail(err, PIO_EVERSION, "a chunk of version %d, expected %d", data[0], VERSION);
	uint16_t count_less_1;
	uint32_t crc;
	memcpy(&count_less_1, data + 2, 2);
	memcpy(&crc, data + 4, 4);
	size_t count = (size_t)count_less_1 + 1;
	if (data[1] > VALUE_MIXED || count > MAX || data[8] > 2)
		return pio_fail(err, PIO_ECORRUPT, "a chunk's header makes no sense (values %d, count %zu, "
		                "unit %d)", data[1], count, data[8]);
	if (pio_crc32c(0, data + 8, size_bytes - 8) != crc)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu bytes does not match its CRC", size_bytes);
	input in = { data + 9, data + size_bytes, false };
	get_integers(codec, &in, count, 2);
	for (size_t i = 0; !in.bad && i < count; i++)
		points[i].step = (int64_t)codec->column[i];
	if (!in.bad && with_times)
		get_integers(codec, &in, count, 1);
	else if (!in.bad)
		skip_integers(&in, count);
	for (size_t i = 0; !in.bad && i < count; i++)
		points[i].time_ns = !with_times ? 0 : (int64_t)(codec->column[i] * (uint64_t)units_ns[data[8]]);
	if (!in.bad)
		get_values(codec, &in, points, count, data[1]);
	if (in.bad || in.at != in.end)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu bytes and %zu points is damaged at byte "
		                "%zd", size_bytes, count, (ptrdiff_t)(in.at - data));
	*count_out = count;
	return 0;
}

/* ---- aggregates ----------------------------------------------------------------------- */

void pio_chunk_stats_init(pio_chunk_stats *stats)
{
	*stats = (pio_chunk_stats){ .min = NAN, .max = NAN };
}

/* hi + lo += value, error-free (Knuth's two-sum); once the sum has overflowed
 * the low part means nothing. */
static inline void add_exactly(double *hi, double *lo, double value)
{
	double sum = *hi + value;
	double part = sum - *hi;
	*lo += (*hi - (sum - part)) + (value - part);
	*hi = sum;
}

static void normalize(pio_chunk_stats *stats)
{
	double sum = stats->sum + stats->sum_low;
	if (!isfinite(stats->sum) || !isfinite(sum)) {
		stats->sum_low = 0;
		return;
	}
	stats->sum_low -= sum - stats->sum;
	stats->sum = sum;
}

void pio_chunk_stats_add(pio_chunk_stats *stats, const pio_chunk_point *points, size_t count)
{
	if (!count)
		return;
	pio_chunk_stats s;
	pio_chunk_stats_init(&s);
	s.count = (int64_t)count;
	s.first_step = s.last_step = points[0].step;
	s.first_ns = s.last_ns = points[0].time_ns;
	for (size_t i = 0; i < count; i++) {
		double value;
		memcpy(&value, &points[i].bits, 8);
		if (points[i].integer)
			value = (double)(int64_t)points[i].bits;
		int64_t step = points[i].step, time_ns = points[i].time_ns;
		s.first_step = step < s.first_step ? step : s.first_step;
		s.first_ns = time_ns < s.first_ns ? time_ns : s.first_ns;
		s.last_ns = time_ns > s.last_ns ? time_ns : s.last_ns;
		if (step >= s.last_step) {
			s.last_step = step;
			s.last_bits = points[i].bits;
			s.last_integer = points[i].integer;
		}
		if (isnan(value)) {
			s.nans++;
			continue;
		}
		if (!(value >= s.min)) {
			s.min = value;
			s.min_step = step;
		}
		if (!(value <= s.max)) {
			s.max = value;
			s.max_step = step;
		}
		if (isfinite(value)) {
			s.finite++;
			add_exactly(&s.sum, &s.sum_low, value);
		}
	}
	normalize(&s);
	pio_chunk_stats_merge(stats, &s);
}

void pio_chunk_stats_merge(pio_chunk_stats *stats, const pio_chunk_stats *later)
{
	if (!later->count)
		return;
	if (!stats->count) {
		*stats = *later;
		return;
	}
	if (later->last_step >= stats->last_step) {
		stats->last_step = later->last_step;
		stats->last_bits = later->last_bits;
		stats->last_integer = later->last_integer;
	}
	stats->first_step = later->first_step < stats->first_step ? later->first_step : stats->first_step;
	stats->first_ns = later->first_ns < stats->first_ns ? later->first_ns : stats->first_ns;
	stats->last_ns = later->last_ns > stats->last_ns ? later->last_ns : stats->last_ns;
	if (!isnan(later->min) && !(later->min >= stats->min)) {
		stats->min = later->min;
		stats->min_step = later->min_step;
	}
	if (!isnan(later->max) && !(later->max <= stats->max)) {
		stats->max = later->max;
		stats->max_step = later->max_step;
	}
	stats->count += later->count;
	stats->finite += later->finite;
	stats->nans += later->nans;
	add_exactly(&stats->sum, &stats->sum_low, later->sum);
	stats->sum_low += later->sum_low;
	normalize(stats);
}
