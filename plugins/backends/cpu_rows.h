/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_rows.h -- what cpu_gemm.h needs beside tiles, for one instruction set: rows
 * and transposed matrices to words, and products of few rows; a template,
 * included by cpu_gemm.c with SUFFIX, LANES and TARGET.                      */
#include "cpu_lanes.h"

typedef uint32_t FN(vu) __attribute__((vector_size(LANES * 4)));
typedef uint64_t FN(vq) __attribute__((vector_size(LANES * 4)));
typedef uint32_t FN(vh) __attribute__((vector_size(LANES * 2)));
typedef int8_t FN(vb) __attribute__((vector_size(LANES)));
#define VU FN(vu)
enum { FN(FEW) = LANES == 16 ? 6 : LANES == 8 ? 3 : 2 };    /* rows at a time */

/* Nearest integer, halves to even; |x| below 2^22. */
INLINE VI FN(nearest)(VF x)
{
#if LANES == 16
    return (VI)_mm512_cvtps_epi32((__m512)x);
#elif LANES == 8
    return (VI)_mm256_cvtps_epi32((__m256)x);
#else
    const VF magic = (VF){ 0 } + 12582912.0f;       /* 1.5 * 2^23: rounds */
    /* x is a product, rounded before it is added to: where compilers make one
     * instruction of both (as on ARM) other integers would come out than elsewhere */
    __asm__("" : "+m"(x));
    return (VI)(x + magic) - (VI)magic;
#endif
}

/* The upper half of each lane, rounded to bf16 (halves to even, NaN stays NaN);
 * the lower half is 0.                                                        */
INLINE VU FN(bf16)(VU x)
{
    const VU upper = (VU){ 0 } + 0xffff0000u;
    VU quiet = (VU)((x & 0x7fffffffu) > 0x7f800000u);
    VU near = x + 0x7fffu + (x >> 16 & 1u);
    return ((near & ~quiet) | ((x | 0x400000u) & quiet)) & upper;
}

/* ---- encoding rows ----------------------------------------------------------------- */
KERNEL void FN(encode_w_f32)(uint32_t *to, const float *from, int64_t k, float *scale,
                             int32_t *shift)
{
    memcpy(to, from, (size_t)k * sizeof *to);
    *scale = 1;
    *shift = 0;
}

KERNEL void FN(encode_a_f32)(uint32_t *to, const float *from, int64_t k, float *scale)
{
    memcpy(to, from, (size_t)k * sizeof *to);
    *scale = 1;
}

KERNEL void FN(round_f32)(float *to, const float *from, int64_t k)
{
    memcpy(to, from, (size_t)k * sizeof *to);
}

INLINE VU FN(load_some)(const float *from, int64_t n)
{
    VU x = { 0 };
    if (n >= LANES)
        memcpy(&x, from, sizeof x);
    else
        memcpy(&x, from, (size_t)n * sizeof *from);
    return x;
}

INLINE void FN(store_some)(float *to, VU x, int64_t n)
{
    if (n >= LANES)
        memcpy(to, &x, sizeof x);
    else
        memcpy(to, &x, (size_t)n * sizeof *to);
}

KERNEL void FN(encode_a_bf16)(uint32_t *to, const float *from, int64_t k, float *scale)
{
    int64_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        FN(vq) pair = (FN(vq))FN(bf16)((VU)FN(loadf)(from + i));
        FN(vh) word = __builtin_convertvector(pair >> 16 | pair >> 32, FN(vh));
        memcpy(to + i / 2, &word, sizeof word);
    }
    if (i < k) {
        FN(vq) pair = (FN(vq))FN(bf16)(FN(load_some)(from + i, k - i));
        FN(vh) word = __builtin_convertvector(pair >> 16 | pair >> 32, FN(vh));
        memcpy(to + i / 2, &word, (size_t)((k - i + 1) / 2) * sizeof *to);
    }
    *scale = 1;
}

KERNEL void FN(encode_w_bf16)(uint32_t *to, const float *from, int64_t k, float *scale,
                              int32_t *shift)
{
    FN(encode_a_bf16)(to, from, k, scale);
    *shift = 0;
}

KERNEL void FN(round_bf16)(float *to, const float *from, int64_t k)
{
    for (int64_t i = 0; i < k; i += LANES)
        FN(store_some)(to + i, FN(bf16)(FN(load_some)(from + i, k - i)), k - i);
}

/* The largest |x| / 127, and the inverse of it (0: all values are 0); a row with a NaN
 * or an infinity gets the scale NaN, which makes everything made of it NaN.       */
INLINE float FN(scale)(const float *from, int64_t k, float *inverse)
{
    VI most = { 0 };
    for (int64_t i = 0; i < k; i += LANES) {
        VI x = (VI)FN(load_some)(from + i, k - i) & 0x7fffffff, more = x > most;
        most = (x & more) | (most & ~more);
    }
    int32_t bits = most[0];
    for (int i = 1; i < LANES; i++)
        bits = most[i] > bits ? most[i] : bits;
    float max;
    memcpy(&max, &bits, sizeof max);
    *inverse = bits < 0x7f800000 && max > 1e-30f ? 127 / max : 0;
    return bits >= 0x7f800000 ? NAN : max > 1e-30f ? max / 127 : 0;
}

/* Returns the sum of the values; offset is added to each byte. */
INLINE int32_t FN(bytes)(uint32_t *to, const float *from, int64_t k, int32_t offset,
                         float *scale)
{
    float inverse;
    VI sum = { 0 };
    *scale = FN(scale)(from, k, &inverse);
    if (!(inverse > 0)) {               /* q would be 0 times what may be NaN */
        for (int64_t i = 0; i < (k + 3) / 4; i++)
            to[i] = (uint32_t)offset * 0x01010101u;
        return 0;
    }
    to[(k - 1) / 4] = 0;
    for (int64_t i = 0; i < k; i += LANES) {
        VI q = FN(nearest)((VF)FN(load_some)(from + i, k - i) * inverse);
        sum += q;
        FN(vb) byte = __builtin_convertvector(q + offset, FN(vb));
        if (k - i >= LANES)
            memcpy((int8_t *)to + i, &byte, sizeof byte);
        else
            memcpy((int8_t *)to + i, &byte, (size_t)(k - i));
    }
    int32_t total = 0;
    for (int i = 0; i < LANES; i++)
        total += sum[i];
    return total;
}

KERNEL void FN(encode_w_int8)(uint32_t *to, const float *from, int64_t k, float *scale,
                              int32_t *shift)
{
    *shift = 128 * FN(bytes)(to, from, k, 0, scale);
}

KERNEL void FN(encode_a_int8)(uint32_t *to, const float *from, int64_t k, float *scale)
{
    FN(bytes)(to, from, k, 128, scale);
}

KERNEL void FN(round_int8)(float *to, const float *from, int64_t k)
{
    float inverse, scale = FN(scale)(from, k, &inverse);
    for (int64_t i = 0; i < k; i += LANES) {
        VF x = (VF)FN(load_some)(from + i, k - i);
        VI q = inverse > 0 ? FN(nearest)(x * inverse) : (VI){ 0 };
        FN(store_some)(to + i, (VU)(__builtin_convertvector(q, VF) * scale), k - i);
    }
}

/* ---- panels of transposed matrices ------------------------------------------------- */
/* group: 1 or 2 rows of v to a word. */
INLINE void FN(turn)(uint32_t *to, const float *v, int64_t stride, int64_t k, int64_t n,
                     const int group)
{
    int64_t words = (k + group - 1) / group;
    for (int64_t c = 0; c < cpu_panels(n) * CPU_PANEL; c += LANES) {
        uint32_t *t = to + c / CPU_PANEL * words * CPU_PANEL + c % CPU_PANEL;
        for (int64_t i = 0; i < words; i++, t += CPU_PANEL) {
            const float *from = v + i * group * stride + c;
            VU x = c < n ? FN(load_some)(from, n - c) : (VU){ 0 };
            if (group == 2) {
                bool two = c < n && 2 * i + 1 < k;
                VU y = two ? FN(load_some)(from + stride, n - c) : (VU){ 0 };
                x = FN(bf16)(x) >> 16 | FN(bf16)(y);
            }
            memcpy(t, &x, sizeof x);
        }
    }
}

KERNEL void FN(turn_f32)(uint32_t *to, const float *v, int64_t stride, int64_t k,
                         int64_t n)
{
    FN(turn)(to, v, stride, k, n, 1);
}

KERNEL void FN(turn_bf16)(uint32_t *to, const float *v, int64_t stride, int64_t k,
                          int64_t n)
{
    FN(turn)(to, v, stride, k, n, 2);
}

/* ---- few rows, f32, w as it lies --------------------------------------------------- */
struct FN(few) {
    float *y;
    const float *a, *w;
    int64_t ldy, lda, stride, k;
    bool add;
};

/* R rows of a with C rows of w, 1 or 4. */
#define FEW_ROW(r) VF s##r##a = { 0 }, s##r##b = { 0 }, s##r##c = { 0 }, s##r##d = { 0 };
#define FEW_STEP(r) \
    if (R > r) { \
        VF x = whole ? FN(loadf)(a + r * f->lda + i) \
                     : (VF)FN(load_some)(a + r * f->lda + i, f->k - i); \
        s##r##a += x * w0; \
        if (C > 1) { \
            s##r##b += x * w1; \
            s##r##c += x * w2; \
            s##r##d += x * w3; \
        } \
    }
#define FEW_PUT(r) \
    if (R > r) { \
        float *y = f->y + (row + r) * f->ldy + at; \
        y[0] = (f->add ? y[0] : 0) + FN(total)(s##r##a); \
        if (C > 1) { \
            y[1] = (f->add ? y[1] : 0) + FN(total)(s##r##b); \
            y[2] = (f->add ? y[2] : 0) + FN(total)(s##r##c); \
            y[3] = (f->add ? y[3] : 0) + FN(total)(s##r##d); \
        } \
    }
INLINE void FN(few_tile)(const struct FN(few) *f, int64_t row, int64_t at, const int R,
                         const int C)
{
    const float *a = f->a + row * f->lda, *w = f->w + at * f->stride;
    const int64_t second = f->stride, third = 2 * f->stride, fourth = 3 * f->stride;
    EACH_FEW(FEW_ROW)
    for (int64_t i = 0; i < f->k; i += LANES) {
        const bool whole = f->k - i >= LANES;
        VF w0, w1 = { 0 }, w2 = w1, w3 = w1;
        if (whole) {
            w0 = FN(loadf)(w + i);
            if (C > 1) {
                w1 = FN(loadf)(w + second + i);
                w2 = FN(loadf)(w + third + i);
                w3 = FN(loadf)(w + fourth + i);
            }
        } else {
            w0 = (VF)FN(load_some)(w + i, f->k - i);
            if (C > 1) {
                w1 = (VF)FN(load_some)(w + second + i, f->k - i);
                w2 = (VF)FN(load_some)(w + third + i, f->k - i);
                w3 = (VF)FN(load_some)(w + fourth + i, f->k - i);
            }
        }
        if (C > 1) {
            __builtin_prefetch(w + 4 * f->stride + i);
            __builtin_prefetch(w + 5 * f->stride + i);
            __builtin_prefetch(w + 6 * f->stride + i);
            __builtin_prefetch(w + 7 * f->stride + i);
        }
        EACH_FEW(FEW_STEP)
    }
    EACH_FEW(FEW_PUT)
}

#define FEW_BAND(r) \
    static __attribute__((noinline)) TARGET void FN(few_##r)(const struct FN(few) *f, \
                                                             int64_t row, int64_t at) \
    { \
        FN(few_tile)(f, row, at, r + 1, 4); \
    }
#define FEW_NAME(r) FN(few_##r),
#if LANES == 16
#define EACH_BAND(x) EACH_FEW(x)
#elif LANES == 8
#define EACH_BAND(x) x(0) x(1) x(2)
#else
#define EACH_BAND(x) x(0) x(1)
#endif
EACH_BAND(FEW_BAND)

KERNEL void FN(few_f32)(float *y, int64_t ldy, const float *a, int64_t lda, int64_t m,
                        const float *w, int64_t stride, int64_t n, int64_t k, bool add)
{
    static void (*const band[])(const struct FN(few) *, int64_t, int64_t) = {
        EACH_BAND(FEW_NAME)
    };
    const struct FN(few) f = { y, a, w, ldy, lda, stride, k, add };
    int64_t bands = (m + FN(FEW) - 1) / FN(FEW), at = 0;
    for (; at + 4 <= n; at += 4)
        for (int64_t i = 0; i < bands; i++)
            band[m * (i + 1) / bands - m * i / bands - 1](&f, m * i / bands, at);
    for (; at < n; at++)
        for (int64_t i = 0; i < m; i++)
            FN(few_tile)(&f, i, at, 1, 1);
}

#undef VF
#undef VI
#undef VU
#undef INLINE
#undef KERNEL
#undef FEW_ROW
#undef FEW_STEP
#undef FEW_PUT
#undef FEW_BAND
#undef FEW_NAME
#undef EACH_BAND
#undef SUFFIX
#undef LANES
#undef TARGET
