/* SPDX-License-Identifier: Apache-2.0 */
/* check_search_lagrangian.c -- separable knapsacks, solved by an independent table; with
 * losses and sizes that add up badly; and what nsga2 makes of the solutions.     */
#include <math.h>

#include "base/rng.h"
#include "check_search.h"
#include "search_rig.h"

static struct rig_problem p;
static struct rig_log logged;
static struct lm_err err;

static void clean(void)
{
    rig_log_free(&logged);
}

enum { ITEMS = 14, TOP = 12 };
static double weight[ITEMS][TOP + 1], cost[ITEMS][TOP + 1];
static double shift, synergy, overhead;

/* Separable but for `synergy` (of losses) and `overhead` (of sizes, for every gene
 * but the first that is cut).  `shift`
 * is what other items do to the loss at a lower fidelity.                     */
static enum lm_status knapsack(const struct rig_problem *r, const union lm_value *v,
                               double fidelity, double *f)
{
    double cut = 0;
    int n_cut = 0;

    f[0] = fidelity < 1 ? shift : 0;
    f[1] = 1000;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        f[0] += cost[i][v[i].integer];
        f[1] += weight[i][v[i].integer];
        cut += (TOP - (double)v[i].integer) * (i % 2 ? 1 : -1);
        n_cut += v[i].integer < TOP;
    }
    f[0] += synergy * cut * cut;
    if (n_cut > 1)
        f[1] += overhead * (n_cut - 1);
    return LM_OK;
}

/* Random convex losses and whole sizes; `divisor` of all sizes. */
static void set_knapsack(uint64_t seed, int divisor)
{
    struct lm_rng r = lm_rng(seed, "knapsack", 0);

    rig_problem_init(&p, 2);
    for (int i = 0; i < ITEMS; i++) {
        double a = 0.1 + lm_rng_unit(&r), k = 1 + lm_rng_unit(&r);
        int64_t w = divisor * (int64_t)(1 + lm_rng_below(&r, 9));
        rig_int(&p, i, 0, TOP, 1, TOP);
        for (int l = 0; l <= TOP; l++) {
            weight[i][l] = (double)(w * l);
            cost[i][l] = a * pow((TOP - l) / 3.0, k);
        }
    }
    shift = synergy = overhead = 0;
}

static double dense_size(void)
{
    double sum = 1000;

    for (int i = 0; i < ITEMS; i++)
        sum += weight[i][TOP];
    return sum;
}

/* The least loss within a size, by a plain table over whole sizes. */
static double optimum(double size)
{
    static double best[2][16384];
    int room = (int)floor(size) - 1000, now = 0;

    ck_assert(room >= 0 && room < 16384);
    memset(best, 0, sizeof best);
    for (int i = 0; i < ITEMS; i++, now ^= 1)
        for (int c = 0; c <= room; c++) {
            double b = INFINITY;
            for (int l = 0; l <= TOP; l++)
                if (weight[i][l] <= c)
                    b = fmin(b, best[now][c - (int)weight[i][l]] + cost[i][l]);
            best[now ^ 1][c] = b;
        }
    return best[now][room];
}

/* The loss of the best trial of full fidelity not above a size. */
static double reached(double size)
{
    double best = INFINITY;

    for (size_t i = 0; i < logged.n; i++)
        if (logged.trial[i].fidelity == 1 && logged.trial[i].objective[1] <= size)
            best = fmin(best, logged.trial[i].objective[0]);
    return best;
}

static void solve(const char *options, const struct lm_reals *targets, double bound)
{
    struct rig s = { .name = "lagrangian", .options = options, .eval = knapsack,
                     .targets = targets };

    clean();
    p.objective[1].bound = bound;
    p.objective[1].reference = dense_size();
    p.p.n_constraint = bound < INFINITY;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
}

/* All levels measured, sizes with a common divisor: the optimum, for every target,
 * though at a lower fidelity all losses are higher.                          */
START_TEST(lagrangian_finds_the_optimum)
{
    static const double shares[] = { 0.9, 0.75, 0.6, 0.7 };
    static const struct lm_reals targets = { shares, 4 };

    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 1 + (int)seed);
        shift = 5;
        solve("points=12 rounds=1", &targets, INFINITY);
        ck_assert_uint_eq(logged.n, 1 + ITEMS * TOP + 4);
        for (int k = 0; k < 4; k++) {
            double size = shares[k] * dense_size();
            ck_assert_double_eq_tol(reached(size), optimum(size), 1e-9);
        }
    }
    clean();
}
END_TEST

/* Sizes that are no whole numbers go into rounded bins: never above the target,
 * and next to no worse than the optimum of a slightly smaller size.          */
START_TEST(lagrangian_with_real_sizes)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 3);
        double size = 0.7 * dense_size(), exact = optimum(size * 0.998);
        for (int i = 0; i < ITEMS; i++)
            for (int l = 0; l <= TOP; l++)
                weight[i][l] *= 1 + 1e-4 * sin(i);
        solve("points=12 rounds=1", NULL, size);
        ck_assert_double_le(reached(size), exact * 1.001);
    }
    clean();
}
END_TEST

/* A third of the levels measured: near the optimum, and the bound holds. */
START_TEST(lagrangian_interpolates)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 2);
        double size = floor(0.65 * dense_size());
        solve("points=4 rounds=1", NULL, size);
        ck_assert_uint_le(logged.n, 1 + ITEMS * 4 + 11);
        ck_assert_double_le(reached(size), optimum(size) * 1.05);
    }
    clean();
}
END_TEST

/* Sites in falling order of layers, all but one gene as in the base. */
START_TEST(lagrangian_measures_single_sites)
{
    set_knapsack(1, 2);
    for (size_t i = 0; i < ITEMS; i++)
        p.gene[i].site.layer = (int32_t)(i * 3 % ITEMS);
    solve("points=3 rounds=1 fidelity=0.125", NULL, INFINITY);
    int32_t last = INT32_MAX;
    for (size_t i = 0; i < 1 + 3 * ITEMS; i++) {
        size_t changed = ITEMS, n = 0;
        for (size_t g = 0; g < ITEMS; g++)
            if (logged.trial[i].value[p.gene[g].slot].integer != TOP) {
                changed = g;
                n++;
            }
        ck_assert_double_eq(logged.trial[i].fidelity, 0.125);
        ck_assert_uint_eq(n, i > 0);
        if (i > 0) {
            ck_assert_int_le(p.gene[changed].site.layer, last);
            int64_t at = logged.trial[i].value[p.gene[changed].slot].integer;
            ck_assert(at == 0 || at == 6 || at == 10);  /* denser near TOP = 12 */
            last = p.gene[changed].site.layer;
        }
    }
    for (size_t i = 1 + 3 * ITEMS; i < logged.n; i++)
        ck_assert_double_eq(logged.trial[i].fidelity, 1);
    clean();
}
END_TEST

/* Losses that depend on each other: measuring again around the solution helps. */
START_TEST(lagrangian_rounds_improve)
{
    int better = 0;

    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 2);
        synergy = 0.02;
        double size = floor(0.7 * dense_size());
        solve("points=12 rounds=1", NULL, size);
        double once = reached(size);
        solve("points=12 rounds=4", NULL, size);
        ck_assert_double_le(reached(size), once);
        better += reached(size) < once * 0.98;
    }
    ck_assert_int_ge(better, 3);
    clean();
}
END_TEST

/* Sizes that do not add up: the bound holds all the same, and is nearly used. */
START_TEST(lagrangian_keeps_the_bound)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 2);
        overhead = 4;
        double size = floor(0.8 * dense_size()), used = 0;
        solve("points=6 rounds=1", NULL, size);
        size_t over = 0;
        for (size_t i = 1 + 6 * ITEMS; i < logged.n; i++)
            if (logged.trial[i].objective[1] <= size)
                used = fmax(used, logged.trial[i].objective[1]);
            else
                over++;
        ck_assert_uint_ge(over, 1);
        ck_assert_double_ge(used, 0.98 * size);
        ck_assert_double_lt(reached(size), INFINITY);
    }
    clean();
}
END_TEST

/* Whatever the budget, it is not exceeded; too little is said at once. */
START_TEST(lagrangian_budget)
{
    char options[64];
    struct rig s = { .name = "lagrangian", .options = "budget=15", .eval = knapsack };

    for (int budget = ITEMS + 2; budget < 200; budget += 7) {
        set_knapsack(3, 2);
        snprintf(options, sizeof options, "budget=%d rounds=5", budget);
        solve(options, NULL, floor(0.7 * dense_size()));
        ck_assert_uint_le(logged.n, (size_t)budget);
        ck_assert_double_lt(reached(floor(0.7 * dense_size())), INFINITY);
    }
    clean();
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "budget = 15 is too small"));
    rig_problem_init(&p, 1);
    rig_int(&p, 0, 0, 8, 1, 8);
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "two objectives"));
}
END_TEST

/* A target below all that can be reached: the smallest genome is proposed. */
START_TEST(lagrangian_out_of_reach)
{
    set_knapsack(2, 2);
    solve("rounds=2", NULL, 500);
    ck_assert_double_eq(reached(INFINITY), reached(1000));
    clean();
}
END_TEST

/* The default of shrink: lagrangian's solutions are where nsga2 goes on. */
START_TEST(chain_lagrangian_then_nsga2)
{
    struct rig first = { .name = "lagrangian", .options = "points=4 rounds=1" };
    struct rig second = { .name = "nsga2", .options = "population=20 budget=600" };
    struct rig_made made[2];
    struct lm_instance v[2];
    struct lm_instances stages = { v, 2 };
    struct rig s = { .name = "chain", .options = "pass=8", .stages = &stages,
                     .eval = knapsack };
    double size, exact, found, alone;

    set_knapsack(4, 2);
    synergy = 0.05;
    size = floor(0.7 * dense_size());
    exact = optimum(size);
    solve("points=4 rounds=1", NULL, size);
    alone = reached(size);
    clean();
    ck_assert_ok(rig_make(&first, &made[0], &err), err);
    ck_assert_ok(rig_make(&second, &made[1], &err), err);
    for (int i = 0; i < 2; i++)
        v[i] = (struct lm_instance){ made[i].ops, made[i].self, "stage" };
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    for (int i = 0; i < 2; i++)
        rig_unmake(&made[i]);
    found = reached(size);
    ck_assert_double_ge(found, exact);              /* synergy only adds to it */
    ck_assert_double_lt(found, 0.95 * alone);
    clean();
}
END_TEST

Suite *search_lagrangian(void)
{
    Suite *s = suite_create("search lagrangian");
    TCase *t = tcase_create("lagrangian");

    tcase_add_test(t, lagrangian_finds_the_optimum);
    tcase_add_test(t, lagrangian_with_real_sizes);
    tcase_add_test(t, lagrangian_interpolates);
    tcase_add_test(t, lagrangian_measures_single_sites);
    tcase_add_test(t, lagrangian_rounds_improve);
    tcase_add_test(t, lagrangian_keeps_the_bound);
    tcase_add_test(t, lagrangian_budget);
    tcase_add_test(t, lagrangian_out_of_reach);
    tcase_add_test(t, chain_lagrangian_then_nsga2);
    suite_add_tcase(s, t);
    return s;
}
