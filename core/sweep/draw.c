#include "sweep/draw.h"

#include <assert.h>

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

pio_draw pio_draw_init(int64_t seed, int64_t number, const char *name, size_t name_bytes)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < name_bytes; i++)
		hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
	/* One mix between the parts, so that seed 1, number 2 is not seed 2, number 1. */
	hash = mix(hash ^ mix((uint64_t)seed + UINT64_C(0x9e3779b97f4a7c15)));
	hash = mix(hash ^ mix((uint64_t)number + UINT64_C(0xd1b54a32d192ed03)));
	return (pio_draw){ hash };
}

uint64_t pio_draw_next(pio_draw *draw)
{
	draw->state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(draw->state);
}

double pio_draw_uniform(pio_draw *draw)
{
	return (double)(pio_draw_next(draw) >> 11) * 0x1p-53;
}

int64_t pio_draw_integer(pio_draw *draw, int64_t lo, int64_t hi)
{
	assert(lo <= hi);
	uint64_t range = (uint64_t)hi - (uint64_t)lo + 1; /* 0: all 2^64 values */
	if (range == 0)
		return (int64_t)pio_draw_next(draw);
	/* Values below 2^64 mod range would favour small remainders: drawn again. */
	uint64_t floor = (0 - range) % range, value;
	do
		value = pio_draw_next(draw);
	while (value < floor);
	return (int64_t)((uint64_t)lo + value % range);
}

void pio_draw_shuffle(pio_draw *draw, int64_t *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		values[i] = (int64_t)i;
	for (size_t i = count; i > 1; i--) {
		size_t j = (size_t)pio_draw_integer(draw, 0, (int64_t)i - 1);
		int64_t kept = values[i - 1];
		values[i - 1] = values[j];
		values[j] = kept;
	}
}
