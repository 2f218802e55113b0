/* SPDX-License-Identifier: Apache-2.0 */
/* nsga2.c -- the elitist genetic algorithm of Deb et al. (2002), for genomes of
 * mixed kinds, with these decisions:
 *
 * - Ranks as in fronts.h, with constrained domination; operators as in vary.h.
 * - No genome is proposed twice: a repeated child is tried again (breed.h), then drawn
 *   at random.
 * - Level switches (EvoPress, Sieberling et al. 2024): where a size bound is active
 *   every plain mutation leaves the size; these stay on it.  While some objective is
 *   bounded a share `exchange` of the pairs of children is made so, without crossover.
 *
 * The first population is the problem's start and mutants of it; without a start it
 * is the uncompressed genome and random ones.  Outcomes of fidelity below 1 are
 * not taken in, but those that lost a race are, as estimated.  Whole generations are
 * made at once, so the result does not depend on how many proposals the host asks for
 * at a time.
 *
 * Invariants: the pool holds told genomes; after select_survivors() they are the
 * survivors, best first (rank, then crowding), at most `population`.          */
#include "breed.h"
#include "fronts.h"

struct config {
    int64_t population, generations, budget, crossover;
    double  pc, eta_c, eta_m, pm, exchange;
};

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct vary vary;
    struct pool pool;
    struct round round;                 /* a generation                         */
    struct breed breed;
    size_t   n_pop;
};

static const char *const crossovers[] = { "sbx", "uniform", "cut", NULL };
static const struct lm_opt options[] = {
    LM_INT(struct config, population, "40", 4, 10000, "genomes", 0,
           "How many genomes survive each generation."),
    LM_INT(struct config, generations, "10", 1, 1e6, NULL, 0,
           "How many populations are evaluated, the first included."),
    LM_INT(struct config, budget, "0", 0, 1e9, "genomes", 0,
           "How many genomes to propose at most; 0: population * generations."),
    LM_PICK(struct config, crossover, "sbx", crossovers, 0,
            "How two parents mix: sbx, uniform, or cut at a layer."),
    LM_REAL(struct config, pc, "0.9", 0, 1, NULL, 0,
            "Probability that a pair of parents crosses."),
    LM_REAL(struct config, eta_c, "15", 0, 1000, NULL, LM_EXPERT,
            "Distribution index of simulated binary crossover; higher stays closer."),
    LM_REAL(struct config, eta_m, "20", 0, 1000, NULL, LM_EXPERT,
            "Distribution index of polynomial mutation; higher stays closer."),
    LM_REAL(struct config, pm, "0", 0, 1, NULL, 0,
            "Probability that a gene mutates; 0: 1 / genes, for genes with up to "
            "4 values and subsets at least 0.02."),
    LM_REAL(struct config, exchange, "0.5", 0, 1, NULL, 0,
            "Share of children made by level switches that keep the size, while "
            "some objective has a bound."),
    LM_OPT_END
};

/* ---- generations ----------------------------------------------------------- */
static const struct member *any_member(struct search *s)
{
    return &s->pool.member[(size_t)genes_below(&s->genes, (double)s->pool.n)];
}

/* breed_parent */
static const union lm_value *tournament(void *ctx)
{
    struct search *s = ctx;
    const struct member *a = any_member(s), *b = any_member(s);

    if (a->rank != b->rank)
        return (a->rank < b->rank ? a : b)->value;
    if (a->crowding != b->crowding)
        return (a->crowding > b->crowding ? a : b)->value;
    return (genes_unit(&s->genes) < 0.5 ? a : b)->value;
}

static void select_survivors(struct search *s)
{
    pool_rank(&s->pool);
    if (s->pool.n > s->n_pop)
        s->pool.n = s->n_pop;
}

/* round_fill */
static enum lm_status next_generation(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;

    (void)e;
    if (s->round.asked == 0) {
        round_add_starts(&s->round);
        if (s->p->n_start)
            breed_mutants(&s->breed, s->round.n, s->n_pop);
    } else if (s->pool.n > 0) {
        select_survivors(s);
        breed_pairs(&s->breed, tournament, s, s->n_pop);
    }
    round_add_random(&s->round, s->n_pop);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static int64_t all_trials(const struct config *c)
{
    return c->budget ? c->budget : c->population * c->generations;
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    s->pool = pool_of(s->h, s->genes.tag, p);
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, s->n_pop, all_trials(s->cfg), e);
    if (bounds_of(p) > 0)
        s->breed.exchange = s->cfg->exchange;
    return st == LM_OK ? breed_open(&s->breed, e) : st;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, next_generation, s, out, max, n, e);
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    return pool_tell(&s->pool, s->p, o, n, e);
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)all_trials(s->cfg));
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/nsga2");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->n_pop = (size_t)s->cfg->population;
    s->genes = genes_of(a, "nsga2");
    s->vary = (struct vary){ .g = &s->genes, .crossover = s->cfg->crossover,
        .eta_c = s->cfg->eta_c, .eta_m = s->cfg->eta_m, .pm = s->cfg->pm };
    s->breed = (struct breed){ .vary = &s->vary, .round = &s->round, .pc = s->cfg->pc };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    pool_close(&s->pool);
    round_close(&s->round);
    breed_close(&s->breed);
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
        LM_MODULE_HEAD(SEARCH), .name = "nsga2", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "genetic algorithm for fronts (NSGA-II)",
        .reference = "Deb, Pratap, Agarwal & Meyarivan, IEEE TEC 6(2), 2002",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
