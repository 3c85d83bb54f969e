#include "pack/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/stored.h"

#define BLOCK_BYTES (1u << 20)

typedef struct copy {
	const char *from, *to, *sha256;
	char *part, *dir, *block;
	pio_stored *in;
	int out;
	pio_sha256 *hash;
	int64_t done, total;
	pio_bundle_report *report;
	void *context;
} copy;

/* A lock on the file that has the name; it may have got another meanwhile. */
static int open_part(copy *c, pio_err *err)
{
	struct stat ours, named;
	int rc = pio_fs_lock(&c->out, c->part, err);
	if (rc)
		return rc;
	if (fstat(c->out, &ours) || lstat(c->part, &named) || ours.st_ino != named.st_ino ||
	    ours.st_dev != named.st_dev || !S_ISREG(named.st_mode))
		return pio_fail(err, PIO_EBUSY, "%s: another process has just written it, or it is no file", c->part);
	if (ftruncate(c->out, 0) || fchmod(c->out, 0444))
		return pio_fail_errno(err, errno, "%s: cannot be emptied", c->part);
	pio_fs_share(c->out, c->part, 0444);
	return 0;
}

static int open_copy(copy *c, pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_str_printf(&path, "%s.part", c->to);
	c->part = pio_str_take(&path);
	pio_str_puts(&path, c->to);
	char *slash = path.failed ? NULL : strrchr(path.data, '/');
	if (slash)
		*slash = 0;
	else
		pio_str_clear(&path), pio_str_putc(&path, '.');
	c->dir = pio_str_take(&path);
	c->block = pio_alloc(BLOCK_BYTES);
	if (!c->part || !c->dir || !c->block)
		return pio_fail(err, PIO_ENOMEM, "out of memory to copy %s", c->from);
	int rc = pio_sha256_new(&c->hash, err);
	if (!rc)
		rc = pio_stored_open(&c->in, c->from, err);
	if (!rc)
		rc = pio_fs_mkdirs_durable(c->dir, 0777, err);
	return rc ? rc : open_part(c, err);
}

static int move_bytes(copy *c, pio_err *err)
{
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes = pio_stored_bytes(c->in);
	int rc = 0;
	pio_stored_expect(c->in, 0, bytes);
	while (!rc && c->done < bytes) {
		size_t n = bytes - c->done < BLOCK_BYTES ? (size_t)(bytes - c->done) : BLOCK_BYTES;
		rc = pio_stored_read(c->in, c->block, n, c->done, err);
		if (!rc)
			rc = pio_sha256_update(c->hash, c->block, n, err);
		if (!rc)
			rc = pio_fs_write_all(c->out, c->block, n, c->part, err);
		c->done += rc ? 0 : (int64_t)n;
		if (!rc && c->report)
			c->report(c->context, NULL, c->done, c->total);
	}
	if (!rc)
		rc = pio_sha256_finish(c->hash, sha256, err);
	if (!rc && strcmp(sha256, c->sha256) != 0)
		rc = pio_fail(err, PIO_ECORRUPT, "%s has other bytes than its name says: their SHA-256 is %s, expected"
		              " %s", c->from, sha256, c->sha256);
	return rc ? rc : pio_fs_datasync(c->out, c->part, err);
}

int pio_copy(const char *from, const char *to, const char *sha256, int64_t size_bytes,
             pio_bundle_report *report, void *context, pio_err *err)
{
	copy c = { .from = from, .to = to, .sha256 = sha256, .out = -1, .total = size_bytes,
		.report = report, .context = context };
	int rc = open_copy(&c, err);
	bool opened = !rc;
	if (!rc)
		rc = move_bytes(&c, err);
	if (!rc)
		rc = pio_fs_rename(c.part, to, err);
	if (!rc)
		rc = pio_fs_sync_dir(c.dir, err);
	if (rc && opened)
		(void)pio_fs_unlink(c.part, NULL);
	pio_stored_close(&c.in);
	if (c.out >= 0) {
		int closed = pio_fs_close(&c.out, to, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	pio_sha256_free(c.hash);
	pio_free(c.part);
	pio_free(c.dir);
	pio_free(c.block);
	return rc;
}
