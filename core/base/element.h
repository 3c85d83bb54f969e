/* element.h: the elements of tensors as numbers.
 *
 * The element types are those of safetensors (base/safetensors.h). Each that is
 * made of whole bytes can be turned into doubles, all exactly but for integers
 * beyond 2^53, which are rounded. A complex number is two numbers. The packed types of less than a
 * byte (F4, F6_*) are bytes here and no numbers. */
#ifndef PIO_BASE_ELEMENT_H
#define PIO_BASE_ELEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pio_element {
	const char *dtype;       /* "BF16" */
	int size_bytes;          /* of one number: a C64 has two */
	int numbers;             /* in one element; 0: packed, to be compared as bytes */
	bool is_integer;         /* a bool is one too */
	bool is_signed;
} pio_element;

/* NULL where safetensors has no such type. */
const pio_element *pio_element_find(const char *dtype);

/* `count` numbers from little-endian bytes. Not for packed types. */
void pio_element_decode(double *numbers, const pio_element *element, const void *bytes, size_t count);

#endif
