/* SPDX-License-Identifier: Apache-2.0 */
/* activation.c -- scorer: how large a site's activations are, whatever reads them.
 *
 * With x the input of the consumer matrix (down of an MLP, o of attention), over
 * T calibration tokens and the site's columns C:
 *
 *   abs     score = sum_{t, j in C} |x_tj| / (T |C|)
 *   square  score = sum_{t, j in C} x_tj^2 / (T |C|)
 *
 * A channel of the residual stream has the mean square of what all norms make of it:
 * sum over places of g_j^2 sum_t y_tj^2 / T, y: the stream divided by its root mean
 * square, g: the norm's weight.
 *
 * (Muralidharan et al. 2024, Minitron: importance from activations alone, mean
 * and L2.)  The weights behind, which wanda multiplies in, count
 * nothing here.                                                              */
#include "stream.h"

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

static enum lm_status score_stream(const struct activation *p, double *out, int64_t n,
                                   struct lm_err *e)
{
    const struct lm_host *h = p->base.host;
    float *g = h->alloc((size_t)n * sizeof *g, p->base.name);
    enum lm_status st = g ? LM_OK : columns_no_memory(&p->base, e);
    double tokens = (double)h->stat_tokens(p->base.stats);
    struct stream_place at;
    const double *moment;
    int64_t size;

    for (int64_t j = 0; j < n; j++)
        out[j] = 0;
    for (int i = 0; !st && i < stream_count(&p->base); i++) {
        if (!stream_find(&p->base, i, &at))
            continue;
        st = h->stat(p->base.stats, LM_STAT_STREAM, at.site, at.layer, &moment, &size, e);
        if (!st && size != n * n)
            st = h->fail(e, LM_EBUG, "statistics of the residual stream have %lld "
                         "values, not %lld", (long long)size, (long long)(n * n));
        if (!st)
            st = h->rows(p->base.model, at.norm, at.layer, 0, 1, g, e);
        for (int64_t j = 0; !st && j < n; j++)
            out[j] += moment[j * n + j] / tokens * g[j] * g[j];
    }
    h->release(g);
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct activation *p = self;
    struct columns_site s;
    const double *sum;
    uint32_t stat = p->cfg.measure == BY_ABS ? LM_STAT_SUMABS : LM_STAT_SUMSQ;
    enum lm_status st;

    if (site == LM_SITE_HIDDEN)
        return (st = stream_check(&p->base, n, e)) ? st : score_stream(p, out, n, e);
    if ((st = columns_find(&p->base, site, layer, n, &s, e))
        || (st = columns_stat(&p->base, &s, stat, &sum, e)))
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

static uint64_t needs_for(const void *config, uint64_t sites)
{
    const struct config *c = config;
    uint64_t needs = sites & LM_BIT(LM_SITE_HIDDEN) ? LM_BIT(LM_STAT_STREAM) : 0;

    if (sites & ~LM_BIT(LM_SITE_HIDDEN))
        needs |= LM_BIT(c->measure == BY_ABS ? LM_STAT_SUMABS : LM_STAT_SUMSQ);
    return needs;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = COLUMNS_SITES | LM_BIT(LM_SITE_HIDDEN),
    .needs = LM_BIT(LM_STAT_SUMABS) | LM_BIT(LM_STAT_SUMSQ) | LM_BIT(LM_STAT_STREAM),
    .score = score, .needs_for = needs_for
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
