/* SPDX-License-Identifier: Apache-2.0 */
/* depth.c -- pruner: removes the layers, or attention or MLP blocks, of least score.
 *
 * One gene, `depth`: how many of them stay.  The order in which they go is that of
 * a scorer of blocks (block_influence, cka), ties from the end of the model, so a
 * depth says all and smaller depths are nested: what is removed at once in the
 * methods of Men et al. 2024 (ShortGPT), and cheap to search beside widths.  Where
 * each block shall decide for itself, layers and blocks have a gene for each.  */
#include <stdlib.h>

#include "plugin.h"

enum { BY_LAYER, BY_ATTN, BY_MLP };
static const uint32_t site[] = { LM_SITE_LAYER, LM_SITE_ATTN, LM_SITE_MLP };

struct config { int64_t unit, min, step, first, last; };

struct ranked { double score; int32_t layer; };

struct depth {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;
    uint32_t site;
    struct ranked *order;               /* [n], the first to go first */
    int32_t n;
};

static bool free_to_go(const struct depth *p, int32_t i)
{
    const struct lm_layer_shape *s = &p->arch->layer[i];
    bool there = p->site == LM_SITE_ATTN ? s->n_kv > 0 : p->site == LM_SITE_MLP
        ? s->n_ff > 0 : s->n_kv > 0 || s->n_ff > 0;

    return there && i >= p->cfg.first && i < p->arch->n_layer - p->cfg.last;
}

static void destroy(void *self)
{
    struct depth *p = self;

    p->host->release(p->order);
    p->host->release(p);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct depth *p = a->host->alloc(sizeof *p, "depth");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'depth'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    p->site = site[p->cfg.unit];
    p->order = a->host->alloc((size_t)p->arch->n_layer * sizeof *p->order, "depth");
    if (!p->order) {
        destroy(p);
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'depth'");
    }
    *self = p;
    return LM_OK;
}

static int least_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return (y->layer > x->layer) - (y->layer < x->layer);
}

/* Of those that may go, how many stay at least, on the steps below all of them. */
static int64_t fewest(const struct depth *p)
{
    int64_t may = p->n > p->cfg.min ? p->n - p->cfg.min : 0;

    return p->n - may / p->cfg.step * p->cfg.step;
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    struct depth *p = self;
    struct lm_gene g = { .struct_size = sizeof g, .kind = LM_GENE_INT, .name = "depth",
                         .step = (double)p->cfg.step,
                         .site = { LM_SITE_MODEL, -1, 0 } };

    p->n = 0;
    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        const double *score;
        int64_t n;
        enum lm_status st;

        if (!free_to_go(p, i))
            continue;
        if ((st = p->host->scores(s, p->site, i, &score, &n, e)))
            return st;
        if (n != 1)
            return p->host->fail(e, LM_EBUG, "layer %d: %lld scores for a block", i,
                                 (long long)n);
        p->order[p->n++] = (struct ranked){ score[0], i };
    }
    qsort(p->order, (size_t)p->n, sizeof *p->order, least_first);
    if (fewest(p) == p->n)
        return LM_OK;                   /* nothing may go */
    g.min = (double)fewest(p);
    g.max = g.initial = p->n;
    return p->host->add_gene(s, &g, e);
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct depth *p = self;
    enum lm_status st = LM_OK;

    for (int32_t i = 0; !st && fewest(p) < p->n && i < p->n - value->integer; i++) {
        int32_t layer = p->order[i].layer;

        st = p->host->edit_drop(plan, (struct lm_site){ p->site, layer, layer }, e);
    }
    return st;
}

static const char *const units[] = { "layer", "attn", "mlp", NULL };

static const struct lm_opt options[] = {
    LM_PICK(struct config, unit, "layer", units, 0,
            "What goes: whole layers, or attention or MLP blocks alone."),
    LM_INT(struct config, min, "1", 0, 1000000, NULL, 0,
           "How many of those that may go stay at least."),
    LM_INT(struct config, step, "1", 1, 1000000, NULL, 0,
           "How many go at a time."),
    LM_INT(struct config, first, "1", 0, 1000000, "layers", 0,
           "The first so many layers always stay."),
    LM_INT(struct config, last, "1", 0, 1000000, "layers", 0,
           "The last so many layers always stay."),
    LM_OPT_END
};

static uint64_t shapes(const void *config)
{
    const struct config *c = config;

    return c->unit == BY_ATTN ? LM_SHAPE_NO_ATTN
         : c->unit == BY_MLP ? LM_SHAPE_NO_MLP : 0;
}

static uint64_t ranks(const void *config)
{
    return LM_BIT(site[((const struct config *)config)->unit]);
}

#define BLOCKS (LM_BIT(LM_SITE_LAYER) | LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP))

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = BLOCKS, .needs_scores = BLOCKS,
    .genes = genes, .decode = decode, .shapes = shapes, .ranks = ranks
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "depth", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "removes the layers, attention or MLP blocks of least score",
    .reference = "Men et al. 2024, ShortGPT: layers in large language models are more "
                 "redundant than you expect",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
