/* SPDX-License-Identifier: Apache-2.0 */
/* heads.c -- pruner: removes query heads, as many from each KV group of a layer.
 *
 * Keys and values, and so the cache, stay as they are; what goes are rows of q and
 * columns of o.  Grouped attention wants the same number of query heads in all
 * groups, so the gene heads[i] is how many each group of layer i keeps, the best of
 * each by score.  A model whose groups have a single query head has no gene; its
 * attention is cut by kv_groups.  Both together cut by pairs of groups and heads
 * per group.                                                                  */
#include <stdio.h>

#include "plugin.h"

struct config { int64_t min, first, last; bool uniform; };

struct heads {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;
};

/* Query heads of each group. */
static int32_t group_size(const struct heads *p, int32_t i)
{
    const struct lm_layer_shape *s = &p->arch->layer[i];

    return s->n_kv ? s->n_head / s->n_kv : 0;
}

static bool free_to_go(const struct heads *p, int32_t i)
{
    return i >= p->cfg.first && i < p->arch->n_layer - p->cfg.last
        && group_size(p, i) > p->cfg.min;
}

static void destroy(void *self)
{
    struct heads *p = self;

    p->host->release(p);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct heads *p = a->host->alloc(sizeof *p, "heads");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'heads'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    *self = p;
    return LM_OK;
}

static enum lm_status add(const struct heads *p, struct lm_space *s, int32_t i,
                          const char *name, struct lm_err *e)
{
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_INT, .name = name,
        .min = (double)p->cfg.min, .max = group_size(p, i), .step = 1,
        .initial = group_size(p, i),
        .site = { p->cfg.uniform ? LM_SITE_MODEL : LM_SITE_HEAD, i, 0 }
    };

    return p->host->add_gene(s, &g, e);
}

static enum lm_status uniform_gene(const struct heads *p, struct lm_space *s,
                                   struct lm_err *e)
{
    int32_t first = -1;

    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i))
            continue;
        first = first < 0 ? i : first;
        if (group_size(p, i) != group_size(p, first))
            return p->host->fail(e, LM_ECONFIG, "uniform needs KV groups of equal size, "
                                 "but those of layer %d have %d query heads and those of "
                                 "layer %d have %d", first, group_size(p, first), i,
                                 group_size(p, i));
    }
    return first < 0 ? LM_OK : add(p, s, first, "heads", e);
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct heads *p = self;
    enum lm_status st = LM_OK;
    char name[32];

    if (p->cfg.uniform)
        return uniform_gene(p, s, e);
    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i))
            continue;
        snprintf(name, sizeof name, "heads[%d]", i);
        st = add(p, s, i, name, e);
    }
    return st;
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct heads *p = self;
    enum lm_status st = LM_OK;

    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i))
            continue;
        st = p->host->edit_keep_top(plan, LM_SITE_HEAD, i, value->integer, e);
        value += !p->cfg.uniform;
    }
    return st;
}

static const struct lm_opt options[] = {
    LM_INT(struct config, min, "1", 1, 1000000, "heads", 0,
           "Query heads that every KV group keeps at least."),
    LM_FLAG(struct config, uniform, "false", 0,
            "One gene sets the number for all layers."),
    LM_INT(struct config, first, "0", 0, 1000000, "layers", 0,
           "The first so many layers keep all query heads."),
    LM_INT(struct config, last, "0", 0, 1000000, "layers", 0,
           "The last so many layers keep all query heads."),
    LM_OPT_END
};

static uint64_t shapes(const void *config)
{
    const struct config *c = config;

    return c->uniform && !c->first && !c->last ? 0 : LM_SHAPE_UNEVEN_HEADS;
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_HEAD),
    .needs_scores = LM_BIT(LM_SITE_HEAD), .genes = genes, .decode = decode,
    .shapes = shapes
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "heads", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "removes query heads, as many from each KV group of a layer",
    .reference = "Michel et al. 2019, Are sixteen heads really better than one?",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
