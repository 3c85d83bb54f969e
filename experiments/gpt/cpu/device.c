/* The CPU: its memory is the host's, a call is done when it returns, and the one
 * thing that fails is allocation. One thread a rank: the additions have a fixed
 * order. */
#include "device.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 256, CACHE_LINE = 64 }; /* what so many rows need stays in the caches */

void openblas_set_num_threads(int count);

int gpt_device_open(const gpt_options *options, int local_rank, gpt_err *err)
{
	(void)local_rank;
	if (strcmp(options->precision, "f32") != 0)
		return gpt_err_set(err, GPT_MISTAKE,
		                   "--precision=%s: expected f32 on a CPU (gpt_cuda has bf16)",
		                   options->precision);
	openblas_set_num_threads(1);
	return GPT_OK;
}

void gpt_device_close(void)
{
}

size_t gpt_device_rows(void)
{
	return ROWS_AT_ONCE;
}

size_t gpt_device_cell_bytes(void)
{
	return sizeof(float);
}

gpt_cell *gpt_device_at(gpt_cell *cells, size_t index)
{
	return (gpt_cell *)((float *)cells + index);
}

void *gpt_device_new(size_t size_bytes)
{
	size_t whole = (size_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	void *memory = aligned_alloc(CACHE_LINE, whole);

	if (memory)
		memset(memory, 0, whole);
	return memory;
}

void gpt_device_free(void *memory)
{
	free(memory);
}

void gpt_device_zero(void *memory, size_t size_bytes)
{
	memset(memory, 0, size_bytes);
}

void gpt_device_write(void *memory, const void *from, size_t size_bytes)
{
	memcpy(memory, from, size_bytes);
}

int gpt_device_read(void *to, const void *memory, size_t size_bytes, gpt_err *err)
{
	(void)err;
	memcpy(to, memory, size_bytes);
	return GPT_OK;
}

int gpt_device_wait(gpt_err *err)
{
	(void)err;
	return GPT_OK;
}
