#include "store/tensor_copy.h"

#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/fs.h"
#include "sys/stored.h"

#define BLOCK_BYTES ((int64_t)1 << 20)

/* A box as runs of bytes that lie together on both sides. */
typedef struct runs {
	int64_t count, size_bytes; /* of runs, of each */
	int inner;                 /* dimensions from here on are within a run */
} runs;

static int check_box(runs *r, const pio_tensor_part *part, pio_err *err)
{
	int64_t bytes = part->element_bytes;
	bool whole = true;
	*r = (runs){ 1, part->element_bytes, part->ndim };
	for (int i = part->ndim - 1; i >= 0; i--) {
		int64_t begin = part->begin[i], size = part->shape[i];
		if (begin < 0 || size < 0 || begin > part->whole[i] || size > part->whole[i] - begin ||
		    __builtin_mul_overflow(bytes, size, &bytes))
			return pio_fail(err, PIO_EINVAL, "a part begins at %lld of dimension %d and has %lld there, but"
			                " the tensor has %lld", (long long)begin, i, (long long)size,
			                (long long)part->whole[i]);
		if (whole) {
			r->inner = i;
			r->size_bytes *= size;
		} else {
			r->count *= size;
		}
		whole = whole && size == part->whole[i];
	}
	if (bytes != part->size_bytes)
		return pio_fail(err, PIO_EINVAL, "a part has %lld bytes, its shape asks for %lld",
		                (long long)part->size_bytes, (long long)bytes);
	r->count = bytes ? r->count : 0;
	return 0;
}

/* Where in the tensor, in bytes, is the n-th run? */
static int64_t place_of(const pio_tensor_part *part, const runs *r, int64_t n)
{
	int64_t place = 0, stride = part->element_bytes;
	for (int i = part->ndim - 1; i >= 0; i--) {
		int64_t index = part->begin[i];
		if (i < r->inner) {
			index += n % part->shape[i];
			n /= part->shape[i];
		}
		place += index * stride;
		stride *= part->whole[i];
	}
	return place;
}

static int write_at(int fd, const char *to, int64_t at, const void *bytes, int64_t size_bytes, pio_err *err)
{
	if (lseek(fd, (off_t)at, SEEK_SET) < 0)
		return pio_fail_errno(err, errno, "%s", to);
	return pio_fs_write_all(fd, bytes, (size_t)size_bytes, to, err);
}

/* Bytes [from, from + size) of the part, which lie in its n-th runs. */
static int write_block(int fd, const char *to, int64_t at, const pio_tensor_part *part, const runs *r,
                       int64_t from, const uint8_t *block, int64_t size_bytes, pio_err *err)
{
	int rc = 0;
	while (!rc && size_bytes) {
		int64_t n = from / r->size_bytes, inside = from % r->size_bytes;
		int64_t take = r->size_bytes - inside < size_bytes ? r->size_bytes - inside : size_bytes;
		int64_t place = part->ndim ? place_of(part, r, n) : part->begin[0] * part->element_bytes;
		rc = write_at(fd, to, at + place + inside, block, take, err);
		from += take;
		block += take;
		size_bytes -= take;
	}
	return rc;
}

int pio_tensor_copy(int fd, const char *to, int64_t at, const pio_tensor_part *part,
                    pio_tensor_copy_heard *heard, void *context, pio_err *err)
{
	runs r = { 1, part->size_bytes, 0 };
	pio_stored *from = NULL;
	int rc = part->ndim ? check_box(&r, part, err) : 0;
	uint8_t *block = pio_alloc((size_t)BLOCK_BYTES);
	if (!rc && !block)
		rc = pio_fail(err, PIO_ENOMEM, "out of memory to copy a tensor");
	if (!rc)
		rc = pio_stored_open(&from, part->path, err);
	if (!rc)
		pio_stored_expect(from, part->offset, part->size_bytes);
	for (int64_t done = 0; !rc && done < part->size_bytes; done += BLOCK_BYTES) {
		int64_t left = part->size_bytes - done, take = left < BLOCK_BYTES ? left : BLOCK_BYTES;
		rc = pio_stored_read(from, block, (size_t)take, part->offset + done, err);
		if (!rc)
			rc = write_block(fd, to, at, part, &r, done, block, take, err);
		if (!rc && heard)
			heard(context, take);
	}
	pio_stored_close(&from);
	pio_free(block);
	return rc;
}
