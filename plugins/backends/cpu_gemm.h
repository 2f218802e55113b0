/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_gemm.h -- products y [m][n] = a [m][k] w [n][k]^T of the cpu backend in
 * three number formats, and the layout of their operands.
 *
 * Everything is in words of 32 bits, which hold 1 f32, 2 bf16 or 4 int8 values
 * that follow each other along k (the last word is filled up with zeros).  Rows
 * of a are rows of words.  w lies in panels of PANEL outputs:
 *
 *   word (n, i) of w  is  panel[n / PANEL][i][n % PANEL]
 *
 * so that a kernel reads w in order, multiplies whole vectors of outputs by one
 * broadcast word of a, and never adds across lanes.  One output is one chain of
 * additions over k in order, in every kernel: a result depends neither on the
 * rows and columns computed beside it nor on threads.
 *
 * int8: w is q * scale[n] with q = -127 .. 127, a is q * scale[m].  The
 * instructions multiply unsigned by signed bytes, so a is stored as q + 128 and
 * 128 * (sum of the row of w), `shift`, is taken off the sum.  Sums are exact
 * (and equal on all processors) for k up to CPU_MOST_K.                      */
#ifndef LAMINA_BACKENDS_CPU_GEMM_H
#define LAMINA_BACKENDS_CPU_GEMM_H
#include "plugin.h"

enum { CPU_PANEL = 32, CPU_MOST_K = 65536 };

struct cpu_product {
    const uint32_t *a;                  /* [m] rows, lda words from row to row  */
    const float    *a_scale;            /* [m], int8                            */
    const uint32_t *w;                  /* panels, `panel` words from one to the
                                           next                                 */
    const float    *w_scale;            /* [n up to a whole panel], int8        */
    const int32_t  *w_shift;            /* likewise                             */
    float  *y;                          /* [m] rows, ldy floats from row to row */
    int64_t m, n, words, lda, panel, ldy;
    bool    add;                        /* y += in place of y =                 */
};

/* One number format on one instruction set. */
struct cpu_format {
    uint32_t precision;                 /* enum lm_precision */
    int32_t  group;                     /* values in a word */
    void (*multiply)(const struct cpu_product *p);
    /* A row of w: k values to words; *scale and *shift as above (1 and 0 but for
     * int8).  The same of a row of a.                                          */
    void (*encode_w)(uint32_t *to, const float *from, int64_t k, float *scale,
                     int32_t *shift);
    void (*encode_a)(uint32_t *to, const float *from, int64_t k, float *scale);
    /* What a row of w is after encoding. */
    void (*round)(float *to, const float *from, int64_t k);
    /* Panels of w = v^T for v [k][n], stride floats from row to row; f32 and bf16
     * only.  Outputs beyond n are 0.                                           */
    void (*turn)(uint32_t *to, const float *v, int64_t stride, int64_t k, int64_t n);
};

struct cpu_products {
    struct cpu_format format[LM_N_PRECISIONS];
    /* rows of words [n <= PANEL][words] -> one panel; rows beyond n are 0 */
    void (*panel)(uint32_t *to, const uint32_t *from, int64_t stride, int64_t n,
                  int64_t words);
    /* y [m][n] = a w^T (+ y if add) in f32, w as it lies; for few rows */
    void (*few)(float *y, int64_t ldy, const float *a, int64_t lda, int64_t m,
                const float *w, int64_t stride, int64_t n, int64_t k, bool add);
};

static inline int64_t cpu_words(const struct cpu_format *f, int64_t k)
{
    return (k + f->group - 1) / f->group;
}

static inline int64_t cpu_panels(int64_t n)
{
    return (n + CPU_PANEL - 1) / CPU_PANEL;
}
#endif
