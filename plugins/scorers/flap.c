/* SPDX-License-Identifier: Apache-2.0 */
/* flap.c -- scorer: how much a site's activations fluctuate, times the weights
 * that read them.
 *
 * For column j of the consumer matrix W (down of an MLP, o of attention) with
 * input x over T calibration tokens:
 *
 *   S_j = 1 / (T - 1) sum_t (x_tj - mean_j)^2  *  sum_i W_ij^2
 *
 * (An et al. 2024, FLAP).  What is constant in a removed channel can be
 * given back by a bias (repair `bias`, or least_squares with its option bias), so
 * only what varies counts.  A query head has the mean over its columns, a KV
 * group that over the columns of its heads.
 *
 * With `standardize` S is brought to mean 0 and standard deviation 1 over all
 * columns of the layer's matrix before that, so that scores of different
 * layers, and of attention and MLPs, can be compared; the order within a layer is
 * the same.  Columns that all fluctuate alike then score 0.                   */
#include "columns.h"

struct config { bool standardize; };

struct flap {
    struct columns base;
    struct config cfg;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    enum lm_status st = columns_open(a, "flap", true, sizeof(struct flap), self, e);

    if (!st)
        ((struct flap *)*self)->cfg = *(const struct config *)a->config;
    return st;
}

/* v[k]: mean 0 and sample deviation 1. */
static void standardize(double *v, int64_t k)
{
    double mean = 0, square = 0;

    for (int64_t j = 0; j < k; j++)
        mean += v[j] / (double)k;
    for (int64_t j = 0; j < k; j++) {
        v[j] -= mean;
        square += v[j] * v[j];
    }
    for (int64_t j = 0; j < k; j++)
        v[j] = square > 0 && k > 1 ? v[j] / sqrt(square / (double)(k - 1)) : 0;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct flap *p = self;
    double tokens = (double)p->base.host->stat_tokens(p->base.stats);
    struct columns_site s;
    const double *sum, *sumsq;
    double *v;
    enum lm_status st = columns_find(&p->base, site, layer, n, &s, e);

    if (st || (st = columns_stat(&p->base, &s, LM_STAT_SUM, &sum, e))
        || (st = columns_stat(&p->base, &s, LM_STAT_SUMSQ, &sumsq, e)))
        return st;
    if (tokens < 2)
        return p->base.host->fail(e, LM_ECONFIG, "scorer 'flap' measures variance, which "
                                  "one token of calibration text has not");
    if ((st = columns_sums(&p->base, &s, true, &v, e)))
        return st;
    for (int64_t j = 0; j < s.k; j++)           /* rounding may leave less than 0 */
        v[j] *= fmax(sumsq[j] - sum[j] * sum[j] / tokens, 0) / (tokens - 1);
    if (p->cfg.standardize)
        standardize(v, s.k);
    for (int64_t i = 0; i < n; i++)
        out[i] = columns_total(&s, v, i) / (double)s.width;
    p->base.host->release(v);
    return LM_OK;
}

static const struct lm_opt options[] = {
    LM_FLAG(struct config, standardize, "true", 0,
            "Scores of a layer are brought to mean 0 and deviation 1, so that those of "
            "different layers can be compared."),
    LM_OPT_END
};

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = COLUMNS_SITES,
    .needs = LM_BIT(LM_STAT_SUM) | LM_BIT(LM_STAT_SUMSQ), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "flap", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "variance of activations times squared norm of weights",
    .reference = "An et al. 2024, Fluctuation-based adaptive structured pruning for large "
                 "language models",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = columns_close, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
