// SPDX-License-Identifier: Apache-2.0
// common.cuh -- what all kernels begin with.  plugins/backends/gpu.h says what each binds,
// in order, what its words are and how weights lie; a kernel's last argument is its words
// as a struct.
//
// Plain CUDA C++ without host code, so that three compilers take it: nvcc, clang without
// NVIDIA's headers (bare.cuh), and any C++17 compiler for the emulator of the tests, which
// defines LAMINA_EMULATED and what the language adds.
#if defined LAMINA_EMULATED
#elif defined __clang__
#include "bare.cuh"
#else
#include <stdint.h>
#include <cuda_fp16.h>
#endif
#include "../cuda_list.h"

#define DEVICE static __device__ __forceinline__
#define KERNEL(name, n) extern "C" __global__ void __launch_bounds__(n) lamina_##name

#define THREADS_OF(id, name, n) THREADS_##id = n,
enum { CUDA_KERNELS(THREADS_OF) };
static constexpr uint32_t WARP = 32, GROUP = 128;       // GROUP: who uses group_sum()
static constexpr uint32_t ALL_LANES = 0xffffffffu;
static constexpr float LOWEST = -3.4028234e38f;

// ---- bits ---------------------------------------------------------------------------

DEVICE float as_float(uint32_t u)
{
    union { uint32_t u; float f; } x = { u };
    return x.f;
}

DEVICE uint32_t as_word(float f)
{
    union { float f; uint32_t u; } x = { f };
    return x.u;
}

DEVICE bool is_finite(float x)
{
    return (as_word(x) & 0x7fffffffu) < 0x7f800000u;
}

#if defined __CUDACC__ && !defined __clang__
DEVICE float half_to_float(uint32_t h)
{
    return __half2float(__ushort_as_half((unsigned short)h));
}

DEVICE uint32_t float_to_half(float f)
{
    return __half_as_ushort(__float2half_rn(f));
}
#else
// 2^112 brings the exponent of a half to that of a float, of subnormal halves too.
DEVICE float half_to_float(uint32_t h)
{
    float f = as_float((h & 0x7fffu) << 13) * 0x1p112f;
    uint32_t u = as_word(f) | (f >= 65536.0f ? 0x7f800000u : 0u);
    return as_float(u | (h & 0x8000u) << 16);
}

// Halves to even.  Below 2^-14 adding 0.5 rounds to multiples of 2^-24, what subnormal
// halves count in.
DEVICE uint32_t float_to_half(float f)
{
    uint32_t u = as_word(f), sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u)
        return sign | 0x7e00u;
    if (u >= 0x477ff000u)
        return sign | 0x7c00u;
    if (u < 0x38800000u)
        return sign | (as_word(as_float(u) + 0.5f) - 0x3f000000u);
    return sign | (u + 0xfffu + (u >> 13 & 1u) - 0x38000000u) >> 13;
}
#endif

// Halves to even.
DEVICE float to_bf16(float x)
{
    uint32_t u = as_word(x);
    return is_finite(x) ? as_float((u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u) : x;
}

// Byte i of a word, with its sign.
DEVICE int32_t byte_of(uint32_t u, uint32_t i)
{
    return (int32_t)(u << (24u - 8u * i)) >> 24;
}

// sum + the product of four signed bytes with four.
DEVICE int32_t dot4(uint32_t p, uint32_t q, int32_t sum)
{
#if defined __CUDACC__ && !defined __clang__
    return __dp4a((int32_t)p, (int32_t)q, sum);
#else
    for (uint32_t i = 0; i < 4; i++)
        sum += byte_of(p, i) * byte_of(q, i);
    return sum;
#endif
}

// Element `at` of a binding; half: it holds 16-bit floats.
DEVICE float load(const void *p, uint32_t half, size_t at)
{
    return half & 1u ? half_to_float(((const uint16_t *)p)[at]) : ((const float *)p)[at];
}

DEVICE void store(void *p, uint32_t half, size_t at, float v)
{
    if (half & 1u)
        ((uint16_t *)p)[at] = (uint16_t)float_to_half(v);
    else
        ((float *)p)[at] = v;
}

// ---- functions ------------------------------------------------------------------------

// Own ones: clang alone has none, and so the tests see what the device computes.
// e^x = 2^n e^r, |r| <= ln 2 / 2, by Taylor's series: 2 units in the last place.
DEVICE float exp_of(float x)
{
    if (!(x <= 88.72283f))
        return x > 0.0f ? as_float(0x7f800000u) : x;    // or not a number
    if (x < -103.97f)
        return 0.0f;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f, y = 1.0f / 5040.0f;
    y = y * r + 1.0f / 720.0f;
    y = y * r + 1.0f / 120.0f;
    y = y * r + 1.0f / 24.0f;
    y = y * r + 1.0f / 6.0f;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    int32_t e = (int32_t)n, half = e / 2;               // 2^128 and 2^-149 in two steps
    return y * as_float((uint32_t)(127 + half) << 23)
             * as_float((uint32_t)(127 + e - half) << 23);
}

// Of normal numbers.  ln x = n ln 2 + ln(1 + f), sqrt(1/2) <= 1 + f < sqrt(2), with
// s = f / (2 + f): ln(1 + f) = 2 (s + s^3/3 + s^5/5 + ...).
DEVICE float log_of(float x)
{
    if (!(x < as_float(0x7f800000u)))
        return x;
    uint32_t u = as_word(x) - 0x3f3504f3u;
    float n = (float)((int32_t)u >> 23), f = as_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    float s = f / (2.0f + f), z = s * s, y = 1.0f / 11.0f;
    y = y * z + 1.0f / 9.0f;
    y = y * z + 1.0f / 7.0f;
    y = y * z + 1.0f / 5.0f;
    y = y * z + 1.0f / 3.0f;
    return n * 0.693359375f + (2.0f * s + (2.0f * s * z * y - n * 2.12194440e-4f));
}

// ---- sums over threads, in a fixed order ------------------------------------------------

DEVICE float warp_sum(float v)
{
    for (uint32_t step = WARP / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(ALL_LANES, v, step);
    return v;
}

DEVICE float warp_max(float v)
{
    for (uint32_t step = WARP / 2; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, step));
    return v;
}

// All threads of a group of 128 get the sum.
DEVICE float group_sum(float v)
{
    __shared__ float part[GROUP / WARP];
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    v = 0.0f;
    for (uint32_t i = 0; i < GROUP / WARP; i++)
        v += part[i];
    __syncthreads();                    // before part is used again
    return v;
}

DEVICE float group_max(float v)
{
    __shared__ float part[GROUP / WARP];
    v = warp_max(v);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    for (uint32_t i = 0; i < GROUP / WARP; i++)
        v = fmaxf(v, part[i]);
    __syncthreads();
    return v;
}
