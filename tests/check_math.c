/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of base/linalg.h against loops in double precision. */
#include "check_base.h"

#include <math.h>

#include "base/linalg.h"
#include "base/rng.h"
#include "testing.h"

static double *random_doubles(int64_t n, uint64_t index)
{
    struct lm_rng r = lm_rng(1, "matrix", index);
    double *v = lm_alloc_array((size_t)n + 1, sizeof *v, "test");
    for (int64_t i = 0; i < n; i++)
        v[i] = 2 * lm_rng_unit(&r) - 1;
    return v;
}

static float *to_float(const double *v, int64_t n)
{
    float *f = lm_alloc_array((size_t)n + 1, sizeof *f, "test");
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)v[i];
    return f;
}

struct product { char ta, tb; int64_t m, n, k, lda, ldb, ldc; double alpha, beta; };

/* Element (i, j) by definition. */
static double naive(const struct product *p, const double *a, const double *b,
                    const double *c, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t l = 0; l < p->k; l++)
        sum += (p->ta == 't' ? a[l * p->lda + i] : a[i * p->lda + l])
             * (p->tb == 't' ? b[j * p->ldb + l] : b[l * p->ldb + j]);
    return p->alpha * sum + (p->beta == 0 ? 0 : p->beta * c[i * p->ldc + j]);
}

static void check_product(const struct product *p)
{
    int64_t na = (p->ta == 't' ? p->k : p->m) * p->lda;
    int64_t nb = (p->tb == 't' ? p->n : p->k) * p->ldb, nc = p->m * p->ldc;
    double *a = random_doubles(na, 1), *b = random_doubles(nb, 2);
    double *c = random_doubles(nc, 3), *c64 = random_doubles(nc, 3);
    float *fa = to_float(a, na), *fb = to_float(b, nb), *fc = to_float(c, nc);
    if (p->beta == 0)                   /* what was there must not matter */
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t j = 0; j < p->n; j++)
                fc[i * p->ldc + j] = NAN, c64[i * p->ldc + j] = NAN;
    lm_gemm(p->ta, p->tb, p->m, p->n, p->k, (float)p->alpha, fa, p->lda, fb, p->ldb,
            (float)p->beta, fc, p->ldc);
    lm_gemm64(p->ta, p->tb, p->m, p->n, p->k, p->alpha, a, p->lda, b, p->ldb, p->beta,
              c64, p->ldc);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->ldc; j++) {
            double want = j < p->n ? naive(p, a, b, c, i, j) : c[i * p->ldc + j];
            ck_assert_double_eq_tol(fc[i * p->ldc + j], want, 1e-5 + 1e-6 * (double)p->k);
            ck_assert_double_eq_tol(c64[i * p->ldc + j], want, 1e-12);
        }
    lm_release(a), lm_release(b), lm_release(c), lm_release(c64);
    lm_release(fa), lm_release(fb), lm_release(fc);
}

START_TEST(gemm_all_shapes)
{
    static const int64_t size[][3] = { { 1, 1, 1 }, { 1, 7, 5 }, { 7, 1, 5 }, { 5, 7, 1 },
        { 1, 64, 33 }, { 33, 1, 64 }, { 3, 4, 5 }, { 17, 19, 23 }, { 4, 3, 0 },
        { 1, 3, 0 } };
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int t = 0; t < 16; t++) {
            struct product p = { .ta = t & 1 ? 't' : 'n', .tb = t & 2 ? 't' : 'n',
                .m = size[s][0], .n = size[s][1], .k = size[s][2],
                .alpha = t & 4 ? 0.5 : 1, .beta = t & 8 ? -0.75 : 0 };
            int64_t pad = t & 4 ? 3 : 0;        /* rows longer than the matrix */
            p.lda = (p.ta == 't' ? p.m : p.k) + pad;
            p.ldb = (p.tb == 't' ? p.k : p.n) + pad;
            p.ldc = p.n + pad;
            check_product(&p);
        }
    float none = 7;
    lm_gemm('n', 'n', 0, 1, 1, 1, &none, 1, &none, 1, 0, &none, 1);
    ck_assert_float_eq(none, 7);
}
END_TEST

START_TEST(gemv_both_ways)
{
    enum { M = 9, N = 13, LD = 15 };
    double *a = random_doubles(M * LD, 1), *x = random_doubles(LD, 2);
    float *fa = to_float(a, M * LD), *fx = to_float(x, LD), y[LD];
    for (int t = 0; t < 2; t++) {
        int out = t ? N : M, in = t ? M : N;
        for (int i = 0; i < LD; i++)
            y[i] = 2;
        lm_gemv(t ? 't' : 'n', M, N, 0.5f, fa, LD, fx, 0.25f, y);
        for (int i = 0; i < out; i++) {
            double sum = 0;
            for (int j = 0; j < in; j++)
                sum += (t ? a[j * LD + i] : a[i * LD + j]) * x[j];
            ck_assert_double_eq_tol(y[i], 0.5 * sum + 0.5, 1e-5);
        }
        ck_assert_float_eq(y[out], 2);
    }
    lm_gemv('n', 2, 0, 1, fa, LD, fx, 0.5f, y);
    lm_gemv('n', 0, 2, 1, fa, LD, fx, 0, y);
    lm_release(a), lm_release(x), lm_release(fa), lm_release(fx);
}
END_TEST

START_TEST(syrk_lower)
{
    enum { M = 21, N = 10, LD = 12 };
    double *a = random_doubles(M * LD, 5);
    float *fa = to_float(a, M * LD), c[N * LD];
    for (int i = 0; i < N * LD; i++)
        c[i] = 3;
    lm_syrk(M, N, fa, LD, 2, c, LD);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < LD; j++) {
            double sum = 0;
            for (int l = 0; l < M && j <= i; l++)
                sum += a[l * LD + i] * a[l * LD + j];
            ck_assert_double_eq_tol(c[i * LD + j], j <= i ? sum + 6 : 3, 1e-5);
        }
    lm_syrk(0, N, fa, LD, 0, c, LD);
    ck_assert_float_eq(c[0], 0);
    ck_assert_float_eq(c[1], 3);
    lm_release(a), lm_release(fa);
}
END_TEST

/* Order n, rows of ld; above the diagonal a mark that must stay. */
static double *positive_definite(int64_t n, int64_t ld)
{
    double *g = random_doubles(n * n, 7), *a = random_doubles(n * ld, 8);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < ld; j++) {
            a[i * ld + j] = j > i ? 1234 : i == j ? 0.1 : 0;
            for (int64_t l = 0; l < n && j <= i; l++)
                a[i * ld + j] += g[i * n + l] * g[j * n + l];
        }
    lm_release(g);
    return a;
}

/* L by the textbook recurrence. */
static void naive_cholesky(double *a, int64_t n, int64_t ld)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = j; i < n; i++) {
            double s = a[i * ld + j];
            for (int64_t l = 0; l < j; l++)
                s -= a[i * ld + l] * a[j * ld + l];
            a[i * ld + j] = i == j ? sqrt(s) : s / a[j * ld + j];
        }
}

START_TEST(cholesky_factor)
{
    static const int64_t order[] = { 1, 2, 5, 70, 200 };
    for (size_t o = 0; o < sizeof order / sizeof *order; o++) {
        struct lm_err e;
        int64_t n = order[o], ld = n + 3;
        double *a = positive_definite(n, ld), *b = positive_definite(n, ld);
        ck_assert_ok(lm_cholesky(a, n, ld, &e), e);
        naive_cholesky(b, n, ld);
        for (int64_t i = 0; i < n * ld; i++)
            ck_assert_double_eq_tol(a[i], b[i], 1e-8);
        lm_release(a), lm_release(b);
    }
}
END_TEST

/* X (L L^T)^-1 for a leading part of L: multiplied back it is X. */
START_TEST(cholesky_solve_leading)
{
    enum { N = 40, LD = 43, M = 6, LDX = 50 };
    struct lm_err e;
    double *a = positive_definite(N, LD), *l = positive_definite(N, LD);
    ck_assert_ok(lm_cholesky(l, N, LD, &e), e);
    for (int64_t n = 1; n <= N; n += 13) {
        double *x = random_doubles(M * LDX, 9), *x0 = random_doubles(M * LDX, 9);
        lm_cholesky_solve(l, n, LD, x, M, LDX);
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < LDX; j++) {
                double back = j < n ? 0 : x[i * LDX + j];
                for (int64_t k = 0; k < n && j < n; k++)
                    back += x[i * LDX + k] * (k > j ? a[k * LD + j] : a[j * LD + k]);
                ck_assert_double_eq_tol(back, x0[i * LDX + j], 1e-9);
            }
        lm_release(x), lm_release(x0);
    }
    lm_release(a), lm_release(l);
}
END_TEST

START_TEST(cholesky_refuses)
{
    struct lm_err e;
    double indefinite[] = { 1, 0, 2, 1 }, nan[] = { 1, 0, NAN, 1 }, zero[] = { 0 };
    double inf[] = { INFINITY }, first_nan[] = { NAN };
    ck_assert_int_eq(lm_cholesky(indefinite, 2, 2, &e), LM_EFAILED);
    ck_assert_ptr_nonnull(strstr(e.text, "pivot 2"));
    ck_assert_int_eq(lm_cholesky(nan, 2, 2, &e), LM_EFAILED);
    ck_assert_int_eq(lm_cholesky(zero, 1, 1, &e), LM_EFAILED);
    ck_assert_int_eq(lm_cholesky(inf, 1, 1, &e), LM_EFAILED);
    ck_assert_int_eq(lm_cholesky(first_nan, 1, 1, &e), LM_EFAILED);
    ck_assert_int_eq(lm_cholesky(zero, 2, 1, &e), LM_EBUG);
    ck_assert_int_eq(lm_cholesky(zero, 0, 1, &e), LM_OK);
}
END_TEST

START_TEST(eigenvectors)
{
    static const int64_t order[] = { 1, 2, 5, 70, 200 };
    for (size_t o = 0; o < sizeof order / sizeof *order; o++) {
        struct lm_err e;
        int64_t n = order[o];
        double *a = positive_definite(n, n), *v = lm_alloc((size_t)n * 8, "test"), *x;
        for (int64_t i = 0; i < n; i++)         /* only one triangle is meant */
            for (int64_t j = 0; j < i; j++)
                a[j * n + i] = a[i * n + j];
        x = lm_alloc((size_t)(n * n) * 8, "test");
        memcpy(x, a, (size_t)(n * n) * 8);
        ck_assert_ok(lm_eigen(x, n, v, &e), e);
        for (int64_t i = 0; i < n; i++) {
            ck_assert(i == 0 || v[i] <= v[i - 1]);
            for (int64_t r = 0; r < n; r++) {
                double ax = 0, dot = 0;
                for (int64_t k = 0; k < n; k++) {
                    ax += a[r * n + k] * x[i * n + k];
                    dot += x[r * n + k] * x[i * n + k];
                }
                ck_assert_double_eq_tol(ax, v[i] * x[i * n + r], 1e-9 * v[0]);
                ck_assert_double_eq_tol(dot, r == i, 1e-10);
            }
        }
        lm_release(a), lm_release(x), lm_release(v);
    }
}
END_TEST

START_TEST(eigenvectors_refused)
{
    struct lm_err e;
    double nan[] = { 1, NAN, NAN, 1 }, value[2], big = 0;
    ck_assert_int_eq(lm_eigen(nan, 2, value, &e), LM_EFAILED);
    ck_assert_int_eq(lm_eigen(&big, 1 << 20, value, &e), LM_EBUG);
    ck_assert_int_eq(lm_eigen(nan, 0, value, &e), LM_OK);
}
END_TEST

START_TEST(blas_has_a_name)
{
    ck_assert_ptr_nonnull(lm_linalg_core());
    ck_assert_str_ne(lm_linalg_core(), "");
}
END_TEST

Suite *math_suite(void)
{
    Suite *s = suite_create("linalg");
    TCase *c = tcase_create("linalg");
    tcase_add_test(c, gemm_all_shapes);
    tcase_add_test(c, gemv_both_ways);
    tcase_add_test(c, syrk_lower);
    tcase_add_test(c, cholesky_factor);
    tcase_add_test(c, cholesky_solve_leading);
    tcase_add_test(c, cholesky_refuses);
    tcase_add_test(c, eigenvectors);
    tcase_add_test(c, eigenvectors_refused);
    tcase_add_test(c, blas_has_a_name);
    suite_add_tcase(s, c);
    return s;
}
