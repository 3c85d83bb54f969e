/* tensor_copy.h: a tensor put together from the parts that ranks saved of it.
 *
 * A part is a run of the tensor's elements (what FSDP and ZeRO cut), or a box of it
 * (sharded along dimensions). Each is read once in the order of its bytes, a block at
 * a time, and written where it belongs. */
#ifndef PIO_STORE_TENSOR_COPY_H
#define PIO_STORE_TENSOR_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/safetensors.h"

typedef struct pio_tensor_part {
	const char *path;          /* of the file that it is in */
	int64_t offset, size_bytes;
	int element_bytes;
	int ndim;                  /* of the tensor, 0: a run of elements */
	int64_t begin[PIO_SAFETENSORS_DIMS_MAX]; /* of the box; of a run begin[0] is its first element */
	int64_t shape[PIO_SAFETENSORS_DIMS_MAX]; /* of the box */
	int64_t whole[PIO_SAFETENSORS_DIMS_MAX]; /* of the tensor */
} pio_tensor_part;

/* Hears of bytes that were copied. */
typedef void pio_tensor_copy_heard(void *context, int64_t bytes);

/* Write the part to `fd`, where the tensor begins at `at`. PIO_EINVAL: the part does
 * not lie in the tensor, or has not the bytes that its shape asks for. */
int pio_tensor_copy(int fd, const char *to, int64_t at, const pio_tensor_part *part,
                    pio_tensor_copy_heard *heard, void *context, pio_err *err);

#endif
