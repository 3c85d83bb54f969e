#include "sys/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "sys/encoded.h"
#include "sys/fs.h"

struct pio_stored {
	char *path;
	int fd;                    /* of a plain file, else -1 */
	int64_t bytes;
	pio_encoded *encoded;
	pio_stored *anchor;
	int64_t have;              /* the frame in `frame`; -1: none */
	uint8_t *frame, *anchor_frame;
};

/* ---- opening --------------------------------------------------------------------------- */

static int open_plain(pio_stored *s, pio_err *err)
{
	struct stat st;
	int rc = pio_fs_open(&s->fd, s->path, O_RDONLY, 0, err);
	if (!rc && fstat(s->fd, &st) != 0)
		rc = pio_fail_errno(err, errno, "%s", s->path);
	if (!rc && S_ISDIR(st.st_mode))
		rc = pio_fail(err, PIO_EINVAL, "%s: is a directory", s->path);
	s->bytes = rc ? 0 : (int64_t)st.st_size;
	return rc;
}

/* DIR of DIR/ab/<sha256>. */
static int dir_of(pio_str *dir, const char *path, pio_err *err)
{
	const char *end = path + strlen(path);
	for (int slashes = 0; end > path && slashes < 2; end--)
		slashes += end[-1] == '/';
	pio_str_append(dir, path, (size_t)(end - path));
	return pio_str_check(dir, err);
}

static int open_stored(pio_stored **out, const char *path, bool may_have_anchor, pio_err *err);

static int pass_on(pio_err *err, const pio_err *why)
{
	if (err)
		*err = *why;
	return -why->code;
}

static int open_anchor(pio_stored *s, const char *encoded_path, const char *dir, const char *anchor,
                       pio_err *err)
{
	pio_str path = PIO_STR_INIT;
	pio_err why = PIO_ERR_INIT;
	int rc = dir ? 0 : dir_of(&path, encoded_path, err);
	pio_str_printf(&path, "%s/%.2s/%s", dir ? dir : "", anchor, anchor);
	if (!rc)
		rc = pio_str_check(&path, err);
	if (!rc && open_stored(&s->anchor, path.data, false, &why))
		rc = why.code == PIO_ENOMEM || why.code == PIO_EIO ? pass_on(err, &why) :
		     pio_fail(err, PIO_ECORRUPT, "%s needs object %.12s... for its decoding: %s", encoded_path, anchor,
		              why.message);
	if (!rc && pio_stored_bytes(s->anchor) != s->bytes)
		rc = pio_fail(err, PIO_ECORRUPT, "%s needs object %.12s... for its decoding, which has another size",
		              encoded_path, anchor);
	if (!rc && !(s->anchor_frame = pio_alloc((size_t)PIO_ENCODED_FRAME_BYTES)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory to read %s", encoded_path);
	pio_str_fini(&path);
	return rc;
}

static int open_encoded(pio_stored *s, const char *path, const char *dir, bool may_have_anchor, pio_err *err)
{
	int rc = pio_encoded_open(&s->encoded, path, err);
	if (rc)
		return rc;
	const pio_encoded_head *head = pio_encoded_head_get(s->encoded);
	s->bytes = head->bytes;
	s->frame = pio_alloc((size_t)PIO_ENCODED_FRAME_BYTES);
	if (!s->frame)
		return pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	if (!head->anchor[0])
		return 0;
	if (!may_have_anchor)
		return pio_fail(err, PIO_ECORRUPT, "%s has an anchor, and is one itself", path);
	return open_anchor(s, path, dir, head->anchor, err);
}

/* Where one was encoded just now, or decoded, it has the other name a moment later. */
static int open_either(pio_stored *s, const char *path, bool may_have_anchor, pio_err *err)
{
	pio_err plain = PIO_ERR_INIT;
	pio_str encoded = PIO_STR_INIT;
	pio_str_printf(&encoded, "%s" PIO_STORED_ENCODED, path);
	int rc = pio_str_check(&encoded, err);
	for (int tries = 0; !rc && tries < 2; tries++) {
		rc = open_plain(s, &plain);
		if (rc != -PIO_ENOTFOUND)
			break;
		rc = open_encoded(s, encoded.data, NULL, may_have_anchor, err);
		if (rc != -PIO_ENOTFOUND)
			goto out;
		rc = tries ? rc : 0;
	}
	if (rc && err && plain.code)
		*err = plain;
out:
	pio_str_fini(&encoded);
	return rc;
}

static int open_stored(pio_stored **out, const char *path, bool may_have_anchor, pio_err *err)
{
	pio_stored *s = *out = pio_calloc(1, sizeof *s);
	if (!s)
		return pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	s->fd = -1;
	s->have = -1;
	s->path = pio_strdup(path);
	int rc = s->path ? open_either(s, path, may_have_anchor, err) :
	                   pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	if (rc)
		pio_stored_close(out);
	return rc;
}

int pio_stored_open(pio_stored **stored, const char *path, pio_err *err)
{
	return open_stored(stored, path, true, err);
}

int64_t pio_stored_bytes(const pio_stored *stored)
{
	return stored->bytes;
}

bool pio_stored_is_encoded(const pio_stored *stored)
{
	return stored->encoded != NULL;
}

void pio_stored_close(pio_stored **stored)
{
	pio_stored *s = *stored;
	*stored = NULL;
	if (!s)
		return;
	if (s->fd >= 0)
		(void)pio_fs_close(&s->fd, s->path, NULL);
	pio_encoded_close(&s->encoded);
	pio_stored_close(&s->anchor);
	pio_free(s->frame);
	pio_free(s->anchor_frame);
	pio_free(s->path);
	pio_free(s);
}

/* ---- reading ---------------------------------------------------------------------------- */

static int decode(pio_stored *s, int64_t n, pio_err *err)
{
	int rc = 0;
	if (s->have == n)
		return 0;
	s->have = -1;
	if (s->anchor)
		rc = pio_stored_read(s->anchor, s->anchor_frame, pio_encoded_frame_bytes(s->bytes, n),
		                     n * PIO_ENCODED_FRAME_BYTES, err);
	if (!rc)
		rc = pio_encoded_read(s->encoded, n, s->frame, s->anchor ? s->anchor_frame : NULL, err);
	s->have = rc ? -1 : n;
	return rc;
}

int pio_stored_read(pio_stored *s, void *bytes, size_t size_bytes, int64_t at, pio_err *err)
{
	uint8_t *to = bytes;
	if (!s->encoded)
		return pio_fs_pread_all(s->fd, bytes, size_bytes, at, s->path, err);
	if (at < 0 || at > s->bytes || size_bytes > (uint64_t)(s->bytes - at))
		return pio_fail(err, PIO_ECORRUPT, "%s has %lld bytes: %zu from byte %lld on are not there", s->path,
		                (long long)s->bytes, size_bytes, (long long)at);
	while (size_bytes) {
		int64_t n = at / PIO_ENCODED_FRAME_BYTES;
		size_t inside = (size_t)(at % PIO_ENCODED_FRAME_BYTES);
		size_t left = pio_encoded_frame_bytes(s->bytes, n) - inside;
		size_t take = size_bytes < left ? size_bytes : left;
		int rc = decode(s, n, err);
		if (rc)
			return rc;
		memcpy(to, s->frame + inside, take);
		to += take;
		at += (int64_t)take;
		size_bytes -= take;
	}
	return 0;
}

void pio_stored_expect(pio_stored *s, int64_t at, int64_t size_bytes)
{
	if (s->fd >= 0)
		(void)posix_fadvise(s->fd, at, size_bytes, POSIX_FADV_SEQUENTIAL);
}

/* ---- all of it, from the disk ---------------------------------------------------------- */

/* Let go of what the kernel keeps of it in memory, and of its anchor. */
static void forget(const pio_stored *s)
{
	if (s->fd >= 0)
		(void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (s->encoded)
		pio_encoded_forget(s->encoded);
	if (s->anchor)
		forget(s->anchor);
}

static int hash_all(pio_reread *reread, bool *damaged, pio_stored *s, pio_sha256 *hash,
                    pio_reread_progress *progress, void *context, pio_stored_damage *damage,
                      void *damage_context, pio_err *err)
{
	int64_t frames = pio_encoded_frames(s->bytes), group = PIO_BLOCK_BYTES / PIO_ENCODED_FRAME_BYTES;
	forget(s);
	for (int64_t n = 0; n < frames; n++) {
		pio_err why = PIO_ERR_INIT;
		size_t size = pio_encoded_frame_bytes(s->bytes, n);
		int rc = decode(s, n, &why);
		if (rc == -PIO_ECORRUPT || (rc == -PIO_EIO && pio_reread_is_damage(why.sys_errno))) {
			int64_t from = n * PIO_ENCODED_FRAME_BYTES;
			*damaged = true;
			damage(damage_context, from, from + (int64_t)size);
		} else if (rc) {
			return pass_on(err, &why);
		} else if ((rc = pio_sha256_update(hash, s->frame, size, err))) {
			return rc;
		}
		reread->bytes += (int64_t)size;
		if (n % group == group - 1 || n == frames - 1) {
			forget(s);
			if (progress)
				progress(context, reread->bytes);
		}
	}
	return pio_sha256_finish(hash, reread->sha256, err);
}

int pio_stored_reread(pio_reread *reread, bool *damaged, const char *path, const char *dir,
                      pio_reread_progress *progress, void *context, pio_stored_damage *damage,
                      void *damage_context, pio_err *err)
{
	pio_stored *s = pio_calloc(1, sizeof *s);
	pio_sha256 *hash = NULL;
	*reread = (pio_reread){ .blocks = NULL };
	*damaged = false;
	if (!s)
		return pio_fail(err, PIO_ENOMEM, "out of memory to read %s", path);
	s->fd = -1;
	s->have = -1;
	int rc = pio_sha256_new(&hash, err);
	if (!rc)
		rc = open_encoded(s, path, dir, true, err);
	if (!rc)
		rc = hash_all(reread, damaged, s, hash, progress, context, damage, damage_context, err);
	pio_sha256_free(hash);
	pio_stored_close(&s);
	return rc;
}
