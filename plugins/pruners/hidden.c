/* SPDX-License-Identifier: Apache-2.0 */
/* hidden.c -- pruner: narrows the residual stream, one width for the whole model: all
 * layers, norms, embedding and head are tied to it.
 *
 * The one gene, hidden, is the width itself when widths lie on steps below the full
 * width d (d - j * multiple).  With `levels`, or where d is no multiple of `multiple`,
 * it is the number of the width in rising order, the highest being d.  Kept are the
 * channels of highest score; or, for a repair that makes directions of its own (pca),
 * the first ones, of which only the number counts then.                       */
#include <math.h>
#include <stdlib.h>

#include "plugin.h"

struct config {
    int64_t multiple;
    double  min;
    struct lm_reals levels;
    bool    rank;
};

struct hidden {
    const struct lm_host *host;
    struct config cfg;                  /* levels: the host's memory */
    int32_t d, n;
    int32_t *width;                     /* [n], rising, the last is d */
};

static void destroy(void *self)
{
    struct hidden *p = self;

    p->host->release(p->width);
    p->host->release(p);
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    for (size_t i = 0; i < c->levels.n; i++)
        if (c->levels.v[i] == 0)
            return h->fail(e, LM_ECONFIG, "levels holds 0, but a model without a "
                           "residual stream is none");
    return LM_OK;
}

static int by_size(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

static bool on_steps(const struct hidden *p)
{
    return !p->cfg.levels.n && p->d % p->cfg.multiple == 0;
}

/* A share of d on the grid of `multiple`: at least one unit, at most d. */
static int32_t level_width(const struct hidden *p, double share)
{
    double unit = (double)p->cfg.multiple, w = floor(share * p->d / unit + 0.5) * unit;

    w = w < unit ? unit : w;
    return share >= 1 || w > p->d ? p->d : (int32_t)w;
}

static enum lm_status make_widths(struct hidden *p, struct lm_err *e)
{
    double least = p->cfg.min <= 1 ? p->cfg.min * p->d : p->cfg.min;
    int64_t unit = p->cfg.multiple;
    size_t most = p->cfg.levels.n + (size_t)(p->d / unit) + 2;
    int32_t n = 0;

    if (!(p->width = p->host->alloc(most * sizeof *p->width, "hidden")))
        return p->host->fail(e, LM_ENOMEM, "out of memory for pruner 'hidden'");
    p->width[n++] = p->d;
    for (size_t i = 0; i < p->cfg.levels.n; i++)
        p->width[n++] = level_width(p, p->cfg.levels.v[i]);
    for (int64_t w = (p->d - 1) / unit * unit; !p->cfg.levels.n && w > 0 && w >= least;
         w -= unit)
        p->width[n++] = (int32_t)w;
    qsort(p->width, (size_t)n, sizeof *p->width, by_size);
    for (int32_t i = 0; i < n; i++)
        if (i == 0 || p->width[i] != p->width[i - 1])
            p->width[p->n++] = p->width[i];
    if (p->n < 2)
        return p->host->fail(e, LM_ECONFIG, "the residual stream has %d channels, and no "
                             "width below that is allowed; set multiple, min or levels",
                             p->d);
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct hidden *p = a->host->alloc(sizeof *p, "hidden");
    enum lm_status st;

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'hidden'");
    p->host = a->host;
    p->cfg = *(const struct config *)a->config;
    p->d = a->host->arch(a->model)->hidden;
    if ((st = make_widths(p, e)))
        destroy(p);
    else
        *self = p;
    return st;
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct hidden *p = self;
    bool steps = on_steps(p);
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_INT, .name = "hidden",
        .min = steps ? p->width[0] : 0, .max = steps ? p->d : p->n - 1,
        .step = steps ? (double)p->cfg.multiple : 1, .site = { LM_SITE_HIDDEN, -1, 0 }
    };

    g.initial = g.max;
    return p->host->add_gene(s, &g, e);
}

static enum lm_status keep_first(const struct hidden *p, int64_t n, struct lm_plan *plan,
                                 struct lm_err *e)
{
    int32_t *index;
    enum lm_status st;

    if (n == p->d)
        return LM_OK;
    if (!(index = p->host->alloc((size_t)n * sizeof *index, "hidden")))
        return p->host->fail(e, LM_ENOMEM, "out of memory for pruner 'hidden'");
    for (int32_t i = 0; i < n; i++)
        index[i] = i;
    st = p->host->edit_keep(plan, LM_SITE_HIDDEN, -1, index, n, e);
    p->host->release(index);
    return st;
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct hidden *p = self;
    int64_t v = value[0].integer;

    if (!on_steps(p)) {
        if (v < 0 || v >= p->n)
            return p->host->fail(e, LM_EBUG, "there are %d widths, not number %lld", p->n,
                                 (long long)v);
        v = p->width[v];
    }
    return p->cfg.rank ? p->host->edit_keep_top(plan, LM_SITE_HIDDEN, -1, v, e)
                       : keep_first(p, v, plan, e);
}

static const struct lm_opt options[] = {
    LM_INT(struct config, multiple, "32", 1, 65536, "channels", 0,
           "Every width but the full one is a multiple of this, the block of the export "
           "format; 1 where that has none."),
    LM_REAL(struct config, min, "0.5", 0, 1000000, NULL, 0,
            "Least width that is kept: a share of the full width up to 1, above that "
            "channels."),
    LM_REALLIST(struct config, levels, "", 0, 1, NULL, 0,
                "Shares of the full width to choose from, in place of multiples down to "
                "min; the full width is always among them."),
    LM_FLAG(struct config, rank, "true", 0,
            "Keep the channels of highest score; false: the first ones, for a repair "
            "that makes directions of its own, such as pca."),
    LM_OPT_END
};

static uint64_t shapes(const void *config)
{
    (void)config;
    return 0;
}

static uint64_t ranks(const void *config)
{
    const struct config *c = config;

    return c->rank ? LM_BIT(LM_SITE_HIDDEN) : 0;
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_HIDDEN),
    .needs_scores = LM_BIT(LM_SITE_HIDDEN), .genes = genes, .decode = decode,
    .shapes = shapes, .ranks = ranks
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "hidden", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "narrows the residual stream of the whole model",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
