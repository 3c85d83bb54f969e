#include "sys/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "sys/fs.h"

struct pio_sha256 {
	EVP_MD_CTX *context;
};

static int start(pio_sha256 *hash, pio_err *err)
{
	return EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1
	       ? 0 : pio_fail(err, PIO_EIO, "libcrypto offers no SHA-256");
}

int pio_sha256_new(pio_sha256 **hash, pio_err *err)
{
	*hash = pio_calloc(1, sizeof **hash);
	if (!*hash)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a SHA-256 state");
	(*hash)->context = EVP_MD_CTX_new();
	int rc = (*hash)->context ? start(*hash, err)
	                          : pio_fail(err, PIO_ENOMEM, "out of memory for a SHA-256 state");
	if (rc) {
		pio_sha256_free(*hash);
		*hash = NULL;
	}
	return rc;
}

int pio_sha256_update(pio_sha256 *hash, const void *bytes, size_t size_bytes, pio_err *err)
{
	return EVP_DigestUpdate(hash->context, bytes, size_bytes) == 1
	       ? 0 : pio_fail(err, PIO_EIO, "SHA-256 failed in libcrypto");
}

int pio_sha256_finish(pio_sha256 *hash, char hex[PIO_SHA256_HEX + 1], pio_err *err)
{
	unsigned char digest[PIO_SHA256_BYTES];
	if (EVP_DigestFinal_ex(hash->context, digest, NULL) != 1)
		return pio_fail(err, PIO_EIO, "SHA-256 failed in libcrypto");
	pio_hex_format(digest, sizeof digest, hex);
	return start(hash, err);
}

void pio_sha256_free(pio_sha256 *hash)
{
	if (!hash)
		return;
	EVP_MD_CTX_free(hash->context);
	pio_free(hash);
}

int pio_sha256_bytes(const void *bytes, size_t size_bytes, char hex[PIO_SHA256_HEX + 1],
                     pio_err *err)
{
	pio_sha256 *hash = NULL;
	int rc = pio_sha256_new(&hash, err);
	if (rc == 0)
		rc = pio_sha256_update(hash, bytes, size_bytes, err);
	if (rc == 0)
		rc = pio_sha256_finish(hash, hex, err);
	pio_sha256_free(hash);
	return rc;
}

int pio_sha256_file(const char *path, char hex[PIO_SHA256_HEX + 1], int64_t *size_bytes,
                    pio_err *err)
{
	enum { BLOCK = 1 << 20 };
	pio_sha256 *hash = NULL;
	unsigned char *block = NULL;
	int fd = -1;
	int rc = pio_fs_open(&fd, path, O_RDONLY, 0, err);
	if (rc == 0)
		rc = pio_sha256_new(&hash, err);
	if (rc == 0 && !(block = pio_alloc(BLOCK)))
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for a block of %s", path);
	*size_bytes = 0;
	while (rc == 0) {
		ssize_t n = 0;
		rc = pio_fs_read_some(&n, fd, block, BLOCK, path, err);
		if (rc || n == 0)
			break;
		*size_bytes += n;
		rc = pio_sha256_update(hash, block, (size_t)n, err);
	}
	if (rc == 0)
		rc = pio_sha256_finish(hash, hex, err);
	pio_sha256_free(hash);
	pio_free(block);
	if (fd >= 0)
		close(fd);
	return rc;
}
