/* simd.h: exp() that a compiler can vectorize.
 *
 * Exact to about 2 ulp on [-87, 88], clamped outside; NaN stays NaN. Branch
 * free, so that a loop over it becomes vector code without -ffast-math. */
#ifndef GPT_SIMD_H
#define GPT_SIMD_H

#include <stdint.h>
#include <string.h>

/* a where `chosen`, else b: by masks, because compilers turn a conditional
 * into two copies of all that follows and compute both. */
static inline float gpt_choose(int chosen, float a, float b)
{
	uint32_t mask = -(uint32_t)chosen, x, y;

	memcpy(&x, &a, sizeof x);
	memcpy(&y, &b, sizeof y);
	x = (x & mask) | (y & ~mask);
	memcpy(&a, &x, sizeof a);
	return a;
}

static inline float gpt_exp(float x)
{
	/* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
	const float magic = 12582912.0f;
	float clamped, shifted, n, r, p;
	uint32_t bits, power;

	clamped = gpt_choose(x > 88.0f, 88.0f, x);
	clamped = gpt_choose(clamped < -87.0f, -87.0f, clamped);
	shifted = clamped * 1.44269504f + magic;
	n = shifted - magic;
	r = clamped - n * 0.693359375f; /* log 2 in two parts (Cody and Waite) */
	r = r + n * 2.12194440e-4f;
	p = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666657e-1f + r * (4.16665795e-2f
	    + r * (8.33345205e-3f + r * 1.39304409e-3f)))));
	memcpy(&power, &shifted, sizeof power);
	memcpy(&bits, &p, sizeof bits);
	bits += power << 23; /* times 2^n; magic's own bits fall out at the top */
	memcpy(&p, &bits, sizeof p);
	return p;
}

#endif
