#include "sweep/sobol.h"

#include <assert.h>

#define DEGREE_MAX 9

/* A primitive polynomial x^degree + ... + 1: the bits of `inner` are the coefficients
 * between, the highest first; and direction numbers, as many as its degree, each odd and
 * below 2, 4, 8, ... Dimension 0 is van der Corput's sequence and needs none. */
static const struct {
	uint8_t degree, inner;
	uint16_t first[DEGREE_MAX];
} table[PIO_SOBOL_DIMENSIONS - 1] = {
	{ 1, 0, { 1 } }, { 2, 1, { 1, 1 } }, { 3, 1, { 1, 3, 1 } }, { 3, 2, { 1, 1, 5 } },
	{ 4, 1, { 1, 1, 7, 5 } }, { 4, 4, { 1, 3, 7, 13 } }, { 5, 2, { 1, 1, 1, 13, 17 } },
	{ 5, 4, { 1, 3, 5, 5, 21 } }, { 5, 7, { 1, 1, 1, 11, 5 } }, { 5, 11, { 1, 3, 3, 15, 31 } },
	{ 5, 13, { 1, 1, 5, 9, 11 } }, { 5, 14, { 1, 3, 1, 15, 9 } }, { 6, 1, { 1, 1, 1, 5, 7, 43 } },
	{ 6, 13, { 1, 1, 3, 15, 11, 47 } }, { 6, 16, { 1, 1, 5, 13, 27, 59 } },
	{ 6, 19, { 1, 1, 7, 15, 7, 37 } }, { 6, 22, { 1, 3, 1, 11, 19, 49 } },
	{ 6, 25, { 1, 3, 1, 1, 7, 1 } }, { 7, 1, { 1, 1, 1, 3, 19, 33, 29 } },
	{ 7, 4, { 1, 3, 7, 3, 5, 43, 53 } }, { 7, 7, { 1, 3, 7, 11, 11, 31, 7 } },
	{ 7, 8, { 1, 1, 5, 5, 5, 15, 57 } }, { 7, 14, { 1, 3, 1, 3, 15, 45, 97 } },
	{ 7, 19, { 1, 1, 3, 15, 23, 15, 1 } }, { 7, 21, { 1, 3, 1, 3, 3, 13, 111 } },
	{ 7, 28, { 1, 3, 5, 3, 25, 21, 39 } }, { 7, 31, { 1, 1, 5, 1, 27, 57, 95 } },
	{ 7, 32, { 1, 3, 5, 9, 21, 59, 75 } }, { 7, 37, { 1, 3, 7, 3, 3, 63, 89 } },
	{ 7, 41, { 1, 3, 7, 15, 23, 7, 53 } }, { 7, 42, { 1, 1, 7, 5, 11, 31, 121 } },
	{ 7, 50, { 1, 3, 1, 15, 23, 29, 101 } }, { 7, 55, { 1, 3, 3, 3, 7, 1, 3 } },
	{ 7, 56, { 1, 3, 1, 5, 25, 49, 117 } }, { 7, 59, { 1, 1, 5, 15, 17, 21, 7 } },
	{ 7, 62, { 1, 3, 5, 9, 13, 19, 117 } }, { 8, 14, { 1, 1, 3, 13, 3, 15, 103, 33 } },
	{ 8, 21, { 1, 1, 7, 9, 3, 61, 39, 193 } }, { 8, 22, { 1, 3, 7, 5, 17, 21, 93, 29 } },
	{ 8, 38, { 1, 3, 7, 9, 3, 27, 9, 207 } }, { 8, 47, { 1, 3, 7, 13, 1, 55, 103, 171 } },
	{ 8, 49, { 1, 1, 5, 5, 13, 35, 59, 255 } }, { 8, 50, { 1, 1, 7, 7, 5, 57, 31, 65 } },
	{ 8, 52, { 1, 3, 1, 1, 31, 27, 103, 85 } }, { 8, 56, { 1, 1, 1, 3, 3, 41, 59, 97 } },
	{ 8, 67, { 1, 3, 3, 3, 19, 9, 61, 147 } }, { 8, 70, { 1, 1, 1, 5, 7, 5, 93, 71 } },
	{ 8, 84, { 1, 3, 3, 11, 9, 55, 127, 243 } }, { 8, 97, { 1, 1, 3, 15, 7, 41, 115, 227 } },
	{ 8, 103, { 1, 1, 1, 3, 29, 39, 93, 209 } }, { 8, 115, { 1, 3, 1, 3, 15, 3, 21, 207 } },
	{ 8, 122, { 1, 3, 7, 7, 17, 55, 27, 227 } }, { 9, 8, { 1, 3, 7, 3, 25, 21, 75, 167, 331 } },
	{ 9, 13, { 1, 3, 7, 5, 9, 9, 47, 197, 175 } }, { 9, 16, { 1, 3, 5, 13, 11, 35, 29, 19, 75 } },
	{ 9, 22, { 1, 1, 5, 3, 29, 63, 39, 143, 131 } }, { 9, 25, { 1, 1, 7, 1, 3, 27, 119, 175, 99 } },
	{ 9, 44, { 1, 3, 1, 7, 11, 41, 63, 111, 131 } }, { 9, 47, { 1, 3, 3, 9, 27, 17, 105, 23, 215 } },
	{ 9, 52, { 1, 1, 5, 5, 15, 47, 107, 17, 493 } }, { 9, 55, { 1, 3, 5, 11, 17, 35, 51, 145, 493 } },
	{ 9, 59, { 1, 3, 5, 11, 25, 15, 13, 87, 439 } }, { 9, 62, { 1, 1, 5, 1, 31, 25, 93, 89, 55 } },
};

static uint32_t reverse(uint32_t x)
{
	x = x >> 16 | x << 16;
	x = (x & 0xff00ff00u) >> 8 | (x & 0x00ff00ffu) << 8;
	x = (x & 0xf0f0f0f0u) >> 4 | (x & 0x0f0f0f0fu) << 4;
	x = (x & 0xccccccccu) >> 2 | (x & 0x33333333u) << 2;
	return (x & 0xaaaaaaaau) >> 1 | (x & 0x55555555u) << 1;
}

/* A permutation in which each bit depends on lower ones alone. */
static uint32_t laine_karras(uint32_t x, uint32_t seed)
{
	x += seed;
	x ^= x * 0x6c50b47cu;
	x ^= x * 0xb82f1e52u;
	x ^= x * 0xc7afe638u;
	return x ^ x * 0x8d22f6e6u;
}

/* The bits of a coordinate, the highest first: the direction numbers v_k = m_k / 2^k of
 * the bits of the index, added without carry. */
static uint32_t plain(uint32_t index, int dimension)
{
	if (dimension == 0)
		return reverse(index);
	int degree = table[dimension - 1].degree;
	uint32_t inner = table[dimension - 1].inner, bits = 0, m[32];
	for (int k = 0; k < 32 && index; k++, index >>= 1) {
		if (k < degree) {
			m[k] = table[dimension - 1].first[k];
		} else {
			m[k] = m[k - degree] ^ m[k - degree] << degree;
			for (int i = 1; i < degree; i++)
				if (inner >> (degree - 1 - i) & 1)
					m[k] ^= m[k - i] << i;
		}
		if (index & 1)
			bits ^= m[k] << (31 - k);
	}
	return bits;
}

double pio_sobol(uint32_t index, int dimension, uint32_t scramble)
{
	assert(dimension >= 0 && dimension < PIO_SOBOL_DIMENSIONS);
	uint32_t bits = plain(index, dimension);
	if (scramble)
		bits = reverse(laine_karras(reverse(bits), scramble));
	return (double)bits * 0x1p-32;
}
