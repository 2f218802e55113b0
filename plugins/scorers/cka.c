/* SPDX-License-Identifier: Apache-2.0 */
/* cka.c -- scorer: how little a block's output is aligned with its input.
 *
 *   score = 1 - CKA(X, Y),  CKA = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))
 *
 * X, Y: the hidden states before and behind the block, linear kernels (Kornblith
 * et al. 2019), the unbiased HSIC summed over pieces of the calibration sequences
 * (Nguyen et al. 2021; the sums are LM_STAT_ALIGN).  CKA compares how tokens lie to
 * each other, so a block that only turns, shifts or scales all of them scores 0,
 * which block_influence would call important.                                 */
#include <math.h>

#include "plugin.h"

struct cka {
    const struct lm_host  *host;
    const struct lm_stats *stats;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct cka *p;

    if (!a->stats)
        return a->host->fail(e, LM_ECONFIG, "scorer 'cka' needs calibration statistics; "
                             "name a calibration text");
    if (!(p = a->host->alloc(sizeof *p, "cka")))
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'cka'");
    p->host = a->host;
    p->stats = a->stats;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct cka *p = self;

    p->host->release(p);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct cka *p = self;
    const double *h;                    /* HSIC of X with Y, X with X, Y with Y */
    int64_t n_stat;
    enum lm_status st = p->host->stat(p->stats, LM_STAT_ALIGN, site, layer, &h, &n_stat,
                                      e);

    if (st)
        return st;
    if (n != 1 || n_stat != 3 || !(h[1] > 0) || !(h[2] > 0) || !isfinite(h[0])
        || !isfinite(h[1] * h[2]))
        return p->host->fail(e, LM_EFAILED,
                             "layer %d: the hidden states of this block do "
                             "not vary; calibration needs sequences of at least 4 tokens",
                             layer);
    out[0] = 1 - h[0] / sqrt(h[1] * h[2]);
    return LM_OK;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_LAYER) | LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP),
    .needs = LM_BIT(LM_STAT_ALIGN), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "cka", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "how little a block's output is aligned with its input",
    .reference = "Kornblith et al. 2019, Similarity of neural network representations "
                 "revisited; Nguyen et al. 2021, Do wide and deep networks learn the same "
                 "things?",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
