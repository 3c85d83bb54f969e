/* rng.h: numbers that depend on where they are, not on what was drawn before.
 *
 * A counter-based generator: the bits of (seed, a, b, c) are a hash of those
 * four numbers. There is no state to save in a checkpoint, and two ranks that
 * ask for the same place get the same bits. Used for initial weights, for the
 * position of training windows and for sampling text. Not for cryptography. */
#ifndef GPT_RNG_H
#define GPT_RNG_H

#include <stddef.h>
#include <stdint.h>

/* 64 random bits of the place (seed, a, b, c). */
uint64_t gpt_rng_bits(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

/* Uniform in [0, 1), 53 bits. */
double gpt_rng_uniform(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

/* Uniform integer in [0, bound); bound > 0. */
uint64_t gpt_rng_below(uint64_t bound, uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

/* Normal with mean 0 and deviation 1 (Box and Muller, 1958). */
double gpt_rng_normal(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

#endif
