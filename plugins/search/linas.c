/* SPDX-License-Identifier: Apache-2.0 */
/* linas.c -- lightweight iterative search (LINAS, Cummings et al. 2022), the engine of
 * LLaMA-NAS: measure a population, learn to predict each objective from all that was
 * measured, search on the predictions, measure the front found there, and so on.
 *
 * - The first population is the problem's start, or the uncompressed genome, and random
 *   genomes.
 * - Predictors: predictor.h, one for each objective.  With fewer than 10 outcomes to
 *   learn from the next population is random.
 * - The inner search is NSGA-II from a new random population, with `inner` predictions;
 *   children as in breed.h, ranks as in fronts.h.  A genome is predicted once.
 * - What is measured next are its survivors by rank, then crowding, without those that
 *   were proposed before; their places are taken by those that did not survive, then by
 *   mutants of those chosen, then by random genomes.
 * - Constraints: where each is the bound of an objective, the predicted objective is held
 *   to it; else the excess of each constraint is predicted too, and up to 0.01 of it
 *   counts as none, since what is predicted of a feasible genome is never quite 0.
 *
 * Invariants: `told` holds genomes that were built, all their numbers finite, in the
 * order told; what is learned is a function of these alone.                      */
#include <math.h>
#include <string.h>

#include "breed.h"
#include "fronts.h"
#include "predictor.h"

struct config {
    int64_t population, budget, inner, rows, knots, crossover;
    double  pc, eta_c, eta_m, pm;
};

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    size_t n_pop, n_target;
    struct genes genes;                 /* of what is measured                  */
    struct vary vary;
    struct round round;
    struct breed breed;
    struct genes inner_genes;           /* of what is predicted                 */
    struct vary inner_vary;
    struct round inner_round;
    struct breed inner_breed;
    struct pool inner;                  /* with predicted numbers               */
    struct pool told;                   /* f: [n_target]                        */
    struct lm_run *run;
    struct predictor *predictor;        /* [n_target], of one number each       */
    double *number;                     /* [n_target] scratch                   */
};

static const char *const crossovers[] = { "sbx", "uniform", "cut", NULL };
static const struct lm_opt options[] = {
    LM_INT(struct config, population, "50", 4, 10000, "genomes", 0,
           "How many genomes are measured between two trainings of the predictors."),
    LM_INT(struct config, budget, "250", 1, 1e9, "genomes", 0,
           "How many genomes to propose at most."),
    LM_INT(struct config, inner, "10000", 10, 1e7, "predictions", 0,
           "How many genomes each inner search predicts; the paper takes 5000 to 20000."),
    LM_INT(struct config, rows, "600", 10, 4000, "genomes", LM_EXPERT,
           "How many outcomes predictors learn from, the latest; time grows with its "
           "cube."),
    LM_INT(struct config, knots, "8", 0, 64, NULL, 0,
           "Features of an ordered gene with more values than this, which are "
           "interpolated; 2 and 3 are tried as well, for each objective; 0: one for each "
           "value seen, as in the paper."),
    LM_PICK(struct config, crossover, "sbx", crossovers, 0,
            "How two parents of the inner search mix: sbx, uniform, or cut at a layer."),
    LM_REAL(struct config, pc, "0.9", 0, 1, NULL, LM_EXPERT,
            "Probability that a pair of parents of the inner search crosses."),
    LM_REAL(struct config, eta_c, "15", 0, 1000, NULL, LM_EXPERT,
            "Distribution index of simulated binary crossover; higher stays closer."),
    LM_REAL(struct config, eta_m, "20", 0, 1000, NULL, LM_EXPERT,
            "Distribution index of polynomial mutation; higher stays closer."),
    LM_REAL(struct config, pm, "0", 0, 1, NULL, 0,
            "Probability that a gene mutates in the inner search; 0: 1 / genes, for "
            "genes with up to 4 values and subsets at least 0.02; the paper has 0.02."),
    LM_OPT_END
};

/* ---- learning -------------------------------------------------------------- */
/* Fewer knots than asked for are tried, too: a curve of eight through each of thirty
 * genes is 240 unknowns, and a population or two tell next to nothing about it.  What
 * cross validation finds better is kept.                                          */
static enum lm_status fit_best(struct search *s, const union lm_value *const *genome,
                               const double *y, size_t n, struct predictor *best,
                               struct lm_err *e)
{
    const size_t knots[] = { (size_t)s->cfg->knots, 3, 2 };
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < sizeof knots / sizeof *knots && st == LM_OK; i++) {
        struct predictor p = { .h = s->h, .run = s->run, .genes = &s->genes,
                               .knots = knots[i], .n_target = 1 };
        if (i > 0 && knots[i] >= knots[0])
            continue;
        st = predictor_fit(&p, genome, y, n, e);
        if (st == LM_OK && (i == 0 || p.model->error < best->model->error)) {
            predictor_close(best);
            *best = p;
        } else {
            predictor_close(&p);
        }
    }
    return st;
}

static enum lm_status learn(struct search *s, bool *learned, struct lm_err *e)
{
    size_t n = s->told.n, first = n > (size_t)s->cfg->rows ? n - (size_t)s->cfg->rows : 0;
    const union lm_value **genome;
    double *y;
    enum lm_status st;

    n -= first;
    *learned = n >= PREDICTOR_FEWEST;
    if (!*learned)
        return LM_OK;
    genome = s->h->alloc(n * sizeof *genome, s->genes.tag);
    y = s->h->alloc(n * sizeof *y, s->genes.tag);
    st = genome && y ? LM_OK
        : s->h->fail(e, LM_ENOMEM, "out of memory for %zu outcomes", n);
    for (size_t k = 0; k < s->n_target && st == LM_OK; k++) {
        for (size_t i = 0; i < n; i++) {
            genome[i] = s->told.member[first + i].value;
            y[i] = s->told.member[first + i].f[k];
        }
        st = fit_best(s, genome, y, n, &s->predictor[k], e);
    }
    s->h->release(genome);
    s->h->release(y);
    return st;
}

/* ---- the inner search ------------------------------------------------------ */
static double predicted_violation(const struct search *s)
{
    double sum = 0;

    for (size_t k = 0; s->n_target == s->p->n_objective && k < s->n_target; k++) {
        double bound = s->p->objective[k]->bound;
        if (bound < INFINITY)
            sum += fmax((s->number[k] - bound) / fmax(fabs(bound), 1e-12), 0);
    }
    for (size_t k = s->p->n_objective; k < s->n_target; k++)
        sum += s->number[k] > 0.01 ? s->number[k] : 0;
    return sum;
}

/* Predicts the round and takes it into the pool. */
static enum lm_status take_round(struct search *s, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < s->inner_round.n && st == LM_OK; i++) {
        const union lm_value *v = s->inner_round.queue + i * s->p->n_slot;
        for (size_t k = 0; k < s->n_target; k++)
            predictor_eval(&s->predictor[k], v, &s->number[k]);
        st = pool_add(&s->inner, v, s->number, predicted_violation(s), e);
    }
    return st;
}

/* breed_parent */
static const union lm_value *tournament(void *ctx)
{
    struct search *s = ctx;
    double n = (double)s->inner.n;
    const struct member *a = &s->inner.member[(size_t)genes_below(&s->inner_genes, n)];
    const struct member *b = &s->inner.member[(size_t)genes_below(&s->inner_genes, n)];

    if (a->rank != b->rank)
        return (a->rank < b->rank ? a : b)->value;
    return (a->crowding < b->crowding ? b : a)->value;
}

/* Ends with up to two populations in the pool, best first. */
static enum lm_status search_inside(struct search *s, struct lm_err *e)
{
    size_t left = (size_t)s->cfg->inner;
    enum lm_status st = genes_reserve(&s->inner_genes, left + s->n_pop, e);

    if (st != LM_OK)
        return st;
    memset(s->inner_genes.seen, 0, s->inner_genes.n_table * sizeof *s->inner_genes.seen);
    s->inner_genes.n_seen = 0;
    s->inner.n = s->inner_round.n = 0;
    round_add_random(&s->inner_round, s->n_pop < left ? s->n_pop : left);
    for (;;) {
        left -= s->inner_round.n;
        if ((st = take_round(s, e)) != LM_OK)
            return st;
        pool_rank(&s->inner);
        if (left == 0 || s->inner_round.n == 0)
            return LM_OK;
        if (s->h->canceled(s->run))
            return s->h->fail(e, LM_ECANCELED, "interrupted");
        if (s->inner.n > s->n_pop)
            s->inner.n = s->n_pop;
        s->inner_round.n = 0;
        breed_pairs(&s->inner_breed, tournament, s, s->n_pop < left ? s->n_pop : left);
    }
}

/* ---- populations ----------------------------------------------------------- */
/* round_fill */
static enum lm_status next_population(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    bool learned = false;
    enum lm_status st = LM_OK;

    round_add_starts(&s->round);
    if (s->round.asked > 0)
        st = learn(s, &learned, e);
    if (st == LM_OK && learned)
        st = search_inside(s, e);
    if (st != LM_OK)
        return st;
    for (size_t i = 0; learned && i < s->inner.n; i++)
        round_add(&s->round, s->inner.member[i].value);
    if (s->round.asked > 0 && s->round.n > 0)
        breed_mutants(&s->breed, s->round.n, s->n_pop);
    round_add_random(&s->round, s->n_pop);
    return LM_OK;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, next_population, s, out, max, n, e);
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    size_t m = s->p->n_objective;
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && st == LM_OK; i++) {
        bool sound = outcome_counts(o[i]) && o[i]->status == LM_OK;
        for (size_t k = 0; k < s->n_target && sound; k++) {
            s->number[k] = k < m ? o[i]->objective[k] : fmax(o[i]->violation[k - m], 0);
            sound = isfinite(s->number[k])
                 && (k < m || !isnan(o[i]->violation[k - m]));
        }
        if (sound)
            st = pool_add(&s->told, o[i]->value, s->number, 0, e);
    }
    return st;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status open_inner(struct search *s, struct lm_err *e)
{
    enum lm_status st = genes_open(&s->inner_genes, s->p, e);

    if (st == LM_OK)
        st = vary_open(&s->inner_vary, e);
    if (st == LM_OK)
        st = round_open(&s->inner_round, &s->inner_genes, s->n_pop, 0, e);
    return st == LM_OK ? breed_open(&s->inner_breed, e) : st;
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    s->n_target = p->n_objective + (bounds_say_all(p) ? 0 : p->n_constraint);
    s->inner = s->told = pool_of(s->h, s->genes.tag, p);
    s->told.n_obj = s->n_target;
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, s->n_pop, s->cfg->budget, e);
    if (st == LM_OK)
        st = breed_open(&s->breed, e);
    if (st == LM_OK)
        st = open_inner(s, e);
    if (st != LM_OK)
        return st;
    s->number = s->h->alloc(s->n_target * sizeof *s->number, s->genes.tag);
    s->predictor = s->h->alloc(s->n_target * sizeof *s->predictor, s->genes.tag);
    return s->number && s->predictor ? LM_OK
        : s->h->fail(e, LM_ENOMEM, "out of memory for %zu predictors", s->n_target);
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)s->cfg->budget);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/linas");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->n_pop = (size_t)s->cfg->population;
    s->run = a->run;
    s->genes = s->inner_genes = genes_of(a, "linas");
    s->inner_genes.state = genes_mix(s->genes.state + 1);
    s->vary = (struct vary){ .g = &s->genes, .crossover = s->cfg->crossover,
        .eta_c = s->cfg->eta_c, .eta_m = s->cfg->eta_m, .pm = s->cfg->pm };
    s->inner_vary = s->vary;
    s->inner_vary.g = &s->inner_genes;
    s->breed = (struct breed){ .vary = &s->vary, .round = &s->round, .pc = s->cfg->pc };
    s->inner_breed = (struct breed){ .vary = &s->inner_vary, .round = &s->inner_round,
                                     .pc = s->cfg->pc };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    for (size_t k = 0; s->predictor && k < s->n_target; k++)
        predictor_close(&s->predictor[k]);
    s->h->release(s->predictor);
    pool_close(&s->told);
    pool_close(&s->inner);
    breed_close(&s->inner_breed);
    round_close(&s->inner_round);
    vary_close(&s->inner_vary);
    genes_close(&s->inner_genes);
    breed_close(&s->breed);
    round_close(&s->round);
    vary_close(&s->vary);
    genes_close(&s->genes);
    s->h->release(s->number);
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
        LM_MODULE_HEAD(SEARCH), .name = "linas", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "searches on predicted objectives and measures what it finds",
        .reference = "Cummings et al., arXiv 2205.10358, 2022",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
