/* SPDX-License-Identifier: Apache-2.0 */
/* greedy.c -- from the first start genome (the uncompressed one without any) one gene at
 * a time goes one step down, always the one that costs least: SLEB (Song et al., ICML
 * 2024) over whole layers, BlockPruner (Zhong et al., 2024) over attention and MLP
 * blocks.
 *
 * - The cost of a step is by how much it raises the first objective; with `per_gain` for
 *   each unit by which it lowers the second.
 * - `lazy` K: what a gene cost when it was last tried is taken for what it costs now, and
 *   only the K cheapest are tried again before the cheapest of these is taken.  0 tries
 *   all, as the papers do, which is quadratic in the number of steps.
 * - Where the first genome breaks a constraint, steps are taken until one keeps them all.
 *   Where it keeps them, steps that would break one are not taken, and without any the
 *   search goes on until no gene can go down.
 * - A step of a continuous gene is a sixteenth of its range.  Choices without order stay
 *   as they are.  What can't be built is never taken.
 *
 * Invariants: a round is the trials of one step, or of K genes of it; gene[i] is the
 * gene that the round's genome i has changed; `current` is what all differ from.  */
#include <math.h>
#include <string.h>

#include "fronts.h"
#include "round.h"

enum { STEPS = 16 };

struct config { int64_t budget, lazy; bool per_gain; };

/* What was last seen of a gene's next step. */
struct step {
    double cost;                        /* -INFINITY: never tried; INFINITY: not to
                                           be taken                             */
    bool   tried;                       /* from where the search is now         */
};

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct round round;
    union lm_value *current;            /* [n_slot]                             */
    double  f[2];                       /* objectives of current                */
    bool    begun, feasible, met;       /* a first genome was told; it keeps the
                                           constraints; current does            */
    bool    stepping;                   /* the round is of steps, not of starts */
    size_t  told;                       /* of the round                         */
    size_t *gene;                       /* [n_gene]                             */
    struct step *step;                  /* [n_gene]                             */
    size_t  best;                       /* gene to take; n_gene: none           */
    double  best_f[2];                  /* objectives behind that step          */
    bool    best_met;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "1000", 1, 1e9, "genomes", 0,
           "How many genomes to propose at most; it ends earlier where the constraints "
           "are met or no gene can go down."),
    LM_INT(struct config, lazy, "0", 0, 1e6, "genes", 0,
           "How many genes are tried again before each step, those that cost least when "
           "they were last tried; 0: all."),
    LM_FLAG(struct config, per_gain, "false", 0,
            "Takes what raises the first objective least per unit by which the second "
            "falls."),
    LM_OPT_END
};

/* ---- steps ----------------------------------------------------------------- */
/* The gene one step below its value in `current`, into `to`; false: it is at its end. */
static bool step_down(const struct search *s, size_t gene, union lm_value *to)
{
    const struct axis *a = &s->genes.axis[gene];
    double x = genes_get(a, s->current);

    if (!a->ordered || x <= 0)
        return false;
    memcpy(to, s->current, s->p->n_slot * sizeof *to);
    genes_put(a, x - (a->continuous ? a->top / STEPS : 1), to);
    return true;
}

/* Goes where the best step leads. */
static void take_best(struct search *s)
{
    union lm_value *next = round_spare(&s->round);

    step_down(s, s->best, next);
    memcpy(s->current, next, s->p->n_slot * sizeof *next);
    memcpy(s->f, s->best_f, sizeof s->f);
    s->met = s->best_met;
    s->best = s->p->n_gene;
    for (size_t i = 0; i < s->p->n_gene; i++)
        s->step[i].tried = false;
}

/* The cheapest gene that was not tried from here; n_gene: none is left. */
static size_t cheapest(const struct search *s)
{
    size_t n = s->p->n_gene, best = n;

    for (size_t i = 0; i < n; i++)
        if (!s->step[i].tried && (best == n || s->step[i].cost < s->step[best].cost))
            best = i;
    return best;
}

static void try_gene(struct search *s, size_t gene)
{
    union lm_value *next = round_spare(&s->round);

    s->step[gene].tried = true;
    if (step_down(s, gene, next)) {
        s->gene[s->round.n] = gene;
        round_add(&s->round, next);
    }
}

/* Genes never tried, or the next of the others, until there is something to measure. */
static void add_steps(struct search *s)
{
    size_t most = s->cfg->lazy > 0 ? (size_t)s->cfg->lazy : s->p->n_gene, gene;

    for (size_t i = 0; i < s->p->n_gene; i++)
        if (!s->step[i].tried && (s->step[i].cost == -INFINITY || most >= s->p->n_gene))
            try_gene(s, i);
    while (s->round.n < most && (gene = cheapest(s)) < s->p->n_gene)
        try_gene(s, gene);
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;

    (void)e;
    s->told = 0;
    s->stepping = !round_add_starts(&s->round);
    if (!s->stepping)
        return LM_OK;
    if (s->best < s->p->n_gene)
        take_best(s);
    if (!s->met || s->feasible)
        add_steps(s);
    return LM_OK;
}

/* ---- outcomes -------------------------------------------------------------- */
static double cost_of(const struct search *s, const double *f)
{
    double loss = f[0] - (isfinite(s->f[0]) ? s->f[0] : 0), gain = 1;

    if (s->cfg->per_gain)
        gain = fmax(s->f[1] - f[1], 0);
    if (loss <= 0)
        return loss * gain;
    return gain > 0 ? loss / gain : INFINITY;
}

/* The first of all starts the search; the others are only measured. */
static void start_from(struct search *s, const struct lm_outcome *o, double violation)
{
    size_t n = s->p->n_objective < 2 ? 1 : 2;

    s->begun = true;
    s->feasible = s->met = violation == 0;
    memcpy(s->current, o->value, s->p->n_slot * sizeof *s->current);
    for (size_t k = 0; k < n; k++)
        s->f[k] = violation < INFINITY ? o->objective[k] : INFINITY;
}

static void judge(struct search *s, const struct lm_outcome *o, size_t gene,
                  double violation)
{
    struct step *step = &s->step[gene];
    bool no = !(violation < INFINITY) || (s->feasible && violation > 0);

    step->cost = no ? INFINITY : cost_of(s, o->objective);
    if (no || (s->best < s->p->n_gene && !(step->cost < s->step[s->best].cost)))
        return;
    s->best = gene;
    s->best_met = violation == 0;
    memcpy(s->best_f, o->objective,
           (s->p->n_objective < 2 ? 1 : 2) * sizeof *s->best_f);
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;

    (void)e;
    for (size_t i = 0; i < n; i++) {
        double violation = outcome_violation(s->p, o[i]);
        if (!s->begun)
            start_from(s, o[i], violation);
        else if (s->stepping)
            judge(s, o[i], s->gene[s->told++], violation);
    }
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    size_t n = p->n_gene;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    s->best = n;
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    if (st == LM_OK && s->cfg->per_gain && p->n_objective < 2)
        st = s->h->fail(e, LM_ECONFIG, "search 'greedy' with per_gain needs a second "
                        "objective");
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, n, s->cfg->budget, e);
    if (st != LM_OK)
        return st;
    s->current = s->h->alloc(p->n_slot * sizeof *s->current, s->genes.tag);
    s->gene = s->h->alloc(n * sizeof *s->gene, s->genes.tag);
    s->step = s->h->alloc(n * sizeof *s->step, s->genes.tag);
    if (!s->current || !s->gene || !s->step)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", n);
    for (size_t i = 0; i < n; i++)
        s->step[i] = (struct step){ -INFINITY, false };
    return LM_OK;
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
    struct search *s = a->host->alloc(sizeof *s, "search/greedy");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "greedy");
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    round_close(&s->round);
    genes_close(&s->genes);
    s->h->release(s->current);
    s->h->release(s->gene);
    s->h->release(s->step);
    s->h->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops,
    .genes = LM_BIT(LM_GENE_BOOL) | LM_BIT(LM_GENE_INT) | LM_BIT(LM_GENE_REAL)
           | LM_BIT(LM_GENE_CHOICE),
    .begin = begin, .ask = ask, .tell = tell, .budget = budget,
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module m = {
        LM_MODULE_HEAD(SEARCH), .name = "greedy", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "one gene at a time, always the cheapest (SLEB, BlockPruner)",
        .reference = "Song et al., ICML 2024; Zhong et al., arXiv 2406.10594",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
