/* SPDX-License-Identifier: Apache-2.0 */
/* check_repair.c -- repairs against Gaussian elimination in plain loops. */
#include "check_repair.h"

static double damping(const struct problem *p, double lambda)
{
    double trace = 0;

    for (int i = 0; i < K; i++)
        trace += p->gram[i * K + i];
    return lambda * trace / K;
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
        ck_assert_uint_eq(ops->needs, LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUM));
        ck_assert_uint_eq(ops->shapes(g.opt.config), 0);
        ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
        for (int m = 1; m <= K; m++)
            compare(&g, prepared, &p, m, damping(&p, lambda[o]));
        ops->release(g.self, prepared);
        inst_close(&g);
    }
}
END_TEST

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
        ck_assert(loss(&p, u, m, NULL) < 0.9 * loss(&p, v, m, NULL));
    }
    a->release(none.self, pa);
    b->release(ls.self, pb);
    inst_close(&none);
    inst_close(&ls);
}
END_TEST

/* ---- biases --------------------------------------------------------------------- */

/* lambda times the mean variance, times the tokens, from the inputs themselves */
static double centred_damping(const struct problem *p, double lambda)
{
    double all = 0;

    for (int j = 0; j < K; j++)
        for (int t = 0; t < TOKENS; t++)
            all += pow(p->x[t * K + j] - p->sum[j] / TOKENS, 2);
    return lambda * all / K;
}

/* Regression of W x on (x_S, 1) by its normal equations, of order m + 1; the
 * ridge pulls to W_S and leaves the intercept alone.  out [N][m + 1].         */
static void expect_affine(const struct problem *p, int m, double d, double *out)
{
    static double a[(K + 1) * (K + 1)];
    double b[K + 1];
    int n = m + 1;

    for (int i = 0; i < N; i++) {
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        for (int t = 0; t < TOKENS; t++) {
            double z[K + 1], y = 0;

            for (int j = 0; j < K; j++)
                y += p->w[i * K + j] * p->x[t * K + j];
            memcpy(z, p->x + t * K, (size_t)m * sizeof *z);
            z[m] = 1;
            for (int r = 0; r < n; r++) {
                b[r] += z[r] * y;
                for (int c = 0; c < n; c++)
                    a[r * n + c] += z[r] * z[c];
            }
        }
        for (int r = 0; r < m; r++) {
            a[r * n + r] += d;
            b[r] += d * p->w[i * K + r];
        }
        eliminate(a, b, n);
        memcpy(out + i * n, b, (size_t)n * sizeof *out);
    }
}

START_TEST(affine_least_squares_solves)
{
    static const char *const options[] = { "bias=true", "bias=true,lambda=0.03",
                                           "bias=true,lambda=2" };
    static const double lambda[] = { 1e-4, 0.03, 2 };
    static struct problem p;
    static double want[N * (K + 1)];
    float w[N * K], bias[N];

    for (int o = 0; o < 3; o++) {
        struct inst g;
        const struct lm_repair *ops;
        void *prepared;

        offset = o == 1 ? -0.5 : 1.5;
        make(&p, (uint64_t)o, o == 2 ? 100 : 3);
        inst_open(&g, "repair", "least_squares", options[o], NULL, NULL);
        ops = g.ops;
        ck_assert_uint_eq(ops->shapes(g.opt.config),
                          LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS);
        ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
        for (int m = 1; m <= K; m++) {
            ck_assert_ok(ops->apply(g.self, prepared, m, w, &e), e);
            ck_assert_ok(ops->bias(g.self, prepared, m, w, bias, &e), e);
            expect_affine(&p, m, centred_damping(&p, lambda[o]), want);
            for (int i = 0; i < N; i++) {
                near(bias[i], want[i * (m + 1) + m], "bias", m);
                for (int j = 0; j < m; j++)
                    near(w[i * m + j], want[i * (m + 1) + j], "weight", m);
            }
        }
        ops->release(g.self, prepared);
        inst_close(&g);
        offset = 0;
    }
}
END_TEST

START_TEST(a_bias_never_hurts)
{
    static struct problem p;
    float w[N * K], v[N * K], bias[N];

    for (int seed = 0; seed < 5; seed++)
        for (int m = 1; m < K; m += 5) {
            double none, mean, linear, affine;

            offset = 0.4 * seed;        /* 0: hardly a mean to make up for */
            make(&p, (uint64_t)seed, 4);
            none = repaired("none", "", &p, m, w, NULL);
            mean = repaired("bias", "", &p, m, v, bias);
            ck_assert_mem_eq(v, w, (size_t)(N * m) * sizeof *w);
            linear = repaired("least_squares", "lambda=1e-9", &p, m, v, NULL);
            affine = repaired("least_squares", "lambda=1e-9,bias=true", &p, m, w, bias);
            ck_assert_msg(mean <= none, "%g, %g without", mean, none);
            ck_assert_msg(affine <= linear * (1 + 1e-6), "%g, %g without", affine,
                          linear);
            ck_assert_msg(affine <= mean * (1 + 1e-6), "%g, %g of FLAP", affine, mean);
            if (seed > 2)
                ck_assert(mean < 0.9 * none);
            if (seed > 2 && m < 7)      /* more columns can make up the mean */
                ck_assert_msg(affine < 0.995 * linear, "%g, %g without", affine, linear);
            affine = repaired("least_squares", "bias=true", &p, m, w, bias);
            linear = repaired("least_squares", "", &p, m, v, NULL);
            ck_assert_msg(affine <= linear * 1.001, "%g, %g without", affine, linear);
        }
    offset = 0;
}
END_TEST

START_TEST(the_bias_of_flap)
{
    static struct problem p;
    float w[N * K], bias[N];

    offset = 0.7;
    make(&p, 9, 30);
    offset = 0;
    for (int m = 1; m <= K; m++) {
        repaired("bias", "", &p, m, w, bias);
        for (int i = 0; i < N; i++) {
            double want = 0;

            for (int t = 0; t < TOKENS; t++)
                for (int j = m; j < K; j++)
                    want += p.w[i * K + j] * p.x[t * K + j] / TOKENS;
            near(bias[i], want, "bias", m);
            for (int j = 0; j < m; j++)
                ck_assert(w[i * m + j] == p.w[i * K + j]);
        }
    }
}
END_TEST

/* Inputs that never change: all of the output is the bias. */
START_TEST(constant_inputs)
{
    static struct problem p;
    float w[N * K], bias[N];

    make(&p, 3, 2);
    for (int j = 0; j < K; j++)
        p.sum[j] = TOKENS * (j - 5.0);
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++)
            p.gram[i * K + j] = TOKENS * (i - 5.0) * (j - 5.0);
    for (int t = 0; t < TOKENS; t++)
        for (int j = 0; j < K; j++)
            p.x[t * K + j] = j - 5.0;
    ck_assert(repaired("least_squares", "bias=true", &p, 7, w, bias) < 1e-6);
    for (int i = 0; i < N * 7; i++)
        ck_assert_msg(fabs((double)w[i] - p.w[i / 7 * K + i % 7]) < 1e-6, "%d", i);
}
END_TEST

START_TEST(biases_need_sums)
{
    static const char *const name[] = { "bias", "least_squares" };
    static const char *const options[] = { "", "bias=true" };
    static struct problem p;
    float w[N * K], bias[N];
    void *prepared;

    for (int i = 0; i < 2; i++) {
        struct inst g;
        const struct lm_repair *ops;

        make(&p, 5, 5);
        inst_open(&g, "repair", name[i], options[i], NULL, NULL);
        ops = g.ops;
        p.sum[4] = NAN;
        ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EFAILED);
        p.site.sum = NULL;
        ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EBUG);
        p.site.sum = p.sum;
        p.site.tokens = 0;
        ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EBUG);
        make(&p, 5, 5);
        p.w[K - 1] = INFINITY;
        if (i == 0) {
            ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
            ck_assert_ok(ops->apply(g.self, prepared, 6, w, &e), e);
            ck_assert_int_eq(ops->bias(g.self, prepared, 6, w, bias, &e), LM_EFAILED);
            ops->release(g.self, prepared);
        }
        inst_close(&g);
    }
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

/* Directions of two Gram matrices: those of their sum, none of which another basis
 * beats.  Energy of the first m: at least that of the best m columns, and what is
 * left is the sum of eigenvalues, so each direction is one.                    */
START_TEST(pca_finds_the_largest_directions)
{
    static struct problem p[2];
    static float v[K * K];
    const double *gram[2] = { p[0].gram, p[1].gram };
    struct lm_stream_site s = { sizeof s, 2, K, gram, TOKENS };
    const struct lm_repair *ops;
    double last = INFINITY;
    struct inst g;

    make(&p[0], 3, 5);
    make(&p[1], 4, 2);
    inst_open(&g, "repair", "pca", "", NULL, NULL);
    ops = g.ops;
    ck_assert_uint_eq(ops->shapes(g.opt.config), 0);
    ck_assert_ok(ops->basis(g.self, &s, v, &e), e);
    for (int j = 0; j < K; j++) {       /* H b = h b, h falling */
        double hb[K], h = 0, norm = 0;

        for (int i = 0; i < K; i++) {
            hb[i] = 0;
            for (int l = 0; l < K; l++)
                hb[i] += (gram[0][i * K + l] + gram[1][i * K + l]) * (double)v[l * K + j];
            h += hb[i] * (double)v[i * K + j];
            norm += (double)v[i * K + j] * (double)v[i * K + j];
        }
        ck_assert_double_eq_tol(norm, 1, 1e-5);
        ck_assert_double_le(h, last * (1 + 1e-6));
        for (int i = 0; i < K; i++)
            ck_assert_double_eq_tol(hb[i], h * (double)v[i * K + j], 1e-2);
        last = h;
    }
    p[1].gram[5] = NAN;
    ck_assert_int_eq(ops->basis(g.self, &s, v, &e), LM_EFAILED);
    inst_close(&g);
    inst_open(&g, "repair", "pca", "per_block=true", NULL, NULL);
    ck_assert_uint_eq(((const struct lm_repair *)g.ops)->shapes(g.opt.config),
                      LM_SHAPE_TURNED);
    inst_close(&g);
}
END_TEST

struct life { struct inst g; const char *options; bool bias; };

static enum lm_status whole_life(void *ctx)
{
    struct life *f = ctx;
    const struct lm_repair *ops = f->g.ops;
    static struct problem p;
    float v[N * K], bias[N];
    void *prepared;
    enum lm_status st;

    make(&p, 6, 5);
    if ((st = inst_create(&f->g, f->options, NULL, NULL, &e)))
        return st;
    if (!(st = ops->prepare(f->g.self, &p.site, &prepared, &e))) {
        st = ops->apply(f->g.self, prepared, 5, v, &e);
        if (!st && f->bias)
            st = ops->bias(f->g.self, prepared, 5, v, bias, &e);
        ops->release(f->g.self, prepared);
    }
    inst_destroy(&f->g);
    return st;
}

START_TEST(memory_may_run_out)
{
    static const struct { const char *name, *options; bool bias; int least; } one[] = {
        { "none", "", false, 0 }, { "pca", "", false, 0 }, { "bias", "", true, 0 },
        { "least_squares", "", false, 5 }, { "least_squares", "bias=true", true, 6 },
        { "admm", "", false, 8 } };

    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        struct life f = { .options = one[i].options, .bias = one[i].bias };

        inst_load(&f.g, "repair", one[i].name);
        ck_assert_int_gt(fail_every_allocation(whole_life, &f), one[i].least);
        dlclose(f.g.dl);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("repair");
    TCase *t = tcase_create("repair");

    tcase_add_test(t, least_squares_solves);
    tcase_add_test(t, least_squares_beats_leaving_it);
    tcase_add_test(t, affine_least_squares_solves);
    tcase_add_test(t, a_bias_never_hurts);
    tcase_add_test(t, the_bias_of_flap);
    tcase_add_test(t, constant_inputs);
    tcase_add_test(t, biases_need_sums);
    tcase_add_test(t, damping_grows);
    tcase_add_test(t, dead_and_broken_statistics);
    tcase_add_test(t, pca_finds_the_largest_directions);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    Suite *const all[] = { s, admm_suite() };
    return run_suites(all, 2);
}
