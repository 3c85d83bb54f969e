#include <string.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "store/chunk.h"

#define MAX PIO_CHUNK_POINTS_MAX

static const uint64_t units_ns[] = { 1, 1000, 1000000 };

/* A place for doubles that others see as their bits. */
typedef double __attribute__((may_alias)) any_double;

struct pio_chunk_decoder {
	ZSTD_DCtx *zstd;
	uint64_t column[MAX];
	uint8_t planes[8][MAX];    /* those that do not lie open in the data */
	int64_t step[MAX], time_ns[MAX];
	uint64_t bits[MAX];
	uint8_t integer[MAX];
};

int pio_chunk_decoder_new(pio_chunk_decoder **out, pio_err *err)
{
	pio_chunk_decoder *decoder = pio_alloc(sizeof *decoder);
	*out = NULL;
	if (decoder && !(decoder->zstd = ZSTD_createDCtx())) {
		pio_free(decoder);
		decoder = NULL;
	}
	if (!decoder)
		return pio_fail(err, PIO_ENOMEM, "no memory to decode chunks");
	*out = decoder;
	return 0;
}

void pio_chunk_decoder_free(pio_chunk_decoder *decoder)
{
	if (!decoder)
		return;
	ZSTD_freeDCtx(decoder->zstd);
	pio_free(decoder);
}

/* ---- bytes ---------------------------------------------------------------------- */

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

/* A plane of n bytes: as it lies in the data where it can, else unpacked into
 * `room`. NULL: damaged. */
static const uint8_t *get_plane(pio_chunk_decoder *decoder, input *in, size_t n, uint8_t *room)
{
	uint16_t size;
	get(in, &size, 2);
	in->bad |= size < 1 || size > n || (size_t)(in->end - in->at) < size;
	if (in->bad)
		return NULL;
	const uint8_t *plane = room;
	if (size == n) {
		plane = in->at;
	} else if (size == 1) {
		memset(room, in->at[0], n);
	} else {
		size_t got = ZSTD_decompressDCtx(decoder->zstd, room, n, in->at, size);
		in->bad |= ZSTD_isError(got) || got != n;
	}
	in->at += size;
	return in->bad ? NULL : plane;
}

/* The entries whose bytes are the next `width` planes. */
static void get_planes(pio_chunk_decoder *decoder, input *in, uint64_t *column, size_t n,
                       unsigned width)
{
	const uint8_t *p[8] = { NULL };
	for (unsigned k = 0; k < width; k++)
		if (!(p[k] = get_plane(decoder, in, n, decoder->planes[k])))
			return;
	const uint8_t *a = p[0], *b = p[1], *c = p[2], *d = p[3];
	if (width == 0)
		memset(column, 0, n * 8);
	else if (width == 1)
		for (size_t i = 0; i < n; i++)
			column[i] = a[i];
	else if (width == 2)
		for (size_t i = 0; i < n; i++)
			column[i] = (uint32_t)a[i] | (uint32_t)b[i] << 8;
	else if (width == 3)
		for (size_t i = 0; i < n; i++)
			column[i] = (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16;
	else
		for (size_t i = 0; i < n; i++)
			column[i] = (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
	for (unsigned k = 4; k < width; k++)
		for (size_t i = 0; i < n; i++)
			column[i] |= (uint64_t)p[k][i] << (8 * k);
}

/* ---- columns ---------------------------------------------------------------------- */

/* An integer column, each entry times `unit`. */
static void get_integers(pio_chunk_decoder *decoder, input *in, int64_t *to, size_t count, int order,
                         uint64_t unit)
{
	uint64_t *column = decoder->column, low = 0;
	uint64_t value = get_u64(in) * unit;
	uint64_t difference = order == 2 && count > 1 ? get_u64(in) * unit : 0;
	size_t n = count > (size_t)order ? count - (size_t)order : 0;
	uint8_t width = 0;
	if (n) {
		low = get_u64(in) * unit;
		get(in, &width, 1);
		in->bad |= width > 8;
	}
	if (!in->bad && width)
		get_planes(decoder, in, column, n, width);
	if (in->bad)
		return;
	if (!width && (order == 1 || !low)) { /* even steps */
		uint64_t each = order == 1 ? low : difference;
		for (size_t i = 0; i < count; i++)
			to[i] = (int64_t)(value + i * each);
		return;
	}
	if (!width)
		memset(column, 0, n * 8);
	to[0] = (int64_t)value;
	if (order == 2)
		to[1] = (int64_t)(value += difference);
	for (size_t i = 0; i < n; i++) {
		uint64_t next = low + column[i] * unit;
		difference = order == 2 ? difference + next : next;
		to[i + (size_t)order] = (int64_t)(value += difference);
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

static void get_floats(pio_chunk_decoder *decoder, input *in, uint64_t *bits, size_t n)
{
	const uint8_t *p[4];
	any_double *real = (any_double *)bits;
	for (unsigned k = 0; k < 4; k++)
		if (!(p[k] = get_plane(decoder, in, n, decoder->planes[k])))
			return;
	const uint8_t *a = p[0], *b = p[1], *c = p[2], *d = p[3];
	for (size_t i = 0; i < n; i++) {
		union { uint32_t bits; float value; } narrow = {
			(uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24
		};
		real[i] = (double)narrow.value;
	}
}

static void get_values(pio_chunk_decoder *decoder, input *in, const pio_chunk_columns *to, size_t count,
                       unsigned kind)
{
	any_double *real = (any_double *)to->bits;
	if (kind == PIO_CHUNK_MIXED) {
		const uint8_t *integer = get_plane(decoder, in, count, decoder->planes[0]);
		for (size_t i = 0; !in->bad && i < count; i++) {
			to->integer[i] = integer[i];
			in->bad |= integer[i] > 1;
		}
	}
	if (in->bad)
		return;
	if (kind == PIO_CHUNK_F32)
		get_floats(decoder, in, to->bits, count);
	else if (kind == PIO_CHUNK_WHOLE || kind == PIO_CHUNK_I64)
		get_integers(decoder, in, (int64_t *)to->bits, count, 1, 1);
	else
		get_planes(decoder, in, to->bits, count, 8);
	for (size_t i = 0; !in->bad && kind == PIO_CHUNK_WHOLE && i < count; i++)
		real[i] = (double)(int64_t)to->bits[i];
}

int pio_chunk_decode_columns(const pio_chunk_columns *to, size_t *count_out, pio_chunk_decoder *decoder,
                             const uint8_t *data, size_t size_bytes, size_t room, pio_err *err)
{
	*count_out = 0;
	if (!data || size_bytes < 9)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu bytes is too short", size_bytes);
	if (data[0] != PIO_CHUNK_VERSION)
		return pio_fail(err, PIO_EVERSION, "a chunk of version %d, expected %d", data[0],
		                PIO_CHUNK_VERSION);
	uint16_t count_less_1;
	uint32_t crc;
	memcpy(&count_less_1, data + 2, 2);
	memcpy(&crc, data + 4, 4);
	size_t count = (size_t)count_less_1 + 1;
	if (data[1] > PIO_CHUNK_MIXED || count > MAX || data[8] > 2)
		return pio_fail(err, PIO_ECORRUPT, "a chunk's header makes no sense (values %d, count %zu, "
		                "unit %d)", data[1], count, data[8]);
	if (count > room)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu points, expected %zu", count, room);
	if (pio_crc32c(0, data + 8, size_bytes - 8) != crc)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu bytes does not match its CRC", size_bytes);
	input in = { data + 9, data + size_bytes, false };
	get_integers(decoder, &in, to->step, count, 2, 1);
	if (!in.bad && to->time_ns)
		get_integers(decoder, &in, to->time_ns, count, 1, units_ns[data[8]]);
	else if (!in.bad)
		skip_integers(&in, count);
	if (!in.bad)
		get_values(decoder, &in, to, count, data[1]);
	if (in.bad || in.at != in.end)
		return pio_fail(err, PIO_ECORRUPT, "a chunk of %zu bytes and %zu points is damaged at byte "
		                "%zd", size_bytes, count, (ptrdiff_t)(in.at - data));
	*count_out = count;
	return 0;
}

enum pio_chunk_kind pio_chunk_kind(const uint8_t *data)
{
	return data[1] == PIO_CHUNK_MIXED ? PIO_CHUNK_MIXED : data[1] == PIO_CHUNK_I64 ? PIO_CHUNK_I64
	                                                                             : PIO_CHUNK_F64;
}

int pio_chunk_decode_some(pio_chunk_point *points, size_t *count, pio_chunk_decoder *decoder,
                          const uint8_t *data, size_t size_bytes, bool with_times, pio_err *err)
{
	const pio_chunk_columns to = { decoder->step, with_times ? decoder->time_ns : NULL, decoder->bits,
	                               decoder->integer };
	int rc = pio_chunk_decode_columns(&to, count, decoder, data, size_bytes, MAX, err);
	if (rc)
		return rc;
	enum pio_chunk_kind kind = pio_chunk_kind(data);
	for (size_t i = 0; i < *count; i++)
		points[i] = (pio_chunk_point){ to.step[i], with_times ? to.time_ns[i] : 0, to.bits[i],
		                               kind == PIO_CHUNK_MIXED ? to.integer[i] : kind == PIO_CHUNK_I64 };
	return 0;
}
