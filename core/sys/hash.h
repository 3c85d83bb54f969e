/* hash.h: SHA-256 (FIPS 180-4) by libcrypto.
 *
 * The library is loaded by the first digest: it takes a process longer to start
 * with it than all else that it does until then, and there are 1,016 ranks. What
 * makes a digest can fail with -PIO_ENOTFOUND where it is not installed. */
#ifndef PIO_SYS_HASH_H
#define PIO_SYS_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_SHA256_BYTES 32
#define PIO_SHA256_HEX 64

typedef struct pio_sha256 pio_sha256;

/* The version of libcrypto in its own words, which stay. */
int pio_hash_library(const char **version, pio_err *err);

int pio_sha256_new(pio_sha256 **hash, pio_err *err);
int pio_sha256_update(pio_sha256 *hash, const void *bytes, size_t size_bytes, pio_err *err);
/* Digest as 64 lower-case digits and a NUL. The state starts anew. */
int pio_sha256_finish(pio_sha256 *hash, char hex[PIO_SHA256_HEX + 1], pio_err *err);
void pio_sha256_free(pio_sha256 *hash);

int pio_sha256_bytes(const void *bytes, size_t size_bytes, char hex[PIO_SHA256_HEX + 1],
                     pio_err *err);
/* Digest and size of a file, read once. */
int pio_sha256_file(const char *path, char hex[PIO_SHA256_HEX + 1], int64_t *size_bytes,
                    pio_err *err);

#endif
