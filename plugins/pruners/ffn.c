/* SPDX-License-Identifier: Apache-2.0 */
/* ffn.c -- pruner: narrows the MLPs, each layer to a width of its own.
 *
 * The kept channels are the best by score, so a width says all, and the widths
 * of a layer are nested.  A layer's gene ffn[i] is the width itself when the
 * allowed widths lie on steps below the full width n_ff (n_ff - j * step).  With
 * `levels`, with `zero`, or where n_ff is no multiple of `multiple`, they do
 * not; the gene then is the number of the width in rising order, the highest
 * being n_ff.  The full width is always allowed.  With `group` or `uniform` a gene is
 * that of several layers, of equal widths.                                  */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

struct config {
    int64_t step, multiple, group, first, last;
    double  min;
    struct lm_reals levels;
    bool    zero, uniform;
};

struct widths { int32_t *v; int32_t n; };       /* rising, the last is n_ff */

struct ffn {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config cfg;                  /* levels: the host's memory */
    struct widths *layer;               /* [n_layer]; n 0: has no gene */
};

static void destroy(void *self)
{
    struct ffn *p = self;

    for (int32_t i = 0; p->layer && i < p->arch->n_layer; i++)
        p->host->release(p->layer[i].v);
    p->host->release(p->layer);
    p->host->release(p);
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    if (!c->levels.n && c->step % c->multiple)
        return h->fail(e, LM_ECONFIG, "step = %lld is no multiple of multiple = %lld, so "
                       "widths would not fit the export", (long long)c->step,
                       (long long)c->multiple);
    for (size_t i = 0; i < c->levels.n; i++)
        if (c->levels.v[i] == 0 && !c->zero)
            return h->fail(e, LM_ECONFIG, "levels holds 0, which removes the MLP; add "
                           "zero = true if that is meant");
    return LM_OK;
}

/* ---- the widths of a layer -------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

static bool on_steps(const struct ffn *p, int32_t n_ff)
{
    return !p->cfg.levels.n && !p->cfg.zero && n_ff % p->cfg.multiple == 0;
}

/* A share of n_ff on the grid of `multiple`: at least one unit, at most n_ff. */
static int32_t level_width(const struct ffn *p, double share, int32_t n_ff)
{
    double unit = (double)p->cfg.multiple, w = floor(share * n_ff / unit + 0.5) * unit;

    if (share == 0)
        return 0;
    w = w < unit ? unit : w;
    return share >= 1 || w > n_ff ? n_ff : (int32_t)w;
}

static int32_t floor_to(int64_t w, int64_t multiple)
{
    return (int32_t)(w - w % multiple);
}

/* Writes all widths, in any order, with repetitions; returns how many. */
static int32_t list_widths(const struct ffn *p, int32_t n_ff, int32_t *out)
{
    double least = p->cfg.min <= 1 ? p->cfg.min * n_ff : p->cfg.min;
    int32_t n = 0;

    out[n++] = n_ff;
    for (size_t i = 0; i < p->cfg.levels.n; i++)
        out[n++] = level_width(p, p->cfg.levels.v[i], n_ff);
    for (int64_t w = n_ff - p->cfg.step; !p->cfg.levels.n && w > 0 && w >= least;
         w -= p->cfg.step) {
        int32_t fit = n_ff % p->cfg.multiple ? floor_to(w, p->cfg.multiple) : (int32_t)w;

        if (fit > 0 && fit >= least)
            out[n++] = fit;
    }
    if (p->cfg.zero)
        out[n++] = 0;
    return n;
}

static enum lm_status make_widths(struct ffn *p, int32_t layer, struct lm_err *e)
{
    struct widths *w = &p->layer[layer];
    int32_t n_ff = p->arch->layer[layer].n_ff, n;
    size_t most = p->cfg.levels.n + (size_t)(n_ff / p->cfg.step) + 2;

    if (n_ff == 0 || layer < p->cfg.first || layer >= p->arch->n_layer - p->cfg.last)
        return LM_OK;
    if (!(w->v = p->host->alloc(most * sizeof *w->v, "ffn")))
        return p->host->fail(e, LM_ENOMEM, "out of memory for pruner 'ffn'");
    n = list_widths(p, n_ff, w->v);
    qsort(w->v, (size_t)n, sizeof *w->v, by_size);
    for (int32_t i = 0; i < n; i++)
        if (i == 0 || w->v[i] != w->v[i - 1])
            w->v[w->n++] = w->v[i];
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct ffn *p = a->host->alloc(sizeof *p, "ffn");
    enum lm_status st = LM_OK;

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'ffn'");
    p->host = a->host;
    p->arch = a->host->arch(a->model);
    p->cfg = *(const struct config *)a->config;
    p->layer = a->host->alloc((size_t)p->arch->n_layer * sizeof *p->layer, "ffn");
    if (!p->layer)
        st = a->host->fail(e, LM_ENOMEM, "out of memory for pruner 'ffn'");
    for (int32_t i = 0; !st && i < p->arch->n_layer; i++)
        st = make_widths(p, i, e);
    if (st)
        destroy(p);
    else
        *self = p;
    return st;
}

/* ---- genes and back ------------------------------------------------------------ */

static enum lm_status add(const struct ffn *p, struct lm_space *s, int32_t i,
                          const char *name, struct lm_err *e)
{
    const struct widths *w = &p->layer[i];
    bool steps = on_steps(p, p->arch->layer[i].n_ff);
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_INT, .name = name,
        .min = steps ? w->v[0] : 0, .max = steps ? w->v[w->n - 1] : w->n - 1,
        .step = steps ? (double)p->cfg.step : 1,
        .site = { p->cfg.uniform ? LM_SITE_MODEL : LM_SITE_MLP, i, 0 }
    };

    g.initial = g.max;
    return p->host->add_gene(s, &g, e);
}

/* How many layers share a gene. */
static int32_t group(const struct ffn *p)
{
    return p->cfg.uniform ? p->arch->n_layer : (int32_t)p->cfg.group;
}

static enum lm_status check_equal(const struct ffn *p, int32_t first, int32_t i,
                                  struct lm_err *e)
{
    const struct widths *f = &p->layer[first], *w = &p->layer[i];

    if (w->n == f->n && !memcmp(w->v, f->v, (size_t)w->n * sizeof *w->v))
        return LM_OK;
    return p->host->fail(e, LM_ECONFIG, "%s needs MLPs of equal width, but layer %d has "
                         "%d channels and layer %d has %d", p->cfg.uniform ? "uniform"
                         : "group", first, p->arch->layer[first].n_ff, i,
                         p->arch->layer[i].n_ff);
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct ffn *p = self;
    enum lm_status st = LM_OK;
    int32_t first = 0, members = 0;
    char name[32];

    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (p->layer[i].n < 2)
            continue;
        if (members % group(p) == 0) {
            first = i;
            snprintf(name, sizeof name, p->cfg.uniform ? "ffn" : "ffn[%d]", i);
            st = add(p, s, i, name, e);
        } else {
            st = check_equal(p, first, i, e);
        }
        members++;
    }
    return st;
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct ffn *p = self;
    enum lm_status st = LM_OK;
    int32_t members = 0;

    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        const struct widths *w = &p->layer[i];
        int64_t v;

        if (w->n < 2)
            continue;
        v = value[members++ / group(p)].integer;
        if (!on_steps(p, p->arch->layer[i].n_ff)) {
            if (v < 0 || v >= w->n)
                return p->host->fail(e, LM_EBUG, "layer %d has %d widths, not number "
                                     "%lld", i, w->n, (long long)v);
            v = w->v[v];
        }
        st = p->host->edit_keep_top(plan, LM_SITE_FFN_CHANNEL, i, v, e);
    }
    return st;
}

static const struct lm_opt options[] = {
    LM_INT(struct config, step, "64", 1, 1000000, "channels", 0,
           "Widths lie this far apart, counted down from the full width."),
    LM_REAL(struct config, min, "0.0625", 0, 1000000, NULL, 0,
            "Least width that is kept: a share of the full width up to 1, above that "
            "channels."),
    LM_REALLIST(struct config, levels, "", 0, 1, NULL, 0,
                "Shares of the full width to choose from, in place of step and min; the "
                "full width is always among them."),
    LM_INT(struct config, multiple, "32", 1, 65536, "channels", 0,
           "Every width but the full one is a multiple of this, the block of the export "
           "format; 1 where that has none."),
    LM_FLAG(struct config, zero, "false", 0,
            "An MLP may also be removed altogether."),
    LM_FLAG(struct config, uniform, "false", 0,
            "One gene sets the width of all layers."),
    LM_INT(struct config, group, "1", 1, 1000000, "layers", 0,
           "So many neighbouring layers have one gene."),
    LM_INT(struct config, first, "0", 0, 1000000, "layers", 0,
           "The first so many layers keep their width."),
    LM_INT(struct config, last, "0", 0, 1000000, "layers", 0,
           "The last so many layers keep their width."),
    LM_OPT_END
};

static uint64_t shapes(const void *config)
{
    const struct config *c = config;

    return (c->uniform && !c->first && !c->last ? 0 : LM_SHAPE_UNEVEN_FF) |
           (c->zero ? LM_SHAPE_NO_MLP : 0);
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_FFN_CHANNEL),
    .needs_scores = LM_BIT(LM_SITE_FFN_CHANNEL), .genes = genes, .decode = decode,
    .shapes = shapes
};

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER),
    .name = "ffn", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "narrows the MLPs, each layer on its own",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
