/* SPDX-License-Identifier: Apache-2.0 */
/* mask.c -- pruner: any set of channels, KV groups or query heads of a layer, not only
 * the best so many: what Search for Efficient LLMs (Shen et al. 2024) searches.
 *
 * A gene is a subset of the members of one site kind in one layer, with their
 * importance as a hint: ffn_mask[i], and with `attn` kv_mask[i] or head_mask[i].
 * What a set decodes to is a function of set and scores alone:
 *
 * - FFN channels: a set that is not whole and whose size is no multiple of `multiple`
 *   loses its members of least score until it is one.
 * - KV groups: the set as it is.
 * - Query heads: all groups of a layer must keep as many, a k-th of the set rounded
 *   down, k being the number of groups: of each group the best members of the set, then,
 *   where it has too few, the best others.
 *
 * All members stay is always allowed, as it is what a search starts from.          */
#include <stdio.h>
#include <stdlib.h>

#include "members.h"

struct part {                           /* a gene */
    int32_t  layer, n, least;           /* members, and the fewest of them */
    uint32_t site;
    int32_t *order;                     /* [n] best first */
};

struct mask {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct members cfg;
    struct part *part;                  /* [n_part] */
    int32_t n_part;
    int32_t *index, *taken;             /* [most members] scratch of decode() */
};

struct place { double score; int32_t index; };

static enum lm_status no_memory(const struct mask *p, struct lm_err *e)
{
    return p->host->fail(e, LM_ENOMEM, "out of memory for pruner 'mask'");
}

static void destroy(void *self)
{
    struct mask *p = self;

    for (int32_t i = 0; i < p->n_part; i++)
        p->host->release(p->part[i].order);
    p->host->release(p->part);
    p->host->release(p->index);
    p->host->release(p->taken);
    p->host->release(p);
}

/* ---- which masks there are ------------------------------------------------------ */
static void add_part(struct mask *p, uint32_t site, int32_t layer, int32_t n,
                     int64_t least)
{
    if (least < n)
        p->part[p->n_part++] = (struct part){ layer, n, (int32_t)least, site, NULL };
}

static void list_parts(struct mask *p)
{
    for (int32_t i = (int32_t)p->cfg.first; i < p->arch->n_layer - p->cfg.last; i++) {
        const struct lm_layer_shape *s = &p->arch->layer[i];

        if (p->cfg.attn == BY_GROUP)
            add_part(p, LM_SITE_KV_GROUP, i, s->n_kv, p->cfg.min_attn);
        else if (p->cfg.attn == BY_HEAD)
            add_part(p, LM_SITE_HEAD, i, s->n_head, p->cfg.min_attn * s->n_kv);
        if (p->cfg.ffn)
            add_part(p, LM_SITE_FFN_CHANNEL, i, s->n_ff, least_width(&p->cfg, s->n_ff));
    }
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct mask *p = a->host->alloc(sizeof *p, "mask");
    int32_t most = 1;

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'mask'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct members *)a->config;
    p->part = a->host->alloc(2 * (size_t)p->arch->n_layer * sizeof *p->part, "mask");
    if (p->part)
        list_parts(p);
    for (int32_t i = 0; i < p->n_part; i++)
        most = p->part[i].n > most ? p->part[i].n : most;
    p->index = a->host->alloc((size_t)most * sizeof *p->index, "mask");
    p->taken = a->host->alloc((size_t)most * sizeof *p->taken, "mask");
    if (!p->part || !p->index || !p->taken) {
        enum lm_status st = no_memory(p, e);
        destroy(p);
        return st;
    }
    *self = p;
    return LM_OK;
}

/* ---- genes ---------------------------------------------------------------------- */
static int best_first(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static enum lm_status rank(const struct mask *p, struct part *t, const double *score,
                           struct lm_err *e)
{
    struct place *place = p->host->alloc((size_t)t->n * sizeof *place, "mask");

    if (!t->order)
        t->order = p->host->alloc((size_t)t->n * sizeof *t->order, "mask");
    if (!place || !t->order) {
        p->host->release(place);
        return no_memory(p, e);
    }
    for (int32_t i = 0; i < t->n; i++)
        place[i] = (struct place){ score[i], i };
    qsort(place, (size_t)t->n, sizeof *place, best_first);
    for (int32_t i = 0; i < t->n; i++)
        t->order[i] = place[i].index;
    p->host->release(place);
    return LM_OK;
}

static enum lm_status add(const struct mask *p, struct part *t, struct lm_space *s,
                          struct lm_err *e)
{
    bool ffn = t->site == LM_SITE_FFN_CHANNEL;
    char name[32];
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_SUBSET, .name = name,
        .min = t->least, .max = t->n, .n = (uint32_t)t->n, .initial = t->n,
        .site = { ffn ? LM_SITE_MLP : t->site, t->layer, 0 }
    };
    int64_t n;
    enum lm_status st = p->host->scores(s, t->site, t->layer, &g.score, &n, e);

    if (st)
        return st;
    if (n != t->n)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores for %d members", t->layer,
                             (long long)n, t->n);
    snprintf(name, sizeof name, "%s_mask[%d]", ffn ? "ffn"
             : t->site == LM_SITE_HEAD ? "head" : "kv", t->layer);
    st = rank(p, t, g.score, e);
    return st ? st : p->host->add_gene(s, &g, e);
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    struct mask *p = self;
    enum lm_status st = LM_OK;

    for (int32_t i = 0; !st && i < p->n_part; i++)
        st = add(p, &p->part[i], s, e);
    return st;
}

/* ---- and back ------------------------------------------------------------------- */
static bool has(const union lm_value *v, int32_t i)
{
    return v[i / 64].bits >> (i % 64) & 1;
}

static int32_t count(const struct part *t, const union lm_value *v)
{
    int32_t n = 0;

    for (int32_t i = 0; i < t->n; i++)
        n += has(v, i);
    return n;
}

/* The best `kept` members of the set; returns how many. */
static int32_t take_best(const struct mask *p, const struct part *t,
                         const union lm_value *v, int32_t kept)
{
    int32_t n = 0;

    for (int32_t i = 0; i < t->n && n < kept; i++)
        if (has(v, t->order[i]))
            p->index[n++] = t->order[i];
    return n;
}

/* Of each group `each` heads: members first. */
static int32_t take_each(const struct mask *p, const struct part *t,
                         const union lm_value *v, int32_t each)
{
    int32_t groups = p->arch->layer[t->layer].n_kv, size = t->n / groups, n = 0;

    for (int32_t g = 0; g < groups; g++)
        p->taken[g] = 0;
    for (int member = 1; member >= 0; member--)
        for (int32_t i = 0; i < t->n; i++) {
            int32_t head = t->order[i];

            if (has(v, head) == member && p->taken[head / size] < each) {
                p->taken[head / size]++;
                p->index[n++] = head;
            }
        }
    return n;
}

static enum lm_status keep(const struct mask *p, const struct part *t,
                           const union lm_value *v, struct lm_plan *plan,
                           struct lm_err *e)
{
    int32_t n = count(t, v);

    if (n == t->n)
        return LM_OK;
    if (t->site == LM_SITE_HEAD)
        n = take_each(p, t, v, n / p->arch->layer[t->layer].n_kv);
    else if (t->site == LM_SITE_FFN_CHANNEL)
        n = take_best(p, t, v, n - n % (int32_t)p->cfg.multiple);
    else
        n = take_best(p, t, v, n);
    return p->host->edit_keep(plan, t->site, t->layer, p->index, n, e);
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct mask *p = self;
    enum lm_status st = LM_OK;

    for (int32_t i = 0; !st && i < p->n_part; i++) {
        st = keep(p, &p->part[i], value, plan, e);
        value += (p->part[i].n + 63) / 64;
    }
    return st;
}

/* ---- the module ----------------------------------------------------------------- */
static const struct lm_opt options[] = { MEMBER_OPTIONS, LM_OPT_END };

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = MEMBER_SITES, .needs_scores = MEMBER_SITES,
    .genes = genes, .decode = decode, .shapes = member_shapes,
    .ranks = member_sites
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "mask", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "keeps any set of channels, KV groups or query heads",
    .reference = "Shen et al. 2024, Search for efficient large language models "
                 "(arXiv 2409.17372)",
    .opt = options, .config_size = sizeof(struct members), .check = check_members,
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
