/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c -- one strategy's solutions start the next.
 *
 * The stages run one after the other.  A stage is begun when its turn comes; it
 * is finished when it asks for nothing.  The first one sees the problem as it
 * is; the others begin with the best that was told so far, to any stage:
 *
 * - the feasible, non-dominated outcomes of full fidelity, at most `pass` of
 *   them.  Where an objective has a bound, those nearest below it come first
 *   (that is where a solution is wanted); otherwise they are ordered by the
 *   first objective, and if there are too many, taken evenly along it;
 * - the outcome with the least violation while nothing is feasible;
 * - the problem's own start while nothing was built at all.
 *
 * Invariant: archive[0 .. n_archive-1] do not dominate each other, are feasible
 * and distinct; `least` is kept only for the second case.                    */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fronts.h"
#include "genes.h"
#include "inner.h"

struct config { struct lm_instances stages; int64_t pass; };

struct entry {
    union lm_value *value;              /* [n_slot] */
    double *f;                          /* [n_objective], behind value */
    double  key;                        /* order in which it is passed on */
};

struct chain {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct lm_problem *passed;          /* [stages] what each stage begins with */
    union lm_value **start;             /* [stages][pass] */
    size_t stage;                       /* the current one */
    struct entry *archive, least;
    size_t n_archive, n_room;
    double violation;                   /* of `least` */
};

static const struct lm_opt options[] = {
    LM_PLUGINLIST(struct config, stages, LM_REQUIRED,
                  "The strategies, in order."),
    LM_INT(struct config, pass, "16", 1, 10000, "genomes", 0,
           "How many solutions a stage hands to the next at most."),
    LM_OPT_END
};

static const struct lm_instance *stage_at(const struct chain *c, size_t i)
{
    return &c->cfg->stages.v[i];
}

static enum lm_status no_memory(const struct chain *c, struct lm_err *e)
{
    return c->h->fail(e, LM_ENOMEM, "out of memory in search 'chain'");
}

/* ---- the archive ----------------------------------------------------------- */
static enum lm_status entry_new(const struct chain *c, struct entry *out,
                                struct lm_err *e)
{
    out->value = c->h->alloc(c->p->n_slot * sizeof *out->value
                             + c->p->n_objective * sizeof *out->f, "search/chain");
    if (!out->value)
        return no_memory(c, e);
    out->f = (double *)(out->value + c->p->n_slot);
    return LM_OK;
}

static void entry_set(const struct chain *c, struct entry *to, const struct lm_outcome *o)
{
    memcpy(to->value, o->value, c->p->n_slot * sizeof *to->value);
    memcpy(to->f, o->objective, c->p->n_objective * sizeof *to->f);
}

/* Neither better nor worse in anything counts as dominated: it is no news. */
static bool covers(const double *a, const double *b, size_t m)
{
    for (size_t i = 0; i < m; i++)
        if (!(a[i] <= b[i]))
            return false;
    return true;
}

static enum lm_status archive_add(struct chain *c, const struct lm_outcome *o,
                                  struct lm_err *e)
{
    size_t m = c->p->n_objective, kept = 0;
    struct entry new;
    enum lm_status st;

    for (size_t i = 0; i < c->n_archive; i++)
        if (covers(c->archive[i].f, o->objective, m))
            return LM_OK;
    if (c->n_archive == c->n_room) {
        size_t room = 2 * c->n_room + 64;
        struct entry *a = c->h->resize(c->archive, room * sizeof *a);
        if (!a)
            return no_memory(c, e);
        c->archive = a;
        c->n_room = room;
    }
    if ((st = entry_new(c, &new, e)) != LM_OK)
        return st;
    entry_set(c, &new, o);
    for (size_t i = 0; i < c->n_archive; i++)
        if (covers(new.f, c->archive[i].f, m))
            c->h->release(c->archive[i].value);
        else
            c->archive[kept++] = c->archive[i];
    c->archive[kept++] = new;
    c->n_archive = kept;
    return LM_OK;
}

static enum lm_status remember(struct chain *c, const struct lm_outcome *o,
                               struct lm_err *e)
{
    double v = outcome_violation(c->p, o);
    enum lm_status st;

    if (o->fidelity < 1 || v == INFINITY)
        return LM_OK;
    if (v == 0)
        return archive_add(c, o, e);
    if (c->least.value && v >= c->violation)
        return LM_OK;
    if (!c->least.value && (st = entry_new(c, &c->least, e)) != LM_OK)
        return st;
    entry_set(c, &c->least, o);
    c->violation = v;
    return LM_OK;
}

/* ---- from stage to stage --------------------------------------------------- */
/* Distance below the nearest bound, relative to it; without any bound the
 * first objective.                                                           */
static double order_key(const struct chain *c, const struct entry *x)
{
    double key = INFINITY;
    bool bounded = false;

    for (size_t i = 0; i < c->p->n_objective; i++) {
        double bound = c->p->objective[i]->bound;
        if (!(bound < INFINITY))
            continue;
        bounded = true;
        key = fmin(key, (bound - x->f[i]) / fmax(fabs(bound), 1e-300));
    }
    return bounded ? key : x->f[0];
}

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->f[0] < y->f[0] ? -1 : x->f[0] > y->f[0];
}

/* Fills start[0 .. pass-1] with genomes of the archive that outlive it. */
static enum lm_status choose(struct chain *c, union lm_value **start, size_t *n,
                             struct lm_err *e)
{
    size_t pass = (size_t)c->cfg->pass, size = c->p->n_slot * sizeof **start;
    bool spread = c->n_archive > pass && pass > 1 && bounds_of(c->p) == 0;
    const struct entry *from = c->archive;

    for (size_t i = 0; i < c->n_archive; i++)
        c->archive[i].key = order_key(c, &c->archive[i]);
    if (c->n_archive > 1)
        qsort(c->archive, c->n_archive, sizeof *c->archive, by_key);
    *n = c->n_archive < pass ? c->n_archive : pass;
    if (*n == 0 && c->least.value) {
        from = &c->least;
        *n = 1;
    }
    for (size_t i = 0; i < *n; i++) {
        size_t k = spread ? i * (c->n_archive - 1) / (pass - 1) : i;
        start[i] = c->h->alloc(size, "search/chain");
        if (!start[i])
            return no_memory(c, e);
        memcpy(start[i], from[k].value, size);
    }
    return LM_OK;
}

static enum lm_status begin_stage(struct chain *c, struct lm_err *e)
{
    struct lm_problem *p = &c->passed[c->stage];
    const struct lm_instance *s = stage_at(c, c->stage);
    enum lm_status st;
    size_t n = 0;

    memcpy(p, c->p, c->p->struct_size < sizeof *p ? c->p->struct_size : sizeof *p);
    p->struct_size = sizeof *p;
    if (c->stage > 0) {
        union lm_value **start = c->start + c->stage * (size_t)c->cfg->pass;
        if ((st = choose(c, start, &n, e)) != LM_OK)
            return st;
        if (n > 0) {
            p->start = (const union lm_value *const *)start;
            p->n_start = n;
        }
    }
    return ((const struct lm_search *)s->ops)->begin(s->self, p, e);
}

static enum lm_status fit(const struct chain *c, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < c->cfg->stages.n && st == LM_OK; i++) {
        char where[64];
        snprintf(where, sizeof where, "stage %zu of search 'chain'", i + 1);
        st = inner_fits(c->h, where, stage_at(c, i), c->p, e);
    }
    return st;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct chain *c = self;
    size_t n = c->cfg->stages.n;
    enum lm_status st;

    c->p = p;
    if ((st = fit(c, e)) != LM_OK)
        return st;
    c->passed = c->h->alloc(n * sizeof *c->passed, "search/chain");
    c->start = c->h->alloc(n * (size_t)c->cfg->pass * sizeof *c->start, "search/chain");
    if (!c->passed || !c->start)
        return no_memory(c, e);
    return begin_stage(c, e);
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct chain *c = self;
    enum lm_status st = LM_OK;

    for (*n = 0; c->stage < c->cfg->stages.n && max > 0;) {
        const struct lm_instance *s = stage_at(c, c->stage);
        st = ((const struct lm_search *)s->ops)->ask(s->self, out, max, n, e);
        if (st != LM_OK || *n > 0)
            return st;
        if (++c->stage < c->cfg->stages.n && (st = begin_stage(c, e)) != LM_OK)
            return st;
    }
    return st;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct chain *c = self;
    const struct lm_instance *s;
    enum lm_status st;

    if (n == 0)
        return LM_OK;
    if (c->stage == c->cfg->stages.n)
        return c->h->fail(e, LM_EBUG, "search 'chain' was told outcomes after its end");
    for (size_t i = 0; i < n; i++)
        if ((st = remember(c, o[i], e)) != LM_OK)
            return st;
    s = stage_at(c, c->stage);
    return ((const struct lm_search *)s->ops)->tell(s->self, o, n, e);
}

/* A stage that has not begun answers from its options. */
static size_t budget(void *self)
{
    const struct chain *c = self;
    size_t sum = 0;

    for (size_t i = c->stage; i < c->cfg->stages.n; i++) {
        const struct lm_instance *s = stage_at(c, i);
        const struct lm_search *ops = s->ops;
        size_t b = ops->budget(s->self);
        sum = b > SIZE_MAX - sum ? SIZE_MAX : sum + b;
    }
    return sum;
}

static enum lm_status check(const struct lm_host *h, const void *config,
                            struct lm_err *e)
{
    const struct config *cfg = config;
    return cfg->stages.n > 0 ? LM_OK
         : h->fail(e, LM_ECONFIG, "search 'chain' needs at least one strategy in "
                   "`stages`");
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct chain *c = a->host->alloc(sizeof *c, "search/chain");

    if (!c)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    c->h = a->host;
    c->cfg = a->config;
    *self = c;
    return LM_OK;
}

static void destroy(void *self)
{
    struct chain *c = self;

    for (size_t i = 0; i < c->n_archive; i++)
        c->h->release(c->archive[i].value);
    for (size_t i = 0; c->start && i < c->cfg->stages.n * (size_t)c->cfg->pass; i++)
        c->h->release(c->start[i]);
    c->h->release(c->archive);
    c->h->release(c->least.value);
    c->h->release(c->start);
    c->h->release(c->passed);
    c->h->release(c);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops,
    .genes = GENES_ALL,
    .begin = begin, .ask = ask, .tell = tell, .budget = budget,
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module m = {
        LM_MODULE_HEAD(SEARCH), .name = "chain", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "strategies in a row, each starting from the last one's solutions",
        .opt = options, .config_size = sizeof(struct config),
        .check = check, .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
