/* SPDX-License-Identifier: Apache-2.0 */
/* kv_groups.c -- pruner: removes KV groups, each a key-value head together with
 * the query heads that read it.
 *
 * The only cut of attention that every runtime accepts: all groups keep the
 * same number of query heads.  With select = "score" the gene kv[i] is how many
 * groups layer i keeps, the best ones; with "search" it is the set itself.  A
 * layer that may not lose a group has no gene.  With `uniform` one gene, kv, says
 * for all layers how many of their best groups stay.                        */
#include <stdio.h>

#include "plugin.h"

enum { BY_SCORE, BY_SEARCH };

struct config { int64_t min, select, first, last; bool uniform; };

struct groups {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;
    int32_t *index;                     /* [most groups of a layer] */
};

static bool free_to_go(const struct groups *p, int32_t i)
{
    return i >= p->cfg.first && i < p->arch->n_layer - p->cfg.last
        && p->arch->layer[i].n_kv > p->cfg.min;
}

static void destroy(void *self)
{
    struct groups *p = self;

    p->host->release(p->index);
    p->host->release(p);
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    return !c->uniform || c->select == BY_SCORE ? LM_OK
        : h->fail(e, LM_ECONFIG,
                  "uniform is a number for all layers, select = \"search\" "
                  "a set for each; choose one of them");
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct groups *p = a->host->alloc(sizeof *p, "kv_groups");
    int32_t most = 1;

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'kv_groups'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    for (int32_t i = 0; i < p->arch->n_layer; i++)
        if (p->arch->layer[i].n_kv > most)
            most = p->arch->layer[i].n_kv;
    p->index = a->host->alloc((size_t)most * sizeof *p->index, "kv_groups");
    if (!p->index) {
        destroy(p);
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'kv_groups'");
    }
    *self = p;
    return LM_OK;
}

static enum lm_status add(const struct groups *p, struct lm_space *s, int32_t i,
                          const char *name, struct lm_err *e)
{
    int32_t n = p->arch->layer[i].n_kv;
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_INT, .name = name,
        .min = (double)p->cfg.min, .max = n, .step = 1, .initial = n,
        .site = { p->cfg.uniform ? LM_SITE_MODEL : LM_SITE_KV_GROUP, i, 0 }
    };
    enum lm_status st;
    int64_t scored;

    if (p->cfg.select == BY_SEARCH) {
        g.kind = LM_GENE_SUBSET;
        g.n = (uint32_t)n;
        st = p->host->scores(s, LM_SITE_KV_GROUP, i, &g.score, &scored, e);
        if (st)
            return st;
        if (scored != n)
            return p->host->fail(e, LM_EBUG, "layer %d: %lld scores for %d KV groups",
                                 i, (long long)scored, n);
    }
    return p->host->add_gene(s, &g, e);
}

static enum lm_status uniform_gene(const struct groups *p, struct lm_space *s,
                                   struct lm_err *e)
{
    int32_t first = -1;

    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i))
            continue;
        first = first < 0 ? i : first;
        if (p->arch->layer[i].n_kv != p->arch->layer[first].n_kv)
            return p->host->fail(e, LM_ECONFIG, "uniform needs layers with equally many "
                                 "KV groups, but layer %d has %d and layer %d has %d",
                                 first, p->arch->layer[first].n_kv, i,
                                 p->arch->layer[i].n_kv);
    }
    return first < 0 ? LM_OK : add(p, s, first, "kv", e);
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct groups *p = self;
    enum lm_status st = LM_OK;
    char name[32];

    if (p->cfg.uniform)
        return uniform_gene(p, s, e);
    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i))
            continue;
        snprintf(name, sizeof name, "kv[%d]", i);
        st = add(p, s, i, name, e);
    }
    return st;
}

static enum lm_status keep_set(const struct groups *p, const union lm_value *v,
                               struct lm_plan *plan, int32_t layer, struct lm_err *e)
{
    int64_t kept = 0;

    for (int32_t i = 0; i < p->arch->layer[layer].n_kv; i++)
        if (v[i / 64].bits >> (i % 64) & 1)
            p->index[kept++] = i;
    return p->host->edit_keep(plan, LM_SITE_KV_GROUP, layer, p->index, kept, e);
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct groups *p = self;
    enum lm_status st = LM_OK;

    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (!free_to_go(p, i))
            continue;
        if (p->cfg.select == BY_SEARCH) {
            st = keep_set(p, value, plan, i, e);
            value += (p->arch->layer[i].n_kv + 63) / 64;
        } else {
            st = p->host->edit_keep_top(plan, LM_SITE_KV_GROUP, i, value->integer, e);
            value += !p->cfg.uniform;
        }
    }
    return st;
}

static const char *const selects[] = { "score", "search", NULL };

static const struct lm_opt options[] = {
    LM_INT(struct config, min, "1", 0, 1000000, "groups", 0,
           "Groups that every layer keeps at least; 0 lets attention blocks go."),
    LM_PICK(struct config, select, "score", selects, 0,
            "Which groups stay: the best by score, or whichever the search finds."),
    LM_FLAG(struct config, uniform, "false", 0,
            "One gene sets the number for all layers."),
    LM_INT(struct config, first, "0", 0, 1000000, "layers", 0,
           "The first so many layers keep all groups."),
    LM_INT(struct config, last, "0", 0, 1000000, "layers", 0,
           "The last so many layers keep all groups."),
    LM_OPT_END
};

static uint64_t shapes(const void *config)
{
    const struct config *c = config;

    return (c->uniform && !c->first && !c->last ? 0 : LM_SHAPE_UNEVEN_HEADS) |
           (c->min == 0 ? LM_SHAPE_NO_ATTN : 0);
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_KV_GROUP),
    .needs_scores = LM_BIT(LM_SITE_KV_GROUP), .genes = genes, .decode = decode,
    .shapes = shapes
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "kv_groups", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "removes key-value heads with their query heads",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
