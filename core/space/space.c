/* SPDX-License-Identifier: Apache-2.0 */
/* space.c -- the genes of a pipeline, copied and checked as they are added.
 *
 * A gene that breaks its own contract (bounds off its steps, an initial value
 * out of bounds, a name used twice) would only show as a strange search much
 * later, so it is refused here, with LM_EBUG and its name.                  */
#include "space/space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct order {                          /* one computed ranking */
    struct order *next;
    uint32_t site;
    int32_t  layer;
    int64_t  n;
    int32_t  member[];
};

struct lm_space {
    lm_score_source *source;
    void    *ctx;
    struct lm_gene **gene;
    size_t   n, cap, slots;
    struct order *orders;
};

const char *lm_site_name(uint32_t site)
{
    static const char *const name[LM_N_SITE_KINDS] = { "unknown sites",
        [LM_SITE_MODEL] = "the model", [LM_SITE_LAYER] = "layers",
        [LM_SITE_ATTN] = "attention blocks", [LM_SITE_MLP] = "MLP blocks",
        [LM_SITE_KV_GROUP] = "KV groups", [LM_SITE_HEAD] = "query heads",
        [LM_SITE_FFN_CHANNEL] = "FFN channels", [LM_SITE_HIDDEN] = "hidden channels",
        [LM_SITE_MATRIX] = "matrices" };
    return name[site < LM_N_SITE_KINDS ? site : 0];
}

enum lm_status lm_space_open(lm_score_source *scores, void *ctx, struct lm_space **out,
                             struct lm_err *e)
{
    struct lm_space *s = lm_alloc(sizeof *s, "space");

    *out = s;
    if (!s)
        return lm_fail_memory(e, sizeof *s, "a search space");
    s->source = scores;
    s->ctx = ctx;
    return LM_OK;
}

static void free_gene(struct lm_gene *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; g->choice && i < g->n; i++)
        lm_release((void *)(uintptr_t)g->choice[i]);
    lm_release((void *)(uintptr_t)g->choice);
    lm_release((void *)(uintptr_t)g->score);
    lm_release((void *)(uintptr_t)g->name);
    lm_release(g);
}

void lm_space_close(struct lm_space *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++)
        free_gene(s->gene[i]);
    lm_release(s->gene);
    while (s->orders) {
        struct order *o = s->orders;

        s->orders = o->next;
        lm_release(o);
    }
    lm_release(s);
}

/* ---- checks ----------------------------------------------------------------- */

static bool whole(double v)
{
    return v == floor(v) && fabs(v) <= 9007199254740992.0;
}

static const char *int_fault(const struct lm_gene *g)
{
    if (!whole(g->min) || !whole(g->max) || !whole(g->step))
        return "bounds and step must be whole numbers";
    if (g->step < 1)
        return "the step must be at least 1";
    if (fmod(g->max - g->min, g->step) != 0)
        return "max must be min plus a multiple of the step";
    if (g->initial < g->min || g->initial > g->max
        || fmod(g->initial - g->min, g->step) != 0)
        return "the initial value is not one of its values";
    return NULL;
}

static const char *real_fault(const struct lm_gene *g)
{
    double i;

    if (!(g->step >= 0) || !isfinite(g->step))
        return "the step must not be negative";
    if (g->log_scale && g->min <= 0)
        return "a logarithmic scale needs a positive min";
    if (g->initial < g->min || g->initial > g->max)
        return "the initial value is out of bounds";
    if (g->step == 0)
        return NULL;
    i = (g->initial - g->min) / g->step;
    return fabs(i - round(i)) > 1e-9 * (1 + fabs(i))
        ? "the initial value is not on its steps" : NULL;
}

static const char *subset_fault(const struct lm_gene *g)
{
    if (g->n < 1)
        return "a subset needs members";
    if (!whole(g->min) || g->min < 0 || g->min > g->n)
        return "min must be between 0 and the number of members";
    if (g->max != g->n)
        return "max must be the number of members, since all are set at first";
    for (uint32_t i = 0; g->score && i < g->n; i++)
        if (isnan(g->score[i]))
            return "a score is not a number";
    return NULL;
}

static const char *choice_fault(const struct lm_gene *g)
{
    if (g->n < 1 || !g->choice)
        return "a choice needs names";
    for (uint32_t i = 0; i < g->n; i++)
        if (!g->choice[i] || !g->choice[i][0])
            return "a choice has no name";
    return whole(g->initial) && g->initial >= 0 && g->initial < g->n
        ? NULL : "the initial value is not one of its choices";
}

/* What is wrong with a gene; NULL: nothing. */
static const char *fault(const struct lm_gene *g)
{
    if (!isfinite(g->min) || !isfinite(g->max) || !isfinite(g->initial))
        return "bounds and initial value must be finite";
    if (g->min > g->max)
        return "min is above max";
    switch (g->kind) {
    case LM_GENE_BOOL:
        return g->initial == 0 || g->initial == 1
            ? NULL : "the initial value must be 0 or 1";
    case LM_GENE_INT:
        return int_fault(g);
    case LM_GENE_REAL:
        return real_fault(g);
    case LM_GENE_CHOICE:
        return choice_fault(g);
    case LM_GENE_SUBSET:
        return subset_fault(g);
    default:
        return "its kind is unknown";
    }
}

/* ---- adding ------------------------------------------------------------------ */

static bool copy_lists(struct lm_gene *to, const struct lm_gene *from)
{
    to->choice = NULL;
    to->score = NULL;
    to->name = lm_strdup(from->name, "gene");
    if (!to->name)
        return false;
    if (from->kind == LM_GENE_CHOICE) {
        char **names = lm_alloc_array(from->n, sizeof *names, "gene");

        to->choice = (const char *const *)names;
        for (uint32_t i = 0; names && i < from->n; i++)
            if (!(names[i] = lm_strdup(from->choice[i], "gene")))
                return false;
        if (!names)
            return false;
    }
    if (from->kind == LM_GENE_SUBSET && from->score) {
        double *score = lm_alloc_array(from->n, sizeof *score, "gene");

        to->score = score;
        if (!score)
            return false;
        memcpy(score, from->score, from->n * sizeof *score);
    }
    return true;
}

/* Bounds that follow from the kind, so that readers need not know. */
static void settle(struct lm_gene *g, size_t slot)
{
    if (g->kind == LM_GENE_BOOL || g->kind == LM_GENE_CHOICE) {
        g->min = 0;
        g->max = g->kind == LM_GENE_BOOL ? 1 : g->n - 1.0;
        g->step = 1;
    }
    g->slot = (uint32_t)slot;
    g->slots = g->kind == LM_GENE_SUBSET ? (g->n + 63) / 64 : 1;
}

static bool make_room(struct lm_space *s)
{
    size_t cap = s->cap ? 2 * s->cap : 64;
    void *p;

    if (s->n < s->cap)
        return true;
    if (!(p = lm_resize(s->gene, cap * sizeof *s->gene)))
        return false;
    s->gene = p;
    s->cap = cap;
    return true;
}

enum lm_status lm_space_add(struct lm_space *s, const struct lm_gene *from,
                            struct lm_err *e)
{
    struct lm_gene g = { 0 }, *copy;
    size_t size = from->struct_size;
    const char *why;

    memcpy(&g, from, size < sizeof g ? size : sizeof g);
    g.struct_size = sizeof g;
    if (!g.name || !g.name[0])
        return lm_fail(e, LM_EBUG, "gene %zu has no name", s->n);
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->gene[i]->name, g.name))
            return lm_fail(e, LM_EBUG, "gene '%s' is declared twice: two entries of "
                           "the pipeline decide the same thing", g.name);
    if (g.kind == LM_GENE_BOOL || g.kind == LM_GENE_CHOICE)
        g.min = g.max = 0;
    if ((why = fault(&g)))
        return lm_fail(e, LM_EBUG, "gene '%s': %s", g.name, why);
    if (!make_room(s) || !(copy = lm_alloc(sizeof *copy, "gene")))
        return lm_fail_memory(e, sizeof g, "a gene");
    *copy = g;
    if (!copy_lists(copy, &g)) {
        free_gene(copy);
        return lm_fail_memory(e, g.n * sizeof(double), "a gene");
    }
    settle(copy, s->slots);
    s->slots += copy->slots;
    s->gene[s->n++] = copy;
    return LM_OK;
}

const struct lm_gene *const *lm_space_genes(const struct lm_space *s, size_t *n)
{
    if (n)
        *n = s->n;
    return (const struct lm_gene *const *)s->gene;
}

size_t lm_space_slots(const struct lm_space *s)
{
    return s->slots;
}

/* ---- scores and orders -------------------------------------------------------- */

enum lm_status lm_space_scores(struct lm_space *s, uint32_t site, int32_t layer,
                               const double **score, int64_t *n, struct lm_err *e)
{
    if (!s->source)
        return lm_fail(e, LM_ECONFIG, "importance of %s is needed, but the pipeline "
                       "names no scorer; add score = ( { use = \"wanda\"; } );",
                       lm_site_name(site));
    return s->source(s->ctx, site, layer, score, n, e);
}

struct ranked { double score; int32_t index; };

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static enum lm_status rank(struct order *o, const double *score, struct lm_err *e)
{
    struct ranked *r = lm_alloc_array((size_t)o->n, sizeof *r, "order");

    if (!r)
        return lm_fail_memory(e, (size_t)o->n * sizeof *r, "an order of sites");
    for (int64_t i = 0; i < o->n; i++) {
        if (isnan(score[i])) {
            lm_release(r);
            return lm_fail(e, LM_EFAILED, "layer %d: score %lld of %s is not a "
                           "number; is the model or its calibration damaged?",
                           o->layer, (long long)i, lm_site_name(o->site));
        }
        r[i].score = score[i];
        r[i].index = (int32_t)i;
    }
    qsort(r, (size_t)o->n, sizeof *r, by_score);
    for (int64_t i = 0; i < o->n; i++)
        o->member[i] = r[i].index;
    lm_release(r);
    return LM_OK;
}

enum lm_status lm_space_order(struct lm_space *s, uint32_t site, int32_t layer,
                              const int32_t **order, int64_t *n, struct lm_err *e)
{
    const double *score;
    struct order *o;
    enum lm_status st;

    if (site >= LM_N_SITE_KINDS)
        return lm_fail(e, LM_EBUG, "no kind of site has number %u", site);
    for (o = s->orders; o; o = o->next)
        if (o->site == site && o->layer == layer)
            break;
    if (!o) {
        if ((st = lm_space_scores(s, site, layer, &score, n, e)))
            return st;
        if (*n < 0 || *n > INT32_MAX)
            return lm_fail(e, LM_EBUG, "layer %d: %lld scores", layer, (long long)*n);
        if (!(o = lm_alloc(sizeof *o + (size_t)*n * sizeof o->member[0], "order")))
            return lm_fail_memory(e, (size_t)*n * sizeof o->member[0], "an order");
        o->site = site;
        o->layer = layer;
        o->n = *n;
        if ((st = rank(o, score, e))) {
            lm_release(o);
            return st;
        }
        o->next = s->orders;
        s->orders = o;
    }
    *order = o->member;
    *n = o->n;
    return LM_OK;
}
