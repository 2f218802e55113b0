/* SPDX-License-Identifier: Apache-2.0 */
/* check_admm.c -- repair admm against the three steps of its paper in plain loops, and
 * against the closed form that it converges to.                               */
#include "check_repair.h"

static double row_loss(const struct problem *p, int i, const double *v, int m)
{
    double sum = 0;

    for (int t = 0; t < TOKENS; t++) {
        double y = 0;

        for (int j = 0; j < K; j++)
            y += (p->w[i * K + j] - (j < m ? v[j] : 0)) * p->x[t * K + j];
        sum += y * y;
    }
    return sum;
}

/* Row i by the three steps as the paper has them, W first, in units in which columns
 * have length 1; all of it from the inputs.  out [m]; was it worth it?         */
static bool expect_admm(const struct problem *p, int i, int m, double rho, double damping,
                        int iterations, double *out)
{
    double unit[K], h[K * K], w[K], z[K], u[K] = { 0 }, cut[K];

    for (int a = 0; a < K; a++)
        unit[a] = sqrt(p->gram[a * K + a]);
    for (int a = 0; a < K; a++) {
        w[a] = z[a] = p->w[i * K + a] * unit[a];
        cut[a] = p->w[i * K + a];
        for (int b = 0; b < K; b++)
            h[a * K + b] = p->gram[a * K + b] / unit[a] / unit[b]
                + (a == b ? damping : 0);
    }
    for (int step = 0; step < iterations; step++) {
        double a[K * K], v[K];

        for (int r = 0; r < K; r++) {
            v[r] = rho * (z[r] - u[r]);
            for (int c = 0; c < K; c++) {
                v[r] += h[r * K + c] * w[c];
                a[r * K + c] = h[r * K + c] + (r == c ? rho : 0);
            }
        }
        eliminate(a, v, K);
        for (int r = 0; r < K; r++) {
            z[r] = r < m ? v[r] + u[r] : 0;
            u[r] += v[r] - z[r];
        }
    }
    for (int a = 0; a < m; a++)
        out[a] = z[a] / unit[a];
    if (row_loss(p, i, out, m) <= row_loss(p, i, cut, m))
        return true;
    memcpy(out, cut, (size_t)m * sizeof *out);
    return false;
}

START_TEST(admm_iterates)
{
    static const struct { const char *options; double rho, damping; int iterations; }
    one[] = { { "", 1, 1e-3, 30 }, { "rho=0.1,iterations=5", 0.1, 1e-3, 5 },
              { "damping=0.05,rho=20", 20, 0.05, 30 },
              { "rho=0.001,damping=0,iterations=7", 0.001, 0, 7 } };
    static struct problem p;
    float got[N * K];
    double want[K];
    int left[4] = { 0 };

    for (size_t o = 0; o < sizeof one / sizeof *one; o++)
        for (int m = 1; m <= K; m += 1 + (m < K - 2)) {
            make(&p, o, o == 1 ? 1000 : 3);
            repaired("admm", one[o].options, &p, m, got, NULL);
            for (int i = 0; i < N; i++) {
                left[o] += !expect_admm(&p, i, m, one[o].rho, one[o].damping,
                                        one[o].iterations, want) && m < K;
                for (int j = 0; j < m; j++)
                    near(got[i * m + j], want[j], "weight", m);
            }
        }
    ck_assert_int_eq(left[0], 0);
    ck_assert_int_gt(left[3], 0);       /* what would have been worse was seen */
}
END_TEST

/* One iteration, and the full width, leave the weights alone. */
START_TEST(admm_leaves_alone)
{
    static struct problem p;
    float v[N * K];

    make(&p, 21, 4);
    repaired("admm", "iterations=1", &p, 9, v, NULL);
    for (int i = 0; i < N; i++)
        ck_assert_mem_eq(v + i * 9, p.w + i * K, 9 * sizeof *v);
    repaired("admm", "", &p, K, v, NULL);
    ck_assert_mem_eq(v, p.w, sizeof v);
    memset(p.gram, 0, sizeof p.gram);   /* never active */
    memset(p.x, 0, sizeof p.x);
    repaired("admm", "", &p, 9, v, NULL);
    for (int i = 0; i < N; i++)
        ck_assert_mem_eq(v + i * 9, p.w + i * K, 9 * sizeof *v);
}
END_TEST

START_TEST(admm_meets_least_squares)
{
    static struct problem p;
    float v[N * K], w[N * K];

    for (int seed = 0; seed < 5; seed++)
        for (int m = 2 * K / 3; m < K; m++) {
            double cut, exact, few, many;

            make(&p, (uint64_t)seed, 30);
            cut = sqrt(repaired("none", "", &p, m, v, NULL));
            exact = sqrt(repaired("least_squares", "", &p, m, w, NULL));
            few = sqrt(repaired("admm", "", &p, m, v, NULL));
            ck_assert_msg(few < 0.8 * cut, "%d columns: %g, %g cut", m, few, cut);
            ck_assert_msg(few < 1.05 * exact, "%d columns: %g, not %g", m, few, exact);
            repaired("least_squares", "lambda=1e-10", &p, m, w, NULL);
            many = repaired("admm", "damping=1e-10,iterations=500", &p, m, v, NULL);
            for (int i = 0; i < N * m; i++)
                ck_assert_msg(fabs((double)v[i] - w[i]) < 1e-3, "%g, not %g", v[i], w[i]);
            ck_assert(sqrt(many) <= few * (1 + 1e-6));
        }
}
END_TEST

START_TEST(admm_wants_sound_statistics)
{
    static struct problem p;
    struct inst g;
    const struct lm_repair *ops;
    float v[N * K];
    void *prepared;

    make(&p, 5, 5);
    inst_open(&g, "repair", "admm", "", NULL, NULL);
    ops = g.ops;
    p.gram[5 * K + 2] = NAN;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EFAILED);
    ck_assert_ptr_null(prepared);
    make(&p, 5, 5);
    inst_cholesky_failures = 2;
    ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
    ck_assert_ok(ops->apply(g.self, prepared, 9, v, &e), e);
    for (int i = 0; i < N; i++) {       /* a hundred times the damping */
        double want[K];

        ck_assert(expect_admm(&p, i, 9, 1, 0.1, 30, want));
        for (int j = 0; j < 9; j++)
            near(v[i * 9 + j], want[j], "weight", 9);
    }
    ck_assert_int_eq(ops->apply(g.self, prepared, 0, v, &e), LM_EBUG);
    ck_assert_int_eq(ops->apply(g.self, prepared, K + 1, v, &e), LM_EBUG);
    ops->release(g.self, prepared);
    inst_cholesky_failures = 3;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EFAILED);
    inst_cholesky_failures = 0;
    for (int j = 0; j < K; j += K - 1) {        /* a weight that stays, one that goes */
        make(&p, 5, 5);
        p.w[j] = NAN;
        ck_assert_ok(ops->prepare(g.self, &p.site, &prepared, &e), e);
        ck_assert_int_eq(ops->apply(g.self, prepared, 6, v, &e), LM_EFAILED);
        ops->release(g.self, prepared);
    }
    p.site.gram = NULL;
    ck_assert_int_eq(ops->prepare(g.self, &p.site, &prepared, &e), LM_EBUG);
    inst_close(&g);
}
END_TEST

Suite *admm_suite(void)
{
    Suite *s = suite_create("repair by alternating directions");
    TCase *t = tcase_create("admm");

    tcase_add_test(t, admm_iterates);
    tcase_add_test(t, admm_leaves_alone);
    tcase_add_test(t, admm_meets_least_squares);
    tcase_add_test(t, admm_wants_sound_statistics);
    suite_add_tcase(s, t);
    return s;
}
