/* SPDX-License-Identifier: Apache-2.0 */
/* one_plus_lambda.c -- one parent, many children that keep its size: the search of
 * EvoPress (Sieberling et al. 2024), where it stands inside `halving`, which is its
 * multi-step selection.
 *
 * The parent is the best genome so far by the first objective among those that keep the
 * constraints; while none does, the one that violates them least.  Its children differ
 * by level switches: a gene loses a step, a like gene gains one, min(a, b) times with a,
 * b of 1..3.  A child of a parent that breaks a constraint, or whose genes cannot trade,
 * is mutated gene by gene instead (vary.h), and so is a share `resize` of the children,
 * because switches alone never change the size.
 *
 * The first round is the problem's start; without one it is the uncompressed genome and
 * `initial` genomes whose genes all lie at about one share of their ranges, the shares
 * going evenly from 1 to 0: some of them lie near any bound on a size.           */
#include <math.h>
#include <string.h>

#include "fronts.h"
#include "round.h"
#include "vary.h"

struct config { int64_t budget, offspring, initial; double resize; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct vary  vary;
    struct pool  parent;                /* member 0, and who challenges it      */
    struct round round;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "640", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_INT(struct config, offspring, "32", 1, 10000, "genomes", 0,
           "Children of one parent."),
    LM_INT(struct config, initial, "64", 1, 10000, "genomes", 0,
           "Genomes of the first round, from large to small."),
    LM_REAL(struct config, resize, "0.1", 0, 1, NULL, 0,
            "Share of the children that may change their size."),
    LM_OPT_END
};

/* All genes about at a share of their ranges. */
static void at_share(struct search *s, double share, union lm_value *v)
{
    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct axis *a = &s->genes.axis[i];
        const struct lm_gene *g = a->gene;
        double wide = g->kind == LM_GENE_SUBSET ? g->max - g->min : a->top;
        double x = share * wide + (a->continuous ? 0 : genes_unit(&s->genes) - 0.5);

        if (g->kind == LM_GENE_SUBSET)
            genes_draw_subset(&s->genes, g, v + g->slot, g->min +
                              fmin(fmax(floor(x + 0.5), 0), wide));
        else if (a->ordered)
            genes_put(a, x, v);
        else
            genes_draw(&s->genes, i, v);
    }
}

static void first_round(struct search *s)
{
    double n = (double)s->cfg->initial;
    union lm_value *child = round_spare(&s->round);

    for (double i = 0; s->p->n_start == 0 && i < n; i++) {
        at_share(s, n > 1 ? 1 - i / (n - 1) : 1, child);
        round_add(&s->round, child);
    }
}

/* round_child */
static bool make_child(void *ctx, union lm_value *child)
{
    struct search *s = ctx;
    const struct member *parent = &s->parent.member[0];
    bool resize = parent->violation > 0 || genes_unit(&s->genes) < s->cfg->resize;

    memcpy(child, parent->value, s->p->n_slot * sizeof *child);
    if (resize || !vary_exchange(&s->vary, child))
        vary_mutate(&s->vary, child);
    return true;
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;

    (void)e;
    if (round_add_starts(&s->round))
        first_round(s);
    if (s->round.n > 0)
        return LM_OK;
    if (s->parent.n > 0)                /* else nothing was told of all items yet */
        round_add_made(&s->round, (size_t)s->cfg->offspring, ROUND_CHILDREN,
                       make_child, s);
    round_add_random(&s->round, (size_t)s->cfg->offspring);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    int64_t size = s->cfg->offspring > s->cfg->initial ? s->cfg->offspring
                                                       : s->cfg->initial + 1;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    s->parent = pool_of(s->h, s->genes.tag, p);
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, (size_t)size, s->cfg->budget, e);
    return st;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, fill, s, out, max, n, e);
}

static bool is_better(const struct member *a, const struct member *b)
{
    if (a->violation != b->violation)
        return a->violation < b->violation;
    return a->f[0] < b->f[0];
}

/* A challenger is member 1; the better one becomes member 0. */
static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && st == LM_OK; i++) {
        if (o[i]->fidelity < 1)         /* an estimate must not become the parent */
            continue;
        st = pool_tell(&s->parent, s->p, &o[i], 1, e);
        if (s->parent.n == 2) {
            struct member *m = s->parent.member;
            if (is_better(&m[1], &m[0])) {
                struct member old = m[0];
                m[0] = m[1];
                m[1] = old;
            }
            s->parent.n = 1;
        }
    }
    return st;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)s->cfg->budget);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/one_plus_lambda");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "one_plus_lambda");
    s->vary = (struct vary){ .g = &s->genes, .eta_m = 20 };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    pool_close(&s->parent);
    round_close(&s->round);
    vary_close(&s->vary);
    genes_close(&s->genes);
    s->h->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops,
    .genes = GENES_ALL,
    .begin = begin, .ask = ask, .tell = tell, .budget = budget,
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module m = {
        LM_MODULE_HEAD(SEARCH), .name = "one_plus_lambda", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "one parent, children that keep its size (EvoPress)",
        .reference = "Sieberling, Kuznedelev, Kurtic & Alistarh, arXiv 2410.14649",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
