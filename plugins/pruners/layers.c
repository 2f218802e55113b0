/* SPDX-License-Identifier: Apache-2.0 */
/* layers.c -- pruner: removes whole layers.
 *
 * One two-valued gene per layer that may go, layer[i]: 1 keeps it, 0 removes
 * its attention and its MLP.  The first and the last layers of a model often
 * carry more than any score tells, so they can be protected.                */
#include <stdio.h>

#include "plugin.h"

struct config { int64_t min_keep, first, last; };

struct layers {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;
};

static bool free_to_go(const struct layers *p, int32_t i)
{
    const struct lm_layer_shape *s = &p->arch->layer[i];

    return i >= p->cfg.first && i < p->arch->n_layer - p->cfg.last
        && (s->n_kv > 0 || s->n_ff > 0);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct layers *p = a->host->alloc(sizeof *p, "layers");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'layers'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct layers *p = self;

    p->host->release(p);
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct layers *p = self;
    enum lm_status st = LM_OK;
    char name[32];

    if (p->cfg.min_keep > p->arch->n_layer)
        return p->host->fail(e, LM_ECONFIG, "min_keep is %lld, but the model has %d "
                             "layers", (long long)p->cfg.min_keep, p->arch->n_layer);
    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        struct lm_gene g = {
            .struct_size = sizeof g, .kind = LM_GENE_BOOL, .name = name, .max = 1,
            .step = 1, .initial = 1, .site = { LM_SITE_LAYER, i, i }
        };

        if (!free_to_go(p, i))
            continue;
        snprintf(name, sizeof name, "layer[%d]", i);
        st = p->host->add_gene(s, &g, e);
    }
    return st;
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct layers *p = self;
    enum lm_status st = LM_OK;
    int64_t kept = p->arch->n_layer;

    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i) || (value++)->integer)
            continue;
        kept--;
        st = p->host->edit_drop(plan, (struct lm_site){ LM_SITE_LAYER, i, i }, e);
    }
    if (!st && kept < p->cfg.min_keep)
        st = p->host->fail(e, LM_EINFEASIBLE, "%lld layers are kept, fewer than "
                           "min_keep = %lld", (long long)kept,
                           (long long)p->cfg.min_keep);
    return st;
}

static const struct lm_opt options[] = {
    LM_INT(struct config, min_keep, "1", 1, 1000000, "layers", 0,
           "Plans that keep fewer layers than this are infeasible."),
    LM_INT(struct config, first, "1", 0, 1000000, "layers", 0,
           "The first so many layers always stay."),
    LM_INT(struct config, last, "1", 0, 1000000, "layers", 0,
           "The last so many layers always stay."),
    LM_OPT_END
};

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_LAYER),
    .genes = genes, .decode = decode
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "layers", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "removes whole layers",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
