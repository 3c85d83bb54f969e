#include "sys/encoded_parts.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "sys/fs.h"

#define LEVEL 1          /* of shuffled numbers the higher ones make no less, and take longer */
#define SAMPLE_FRAMES 16 /* at most; of a small file a quarter */

typedef struct maker {
	const pio_encoded_head *head;
	pio_encoded_source *source;
	void *context;
	ZSTD_CCtx *zstd;
	uint8_t *frame, *anchor, *shuffled, *packed;
	size_t packed_bytes;
} maker;

static int open_maker(maker *m, const pio_encoded_head *head, pio_encoded_source *source, void *context,
                      pio_err *err)
{
	size_t bytes = (size_t)PIO_ENCODED_FRAME_BYTES;
	*m = (maker){ .head = head, .source = source, .context = context, .zstd = ZSTD_createCCtx(),
	              .frame = pio_alloc(bytes), .anchor = head->anchor[0] ? pio_alloc(bytes) : NULL,
	              .shuffled = pio_alloc(bytes), .packed = pio_alloc(ZSTD_COMPRESSBOUND(bytes)) };
	if (!m->zstd || !m->frame || (head->anchor[0] && !m->anchor) || !m->shuffled || !m->packed)
		return pio_fail(err, PIO_ENOMEM, "out of memory to encode a file");
	ZSTD_CCtx_setParameter(m->zstd, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(m->zstd, ZSTD_c_checksumFlag, 1);
	return 0;
}

static void close_maker(maker *m)
{
	ZSTD_freeCCtx(m->zstd);
	pio_free(m->frame);
	pio_free(m->anchor);
	pio_free(m->shuffled);
	pio_free(m->packed);
}

#define SPREAD(type) \
	for (size_t i = 0; i < count; i++) { \
		type x; \
		memcpy(&x, from + i * sizeof x, sizeof x); \
		for (size_t k = 0; k < sizeof x; k++) \
			to[k * count + i] = (uint8_t)(x >> (8 * k)); \
	}

static void shuffle_block(uint8_t *restrict to, const uint8_t *restrict from, size_t count, int width)
{
	size_t size = (size_t)width;
	switch (width) {
	case 1: memcpy(to, from, count); break;
	case 2: SPREAD(uint16_t) break;
	case 4: SPREAD(uint32_t) break;
	case 8: SPREAD(uint64_t) break;
	default:
		for (size_t i = 0; i < count; i++)
			for (size_t k = 0; k < size; k++)
				to[k * count + i] = from[i * size + k];
	}
}

static void shuffle(uint8_t *to, const uint8_t *from, size_t size_bytes, int width)
{
	for (size_t at = 0; at < size_bytes; at += PIO_ENCODED_BLOCK_BYTES) {
		size_t n = size_bytes - at < PIO_ENCODED_BLOCK_BYTES ? size_bytes - at : PIO_ENCODED_BLOCK_BYTES;
		size_t whole = n / (size_t)width * (size_t)width;
		shuffle_block(to + at, from + at, whole / (size_t)width, width);
		memcpy(to + at + whole, from + at + whole, n - whole);
	}
}

/* Frame n, into m->packed. */
static int make_frame(maker *m, int64_t n, pio_err *err)
{
	size_t size = pio_encoded_frame_bytes(m->head->bytes, n);
	int rc = m->source(m->context, m->frame, m->anchor, n, size, err);
	if (rc)
		return rc;
	if (m->anchor)
		pio_encoded_xor(m->frame, m->anchor, size);
	shuffle(m->shuffled, m->frame, size, m->head->element_bytes);
	m->packed_bytes = ZSTD_compress2(m->zstd, m->packed, ZSTD_COMPRESSBOUND((size_t)PIO_ENCODED_FRAME_BYTES),
	                                 m->shuffled, size);
	if (ZSTD_isError(m->packed_bytes))
		return pio_fail(err, PIO_ENOMEM, "zstd: %s", ZSTD_getErrorName(m->packed_bytes));
	return 0;
}

/* ---- head and table ------------------------------------------------------------------ */

static void put_digest(uint8_t *to, const char *hex)
{
	for (size_t i = 0; i < PIO_SHA256_BYTES; i++) {
		char byte[3] = { hex[2 * i], hex[2 * i + 1], 0 };
		to[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
}

static int write_head(int fd, const char *path, const pio_encoded_head *head, pio_err *err)
{
	uint8_t h[PIO_ENCODED_HEAD_BYTES] = { 0 };
	pio_encoded_put_u32(h, PIO_ENCODED_HEAD_MAGIC);
	pio_encoded_put_u32(h + 4, sizeof h - 8);
	memcpy(h + 8, "piochenc", 8);
	pio_encoded_put_u32(h + 16, PIO_ENCODED_VERSION);
	pio_encoded_put_u32(h + 20, (uint32_t)PIO_ENCODED_FRAME_BYTES);
	pio_encoded_put_u32(h + 24, (uint32_t)head->bytes);
	pio_encoded_put_u32(h + 28, (uint32_t)(head->bytes >> 32));
	pio_encoded_put_u32(h + 32, (uint32_t)head->element_bytes);
	pio_encoded_put_u32(h + 36, (uint32_t)PIO_ENCODED_BLOCK_BYTES);
	put_digest(h + 40, head->sha256);
	if (head->anchor[0])
		put_digest(h + 72, head->anchor);
	pio_encoded_put_u32(h + 104, head->anchor[0] != 0);
	pio_encoded_put_u32(h + sizeof h - 4, pio_crc32c(0, h, sizeof h - 4));
	return pio_fs_write_all(fd, h, sizeof h, path, err);
}

/* `table` has room for entries behind the first 8 + 8 bytes, which are written here. */
static int write_table(int fd, const char *path, uint8_t *table, int64_t frames, pio_err *err)
{
	size_t entries = (size_t)frames + 1;
	uint8_t *foot = table + 8 + entries * PIO_ENCODED_ENTRY_BYTES;
	pio_encoded_put_u32(table, PIO_ENCODED_TABLE_MAGIC);
	pio_encoded_put_u32(table + 4, (uint32_t)(entries * PIO_ENCODED_ENTRY_BYTES + PIO_ENCODED_FOOT_BYTES));
	pio_encoded_put_u32(table + 8, PIO_ENCODED_HEAD_BYTES);
	pio_encoded_put_u32(table + 12, 0);
	pio_encoded_put_u32(foot, (uint32_t)entries);
	foot[4] = 0; /* no checksums here: each frame has its own */
	pio_encoded_put_u32(foot + 5, PIO_ENCODED_END_MAGIC);
	return pio_fs_write_all(fd, table, (size_t)(foot - table) + PIO_ENCODED_FOOT_BYTES, path, err);
}

int pio_encoded_write(int64_t *stored_bytes, int fd, const char *path, const pio_encoded_head *head,
                      pio_encoded_source *source, void *context, pio_err *err)
{
	maker m;
	int64_t frames = pio_encoded_frames(head->bytes);
	size_t table_bytes = 8 + ((size_t)frames + 1) * PIO_ENCODED_ENTRY_BYTES + PIO_ENCODED_FOOT_BYTES;
	uint8_t *table = pio_alloc(table_bytes);
	int rc = open_maker(&m, head, source, context, err);
	if (!rc && !table)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory to encode a file");
	if (!rc)
		rc = write_head(fd, path, head, err);
	*stored_bytes = PIO_ENCODED_HEAD_BYTES + (int64_t)table_bytes;
	for (int64_t n = 0; !rc && n < frames; n++) {
		uint8_t *entry = table + 8 + ((size_t)n + 1) * PIO_ENCODED_ENTRY_BYTES;
		rc = make_frame(&m, n, err);
		if (rc)
			break;
		pio_encoded_put_u32(entry, (uint32_t)m.packed_bytes);
		pio_encoded_put_u32(entry + 4, (uint32_t)pio_encoded_frame_bytes(head->bytes, n));
		*stored_bytes += (int64_t)m.packed_bytes;
		rc = pio_fs_write_all(fd, m.packed, m.packed_bytes, path, err);
	}
	if (!rc)
		rc = write_table(fd, path, table, frames, err);
	close_maker(&m);
	pio_free(table);
	return rc;
}

int pio_encoded_sample(double *ratio, const pio_encoded_head *head, pio_encoded_source *source,
                       void *context, pio_err *err)
{
	maker m;
	int64_t frames = pio_encoded_frames(head->bytes), quarter = frames / 4 + 1;
	int64_t count = quarter < SAMPLE_FRAMES ? quarter : SAMPLE_FRAMES;
	double before = 0, after = 0;
	int rc = open_maker(&m, head, source, context, err);
	for (int64_t i = 0; !rc && i < count; i++) {
		int64_t n = frames * (2 * i + 1) / (2 * count);
		rc = make_frame(&m, n, err);
		before += (double)pio_encoded_frame_bytes(head->bytes, n);
		after += (double)m.packed_bytes;
	}
	*ratio = rc || after <= 0 ? 0 : before / after;
	close_maker(&m);
	return rc;
}
