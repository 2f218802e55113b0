/* SPDX-License-Identifier: Apache-2.0 */
/* grid.c -- every combination of a few values of each gene.
 *
 * The values of a scalar with a sense of more are `levels` places spread evenly from end
 * to end (rounded to its steps; all of its values where it has no more, or where `levels`
 * is 0, which needs steps); a choice without order has all of its values; a subset keeps
 * its best members by score, in so many sizes.  With `tie` like genes of all layers move
 * together, which makes the grid of a model small: one ratio for all MLPs, say.
 *
 * The problem's start (or the uncompressed genome) comes first, then the grid, last gene
 * fastest, so that neighbours share the first layers.  If the grid has more points than
 * `budget`, every k-th of its points is taken, k being near the golden ratio's share of
 * their number and coprime to it: any number of them covers the grid evenly.    */
#include <math.h>
#include <string.h>

#include "round.h"

enum { ROUND = 64 };
#define MOST 9007199254740992.0         /* 2^53 points can be counted exactly */

struct config { int64_t levels, budget; bool tie; };

struct wheel { size_t first; double n; };       /* its first gene; values      */

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct round round;
    struct wheel *wheel;                /* [n_wheel]                            */
    size_t *turns;                      /* [n_gene] which wheel moves it        */
    size_t  n_wheel;
    double  points;
    uint64_t next, stride, at;          /* points tried; between them; now      */
};

static const struct lm_opt options[] = {
    LM_INT(struct config, levels, "3", 0, 1e6, NULL, 0,
           "Values of each gene, both ends among them; 0: all."),
    LM_FLAG(struct config, tie, "false", 0,
            "Move like genes of all layers together."),
    LM_INT(struct config, budget, "4096", 1, 1e9, "genomes", 0,
           "How many points to propose at most, spread evenly over a larger grid."),
    LM_OPT_END
};

/* ---- the grid -------------------------------------------------------------- */
static double n_values(const struct search *s, size_t gene)
{
    const struct axis *a = &s->genes.axis[gene];
    const struct lm_gene *g = a->gene;
    double all = g->kind == LM_GENE_SUBSET ? g->max - g->min + 1
               : a->continuous ? INFINITY : a->top + 1;

    if (s->cfg->levels == 0 || (g->kind != LM_GENE_SUBSET && !a->ordered))
        return all;
    return fmin(all, a->continuous && a->top == 0 ? 1 : (double)s->cfg->levels);
}

/* Place number i of n on 0 .. top; the only one is the upper end. */
static double place(double i, double n, double top)
{
    return n > 1 ? i * top / (n - 1) : top;
}

/* As many members as that, the best by score, ties by index. */
static void keep_best(const struct lm_gene *g, int64_t members, union lm_value *v)
{
    for (uint32_t i = 0; i < g->slots; i++)
        v[i].bits = 0;
    for (; members > 0; members--) {
        uint32_t best = g->n;
        for (uint32_t i = 0; i < g->n; i++)
            if (!genes_has(v, i) && (best == g->n
                || (g->score && g->score[i] > g->score[best])))
                best = i;
        genes_flip(v, best);
    }
}

static void make_point(struct search *s, uint64_t point, union lm_value *v)
{
    for (size_t w = s->n_wheel; w-- > 0;) {
        double n = s->wheel[w].n, i = (double)(point % (uint64_t)n);
        point /= (uint64_t)n;
        for (size_t k = s->wheel[w].first; k < s->p->n_gene; k++) {
            const struct axis *a = &s->genes.axis[k];
            const struct lm_gene *g = a->gene;
            if (s->turns[k] != w)
                continue;
            double members = g->min + floor(place(i, n, g->max - g->min) + 0.5);
            if (g->kind == LM_GENE_SUBSET)
                keep_best(g, (int64_t)members, v + g->slot);
            else
                genes_put(a, place(i, n, a->top), v);
        }
    }
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    return b ? gcd(b, a % b) : a;
}

static enum lm_status count_points(struct search *s, struct lm_err *e)
{
    s->points = 1;
    for (size_t i = 0; i < s->p->n_gene; i++) {
        uint32_t family = s->genes.axis[i].family;
        size_t w = s->n_wheel;
        for (size_t j = 0; s->cfg->tie && family && j < i; j++)
            if (s->genes.axis[j].family == family)
                w = s->turns[j];
        s->turns[i] = w;
        if (w < s->n_wheel)
            continue;
        s->wheel[s->n_wheel++] = (struct wheel){ i, n_values(s, i) };
        if (isinf(s->wheel[w].n))
            return s->h->fail(e, LM_ECONFIG, "search 'grid': gene '%s' has no steps; "
                              "set `levels`", s->p->gene[i]->name);
        s->points *= s->wheel[w].n;
    }
    if (s->points > MOST)
        return s->h->fail(e, LM_ECONFIG, "search 'grid': %.3g points are too many to "
                          "count; set `tie = true` or fewer `levels` than %lld",
                          s->points, (long long)s->cfg->levels);
    s->stride = 1;
    if (s->points > (double)s->cfg->budget) {
        s->stride = (uint64_t)(s->points * 0.6180339887498949);
        while (gcd(s->stride, (uint64_t)s->points) != 1)
            s->stride++;
    }
    return LM_OK;
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    uint64_t all = (uint64_t)s->points;

    (void)e;
    round_add_starts(&s->round);
    for (; s->round.n < ROUND && s->next < all; s->next++) {
        make_point(s, s->at, round_spare(&s->round));
        round_add(&s->round, round_spare(&s->round));
        s->at = (s->at + s->stride) % all;
    }
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, ROUND, s->cfg->budget, e);
    if (st != LM_OK)
        return st;
    s->wheel = s->h->alloc((p->n_gene + 1) * sizeof *s->wheel, s->genes.tag);
    s->turns = s->h->alloc((p->n_gene + 1) * sizeof *s->turns, s->genes.tag);
    if (!s->wheel || !s->turns)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", p->n_gene);
    return count_points(s, e);
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
    (void)self; (void)o; (void)n; (void)e;
    return LM_OK;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    size_t most = round_left(&s->round, (size_t)s->cfg->budget);
    double left;

    if (!s->p)
        return most;
    left = s->points + (double)s->p->n_start + 1 - (double)s->round.asked;
    return left < (double)most ? (size_t)left : most;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/grid");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "grid");
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    round_close(&s->round);
    genes_close(&s->genes);
    s->h->release(s->wheel);
    s->h->release(s->turns);
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
        LM_MODULE_HEAD(SEARCH), .name = "grid", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "every combination of a few values of each gene",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
