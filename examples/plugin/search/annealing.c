/* SPDX-License-Identifier: Apache-2.0 */
/* annealing.c -- search strategy: simulated annealing, several chains in turns.
 *
 * A chain stands at one genome and looks at a neighbour: one gene a step up or
 * down.  A better one is taken; a worse one with probability exp(-d / T), where d
 * is how much worse it is and T the temperature, which falls from `hot` to `cold`
 * over the run.  So chains wander at first and settle at last.
 *
 * Energy.  Constraints count as `penalty` times what is in excess.  Objectives are
 * made comparable by their value for the uncompressed model (or the first one seen
 * where that is 0) and are weighted; each chain has weights of its own, so that
 * chains end at different places of the Pareto front.
 *
 * What to learn here: ask() may give fewer proposals than it could (a chain must
 * hear of its last one first), and everything follows from seed, options and
 * outcomes, since a run is resumed by asking and telling again from the start.
 *
 * Kirkpatrick, Gelatt & Vecchi, Optimization by Simulated Annealing, 1983.   */
#include "plugin.h"

#include <math.h>
#include <string.h>

enum { MAX_OBJECTIVES = 8 };

struct config { int64_t budget, chains; double hot, cold, penalty; };

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "128", 1, 1000000, "genomes", 0,
           "How many genomes to propose."),
    LM_INT(struct config, chains, "4", 1, 64, NULL, 0,
           "Chains, each with other weights of the objectives."),
    LM_REAL(struct config, hot, "0.1", 1e-9, 1e9, NULL, 0,
            "Temperature at the beginning, in units of the dense model's objectives."),
    LM_REAL(struct config, cold, "0.001", 1e-9, 1e9, NULL, 0, "Temperature at the end."),
    LM_REAL(struct config, penalty, "10", 0, 1e9, NULL, 0,
            "What exceeding a constraint by 100 % costs."),
    LM_OPT_END
};

struct chain {
    union lm_value *at, *next;          /* [n_slot] */
    double energy;                      /* of `at` */
    bool placed;                        /* `at` has been measured */
    double weight[MAX_OBJECTIVES];
};

struct search {
    const struct lm_host *host;
    const struct config *config;
    const struct lm_problem *p;
    uint64_t state;
    int64_t asked;
    struct chain *chain;                /* [chains] */
    union lm_value *memory;
    size_t turn;                        /* the chain that is next */
    double scale[MAX_OBJECTIVES];       /* 0: not known yet */
};

/* ---- random numbers: splitmix64 ------------------------------------------------ */

static double unit(struct search *s)    /* [0, 1) */
{
    uint64_t z = s->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static size_t below(struct search *s, size_t n)
{
    return (size_t)(unit(s) * (double)n);
}

/* ---- genomes -------------------------------------------------------------------- */

/* BOOL, INT and CHOICE: min, min + step, .. max. */
static void step(struct search *s, const struct lm_gene *g, union lm_value *v)
{
    int64_t n = (int64_t)((g->max - g->min) / g->step) + 1;
    int64_t i = (v->integer - (int64_t)g->min) / (int64_t)g->step;

    if (n < 2)
        return;
    if (g->kind == LM_GENE_CHOICE && !g->ordered)       /* any other one */
        i = (i + 1 + (int64_t)below(s, (size_t)n - 1)) % n;
    else if (i == 0 || (i < n - 1 && unit(s) < 0.5))
        i++;
    else
        i--;
    v->integer = (int64_t)g->min + i * (int64_t)g->step;
}

/* A chain begins at a given genome, or at the uncompressed one shaken a little. */
static void place(struct search *s, struct chain *c, size_t number)
{
    const struct lm_problem *p = s->p;

    if (number < p->n_start) {
        memcpy(c->next, p->start[number], p->n_slot * sizeof *c->next);
        return;
    }
    for (size_t i = 0; i < p->n_gene; i++) {
        const struct lm_gene *g = p->gene[i];

        c->next[g->slot].integer = (int64_t)g->initial;
        if (number > 0 && unit(s) < 0.5)
            step(s, g, &c->next[g->slot]);
    }
}

static void propose(struct search *s, struct chain *c, union lm_value *out)
{
    const struct lm_problem *p = s->p;

    if (c->placed) {
        const struct lm_gene *g = p->gene[below(s, p->n_gene)];

        memcpy(c->next, c->at, p->n_slot * sizeof *c->at);
        step(s, g, &c->next[g->slot]);
    } else {
        place(s, c, (size_t)(c - s->chain));
    }
    memcpy(out, c->next, p->n_slot * sizeof *out);
}

/* ---- the strategy --------------------------------------------------------------- */

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    size_t n = (size_t)s->config->chains;

    s->p = p;
    s->chain = s->host->alloc(n * sizeof *s->chain, "annealing");
    s->memory = s->host->alloc(2 * n * p->n_slot * sizeof *s->memory, "annealing");
    if (!s->chain || !s->memory)
        return s->host->fail(e, LM_ENOMEM, "out of memory for %zu chains", n);
    for (size_t k = 0; k < p->n_objective; k++)
        s->scale[k] = fabs(p->objective[k]->reference);
    for (size_t i = 0; i < n; i++) {
        struct chain *c = &s->chain[i];
        double sum = 0;

        c->at = s->memory + 2 * i * p->n_slot;
        c->next = c->at + p->n_slot;
        for (size_t k = 0; k < p->n_objective; k++)
            sum += c->weight[k] = -log(1 - unit(s));    /* uniform on the simplex */
        for (size_t k = 0; k < p->n_objective; k++)
            c->weight[k] = sum > 0 ? c->weight[k] / sum : 1;
    }
    return LM_OK;
}

/* One proposal of each chain; the host tells of all before it asks again. */
static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    size_t chains = (size_t)s->config->chains;

    (void)e;
    for (*n = 0; *n < max && *n < chains && s->asked < s->config->budget; s->asked++) {
        propose(s, &s->chain[(s->turn + *n) % chains], out[*n].value);
        ++*n;
    }
    return LM_OK;
}

static double energy(struct search *s, const struct chain *c, const struct lm_outcome *o)
{
    double sum = 0;

    if (o->status != LM_OK)             /* it could not be built: never go there */
        return INFINITY;
    for (size_t k = 0; k < s->p->n_objective; k++) {
        if (!(s->scale[k] > 0))
            s->scale[k] = fabs(o->objective[k]) > 0 ? fabs(o->objective[k]) : 0;
        sum += c->weight[k] * o->objective[k] / (s->scale[k] > 0 ? s->scale[k] : 1);
    }
    for (size_t k = 0; k < s->p->n_constraint; k++)
        sum += o->violation[k] > 0 ? s->config->penalty * o->violation[k] : 0;
    return sum;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    const struct config *g = s->config;
    size_t chains = (size_t)g->chains;
    double t = g->hot * pow(g->cold / g->hot, (double)s->asked / (double)g->budget);

    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct chain *c = &s->chain[(s->turn + i) % chains];
        double new = energy(s, c, o[i]), lucky = unit(s);

        if (c->placed && !(new <= c->energy) && !(lucky < exp((c->energy - new) / t)))
            continue;
        if (isinf(new) && c->placed)
            continue;
        memcpy(c->at, o[i]->value, s->p->n_slot * sizeof *c->at);
        c->energy = new;
        c->placed = true;
    }
    s->turn = (s->turn + n) % chains;
    return LM_OK;
}

static size_t budget(void *self)
{
    const struct search *s = self;

    return (size_t)(s->config->budget - s->asked);
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    return c->cold <= c->hot ? LM_OK
        : h->fail(e, LM_ECONFIG, "cold (%g) must not be above hot (%g)", c->cold, c->hot);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "annealing");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->host = a->host;
    s->config = a->config;
    s->state = a->host->seed(a->run, "annealing", 0);
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    s->host->release(s->chain);
    s->host->release(s->memory);
    s->host->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops, .max_objectives = MAX_OBJECTIVES,
    .genes = LM_BIT(LM_GENE_BOOL) | LM_BIT(LM_GENE_INT) | LM_BIT(LM_GENE_CHOICE),
    .begin = begin, .ask = ask, .tell = tell, .budget = budget
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module module = {
        LM_MODULE_HEAD(SEARCH), .name = "annealing", .version = "1.0",
        .license = "Apache-2.0", .author = "Lamina",
        .summary = "simulated annealing, several chains at once",
        .reference = "Kirkpatrick, Gelatt & Vecchi, Science 220, 1983",
        .opt = options, .config_size = sizeof(struct config), .check = check,
        .create = create, .destroy = destroy, .ops = &ops
    };

    return &module;
}
