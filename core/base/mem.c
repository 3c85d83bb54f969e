#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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

uint64_t pio_mem_fail_at(uint64_t nth)
{
	return atomic_exchange(&fail_countdown, nth);
}

int64_t pio_mem_live(void)
{
	return atomic_load(&live_blocks);
}
