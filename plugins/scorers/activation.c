/* SPDX-License-Identifier: Apache-2.0 */
/* activation.c -- scorer: how large a site's activations are, whatever reads them.
 *
 * With x the input of the consumer matrix (down of an MLP, o of attention), over
 * T calibration tokens and the site's columns C:
 *
 *   abs     score = sum_{t, j in C} |x_tj| / (T |C|)
 *   square  score = sum_{t, j in C} x_tj^2 / (T |C|)
 *
 * (Muralidharan et al. 2024, Minitron: importance from activations alone, mean
 * and L2.)  The weights behind, which wanda multiplies in, count
 * nothing here.                                                              */
#include "columns.h"

enum { BY_ABS, BY_SQUARE };

struct config { int64_t measure; };

struct activation {
    struct columns base;
    struct config cfg;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    enum lm_status st = columns_open(a, "activation", true, sizeof(struct activation),
                                     self, e);

    if (!st)
        ((struct activation *)*self)->cfg = *(const struct config *)a->config;
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct activation *p = self;
    struct columns_site s;
    const double *sum;
    uint32_t stat = p->cfg.measure == BY_ABS ? LM_STAT_SUMABS : LM_STAT_SUMSQ;
    enum lm_status st = columns_find(&p->base, site, layer, n, &s, e);

    if (st || (st = columns_stat(&p->base, &s, stat, &sum, e)))
        return st;
    for (int64_t i = 0; i < n; i++)
        out[i] = columns_total(&s, sum, i)
            / ((double)p->base.host->stat_tokens(p->base.stats) * (double)s.width);
    return LM_OK;
}

static const char *const measures[] = { "abs", "square", NULL };

static const struct lm_opt options[] = {
    LM_PICK(struct config, measure, "square", measures, 0,
            "What is averaged over the calibration tokens: magnitudes or squares."),
    LM_OPT_END
};

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = COLUMNS_SITES,
    .needs = LM_BIT(LM_STAT_SUMABS) | LM_BIT(LM_STAT_SUMSQ), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "activation", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "mean size of activations",
    .reference = "Muralidharan et al. 2024, Compact language models via pruning and "
                 "knowledge distillation",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = columns_close, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
