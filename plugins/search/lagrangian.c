/* SPDX-License-Identifier: Apache-2.0 */
/* lagrangian.c -- measure what each site costs, then solve a knapsack.
 *
 * The first objective is a quality that suffers (KL to the dense model, loss), the
 * second a cost that is to shrink (bytes, parameters); others are not looked at.
 * Both are taken as separable: sums over genes of increments over a base genome.
 *
 * Round 1.  Base: the uncompressed genome.  Every gene is put to each of a few of its
 *   levels alone and the increments of both objectives are measured at a reduced
 *   fidelity, the base too: the same items, or the difference would be noise.  Genes
 *   go by layer, last first, so that candidates share the prefix with the base.
 *   Levels between the measured ones are interpolated.  A multiple-choice knapsack
 *   (knapsack.c) gives the best genome for every target size; these are proposed at
 *   full fidelity.
 * Round 2 and later.  Increments over a compressed base predict better than those
 *   over the dense model.  Base: the best genome told within the tightest target.
 *   Each gene goes one and two measured levels up and down, and the knapsack is
 *   solved again over exactly these, and some more times with smaller steps, which
 *   rely less on separability.  The rounds end when the best genome is no longer a
 *   new one.
 *
 * Sizes are not quite separable either (a layer that is dropped takes along what its
 * other genes had saved), so where a bound must hold and a solution told is above it,
 * the knapsack's capacity is corrected: by the excess first, then by bisection.
 *
 * Everett, Generalized Lagrange Multiplier Method, Operations Research 11, 1963;
 * the knapsack's table replaces the multipliers (see knapsack.c).
 *
 * Invariants: trials are told in the order of `queue`; nothing is put into it that
 * the budget does not allow.                                                     */
#include "lagrangian.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LADDER = 10, FIXES = 6, RADIUS = 2, TOLLS = 3, NEAR = 2 + TOLLS };
enum phase { MEASURING, SOLVING, FINISHED };
enum what { BASE, SITE, SOLUTION };

struct config {
    int64_t budget, points, rounds;
    double  fidelity;
    struct lm_reals targets;
};

struct trial {
    int32_t  layer;                     /* of the gene, for the order           */
    uint32_t what;                      /* enum what                            */
    uint32_t gene;                      /* SITE: gene; SOLUTION: its index      */
    uint32_t level;
};

struct solution {
    uint16_t *level;                    /* [n_gene]                             */
    double    loss, size, violation;    /* as told                              */
    bool      built;
};

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    struct lm_run *run;
    const struct lm_problem *p;
    struct levels levels;
    enum phase phase;
    int64_t round, asked;
    struct trial *queue;                /* [room]                               */
    size_t   n_queue, room, next, told;
    bool     base_built;
    double   base_loss, base_size;      /* as told, at the fidelity of sites    */
    struct solution *solution;
    size_t   n_solution, solution_room;
    double  *target;                    /* [n_target] sizes, largest first      */
    size_t   n_target;
    double   bound;                     /* of the second objective; INF: none   */
    double   goal;                      /* the size that rounds work for        */
    double   reference;                 /* size of the uncompressed model       */
    size_t   centre;                    /* base of this round (n: uncompressed) */
    struct knapsack *knapsack;          /* of this round; sizes over the base   */
    uint16_t *pick;                     /* [n_gene] scratch                     */
    size_t   fixing;                    /* solution whose size is put right     */
    double   capacity, low, high;       /* of it; known to fit, to exceed; NAN  */
    int      fixes;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "2000", 2, 1e9, "genomes", 0,
           "How many genomes to propose at most, single-site trials included."),
    LM_INT(struct config, points, "4", 1, 256, "levels", 0,
           "How many levels of each gene are measured; the others are interpolated."),
    LM_REAL(struct config, fidelity, "0.25", 0.001, 1, NULL, 0,
            "Share of the items that single-site trials are measured on."),
    LM_REALLIST(struct config, targets, NULL, 0.001, 1, NULL, 0,
                "Sizes to solve for, as shares of the uncompressed one; none: the "
                "bound, and steps from 0.95 down to 0.5."),
    LM_INT(struct config, rounds, "2", 1, 20, NULL, 0,
           "Rounds of measuring; all but the first around the best genome so far."),
    LM_OPT_END
};

static enum lm_status no_memory(const struct search *s, struct lm_err *e)
{
    return s->h->fail(e, LM_ENOMEM, "out of memory in search 'lagrangian'");
}

/* ---- the queue ------------------------------------------------------------- */
/* Proposals that the budget still allows beyond the queue. */
static size_t allowance(const struct search *s)
{
    return (size_t)(s->cfg->budget - s->asked) - (s->n_queue - s->next);
}

static enum lm_status enqueue(struct search *s, struct trial t, struct lm_err *e)
{
    if (s->n_queue == s->room) {
        size_t room = 2 * s->room + 256;
        struct trial *q = s->h->resize(s->queue, room * sizeof *q);
        if (!q)
            return no_memory(s, e);
        s->queue = q;
        s->room = room;
    }
    s->queue[s->n_queue++] = t;
    return LM_OK;
}

static int by_layer(const void *x, const void *y)
{
    const struct trial *a = x, *b = y;

    if (a->layer != b->layer)
        return a->layer > b->layer ? -1 : 1;
    if (a->gene != b->gene)
        return a->gene < b->gene ? -1 : 1;
    return a->level < b->level ? -1 : a->level > b->level;
}

/* The base, then all points within the radius of it, one change each. */
static enum lm_status queue_sites(struct search *s, uint32_t radius, struct lm_err *e)
{
    enum lm_status st;

    s->n_queue = s->next = s->told = 0;
    s->base_built = false;
    levels_reset(&s->levels);
    if ((st = enqueue(s, (struct trial){ .what = BASE }, e)) != LM_OK)
        return st;
    for (uint32_t g = 0; g < s->levels.n; g++) {
        const struct axis *a = &s->levels.axis[g];
        for (uint32_t l = 0; l < a->n; l++) {
            struct trial t = { a->gene->site.layer, SITE, g, l };
            if (!a->point[l] || l == a->base || levels_distance(a, l) > radius)
                continue;
            if ((st = enqueue(s, t, e)) != LM_OK)
                return st;
        }
    }
    if (s->n_queue > 2)
        qsort(s->queue + 1, s->n_queue - 1, sizeof *s->queue, by_layer);
    return LM_OK;
}

/* ---- solutions ------------------------------------------------------------- */
/* Index of the solution s->pick; a new one is put into the queue, unless the
 * budget is spent: then *index is n_solution.                                */
static enum lm_status propose(struct search *s, size_t *index, struct lm_err *e)
{
    size_t size = s->levels.n * sizeof *s->pick;
    struct solution *x;

    for (*index = 0; *index < s->n_solution; ++*index)
        if (memcmp(s->solution[*index].level, s->pick, size) == 0)
            return LM_OK;
    if (allowance(s) == 0)
        return LM_OK;
    if (s->n_solution == s->solution_room) {
        size_t room = 2 * s->solution_room + 16;
        x = s->h->resize(s->solution, room * sizeof *x);
        if (!x)
            return no_memory(s, e);
        s->solution = x;
        s->solution_room = room;
    }
    x = &s->solution[s->n_solution];
    *x = (struct solution){ .level = s->h->alloc(size, "search/lagrangian") };
    if (!x->level)
        return no_memory(s, e);
    memcpy(x->level, s->pick, size);
    s->n_solution++;
    return enqueue(s, (struct trial){ .what = SOLUTION, .gene = (uint32_t)*index }, e);
}

/* The best genome told within the goal: the least violation, then loss. */
static size_t best_solution(const struct search *s)
{
    size_t best = s->n_solution;

    for (size_t i = 0; i < s->n_solution; i++) {
        const struct solution *x = &s->solution[i], *b = &s->solution[best];
        if (!x->built || x->size > s->goal + 1e-9 * fabs(s->goal))
            continue;
        if (best == s->n_solution || x->violation < b->violation
            || (x->violation == b->violation && x->loss < b->loss))
            best = i;
    }
    return best;
}

/* ---- solving --------------------------------------------------------------- */
static int falling(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a > b ? -1 : a < b;
}

/* The sizes to solve for, the bound among them.  Those above it show what the
 * bound costs; they fill the front and nothing is built on them.             */
static void set_targets(struct search *s)
{
    size_t n = s->cfg->targets.n ? s->cfg->targets.n : LADDER, kept = 0;
    double bound = s->p->objective[1]->bound, ref = s->p->objective[1]->reference;

    s->reference = ref > 0 && ref < INFINITY ? ref : s->base_size;
    s->bound = bound < s->base_size ? bound : INFINITY;
    for (size_t i = 0; i < n; i++) {
        double share = s->cfg->targets.n ? s->cfg->targets.v[i] : 0.95 - 0.05 * (double)i;
        if (share * s->reference != s->bound)
            s->target[kept++] = share * s->reference;
    }
    if (s->bound < INFINITY)
        s->target[kept++] = s->bound;
    if (kept > 1)
        qsort(s->target, kept, sizeof *s->target, falling);
    s->n_target = kept;
}

/* Increments over the base, from what was told. */
static void subtract_base(struct search *s)
{
    for (size_t g = 0; g < s->levels.n; g++) {
        struct axis *a = &s->levels.axis[g];
        for (uint32_t l = 0; l < a->n; l++)
            if (a->known[l] && l != a->base) {
                a->loss[l] -= s->base_loss;
                a->size[l] -= s->base_size;
            }
    }
}

static enum lm_status open_knapsack(struct search *s, struct knapsack **k, double limit,
                                    struct lm_err *e)
{
    return knapsack_open(s->h, s->levels.cls, s->levels.n, limit - s->base_size, k, e);
}

/* Starts putting right the size of a solution made for a capacity. */
static void fix_start(struct search *s, size_t index, double capacity)
{
    s->fixing = index;
    s->capacity = capacity;
    s->low = s->high = NAN;
    s->fixes = 0;
}

/* One genome for each target that can be reached; if none can, or the bound
 * cannot, the smallest.  The goal of later rounds is the bound, or else the
 * middle target.                                                             */
static enum lm_status solve_all(struct search *s, struct lm_err *e)
{
    double smallest;
    size_t index, reached = 0;
    enum lm_status st;

    set_targets(s);
    levels_interpolate(&s->levels);
    st = open_knapsack(s, &s->knapsack, s->n_target ? s->target[0] : s->base_size, e);
    if (st != LM_OK)
        return st;
    smallest = s->base_size + knapsack_smallest(s->knapsack);
    while (reached < s->n_target && s->target[reached] >= smallest)
        reached++;
    if (reached == 0 || (s->bound < INFINITY && s->bound < smallest)) {
        s->goal = s->bound < INFINITY ? s->bound : smallest;
        knapsack_pick_smallest(s->knapsack, s->pick);
        st = propose(s, &index, e);
        fix_start(s, s->n_solution, s->goal);
        return st;
    }
    s->goal = s->bound < INFINITY ? s->bound : s->target[reached / 2];
    for (int pass = 0; pass < 2; pass++)        /* the goal first: the budget may end */
        for (size_t i = 0; i < reached; i++) {
            if ((s->target[i] == s->goal) == pass ||
                !knapsack_pick(s->knapsack, s->target[i] - s->base_size, s->pick))
                continue;
            if ((st = propose(s, &index, e)) != LM_OK)
                return st;
            if (pass == 0)
                fix_start(s, index, s->goal);
        }
    return LM_OK;
}

/* Solves for the goal over the levels known within a radius of the base, where
 * every change of a gene costs a toll besides; *index is the solution's, n_solution
 * if there is none.  The caller closes the knapsack, also after a failure.   */
static enum lm_status solve_within(struct search *s, uint32_t radius, double toll,
                                   struct knapsack **k, size_t *index, struct lm_err *e)
{
    enum lm_status st;

    for (size_t g = 0; g < s->levels.n; g++) {
        struct axis *a = &s->levels.axis[g];
        for (uint32_t l = 0; l < a->n; l++) {
            a->allowed[l] = a->known[l] && levels_distance(a, l) <= radius;
            a->loss[l] += l != a->base ? toll : 0;
        }
    }
    *index = s->n_solution;
    st = open_knapsack(s, k, s->goal, e);
    if (st == LM_OK && knapsack_pick(*k, s->goal - s->base_size, s->pick))
        st = propose(s, index, e);
    for (size_t g = 0; g < s->levels.n && toll > 0; g++) {
        struct axis *a = &s->levels.axis[g];
        for (uint32_t l = 0; l < a->n; l++)
            a->loss[l] -= l != a->base ? toll : 0;
    }
    return st;
}

/* What each change of s->pick gains on average, as predicted. */
static double mean_gain(const struct search *s)
{
    double gain = 0, n = 0;

    for (size_t g = 0; g < s->levels.n; g++)
        if (s->pick[g] != s->levels.axis[g].base) {
            gain -= s->levels.axis[g].loss[s->pick[g]];
            n++;
        }
    return n > 0 ? fmax(gain / n, 0) : 0;
}

/* Later rounds, for the goal: over the nearest levels; over all that was measured;
 * and so that only changes remain that gain more than once, twice, four times the
 * average.  The last are for increments that depend on each other, or are mostly
 * noise.                                                                     */
static enum lm_status solve_near(struct search *s, struct lm_err *e)
{
    struct knapsack *near = NULL;
    enum lm_status st = solve_within(s, 1, 0, &near, &(size_t){ 0 }, e);
    double toll;

    knapsack_close(near);
    if (st == LM_OK) {
        size_t index;
        st = solve_within(s, RADIUS, 0, &s->knapsack, &index, e);
        fix_start(s, index, s->goal);
    }
    toll = st == LM_OK && s->fixing < s->n_solution ? mean_gain(s) : 0;
    for (int i = 0; i < TOLLS && toll > 0 && st == LM_OK; i++, toll *= 2) {
        struct knapsack *careful = NULL;
        st = solve_within(s, RADIUS, toll, &careful, &(size_t){ 0 }, e);
        knapsack_close(careful);
    }
    return st;
}

static enum lm_status solve(struct search *s, struct lm_err *e)
{
    s->n_queue = s->next = s->told = 0;
    s->phase = SOLVING;
    if (!s->base_built && s->round == 1) {
        s->base_loss = s->p->objective[0]->reference;
        s->base_size = s->p->objective[1]->reference;
    }
    if ((!s->base_built && s->round > 1) || !isfinite(s->base_loss)
        || !isfinite(s->base_size)) {
        s->h->log(s->run, LM_WARN, "search 'lagrangian' stops: the genome that others "
                  "are compared with could not be measured");
        s->phase = FINISHED;
        return LM_OK;
    }
    subtract_base(s);
    return s->round == 1 ? solve_all(s, e) : solve_near(s, e);
}

/* ---- putting sizes right --------------------------------------------------- */
/* The next capacity to try after the solution in hand was told; false: done. */
static bool next_capacity(struct search *s)
{
    const struct solution *x = &s->solution[s->fixing];
    double excess = x->size - s->bound;

    if (!x->built)
        return false;
    if (excess > 1e-9 * fabs(s->bound))
        s->high = s->capacity;
    else if (s->fixes == 0 || -excess < 0.005 * s->reference)
        return false;
    else
        s->low = s->capacity;
    if (isnan(s->low))
        s->capacity -= fmax(1.1 * excess, 1e-4 * s->reference);
    else if (s->high - s->low < 1e-3 * s->reference)
        return false;
    else
        s->capacity = 0.5 * (s->low + s->high);
    return s->fixes++ < FIXES;
}

/* Queues at most one more solution. */
static enum lm_status fix(struct search *s, struct lm_err *e)
{
    size_t before = s->n_solution;

    while (s->bound < INFINITY && s->fixing < s->n_solution && s->n_solution == before
           && next_capacity(s)) {
        enum lm_status st;
        if (!knapsack_pick(s->knapsack, s->capacity - s->base_size, s->pick))
            return LM_OK;
        if ((st = propose(s, &s->fixing, e)) != LM_OK)
            return st;
    }
    return LM_OK;
}

/* ---- rounds ---------------------------------------------------------------- */
static enum lm_status next_round(struct search *s, struct lm_err *e)
{
    size_t best = best_solution(s);
    enum lm_status st = LM_OK;
    uint32_t radius = RADIUS;

    knapsack_close(s->knapsack);
    s->knapsack = NULL;
    s->phase = FINISHED;
    s->n_queue = s->next = s->told = 0;
    if (s->round == s->cfg->rounds || best == s->n_solution
        || (s->round > 1 && best == s->centre))
        return LM_OK;
    s->centre = best;
    s->round++;
    for (size_t g = 0; g < s->levels.n; g++)
        s->levels.axis[g].base = s->solution[best].level[g];
    for (; radius > 0; radius--) {      /* fewer levels where the budget is short */
        if ((st = queue_sites(s, radius, e)) != LM_OK)
            return st;
        if (s->n_queue + NEAR <= (size_t)(s->cfg->budget - s->asked)) {
            s->phase = MEASURING;
            return LM_OK;
        }
    }
    s->n_queue = 0;
    return LM_OK;
}

/* All of the queue is told: what comes next? */
static enum lm_status advance(struct search *s, struct lm_err *e)
{
    enum lm_status st;

    if (s->told < s->n_queue)
        return s->h->fail(e, LM_EBUG, "search 'lagrangian' was asked before all of its "
                          "proposals were told");
    if (s->phase == MEASURING)
        return solve(s, e);
    s->n_queue = s->next = s->told = 0;
    if ((st = fix(s, e)) != LM_OK || s->n_queue > 0)
        return st;
    return next_round(s, e);
}

/* ---- the strategy ---------------------------------------------------------- */
static size_t n_targets(const struct search *s)
{
    return (s->cfg->targets.n ? s->cfg->targets.n : LADDER) + 1;
}

/* Do so many points, all solutions and `more` trials fit the budget? */
static bool affordable(struct search *s, size_t points, size_t solutions, size_t more)
{
    return levels_mark(&s->levels, points) + 1 + solutions + more
        <= (size_t)s->cfg->budget;
}

/* As many points as the budget allows.  Two are enough where more would leave
 * nothing for another round, which is worth more; with one, sizes may go short. */
static enum lm_status plan_points(struct search *s, struct lm_err *e)
{
    size_t all = n_targets(s), wanted = (size_t)s->cfg->points;

    for (size_t k = wanted; k > 1 && s->cfg->rounds > 1; k--)
        if (affordable(s, k, all, 2 * s->levels.n + 1 + NEAR))
            return LM_OK;
    for (size_t k = wanted; k > 0; k--)
        if (affordable(s, k, k > 1 ? all : 1, 0))
            return LM_OK;
    return s->h->fail(e, LM_ECONFIG, "search 'lagrangian': budget = %lld is too small; "
                      "measuring one level of each of the %zu genes and solving for one "
                      "size takes %zu", (long long)s->cfg->budget, s->levels.n,
                      levels_mark(&s->levels, 1) + 2);
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st;

    if (p->n_objective < 2)
        return s->h->fail(e, LM_ECONFIG, "search 'lagrangian' needs two objectives: "
                          "first a quality such as kl.nats, then the size or cost that "
                          "is traded for it");
    if (p->n_gene == 0)
        return s->h->fail(e, LM_ECONFIG, "search 'lagrangian' needs at least one gene");
    s->p = p;
    if ((st = levels_open(&s->levels, p, e)) != LM_OK
        || (st = plan_points(s, e)) != LM_OK)
        return st;
    s->target = s->h->alloc(n_targets(s) * sizeof *s->target, "search/lagrangian");
    s->pick = s->h->alloc(p->n_gene * sizeof *s->pick, "search/lagrangian");
    if (!s->target || !s->pick)
        return no_memory(s, e);
    s->round = 1;
    s->bound = s->goal = INFINITY;
    return queue_sites(s, UINT32_MAX, e);
}

static void write_genome(const struct search *s, const struct trial *t,
                         struct lm_proposal *out)
{
    for (size_t g = 0; g < s->levels.n; g++) {
        const struct axis *a = &s->levels.axis[g];
        uint32_t l = t->what == SOLUTION ? s->solution[t->gene].level[g]
                   : t->what == SITE && t->gene == g ? t->level : a->base;
        out->value[a->gene->slot].integer = a->value[l];
    }
    if (t->what != SOLUTION)
        out->fidelity = s->cfg->fidelity;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;

    *n = 0;
    while (s->next == s->n_queue && s->phase != FINISHED) {
        enum lm_status st = advance(s, e);
        if (st != LM_OK)
            return st;
    }
    for (; *n < max && s->next < s->n_queue; s->asked++)
        write_genome(s, &s->queue[s->next++], &out[(*n)++]);
    return LM_OK;
}

static double total_violation(const struct search *s, const struct lm_outcome *o)
{
    double sum = 0;

    for (size_t i = 0; i < s->p->n_constraint; i++)
        sum += isnan(o->violation[i]) ? INFINITY : fmax(o->violation[i], 0);
    return sum;
}

static void learn(struct search *s, const struct trial *t, const struct lm_outcome *o)
{
    bool built = o->status == LM_OK && isfinite(o->objective[0])
              && isfinite(o->objective[1]);

    if (!built)
        return;
    if (t->what == BASE) {
        s->base_built = true;
        s->base_loss = o->objective[0];
        s->base_size = o->objective[1];
    } else if (t->what == SITE) {
        struct axis *a = &s->levels.axis[t->gene];
        a->known[t->level] = true;
        a->loss[t->level] = o->objective[0];
        a->size[t->level] = o->objective[1];
    } else {
        struct solution *x = &s->solution[t->gene];
        x->built = true;
        x->loss = o->objective[0];
        x->size = o->objective[1];
        x->violation = total_violation(s, o);
    }
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;

    for (size_t i = 0; i < n; i++) {
        if (s->told == s->next)
            return s->h->fail(e, LM_EBUG, "search 'lagrangian' was told more outcomes "
                              "than it proposed genomes");
        learn(s, &s->queue[s->told++], o[i]);
    }
    return LM_OK;
}

/* What a later round takes at most: its base, levels within reach, solutions and
 * their corrections.                                                         */
static size_t later_round(const struct search *s)
{
    size_t sum = 1 + NEAR + FIXES;

    for (size_t g = 0; g < s->levels.n; g++) {
        const struct axis *a = &s->levels.axis[g];
        sum += a->ordered && a->n > 2 * RADIUS ? 2 * RADIUS : a->n - 1;
    }
    return sum;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    size_t left = (size_t)(s->cfg->budget - s->asked), sum;

    if (!s->p)
        return left;
    sum = s->n_queue - s->next;
    if (s->phase == MEASURING)
        sum += (s->round == 1 ? n_targets(s) : NEAR) + FIXES;
    else if (s->phase == SOLVING)
        sum += (size_t)(FIXES - (s->fixes < FIXES ? s->fixes : FIXES));
    if (s->phase != FINISHED)
        sum += (size_t)(s->cfg->rounds - s->round) * later_round(s);
    return sum < left ? sum : left;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/lagrangian");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = s->levels.h = a->host;
    s->cfg = a->config;
    s->run = a->run;
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    for (size_t i = 0; i < s->n_solution; i++)
        s->h->release(s->solution[i].level);
    knapsack_close(s->knapsack);
    levels_close(&s->levels);
    s->h->release(s->solution);
    s->h->release(s->queue);
    s->h->release(s->target);
    s->h->release(s->pick);
    s->h->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops,
    .genes = LM_BIT(LM_GENE_BOOL) | LM_BIT(LM_GENE_INT) | LM_BIT(LM_GENE_CHOICE),
    .begin = begin, .ask = ask, .tell = tell, .budget = budget,
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module m = {
        LM_MODULE_HEAD(SEARCH), .name = "lagrangian", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "measures single sites, then solves a knapsack for each size",
        .reference = "Everett, Operations Research 11, 1963",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
