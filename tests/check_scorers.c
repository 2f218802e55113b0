/* SPDX-License-Identifier: Apache-2.0 */
/* check_scorers.c -- scores against their formulas in plain loops. */
#include <math.h>

#include "inst.h"
#include "toy.h"

enum { LAYERS = 2, FF = 24, HEADS = 6, GROUPS = 3 };
#define COLUMNS (HEADS * TOY_HEAD)

static struct lm_err e;
static struct lm_model *model;
static double squares[2][COLUMNS], grams[2][COLUMNS * COLUMNS], cosine;
static const struct toy shape = { .n_layer = LAYERS, .n_head = HEADS, .n_kv = GROUPS,
                                  .n_ff = FF };
static const struct lm_stats *const some = (const struct lm_stats *)squares;

static enum lm_status give(const struct lm_stats *s, uint32_t stat, uint32_t site,
                           int32_t layer, const double **out, int64_t *n,
                           struct lm_err *err)
{
    ck_assert(s == some);
    if (stat == LM_STAT_SUMSQ && (site == LM_SITE_MLP || site == LM_SITE_ATTN)) {
        *out = squares[site == LM_SITE_MLP];
        *n = site == LM_SITE_MLP ? FF : COLUMNS;
        return LM_OK;
    }
    if (stat == LM_STAT_GRAM) {
        *out = grams[site == LM_SITE_MLP];
        *n = site == LM_SITE_MLP ? FF * FF : COLUMNS * COLUMNS;
        return LM_OK;
    }
    if (stat != LM_STAT_COSINE)
        return lm_fail(err, LM_EBUG, "layer %d: no such statistic", layer);
    *out = &cosine;
    *n = 1;
    return LM_OK;
}

static void setup(void)
{
    model = toy_model(&shape);
    for (int i = 0; i < COLUMNS; i++) {
        squares[0][i] = 1 + i * i % 17;
        squares[1][i] = 1 + i * i % 13;
    }
    inst_stat = give;
}

static void teardown(void)
{
    lm_model_free(model);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

/* Sum over the rows of |w| (power 1) or w^2 (power 2) in column j. */
static double column(uint32_t role, int32_t layer, int64_t cols, int64_t j, int power)
{
    const float *w;
    double s = 0;

    ck_assert_ok(lm_model_floats(model, role, layer, &w, &e), e);
    for (int64_t i = 0; i < TOY_HIDDEN; i++)
        s += pow(fabs((double)w[i * cols + j]), power);
    return s;
}

static void compare(const struct inst *g, uint32_t site, int32_t layer, int n, bool wanda)
{
    const struct lm_scorer *ops = g->ops;
    bool mlp = site == LM_SITE_FFN_CHANNEL;
    int cols = mlp ? FF : COLUMNS, width = cols / n;
    double got[COLUMNS];

    ck_assert(ops->sites & LM_BIT(site));
    ck_assert_ok(ops->score(g->self, site, layer, got, n, &e), e);
    for (int i = 0; i < n; i++) {
        double want = 0;

        for (int j = i * width; j < (i + 1) * width; j++)
            want += column(mlp ? LM_W_DOWN : LM_W_O, layer, cols, j, wanda ? 1 : 2)
                * (wanda ? sqrt(squares[mlp][j]) : 1);
        want = wanda ? want : sqrt(want);
        ck_assert_msg(fabs(got[i] - want) < 1e-9 * want, "site %d: %g, not %g", i, got[i],
                      want);
    }
    ck_assert_int_eq(ops->score(g->self, site, layer, got, n + 1, &e), LM_EBUG);
}

START_TEST(weights_and_activations)
{
    static const char *const names[] = { "magnitude", "wanda" };
    struct inst g;

    for (int i = 0; i < 2; i++) {
        const struct lm_scorer *ops;

        inst_open(&g, "scorers", names[i], "", model, some);
        ops = g.ops;
        ck_assert_uint_eq(ops->needs, i ? LM_BIT(LM_STAT_SUMSQ) : 0);
        for (int32_t layer = 0; layer < LAYERS; layer++) {
            compare(&g, LM_SITE_FFN_CHANNEL, layer, FF, i);
            compare(&g, LM_SITE_HEAD, layer, HEADS, i);
            compare(&g, LM_SITE_KV_GROUP, layer, GROUPS, i);
        }
        inst_close(&g);
    }
}
END_TEST

/* Least error of the output when only the columns with kept[j] are left and
 * their weights are chosen anew: tr(W H W^T) - tr(W H_:S H_SS^-1 H_S: W^T), by
 * Gaussian elimination.                                                       */
static double error_without(const float *w, const double *h, int k, const bool *kept)
{
    static double a[COLUMNS][COLUMNS + TOY_HIDDEN];
    int at[COLUMNS], m = 0;
    double error = 0;

    for (int j = 0; j < k; j++)
        if (kept[j])
            at[m++] = j;
    for (int r = 0; r < TOY_HIDDEN; r++)
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++)
                error += (double)w[r * k + i] * h[i * k + j] * w[r * k + j];
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < m; j++)
            a[i][j] = h[at[i] * k + at[j]];
        for (int r = 0; r < TOY_HIDDEN; r++) {
            a[i][m + r] = 0;
            for (int j = 0; j < k; j++)
                a[i][m + r] += h[at[i] * k + j] * w[r * k + j];
        }
    }
    for (int p = 0; p < m; p++) {       /* b^T A^-1 b = sum of b_p^2 / pivot_p */
        for (int r = 0; r < TOY_HIDDEN; r++)
            error -= a[p][m + r] * a[p][m + r] / a[p][p];
        for (int i = p + 1; i < m; i++) {
            double f = a[i][p] / a[p][p];
            for (int j = p; j < m + TOY_HIDDEN; j++)
                a[i][j] -= f * a[p][j];
        }
    }
    return error;
}

/* Gram matrices of correlated inputs, and a copy with obs' damping. */
static void make_gram(double *h, double *damped, int k)
{
    double mean = 0;

    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) {
            h[i * k + j] = 0;
            for (int t = 0; t < 3 * k; t++)
                h[i * k + j] += sin(1.3 * t * (i + 1)) * sin(1.3 * t * (j + 1))
                    + 0.3 * cos(t + i) * cos(t + j);
        }
    for (int i = 0; i < k; i++)
        mean += h[i * k + i] / k;
    memcpy(damped, h, (size_t)(k * k) * sizeof *h);
    for (int i = 0; i < k; i++)
        damped[i * k + i] += 1e-4 * mean;
}

START_TEST(surgeon_removes_the_cheapest_first)
{
    static double damped[COLUMNS * COLUMNS];
    struct inst g;
    double got[FF], group[GROUPS], before = 0;
    bool kept[COLUMNS];
    const float *w;

    make_gram(grams[1], damped, FF);
    inst_open(&g, "scorers", "obs", "", model, some);
    const struct lm_scorer *ops = g.ops;
    ck_assert_ok(ops->score(g.self, LM_SITE_FFN_CHANNEL, 1, got, FF, &e), e);
    ck_assert_ok(lm_model_floats(model, LM_W_DOWN, 1, &w, &e), e);
    for (int j = 0; j < FF; j++)
        kept[j] = true;
    for (int step = 0; step < FF; step++) {         /* one at a time, from scratch */
        int best = -1;
        double least = INFINITY;
        for (int j = 0; j < FF; j++) {
            if (!kept[j])
                continue;
            kept[j] = false;
            double cost = error_without(w, damped, FF, kept) - before;
            kept[j] = true;
            if (cost < least) {
                least = cost;
                best = j;
            }
        }
        ck_assert_msg(got[best] == step, "channel %d goes at %d, not %g", best, step,
                      got[best]);
        kept[best] = false;
        before += least;
    }
    make_gram(grams[0], damped, COLUMNS);
    ck_assert_ok(ops->score(g.self, LM_SITE_KV_GROUP, 0, group, GROUPS, &e), e);
    ck_assert_ok(lm_model_floats(model, LM_W_O, 0, &w, &e), e);
    for (int i = 0; i < GROUPS; i++) {
        for (int j = 0; j < COLUMNS; j++)
            kept[j] = j / (COLUMNS / GROUPS) != i;
        double want = error_without(w, damped, COLUMNS, kept);
        ck_assert_msg(fabs(group[i] - want) < 1e-6 * want, "group %d: %g, not %g", i,
                      group[i], want);
    }
    ck_assert_int_eq(ops->score(g.self, LM_SITE_FFN_CHANNEL, 1, got, FF + 1, &e),
                     LM_EBUG);
    inst_close(&g);
}
END_TEST

START_TEST(influence_is_one_less_cosine)
{
    struct inst g;
    const struct lm_scorer *ops;
    double got;

    inst_open(&g, "scorers", "block_influence", "", model, some);
    ops = g.ops;
    ck_assert_uint_eq(ops->needs, LM_BIT(LM_STAT_COSINE));
    cosine = 0.75;
    ck_assert_ok(ops->score(g.self, LM_SITE_LAYER, 1, &got, 1, &e), e);
    ck_assert(got == 0.25);
    cosine = NAN;
    ck_assert_int_eq(ops->score(g.self, LM_SITE_ATTN, 1, &got, 1, &e), LM_EFAILED);
    inst_close(&g);
}
END_TEST

START_TEST(statistics_are_needed)
{
    static const char *const names[] = { "wanda", "block_influence" };
    struct inst g;

    for (int i = 0; i < 2; i++) {
        inst_load(&g, "scorers", names[i]);
        ck_assert_int_eq(inst_create(&g, "", model, NULL, &e), LM_ECONFIG);
        ck_assert_ptr_nonnull(strstr(e.text, "calibration"));
        dlclose(g.dl);
    }
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct inst *g = ctx;
    const struct lm_scorer *ops = g->ops;
    double got[FF];
    enum lm_status st = inst_create(g, "", model, some, &e);

    cosine = 0.5;
    if (st)
        return st;
    if (ops->sites & LM_BIT(LM_SITE_LAYER))
        st = ops->score(g->self, LM_SITE_LAYER, 0, got, 1, &e);
    else
        st = ops->score(g->self, LM_SITE_FFN_CHANNEL, 0, got, FF, &e);
    inst_destroy(g);
    return st;
}

START_TEST(memory_may_run_out)
{
    static const char *const names[] = { "magnitude", "wanda", "block_influence",
                                         "obs" };
    struct inst g;

    for (int i = 0; i < 4; i++) {
        inst_load(&g, "scorers", names[i]);
        ck_assert_int_gt(fail_every_allocation(whole_life, &g), 0);
        dlclose(g.dl);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scorers");
    TCase *t = tcase_create("scorers");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, weights_and_activations);
    tcase_add_test(t, surgeon_removes_the_cheapest_first);
    tcase_add_test(t, influence_is_one_less_cosine);
    tcase_add_test(t, statistics_are_needed);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
