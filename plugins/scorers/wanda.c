/* SPDX-License-Identifier: Apache-2.0 */
/* wanda.c -- scorer: weights times activations, summed over a whole column.
 *
 * For column j of the consumer matrix W (down of an MLP, o of attention) with
 * input x over the calibration tokens t:
 *
 *   score_j = sum_i |W_ij| * sqrt(sum_t x_tj^2)
 *
 * (Sun et al. 2024, summed over output rows as in its structured
 * variants).  A query head has the sum over its columns, a KV group that over
 * the columns of its heads.                                                 */
#include "columns.h"

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    return columns_open(a, "wanda", true, sizeof(struct columns), self, e);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct columns *p = self;
    struct columns_site s;
    const double *sumsq;
    double *v;
    enum lm_status st = columns_find(p, site, layer, n, &s, e);

    if (st || (st = columns_stat(p, &s, LM_STAT_SUMSQ, &sumsq, e))
        || (st = columns_sums(p, &s, false, &v, e)))
        return st;
    for (int64_t j = 0; j < s.k; j++)
        v[j] *= sqrt(sumsq[j]);
    for (int64_t i = 0; i < n; i++)
        out[i] = columns_total(&s, v, i);
    p->host->release(v);
    return LM_OK;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = COLUMNS_SITES, .needs = LM_BIT(LM_STAT_SUMSQ),
    .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "wanda", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "weights times norm of activations",
    .reference = "Sun et al. 2024, A simple and effective pruning approach for large "
                 "language models",
    .create = create, .destroy = columns_close, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
