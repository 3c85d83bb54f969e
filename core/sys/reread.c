#include "sys/reread.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/mem.h"
#include "sys/fs.h"

#define XXH_INLINE_ALL /* of its own: a program that links us may have another version */
#include <xxhash.h>

#define PIECE_BYTES (1u << 20) /* hashed while still in the processor's cache */

typedef struct reading {
	pio_reread *result;
	pio_sha256 *sha256;
	XXH3_state_t *block;           /* NULL: no digests of blocks */
	size_t capacity;               /* of result->blocks, in bytes */
	int64_t block_bytes;           /* of the block that is being read */
} reading;

static int end_block(reading *r, pio_err *err)
{
	pio_reread *result = r->result;
	XXH128_canonical_t digest;
	r->block_bytes = 0;
	if (!r->block)
		return 0;
	size_t end = (result->blocks_count + 1) * sizeof digest;
	if (end > r->capacity) {
		size_t capacity = 2 * r->capacity + 64 * sizeof digest;
		uint8_t *grown = pio_realloc(result->blocks, capacity);
		if (!grown)
			return pio_fail(err, PIO_ENOMEM, "out of memory for the digests of blocks");
		result->blocks = grown;
		r->capacity = capacity;
	}
	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(r->block));
	memcpy(result->blocks + end - sizeof digest, &digest, sizeof digest);
	result->blocks_count++;
	XXH3_128bits_reset(r->block);
	return 0;
}

static int take(reading *r, const uint8_t *bytes, size_t n, pio_err *err)
{
	int rc = pio_sha256_update(r->sha256, bytes, n, err);
	if (!rc && r->block && XXH3_128bits_update(r->block, bytes, n) != XXH_OK)
		rc = pio_fail(err, PIO_EIO, "XXH3 failed");
	r->result->bytes += (int64_t)n;
	r->block_bytes += (int64_t)n;
	return rc;
}

/* A piece never goes over the end of a block. */
static size_t next_piece(const reading *r)
{
	int64_t left = PIO_BLOCK_BYTES - r->block_bytes;
	return left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
}

static int read_all(reading *r, int fd, uint8_t *piece, const char *path,
                    pio_reread_progress *progress, void *context, pio_err *err)
{
	ssize_t n = 1;
	int rc = 0;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	while (!rc && n) {
		rc = pio_fs_read_some(&n, fd, piece, next_piece(r), path, err);
		if (!rc && n)
			rc = take(r, piece, (size_t)n, err);
		if (rc || (n && r->block_bytes < PIO_BLOCK_BYTES))
			continue;
		int64_t begin = r->result->bytes - r->block_bytes;
		(void)posix_fadvise(fd, begin, r->block_bytes, POSIX_FADV_DONTNEED);
		if (r->block_bytes)
			rc = end_block(r, err);
		if (progress)
			progress(context, r->result->bytes);
	}
	return rc ? rc : pio_sha256_finish(r->sha256, r->result->sha256, err);
}

int pio_reread_file(pio_reread *reread, const char *path, bool with_blocks,
                    pio_reread_progress *progress, void *context, pio_err *err)
{
	reading r = { .result = reread };
	uint8_t *piece = NULL;
	int fd = -1;
	*reread = (pio_reread){ .blocks = NULL };
	int rc = pio_fs_open(&fd, path, O_RDONLY, 0, err);
	if (!rc)
		rc = pio_sha256_new(&r.sha256, err);
	if (!rc && !(piece = pio_alloc(PIECE_BYTES)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	if (!rc && with_blocks && !(r.block = XXH3_createState()))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for an XXH3 state");
	if (r.block)
		XXH3_128bits_reset(r.block);
	if (!rc)
		rc = read_all(&r, fd, piece, path, progress, context, err);
	XXH3_freeState(r.block);
	pio_sha256_free(r.sha256);
	pio_free(piece);
	if (fd >= 0)
		(void)pio_fs_close(&fd, path, NULL);
	return rc;
}

void pio_reread_fini(pio_reread *reread)
{
	pio_free(reread->blocks);
	reread->blocks = NULL;
	reread->blocks_count = 0;
}

bool pio_reread_is_damage(int sys_errno)
{
	static const int errors[] = { EIO, EUCLEAN, EBADMSG, ENODATA, EILSEQ, EREMOTEIO, ENXIO };
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (sys_errno == errors[i])
			return true;
	return false;
}
