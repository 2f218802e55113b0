/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_vector.h -- the kernels of cpu.h for one instruction set; a template,
 * included by cpu_kernels.c with SUFFIX, LANES and TARGET.
 *
 * The exponential: x = n ln2 + r, |r| <= ln2/2 (Cody and Waite's two-part ln2),
 * a polynomial for exp(r), and n added to the exponent's bits.  Relative error
 * about 1.2e-7.  Arguments are cut at -87 and 88: below, the result is some
 * 1e-38 in place of 0, which no sum of ours can see.  NaN stays NaN.        */
typedef float FN(vf) __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t FN(vi) __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
#define VF FN(vf)
#define VI FN(vi)
#define INLINE static inline __attribute__((always_inline)) TARGET
#define KERNEL static TARGET
#define BROADCAST(x) ((VF){ 0 } + (x))

INLINE VF FN(load)(const float *p)
{
    return *(const VF *)p;
}

INLINE void FN(store)(float *p, VF v)
{
    *(VF *)p = v;
}

/* The first n < LANES floats, the others `fill`. */
INLINE VF FN(load_part)(const float *p, int64_t n, float fill)
{
    VF v = BROADCAST(fill);
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}

INLINE void FN(store_part)(float *p, VF v, int64_t n)
{
    memcpy(p, &v, (size_t)n * sizeof *p);
}

INLINE VF FN(pick)(VI mask, VF a, VF b)
{
    return (VF)(((VI)a & mask) | ((VI)b & ~mask));
}

INLINE float FN(sum)(VF v)
{
    float s[LANES], t = 0;
    memcpy(s, &v, sizeof s);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    t = s[0];
    return t;
}

INLINE VF FN(exp)(VF x)
{
    const VF magic = BROADCAST(12582912.0f);        /* 1.5 * 2^23: rounds */
    x = FN(pick)(x < -87.0f, BROADCAST(-87.0f), x);
    x = FN(pick)(x > 88.0f, BROADCAST(88.0f), x);
    VF t = x * 1.44269504f + magic;
    VF n = t - magic;
    VF r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    VF p = BROADCAST(1.98756912e-4f);
    p = p * r + 1.39819994e-3f;
    p = p * r + 8.33345205e-3f;
    p = p * r + 4.16657962e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    VI bits = ((VI)t - (VI)magic + 127) << 23;
    return p * (VF)bits;
}

KERNEL float FN(max)(const float *x, int64_t n)
{
    VF m = BROADCAST(-INFINITY);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF v = FN(load)(x + i);
        m = FN(pick)(m > v, m, v);
    }
    if (i < n) {
        VF v = FN(load_part)(x + i, n - i, -INFINITY);
        m = FN(pick)(m > v, m, v);
    }
    float best = m[0];
    for (int j = 1; j < LANES; j++)
        best = best > m[j] ? best : m[j];
    return best;
}

KERNEL float FN(sum_exp)(const float *x, int64_t n, float shift)
{
    VF s = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        s += FN(exp)(FN(load)(x + i) - shift);
    if (i < n)
        s += FN(exp)(FN(load_part)(x + i, n - i, shift - 100.0f) - shift);
    return FN(sum)(s);
}

KERNEL float FN(exp_all)(float *x, int64_t n, float shift)
{
    VF s = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF v = FN(exp)(FN(load)(x + i) - shift);
        FN(store)(x + i, v);
        s += v;
    }
    if (i < n) {
        VF v = FN(exp)(FN(load_part)(x + i, n - i, shift - 100.0f) - shift);
        FN(store_part)(x + i, v, n - i);
        s += v;
    }
    return FN(sum)(s);
}

KERNEL float FN(exp_moment)(float *x, int64_t n, float shift, float *moment)
{
    VF s = { 0 }, u = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF d = FN(load)(x + i) - shift, v = FN(exp)(d);
        FN(store)(x + i, v);
        s += v;
        u += v * d;
    }
    if (i < n) {
        VF d = FN(load_part)(x + i, n - i, shift - 100.0f) - shift, v = FN(exp)(d);
        FN(store_part)(x + i, v, n - i);
        s += v;
        u += v * d;
    }
    *moment = FN(sum)(u);
    return FN(sum)(s);
}

KERNEL void FN(silu_mul)(float *y, const float *a, const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF v = FN(load)(a + i);
        FN(store)(y + i, v / (FN(exp)(-v) + 1.0f) * FN(load)(b + i));
    }
    if (i < n) {
        VF v = FN(load_part)(a + i, n - i, 0);
        v = v / (FN(exp)(-v) + 1.0f) * FN(load_part)(b + i, n - i, 0);
        FN(store_part)(y + i, v, n - i);
    }
}

KERNEL void FN(rmsnorm)(float *y, const float *a, const float *w, int64_t n, float eps)
{
    VF s = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF v = FN(load)(a + i);
        s += v * v;
    }
    if (i < n) {
        VF v = FN(load_part)(a + i, n - i, 0);
        s += v * v;
    }
    float f = 1.0f / sqrtf(FN(sum)(s) / (float)n + eps);
    for (i = 0; i + LANES <= n; i += LANES)
        FN(store)(y + i, FN(load)(a + i) * f * FN(load)(w + i));
    for (; i < n; i++)
        y[i] = a[i] * f * w[i];
}

KERNEL void FN(add)(float *y, const float *a, const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(y + i, FN(load)(a + i) + FN(load)(b + i));
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

KERNEL void FN(scale)(float *y, float f, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(y + i, FN(load)(y + i) * f);
    for (; i < n; i++)
        y[i] *= f;
}

/* Weights are read once, in order; `ahead` floats further on (whole rows) lies
 * what comes next but one or two, and its fetch must be under way by now.       */
INLINE float FN(dot)(const float *w, const float *x, int64_t k, int64_t ahead)
{
    VF s[4] = { { 0 } };
    int64_t i = 0;
    for (; i + 4 * LANES <= k; i += 4 * LANES)
#if defined __GNUC__
#pragma GCC unroll 4
#endif
        for (int j = 0; j < 4; j++) {
            const float *p = w + i + j * LANES;
            if (j * LANES % 16 == 0)
                __builtin_prefetch(p + ahead);
            s[j] += FN(load)(p) * FN(load)(x + i + j * LANES);
        }
    for (; i + LANES <= k; i += LANES)
        s[0] += FN(load)(w + i) * FN(load)(x + i);
    if (i < k)
        s[1] += FN(load_part)(w + i, k - i, 0) * FN(load_part)(x + i, k - i, 0);
    return FN(sum)((s[0] + s[1]) + (s[2] + s[3]));
}

KERNEL void FN(gemv)(float *y, const float *w, int64_t stride, const float *x,
                     int64_t rows, int64_t k, bool acc)
{
    enum { AHEAD = 1024 };
    int64_t ahead = (AHEAD + stride - 1) / stride * stride;
    for (int64_t r = 0; r < rows; r++, w += stride)
        y[r] = (acc ? y[r] : 0) + FN(dot)(w, x, k, ahead);
}

/* R rows of p, C vectors from y on; single variables stay in registers. */
INLINE void FN(mix_tile)(float *y, int64_t ldy, const float *p, int64_t ldp,
                         const float *v, int64_t stride, int64_t rows, const int R,
                         const int C)
{
    const float *second = R > 1 ? p + ldp : p;
    VF a0 = { 0 }, a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    for (int64_t j = 0; j < rows; j++, v += stride) {
        VF v0 = FN(load)(v);
        a0 += v0 * p[j];
        if (R > 1)
            b0 += v0 * second[j];
        if (C == 1)
            continue;
        VF v1 = FN(load)(v + LANES), v2 = FN(load)(v + 2 * LANES);
        VF v3 = FN(load)(v + 3 * LANES);
        a1 += v1 * p[j];
        a2 += v2 * p[j];
        a3 += v3 * p[j];
        if (R == 1)
            continue;
        b1 += v1 * second[j];
        b2 += v2 * second[j];
        b3 += v3 * second[j];
    }
    const VF a[] = { a0, a1, a2, a3 }, b[] = { b0, b1, b2, b3 };
    for (int i = 0; i < C; i++) {
        FN(store)(y + i * LANES, a[i]);
        if (R > 1)
            FN(store)(y + ldy + i * LANES, b[i]);
    }
}

INLINE void FN(mix_rows)(float *y, int64_t ldy, const float *p, int64_t ldp,
                         const float *v, int64_t stride, int64_t rows, int64_t n,
                         const int R)
{
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        FN(mix_tile)(y + i, ldy, p, ldp, v + i, stride, rows, R, 4);
    for (; i + LANES <= n; i += LANES)
        FN(mix_tile)(y + i, ldy, p, ldp, v + i, stride, rows, R, 1);
    for (; i < n; i++)
        for (int r = 0; r < R; r++) {
            float s = 0;
            for (int64_t j = 0; j < rows; j++)
                s += v[j * stride + i] * p[r * ldp + j];
            y[r * ldy + i] = s;
        }
}

KERNEL void FN(mix)(float *y, int64_t ldy, const float *p, int64_t ldp, int64_t m,
                    const float *v, int64_t stride, int64_t rows, int64_t n)
{
    int64_t r = 0;
    for (; r + 2 <= m; r += 2)
        FN(mix_rows)(y + r * ldy, ldy, p + r * ldp, ldp, v, stride, rows, n, 2);
    if (r < m)
        FN(mix_rows)(y + r * ldy, ldy, p + r * ldp, ldp, v, stride, rows, n, 1);
}

KERNEL void FN(rotate)(float *x, const float *cosine, const float *sine, int64_t half)
{
    int64_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        VF a = FN(load)(x + i), b = FN(load)(x + i + half);
        VF c = FN(load)(cosine + i), s = FN(load)(sine + i);
        FN(store)(x + i, a * c - b * s);
        FN(store)(x + i + half, b * c + a * s);
    }
    for (; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

static const struct cpu_kernels FN(table) = {
    FN(max), FN(sum_exp), FN(exp_all), FN(exp_moment), FN(silu_mul),
    FN(rmsnorm), FN(add), FN(scale), FN(gemv), FN(mix), FN(rotate)
};

#undef VF
#undef VI
#undef INLINE
#undef KERNEL
#undef BROADCAST
#undef SUFFIX
#undef LANES
#undef TARGET
