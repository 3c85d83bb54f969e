#include "store/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/archive_points.h"
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
	bool begun, in_parts;   /* parts, or the segment as it is */
	size_t at, end;         /* of the bytes that are being handed out */
	uint8_t record[PIO_ARCHIVE_RECORD_BYTES_MAX];
	uint8_t columns[32 * PIO_ARCHIVE_POINTS_MAX];
	uint8_t packed[BLOCK_BYTES];
} unpacker;

static int inflate(unpacker *u, void *bytes, size_t size_bytes, size_t *n, pio_err *err)
{
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

/* *n is less than `size_bytes` at the end alone. */
static int inflate_all(unpacker *u, void *bytes, size_t size_bytes, size_t *n, pio_err *err)
{
	*n = 0;
	for (size_t got = 1; got && *n < size_bytes; *n += got) {
		int rc = inflate(u, (uint8_t *)bytes + *n, size_bytes - *n, &got, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int begin(unpacker *u, pio_err *err)
{
	const size_t bytes = strlen(PIO_ARCHIVE_MAGIC);
	int rc = inflate_all(u, u->record, bytes, &u->end, err);
	u->begun = rc == 0;
	u->in_parts = !rc && u->end == bytes && memcmp(u->record, PIO_ARCHIVE_MAGIC, bytes) == 0;
	u->end = u->in_parts ? 0 : u->end; /* else the first bytes of the segment */
	return rc;
}

/* Of an 'R' its bytes, of a 'P' its record, into `record`; 0 bytes where it is
 * cut off. */
static int part_body(unpacker *u, char kind, uint32_t count, size_t *n, pio_err *err)
{
	uint32_t rank;
	bool points = kind == 'P' && count && count <= PIO_ARCHIVE_POINTS_MAX;
	*n = 0;
	if (!points && (kind != 'R' || !count || count > PIO_ARCHIVE_RECORD_BYTES_MAX))
		return pio_fail(err, PIO_ECORRUPT, "%s is no archive of a journal", u->path);
	size_t bytes = points ? 32 * (size_t)count : count, got = 0;
	int rc = points ? inflate_all(u, &rank, sizeof rank, &got, err) : 0;
	if (!rc && (!points || got == sizeof rank))
		rc = inflate_all(u, points ? u->columns : u->record, bytes, n, err);
	if (rc || *n < bytes)
		*n = 0;
	if (!*n || !points)
		return rc;
	pio_archive_join(u->record, rank, u->columns, count);
	*n = PIO_ARCHIVE_HEAD_BYTES + bytes;
	return 0;
}

/* The next part; what was cut off in its middle is none. */
static int next_part(unpacker *u, pio_err *err)
{
	uint8_t head[9];
	uint32_t count, crc;
	size_t n;
	u->at = u->end = 0;
	int rc = inflate_all(u, head, sizeof head, &n, err);
	if (rc || n < sizeof head)
		return rc;
	memcpy(&count, head + 1, 4);
	memcpy(&crc, head + 5, 4);
	rc = part_body(u, (char)head[0], count, &n, err);
	if (rc)
		return rc;
	if (n && pio_crc32c(0, u->record, n) != crc)
		return pio_fail(err, PIO_ECORRUPT, "%s is damaged", u->path);
	u->end = n;
	return 0;
}

static int unpack(void *context, void *bytes, size_t size_bytes, size_t *n, pio_err *err)
{
	unpacker *u = context;
	int rc = u->begun ? 0 : begin(u, err);
	*n = 0;
	if (!rc && u->in_parts && u->at == u->end)
		rc = next_part(u, err);
	if (!rc && u->at < u->end) {
		*n = u->end - u->at < size_bytes ? u->end - u->at : size_bytes;
		memcpy(bytes, u->record + u->at, *n);
		u->at += *n;
		return 0;
	}
	return rc || u->in_parts ? rc : inflate(u, bytes, size_bytes, n, err);
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

#define PLAIN_BYTES (2 * PIO_ARCHIVE_RECORD_BYTES_MAX)

typedef struct packer {
	const char *path;
	char *archive, *part;   /* its name at last, and while it is written */
	int in, out;
	bool ended;             /* the plain file */
	size_t from, to;        /* of `plain`, what is not yet packed */
	ZSTD_CCtx *zstd;
	uint8_t plain[PLAIN_BYTES];
	uint8_t columns[32 * PIO_ARCHIVE_POINTS_MAX];
	uint8_t packed[BLOCK_BYTES];
} packer;

static int deflate(packer *p, const void *bytes, size_t size_bytes, ZSTD_EndDirective how, pio_err *err)
{
	ZSTD_inBuffer in = { bytes, size_bytes, 0 };
	size_t left;
	do {
		ZSTD_outBuffer out = { p->packed, sizeof p->packed, 0 };
		left = ZSTD_compressStream2(p->zstd, &out, &in, how);
		if (ZSTD_isError(left))
			return pio_fail(err, PIO_ENOMEM, "%s cannot be compressed: %s", p->path,
			                ZSTD_getErrorName(left));
		int rc = out.pos ? pio_fs_write_all(p->out, p->packed, out.pos, p->part, err) : 0;
		if (rc)
			return rc;
	} while (how == ZSTD_e_end ? left != 0 : in.pos < in.size);
	return 0;
}

/* Have a whole record of points in `plain`, if there is one. */
static int refill(packer *p, pio_err *err)
{
	if (p->ended || p->to - p->from >= PIO_ARCHIVE_RECORD_BYTES_MAX)
		return 0;
	memmove(p->plain, p->plain + p->from, p->to - p->from);
	p->to -= p->from;
	p->from = 0;
	while (!p->ended && p->to < sizeof p->plain) {
		ssize_t got;
		int rc = pio_fs_read_some(&got, p->in, p->plain + p->to, sizeof p->plain - p->to, p->path, err);
		if (rc)
			return rc;
		p->ended = got == 0;
		p->to += (size_t)got;
	}
	return 0;
}

/* A part that stands for the next bytes of `plain`: `body` says them. */
static int put_part(packer *p, char kind, uint32_t count, size_t plain_bytes, const void *body,
                    size_t body_bytes, pio_err *err)
{
	uint8_t head[9] = { (uint8_t)kind };
	uint32_t crc = pio_crc32c(0, p->plain + p->from, plain_bytes);
	memcpy(head + 1, &count, 4);
	memcpy(head + 5, &crc, 4);
	int rc = deflate(p, head, sizeof head, ZSTD_e_continue, err);
	if (!rc && kind == 'P')
		rc = deflate(p, p->plain + p->from + 9, 4, ZSTD_e_continue, err); /* rank */
	if (!rc)
		rc = deflate(p, body, body_bytes, ZSTD_e_continue, err);
	p->from += plain_bytes;
	return rc;
}

/* Bytes of the record at `at` as its length says; what is no record is taken as
 * it is, up to the end of the file. */
static uint64_t record_bytes(const packer *p, size_t at)
{
	uint32_t length;
	if (p->to - at < 8)
		return UINT64_MAX;
	memcpy(&length, p->plain + at, 4);
	return length && length <= PIO_JOURNAL_RECORD_BYTES_MAX ? 8 + (uint64_t)length : UINT64_MAX;
}

/* How many bytes of `plain` come before the next record of points. *whole: those
 * of the record that begins behind them, or that they are in the middle of. */
static size_t raw_bytes(const packer *p, uint64_t *whole)
{
	size_t n = 0, left = p->to - p->from;
	while (n < PIO_ARCHIVE_RECORD_BYTES_MAX) {
		size_t room = left < PIO_ARCHIVE_RECORD_BYTES_MAX ? left : PIO_ARCHIVE_RECORD_BYTES_MAX;
		size_t step = *whole < room - n ? (size_t)*whole : room - n;
		n += step;
		*whole -= step;
		bool seen = p->ended || left - n >= PIO_ARCHIVE_RECORD_BYTES_MAX;
		if (*whole || n == left || !seen || pio_archive_points(p->plain + p->from + n, left - n))
			break;
		*whole = record_bytes(p, p->from + n);
	}
	return n;
}

static int pack(packer *p, pio_err *err)
{
	uint64_t whole = PIO_JOURNAL_HEADER_BYTES;
	int rc = deflate(p, PIO_ARCHIVE_MAGIC, strlen(PIO_ARCHIVE_MAGIC), ZSTD_e_continue, err);
	while (!rc && !(rc = refill(p, err)) && p->from < p->to) {
		const uint8_t *at = p->plain + p->from;
		size_t points = whole ? 0 : pio_archive_points(at, p->to - p->from);
		if (points) {
			pio_archive_split(p->columns, at, points);
			rc = put_part(p, 'P', (uint32_t)points, PIO_ARCHIVE_HEAD_BYTES + 32 * points, p->columns,
			              32 * points, err);
			continue;
		}
		whole = whole ? whole : record_bytes(p, p->from);
		size_t n = raw_bytes(p, &whole);
		rc = put_part(p, 'R', (uint32_t)n, n, at, n, err);
	}
	if (!rc)
		rc = deflate(p, NULL, 0, ZSTD_e_end, err);
	return rc ? rc : pio_fs_datasync(p->out, p->part, err);
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
