/* SPDX-License-Identifier: Apache-2.0 */
/* check_inverse_hessian.c -- the scores of inverse_hessian against their formula: an
 * inverse by Gauss-Jordan elimination, sums over whole matrices weight by weight.  */
#include <math.h>

#include "inst.h"
#include "toy.h"

enum { LAYERS = 2, FF = 24, HEADS = 6, GROUPS = 3, COLUMNS = HEADS * TOY_HEAD, MOST = 32 };

static struct lm_err e;
static struct lm_model *model;
static double gram[LAYERS][2][MOST * MOST], stream[LAYERS][2][MOST * MOST];
static const struct toy shape = { .n_layer = LAYERS, .n_head = HEADS, .n_kv = GROUPS,
                                  .n_ff = FF };
static const struct lm_stats *const some = (const struct lm_stats *)gram;

static enum lm_status give(const struct lm_stats *s, uint32_t stat, uint32_t site,
                           int32_t layer, const double **out, int64_t *n,
                           struct lm_err *err)
{
    int b = site == LM_SITE_MLP;
    ck_assert(s == some && (b || site == LM_SITE_ATTN));
    if (stat != LM_STAT_GRAM && stat != LM_STAT_STREAM)
        return lm_fail(err, LM_EBUG, "no such statistic");
    int64_t k = stat == LM_STAT_STREAM ? TOY_HIDDEN : b ? FF : COLUMNS;
    *out = stat == LM_STAT_STREAM ? stream[layer][b] : gram[layer][b];
    *n = k * k;
    return LM_OK;
}

static void make(struct lm_rng *r, double *h, int k)
{
    double x[MOST];
    for (int t = 0; t < 2 * k; t++) {
        double common = 2 * lm_rng_unit(r) - 1;
        for (int i = 0; i < k; i++)
            x[i] = (common + 2 * lm_rng_unit(r) - 1) * (1 + i % 4);
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++)
                h[i * k + j] += x[i] * x[j];
    }
}

static void setup(void)
{
    struct lm_rng r = lm_rng(8, "moments", 0);
    model = toy_model(&shape);
    memset(gram, 0, sizeof gram);
    memset(stream, 0, sizeof stream);
    for (int l = 0; l < LAYERS; l++)
        for (int b = 0; b < 2; b++) {
            make(&r, gram[l][b], b ? FF : COLUMNS);
            make(&r, stream[l][b], TOY_HIDDEN);
        }
    inst_stat = give;
}

static void teardown(void)
{
    lm_model_free(model);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

/* d[j] = [(h + share * mean diagonal)^-1]_jj. */
static void inverse_diagonal(const double *h, int k, double share, double *d)
{
    static double a[MOST][2 * MOST];
    double mean = 0;
    for (int i = 0; i < k; i++)
        mean += h[i * k + i] / k;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) {
            a[i][j] = h[i * k + j] + (i == j ? share * mean : 0);
            a[i][k + j] = i == j;
        }
    for (int p = 0; p < k; p++) {
        double pivot = a[p][p];
        for (int j = 0; j < 2 * k; j++)
            a[p][j] /= pivot;
        for (int i = 0; i < k; i++) {
            double f = i == p ? 0 : a[i][p];
            for (int j = 0; j < 2 * k; j++)
                a[i][j] -= f * a[p][j];
        }
    }
    for (int i = 0; i < k; i++)
        d[i] = a[i][k + i];
}

/* phi [rows][cols] of a matrix; returns its sum. */
static double saliency(uint32_t role, int layer, double share, double *phi, int *rows,
                       int *cols)
{
    bool mlp = role >= LM_W_GATE, reads = role != LM_W_O && role != LM_W_DOWN;
    int inner = mlp ? FF : role == LM_W_K || role == LM_W_V ? GROUPS * TOY_HEAD : COLUMNS;
    double h[MOST * MOST], d[MOST], total = 0;
    const float *w, *norm;
    *rows = reads ? inner : TOY_HIDDEN;
    *cols = reads ? TOY_HIDDEN : inner;
    ck_assert_ok(lm_model_floats(model, role, layer, &w, &e), e);
    ck_assert_ok(lm_model_floats(model, mlp ? LM_W_MLP_NORM : LM_W_ATTN_NORM, layer,
                                 &norm, &e), e);
    for (int i = 0; i < *cols; i++)
        for (int j = 0; j < *cols; j++)
            h[i * *cols + j] = reads ? norm[i] * stream[layer][mlp][i * *cols + j] * norm[j]
                                     : gram[layer][mlp][i * *cols + j];
    inverse_diagonal(h, *cols, share, d);
    for (int i = 0; i < *rows * *cols; i++)
        total += phi[i] = pow(w[i], 2) / d[i % *cols];
    return total;
}

/* What role gives to site i: rows (or columns) first .. first + n - 1. */
static double part(uint32_t role, int layer, double share, bool by_row, int first, int n,
                   bool normalise)
{
    double phi[MOST * MOST], sum = 0;
    int rows, cols;
    double total = saliency(role, layer, share, phi, &rows, &cols);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            int at = by_row ? i : j;
            sum += at >= first && at < first + n ? phi[i * cols + j] : 0;
        }
    return normalise ? sum / total : sum;
}

static double want(uint32_t site, int layer, int i, double share, bool normal)
{
    const int each = HEADS / GROUPS * TOY_HEAD;
    double sum = 0;
    switch (site) {
    case LM_SITE_FFN_CHANNEL:
        return part(LM_W_GATE, layer, share, true, i, 1, normal)
             + part(LM_W_UP, layer, share, true, i, 1, normal)
             + part(LM_W_DOWN, layer, share, false, i, 1, normal);
    case LM_SITE_KV_GROUP:
        return part(LM_W_Q, layer, share, true, i * each, each, normal)
             + part(LM_W_K, layer, share, true, i * TOY_HEAD, TOY_HEAD, normal)
             + part(LM_W_V, layer, share, true, i * TOY_HEAD, TOY_HEAD, normal)
             + part(LM_W_O, layer, share, false, i * each, each, normal);
    case LM_SITE_HEAD:
        return part(LM_W_Q, layer, share, true, i * TOY_HEAD, TOY_HEAD, normal)
             + part(LM_W_O, layer, share, false, i * TOY_HEAD, TOY_HEAD, normal);
    default:
        for (int l = 0; l < LAYERS; l++)
            for (uint32_t r = LM_W_Q; r <= LM_W_DOWN; r++)
                if (r != LM_W_MLP_NORM)
                    sum += part(r, l, share, r == LM_W_O || r == LM_W_DOWN, i, 1, normal);
        return sum;
    }
}

static void compare(const struct inst *g, uint32_t site, int layer, int n, double share,
                    bool normalise)
{
    const struct lm_scorer *ops = g->ops;
    double got[MOST];
    ck_assert_ok(ops->score(g->self, site, layer, got, n, &e), e);
    for (int i = 0; i < n; i++) {
        double x = want(site, layer, i, share, normalise);
        ck_assert_msg(x > 0 && fabs(got[i] - x) < 1e-9 * x, "kind %u, site %d: %g, not %g",
                      site, i, got[i], x);
    }
    ck_assert_int_eq(ops->score(g->self, site, layer, got, n - 1, &e), LM_EBUG);
}

static void compare_all(const char *options, double share, bool normalise)
{
    struct inst g;
    inst_open(&g, "scorers", "inverse_hessian", options, model, some);
    for (int l = 0; l < LAYERS; l++) {
        compare(&g, LM_SITE_FFN_CHANNEL, l, FF, share, normalise);
        compare(&g, LM_SITE_KV_GROUP, l, GROUPS, share, normalise);
        compare(&g, LM_SITE_HEAD, l, HEADS, share, normalise);
    }
    compare(&g, LM_SITE_HIDDEN, -1, TOY_HIDDEN, share, normalise);
    inst_close(&g);
}

START_TEST(sums_of_rows_and_columns)
{
    compare_all("", 0.01, false);
    compare_all("lambda=0.3", 0.3, false);
    compare_all("normalise=true", 0.01, true);
}
END_TEST

START_TEST(damping_is_retried)
{
    struct inst g;
    double got[FF];
    inst_open(&g, "scorers", "inverse_hessian", "", model, some);
    const struct lm_scorer *ops = g.ops;
    inst_cholesky_failures = 1;         /* of gate's and up's inputs */
    ck_assert_ok(ops->score(g.self, LM_SITE_FFN_CHANNEL, 1, got, FF, &e), e);
    for (int i = 0; i < FF; i++) {
        double x = part(LM_W_GATE, 1, 0.1, true, i, 1, false)
                 + part(LM_W_UP, 1, 0.1, true, i, 1, false)
                 + part(LM_W_DOWN, 1, 0.01, false, i, 1, false);
        ck_assert(fabs(got[i] - x) < 1e-9 * x);
    }
    inst_cholesky_failures = 100;
    ck_assert_int_eq(ops->score(g.self, LM_SITE_FFN_CHANNEL, 1, got, FF, &e), LM_EFAILED);
    inst_cholesky_failures = 0;
    inst_close(&g);
    inst_load(&g, "scorers", "inverse_hessian");
    ck_assert_int_eq(inst_create(&g, "", model, NULL, &e), LM_ECONFIG);
    dlclose(g.dl);
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct inst *g = ctx;
    const struct lm_scorer *ops = g->ops;
    double got[MOST];
    enum lm_status st = inst_create(g, "", model, some, &e);
    if (st)
        return st;
    st = ops->score(g->self, LM_SITE_HIDDEN, -1, got, TOY_HIDDEN, &e);
    inst_destroy(g);
    return st;
}

START_TEST(memory_may_run_out)
{
    struct inst g;
    inst_load(&g, "scorers", "inverse_hessian");
    ck_assert_int_gt(fail_every_allocation(whole_life, &g), 0);
    dlclose(g.dl);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("inverse_hessian");
    TCase *t = tcase_create("inverse_hessian");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, sums_of_rows_and_columns);
    tcase_add_test(t, damping_is_retried);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
