/* SPDX-License-Identifier: Apache-2.0 */
/* block_influence.c -- scorer: how much a block turns the hidden state.
 *
 *   BI = 1 - E_t[ cos(x_t, y_t) ],  x, y: hidden state before and behind it
 *
 * (Men et al. 2024, ShortGPT) for layers, attention and MLP blocks.  A block that
 * changes little has a small score.                                         */
#include <math.h>

#include "plugin.h"

struct influence {
    const struct lm_host  *host;
    const struct lm_stats *stats;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct influence *p;

    if (!a->stats)
        return a->host->fail(e, LM_ECONFIG, "scorer 'block_influence' needs calibration "
                             "statistics; name a calibration text");
    if (!(p = a->host->alloc(sizeof *p, "block_influence")))
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'block_influence'");
    p->host = a->host;
    p->stats = a->stats;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct influence *p = self;

    p->host->release(p);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct influence *p = self;
    const double *cosine;
    int64_t n_stat;
    enum lm_status st = p->host->stat(p->stats, LM_STAT_COSINE, site, layer, &cosine,
                                      &n_stat, e);

    if (st)
        return st;
    if (n != 1 || n_stat != 1 || !isfinite(cosine[0]))
        return p->host->fail(e, LM_EFAILED, "layer %d: there is no finite cosine of this "
                             "block in the statistics", layer);
    out[0] = 1 - cosine[0];
    return LM_OK;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_LAYER) | LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP),
    .needs = LM_BIT(LM_STAT_COSINE), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "block_influence", .version = "1.0", .license = "Apache-2.0",
    .author = "Lamina", .summary = "how much a block turns the hidden state",
    .reference = "Men et al. 2024, ShortGPT: layers in large language models are more "
                 "redundant than you expect",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
