#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MIN 16 /* of an array that grows */

static atomic_uint_fast64_t fail_countdown;
static atomic_int_fast64_t live_blocks;

static bool must_fail(void)
{
	uint_fast64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
	while (left) {
		if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1))
			return left == 1;
	}
	return false;
}

static void *counted(void *block)
{
	if (block)
		atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
	return block;
}

void *pio_alloc(size_t size_bytes)
{
	return must_fail() ? NULL : counted(malloc(size_bytes ? size_bytes : 1));
}

void *pio_calloc(size_t count, size_t size_bytes)
{
	return must_fail() ? NULL : counted(calloc(count ? count : 1, size_bytes ? size_bytes : 1));
}

void *pio_realloc(void *block, size_t size_bytes)
{
	if (must_fail())
		return NULL;
	void *grown = realloc(block, size_bytes ? size_bytes : 1);
	return block ? grown : counted(grown);
}

void pio_free(void *block)
{
	if (!block)
		return;
	atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
	free(block);
}

char *pio_strdup(const char *text)
{
	size_t size_bytes = strlen(text) + 1;
	char *copy = pio_alloc(size_bytes);
	if (copy)
		memcpy(copy, text, size_bytes);
	return copy;
}

int pio_grow_items(void *array, size_t item_bytes, size_t *capacity, size_t count,
                   const char *what, pio_err *err)
{
	size_t more, size_bytes;
	void *items;
	if (count < *capacity)
		return 0;
	bool fits = !__builtin_mul_overflow(count, 2, &more);
	more = fits && more < ITEMS_MIN ? ITEMS_MIN : more;
	fits = fits && !__builtin_mul_overflow(more, item_bytes, &size_bytes);
	/* `array` points to a pointer of any type: its bytes are what they share. */
	memcpy(&items, array, sizeof items);
	items = fits ? pio_realloc(items, size_bytes) : NULL;
	if (!items)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %zu %s", count + 1, what);
	memcpy(array, &items, sizeof items);
	*capacity = more;
	return 0;
}

uint64_t pio_mem_fail_at(uint64_t nth)
{
	return atomic_exchange(&fail_countdown, nth);
}

int64_t pio_mem_live(void)
{
	return atomic_load(&live_blocks);
}
