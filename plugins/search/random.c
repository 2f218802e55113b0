/* SPDX-License-Identifier: Apache-2.0 */
/* random.c -- uniform random search: the baseline that every strategy must beat.
 *
 * The first genomes are the problem's start, or the uncompressed one when it
 * has none, so that the front holds a reference point.  Then genes are drawn
 * independently and uniformly: a scalar over its steps (over its logarithm
 * where the gene says so), a subset by drawing its size and then its members.
 * With many genes such genomes all have nearly the same, middling size; `spread`
 * lets each genome keep a share of the uncompressed genes, the share itself
 * drawn uniformly, and so covers the sizes from there up to the whole model.
 *
 * No genome is proposed twice.  A space is taken for exhausted, and the search
 * ends, when 1000 draws in a row bring nothing new.
 *
 * Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012. */
#include "plugin.h"

#include <math.h>
#include <string.h>

enum { RETRIES = 1000 };

struct config { int64_t budget; bool spread; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    int64_t   asked;
    bool      exhausted;
    uint64_t  state;                    /* of the random stream */
    uint64_t *seen;                     /* hashes, open addressing; 0 is free */
    size_t    n_seen, n_table;          /* n_table: a power of two */
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "256", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_FLAG(struct config, spread, "false", 0,
            "Keep a random share of the genes uncompressed, to cover all sizes."),
    LM_OPT_END
};

/* ---- random numbers: splitmix64 -------------------------------------------- */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double unit(struct search *s)                            /* [0, 1) */
{
    return (double)(mix(s->state += UINT64_C(0x9e3779b97f4a7c15)) >> 11) * 0x1p-53;
}

static uint64_t below(struct search *s, double n)               /* 0 .. n-1 */
{
    double v = floor(unit(s) * n);
    return (uint64_t)(v < n ? v : n - 1);
}

/* ---- genes ----------------------------------------------------------------- */
static void draw_subset(struct search *s, const struct lm_gene *g, union lm_value *v)
{
    uint64_t k = (uint64_t)g->min + below(s, g->max - g->min + 1);

    for (uint32_t i = 0; i < g->slots; i++)
        v[i].bits = 0;
    for (uint32_t i = 0; i < g->n && k > 0; i++)    /* Knuth's algorithm S */
        if (below(s, g->n - i) < k) {
            v[i / 64].bits |= UINT64_C(1) << i % 64;
            k--;
        }
}

static double draw_real(struct search *s, const struct lm_gene *g)
{
    double u = unit(s), v;

    if (g->log_scale && g->min > 0)
        v = g->min * pow(g->max / g->min, u);
    else
        v = g->min + u * (g->max - g->min);
    if (g->step > 0 && !g->log_scale)
        return g->min + (double)below(s, floor((g->max - g->min) / g->step + 1e-9) + 1)
             * g->step;
    if (g->step > 0)
        v = g->min + floor((v - g->min) / g->step + 0.5) * g->step;
    return v > g->max ? g->step > 0 ? v - g->step : g->max : v;
}

static void draw(struct search *s, const struct lm_gene *g, union lm_value *v)
{
    double step = g->step >= 1 ? g->step : 1;

    switch (g->kind) {
    case LM_GENE_BOOL:
        v->integer = (int64_t)below(s, 2);
        break;
    case LM_GENE_CHOICE:
        v->integer = (int64_t)below(s, g->n);
        break;
    case LM_GENE_INT:
        v->integer = (int64_t)g->min
            + (int64_t)below(s, floor((g->max - g->min) / step) + 1) * (int64_t)step;
        break;
    case LM_GENE_REAL:
        v->real = draw_real(s, g);
        break;
    default:
        draw_subset(s, g, v);
    }
}

static uint64_t first_bits(double n)
{
    return n >= 64 ? UINT64_MAX : n > 0 ? (UINT64_C(1) << (int)n) - 1 : 0;
}

/* Of a subset that may not be whole, as many members as may be. */
static void uncompressed(const struct lm_gene *g, union lm_value *v)
{
    if (g->kind == LM_GENE_REAL)
        v->real = g->initial;
    else if (g->kind != LM_GENE_SUBSET)
        v->integer = (int64_t)g->initial;
    else
        for (uint32_t i = 0; i < g->slots; i++)
            v[i].bits = first_bits(g->max - 64.0 * i);
}

/* ---- what was proposed already --------------------------------------------- */
static uint64_t hash(const union lm_value *v, size_t n)
{
    uint64_t x = n;

    for (size_t i = 0; i < n; i++)
        x = mix((x ^ v[i].bits) + UINT64_C(0x9e3779b97f4a7c15));
    return x ? x : 1;
}

static uint64_t *place(uint64_t *table, size_t n, uint64_t key)
{
    size_t i = key & (n - 1);

    while (table[i] != 0 && table[i] != key)
        i = (i + 1) & (n - 1);
    return table + i;
}

/* Notes a genome; *fresh: it was not noted before. */
static enum lm_status note(struct search *s, const union lm_value *v, bool *fresh,
                           struct lm_err *e)
{
    uint64_t key = hash(v, s->p->n_slot), *at;

    if (2 * (s->n_seen + 1) > s->n_table) {
        size_t n = s->n_table ? 2 * s->n_table : 256;
        uint64_t *t = s->h->alloc(n * sizeof *t, "search/random");
        if (!t)
            return s->h->fail(e, LM_ENOMEM, "out of memory for the genomes proposed");
        for (size_t i = 0; i < s->n_table; i++)
            if (s->seen[i])
                *place(t, n, s->seen[i]) = s->seen[i];
        s->h->release(s->seen);
        s->seen = t;
        s->n_table = n;
    }
    at = place(s->seen, s->n_table, key);
    *fresh = *at == 0;
    s->n_seen += *fresh;
    *at = key;
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;

    (void)e;
    s->p = p;
    return LM_OK;
}

static void sample(struct search *s, union lm_value *v)
{
    double keep = s->cfg->spread ? unit(s) : 0;

    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct lm_gene *g = s->p->gene[i];
        if (keep > 0 && unit(s) < keep)
            uncompressed(g, v + g->slot);
        else
            draw(s, g, v + g->slot);
    }
}

/* The next genome not proposed before; start genomes first.  asked counts
 * start genomes that repeat another one too.                                 */
static enum lm_status next(struct search *s, union lm_value *v, bool *fresh,
                           struct lm_err *e)
{
    const struct lm_problem *p = s->p;
    enum lm_status st;

    if ((size_t)s->asked < p->n_start) {
        memcpy(v, p->start[s->asked], p->n_slot * sizeof *v);
        return note(s, v, fresh, e);
    }
    if (s->asked == 0) {
        for (size_t i = 0; i < p->n_gene; i++)
            uncompressed(p->gene[i], v + p->gene[i]->slot);
        return note(s, v, fresh, e);
    }
    for (int i = 0; i < RETRIES; i++) {
        sample(s, v);
        if ((st = note(s, v, fresh, e)) != LM_OK || *fresh)
            return st;
    }
    s->exhausted = true;
    return LM_OK;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;

    for (*n = 0; *n < max && s->asked < s->cfg->budget && !s->exhausted; s->asked++) {
        bool fresh = false;
        enum lm_status st = next(s, out[*n].value, &fresh, e);
        if (st != LM_OK)
            return st;
        *n += fresh;
    }
    return LM_OK;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    (void)self; (void)o; (void)n; (void)e;
    return LM_OK;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return s->exhausted ? 0 : (size_t)(s->cfg->budget - s->asked);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/random");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->state = a->host->seed(a->run, "search/random", 0);
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    s->h->release(s->seen);
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
        LM_MODULE_HEAD(SEARCH), .name = "random", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "uniform random search, the baseline",
        .reference = "Bergstra & Bengio, JMLR 13, 2012",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
