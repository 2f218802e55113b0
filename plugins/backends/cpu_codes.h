/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_codes.h -- one row times weights in number formats, for one instruction set;
 * a template, included by cpu_codes.c with SUFFIX, LANES and TARGET.
 *
 * 32 values of a row are a step: one block of q8_0, q4_0 or q4_1, 64 bytes of f16 or
 * bf16 (codec.c has the layouts).  Values become floats in registers; a block's scale
 * multiplies its 32 / LANES added products, not each value.  Four rows go at a time
 * so that they share x and no addition waits for the one before.               */
#include "cpu_lanes.h"

/* LANES values that lie as signed or unsigned bytes, as uint16_t, as f16. */
#if LANES == 16
INLINE VI FN(signed_bytes)(const unsigned char *p)
{
    return (VI)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE VI FN(bytes)(const unsigned char *p)
{
    return (VI)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE VI FN(shorts)(const unsigned char *p)
{
    const __m256i *h = (const __m256i *)(const void *)p;
    return (VI)_mm512_cvtepu16_epi32(_mm256_loadu_si256(h));
}

INLINE VF FN(halves)(const unsigned char *p)
{
    return (VF)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
#elif LANES == 8
INLINE VI FN(signed_bytes)(const unsigned char *p)
{
    return (VI)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

INLINE VI FN(bytes)(const unsigned char *p)
{
    return (VI)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

INLINE VI FN(shorts)(const unsigned char *p)
{
    return (VI)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE VF FN(halves)(const unsigned char *p)
{
    return (VF)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
#else
INLINE VI FN(bytes)(const unsigned char *p)
{
    return (VI){ p[0], p[1], p[2], p[3] };
}

INLINE VI FN(signed_bytes)(const unsigned char *p)
{
    return FN(bytes)(p) << 24 >> 24;
}

INLINE VI FN(shorts)(const unsigned char *p)
{
    uint16_t h[LANES];
    memcpy(h, p, sizeof h);
    return (VI){ h[0], h[1], h[2], h[3] };
}

/* As in codec.c: exponent and fraction moved into a float are the value times
 * 2^-112.  Weights are finite.                                                */
INLINE VF FN(halves)(const unsigned char *p)
{
    VI h = FN(shorts)(p);
    VF magnitude = (VF)((h & 0x7fff) << 13) * 0x1p112f;
    return (VF)((VI)magnitude | (h & 0x8000) << 16);
}
#endif

/* A block's scale in all lanes. */
INLINE VF FN(scale)(const unsigned char *p)
{
#if LANES == 16
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return (VF)_mm512_cvtph_ps(_mm256_set1_epi16((short)h));
#elif LANES == 8
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return (VF)_mm256_cvtph_ps(_mm_set1_epi16((short)h));
#else
    const unsigned char twice[2 * LANES] = { p[0], p[1] };
    return (VF){ 0 } + FN(halves)(twice)[0];
#endif
}

/* q - shift of the lower and the upper halves of LANES bytes; AVX-512 looks them up. */
INLINE VF FN(nibbles)(VI byte, bool upper, const int shift)
{
#if LANES == 16
    const VF table = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    VI q = upper ? byte >> 4 : byte;    /* of an index four bits count */
    return (VF)_mm512_permutexvar_ps((__m512i)q, (__m512)(table - (float)shift));
#else
    VI q = (upper ? byte >> 4 : byte & 15) - shift;
    return __builtin_convertvector(q, VF);
#endif
}

/* sum + the products of 32 values. */
INLINE VF FN(step)(const uint32_t dtype, VF sum, const unsigned char *p, const float *x)
{
    VF part = { 0 }, all = { 0 };
    if (dtype == LM_F16 || dtype == LM_BF16) {
        for (int i = 0; i < 32; i += LANES) {
            VF w = dtype == LM_F16 ? FN(halves)(p + 2 * i)
                                   : (VF)(FN(shorts)(p + 2 * i) << 16);
            sum += w * FN(loadf)(x + i);
        }
        return sum;
    }
    if (dtype == LM_Q8_0) {
        for (int i = 0; i < 32; i += LANES)
            part += __builtin_convertvector(FN(signed_bytes)(p + 2 + i), VF)
                  * FN(loadf)(x + i);
        return sum + FN(scale)(p) * part;
    }
    const int head = dtype == LM_Q4_0 ? 2 : 4, shift = dtype == LM_Q4_0 ? 8 : 0;
    for (int i = 0; i < 16; i += LANES) {
        VI byte = FN(bytes)(p + head + i);
        VF low = FN(loadf)(x + i), high = FN(loadf)(x + 16 + i);
        part += FN(nibbles)(byte, false, shift) * low;
        part += FN(nibbles)(byte, true, shift) * high;
        all += low + high;
    }
    sum += FN(scale)(p) * part;
    return dtype == LM_Q4_1 ? sum + FN(scale)(p + 2) * all : sum;
}

/* R rows, 1 or 4, that lie behind one another.  Memory is fetched in its order, some
 * whole groups of rows ahead: prefetchers of processors lose track of four rows.   */
INLINE void FN(rows)(const uint32_t dtype, const int R, float *y, const unsigned char *w,
                     int64_t row_bytes, const float *x, int64_t k, bool acc)
{
    const int bytes = CPU_STEP_BYTES(dtype);
    const int64_t second = R > 1 ? row_bytes : 0;
    const unsigned char *next = w + (AHEAD / (R * row_bytes) + 1) * R * row_bytes;
    VF a = { 0 }, b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 32 <= k; i += 32, w += bytes) {
        for (int j = 0; j < R * bytes; j += 64)
            __builtin_prefetch(next + j);
        next += R * bytes;
        a = FN(step)(dtype, a, w, x + i);
        if (R > 1) {
            b = FN(step)(dtype, b, w + second, x + i);
            c = FN(step)(dtype, c, w + 2 * second, x + i);
            d = FN(step)(dtype, d, w + 3 * second, x + i);
        }
    }
    if (i < k) {                        /* f16 and bf16 only: zeros follow */
        unsigned char rest[4][64] = { { 0 } };
        float some[32] = { 0 };
        memcpy(some, x + i, (size_t)(k - i) * sizeof *x);
        for (int r = 0; r < R; r++)
            memcpy(rest[r], w + r * second, (size_t)(k - i) * 2);
        a = FN(step)(dtype, a, rest[0], some);
        if (R > 1) {
            b = FN(step)(dtype, b, rest[1], some);
            c = FN(step)(dtype, c, rest[2], some);
            d = FN(step)(dtype, d, rest[3], some);
        }
    }
    y[0] = (acc ? y[0] : 0) + FN(total)(a);
    if (R > 1) {
        y[1] = (acc ? y[1] : 0) + FN(total)(b);
        y[2] = (acc ? y[2] : 0) + FN(total)(c);
        y[3] = (acc ? y[3] : 0) + FN(total)(d);
    }
}

#define GEMV(name, dtype) \
    KERNEL void FN(name)(float *y, const unsigned char *w, int64_t row_bytes, \
                         const float *x, int64_t rows, int64_t k, bool acc) \
    { \
        int64_t r = 0; \
        for (; r + 4 <= rows; r += 4) \
            FN(rows)(dtype, 4, y + r, w + r * row_bytes, row_bytes, x, k, acc); \
        for (; r < rows; r++) \
            FN(rows)(dtype, 1, y + r, w + r * row_bytes, row_bytes, x, k, acc); \
    }
GEMV(gemv_f16, LM_F16)
GEMV(gemv_bf16, LM_BF16)
GEMV(gemv_q8_0, LM_Q8_0)
GEMV(gemv_q4_0, LM_Q4_0)
GEMV(gemv_q4_1, LM_Q4_1)

static cpu_codes_gemv *const FN(table)[LM_N_DTYPES] = {
    [LM_F16] = FN(gemv_f16), [LM_BF16] = FN(gemv_bf16), [LM_Q8_0] = FN(gemv_q8_0),
    [LM_Q4_0] = FN(gemv_q4_0), [LM_Q4_1] = FN(gemv_q4_1)
};

#undef VF
#undef VI
#undef INLINE
#undef KERNEL
#undef GEMV
#undef SUFFIX
#undef LANES
#undef TARGET
