/* SPDX-License-Identifier: Apache-2.0 */
/* reversed.c -- a scorer with the wrong sign: minus what wanda computes, so
 * that the best channels go first.  A search with it must come out clearly
 * worse, or scores do not matter and every other result is an accident.
 *
 * score_j = -sum_i |W_ij| * sqrt(sum_t x_tj^2) for column j of the matrix that
 * reads the site (down projection of an MLP, output projection of attention). */
#include <math.h>

#include "plugin.h"

struct reversed {
    const struct lm_host  *host;
    const struct lm_arch  *arch;
    const struct lm_model *model;
    const struct lm_stats *stats;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct reversed *p = a->host->alloc(sizeof *p, "reversed");
    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'reversed'");
    p->host = a->host;
    p->model = a->model;
    p->stats = a->stats;
    p->arch = a->host->arch(a->model);
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct reversed *p = self;
    p->host->release(p);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct reversed *p = self;
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    bool mlp = site == LM_SITE_FFN_CHANNEL;
    int64_t k = mlp ? s->n_ff : (int64_t)s->n_head * p->arch->head_dim, n_stat;
    const double *sumsq;
    enum lm_status st = p->host->stat(p->stats, LM_STAT_SUMSQ,
                                      mlp ? LM_SITE_MLP : LM_SITE_ATTN, layer, &sumsq,
                                      &n_stat, e);
    if (st)
        return st;
    float *row = p->host->alloc((size_t)k * sizeof *row, "reversed");
    if (!row)
        return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'reversed'");
    for (int64_t i = 0; i < n; i++)
        out[i] = 0;
    for (int64_t i = 0; !st && i < p->arch->hidden; i++) {
        st = p->host->rows(p->model, mlp ? LM_W_DOWN : LM_W_O, layer, i, 1, row, e);
        for (int64_t j = 0; !st && j < k; j++)
            out[j * n / k] -= fabs(row[j]) * sqrt(sumsq[j]);
    }
    p->host->release(row);
    return st;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP),
    .needs = LM_BIT(LM_STAT_SUMSQ), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "reversed", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "keeps what matters least, for tests",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
