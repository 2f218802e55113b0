/* SPDX-License-Identifier: Apache-2.0 */
/* halving.c -- successive halving around any other strategy, for several objectives.
 *
 * Brackets: up to `bracket` proposals of the inner strategy are measured on a small
 * share of the items, eta^-rungs; the best of them, 1 of `eta`, on `eta` times as many,
 * and so on to all items.  "Best" is by fronts with constrained domination, within a
 * front in farthest-first order, so that whole fronts are promoted evenly (Schmucker et
 * al., Multi-objective Asynchronous Successive Halving, 2021; synchronous here, as
 * Jamieson & Talwalkar 2016).
 *
 * The inner strategy is told all of a bracket at once: what got to the end as measured,
 * the others as having lost a race, their objectives moved by what those that went on
 * changed by in the mean between the shares (early items may be easier than late ones).
 * A genome of one bracket is proposed again on more items, in the inner strategy's order.
 *
 * Invariants: entry[0 .. n_alive-1] of `order` are in the present rung; f of an entry
 * is of the rung it was last in.                                              */
#include <math.h>
#include <string.h>

#include "fronts.h"
#include "genes.h"
#include "inner.h"

struct config { struct lm_instances inner; int64_t bracket, eta, rungs; };

struct entry {
    union lm_value *value;              /* [n_slot]                             */
    double *f, *violation;              /* [n_objective], [n_constraint]        */
    double  share;                      /* what the inner strategy asked for    */
    size_t  rung;                       /* it was measured in                   */
    double  fidelity;                   /* by the host, there                   */
    bool    stopped;                    /* it lost a race there                 */
    uint32_t status;
};

struct mean { double value; size_t n; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct lm_proposal *asked;          /* [bracket] the inner strategy's       */
    struct entry *entry;                /* [bracket]                            */
    union lm_value *value;              /* [bracket][n_slot]                    */
    double *number;                     /* [bracket][n_objective + n_constraint] */
    struct mean *change;                /* [rungs][n_objective] to the next rung */
    struct lm_outcome *outcome;         /* [bracket]                            */
    const struct lm_outcome **told;     /* [bracket]                            */
    size_t *order;                      /* [bracket] entries of the present rung */
    struct pool pool;                   /* of one rung, to be ranked            */
    size_t n, n_alive, next, heard;     /* entries; in the rung: asked, told    */
    size_t rung;
    bool ended;
};

static const struct lm_opt options[] = {
    LM_OPTION(struct config, inner, LM_OPT_PLUGINS, struct lm_instances, NULL, 0, 1,
              NULL, NULL, LM_REQUIRED, "The strategy that proposes: a list of one."),
    LM_INT(struct config, bracket, "27", 2, 10000, "genomes", 0,
           "How many proposals compete."),
    LM_INT(struct config, eta, "3", 2, 16, NULL, 0,
           "One of so many goes on, on so many times the items."),
    LM_INT(struct config, rungs, "2", 1, 8, NULL, 0,
           "Rungs below all items; the first is on 1 / eta^rungs of them."),
    LM_OPT_END
};

static const struct lm_instance *inner(const struct search *s)
{
    return &s->cfg->inner.v[0];
}

static const struct lm_search *inner_ops(const struct search *s)
{
    return inner(s)->ops;
}

static double share_of(const struct search *s, size_t rung)
{
    return pow((double)s->cfg->eta, (double)rung - (double)s->cfg->rungs);
}

/* ---- a bracket ------------------------------------------------------------- */
static enum lm_status new_bracket(struct search *s, struct lm_err *e)
{
    size_t most = (size_t)s->cfg->bracket;
    enum lm_status st;

    for (size_t i = 0; i < most; i++)
        s->asked[i] = (struct lm_proposal){ s->entry[i].value, 1 };
    st = inner_ops(s)->ask(inner(s)->self, s->asked, most, &s->n, e);
    if (st != LM_OK)
        return st;
    for (size_t i = 0; i < s->n; i++) {
        s->entry[i].share = s->asked[i].fidelity;
        s->order[i] = i;
    }
    s->ended = s->n == 0;
    s->n_alive = s->n;
    s->rung = s->next = s->heard = 0;
    memset(s->change, 0, (size_t)s->cfg->rungs * s->p->n_objective * sizeof *s->change);
    return LM_OK;
}

/* Entries of the rung, best first, into `order`: 1 of eta of them, at least one. */
static enum lm_status promote(struct search *s, struct lm_err *e)
{
    size_t keep = (s->n_alive + (size_t)s->cfg->eta - 1) / (size_t)s->cfg->eta, n = 0;

    s->pool.n = s->pool.births = 0;
    for (size_t i = 0; i < s->n_alive; i++) {
        struct entry *x = &s->entry[s->order[i]];
        struct lm_outcome o = { .status = x->status, .objective = x->f,
                                .violation = x->violation };
        enum lm_status st = pool_add(&s->pool, x->value, x->f,
                                     outcome_violation(s->p, &o), e);
        if (st != LM_OK)
            return st;
    }
    pool_rank(&s->pool);
    pool_spread(&s->pool);
    bool *chosen = s->h->alloc((s->n_alive + 1) * sizeof *chosen, "halving");
    if (!chosen)
        return s->h->fail(e, LM_ENOMEM, "out of memory in search 'halving'");
    for (size_t i = 0; i < keep; i++)
        chosen[s->pool.member[i].birth] = s->pool.member[i].violation < INFINITY;
    for (size_t i = 0; i < s->n_alive; i++)
        if (chosen[i])
            s->order[n++] = s->order[i];
    s->h->release(chosen);
    s->n_alive = n;
    s->rung++;
    s->next = s->heard = 0;
    return LM_OK;
}

/* What entries that stopped at their rung would have at the end. */
static double at_end(const struct search *s, const struct entry *x, size_t k)
{
    double f = x->f[k];

    for (size_t r = x->rung; r < (size_t)s->cfg->rungs; r++)
        f += s->change[r * s->p->n_objective + k].value;
    return f;
}

static enum lm_status close_bracket(struct search *s, struct lm_err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        struct entry *x = &s->entry[i];
        bool whole = (x->rung == (size_t)s->cfg->rungs && !x->stopped)
            || x->status != LM_OK;
        for (size_t k = 0; k < s->p->n_objective; k++)
            x->f[k] = at_end(s, x, k);
        s->outcome[i] = (struct lm_outcome){ .struct_size = sizeof *s->outcome,
            .status = x->status, .value = x->value, .objective = x->f,
            .violation = x->violation, .stopped = !whole,
            .fidelity = whole ? x->share : x->fidelity };
        s->told[i] = &s->outcome[i];
    }
    return inner_ops(s)->tell(inner(s)->self, s->told, s->n, e);
}

static void hear(struct search *s, struct entry *x, const struct lm_outcome *o)
{
    size_t m = s->p->n_objective;
    struct mean *change = s->change + (s->rung ? s->rung - 1 : 0) * m;

    for (size_t k = 0; k < m; k++) {
        double by = o->status == LM_OK ? o->objective[k] - x->f[k] : NAN;

        if (s->rung > 0 && isfinite(by))
            change[k].value += (by - change[k].value) / (double)++change[k].n;
        x->f[k] = o->status == LM_OK ? o->objective[k] : NAN;
    }
    for (size_t k = 0; k < s->p->n_constraint; k++)
        x->violation[k] = o->status == LM_OK ? o->violation[k] : NAN;
    x->status = o->status;
    x->rung = s->rung;
    x->fidelity = o->fidelity;
    x->stopped = LM_HAS(o, stopped) && o->stopped;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    size_t n = (size_t)s->cfg->bracket, m = p->n_objective, c = p->n_constraint;
    const char *tag = "halving";
    enum lm_status st;

    s->p = p;
    if ((st = inner_fits(s->h, "the strategy in search 'halving'", inner(s), p, e))
        != LM_OK)
        return st;
    s->pool = pool_of(s->h, tag, p);
    s->asked = s->h->alloc(n * sizeof *s->asked, tag);
    s->entry = s->h->alloc(n * sizeof *s->entry, tag);
    s->value = s->h->alloc((n * p->n_slot + 1) * sizeof *s->value, tag);
    s->number = s->h->alloc((n * (m + c) + 1) * sizeof *s->number, tag);
    s->change = s->h->alloc(((size_t)s->cfg->rungs * m + 1) * sizeof *s->change, tag);
    s->outcome = s->h->alloc(n * sizeof *s->outcome, tag);
    s->told = s->h->alloc(n * sizeof *s->told, tag);
    s->order = s->h->alloc(n * sizeof *s->order, tag);
    if (!s->asked || !s->entry || !s->value || !s->number || !s->change || !s->outcome
        || !s->told || !s->order)
        return s->h->fail(e, LM_ENOMEM, "out of memory for a bracket of %zu", n);
    for (size_t i = 0; i < n; i++) {
        s->entry[i].value = s->value + i * p->n_slot;
        s->entry[i].f = s->number + i * (m + c);
        s->entry[i].violation = s->entry[i].f + m;
    }
    return inner_ops(s)->begin(inner(s)->self, p, e);
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = LM_OK;

    *n = 0;
    while (!s->ended && s->next == s->n_alive) {
        if (s->n_alive > 0 && s->rung < (size_t)s->cfg->rungs)
            st = promote(s, e);
        else if (s->n > 0 && (st = close_bracket(s, e)) == LM_OK)
            s->n = s->n_alive = 0;
        if (st == LM_OK && s->n == 0)
            st = new_bracket(s, e);
        if (st != LM_OK)
            return st;
    }
    for (; *n < max && s->next < s->n_alive; s->next++) {
        const struct entry *x = &s->entry[s->order[s->next]];
        memcpy(out[*n].value, x->value, s->p->n_slot * sizeof *x->value);
        out[(*n)++].fidelity = x->share * share_of(s, s->rung);
    }
    return LM_OK;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;

    if (s->heard + n > s->next)
        return s->h->fail(e, LM_EBUG, "search 'halving' was told more outcomes than it "
                          "proposed genomes");
    for (size_t i = 0; i < n; i++)
        hear(s, &s->entry[s->order[s->heard++]], o[i]);
    return LM_OK;
}

/* Each proposal of the inner strategy may begin a bracket of its own. */
static size_t budget(void *self)
{
    const struct search *s = self;
    size_t b = inner_ops(s)->budget(inner(s)->self);
    size_t rungs = (size_t)s->cfg->rungs + 1, now = s->ended ? 0 : s->n * rungs;

    return b > (SIZE_MAX - now) / rungs ? SIZE_MAX : b * rungs + now;
}

static enum lm_status check(const struct lm_host *h, const void *config,
                            struct lm_err *e)
{
    const struct config *cfg = config;
    return cfg->inner.n == 1 ? LM_OK
         : h->fail(e, LM_ECONFIG, "search 'halving' needs one strategy in `inner`: "
                   "inner = ( { use = \"nsga2\"; } )");
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "halving");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;
    void *part[] = { s->asked, s->entry, s->value, s->number, s->change, s->outcome,
                     s->told, s->order };

    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        s->h->release(part[i]);
    pool_close(&s->pool);
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
        LM_MODULE_HEAD(SEARCH), .name = "halving", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "successive halving around another strategy",
        .reference = "Jamieson & Talwalkar, AISTATS 2016; Schmucker, Donini, Zafar, "
                     "Salinas & Archambeau, arXiv 2106.12639",
        .opt = options, .config_size = sizeof(struct config),
        .check = check, .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
