#include "rng.h"

#include <math.h>

/* The finalizer of SplitMix64 (Steele, Lea and Flood 2014, table 1 variant
 * 13): a bijection of 64 bits in which each input bit flips half the output. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t gpt_rng_bits(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	return mix(mix(mix(mix(seed) ^ a) ^ b) ^ c);
}

double gpt_rng_uniform(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	return (double)(gpt_rng_bits(seed, a, b, c) >> 11) * 0x1p-53;
}

uint64_t gpt_rng_below(uint64_t bound, uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	/* The high half of a 128-bit product: the bias is below bound / 2^64. */
	__extension__ typedef unsigned __int128 wide;

	return (uint64_t)(((wide)gpt_rng_bits(seed, a, b, c) * bound) >> 64);
}

double gpt_rng_normal(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	const double turn = 6.283185307179586;
	uint64_t bits = gpt_rng_bits(seed, a, b, c);
	double radius = (double)((bits >> 11) + 1) * 0x1p-53; /* (0, 1]: log is finite */
	double angle = (double)(mix(bits) >> 11) * 0x1p-53;

	return sqrt(-2.0 * log(radius)) * cos(turn * angle);
}
