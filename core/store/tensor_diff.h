/* tensor_diff.h: how far two tensors are apart.
 *
 * Both are read once, a block at a time, in the order of their bytes: memory does
 * not grow with the tensors, and a disk reads ahead. Differences are taken in
 * double precision whatever the element types are. Numbers that are no finite
 * ones in either tensor are counted and take no part in the measures. Tensors of
 * packed types are compared as bytes. */
#ifndef PIO_STORE_TENSOR_DIFF_H
#define PIO_STORE_TENSOR_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct pio_tensor_place {
	const char *path;         /* of the file that it is in */
	int64_t offset, size_bytes;
	const char *dtype;        /* safetensors' name */
} pio_tensor_place;

typedef struct pio_tensor_diff {
	int64_t elements;         /* numbers; bytes where the type is packed */
	int64_t changed;          /* that are not the same bits, or of two types not the same number */
	int64_t unfinite;         /* NaN or infinite on one side or both */
	bool measured;            /* false: packed, and what follows is 0 */
	double max_abs;           /* of the difference */
	int64_t max_at;           /* the first element of which that is so */
	double rms;               /* of the difference */
	double relative;          /* norm of the difference by that of the first; NaN where both are 0 */
	double cosine;            /* of the angle between both; NaN where one is 0 */
} pio_tensor_diff;

/* Hears of bytes that were read of both together. */
typedef void pio_tensor_diff_heard(void *context, int64_t bytes);

/* Both must have the same number of elements: PIO_EINVAL. */
int pio_tensor_diff_make(pio_tensor_diff *diff, const pio_tensor_place *a, const pio_tensor_place *b,
                         pio_tensor_diff_heard *heard, void *context, pio_err *err);

#endif
