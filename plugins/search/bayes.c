/* SPDX-License-Identifier: Apache-2.0 */
/* bayes.c -- Bayesian optimisation for one or two objectives: Gaussian processes
 * (gp.h) predict what a genome would bring, the one with most to gain is proposed.
 *
 * - Models: one for each objective and for each constraint's violation; where genomes
 *   were told that can't be built, one for that (1: can't, -1: can; the chance to be
 *   below 0 is that of being built).
 * - Gain: the exact expected growth of the area that the front dominates (improve.h),
 *   with one objective the expected improvement, times the chance to keep each
 *   constraint.  While nothing feasible is known, that chance alone.  The reference of
 *   the area is the worst value of each objective that a feasible genome had, and 5 % of
 *   its range, so that the ends of the front count as much as its middle.
 * - Objectives are bent before they are modelled: what lies beyond the third quartile is
 *   compressed as a logarithm.  Damaged models lose without bounds; one such loss would
 *   leave the models nothing to see among all others.  A front stays a front.
 * - The gain is maximised over genomes: random ones, crossings of these with the best
 *   ones told, mutants of those; then twice more over mutants of the best so found.
 * - A round of `batch` genomes is made one by one: each is taken for told with the mean
 *   it is predicted (kriging believer, Ginsbourger et al. 2010).
 *
 * Time and memory grow with the cube and the square of the genomes told, hence the limit
 * of the budget.
 *
 * Daulton, Balandat & Bakshy, NeurIPS 2020 (the plain EHVI there); Emmerich, Deutz &
 * Klinkenberg, CEC 2011; Gardner et al., ICML 2014 (constraints).               */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fronts.h"
#include "gp.h"
#include "improve.h"
#include "round.h"
#include "vary.h"

enum { MOST = 2000, BEST = 16, SWEEPS = 3, FIRST_STEPS = 4, PARENTS = 8 };

struct config { int64_t budget, startup, batch, candidates, steps; };

/* Objective values beyond `from` are compressed; scale 0: none are. */
struct bend { double from, scale; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct vary vary;
    struct round round;
    struct pool pool;                   /* all that was told                    */
    size_t   n_obj, n_y;                /* n_y: objectives, constraints, 1      */
    double  *y;                         /* [room_y][n_y] by birth in the pool   */
    size_t   room_y, room;              /* room: of points, column and front    */
    struct gp_frame frame;
    struct gp *model;                   /* [n_y]                                */
    bool    *active;                    /* [n_y] does it vary?                  */
    struct gp_points built, all, swarm;
    double  *column;                    /* [room] one y of the points           */
    double (*front)[2];                 /* [room] feasible, bent                */
    size_t   n_front, n_parent;
    double   reference[2];
    struct bend bend[2];
    bool     bounded, fitted;
    union lm_value *genome;             /* [candidates][n_slot] the swarm       */
    double  *mean, *sd;                 /* [n_y][candidates]                    */
    union lm_value *best;               /* [BEST][n_slot] by gain               */
    double  *said;                      /* [BEST][n_y] their means              */
    double   gain[BEST];                /* logarithms                           */
    size_t   n_best;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "100", 1, MOST, "genomes", 0,
           "How many genomes to propose; the time of each grows with the cube."),
    LM_INT(struct config, startup, "20", 2, MOST, "genomes", 0,
           "How many of them are the start genomes and random ones."),
    LM_INT(struct config, batch, "4", 1, 64, "genomes", 0,
           "How many genomes are proposed between two fits of the models."),
    LM_INT(struct config, candidates, "256", 8, 100000, "genomes", 0,
           "How many genomes are compared in each of the three sweeps for a proposal."),
    LM_INT(struct config, steps, "8", 0, 1000, NULL, LM_EXPERT,
           "Steps towards the likeliest parameters of each model in a fit; four times as "
           "many in the first."),
    LM_OPT_END
};

/* ---- what was told --------------------------------------------------------- */
static double *row(const struct search *s, const struct member *m)
{
    return s->y + m->birth * s->n_y;
}

static bool is_built(const struct search *s, const struct member *m)
{
    return row(s, m)[s->n_y - 1] < 0;
}

/* The y of the genome that was last put into the pool. */
static void note_y(struct search *s, const struct lm_outcome *o)
{
    struct member *m = &s->pool.member[s->pool.n - 1];
    double *y = row(s, m);
    bool built = m->violation < INFINITY;

    for (size_t k = 0; built && k < s->n_y - 1; k++) {
        y[k] = k < s->n_obj ? o->objective[k] : o->violation[k - s->n_obj];
        built &= isfinite(y[k]) != 0;
    }
    y[s->n_y - 1] = built ? -1 : 1;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;

    for (size_t i = 0; i < n; i++) {
        if (!outcome_counts(o[i]))
            continue;
        if (s->pool.births == s->room_y) {
            size_t room = s->room_y ? 2 * s->room_y : 64;
            double *y = s->h->resize(s->y, room * s->n_y * sizeof *y);
            if (!y)
                return s->h->fail(e, LM_ENOMEM, "out of memory for %zu outcomes", room);
            s->y = y;
            s->room_y = room;
        }
        enum lm_status st = pool_tell(&s->pool, s->p, &o[i], 1, e);
        if (st != LM_OK)
            return st;
        note_y(s, o[i]);
    }
    return LM_OK;
}

/* Room for points that were told and those of a round, in powers of two. */
static enum lm_status reserve(struct search *s, struct lm_err *e)
{
    size_t need = s->pool.n + (size_t)s->cfg->batch, room = s->room ? s->room : 64;
    enum lm_status st = LM_OK;
    void *column, *front;

    while (room < need)
        room *= 2;
    if (room == s->room)
        return LM_OK;
    column = s->h->resize(s->column, room * sizeof *s->column);
    s->column = column ? column : s->column;
    front = s->h->resize(s->front, room * sizeof *s->front);
    s->front = front ? front : s->front;
    if (!column || !front)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu genomes", room);
    st = gp_points_reserve(&s->frame, &s->built, room, e);
    if (st == LM_OK)
        st = gp_points_reserve(&s->frame, &s->all, room, e);
    for (size_t k = 0; k < s->n_y && st == LM_OK; k++)
        st = gp_reserve(&s->model[k], room, e);
    s->room = st == LM_OK ? room : 0;
    return st;
}

/* ---- models ---------------------------------------------------------------- */
static int by_size(const void *x, const void *y)
{
    const double *a = x, *b = y;

    return (*a > *b) - (*a < *b);
}

/* One y of all genomes that were built, as told; how many. */
static size_t read_column(struct search *s, size_t k)
{
    size_t n = 0;

    for (size_t i = 0; i < s->pool.n; i++)
        if (is_built(s, &s->pool.member[i]))
            s->column[n++] = row(s, &s->pool.member[i])[k];
    return n;
}

static void measure_bends(struct search *s)
{
    for (size_t k = 0; k < s->n_obj; k++) {
        size_t n = read_column(s, k);

        qsort(s->column, n, sizeof *s->column, by_size);
        s->bend[k].from = s->column[3 * (n - 1) / 4];
        s->bend[k].scale = s->bend[k].from - s->column[(n - 1) / 4];
    }
}

static double bent(const struct search *s, size_t k, double y)
{
    double beyond = k < s->n_obj ? y - s->bend[k].from : 0, by = k < s->n_obj
                  ? s->bend[k].scale : 0;

    return beyond > 0 && by > 0 ? s->bend[k].from + by * log1p(beyond / by) : y;
}

/* The last model is of all genomes, the others of those that were built. */
static enum lm_status fit_one(struct search *s, size_t k, struct lm_err *e)
{
    const struct gp_points *at = k + 1 < s->n_y ? &s->built : &s->all;
    double least = INFINITY, most = -INFINITY;
    int64_t steps = s->fitted ? s->cfg->steps : FIRST_STEPS * s->cfg->steps;

    if (at == &s->built)
        read_column(s, k);
    for (size_t i = 0; i < at->n; i++) {
        s->column[i] = at == &s->built ? bent(s, k, s->column[i])
                                       : row(s, &s->pool.member[i])[k];
        least = fmin(least, s->column[i]);
        most = fmax(most, s->column[i]);
    }
    s->active[k] = k < s->n_obj || most > least;
    return s->active[k] ? gp_fit(&s->model[k], at, s->column, steps, e) : LM_OK;
}

static enum lm_status fit_models(struct search *s, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    s->built.n = s->all.n = 0;
    for (size_t i = 0; i < s->pool.n; i++) {
        const struct member *m = &s->pool.member[i];
        gp_points_add(&s->frame, &s->all, m->value);
        if (is_built(s, m))
            gp_points_add(&s->frame, &s->built, m->value);
    }
    measure_bends(s);
    for (size_t k = 0; k < s->n_y && st == LM_OK; k++)
        st = fit_one(s, k, e);
    s->fitted = true;
    return st;
}

/* ---- the front ------------------------------------------------------------- */
static void add_to_front(struct search *s, const double *y)
{
    if (s->n_obj == 1) {
        s->front[0][0] = s->n_front ? fmin(s->front[0][0], y[0]) : y[0];
        s->n_front = 1;
        return;
    }
    s->front[s->n_front][0] = y[0];
    s->front[s->n_front][1] = y[1];
    s->n_front = improve_front(s->front, s->n_front + 1, s->reference);
}

static bool is_feasible(const struct search *s, const struct member *m)
{
    return m->violation <= 0 && is_built(s, m);
}

static void measure_front(struct search *s)
{
    for (size_t k = 0; k < s->n_obj; k++) {
        double least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < s->pool.n; i++)
            if (is_feasible(s, &s->pool.member[i])) {
                double y = bent(s, k, row(s, &s->pool.member[i])[k]);
                least = fmin(least, y);
                most = fmax(most, y);
            }
        s->reference[k] = most + (most > least ? 0.05 * (most - least) : s->model[k].sd);
    }
    s->n_front = s->n_parent = 0;
    for (size_t i = 0; i < s->pool.n; i++) {
        const struct member *m = &s->pool.member[i];
        double y[2] = { 0 };
        s->n_parent += m->rank == 0 || i < PARENTS;
        if (!is_feasible(s, m))
            continue;
        for (size_t k = 0; k < s->n_obj; k++)
            y[k] = bent(s, k, row(s, m)[k]);
        add_to_front(s, y);
    }
}

/* ---- the swarm ------------------------------------------------------------- */
static union lm_value *slice(const struct search *s, union lm_value *v, size_t i)
{
    return v + i * s->p->n_slot;
}

static void mutate(struct search *s, union lm_value *v)
{
    if (s->bounded && genes_unit(&s->genes) < 0.25 && vary_exchange(&s->vary, v))
        return;
    vary_mutate(&s->vary, v);
    if (genes_unit(&s->genes) < 0.5)
        vary_gene(&s->vary, (size_t)genes_below(&s->genes, (double)s->p->n_gene), v);
}

static void fill_swarm(struct search *s, bool again)
{
    size_t size = s->p->n_slot * sizeof *s->genome;

    s->swarm.n = 0;
    for (size_t i = 0; i < (size_t)s->cfg->candidates; i++) {
        union lm_value *v = slice(s, s->genome, i), *other = s->round.queue
                          + s->round.size * s->p->n_slot;     /* its spare genome */
        double parent = genes_below(&s->genes, (double)(again ? s->n_best : s->n_parent));

        memcpy(v, again ? slice(s, s->best, (size_t)parent)
                        : s->pool.member[(size_t)parent].value, size);
        if (again || i % 4 >= 2) {
            mutate(s, v);
        } else {
            genes_draw_all(&s->genes, other);
            if (i % 4 == 1)
                vary_cross(&s->vary, v, other);
            else
                memcpy(v, other, size);
        }
        gp_points_add(&s->frame, &s->swarm, v);
    }
}

/* Logarithm of what genome i of the swarm promises. */
static double promise(const struct search *s, size_t i)
{
    size_t n = (size_t)s->cfg->candidates;
    const double mean[2] = { s->mean[i], s->mean[n + i] };
    const double sd[2] = { s->sd[i], s->sd[n + i] };
    double chance = 0;

    for (size_t k = s->n_obj; k < s->n_y; k++)
        if (s->active[k])
            chance += improve_log_chance(0, s->mean[k * n + i], s->sd[k * n + i]);
    if (s->n_front == 0)
        return chance;
    if (s->n_obj == 1)
        return chance + log(improve_one(s->front[0][0], mean[0], sd[0]));
    return chance + log(improve_two((const double (*)[2])s->front, s->n_front,
                                    s->reference, mean, sd));
}

/* Keeps genome i of the swarm if it is new and among the best. */
static void keep(struct search *s, size_t i, double gain)
{
    size_t size = s->p->n_slot * sizeof *s->best, at = s->n_best;
    const union lm_value *v = slice(s, s->genome, i);

    if (!(gain > -INFINITY) || (at == BEST && gain <= s->gain[BEST - 1])
        || genes_known(&s->genes, v))
        return;
    for (size_t k = 0; k < s->n_best; k++)
        if (memcmp(slice(s, s->best, k), v, size) == 0)
            return;
    if (at == BEST)
        at--;
    else
        s->n_best++;
    for (; at > 0 && s->gain[at - 1] < gain; at--) {
        s->gain[at] = s->gain[at - 1];
        memcpy(slice(s, s->best, at), slice(s, s->best, at - 1), size);
        memcpy(s->said + at * s->n_y, s->said + (at - 1) * s->n_y,
               s->n_y * sizeof *s->said);
    }
    s->gain[at] = gain;
    memcpy(slice(s, s->best, at), v, size);
    for (size_t k = 0; k < s->n_y; k++)
        s->said[at * s->n_y + k] = s->mean[k * (size_t)s->cfg->candidates + i];
}

static void look_for_best(struct search *s)
{
    size_t n = (size_t)s->cfg->candidates;

    s->n_best = 0;
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        fill_swarm(s, s->n_best > 0);
        for (size_t k = 0; k < s->n_y; k++)
            if (s->active[k])
                gp_predict(&s->model[k], &s->swarm, s->mean + k * n, s->sd + k * n);
        for (size_t i = 0; i < n; i++)
            keep(s, i, promise(s, i));
    }
}

/* Takes the best genome, last of the round, for told as predicted. */
static enum lm_status believe(struct search *s, struct lm_err *e)
{
    const union lm_value *v = slice(s, s->round.queue, s->round.n - 1);
    bool feasible = true;
    enum lm_status st = LM_OK;

    gp_points_add(&s->frame, &s->built, v);
    gp_points_add(&s->frame, &s->all, v);
    for (size_t k = 0; k < s->n_y && st == LM_OK; k++)
        if (s->active[k]) {
            feasible &= k < s->n_obj || s->said[k] <= 0;
            st = gp_extend(&s->model[k], s->said[k], e);
        }
    if (feasible && s->n_front > 0)
        add_to_front(s, s->said);
    return st;
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    enum lm_status st = reserve(s, e);
    size_t batch = (size_t)s->cfg->batch;

    if (st != LM_OK)
        return st;
    round_add_starts(&s->round);
    if (s->round.asked == 0)
        round_add_random(&s->round, (size_t)s->cfg->startup);
    if (s->round.n > 0)
        return LM_OK;
    if (read_column(s, 0) < 2) {        /* nothing to learn from yet */
        round_add_random(&s->round, batch);
        return LM_OK;
    }
    pool_rank(&s->pool);
    st = fit_models(s, e);
    measure_front(s);
    while (st == LM_OK && s->round.n < batch) {
        size_t before = s->round.n;
        look_for_best(s);
        if (s->n_best > 0 && round_add(&s->round, s->best))
            st = believe(s, e);
        else
            round_add_random(&s->round, before + 1);
        if (s->round.n == before)
            break;
    }
    return st;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status open_models(struct search *s, struct lm_err *e)
{
    size_t n = (size_t)s->cfg->candidates, slots = s->p->n_slot;
    const char *tag = s->genes.tag;
    enum lm_status st = gp_frame_open(&s->frame, &s->genes, e);

    if (st == LM_OK)
        st = gp_points_reserve(&s->frame, &s->swarm, n, e);
    if (st != LM_OK)
        return st;
    s->model = s->h->alloc(s->n_y * sizeof *s->model, tag);
    s->active = s->h->alloc(s->n_y * sizeof *s->active, tag);
    s->mean = s->h->alloc(n * (s->n_y + 1) * sizeof *s->mean, tag);
    s->sd = s->h->alloc(n * (s->n_y + 1) * sizeof *s->sd, tag);
    s->best = s->h->alloc(BEST * slots * sizeof *s->best, tag);
    s->said = s->h->alloc(BEST * (s->n_y + 1) * sizeof *s->said, tag);
    if (slots < SIZE_MAX / 64 / n)
        s->genome = s->h->alloc(n * slots * sizeof *s->genome, tag);
    if (!s->model || !s->active || !s->mean || !s->sd || !s->best || !s->said
        || !s->genome)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu models", s->n_y);
    for (size_t k = 0; k < s->n_y && st == LM_OK; k++) {
        bool noisy = k < s->n_obj && s->p->objective[k]->noisy;
        st = gp_open(&s->model[k], &s->frame, noisy ? -4 : -8, e);
    }
    return st;
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    const struct config *c = s->cfg;
    int64_t size = c->startup > c->batch ? c->startup : c->batch;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    s->n_obj = p->n_objective;
    s->n_y = s->n_obj + p->n_constraint + 1;
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    if (st == LM_OK && s->n_obj > 2)
        st = s->h->fail(e, LM_EUNSUPPORTED, "search 'bayes' handles at most 2 "
                        "objectives, %zu are given; take 'tpe' or 'nsga2'", s->n_obj);
    s->pool = pool_of(s->h, s->genes.tag, p);
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, (size_t)size, c->budget, e);
    s->bounded = bounds_of(p) > 0;
    return st == LM_OK ? open_models(s, e) : st;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, fill, s, out, max, n, e);
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)s->cfg->budget);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/bayes");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "bayes");
    s->vary = (struct vary){ .g = &s->genes, .crossover = UNIFORM, .eta_m = 20 };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;
    struct gp_points *points[] = { &s->built, &s->all, &s->swarm };
    void *part[] = { s->y, s->active, s->column, s->front, s->genome, s->mean, s->sd,
                     s->best, s->said };

    for (size_t k = 0; s->model && k < s->n_y; k++)
        gp_close(&s->model[k]);
    s->h->release(s->model);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        gp_points_close(&s->frame, points[i]);
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        s->h->release(part[i]);
    gp_frame_close(&s->frame);
    pool_close(&s->pool);
    round_close(&s->round);
    vary_close(&s->vary);
    genes_close(&s->genes);
    s->h->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops, .max_objectives = 2,
    .genes = GENES_ALL,
    .begin = begin, .ask = ask, .tell = tell, .budget = budget,
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module m = {
        LM_MODULE_HEAD(SEARCH), .name = "bayes", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "Gaussian processes and expected hypervolume improvement",
        .reference = "Emmerich, Deutz & Klinkenberg, CEC 2011",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
