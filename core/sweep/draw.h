/* draw.h: random numbers that depend on nothing but their name.
 *
 * A draw is a function of (seed, number, name): the sampler's seed, the number
 * of the proposal and the parameter's name. There is no state, so draws do not
 * depend on the order in which they are made, on how many runs are in flight,
 * or on a parameter that was added to the space.
 *
 * The key is hashed by FNV-1a (Fowler, Noll, Vo) over the name's bytes, mixed
 * with seed and number by the finalizer of SplitMix64 (Steele, Lea, Flood,
 * OOPSLA 2014; constants of Stafford's variant 13), and the n-th number of a
 * key is the SplitMix64 sequence started there. Integers only, so every
 * machine gives the same bits. Not for cryptography. */
#ifndef PIO_SWEEP_DRAW_H
#define PIO_SWEEP_DRAW_H

#include <stddef.h>
#include <stdint.h>

typedef struct pio_draw {
	uint64_t state;
} pio_draw;

pio_draw pio_draw_init(int64_t seed, int64_t number, const char *name, size_t name_bytes);
uint64_t pio_draw_next(pio_draw *draw);
/* In [0, 1): a multiple of 2^-53. */
double pio_draw_uniform(pio_draw *draw);
/* In lo..hi, lo <= hi, each with exactly the same probability. */
int64_t pio_draw_integer(pio_draw *draw, int64_t lo, int64_t hi);
/* A permutation of 0..count-1 (Fisher and Yates). */
void pio_draw_shuffle(pio_draw *draw, int64_t *values, size_t count);

#endif
