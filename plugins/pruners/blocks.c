/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.c -- pruner: removes attention blocks and MLP blocks on their own.
 *
 * Two-valued genes attn[i] and mlp[i], layer by layer (so that a crossover by
 * layer finds the genes of a layer together): 1 keeps the block.  Finer than
 * whole layers, and no dearer: a removed block is an absent operator.       */
#include <stdio.h>

#include "plugin.h"

struct config { bool attn, mlp; int64_t min_attn, min_mlp, first, last; };

struct blocks {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;
};

/* Has the layer a block of that kind that may go? */
static bool free_to_go(const struct blocks *p, int32_t i, uint32_t kind)
{
    const struct lm_layer_shape *s = &p->arch->layer[i];

    if (i < p->cfg.first || i >= p->arch->n_layer - p->cfg.last)
        return false;
    return kind == LM_SITE_ATTN ? p->cfg.attn && s->n_kv > 0 : p->cfg.mlp && s->n_ff > 0;
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    return c->attn || c->mlp ? LM_OK
        : h->fail(e, LM_ECONFIG, "attn and mlp are both off, so nothing could be "
                  "removed; turn one on or leave the pruner out");
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct blocks *p = a->host->alloc(sizeof *p, "blocks");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'blocks'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct blocks *p = self;

    p->host->release(p);
}

static const uint32_t kinds[2] = { LM_SITE_ATTN, LM_SITE_MLP };

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct blocks *p = self;
    enum lm_status st = LM_OK;
    char name[32];

    for (int32_t i = 0; i < p->arch->n_layer; i++)
        for (int k = 0; !st && k < 2; k++) {
            struct lm_gene g = {
                .struct_size = sizeof g, .kind = LM_GENE_BOOL, .name = name, .max = 1,
                .step = 1, .initial = 1, .site = { kinds[k], i, i }
            };

            if (!free_to_go(p, i, kinds[k]))
                continue;
            snprintf(name, sizeof name, "%s[%d]", k ? "mlp" : "attn", i);
            st = p->host->add_gene(s, &g, e);
        }
    return st;
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct blocks *p = self;
    const int64_t least[2] = { p->cfg.min_attn, p->cfg.min_mlp };
    int64_t had[2] = { 0, 0 }, kept[2];
    enum lm_status st = LM_OK;

    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        had[0] += p->arch->layer[i].n_kv > 0;
        had[1] += p->arch->layer[i].n_ff > 0;
    }
    kept[0] = had[0];
    kept[1] = had[1];
    for (int32_t i = 0; i < p->arch->n_layer; i++)
        for (int k = 0; !st && k < 2; k++) {
            if (!free_to_go(p, i, kinds[k]) || (value++)->integer)
                continue;
            kept[k]--;
            st = p->host->edit_drop(plan, (struct lm_site){ kinds[k], i, i }, e);
        }
    for (int k = 0; !st && k < 2; k++)
        if (kept[k] < had[k] && kept[k] < least[k])
            st = p->host->fail(e, LM_EINFEASIBLE, "%lld %s blocks are kept, fewer than "
                               "%s = %lld", (long long)kept[k], k ? "MLP" : "attention",
                               k ? "min_mlp" : "min_attn", (long long)least[k]);
    return st;
}

static const struct lm_opt options[] = {
    LM_FLAG(struct config, attn, "true", 0, "Attention blocks may be removed."),
    LM_FLAG(struct config, mlp, "true", 0, "MLP blocks may be removed."),
    LM_INT(struct config, min_attn, "1", 0, 1000000, "blocks", 0,
           "Plans that keep fewer attention blocks than this are infeasible."),
    LM_INT(struct config, min_mlp, "1", 0, 1000000, "blocks", 0,
           "Plans that keep fewer MLP blocks than this are infeasible."),
    LM_INT(struct config, first, "1", 0, 1000000, "layers", 0,
           "Blocks of the first so many layers always stay."),
    LM_INT(struct config, last, "1", 0, 1000000, "layers", 0,
           "Blocks of the last so many layers always stay."),
    LM_OPT_END
};

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP),
    .genes = genes, .decode = decode
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "blocks", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "removes attention blocks and MLP blocks separately",
    .reference = "Zhong et al. 2024, BlockPruner: fine-grained pruning for large "
                 "language models",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
