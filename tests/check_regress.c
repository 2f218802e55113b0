/* SPDX-License-Identifier: Apache-2.0 */
/* check_regress.c -- the numbers behind linas, nsga3 and mask_mutation, each against
 * another way to get them: ridge against the normal equations of its features, support
 * vectors against the conditions of optimality, cross validation against one that refits
 * each fold, prices against the costs they are made of, reference directions against
 * binomials, what is nearest against all distances.                              */
#include <math.h>

#include "base/linalg.h"
#include "base/rng.h"
#include "niches.h"
#include "predictor.h"
#include "prices.h"
#include "regress.h"
#include "testing.h"

enum { N = 60, P = 14 };

struct lm_run { int unused; };

static bool never(struct lm_run *r)
{
    (void)r;
    return false;
}

static uint64_t seed(struct lm_run *r, const char *purpose, uint64_t index)
{
    (void)r;
    return lm_seed(5, purpose, index);
}

static const struct lm_host host = {
    .struct_size = sizeof host, .alloc = lm_alloc, .resize = lm_resize,
    .release = lm_release, .fail = lm_fail, .canceled = never, .seed = seed,
    .cholesky = lm_cholesky, .cholesky_solve = lm_cholesky_solve,
};
static struct lm_rng rng;

static void set_up(void)
{
    rng = lm_rng(11, "check_regress", 0);
}

static double unit(void)
{
    return lm_rng_unit(&rng);
}

/* ---- ridge ----------------------------------------------------------------- */
/* Solves a x = b, a [n][n], by elimination with row pivots; x over b. */
static void eliminate(double *a, double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t pivot = i;
        for (size_t r = i; r < n; r++)
            pivot = fabs(a[r * n + i]) > fabs(a[pivot * n + i]) ? r : pivot;
        for (size_t k = 0; k <= n; k++) {
            double *x = k < n ? &a[i * n + k] : &b[i];
            double *y = k < n ? &a[pivot * n + k] : &b[pivot], t = *x;
            *x = *y;
            *y = t;
        }
        for (size_t r = 0; r < n; r++) {
            double f = r == i ? 0 : a[r * n + i] / a[i * n + i];
            for (size_t k = 0; k < n; k++)
                a[r * n + k] -= f * a[i * n + k];
            b[r] -= f * b[i];
        }
    }
    for (size_t i = 0; i < n; i++)
        b[i] /= a[i * n + i];
}

/* w [p + 1], the intercept last and without a penalty: the normal equations. */
static void naive_ridge(const double *x, const double *y, size_t n, size_t p,
                        double alpha, double *w)
{
    size_t q = p + 1;
    double *a = calloc(q * q, sizeof *a);

    memset(w, 0, q * sizeof *w);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < q; j++) {
            double xj = j < p ? x[i * p + j] : 1;
            w[j] += xj * y[i];
            for (size_t k = 0; k < q; k++)
                a[j * q + k] += xj * (k < p ? x[i * p + k] : 1);
        }
    for (size_t j = 0; j < p; j++)
        a[j * q + j] += alpha;
    eliminate(a, w, q);
    free(a);
}

static double naive_predict(const double *w, const double *x, size_t p)
{
    double sum = w[p];

    for (size_t j = 0; j < p; j++)
        sum += w[j] * x[j];
    return sum;
}

static void draw(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 2 * unit() - 1;
}

static double product(const double *a, const double *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One tridiagonal form gives the predictions of every alpha. */
START_TEST(ridge_solves_the_normal_equations)
{
    static const size_t size[] = { 1, 2, 3, 17, N };
    static double x[N * P], y[N], k[N * N], mean[N], diag[N], off[N], work[N], z[N],
        u[N], w[P + 1], at[P], row[N];
    size_t n = size[_i];
    double bar = 0;

    draw(x, n * P);
    draw(y, n);
    draw(at, P);
    for (size_t i = 0; i < n; i++) {
        bar += y[i] / (double)n;
        for (size_t j = 0; j < n; j++)
            k[i * n + j] = product(x + i * P, x + j * P, P);
    }
    regress_centre(k, n, mean);
    for (size_t i = 0; i < n; i++) {
        z[i] = y[i] - bar;
        row[i] = product(at, x + i * P, P) - mean[i];
    }
    regress_tridiagonal(k, n, diag, off, work);
    regress_turn(k, n, z);
    regress_turn(k, n, row);
    for (double alpha = 0.1; alpha <= 10; alpha *= 10) {
        regress_solve(diag, off, n, alpha, z, u, work);
        naive_ridge(x, y, n, P, alpha, w);
        ck_assert_double_eq_tol(bar + product(row, u, n), naive_predict(w, at, P), 1e-9);
    }
}
END_TEST

/* Nothing to reflect: zero, diagonal. */
START_TEST(ridge_of_plain_matrices)
{
    double a[16] = { 0 }, diag[4], off[4], work[4], u[4], z[] = { 1, 2, 3, 4 };

    for (int scale = 0; scale < 2; scale++) {
        memset(a, 0, sizeof a);
        for (int i = 0; i < 4; i++)
            a[5 * i] = scale * (i + 1);
        regress_tridiagonal(a, 4, diag, off, work);
        regress_turn(a, 4, z);
        regress_solve(diag, off, 4, 2, z, u, work);
        for (int i = 0; i < 4; i++)
            ck_assert_double_eq_tol(u[i], (i + 1) / (2.0 + scale * (i + 1)), 1e-14);
    }
}
END_TEST

/* ---- support vectors ------------------------------------------------------- */
/* The conditions of optimality, see regress.c. */
static void check_svr(const struct svr *s)
{
    double sum = 0;
    size_t outside = 0, wrong = 0;

    for (size_t i = 0; i < s->n; i++) {
        double rest = s->y[i] - product(s->k + i * s->n, s->beta, s->n) - s->b;
        sum += s->beta[i];
        outside += fabs(s->beta[i]) > s->c;
        wrong += fabs(rest + s->b - s->rest[i]) > 1e-9 * s->c;
        wrong += s->beta[i] < s->c && rest > 1e-3;
        wrong += s->beta[i] > -s->c && rest < -1e-3;
    }
    ck_assert_double_eq_tol(sum, 0, 1e-9 * s->c);
    ck_assert_uint_eq(outside, 0);
    ck_assert_uint_eq(wrong, 0);
}

static void fill_kernel(double *k, const double *x, size_t n, double width)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double d = 0;
            for (size_t f = 0; f < P; f++)
                d += (x[i * P + f] - x[j * P + f]) * (x[i * P + f] - x[j * P + f]);
            k[i * n + j] = exp(-d / width);
        }
}

START_TEST(svr_is_optimal)
{
    static double x[N * P], y[N], k[N * N], beta[N], rest[N], again[N];
    struct svr s = { .k = k, .y = y, .n = N, .beta = beta, .rest = rest };
    size_t inside = 0;

    draw(x, sizeof x / sizeof *x);
    for (size_t i = 0; i < N; i++)
        y[i] = 20 + 10 * sin(3 * x[i * P]) * x[i * P + 1] + unit();
    memcpy(x + P, x, P * sizeof *x);        /* the same genome, with other labels */
    for (double width = 1; width <= 100; width *= 100) {
        fill_kernel(k, x, N, width);
        svr_start(&s);
        for (s.c = 1; s.c <= 100; s.c++) {
            svr_solve(&s);
            check_svr(&s);
            inside += s.inside;
        }
        memcpy(again, beta, sizeof again);
        s.c = 100;                          /* a path ends where a fresh start does */
        svr_start(&s);
        svr_solve(&s);
        for (size_t i = 0; i < N; i++)
            ck_assert_double_eq_tol(product(k + i * N, beta, N),
                                    product(k + i * N, again, N), 0.05);
    }
    ck_assert_uint_eq(inside, 0);           /* two labels of one genome cannot be met */
}
END_TEST

/* Two genomes: beta = (y0 - y1) / (2 - 2 k), within the box. */
START_TEST(svr_of_two)
{
    double k[] = { 1, 0.75, 0.75, 1 }, y[] = { 5, 2 }, beta[2], rest[2];
    struct svr s = { .k = k, .y = y, .n = 2, .beta = beta, .rest = rest };

    for (s.c = 1; s.c < 10; s.c += 3) {     /* 1, 4, 7; 6 would be enough */
        svr_start(&s);
        svr_solve(&s);
        ck_assert_double_eq_tol(beta[0], fmin(s.c, 6), 1e-12);
        ck_assert_double_eq(beta[1], -beta[0]);
        ck_assert(s.inside == (s.c > 6));
        ck_assert_double_eq_tol(s.b, 3.5, 1e-12);
    }
}
END_TEST

/* ---- predictors ------------------------------------------------------------ */
enum { GENES = 8, LEVELS = 5, ROWS = 83, WIDE = GENES * LEVELS };

static struct lm_gene gene[GENES + 2];
static const struct lm_gene *gene_at[GENES + 2];
static struct lm_problem problem;
static struct genes genes;
static struct lm_err err;

static void open_genes(size_t n_gene, double levels)
{
    problem = (struct lm_problem){ .struct_size = sizeof problem, .gene = gene_at,
                                   .n_gene = n_gene, .n_slot = n_gene };
    for (size_t i = 0; i < n_gene; i++) {
        gene[i] = (struct lm_gene){ .struct_size = sizeof *gene, .kind = LM_GENE_INT,
            .name = "g", .max = levels - 1, .step = 1, .slot = (uint32_t)i, .slots = 1 };
        gene_at[i] = &gene[i];
    }
    struct lm_args a = { .host = &host };
    genes = genes_of(&a, "test");
    ck_assert_ok(genes_open(&genes, &problem, &err), err);
}

static void draw_rows(union lm_value (*v)[GENES], const union lm_value **at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        genes_draw_all(&genes, v[i]);
        at[i] = v[i];
    }
}

/* A test fold's mean error, with the rest refitted: one-hot over values seen. */
static double refit_error(const union lm_value (*v)[GENES], const double *y, size_t lo,
                          size_t hi, double alpha, double unit_of)
{
    static double x[ROWS * WIDE], row[ROWS], w[WIDE + 1], test[WIDE];
    double error = 0, tiny = 0;
    size_t n = 0;

    for (size_t i = 0; i < ROWS; i++)
        tiny += 0.01 * fabs(y[i] / unit_of) / ROWS;
    memset(x, 0, sizeof x);
    for (size_t i = 0; i < ROWS; i++) {
        if (i >= lo && i < hi)
            continue;
        for (size_t g = 0; g < GENES; g++)
            x[n * WIDE + g * LEVELS + (size_t)v[i][g].integer] = 1;
        row[n++] = y[i] / unit_of;
    }
    naive_ridge(x, row, n, WIDE, alpha, w);
    for (size_t i = lo; i < hi; i++) {
        memset(test, 0, sizeof test);
        for (size_t g = 0; g < GENES; g++)
            test[g * LEVELS + (size_t)v[i][g].integer] = 1;
        error += fabs(naive_predict(w, test, WIDE) - y[i] / unit_of)
               / fmax(fabs(y[i] / unit_of), tiny);
    }
    return error / (double)(hi - lo);
}

/* An additive number is left to ridge, whose error is that of folds fitted anew; one
 * that is not goes to support vectors, which keep the conditions of optimality. */
START_TEST(predictor_chooses)
{
    static union lm_value v[ROWS][GENES], fresh[20][GENES];
    static double y[ROWS][2], first[ROWS], cost[GENES][LEVELS], out[2];
    const union lm_value *at[ROWS], *fresh_at[20];
    struct predictor p = { .h = &host, .genes = &genes, .n_target = 2 };
    double error = 0, worst = 0;
    size_t lo = 0;

    open_genes(GENES, LEVELS);
    draw_rows(v, at, ROWS);
    draw_rows(fresh, fresh_at, 20);
    for (size_t i = 0; i < WIDE; i++)
        cost[i / LEVELS][i % LEVELS] = unit();
    for (size_t i = 0; i < ROWS; i++) {
        y[i][0] = 300 + 3 * unit();
        y[i][1] = v[i][0].integer == v[i][1].integer ? 900 : 200;
        for (size_t g = 0; g < GENES; g++)
            y[i][0] += 100 * cost[g][v[i][g].integer];
        first[i] = y[i][0];
    }
    ck_assert_ok(predictor_fit(&p, at, *y, ROWS, &err), err);
    ck_assert(!p.model[0].svr && p.model[1].svr);
    ck_assert_double_eq(p.model[0].unit, 10);
    for (size_t k = 0; k < 5; k++) {
        size_t hi = lo + ROWS / 5 + (k < ROWS % 5);
        error += refit_error(v, first, lo, hi, p.model[0].choice, 10) / 5;
        lo = hi;
    }
    ck_assert_double_eq_tol(p.model[0].error, error, 1e-9);
    for (size_t i = 0; i < 20; i++) {
        double truth = 301.5;
        for (size_t g = 0; g < GENES; g++)
            truth += 100 * cost[g][fresh[i][g].integer];
        predictor_eval(&p, fresh[i], out);
        worst = fmax(worst, fabs(out[0] / truth - 1));
    }
    ck_assert_double_lt(worst, 0.03);
    for (size_t i = 0; i < ROWS; i++) {
        double beta = p.model[1].weight[i], c = p.model[1].choice, rest;
        predictor_eval(&p, v[i], out);
        rest = (y[i][1] - out[1]) / p.model[1].unit;
        ck_assert(beta >= c || rest <= 2e-3);
        ck_assert(beta <= -c || rest >= -2e-3);
    }
    predictor_close(&p);
    genes_close(&genes);
}
END_TEST

/* Knots: values that no outcome had are predicted by those beside them; 48 values of two
 * genes are 16 features.                                                         */
START_TEST(predictor_interpolates)
{
    static union lm_value v[ROWS][GENES];
    static double y[ROWS];
    const union lm_value *at[ROWS];
    struct predictor p = { .h = &host, .genes = &genes, .n_target = 1, .knots = 8 };
    double out, worst = 0;

    open_genes(2, 48);
    draw_rows(v, at, ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        if (v[i][0].integer >= 20 && v[i][0].integer < 25)
            v[i][0].integer = 25;
        y[i] = 10 + 3 * (double)v[i][0].integer + (double)v[i][1].integer;
    }
    ck_assert_ok(predictor_fit(&p, at, y, ROWS, &err), err);
    ck_assert_uint_eq(p.n_feature, 16);
    for (int64_t x = 20; x < 25; x++) {
        v[0][0].integer = x;
        predictor_eval(&p, v[0], &out);
        worst = fmax(worst, fabs(out / (10 + 3 * (double)x + (double)v[0][1].integer)
                                 - 1));
    }
    ck_assert_double_lt(worst, 0.03);
    predictor_close(&p);
    genes_close(&genes);
}
END_TEST

/* ---- prices ---------------------------------------------------------------- */
/* Before anything but one genome is known all genes cost alike; what is linear is then
 * learned exactly.  A partial price that nobody broke widens what is tried.      */
START_TEST(prices_are_learned)
{
    static union lm_value v[ROWS][GENES];
    static double cost[GENES];
    const union lm_value *at[ROWS];
    struct prices s = { 0 };
    union lm_value full[GENES];
    double excess[ROWS], worst = 0, spread;

    open_genes(GENES, LEVELS);
    ck_assert_ok(prices_open(&s, &genes, 1, &err), err);
    draw_rows(v, at, ROWS);
    for (size_t g = 0; g < GENES; g++) {
        cost[g] = unit();
        full[g].integer = LEVELS - 1;
    }
    for (size_t i = 0; i < ROWS; i++) {
        excess[i] = -0.8;
        for (size_t g = 0; g < GENES; g++)
            excess[i] += cost[g] * (double)v[i][g].integer;
    }
    ck_assert(isnan(prices_excess(&s, 0, full)));
    prices_tell(&s, 0, full, 0.25);
    full[0].integer = 0;
    ck_assert_double_eq_tol(prices_excess(&s, 0, full), 1.25 * 7 / 8 - 1, 1e-12);
    prices_close(&s);
    ck_assert_ok(prices_open(&s, &genes, 1, &err), err);
    for (size_t i = 0; i < ROWS / 2; i++)
        prices_tell(&s, 0, v[i], excess[i]);
    ck_assert_ok(prices_learn(&s, &err), err);
    for (size_t i = ROWS / 2; i < ROWS; i++)
        worst = fmax(worst, fabs(prices_excess(&s, 0, v[i]) - excess[i]));
    ck_assert_double_lt(worst, 1e-3);
    for (size_t g = 0; g < GENES; g++)
        ck_assert_double_eq_tol(prices_step(&s, 0, g), cost[g], 1e-3);
    for (size_t i = ROWS / 2; i < ROWS; i++)
        prices_tell(&s, 0, v[i], excess[i]);
    ck_assert_ok(prices_learn(&s, &err), err);
    spread = s.price[0].spread;
    ck_assert_double_lt(spread, 1e-3);
    ck_assert_ok(prices_learn(&s, &err), err);
    ck_assert_double_ge(s.price[0].spread, 0.01);
    prices_close(&s);
    genes_close(&genes);
}
END_TEST

/* ---- reference directions -------------------------------------------------- */
static double choose(size_t n, size_t k)
{
    return k == 0 || k == n ? 1 : choose(n - 1, k - 1) + choose(n - 1, k);
}

static struct niches open_niches(size_t n_obj, size_t divisions, size_t inner,
                                 size_t most)
{
    struct niches s = { .h = &host, .tag = "test", .n_obj = n_obj };

    ck_assert_ok(niches_open(&s, divisions, inner, most, &err), err);
    return s;
}

START_TEST(directions_are_all)
{
    for (size_t m = 1; m <= 6; m++)
        for (size_t p = 1; p <= 6; p++) {
            struct niches s = open_niches(m, p, 0, 10000);
            size_t bad = 0, same = 0;
            ck_assert_uint_eq(s.n, (size_t)choose(m + p - 1, p));
            for (size_t i = 0; i < s.n; i++) {
                const double *w = s.direction + i * m;
                double sum = 0;
                bad += fabs(product(w, w, m) - 1) > 1e-12;
                for (size_t j = 0; j < m; j++)
                    sum += w[j];
                for (size_t j = 0; j < m; j++) {
                    double steps = w[j] / sum * (double)p;
                    bad += w[j] < 0 || fabs(steps - floor(steps + 0.5)) > 1e-9;
                }
                for (size_t k = 0; k < i; k++)
                    same += product(w, s.direction + k * m, m) > 1 - 1e-9;
            }
            ck_assert_uint_eq(bad, 0);
            ck_assert_uint_eq(same, 0);
            niches_close(&s);
        }
}
END_TEST

START_TEST(directions_fit_the_population)
{
    struct niches s = open_niches(3, 0, 0, 92), two;

    ck_assert_uint_eq(s.n, 91);             /* 12 divisions, as in the paper */
    niches_close(&s);
    two = open_niches(8, 3, 2, 156);
    ck_assert_uint_eq(two.n, 156);          /* 120 + 36, likewise */
    niches_close(&two);
    s = open_niches(2, 0, 0, 40);
    ck_assert_uint_eq(s.n, 40);
    niches_close(&s);
    s = (struct niches){ .h = &host, .tag = "test", .n_obj = 5 };
    ck_assert_int_eq(niches_open(&s, 0, 0, 4, &err), LM_ECONFIG);
    niches_close(&s);
    ck_assert_uint_eq(niches_count(40, 1000), SIZE_MAX);
}
END_TEST

/* Distance from the line through 0 along w, from its definition. */
static double far_from(const double *x, const double *w, size_t m)
{
    double along = product(x, w, m) / product(w, w, m), sum = 0;

    for (size_t j = 0; j < m; j++)
        sum += (x[j] - along * w[j]) * (x[j] - along * w[j]);
    return sqrt(sum);
}

START_TEST(nearest_is_nearest)
{
    for (size_t m = 1; m <= 5; m++) {
        struct niches s = open_niches(m, 0, 0, 100);
        double f[5], x[5], distance;

        for (size_t j = 0; j < m; j++) {
            s.ideal[j] = unit();
            s.scale[j] = 0.1 + unit();
        }
        for (int i = 0; i < 200; i++) {
            double best = INFINITY;
            for (size_t j = 0; j < m; j++) {
                f[j] = s.ideal[j] + 3 * unit();
                x[j] = (f[j] - s.ideal[j]) / s.scale[j];
            }
            for (size_t k = 0; k < s.n; k++)
                best = fmin(best, far_from(x, s.direction + k * m, m));
            size_t found = niches_nearest(&s, f, &distance);
            if (fabs(distance - best) > 1e-6
                || fabs(far_from(x, s.direction + found * m, m) - best) > 1e-9)
                ck_abort_msg("%g, not %g, in %zu objectives", distance, best, m);
        }
        niches_close(&s);
    }
}
END_TEST

/* Intercepts of a plane are its scale; points on none fall back to their extent. */
START_TEST(normalised_by_intercepts)
{
    static const double front[][3] = { { 3, 1, 1 }, { 1, 5, 1 }, { 1, 1, 9 },
                                       { 1.6, 2.2, 3.4 } };
    static const double flat[][3] = { { 3, 1, 4 }, { 1, 5, 4 } };
    const double *f[4];
    struct niches s = open_niches(3, 4, 0, 100);

    for (int i = 0; i < 4; i++)
        f[i] = front[i];
    niches_update(&s, f, 4, 4);
    for (int j = 0; j < 3; j++) {
        ck_assert_double_eq(s.ideal[j], 1);
        ck_assert_double_eq_tol(s.scale[j], 2 << j, 1e-9);
    }
    niches_close(&s);
    s = open_niches(3, 4, 0, 100);
    for (int i = 0; i < 2; i++)
        f[i] = flat[i];
    niches_update(&s, f, 2, 2);
    ck_assert_double_eq_tol(s.scale[0], 2, 1e-9);
    ck_assert_double_eq_tol(s.scale[1], 4, 1e-9);
    ck_assert_double_eq(s.scale[2], 1);
    niches_close(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("regress");
    TCase *t = tcase_create("regress");

    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, ridge_solves_the_normal_equations, 0, 5);
    tcase_add_test(t, ridge_of_plain_matrices);
    tcase_add_test(t, svr_is_optimal);
    tcase_add_test(t, svr_of_two);
    tcase_add_test(t, predictor_chooses);
    tcase_add_test(t, predictor_interpolates);
    tcase_add_test(t, prices_are_learned);
    tcase_add_test(t, directions_are_all);
    tcase_add_test(t, directions_fit_the_population);
    tcase_add_test(t, nearest_is_nearest);
    tcase_add_test(t, normalised_by_intercepts);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
