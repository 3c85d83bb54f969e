#include "pack/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "pack/belt.h"
#include "sys/fs.h"

#define WINDOW_LOG_MAX 27
#define OUT_BYTES (1u << 18)

static const uint8_t zstd_magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };

struct pio_source {
	char *name;
	int fd;
	int64_t done, total;
	pio_sha256 *outer;      /* of the belt's thread while it runs */
	pio_belt *belt;
	bool begun;
	ZSTD_DCtx *zstd;        /* NULL: the file is the tar */
	ZSTD_inBuffer in;
	bool in_frame;          /* the last frame has not come to its end */
	bool more;              /* the decoder may have bytes without new ones to decode */
	char *out;
};

static int hash_block(void *context, const void *bytes, size_t size_bytes, pio_err *err)
{
	pio_source *source = context;
	return pio_sha256_update(source->outer, bytes, size_bytes, err);
}

static int open_file(pio_source *source, const char *path, pio_err *err)
{
	struct stat st;
	bool is_stdin = !strcmp(path, "-");
	source->name = pio_strdup(is_stdin ? "standard input" : path);
	if (!source->name)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", path);
	if (is_stdin) {
		source->fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
		if (source->fd < 0)
			return pio_fail_errno(err, errno, "the standard input cannot be read");
	} else {
		int rc = pio_fs_open(&source->fd, path, O_RDONLY, 0, err);
		if (rc)
			return rc;
	}
	if (fstat(source->fd, &st) == 0 && S_ISDIR(st.st_mode))
		return pio_fail(err, PIO_EINVAL, "%s: a directory, expected a bundle (.tar)", source->name);
	source->total = S_ISREG(st.st_mode) ? st.st_size : 0;
	return 0;
}

int pio_source_open(pio_source **out, const char *path, pio_err *err)
{
	pio_source *source = *out = pio_calloc(1, sizeof *source);
	if (!source)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", path);
	source->fd = -1;
	int rc = open_file(source, path, err);
	if (!rc)
		rc = pio_sha256_new(&source->outer, err);
	if (!rc)
		rc = pio_belt_new(&source->belt, hash_block, source, err);
	if (rc) {
		pio_source_close(source);
		*out = NULL;
	}
	return rc;
}

static int read_file(pio_source *source, const void **bytes, size_t *n, pio_err *err)
{
	ssize_t got = 1;
	char *block = pio_belt_block(source->belt);
	int rc = 0;
	*bytes = block;
	*n = 0;
	/* A pipe gives what it has; a block is full but for the last. */
	while (!rc && got > 0 && *n < PIO_BELT_BLOCK_BYTES) {
		rc = pio_fs_read_some(&got, source->fd, block + *n, PIO_BELT_BLOCK_BYTES - *n, source->name, err);
		*n += rc ? 0 : (size_t)got;
	}
	if (!rc)
		rc = pio_belt_check(source->belt, err);
	if (!rc && *n)
		pio_belt_put(source->belt, *n);
	source->done += (int64_t)*n;
	return rc;
}

/* What its first bytes say it is. */
static int begin(pio_source *source, pio_err *err)
{
	const void *bytes;
	size_t n;
	int rc = read_file(source, &bytes, &n, err);
	if (rc)
		return rc;
	source->begun = true;
	source->in = (ZSTD_inBuffer){ bytes, n, 0 };
	if (n < sizeof zstd_magic || memcmp(bytes, zstd_magic, sizeof zstd_magic) != 0)
		return 0;
	source->zstd = ZSTD_createDCtx();
	source->out = pio_alloc(OUT_BYTES);
	if (!source->zstd || !source->out)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", source->name);
	ZSTD_DCtx_setParameter(source->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	return 0;
}

static int inflate(pio_source *source, size_t *n, pio_err *err)
{
	ZSTD_outBuffer out = { source->out, OUT_BYTES, 0 };
	while (!out.pos) {
		if (source->in.pos == source->in.size && !source->more) {
			source->in.pos = 0;
			int rc = read_file(source, &source->in.src, &source->in.size, err);
			if (rc)
				return rc;
			if (!source->in.size && source->in_frame)
				return pio_fail(err, PIO_ECORRUPT, "%s: cut short: its last zstd frame does not end",
				                source->name);
			if (!source->in.size)
				break;
		}
		size_t left = ZSTD_decompressStream(source->zstd, &out, &source->in);
		if (ZSTD_isError(left))
			return pio_fail(err, PIO_ECORRUPT, "%s: its zstd frame at byte %lld or before: %s",
			                source->name, (long long)source->done, ZSTD_getErrorName(left));
		source->in_frame = left != 0;
		source->more = out.pos == out.size;
	}
	*n = out.pos;
	return 0;
}

int pio_source_read(pio_source *source, const void **bytes, size_t *n, pio_err *err)
{
	int rc = source->begun ? 0 : begin(source, err);
	*n = 0;
	if (rc)
		return rc;
	if (source->zstd) {
		*bytes = source->out;
		return inflate(source, n, err);
	}
	if (source->in.size) { /* what the beginning was recognised by */
		*bytes = source->in.src;
		*n = source->in.size;
		source->in.size = 0;
		return 0;
	}
	return read_file(source, bytes, n, err);
}

int64_t pio_source_done(const pio_source *source)
{
	return source->done;
}

int64_t pio_source_total(const pio_source *source)
{
	return source->total;
}

const char *pio_source_name(const pio_source *source)
{
	return source->name;
}

int pio_source_digest(pio_source *source, char sha256[PIO_SHA256_HEX + 1], pio_err *err)
{
	int rc = pio_belt_wait(source->belt, err);
	return rc ? rc : pio_sha256_finish(source->outer, sha256, err);
}

void pio_source_close(pio_source *source)
{
	if (!source)
		return;
	pio_belt_free(source->belt);
	pio_sha256_free(source->outer);
	if (source->fd >= 0)
		(void)pio_fs_close(&source->fd, source->name, NULL);
	ZSTD_freeDCtx(source->zstd);
	pio_free(source->out);
	pio_free(source->name);
	pio_free(source);
}
