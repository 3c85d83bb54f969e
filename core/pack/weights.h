/* weights.h: is a safetensors file one, told from its bytes as they pass.
 *
 * The header alone is looked at (base/safetensors.h): that every tensor lies
 * where it says, whole, and nothing between them. What the tensors hold is for
 * the digests to vouch for. */
#ifndef PIO_PACK_WEIGHTS_H
#define PIO_PACK_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct pio_weights {
	const char *path;       /* for messages; borrowed */
	int64_t file_bytes;
	uint64_t header_bytes;  /* 0: not known yet */
	pio_str text;           /* the length, and the header as far as it came */
	bool done;              /* parsed */
	int64_t tensors;
} pio_weights;

/* A file of so many bytes begins. */
void pio_weights_init(pio_weights *weights, const char *path, int64_t file_bytes);
/* Its next bytes. PIO_ECORRUPT names the tensor that is wrong, as soon as the
 * header is whole. */
int pio_weights_pass(pio_weights *weights, const void *bytes, size_t size_bytes, pio_err *err);
/* There are no more: was that a header? */
int pio_weights_end(pio_weights *weights, pio_err *err);
void pio_weights_fini(pio_weights *weights);

/* By its name, or by how it begins; false for what cannot be read. */
bool pio_weights_is(const char *path);
/* Of a file: how many tensors it has, and its size. */
int pio_weights_verify(int64_t *tensors, int64_t *size_bytes, const char *path, pio_err *err);

#endif
