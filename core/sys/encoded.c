#include "sys/encoded_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/hex.h"
#include "base/mem.h"
#include "sys/fs.h"

struct pio_encoded {
	pio_encoded_head head;
	char *path;
	int fd;
	int64_t frames, *places;   /* of the frames, and where the last ends */
	size_t block_bytes;
	ZSTD_DCtx *zstd;
	uint8_t *packed, *shuffled;
};

int64_t pio_encoded_frames(int64_t bytes)
{
	return bytes / PIO_ENCODED_FRAME_BYTES + (bytes % PIO_ENCODED_FRAME_BYTES != 0);
}

size_t pio_encoded_frame_bytes(int64_t bytes, int64_t n)
{
	int64_t left = bytes - n * PIO_ENCODED_FRAME_BYTES;
	return (size_t)(left < PIO_ENCODED_FRAME_BYTES ? left : PIO_ENCODED_FRAME_BYTES);
}

/* ---- head and table ------------------------------------------------------------------ */

static int damaged(const pio_encoded *e, const char *what, pio_err *err)
{
	return pio_fail(err, PIO_ECORRUPT, "%s: no encoded file, or damaged: %s", e->path, what);
}

static int read_head(pio_encoded *e, pio_err *err)
{
	uint8_t h[PIO_ENCODED_HEAD_BYTES];
	int rc = pio_fs_pread_all(e->fd, h, sizeof h, 0, e->path, err);
	if (rc)
		return rc;
	if (pio_encoded_get_u32(h) != PIO_ENCODED_HEAD_MAGIC || pio_encoded_get_u32(h + 4) != sizeof h - 8 ||
	    memcmp(h + 8, "piochenc", 8) != 0)
		return damaged(e, "its first bytes are others", err);
	if (pio_crc32c(0, h, sizeof h - 4) != pio_encoded_get_u32(h + sizeof h - 4))
		return damaged(e, "the checksum of its head is wrong", err);
	uint64_t bytes = pio_encoded_get_u32(h + 24) | (uint64_t)pio_encoded_get_u32(h + 28) << 32;
	uint32_t element_bytes = pio_encoded_get_u32(h + 32), block_bytes = pio_encoded_get_u32(h + 36);
	if (pio_encoded_get_u32(h + 16) != PIO_ENCODED_VERSION)
		return pio_fail(err, PIO_ECORRUPT, "%s: encoded by version %u, of which this pioche knows nothing",
		                e->path, pio_encoded_get_u32(h + 16));
	if (pio_encoded_get_u32(h + 20) != PIO_ENCODED_FRAME_BYTES || !bytes || bytes > INT64_MAX / 2 ||
	    !element_bytes || element_bytes > PIO_ENCODED_ELEMENT_BYTES_MAX || !block_bytes ||
	    block_bytes > PIO_ENCODED_FRAME_BYTES || pio_encoded_get_u32(h + 104) > 1)
		return damaged(e, "its head makes no sense", err);
	e->head.bytes = (int64_t)bytes;
	e->head.element_bytes = (int)element_bytes;
	e->block_bytes = block_bytes;
	pio_hex_format(h + 40, PIO_SHA256_BYTES, e->head.sha256);
	if (pio_encoded_get_u32(h + 104))
		pio_hex_format(h + 72, PIO_SHA256_BYTES, e->head.anchor);
	return 0;
}

/* Entry 0 is the head's. Every frame ends where the next begins, the last at the table. */
static int check_table(pio_encoded *e, const uint8_t *table, int64_t table_at, pio_err *err)
{
	const uint8_t *entry = table + 8;
	if (pio_encoded_get_u32(entry) != PIO_ENCODED_HEAD_BYTES || pio_encoded_get_u32(entry + 4) != 0)
		return damaged(e, "its table of frames makes no sense", err);
	e->places[0] = PIO_ENCODED_HEAD_BYTES;
	for (int64_t n = 0; n < e->frames; n++) {
		entry += PIO_ENCODED_ENTRY_BYTES;
		uint32_t packed = pio_encoded_get_u32(entry);
		if (!packed || packed > ZSTD_COMPRESSBOUND((size_t)PIO_ENCODED_FRAME_BYTES) ||
		    pio_encoded_get_u32(entry + 4) != pio_encoded_frame_bytes(e->head.bytes, n))
			return damaged(e, "its table of frames makes no sense", err);
		e->places[n + 1] = e->places[n] + packed;
	}
	return e->places[e->frames] == table_at ? 0 : damaged(e, "its table of frames is another's", err);
}

static int read_table(pio_encoded *e, int64_t file_bytes, pio_err *err)
{
	e->frames = pio_encoded_frames(e->head.bytes);
	/* A frame of nothing but zeros has some ten bytes: no memory for what cannot be there. */
	int64_t entries = e->frames + 1, size = 8 + entries * PIO_ENCODED_ENTRY_BYTES + PIO_ENCODED_FOOT_BYTES;
	int64_t table_at = file_bytes - size;
	if (e->frames > file_bytes || table_at < PIO_ENCODED_HEAD_BYTES)
		return damaged(e, "it is cut short", err);
	uint8_t *table = pio_alloc((size_t)size), *foot = table ? table + size - PIO_ENCODED_FOOT_BYTES : NULL;
	e->places = pio_alloc((size_t)entries * sizeof *e->places);
	int rc = table && e->places ? 0 : pio_fail(err, PIO_ENOMEM, "out of memory to read %s", e->path);
	if (!rc)
		rc = pio_fs_pread_all(e->fd, table, (size_t)size, table_at, e->path, err);
	if (!rc && (pio_encoded_get_u32(table) != PIO_ENCODED_TABLE_MAGIC ||
	            pio_encoded_get_u32(table + 4) != size - 8 || pio_encoded_get_u32(foot) != entries || foot[4] ||
	            pio_encoded_get_u32(foot + 5) != PIO_ENCODED_END_MAGIC))
		rc = damaged(e, "its table of frames is not at its end", err);
	if (!rc)
		rc = check_table(e, table, table_at, err);
	pio_free(table);
	return rc;
}

int pio_encoded_open(pio_encoded **out, const char *path, pio_err *err)
{
	struct stat st;
	pio_encoded *e = *out = pio_calloc(1, sizeof *e);
	if (!e)
		return pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	e->fd = -1;
	e->path = pio_strdup(path);
	e->zstd = ZSTD_createDCtx();
	e->packed = pio_alloc(ZSTD_COMPRESSBOUND((size_t)PIO_ENCODED_FRAME_BYTES));
	e->shuffled = pio_alloc((size_t)PIO_ENCODED_FRAME_BYTES);
	int rc = e->path && e->zstd && e->packed && e->shuffled ? 0 :
	         pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	if (!rc)
		rc = pio_fs_open(&e->fd, path, O_RDONLY, 0, err);
	if (!rc && fstat(e->fd, &st) != 0)
		rc = pio_fail_errno(err, errno, "%s", path);
	if (!rc && st.st_size < (off_t)PIO_ENCODED_HEAD_BYTES)
		rc = damaged(e, "it is cut short", err);
	if (!rc)
		rc = read_head(e, err);
	if (!rc)
		rc = read_table(e, (int64_t)st.st_size, err);
	if (rc)
		pio_encoded_close(out);
	return rc;
}

const pio_encoded_head *pio_encoded_head_get(const pio_encoded *encoded)
{
	return &encoded->head;
}

/* ---- frames ---------------------------------------------------------------------------- */

#define GATHER(type) \
	for (size_t i = 0; i < count; i++) { \
		type x = 0; \
		for (size_t k = 0; k < sizeof x; k++) \
			x = (type)(x | (type)((type)from[k * count + i] << (8 * k))); \
		memcpy(to + i * sizeof x, &x, sizeof x); \
	}

static void unshuffle_block(uint8_t *restrict to, const uint8_t *restrict from, size_t count, int width)
{
	size_t size = (size_t)width;
	switch (width) {
	case 1: memcpy(to, from, count); break;
	case 2: GATHER(uint16_t) break;
	case 4: GATHER(uint32_t) break;
	case 8: GATHER(uint64_t) break;
	default:
		for (size_t i = 0; i < count; i++)
			for (size_t k = 0; k < size; k++)
				to[i * size + k] = from[k * count + i];
	}
}

/* What is behind the last whole element of a block stays where it is. */
static void unshuffle(uint8_t *to, const uint8_t *from, size_t size_bytes, size_t block_bytes, int width)
{
	for (size_t at = 0; at < size_bytes; at += block_bytes) {
		size_t n = size_bytes - at < block_bytes ? size_bytes - at : block_bytes;
		size_t whole = n / (size_t)width * (size_t)width;
		unshuffle_block(to + at, from + at, whole / (size_t)width, width);
		memcpy(to + at + whole, from + at + whole, n - whole);
	}
}

int pio_encoded_read(pio_encoded *e, int64_t n, void *bytes, const void *anchor, pio_err *err)
{
	size_t size = pio_encoded_frame_bytes(e->head.bytes, n);
	size_t packed = (size_t)(e->places[n + 1] - e->places[n]);
	int rc = pio_fs_pread_all(e->fd, e->packed, packed, e->places[n], e->path, err);
	if (rc)
		return rc;
	size_t got = ZSTD_decompressDCtx(e->zstd, e->shuffled, size, e->packed, packed);
	if (ZSTD_isError(got) || got != size)
		return pio_fail(err, PIO_ECORRUPT, "%s: the frame at byte %lld, MiB %lld of the file that it holds: %s",
		                e->path, (long long)e->places[n], (long long)n,
		                ZSTD_isError(got) ? ZSTD_getErrorName(got) : "it holds too little");
	unshuffle(bytes, e->shuffled, size, e->block_bytes, e->head.element_bytes);
	if (anchor)
		pio_encoded_xor(bytes, anchor, size);
	return 0;
}

void pio_encoded_forget(pio_encoded *encoded)
{
	(void)posix_fadvise(encoded->fd, 0, 0, POSIX_FADV_DONTNEED);
}

void pio_encoded_close(pio_encoded **encoded)
{
	pio_encoded *e = *encoded;
	*encoded = NULL;
	if (!e)
		return;
	if (e->fd >= 0)
		(void)pio_fs_close(&e->fd, e->path, NULL);
	ZSTD_freeDCtx(e->zstd);
	pio_free(e->packed);
	pio_free(e->shuffled);
	pio_free(e->places);
	pio_free(e->path);
	pio_free(e);
}
