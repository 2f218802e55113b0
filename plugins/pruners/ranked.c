/* SPDX-License-Identifier: Apache-2.0 */
/* ranked.c -- pruner: one budget for the whole model; a ranking says what of it goes.
 *
 * The gene `share` is the number, in rising order, of a share of the body's parameters
 * (the matrices of all layers) that stays; the highest is 1.  Widths of all layers
 * follow from it.  What goes is cut in units: `multiple` FFN channels next to each other
 * in the order of their layer, a KV group, or the next query head of each group of a
 * layer.  A unit has the mean score of its members and weighs its parameters; the units
 * of least score go until the budget is met as nearly as it can be.
 *
 * - scope = "global": all units are ranked together, as FLAP does (An et al. 2024).
 *   With `standardize` the scores of each layer and kind are brought to mean 0 and
 *   sample deviation 1 before that.
 * - scope = "layer": all layers, and both kinds, keep the same share: units count by
 *   their place in the order of their layer, and those of one place go together.  With
 *   first_ratio a below 1 later layers lose more, as in SlimGPT (Ling et al. 2024): of n
 *   layers number i, from 0, loses  a + (1 - a) ln(1 + i) / ln n  of what the last does.
 *
 * Invariant: a layer keeps its best members, so widths say all and are nested; they are
 * computed once, by genes().                                                       */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "members.h"

enum scope { GLOBAL, LAYER };

struct config {
    struct members members;             /* first, see there */
    struct lm_reals levels;
    double  least, step, first_ratio;
    int64_t scope;
    bool    standardize;
};

struct part {                           /* one kind in one layer */
    uint32_t site;
    int32_t  layer, n, least;           /* n: the most that can be kept; all groups */
    int32_t  each;                      /* members that go at a time: KV groups */
    double   weight;                    /* parameters for each of n */
};

struct unit {
    double  score, weight;
    int32_t part, left;                 /* left: kept of the part when it is gone */
};

struct ranked {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;                  /* levels: the host's memory */
    struct part *part;                  /* [n_part] */
    struct unit *unit;                  /* [n_unit], first to go first */
    size_t   n_part, n_unit;
    double   body;                      /* parameters */
    double  *share;                     /* [n_level] rising, the last is 1 */
    int32_t *width;                     /* [n_level][n_part] */
    size_t   n_level;
};

static enum lm_status no_memory(const struct ranked *p, struct lm_err *e)
{
    return p->host->fail(e, LM_ENOMEM, "out of memory for pruner 'ranked'");
}

static void destroy(void *self)
{
    struct ranked *p = self;

    p->host->release(p->part);
    p->host->release(p->unit);
    p->host->release(p->share);
    p->host->release(p->width);
    p->host->release(p);
}

/* ---- what may go ---------------------------------------------------------------- */
static void add_part(struct ranked *p, struct part t)
{
    if (t.least < t.n)
        p->part[p->n_part++] = t;
}

static void list_parts(struct ranked *p)
{
    const struct members *c = &p->cfg.members;
    double d = p->arch->hidden, h = p->arch->head_dim;

    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        const struct lm_layer_shape *s = &p->arch->layer[i];
        int32_t size = s->n_kv ? s->n_head / s->n_kv : 0;

        p->body += d * h * (2.0 * s->n_head + 2.0 * s->n_kv) + 3 * d * s->n_ff;
        if (i < c->first || i >= p->arch->n_layer - c->last)
            continue;
        if (c->attn == BY_GROUP)
            add_part(p, (struct part){ LM_SITE_KV_GROUP, i, s->n_kv,
                                       (int32_t)c->min_attn, 1,
                                       d * h * (2.0 * size + 2) });
        else if (c->attn == BY_HEAD)
            add_part(p, (struct part){ LM_SITE_HEAD, i, size, (int32_t)c->min_attn, 1,
                                       d * h * 2.0 * s->n_kv });
        if (c->ffn)
            add_part(p, (struct part){ LM_SITE_FFN_CHANNEL, i, s->n_ff,
                                       least_width(c, s->n_ff), (int32_t)c->multiple,
                                       3 * d });
    }
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct ranked *p = a->host->alloc(sizeof *p, "ranked");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'ranked'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    p->part = a->host->alloc(2 * (size_t)p->arch->n_layer * sizeof *p->part, "ranked");
    if (!p->part) {
        destroy(p);
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'ranked'");
    }
    list_parts(p);
    *self = p;
    return LM_OK;
}

/* ---- units ---------------------------------------------------------------------- */
static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

static int first_to_go(const void *a, const void *b)
{
    const struct unit *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    if (x->left != y->left)
        return x->left > y->left ? -1 : 1;
    return (x->part > y->part) - (x->part < y->part);
}

static void standardize(double *v, int64_t n)
{
    double mean = 0, square = 0;

    for (int64_t i = 0; i < n; i++)
        mean += v[i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        v[i] -= mean;
        square += v[i] * v[i];
    }
    for (int64_t i = 0; i < n; i++)
        v[i] = square > 0 ? v[i] / sqrt(square / (double)(n - 1)) : 0;
}

/* v: scores of the layer's members; becomes those of what a width counts, best first:
 * of query heads, which go with one of each other group, the means over groups.  */
static void sort_scores(const struct ranked *p, const struct part *t, double *v)
{
    int32_t groups = t->site == LM_SITE_HEAD ? p->arch->layer[t->layer].n_kv : 1;

    for (int32_t g = 0; g < groups; g++)
        qsort(v + g * t->n, (size_t)t->n, sizeof *v, falling);
    for (int32_t i = 0; i < t->n; i++) {
        for (int32_t g = 1; g < groups; g++)
            v[i] += v[g * t->n + i];
        v[i] /= groups;
    }
}

/* What the layer loses as a share of what the last one does. */
static double loses(const struct ranked *p, int32_t layer)
{
    const struct members *m = &p->cfg.members;
    double n = p->arch->n_layer - (double)m->last - (double)m->first;
    double a = p->cfg.first_ratio;

    return n < 2 ? 1 : a + (1 - a) * log(1 + layer - (double)m->first) / log(n);
}

/* v [t->n]: best first. */
static void add_units(struct ranked *p, size_t part, const double *v)
{
    const struct part *t = &p->part[part];

    for (int32_t kept = t->n, left; kept > t->least; kept = left) {
        struct unit u = { .part = (int32_t)part };

        left = (kept - 1) / t->each * t->each;
        for (int32_t i = left; i < kept; i++)
            u.score += v[i] / (kept - left);
        if (p->cfg.scope == LAYER)
            u.score = (1 - (left + kept) / (2.0 * t->n)) / loses(p, t->layer);
        u.weight = t->weight * (kept - left);
        u.left = left;
        p->unit[p->n_unit++] = u;
    }
}

static enum lm_status rank_part(struct ranked *p, size_t i, struct lm_space *s,
                                struct lm_err *e)
{
    const struct part *t = &p->part[i];
    const double *score;
    int64_t n, members = t->site != LM_SITE_HEAD ? t->n : p->arch->layer[t->layer].n_head;
    enum lm_status st = p->host->scores(s, t->site, t->layer, &score, &n, e);

    if (st)
        return st;
    if (n != members)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores for %lld members",
                             t->layer, (long long)n, (long long)members);
    double *v = p->host->alloc((size_t)n * sizeof *v, "ranked");
    if (!v)
        return no_memory(p, e);
    for (int64_t k = 0; k < n; k++)
        v[k] = score[k];
    if (p->cfg.standardize)
        standardize(v, n);
    sort_scores(p, t, v);
    add_units(p, i, v);
    p->host->release(v);
    return LM_OK;
}

static enum lm_status rank_all(struct ranked *p, struct lm_space *s, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    size_t n = 1;

    for (size_t i = 0; i < p->n_part; i++)
        n += (size_t)(p->part[i].n / p->part[i].each) + 1;
    p->host->release(p->unit);
    p->n_unit = 0;
    if (!(p->unit = p->host->alloc(n * sizeof *p->unit, "ranked")))
        return no_memory(p, e);
    for (size_t i = 0; !st && i < p->n_part; i++)
        st = rank_part(p, i, s, e);
    qsort(p->unit, p->n_unit, sizeof *p->unit, first_to_go);
    return st;
}

/* ---- budgets -------------------------------------------------------------------- */
/* Widths [n_part] that leave about `share` of the body. */
static void find_widths(const struct ranked *p, double share, int32_t *width)
{
    double left = (1 - share) * p->body;

    for (size_t i = 0; i < p->n_part; i++)
        width[i] = p->part[i].n;
    for (size_t i = 0, end; i < p->n_unit; i = end) {
        double weight = 0;

        for (end = i; end == i || (end < p->n_unit && p->cfg.scope == LAYER
                                   && p->unit[end].score == p->unit[i].score); end++)
            weight += p->unit[end].weight;
        if (weight / 2 > left)
            return;
        left -= weight;
        for (size_t k = i; k < end; k++)
            width[p->unit[k].part] = p->unit[k].left;
    }
}

static int rising(const void *a, const void *b)
{
    return falling(b, a);
}

/* Shares that may be asked for, and 1. */
static enum lm_status list_shares(struct ranked *p, struct lm_err *e)
{
    const struct config *c = &p->cfg;
    double most = 0;
    size_t n = 0, room = c->levels.n + 2 + (size_t)((1 - c->least) / c->step + 1e-9);

    for (size_t i = 0; i < p->n_unit; i++)
        most += p->unit[i].weight;
    p->host->release(p->share);
    if (!(p->share = p->host->alloc(room * sizeof *p->share, "ranked")))
        return no_memory(p, e);
    double bottom = 1 - most / p->body - 0.005;  /* of what can be reached */
    for (size_t i = 0; i < c->levels.n; i++) {
        if (c->levels.v[i] < bottom)
            return p->host->fail(e, LM_ECONFIG, "levels holds %g, but all that may go "
                                 "leaves %.3g of the body; lower min or let attention "
                                 "go too", c->levels.v[i], 1 - most / p->body);
        p->share[n++] = c->levels.v[i];
    }
    for (int64_t i = 1; !c->levels.n && 1 - (double)i * c->step >= c->least - 1e-9; i++)
        if (1 - (double)i * c->step >= bottom)
            p->share[n++] = 1 - (double)i * c->step;
    p->share[n++] = 1;
    qsort(p->share, n, sizeof *p->share, rising);
    p->n_level = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || p->share[i] != p->share[i - 1])
            p->share[p->n_level++] = p->share[i];
    return LM_OK;
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    struct ranked *p = self;
    enum lm_status st = rank_all(p, s, e);

    if (!st)
        st = list_shares(p, e);
    if (st)
        return st;
    p->host->release(p->width);
    p->width = p->host->alloc(p->n_level * (p->n_part + 1) * sizeof *p->width, "ranked");
    if (!p->width)
        return no_memory(p, e);
    for (size_t i = 0; i < p->n_level; i++)
        find_widths(p, p->share[i], p->width + i * p->n_part);
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_INT, .name = "share",
        .max = (double)(p->n_level - 1), .step = 1, .initial = (double)(p->n_level - 1),
        .site = { LM_SITE_MODEL, -1, 0 }
    };
    return p->n_level < 2 ? LM_OK : p->host->add_gene(s, &g, e);
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct ranked *p = self;
    enum lm_status st = LM_OK;

    if (p->n_level < 2)
        return LM_OK;
    if (value->integer < 0 || value->integer >= (int64_t)p->n_level)
        return p->host->fail(e, LM_EBUG, "there are %zu shares, not number %lld",
                             p->n_level, (long long)value->integer);
    const int32_t *width = p->width + (size_t)value->integer * p->n_part;
    for (size_t i = 0; !st && i < p->n_part; i++)
        if (width[i] < p->part[i].n)
            st = p->host->edit_keep_top(plan, p->part[i].site, p->part[i].layer,
                                        width[i], e);
    return st;
}

/* ---- the module ----------------------------------------------------------------- */
static const char *const scopes[] = { "global", "layer", NULL };

static const struct lm_opt options[] = {
    LM_PICK(struct config, scope, "global", scopes, 0,
            "Where members compete: all of the model, or those of each layer, all layers "
            "keeping the same share."),
    LM_REALLIST(struct config, levels, "", 0, 1, NULL, 0,
                "Shares of the body's parameters to choose from, in place of step and "
                "least; all of them is always among them."),
    LM_REAL(struct config, step, "0.05", 0.001, 1, NULL, 0,
            "Shares lie this far apart, counted down from 1."),
    LM_REAL(struct config, least, "0.5", 0, 1, NULL, 0,
            "Least share."),
    LM_REAL(struct config, first_ratio, "1", 0.001, 1, NULL, 0,
            "With scope = \"layer\": what the first layer loses, as a share of what the "
            "last one does; those between follow the logarithm of their number.  SlimGPT's "
            "is 0.25."),
    LM_FLAG(struct config, standardize, "true", 0,
            "With scope = \"global\" the scores of each layer and kind are brought to "
            "mean 0 and deviation 1 before they are compared."),
    MEMBER_OPTIONS,
    LM_OPT_END
};

static uint64_t shapes(const void *config)
{
    const struct config *c = config;

    return c->scope == LAYER && !c->members.first && !c->members.last
        && c->first_ratio >= 1 ? 0
         : member_shapes(c);
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = MEMBER_SITES, .needs_scores = MEMBER_SITES,
    .genes = genes, .decode = decode, .shapes = shapes, .ranks = member_sites
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "ranked", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "cuts by one budget and one ranking of the whole model",
    .reference = "An et al. 2024, Fluctuation-based adaptive structured pruning for large "
                 "language models",
    .opt = options, .config_size = sizeof(struct config), .check = check_members,
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
