/* mem.h: the one allocator of the core.
 *
 * Same contracts as malloc and friends, plus a count: a test can make the
 * N-th allocation fail (pio_mem_fail_at) and see that nothing leaks
 * (pio_mem_live). Thread-safe. Nothing here is called on the logging path. */
#ifndef PIO_BASE_MEM_H
#define PIO_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* NULL when memory is out. pio_alloc(0) returns a pointer that may be freed. */
void *pio_alloc(size_t size_bytes) __attribute__((malloc, alloc_size(1)));
void *pio_calloc(size_t count, size_t size_bytes) __attribute__((malloc, alloc_size(1, 2)));
void *pio_realloc(void *block, size_t size_bytes) __attribute__((alloc_size(2)));
void pio_free(void *block);
char *pio_strdup(const char *text) __attribute__((malloc));

/* Room for one more item behind the `count` of an array: where *capacity is used
 * up it becomes twice the count, at first 16. `array` is the address of the pointer
 * to the items (NULL while *capacity is 0), which may move. -PIO_ENOMEM, "out of
 * memory for N WHAT", leaves array and *capacity as they are. */
#define pio_grow(array, capacity, count, what, err) \
	pio_grow_items((array), sizeof **(array), (capacity), (count), (what), (err))
/* The same where the items' type is not known to the compiler. */
int pio_grow_items(void *array, size_t item_bytes, size_t *capacity, size_t count,
                   const char *what, pio_err *err);

/* For tests: the nth allocation from now (1 = the next) returns NULL, once;
 * 0 switches the fault off. Returns what was left of the fault before: 0 when it
 * has struck, or there was none. */
uint64_t pio_mem_fail_at(uint64_t nth);
/* Blocks allocated and not yet freed. */
int64_t pio_mem_live(void);

#endif
