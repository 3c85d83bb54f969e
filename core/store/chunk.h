/* chunk.h: the codec of a block of points, and what is known of a block
 * without decoding it.
 *
 * Lossless: every step, time and value comes back bit for bit, in the order
 * given. Little-endian. A block:
 *
 *   0  u8   version, 1
 *   1  u8   how values are stored: 0 f64, 1 f32, 2 whole f64, 3 i64, 4 mixed
 *   2  u16  count - 1, so 1 to 65,536 (the store writes at most 4,096)
 *   4  u32  crc32c of everything after this field
 *   8  u8   unit of times in ns: 0: 1, 1: 1,000, 2: 1,000,000
 *   9  integer column of steps, order 2
 *      integer column of times / unit, order 1
 *      values: f64 as 8 planes, f32 as 4 planes, whole f64 and i64 as an integer
 *      column, order 1; mixed: a plane that is 1 where a value is an i64 and 0
 *      where it is an f64, and 8 planes
 *
 *   integer column, order k: i64 first value (order 2: and i64 first
 *      difference), then of the k-th differences d: i64 smallest, u8 width w,
 *      and d - smallest as w planes. All arithmetic is modulo 2^64. Only
 *      count - k differences exist.
 *   plane: u16 n, n bytes: one byte of each entry, the lowest plane first. n
 *      is the entries' number: as they are; 1: all equal; else one zstd frame.
 *
 * f32 is chosen only if every value converts back to the same bits (NaN
 * payloads included), whole f64 only if all are whole, of magnitude <= 2^53,
 * and none is -0.0; i64 and mixed only for what was logged as integers. Decoding
 * trusts nothing and never reads or writes out of bounds. A codec is used by one
 * thread at a time. */
#ifndef PIO_STORE_CHUNK_H
#define PIO_STORE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_CHUNK_POINTS_MAX 4096
#define PIO_CHUNK_VERSION 1

/* How values are stored. */
enum pio_chunk_kind { PIO_CHUNK_F64, PIO_CHUNK_F32, PIO_CHUNK_WHOLE, PIO_CHUNK_I64, PIO_CHUNK_MIXED };

typedef struct pio_chunk_codec pio_chunk_codec;

typedef struct pio_chunk_point {
	int64_t step, time_ns;
	uint64_t bits;            /* of the f64 value, or the i64 itself */
	uint64_t integer;         /* 1: it is an i64; else 0 */
} pio_chunk_point;

int pio_chunk_codec_new(pio_chunk_codec **codec, pio_err *err);
void pio_chunk_codec_free(pio_chunk_codec *codec);
/* Two blocks of PIO_CHUNK_POINTS_MAX points for whoever uses the codec: which
 * is 0 or 1. Borrowed. */
pio_chunk_point *pio_chunk_scratch(pio_chunk_codec *codec, int which);

/* 1 to PIO_CHUNK_POINTS_MAX points. *data is borrowed until the next call. */
int pio_chunk_encode(const uint8_t **data, size_t *size_bytes, pio_chunk_codec *codec,
                     const pio_chunk_point *points, size_t count, pio_err *err);
/* The same without compression, for what is to be rewritten soon. */
int pio_chunk_encode_plain(const uint8_t **data, size_t *size_bytes, pio_chunk_codec *codec,
                           const pio_chunk_point *points, size_t count, pio_err *err);
/* `points` has room for PIO_CHUNK_POINTS_MAX. PIO_ECORRUPT for anything that
 * pio_chunk_encode cannot have written. */
int pio_chunk_decode(pio_chunk_point *points, size_t *count, pio_chunk_codec *codec,
                     const uint8_t *data, size_t size_bytes, pio_err *err);

/* An error of decoding that says something of the bytes, and not of this machine. */
static inline bool pio_chunk_is_damaged(int rc)
{
	return rc == -PIO_ECORRUPT || rc == -PIO_EVERSION;
}

/* ---- reading alone, without what it takes to encode ---- */
typedef struct pio_chunk_decoder pio_chunk_decoder;
int pio_chunk_decoder_new(pio_chunk_decoder **decoder, pio_err *err);
void pio_chunk_decoder_free(pio_chunk_decoder *decoder);

/* As pio_chunk_decode; without times they are not unpacked and read as 0. */
int pio_chunk_decode_some(pio_chunk_point *points, size_t *count, pio_chunk_decoder *decoder,
                          const uint8_t *data, size_t size_bytes, bool with_times, pio_err *err);

/* Straight into columns: the fastest way. Each has room for `room` entries;
 * more than those are PIO_ECORRUPT. */
typedef struct pio_chunk_columns {
	int64_t *step, *time_ns;  /* time_ns NULL: not unpacked */
	uint64_t *bits;
	uint8_t *integer;         /* written for mixed chunks alone */
} pio_chunk_columns;
int pio_chunk_decode_columns(const pio_chunk_columns *to, size_t *count, pio_chunk_decoder *decoder,
                             const uint8_t *data, size_t size_bytes, size_t room, pio_err *err);
/* Of a chunk that was decoded: PIO_CHUNK_F64 (all f64), _I64 or _MIXED. */
enum pio_chunk_kind pio_chunk_kind(const uint8_t *data);

/* What lists and charts need. Points are taken in the order logged: of equal
 * minima the first counts. An i64 counts as the nearest double. */
typedef struct pio_chunk_stats {
	int64_t count, finite, nans;
	int64_t first_step, last_step;   /* smallest and largest */
	int64_t first_ns, last_ns;
	double min, max;                 /* of values that are not NaN; NaN: none */
	int64_t min_step, max_step;
	double sum, sum_low;             /* of finite values, as an unevaluated pair */
	uint64_t last_bits;              /* newest value at last_step */
	uint64_t last_integer;           /* 1: that is an i64 */
} pio_chunk_stats;

void pio_chunk_stats_init(pio_chunk_stats *stats);
void pio_chunk_stats_add(pio_chunk_stats *stats, const pio_chunk_point *points, size_t count);
/* `later` was logged after everything in `stats`. */
void pio_chunk_stats_merge(pio_chunk_stats *stats, const pio_chunk_stats *later);

#endif
