/* SPDX-License-Identifier: Apache-2.0 */
/* check_search_models.c -- the strategies tpe and bayes: their numeric parts against
 * sampling, closed forms and plain sums; that they find more than random search; what
 * they cost.                                                                    */
#include <math.h>

#include "../plugins/search/gp.h"
#include "../plugins/search/improve.h"
#include "../plugins/search/parzen.h"
#include "base/linalg.h"
#include "base/rng.h"
#include "check_search.h"
#include "search_rig.h"

static struct rig_problem p;
static struct rig_log logged;
static struct lm_err err;

/* ---- estimators of tpe ----------------------------------------------------- */
/* Each observation by itself: a normal density at the cells, cut off and scaled. */
static void naive_table(const double *count, int n, double prior, double *out)
{
    double h = parzen_width(count, (size_t)n), total = prior;

    for (int i = 0; i < n; i++)
        out[i] = prior / n;
    for (int c = 0; c < n; c++) {
        double sum = 0;
        total += count[c];
        for (int i = 0; i < n; i++)
            sum += exp(-(i - c) * (i - c) / (2 * h * h));
        for (int i = 0; i < n; i++)
            out[i] += count[c] * exp(-(i - c) * (i - c) / (2 * h * h)) / sum;
    }
    for (int i = 0; i < n; i++)
        out[i] /= total;
}

START_TEST(densities_sum_to_one)
{
    static const size_t sizes[] = { 1, 2, 3, 25, PARZEN_CELLS };
    double count[PARZEN_CELLS], table[PARZEN_CELLS], kernel[PARZEN_CELLS + 1],
           naive[PARZEN_CELLS];
    struct lm_rng r = lm_rng(5, "densities", 0);

    for (int trial = 0; trial < 40; trial++) {
        size_t n = sizes[trial % 5];
        double prior = trial % 2 ? 1 : 0.01, sum[2] = { 0 }, total = prior;
        for (size_t i = 0; i < n; i++)
            total += count[i] = floor(lm_rng_unit(&r) * (trial % 3 ? 4 : 1.1));
        parzen_table(count, n, prior, true, table, kernel);
        naive_table(count, (int)n, prior, naive);
        for (size_t i = 0; i < n; i++) {
            ck_assert_double_eq_tol(table[i], naive[i], 1e-13);
            sum[0] += table[i];
        }
        parzen_table(count, n, prior, false, table, NULL);
        for (size_t i = 0; i < n; i++) {
            ck_assert_double_eq_tol(table[i], (count[i] + prior / (double)n) / total,
                                    1e-13);
            sum[1] += table[i];
        }
        ck_assert_double_eq_tol(sum[0], 1, 1e-12);
        ck_assert_double_eq_tol(sum[1], 1, 1e-12);
    }
    /* what agrees stays wide: range / (1 + n), or twenty equal ones would never move */
    memset(count, 0, sizeof count);
    count[3] = 20;
    ck_assert_double_eq_tol(parzen_width(count, 42), 2, 1e-12);
    ck_assert_double_eq_tol(parzen_share(3, 7, 1), 3.5 / 8, 1e-15);
}
END_TEST

START_TEST(draws_follow_the_table)
{
    static const double table[] = { 0.5, 0, 0.125, 0.375 };
    int seen[4] = { 0 };

    for (int i = 0; i < 1000; i++)
        seen[parzen_draw(table, 4, (i + 0.5) / 1000)]++;
    ck_assert(seen[0] == 500 && seen[1] == 0 && seen[2] == 125 && seen[3] == 375);
}
END_TEST

/* ---- improvement ----------------------------------------------------------- */
/* The mean gain of 250,000 samples, five standard errors of it wide. */
START_TEST(improvement_is_that_of_samples)
{
    static const double where[][4] = {          /* mean, mean, sd, sd */
        { 0.5, 0.5, 0.3, 0.2 }, { 0.2, 0.9, 0.05, 0.4 }, { 1.2, -0.1, 0.5, 0.1 },
        { 0.9, 0.9, 0.3, 0.3 },
    };
    const double reference[2] = { 1.1, 1.2 };
    enum { SAMPLES = 250000 };

    for (int t = 0; t < 4; t++) {
        struct lm_rng r = lm_rng(9, "improvement", (uint64_t)t);
        double front[8][2], mean = 0, square = 0, exact, base;
        size_t n = t == 3 ? 0 : 6, kept;
        for (size_t i = 0; i < n; i++) {
            front[i][0] = lm_rng_unit(&r);
            front[i][1] = 1.3 - front[i][0] - 0.3 * lm_rng_unit(&r);
        }
        base = front_area(front[0], n, reference);
        for (int k = 0; k < SAMPLES; k++) {
            double u = sqrt(-2 * log(1 - lm_rng_unit(&r))), gain;
            double a = 6.283185307179586 * lm_rng_unit(&r);
            front[n][0] = where[t][0] + where[t][2] * u * cos(a);
            front[n][1] = where[t][1] + where[t][3] * u * sin(a);
            gain = front_area(front[0], n + 1, reference) - base;
            mean += gain / SAMPLES;
            square += gain * gain / SAMPLES;
        }
        kept = improve_front(front, n, reference);
        exact = improve_two((const double (*)[2])front, kept, reference, where[t],
                            where[t] + 2);
        ck_assert_double_gt(exact, 0);
        ck_assert_double_eq_tol(exact, mean, 5 * sqrt(square / SAMPLES));
    }
}
END_TEST

START_TEST(improvement_in_closed_form)
{
    double front[][2] = { { 0.7, 0.2 }, { 0.2, 0.6 }, { 0.7, 0.6 }, { 2, 0 },
                          { 0.2, 0.9 } };
    const double reference[2] = { 1, 1 }, sure[2] = { 1e-9, 1e-9 };
    const double at[2] = { 0.5, 0.1 }, behind[2] = { 0.8, 0.7 };

    ck_assert_uint_eq(improve_front(front, 5, reference), 2);
    ck_assert(front[0][0] == 0.2 && front[0][1] == 0.6 && front[1][0] == 0.7);
    /* a certain point: (0.7 - 0.5)(0.6 - 0.1) + (1 - 0.7)(0.2 - 0.1) */
    ck_assert_double_eq_tol(improve_two((const double (*)[2])front, 2, reference, at,
                                        sure), 0.13, 1e-8);
    ck_assert_double_eq_tol(improve_two((const double (*)[2])front, 2, reference, behind,
                                        sure), 0, 1e-12);
    ck_assert_double_eq_tol(improve_one(2, 2, 3), 3 / sqrt(2 * 3.141592653589793), 1e-12);
    ck_assert_double_eq_tol(improve_log_chance(0, 0, 5), log(0.5), 1e-14);
    /* both sides of where the form changes, and beyond what a double can hold */
    ck_assert_double_eq_tol(improve_log_chance(0, 29.999999, 1),
                            improve_log_chance(0, 30.000001, 1), 2e-3);
    ck_assert_double_lt(improve_log_chance(0, 60, 1), improve_log_chance(0, 50, 1));
    ck_assert(isfinite(improve_log_chance(0, 1e6, 1)));
}
END_TEST

/* ---- processes ------------------------------------------------------------- */
enum { TOLD = 24, ASKED = 70 };
static const struct lm_host host = {
    .alloc = lm_alloc, .resize = lm_resize, .release = lm_release, .fail = lm_fail,
    .gemm64 = lm_gemm64, .cholesky = lm_cholesky, .cholesky_solve = lm_cholesky_solve,
};

static void mixed(void)
{
    rig_problem_init(&p, 1);
    rig_int(&p, 0, 16, 128, 8, 128);
    rig_int(&p, 0, 7, 7, 1, 7);                 /* nothing to choose */
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_CHOICE, .n = 4 });
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_BOOL, .max = 1 });
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_SUBSET, .n = 70, .min = 3,
                                   .max = 70 });
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_REAL, .min = -2, .max = 3 });
}

/* r^2 of two genomes with the lengths of a model (order: int, bool, real, choice,
 * subset), gene by gene.                                                       */
static double naive_square(const struct gp *m, const union lm_value *a,
                           const union lm_value *b)
{
    double d[5] = { ((double)a[0].integer - (double)b[0].integer) / 112,
                    (double)a[3].integer - (double)b[3].integer,
                    (a[6].real - b[6].real) / 5, a[2].integer != b[2].integer, 0 };
    double sum = 0;
    int bits = 0;

    for (int i = 0; i < 70; i++)
        bits += (a[4 + i / 64].bits >> i % 64 & 1) != (b[4 + i / 64].bits >> i % 64 & 1);
    d[4] = sqrt(bits / 70.0);
    for (int k = 0; k < 5; k++)
        sum += d[k] * d[k] * exp(-2 * m->theta[k]);
    return sum;
}

static double naive_kernel(const struct gp *m, const union lm_value *a,
                           const union lm_value *b)
{
    double s = sqrt(5 * naive_square(m, a, b));
    return (1 + s + s * s / 3) * exp(-s);
}

/* Solves A x = b by elimination with pivots, b becomes x; returns log |det A|. */
static double eliminate(double a[TOLD][TOLD], double *b, int n)
{
    double det = 0;

    for (int k = 0; k < n; k++) {
        int best = k;
        for (int i = k; i < n; i++)
            best = fabs(a[i][k]) > fabs(a[best][k]) ? i : best;
        for (int j = 0; j < n; j++) {
            double t = a[k][j];
            a[k][j] = a[best][j];
            a[best][j] = t;
        }
        double t = b[k];
        b[k] = b[best];
        b[best] = t;
        det += log(fabs(a[k][k]));
        for (int i = k + 1; i < n; i++) {
            double by = a[i][k] / a[k][k];
            for (int j = k; j < n; j++)
                a[i][j] -= by * a[k][j];
            b[i] -= by * b[k];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++)
            b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
    return det;
}

struct fixture {
    struct genes g;
    struct gp_frame frame;
    struct gp_points told, asked;
    struct gp m;
    union lm_value genome[TOLD + ASKED][8];
    double y[TOLD];
};

static void open_fixture(struct fixture *x)
{
    mixed();
    memset(x, 0, sizeof *x);
    x->g = (struct genes){ .h = &host, .tag = "test", .state = 77 };
    ck_assert_ok(genes_open(&x->g, &p.p, &err), err);
    ck_assert_ok(gp_frame_open(&x->frame, &x->g, &err), err);
    ck_assert_uint_eq(x->frame.n, 5);
    ck_assert_uint_eq(x->frame.n_line, 3);
    ck_assert_ok(gp_points_reserve(&x->frame, &x->told, TOLD, &err), err);
    ck_assert_ok(gp_points_reserve(&x->frame, &x->asked, ASKED, &err), err);
    ck_assert_ok(gp_open(&x->m, &x->frame, -4, &err), err);
    ck_assert_ok(gp_reserve(&x->m, TOLD, &err), err);
    for (int i = 0; i < TOLD + ASKED; i++) {
        genes_draw_all(&x->g, x->genome[i]);
        gp_points_add(&x->frame, i < TOLD ? &x->told : &x->asked, x->genome[i]);
    }
    for (int i = 0; i < TOLD; i++)
        x->y[i] = 3 + (double)x->genome[i][0].integer / 50 + 2 * sin(x->genome[i][6].real)
                + (double)(x->genome[i][2].integer == 1);
}

static void close_fixture(struct fixture *x)
{
    gp_close(&x->m);
    gp_points_close(&x->frame, &x->told);
    gp_points_close(&x->frame, &x->asked);
    gp_frame_close(&x->frame);
    genes_close(&x->g);
    ck_assert_uint_eq(live_bytes(), 0);
}

/* K of the first n genomes told. */
static void naive_matrix(const struct fixture *x, int n, double k[TOLD][TOLD])
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            k[i][j] = naive_kernel(&x->m, x->genome[i], x->genome[j])
                    + (i == j ? exp(x->m.theta[5]) + 1e-8 : 0);
}

static void compare_predictions(struct fixture *x, int n)
{
    static double k[TOLD][TOLD];
    double mean[ASKED], sd[ASKED];

    gp_predict(&x->m, &x->asked, mean, sd);
    for (int q = 0; q < ASKED; q++) {
        double b[TOLD], c[TOLD] = { 0 }, at = 0, variance = 1;
        for (int i = 0; i < n; i++)
            b[i] = (x->y[i] - x->m.mean) / x->m.sd;
        naive_matrix(x, n, k);
        eliminate(k, b, n);
        for (int i = 0; i < n; i++)
            c[i] = naive_kernel(&x->m, x->genome[TOLD + q], x->genome[i]);
        for (int i = 0; i < n; i++)
            at += c[i] * b[i];
        memcpy(b, c, sizeof b);
        naive_matrix(x, n, k);
        eliminate(k, b, n);
        for (int i = 0; i < n; i++)
            variance -= c[i] * b[i];
        ck_assert_double_eq_tol(mean[q], x->m.mean + x->m.sd * at, 1e-6);
        ck_assert_double_eq_tol(sd[q], x->m.sd * sqrt(fmax(variance, 1e-9)), 1e-5);
    }
}

START_TEST(process_predicts_as_a_plain_solution)
{
    static struct fixture x;

    open_fixture(&x);
    x.told.n = TOLD - 1;
    ck_assert_ok(gp_fit(&x.m, &x.told, x.y, 20, &err), err);
    compare_predictions(&x, TOLD - 1);
    gp_points_add(&x.frame, &x.told, x.genome[TOLD - 1]);
    ck_assert_ok(gp_extend(&x.m, x.y[TOLD - 1], &err), err);
    compare_predictions(&x, TOLD);
    close_fixture(&x);
}
END_TEST

/* The slopes against differences; the evidence, but for its prior, against plain sums;
 * and steps lead up.                                                            */
START_TEST(process_climbs)
{
    static struct fixture x;
    static double k[TOLD][TOLD];
    double value, up, down, slope[6], b[TOLD], plain = 0;

    open_fixture(&x);
    ck_assert_ok(gp_fit(&x.m, &x.told, x.y, 0, &err), err);
    for (int i = 0; i < 6; i++)
        x.m.theta[i] = i == 5 ? -3 : 0.3 * i - 0.4;
    ck_assert_ok(gp_evidence(&x.m, &value, &err), err);
    memcpy(slope, x.m.slope, sizeof slope);
    for (int i = 0; i < 6; i++) {
        double at = x.m.theta[i], centre = i == 5 ? -4 : sqrt(2) + 0.5 * log(5);
        x.m.theta[i] = at + 1e-5;
        ck_assert_ok(gp_evidence(&x.m, &up, &err), err);
        x.m.theta[i] = at - 1e-5;
        ck_assert_ok(gp_evidence(&x.m, &down, &err), err);
        x.m.theta[i] = at;
        ck_assert_double_eq_tol(slope[i], (up - down) / 2e-5, 1e-4);
        plain -= (at - centre) * (at - centre) / (i == 5 ? 2 : 6);
    }
    naive_matrix(&x, TOLD, k);
    for (int i = 0; i < TOLD; i++)
        b[i] = (x.y[i] - x.m.mean) / x.m.sd;
    plain -= 0.5 * eliminate(k, b, TOLD);
    for (int i = 0; i < TOLD; i++)
        plain -= 0.5 * b[i] * (x.y[i] - x.m.mean) / x.m.sd;
    ck_assert_double_eq_tol(value, plain, 1e-7);
    ck_assert_ok(gp_fit(&x.m, &x.told, x.y, 30, &err), err);
    ck_assert_ok(gp_evidence(&x.m, &up, &err), err);
    ck_assert_double_gt(up, value + 1);
    close_fixture(&x);
}
END_TEST

/* ---- what they find -------------------------------------------------------- */
/* Every gene trades loss for size, some more than others, neighbours together. */
static enum lm_status trade(const struct rig_problem *r, const union lm_value *v,
                            double fidelity, double *f)
{
    double before = 0;

    (void)fidelity;
    f[0] = f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        double cut = 1 - (double)v[i].integer / r->gene[i].max;
        f[0] += (0.2 + (double)(i * 7 % 10) / 10) * cut * cut + 0.3 * cut * before;
        f[1] += (1 - cut) * (0.5 + (double)(i * 3 % 10) / 10);
        before = cut;
    }
    f[0] = expm1(0.3 * f[0]);
    return LM_OK;
}

static double median_area(const char *name, const char *options, rig_eval *eval)
{
    static const double reference[2][2] = { { 1.1, 10 }, { 20, 14 } };
    double area[5];

    for (int seed = 0; seed < 5; seed++) {
        struct rig s = { .name = name, .options = options, .eval = eval,
                         .seed = (uint64_t)seed + 1 };
        double *point, t;
        int at = seed;

        rig_problem_init(&p, 2);
        for (int i = 0; i < 12; i++)
            rig_int(&p, i, 0, eval == trade ? 8 : 100, 1, eval == trade ? 8 : 100);
        ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
        point = calloc(2 * logged.n, sizeof *point);
        for (size_t i = 0; i < logged.n; i++)
            memcpy(point + 2 * i, logged.trial[i].objective, 2 * sizeof *point);
        t = front_area(point, logged.n, reference[eval == trade]);
        for (; at > 0 && area[at - 1] > t; at--)
            area[at] = area[at - 1];
        area[at] = t;
        free(point);
        rig_log_free(&logged);
    }
    return area[2];
}

START_TEST(models_find_more_than_random)
{
    double random = median_area("random", "budget=160", zdt1);
    double few = median_area("random", "budget=160", trade);

    ck_assert_double_gt(median_area("tpe", "budget=160", zdt1), random + 0.8);
    ck_assert_double_gt(median_area("bayes", "budget=60", zdt1), random + 1.5);
    ck_assert_double_gt(median_area("tpe", "budget=160", trade), 1.01 * few);
    ck_assert_double_gt(median_area("bayes", "budget=60", trade), 1.05 * few);
}
END_TEST

static enum lm_status bowl(const struct rig_problem *r, const union lm_value *v,
                           double fidelity, double *f)
{
    (void)r; (void)fidelity;
    f[0] = f[1] = 0;
    for (int i = 0; i < 5; i++) {
        f[0] += pow((double)v[i].integer - 30 - 5 * i, 2);
        f[1] += (double)v[i].integer;
    }
    return v[0].integer > 60 ? LM_EINFEASIBLE : LM_OK;
}

/* One objective, within a bound that its minimum (200) breaks, where much can't be
 * built: of the sums of at most 150 the best has 10 less in each gene, 500.    */
START_TEST(bayes_meets_a_bound)
{
    struct rig s = { .name = "bayes", .options = "budget=60 startup=16", .eval = bowl };
    const struct rig_trial *t;

    rig_problem_init(&p, 1);
    for (int i = 0; i < 5; i++)
        rig_int(&p, i, 0, 100, 1, 100);
    p.objective[1].bound = 150;
    p.p.n_constraint = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_lt(rig_best(&logged), logged.n);
    t = &logged.trial[rig_best(&logged)];
    ck_assert_double_lt(t->objective[0], 700);
    ck_assert_double_le(t->objective[1], 150);
    rig_log_free(&logged);
}
END_TEST

START_TEST(bayes_refuses_three_objectives)
{
    struct rig s = { .name = "bayes", .eval = bowl };
    const struct lm_search *ops = rig_module("bayes")->ops;

    ck_assert_uint_eq(ops->max_objectives, 2);
    rig_problem_init(&p, 3);
    rig_int(&p, 0, 0, 9, 1, 9);
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "at most 2 objectives"));
}
END_TEST

/* Milliseconds of processor time for each proposal at 30 genes: promised are 2 at 600
 * trials and 200 at 100.                                                       */
START_TEST(models_are_quick)
{
    struct rig tpe = { .name = "tpe", .options = "budget=600", .eval = trade, .max = 16 };
    struct rig bayes = { .name = "bayes", .options = "budget=100", .eval = trade,
                         .max = 16 };

    rig_problem_init(&p, 2);
    for (int i = 0; i < 30; i++)
        rig_int(&p, i, 0, 24, 1, 24);
    ck_assert_ok(rig_run(&tpe, &p, &logged, &err), err);
    ck_assert_double_lt((double)logged.ticks * 1e3 / CLOCKS_PER_SEC / 600, 2);
    rig_log_free(&logged);
    ck_assert_ok(rig_run(&bayes, &p, &logged, &err), err);
    ck_assert_double_lt((double)logged.ticks * 1e3 / CLOCKS_PER_SEC / 100, 100);
    rig_log_free(&logged);
}
END_TEST

Suite *search_models(void)
{
    Suite *s = suite_create("search models");
    TCase *t = tcase_create("models");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, densities_sum_to_one);
    tcase_add_test(t, draws_follow_the_table);
    tcase_add_test(t, improvement_is_that_of_samples);
    tcase_add_test(t, improvement_in_closed_form);
    tcase_add_test(t, process_predicts_as_a_plain_solution);
    tcase_add_test(t, process_climbs);
    tcase_add_test(t, models_find_more_than_random);
    tcase_add_test(t, bayes_meets_a_bound);
    tcase_add_test(t, bayes_refuses_three_objectives);
    tcase_add_test(t, models_are_quick);
    suite_add_tcase(s, t);
    return s;
}
