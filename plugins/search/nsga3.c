/* SPDX-License-Identifier: Apache-2.0 */
/* nsga3.c -- the genetic algorithm of Deb & Jain (2014) for many objectives, with the
 * constraints of its second part (Jain & Deb 2014).
 *
 * As nsga2 but for who survives of the last front that fits in part: not the least
 * crowded ones, but those that fill directions which few survivors point to.  With three
 * objectives and more crowding says little, since nearly nothing is dominated.
 *
 * - Ranks as in fronts.h; directions and normalisation as in niches.h; children as in
 *   breed.h.  Fronts of infeasible genomes are cut by violation and age.
 * - Parents are drawn uniformly; of two with different violations the lesser wins.
 * - A genome with an objective that is not finite counts as one that was not built.
 * - The first population is as nsga2's.
 *
 * Invariants: the pool holds told genomes; after select_survivors() they are the
 * survivors, at most `population`; a round has at most as many.                  */
#include <math.h>

#include "breed.h"
#include "fronts.h"
#include "niches.h"

struct config {
    int64_t population, generations, budget, divisions, inner, crossover;
    double  pc, eta_c, eta_m, pm, exchange;
};

/* Where a member of the pool belongs. */
struct place { size_t niche; double distance; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct vary vary;
    struct pool pool;
    struct round round;                 /* a generation                         */
    struct breed breed;
    struct niches niches;
    size_t   n_pop;
    const double **f;                   /* [2 n_pop] objectives of members      */
    struct place *place;                /* [2 n_pop]                            */
    size_t  *held;                      /* [directions] survivors of each,
                                           SIZE_MAX: nobody else points to it   */
};

static const char *const crossovers[] = { "sbx", "uniform", "cut", NULL };
static const struct lm_opt options[] = {
    LM_INT(struct config, population, "92", 4, 10000, "genomes", 0,
           "How many genomes survive each generation."),
    LM_INT(struct config, generations, "10", 1, 1e6, NULL, 0,
           "How many populations are evaluated, the first included."),
    LM_INT(struct config, budget, "0", 0, 1e9, "genomes", 0,
           "How many genomes to propose at most; 0: population * generations."),
    LM_INT(struct config, divisions, "0", 0, 10000, NULL, 0,
           "Steps between two corners of the reference directions; 0: as many as give "
           "no more directions than the population has genomes."),
    LM_INT(struct config, inner, "0", 0, 1000, NULL, LM_EXPERT,
           "The same of a second layer of directions, nearer the centre, for more than "
           "five objectives; 0: there is none."),
    LM_PICK(struct config, crossover, "sbx", crossovers, 0,
            "How two parents mix: sbx, uniform, or cut at a layer."),
    LM_REAL(struct config, pc, "1", 0, 1, NULL, 0,
            "Probability that a pair of parents crosses."),
    LM_REAL(struct config, eta_c, "30", 0, 1000, NULL, LM_EXPERT,
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

/* ---- survivors ------------------------------------------------------------- */
static void swap_members(struct search *s, size_t a, size_t b)
{
    struct member m = s->pool.member[a];
    struct place w = s->place[a];

    s->pool.member[a] = s->pool.member[b];
    s->pool.member[b] = m;
    s->place[a] = s->place[b];
    s->place[b] = w;
}

/* A direction with the fewest survivors, by lot among several. */
static size_t emptiest(struct search *s)
{
    size_t best = 0, ties = 0;

    for (size_t i = 0; i < s->niches.n; i++) {
        if (s->held[i] == SIZE_MAX || (ties && s->held[i] > s->held[best]))
            continue;
        ties = ties && s->held[i] == s->held[best] ? ties + 1 : 1;
        if (ties == 1 || genes_below(&s->genes, (double)ties) == 0)
            best = i;
    }
    return best;
}

/* Of members first .. n - 1 in the niche: the nearest while the niche is empty, else
 * one by lot; n: there is none.                                                  */
static size_t pick_member(struct search *s, size_t niche, size_t first)
{
    size_t n = s->pool.n, best = n, ties = 0;

    for (size_t i = first; i < n; i++) {
        if (s->place[i].niche != niche)
            continue;
        ties++;
        if (best == n || (s->held[niche] == 0
                          ? s->place[i].distance < s->place[best].distance
                          : genes_below(&s->genes, (double)ties) == 0))
            best = i;
    }
    return best;
}

/* Members 0 .. whole - 1 survive; the front whole .. last - 1 fills up to n_pop. */
static void fill_niches(struct search *s, size_t whole, size_t last)
{
    s->pool.n = last;
    for (size_t i = 0; i < last; i++)
        s->f[i] = s->pool.member[i].f;
    size_t front = 0;
    while (front < last && s->pool.member[front].rank == 0)
        front++;
    niches_update(&s->niches, s->f, last, front);
    for (size_t i = 0; i < s->niches.n; i++)
        s->held[i] = 0;
    for (size_t i = 0; i < last; i++) {
        struct place *w = &s->place[i];
        w->niche = niches_nearest(&s->niches, s->f[i], &w->distance);
        if (i < whole)
            s->held[w->niche]++;
    }
    while (whole < s->n_pop) {
        size_t niche = emptiest(s), i = pick_member(s, niche, whole);
        if (i == s->pool.n) {
            s->held[niche] = SIZE_MAX;
            continue;
        }
        s->held[niche]++;
        swap_members(s, whole++, i);
    }
}

static void select_survivors(struct search *s)
{
    struct pool *p = &s->pool;
    size_t whole = s->n_pop, last = s->n_pop;

    pool_rank(p);
    if (p->n <= s->n_pop)
        return;
    while (whole > 0 && p->member[whole - 1].rank == p->member[s->n_pop].rank)
        whole--;
    while (last < p->n && p->member[last].rank == p->member[s->n_pop].rank)
        last++;
    if (whole < s->n_pop && p->member[s->n_pop].violation == 0)
        fill_niches(s, whole, last);
    p->n = s->n_pop;
}

/* ---- generations ----------------------------------------------------------- */
/* breed_parent */
static const union lm_value *pick_parent(void *ctx)
{
    struct search *s = ctx;
    double n = (double)s->pool.n;
    const struct member *a = &s->pool.member[(size_t)genes_below(&s->genes, n)];
    const struct member *b = &s->pool.member[(size_t)genes_below(&s->genes, n)];

    return (b->violation < a->violation ? b : a)->value;
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
        breed_pairs(&s->breed, pick_parent, s, s->n_pop);
    }
    round_add_random(&s->round, s->n_pop);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static int64_t all_trials(const struct config *c)
{
    return c->budget ? c->budget : c->population * c->generations;
}

static enum lm_status open_niches(struct search *s, struct lm_err *e)
{
    size_t n = 2 * s->n_pop;
    enum lm_status st;

    s->niches = (struct niches){ .h = s->h, .tag = s->genes.tag,
                                 .n_obj = s->p->n_objective };
    st = niches_open(&s->niches, (size_t)s->cfg->divisions, (size_t)s->cfg->inner,
                     s->n_pop, e);
    if (st != LM_OK)
        return st;
    s->f = s->h->alloc(n * sizeof *s->f, s->genes.tag);
    s->place = s->h->alloc(n * sizeof *s->place, s->genes.tag);
    s->held = s->h->alloc(s->niches.n * sizeof *s->held, s->genes.tag);
    return s->f && s->place && s->held ? LM_OK
        : s->h->fail(e, LM_ENOMEM, "out of memory for a population of %zu", s->n_pop);
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
        st = open_niches(s, e);
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
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && st == LM_OK; i++) {
        double violation = outcome_violation(s->p, o[i]);
        for (size_t k = 0; k < s->p->n_objective && violation < INFINITY; k++)
            if (!isfinite(o[i]->objective[k]))
                violation = INFINITY;
        if (outcome_counts(o[i]))
            st = pool_add(&s->pool, o[i]->value, o[i]->objective, violation, e);
    }
    return st;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)all_trials(s->cfg));
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/nsga3");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->n_pop = (size_t)s->cfg->population;
    s->genes = genes_of(a, "nsga3");
    s->vary = (struct vary){ .g = &s->genes, .crossover = s->cfg->crossover,
        .eta_c = s->cfg->eta_c, .eta_m = s->cfg->eta_m, .pm = s->cfg->pm };
    s->breed = (struct breed){ .vary = &s->vary, .round = &s->round, .pc = s->cfg->pc };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    niches_close(&s->niches);
    pool_close(&s->pool);
    round_close(&s->round);
    breed_close(&s->breed);
    vary_close(&s->vary);
    genes_close(&s->genes);
    s->h->release(s->f);
    s->h->release(s->place);
    s->h->release(s->held);
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
        LM_MODULE_HEAD(SEARCH), .name = "nsga3", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "genetic algorithm for three objectives and more (NSGA-III)",
        .reference = "Deb & Jain, IEEE TEC 18(4), 2014",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
