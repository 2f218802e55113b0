/* SPDX-License-Identifier: Apache-2.0 */
/* tpe.c -- the tree-structured Parzen estimator for several objectives.
 *
 * The genomes told so far are split into a good share `gamma` and the rest, by rank
 * (constrained domination, fronts.h); of the front that the border runs through, those
 * stay that lose least hypervolume (two objectives), or lie farthest from others.  For
 * each gene two densities are estimated, of its values in either part (parzen.h); values
 * are drawn from the good one, and the one is taken whose ratio of both is highest.
 * These are decisions of this plugin:
 *
 * - Genes are drawn one by one and whole genomes are compared, by the sum of the
 *   logarithms of their ratios.  The best value of each gene by itself, as in the
 *   papers, would be the same few genomes over and over where genes have few values.
 * - The good density of a proposal is that of the good genomes `near` one of them, in
 *   the objectives.  Of all good ones at once it would lie between the ends of the front:
 *   where every gene trades one objective for another, genomes drawn gene by gene from
 *   large and small ones are middling, and their ratios lead to the ends.
 * - A subset is drawn by its size, then its members by the odds of each; its ratio is
 *   that of the size and of all members, in or out.
 * - Infeasible genomes rank last, by how much they violate, so most are in the rest; one
 *   that can't be built always is, unless there are no others.
 * - No genome is proposed twice: a repeated one is drawn again, with ever fewer drawn
 *   to compare; at last at random.
 *
 * The densities are tables, so that a proposal costs lookups; that of the rest is made
 * once for each round of `batch` proposals.
 *
 * Bergstra, Bardenet, Bengio & Kegl, NIPS 2011; Ozaki, Tanigaki, Watanabe & Onishi,
 * GECCO 2020 (the split).                                                       */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fronts.h"
#include "parzen.h"
#include "round.h"

enum { RETRIES = 100, FEWEST = 8 };

struct config {
    int64_t budget, startup, candidates, batch;
    double  gamma, near, prior;
};

/* The two densities of one gene: of the good genomes near one, and of the rest. */
struct estimate {
    size_t  n;                          /* cells; of SUBSET: cells of its size  */
    double  width;                      /* of the range of a scalar             */
    double *good, *bad;                 /* [n]                                  */
    double *member, *bad_member;        /* [members] SUBSET: share that has each */
};

struct key { double at; uint32_t index; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct round round;
    struct pool pool;                   /* all that was told                    */
    struct estimate *estimate;          /* [n_gene]                             */
    double *table, *scratch;            /* of all estimates; [2 most]           */
    double *range;                      /* [n_objective] among the good         */
    size_t  n_good;                     /* the first members of the pool        */
    struct key *key;                    /* [n_key] scratch                      */
    size_t  n_key;
    size_t  most;                       /* cells or members of any gene         */
    union lm_value *draft, *best;       /* [n_slot]                             */
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "300", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_INT(struct config, startup, "24", 2, 10000, "genomes", 0,
           "How many of them are the start genomes and random ones."),
    LM_REAL(struct config, gamma, "0.15", 0.01, 0.9, NULL, 0,
            "Share of the genomes told that counts as good."),
    LM_REAL(struct config, near, "0.2", 0, 1, NULL, 0,
            "Share of the good genomes, those nearest to one of them in the objectives, "
            "that an estimate is of, 8 at least; 1: all of them."),
    LM_INT(struct config, candidates, "24", 1, 10000, "genomes", 0,
           "How many genomes are drawn for each that is proposed."),
    LM_INT(struct config, batch, "4", 1, 1000, "genomes", 0,
           "How many genomes are proposed between two estimates."),
    LM_REAL(struct config, prior, "1", 1e-3, 1000, "genomes", LM_EXPERT,
            "How many genomes the even distribution counts for in each estimate."),
    LM_OPT_END
};

/* ---- cells ----------------------------------------------------------------- */
/* A discrete level is the middle of its share of the range. */
static void cells_of(const struct axis *a, struct estimate *t)
{
    const struct lm_gene *g = a->gene;

    t->width = g->kind == LM_GENE_SUBSET ? g->max - g->min + 1
             : a->continuous ? a->top : a->top + 1;
    if (a->continuous && a->top > 0)
        t->n = PARZEN_CELLS;
    else if (t->width > PARZEN_CELLS && (a->ordered || g->kind == LM_GENE_SUBSET))
        t->n = PARZEN_CELLS;
    else
        t->n = t->width > 1 ? (size_t)t->width : 1;
}

static size_t cell(const struct estimate *t, double x, bool continuous)
{
    double at = t->n > 1 ? (x + (continuous ? 0 : 0.5)) / t->width * (double)t->n : 0;

    return (size_t)fmin(fmax(at, 0), (double)t->n - 1);
}

/* Somewhere in a cell. */
static double value_in(struct search *s, const struct estimate *t, size_t c,
                       bool continuous)
{
    double x = t->width * ((double)c + genes_unit(&s->genes)) / (double)t->n;

    return continuous ? x : fmin(floor(x), t->width - 1);
}

static bool as_table(const struct axis *a)
{
    return a->ordered || a->gene->kind == LM_GENE_SUBSET;
}

/* The number of a gene that has a table. */
static double number(const struct axis *a, const union lm_value *v)
{
    const struct lm_gene *g = a->gene;

    return g->kind == LM_GENE_SUBSET ? genes_count(g, v + g->slot) - g->min
                                     : genes_get(a, v);
}

/* ---- the split ------------------------------------------------------------- */
static int by_first(const void *x, const void *y)
{
    const struct member *a = x, *b = y;

    if (a->f[0] != b->f[0])
        return a->f[0] < b->f[0] ? -1 : 1;
    if (a->f[1] != b->f[1])
        return a->f[1] > b->f[1] ? -1 : 1;
    return a->birth < b->birth ? -1 : 1;
}

/* Of a front by rising f1, what the i-th adds to the area dominated; the ends are kept
 * as long as anything.                                                        */
static double contribution(const struct member *m, size_t n, size_t i)
{
    double area;

    if (i == 0 || i + 1 == n)
        return INFINITY;
    area = (m[i + 1].f[0] - m[i].f[0]) * (m[i - 1].f[1] - m[i].f[1]);
    return area > 0 ? area : 0;         /* not a number: next to infinite ones */
}

/* Moves the members of a front that add least to its end, until `keep` are before. */
static void thin(struct member *m, size_t n, size_t keep)
{
    qsort(m, n, sizeof *m, by_first);
    for (; n > keep; n--) {
        size_t least = n - 1;
        double area = INFINITY;

        for (size_t i = 0; i < n; i++)
            if (contribution(m, n, i) < area) {
                least = i;
                area = contribution(m, n, i);
            }
        struct member t = m[least];
        memmove(m + least, m + least + 1, (n - 1 - least) * sizeof *m);
        m[n - 1] = t;
    }
}

/* Puts the good members first; how many they are. */
static size_t split(struct search *s)
{
    struct pool *p = &s->pool;
    size_t good = (size_t)ceil(s->cfg->gamma * (double)p->n), first, last;

    pool_rank(p);
    if (good >= p->n)
        good = p->n - 1;
    first = last = good - 1;
    if (p->n_obj != 2 || p->member[first].violation > 0)
        return good;
    while (first > 0 && p->member[first - 1].rank == p->member[good - 1].rank)
        first--;
    while (last < p->n && p->member[last].rank == p->member[good - 1].rank)
        last++;
    thin(p->member + first, last - first, good - first);
    return good;
}

static int by_key(const void *x, const void *y)
{
    const struct key *a = x, *b = y;

    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* ---- estimates ------------------------------------------------------------- */
/* How often each cell of a gene (or with `members` each of its members) was seen among
 * n genomes.                                                                  */
static void tally(const struct search *s, size_t gene, const struct key *of, size_t n,
                  bool members, double *count)
{
    const struct axis *a = &s->genes.axis[gene];
    const struct lm_gene *g = a->gene;
    const struct estimate *t = &s->estimate[gene];

    memset(count, 0, (members ? g->n : t->n) * sizeof *count);
    for (size_t i = 0; i < n; i++) {
        const union lm_value *v = s->pool.member[of[i].index].value;
        if (!members)
            count[cell(t, number(a, v), a->continuous)]++;
        for (uint32_t k = 0; members && k < g->n; k++)
            count[k] += genes_has(v + g->slot, k);
    }
}

/* The density of each gene among n genomes, into those of the good part or the rest. */
static void estimate(struct search *s, const struct key *of, size_t n, bool good)
{
    double *count = s->scratch, *kernel = count + s->most;

    for (size_t i = 0; i < s->p->n_gene; i++) {
        struct estimate *t = &s->estimate[i];
        double *share = good ? t->member : t->bad_member;

        tally(s, i, of, n, false, count);
        parzen_table(count, t->n, s->cfg->prior, as_table(&s->genes.axis[i]),
                     good ? t->good : t->bad, kernel);
        if (s->p->gene[i]->kind != LM_GENE_SUBSET)
            continue;
        tally(s, i, of, n, true, share);
        for (uint32_t k = 0; k < s->p->gene[i]->n; k++)
            share[k] = parzen_share(share[k], (double)n, s->cfg->prior);
    }
}

/* Squared distance of two members, each objective over the range it has among the
 * first n; those that have no numbers are far from all.                       */
static double distance(const struct search *s, const struct member *a,
                       const struct member *b)
{
    double sum = 0;

    for (size_t k = 0; k < s->p->n_objective; k++) {
        double d = (a->f[k] - b->f[k]) / s->range[k];
        sum += isfinite(d) ? d * d : a->f[k] == b->f[k] ? 0 : 1;
    }
    return sum;
}

static void measure_ranges(struct search *s)
{
    for (size_t k = 0; k < s->p->n_objective; k++) {
        double least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < s->n_good; i++) {
            double f = s->pool.member[i].f[k];
            if (isfinite(f)) {
                least = fmin(least, f);
                most = fmax(most, f);
            }
        }
        s->range[k] = most > least ? most - least : 1;
    }
}

static void estimate_rest(struct search *s)
{
    s->n_good = split(s);
    measure_ranges(s);
    for (size_t i = s->n_good; i < s->pool.n; i++)
        s->key[i - s->n_good] = (struct key){ 0, (uint32_t)i };
    estimate(s, s->key, s->pool.n - s->n_good, false);
}

/* Of the good genomes those nearest to one of them, whichever. */
static void estimate_good(struct search *s)
{
    size_t any = (size_t)genes_below(&s->genes, (double)s->n_good), n;

    for (size_t i = 0; i < s->n_good; i++)
        s->key[i] = (struct key){ distance(s, &s->pool.member[i], &s->pool.member[any]),
                                  (uint32_t)i };
    qsort(s->key, s->n_good, sizeof *s->key, by_key);
    n = (size_t)fmax(ceil(s->cfg->near * (double)s->n_good), FEWEST);
    estimate(s, s->key, n < s->n_good ? n : s->n_good, true);
}

/* ---- proposals ------------------------------------------------------------- */
/* `size` members, one after the other in proportion to their odds: the smallest of
 * exponentially distributed numbers of these rates (Efraimidis & Spirakis 2006).  */
static double draw_members(struct search *s, const struct estimate *t,
                           const struct lm_gene *g, double size, union lm_value *v)
{
    double sum = 0;

    memset(v, 0, g->slots * sizeof *v);
    for (uint32_t k = 0; k < g->n; k++)
        s->key[k] = (struct key){ -log(1 - genes_unit(&s->genes)) * (1 - t->member[k])
                                      / t->member[k], k };
    qsort(s->key, g->n, sizeof *s->key, by_key);
    for (uint32_t k = 0; k < g->n; k++) {
        uint32_t i = s->key[k].index;
        if (k < size)
            genes_flip(v, i);
        sum += k < size ? log(t->member[i] / t->bad_member[i])
                        : log((1 - t->member[i]) / (1 - t->bad_member[i]));
    }
    return sum;
}

/* Draws a gene from the good density; the log ratio of what came. */
static double draw_gene(struct search *s, size_t gene, union lm_value *v)
{
    const struct axis *a = &s->genes.axis[gene];
    const struct lm_gene *g = a->gene;
    const struct estimate *t = &s->estimate[gene];
    size_t c = parzen_draw(t->good, t->n, genes_unit(&s->genes));
    double x = value_in(s, t, c, a->continuous);

    if (g->kind == LM_GENE_SUBSET)
        return log(t->good[c] / t->bad[c])
             + draw_members(s, t, g, g->min + x, v + g->slot);
    genes_put(a, x, v);
    return log(t->good[c] / t->bad[c]);
}

/* The best of n genomes, in s->best. */
static void draw_best(struct search *s, int64_t n)
{
    double best = -INFINITY;

    for (int64_t k = 0; k < n; k++) {
        double sum = 0;
        for (size_t i = 0; i < s->p->n_gene; i++)
            sum += draw_gene(s, i, s->draft);
        if (k == 0 || sum > best) {
            union lm_value *t = s->best;
            s->best = s->draft;
            s->draft = t;
            best = sum;
        }
    }
}

static void propose(struct search *s)
{
    size_t before = s->round.n;
    int64_t n = s->cfg->candidates;

    estimate_good(s);
    for (int i = 0; i < RETRIES; i++, n = n > 1 ? n / 2 : 1) {
        draw_best(s, n);
        if (round_add(&s->round, s->best))
            return;
    }
    round_add_random(&s->round, before + 1);
}

/* Room for a key of each genome told, and of each member of a subset. */
static enum lm_status reserve_keys(struct search *s, struct lm_err *e)
{
    size_t n = s->pool.room > s->most ? s->pool.room : s->most;

    if (n <= s->n_key)
        return LM_OK;
    s->h->release(s->key);
    s->key = s->h->alloc(n * sizeof *s->key, s->genes.tag);
    s->n_key = s->key ? n : 0;
    return s->key ? LM_OK : s->h->fail(e, LM_ENOMEM, "out of memory for %zu genomes", n);
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    enum lm_status st = reserve_keys(s, e);

    if (st != LM_OK)
        return st;
    round_add_starts(&s->round);
    if (s->round.asked == 0)
        round_add_random(&s->round, (size_t)s->cfg->startup);
    if (s->round.n > 0)
        return LM_OK;
    if (s->pool.n < 2) {                /* nothing told at full fidelity yet */
        round_add_random(&s->round, (size_t)s->cfg->batch);
        return LM_OK;
    }
    estimate_rest(s);
    for (int64_t i = 0; i < s->cfg->batch; i++)
        propose(s);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
/* All tables are parts of one block. */
static enum lm_status open_tables(struct search *s, struct lm_err *e)
{
    size_t n = s->p->n_gene, total = 0;
    double *next;

    s->estimate = s->h->alloc(n * sizeof *s->estimate, s->genes.tag);
    if (!s->estimate)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", n);
    for (size_t i = 0; i < n; i++) {
        size_t members = s->p->gene[i]->kind == LM_GENE_SUBSET ? s->p->gene[i]->n : 0;
        cells_of(&s->genes.axis[i], &s->estimate[i]);
        size_t cells = s->estimate[i].n;
        total += 2 * cells + 2 * members;
        s->most = cells > s->most ? cells : s->most;
        s->most = members > s->most ? members : s->most;
    }
    s->table = s->h->alloc(total * sizeof *s->table, s->genes.tag);
    s->scratch = s->h->alloc((2 * s->most + 1) * sizeof *s->scratch, s->genes.tag);
    s->range = s->h->alloc(s->p->n_objective * sizeof *s->range, s->genes.tag);
    s->draft = s->h->alloc(s->p->n_slot * sizeof *s->draft, s->genes.tag);
    s->best = s->h->alloc(s->p->n_slot * sizeof *s->best, s->genes.tag);
    if (!s->table || !s->scratch || !s->range || !s->draft || !s->best)
        return s->h->fail(e, LM_ENOMEM, "out of memory for estimates of %zu genes", n);
    next = s->table;
    for (size_t i = 0; i < n; i++) {
        struct estimate *t = &s->estimate[i];
        size_t members = s->p->gene[i]->kind == LM_GENE_SUBSET ? s->p->gene[i]->n : 0;
        t->good = next;
        t->bad = t->good + t->n;
        t->member = t->bad + t->n;
        t->bad_member = t->member + members;
        next = t->bad_member + members;
    }
    return LM_OK;
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    const struct config *c = s->cfg;
    int64_t size = c->startup > c->batch ? c->startup : c->batch;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    s->pool = pool_of(s->h, s->genes.tag, p);
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, (size_t)size, c->budget, e);
    return st == LM_OK ? open_tables(s, e) : st;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, fill, s, out, max, n, e);
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    return pool_tell(&s->pool, s->p, o, n, e);
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)s->cfg->budget);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/tpe");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "tpe");
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;
    void *part[] = { s->estimate, s->table, s->scratch, s->range, s->key,
                     s->draft, s->best };

    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        s->h->release(part[i]);
    pool_close(&s->pool);
    round_close(&s->round);
    genes_close(&s->genes);
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
        LM_MODULE_HEAD(SEARCH), .name = "tpe", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "tree-structured Parzen estimator for fronts (MOTPE)",
        .reference = "Bergstra et al., NIPS 2011; Ozaki et al., GECCO 2020",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
