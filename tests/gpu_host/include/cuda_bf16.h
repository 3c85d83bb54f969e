/* bf16 on the host: the upper half of a float, rounded to nearest, ties to even. */
#ifndef GPU_HOST_CUDA_BF16_H
#define GPU_HOST_CUDA_BF16_H

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
	uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 value)
{
	uint32_t bits = uint32_t(value.bits) << 16;
	float result;
	memcpy(&result, &bits, sizeof result);
	return result;
}

inline __nv_bfloat16 __float2bfloat16(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return __nv_bfloat16{0x7fff};
	return __nv_bfloat16{uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

#endif
