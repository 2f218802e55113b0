/* SPDX-License-Identifier: Apache-2.0 */
/* regularized_evolution.c -- aging evolution (Real et al. 2019) for several objectives.
 *
 * The population is the last `population` genomes that were told; the oldest dies,
 * however good it is.  A parent is the best of `sample` random members, taken with
 * replacement; its child has one random gene at another value.  "Best" is by fronts
 * (constrained domination), within a front by farthest-first order: the member with the
 * least first objective, then always the one farthest from all before it, objectives
 * scaled to the front's ranges.  That is how Syne Tune's MO-REA extends the method.
 *
 * The first population is the problem's start (or the uncompressed genome) and random
 * ones.  With `batch` 1 everything told counts for the next proposal; larger batches
 * are evaluated faster.  No genome is proposed twice: a known child is made again, after
 * 100 times drawn at random.                                                  */
#include <string.h>

#include "fronts.h"
#include "round.h"
#include "vary.h"

struct config { int64_t budget, population, sample, batch; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct vary  vary;
    struct pool  pool;
    struct round round;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "200", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_INT(struct config, population, "10", 2, 10000, "genomes", 0,
           "How many of the latest genomes live."),
    LM_INT(struct config, sample, "5", 1, 10000, "genomes", 0,
           "Of how many random members the best is the parent."),
    LM_INT(struct config, batch, "1", 1, 10000, "genomes", 0,
           "How many children are proposed before the population ages."),
    LM_OPT_END
};

static void drop_oldest(struct pool *p)
{
    size_t old = 0;

    for (size_t i = 1; i < p->n; i++)
        if (p->member[i].birth < p->member[old].birth)
            old = i;
    struct member dead = p->member[old];        /* its memory is used again */
    p->member[old] = p->member[--p->n];
    p->member[p->n] = dead;
}

/* The pool is in order, best first. */
static const struct member *parent(struct search *s)
{
    double best = (double)s->pool.n;

    for (int64_t i = 0; i < s->cfg->sample; i++) {
        double k = genes_below(&s->genes, (double)s->pool.n);
        best = k < best ? k : best;
    }
    return &s->pool.member[(size_t)best];
}

/* round_child */
static bool make_child(void *ctx, union lm_value *child)
{
    struct search *s = ctx;
    size_t gene = (size_t)genes_below(&s->genes, (double)s->p->n_gene);

    memcpy(child, parent(s)->value, s->p->n_slot * sizeof *child);
    return vary_gene(&s->vary, gene, child);
}

static void breed(struct search *s)
{
    size_t until = (size_t)s->cfg->batch;

    pool_rank(&s->pool);
    pool_spread(&s->pool);
    round_add_made(&s->round, until, ROUND_CHILDREN, make_child, s);
    round_add_random(&s->round, until);
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;

    (void)e;
    if (round_add_starts(&s->round) || s->pool.n == 0)
        round_add_random(&s->round, (size_t)s->cfg->population);
    else
        breed(s);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    int64_t size = s->cfg->batch > s->cfg->population ? s->cfg->batch
                                                      : s->cfg->population;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    s->pool = pool_of(s->h, s->genes.tag, p);
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

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && st == LM_OK; i++) {
        st = pool_tell(&s->pool, s->p, &o[i], 1, e);
        if (s->pool.n > (size_t)s->cfg->population)
            drop_oldest(&s->pool);
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
    struct search *s = a->host->alloc(sizeof *s, "search/regularized_evolution");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "regularized_evolution");
    s->vary.g = &s->genes;
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    pool_close(&s->pool);
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
        LM_MODULE_HEAD(SEARCH), .name = "regularized_evolution", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "aging evolution for several objectives",
        .reference = "Real, Aggarwal, Huang & Le, AAAI 2019",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
