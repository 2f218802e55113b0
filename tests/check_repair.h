/* SPDX-License-Identifier: Apache-2.0 */
/* check_repair.h -- a matrix, inputs and their statistics for the tests of repairs, and
 * what these ask of them.  Each file has its own.                             */
#ifndef LM_TESTS_CHECK_REPAIR_H
#define LM_TESTS_CHECK_REPAIR_H
#include <math.h>

#include "base/rng.h"
#include "inst.h"

enum { N = 10, K = 24, TOKENS = 40 };
static struct lm_err e;

struct problem {
    float  w[N * K];
    double gram[K * K], sum[K], x[TOKENS * K];
    struct lm_repair_site site;
};

static double offset;                   /* of all inputs, so that they have a mean */

/* Correlated inputs with one outlier channel of size `outlier`. */
static inline void make(struct problem *p, uint64_t seed, double outlier)
{
    struct lm_rng r = lm_rng(seed, "repair", 0);

    for (int t = 0; t < TOKENS; t++) {
        double common = 2 * lm_rng_unit(&r) - 1;

        for (int j = 0; j < K; j++)
            p->x[t * K + j] = (2 * lm_rng_unit(&r) - 1 + common + offset)
                * (j == 3 ? outlier : 1 + j % 4);
    }
    for (int i = 0; i < N * K; i++)
        p->w[i] = (float)(2 * lm_rng_unit(&r) - 1);
    memset(p->sum, 0, sizeof p->sum);
    for (int t = 0; t < TOKENS; t++)
        for (int j = 0; j < K; j++)
            p->sum[j] += p->x[t * K + j];
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) {
            p->gram[i * K + j] = 0;
            for (int t = 0; t < TOKENS; t++)
                p->gram[i * K + j] += p->x[t * K + i] * p->x[t * K + j];
        }
    p->site = (struct lm_repair_site){
        .struct_size = sizeof p->site, .site = LM_SITE_MLP, .n = N, .k = K, .w = p->w,
        .gram = p->gram, .sum = p->sum, .tokens = TOKENS
    };
}

/* Solves a x = b [m] by elimination with row exchanges; a and b are used up. */
static inline void eliminate(double *a, double *b, int m)
{
    for (int c = 0; c < m; c++) {
        int best = c;

        for (int i = c + 1; i < m; i++)
            if (fabs(a[i * m + c]) > fabs(a[best * m + c]))
                best = i;
        for (int j = 0; j < m; j++) {
            double x = a[c * m + j];

            a[c * m + j] = a[best * m + j];
            a[best * m + j] = x;
        }
        double y = b[c];

        b[c] = b[best];
        b[best] = y;
        for (int i = c + 1; i < m; i++) {
            double f = a[i * m + c] / a[c * m + c];

            for (int j = c; j < m; j++)
                a[i * m + j] -= f * a[c * m + j];
            b[i] -= f * b[c];
        }
    }
    for (int c = m - 1; c >= 0; c--) {
        for (int j = c + 1; j < m; j++)
            b[c] -= a[c * m + j] * b[j];
        b[c] /= a[c * m + c];
    }
}

/* sum over tokens of |W x - V x_S - bias|^2; bias may be NULL */
static inline double loss(const struct problem *p, const float *v, int m,
                          const float *bias)
{
    double sum = 0;

    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < N; i++) {
            double y = bias ? -(double)bias[i] : 0;

            for (int j = 0; j < K; j++)
                y += p->w[i * K + j] * p->x[t * K + j];
            for (int j = 0; j < m; j++)
                y -= v[i * m + j] * p->x[t * K + j];
            sum += y * y;
        }
    return sum;
}

static inline void near(double got, double want, const char *what, int m)
{
    ck_assert_msg(fabs(got - want) <= 5e-6 * (1 + fabs(want)),
                  "width %d, %s: %.9g, not %.9g", m, what, got, want);
}

/* Weights and bias of a repair, and the error of the output. */
static inline double repaired(const char *name, const char *options,
                              const struct problem *p, int m, float *w, float *bias)
{
    struct inst g;
    const struct lm_repair *ops;
    void *prepared;

    inst_open(&g, "repair", name, options, NULL, NULL);
    ops = g.ops;
    ck_assert_ok(ops->prepare(g.self, &p->site, &prepared, &e), e);
    ck_assert_ok(ops->apply(g.self, prepared, m, w, &e), e);
    if (bias)
        ck_assert_ok(ops->bias(g.self, prepared, m, w, bias, &e), e);
    ops->release(g.self, prepared);
    inst_close(&g);
    return loss(p, w, m, bias);
}

Suite *admm_suite(void);
#endif
