/* SPDX-License-Identifier: Apache-2.0 */
/* check_scorers.c -- scores against their formulas in plain loops. */
#include <math.h>

#include "inst.h"
#include "toy.h"

enum { LAYERS = 2, FF = 24, HEADS = 6, GROUPS = 3, TOKENS = 9 };
#define COLUMNS (HEADS * TOY_HEAD)

static struct lm_err e;
static struct lm_model *model;
static double squares[2][COLUMNS], grams[2][COLUMNS * COLUMNS], cosine, align[3];
static double inputs[2][TOKENS][COLUMNS], sums[2][COLUMNS], magnitudes[2][COLUMNS];
static double streams[2 * LAYERS + 1][TOY_HIDDEN * TOY_HIDDEN];
static const struct toy shape = { .n_layer = LAYERS, .n_head = HEADS, .n_kv = GROUPS,
                                  .n_ff = FF };
static const struct lm_stats *const some = (const struct lm_stats *)squares;

static enum lm_status give(const struct lm_stats *s, uint32_t stat, uint32_t site,
                           int32_t layer, const double **out, int64_t *n,
                           struct lm_err *err)
{
    ck_assert(s == some);
    if ((stat == LM_STAT_SUM || stat == LM_STAT_SUMSQ || stat == LM_STAT_SUMABS)
        && (site == LM_SITE_MLP || site == LM_SITE_ATTN)) {
        *out = (stat == LM_STAT_SUM ? sums : stat == LM_STAT_SUMSQ ? squares
                : magnitudes)[site == LM_SITE_MLP];
        *n = site == LM_SITE_MLP ? FF : COLUMNS;
        return LM_OK;
    }
    if (stat == LM_STAT_STREAM) {
        *out = streams[site == LM_SITE_HIDDEN ? 2 * LAYERS
                       : 2 * layer + (site == LM_SITE_MLP)];
        *n = TOY_HIDDEN * TOY_HIDDEN;
        return LM_OK;
    }
    if (stat == LM_STAT_GRAM) {
        *out = grams[site == LM_SITE_MLP];
        *n = site == LM_SITE_MLP ? FF * FF : COLUMNS * COLUMNS;
        return LM_OK;
    }
    if (stat == LM_STAT_ALIGN) {
        *out = align;
        *n = 3;
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
    inst_tokens = TOKENS;
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

static double square_at(uint32_t role, int32_t layer, int64_t row, int64_t j)
{
    const float *w;

    ck_assert_ok(lm_model_floats(model, role, layer, &w, &e), e);
    return (double)w[row * TOY_HIDDEN + j] * w[row * TOY_HIDDEN + j];
}

/* Of channel j: all that reads it, by the definition. */
static void stream_scores(int64_t j, double *magnitude, double *activation)
{
    static const struct { uint32_t norm, w[3]; int64_t rows[3]; } kind[3] = {
        { LM_W_ATTN_NORM, { LM_W_Q, LM_W_K, LM_W_V },
          { COLUMNS, GROUPS * TOY_HEAD, GROUPS * TOY_HEAD } },
        { LM_W_MLP_NORM, { LM_W_GATE, LM_W_UP }, { FF, FF } },
        { LM_W_FINAL_NORM, { LM_W_HEAD }, { TOY_VOCAB } }
    };

    *magnitude = *activation = 0;
    for (int i = 0; i <= 2 * LAYERS; i++) {
        int32_t layer = i < 2 * LAYERS ? i / 2 : -1, k = layer < 0 ? 2 : i % 2;
        double g = square_at(kind[k].norm, layer, 0, j);

        *activation += streams[i][j * TOY_HIDDEN + j] / TOKENS * g;
        for (int w = 0; w < 3 && kind[k].w[w]; w++)
            for (int64_t r = 0; r < kind[k].rows[w]; r++)
                *magnitude += g * square_at(kind[k].w[w], layer, r, j);
    }
    *magnitude = sqrt(*magnitude);
}

START_TEST(channels_of_the_stream)
{
    double got[2][TOY_HIDDEN], want[2];
    static const char *const names[] = { "magnitude", "activation" };

    for (int i = 0; i <= 2 * LAYERS; i++)
        for (int j = 0; j < TOY_HIDDEN * TOY_HIDDEN; j++)
            streams[i][j] = 1 + (7 * i + 3 * j) % 11;
    for (int i = 0; i < 2; i++) {
        const struct lm_scorer *ops;
        struct inst g;

        inst_open(&g, "scorers", names[i], "", model, some);
        ops = g.ops;
        ck_assert_ok(ops->score(g.self, LM_SITE_HIDDEN, -1, got[i], TOY_HIDDEN, &e), e);
        ck_assert_int_eq(ops->score(g.self, LM_SITE_HIDDEN, -1, got[i], 3, &e), LM_EBUG);
        if (i) {
            ck_assert_uint_eq(ops->needs_for(g.opt.config, LM_BIT(LM_SITE_HIDDEN)),
                              LM_BIT(LM_STAT_STREAM));
            ck_assert_uint_eq(ops->needs_for(g.opt.config, LM_BIT(LM_SITE_HEAD)),
                              LM_BIT(LM_STAT_SUMSQ));
        }
        inst_close(&g);
    }
    for (int64_t j = 0; j < TOY_HIDDEN; j++) {
        stream_scores(j, &want[0], &want[1]);
        for (int i = 0; i < 2; i++)
            ck_assert_msg(fabs(got[i][j] - want[i]) <= 1e-9 * want[i], "%s, channel %d: "
                          "%.12g, not %.12g", names[i], (int)j, got[i][j], want[i]);
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

/* Statistics of inputs, of which every column has a mean of its own. */
static void measure(void)
{
    struct lm_rng r = lm_rng(5, "inputs", 0);

    memset(sums, 0, sizeof sums);
    memset(squares, 0, sizeof squares);
    memset(magnitudes, 0, sizeof magnitudes);
    for (int b = 0; b < 2; b++)
        for (int t = 0; t < TOKENS; t++)
            for (int j = 0; j < (b ? FF : COLUMNS); j++) {
                double x = (2 * lm_rng_unit(&r) - 1) * (1 + j % 7) + (j % 4 - 1.5);

                inputs[b][t][j] = x;
                sums[b][j] += x;
                squares[b][j] += x * x;
                magnitudes[b][j] += fabs(x);
            }
}

/* Variance in two passes times the squared norm of the column. */
static double fluctuation(int b, int32_t layer, int cols, int j)
{
    double mean = 0, square = 0;

    for (int t = 0; t < TOKENS; t++)
        mean += inputs[b][t][j] / TOKENS;
    for (int t = 0; t < TOKENS; t++)
        square += pow(inputs[b][t][j] - mean, 2);
    return square / (TOKENS - 1) * column(b ? LM_W_DOWN : LM_W_O, layer, cols, j, 2);
}

static double activity(int b, int j, bool squared)
{
    double total = 0;

    for (int t = 0; t < TOKENS; t++)
        total += pow(fabs(inputs[b][t][j]), squared ? 2 : 1) / TOKENS;
    return total;
}

/* way 0, 1: activation abs, square; 2, 3: flap as it is, standardized. */
static void compare_inputs(const struct inst *g, uint32_t site, int n, int way)
{
    const struct lm_scorer *ops = g->ops;
    int b = site == LM_SITE_FFN_CHANNEL, cols = b ? FF : COLUMNS, width = cols / n;
    double got[COLUMNS], v[COLUMNS], mean = 0, square = 0;

    for (int j = 0; j < cols; j++) {
        v[j] = way < 2 ? activity(b, j, way == 1) : fluctuation(b, 1, cols, j);
        mean += v[j] / cols;
    }
    for (int j = 0; j < cols; j++)
        square += pow(v[j] - mean, 2) / (cols - 1);
    ck_assert_ok(ops->score(g->self, site, 1, got, n, &e), e);
    for (int i = 0; i < n; i++) {
        double want = 0;

        for (int j = i * width; j < (i + 1) * width; j++)
            want += (way == 3 ? (v[j] - mean) / sqrt(square) : v[j]) / width;
        ck_assert_msg(fabs(got[i] - want) < 1e-9 * (1 + fabs(want)), "way %d, site %d: "
                      "%g, not %g", way, i, got[i], want);
    }
    ck_assert_int_eq(ops->score(g->self, site, 1, got, n - 1, &e), LM_EBUG);
}

START_TEST(activations_and_their_fluctuation)
{
    static const char *const options[] = { "measure=abs", "", "standardize=false", "" };
    struct inst g;
    double got[FF];

    measure();
    for (int way = 0; way < 4; way++) {
        inst_open(&g, "scorers", way < 2 ? "activation" : "flap", options[way], model,
                  some);
        compare_inputs(&g, LM_SITE_FFN_CHANNEL, FF, way);
        compare_inputs(&g, LM_SITE_HEAD, HEADS, way);
        compare_inputs(&g, LM_SITE_KV_GROUP, GROUPS, way);
        inst_close(&g);
    }
    inst_open(&g, "scorers", "flap", "standardize=false", model, some);
    const struct lm_scorer *ops = g.ops;
    for (int j = 0; j < FF; j++) {      /* constant, but for rounding */
        sums[1][j] = TOKENS * 0.1 * (j + 1);
        squares[1][j] = TOKENS * (0.1 * (j + 1)) * (0.1 * (j + 1)) * (1 - 1e-16);
    }
    ck_assert_ok(ops->score(g.self, LM_SITE_FFN_CHANNEL, 0, got, FF, &e), e);
    for (int j = 0; j < FF; j++)
        ck_assert(got[j] >= 0 && got[j] < 1e-12);
    inst_tokens = 1;
    ck_assert_int_eq(ops->score(g.self, LM_SITE_FFN_CHANNEL, 0, got, FF, &e), LM_ECONFIG);
    inst_close(&g);
}
END_TEST

START_TEST(standardized_scores_of_equals_are_0)
{
    struct inst g;
    double got[GROUPS];

    memset(sums, 0, sizeof sums);
    memset(squares, 0, sizeof squares);         /* nothing fluctuates */
    inst_open(&g, "scorers", "flap", "", model, some);
    const struct lm_scorer *ops = g.ops;
    ck_assert_ok(ops->score(g.self, LM_SITE_KV_GROUP, 0, got, GROUPS, &e), e);
    for (int i = 0; i < GROUPS; i++)
        ck_assert(got[i] == 0);
    inst_close(&g);
}
END_TEST

START_TEST(alignment_is_of_three_sums)
{
    static const double bad[][3] = { { 1, 0, 2 }, { 1, 2, -1 }, { NAN, 1, 1 },
                                     { 1, INFINITY, 1 } };
    struct inst g;
    double got;

    inst_open(&g, "scorers", "cka", "", model, some);
    const struct lm_scorer *ops = g.ops;
    ck_assert_uint_eq(ops->needs, LM_BIT(LM_STAT_ALIGN));
    align[0] = 3;
    align[1] = 2;
    align[2] = 8;
    ck_assert_ok(ops->score(g.self, LM_SITE_MLP, 1, &got, 1, &e), e);
    ck_assert(got == 0.25);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(align, bad[i], sizeof align);
        ck_assert_int_eq(ops->score(g.self, LM_SITE_LAYER, 0, &got, 1, &e), LM_EFAILED);
    }
    inst_close(&g);
}
END_TEST

START_TEST(chance_is_uniform_and_repeats)
{
    static double got[4][5000];
    struct inst g;
    double mean = 0, square = 0;

    for (int i = 0; i < 4; i++) {
        inst_open(&g, "scorers", "random", i == 3 ? "seed=1" : "", model, NULL);
        const struct lm_scorer *ops = g.ops;
        ck_assert_uint_eq(ops->needs, 0);
        ck_assert_ok(ops->score(g.self, LM_SITE_FFN_CHANNEL, i == 2, got[i], 5000, &e),
                     e);
        inst_close(&g);
    }
    ck_assert_mem_eq(got[0], got[1], sizeof got[0]);
    for (int i = 0; i < 5000; i++) {
        ck_assert(got[0][i] >= 0 && got[0][i] < 1);
        ck_assert(got[0][i] != got[2][i] && got[0][i] != got[3][i]);
        mean += got[0][i] / 5000;
        square += got[0][i] * got[0][i] / 5000;
    }
    ck_assert(fabs(mean - 0.5) < 0.02 && fabs(square - 1.0 / 3) < 0.02);
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
    static const char *const names[] = { "wanda", "block_influence", "activation", "flap",
                                         "cka" };
    struct inst g;

    for (int i = 0; i < 5; i++) {
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
    align[0] = align[1] = align[2] = 1;
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
                                         "obs", "activation", "flap", "cka", "random" };
    struct inst g;

    for (int i = 0; i < 8; i++) {
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
    tcase_add_test(t, channels_of_the_stream);
    tcase_add_test(t, surgeon_removes_the_cheapest_first);
    tcase_add_test(t, activations_and_their_fluctuation);
    tcase_add_test(t, standardized_scores_of_equals_are_0);
    tcase_add_test(t, alignment_is_of_three_sums);
    tcase_add_test(t, chance_is_uniform_and_repeats);
    tcase_add_test(t, influence_is_one_less_cosine);
    tcase_add_test(t, statistics_are_needed);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
