/* SPDX-License-Identifier: Apache-2.0 */
/* check_repair.c -- repairs against Gaussian elimination in plain loops. */
#include <math.h>

#include "base/rng.h"
#include "inst.h"

enum { N = 10, K = 24, TOKENS = 40 };
static struct lm_err e;

struct problem {
    float  w[N * K];
    double gram[K * K], x[TOKENS * K];
    struct lm_repair_site site;
};

/* Correlated inputs with one outlier channel of size `outlier`. */
static void make(struct problem *p, uint64_t seed, double outlier)
{
    struct lm_rng r = lm_rng(seed, "repair", 0);

    for (int t = 0; t < TOKENS; t++) {
        double common = 2 * lm_rng_unit(&r) - 1;

        for (int j = 0; j < K; j++)
            p->x[t * K + j] = (2 * lm_rng_unit(&r) - 1 + common)
                * (j == 3 ? outlier : 1 + j % 4);
    }
    for (int i = 0; i < N * K; i++)
        p->w[i] = (float)(2 * lm_rng_unit(&r) - 1);
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) {
            p->gram[i * K + j] = 0;
            for (int t = 0; t < TOKENS; t++)
                p->gram[i * K + j] += p->x[t * K + i] * p->x[t * K + j];
        }
    p->site = (struct lm_repair_site){
        .struct_size = sizeof p->site, .site = LM_SITE_MLP, .n = N, .k = K, .w = p->w,
        .gram = p->gram, .tokens = TOKENS
    };
}

static double damping(const struct problem *p, double lambda)
{
    double trace = 0;

    for (int i = 0; i < K; i++)
        trace += p->gram[i * K + i];
    return lambda * trace / K;
}

/* Solves a x = b [m] by elimination with row exchanges; a and b are used up. */
static void eliminate(double *a, double *b, int m)
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

/* W_S + W_R H_RS (H_SS + d I)^-1, straight from the formula. */
static void expect(const struct problem *p, int m, double d, double *out)
{
    for (int i = 0; i < N; i++) {
        double a[K * K], b[K];

        for (int r = 0; r < m; r++) {
            for (int c = 0; c < m; c++)
                a[r * m + c] = p->gram[c * K + r] + (r == c ? d : 0);
            b[r] = 0;
            for (int k = m; k < K; k++)
                b[r] += p->w[i * K + k] * p->gram[k * K + r];
        }
        eliminate(a, b, m);
        for (int c = 0; c < m; c++)
            out[i * m + c] = p->w[i * K + c] + b[c];
    }
}

static void compare(const struct inst *g, const void *prepared, const struct problem *p,
                    int m, double d)
{
    const struct lm_repair *ops = g->ops;
    float got[N * K];
    double want[N * K];

    ck_assert_ok(ops->apply(g->self, prepared, m, got, &e), e);
    expect(p, m, d, want);
    for (int i = 0; i < N * m; i++)
        ck_assert_msg(fabs(got[i] - want[i]) <= 2e-6 * (1 + fabs(want[i])),
                      "width %d, value %d: %.9g, not %.9g", m, i, got[i], want[i]);
}

START_TEST(least_squares_solves)
{
    static const char *const options[] = { "", "lambda=1e-4", "lambda=0.03", "lambda=2" };
    static const double lambda[] = { 1e-4, 1e-4, 0.03, 2 };
    static struct problem p;

    for (int o = 0; o < 4; o++) {
        struct inst g;
        const struct lm_repair *ops;
        void *prepared;

        make(&p, (uint64_t)o, o == 2 ? 1000 : 3);
        inst_open(&g, "repair", "least_squares", options[o], NULL, NULL);
        ops = g.ops;
        ck_assert_uint_eq(ops->needs, LM_BIT(LM_STAT_GRAM));
        ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
        for (int m = 1; m <= K; m++)
            compare(&g, prepared, &p, m, damping(&p, lambda[o]));
        ops->release(g.self, prepared);
        inst_close(&g);
    }
}
END_TEST

/* sum over tokens of |W x - V x_S|^2 */
static double loss(const struct problem *p, const float *v, int m)
{
    double sum = 0;

    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < N; i++) {
            double y = 0;

            for (int j = 0; j < K; j++)
                y += p->w[i * K + j] * p->x[t * K + j];
            for (int j = 0; j < m; j++)
                y -= v[i * m + j] * p->x[t * K + j];
            sum += y * y;
        }
    return sum;
}

START_TEST(least_squares_beats_leaving_it)
{
    static struct problem p;
    struct inst none, ls;
    const struct lm_repair *a, *b;
    float v[N * K], u[N * K];
    void *pa, *pb;

    make(&p, 11, 4);
    inst_open(&none, "repair", "none", "", NULL, NULL);
    inst_open(&ls, "repair", "least_squares", "", NULL, NULL);
    a = none.ops;
    b = ls.ops;
    ck_assert_ok(a->prepare(none.self, &p.site, &pa, &e), e);
    ck_assert_ok(b->prepare(ls.self, &p.site, &pb, &e), e);
    for (int m = 2; m < K; m += 7) {
        ck_assert_ok(a->apply(none.self, pa, m, v, &e), e);
        ck_assert_ok(b->apply(ls.self, pb, m, u, &e), e);
        for (int i = 0; i < N; i++)
            ck_assert_mem_eq(v + i * m, p.w + i * K, (size_t)m * sizeof *v);
        ck_assert(loss(&p, u, m) < 0.9 * loss(&p, v, m));
    }
    a->release(none.self, pa);
    b->release(ls.self, pb);
    inst_close(&none);
    inst_close(&ls);
}
END_TEST

/* A failing factorization is tried again with ten times the damping. */
START_TEST(damping_grows)
{
    static struct problem p;
    struct inst g;
    const struct lm_repair *ops;
    void *prepared;

    make(&p, 4, 5);
    inst_open(&g, "repair", "least_squares", "", NULL, NULL);
    ops = g.ops;
    inst_cholesky_failures = 2;
    ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
    compare(&g, prepared, &p, 9, damping(&p, 1e-2));
    ops->release(g.self, prepared);
    inst_cholesky_failures = 3;
    ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
    compare(&g, prepared, &p, 9, damping(&p, 1e-1));
    ops->release(g.self, prepared);
    inst_cholesky_failures = 4;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EFAILED);
    ck_assert_ptr_null(prepared);
    inst_cholesky_failures = 0;

    /* fewer tokens than columns and no ridge: singular, so a ridge appears */
    inst_destroy(&g);
    for (int j = 0; j < K; j++)
        p.gram[j * K + 7] = p.gram[7 * K + j] = 0;
    ck_assert_ok(inst_create(&g, "lambda=0", NULL, NULL, &e), e);
    ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
    compare(&g, prepared, &p, 9, damping(&p, 1e-8));
    ops->release(g.self, prepared);
    inst_close(&g);
}
END_TEST

START_TEST(dead_and_broken_statistics)
{
    static struct problem p;
    struct inst g;
    const struct lm_repair *ops;
    float v[N * K];
    void *prepared;

    make(&p, 5, 5);
    inst_open(&g, "repair", "least_squares", "", NULL, NULL);
    ops = g.ops;
    p.gram[5 * K + 2] = NAN;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EFAILED);
    p.gram[5 * K + 2] = INFINITY;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EFAILED);
    memset(p.gram, 0, sizeof p.gram);
    ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
    ck_assert_ok(ops->apply(g.self, prepared, 6, v, &e), e);
    for (int i = 0; i < N; i++)
        ck_assert_mem_eq(v + i * 6, p.w + i * K, 6 * sizeof *v);
    ck_assert_int_eq(ops->apply(g.self, prepared, K + 1, v, &e), LM_EBUG);
    ck_assert_int_eq(ops->apply(g.self, prepared, 0, v, &e), LM_EBUG);
    ops->release(g.self, prepared);

    make(&p, 5, 5);                     /* weights that are no numbers */
    p.w[0] = NAN;
    ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
    ck_assert_int_eq(ops->apply(g.self, prepared, 6, v, &e), LM_EFAILED);
    ops->release(g.self, prepared);
    p.site.gram = NULL;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EBUG);
    inst_close(&g);
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct inst *g = ctx;
    const struct lm_repair *ops = g->ops;
    static struct problem p;
    float v[N * K];
    void *prepared;
    enum lm_status st;

    make(&p, 6, 5);
    if ((st = inst_create(g, "", NULL, NULL, &e)))
        return st;
    if (!(st = ops->prepare(g->self, &p.site, &prepared, &e))) {
        st = ops->apply(g->self, prepared, 5, v, &e);
        ops->release(g->self, prepared);
    }
    inst_destroy(g);
    return st;
}

START_TEST(memory_may_run_out)
{
    static const char *const names[] = { "none", "least_squares" };
    struct inst g;

    for (int i = 0; i < 2; i++) {
        inst_load(&g, "repair", names[i]);
        ck_assert_int_gt(fail_every_allocation(whole_life, &g), i ? 5 : 0);
        dlclose(g.dl);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("repair");
    TCase *t = tcase_create("repair");

    tcase_add_test(t, least_squares_solves);
    tcase_add_test(t, least_squares_beats_leaving_it);
    tcase_add_test(t, damping_grows);
    tcase_add_test(t, dead_and_broken_statistics);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
