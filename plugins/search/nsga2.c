/* SPDX-License-Identifier: Apache-2.0 */
/* nsga2.c -- the elitist genetic algorithm of Deb et al. (2002), for genomes of
 * mixed kinds, with these decisions:
 *
 * - Ranks as in fronts.h, with constrained domination; operators as in vary.h.
 * - No genome is proposed twice: a repeated child is tried again up to 100 times, then
 *   drawn at random.
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
#include <math.h>
#include <string.h>

#include "fronts.h"
#include "vary.h"

enum { RETRIES = 100 };

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
    struct pool pool;                   /* room for 2 n_pop                     */
    size_t   n_pop;
    int64_t  budget, asked;
    bool     bounded, exhausted;
    union lm_value *queue;              /* [n_pop][n_slot] proposals            */
    size_t   n_queue, next;
    union lm_value *child;              /* [2][n_slot] scratch                  */
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

/* Puts a genome into the queue unless it is full or the genome known. */
static bool enqueue(struct search *s, const union lm_value *v)
{
    size_t n = s->p->n_slot;

    if (s->n_queue == s->n_pop || !genes_note(&s->genes, v))
        return false;
    memcpy(s->queue + s->n_queue++ * n, v, n * sizeof *v);
    return true;
}

/* ---- generations ----------------------------------------------------------- */
static const struct member *any_member(struct search *s)
{
    return &s->pool.member[(size_t)genes_below(&s->genes, (double)s->pool.n)];
}

static const union lm_value *tournament(struct search *s)
{
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

static void fill_random(struct search *s)
{
    for (int i = 0; i < RETRIES && s->n_queue < s->n_pop; i++) {
        genes_draw_all(&s->genes, s->child);
        if (enqueue(s, s->child))
            i = -1;
    }
}

/* The genomes of the queue from the start on, changed, up to `until`. */
static void fill_mutants(struct search *s, size_t n_start, size_t until)
{
    size_t n = s->p->n_slot;

    for (int i = 0; i < RETRIES && s->n_queue < until; i++) {
        size_t parent = (size_t)genes_below(&s->genes, (double)n_start);
        memcpy(s->child, s->queue + parent * n, n * sizeof *s->child);
        bool trade = s->bounded && genes_unit(&s->genes) < s->cfg->exchange;
        if (!trade || !vary_exchange(&s->vary, s->child))
            vary_mutate(&s->vary, s->child);
        if (enqueue(s, s->child))
            i = -1;
    }
}

static void first_generation(struct search *s)
{
    size_t n_start;

    for (size_t i = 0; i < s->p->n_start; i++)
        enqueue(s, s->p->start[i]);
    if (s->n_queue == 0) {
        genes_keep_all(&s->genes, s->child);
        enqueue(s, s->child);
    }
    n_start = s->n_queue;
    if (s->p->n_start)
        fill_mutants(s, n_start, s->n_pop);
    fill_random(s);
}

static void breed(struct search *s)
{
    size_t n = s->p->n_slot;
    union lm_value *a = s->child, *b = s->child + n;

    for (int i = 0; i < RETRIES && s->n_queue < s->n_pop; i++) {
        bool trade = s->bounded && genes_unit(&s->genes) < s->cfg->exchange;

        memcpy(a, tournament(s), n * sizeof *a);
        memcpy(b, tournament(s), n * sizeof *b);
        if (!trade && genes_unit(&s->genes) < s->cfg->pc)
            vary_cross(&s->vary, a, b);
        if (!trade || !vary_exchange(&s->vary, a))
            vary_mutate(&s->vary, a);
        if (!trade || !vary_exchange(&s->vary, b))
            vary_mutate(&s->vary, b);
        bool fresh = enqueue(s, a);
        if (enqueue(s, b) || fresh)
            i = -1;
    }
}

static enum lm_status next_generation(struct search *s, struct lm_err *e)
{
    enum lm_status st = genes_reserve(&s->genes, s->n_pop, e);

    if (st != LM_OK)
        return st;
    s->n_queue = s->next = 0;
    if (s->asked == 0) {
        first_generation(s);
    } else if (s->pool.n > 0) {
        select_survivors(s);
        breed(s);
        fill_random(s);
    } else {                            /* nothing told at full fidelity yet */
        fill_random(s);
    }
    s->exhausted = s->n_queue == 0;
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    if (st == LM_OK)
        st = pool_open(&s->pool, s->h, s->genes.tag, p, 2 * s->n_pop, e);
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    if (st != LM_OK)
        return st;
    s->queue = s->h->alloc(s->n_pop * p->n_slot * sizeof *s->queue, s->genes.tag);
    s->child = s->h->alloc(2 * p->n_slot * sizeof *s->child, s->genes.tag);
    if (!s->queue || !s->child)
        return s->h->fail(e, LM_ENOMEM, "out of memory for a population of %zu",
                          s->n_pop);
    for (size_t i = 0; i < p->n_objective; i++)
        s->bounded |= p->objective[i]->bound < INFINITY;
    return LM_OK;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    size_t size = s->p->n_slot * sizeof *s->queue;

    *n = 0;
    if (s->next == s->n_queue && s->asked < s->budget && !s->exhausted) {
        enum lm_status st = next_generation(s, e);
        if (st != LM_OK)
            return st;
    }
    while (*n < max && s->next < s->n_queue && s->asked < s->budget) {
        memcpy(out[(*n)++].value, s->queue + s->next++ * s->p->n_slot, size);
        s->asked++;
    }
    return LM_OK;
}

/* At most n_pop outcomes come between two selections, so the pool has room. */
static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;

    for (size_t i = 0; i < n; i++) {
        if (!outcome_counts(o[i]))
            continue;
        if (s->pool.n == s->pool.room)
            return s->h->fail(e, LM_EBUG, "search 'nsga2' was told more outcomes than "
                              "it proposed genomes");
        pool_add(&s->pool, o[i]->value, o[i]->objective, outcome_violation(s->p, o[i]));
    }
    return LM_OK;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return s->exhausted ? 0 : (size_t)(s->budget - s->asked);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/nsga2");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->n_pop = (size_t)s->cfg->population;
    s->budget = s->cfg->budget ? s->cfg->budget
              : s->cfg->population * s->cfg->generations;
    s->genes = genes_of(a, "nsga2");
    s->vary = (struct vary){ .g = &s->genes, .crossover = s->cfg->crossover,
        .eta_c = s->cfg->eta_c, .eta_m = s->cfg->eta_m, .pm = s->cfg->pm };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    pool_close(&s->pool);
    vary_close(&s->vary);
    genes_close(&s->genes);
    s->h->release(s->queue);
    s->h->release(s->child);
    s->h->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops,
    .genes = LM_BIT(LM_GENE_BOOL) | LM_BIT(LM_GENE_INT) | LM_BIT(LM_GENE_REAL)
           | LM_BIT(LM_GENE_CHOICE) | LM_BIT(LM_GENE_SUBSET),
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
