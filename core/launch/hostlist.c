#include "launch/hostlist.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_MAX 1000000000L

/* One "001-003" or "7" at *at: its first value, how many, and the width. */
static bool read_range(const char **at, long *first, long *count, int *width)
{
	char *end;
	if (!isdigit((unsigned char)**at))
		return false;
	*first = strtol(*at, &end, 10);
	*width = (int)(end - *at);
	long last = *first;
	if (*end == '-') {
		const char *begin = end + 1;
		if (!isdigit((unsigned char)*begin))
			return false;
		last = strtol(begin, &end, 10);
	}
	*at = end;
	*count = last - *first + 1;
	return *count >= 1 && last < RANGE_MAX && (*end == ',' || *end == ']');
}

/* Numbers in the bracket that begins at `at`; 0: it is none. *end: behind it. */
static long bracket_size(const char *at, const char **end)
{
	long size = 0, first, count;
	int width;
	do {
		at++;
		if (!read_range(&at, &first, &count, &width))
			return 0;
		size += count;
	} while (*at == ',' && size < RANGE_MAX);
	*end = at + 1;
	return *at == ']' && size < RANGE_MAX ? size : 0;
}

static void put_of_bracket(pio_str *name, const char *at, long n)
{
	long first, count = 0;
	int width;
	do {
		n -= count;
		at++;
		if (!read_range(&at, &first, &count, &width))
			return;
	} while (n >= count);
	pio_str_printf(name, "%0*ld", width, first + n);
}

/* Names that one item stands for; 0: it is no name. *end: at the comma or the end. */
static long item_size(const char *item, const char **end)
{
	long size = *item && *item != ',' ? 1 : 0;
	while (*item && *item != ',') {
		if (*item == '[') {
			long n = bracket_size(item, &item);
			if (n == 0 || size > RANGE_MAX / n)
				return 0;
			size *= n;
		} else {
			item++;
		}
	}
	*end = item;
	return size;
}

static void put_item(pio_str *name, const char *item, long size, long n)
{
	while (*item && *item != ',') {
		if (*item == '[') {
			const char *end;
			long here = bracket_size(item, &end);
			size /= here;
			put_of_bracket(name, item, n / size);
			n %= size;
			item = end;
		} else {
			pio_str_putc(name, *item++);
		}
	}
}

bool pio_hostlist_nth(pio_str *name, const char *list, int n)
{
	const char *end = list;
	while (list && *list && n >= 0) {
		long size = item_size(list, &end);
		if (size == 0)
			return false;
		if (n < size) {
			put_item(name, list, size, n);
			return true;
		}
		n -= (int)size;
		list = *end == ',' ? end + 1 : end;
	}
	return false;
}
