#include "pack/weights.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/safetensors.h"
#include "sys/fs.h"

#define PREFIX_BYTES 8
#define BLOCK_BYTES 65536

void pio_weights_init(pio_weights *weights, const char *path, int64_t file_bytes)
{
	*weights = (pio_weights){ .path = path, .file_bytes = file_bytes, .text = PIO_STR_INIT };
}

void pio_weights_fini(pio_weights *weights)
{
	pio_str_fini(&weights->text);
}

static int parse(pio_weights *weights, pio_err *err)
{
	pio_safetensors header;
	int rc = pio_safetensors_parse(&header, weights->text.data + PREFIX_BYTES, (size_t)weights->header_bytes,
	                               weights->file_bytes, weights->path, err);
	weights->done = true;
	weights->tensors = rc ? 0 : (int64_t)header.count;
	pio_safetensors_fini(&header);
	return rc;
}

int pio_weights_pass(pio_weights *weights, const void *bytes, size_t size_bytes, pio_err *err)
{
	const char *at = bytes;
	int rc = 0;
	while (!rc && !weights->done && size_bytes) {
		size_t wanted = PREFIX_BYTES + (size_t)weights->header_bytes - weights->text.len;
		size_t n = wanted < size_bytes ? wanted : size_bytes;
		pio_str_append(&weights->text, at, n);
		at += n;
		size_bytes -= n;
		rc = pio_str_check(&weights->text, err);
		if (rc || n < wanted)
			return rc;
		if (weights->header_bytes)
			rc = parse(weights, err);
		else
			rc = pio_safetensors_header_bytes(&weights->header_bytes, (const uint8_t *)weights->text.data,
			                                  weights->file_bytes, weights->path, err);
	}
	return rc;
}

int pio_weights_end(pio_weights *weights, pio_err *err)
{
	if (weights->done)
		return 0;
	return pio_fail(err, PIO_ECORRUPT, "%s: %zu bytes are too few for the header of a safetensors file",
	                weights->path, weights->text.len);
}

/* ---- files ----------------------------------------------------------------------------- */

static int open_file(int *fd, int64_t *size_bytes, const char *path, pio_err *err)
{
	struct stat st;
	int rc = pio_fs_open(fd, path, O_RDONLY | O_NONBLOCK, 0, err);
	if (!rc && (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)))
		rc = pio_fail(err, PIO_EINVAL, "%s: not a regular file", path);
	*size_bytes = rc ? 0 : (int64_t)st.st_size;
	return rc;
}

bool pio_weights_is(const char *path)
{
	char first[PREFIX_BYTES + 1];
	const char *dot = strrchr(path, '.');
	int64_t size_bytes;
	int fd = -1;
	if (dot && !strcmp(dot, ".safetensors"))
		return true;
	/* A header of at most 2^32 bytes, which begins as JSON does. */
	bool is = open_file(&fd, &size_bytes, path, NULL) == 0 && size_bytes >= (int64_t)sizeof first &&
	          pio_fs_pread_all(fd, first, sizeof first, 0, path, NULL) == 0 &&
	          memcmp(first + 4, "\0\0\0\0{", 5) == 0;
	if (fd >= 0)
		(void)pio_fs_close(&fd, path, NULL);
	return is;
}

int pio_weights_verify(int64_t *tensors, int64_t *size_bytes, const char *path, pio_err *err)
{
	char block[BLOCK_BYTES];
	pio_weights weights;
	ssize_t n = 1;
	int fd = -1;
	*tensors = 0;
	int rc = open_file(&fd, size_bytes, path, err);
	pio_weights_init(&weights, path, *size_bytes);
	while (!rc && n > 0 && !weights.done) {
		rc = pio_fs_read_some(&n, fd, block, sizeof block, path, err);
		if (!rc && n > 0)
			rc = pio_weights_pass(&weights, block, (size_t)n, err);
	}
	if (!rc)
		rc = pio_weights_end(&weights, err);
	*tensors = weights.tensors;
	pio_weights_fini(&weights);
	if (fd >= 0)
		(void)pio_fs_close(&fd, path, NULL);
	return rc;
}
