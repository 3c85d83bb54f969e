#include "sweep/order.h"

#include <stdbool.h>
#include <string.h>

/* Merge runs of `width` rows from one array into the other. */
static void merge(uint32_t *to, const uint32_t *from, size_t count, size_t width, pio_order_compare compare,
                  const void *context)
{
	for (size_t begin = 0; begin < count; begin += 2 * width) {
		size_t middle = begin + width < count ? begin + width : count;
		size_t end = begin + 2 * width < count ? begin + 2 * width : count;
		size_t left = begin, right = middle;
		for (size_t i = begin; i < end; i++) {
			bool takes_left = left < middle &&
			                  (right == end || compare(context, from[left], from[right]) <= 0);
			to[i] = takes_left ? from[left++] : from[right++];
		}
	}
}

void pio_order_sort(uint32_t *rows, uint32_t *scratch, size_t count, pio_order_compare compare,
                    const void *context)
{
	uint32_t *from = rows, *to = scratch;
	for (size_t width = 1; width < count; width *= 2) {
		merge(to, from, count, width, compare, context);
		uint32_t *swap = from;
		from = to;
		to = swap;
	}
	if (from != rows)
		memcpy(rows, from, count * sizeof *rows);
}
