/* safetensors.h: the header of a safetensors file, read with distrust.
 *
 * Format (github.com/huggingface/safetensors): u64 little-endian length N of
 * the JSON header, at most 100,000,000; the header, starting with '{', space
 * padded; the data. Ranges are contiguous from 0, without holes or overlaps,
 * and the last ends at the end of the file; no duplicate names; every range
 * fits its type and shape. No I/O here: the caller reads the bytes. */
#ifndef PIO_BASE_SAFETENSORS_H
#define PIO_BASE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_SAFETENSORS_HEADER_BYTES_MAX 100000000ull
#define PIO_SAFETENSORS_DIMS_MAX 32

typedef struct pio_tensor {
	char *name;              /* UTF-8 */
	const char *dtype;       /* "F32"; static storage */
	int ndim;
	int64_t shape[PIO_SAFETENSORS_DIMS_MAX];
	int64_t offset;          /* of its bytes in the file */
	int64_t size_bytes;
} pio_tensor;

typedef struct pio_safetensors {
	pio_tensor *tensors;     /* in the order of their bytes */
	size_t count;
	char *metadata;          /* canonical JSON of __metadata__, or NULL */
} pio_safetensors;

/* Length of the JSON header from the first 8 bytes of a file of file_bytes. */
int pio_safetensors_header_bytes(uint64_t *header_bytes, const uint8_t first[8],
                                 int64_t file_bytes, const char *path, pio_err *err);
/* Parse the header text. PIO_ECORRUPT names `path` and the tensor. */
int pio_safetensors_parse(pio_safetensors *header, const char *text, size_t header_bytes,
                          int64_t file_bytes, const char *path, pio_err *err);
void pio_safetensors_fini(pio_safetensors *header);

#endif
