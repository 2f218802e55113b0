/* SPDX-License-Identifier: Apache-2.0 */
/* nsga2.c -- the elitist genetic algorithm of Deb et al. (2002), for genomes of
 * mixed kinds, with these decisions:
 *
 * - Constrained domination: feasible beats infeasible; of two infeasible ones
 *   the smaller sum of violations wins; a genome that cannot be built is worst.
 * - No genome is proposed twice: hashes of all proposals are kept, a repeated
 *   child is tried again up to 100 times, then drawn at random.
 * - Genes with more than 4 ordered values: simulated binary crossover (Deb &
 *   Agrawal 1995) and polynomial mutation (Deb & Goyal 1996) on the index of the
 *   step, rounded.  Where few values exist these two degenerate (a two-valued
 *   gene would mutate once in four million times), so such genes, and choices
 *   without order, cross uniformly and mutate by drawing another value with
 *   probability max(0.02, 1/n).  Subsets cross as sets and mutate by a swap, an
 *   addition or a removal within their bounds.
 * - crossover = "uniform" swaps whole genes, "cut" the genes above a random
 *   place in the order of layers, so that children share a prefix with a parent.
 * - Level switches (EvoPress, Sieberling et al. 2024): one gene loses a step, a
 *   like gene gains one, up to three times.  Where a size bound is active every
 *   plain mutation leaves the size; these stay on it.  While some objective is
 *   bounded a share `exchange` of the pairs of children is made so, without
 *   crossover.
 *
 * The first population is the problem's start and mutants of it; without a start it
 * is the uncompressed genome and random ones.  Outcomes of fidelity below 1 are
 * not taken in, but those that lost a race are, as estimated.  Whole generations are
 * made at once, so the result does not depend on how many proposals the host asks for
 * at a time.
 *
 * Invariants: pool[0 .. n_pool-1] are told genomes; after select_survivors() they are the
 * survivors, best first (rank, then crowding), n_pool <= population.          */
#include "nsga2.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RETRIES = 100 };

struct member {
    union lm_value *value;              /* [n_slot]                             */
    double  *f;                         /* [n_objective]                        */
    double   violation, crowding;       /* violation: 0 feasible, INF not built */
    size_t   rank, dominators;
    uint64_t birth;                     /* makes every order total              */
};

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct vary vary;                   /* operators and the random stream      */
    size_t   n_pop, n_obj;
    int64_t  budget, asked;
    bool     bounded, exhausted;
    struct member *pool;                /* [2 n_pop], owning slices of these:   */
    union lm_value *value;              /* [2 n_pop][n_slot]                    */
    double  *f;                         /* [2 n_pop][n_obj]                     */
    size_t   n_pool;
    uint64_t births;
    union lm_value *queue;              /* [n_pop][n_slot] proposals            */
    size_t   n_queue, next;
    union lm_value *child;              /* [2][n_slot] scratch                  */
    uint64_t *seen;                     /* hashes, open addressing; 0 is free   */
    size_t   n_seen, n_table;           /* n_table: a power of two              */
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

/* ---- what was proposed already --------------------------------------------- */
static uint64_t *place(uint64_t *table, size_t n, uint64_t key)
{
    size_t i = key & (n - 1);

    while (table[i] != 0 && table[i] != key)
        i = (i + 1) & (n - 1);
    return table + i;
}

/* Makes room for n more hashes. */
static enum lm_status reserve(struct search *s, size_t n, struct lm_err *e)
{
    size_t want = s->n_table ? s->n_table : 256;
    uint64_t *t;

    while (2 * (s->n_seen + n) > want)
        want *= 2;
    if (want == s->n_table)
        return LM_OK;
    t = s->h->alloc(want * sizeof *t, "search/nsga2");
    if (!t)
        return s->h->fail(e, LM_ENOMEM, "out of memory for the genomes proposed");
    for (size_t i = 0; i < s->n_table; i++)
        if (s->seen[i])
            *place(t, want, s->seen[i]) = s->seen[i];
    s->h->release(s->seen);
    s->seen = t;
    s->n_table = want;
    return LM_OK;
}

/* Puts a genome into the queue unless it is full or the genome known. */
static bool enqueue(struct search *s, const union lm_value *v)
{
    size_t n = s->p->n_slot;
    uint64_t key = n, *at;

    for (size_t i = 0; i < n; i++)
        key = vary_mix((key ^ v[i].bits) + UINT64_C(0x9e3779b97f4a7c15));
    key += key == 0;
    at = place(s->seen, s->n_table, key);
    if (*at || s->n_queue == s->n_pop)
        return false;
    *at = key;
    s->n_seen++;
    memcpy(s->queue + s->n_queue++ * n, v, n * sizeof *v);
    return true;
}

/* ---- ranking --------------------------------------------------------------- */
static bool dominates(const struct member *a, const struct member *b, size_t m)
{
    bool better = false;

    if (a->violation > 0 || b->violation > 0)
        return a->violation < b->violation;
    for (size_t i = 0; i < m; i++) {
        if (a->f[i] > b->f[i])
            return false;
        better |= a->f[i] < b->f[i];
    }
    return better;
}

static int by_rank(const void *x, const void *y)
{
    const struct member *a = x, *b = y;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->crowding != b->crowding)
        return a->crowding > b->crowding ? -1 : 1;
    return a->birth < b->birth ? -1 : 1;
}

/* Non-dominated sort by peeling; ends with the pool in order of rank. */
static void sort_fronts(struct search *s)
{
    struct member *p = s->pool;
    size_t n = s->n_pool, first = 0, last;

    for (size_t i = 0; i < n; i++) {
        p[i].dominators = 0;
        p[i].crowding = 0;
        for (size_t j = 0; j < n; j++)
            p[i].dominators += dominates(&p[j], &p[i], s->n_obj);
    }
    for (size_t rank = 0; first < n; rank++, first = last) {
        last = first;
        for (size_t i = first; i < n; i++)
            if (p[i].dominators == 0) {
                struct member t = p[i];
                p[i] = p[last];
                p[last] = t;
                p[last++].rank = rank;
            }
        for (size_t i = first; i < last; i++)
            for (size_t j = last; j < n; j++)
                p[j].dominators -= dominates(&p[i], &p[j], s->n_obj);
    }
}

/* Insertion sort of a front by objective k: fronts are short. */
static void sort_front(struct member *p, size_t n, size_t k)
{
    for (size_t i = 1; i < n; i++) {
        struct member t = p[i];
        size_t j = i;
        for (; j > 0 && (p[j - 1].f[k] > t.f[k]
               || (p[j - 1].f[k] == t.f[k] && p[j - 1].birth > t.birth)); j--)
            p[j] = p[j - 1];
        p[j] = t;
    }
}

static void crowd(struct member *p, size_t n, size_t m)
{
    for (size_t k = 0; k < m; k++) {
        sort_front(p, n, k);
        double range = p[n - 1].f[k] - p[0].f[k];
        p[0].crowding = p[n - 1].crowding = INFINITY;
        if (!(range > 0 && range < INFINITY))
            continue;
        for (size_t i = 1; i + 1 < n; i++)
            p[i].crowding += (p[i + 1].f[k] - p[i - 1].f[k]) / range;
    }
}

static void select_survivors(struct search *s)
{
    sort_fronts(s);
    for (size_t i = 0, j; i < s->n_pool; i = j) {
        for (j = i; j < s->n_pool && s->pool[j].rank == s->pool[i].rank; j++)
            ;
        crowd(s->pool + i, j - i, s->n_obj);
    }
    qsort(s->pool, s->n_pool, sizeof *s->pool, by_rank);
    if (s->n_pool > s->n_pop)
        s->n_pool = s->n_pop;
}

/* ---- generations ----------------------------------------------------------- */
static const union lm_value *tournament(struct search *s)
{
    const struct member *a = s->pool + (size_t)vary_below(&s->vary, (double)s->n_pool);
    const struct member *b = s->pool + (size_t)vary_below(&s->vary, (double)s->n_pool);

    if (a->rank != b->rank)
        return (a->rank < b->rank ? a : b)->value;
    if (a->crowding != b->crowding)
        return (a->crowding > b->crowding ? a : b)->value;
    return (vary_unit(&s->vary) < 0.5 ? a : b)->value;
}

static void fill_random(struct search *s)
{
    for (int i = 0; i < RETRIES && s->n_queue < s->n_pop; i++) {
        vary_draw(&s->vary, s->child);
        if (enqueue(s, s->child))
            i = -1;
    }
}

/* The genomes of the queue from the start on, changed, up to `until`. */
static void fill_mutants(struct search *s, size_t n_start, size_t until)
{
    size_t n = s->p->n_slot;

    for (int i = 0; i < RETRIES && s->n_queue < until; i++) {
        size_t parent = (size_t)vary_below(&s->vary, (double)n_start);
        memcpy(s->child, s->queue + parent * n, n * sizeof *s->child);
        bool trade = s->bounded && vary_unit(&s->vary) < s->cfg->exchange;
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
        vary_uncompressed(&s->vary, s->child);
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
        bool trade = s->bounded && vary_unit(&s->vary) < s->cfg->exchange;

        memcpy(a, tournament(s), n * sizeof *a);
        memcpy(b, tournament(s), n * sizeof *b);
        if (!trade && vary_unit(&s->vary) < s->cfg->pc)
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
    enum lm_status st = reserve(s, s->n_pop, e);

    if (st != LM_OK)
        return st;
    s->n_queue = s->next = 0;
    if (s->asked == 0) {
        first_generation(s);
    } else if (s->n_pool > 0) {
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
    size_t n = 2 * s->n_pop;
    const char *tag = "search/nsga2";

    s->p = p;
    s->n_obj = p->n_objective;
    if (p->n_gene == 0 || s->n_obj == 0)
        return s->h->fail(e, LM_ECONFIG, "search 'nsga2' needs at least one gene and "
                          "one objective");
    if (p->n_slot > SIZE_MAX / 64 / n || s->n_obj > SIZE_MAX / 64 / n)
        return s->h->fail(e, LM_ENOMEM, "a population of %zu genomes of %zu values is "
                          "too large", s->n_pop, p->n_slot);
    s->pool = s->h->alloc(n * sizeof *s->pool, tag);
    s->value = s->h->alloc(n * p->n_slot * sizeof *s->value, tag);
    s->f = s->h->alloc(n * s->n_obj * sizeof *s->f, tag);
    s->queue = s->h->alloc(s->n_pop * p->n_slot * sizeof *s->queue, tag);
    s->child = s->h->alloc(2 * p->n_slot * sizeof *s->child, tag);
    if (!s->pool || !s->value || !s->f || !s->queue || !s->child)
        return s->h->fail(e, LM_ENOMEM, "out of memory for a population of %zu",
                          s->n_pop);
    for (size_t i = 0; i < n; i++) {
        s->pool[i].value = s->value + i * p->n_slot;
        s->pool[i].f = s->f + i * s->n_obj;
    }
    for (size_t i = 0; i < s->n_obj; i++)
        s->bounded |= p->objective[i]->bound < INFINITY;
    return vary_open(&s->vary, p, e);
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

static double total_violation(const struct search *s, const struct lm_outcome *o)
{
    double sum = 0;

    if (o->status != LM_OK)
        return INFINITY;
    for (size_t i = 0; i < s->n_obj; i++)
        if (isnan(o->objective[i]))
            return INFINITY;
    for (size_t i = 0; i < s->p->n_constraint; i++) {
        if (isnan(o->violation[i]))
            return INFINITY;
        sum += fmax(o->violation[i], 0);
    }
    return sum;
}

/* Dominated, with estimates that say by how much: as good as measured here. */
static bool lost_race(const struct lm_outcome *o)
{
    return LM_HAS(o, stopped) && o->stopped;
}

/* At most n_pop outcomes come between two selections, so the pool has room. */
static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;

    for (size_t i = 0; i < n; i++) {
        if (o[i]->fidelity < 1 && !lost_race(o[i]))
            continue;
        if (s->n_pool == 2 * s->n_pop)
            return s->h->fail(e, LM_EBUG, "search 'nsga2' was told more outcomes than "
                              "it proposed genomes");
        struct member *m = &s->pool[s->n_pool++];
        m->birth = s->births++;
        m->violation = total_violation(s, o[i]);
        memcpy(m->value, o[i]->value, s->p->n_slot * sizeof *m->value);
        for (size_t k = 0; k < s->n_obj; k++)
            m->f[k] = m->violation < INFINITY ? o[i]->objective[k] : INFINITY;
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
    s->vary.h = a->host;
    s->vary.cfg = a->config;
    s->vary.state = a->host->seed(a->run, "search/nsga2", 0);
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;
    void *part[] = { s->pool, s->value, s->f, s->queue, s->child, s->seen };

    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        s->h->release(part[i]);
    vary_close(&s->vary);
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
