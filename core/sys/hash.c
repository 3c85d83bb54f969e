#include "sys/hash.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "sys/fs.h"
#include "sys/library.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT_OF(number) #number
#define SONAME(version) "libcrypto.so." TEXT_OF(version)

/* What is called of it, by its own names. */
static struct {
	const EVP_MD *(*EVP_sha256)(void);
	EVP_MD_CTX *(*EVP_MD_CTX_new)(void);
	void (*EVP_MD_CTX_free)(EVP_MD_CTX *context);
	int (*EVP_DigestInit_ex)(EVP_MD_CTX *context, const EVP_MD *type, ENGINE *engine);
	int (*EVP_DigestUpdate)(EVP_MD_CTX *context, const void *bytes, size_t size_bytes);
	int (*EVP_DigestFinal_ex)(EVP_MD_CTX *context, unsigned char *digest, unsigned int *size_bytes);
	const char *(*OpenSSL_version)(int what);
} crypto;
static pio_err failed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct pio_sha256 {
	EVP_MD_CTX *context;
};

static void load(void)
{
	void *library;
	const pio_symbol symbols[] = {
		{ "EVP_sha256", (void **)&crypto.EVP_sha256, false },
		{ "EVP_MD_CTX_new", (void **)&crypto.EVP_MD_CTX_new, false },
		{ "EVP_MD_CTX_free", (void **)&crypto.EVP_MD_CTX_free, false },
		{ "EVP_DigestInit_ex", (void **)&crypto.EVP_DigestInit_ex, false },
		{ "EVP_DigestUpdate", (void **)&crypto.EVP_DigestUpdate, false },
		{ "EVP_DigestFinal_ex", (void **)&crypto.EVP_DigestFinal_ex, false },
		{ "OpenSSL_version", (void **)&crypto.OpenSSL_version, false },
	};
	(void)pio_library_open(&library, SONAME(OPENSSL_SHLIB_VERSION), symbols, COUNT(symbols), &failed);
}

static int need_library(pio_err *err)
{
	pthread_once(&once, load);
	return failed.code ? pio_fail(err, failed.code, "SHA-256 needs libcrypto: %s", failed.message) : 0;
}

int pio_hash_library(const char **version, pio_err *err)
{
	int rc = need_library(err);
	*version = rc ? NULL : crypto.OpenSSL_version(OPENSSL_VERSION);
	return rc;
}

static int start(pio_sha256 *hash, pio_err *err)
{
	return crypto.EVP_DigestInit_ex(hash->context, crypto.EVP_sha256(), NULL) == 1
	       ? 0 : pio_fail(err, PIO_EIO, "libcrypto offers no SHA-256");
}

int pio_sha256_new(pio_sha256 **hash, pio_err *err)
{
	*hash = NULL;
	int rc = need_library(err);
	if (rc)
		return rc;
	*hash = pio_calloc(1, sizeof **hash);
	if (!*hash)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a SHA-256 state");
	(*hash)->context = crypto.EVP_MD_CTX_new();
	rc = (*hash)->context ? start(*hash, err)
	                      : pio_fail(err, PIO_ENOMEM, "out of memory for a SHA-256 state");
	if (rc) {
		pio_sha256_free(*hash);
		*hash = NULL;
	}
	return rc;
}

int pio_sha256_update(pio_sha256 *hash, const void *bytes, size_t size_bytes, pio_err *err)
{
	return crypto.EVP_DigestUpdate(hash->context, bytes, size_bytes) == 1
	       ? 0 : pio_fail(err, PIO_EIO, "SHA-256 failed in libcrypto");
}

int pio_sha256_finish(pio_sha256 *hash, char hex[PIO_SHA256_HEX + 1], pio_err *err)
{
	unsigned char digest[PIO_SHA256_BYTES];
	if (crypto.EVP_DigestFinal_ex(hash->context, digest, NULL) != 1)
		return pio_fail(err, PIO_EIO, "SHA-256 failed in libcrypto");
	pio_hex_format(digest, sizeof digest, hex);
	return start(hash, err);
}

void pio_sha256_free(pio_sha256 *hash)
{
	if (!hash)
		return;
	crypto.EVP_MD_CTX_free(hash->context);
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
