/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_tile.h -- products of one number format for one instruction set; a
 * template, included by cpu_gemm.c with SUFFIX, LANES, TARGET, FORMAT (enum
 * lm_precision as a plain number) and, where the set multiplies and adds whole
 * words of that format, DOT.
 *
 * A tile is R rows by C vectors of outputs, R * C sums in registers: up to MANY
 * rows by 2, up to FEW by 4 vectors, so that enough sums are under way at once.
 * Bands are functions of their own, because compilers run out of registers
 * where they see all of them at once.                                        */
typedef float FN(vf) __attribute__((vector_size(LANES * 4)));
typedef int32_t FN(vi) __attribute__((vector_size(LANES * 4)));
#define VF FN(vf)
#define VI FN(vi)
#define INLINE static inline __attribute__((always_inline)) TARGET
#define KERNEL static TARGET
#define VECTORS (CPU_PANEL / LANES)     /* of a panel */
enum {
    FN(FEW) = LANES == 16 ? 6 : LANES == 8 ? 3 : 2,
    FN(MANY) = 2 * FN(FEW)
};

INLINE VI FN(load)(const void *p)
{
    VI v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE VF FN(loadf)(const float *p)
{
    VF v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void FN(store)(void *p, VF v)
{
    memcpy(p, &v, sizeof v);
}

/* ---- one word of each lane ------------------------------------------------------ */
#if FORMAT == 0
typedef VF FN(sum);

INLINE VF FN(step)(VF sum, VI a, VI w)
{
    return sum + (VF)a * (VF)w;
}
#elif FORMAT == 1
typedef VF FN(sum);

/* A bf16 is the upper half of a float. */
INLINE VF FN(step)(VF sum, VI a, VI w)
{
#ifdef DOT
    return (VF)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)w);
#else
    const VI upper = (VI){ 0 } + (int32_t)0xffff0000;
    sum += (VF)(a << 16) * (VF)(w << 16);
    return sum + (VF)(a & upper) * (VF)(w & upper);
#endif
}
#else
typedef VI FN(sum);

/* Bytes of a without, of w with sign. */
INLINE VI FN(step)(VI sum, VI a, VI w)
{
#if defined DOT
    return (VI)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w);
#elif LANES == 16
    const __m512i low = _mm512_set1_epi16(255);
    __m512i u = _mm512_slli_epi16((__m512i)w, 8);
    __m512i even = _mm512_madd_epi16(_mm512_and_si512((__m512i)a, low),
                                     _mm512_srai_epi16(u, 8));
    __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16((__m512i)a, 8),
                                    _mm512_srai_epi16((__m512i)w, 8));
    return sum + (VI)even + (VI)odd;
#elif LANES == 8
    const __m256i low = _mm256_set1_epi16(255);
    __m256i u = _mm256_slli_epi16((__m256i)w, 8);
    __m256i even = _mm256_madd_epi16(_mm256_and_si256((__m256i)a, low),
                                     _mm256_srai_epi16(u, 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16((__m256i)a, 8),
                                    _mm256_srai_epi16((__m256i)w, 8));
    return sum + (VI)even + (VI)odd;
#else
    for (int i = 0; i < 4; i++)
        sum += ((a >> 8 * i) & 255) * (w << (24 - 8 * i) >> 24);
    return sum;
#endif
}

#endif

/* ---- tiles ------------------------------------------------------------------------ */
/* What the sums of a row stand for, from column `at` on. */
INLINE VF FN(value)(const struct cpu_product *p, int64_t row, int64_t at, FN(sum) sum)
{
#if FORMAT == 2
    VF scale = FN(loadf)(p->w_scale + at) * p->a_scale[row];
    return __builtin_convertvector(sum - FN(load)(p->w_shift + at), VF) * scale;
#else
    (void)p, (void)row, (void)at;
    return sum;
#endif
}

/* A tile [rows][4 * LANES] that is added, or that reaches beyond the outputs. */
static __attribute__((noinline)) TARGET void FN(merge)(const struct cpu_product *p,
                                                       int64_t row, int64_t at, int rows,
                                                       int columns, const float *tile)
{
    int64_t n = p->n - at < columns ? p->n - at : columns;
    for (int r = 0; r < rows; r++, tile += 4 * LANES) {
        float *y = p->y + (row + r) * p->ldy + at;
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            VF v = FN(loadf)(tile + i);
            FN(store)(y + i, p->add ? FN(loadf)(y + i) + v : v);
        }
        for (; i < n; i++)
            y[i] = p->add ? y[i] + tile[i] : tile[i];
    }
}

/* R rows from `row` on, C vectors of outputs from vector `at` on: either within
 * a panel, or from the start of one on.  Sums are single variables because
 * compilers keep those in registers; what R and C leave out is never made.     */
#define TILE_ROW(r) \
    FN(sum) s##r##a = { 0 }, s##r##b = { 0 }, s##r##c = { 0 }, s##r##d = { 0 };
#define TILE_STEP(r) \
    if (R > r) { \
        VI x = (VI){ 0 } + (int32_t)a[r * lda + i]; \
        s##r##a = FN(step)(s##r##a, x, w0); \
        s##r##b = FN(step)(s##r##b, x, w1); \
        if (C > 2) { \
            s##r##c = FN(step)(s##r##c, x, w2); \
            s##r##d = FN(step)(s##r##d, x, w3); \
        } \
    }
#define TILE_PUT(r) \
    if (R > r) { \
        float *t = y + r * ldy; \
        FN(store)(t, FN(value)(p, row + r, first, s##r##a)); \
        FN(store)(t + LANES, FN(value)(p, row + r, first + LANES, s##r##b)); \
        if (C > 2) { \
            FN(store)(t + 2 * LANES, FN(value)(p, row + r, first + 2 * LANES, s##r##c)); \
            FN(store)(t + 3 * LANES, FN(value)(p, row + r, first + 3 * LANES, s##r##d)); \
        } \
    }
INLINE void FN(tile)(const struct cpu_product *p, int64_t row, int64_t at,
                     const int R, const int C)
{
    const uint32_t *a = p->a + row * p->lda;
    const uint32_t *w = p->w + at / VECTORS * p->panel + at % VECTORS * LANES;
    const int64_t third = VECTORS > 2 ? 2 * LANES : p->panel;   /* the third vector */
    const int64_t lda = p->lda, words = p->words;
    EACH_ROW(TILE_ROW)
    for (int64_t i = 0; i < words; i++, w += CPU_PANEL) {
        VI w0 = FN(load)(w), w1 = FN(load)(w + LANES), w2 = w0, w3 = w1;
        if (C > 2) {
            w2 = FN(load)(w + third);
            w3 = FN(load)(w + third + LANES);
        }
        if (R <= FN(FEW)) {             /* memory is what they wait for */
            __builtin_prefetch(w + AHEAD * CPU_PANEL);
            if (LANES * C > 16)
                __builtin_prefetch(w + AHEAD * CPU_PANEL + 16);
            if (VECTORS == 2 && C > 2) {
                __builtin_prefetch(w + AHEAD * CPU_PANEL + third);
                __builtin_prefetch(w + AHEAD * CPU_PANEL + third + 16);
            }
        }
        EACH_ROW(TILE_STEP)
    }
    const int64_t first = at * LANES;
    const bool direct = !p->add && p->n - first >= C * LANES;
    float part[FN(MANY) * 4 * LANES], *y = direct ? p->y + row * p->ldy + first : part;
    const int64_t ldy = direct ? p->ldy : 4 * LANES;
    EACH_ROW(TILE_PUT)
    if (!direct)
        FN(merge)(p, row, first, R, C * LANES, part);
}

/* R rows and all outputs. */
INLINE void FN(band)(const struct cpu_product *p, int64_t row, const int R)
{
    int64_t n = (p->n + LANES - 1) / LANES, whole = cpu_panels(p->n) * VECTORS;
    for (int64_t at = 0; at < n;)
        if (R <= FN(FEW) && at + 4 <= whole) {
            FN(tile)(p, row, at, R, 4);
            at += 4;
        } else {
            FN(tile)(p, row, at, R, 2);
            at += 2;
        }
}

#define BAND(r) \
    static __attribute__((noinline)) TARGET \
    void FN(band_##r)(const struct cpu_product *p, int64_t row) \
    { \
        FN(band)(p, row, r + 1); \
    }
#define BAND_NAME(r) FN(band_##r),
#if LANES == 16
#define EACH_BAND(x) EACH_ROW(x)
#elif LANES == 8
#define EACH_BAND(x) EACH_FEW(x)
#else
#define EACH_BAND(x) x(0) x(1) x(2) x(3)
#endif
EACH_BAND(BAND)

/* Bands of about equal height, none above MANY rows. */
static void FN(multiply)(const struct cpu_product *p)
{
    static void (*const band[])(const struct cpu_product *, int64_t) = {
        EACH_BAND(BAND_NAME)
    };
    int64_t bands = (p->m + FN(MANY) - 1) / FN(MANY);
    for (int64_t i = 0; i < bands; i++) {
        int64_t row = p->m * i / bands;
        band[p->m * (i + 1) / bands - row - 1](p, row);
    }
}

#undef VF
#undef VI
#undef INLINE
#undef KERNEL
#undef VECTORS
#undef TILE_ROW
#undef TILE_STEP
#undef TILE_PUT
#undef BAND
#undef BAND_NAME
#undef EACH_BAND
#undef SUFFIX
#undef LANES
#undef TARGET
#undef FORMAT
#undef DOT
