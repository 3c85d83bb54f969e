#include "store/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/fs.h"

#define LEVEL 1
#define BLOCK_BYTES (128u << 10)

static const uint8_t zstd_magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };

/* ---- a compressed file as a source --------------------------------------------------- */

typedef struct unpacker {
	int fd;
	char *path;
	ZSTD_DCtx *zstd;
	ZSTD_inBuffer in;
	bool in_frame;          /* of which more is to come */
	uint8_t packed[BLOCK_BYTES];
} unpacker;

static int unpack(void *context, void *bytes, size_t size_bytes, size_t *n, pio_err *err)
{
	unpacker *u = context;
	ZSTD_outBuffer out = { bytes, size_bytes, 0 };
	while (!out.pos) {
		if (u->in.pos == u->in.size) {
			ssize_t got;
			int rc = pio_fs_read_some(&got, u->fd, u->packed, sizeof u->packed, u->path, err);
			if (rc)
				return rc;
			if (!got)
				break; /* whole, or cut: either way the end of what is there */
			u->in = (ZSTD_inBuffer){ u->packed, (size_t)got, 0 };
		}
		size_t left = ZSTD_decompressStream(u->zstd, &out, &u->in);
		if (ZSTD_isError(left))
			return pio_fail(err, PIO_ECORRUPT, "%s cannot be decompressed: %s", u->path,
			                ZSTD_getErrorName(left));
	}
	*n = out.pos;
	return 0;
}

static void unpacker_close(void *context)
{
	unpacker *u = context;
	if (!u)
		return;
	if (u->fd >= 0)
		close(u->fd);
	ZSTD_freeDCtx(u->zstd);
	pio_free(u->path);
	pio_free(u);
}

static int unpacker_open(unpacker **out, const char *path, pio_err *err)
{
	unpacker *u = *out = pio_calloc(1, sizeof *u);
	if (!u)
		return pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	u->fd = -1;
	u->path = pio_strdup(path);
	u->zstd = ZSTD_createDCtx();
	int rc = u->path && u->zstd ? pio_fs_open(&u->fd, path, O_RDONLY, 0, err)
	                            : pio_fail(err, PIO_ENOMEM, "out of memory for reading %s", path);
	if (rc) {
		unpacker_close(u);
		*out = NULL;
	}
	return rc;
}

static bool is_packed(const char *path)
{
	uint8_t found[sizeof zstd_magic];
	int fd;
	if (pio_fs_open(&fd, path, O_RDONLY, 0, NULL) != 0)
		return false;
	bool packed = pio_fs_pread_all(fd, found, sizeof found, 0, path, NULL) == 0 &&
	              memcmp(found, zstd_magic, sizeof found) == 0;
	close(fd);
	return packed;
}

int pio_archive_open(pio_journal_reader **reader, pio_journal_header *header, const char *path,
                     pio_err *err)
{
	pio_str archived = PIO_STR_INIT;
	*reader = NULL;
	pio_str_puts(&archived, path);
	if (pio_fs_type(path) == PIO_FS_NONE)
		pio_str_puts(&archived, PIO_JOURNAL_ARCHIVED);
	int rc = pio_str_check(&archived, err);
	if (!rc && !is_packed(archived.data)) {
		rc = pio_journal_reader_open(reader, header, path, err);
	} else if (!rc) {
		unpacker *u;
		rc = unpacker_open(&u, archived.data, err);
		pio_journal_source source = { u, unpack, unpacker_close };
		if (!rc)
			rc = pio_journal_reader_open_source(reader, header, &source, archived.data, err);
	}
	pio_str_fini(&archived);
	return rc;
}

/* ---- making one ------------------------------------------------------------------------ */

typedef struct packer {
	const char *path;
	char *archive, *part;   /* its name at last, and while it is written */
	int in, out;
	ZSTD_CCtx *zstd;
	uint8_t plain[BLOCK_BYTES], packed[BLOCK_BYTES];
} packer;

static int pack(packer *p, pio_err *err)
{
	for (bool last = false; !last;) {
		ssize_t got;
		int rc = pio_fs_read_some(&got, p->in, p->plain, sizeof p->plain, p->path, err);
		if (rc)
			return rc;
		last = got == 0;
		ZSTD_inBuffer in = { p->plain, (size_t)got, 0 };
		size_t left;
		do {
			ZSTD_outBuffer out = { p->packed, sizeof p->packed, 0 };
			left = ZSTD_compressStream2(p->zstd, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
			if (ZSTD_isError(left))
				return pio_fail(err, PIO_ENOMEM, "%s cannot be compressed: %s", p->path,
				                ZSTD_getErrorName(left));
			rc = pio_fs_write_all(p->out, p->packed, out.pos, p->part, err);
			if (rc)
				return rc;
		} while (last ? left != 0 : in.pos < in.size);
	}
	return pio_fs_datasync(p->out, p->part, err);
}

/* What was written says what the plain file says. */
static int compare(packer *p, pio_err *err)
{
	unpacker *u;
	int rc = unpacker_open(&u, p->part, err);
	for (int64_t at = 0; !rc;) {
		size_t n;
		struct stat st;
		rc = unpack(u, p->packed, sizeof p->packed, &n, err);
		if (rc)
			break;
		if (n == 0) {
			if (fstat(p->in, &st) != 0 || st.st_size != at)
				rc = pio_fail(err, PIO_ECORRUPT, "%s does not come back whole", p->part);
			break;
		}
		rc = pio_fs_pread_all(p->in, p->plain, n, at, p->path, err);
		if (!rc && memcmp(p->plain, p->packed, n) != 0)
			rc = pio_fail(err, PIO_ECORRUPT, "%s does not come back as it was", p->part);
		at += (int64_t)n;
	}
	unpacker_close(u);
	return rc;
}

/* Renamed, durable, and only then is the plain one gone. */
static int replace(packer *p, pio_err *err)
{
	pio_str dir = PIO_STR_INIT;
	pio_str_puts(&dir, p->path);
	char *slash = strrchr(dir.data, '/');
	if (slash)
		*slash = 0;
	int rc = pio_str_check(&dir, err);
	if (!rc)
		rc = pio_fs_rename(p->part, p->archive, err);
	if (!rc)
		rc = pio_fs_sync_dir(slash ? dir.data : ".", err);
	if (!rc)
		rc = pio_fs_unlink(p->path, err);
	pio_str_fini(&dir);
	return rc;
}

static int packer_open(packer *p, pio_err *err)
{
	pio_str name = PIO_STR_INIT;
	pio_str_printf(&name, "%s" PIO_JOURNAL_ARCHIVED, p->path);
	p->archive = pio_str_take(&name);
	pio_str_printf(&name, "%s" PIO_JOURNAL_ARCHIVED ".part", p->path);
	p->part = pio_str_take(&name);
	pio_str_fini(&name);
	p->zstd = ZSTD_createCCtx();
	if (!p->archive || !p->part || !p->zstd)
		return pio_fail(err, PIO_ENOMEM, "out of memory to compress %s", p->path);
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1);
	int rc = pio_fs_lock(&p->out, p->part, err);
	if (rc)
		return rc;
	/* The lock keeps two processes from writing one file; but the one that is
	 * locked now may have been renamed by its writer meanwhile. */
	struct stat locked, named;
	if (fstat(p->out, &locked) != 0 || stat(p->part, &named) != 0 || locked.st_ino != named.st_ino)
		return pio_fail(err, PIO_EBUSY, "%s is being compressed by another process", p->path);
	if (ftruncate(p->out, 0) != 0)
		return pio_fail_errno(err, errno, "cannot truncate %s", p->part);
	return 0;
}

int pio_archive_make(const char *path, pio_err *err)
{
	struct stat st;
	int in;
	int rc = pio_fs_open(&in, path, O_RDONLY, 0, err);
	if (rc == -PIO_ENOTFOUND)
		return 0;
	if (rc)
		return rc;
	if (fstat(in, &st) != 0 || st.st_size < PIO_ARCHIVE_BYTES_MIN) {
		close(in);
		return 0;
	}
	packer *p = pio_calloc(1, sizeof *p);
	if (!p) {
		close(in);
		return pio_fail(err, PIO_ENOMEM, "out of memory to compress %s", path);
	}
	p->path = path;
	p->in = in;
	p->out = -1;
	rc = packer_open(p, err);
	bool busy = rc == -PIO_EBUSY;
	if (!rc)
		rc = pack(p, err);
	if (!rc)
		rc = compare(p, err);
	if (!rc)
		rc = replace(p, err);
	if (rc && !busy && p->out >= 0)
		(void)pio_fs_unlink(p->part, NULL);
	if (p->out >= 0)
		close(p->out);
	close(p->in);
	ZSTD_freeCCtx(p->zstd);
	pio_free(p->archive);
	pio_free(p->part);
	pio_free(p);
	return busy ? 0 : rc;
}
